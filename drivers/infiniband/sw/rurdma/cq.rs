// SPDX-License-Identifier: GPL-2.0

//! Completion queues.

#![forbid(unsafe_code)]

use crate::device::{Device, MAX_CQE};
use crate::kapi::abi::CreateCqResp;
use crate::kapi::errno::not_supported;
use crate::kapi::rdma::cq::{
    Completion, CompletionEvent, CqHandle, CqInit, NotifyFlags, WcWriter, CREATE_IGNORE_OVERRUN,
    CREATE_TIMESTAMP,
};
use crate::kapi::rdma::mmap::Mapping;
use crate::kapi::rdma::ring::Ring;
use crate::kapi::rdma::stats::Counter;
use crate::kapi::rdma::udata::Udata;
use crate::kapi::sync::{new_spinlock_irq, SpinLockIrq};
use crate::kapi::task::nth_cpu;
use crate::kapi::time;
use crate::proto::ring::queue::{Consumer, Producer};
use crate::proto::ring::FLAG_OVERFLOW;
use crate::proto::wire::ib::QPN_GSI;
use crate::proto::wqe::abi::{Cqe, CQE_SIZE};
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};
use kernel::time::delay::fsleep;
use kernel::time::Delta;

mod resize;

/// `IB_WC_SUCCESS` and the other completion statuses that we give (`enum ib_wc_status`).
pub(crate) mod status {
    /// Success.
    pub(crate) const SUCCESS: u8 = 0;
    /// A local message is too long, or does not fit.
    pub(crate) const LOC_LEN_ERR: u8 = 1;
    /// A work request makes no sense on this QP.
    pub(crate) const LOC_QP_OP_ERR: u8 = 2;
    /// Local memory may not be used so.
    pub(crate) const LOC_PROT_ERR: u8 = 4;
    /// Not executed: the QP is in error.
    pub(crate) const WR_FLUSH_ERR: u8 = 5;
    /// Binding or invalidating a key failed.
    pub(crate) const MW_BIND_ERR: u8 = 6;
}

/// `enum ib_wc_opcode`.
pub(crate) mod opcode {
    /// A send.
    pub(crate) const SEND: u8 = 0;
    /// An RDMA write.
    pub(crate) const RDMA_WRITE: u8 = 1;
    /// An RDMA read.
    pub(crate) const RDMA_READ: u8 = 2;
    /// A compare and swap.
    pub(crate) const COMP_SWAP: u8 = 3;
    /// A fetch and add.
    pub(crate) const FETCH_ADD: u8 = 4;
    /// The binding of a memory window.
    pub(crate) const BIND_MW: u8 = 5;
    /// A local invalidation.
    pub(crate) const LOCAL_INV: u8 = 6;
    /// A flush.
    pub(crate) const FLUSH: u8 = 8;
    /// An atomic write.
    pub(crate) const ATOMIC_WRITE: u8 = 9;
    /// A receive.
    pub(crate) const RECV: u8 = 128;
    /// A receive that immediate data of a write has used.
    pub(crate) const RECV_RDMA_WITH_IMM: u8 = 129;
}

/// `IBV_WC_GRH`.
pub(crate) const WC_GRH: u16 = 1 << 0;
/// `IBV_WC_WITH_IMM`.
pub(crate) const WC_WITH_IMM: u16 = 1 << 1;
/// `IBV_WC_WITH_INV`.
pub(crate) const WC_WITH_INVALIDATE: u16 = 1 << 3;

/// How long a kernel user's work may take with what it has polled, of which that of a management datagram is the
/// longest: to answer, the core looks for the sender's MAC address, for a second (`rdma_addr_find_l2_eth_by_grh()`).
const SETTLE_MS: u32 = 10_000;

/// Completions that are added with the CQ locked once.
const RUN: u32 = 64;

/// The CQ took no completion: it overflowed, now or before.
pub(crate) struct Overflow;

/// A completion queue.
#[pin_data]
pub(crate) struct Cq {
    dev: Arc<Device>,
    handle: Arc<CqHandle>,
    event: CompletionEvent,
    timestamps: bool,
    #[pin]
    ring: SpinLockIrq<CqRing>,
    #[pin]
    mapping: Mutex<Option<Mapping>>,
}

