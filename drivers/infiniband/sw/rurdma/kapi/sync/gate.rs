// SPDX-License-Identifier: GPL-2.0

//! A gate: many pass through for a short time, one closes it and waits until all have left.

use kernel::prelude::*;
use kernel::sync::atomic::ordering::{Acquire, Full, Relaxed, Release};
use kernel::sync::atomic::Atomic;
use kernel::sync::Completion;

const CLOSED: u32 = 1 << 31;

/// Counts who is inside; once closed nobody enters.
#[pin_data]
pub(crate) struct Gate {
    /// Number of those inside, and [`CLOSED`].
    inside: Atomic<u32>,
    #[pin]
    empty: Completion,
}

impl Gate {
    /// An open gate.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inside: Atomic::new(0),
            empty <- Completion::new(),
        })
    }

    /// Enters, unless the gate is closed. Any context; every success is followed by a
    /// [`Gate::leave`].
    #[inline]
    pub(crate) fn enter(&self) -> bool {
        if self.inside.fetch_add(1, Acquire) & CLOSED == 0 {
            return true;
        }
        self.leave();
        false
    }

    /// Leaves. Any context.
    #[inline]
    pub(crate) fn leave(&self) {
        if self.inside.fetch_sub(1, Release) == CLOSED | 1 {
            self.empty.complete_all();
        }
    }

    /// Closes the gate without waiting. Any context.
    pub(crate) fn close(&self) {
        let mut old = self.inside.load(Relaxed);
        while old & CLOSED == 0 {
            match self.inside.cmpxchg(old, old | CLOSED, Full) {
                Ok(_) => break,
                Err(now) => old = now,
            }
        }
    }

    /// Closes the gate and waits until everyone has left. Process context.
    pub(crate) fn close_and_wait(&self) {
        self.close();
        // A late `enter` that fails may complete once more; that is harmless.
        if self.inside.load(Acquire) != CLOSED {
            self.empty.wait_for_completion();
        }
    }
}
