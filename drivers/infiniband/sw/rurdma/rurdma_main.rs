// SPDX-License-Identifier: GPL-2.0

//! rurdma: RDMA for every network card, as one kernel module.
//!
//! An iWARP (RDMAP/DDP/MPA over TCP) and a RoCEv2 (IB transport over UDP) device driver for the
//! kernel's RDMA subsystem. See Documentation/infiniband/rurdma.rst.

use kernel::prelude::*;

mod bindings;

module! {
    type: Rurdma,
    name: "rurdma",
    authors: ["rurdma developers"],
    description: "Software iWARP and RoCEv2 device",
    license: "GPL",
    alias: ["rdma-link-rurdma"],
}

struct Rurdma;

impl kernel::Module for Rurdma {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}