/// The ring and our private indices.
struct CqRing {
    ring: Ring,
    producer: Producer,
    /// Of a kernel user; a process consumes by itself.
    consumer: Consumer,
    /// Before this index a kernel user has handled what it polled, as its work does when it polls again.
    handled: u32,
    dead: bool,
}

impl Cq {
    /// `ibv_create_cq(3)`; also tells the number of entries granted.
    pub(crate) fn create(
        dev: &Arc<Device>,
        init: &CqInit,
        handle: Arc<CqHandle>,
        udata: &Udata<'_>,
    ) -> Result<(Arc<Self>, u32)> {
        if init.flags & !(CREATE_TIMESTAMP | CREATE_IGNORE_OVERRUN) != 0 {
            return Err(not_supported());
        }
        if init.cqe == 0 || init.cqe > MAX_CQE {
            return Err(EINVAL);
        }
        let cpu = nth_cpu(init.comp_vector).ok_or(EINVAL)?;
        dev.limits.cq.take()?;
        let made = Self::make(dev, init, cpu, handle, udata);
        if made.is_err() {
            dev.limits.cq.give();
        }
        made
    }

    fn make(
        dev: &Arc<Device>,
        init: &CqInit,
        cpu: u32,
        handle: Arc<CqHandle>,
        udata: &Udata<'_>,
    ) -> Result<(Arc<Self>, u32)> {
        let depth = init.cqe.next_power_of_two();
        let user = udata.is_user();
        let ring = Ring::alloc(depth, CQE_SIZE as u32, user)?;
        let event = CompletionEvent::new(handle.clone(), cpu)?;
        let mut mapping = None;
        if user {
            let map = Mapping::new(udata, ring.area().clone(), true)?;
            udata.respond(&CreateCqResp {
                ring_off: map.offset(),
                ring_len: ring.area().len() as u64,
                depth,
                cqn: crate::kapi::random::u32(),
            })?;
            mapping = Some(map);
        }
        let inner = CqRing {
            ring,
            producer: Producer::new(0),
            consumer: Consumer::new(0),
            handled: 0,
            dead: false,
        };
        let cq = Arc::pin_init(
            try_pin_init!(Self {
                dev: dev.clone(),
                handle,
                event,
                timestamps: init.flags & CREATE_TIMESTAMP != 0,
                ring <- new_spinlock_irq!(inner, "Cq::ring"),
                mapping <- new_mutex!(mapping, "Cq::mapping"),
            }),
            GFP_KERNEL,
        )?;
        Ok((cq, depth))
    }

    /// `ibv_destroy_cq(3)`. The core sees to it that no QP uses the CQ.
    pub(crate) fn destroy(&self) {
        self.event.finish();
        drop(self.mapping.lock().take());
        self.dev.limits.cq.give();
    }

    /// Receives of the QP that are complete, and that the kernel user has not polled, fail as if they were flushed.
    /// Any context.
    pub(crate) fn flush_unpolled(&self, qpn: u32) {
        let guard = self.ring.lock();
        let q = &*guard;
        let head = q.consumer.head();
        for i in 0..q.consumer.available(&q.ring).unwrap_or(0) {
            let at = head.wrapping_add(i);
            let mut cqe = Cqe::default();
            q.ring.copy_in(at, 0, cqe.as_mut_bytes());
            if cqe.qp_num == qpn && cqe.opcode == opcode::RECV && cqe.status == status::SUCCESS {
                cqe.status = status::WR_FLUSH_ERR;
                q.ring.copy_out(at, 0, cqe.as_bytes());
            }
        }
    }

    /// Waits until a kernel user has handled all that is complete now, by work that polls until it finds nothing and
    /// then asks for an event; [`SETTLE_MS`] at most. Process context.
    pub(crate) fn settle(&self) {
        let until = self.ring.lock().producer.tail();
        for _ in 0..SETTLE_MS {
            let handled = self.ring.lock().handled;
            // Indices run freely.
            if until.wrapping_sub(handled) as i32 <= 0 {
                return;
            }
            fsleep(Delta::from_millis(1));
        }
    }

    /// Adds a completion and raises the event that is due. `solicited`: the message asked for an
    /// event, or the work request failed. Any context.
    pub(crate) fn push(&self, cqe: &Cqe, solicited: bool) -> Result<(), Overflow> {
        let mut one = Some((*cqe, solicited));
        self.push_all(|| one.take())
    }

