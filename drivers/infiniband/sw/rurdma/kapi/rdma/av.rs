// SPDX-License-Identifier: GPL-2.0

//! Address vectors: where a connected QP, or an address handle, sends to.

use crate::bindings;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use kernel::error::to_result;
use kernel::prelude::*;

/// The path to a peer of RoCEv2.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Av {
    /// Our own address.
    pub(crate) src: IpAddr,
    /// The peer's.
    pub(crate) dst: IpAddr,
    /// The netdev of our own address.
    pub(crate) ifindex: i32,
    /// Traffic class, or type of service.
    pub(crate) traffic_class: u8,
    /// Time to live.
    pub(crate) hop_limit: u8,
    /// Flow label, in 20 bits.
    pub(crate) flow_label: u32,
    /// Service level: the priority of its packets.
    pub(crate) sl: u8,
    /// Where our own address stands in the GID table.
    sgid_index: u8,
}

/// The IP address that a GID of RoCEv2 stands for.
pub(crate) fn ip_of_gid(gid: [u8; 16]) -> IpAddr {
    let v6 = Ipv6Addr::from(gid);
    match v6.to_ipv4_mapped() {
        Some(v4) => v4.into(),
        None => v6.into(),
    }
}

/// The GID of RoCEv2 that stands for an IP address.
pub(crate) fn gid_of_ip(ip: &IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

impl Av {
    /// Of nothing.
    pub(crate) const NONE: Av = Av {
        src: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        dst: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        ifindex: 0,
        traffic_class: 0,
        hop_limit: 0,
        flow_label: 0,
        sl: 0,
        sgid_index: 0,
    };

    /// Reads what the core has resolved. EINVAL if it is not one of RoCEv2.
    ///
    /// # Safety
    ///
    /// `attr` is an address handle attribute of a port of ours, whose SGID the core holds.
    pub(super) unsafe fn read(attr: *const bindings::rdma_ah_attr) -> Result<Self> {
        let mut raw: bindings::rurdma_av = pin_init::zeroed();
        // SAFETY: By the caller's promise.
        to_result(unsafe { bindings::rurdma_read_av(attr, &mut raw) })?;
        let (src, dst) = (ip_of_gid(raw.sgid), ip_of_gid(raw.dgid));
        if !raw.udp_encap || src.is_ipv4() != dst.is_ipv4() {
            return Err(EINVAL);
        }
        Ok(Self {
            src,
            dst,
            ifindex: raw.ifindex,
            traffic_class: raw.traffic_class,
            hop_limit: raw.hop_limit,
            flow_label: raw.flow_label,
            sl: raw.sl,
            sgid_index: raw.sgid_index,
        })
    }

    /// Tells the core.
    pub(super) fn write(&self, attr: &mut bindings::rdma_ah_attr) {
        let raw = bindings::rurdma_av {
            sgid: gid_of_ip(&self.src),
            dgid: gid_of_ip(&self.dst),
            ifindex: self.ifindex,
            flow_label: self.flow_label,
            traffic_class: self.traffic_class,
            hop_limit: self.hop_limit,
            sl: self.sl,
            sgid_index: self.sgid_index,
            udp_encap: true,
        };
        // SAFETY: Plain data.
        unsafe { bindings::rurdma_write_av(&raw, attr) };
    }
}
