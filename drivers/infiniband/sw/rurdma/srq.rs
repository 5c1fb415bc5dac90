// SPDX-License-Identifier: GPL-2.0

//! Shared receive queues.

#![forbid(unsafe_code)]

use crate::device::{Device, MAX_QP_WR};
use crate::kapi::abi::{CreateSrqResp, ModifySrqReq, ModifySrqResp};
use crate::kapi::errno::not_supported;
use crate::kapi::rdma::mmap::Mapping;
use crate::kapi::rdma::qp::RecvWrs;
use crate::kapi::rdma::srq::{SrqAttr, SrqHandle};
use crate::kapi::rdma::udata::Udata;
use crate::kapi::sync::{new_spinlock_irq, SpinLockIrq};
use crate::pd::Pd;
use crate::proto::wqe::abi::MAX_SGE;
use crate::rq::{stride, RecvQueue, RecvWr, Resize, TakeError};
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};

/// How often a resize copies what was posted while it copied.
const COPY_ROUNDS: u32 = 16;
/// Work requests that a resize copies with the queue locked.
const COPY_LOCKED: u32 = 16;

/// A shared receive queue.
#[pin_data]
pub(crate) struct Srq {
    dev: Arc<Device>,
    /// PD of the memory that is received to.
    pub(crate) pd: Arc<Pd>,
    handle: Arc<SrqHandle>,
    max_sge: u32,
    #[pin]
    state: SpinLockIrq<State>,
    #[pin]
    mapping: Mutex<Option<Mapping>>,
}

struct State {
    queue: RecvQueue,
    /// Raise the event when fewer are left; 0: not armed.
    limit: u32,
    /// A process destroyed the indices; nothing is taken any more.
    corrupt: bool,
}

impl State {
    /// Whether the queue may have this size, and the limit (the new one, if one is given) with it.
    fn may_resize(&self, max_wr: u32, limit: Option<u32>) -> Result {
        if self.corrupt || limit.unwrap_or(self.limit) > max_wr {
            return Err(EINVAL);
        }
        Ok(())
    }
}

impl Srq {
    /// `ibv_create_srq(3)`; `attr` becomes what is granted.
    pub(crate) fn create(
        pd: &Arc<Pd>,
        attr: &mut SrqAttr,
        handle: Arc<SrqHandle>,
        udata: &Udata<'_>,
    ) -> Result<Arc<Self>> {
        if attr.max_wr == 0
            || attr.max_wr > MAX_QP_WR
            || attr.max_sge > MAX_SGE as u32
            || attr.limit > attr.max_wr
        {
            return Err(EINVAL);
        }
        let dev = &pd.dev;
        dev.limits.srq.take()?;
        let made = Self::make(pd, attr, handle, udata);
        if made.is_err() {
            dev.limits.srq.give();
        }
        made
    }

    fn make(
        pd: &Arc<Pd>,
        attr: &mut SrqAttr,
        handle: Arc<SrqHandle>,
        udata: &Udata<'_>,
    ) -> Result<Arc<Self>> {
        let max_sge = attr.max_sge.max(1);
        let queue = RecvQueue::new(attr.max_wr, max_sge, udata.is_user())?;
        attr.max_wr = queue.max_wr();
        attr.max_sge = max_sge;
        let mut mapping = None;
        if udata.is_user() {
            let map = Mapping::new(udata, queue.ring().area().clone(), true)?;
            udata.respond(&CreateSrqResp {
                ring_off: map.offset(),
                ring_len: queue.ring().area().len() as u64,
                depth: queue.max_wr(),
                stride: stride(max_sge),
                max_wr: queue.max_wr(),
                max_sge,
                srqn: crate::kapi::random::u32(),
                reserved: 0,
            })?;
            mapping = Some(map);
        }
        let state = State {
            queue,
            limit: attr.limit,
            corrupt: false,
        };
        Arc::pin_init(
            try_pin_init!(Self {
                dev: pd.dev.clone(),
                pd: pd.clone(),
                handle,
                max_sge,
                state <- new_spinlock_irq!(state, "Srq::state"),
                mapping <- new_mutex!(mapping, "Srq::mapping"),
            }),
            GFP_KERNEL,
        )
    }

