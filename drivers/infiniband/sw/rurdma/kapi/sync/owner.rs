// SPDX-License-Identifier: GPL-2.0

//! State that one context at a time works on, and nobody waits for.
//!
//! Whoever has work tries to become the owner. If somebody else is, it leaves a note, and the owner
//! looks for notes before it leaves: no work is lost, and no context ever spins or sleeps for
//! another, so a softirq that interrupts the owner is served too.

use core::cell::UnsafeCell;
use kernel::sync::atomic::ordering::{Full, Relaxed};
use kernel::sync::atomic::Atomic;
use kernel::time::delay::fsleep;
use kernel::time::Delta;

const OWNED: u32 = 1;
const PENDING: u32 = 2;

/// What the owner found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is nothing more to do that a new call would not announce.
    Done,
    /// The budget is used up, there may be more: somebody has to call again.
    More,
}

/// State with an owner.
///
/// # Invariants
///
/// `data` is accessed by the context that set `OWNED`, until it clears it.
pub(crate) struct Owner<T> {
    state: Atomic<u32>,
    data: UnsafeCell<T>,
}

// SAFETY: By the type invariant one context at a time has access.
unsafe impl<T: Send> Send for Owner<T> {}
// SAFETY: As above.
unsafe impl<T: Send> Sync for Owner<T> {}

impl<T> Owner<T> {
    /// Without an owner.
    pub(crate) const fn new(data: T) -> Self {
        Self {
            state: Atomic::new(0),
            data: UnsafeCell::new(data),
        }
    }

    /// Runs `f` as the owner, again for each note that others leave meanwhile. If there is an owner
    /// already, leaves a note instead; then the result is `Done`.
    ///
    /// `f` must not call `run` of the same state (it would only leave a note). With `More` the
    /// ownership is given up all the same, notes included: the caller sees to another call.
    pub(crate) fn run(&self, mut f: impl FnMut(&mut T) -> Turn) -> Turn {
        if !self.acquire_or_note() {
            return Turn::Done;
        }
        loop {
            // INVARIANT: This context set `OWNED`.
            // SAFETY: By the type invariant.
            let turn = f(unsafe { &mut *self.data.get() });
            if turn == Turn::More {
                self.state.xchg(0, Full);
                return Turn::More;
            }
            // Full: what was done as the owner comes before the release, and the note before
            // the work that it announces.
            if self.state.cmpxchg(OWNED, 0, Full).is_ok() {
                return Turn::Done;
            }
            self.state.xchg(OWNED, Full);
        }
    }

    /// Runs `f` as the owner, after whoever is it now; that takes a moment, as owners have budgets.
    /// Notes that come meanwhile are lost: the caller sees to a `run` where that matters. Process
    /// context; for the beginning and the end of things.
    pub(crate) fn exclusive<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        while self.state.cmpxchg(0, OWNED, Full).is_err() {
            fsleep(Delta::from_micros(50));
        }
        // INVARIANT: This context set `OWNED`.
        // SAFETY: By the type invariant.
        let ret = f(unsafe { &mut *self.data.get() });
        self.state.xchg(0, Full);
        ret
    }

    /// Becomes the owner, or leaves a note.
    fn acquire_or_note(&self) -> bool {
        let mut old = self.state.load(Relaxed);
        loop {
            let new = if old & OWNED == 0 {
                OWNED
            } else {
                old | PENDING
            };
            // Full: the work that is announced comes before the note.
            match self.state.cmpxchg(old, new, Full) {
                Ok(_) => return old & OWNED == 0,
                Err(now) => old = now,
            }
        }
    }
}
