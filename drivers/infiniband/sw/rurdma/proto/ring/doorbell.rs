// SPDX-License-Identifier: GPL-2.0

//! Doorbells: which queues have new work, and when their poster must wake the module.
//!
//! A poster publishes its ring, sets its pending bit, then the summary bit (both atomic OR), fences,
//! and reads `NEED_WAKEUP`. The module takes the summary first and the pending words second, each by
//! an exchange, and then acquires the rings. A bit that is set between the two exchanges has its
//! summary bit set after the first one, so it is found by the next round.

#![forbid(unsafe_code)]

use super::{DoorbellMem, StatusMem, DB_NEED_WAKEUP, DB_SUMMARY_WORDS};
use crate::proto::sync::{fence, Word};

/// What the module does with the pending bits of a region.
pub trait Pending {
    /// Takes all pending bits and calls `f` with each slot, once. At most `slots` calls.
    /// Returns the number of calls.
    fn take_pending(&self, f: impl FnMut(u32)) -> u32;
    /// Whether there may be pending bits.
    fn any_pending(&self) -> bool;
}

/// Iterates over the set bits of a word.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let bit = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        Some(bit as usize)
    })
}

impl Pending for DoorbellMem {
    fn take_pending(&self, mut f: impl FnMut(u32)) -> u32 {
        let mut found = 0;
        for i in 0..DB_SUMMARY_WORDS {
            let Some(summary) = self.summary(i) else {
                break;
            };
            // The exchange dirties the line; most words have nothing.
            if summary.load_relaxed() == 0 {
                continue;
            }
            for s in bits(summary.exchange(0)) {
                let w = i * 64 + s;
                // A process may set bits for words that do not exist.
                let Some(pending) = self.pending(w) else {
                    continue;
                };
                for b in bits(pending.exchange(0)) {
                    let slot = (w * 64 + b) as u32;
                    if slot < self.slots() {
                        found += 1;
                        f(slot);
                    }
                }
            }
        }
        found
    }

    fn any_pending(&self) -> bool {
        (0..DB_SUMMARY_WORDS)
            .map_while(|i| self.summary(i))
            .any(|s| s.load_relaxed() != 0)
    }
}

/// The `NEED_WAKEUP` flag of a context.
pub trait NeedWakeup {
    /// Asks posters to kick from now on; not enough to go to sleep, see [`sleep_check`].
    fn set_need_wakeup(&self);
    /// Posters need not kick from now on: somebody polls.
    fn clear_need_wakeup(&self);
}

impl NeedWakeup for StatusMem {
    fn set_need_wakeup(&self) {
        self.flags().store_relaxed(DB_NEED_WAKEUP);
    }

    fn clear_need_wakeup(&self) {
        self.flags().store_relaxed(0);
    }
}

/// What a poller does before it sleeps: asks for wakeups, then looks for work once more. Returns
/// whether it may sleep. If not, there is work, and the flag is clear again.
///
/// The poster stores its bits, fences, loads the flag; this side stores the flag, fences, loads the
/// bits. At least one of them sees the other's store, so no work is left behind.
pub fn sleep_check(status: &StatusMem, doorbells: &DoorbellMem) -> bool {
    status.set_need_wakeup();
    fence();
    if doorbells.any_pending() {
        status.clear_need_wakeup();
        return false;
    }
    true
}
