// SPDX-License-Identifier: GPL-2.0

//! Creation and destruction of queue pairs.

use super::{new_life, number, Attrs, Cause, Qp, Sent, UserSide};
use crate::device::{Device, MAX_QP_WR};
use crate::kapi::abi::CreateQpResp;
use crate::kapi::errno::not_supported;
use crate::kapi::rdma::mmap::Mapping;
use crate::kapi::rdma::qp::{QpHandle, QpInit, QpKind};
use crate::kapi::rdma::ring::Ring;
use crate::kapi::rdma::udata::Udata;
use crate::kapi::sync::{new_spinlock_irq, Gate};
use crate::kapi::table::Reserved;
use crate::pauses::Pauses;
use crate::proto::ring::queue::Producer;
use crate::proto::wire::ib::QPN_GSI;
use crate::proto::wqe::abi::{MAX_INLINE, MAX_SGE, SEND_EXT, SEND_HDR, SGE_SIZE, WQE_UNIT};
use crate::proto::wqe::send::SendLimits;
use crate::rq::{stride, RecvQueue};
use crate::transport::NewQp;
use crate::ucontext::Ucontext;
use crate::verbs::Rurdma;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::Atomic;
use kernel::sync::{new_mutex, Arc};
use kernel::workqueue::{new_delayed_work, new_work};

/// Units of the largest work request of a queue with these sizes.
fn units_of(max_sge: u32, max_inline: u32, datagram: bool) -> u32 {
    let data = (max_sge as usize * SGE_SIZE).max(max_inline as usize);
    // Every operation has room, those with an extension and one SGE too.
    let bytes = if datagram {
        SEND_HDR + SEND_EXT + data
    } else {
        (SEND_HDR + data).max(SEND_HDR + SEND_EXT + SGE_SIZE)
    };
    bytes.div_ceil(WQE_UNIT) as u32
}

impl Qp {
    /// `ibv_create_qp(3)`; `init.cap` becomes what is granted.
    pub(crate) fn create(
        dev: &Arc<Device>,
        init: &mut QpInit<Rurdma>,
        handle: Arc<QpHandle>,
        udata: &Udata<'_>,
    ) -> Result<Arc<Self>> {
        if init.create_flags != 0 || !dev.transport.protocol().supports(init.kind) {
            return Err(not_supported());
        }
        let cap = &mut init.cap;
        if cap.max_send_wr > MAX_QP_WR
            || cap.max_recv_wr > MAX_QP_WR
            || cap.max_send_sge > MAX_SGE as u32
            || cap.max_recv_sge > MAX_SGE as u32
            || cap.max_inline > MAX_INLINE as u32
        {
            return Err(EINVAL);
        }
        cap.max_send_sge = cap.max_send_sge.max(1);
        cap.max_recv_sge = cap.max_recv_sge.max(1);
        dev.limits.qp.take()?;
        let made = Self::make(dev, init, handle, udata);
        if made.is_err() {
            dev.limits.qp.give();
        }
        made
    }

