// SPDX-License-Identifier: GPL-2.0

//! What RoCE keeps for a QP.

use super::connected::Connected;
use super::send::Tx;
use crate::kapi::rdma::av::Av;
use crate::kapi::rdma::qp::{QpKind, QpState};
use crate::kapi::rdma::qp_attr::{PathQuery, QpAttr, QpQuery};
use crate::kapi::sync::{new_spinlock_irq, Owner, SpinLockIrq, Turn};
use crate::kapi::task::Cpu;
use crate::proto::ib::cut::Mtu;
use crate::proto::ib::requester::Limits;
use crate::proto::serial::Psn;
use crate::proto::wire::ib::opcode::Service;
use crate::qp::Qp;
use crate::transport::TransportQp;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::{Full, Relaxed};
use kernel::sync::atomic::Atomic;
use kernel::sync::Arc;
use kernel::time::delay::fsleep;
use kernel::time::Delta;

/// Packets that may be unacknowledged.
const WINDOW: u32 = 256;

/// The transport's part of a QP.
#[pin_data]
pub(crate) struct RoceQp {
    pub(super) kind: QpKind,
    #[pin]
    path: SpinLockIrq<Path>,
    /// The state machines of a connected QP.
    #[pin]
    pub(super) connected: SpinLockIrq<Connected>,
    pub(super) tx: Owner<Tx>,
    /// The last turn ended for want of memory.
    pub(super) starved: Atomic<bool>,
    /// What is sent is a stream.
    pub(super) streams: Atomic<bool>,
}

/// Where to, and how.
#[derive(Clone, Copy)]
pub(super) struct Path {
    pub(super) av: Av,
    pub(super) mtu: Mtu,
    pub(super) attr: PathQuery,
}

impl Path {
    const NONE: Path = Path {
        av: Av::NONE,
        mtu: Mtu::MIN,
        attr: PathQuery {
            rq_psn: 0,
            sq_psn: 0,
            dest_qpn: 0,
            qkey: 0,
            timeout: 0,
            retry_count: 0,
            rnr_retry: 0,
            min_rnr_timer: 0,
        },
    };
}

impl RoceQp {
    /// Of a new QP whose send queue has room for `sq_wr` work requests of `units` units.
    pub(super) fn new(kind: QpKind, sq_wr: u32, units: u32) -> Result<Pin<KBox<Self>>> {
        let connected = if kind.is_datagram() {
            Connected::none(kind == QpKind::Gsi)
        } else {
            Connected::new(sq_wr, units)?
        };
        KBox::try_pin_init(
            try_pin_init!(Self {
                kind,
                path <- new_spinlock_irq!(Path::NONE, "RoceQp::path"),
                connected <- new_spinlock_irq!(connected, "RoceQp::connected"),
                tx: Owner::new(Tx::new()),
                starved: Atomic::new(false),
                streams: Atomic::new(false),
            }),
            GFP_KERNEL,
        )
    }

    /// Where to, and how.
    pub(super) fn path(&self) -> Path {
        *self.path.lock()
    }
}

impl Qp {
    /// The RoCE part; `None` of a QP of another transport, which is never asked.
    pub(super) fn roce(&self) -> Option<&RoceQp> {
        match &self.transport {
            TransportQp::Roce(roce) => Some(roce),
            _ => None,
        }
    }

