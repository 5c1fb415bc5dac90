// SPDX-License-Identifier: GPL-2.0

//! Workqueues of our own.

use crate::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::Arc;
use kernel::workqueue::{HasWork, Queue, Work, WorkItem};

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
    /// Any CPU does its works, as the scheduler finds best.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        Self::unbound(name, false, false)
    }

    /// The same, but it makes progress under memory pressure: storage runs over our connections
    /// (`WQ_MEM_RECLAIM`).
    pub(crate) fn new_reclaim(name: &'static CStr) -> Result<Self> {
        Self::unbound(name, true, false)
    }

    /// The same, and its works do not wait for those of users (`WQ_HIGHPRI`): they are what a softirq or a process's
    /// own system call has left.
    pub(crate) fn new_urgent(name: &'static CStr) -> Result<Self> {
        Self::unbound(name, true, true)
    }

    fn unbound(name: &'static CStr, reclaim: bool, urgent: bool) -> Result<Self> {
        // SAFETY: `name` is a C string without format characters that lives on.
        Self::from_raw(unsafe {
            bindings::rurdma_alloc_workqueue(name.as_char_ptr(), reclaim, urgent)
        })
    }

    /// As [`Self::new_urgent`], but a work is done by the CPU that it is queued on ([`Self::enqueue_on`]).
    pub(crate) fn new_percpu(name: &'static CStr) -> Result<Self> {
        // SAFETY: As above.
        Self::from_raw(unsafe { bindings::rurdma_alloc_percpu_workqueue(name.as_char_ptr()) })
    }

    fn from_raw(queue: *mut bindings::workqueue_struct) -> Result<Self> {
        // INVARIANT: Just made, or null.
        Ok(Self(NonNull::new(queue).ok_or(ENOMEM)?))
    }

    /// Has a CPU do a work. One that is queued already stays where it is, one that is running is done again where it
    /// runs. Any context.
    pub(crate) fn enqueue_on<T, const ID: u64>(&self, cpu: Cpu, this: &Arc<T>)
    where
        T: WorkItem<ID, Pointer = Arc<T>> + HasWork<T, ID> + Send + Sync + 'static,
    {
        // SAFETY: The object lives; what comes out is a field of it.
        let work = unsafe { Work::raw_get(T::raw_get_work(Arc::as_ptr(this).cast_mut())) };
        // The queue owns a reference while the work is pending, as the kernel crate has it.
        let owned = Arc::into_raw(this.clone());
        // SAFETY: By the type invariants queue and CPU are there; the work was initialised to run `T::run` with
        // that reference.
        let queued = unsafe { bindings::rurdma_queue_work_on(cpu.0, self.0.as_ptr(), work.cast()) };
        if !queued {
            // SAFETY: It was pending with a reference of its own, so this one is still ours.
            drop(unsafe { Arc::from_raw(owned) });
        }
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

/// A CPU of this machine.
///
/// # Invariants
///
/// It runs or has run, so that works may be queued there.
#[derive(Clone, Copy)]
pub(crate) struct Cpu(u32);

impl Cpu {
    /// Another than this one: the next that runs and does works of the kernel (`isolcpus=`). `None` if
    /// there is none. Any context; it may have changed already.
    #[inline]
    pub(crate) fn other() -> Option<Self> {
        // SAFETY: Pure function.
        let cpu = unsafe { bindings::rurdma_other_cpu() };
        // INVARIANT: It is one that runs, or less than 0.
        u32::try_from(cpu).ok().map(Self)
    }

    /// This one. Any context; it may have changed already.
    #[inline]
    pub(crate) fn this() -> Self {
        // SAFETY: Pure function.
        // INVARIANT: It runs.
        Self(unsafe { bindings::rurdma_this_cpu() })
    }
}

/// Whether somebody else wants this CPU. Any context; it may have changed already.
pub(crate) fn others_wait() -> bool {
    // SAFETY: Of the present CPU.
    unsafe { bindings::rurdma_others_wait() }
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
