// SPDX-License-Identifier: GPL-2.0

//! The network stack as a kernel user of TCP and UDP sees it.

pub(crate) mod addr;
pub(crate) mod errno;
pub(crate) mod group;
pub(crate) mod listen;
pub(crate) mod netdev;
pub(crate) mod notifier;
pub(crate) mod page;
pub(crate) mod rtnl;
pub(crate) mod skb;
pub(crate) mod socket;
pub(crate) mod udp;
pub(crate) mod udp_tx;

use crate::bindings;

/// Waits until no callback that was taken back can still be running. Process context.
pub(crate) fn synchronize() {
    // SAFETY: May be called from process context at any time.
    unsafe { bindings::synchronize_net() };
}
