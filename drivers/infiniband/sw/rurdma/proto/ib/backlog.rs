// SPDX-License-Identifier: GPL-2.0

//! Multicast packets that are delivered later.
//!
//! A packet may be for thousands of QPs, more than a softirq has the time for. One for a few is delivered at
//! once, one for many waits for somebody who can sleep. What waits is bounded, as is what a group costs
//! others: packets of one group keep their order, those of other groups do not wait for them. Datagrams may be
//! lost (IBTA volume 1, section 9.8.3), so what exceeds the bound is.

#![forbid(unsafe_code)]

use core::ops::DerefMut;

/// Members that a packet is delivered to at once.
pub const AT_ONCE: usize = 32;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is to be delivered now.
    Now,
    /// It was kept: somebody has to come and [`Backlog::take`] it.
    Later,
    /// It is lost.
    Lost,
}

/// A place for a packet.
#[derive(Debug)]
pub struct Place<T> {
    group: [u8; 16],
    /// `None` while it is being delivered.
    packet: Option<T>,
}

impl<T> Default for Place<T> {
    fn default() -> Self {
        Self {
            group: [0; 16],
            packet: None,
        }
    }
}

/// Packets that wait; the places are the caller's.
#[derive(Debug)]
pub struct Backlog<S> {
    places: S,
    /// The oldest.
    head: usize,
    len: usize,
    closed: bool,
}

impl<T, S: DerefMut<Target = [Place<T>]>> Backlog<S> {
    /// Nothing waits.
    pub fn new(places: S) -> Self {
        Self {
            places,
            head: 0,
            len: 0,
            closed: false,
        }
    }

    /// The index of the place `n` behind the oldest; `n` is not above the number of places.
    fn at(&self, n: usize) -> usize {
        let at = self.head + n;
        at.checked_sub(self.places.len()).unwrap_or(at)
    }

    /// Whether packets of the group wait, or one is being delivered.
    fn has(&self, group: &[u8; 16]) -> bool {
        (0..self.len).any(|n| {
            self.places
                .get(self.at(n))
                .is_some_and(|place| place.group == *group)
        })
    }

    /// A packet has come for a group with so many members; `keep` is called if it is to wait.
    pub fn offer(&mut self, group: &[u8; 16], members: usize, keep: impl FnOnce() -> T) -> Offer {
        if members <= AT_ONCE && !self.has(group) {
            return Offer::Now;
        }
        if self.closed || self.len >= self.places.len() {
            return Offer::Lost;
        }
        let at = self.at(self.len);
        let Some(place) = self.places.get_mut(at) else {
            return Offer::Lost;
        };
        *place = Place {
            group: *group,
            packet: Some(keep()),
        };
        self.len += 1;
        Offer::Later
    }

    /// Takes the oldest packet out, and its group, to deliver it; [`Self::done`] follows. `None`: nothing waits,
    /// or somebody delivers it already.
    pub fn take(&mut self) -> Option<([u8; 16], T)> {
        if self.len == 0 {
            return None;
        }
        let place = self.places.get_mut(self.head)?;
        Some((place.group, place.packet.take()?))
    }

    /// What was taken is delivered. Whether something waits.
    pub fn done(&mut self) -> bool {
        if self.len > 0 {
            self.head = self.at(1);
            self.len -= 1;
        }
        self.len > 0
    }

    /// Nothing is kept any more from now on.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether nothing is kept any more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    ::kernel::macros::kunit_tests(rurdma_proto_ib_backlog)
)]
mod tests {
    use super::*;

    const A: [u8; 16] = [1; 16];
    const B: [u8; 16] = [2; 16];
    const MANY: usize = AT_ONCE + 1;

    #[test]
    fn few_members_have_it_at_once() {
        let mut places: [Place<u32>; 2] = Default::default();
        let mut b = Backlog::new(&mut places[..]);
        assert_eq!(b.offer(&A, AT_ONCE, || 1), Offer::Now);
        assert_eq!(b.take(), None);
        assert_eq!(b.offer(&A, MANY, || 2), Offer::Later);
        assert_eq!(b.take(), Some((A, 2)));
        assert!(!b.done());
    }

    #[test]
    fn packets_of_a_group_keep_their_order() {
        let mut places: [Place<u32>; 4] = Default::default();
        let mut b = Backlog::new(&mut places[..]);
        assert_eq!(b.offer(&A, MANY, || 1), Offer::Later);
        // Others do not wait for it.
        assert_eq!(b.offer(&B, AT_ONCE, || 2), Offer::Now);
        // The members are fewer by now; what came before waits still, or is being delivered.
        assert_eq!(b.offer(&A, 1, || 3), Offer::Later);
        assert_eq!(b.take(), Some((A, 1)));
        assert_eq!(b.take(), None);
        assert_eq!(b.offer(&A, 1, || 4), Offer::Later);
        assert!(b.done());
        assert_eq!(b.take(), Some((A, 3)));
        assert!(b.done());
        assert_eq!(b.take(), Some((A, 4)));
        assert_eq!(b.offer(&A, 1, || 5), Offer::Later);
        assert!(b.done());
        assert_eq!(b.take(), Some((A, 5)));
        assert!(!b.done());
        assert_eq!(b.offer(&A, 1, || 6), Offer::Now);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut places: [Place<u32>; 3] = Default::default();
        let mut b = Backlog::new(&mut places[..]);
        // Wherever the oldest stands.
        for n in 0..7 {
            for i in 0..3 {
                assert_eq!(b.offer(&A, MANY, || 10 * n + i), Offer::Later);
            }
            assert_eq!(b.offer(&A, MANY, || unreachable!()), Offer::Lost);
            assert_eq!(b.offer(&B, MANY, || unreachable!()), Offer::Lost);
            assert_eq!(b.take(), Some((A, 10 * n)));
            // It has its place until it is delivered.
            assert_eq!(b.offer(&A, MANY, || unreachable!()), Offer::Lost);
            assert!(b.done());
            assert_eq!(b.offer(&B, MANY, || 99), Offer::Later);
            for want in [(A, 10 * n + 1), (A, 10 * n + 2), (B, 99)] {
                assert_eq!(b.take(), Some(want));
                assert_eq!(b.done(), want.0 == A);
            }
        }
        let mut none: [Place<u32>; 0] = [];
        let mut b = Backlog::new(&mut none[..]);
        assert_eq!(b.offer(&A, MANY, || unreachable!()), Offer::Lost);
    }

    #[test]
    fn what_is_closed_keeps_nothing() {
        let mut places: [Place<u32>; 2] = Default::default();
        let mut b = Backlog::new(&mut places[..]);
        assert_eq!(b.offer(&A, MANY, || 1), Offer::Later);
        b.close();
        assert!(b.is_closed());
        assert_eq!(b.offer(&A, MANY, || unreachable!()), Offer::Lost);
        assert_eq!(b.take(), Some((A, 1)));
        assert!(!b.done());
    }
}
