// SPDX-License-Identifier: GPL-2.0

//! Multicast groups of a netdev, by GID: an IPv6 address, or one of IPv4 in its mapped form.

use crate::bindings;
use crate::kapi::net::netdev::NetDevice;
use crate::kapi::net::rtnl::Rtnl;
use kernel::error::to_result;
use kernel::prelude::*;

/// Is it the address of a group?
pub(crate) fn is_multicast(gid: &[u8; 16]) -> bool {
    // SAFETY: A pure function of 16 bytes.
    unsafe { bindings::rurdma_mc_is_group(gid.as_ptr()) }
}

/// The netdev receives what is sent to a group, until as many calls of [`leave`], or until it leaves its
/// namespace. Process context. ENODEV: it has no addresses of the family, or is going.
pub(crate) fn join(_rtnl: &Rtnl, netdev: &NetDevice, gid: &[u8; 16]) -> Result {
    // SAFETY: The netdev and the RTNL are held; 16 bytes.
    to_result(unsafe { bindings::rurdma_mc_join(netdev.as_ptr(), gid.as_ptr()) })
}

/// The end of one [`join`]. Process context.
pub(crate) fn leave(_rtnl: &Rtnl, netdev: &NetDevice, gid: &[u8; 16]) {
    // SAFETY: The netdev and the RTNL are held; 16 bytes.
    unsafe { bindings::rurdma_mc_leave(netdev.as_ptr(), gid.as_ptr()) };
}
