// SPDX-License-Identifier: GPL-2.0

//! Whose turn it is: those that come anew, and those that had a turn and have more to do.

#![forbid(unsafe_code)]

use crate::proto::bulk::LARGE;

/// Somebody who has turns.
pub trait Work {
    /// A turn.
    fn turn(&self) -> Turn;
    /// Whether both are the same.
    fn is(&self, other: &Self) -> bool;
    /// Somebody else does what is not done.
    fn hand_over(self);
}

/// What happened in a turn.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Everything was begun that there was.
    pub done: bool,
    /// Pieces of work that were begun.
    pub begun: u32,
    /// Their bytes.
    pub bytes: u32,
    /// Some were not complete that had been begun before.
    pub behind: bool,
}

/// What happened in a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// How many turns there were.
    pub turns: u32,
    /// Pieces of work that were begun in them.
    pub begun: u32,
    /// Their bytes.
    pub bytes: u32,
    /// Somebody had some that were not complete.
    pub behind: bool,
}

impl Pass {
    /// Another one beside it.
    pub fn add(&mut self, other: Pass) {
        self.turns = self.turns.saturating_add(other.turns);
        self.begun = self.begun.saturating_add(other.begun);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.behind |= other.behind;
    }

    /// Whether it was one piece of work at a time, each begun when all before it were complete, and none that takes
    /// much longer than who does it has kept it waiting.
    pub fn is_one_by_one(&self) -> bool {
        self.begun <= self.turns && !self.behind && (self.bytes as usize) < LARGE
    }
}

/// Those that have their turn again, `N` at most.
#[derive(Debug)]
pub struct Turns<T, const N: usize> {
    again: [Option<T>; N],
}

impl<T: Work, const N: usize> Turns<T, N> {
    /// Nobody.
    pub const fn new() -> Self {
        Self {
            again: [const { None }; N],
        }
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.again.iter().all(Option::is_none)
    }

    /// Everybody is somebody else's from now on.
    pub fn hand_over(&mut self) {
        self.take().for_each(T::hand_over);
    }

    /// A turn for everybody who has it again, then for those who come anew, until nobody does, or there were `max` turns.
    /// Of these newcomers have half at least: who comes again may never end.
    pub fn pass(&mut self, max: u32, mut come: impl FnMut() -> Option<T>) -> Pass {
        let mut pass = Pass::default();
        for t in self.take() {
            pass.add(self.turn(t));
        }
        let end = pass.turns + max.saturating_sub(pass.turns).max(max / 2);
        while pass.turns < end {
            let Some(t) = come() else {
                break;
            };
            pass.add(self.turn(t));
        }
        pass
    }

    fn take(&mut self) -> impl Iterator<Item = T> {
        core::mem::replace(&mut self.again, [const { None }; N])
            .into_iter()
            .flatten()
    }

    fn turn(&mut self, t: T) -> Pass {
        let Turn {
            done,
            begun,
            bytes,
            behind,
        } = t.turn();
        let pass = Pass {
            turns: 1,
            begun,
            bytes,
            behind,
        };
        // Who comes anew may be there already.
        if done || self.again.iter().flatten().any(|other| other.is(&t)) {
            return pass;
        }
        match self.again.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(t),
            None => t.hand_over(),
        }
        pass
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_turns))]
mod tests {
    use super::*;
    use core::cell::Cell;

    /// What happened to one who is done after `left` turns.
    struct Seen {
        left: Cell<u32>,
        turns: Cell<u32>,
        gone: Cell<bool>,
    }

    impl Seen {
        fn new(left: u32) -> Self {
            Self {
                left: Cell::new(left),
                turns: Cell::new(0),
                gone: Cell::new(false),
            }
        }
    }

    impl Work for &Seen {
        fn turn(&self) -> Turn {
            self.turns.set(self.turns.get() + 1);
            self.left.set(self.left.get().saturating_sub(1));
            Turn {
                done: self.left.get() == 0,
                begun: 7,
                bytes: 70,
                behind: self.turns.get() > 2,
            }
        }

        fn is(&self, other: &Self) -> bool {
            core::ptr::eq(*self, *other)
        }

        fn hand_over(self) {
            self.gone.set(true);
        }
    }

    /// A pass of so many turns, and whether somebody was behind.
    fn passed(turns: u32, behind: bool) -> Pass {
        Pass {
            turns,
            begun: 7 * turns,
            bytes: 70 * turns,
            behind,
        }
    }

    #[test]
    fn comes_again_until_it_is_done() {
        let a = Seen::new(3);
        let mut turns = Turns::<&Seen, 2>::new();
        let mut new = Some(&a);
        assert_eq!(turns.pass(4, || new.take()), passed(1, false));
        assert!(!turns.is_empty());
        assert_eq!(turns.pass(4, || None), passed(1, false));
        assert_eq!(turns.pass(4, || None), passed(1, true));
        assert!(turns.is_empty());
        assert_eq!(turns.pass(4, || None), passed(0, false));
        assert!(!a.gone.get());
    }

    #[test]
    fn newcomers_have_half_beside_those_who_never_end() {
        let (a, b, c) = (Seen::new(1000), Seen::new(1000), Seen::new(1000));
        let mut turns = Turns::<&Seen, 2>::new();
        let mut new = [&a, &b].into_iter();
        turns.pass(2, || new.next());
        for n in 0..10 {
            assert_eq!(turns.pass(2, || Some(&c)), passed(3, n > 0));
        }
        assert_eq!((a.turns.get(), b.turns.get(), c.turns.get()), (11, 11, 10));
    }

    #[test]
    fn whom_there_is_no_place_for_somebody_else_has() {
        let (a, b) = (Seen::new(9), Seen::new(9));
        let mut turns = Turns::<&Seen, 1>::new();
        let mut new = [&a, &b].into_iter();
        assert_eq!(turns.pass(4, || new.next()), passed(2, false));
        assert!(b.gone.get() && !a.gone.get());
        turns.hand_over();
        assert!(a.gone.get() && turns.is_empty());
    }

    #[test]
    fn one_by_one() {
        let pass = |turns, begun, bytes, behind| Pass {
            turns,
            begun,
            bytes,
            behind,
        };
        assert!(pass(1, 1, 1000, false).is_one_by_one());
        assert!(!pass(1, 1, 1000, true).is_one_by_one());
        assert!(!pass(1, 1, LARGE as u32, false).is_one_by_one());
        assert!(!pass(2, 3, 1000, false).is_one_by_one());
    }

    #[test]
    fn takes_no_second_place() {
        let a = Seen::new(9);
        let mut turns = Turns::<&Seen, 2>::new();
        let mut new = [&a, &a].into_iter();
        assert_eq!(turns.pass(4, || new.next()), passed(2, false));
        assert_eq!(turns.pass(4, || None), passed(1, true));
        assert!(!a.gone.get());
    }
}
