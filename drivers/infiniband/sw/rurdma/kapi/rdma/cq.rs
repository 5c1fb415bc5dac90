// SPDX-License-Identifier: GPL-2.0

//! `ib_cq`.

use crate::bindings;
use crate::kapi::ipi::{CpuCall, OnCpu};
use crate::kapi::rdma::object::{Handle, Object};
use crate::kapi::rdma::ops::{device_of, Driver};
use crate::kapi::rdma::qp::QpHandle;
use crate::kapi::rdma::udata::Udata;
use core::mem::ManuallyDrop;
use core::ptr;
use kernel::error::from_result;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::Full;
use kernel::sync::atomic::Atomic;
use kernel::sync::Arc;

/// The driver's way back to its `ib_cq`.
pub(crate) type CqHandle = Handle<bindings::ib_cq>;

/// What is asked of a new CQ.
pub(crate) struct CqInit {
    /// Entries, at least 1.
    pub(crate) cqe: u32,
    /// Completion vector, below the device's number of them.
    pub(crate) comp_vector: u32,
    /// `enum ib_uverbs_ex_create_cq_flags`.
    pub(crate) flags: u32,
}

/// `IB_UVERBS_CQ_FLAGS_TIMESTAMP_COMPLETION`.
pub(crate) const CREATE_TIMESTAMP: u32 =
    bindings::ib_uverbs_ex_create_cq_flags_IB_UVERBS_CQ_FLAGS_TIMESTAMP_COMPLETION;
/// `IB_UVERBS_CQ_FLAGS_IGNORE_OVERRUN`.
pub(crate) const CREATE_IGNORE_OVERRUN: u32 =
    bindings::ib_uverbs_ex_create_cq_flags_IB_UVERBS_CQ_FLAGS_IGNORE_OVERRUN;

/// `enum ib_cq_notify_flags`.
#[derive(Clone, Copy)]
pub(crate) struct NotifyFlags {
    /// Solicited completions and errors only.
    pub(crate) solicited_only: bool,
    /// Tell whether there are completions already.
    pub(crate) report_missed: bool,
}

impl CqHandle {
    /// Raises `IB_EVENT_CQ_ERR`: the CQ is lost. Any context.
    pub(crate) fn error(&self) {
        self.with(|cq| {
            // SAFETY: `with` gives a living CQ; zero is a valid event to fill in.
            unsafe {
                let Some(handler) = (*cq).event_handler else {
                    return;
                };
                let mut event: bindings::ib_event = core::mem::zeroed();
                event.device = (*cq).device;
                event.event = bindings::ib_event_type_IB_EVENT_CQ_ERR;
                event.element.cq = ManuallyDrop::new(cq);
                handler(&mut event, (*cq).cq_context);
            }
        });
    }
}

/// The completion event of a CQ, raised on the CPU of its completion vector: what an interrupt is
/// to a device that has them.
pub(crate) struct CompletionEvent(Arc<CpuCall<Due>>);

/// Events that are to be raised.
struct Due {
    handle: Arc<CqHandle>,
    cpu: u32,
    count: Atomic<u32>,
}

impl Due {
    /// Calls the handler for every event that is due. One arming is one event, also where one
    /// interrupt brings several.
    ///
    /// # Safety
    ///
    /// `cq` is alive.
    unsafe fn deliver(&self, cq: *mut bindings::ib_cq) {
        // Full: see `CpuCall::send`.
        for _ in 0..self.count.xchg(0, Full) {
            // SAFETY: By the caller's promise; the handler may be called in any context.
            unsafe {
                if let Some(handler) = (*cq).comp_handler {
                    handler(cq, (*cq).cq_context);
                }
            }
        }
    }
}

impl OnCpu for Due {
    fn run(&self) {
        // SAFETY: `with` gives a living CQ.
        self.handle.with(|cq| unsafe { self.deliver(cq) });
    }
}

impl CompletionEvent {
    /// Of the CQ with this handle, on this CPU.
    pub(crate) fn new(handle: Arc<CqHandle>, cpu: u32) -> Result<Self> {
        let due = Due {
            handle,
            cpu,
            count: Atomic::new(0),
        };
        Ok(Self(CpuCall::new(due)?))
    }