    fn make(
        dev: &Arc<Device>,
        init: &mut QpInit<Rurdma>,
        handle: Arc<QpHandle>,
        udata: &Udata<'_>,
    ) -> Result<Arc<Self>> {
        let user = udata.is_user();
        let cap = &mut init.cap;
        let datagram = init.kind.is_datagram();
        let wr_units = units_of(cap.max_send_sge, cap.max_inline, datagram);
        let sq_wr = cap.max_send_wr.max(1);
        let sq_units = sq_wr
            .checked_mul(wr_units)
            .and_then(u32::checked_next_power_of_two)
            .ok_or(ENOMEM)?;
        let sq = Ring::alloc(sq_units, WQE_UNIT as u32, user)?;
        let head = if datagram {
            SEND_HDR + SEND_EXT
        } else {
            SEND_HDR
        };
        // What fits anyway is granted.
        cap.max_inline = cap
            .max_inline
            .max(wr_units * WQE_UNIT as u32 - head as u32)
            .min(MAX_INLINE as u32);
        let rq = match init.srq {
            Some(_) => {
                cap.max_recv_wr = 0;
                cap.max_recv_sge = 0;
                None
            }
            None => {
                let rq = RecvQueue::new(cap.max_recv_wr, cap.max_recv_sge, user)?;
                cap.max_recv_wr = rq.max_wr();
                Some(rq)
            }
        };
        let cap = *cap;

        let mut user_side = None;
        let mut resp = None;
        if user {
            let context: Arc<Ucontext> = udata.context::<Rurdma>()?;
            let sq_map = Mapping::new(udata, sq.area().clone(), true)?;
            let rq_map = match &rq {
                Some(rq) => Some(Mapping::new(udata, rq.ring().area().clone(), true)?),
                None => None,
            };
            let slot = context.take_slot()?;
            resp = Some(CreateQpResp {
                sq_off: sq_map.offset(),
                sq_len: sq.area().len() as u64,
                rq_off: rq_map.as_ref().map_or(0, Mapping::offset),
                rq_len: rq.as_ref().map_or(0, |rq| rq.ring().area().len() as u64),
                sq_units,
                rq_depth: rq.as_ref().map_or(0, RecvQueue::max_wr),
                rq_stride: rq.as_ref().map_or(0, |_| stride(cap.max_recv_sge)),
                db_slot: slot.number(),
                max_send_wr: cap.max_send_wr,
                max_recv_wr: cap.max_recv_wr,
                max_send_sge: cap.max_send_sge,
                max_recv_sge: cap.max_recv_sge,
                max_inline: cap.max_inline,
                reserved: 0,
            });
            user_side = Some(UserSide {
                slot,
                _sq: sq_map,
                _rq: rq_map,
            });
        }
        let reserved = match init.kind {
            QpKind::Gsi => None,
            _ => Some(number::take()?),
        };
        let number = reserved.as_ref().map_or(QPN_GSI, Reserved::index);
        let sent = Sent::new(sq_wr)?;
        let transport = dev.transport.new_qp(&NewQp {
            kind: init.kind,
            sq_wr,
            wr_units,
        })?;
        let ops = dev.transport.protocol().send_ops(init.kind, user);
        let made = Arc::pin_init(
            try_pin_init!(Self {
                dev: dev.clone(),
                pd: init.pd.clone(),
                number,
                send_cq: init.send_cq.clone(),
                recv_cq: init.recv_cq.clone(),
                srq: init.srq.clone(),
                handle,
                user,
                sig_all: init.sig_all,
                limits: SendLimits {
                    ops,
                    ud: datagram,
                    max_sge: cap.max_send_sge as u8,
                    max_sge_rd: cap.max_send_sge as u8,
                    max_inline: cap.max_inline as u16,
                },
                cap,
                state: Atomic::new(dev.transport.initial_state() as u32),
                life: Atomic::new(new_life()),
                untold: Atomic::new(Cause::Closed as u32),
                last_wqe: Atomic::new(false),
                access: Atomic::new(0),
                sq,
                post <- new_spinlock_irq!(Producer::new(0), "Qp::post"),
                sent <- new_spinlock_irq!(sent, "Qp::sent"),
                rq <- new_spinlock_irq!(rq, "Qp::rq"),
                transport,
                flushing <- new_mutex!((), "Qp::flushing"),
                modifying <- new_mutex!((), "Qp::modifying"),
                attrs <- new_mutex!(
                    Attrs {
                        max_rd_atomic: 0,
                        max_dest_rd_atomic: 0,
                    },
                    "Qp::attrs"
                ),
                gate <- Gate::new(),
                iw_refs <- Gate::new(),
                user_side <- new_mutex!(user_side, "Qp::user_side"),
                work <- new_work!("Qp::work"),
                clock <- new_delayed_work!("Qp::clock"),
                reader <- new_work!("Qp::reader"),
                pauses: Pauses::new(),
                reader_pauses: Pauses::new(),
            }),
            GFP_KERNEL,
        );
        let qp = made?;
        // From here on a failure has the QP's parts given back by `part`.
        let ret = match &resp {
            Some(resp) => udata.respond(resp),
            None => Ok(()),
        }
        .and_then(|()| dev.qps.insert(number, qp.clone()));
        if let Err(e) = ret {
            qp.part();
            return Err(e);
        }
        // The doorbell works a moment too early: there is nothing to do yet.
        let ret = match &*qp.user_side.lock() {
            Some(side) => side.slot.fill(qp.clone()),
            None => Ok(()),
        };
        let ret = ret.and_then(|()| reserved.map_or(Ok(()), |r| r.fill(qp.clone())));
        if let Err(e) = ret {
            qp.dev.qps.remove(number);
            qp.part();
            return Err(e);
        }
        Ok(qp)
    }

    /// Takes the QP away from its process: no mappings, no doorbell slot.
    fn part(&self) {
        let side = self.user_side.lock().take();
        drop(side);
    }

    /// `ibv_destroy_qp(3)`: after the return nothing of the QP is done any more.
    pub(crate) fn destroy(self: &Arc<Self>) {
        self.catch_up();
        self.dev.qps.remove(self.number);
        if self.number != QPN_GSI {
            number::give(self.number);
        }
        self.last_wqe.store(true, Relaxed);
        self.fail(Cause::Closed);
        self.dev.transport.disconnect(self);
        self.part();
        self.iw_refs.close_and_wait();
        self.gate.close_and_wait();
        self.dev.transport.destroy_qp(self);
        if self.number == QPN_GSI {
            // The core does not drain its management QP: it may be posting again what it has received.
            self.recv_cq.settle();
            self.send_cq.settle();
        }
        self.dev.limits.qp.give();
    }
}
