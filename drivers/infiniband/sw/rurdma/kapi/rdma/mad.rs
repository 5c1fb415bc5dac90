// SPDX-License-Identifier: GPL-2.0

//! Management datagrams that the driver answers itself.

use crate::bindings;
use crate::kapi::rdma::ops::{device_of, Driver};
use crate::proto::wire::mad::MAD_LEN;
use core::mem::size_of;
use kernel::prelude::*;

const _: () = assert!(size_of::<bindings::ib_mad>() == MAD_LEN);

const SUCCESS: c_int = bindings::ib_mad_result_IB_MAD_RESULT_SUCCESS as c_int;
const REPLY: c_int = bindings::ib_mad_result_IB_MAD_RESULT_REPLY as c_int;

/// # Safety
///
/// Called by the core with a living device, a MAD that came for it, or that is asked for by way of sysfs, and room
/// for the answer elsewhere. Process context.
pub(super) unsafe extern "C" fn process_mad<D: Driver>(
    dev: *mut bindings::ib_device,
    _flags: c_int,
    _port: u32,
    _wc: *const bindings::ib_wc,
    _grh: *const bindings::ib_grh,
    request: *const bindings::ib_mad,
    response: *mut bindings::ib_mad,
    _response_len: *mut usize,
    _pkey_index: *mut u16,
) -> c_int {
    // SAFETY: By the caller's promise.
    let Ok(dev) = (unsafe { device_of::<D>(dev) }) else {
        return bindings::ib_mad_result_IB_MAD_RESULT_FAILURE as c_int;
    };
    // SAFETY: By the caller's promise they are `MAD_LEN` bytes each, which nobody else accesses meanwhile, and
    // do not overlap; any bytes will do.
    let (request, response) = unsafe {
        (
            &*request.cast::<[u8; MAD_LEN]>(),
            &mut *response.cast::<[u8; MAD_LEN]>(),
        )
    };
    if D::process_mad(dev, request, response) {
        SUCCESS | REPLY
    } else {
        // The core looks for somebody else, then says that the method or the attribute is not supported.
        SUCCESS
    }
}
