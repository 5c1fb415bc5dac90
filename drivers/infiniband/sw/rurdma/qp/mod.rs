// SPDX-License-Identifier: GPL-2.0

//! Queue pairs: what they have in common, whatever the wire.

#![forbid(unsafe_code)]

use crate::cq::Cq;
use crate::device::Device;
use crate::kapi::rdma::mmap::Mapping;
use crate::kapi::rdma::qp::{QpCap, QpHandle, QpState};
use crate::kapi::rdma::ring::Ring;
use crate::kapi::sync::{Gate, SpinLockIrq, Turn};
use crate::kapi::task::Cpu;
use crate::kapi::timer;
use crate::pauses::Pauses;
use crate::pd::Pd;
use crate::proto::ring::queue::Producer;
use crate::proto::wqe::send::SendLimits;
use crate::rq::{RecvQueue, RecvWr, TakeError};
use crate::srq::Srq;
use crate::transport::TransportQp;
use crate::ucontext::Slot;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::{Acquire, Full, Relaxed};
use kernel::sync::atomic::Atomic;
use kernel::sync::{Arc, Mutex};
use kernel::workqueue::{impl_has_delayed_work, impl_has_work, DelayedWork, Work, WorkItem};

mod create;
mod flush;
mod modify;
pub(crate) mod number;
mod post;
mod sent;

pub(crate) use flush::Cause;
pub(crate) use sent::{Progress, Record, Sent};

static NEXT_LIFE: Atomic<i64> = Atomic::new(1);

/// A number for [`Qp::life`] that was never used.
fn new_life() -> i64 {
    NEXT_LIFE.fetch_add(1, Relaxed)
}

/// A queue pair.
#[pin_data]
pub(crate) struct Qp {
    /// The device.
    pub(crate) dev: Arc<Device>,
    /// PD of the QP's memory.
    pub(crate) pd: Arc<Pd>,
    /// The QP's number.
    pub(crate) number: u32,
    /// Where sends complete.
    pub(crate) send_cq: Arc<Cq>,
    /// Where receives complete.
    pub(crate) recv_cq: Arc<Cq>,
    /// Where receives are taken from, rather than from `rq`.
    pub(crate) srq: Option<Arc<Srq>>,
    /// The way back to the `ib_qp`.
    pub(crate) handle: Arc<QpHandle>,
    /// A process's QP.
    pub(crate) user: bool,
    /// Every send is signalled.
    pub(crate) sig_all: bool,
    /// What may be posted to the send queue.
    pub(crate) limits: SendLimits,
    /// Sizes, as granted.
    pub(crate) cap: QpCap,
    /// `enum ib_qp_state`.
    state: Atomic<u32>,
    /// Another number after each RESET, and never that of another QP: windows are open to a life.
    life: Atomic<i64>,
    /// In ERROR, the [`Cause`] that the owner was not told yet.
    untold: Atomic<u32>,
    /// Nobody waits (any more) for the last receive of an SRQ.
    last_wqe: Atomic<bool>,
    /// Access rights of peers, `enum ib_access_flags`.
    access: Atomic<u32>,
    /// The send queue's ring, which its engine empties.
    pub(crate) sq: Ring,
    /// The filling side of `sq` of a kernel user.
    #[pin]
    post: SpinLockIrq<Producer>,
    /// Sends that were taken from the ring and have not completed.
    #[pin]
    pub(crate) sent: SpinLockIrq<Sent>,
    /// The receive queue, without an SRQ.
    #[pin]
    rq: SpinLockIrq<Option<RecvQueue>>,
    /// The wire's part.
    pub(crate) transport: TransportQp,
    /// Held while the receive queue is flushed, or emptied: its completions keep their order, and
    /// none comes after a RESET.
    #[pin]
    flushing: Mutex<()>,
    /// Held throughout a modification.
    #[pin]
    modifying: Mutex<()>,
    #[pin]
    attrs: Mutex<Attrs>,
    /// Open for whoever works on the QP; closed by its destruction.
    #[pin]
    pub(crate) gate: Gate,
    /// References of iw_cm.
    #[pin]
    pub(crate) iw_refs: Gate,
    #[pin]
    user_side: Mutex<Option<UserSide>>,
    #[pin]
    work: Work<Qp>,
    /// The transport's timer.
    #[pin]
    clock: DelayedWork<Qp, 1>,
    /// Places what a peer streams.
    #[pin]
    reader: Work<Qp, 2>,
    /// Of the works.
    pauses: Pauses,
    reader_pauses: Pauses,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Qp, 1> for Qp { self.clock }
}

impl_has_work! {
    impl HasWork<Self> for Qp { self.work }
    impl HasWork<Self, 2> for Qp { self.reader }
}