    /// The same for all that `next` gives until it gives `None`, in this order. The CQ is locked, and its arm word
    /// looked at, once for a run of them: an arming raises one event, however many there are. What `next` has
    /// written is visible before what it gives. It runs with the CQ locked (but for the first), and to its end
    /// after an overflow, too. Any context.
    pub(crate) fn push_all(
        &self,
        mut next: impl FnMut() -> Option<(Cqe, bool)>,
    ) -> Result<(), Overflow> {
        let mut ret = Ok(());
        // Mostly there is one or none: without one, nothing is locked.
        let mut first = next();
        while first.is_some() {
            ret = self.push_run(&mut first, &mut next).and(ret);
        }
        ret
    }

    /// Adds `first`, and what `next` gives, up to [`RUN`] of them; leaves in `first` what is to follow.
    fn push_run(
        &self,
        first: &mut Option<(Cqe, bool)>,
        next: &mut impl FnMut() -> Option<(Cqe, bool)>,
    ) -> Result<(), Overflow> {
        let mut guard = self.ring.lock();
        let q = &mut *guard;
        let mut space = 0u32;
        let (mut added, mut solicited) = (false, false);
        let (mut lost, mut overflow) = (false, false);
        for _ in 0..RUN {
            let Some((mut cqe, wanted)) = first.take() else {
                break;
            };
            if space == 0 && !q.dead {
                space = q.producer.space(&q.ring);
                overflow = space == 0;
                q.dead = overflow;
            }
            if q.dead {
                lost = true;
            } else {
                if self.timestamps {
                    cqe.timestamp = time::monotonic_raw_ns();
                }
                q.ring.copy_out(q.producer.tail(), 0, cqe.as_bytes());
                q.producer.advance(1);
                space = space.saturating_sub(1);
                added = true;
                solicited |= wanted;
            }
            *first = next();
        }
        let notify = added && q.producer.publish_and_check_arm(&q.ring, solicited);
        if overflow {
            q.ring.set_flags_and_fence(FLAG_OVERFLOW);
        }
        drop(guard);
        if notify {
            self.event.raise();
        }
        if overflow {
            self.dev.counters.count(Counter::CqOverflows);
            self.handle.error();
        }
        if lost {
            return Err(Overflow);
        }
        Ok(())
    }

    /// `ib_poll_cq()` of a kernel user. Any context.
    pub(crate) fn poll(&self, wcs: &mut WcWriter<'_>) {
        let mut first = true;
        while wcs.room() > 0 {
            let mut cqe = Cqe::default();
            {
                let mut guard = self.ring.lock();
                let q = &mut *guard;
                if core::mem::take(&mut first) {
                    q.handled = q.consumer.head();
                }
                if !matches!(q.consumer.available(&q.ring), Ok(1..)) {
                    return;
                }
                q.ring.copy_in(q.consumer.head(), 0, cqe.as_mut_bytes());
                q.consumer.advance(1);
                q.consumer.publish(&q.ring);
            }
            let qp = self.dev.qp_by_number(cqe.qp_num);
            let completion = Completion {
                wr_id: cqe.wr_id,
                status: cqe.status,
                opcode: cqe.opcode,
                vendor_err: cqe.vendor_err,
                byte_len: cqe.byte_len,
                imm_inv: cqe.imm_inv,
                src_qp: cqe.src_qp,
                wc_flags: cqe.wc_flags,
                pkey_index: cqe.pkey_index,
                vlan_id: cqe.vlan_id,
                network_hdr_type: cqe.network_hdr_type,
            };
            wcs.push(&completion, qp.as_ref().map(|qp| &*qp.handle));
            // See `SETTLE_MS`: with the 16 that the core asks for, a removal would wait for each of them.
            if cqe.qp_num == QPN_GSI && cqe.opcode == opcode::RECV {
                return;
            }
        }
    }

    /// `ib_req_notify_cq()` of a kernel user: true if there are completions. Any context.
    pub(crate) fn req_notify(&self, flags: NotifyFlags) -> bool {
        let mut guard = self.ring.lock();
        let q = &mut *guard;
        q.handled = q.consumer.head();
        q.consumer.arm(&q.ring, flags.solicited_only)
    }
}
