// SPDX-License-Identifier: GPL-2.0

//! Delayed works that can be put off and called off, which the kernel crate's cannot.

use crate::bindings;
use kernel::sync::Arc;
use kernel::workqueue::{HasDelayedWork, Queue, Work, WorkItem};

/// The C work of an object.
fn raw<T, const ID: u64>(this: &Arc<T>) -> *mut bindings::work_struct
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasDelayedWork<T, ID>,
{
    // SAFETY: The object lives; what comes out is a field of it.
    unsafe { Work::raw_get(T::raw_get_work(Arc::as_ptr(this).cast_mut())).cast() }
}

/// Runs the work `ms` milliseconds from now, not earlier and not twice. Any context. Does not wait
/// for one that is running.
pub(crate) fn arm<T, const ID: u64>(queue: &Queue, this: &Arc<T>, ms: u32)
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasDelayedWork<T, ID> + Send + Sync + 'static,
{
    let work = raw(this);
    // The queue owns a reference while the work is pending, as the kernel crate has it.
    let owned = Arc::into_raw(this.clone());
    // SAFETY: `Queue` is transparent; the work was initialised as a delayed one to run `T::run`
    // with that reference.
    let pending = unsafe {
        bindings::rurdma_mod_delayed_work(core::ptr::from_ref(queue).cast_mut().cast(), work, ms)
    };
    if pending {
        // SAFETY: It was pending with a reference of its own, so this one is still ours.
        drop(unsafe { Arc::from_raw(owned) });
    }
}

/// Calls the work off, and waits for it if it is running. Process context; not from the work.
pub(crate) fn disarm<T, const ID: u64>(this: &Arc<T>)
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasDelayedWork<T, ID> + Send + Sync + 'static,
{
    // SAFETY: The work was initialised as a delayed one.
    if unsafe { bindings::rurdma_cancel_delayed_work_sync(raw(this)) } {
        // SAFETY: It was pending, and the queue gave it up: its reference is ours.
        drop(unsafe { Arc::from_raw(Arc::as_ptr(this)) });
    }
}
