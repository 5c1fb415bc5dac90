// SPDX-License-Identifier: GPL-2.0

//! Work that goes on and on, and has pauses, so that others have the CPU too.
//!
//! The poller and the workers of streams are as urgent as the scheduler knows (nice -20): beside one that always has
//! something to do, a process would have a hundredth of the CPU, and not for a long time; and it may be the one that waits
//! for what is received.

#![forbid(unsafe_code)]

use crate::kapi::task;
use crate::kapi::time;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::Atomic;
use kernel::time::delay::fsleep;
use kernel::time::Delta;

/// Nanoseconds of work, after which others have the CPU if they want it.
pub(crate) const WORK: u64 = 10_000_000;
/// For how many microseconds.
pub(crate) const PAUSE: u32 = 250;

/// How long a worker has worked since its last pause.
pub(crate) struct Pauses(Atomic<u64>);

impl Pauses {
    /// Not at all.
    pub(crate) fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Does a piece of the work, and pauses if that is due. Process context, without a lock.
    pub(crate) fn work<R>(&self, f: impl FnOnce() -> R) -> R {
        let begin = time::monotonic_raw_ns();
        let ret = f();
        let piece = time::monotonic_raw_ns().saturating_sub(begin);
        let worked = self.0.load(Relaxed).saturating_add(piece);
        if worked < WORK {
            self.0.store(worked, Relaxed);
        } else {
            self.0.store(0, Relaxed);
            if task::others_wait() {
                fsleep(Delta::from_micros(PAUSE.into()));
            }
        }
        ret
    }
}
