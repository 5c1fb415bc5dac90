// SPDX-License-Identifier: GPL-2.0

//! `rdma link add NAME type rurdma netdev NETDEV`.

#![forbid(unsafe_code)]

use crate::device::Device;
use crate::kapi::errno::not_supported;
use crate::kapi::net::netdev::{NetDevice, TYPE_ETHER, TYPE_LOOPBACK, TYPE_NONE};
use crate::kapi::rdma::link::{LinkOps, LinkType};
use crate::transport::iwarp::IWARP;
use crate::transport::roce::ROCE;
use kernel::prelude::*;
use kernel::str::CStr;

/// Links that speak iWARP.
pub(crate) struct IwarpLink;

static IWARP_OPS: LinkOps = LinkOps::new();

impl LinkType for IwarpLink {
    const NAME: &'static CStr = c"rurdma";

    fn newlink(name: &CStr, netdev: &NetDevice) -> Result {
        // Anything that carries IP: TCP does the rest.
        if !matches!(netdev.kind(), TYPE_ETHER | TYPE_LOOPBACK | TYPE_NONE) {
            return Err(not_supported());
        }
        Device::add_link(name, netdev, &IWARP, &IWARP_OPS)
    }

    fn ops() -> &'static LinkOps {
        &IWARP_OPS
    }
}

/// Links that speak RoCEv2.
pub(crate) struct RoceLink;

static ROCE_OPS: LinkOps = LinkOps::new();

impl LinkType for RoceLink {
    const NAME: &'static CStr = c"rurdma_roce";

    fn newlink(name: &CStr, netdev: &NetDevice) -> Result {
        // The core makes GIDs for Ethernet only. It has those of a VLAN in the table of the netdev below, and none
        // in a VLAN's own (is_eth_port_of_netdev_filter() of roce_gid_mgmt.c).
        if netdev.kind() != TYPE_ETHER || netdev.is_vlan() {
            return Err(not_supported());
        }
        Device::add_link(name, netdev, &ROCE, &ROCE_OPS)
    }

    fn ops() -> &'static LinkOps {
        &ROCE_OPS
    }
}
