// SPDX-License-Identifier: GPL-2.0

//! Contexts: a process that has opened the device, and its doorbells.

#![forbid(unsafe_code)]

use crate::device::{Device, MAX_QP, MAX_QP_WR};
use crate::doorbell::Bell;
use crate::kapi::abi::{
    UctxReq, UctxResp, CAP_CQ_RESIZE, CAP_KICK_METHOD, CAP_SRQ_RESIZE, CAP_TIMESTAMP,
};
use crate::kapi::params;
use crate::kapi::rdma::mmap::Mapping;
use crate::kapi::rdma::ring::{Doorbells, Status};
use crate::kapi::rdma::ucontext::Context;
use crate::kapi::rdma::udata::Udata;
use crate::kapi::sync::{new_spinlock_irq, Gate, SpinLockIrq, Turn};
use crate::kapi::table::ObjTable;
use crate::kapi::{task, time};
use crate::proto::pace::{Kick, Leave, Pace, Watch};
use crate::proto::ring::doorbell::{
    ask_for_wakeups, sleep_check, NeedWakeup as _, Pending as _, Scan,
};
use crate::proto::turns::{self, Pass, Turns, Work};
use crate::proto::wqe::abi::{MAX_INLINE, MAX_SGE};
use crate::qp::Qp;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::{Acquire, Full, Relaxed, Release};
use kernel::sync::atomic::Atomic;
use kernel::sync::{new_mutex, Arc, Mutex};

/// What this module can do for a provider.
const CAPS: u64 = CAP_KICK_METHOD | CAP_TIMESTAMP | CAP_SRQ_RESIZE | CAP_CQ_RESIZE;

/// QPs whose work one kick does itself, or the poller when it leaves.
const KICK_QPS: u32 = 16;

/// QPs that the poller comes back to by itself.
const AGAIN: usize = 16;

/// A process's context.
#[pin_data]
pub(crate) struct Ucontext {
    /// `enum rurdma_caps`, in force.
    caps: u64,
    status: Status,
    doorbells: Doorbells,
    dead: Atomic<bool>,
    /// Where it asks for the poller; whether it has, and is not left yet.
    bell: Arc<Bell>,
    asked: Atomic<bool>,
    /// Kicks on their way.
    kicking: Atomic<u32>,
    #[pin]
    pace: SpinLockIrq<Pace>,
    /// Kicks from here on that it need not know of. Where threads race for it, it is a few more or less.
    unseen: Atomic<u32>,
    /// Open for the poller; closed when the context ends.
    #[pin]
    gate: Gate,
    /// The poller's, for one pass at a time.
    #[pin]
    begun: Mutex<Begun>,
    /// QPs by their doorbell slots.
    #[pin]
    qps: ObjTable<Qp>,
    #[pin]
    slots: Mutex<Slots>,
    #[pin]
    mappings: Mutex<Option<(Mapping, Mapping)>>,
}

/// Doorbells that the poller has taken, and has not finished with.
struct Begun {
    scan: Scan,
    /// Those whose budget was used up: they have their turn again.
    again: Turns<Arc<Qp>, AGAIN>,
}

impl Begun {
    /// None.
    fn none() -> Self {
        Self {
            scan: Scan::new(),
            again: Turns::new(),
        }
    }

    fn is_none(&self) -> bool {
        self.scan.is_empty() && self.again.is_empty()
    }
}

impl Work for Arc<Qp> {
    fn turn(&self) -> turns::Turn {
        let before = self.progress();
        let done = self.run() == Turn::Done;
        let after = self.progress();
        turns::Turn {
            done,
            begun: after.begun.wrapping_sub(before.begun),
            bytes: after.bytes.wrapping_sub(before.bytes),
            behind: before.behind,
        }
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }

    fn hand_over(self) {
        self.queue_work();
    }
}

/// Which doorbell slots are taken.
struct Slots {
    taken: KVVec<bool>,
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

    /// See [`Ucontext::catch_up`].
    pub(crate) fn context(&self) -> &Arc<Ucontext> {
        &self.context
    }

