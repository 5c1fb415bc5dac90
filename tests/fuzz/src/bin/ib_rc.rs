// SPDX-License-Identifier: GPL-2.0

//! Both ends of a connection, and a network that does what the input says until that ends, and then is a
//! good one: all that was asked for is done, as a perfect machine would have done it, unless the requester
//! has tried as often as it may.

#![no_main]

#[path = "../../../host/tests/common/dice.rs"]
mod dice;
#[path = "../../../host/tests/common/network.rs"]
mod network;
#[path = "../../../host/tests/common/rc_sim.rs"]
mod rc_sim;

use dice::Dice;
use libfuzzer_sys::fuzz_target;
use rc_sim::Sim;
use rurdma_fuzz::{proto, Input};

/// The input, and behind it always the same numbers.
struct Given<'a> {
    input: Input<'a>,
    behind: u64,
}

impl Dice for Given<'_> {
    fn next(&mut self) -> u64 {
        if !self.calm() {
            return u64::from(self.input.long()) << 32 | u64::from(self.input.long());
        }
        self.behind = self
            .behind
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(1);
        self.behind >> 20
    }

    fn below(&mut self, n: u64) -> u64 {
        if self.calm() {
            return self.next() % n;
        }
        // As few bytes as it takes, so that each means something.
        match n {
            0..=256 => u64::from(self.input.byte()) % n,
            _ => u64::from(self.input.word()) % n,
        }
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        if self.calm() {
            return self.next() % 1000 < per_mille;
        }
        u64::from(self.input.byte()) * 1000 < per_mille * 256
    }

    fn data(&mut self, length: usize) -> Vec<u8> {
        let first = self.below(256) as usize;
        (first..first + length)
            .map(|i| (i * 7 >> 3) as u8)
            .collect()
    }

    fn calm(&self) -> bool {
        self.input.0.is_empty()
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut sim = Sim::new(Given {
        input: Input(bytes),
        behind: bytes.len() as u64,
    });
    sim.run();
    sim.verify();
});
