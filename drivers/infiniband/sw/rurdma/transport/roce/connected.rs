// SPDX-License-Identifier: GPL-2.0

//! The state machines of an RC or UC QP, and the work requests that they are about. Of a UD or GSI QP, what it
//! receives.

use crate::kapi::rdma::qp::QpState;
use crate::proto::ib::requester::{Requester, Slot};
use crate::proto::ib::responder::Responder;
use crate::proto::ib::responses::Resource;
use crate::proto::wqe::abi::WQE_UNIT;
use crate::proto::wqe::send::{SendLimits, SendWqe};
use crate::rq::RecvWr;
use crate::transport::roce::MAX_RD_ATOM;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;

/// Private copies of the work requests that the requester has, by number: what was checked once is what is sent,
/// and sent again.
pub(super) struct Shadow {
    bytes: KVVec<u8>,
    /// Bytes of each.
    stride: usize,
}

impl Shadow {
    fn range(&self, number: u32) -> core::ops::Range<usize> {
        let slots = self.bytes.len().checked_div(self.stride).unwrap_or(0);
        let at = (number as usize & slots.wrapping_sub(1)) * self.stride;
        at..at + self.stride
    }

    /// Whether there is room for a work request of so many units.
    pub(super) fn can_keep(&self, units: u32) -> bool {
        units as usize * WQE_UNIT <= self.stride
    }

    /// Keeps a work request that was taken from the ring.
    pub(super) fn keep(&mut self, number: u32, wqe: &[u8]) {
        let range = self.range(number);
        let to = self.bytes.get_mut(range).unwrap_or(&mut []);
        let len = to.len().min(wqe.len());
        if let (Some(to), Some(from)) = (to.get_mut(..len), wqe.get(..len)) {
            to.copy_from_slice(from);
        }
    }

    /// The work request with this number; it was checked when it was taken.
    pub(super) fn work<'a>(&'a self, number: u32, limits: &SendLimits) -> Option<SendWqe<'a>> {
        SendWqe::parse(self.bytes.get(self.range(number))?, limits).ok()
    }
}

/// Under the QP's lock.
pub(super) struct Connected {
    pub(super) requester: Requester<KVVec<Slot>>,
    pub(super) responder: Responder<KVVec<Resource>>,
    pub(super) shadow: Shadow,
    /// Receive of the message in progress.
    pub(super) recv: RecvWr,
    pub(super) have_recv: bool,
    /// The consumer was told that the peer has begun (`IB_EVENT_COMM_EST`).
    pub(super) established: bool,
    /// The GSI: nobody is there to whom a datagram may be delivered.
    pub(super) deaf: bool,
    /// There may be a work request that waits for what was begun before: for room, or for its answers.
    pub(super) held_back: bool,
    /// When the requester last heard something, in nanoseconds.
    pub(super) heard: u64,
    /// When the responder may be asked again; 0: it did not ask for time.
    pub(super) not_before: u64,
    /// When the clock runs down; 0: it does not run.
    pub(super) rings_at: u64,
    /// SQD: the consumer is to be told when what was begun is done.
    pub(super) sqd_event: bool,
}

impl Connected {
    /// Of a QP that is not connected ever.
    pub(super) fn none(deaf: bool) -> Self {
        Self {
            deaf,
            ..Self::with(KVVec::new(), KVVec::new(), KVVec::new(), 0)
        }
    }

    /// For a send queue with room for `sq_wr` work requests of `units` units.
    pub(super) fn new(sq_wr: u32, units: u32) -> Result<Self> {
        let slots = sq_wr.max(1).next_power_of_two() as usize;
        let stride = units as usize * WQE_UNIT;
        Ok(Self::with(
            KVVec::from_elem(Slot::default(), slots, GFP_KERNEL)?,
            KVVec::from_elem(Resource::EMPTY, MAX_RD_ATOM as usize, GFP_KERNEL)?,
            KVVec::from_elem(0u8, slots * stride, GFP_KERNEL)?,
            stride,
        ))
    }

    fn with(
        slots: KVVec<Slot>,
        resources: KVVec<Resource>,
        shadow: KVVec<u8>,
        stride: usize,
    ) -> Self {
        Self {
            requester: Requester::new(slots),
            responder: Responder::new(resources),
            shadow: Shadow {
                bytes: shadow,
                stride,
            },
            recv: RecvWr::empty(),
            have_recv: false,
            established: false,
            deaf: false,
            held_back: false,
            heard: 0,
            not_before: 0,
            rings_at: 0,
            sqd_event: false,
        }
    }

    /// Whether a packet that came has given its QP, which is in this state now, something to send: an answer, what is to
    /// be sent again, or what had no room. Most acknowledges have not.
    pub(super) fn has_to_send(&mut self, state: QpState) -> bool {
        !matches!(state, QpState::Rtr | QpState::Rts)
            || self.responder.responses.wait()
            || !self.requester.all_sent()
            || self.held_back
    }

    /// The QP goes back to the beginning.
    pub(super) fn reset(&mut self) {
        self.requester.reset();
        self.responder.responses.reset(0);
        self.have_recv = false;
        self.held_back = false;
        self.not_before = 0;
        self.sqd_event = false;
    }
}
