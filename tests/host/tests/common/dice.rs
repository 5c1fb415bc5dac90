// SPDX-License-Identifier: GPL-2.0

//! What decides in a simulation: a generator in `rc` and `uc`, the input in the fuzz target `ib_rc`.

/// What decides.
#[allow(dead_code, reason = "UC answers nothing, and is not fuzzed")]
pub(crate) trait Dice {
    /// Any number.
    fn next(&mut self) -> u64;

    /// A number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// What happens so many times of a thousand.
    fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// The content of a message.
    fn data(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// Answers that the responder may send before anything else happens.
    fn answers(&mut self) -> u64 {
        self.below(4)
    }

    /// From now on the network is a good one.
    fn calm(&self) -> bool {
        false
    }
}
