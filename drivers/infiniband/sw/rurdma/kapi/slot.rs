// SPDX-License-Identifier: GPL-2.0

//! A place in static memory for what lives from the module's init to its exit.

use core::marker::PhantomData;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::{Acquire, Full};
use kernel::sync::atomic::Atomic;
use kernel::sync::{rcu, Arc};

/// Holds an `Arc<T>` or nothing.
///
/// # Invariants
///
/// `raw` is 0 or from `Arc::into_raw`, owned by the slot.
pub(crate) struct Slot<T: Send + Sync + 'static> {
    raw: Atomic<usize>,
    _own: PhantomData<Arc<T>>,
}

// SAFETY: The slot hands out `Arc<T>` only.
unsafe impl<T: Send + Sync> Sync for Slot<T> {}

impl<T: Send + Sync + 'static> Slot<T> {
    /// Empty, for a `static`.
    pub(crate) const fn new() -> Self {
        Self {
            raw: Atomic::new(0),
            _own: PhantomData,
        }
    }

    /// Fills the slot. EBUSY if it is full.
    pub(crate) fn set(&self, value: Arc<T>) -> Result {
        let raw = Arc::into_raw(value);
        if self.raw.cmpxchg(0, raw.expose_provenance(), Full).is_err() {
            // SAFETY: `raw` is from `into_raw` above, and the slot did not take it.
            drop(unsafe { Arc::from_raw(raw) });
            return Err(EBUSY);
        }
        Ok(())
    }

    /// What is in the slot. Any context.
    pub(crate) fn get(&self) -> Option<Arc<T>> {
        let _guard = rcu::read_lock();
        let raw: *const T = core::ptr::with_exposed_provenance(self.raw.load(Acquire));
        if raw.is_null() {
            return None;
        }
        // SAFETY: By the type invariant; `take` gives the reference back after a grace period only.
        let held = core::mem::ManuallyDrop::new(unsafe { Arc::from_raw(raw) });
        Some(Arc::clone(&held))
    }

    /// Empties the slot. Process context.
    pub(crate) fn take(&self) -> Option<Arc<T>> {
        let raw: *const T = core::ptr::with_exposed_provenance(self.raw.xchg(0, Full));
        if raw.is_null() {
            return None;
        }
        // SAFETY: May be called from process context.
        unsafe { crate::bindings::synchronize_rcu() };
        // SAFETY: By the type invariant; the slot gave it up.
        Some(unsafe { Arc::from_raw(raw) })
    }
}
