// SPDX-License-Identifier: GPL-2.0

//! `ibv_resize_cq(3)`: another ring for a CQ, while completions come.
//!
//! The process neither polls nor arms meanwhile, so its consumer index stands still. We go on filling
//! the old ring, and copy it without the lock until little is left; that and the swap are done with the
//! lock held, so that no completion falls in between, and none finds a CQ that is not armed but was.

#![forbid(unsafe_code)]

use super::{Cq, CqRing};
use crate::device::MAX_CQE;
use crate::kapi::abi::{CreateCqResp, CAP_CQ_RESIZE};
use crate::kapi::errno::not_supported;
use crate::kapi::rdma::mmap::Mapping;
use crate::kapi::rdma::ring::Ring;
use crate::kapi::rdma::udata::Udata;
use crate::kapi::task;
use crate::proto::ring::queue::Consumer;
use crate::proto::ring::resize::{TooMany, Transfer};
use crate::proto::wqe::abi::CQE_SIZE;
use crate::verbs::Rurdma;
use kernel::prelude::*;

/// Entries that are copied between two looks at whether somebody else wants the CPU.
const COPY_AT_ONCE: u32 = 4096;
/// Entries that are copied with the CQ locked.
const COPY_LOCKED: u32 = 16;

impl CqRing {
    /// The consumer index of the process, once judged. EINVAL if it is impossible, if there are more
    /// completions than `cqe`, or if the CQ is lost.
    fn may_hold(&self, cqe: u32) -> Result<u32> {
        let used = self.producer.used(&self.ring).map_err(|_| EINVAL)?;
        if self.dead || used > cqe {
            return Err(EINVAL);
        }
        Ok(self.producer.tail().wrapping_sub(used))
    }
}

impl Cq {
    /// Moves the completions of a process to a ring for `cqe` of them, and tells how many fit. EINVAL
    /// if those that were not polled are more than that. On failure the CQ is as it was. Process context.
    pub(crate) fn resize(&self, cqe: u32, udata: &Udata<'_>) -> Result<u32> {
        if !udata.context::<Rurdma>()?.may_use(CAP_CQ_RESIZE) {
            // Who does not know of resizing would not hear of the new ring.
            return Err(not_supported());
        }
        // Nobody else is told where the new ring is.
        if cqe == 0 || cqe > MAX_CQE || !udata.has_room_for::<CreateCqResp>() {
            return Err(EINVAL);
        }
        // Held to the end: one resize at a time.
        let mut mapping = self.mapping.lock();
        let (head, old) = {
            let q = self.ring.lock();
            (q.may_hold(cqe)?, q.ring.again()?)
        };
        let depth = cqe.next_power_of_two();
        if depth == old.depth() {
            udata.respond(&answer(0, 0, depth))?;
            return Ok(depth);
        }

        let mut new = Ring::alloc(depth, CQE_SIZE as u32, true)?;
        let map = Mapping::new(udata, new.area().clone(), true)?;
        // This may take as long as the process likes, so it comes before the copying.
        udata.respond(&answer(map.offset(), new.area().len() as u64, depth))?;
        let mut transfer = Transfer::new(head);
        loop {
            self.copy(&mut transfer, &old, &new, head)?;
            let mut guard = self.ring.lock();
            let q = &mut *guard;
            // It may have overflowed meanwhile.
            if q.dead {
                return Err(EINVAL);
            }
            let tail = q.producer.tail();
            if transfer.rest(tail) > COPY_LOCKED {
                continue;
            }
            transfer
                .finish(&old, &new, &Consumer::new(head), tail, cqe)
                .map_err(|TooMany| EINVAL)?;
            core::mem::swap(&mut q.ring, &mut new);
            break;
        }
        // `new` is the old ring now, and freed without the lock: that may sleep.
        *mapping = Some(map);
        Ok(depth)
    }

    /// Copies all but a little, without the lock. EINVAL if the process polls, against the contract:
    /// as long as it does not, there is an end.
    fn copy(&self, transfer: &mut Transfer, old: &Ring, new: &Ring, head: u32) -> Result {
        loop {
            let tail = self.ring.lock().producer.tail();
            if tail.wrapping_sub(head) > old.depth() {
                return Err(EINVAL);
            }
            let rest = transfer.rest(tail);
            if rest <= COPY_LOCKED {
                return Ok(());
            }
            let to = tail.wrapping_sub(rest.saturating_sub(COPY_AT_ONCE));
            transfer.copy(old, new, head, to);
            task::cond_resched();
        }
    }
}

fn answer(ring_off: u64, ring_len: u64, depth: u32) -> CreateCqResp {
    CreateCqResp {
        ring_off,
        ring_len,
        depth,
        cqn: 0,
    }
}
