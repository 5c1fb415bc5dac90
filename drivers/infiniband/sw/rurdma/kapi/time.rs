// SPDX-License-Identifier: GPL-2.0

//! Clocks.

use crate::bindings;

/// `CLOCK_MONOTONIC_RAW` in nanoseconds. Any context.
pub(crate) fn monotonic_raw_ns() -> u64 {
    // SAFETY: May be called in any context.
    unsafe { bindings::rurdma_ktime_raw_ns() }
}