    /// From now on the slot's doorbell reaches the QP. May sleep.
    pub(crate) fn fill(&self, qp: Arc<Qp>) -> Result {
        self.context.qps.insert(self.number, qp)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // First, as whoever takes the slot next fills it.
        self.context.qps.remove(self.number);
        let mut slots = self.context.slots.lock();
        slots.first_free = slots.first_free.min(self.number as usize);
        if let Some(taken) = slots.taken.get_mut(self.number as usize) {
            *taken = false;
        }
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
        // Until the poller comes, every post has to be announced.
        status.set_need_wakeup();
        let status_map = context.map(status.area().clone(), false)?;
        let doorbell_map = context.map(doorbells.area().clone(), true)?;
        udata.respond(&answer(
            caps,
            (&status, &status_map),
            (&doorbells, &doorbell_map),
        ))?;
        let slots = Slots {
            taken: KVVec::new(),
            first_free: 0,
        };
        Arc::pin_init(
            try_pin_init!(Self {
                caps,
                status,
                doorbells,
                dead: Atomic::new(false),
                bell: dev.poller.bell(),
                asked: Atomic::new(false),
                kicking: Atomic::new(0),
                pace <- new_spinlock_irq!(Pace::new(), "Ucontext::pace"),
                unseen: Atomic::new(0),
                gate <- Gate::new(),
                begun <- new_mutex!(Begun::none(), "Ucontext::begun"),
                qps <- ObjTable::new(),
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
        self.dead.store(true, Release);
        self.gate.close_and_wait();
        drop(self.mappings.lock().take());
    }

    /// The device goes, the process stays: what it calls from now on fails.
    pub(crate) fn disassociate(&self) {
        self.dead.store(true, Release);
        self.status.set_dead();
        self.gate.close_and_wait();
    }

    /// Whether a capability is in force.
    pub(crate) fn may_use(&self, cap: u64) -> bool {
        self.caps & cap != 0
    }

    /// Reserves a doorbell slot for a QP.
    pub(crate) fn take_slot(self: &Arc<Self>) -> Result<Slot> {
        let mut slots = self.slots.lock();
        let free = (slots.first_free..slots.taken.len())
            .find(|i| slots.taken.get(*i) == Some(&false))
            .unwrap_or(slots.taken.len());
        if free >= MAX_QP as usize {
            return Err(ENOMEM);
        }
        match slots.taken.get_mut(free) {
            Some(taken) => *taken = true,
            None => slots.taken.push(true, GFP_KERNEL)?,
        }
        slots.first_free = free + 1;
        Ok(Slot {
            context: self.clone(),
            number: free as u32,
        })
    }

    /// Whose doorbell it is. Takes no lock: threads that kick at the same time do not wait for each other.
    fn qp_of(&self, slot: u32) -> Option<Arc<Qp>> {
        self.qps.get(slot)
    }

    /// Runs the work of every doorbell that was rung. Called by the process, in its own context, to
    /// which it returns soon: see [`Self::run_or_queue`]. If it does that all the time, the poller comes.
    pub(crate) fn kick(self: &Arc<Self>) -> Result {
        if self.dead.load(Acquire) {
            return Err(EIO);
        }
        self.bell.counters.kicked();
        let limit = if self.asked.load(Relaxed) {
            0
        } else {
            params::poll_ns()
        };
        let alone = self.kicking.fetch_add(1, Relaxed) == 0;
        let unseen = self.unseen.load(Relaxed);
        if limit == 0 || unseen != 0 {
            self.unseen.store(unseen.saturating_sub(1), Relaxed);
            self.run_rung(|_| {});
            self.kicking.fetch_sub(1, Relaxed);
            return Ok(());
        }
        let begin = time::monotonic_raw_ns();
        let mut behind = false;
        self.run_rung(|qp| behind |= qp.progress().behind);
        self.kicking.fetch_sub(1, Relaxed);
        let kick = Kick {
            begin,
            end: time::monotonic_raw_ns(),
            behind,
            alone,
        };
        let streams = {
            let mut pace = self.pace.lock();
            let streams = pace.kicked(kick, limit);
            self.unseen.store(pace.unseen(), Relaxed);
            streams
        };
        if streams && !self.asked.xchg(true, Full) && !self.bell.ask(self) {
            self.asked.store(false, Release);
        }
        Ok(())
    }

    /// What the process has posted is begun, as it would be if it had kicked each time: no work waits for a poller that
    /// comes later. Before what it needs goes, or its QP. Process context, of the process.
    pub(crate) fn catch_up(&self) {
        if !self.dead.load(Acquire) {
            self.run_all();
        }
    }

    /// Runs the work of what the poller has taken, after its pass, and of every doorbell that was rung.
    fn run_all(&self) {
        let mut begun = self.begun.lock();
        begun.again.hand_over();
        let mut left = KICK_QPS;
        while let Some(slot) = begun.scan.next_taken(&self.doorbells) {
            if let Some(qp) = self.qp_of(slot) {
                self.run_or_queue(&qp, &mut left);
            }
        }
        self.run_rung(|_| {});
    }

    /// Runs the work of every doorbell that was rung; `look` sees each QP before.
    fn run_rung(&self, mut look: impl FnMut(&Qp)) {
        let mut left = KICK_QPS;
        self.doorbells.take_pending(|slot| {
            if let Some(qp) = self.qp_of(slot) {
                look(&qp);
                self.run_or_queue(&qp, &mut left);
            }
        });
    }

    /// Runs a QP's work. What exceeds the budget, or comes after the end of process or device, is the
    /// workqueue's. A bit that was taken is nobody else's, so that it is never dropped.
    fn run_or_queue(&self, qp: &Arc<Qp>, left: &mut u32) {
        if *left > 0 && !self.dead.load(Acquire) && !task::is_killed() {
            *left -= 1;
            qp.kick();
        } else {
            qp.queue_work();
        }
    }
}

/// What the poller does with a context. The calls come from its thread, and do nothing after the end of
/// the context.
impl Ucontext {
    /// The poller comes; for how long it looks for work.
    pub(crate) fn comes(&self, now: u64, limit: u64) -> Watch {
        self.pace.lock().begin(now, limit)
    }

    /// The poller has left; posts are kicked.
    pub(crate) fn left(&self, watch: &Watch, now: u64, why: Leave) {
        self.pace.lock().end(watch, now, why);
        self.asked.store(false, Release);
    }

    fn while_open<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        if !self.gate.enter() {
            return None;
        }
        let ret = f();
        self.gate.leave();
        Some(ret)
    }

    /// From now on the poller looks, and nobody needs to kick. False after the end.
    pub(crate) fn attend(&self) -> bool {
        self.while_open(|| self.status.clear_need_wakeup())
            .is_some()
    }

    /// Runs the work of those that were not done, and of the next doorbells that were rung: `max` turns, but half of
    /// them at least for the latter. `None` after the end.
    pub(crate) fn serve(&self, max: u32) -> Option<Pass> {
        let mut begun = self.begun.lock();
        let Begun { scan, again } = &mut *begun;
        // A process may ring for QPs that do not exist, and go on ringing.
        let come = || {
            (0..max)
                .map_while(|_| scan.next(&self.doorbells))
                .find_map(|slot| self.qp_of(slot))
        };
        self.while_open(|| again.pass(max, come))
    }

    /// Whether a doorbell was rung, or the end has come. Any context.
    pub(crate) fn rings(&self) -> bool {
        self.dead.load(Relaxed) || self.doorbells.any_pending()
    }

    /// Whether the process is in a kick: it has not had the opportunity to post without one.
    pub(crate) fn is_kicking(&self) -> bool {
        self.kicking.load(Relaxed) != 0
    }

    /// Whether the poller may leave, as there is no work; then posts are kicked. (After the end it may, too.)
    pub(crate) fn may_rest(&self) -> bool {
        self.begun.lock().is_none()
            && self
                .while_open(|| sleep_check(&self.status, &self.doorbells))
                .unwrap_or(true)
    }

    /// From now on posts are kicked, and what was posted before is done.
    pub(crate) fn see_off(&self) {
        self.while_open(|| {
            ask_for_wakeups(&self.status);
            self.run_all();
        });
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
