// SPDX-License-Identifier: GPL-2.0

//! The memory of an `ib_device` stays for a moment after the device has been unregistered.
//!
//! Whoever has a GID of a device gives it back to the device's table, and the core trusts that all have
//! done so when its clients let go of the device. rdma_cm lets go first: `cma_release_dev()` (cma.c,
//! Linux 7.2) calls `cma_dev_put()`, and then `rdma_put_gid_attr()`. If it is kept from its CPU in
//! between, the unregistration, which waited for the former only, ends without it, and the table is
//! freed: `free_gid_work()` oopses. A CPU of a virtual machine that the host does not run is enough.
//!
//! The table goes with the last reference to the device, so one is kept until that must be over.

use crate::bindings;
use crate::kapi::slot::Slot;
use crate::kapi::task::WorkQueue;
use core::ptr::NonNull;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::workqueue::{impl_has_work, new_work, Work, WorkItem};

/// Where it is waited. Full from the module's init to its exit, which waits for the work. The core's own
/// queue is flushed there, so it is none for memory reclaim.
pub(crate) static QUEUE: Slot<WorkQueue> = Slot::new();

/// A device that was unregistered.
///
/// # Invariants
///
/// We own a reference to `raw`'s `struct device`.
#[pin_data(PinnedDrop)]
struct Lingering {
    raw: NonNull<bindings::ib_device>,
    #[pin]
    work: Work<Self>,
}

// SAFETY: A reference to a device may be given back by any thread.
unsafe impl Send for Lingering {}
// SAFETY: As above.
unsafe impl Sync for Lingering {}

impl_has_work! {
    impl HasWork<Self> for Lingering { self.work }
}

impl WorkItem for Lingering {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Pin<KBox<Self>>) {
        wait_for_gids();
        drop(this);
    }
}

#[pinned_drop]
impl PinnedDrop for Lingering {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_put_device(self.raw.as_ptr()) };
    }
}

/// Waits until everyone who was about to give a GID back has done so. Process context.
fn wait_for_gids() {
    // SAFETY: May be called from process context.
    unsafe { bindings::rurdma_wait_for_gids() };
}

/// Keeps a device that has been unregistered, for as long as somebody may still give back a GID of it.
/// Process context.
///
/// # Safety
///
/// `raw` must be a living device.
pub(super) unsafe fn linger(raw: NonNull<bindings::ib_device>) {
    // SAFETY: By the caller's promise.
    unsafe { bindings::rurdma_get_device(raw.as_ptr()) };
    let made = KBox::pin_init(
        // INVARIANT: As taken above.
        pin_init!(Lingering {
            raw,
            work <- new_work!("Lingering"),
        }),
        GFP_KERNEL,
    );
    match (made, QUEUE.get()) {
        (Ok(device), Some(queue)) => queue.queue().enqueue(device),
        (made, _) => {
            wait_for_gids();
            if made.is_err() {
                // SAFETY: As taken above.
                unsafe { bindings::rurdma_put_device(raw.as_ptr()) };
            }
        }
    }
}
