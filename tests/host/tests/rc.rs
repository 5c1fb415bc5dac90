// SPDX-License-Identifier: GPL-2.0

//! Both ends of the RC state machines over bad networks. A seed that fails is printed; `RURDMA_SEED=N` runs
//! it alone, `RURDMA_SEEDS=N` that many, `RURDMA_TRACE=1` prints what is sent.

#![allow(missing_docs)]

#[path = "common/rc_sim.rs"]
mod rc_sim;

use rc_sim::{Dice, Sim};
use rurdma_host_tests::proto;
use rurdma_host_tests::proto::ib::requester::RETRY_EXC;

/// A small generator, so that a seed is all that a run depends on.
struct Rng(u64);

impl Dice for Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[test]
fn bad_networks() {
    let one = std::env::var("RURDMA_SEED")
        .ok()
        .map(|s| s.parse::<u64>().unwrap());
    let count = std::env::var("RURDMA_SEEDS").map_or(10_000, |s| s.parse::<u64>().unwrap());
    let seeds = match one {
        Some(s) => s..s + 1,
        None => 0..count,
    };
    let mut gave_up = 0;
    let total = seeds.end - seeds.start;
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let mut sim = Sim::new(Rng(seed));
            sim.run();
            match sim.failed {
                None => sim.verify(),
                // The peer cannot be told from a dead one.
                Some(RETRY_EXC) if sim.is_lossy() => return 1,
                Some(status) => panic!("status {status}"),
            }
            0
        });
        match result {
            Ok(n) => gave_up += n,
            Err(_) => panic!("seed {seed} fails: RURDMA_SEED={seed}"),
        }
    }
    println!("{total} seeds, {gave_up} ended with retries exceeded");
    assert!(gave_up * 1000 <= total.max(1000));
}
