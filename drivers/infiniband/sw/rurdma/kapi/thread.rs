// SPDX-License-Identifier: GPL-2.0

//! Threads of the kernel that watch something for a while, and sleep otherwise.

use crate::bindings;
use crate::kapi::task::others_wait;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::error::from_err_ptr;
use kernel::prelude::*;
use kernel::str::CStr;

/// What a thread does.
pub(crate) trait Run: Send + 'static {
    /// Called once, by the thread; returns when [`Me::should_stop`] says so.
    fn run(&mut self, me: &Me);
}

/// A thread; it is stopped when this is dropped, which waits for it. Process context.
///
/// It runs on any CPU that the administrator lets it run on, and is frozen with the system.
///
/// # Invariants
///
/// `task` is a thread made by `start`, with a reference of ours; it has not been stopped. `what` is a
/// `KBox<T>`'s, and the thread's from its first instruction on.
pub(crate) struct Thread<T: Run> {
    task: NonNull<bindings::task_struct>,
    what: NonNull<T>,
}

// SAFETY: A task may be woken and stopped by any thread; `what` is `Send`, and used by one at a time.
unsafe impl<T: Run> Send for Thread<T> {}
// SAFETY: As above.
unsafe impl<T: Run> Sync for Thread<T> {}

impl<T: Run> Thread<T> {
    /// Starts one. EINTR if the calling process was killed. Process context.
    pub(crate) fn start(name: &CStr, what: KBox<T>) -> Result<Self> {
        let what = KBox::into_raw(what);
        // SAFETY: `main::<T>` takes a `KBox<T>`; the name is copied.
        let task = from_err_ptr(unsafe {
            bindings::rurdma_thread_run(Some(main::<T>), what.cast(), name.as_char_ptr())
        })
        // SAFETY: There is no thread that would take it.
        .inspect_err(|_| drop(unsafe { KBox::from_raw(what) }))?;
        // INVARIANT: As just started; C took the reference.
        Ok(Self {
            task: NonNull::new(task).ok_or(ENOMEM)?,
            // SAFETY: A box is never null.
            what: unsafe { NonNull::new_unchecked(what) },
        })
    }

    /// Wakes it, if it sleeps. Any context.
    pub(crate) fn wake(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::wake_up_process(self.task.as_ptr()) };
    }
}

impl<T: Run> Drop for Thread<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; the reference is given back.
        let ret = unsafe { bindings::rurdma_thread_stop(self.task.as_ptr()) };
        if ret != 0 {
            // SAFETY: It was stopped before its first instruction: `main` returns 0.
            drop(unsafe { KBox::from_raw(self.what.as_ptr()) });
        }
    }
}

/// # Safety
///
/// Called as a thread's function with a `KBox<T>`, which it takes over.
unsafe extern "C" fn main<T: Run>(what: *mut c_void) -> c_int {
    // SAFETY: By the caller's promise.
    let mut what = unsafe { KBox::from_raw(what.cast::<T>()) };
    // SAFETY: Of the present thread.
    unsafe { bindings::rurdma_thread_set_freezable() };
    let me = Me(PhantomData);
    what.run(&me);
    drop(what);
    // A thread that is gone could not be stopped.
    while !me.should_stop() {
        me.sleep_unless(|| false);
    }
    0
}

/// The present thread, which was made by [`Thread::start`].
pub(crate) struct Me(PhantomData<*mut ()>);

impl Me {
    /// Whether it is to return.
    pub(crate) fn should_stop(&self) -> bool {
        // SAFETY: By the type.
        unsafe { bindings::rurdma_thread_should_stop() }
    }

    /// Sleeps until it is woken, unless `ready`, which sees whatever was written before a [`Thread::wake`].
    pub(crate) fn sleep_unless(&self, ready: impl FnOnce() -> bool) {
        // SAFETY: Of the present thread, in process context.
        unsafe { bindings::rurdma_thread_going_to_sleep() };
        if !self.should_stop() && !ready() {
            // SAFETY: As above.
            unsafe { bindings::schedule() };
        }
        // SAFETY: As above.
        unsafe { bindings::rurdma_thread_awake() };
    }

    /// Whether the system is about to be suspended.
    pub(crate) fn should_freeze(&self) -> bool {
        // SAFETY: Of the present thread.
        unsafe { bindings::rurdma_thread_freezing() }
    }

    /// Waits until that is over.
    pub(crate) fn freeze(&self) {
        // SAFETY: Of the present thread, in process context without a lock.
        unsafe { bindings::rurdma_thread_freeze() };
    }

    /// Whether the thread has had its share of the CPU.
    pub(crate) fn is_due(&self) -> bool {
        // SAFETY: Of the present thread.
        unsafe { bindings::rurdma_thread_is_due() }
    }

    /// Whether somebody else wants the CPU.
    pub(crate) fn is_in_the_way(&self) -> bool {
        others_wait()
    }

    /// Has the scheduler prefer the thread to those of users, as what interrupts do is (nice -20): it has the CPU as soon as
    /// it wants it, and for short, rather than wait for the end of their slices (EEVDF). Process context.
    pub(crate) fn prefer(&self) {
        // SAFETY: Of the present thread, in process context without a lock.
        unsafe { bindings::rurdma_thread_prefer() };
    }

    /// Sleeps so many microseconds, or up to twice as long, whoever wakes it; afterwards the scheduler may have
    /// another CPU for it. Process context.
    pub(crate) fn nap(&self, us: u32) {
        // SAFETY: Of the present thread, in process context without a lock.
        unsafe { bindings::rurdma_thread_nap(us) };
    }

    /// Passes through the scheduler, for which RCU waits on this CPU. Process context.
    pub(crate) fn breathe(&self) {
        // SAFETY: As above.
        unsafe { bindings::schedule() };
    }
}
