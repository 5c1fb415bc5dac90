// SPDX-License-Identifier: GPL-2.0

//! `ib_srq`.

use crate::bindings;
use crate::kapi::errno::not_supported;
use crate::kapi::rdma::object::{Handle, Object};
use crate::kapi::rdma::ops::Driver;
use crate::kapi::rdma::qp::RecvWrs;
use crate::kapi::rdma::udata::Udata;
use core::mem::ManuallyDrop;
use kernel::error::{from_result, to_result};
use kernel::prelude::*;

/// The driver's way back to its `ib_srq`.
pub(crate) type SrqHandle = Handle<bindings::ib_srq>;

/// `ib_srq_attr`.
#[derive(Clone, Copy, Default)]
pub(crate) struct SrqAttr {
    /// Work requests that fit.
    pub(crate) max_wr: u32,
    /// SGEs of a work request.
    pub(crate) max_sge: u32,
    /// Raise the limit event once fewer work requests than this are left; 0: never.
    pub(crate) limit: u32,
}

impl SrqHandle {
    /// Raises an asynchronous event of the SRQ. Any context.
    fn event(&self, kind: bindings::ib_event_type) {
        self.with(|srq| {
            // SAFETY: `with` gives a living SRQ; zero is a valid event to fill in.
            unsafe {
                let Some(handler) = (*srq).event_handler else {
                    return;
                };
                let mut event: bindings::ib_event = core::mem::zeroed();
                event.device = (*srq).device;
                event.event = kind;
                event.element.srq = ManuallyDrop::new(srq);
                handler(&mut event, (*srq).srq_context);
            }
        });
    }

    /// `IB_EVENT_SRQ_LIMIT_REACHED`.
    pub(crate) fn limit_reached(&self) {
        self.event(bindings::ib_event_type_IB_EVENT_SRQ_LIMIT_REACHED);
    }

    /// `IB_EVENT_SRQ_ERR`.
    pub(crate) fn error(&self) {
        self.event(bindings::ib_event_type_IB_EVENT_SRQ_ERR);
    }
}

/// # Safety
///
/// Called by the core to create an SRQ.
pub(super) unsafe extern "C" fn create_srq<D: Driver>(
    srq: *mut bindings::ib_srq,
    init: *mut bindings::ib_srq_init_attr,
    udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let init = unsafe { &mut *init };
        if init.srq_type != bindings::ib_srq_type_IB_SRQT_BASIC {
            return Err(not_supported());
        }
        // SAFETY: By the caller's promise the PD lives.
        let (pd, object) = unsafe {
            (
                Object::<_, D::Pd>::get((*srq).pd)?,
                Object::<_, D::Srq>::from_raw(srq),
            )
        };
        let mut attr = SrqAttr {
            max_wr: init.attr.max_wr,
            max_sge: init.attr.max_sge,
            limit: init.attr.srq_limit,
        };
        // SAFETY: The object is being created.
        let handle = unsafe { object.make_handle(kernel::static_lock_class!()) }?;
        // SAFETY: By the caller's promise.
        let udata = unsafe { Udata::from_raw(udata) };
        match D::create_srq(pd, &mut attr, handle, &udata) {
            Ok(inner) => {
                init.attr.max_wr = attr.max_wr;
                init.attr.max_sge = attr.max_sge;
                // SAFETY: The object is being created.
                unsafe { object.set(inner) };
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
/// Called by the core with a living SRQ.
pub(super) unsafe extern "C" fn modify_srq<D: Driver>(
    srq: *mut bindings::ib_srq,
    attr: *mut bindings::ib_srq_attr,
    mask: bindings::ib_srq_attr_mask,
    udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let (inner, attr, udata) = unsafe {
            (
                Object::<_, D::Srq>::get(srq)?,
                &*attr,
                Udata::from_raw(udata),
            )
        };
        let resize = mask & bindings::ib_srq_attr_mask_IB_SRQ_MAX_WR != 0;
        let limit = mask & bindings::ib_srq_attr_mask_IB_SRQ_LIMIT != 0;
        D::modify_srq(
            inner,
            resize.then_some(attr.max_wr),
            limit.then_some(attr.srq_limit),
            &udata,
        )?;
        Ok(0)
    })
}

/// # Safety
///
/// Called by the core with a living SRQ and an attribute to fill.
pub(super) unsafe extern "C" fn query_srq<D: Driver>(
    srq: *mut bindings::ib_srq,
    attr: *mut bindings::ib_srq_attr,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let a = D::query_srq(unsafe { Object::<_, D::Srq>::get(srq) }?);
        // SAFETY: By the caller's promise.
        unsafe {
            (*attr).max_wr = a.max_wr;
            (*attr).max_sge = a.max_sge;
            (*attr).srq_limit = a.limit;
        }
        Ok(0)
    })
}

/// # Safety
///
/// Called by the core to destroy an SRQ.
pub(super) unsafe extern "C" fn destroy_srq<D: Driver>(
    srq: *mut bindings::ib_srq,
    udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        to_result(unsafe { bindings::rurdma_no_udata_io(udata) })?;
        // SAFETY: The object is being destroyed.
        if let Some(inner) = unsafe { Object::<_, D::Srq>::from_raw(srq).take() } {
            D::destroy_srq(&inner);
        }
        Ok(0)
    })
}

/// # Safety
///
/// Called by a kernel user with a living SRQ.
pub(super) unsafe extern "C" fn post_srq_recv<D: Driver>(
    srq: *mut bindings::ib_srq,
    wr: *const bindings::ib_recv_wr,
    bad: *mut *const bindings::ib_recv_wr,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let inner = unsafe { Object::<_, D::Srq>::get(srq) }?;
        // SAFETY: By the caller's promise.
        let mut wrs = unsafe { RecvWrs::new(wr) };
        let ret = D::post_srq_recv(inner, &mut wrs);
        // SAFETY: By the caller's promise; the core always passes somewhere to write.
        unsafe { *bad = wrs.current() };
        ret.map(|()| 0)
    })
}
