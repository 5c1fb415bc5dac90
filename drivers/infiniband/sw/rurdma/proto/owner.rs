// SPDX-License-Identifier: GPL-2.0

//! Who works on what one context at a time works on, and nobody waits for.
//!
//! Whoever has work tries to become the owner. If somebody else is, it leaves a note, and the owner
//! looks for notes before it leaves: no work is lost, and no context ever spins or sleeps for
//! another, so a softirq that interrupts the owner is served too. Those who leave notes, peers and
//! processes, do not keep the owner for ever: it takes a number of turns at most.

#![forbid(unsafe_code)]

use crate::proto::sync::{AtomicU32, Word};

const OWNED: u32 = 1;
const PENDING: u32 = 2;

/// What the owner found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is nothing more to do that a new call would not announce.
    Done,
    /// The budget is used up, there may be more: somebody has to call again.
    More,
}

/// Tells whether there is an owner, and whether it has a note.
pub struct Ownership(AtomicU32);

impl Default for Ownership {
    fn default() -> Self {
        Self::new()
    }
}

impl Ownership {
    /// Without an owner.
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Calls `f` as the owner, again for each note that others leave meanwhile, `turns` times at most
    /// (at least once). If there is an owner already, leaves a note instead; then the result is `Done`.
    ///
    /// With `More` the ownership is given up all the same, notes included: the caller sees to another
    /// call.
    pub fn run(&self, turns: u32, mut f: impl FnMut() -> Turn) -> Turn {
        if !self.take_or_note() {
            return Turn::Done;
        }
        let mut left = turns;
        loop {
            let turn = f();
            // Fully ordered: what was done as the owner comes before the release, and the note before
            // the work that it announces.
            if turn == Turn::Done && self.0.exchange_if(OWNED, 0) {
                return Turn::Done;
            }
            left = left.saturating_sub(1);
            if turn == Turn::More || left == 0 {
                self.give_up();
                return Turn::More;
            }
            self.0.exchange(OWNED);
        }
    }

    /// Becomes the owner, unless there is one, who is left alone.
    pub fn try_take(&self) -> bool {
        self.0.exchange_if(0, OWNED)
    }

    /// The end of ownership; notes are lost.
    pub fn give_up(&self) {
        self.0.exchange(0);
    }

    /// Becomes the owner, or leaves a note.
    fn take_or_note(&self) -> bool {
        loop {
            let old = self.0.load_relaxed();
            let free = old & OWNED == 0;
            // Fully ordered, with a note that is there already too: the work that is announced comes
            // before it.
            if self
                .0
                .exchange_if(old, if free { OWNED } else { old | PENDING })
            {
                return free;
            }
        }
    }
}

#[cfg(all(any(test, CONFIG_KUNIT = "y"), not(loom)))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_owner))]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_another_turn() {
        let o = Ownership::new();
        let mut turns = 0;
        let end = o.run(8, || {
            turns += 1;
            if turns == 1 {
                // Twice: the same note.
                assert_eq!(o.run(8, || Turn::More), Turn::Done);
                assert_eq!(o.run(8, || Turn::More), Turn::Done);
            }
            Turn::Done
        });
        assert_eq!((turns, end), (2, Turn::Done));
        assert!(o.try_take());
    }

    #[test]
    fn notes_do_not_keep_the_owner() {
        let o = Ownership::new();
        for max in [1, 2, 5] {
            let mut turns = 0;
            let end = o.run(max, || {
                turns += 1;
                assert_eq!(o.run(max, || Turn::Done), Turn::Done);
                Turn::Done
            });
            assert_eq!((turns, end), (max, Turn::More));
        }
        // The note of the last turn is the caller's to see to.
        let mut turns = 0;
        assert_eq!(
            o.run(5, || {
                turns += 1;
                Turn::Done
            }),
            Turn::Done
        );
        assert_eq!(turns, 1);
    }

    #[test]
    fn a_budget_that_is_used_up_ends_it() {
        let o = Ownership::new();
        let mut turns = 0;
        let end = o.run(8, || {
            turns += 1;
            Turn::More
        });
        assert_eq!((turns, end), (1, Turn::More));
        assert!(o.try_take());
        assert!(!o.try_take());
        assert_eq!(o.run(8, || Turn::More), Turn::Done);
        o.give_up();
        assert!(o.try_take());
    }
}
