// SPDX-License-Identifier: GPL-2.0

//! What an atomic makes of the 8 bytes that it is about: IBTA volume 1, section 9.4.5, and, with masks,
//! RFC 7306 section 5.
//!
//! The value is a number in the byte order of the machine whose memory it is.

#![forbid(unsafe_code)]

/// An operation on 8 naturally aligned bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomicOp {
    /// Compare and swap: if the bits of `compare_mask` are those of `compare`, the bits of `swap_mask`
    /// become those of `swap`.
    CmpSwp {
        /// What must be there.
        compare: u64,
        /// What is put there.
        swap: u64,
        /// Bits that are compared.
        compare_mask: u64,
        /// Bits that are swapped.
        swap_mask: u64,
    },
    /// Fetch and add.
    FetchAdd {
        /// What is added.
        add: u64,
        /// Bits from which nothing is carried: the last of each field.
        add_mask: u64,
    },
    /// Store (ATOMIC WRITE).
    Store(u64),
}

impl AtomicOp {
    /// The compare and swap of InfiniBand, which has no masks.
    pub const fn cmp_swp(compare: u64, swap: u64) -> Self {
        AtomicOp::CmpSwp {
            compare,
            swap,
            compare_mask: u64::MAX,
            swap_mask: u64::MAX,
        }
    }

    /// The fetch and add of InfiniBand: one field of 64 bits.
    pub const fn fetch_add(add: u64) -> Self {
        AtomicOp::FetchAdd { add, add_mask: 0 }
    }

    /// What `old` becomes; `None` if it stays.
    pub const fn apply(self, old: u64) -> Option<u64> {
        match self {
            AtomicOp::CmpSwp {
                compare,
                swap,
                compare_mask,
                swap_mask,
            } => {
                if (old ^ compare) & compare_mask != 0 {
                    return None;
                }
                Some(old & !swap_mask | swap & swap_mask)
            }
            // Without their last bits fields cannot run over, and those bits are a sum without carry.
            AtomicOp::FetchAdd { add, add_mask } => {
                Some((old & !add_mask).wrapping_add(add & !add_mask) ^ ((old ^ add) & add_mask))
            }
            AtomicOp::Store(value) => Some(value),
        }
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_atomic))]
mod tests {
    use super::*;

    #[test]
    fn without_masks() {
        assert_eq!(AtomicOp::cmp_swp(5, 7).apply(5), Some(7));
        assert_eq!(AtomicOp::cmp_swp(5, 7).apply(6), None);
        assert_eq!(AtomicOp::fetch_add(2).apply(u64::MAX), Some(1));
        assert_eq!(AtomicOp::Store(3).apply(9), Some(3));
    }

    #[test]
    fn masks() {
        let op = AtomicOp::CmpSwp {
            compare: 0x12,
            swap: 0xff00,
            compare_mask: 0xff,
            swap_mask: 0x0f00,
        };
        assert_eq!(op.apply(0xabcd_0012), Some(0xabcd_0f12));
        assert_eq!(op.apply(0xabcd_0013), None);
        // Two fields of 32 bits, neither of which runs over into anything.
        let op = AtomicOp::FetchAdd {
            add: 0x0000_0001_0000_0001,
            add_mask: 1 << 63 | 1 << 31,
        };
        assert_eq!(op.apply(u64::MAX), Some(0));
        // Every bit is a field.
        let op = AtomicOp::FetchAdd {
            add: 0x0ff0,
            add_mask: u64::MAX,
        };
        assert_eq!(op.apply(0x00ff), Some(0x0f0f));
    }
}
