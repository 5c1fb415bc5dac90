// SPDX-License-Identifier: GPL-2.0

//! Both ends of the UC state machines over bad networks: a message arrives whole and right, or not at all. Which
//! seeds: see `common/seeds.rs`; `RURDMA_TRACE=1` prints what is sent, and what comes of it.

#![allow(missing_docs)]

#[path = "common/dice.rs"]
mod dice;
#[path = "common/network.rs"]
mod network;
#[path = "common/seeds.rs"]
mod seeds;
#[path = "common/uc_sim.rs"]
mod uc_sim;

use rurdma_host_tests::proto;
use seeds::Rng;
use uc_sim::{Outcome, Sim};

#[test]
fn bad_networks() {
    let ran = seeds::each(2000, |seed| {
        let mut sim = Sim::new(Rng::new(seed));
        sim.run();
        sim.verify()
    });
    let sum = |of: fn(&Outcome) -> usize| ran.iter().map(of).sum::<usize>();
    let (sent, arrived, again) = (sum(|o| o.sent), sum(|o| o.arrived), sum(|o| o.again));
    let (abandoned, not_taken) = (sum(|o| o.abandoned), sum(|o| o.not_taken));
    let (refused, good) = (sum(|o| o.refused), sum(|o| usize::from(o.good)));
    println!(
        "{} seeds, {good} of them good: {sent} messages, {arrived} arrived, {again} of them again, \
         {abandoned} cut off, {not_taken} not taken, {refused} refused here",
        ran.len()
    );
    let enough = ran.len() >= 1000;
    if enough {
        assert!(good * 50 >= ran.len() && arrived * 3 >= sent && again * 200 >= sent);
        assert!(abandoned * 20 >= sent && not_taken * 20 >= sent && refused * 10 >= ran.len());
    }
    for mtu in [256, 512, 1024, 2048, 4096] {
        let here: Vec<&Outcome> = ran.iter().filter(|o| o.mtu == mtu).collect();
        let n = here.len();
        let wraps = here.iter().filter(|o| o.wraps).count();
        let wrap_arrived = here.iter().filter(|o| o.wrap_arrived).count();
        println!(
            "path MTU {mtu}: {n} seeds, the PSN wraps in a message of {wraps}, which has arrived in {wrap_arrived}"
        );
        if enough {
            assert!(n * 8 >= ran.len() && wraps * 5 >= n && wrap_arrived * 15 >= n);
        }
    }
}
