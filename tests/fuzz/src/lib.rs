// SPDX-License-Identifier: GPL-2.0

//! Fuzzing of the protocol core. One binary per parser or state machine in `src/bin`, run by
//! `tests/fuzz/run`; the inputs that are kept are in `corpus/`.
//!
//! A target checks more than that nothing panics: what is accepted must keep the promises of its
//! type, and what can be written again must come out the same.

#[path = "../../../drivers/infiniband/sw/rurdma/proto/mod.rs"]
pub mod proto;

use proto::wire::crc::Crc32c;
use proto::wire::ib::icrc::Crc32;

/// Parameters off the front of an input.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte; zero at the end.
    pub fn byte(&mut self) -> u8 {
        let (v, rest) = self.0.split_first().map_or((0, self.0), |(v, r)| (*v, r));
        self.0 = rest;
        v
    }

    /// The next two bytes.
    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next four bytes.
    pub fn long(&mut self) -> u32 {
        u32::from(self.word()) | u32::from(self.word()) << 16
    }

    /// The next `n` bytes, or what there is.
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (v, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        v
    }
}

/// A sum that a fuzzer can get right, in place of a CRC.
pub struct Sum;

impl Crc32c for Sum {
    fn crc32c(crc: u32, data: &[u8]) -> u32 {
        data.iter()
            .fold(crc, |c, b| c.rotate_left(1).wrapping_add(u32::from(*b)))
    }
}

impl Crc32 for Sum {
    fn crc32(crc: u32, data: &[u8]) -> u32 {
        Self::crc32c(crc, data)
    }
}
