// SPDX-License-Identifier: GPL-2.0

//! What RFC 7306 adds to sending: immediate data behind a Write, and the answers to the peer's atomics.

use super::{Stop, Tx};
use crate::kapi::rdma::stats::Counter;
use crate::mr::{Span, Whose};
use crate::proto::access::{Access, Denied};
use crate::proto::iwarp::tx::Header;
use crate::proto::wire::ddp;
use crate::proto::wire::rdmap::{
    immediate_data, AtomicRequest, AtomicResponseHdr, ATOMIC_RESPONSE_LEN,
};
use crate::proto::wire::terminate::{Culprit, TerminateBody};
use crate::qp::{Cause, Qp};
use crate::transport::iwarp::cm::StreamEnd;
use crate::transport::iwarp::stream::{Context, StreamQp};
use core::mem::size_of;
use kernel::prelude::*;

/// Immediate data that follows a Write: the second message of one work request (RFC 7306 section 6).
#[derive(Clone, Copy)]
pub(super) struct Immediate {
    /// Number of the send (see `qp::Sent`).
    pub(super) number: u32,
    /// The data, in wire order.
    pub(super) imm: u32,
    /// With Solicited Event.
    pub(super) solicited: bool,
}

impl Tx {
    /// Builds the message behind a Write, whose work request is complete with it. Nothing comes between
    /// the two, so that the peer can tell how much the Write wrote.
    pub(super) fn send_immediate(&mut self, immediate: Immediate, context: Context<'_>) -> Result {
        let header = Header::immediate(self.send_msn, immediate.solicited);
        self.control(&header, &immediate_data(immediate.imm), context)?;
        self.send_msn = self.send_msn.next();
        self.built = immediate.number.wrapping_add(1);
        Ok(())
    }

    /// Executes the peer's atomic that is next in the queue, and builds the answer.
    ///
    /// It is executed here, not when it comes: it may be neither before an earlier request was answered
    /// nor, in the end, without an answer (RFC 7306 section 5.4 rules 5 and 8, section 7).
    pub(super) fn answer_atomic(
        &mut self,
        qp: &StreamQp<'_>,
        msn: u32,
        request: &AtomicRequest,
        context: Context<'_>,
    ) -> core::result::Result<(), Stop> {
        // Once it is executed there is no second time.
        let ulpdu = ddp::UNTAGGED_LEN + ATOMIC_RESPONSE_LEN;
        let len = self.encoder.fpdu_len(ulpdu as u16);
        self.room(len, false, context).map_err(|_| Stop::NoMemory)?;
        qp.stream().pop_inbound();
        let original = match execute(qp, request) {
            Ok(original) => original,
            Err(error) => {
                let body =
                    TerminateBody::build(error.request(), Some(&Culprit::atomic_request(msn)));
                let cause = if error == Denied::Unaligned {
                    Cause::Request
                } else {
                    qp.dev.counters.count(Counter::AccessErrors);
                    Cause::Access
                };
                qp.stream_terminate(body, cause);
                return Err(Stop::Failed);
            }
        };
        let answer = AtomicResponseHdr {
            request_id: request.request_id.into(),
            original: original.into(),
        };
        let header = Header::atomic_response(self.atomic_msn);
        if self.control(&header, answer.as_bytes(), context).is_err() {
            qp.fail(Cause::Fatal);
            qp.stream_close(StreamEnd::Abort);
            return Err(Stop::Failed);
        }
        self.atomic_msn = self.atomic_msn.next();
        qp.stream().shared.lock().inbound.retire();
        Ok(())
    }
}

/// Does what the peer asks for to 8 bytes of our memory; gives what was there before.
///
/// The right to it is the MR's to give: iw_cm has the QP grant reads and writes only, and cannot be told
/// otherwise.
fn execute(qp: &Qp, request: &AtomicRequest) -> core::result::Result<u64, Denied> {
    let span = Span::find(
        qp,
        (Whose::Peers, request.stag),
        request.to,
        size_of::<u64>() as u64,
        Access::RemoteAtomic,
    )?;
    span.atomic(0, request.op).map_err(|e| {
        if e == EINVAL {
            Denied::Unaligned
        } else {
            Denied::Bounds
        }
    })
}