    /// `ibv_modify_srq(3)`: resizes, arms the limit, or both at once.
    pub(crate) fn modify(
        &self,
        max_wr: Option<u32>,
        limit: Option<u32>,
        udata: &Udata<'_>,
    ) -> Result {
        if let Some(max_wr) = max_wr {
            return self.resize(max_wr, limit, udata);
        }
        udata.respond_empty()?;
        if let Some(limit) = limit {
            let mut state = self.state.lock();
            if limit > state.queue.max_wr() {
                return Err(EINVAL);
            }
            state.limit = limit;
        }
        Ok(())
    }

    /// Moves the queue to a ring for `max_wr` work requests, while they are taken.
    fn resize(&self, max_wr: u32, limit: Option<u32>, udata: &Udata<'_>) -> Result {
        let user = udata.is_user();
        if user && !udata.has_request() {
            // A provider of before `RURDMA_CAP_SRQ_RESIZE` would not hear of the new ring.
            return Err(not_supported());
        }
        if max_wr == 0 || max_wr > MAX_QP_WR {
            return Err(EINVAL);
        }
        let req: ModifySrqReq = udata.request()?;
        // Held to the end: one resize at a time.
        let mut mapping = self.mapping.lock();
        let (at, old) = {
            let state = self.state.lock();
            state.may_resize(max_wr, limit)?;
            (state.queue.position()?, state.queue.ring().again()?)
        };
        if at.len() > max_wr {
            return Err(EINVAL);
        }
        if max_wr.next_power_of_two() == old.depth() {
            if user {
                let resp = ModifySrqResp {
                    ring_off: 0,
                    ring_len: 0,
                    depth: old.depth(),
                    max_wr: old.depth(),
                };
                udata.respond_at(req.resp, &resp)?;
            }
            let mut state = self.state.lock();
            state.may_resize(max_wr, limit)?;
            state.limit = limit.unwrap_or(state.limit);
            return Ok(());
        }

        let mut resize = Resize::new(old, at, max_wr, user)?;
        let mut new_mapping = None;
        resize.copy(at);
        if user {
            let area = resize.ring().area();
            let map = Mapping::new(udata, area.clone(), true)?;
            let resp = ModifySrqResp {
                ring_off: map.offset(),
                ring_len: area.len() as u64,
                depth: resize.ring().depth(),
                max_wr: resize.ring().depth(),
            };
            udata.respond_at(req.resp, &resp)?;
            new_mapping = Some(map);
        } else {
            // A kernel user may post meanwhile. Copying is faster than posting, so little is left
            // to do under the lock.
            for _ in 0..COPY_ROUNDS {
                let now = self.state.lock().queue.position()?;
                if resize.rest(now) <= COPY_LOCKED {
                    break;
                }
                resize.copy(now);
            }
        }

        let mut state = self.state.lock();
        state.may_resize(max_wr, limit)?;
        // What a process posts during the command, against the contract, is not looked at.
        let at = if user { at } else { state.queue.position()? };
        state.queue.finish_resize(&mut resize, at, max_wr)?;
        state.limit = limit.unwrap_or(state.limit);
        drop(state);
        *mapping = new_mapping;
        Ok(())
    }

    /// `ibv_query_srq(3)`.
    pub(crate) fn query(&self) -> SrqAttr {
        let state = self.state.lock();
        SrqAttr {
            max_wr: state.queue.max_wr(),
            max_sge: self.max_sge,
            limit: state.limit,
        }
    }

    /// `ibv_destroy_srq(3)`. The core sees to it that no QP uses the SRQ.
    pub(crate) fn destroy(&self) {
        drop(self.mapping.lock().take());
        self.dev.limits.srq.give();
    }

    /// `ib_post_srq_recv()` of a kernel user. Any context.
    pub(crate) fn post(&self, wrs: &mut RecvWrs<'_>) -> Result {
        self.state.lock().queue.post(wrs)
    }

    /// Takes the work request in front, and raises the limit event when it is due. Any context.
    pub(crate) fn take(&self, wr: &mut RecvWr) -> Result<(), TakeError> {
        let mut state = self.state.lock();
        if state.corrupt {
            return Err(TakeError::Corrupt);
        }
        let taken = state.queue.take(wr);
        if taken == Err(TakeError::Corrupt) {
            state.corrupt = true;
            drop(state);
            self.handle.error();
            return taken;
        }
        let reached = state.limit > 0 && state.queue.len() < state.limit;
        if reached {
            state.limit = 0;
        }
        drop(state);
        if reached {
            self.handle.limit_reached();
        }
        taken
    }
}
