// SPDX-License-Identifier: GPL-2.0

//! A client of the core, to be told in time who gets a device and who loses it.
//!
//! The core gives a device to its clients in the order in which they were registered, and takes it from them in the
//! opposite order (`enable_device_and_get()`, `disable_device()`). Its own MAD services are clients, too, and
//! registered by ib_core: whoever comes later has the device after they have it, and loses it before they do.

use crate::bindings;
use crate::kapi::errno::not_supported;
use crate::kapi::rdma::ops::{device_of, Driver};
use core::marker::PhantomData;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::types::Opaque;

/// A registered client for the devices of driver `D`; unregistered on drop.
pub(crate) struct ClientRegistration<D: Driver> {
    client: Pin<KBox<Opaque<bindings::ib_client>>>,
    _driver: PhantomData<D>,
}

// SAFETY: The client is only used by the core, which locks.
unsafe impl<D: Driver> Send for ClientRegistration<D> {}
// SAFETY: As above.
unsafe impl<D: Driver> Sync for ClientRegistration<D> {}

impl<D: Driver> ClientRegistration<D> {
    /// Registers, before there are devices of the driver. Process context.
    pub(crate) fn new() -> Result<Self> {
        let client = KBox::pin(Opaque::<bindings::ib_client>::zeroed(), GFP_KERNEL)?;
        // SAFETY: The memory is ours until the registration.
        unsafe {
            (*client.get()).name = c"rurdma".as_char_ptr();
            (*client.get()).add = Some(add::<D>);
            (*client.get()).remove = Some(remove::<D>);
        }
        // SAFETY: The client is pinned and lives until the drop has unregistered it.
        to_result(unsafe { bindings::ib_register_client(client.get()) })?;
        Ok(Self {
            client,
            _driver: PhantomData,
        })
    }
}

impl<D: Driver> Drop for ClientRegistration<D> {
    fn drop(&mut self) {
        // SAFETY: Registered by `new`. No callback runs after the return.
        unsafe { bindings::ib_unregister_client(self.client.get()) };
    }
}

/// # Safety
///
/// Called by the core with a living device, of whatever driver. Process context.
unsafe extern "C" fn add<D: Driver>(raw: *mut bindings::ib_device) -> c_int {
    // SAFETY: By the caller's promise.
    if unsafe { (*raw).ops.driver_id } != D::DRIVER_ID {
        // The core will not ask for its removal.
        return not_supported().to_errno();
    }
    // SAFETY: By the caller's promise it lives, and by its driver's number it is one of ours.
    if let Ok(dev) = unsafe { device_of::<D>(raw) } {
        D::users_come(dev);
    }
    0
}

/// # Safety
///
/// Called by the core with a living device that [`add`] has taken. Process context, without locks of the core's
/// that a user of the device could wait for.
unsafe extern "C" fn remove<D: Driver>(raw: *mut bindings::ib_device, _data: *mut c_void) {
    // SAFETY: By the caller's promise; `add` takes devices of ours only.
    if let Ok(dev) = unsafe { device_of::<D>(raw) } {
        D::users_go(dev);
    }
}
