// SPDX-License-Identifier: GPL-2.0

//! Access that can be ended at any time, in any context, without waiting for anybody who sleeps.

#![forbid(unsafe_code)]

use crate::kapi::sync::{new_spinlock_irq, SpinLockIrq, SpinLockIrqGuard};
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::Arc;

/// What a memory window lends: each copy by way of it is made with the lease locked, and only while
/// the term is the one that it was granted for.
#[pin_data]
pub(crate) struct Lease {
    /// The term in force; one that has ended has another number.
    #[pin]
    term: SpinLockIrq<u32>,
}

/// A grant of the present term.
pub(super) struct Grant {
    lease: Arc<Lease>,
    term: u32,
}

impl Lease {
    /// A lease in its first term. Process context.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self { term <- new_spinlock_irq!(0, "Lease::term") }),
            GFP_KERNEL,
        )
    }

    /// Ends the term: when this returns, no copy of it is under way, and none will be. Any context.
    pub(crate) fn end(&self) {
        let mut term = self.term.lock();
        *term = term.wrapping_add(1);
    }

    /// Grants the present term.
    pub(super) fn grant(self: &Arc<Self>) -> Grant {
        Grant {
            lease: self.clone(),
            term: *self.term.lock(),
        }
    }
}

impl Grant {
    /// Keeps the term from ending. EFAULT if it is over.
    pub(super) fn hold(&self) -> Result<SpinLockIrqGuard<'_, u32>> {
        let term = self.lease.term.lock();
        if *term != self.term {
            return Err(EFAULT);
        }
        Ok(term)
    }
}
