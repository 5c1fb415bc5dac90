// SPDX-License-Identifier: GPL-2.0

//! Contexts: a process that has opened the device, and its doorbells.

#![forbid(unsafe_code)]

use crate::device::{Device, MAX_QP, MAX_QP_WR};
use crate::kapi::abi::{
    UctxReq, UctxResp, CAP_CQ_RESIZE, CAP_KICK_METHOD, CAP_SRQ_RESIZE, CAP_TIMESTAMP,
};
use crate::kapi::rdma::mmap::Mapping;
use crate::kapi::rdma::ring::{Doorbells, Status};
use crate::kapi::rdma::ucontext::Context;
use crate::kapi::rdma::udata::Udata;
use crate::kapi::task;
use crate::proto::ring::doorbell::{NeedWakeup as _, Pending as _};
use crate::proto::wqe::abi::{MAX_INLINE, MAX_SGE};
use crate::qp::Qp;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::{Acquire, Release};
use kernel::sync::atomic::Atomic;
use kernel::sync::{new_mutex, Arc, Mutex};

/// What this module can do for a provider.
const CAPS: u64 = CAP_KICK_METHOD | CAP_TIMESTAMP | CAP_SRQ_RESIZE | CAP_CQ_RESIZE;

/// QPs whose work one kick does itself.
const KICK_QPS: u32 = 16;

/// A process's context.
#[pin_data]
pub(crate) struct Ucontext {
    /// `enum rurdma_caps`, in force.
    caps: u64,
    status: Status,
    doorbells: Doorbells,
    dead: Atomic<bool>,
    #[pin]
    slots: Mutex<Slots>,
    #[pin]
    mappings: Mutex<Option<(Mapping, Mapping)>>,
}

/// What a doorbell slot is used for.
enum Place {
    Free,
    /// Somebody's, who makes a QP.
    Reserved,
    Used(Arc<Qp>),
}

/// Doorbell slots.
struct Slots {
    places: KVVec<Place>,
    /// No slot below is free.
    first_free: usize,
}

/// A doorbell slot of a QP's own; it is free again when this is dropped.
pub(crate) struct Slot {
    context: Arc<Ucontext>,
    number: u32,
}

impl Slot {
    /// Its number, for the process.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// From now on the slot's doorbell reaches the QP.
    pub(crate) fn fill(&self, qp: Arc<Qp>) {
        drop(self.replace(Place::Used(qp)));
    }

    /// What it was used for before is the caller's to drop, without the lock: that may be a QP.
    fn replace(&self, new: Place) -> Place {
        let mut slots = self.context.slots.lock();
        if matches!(new, Place::Free) {
            slots.first_free = slots.first_free.min(self.number as usize);
        }
        match slots.places.get_mut(self.number as usize) {
            Some(place) => core::mem::replace(place, new),
            None => Place::Free,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.replace(Place::Free));
    }
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
        udata.respond(&answer(
            caps,
            (&status, &status_map),
            (&doorbells, &doorbell_map),
        ))?;
        let slots = Slots {
            places: KVVec::new(),
            first_free: 0,
        };
        Arc::pin_init(
            try_pin_init!(Self {
                caps,
                status,
                doorbells,
                dead: Atomic::new(false),
                slots <- new_mutex!(slots, "Ucontext::slots"),
                mappings <- new_mutex!(Some((status_map, doorbell_map)), "Ucontext::mappings"),
            }),
            GFP_KERNEL,
        )
    }

    /// What was answered when the context was opened, for another process that has it, too.
    pub(crate) fn query(&self) -> Result<UctxResp> {
        let mappings = self.mappings.lock();
        let (status, doorbells) = mappings.as_ref().ok_or(EIO)?;
        Ok(answer(
            self.caps,
            (&self.status, status),
            (&self.doorbells, doorbells),
        ))
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

    /// Whether a capability is in force.
    pub(crate) fn may_use(&self, cap: u64) -> bool {
        self.caps & cap != 0
    }

    /// Reserves a doorbell slot for a QP.
    pub(crate) fn take_slot(self: &Arc<Self>) -> Result<Slot> {
        let mut slots = self.slots.lock();
        let free = (slots.first_free..slots.places.len())
            .find(|i| matches!(slots.places.get(*i), Some(Place::Free)))
            .unwrap_or(slots.places.len());
        if free >= MAX_QP as usize {
            return Err(ENOMEM);
        }
        match slots.places.get_mut(free) {
            Some(place) => *place = Place::Reserved,
            None => slots.places.push(Place::Reserved, GFP_KERNEL)?,
        }
        slots.first_free = free + 1;
        Ok(Slot {
            context: self.clone(),
            number: free as u32,
        })
    }

    /// Whose doorbell it is.
    fn qp_of(&self, slot: u32) -> Option<Arc<Qp>> {
        match self.slots.lock().places.get(slot as usize) {
            Some(Place::Used(qp)) => Some(qp.clone()),
            _ => None,
        }
    }

    /// Runs the work of every doorbell that was rung. Called by the process, in its own context, to
    /// which it returns soon: what exceeds the budget, or comes after the end of process or device, is
    /// the workqueue's. A bit that was taken is nobody else's, so that it is never dropped.
    pub(crate) fn kick(&self) -> Result {
        if self.dead.load(Acquire) {
            return Err(EIO);
        }
        let mut left = KICK_QPS;
        self.doorbells.take_pending(|slot| {
            let Some(qp) = self.qp_of(slot) else {
                return;
            };
            if left > 0 && !self.dead.load(Acquire) && !task::is_killed() {
                left -= 1;
                qp.kick();
            } else {
                qp.queue_work();
            }
        });
        Ok(())
    }
}

/// What a process is told that opens the device.
fn answer(
    caps: u64,
    (status, status_map): (&Status, &Mapping),
    (doorbells, doorbell_map): (&Doorbells, &Mapping),
) -> UctxResp {
    UctxResp {
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
    }
}