    /// `ibv_modify_qp(3)`: the attributes are taken over, and the state machines begin where the new
    /// state has them begin.
    pub(super) fn roce_modify(&self, attr: &QpAttr<'_>, from: QpState, to: QpState) -> Result {
        let roce = self.roce().ok_or(EINVAL)?;
        let av = attr.av()?;
        let mtu = match attr.path_mtu() {
            Some(v) => Some(Mtu::from_enum(v).ok_or(EINVAL)?),
            None => None,
        };
        let attrs = self.attrs();
        let path = {
            let mut path = roce.path.lock();
            if let Some(av) = av {
                path.av = av;
            }
            if let Some(mtu) = mtu {
                path.mtu = mtu;
            }
            attr.update(&mut path.attr);
            *path
        };
        let service = match roce.kind {
            QpKind::Rc => Service::Rc,
            QpKind::Uc => Service::Uc,
            QpKind::Ud | QpKind::Gsi => return Ok(()),
        };
        let mut connected = roce.connected.lock();
        match (from, to) {
            (QpState::Init, QpState::Rtr) => {
                connected.have_recv = false;
                connected.established = false;
                connected.responder.begin(
                    service,
                    path.mtu,
                    Psn::new(path.attr.rq_psn),
                    u32::from(attrs.max_dest_rd_atomic),
                );
            }
            (QpState::Sqd, QpState::Rts) => connected.sqd_event = false,
            (QpState::Sqd, QpState::Sqd) => {
                connected.requester.adjust(
                    u32::from(attrs.max_rd_atomic),
                    path.attr.retry_count,
                    path.attr.rnr_retry,
                );
                let depth = u32::from(attrs.max_dest_rd_atomic);
                connected.responder.responses.set_depth(depth);
            }
            (QpState::Rtr, QpState::Rts) => connected.requester.begin(
                Limits {
                    mtu: path.mtu,
                    reads: u32::from(attrs.max_rd_atomic),
                    retries: path.attr.retry_count,
                    rnr_retries: path.attr.rnr_retry,
                    window: WINDOW,
                },
                Psn::new(path.attr.sq_psn),
            ),
            _ => {}
        }
        Ok(())
    }

    /// Runs the sending side, unless somebody does already, who then does this work too. Any context
    /// without a spinlock.
    pub(super) fn roce_transmit(self: &Arc<Self>) {
        if self.roce_run() == Turn::More {
            self.queue_work();
        }
    }

    /// The same for a receiver that has made room, or been asked: on another CPU, if there is one, where much is to be
    /// sent, as this one is the peer's. Any context without a spinlock.
    pub(super) fn roce_answer(self: &Arc<Self>) {
        let Some(roce) = self.roce() else {
            return;
        };
        match Cpu::other().filter(|_| roce.streams.load(Relaxed)) {
            Some(cpu) => {
                if roce.tx.run(|_| Turn::More) == Turn::More {
                    self.queue_work_on(cpu);
                }
            }
            None => self.roce_transmit(),
        }
    }

    /// As [`Self::roce_transmit`]; with `More`, the caller sees to another call.
    fn roce_run(self: &Arc<Self>) -> Turn {
        self.roce()
            .map_or(Turn::Done, |roce| roce.tx.run(|tx| tx.turn(self)))
    }

    /// The same, where it may sleep: if there was no memory, it comes back when there may be some. Process
    /// context.
    pub(super) fn roce_work(self: &Arc<Self>) -> Turn {
        let turn = self.roce_run();
        let starved = |roce: &RoceQp| roce.starved.load(Relaxed) && roce.starved.xchg(false, Full);
        if self.roce().is_some_and(starved) {
            fsleep(Delta::from_millis(1));
        }
        turn
    }

    /// SQE → RTS, as the engine, which would otherwise flush what comes by the state that it has seen.
    pub(super) fn roce_resume(self: &Arc<Self>) {
        if let Some(roce) = self.roce() {
            roce.tx.exclusive(|tx| self.resume_send(tx.parts().1));
        }
        // What was posted meanwhile.
        self.queue_work();
    }

    /// The state is SQD: no work request is begun any more. With `event`, the consumer is told when those that
    /// were are done.
    pub(super) fn roce_drain(self: &Arc<Self>, event: bool) {
        if let Some(roce) = self.roce() {
            roce.connected.lock().sqd_event = event;
        }
        self.queue_work();
    }

    /// Adds to what `ibv_query_qp(3)` tells.
    pub(super) fn roce_query(&self, query: &mut QpQuery) {
        if let Some(roce) = self.roce() {
            let path = roce.path();
            query.path = path.attr;
            if !roce.kind.is_datagram() {
                query.path_mtu = path.mtu.to_enum();
                query.sq_draining &= roce.connected.lock().requester.oldest().is_some();
                query.av = (path.av != Av::NONE).then_some(path.av);
            }
        }
    }

    /// The QP is destroyed; nobody works on it any more.
    pub(super) fn roce_forget(self: &Arc<Self>) {
        self.disarm_timer();
    }

    /// The QP goes back to the beginning.
    pub(super) fn roce_reset(self: &Arc<Self>) {
        if let Some(roce) = self.roce() {
            roce.tx.exclusive(|tx| {
                tx.reset();
                roce.connected.lock().reset();
                self.reset_send();
            });
            *roce.path.lock() = Path::NONE;
        }
    }
}
