// SPDX-License-Identifier: GPL-2.0

//! UDP port 4791 of a network namespace, and the links that it is for.
//!
//! One pair of sockets, IPv4 and IPv6, serves all links of a namespace. The first link opens them, the
//! last one closes them, which a namespace that ends waits for.
//!
//! Sockets are opened and closed with `Namespaces::list` held, and with the RTNL where a netdev arrives or
//! leaves. Nothing that this takes waits for either. No module is loaded for it: IPv4 and IPv6 are built in
//! (CONFIG_IPV6 is yes or no), and where IPv6 is switched off no socket of it is asked for.

use super::lanes::Lanes;
use super::receive;
use crate::device::Device;
use crate::kapi::net::netdev::NetNs;
use crate::kapi::net::udp::{has_ipv6, Datagrams, SuperPacket, UdpSocket};
use crate::kapi::slot::Slot;
use crate::kapi::sync::{new_spinlock_irq, SpinLockIrq};
use crate::kapi::table::ObjTable;
use crate::proto::wire::ib::{QPN_GSI, UDP_PORT};
use crate::qp::{number, Qp};
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, ArcBorrow, Mutex};

static NAMESPACES: Slot<Namespaces> = Slot::new();

/// Those with a link.
#[pin_data]
pub(crate) struct Namespaces {
    #[pin]
    list: Mutex<List>,
}

struct List {
    /// Links that have begun and are not over.
    links: KVec<Arc<Device>>,
    /// Where they are. A link is in one at most.
    open: KVec<Open>,
}

/// A namespace whose sockets are open. The sockets go first.
struct Open {
    _v4: UdpSocket,
    _v6: Option<UdpSocket>,
    links: Arc<Links>,
}

/// The links of a namespace.
#[pin_data]
pub(super) struct Links {
    /// Which namespace; only compared.
    net: usize,
    /// All QPs, of other namespaces too.
    qps: Arc<ObjTable<Qp>>,
    #[pin]
    links: SpinLockIrq<KVec<Arc<Device>>>,
    lanes: Lanes,
}

/// At the module's init.
pub(crate) fn init() -> Result {
    let none = List {
        links: KVec::new(),
        open: KVec::new(),
    };
    NAMESPACES.set(Arc::pin_init(
        pin_init!(Namespaces { list <- new_mutex!(none, "Namespaces::list") }),
        GFP_KERNEL,
    )?)
}

/// At the module's exit, when there are no links any more.
pub(crate) fn exit() {
    drop(NAMESPACES.take());
}

/// A link begins: it receives what comes to its addresses, wherever its netdev moves, until [`end`].
/// EADDRINUSE: somebody else has the port, rxe for example. Process context.
pub(super) fn begin(dev: &Arc<Device>) -> Result {
    let namespaces = NAMESPACES.get().ok_or(ENODEV)?;
    let mut list = namespaces.list.lock();
    list.links.push(dev.clone(), GFP_KERNEL)?;
    list.settle(dev).inspect_err(|_| list.forget(dev))
}

/// The netdev of a link is in a namespace: the link receives there. EADDRINUSE: as above. Process context.
pub(super) fn arrive(dev: &Arc<Device>) -> Result {
    let namespaces = NAMESPACES.get().ok_or(ENODEV)?;
    let mut list = namespaces.list.lock();
    // Whoever tells of the netdev may know of it before it has begun, or when it is over.
    if !list.links.iter().any(|d| Arc::ptr_eq(d, dev)) {
        return Ok(());
    }
    list.settle(dev)
}

/// The netdev leaves: the link receives nothing until it arrives. Process context.
pub(super) fn leave(dev: &Device) {
    if let Some(namespaces) = NAMESPACES.get() {
        namespaces.list.lock().take_out(dev);
    }
}

/// The link is over. Process context.
pub(super) fn end(dev: &Device) {
    if let Some(namespaces) = NAMESPACES.get() {
        let mut list = namespaces.list.lock();
        list.forget(dev);
        list.take_out(dev);
    }
}

impl List {
    /// The link is not known any more.
    fn forget(&mut self, dev: &Device) {
        let at = self.links.iter().position(|d| core::ptr::eq(&**d, dev));
        drop(at.and_then(|i| self.links.remove(i).ok()));
    }

    /// The link is nowhere.
    fn take_out(&mut self, dev: &Device) {
        let Some(at) = self.open.iter().position(|o| o.links.remove(dev)) else {
            return;
        };
        if self.open.get(at).is_some_and(|o| o.links.is_empty()) {
            // With the lock held: the next one to open them finds the port free.
            drop(self.open.remove(at));
        }
    }

