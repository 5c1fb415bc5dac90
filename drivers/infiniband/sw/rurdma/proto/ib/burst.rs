// SPDX-License-Identifier: GPL-2.0

//! Packets that leave as one super-packet of UDP GSO.
//!
//! The stack, or the card, cuts a super-packet where its chunk size says: all packets but the last are of that
//! size, and the last is no longer. Which message a packet is of does not matter, nor how many there are. IP's
//! identification counts up from packet to packet, so that each packet's ICRC can be computed before.

#![forbid(unsafe_code)]

/// Bytes of a super-packet from the first BTH to the last ICRC, at most: with any headers in front it stays
/// below 64 KiB.
pub const MAX_BYTES: usize = 65_280;
/// Packets of a super-packet, at most: what UDP allows its other users (`UDP_MAX_SEGMENTS`).
pub const MAX_PACKETS: u32 = 128;

/// The packets of a super-packet that is being filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Packets that may be in it.
    max: u32,
    packets: u32,
    /// Bytes of each but the last.
    chunk: usize,
    bytes: usize,
    /// The last is shorter: nothing may follow.
    closed: bool,
}

impl Burst {
    /// Nothing yet, and at most `max` packets; one at least.
    pub const fn new(max: u32) -> Self {
        Burst {
            max,
            packets: 0,
            chunk: 0,
            bytes: 0,
            closed: false,
        }
    }

    /// Whether nothing is in it.
    pub const fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// Whether a packet of `len` bytes, from BTH to ICRC, may follow. The first one always may.
    pub const fn admits(&self, len: usize) -> bool {
        if self.packets == 0 {
            return true;
        }
        !self.closed
            && self.packets < self.max
            && len <= self.chunk
            && len <= MAX_BYTES.saturating_sub(self.bytes)
    }

    /// It follows.
    pub fn add(&mut self, len: usize) {
        if self.packets == 0 {
            self.chunk = len;
        }
        self.closed |= len < self.chunk;
        self.packets += 1;
        self.bytes += len;
    }

    /// Packets in it.
    pub const fn packets(&self) -> u32 {
        self.packets
    }

    /// Bytes in it.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where it is to be cut; `None` if it is a single packet, which must not be marked.
    pub fn chunk(&self) -> Option<u16> {
        if self.packets < 2 {
            return None;
        }
        u16::try_from(self.chunk).ok()
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    ::kernel::macros::kunit_tests(rurdma_proto_ib_burst)
)]
mod tests {
    use super::*;

    fn of(lengths: &[usize]) -> Burst {
        let mut b = Burst::new(MAX_PACKETS);
        for len in lengths {
            assert!(b.admits(*len));
            b.add(*len);
        }
        b
    }

    #[test]
    fn one_packet_is_not_cut() {
        let b = of(&[1060]);
        assert_eq!((b.packets(), b.bytes(), b.chunk()), (1, 1060, None));
        assert!(Burst::new(1).is_empty() && !b.is_empty());
    }

    #[test]
    fn equal_ones_and_a_shorter_end() {
        let b = of(&[1044, 1044, 500]);
        assert_eq!((b.packets(), b.chunk()), (3, Some(1044)));
        // The end is the end, whatever would follow.
        assert!(!b.admits(500) && !b.admits(20) && !b.admits(1044));
        assert!(!of(&[1044, 1044]).admits(1045));
        assert!(!of(&[20]).admits(1044));
    }

    #[test]
    fn limits() {
        let mut b = Burst::new(MAX_PACKETS);
        while b.admits(1044) {
            b.add(1044);
        }
        assert_eq!(b.packets(), 62);
        assert!(b.admits(MAX_BYTES - 62 * 1044) && !b.admits(MAX_BYTES - 62 * 1044 + 1));
        let mut b = Burst::new(MAX_PACKETS);
        while b.admits(20) {
            b.add(20);
        }
        assert_eq!(b.packets(), MAX_PACKETS);
        // Each packet alone.
        let mut b = Burst::new(1);
        b.add(100);
        assert!(!b.admits(100));
    }
}
