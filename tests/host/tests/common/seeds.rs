// SPDX-License-Identifier: GPL-2.0

//! Runs of a simulation that depend on nothing but a seed. One that fails is printed; `RURDMA_SEED=N` runs it
//! alone, `RURDMA_SEEDS=N` that many. Whoever includes this file has `dice` beside it.

use super::dice::Dice;

/// A small generator.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Rng(seed)
    }
}

impl Dice for Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|s| s.parse().unwrap())
}

/// Runs each seed; so many, unless others are asked for.
pub(crate) fn each<R>(count: u64, run: impl Fn(u64) -> R + std::panic::RefUnwindSafe) -> Vec<R> {
    let seeds = match number("RURDMA_SEED") {
        Some(s) => s..s + 1,
        None => 0..number("RURDMA_SEEDS").unwrap_or(count),
    };
    seeds
        .map(|seed| {
            std::panic::catch_unwind(|| run(seed))
                .unwrap_or_else(|_| panic!("seed {seed} fails: RURDMA_SEED={seed}"))
        })
        .collect()
}
