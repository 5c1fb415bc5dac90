// SPDX-License-Identifier: GPL-2.0

//! `ib_pd`.

use crate::bindings;
use crate::kapi::rdma::object::Object;
use crate::kapi::rdma::ops::{device_of, Driver};
use kernel::error::{from_result, to_result};
use kernel::prelude::*;

/// # Safety
///
/// Called by the core to create a PD.
pub(super) unsafe extern "C" fn alloc_pd<D: Driver>(
    pd: *mut bindings::ib_pd,
    udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        to_result(unsafe { bindings::rurdma_no_udata_io(udata) })?;
        // SAFETY: By the caller's promise `device` is set and lives.
        let dev = unsafe { device_of::<D>((*pd).device) }?;
        let inner = D::alloc_pd(dev)?;
        // SAFETY: The object is being created.
        unsafe { Object::<_, D::Pd>::from_raw(pd).set(inner) };
        Ok(0)
    })
}

/// # Safety
///
/// Called by the core to destroy a PD.
pub(super) unsafe extern "C" fn dealloc_pd<D: Driver>(
    pd: *mut bindings::ib_pd,
    udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        to_result(unsafe { bindings::rurdma_no_udata_io(udata) })?;
        // SAFETY: The object is being destroyed.
        if let Some(inner) = unsafe { Object::<_, D::Pd>::from_raw(pd).take() } {
            D::dealloc_pd(&inner);
        }
        Ok(0)
    })
}
