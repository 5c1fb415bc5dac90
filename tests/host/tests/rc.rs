// SPDX-License-Identifier: GPL-2.0

//! Both ends of the RC state machines over bad networks. A seed that fails is printed; `RURDMA_SEED=N` runs
//! it alone, `RURDMA_SEEDS=N` that many, `RURDMA_TRACE=1` prints what is sent.

#![allow(missing_docs)]

#[path = "common/rc_sim.rs"]
mod rc_sim;

use rc_sim::{Dice, End, Sim};
use rurdma_host_tests::proto;

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
    let total = seeds.end - seeds.start;
    let mut ends = Vec::new();
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let mut sim = Sim::new(Rng(seed));
            sim.run();
            sim.verify()
        });
        match result {
            Ok(end) => ends.push(end),
            Err(_) => panic!("seed {seed} fails: RURDMA_SEED={seed}"),
        }
    }
    let of = |end| ends.iter().filter(|e| **e == end).count() as u64;
    let (gave_up, unlucky, not_ready) = (of(End::GaveUp), of(End::Unlucky), of(End::NotReady));
    let refused = of(End::Refused);
    println!(
        "{total} seeds: {gave_up} gave up, {unlucky} of bad luck, {not_ready} not ready, {refused} refused"
    );
    // Whoever gave up has tried as often as it was granted, which the simulation counts. A try comes to nothing
    // if the packet that is missing is lost again, or all that would tell of it: in the worst of these networks,
    // which lose 12 packets of a hundred, that is every fifth. Seven or eight in a row are legitimate, but so rare
    // that more of them would be a mistake: there is none in the first 10000 seeds.
    assert!(unlucky * 10_000 <= total.max(10_000));
    if total >= 1000 {
        assert!(gave_up * 200 >= total && not_ready * 200 >= total && refused * 200 >= total);
    }
}
