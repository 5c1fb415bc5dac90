// SPDX-License-Identifier: GPL-2.0

//! Contexts: a process that has opened the device, and its doorbells.

#![forbid(unsafe_code)]

use crate::device::{Device, MAX_QP, MAX_QP_WR};
use crate::kapi::abi::{UctxReq, UctxResp, CAP_KICK_METHOD, CAP_SRQ_RESIZE, CAP_TIMESTAMP};
use crate::kapi::rdma::mmap::Mapping;
use crate::kapi::rdma::ring::{Doorbells, Status};
use crate::kapi::rdma::ucontext::Context;
use crate::kapi::rdma::udata::Udata;
use crate::proto::ring::doorbell::{NeedWakeup as _, Pending as _};
use crate::proto::wqe::abi::{MAX_INLINE, MAX_SGE};
use crate::qp::Qp;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::{Acquire, Release};
use kernel::sync::atomic::Atomic;
use kernel::sync::{new_mutex, Arc, Mutex};

/// What this module can do for a provider.
const CAPS: u64 = CAP_KICK_METHOD | CAP_TIMESTAMP | CAP_SRQ_RESIZE;

/// A process's context.
#[pin_data]
pub(crate) struct Ucontext {
    status: Status,
    doorbells: Doorbells,
    dead: Atomic<bool>,
    #[pin]
    slots: Mutex<Slots>,
    #[pin]
    mappings: Mutex<Option<(Mapping, Mapping)>>,
}

/// QPs by doorbell slot.
struct Slots {
    qps: KVVec<Option<Arc<Qp>>>,
    /// No slot below is free.
    first_free: usize,
}

impl Ucontext {
    /// A process opens the device.
    pub(crate) fn create(
        dev: &Arc<Device>,
        context: &Context<'_>,
        udata: &Udata<'_>,
    ) -> Result<Arc<Self>> {
        let req: UctxReq = udata.request()?;
        let caps = req.caps & (CAPS | dev.transport.caps());
        let status = Status::alloc()?;
        let doorbells = Doorbells::alloc(MAX_QP)?;
        // Until somebody polls, every post has to be announced.
        status.set_need_wakeup();
        let status_map = context.map(status.area().clone(), false)?;
        let doorbell_map = context.map(doorbells.area().clone(), true)?;
        udata.respond(&UctxResp {
            caps,
            status_off: status_map.offset(),
            db_off: doorbell_map.offset(),
            status_len: status.area().len() as u32,
            db_len: doorbells.area().len() as u32,
            db_slots: MAX_QP,
            max_send_wr: MAX_QP_WR,
            max_recv_wr: MAX_QP_WR,
            max_sge: MAX_SGE as u32,
            max_inline: MAX_INLINE as u32,
            reserved: 0,
        })?;
        let slots = Slots {
            qps: KVVec::new(),
            first_free: 0,
        };
        Arc::pin_init(
            try_pin_init!(Self {
                status,
                doorbells,
                dead: Atomic::new(false),
                slots <- new_mutex!(slots, "Ucontext::slots"),
                mappings <- new_mutex!(Some((status_map, doorbell_map)), "Ucontext::mappings"),
            }),
            GFP_KERNEL,
        )
    }

    /// The context is closed; all of its objects are gone.
    pub(crate) fn destroy(&self) {
        drop(self.mappings.lock().take());
    }

    /// The device goes, the process stays: what it calls from now on fails.
    pub(crate) fn disassociate(&self) {
        self.dead.store(true, Release);
        self.status.set_dead();
    }

    /// Finds a doorbell slot for a QP.
    pub(crate) fn take_slot(&self) -> Result<u32> {
        let mut slots = self.slots.lock();
        let free = (slots.first_free..slots.qps.len())
            .find(|i| matches!(slots.qps.get(*i), Some(None)))
            .unwrap_or(slots.qps.len());
        if free >= MAX_QP as usize {
            return Err(ENOMEM);
        }
        if free == slots.qps.len() {
            slots.qps.push(None, GFP_KERNEL)?;
        }
        slots.first_free = free + 1;
        Ok(free as u32)
    }

    /// From now on the slot's doorbell reaches the QP.
    pub(crate) fn set_slot(&self, slot: u32, qp: Option<Arc<Qp>>) {
        let old = {
            let mut slots = self.slots.lock();
            if qp.is_none() {
                slots.first_free = slots.first_free.min(slot as usize);
            }
            match slots.qps.get_mut(slot as usize) {
                Some(place) => core::mem::replace(place, qp),
                None => None,
            }
        };
        drop(old);
    }

    /// Runs the work of every doorbell that was rung. Called by the process, in its own context.
    pub(crate) fn kick(&self) -> Result {
        if self.dead.load(Acquire) {
            return Err(EIO);
        }
        self.doorbells.take_pending(|slot| {
            let qp = {
                let slots = self.slots.lock();
                slots.qps.get(slot as usize).cloned().flatten()
            };
            if let Some(qp) = qp {
                qp.kick();
            }
        });
        Ok(())
    }
}