    /// Raises the event; here and now if the CPU is offline or the one that we are on. Any context.
    pub(crate) fn raise(&self) {
        let due = &**self.0;
        // Under the handle's lock interrupts are off, so the CPU stays the one that it is.
        due.handle.with(|cq| {
            due.count.fetch_add(1, Full);
            if !CpuCall::send(&self.0, due.cpu) {
                // SAFETY: `with` gives a living CQ.
                unsafe { due.deliver(cq) };
            }
        });
    }

    /// Waits for what is under way. The CQ is being destroyed. Process context.
    pub(crate) fn finish(&self) {
        self.0.finish();
    }
}

/// A completion as the driver stores it, for a kernel user.
pub(crate) struct Completion {
    /// The work request's id (or the address of its `ib_cqe`).
    pub(crate) wr_id: u64,
    /// `enum ib_wc_status`.
    pub(crate) status: u8,
    /// `enum ib_wc_opcode`.
    pub(crate) opcode: u8,
    /// The device's own error number.
    pub(crate) vendor_err: u32,
    /// Length of the message in bytes.
    pub(crate) byte_len: u32,
    /// Immediate data in wire order, or the key that was invalidated.
    pub(crate) imm_inv: u32,
    /// The peer's QP number (datagrams).
    pub(crate) src_qp: u32,
    /// `enum ibv_wc_flags`.
    pub(crate) wc_flags: u16,
    /// P_Key index.
    pub(crate) pkey_index: u16,
    /// The VLAN by which a datagram came; 0xffff: none.
    pub(crate) vlan_id: u16,
    /// `enum rdma_network_type` of what carried a datagram; 0: not told.
    pub(crate) network_hdr_type: u8,
}

/// Room for polled completions.
///
/// # Invariants
///
/// `wcs` has room for `room` elements, of which `used` are written.
pub(crate) struct WcWriter<'a> {
    wcs: *mut bindings::ib_wc,
    room: usize,
    used: usize,
    _scope: core::marker::PhantomData<&'a mut ()>,
}

impl WcWriter<'_> {
    /// How many more completions fit.
    pub(crate) fn room(&self) -> usize {
        self.room - self.used
    }

    /// Writes a completion of the QP with handle `qp`. Nothing happens without room.
    pub(crate) fn push(&mut self, c: &Completion, qp: Option<&QpHandle>) {
        if self.used >= self.room {
            return;
        }
        // SAFETY: By the type invariant there is room; all fields accept what is written.
        unsafe {
            let wc = self.wcs.add(self.used);
            ptr::write_bytes(wc, 0, 1);
            (*wc).__bindgen_anon_1.wr_id = ManuallyDrop::new(c.wr_id);
            (*wc).status = u32::from(c.status);
            (*wc).opcode = u32::from(c.opcode);
            (*wc).vendor_err = c.vendor_err;
            (*wc).byte_len = c.byte_len;
            (*wc).qp = qp
                .and_then(|qp| qp.with(|raw| raw))
                .unwrap_or(ptr::null_mut());
            (*wc).ex.invalidate_rkey = ManuallyDrop::new(c.imm_inv);
            (*wc).src_qp = c.src_qp;
            (*wc).wc_flags = wc_flags(c.wc_flags);
            if c.vlan_id != 0xffff {
                (*wc).wc_flags |= bindings::ib_wc_flags_IB_WC_WITH_VLAN as c_int;
                (*wc).vlan_id = c.vlan_id;
            }
            (*wc).pkey_index = c.pkey_index;
            (*wc).port_num = 1;
            if c.network_hdr_type != 0 {
                (*wc).wc_flags |= bindings::ib_wc_flags_IB_WC_WITH_NETWORK_HDR_TYPE as c_int;
                (*wc).network_hdr_type = c.network_hdr_type;
            }
        }
        self.used += 1;
    }
}

/// `enum ib_wc_flags` of the flags that `ibv_wc` has: they differ.
fn wc_flags(ibv: u16) -> c_int {
    /// `IBV_WC_WITH_INV`.
    const IBV_WITH_INV: u16 = 1 << 3;
    // `GRH` and `WITH_IMM` are the same.
    let mut flags = u32::from(ibv & 3);
    if ibv & IBV_WITH_INV != 0 {
        flags |= bindings::ib_wc_flags_IB_WC_WITH_INVALIDATE;
    }
    flags as c_int
}

