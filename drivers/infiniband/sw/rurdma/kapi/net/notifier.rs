// SPDX-License-Identifier: GPL-2.0

//! What happens to network devices.

use super::netdev::NetDevice;
use crate::bindings;
use core::marker::PhantomData;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::types::Opaque;

/// Events of a netdev that a driver on top of it cares about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NetdevEvent {
    /// It is in a namespace now: new, or moved here.
    Register,
    /// It leaves its namespace, on its way to another one.
    MoveAway,
    /// It goes for good.
    Unregister,
    /// It went up or down, or its carrier changed.
    State,
    /// Its address changed.
    Address,
    /// Its MTU changed.
    Mtu,
    /// Its name changed.
    Name,
}

/// Receives the events. Under the RTNL, process context.
pub(crate) trait NetdevNotify: 'static {
    /// Something happened to `netdev`.
    fn event(event: NetdevEvent, netdev: &NetDevice);
}

/// A registered notifier; unregistered on drop.
pub(crate) struct NetdevNotifier<T: NetdevNotify> {
    block: Pin<KBox<Opaque<bindings::notifier_block>>>,
    _notify: PhantomData<T>,
}

// SAFETY: The block is only used by the notifier chain, which locks.
unsafe impl<T: NetdevNotify> Send for NetdevNotifier<T> {}
// SAFETY: As above.
unsafe impl<T: NetdevNotify> Sync for NetdevNotifier<T> {}

impl<T: NetdevNotify> NetdevNotifier<T> {
    /// Registers for all namespaces; there are events for every netdev that exists already.
    pub(crate) fn new() -> Result<Self> {
        let block = KBox::pin(Opaque::<bindings::notifier_block>::zeroed(), GFP_KERNEL)?;
        // SAFETY: The memory is ours until the registration.
        unsafe { (*block.get()).notifier_call = Some(call::<T>) };
        // SAFETY: The block is pinned and lives until the drop has unregistered it.
        to_result(unsafe { bindings::register_netdevice_notifier(block.get()) })?;
        Ok(Self {
            block,
            _notify: PhantomData,
        })
    }
}

impl<T: NetdevNotify> Drop for NetdevNotifier<T> {
    fn drop(&mut self) {
        // SAFETY: Registered by `new`. There are events of the going away of every netdev, which
        // the core makes up; the driver ignores those that are not its own.
        unsafe { bindings::unregister_netdevice_notifier(self.block.get()) };
    }
}

/// # Safety
///
/// Called by the notifier chain.
unsafe extern "C" fn call<T: NetdevNotify>(
    _block: *mut bindings::notifier_block,
    event: usize,
    info: *mut c_void,
) -> c_int {
    // SAFETY: The chain passes a `netdev_notifier_info` with a living netdev.
    let netdev = unsafe { NetDevice::hold(bindings::rurdma_notifier_dev(info)) };
    let event = match event as u32 {
        bindings::netdev_cmd_NETDEV_REGISTER => NetdevEvent::Register,
        // A netdev that is still registered is on its way to another namespace.
        bindings::netdev_cmd_NETDEV_UNREGISTER if netdev.is_registered() => NetdevEvent::MoveAway,
        bindings::netdev_cmd_NETDEV_UNREGISTER => NetdevEvent::Unregister,
        bindings::netdev_cmd_NETDEV_UP
        | bindings::netdev_cmd_NETDEV_DOWN
        | bindings::netdev_cmd_NETDEV_CHANGE => NetdevEvent::State,
        bindings::netdev_cmd_NETDEV_CHANGEADDR => NetdevEvent::Address,
        bindings::netdev_cmd_NETDEV_CHANGEMTU => NetdevEvent::Mtu,
        bindings::netdev_cmd_NETDEV_CHANGENAME => NetdevEvent::Name,
        _ => return bindings::NOTIFY_DONE as c_int,
    };
    T::event(event, &netdev);
    bindings::NOTIFY_DONE as c_int
}
