// SPDX-License-Identifier: GPL-2.0

//! What RFC 7306 adds to receiving: immediate data, and what our atomics have found.

use super::{answered, Failure, Rx};
use crate::cq::{opcode, status, WC_WITH_IMM};
use crate::mr::sges::scatter_bytes;
use crate::proto::wire::rdmap::{immediate_of, IMMEDIATE_LEN};
use crate::proto::wqe::abi::{Cqe, Sge};
use crate::transport::iwarp::stream::StreamQp;
use kernel::prelude::*;

impl Rx {
    /// Immediate data takes a receive and is told by its completion, as the second half of an RDMA Write
    /// with immediate data of `written` bytes. Nothing is placed: verbs have no room for it elsewhere.
    pub(super) fn immediate(
        &mut self,
        qp: &StreamQp<'_>,
        data: [u8; IMMEDIATE_LEN],
        written: u32,
        solicited: bool,
    ) -> Result<(), Failure> {
        self.take_recv(qp)?;
        self.have_recv = false;
        let cqe = Cqe {
            wr_id: self.recv.wr_id,
            byte_len: written,
            qp_num: qp.number,
            imm_inv: immediate_of(data),
            wc_flags: WC_WITH_IMM,
            status: status::SUCCESS,
            opcode: opcode::RECV_RDMA_WITH_IMM,
            vlan_id: 0xffff,
            ..Cqe::default()
        };
        self.tell(qp, cqe, solicited)
    }

    /// One of our atomics is done; `original` is what it found.
    pub(super) fn atomic_done(
        &mut self,
        qp: &StreamQp<'_>,
        request_id: u32,
        original: u64,
    ) -> Result<(), Failure> {
        let (sink, sge) = {
            let mut shared = qp.stream().shared.lock();
            let slot = shared.outbound.atomic_response(request_id)?.cookie as usize;
            let sge: Option<Sge> = shared.sink_sges.get(slot * shared.sink_stride).copied();
            (shared.sinks.get(slot).copied(), sge)
        };
        // Work may have waited for this.
        self.answer = true;
        let (Some(sink), Some(sge)) = (sink, sge) else {
            return Ok(());
        };
        let placed = scatter_bytes(qp, qp.pd.id, &[sge], &original.to_ne_bytes());
        let done = match placed {
            Ok(()) => status::SUCCESS,
            // It was as it should be when the request was sent.
            Err(_) => status::LOC_PROT_ERR,
        };
        self.tell_all(qp)?;
        answered(qp, &sink, done)
    }
}
