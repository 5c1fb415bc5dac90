// SPDX-License-Identifier: GPL-2.0

//! Random numbers that cannot be guessed.

use crate::bindings;

/// 32 random bits. Any context.
pub(crate) fn u32() -> u32 {
    // SAFETY: May be called in any context.
    unsafe { bindings::rurdma_random_u32() }
}
