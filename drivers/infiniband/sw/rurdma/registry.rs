// SPDX-License-Identifier: GPL-2.0

//! All links, and what happens to them when their netdev changes.
//!
//! The core's own look-up by netdev finds one device of a driver only; there may be one of each
//! link type on a netdev.

#![forbid(unsafe_code)]

use crate::device::Device;
use crate::kapi::net::netdev::NetDevice;
use crate::kapi::net::notifier::{NetdevEvent, NetdevNotify};
use crate::kapi::rdma::account;
use crate::kapi::rdma::attr::Event;
use crate::kapi::rdma::linger;
use crate::kapi::slot::Slot;
use crate::kapi::task::WorkQueue;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};

static REGISTRY: Slot<Registry> = Slot::new();

/// The links that exist, from `rdma link add` until the core lets go of the device.
#[pin_data]
pub(crate) struct Registry {
    /// Shared by all links.
    wq: Arc<WorkQueue>,
    /// The same, for what streams.
    streams: Arc<WorkQueue>,
    #[pin]
    links: Mutex<KVec<Arc<Device>>>,
}

/// Makes the registry: at the module's init.
pub(crate) fn init() -> Result {
    let wq = Arc::new(WorkQueue::new_urgent(c"rurdma")?, GFP_KERNEL)?;
    let streams = Arc::new(WorkQueue::new_percpu(c"rurdma-streams")?, GFP_KERNEL)?;
    let late = wq.clone();
    REGISTRY.set(Arc::pin_init(
        pin_init!(Registry {
            wq,
            streams,
            links <- new_mutex!(KVec::new(), "Registry::links"),
        }),
        GFP_KERNEL,
    )?)?;
    account::LATE.set(late)?;
    linger::QUEUE.set(Arc::new(WorkQueue::new(c"rurdma-linger")?, GFP_KERNEL)?)
}

/// The workqueues of all links: of what any CPU does, and of what streams.
pub(crate) fn workqueues() -> Result<(Arc<WorkQueue>, Arc<WorkQueue>)> {
    let registry = REGISTRY.get().ok_or(ENODEV)?;
    Ok((registry.wq.clone(), registry.streams.clone()))
}

/// Waits for the work that was queued.
pub(crate) fn flush() {
    if let Some(registry) = REGISTRY.get() {
        registry.wq.flush();
        registry.streams.flush();
    }
}

/// Drops the registry: at the module's exit, when there are no links any more.
pub(crate) fn exit() {
    drop(linger::QUEUE.take());
    drop(account::LATE.take());
    drop(REGISTRY.take());
}

/// Enters a link, with a GUID that no other link has. EEXIST if the netdev has one of this type
/// already.
pub(crate) fn enter(dev: &Arc<Device>) -> Result {
    let registry = REGISTRY.get().ok_or(ENODEV)?;
    let mut links = registry.links.lock();
    let same = |d: &Arc<Device>| {
        d.netdev.is(&dev.netdev) && d.transport.protocol() == dev.transport.protocol()
    };
    if links.iter().any(same) {
        return Err(EEXIST);
    }
    // A VLAN has the MAC address of the netdev under it, a bridge that of a port.
    while links.iter().any(|d| d.guid() == dev.guid()) {
        dev.renew_guid();
    }
    links.push(dev.clone(), GFP_KERNEL)?;
    Ok(())
}

/// Forgets a link.
pub(crate) fn leave(dev: &Device) {
    let Some(registry) = REGISTRY.get() else {
        return;
    };
    let mut gone = None;
    {
        let mut links = registry.links.lock();
        if let Some(i) = links.iter().position(|d| core::ptr::eq(&**d, dev)) {
            gone = links.remove(i).ok();
        }
    }
    drop(gone);
}

/// Calls `f` with every link on `netdev`, without a lock held.
fn for_links_on(netdev: &NetDevice, f: impl Fn(&Arc<Device>)) {
    let Some(registry) = REGISTRY.get() else {
        return;
    };
    // One of each protocol at most.
    let mut found: [Option<Arc<Device>>; 2] = [None, None];
    {
        let links = registry.links.lock();
        let on = links.iter().filter(|d| d.netdev.is(netdev));
        for (to, dev) in found.iter_mut().zip(on) {
            *to = Some(dev.clone());
        }
    }
    found.iter().flatten().for_each(f);
}

/// Receives the events of all netdevs.
pub(crate) struct Watch;

impl NetdevNotify for Watch {
    fn event(event: NetdevEvent, netdev: &NetDevice) {
        for_links_on(netdev, |dev| match event {
            NetdevEvent::Unregister => {
                dev.transport.netdev_goes(dev);
                dev.handle.unregister_queued();
            }
            NetdevEvent::MoveAway => dev.netdev_moves(),
            // The core reads the GID again; it passes the event on to nobody, but for RoCE.
            NetdevEvent::Address => dev.handle.dispatch(Event::GidChange),
            NetdevEvent::Register => dev.netdev_arrived(),
            NetdevEvent::State | NetdevEvent::Mtu | NetdevEvent::Name => {
                dev.netdev_changed();
            }
        });
    }
}
