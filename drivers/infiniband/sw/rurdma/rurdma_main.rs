// SPDX-License-Identifier: GPL-2.0

//! rurdma: RDMA for every network card, as one kernel module.
//!
//! A device driver for the kernel's RDMA subsystem that speaks iWARP (RDMAP/DDP/MPA over TCP) and
//! RoCEv2 (the InfiniBand transport over UDP). See Documentation/infiniband/rurdma.rst.
//!
//! `proto/` is the protocol without any I/O, `kapi/` the kernel in safe Rust, the files beside this
//! one are the verbs objects, `transport/` ties protocol and kernel together.

use kernel::prelude::*;

mod ah;
mod bindings;
mod counters;
mod cq;
mod device;
mod doorbell;
mod kapi;
mod link;
mod mcast;
mod mr;
mod mw;
mod pauses;
mod pd;
mod proto;
mod qp;
mod registry;
mod rq;
mod srq;
mod transport;
mod ucontext;
mod verbs;

use crate::kapi::net::notifier::NetdevNotifier;
use crate::kapi::rdma::client::ClientRegistration;
use crate::kapi::rdma::device::unregister_driver;
use crate::kapi::rdma::link::LinkRegistration;
use crate::qp::number;
use crate::transport::iwarp::cm;
use crate::transport::roce::{ns, out};

module! {
    type: Rurdma,
    name: "rurdma",
    authors: ["rurdma developers"],
    description: "Software RDMA for any network device: iWARP and RoCEv2. A link is made by: rdma link add NAME type rurdma netdev NETDEV (or type rurdma_roce)",
    license: "GPL",
    alias: ["rdma-link-rurdma", "rdma-link-rurdma_roce"],
    // Those that can be changed while the module is loaded are in helpers.c.
    params: {
        mpa_revision: u8 {
            default: 2,
            description: "iWARP: MPA revision to initiate connections with (1 or 2)",
        },
        mpa_peer_to_peer: u8 {
            default: 1,
            description: "iWARP: initiate peer to peer, so that the responder may send first (0: off)",
        },
        roce_gso: u8 {
            default: 1,
            description: "RoCE: packets leave together, to be cut by the stack or the card (0: one by one)",
        },
    },
}

/// What lives as long as the module.
struct Rurdma {
    /// New links are made through this. Dropped first.
    iwarp_link: Option<LinkRegistration<link::IwarpLink>>,
    roce_link: Option<LinkRegistration<link::RoceLink>>,
    /// Dropped when there are no devices any more.
    client: Option<ClientRegistration<verbs::Rurdma>>,
    netdevs: Option<NetdevNotifier<registry::Watch>>,
}

impl kernel::Module for Rurdma {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // A reference in 7.2, a value in 7.3.
        #[allow(clippy::clone_on_copy)]
        cm::KNOBS.set(
            module_parameters::mpa_revision.value().clone(),
            module_parameters::mpa_peer_to_peer.value().clone() != 0,
        );
        #[allow(clippy::clone_on_copy)]
        out::KNOBS.set(module_parameters::roce_gso.value().clone() != 0);
        let (netdevs, client) = Self::begin().inspect_err(|_| Self::end())?;
        Ok(Self {
            iwarp_link: Some(LinkRegistration::new()),
            roce_link: Some(LinkRegistration::new()),
            client: Some(client),
            netdevs: Some(netdevs),
        })
    }
}

impl Rurdma {
    /// What the links need.
    fn begin() -> Result<(
        NetdevNotifier<registry::Watch>,
        ClientRegistration<verbs::Rurdma>,
    )> {
        registry::init()?;
        number::init()?;
        cm::init()?;
        ns::init()?;
        Ok((NetdevNotifier::new()?, ClientRegistration::new()?))
    }

    /// The end of whatever of that has begun, when there are no links any more.
    fn end() {
        cm::exit();
        ns::exit();
        // What was removed from a table is freed by code of ours, and refers to the workqueue.
        registry::flush();
        kapi::table::barrier();
        number::exit();
        registry::exit();
    }
}

impl Drop for Rurdma {
    fn drop(&mut self) {
        drop(self.iwarp_link.take());
        drop(self.roce_link.take());
        unregister_driver::<verbs::Rurdma>();
        drop(self.client.take());
        drop(self.netdevs.take());
        Self::end();
    }
}
