// SPDX-License-Identifier: GPL-2.0

//! Serial numbers that wrap.
//!
//! They deliberately implement neither `Ord` nor `PartialOrd`: comparison of wrapping numbers is not
//! transitive, so it only exists under names that say what is meant.

#![forbid(unsafe_code)]

/// A DDP message sequence number (RFC 5041 section 4.3: 32 bits, starts at 1, wraps).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Msn(u32);

impl Msn {
    /// The number of the first message of every queue (RFC 5041 section 5.1.2).
    pub const FIRST: Msn = Msn(1);

    /// A number as found on the wire.
    pub const fn new(v: u32) -> Self {
        Msn(v)
    }

    /// The number as it goes on the wire.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number of the message behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Msn(self.0.wrapping_add(1))
    }

    /// How far `self` is ahead of `base`, modulo 2^32.
    pub const fn distance_from(self, base: Msn) -> u32 {
        self.0.wrapping_sub(base.0)
    }

    /// Whether `self` comes before `other`, if both are less than 2^31 apart.
    pub const fn precedes(self, other: Msn) -> bool {
        let d = other.0.wrapping_sub(self.0);
        d != 0 && d < 1 << 31
    }
}

/// A packet sequence number of InfiniBand (IBTA volume 1, section 9.7.1: 24 bits, wraps).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Psn(u32);

impl Psn {
    /// The bits that there are.
    const MASK: u32 = 0xff_ffff;

    /// A number; its upper bits do not count.
    pub const fn new(v: u32) -> Self {
        Psn(v & Self::MASK)
    }

    /// The number as it goes on the wire.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number of the packet behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The number of the packet `n` behind this one.
    #[must_use]
    pub const fn plus(self, n: u32) -> Self {
        Psn::new(self.0.wrapping_add(n))
    }

    /// How far `self` is ahead of `base`, modulo 2^24.
    pub const fn distance_from(self, base: Psn) -> u32 {
        self.0.wrapping_sub(base.0) & Self::MASK
    }

    /// Whether `self` comes before `other`, if both are less than 2^23 apart.
    pub const fn precedes(self, other: Psn) -> bool {
        let d = other.distance_from(self);
        d != 0 && d < 1 << 23
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_serial))]
mod tests {
    use super::*;

    #[test]
    fn msn_wraps() {
        let last = Msn::new(u32::MAX);
        assert_eq!(last.next().get(), 0);
        assert!(last.precedes(last.next()));
        assert!(!last.next().precedes(last));
        assert!(!last.precedes(last));
        assert_eq!(Msn::new(3).distance_from(Msn::new(u32::MAX)), 4);
        assert_eq!(Msn::FIRST.get(), 1);
    }

    #[test]
    fn psn_wraps() {
        let last = Psn::new(0xff_ffff);
        assert_eq!(last.next().get(), 0);
        assert_eq!(Psn::new(0x100_0005), Psn::new(5));
        assert!(last.precedes(last.next()));
        assert!(!last.next().precedes(last));
        assert!(!last.precedes(last));
        assert_eq!(Psn::new(3).distance_from(last), 4);
        // The region of duplicates and the one ahead are equally large.
        assert!(Psn::new(0).precedes(Psn::new((1 << 23) - 1)));
        assert!(!Psn::new(0).precedes(Psn::new(1 << 23)));
    }
}
