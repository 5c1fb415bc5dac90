// SPDX-License-Identifier: GPL-2.0

//! Parameters of the module that may be changed while it is loaded.

use crate::bindings;

/// `mpa_crc`: whether a connection that begins now asks for CRCs. Any context.
pub(crate) fn mpa_crc() -> bool {
    // SAFETY: Reads a static variable.
    unsafe { bindings::rurdma_mpa_crc() }
}

/// `poll_us`, in nanoseconds. Any context.
pub(crate) fn poll_ns() -> u64 {
    // SAFETY: Reads a static variable.
    u64::from(unsafe { bindings::rurdma_poll_us() }) * 1000
}
