// SPDX-License-Identifier: GPL-2.0

//! State that one context at a time works on, and nobody waits for: see [`crate::proto::owner`].

use crate::proto::owner::Ownership;
pub(crate) use crate::proto::owner::Turn;
use core::cell::UnsafeCell;
use kernel::time::delay::fsleep;
use kernel::time::Delta;

/// Turns of an owner one after the other, before the work is somebody else's.
const TURNS: u32 = 4;

/// State with an owner.
///
/// # Invariants
///
/// `data` is accessed by the owner only.
pub(crate) struct Owner<T> {
    ownership: Ownership,
    data: UnsafeCell<T>,
}

// SAFETY: By the type invariant one context at a time has access.
unsafe impl<T: Send> Send for Owner<T> {}
// SAFETY: As above.
unsafe impl<T: Send> Sync for Owner<T> {}

impl<T> Owner<T> {
    /// Without an owner.
    pub(crate) fn new(data: T) -> Self {
        Self {
            ownership: Ownership::new(),
            data: UnsafeCell::new(data),
        }
    }

    /// Runs `f` as the owner, again for each note that others leave meanwhile, [`TURNS`] times at most. If
    /// there is an owner already, leaves a note instead; then the result is `Done`.
    ///
    /// `f` must not call `run` of the same state (it would only leave a note). With `More` the
    /// ownership is given up all the same, notes included: the caller sees to another call, where it is
    /// neither a softirq nor a process's system call that is kept.
    pub(crate) fn run(&self, mut f: impl FnMut(&mut T) -> Turn) -> Turn {
        self.ownership.run(TURNS, || {
            // INVARIANT: This context is the owner.
            // SAFETY: By the type invariant.
            f(unsafe { &mut *self.data.get() })
        })
    }

    /// Runs `f` as the owner, after whoever is it now; that takes a moment, as owners have budgets.
    /// Notes that come meanwhile are lost: the caller sees to a `run` where that matters. Process
    /// context; for the beginning and the end of things.
    pub(crate) fn exclusive<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        while !self.ownership.try_take() {
            fsleep(Delta::from_micros(50));
        }
        // INVARIANT: This context is the owner.
        // SAFETY: By the type invariant.
        let ret = f(unsafe { &mut *self.data.get() });
        self.ownership.give_up();
        ret
    }
}
