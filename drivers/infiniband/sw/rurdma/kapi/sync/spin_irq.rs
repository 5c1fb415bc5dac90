// SPDX-License-Identifier: GPL-2.0

//! A spinlock that saves and disables interrupts.
//!
//! Verbs may be called with interrupts off (`ib_post_send` from a ULP's own locked section, the
//! CM's `iw_get_qp`), and the receive path runs in softirq: one kind of lock serves all of them.

use crate::bindings;
use kernel::prelude::*;
use kernel::sync::lock;

/// A lock that may be taken in any context.
pub(crate) type SpinLockIrq<T> = lock::Lock<T, SpinLockIrqBackend>;

/// A [`SpinLockIrq`] that is held.
pub(crate) type SpinLockIrqGuard<'a, T> = lock::Guard<'a, T, SpinLockIrqBackend>;

/// `spin_lock_irqsave()` and friends.
pub(crate) struct SpinLockIrqBackend;

// SAFETY: A `spinlock_t` gives mutual exclusion; `relock` is the default, which locks alike.
unsafe impl lock::Backend for SpinLockIrqBackend {
    type State = bindings::spinlock_t;
    type GuardState = usize;

    #[inline]
    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: By the caller's promise `ptr` can be written, `name` and `key` live on.
        unsafe { bindings::__spin_lock_init(ptr, name, key) }
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) -> Self::GuardState {
        // SAFETY: By the caller's promise the lock is initialised.
        unsafe { bindings::rurdma_spin_lock_irqsave(ptr) }
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, guard_state: &Self::GuardState) {
        // SAFETY: By the caller's promise it owns the lock; the flags are those of its `lock`.
        unsafe { bindings::rurdma_spin_unlock_irqrestore(ptr, *guard_state) }
    }

    #[inline]
    unsafe fn try_lock(ptr: *mut Self::State) -> Option<Self::GuardState> {
        let mut flags = 0;
        // SAFETY: By the caller's promise the lock is initialised.
        let taken = unsafe { bindings::rurdma_spin_trylock_irqsave(ptr, &mut flags) };

        (taken != 0).then_some(flags)
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // SAFETY: By the caller's promise the lock is initialised.
        unsafe { bindings::spin_assert_is_held(ptr) }
    }
}

/// Makes a [`SpinLockIrq`] initialiser with a lockdep class of its own.
macro_rules! new_spinlock_irq {
    ($inner:expr, $name:literal) => {
        $crate::kapi::sync::SpinLockIrq::new(
            $inner,
            kernel::c_str!($name),
            kernel::static_lock_class!(),
        )
    };
}
pub(crate) use new_spinlock_irq;
