// SPDX-License-Identifier: GPL-2.0

//! The lock of all changes to netdevs.

use crate::bindings;
use kernel::types::NotThreadSafe;

/// The RTNL, held.
pub(crate) struct Rtnl(NotThreadSafe);

impl Rtnl {
    /// Takes it. Process context, not in a netdev notifier, which has it already.
    pub(crate) fn lock() -> Self {
        // SAFETY: Process context; released on drop, by the same thread.
        unsafe { bindings::rtnl_lock() };
        Self(NotThreadSafe)
    }
}

impl Drop for Rtnl {
    fn drop(&mut self) {
        // SAFETY: Held since `lock`.
        unsafe { bindings::rtnl_unlock() };
    }
}