/// What can be modified and queried.
#[derive(Clone, Copy)]
pub(crate) struct Attrs {
    /// Outbound reads.
    pub(crate) max_rd_atomic: u8,
    /// Inbound reads.
    pub(crate) max_dest_rd_atomic: u8,
}

/// What ties a process's QP to its context.
struct UserSide {
    slot: Slot,
    _sq: Mapping,
    _rq: Option<Mapping>,
}

impl Qp {
    /// The state. It may have changed already, unless the caller serialises modifications.
    #[inline]
    pub(crate) fn state(&self) -> QpState {
        QpState::from_raw(self.state.load(Acquire)).unwrap_or(QpState::Error)
    }

    /// Sets the state, whatever it was.
    fn set_state(&self, state: QpState) {
        self.state.xchg(state as u32, Full);
    }

    /// Which life of which QP it is. Any context.
    #[inline]
    pub(crate) fn life(&self) -> i64 {
        self.life.load(Relaxed)
    }

    /// Access rights of peers. Any context.
    #[inline]
    pub(crate) fn access(&self) -> u32 {
        self.access.load(Relaxed)
    }

    /// Gives peers rights in addition to those they have. Any context.
    pub(crate) fn grant(&self, access: u32) {
        let now = self.access();
        self.access.store(now | access, Relaxed);
    }

    /// Depths that the consumer set. Process context.
    pub(crate) fn attrs(&self) -> Attrs {
        *self.attrs.lock()
    }

    /// Takes a receive work request from the RQ or the SRQ. Any context.
    pub(crate) fn take_recv(&self, wr: &mut RecvWr) -> Result<(), TakeError> {
        match &self.srq {
            Some(srq) => srq.take(wr),
            None => match &mut *self.rq.lock() {
                Some(rq) => rq.take(wr),
                None => Err(TakeError::Empty),
            },
        }
    }

    /// PD of the memory that is received to.
    pub(crate) fn recv_pd(&self) -> u64 {
        match &self.srq {
            Some(srq) => srq.pd.id,
            None => self.pd.id,
        }
    }

    /// Has the QP's work done by the device's workqueue. Any context.
    pub(crate) fn queue_work(self: &Arc<Self>) {
        // If it is queued already, that run sees what there is to do now.
        let _ = self.dev.wq.queue().enqueue::<_, 0>(self.clone());
    }

    /// The same on a CPU that is picked for it, as what streams is worth one. Any context.
    pub(crate) fn queue_work_on(self: &Arc<Self>, cpu: Cpu) {
        self.dev.streams.enqueue_on::<_, 0>(cpu, self);
    }

    /// Has what has arrived read by that CPU. Any context.
    pub(crate) fn queue_reader_on(self: &Arc<Self>, cpu: Cpu) {
        self.dev.streams.enqueue_on::<_, 2>(cpu, self);
    }

    /// Has the transport called in `ms` milliseconds. Any context.
    pub(crate) fn arm_timer(self: &Arc<Self>, ms: u32) {
        timer::arm::<Qp, 1>(self.dev.wq.queue(), self, ms);
    }

    /// Takes that back, and waits for a call that is on its way. Process context.
    pub(crate) fn disarm_timer(self: &Arc<Self>) {
        timer::disarm::<Qp, 1>(self);
    }

    /// How far its sends are. Any context.
    pub(crate) fn progress(&self) -> Progress {
        self.sent.lock().progress()
    }

    /// A process's doorbell rang, in its own context: does the work here, and leaves to the workqueue what
    /// exceeds the budget.
    pub(crate) fn kick(self: &Arc<Self>) {
        if self.run() == Turn::More {
            self.queue_work();
        }
    }

    /// Does what there is to do. With `More`, the caller sees to another call. Process context.
    pub(crate) fn run(self: &Arc<Self>) -> Turn {
        if !self.gate.enter() {
            return Turn::Done;
        }
        if self.state() == QpState::Error {
            self.tell_cause();
        }
        let turn = self.dev.transport.run(self);
        if self.state() == QpState::Error {
            self.flush_recv();
        }
        self.gate.leave();
        turn
    }
}

impl WorkItem<1> for Qp {
    type Pointer = Arc<Qp>;

    fn run(this: Arc<Qp>) {
        if this.gate.enter() {
            this.dev.transport.timer(&this);
            this.gate.leave();
        }
    }
}

impl WorkItem<2> for Qp {
    type Pointer = Arc<Qp>;

    fn run(this: Arc<Qp>) {
        this.reader_pauses.work(|| {
            if this.gate.enter() {
                this.dev.transport.read(&this);
                this.gate.leave();
            }
        });
    }
}

impl WorkItem for Qp {
    type Pointer = Arc<Qp>;

    fn run(this: Arc<Qp>) {
        this.pauses.work(|| this.kick());
    }
}
