// SPDX-License-Identifier: GPL-2.0

//! Work requests that the peer answers: reads and atomics.

use super::work::Job;
use super::{Stop, Tx};
use crate::cq::status;
use crate::kapi::random;
use crate::mr::{Span, Whose};
use crate::proto::access::Access;
use crate::proto::atomic::AtomicOp;
use crate::proto::iwarp::orders::Expect;
use crate::proto::iwarp::tx::Header;
use crate::proto::wire::ddp;
use crate::proto::wire::rdmap::{
    AtomicRequest, ReadRequest, ReadRequestHdr, ATOMIC_REQUEST_LEN, READ_REQUEST_LEN,
};
use crate::proto::wqe::abi::Sge;
use crate::proto::wqe::send::Remote;
use crate::qp::{Cause, Record};
use crate::transport::iwarp::cm::StreamEnd;
use crate::transport::iwarp::stream::{Context, Sink, StreamQp};
use kernel::prelude::*;

/// What the peer is asked for.
pub(super) enum Ask {
    /// So many bytes of its memory.
    Read(Remote, u32),
    /// To do this to 8 bytes of its memory, and for what was there before.
    Atomic(Remote, AtomicOp),
}

impl Ask {
    /// Bytes of the request behind its DDP header.
    fn body_len(&self) -> usize {
        match self {
            Ask::Read(..) => READ_REQUEST_LEN,
            Ask::Atomic(..) => ATOMIC_REQUEST_LEN,
        }
    }
}

impl Tx {
    /// Starts a read or an atomic: builds the request.
    pub(super) fn ask(
        &mut self,
        qp: &StreamQp<'_>,
        job: &Job,
        ask: &Ask,
        inv: bool,
        context: Context<'_>,
    ) -> core::result::Result<(), Stop> {
        let sges = self.sges;
        let sges = sges.get(..job.sges).unwrap_or(&[]);
        // The sink is checked before the peer is asked for anything.
        for sge in sges.iter().filter(|s| s.length > 0) {
            let checked = Span::find(
                qp,
                (Whose::Ours(qp.pd.id), sge.lkey),
                sge.addr,
                u64::from(sge.length),
                Access::LocalWrite,
            );
            if checked.is_err() {
                self.reject(qp, job.wr_id, job.units, status::LOC_PROT_ERR, 0);
                return Err(Stop::Failed);
            }
        }
        // Without a page it is tried again: nothing of it has been begun.
        let ulpdu = ddp::UNTAGGED_LEN + ask.body_len();
        let len = self.encoder.fpdu_len(ulpdu as u16);
        if self.room(len, false, context).is_err() {
            self.held = Some(*job);
            return Err(Stop::NoMemory);
        }
        let number = qp.sent.lock().start(Record {
            awaits_peer: true,
            ..job.record()
        });
        let sink = Sink {
            number,
            sges: job.sges as u8,
            invalidate: sges.first().filter(|_| inv).map(|s| s.lkey),
            rtr: false,
        };
        match self.request(qp, ask, sink, sges, context) {
            Ok(()) => {
                self.built = number.wrapping_add(1);
                Ok(())
            }
            Err(_) => {
                // Rather end than lose the order of things.
                qp.fail(Cause::Fatal);
                qp.stream_close(StreamEnd::Abort);
                Err(Stop::Failed)
            }
        }
    }

    /// Builds a request, and notes where the answer goes.
    ///
    /// The sink of a read is known to the peer by a random STag that stands for this one read and nothing
    /// else, so a sink of many SGEs needs no STag of its own, and no key of ours leaves the machine.
    pub(super) fn request(
        &mut self,
        qp: &StreamQp<'_>,
        ask: &Ask,
        sink: Sink,
        sges: &[Sge],
        context: Context<'_>,
    ) -> Result {
        let msn = self.read_msn;
        let expect = match *ask {
            Ask::Read(remote, size) => {
                let request = ReadRequest {
                    sink_stag: random::u32(),
                    sink_to: sges.first().map_or(0, |s| s.addr),
                    size,
                    source_stag: remote.rkey,
                    source_to: remote.addr,
                };
                let body = ReadRequestHdr::from(&request);
                self.control(&Header::read_request(msn), body.as_bytes(), context)?;
                Expect::Read {
                    stag: request.sink_stag,
                    to: request.sink_to,
                    size,
                }
            }
            Ask::Atomic(remote, op) => {
                // Requests and responses are counted apart, so this is what ties them together.
                let request_id = msn.get();
                let request = AtomicRequest {
                    request_id,
                    stag: remote.rkey,
                    to: remote.addr,
                    op,
                };
                let body = request.to_hdr().ok_or(EINVAL)?;
                self.control(&Header::atomic_request(msn), body.as_bytes(), context)?;
                Expect::Atomic { request_id }
            }
        };
        self.read_msn = msn.next();
        let mut shared = qp.stream().shared.lock();
        let shared = &mut *shared;
        let slot = shared.next_sink;
        shared
            .outbound
            .push(expect, slot as u64)
            .map_err(|_| ENOMEM)?;
        *shared.sinks.get_mut(slot).ok_or(ENOMEM)? = sink;
        let from = slot * shared.sink_stride;
        for (to, sge) in shared.sink_sges.iter_mut().skip(from).zip(sges) {
            *to = *sge;
        }
        shared.next_sink = if slot + 1 < shared.sinks.len() {
            slot + 1
        } else {
            0
        };
        Ok(())
    }
}
