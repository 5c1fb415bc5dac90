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

/// Clears the lowest set bit of a word; its number.
fn take_bit(word: &mut u64) -> Option<usize> {
    if *word == 0 {
        return None;
    }
    let bit = word.trailing_zeros();
    *word &= word.wrapping_sub(1);
    Some(bit as usize)
}

/// Iterates over the set bits of a word.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || take_bit(&mut word))
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

/// A look at doorbells one after the other, around and around. It may be interrupted after each: what
/// was taken and not handed out yet is kept here, and has its turn first. A doorbell that is rung all the
/// time does not keep others from having their turn.
#[derive(Debug, Default)]
pub struct Scan {
    /// The summary word that was taken last, and what is left of it.
    at: usize,
    summary: u64,
    /// The same of pending bits: the slot of the first, what is left.
    base: u32,
    pending: u64,
}

impl Scan {
    /// From the beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next slot that was rung; `None` if there is none, in one way around.
    pub fn next(&mut self, db: &DoorbellMem) -> Option<u32> {
        // The word that was begun, then each once.
        for _ in 0..=DB_SUMMARY_WORDS {
            if let Some(slot) = self.next_taken(db) {
                return Some(slot);
            }
            self.at = (self.at + 1) % DB_SUMMARY_WORDS;
            if let Some(summary) = db.summary(self.at) {
                // The exchange dirties the line; most words have nothing.
                if summary.load_relaxed() != 0 {
                    self.summary = summary.exchange(0);
                }
            }
        }
        None
    }

    /// The next slot of what was taken already. At the end of the look this is called until there is none.
    pub fn next_taken(&mut self, db: &DoorbellMem) -> Option<u32> {
        loop {
            while let Some(bit) = take_bit(&mut self.pending) {
                let slot = self.base + bit as u32;
                if slot < db.slots() {
                    return Some(slot);
                }
            }
            let word = self.at * 64 + take_bit(&mut self.summary)?;
            // A process may set bits for words that do not exist.
            if let Some(pending) = db.pending(word) {
                self.base = word as u32 * 64;
                self.pending = pending.exchange(0);
            }
        }
    }

    /// Whether nothing is kept here.
    pub fn is_empty(&self) -> bool {
        self.summary == 0 && self.pending == 0
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

/// What a poller does that has to leave at once, work or not: asks for wakeups. It then sees to what is
/// pending. As with [`sleep_check`], each post is seen by that, or its poster has seen the flag.
pub fn ask_for_wakeups(status: &StatusMem) {
    status.set_need_wakeup();
    fence();
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
