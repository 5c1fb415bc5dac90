// SPDX-License-Identifier: GPL-2.0

//! The kick: a driver method of the uverbs device object.
//!
//! The tables that declare it are made by the core's macros and so stand in helpers.c; their
//! handler calls [`set_handler`]'s function.

use crate::bindings;
use crate::kapi::rdma::object::Object;
use crate::kapi::rdma::ops::Driver;
use kernel::error::from_result;
use kernel::prelude::*;

/// The tables of the driver's methods.
pub(super) fn uapi_definition() -> *const bindings::uapi_definition {
    // SAFETY: A constant table.
    unsafe { bindings::rurdma_uapi_definition() }
}

/// Lets kicks reach driver `D`.
pub(super) fn set_handler<D: Driver>() {
    // SAFETY: The function lives as long as the module, and so do the tables that use it.
    unsafe { bindings::rurdma_set_kick(Some(kick::<D>)) };
}

/// # Safety
///
/// Called by the ioctl with a living context that is not disassociated meanwhile.
unsafe extern "C" fn kick<D: Driver>(context: *mut bindings::ib_ucontext) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        D::kick(unsafe { Object::<_, D::Ucontext>::get(context) }?)?;
        Ok(0)
    })
}