/// # Safety
///
/// Called by the core to create a CQ.
pub(super) unsafe extern "C" fn create_cq<D: Driver>(
    cq: *mut bindings::ib_cq,
    attr: *const bindings::ib_cq_init_attr,
    attrs: *mut bindings::uverbs_attr_bundle,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let (dev, object, attr) = unsafe {
            (
                device_of::<D>((*cq).device)?,
                Object::<_, D::Cq>::from_raw(cq),
                &*attr,
            )
        };
        let init = CqInit {
            cqe: attr.cqe,
            comp_vector: attr.comp_vector,
            flags: attr.flags,
        };
        // SAFETY: `attrs` is null or the running command's, whose udata this is.
        let udata = unsafe { Udata::from_raw(bindings::rurdma_bundle_udata(attrs)) };
        // SAFETY: The object is being created.
        let handle = unsafe { object.make_handle(kernel::static_lock_class!()) }?;
        match D::create_cq(dev, &init, handle, &udata) {
            Ok((inner, cqe)) => {
                // SAFETY: The object is being created.
                unsafe {
                    (*cq).cqe = cqe as c_int;
                    object.set(inner);
                }
                Ok(0)
            }
            Err(e) => {
                // SAFETY: The creation fails.
                drop(unsafe { object.take() });
                Err(e)
            }
        }
    })
}

/// # Safety
///
/// Called by the core with a living CQ of a process.
pub(super) unsafe extern "C" fn resize_cq<D: Driver>(
    cq: *mut bindings::ib_cq,
    cqe: c_uint,
    udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let (inner, udata) = unsafe { (Object::<_, D::Cq>::get(cq)?, Udata::from_raw(udata)) };
        let cqe = D::resize_cq(inner, cqe, &udata)?;
        // SAFETY: The CQ lives. Two resizes at once may both write; the core only tells the number.
        unsafe { (&raw mut (*cq).cqe).write_volatile(cqe as c_int) };
        Ok(0)
    })
}

/// A kernel user's CQ will be destroyed when the core has ended the work on it. What is raised on another CPU, and comes
/// late, must not begin that anew.
///
/// # Safety
///
/// Called by the core with a living CQ, before it destroys it.
pub(super) unsafe extern "C" fn pre_destroy_cq<D: Driver>(cq: *mut bindings::ib_cq) -> c_int {
    // SAFETY: By the caller's promise.
    unsafe { Object::<_, D::Cq>::from_raw(cq).revoke() };
    0
}

/// # Safety
///
/// Called by the core to destroy a CQ.
pub(super) unsafe extern "C" fn destroy_cq<D: Driver>(
    cq: *mut bindings::ib_cq,
    _udata: *mut bindings::ib_udata,
) -> c_int {
    // SAFETY: The object is being destroyed; the handle is revoked, so no event comes any more.
    if let Some(inner) = unsafe { Object::<_, D::Cq>::from_raw(cq).take() } {
        D::destroy_cq(&inner);
    }
    0
}

/// # Safety
///
/// Called by a kernel user with a living CQ and room for `n` completions.
pub(super) unsafe extern "C" fn poll_cq<D: Driver>(
    cq: *mut bindings::ib_cq,
    n: c_int,
    wcs: *mut bindings::ib_wc,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let inner = unsafe { Object::<_, D::Cq>::get(cq) }?;
        // INVARIANT: By the caller's promise.
        let mut writer = WcWriter {
            wcs,
            room: usize::try_from(n).unwrap_or(0),
            used: 0,
            _scope: core::marker::PhantomData,
        };
        D::poll_cq(inner, &mut writer);
        Ok(writer.used as c_int)
    })
}

/// # Safety
///
/// Called by a kernel user with a living CQ.
pub(super) unsafe extern "C" fn req_notify_cq<D: Driver>(
    cq: *mut bindings::ib_cq,
    flags: bindings::ib_cq_notify_flags,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let inner = unsafe { Object::<_, D::Cq>::get(cq) }?;
        let solicited = bindings::ib_cq_notify_flags_IB_CQ_SOLICITED;
        let missed = bindings::ib_cq_notify_flags_IB_CQ_REPORT_MISSED_EVENTS;
        let mask = bindings::ib_cq_notify_flags_IB_CQ_SOLICITED_MASK;
        let flags = NotifyFlags {
            solicited_only: flags & mask == solicited,
            report_missed: flags & missed != 0,
        };
        Ok(c_int::from(
            D::req_notify_cq(inner, flags) && flags.report_missed,
        ))
    })
}