    /// The link is where its netdev is. ENODEV: that is going.
    ///
    /// A move takes the link out first, then changes the namespace, then has it arrive. Whatever of that
    /// comes while we are at it waits for the lock, and sets right what we did; what has come before is seen
    /// here, at the latest by looking again.
    fn settle(&mut self, dev: &Arc<Device>) -> Result {
        loop {
            let net = dev.netdev.net().filter(|_| dev.netdev.is_registered());
            let Some(net) = net else {
                self.take_out(dev);
                return Err(ENODEV);
            };
            let is_here = |o: &Open| o.links.net == net.id() && o.links.has(dev);
            if !self.open.iter().any(is_here) {
                self.take_out(dev);
                self.enter(dev, &net)?;
            }
            if dev.netdev.is_in_ns(net.id()) && dev.netdev.is_registered() {
                return Ok(());
            }
        }
    }

    /// The link, which is nowhere, is in this namespace.
    fn enter(&mut self, dev: &Arc<Device>, net: &NetNs) -> Result {
        if let Some(open) = self.open.iter().find(|o| o.links.net == net.id()) {
            return open.links.add(dev);
        }
        let id = net.id();
        let (qps, lanes) = (number::table()?, Lanes::new()?);
        let links = Arc::pin_init(
            try_pin_init!(Links {
                net: id,
                qps,
                links <- new_spinlock_irq!(KVec::new(), "Links::links"),
                lanes,
            }),
            GFP_KERNEL,
        )?;
        let socket = |v6| UdpSocket::new(net, v6, UDP_PORT, links.clone());
        let open = Open {
            _v4: socket(false)?,
            _v6: has_ipv6().then(|| socket(true)).transpose()?,
            links: links.clone(),
        };
        links.add(dev)?;
        self.open.push(open, GFP_KERNEL)?;
        Ok(())
    }
}

impl Links {
    fn add(&self, dev: &Arc<Device>) -> Result {
        let mut fresh = KVec::with_capacity(1, GFP_KERNEL)?;
        loop {
            // Room is made without the lock.
            let mut links = self.links.lock();
            if fresh.capacity() > links.len() {
                for d in links.iter() {
                    fresh.push_within_capacity(d.clone()).map_err(|_| ENOMEM)?;
                }
                fresh
                    .push_within_capacity(dev.clone())
                    .map_err(|_| ENOMEM)?;
                core::mem::swap(&mut *links, &mut fresh);
                drop(links);
                return Ok(());
            }
            let room = links.len() + 1;
            drop(links);
            fresh = KVec::with_capacity(room, GFP_KERNEL)?;
        }
    }

    /// False if it was not there.
    fn remove(&self, dev: &Device) -> bool {
        let gone = {
            let mut links = self.links.lock();
            let at = links.iter().position(|d| core::ptr::eq(&**d, dev));
            at.and_then(|i| links.remove(i).ok())
        };
        gone.is_some()
    }

    fn has(&self, dev: &Device) -> bool {
        self.links.lock().iter().any(|d| core::ptr::eq(&**d, dev))
    }

    fn is_empty(&self) -> bool {
        self.links.lock().is_empty()
    }

    /// The first thing that `f` finds.
    pub(super) fn find<R>(&self, f: impl Fn(&Arc<Device>) -> Option<R>) -> Option<R> {
        self.links.lock().iter().find_map(f)
    }

    /// The QP with this number, if its link is in this namespace. Any context.
    pub(super) fn qp(&self, qpn: u32) -> Option<Arc<Qp>> {
        self.qps
            .get(qpn)
            .filter(|qp| qp.dev.netdev.is_in_ns(self.net))
    }

    /// The GSI of the link that has this address.
    pub(super) fn gsi(&self, gid: &[u8; 16]) -> Option<Arc<Qp>> {
        // Few links, and only management asks.
        let mut i = 0;
        loop {
            let dev = self.links.lock().get(i)?.clone();
            // The core makes the QP when it has a table of GIDs, and destroys it before that goes.
            if let Some(gsi) = dev.qps.get(QPN_GSI) {
                if dev.handle.has_gid(gid) {
                    return Some(gsi);
                }
            }
            i += 1;
        }
    }
}

impl Datagrams for Links {
    fn received(this: ArcBorrow<'_, Self>, packets: &SuperPacket<'_>) {
        if !this.lanes.take(this, packets) {
            receive::packets(&this, packets, false);
        }
    }
}
