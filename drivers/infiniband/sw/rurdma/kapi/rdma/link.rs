// SPDX-License-Identifier: GPL-2.0

//! `rdma link add NAME type TYPE netdev NETDEV`.

use crate::bindings;
use crate::kapi::net::netdev::NetDevice;
use core::marker::PhantomData;
use kernel::error::from_result;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::types::Opaque;

/// A type of link that a driver makes.
pub(crate) trait LinkType: 'static {
    /// The name in `rdma link add … type NAME`.
    const NAME: &'static CStr;

    /// Makes a device `name` on `netdev`. Under the core's link lock, process context.
    fn newlink(name: &CStr, netdev: &NetDevice) -> Result;

    /// Where the registration of the type is kept.
    fn ops() -> &'static LinkOps;
}

/// `rdma_link_ops`, in static memory.
pub(crate) struct LinkOps(Opaque<bindings::rdma_link_ops>);

// SAFETY: The core's list lock protects what changes.
unsafe impl Sync for LinkOps {}

impl LinkOps {
    /// For a `static`.
    pub(crate) const fn new() -> Self {
        Self(Opaque::zeroed())
    }

    pub(super) fn as_ptr(&self) -> *const bindings::rdma_link_ops {
        self.0.get()
    }
}

/// A registered link type; unregistered on drop.
pub(crate) struct LinkRegistration<T: LinkType>(PhantomData<T>);

impl<T: LinkType> LinkRegistration<T> {
    /// Registers the type, once.
    pub(crate) fn new() -> Self {
        let ops = T::ops().0.get();
        // SAFETY: Static memory that nobody uses before the registration.
        unsafe {
            (*ops).type_ = T::NAME.as_char_ptr();
            (*ops).newlink = Some(newlink::<T>);
            bindings::rdma_link_register(ops);
        }
        Self(PhantomData)
    }
}

impl<T: LinkType> Drop for LinkRegistration<T> {
    fn drop(&mut self) {
        // SAFETY: Registered by `new`.
        unsafe { bindings::rdma_link_unregister(T::ops().0.get()) };
    }
}

/// # Safety
///
/// Called by the core with a name and a netdev that is held for the call.
unsafe extern "C" fn newlink<T: LinkType>(
    name: *const c_char,
    netdev: *mut bindings::net_device,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let (name, netdev) = unsafe { (CStr::from_char_ptr(name), NetDevice::hold(netdev)) };
        T::newlink(name, &netdev)?;
        Ok(0)
    })
}
