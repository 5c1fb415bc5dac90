// SPDX-License-Identifier: GPL-2.0

//! Whether what arrives is a stream, whose placing is worth a CPU of its own, or an exchange, which wants
//! its answer now.
//!
//! A sender who streams fills what the network carries at once (64 KiB, with offloads), but for the beginnings and ends
//! of his messages; so large arrivals are as many as small ones, or more. An exchange has small ones, acknowledgements
//! among them.

#![forbid(unsafe_code)]

/// Bytes of an arrival that is large.
pub const LARGE: usize = 16 << 10;
/// What a large one gives.
const GAIN: u8 = 2;
/// What a small one takes.
const LOSS: u8 = 1;
/// How much is a stream: of nothing but large ones, the eighth.
const STREAM: u8 = 16;
/// How much of it is remembered.
const MAX: u8 = 2 * STREAM;

/// Arrivals so far.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Bulk(u8);

impl Bulk {
    /// So many bytes have arrived at once.
    pub fn arrived(&mut self, bytes: usize) {
        self.0 = if bytes >= LARGE {
            (self.0 + GAIN).min(MAX)
        } else {
            self.0.saturating_sub(LOSS)
        };
    }

    /// Whether it is a stream.
    pub fn is_stream(&self) -> bool {
        self.0 >= STREAM
    }

    /// As a number, and from one. None is 0.
    pub fn to_bits(self) -> u32 {
        self.0.into()
    }

    /// From what [`Self::to_bits`] gave.
    pub fn from_bits(bits: u32) -> Self {
        Self((bits as u8).min(MAX))
    }
}

#[cfg(all(any(test, CONFIG_KUNIT = "y"), not(loom)))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_bulk))]
mod tests {
    use super::*;

    fn after(arrivals: &[usize]) -> Bulk {
        let mut bulk = Bulk::default();
        for bytes in arrivals {
            bulk.arrived(*bytes);
        }
        bulk
    }

    #[test]
    fn large_arrivals_are_a_stream() {
        assert!(!after(&[LARGE; 7]).is_stream());
        assert!(after(&[LARGE; 8]).is_stream());
        assert!(after(&[64 << 10; 1000]).is_stream());
    }

    #[test]
    fn small_ones_are_none() {
        assert!(!after(&[LARGE - 1; 1000]).is_stream());
        assert!(!after(&[0; 1000]).is_stream());
    }

    #[test]
    fn a_stream_has_beginnings_and_ends() {
        // A FIRST leaves alone, and what is behind it together.
        let mut bulk = Bulk::default();
        for i in 0..1000 {
            bulk.arrived(if i % 2 == 0 { 1000 } else { LARGE });
            assert!(bulk.is_stream() || i < 31);
            assert!(!bulk.is_stream() || i >= 29);
        }
    }

    #[test]
    fn an_exchange_of_large_messages_has_acknowledgements() {
        let mut bulk = Bulk::default();
        for _ in 0..1000 {
            for bytes in [1000, LARGE, 20] {
                bulk.arrived(bytes);
                assert!(!bulk.is_stream());
            }
        }
    }

    #[test]
    fn what_was_a_stream_ends() {
        let mut bulk = after(&[LARGE; 1000]);
        for i in 1..=100 {
            bulk.arrived(100);
            assert_eq!(bulk.is_stream(), i <= MAX - STREAM);
        }
    }
}
