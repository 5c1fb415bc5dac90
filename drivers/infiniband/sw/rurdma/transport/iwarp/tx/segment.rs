// SPDX-License-Identifier: GPL-2.0

//! Segments: payload from the consumer's memory into FPDUs.

use super::{Current, KernelCrc, Source, Stop, Tx};
use crate::cq::status;
use crate::kapi::rdma::stats::Counter;
use crate::mr::{sges::gather, Whose};
use crate::proto::access::{Access, Denied};
use crate::proto::iwarp::tx::Piece;
use crate::proto::wire::rdmap::ReadRequest;
use crate::proto::wire::terminate::{Culprit, TermError, TerminateBody};
use crate::proto::wqe::abi::Sge;
use crate::qp::Cause;
use crate::transport::iwarp::stream::{Context, StreamQp};

/// A ULPDU whose FPDU fits into a page, with markers too.
const PAGE_MULPDU: u16 = 4000;

impl Tx {
    /// Builds the next segment of the message in progress; gives its bytes.
    pub(super) fn segment(
        &mut self,
        qp: &StreamQp<'_>,
        mulpdu: u16,
        context: Context<'_>,
    ) -> core::result::Result<usize, Stop> {
        let Some(mut current) = self.current.take() else {
            return Ok(0);
        };
        let mut mulpdu = mulpdu;
        let (max, piece) = loop {
            let max = current.header.max_payload(mulpdu);
            let Some(piece) = current.segments.peek(max) else {
                return Ok(0);
            };
            let len = self
                .encoder
                .fpdu_len(piece.len.saturating_add(current.header.hdr_len() as u16));
            let big = piece.len > 2048 || !piece.last;
            if self.room(len, big, context).is_ok() {
                break (max, piece);
            }
            // Where memory is in single pages, segments are shorter than they might be.
            if mulpdu <= PAGE_MULPDU {
                self.current = Some(current);
                return Err(Stop::NoMemory);
            }
            mulpdu = PAGE_MULPDU;
        };
        let used = match self.fill(qp, &mut current, &piece) {
            Ok(used) => used,
            Err(error) => {
                self.refuse(qp, &current, &piece, error);
                return Err(Stop::Failed);
            }
        };
        if self.commit(used).is_err() {
            return Err(Stop::NoMemory);
        }
        current.segments.next(max);
        if !piece.last {
            self.current = Some(current);
            return Ok(used);
        }
        match current.source {
            // With immediate data the work request is not complete yet.
            Source::Work { .. } if self.immediate.is_some() => (),
            Source::Work { number, .. } => self.built = number.wrapping_add(1),
            Source::Read { .. } => qp.stream().shared.lock().inbound.retire(),
        }
        Ok(used)
    }

    /// Writes an FPDU into the page.
    fn fill(
        &mut self,
        qp: &StreamQp<'_>,
        current: &mut Current,
        piece: &Piece,
    ) -> core::result::Result<usize, Denied> {
        let Self {
            page,
            encoder,
            sges,
            inline,
            inline_len,
            memory,
            ..
        } = self;
        let Some(page) = page else {
            return Err(Denied::Bounds);
        };
        let buf = page.as_mut_slice();
        let open = encoder
            .open(buf, &current.header, piece)
            .ok_or(Denied::Bounds)?;
        let payload = buf
            .get_mut(open.payload..)
            .and_then(|b| b.get_mut(..usize::from(piece.len)))
            .ok_or(Denied::Bounds)?;
        match current.source {
            Source::Read { request, .. } => {
                if !payload.is_empty() {
                    let from = request.source_to.wrapping_add(u64::from(piece.offset));
                    let key = (Whose::Peers, request.source_stag);
                    memory.read(qp, key, from, Access::RemoteRead, payload)?;
                }
            }
            Source::Work { inline: true, .. } => {
                let from = piece.offset as usize;
                let data = inline
                    .get(..*inline_len)
                    .and_then(|d| d.get(from..))
                    .and_then(|d| d.get(..payload.len()))
                    .ok_or(Denied::Bounds)?;
                payload.copy_from_slice(data);
            }
            Source::Work { .. } => {
                let find = |at| current.locate(sges, at);
                gather(memory, qp, find, u64::from(piece.offset), payload)?;
            }
        }
        // The payload was copied just now: it is in the cache.
        encoder
            .seal::<KernelCrc>(buf, open.ulpdu_len)
            .ok_or(Denied::Bounds)
    }

    /// The memory of the message in progress cannot be read: the stream ends.
    fn refuse(&mut self, qp: &StreamQp<'_>, current: &Current, piece: &Piece, error: Denied) {
        match current.source {
            Source::Work { number, .. } => {
                qp.sent.lock().done(number, status::LOC_PROT_ERR);
                // What stands before it in the batch may be sent, and is complete when it is.
                self.built = number;
                let body = TerminateBody::build(TermError::RDMAP_CATASTROPHIC, None);
                qp.stream_terminate(body, Cause::Fatal);
            }
            Source::Read { msn, request } => {
                let left = ReadRequest {
                    sink_to: request.sink_to.wrapping_add(u64::from(piece.offset)),
                    source_to: request.source_to.wrapping_add(u64::from(piece.offset)),
                    size: request.size.saturating_sub(piece.offset),
                    ..request
                };
                let culprit = Culprit::read_request(msn, left);
                let body = TerminateBody::build(error.request(), Some(&culprit));
                qp.dev.counters.count(Counter::AccessErrors);
                qp.stream_terminate(body, Cause::Access);
            }
        }
    }
}

impl Current {
    /// As [`crate::mr::sges::locate`]; but the message is gone through once, from its beginning to its end.
    fn locate(&mut self, sges: &[Sge], at: u64) -> Option<(Sge, u64)> {
        loop {
            let sge = *sges.get(self.sge)?;
            let into = at.checked_sub(self.sge_start)?;
            if into < u64::from(sge.length) {
                return Some((sge, into));
            }
            self.sge += 1;
            self.sge_start += u64::from(sge.length);
        }
    }
}
