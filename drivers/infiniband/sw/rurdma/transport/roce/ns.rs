// SPDX-License-Identifier: GPL-2.0

//! UDP port 4791 of a network namespace, and the links that it is for.
//!
//! One pair of sockets, IPv4 and IPv6, serves all links of a namespace. The first link opens them, the
//! last one closes them, which a namespace that ends waits for.

use super::receive;
use crate::device::Device;
use crate::kapi::net::udp::{Datagram, Datagrams, UdpSocket};
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
    list: Mutex<KVec<Open>>,
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
}

/// At the module's init.
pub(crate) fn init() -> Result {
    NAMESPACES.set(Arc::pin_init(
        pin_init!(Namespaces { list <- new_mutex!(KVec::new(), "Namespaces::list") }),
        GFP_KERNEL,
    )?)
}

/// At the module's exit, when there are no links any more.
pub(crate) fn exit() {
    drop(NAMESPACES.take());
}

/// The link's netdev is in a namespace: the link receives what comes to its addresses. EADDRINUSE:
/// somebody else has the port, rxe for example. Process context.
pub(super) fn join(dev: &Arc<Device>) -> Result {
    let net = dev.netdev.net().ok_or(ENODEV)?;
    let namespaces = NAMESPACES.get().ok_or(ENODEV)?;
    let mut list = namespaces.list.lock();
    if let Some(open) = list.iter().find(|o| o.links.net == net.id()) {
        return open.links.add(dev);
    }
    let id = net.id();
    let qps = number::table()?;
    let links = Arc::pin_init(
        try_pin_init!(Links {
            net: id,
            qps,
            links <- new_spinlock_irq!(KVec::new(), "Links::links"),
        }),
        GFP_KERNEL,
    )?;
    let v4 = UdpSocket::new(&net, false, UDP_PORT, links.clone())?;
    let v6 = match UdpSocket::new(&net, true, UDP_PORT, links.clone()) {
        Ok(v6) => Some(v6),
        // A kernel without IPv6, or one where it is switched off.
        Err(e) if e.to_errno() == -97 => None,
        Err(e) => return Err(e),
    };
    links.add(dev)?;
    list.push(
        Open {
            _v4: v4,
            _v6: v6,
            links,
        },
        GFP_KERNEL,
    )?;
    Ok(())
}

/// The link receives nothing any more. Process context.
pub(super) fn leave(dev: &Device) {
    let Some(namespaces) = NAMESPACES.get() else {
        return;
    };
    loop {
        let closed = {
            let mut list = namespaces.list.lock();
            for open in list.iter() {
                open.links.remove(dev);
            }
            let empty = list.iter().position(|o| o.links.links.lock().is_empty());
            empty.and_then(|i| list.remove(i).ok())
        };
        if closed.is_none() {
            break;
        }
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

    fn remove(&self, dev: &Device) {
        let gone = {
            let mut links = self.links.lock();
            let at = links.iter().position(|d| core::ptr::eq(&**d, dev));
            at.and_then(|i| links.remove(i).ok())
        };
        drop(gone);
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
    fn received(this: ArcBorrow<'_, Self>, datagram: &Datagram<'_>) {
        receive::datagram(&this, datagram);
    }
}
