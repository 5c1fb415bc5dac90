// SPDX-License-Identifier: GPL-2.0

//! Workqueues of our own.

use crate::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::workqueue::Queue;

/// A workqueue that is made and unmade by us.
///
/// # Invariants
///
/// The pointer is a living workqueue.
pub(crate) struct WorkQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: A workqueue may be used from any thread.
unsafe impl Send for WorkQueue {}
// SAFETY: As above.
unsafe impl Sync for WorkQueue {}

impl WorkQueue {
    /// An unbound, freezable-neutral queue.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        Self::alloc(name, false)
    }

    /// The same, but it makes progress under memory pressure: storage runs over our connections
    /// (`WQ_MEM_RECLAIM`).
    pub(crate) fn new_reclaim(name: &'static CStr) -> Result<Self> {
        Self::alloc(name, true)
    }

    fn alloc(name: &'static CStr, reclaim: bool) -> Result<Self> {
        // SAFETY: `name` is a C string without format characters that lives on.
        let queue = unsafe { bindings::rurdma_alloc_workqueue(name.as_char_ptr(), reclaim) };
        Ok(Self(NonNull::new(queue).ok_or(ENOMEM)?))
    }

    /// The queue as the kernel crate knows it.
    pub(crate) fn queue(&self) -> &Queue {
        // SAFETY: By the type invariant the queue lives as long as `self`.
        unsafe { Queue::from_raw(self.0.as_ptr().cast()) }
    }

    /// Waits for everything that was queued before. Process context.
    pub(crate) fn flush(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_flush_workqueue(self.0.as_ptr()) }
    }
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; it drains what is queued first.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) }
    }
}

/// The CPU that is number `n` of those that the machine may have; their numbers may have gaps.
pub(crate) fn nth_cpu(n: u32) -> Option<u32> {
    // SAFETY: Pure function.
    (n < cpu_count() as u32).then(|| unsafe { bindings::rurdma_nth_cpu(n) })
}

/// CPUs that the machine may have.
pub(crate) fn cpu_count() -> i32 {
    // SAFETY: Pure function.
    unsafe { bindings::rurdma_cpu_count() }
}

/// Whether the calling process was killed: it should get to its end.
pub(crate) fn is_killed() -> bool {
    // SAFETY: Reads the present task, which lives.
    unsafe { bindings::rurdma_is_killed() }
}

/// Lets others have the CPU who want it. Process context, without a spinlock.
pub(crate) fn cond_resched() {
    // SAFETY: By the above.
    unsafe { bindings::rurdma_cond_resched() }
}

/// Whether locks may be taken here that softirq must not take.
pub(crate) fn in_process_context() -> bool {
    // SAFETY: Pure function of the present CPU.
    unsafe { bindings::rurdma_in_process_context() }
}
