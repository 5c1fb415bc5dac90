// SPDX-License-Identifier: GPL-2.0

//! Multicast groups of a netdev, by GID: an IPv6 address, or one of IPv4 in its mapped form.

use crate::bindings;
use crate::kapi::net::netdev::NetDevice;
use kernel::error::to_result;
use kernel::prelude::*;

/// Is it the address of a group?
pub(crate) fn is_multicast(gid: &[u8; 16]) -> bool {
    // SAFETY: A pure function of 16 bytes.
    unsafe { bindings::rurdma_mc_is_group(gid.as_ptr()) }
}

/// The namespace in which a netdev has joined a group; only compared.
#[derive(Clone, Copy)]
pub(crate) struct Joined(usize);

/// The netdev receives what is sent to a group, until as many calls of [`leave`]. Takes the RTNL:
/// process context. ENODEV: it has no addresses of the family, or is going.
pub(crate) fn join(netdev: &NetDevice, gid: &[u8; 16]) -> Result<Joined> {
    let net = netdev.net().ok_or(ENODEV)?;
    // SAFETY: The netdev and the namespace are held; 16 bytes.
    to_result(unsafe { bindings::rurdma_mc_join(netdev.as_ptr(), net.as_ptr(), gid.as_ptr()) })?;
    Ok(Joined(net.id()))
}

/// The end of one [`join`]. A netdev that moved to another namespace since has left all groups. Takes the
/// RTNL: process context.
pub(crate) fn leave(netdev: &NetDevice, gid: &[u8; 16], joined: Joined) {
    let net = core::ptr::without_provenance(joined.0);
    // SAFETY: The netdev is held; the namespace is only compared; 16 bytes.
    unsafe { bindings::rurdma_mc_leave(netdev.as_ptr(), net, gid.as_ptr()) };
}
