// SPDX-License-Identifier: GPL-2.0

//! `ib_mw`: a part of an MR under a key of its own.

use crate::bindings;
use crate::kapi::rdma::object::Object;
use crate::kapi::rdma::ops::Driver;
use kernel::error::{from_result, to_result};
use kernel::prelude::*;

/// Types of memory windows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MwType {
    /// Bound by `ibv_bind_mw(3)`; open to every QP of its PD.
    One,
    /// Type 2B: bound by a work request, and open to the QP that it was posted to.
    Two,
}

/// # Safety
///
/// Called by the core to create a window.
pub(super) unsafe extern "C" fn alloc_mw<D: Driver>(
    mw: *mut bindings::ib_mw,
    udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        to_result(unsafe { bindings::rurdma_no_udata_io(udata) })?;
        // SAFETY: By the caller's promise: type and PD are set, and the PD lives.
        let (kind, pd) = unsafe { ((*mw).type_, Object::<_, D::Pd>::get((*mw).pd)?) };
        let kind = match kind {
            bindings::ib_mw_type_IB_MW_TYPE_1 => MwType::One,
            bindings::ib_mw_type_IB_MW_TYPE_2 => MwType::Two,
            _ => return Err(EINVAL),
        };
        let inner = D::alloc_mw(pd, kind)?;
        // SAFETY: The object is being created.
        unsafe {
            (*mw).rkey = D::mw_key(&inner);
            Object::<_, D::Mw>::from_raw(mw).set(inner);
        }
        Ok(0)
    })
}

/// # Safety
///
/// Called by the core to destroy a window.
pub(super) unsafe extern "C" fn dealloc_mw<D: Driver>(mw: *mut bindings::ib_mw) -> c_int {
    // SAFETY: The object is being destroyed.
    if let Some(inner) = unsafe { Object::<_, D::Mw>::from_raw(mw).take() } {
        D::dealloc_mw(&inner);
    }
    0
}
