// SPDX-License-Identifier: GPL-2.0

//! A message in packets: all but the last are as long as the path MTU (IBTA volume 1, section 9.7.1).

#![forbid(unsafe_code)]

use crate::proto::wire::ib::opcode::Place;

/// A path MTU: payload bytes of a full packet, as their power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtu(u8);

impl Mtu {
    /// The smallest.
    pub const MIN: Mtu = Mtu(8);
    /// The largest.
    pub const MAX: Mtu = Mtu(12);

    /// The value of an `enum ib_mtu`: 1 to 5.
    pub const fn from_enum(v: u8) -> Option<Self> {
        match v {
            1..=5 => Some(Mtu(v + 7)),
            _ => None,
        }
    }

    /// The largest that fits into `bytes`.
    pub const fn fitting(bytes: u32) -> Self {
        let mut v = 5;
        while v > 1 && (128u32 << v) > bytes {
            v -= 1;
        }
        Mtu(v + 7)
    }

    /// Its `enum ib_mtu`.
    pub const fn to_enum(self) -> u8 {
        self.0 - 7
    }

    /// Bytes.
    pub const fn bytes(self) -> u32 {
        1u32.wrapping_shl(self.0 as u32)
    }

    /// Packets of a message of `length` bytes: at least one.
    pub const fn packets(self, length: u32) -> u32 {
        match length {
            0 => 1,
            n => (n - 1).wrapping_shr(self.0 as u32) + 1,
        }
    }

    /// Packet `index` of a message of `length` bytes.
    pub const fn piece(self, length: u32, index: u32) -> Piece {
        let offset = index.saturating_mul(self.bytes());
        let left = length.saturating_sub(offset);
        let ends = left <= self.bytes();
        Piece {
            place: Place::of(index == 0, ends),
            offset,
            len: if ends { left } else { self.bytes() },
        }
    }
}

/// The part of a message that is in one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where in the message it stands.
    pub place: Place,
    /// Offset in the message.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_ib_cut))]
mod tests {
    use super::*;

    #[test]
    fn mtus() {
        for v in 1..=5 {
            assert_eq!(Mtu::from_enum(v).map(Mtu::to_enum), Some(v));
        }
        assert_eq!(Mtu::from_enum(0), None);
        assert_eq!(Mtu::from_enum(6), None);
        assert_eq!(Mtu::fitting(1420).bytes(), 1024);
        assert_eq!(Mtu::fitting(65_000), Mtu::MAX);
        assert_eq!(Mtu::fitting(4096), Mtu::MAX);
        assert_eq!(Mtu::fitting(10), Mtu::MIN);
    }

    #[test]
    fn pieces_cover_the_message() {
        for length in [0, 1, 255, 256, 257, 512, 513, 5000] {
            let n = Mtu::MIN.packets(length);
            let mut at = 0;
            for i in 0..n {
                let p = Mtu::MIN.piece(length, i);
                assert_eq!(p.offset, at);
                assert_eq!(p.place.begins(), i == 0);
                assert_eq!(p.place.ends(), i == n - 1);
                at += p.len;
            }
            assert_eq!(at, length);
        }
    }
}
