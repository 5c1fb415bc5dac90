// SPDX-License-Identifier: GPL-2.0

//! The atomics that shared memory is accessed with, on three backends.
//!
//! In the kernel these are LKMM atomics (`kernel::sync::atomic`), on the host they are those of
//! `core`, and under `cfg(loom)` those of the loom model checker. The algorithms in
//! [`ring`](super::ring) only use what [`Word`] and [`fence`] offer.

#![forbid(unsafe_code)]

/// A machine word in shared memory.
///
/// Read-modify-write operations are fully ordered, as they are in the kernel.
pub trait Word {
    /// The integer that the word holds.
    type Value: Copy + Eq;

    /// Loads without ordering.
    fn load_relaxed(&self) -> Self::Value;
    /// Loads with acquire ordering.
    fn load_acquire(&self) -> Self::Value;
    /// Stores without ordering.
    fn store_relaxed(&self, v: Self::Value);
    /// Stores with release ordering.
    fn store_release(&self, v: Self::Value);
    /// Exchanges the value, fully ordered.
    fn exchange(&self, v: Self::Value) -> Self::Value;
    /// Stores `new` if the word holds `old`, fully ordered. Returns whether it did.
    fn exchange_if(&self, old: Self::Value, new: Self::Value) -> bool;
}

#[cfg(CONFIG_RUST)]
mod imp {
    //! Kernel backend.
    use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};

    /// A 32-bit word.
    pub type AtomicU32 = Atomic<u32>;
    /// A 64-bit word.
    pub type AtomicU64 = Atomic<u64>;

    /// A full memory barrier (`smp_mb()`).
    #[inline]
    pub fn fence() {
        #[cfg(before_7_3)]
        kernel::sync::barrier::smp_mb();
        #[cfg(not(before_7_3))]
        kernel::sync::barrier::smp_mb(Full);
    }

    macro_rules! word {
        ($t:ty, $v:ty) => {
            impl super::Word for $t {
                type Value = $v;

                #[inline]
                fn load_relaxed(&self) -> $v {
                    self.load(Relaxed)
                }
                #[inline]
                fn load_acquire(&self) -> $v {
                    self.load(Acquire)
                }
                #[inline]
                fn store_relaxed(&self, v: $v) {
                    self.store(v, Relaxed);
                }
                #[inline]
                fn store_release(&self, v: $v) {
                    self.store(v, Release);
                }
                #[inline]
                fn exchange(&self, v: $v) -> $v {
                    self.xchg(v, Full)
                }
                #[inline]
                fn exchange_if(&self, old: $v, new: $v) -> bool {
                    self.cmpxchg(old, new, Full).is_ok()
                }
            }
        };
    }
    word!(AtomicU32, u32);
    word!(AtomicU64, u64);
}

#[cfg(not(CONFIG_RUST))]
mod imp {
    //! Host and loom backends.
    #[cfg(not(loom))]
    use core::sync::atomic as backend;
    #[cfg(loom)]
    use loom::sync::atomic as backend;

    use backend::Ordering;
    pub use backend::{AtomicU32, AtomicU64};

    /// A full memory barrier.
    #[inline]
    pub fn fence() {
        backend::fence(Ordering::SeqCst);
    }

    macro_rules! word {
        ($t:ty, $v:ty) => {
            impl super::Word for $t {
                type Value = $v;

                #[inline]
                fn load_relaxed(&self) -> $v {
                    self.load(Ordering::Relaxed)
                }
                #[inline]
                fn load_acquire(&self) -> $v {
                    self.load(Ordering::Acquire)
                }
                #[inline]
                fn store_relaxed(&self, v: $v) {
                    self.store(v, Ordering::Relaxed);
                }
                #[inline]
                fn store_release(&self, v: $v) {
                    self.store(v, Ordering::Release);
                }
                #[inline]
                fn exchange(&self, v: $v) -> $v {
                    self.swap(v, Ordering::SeqCst)
                }
                #[inline]
                fn exchange_if(&self, old: $v, new: $v) -> bool {
                    self.compare_exchange(old, new, Ordering::SeqCst, Ordering::Relaxed)
                        .is_ok()
                }
            }
        };
    }
    word!(AtomicU32, u32);
    word!(AtomicU64, u64);
}

pub use imp::{fence, AtomicU32, AtomicU64};
