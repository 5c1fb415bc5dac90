// SPDX-License-Identifier: GPL-2.0

//! A network between two ends of a simulation that loses, doubles, delays, reorders and corrupts. Time is
//! virtual. Whoever includes this file has `dice` and `proto` beside it.

use super::dice::Dice;
use super::proto::wire::ib::packet::{pad_of, Packet};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Per mille of the packets that...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) corrupted: u64,
    /// Up to so many units of time late.
    pub(crate) late: u64,
}

impl Faults {
    pub(crate) const NONE: Faults = Faults {
        lost: 0,
        doubled: 0,
        corrupted: 0,
        late: 0,
    };

    /// One run in eight has a good network.
    pub(crate) fn some(dice: &mut impl Dice) -> Self {
        if dice.below(8) == 0 {
            Faults::NONE
        } else {
            Faults {
                lost: dice.below(80),
                doubled: dice.below(80),
                corrupted: dice.below(40),
                late: dice.below(60),
            }
        }
    }
}

/// Time, serial number, to the responder, bytes.
type OnWire = Reverse<(u64, u64, bool, Vec<u8>)>;

/// What is on its way.
pub(crate) struct Network {
    pub(crate) faults: Faults,
    wire: BinaryHeap<OnWire>,
    serial: u64,
}

/// In the place of the ICRC.
fn sum(bytes: &[u8]) -> [u8; 4] {
    let add = |s: u32, b: &u8| s.wrapping_mul(31).wrapping_add(u32::from(*b));
    bytes.iter().fold(1, add).to_le_bytes()
}

impl Network {
    pub(crate) fn new(faults: Faults) -> Self {
        Network {
            faults,
            wire: BinaryHeap::new(),
            serial: 0,
        }
    }

    /// A packet goes on the wire now: headers, payload, pad, and a sum.
    pub(crate) fn transmit(
        &mut self,
        dice: &mut impl Dice,
        now: u64,
        packet: &Packet,
        payload: &[u8],
        to_responder: bool,
    ) {
        let mut bytes = vec![0; 64];
        let n = packet.emit(payload.len(), &mut bytes).unwrap();
        bytes.truncate(n);
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len() + pad_of(payload.len()), 0);
        let sum = sum(&bytes);
        bytes.extend_from_slice(&sum);
        let copies = 1 + u64::from(dice.chance(self.faults.doubled));
        for _ in 0..copies {
            if dice.chance(self.faults.lost) {
                continue;
            }
            let mut bytes = bytes.clone();
            if dice.chance(self.faults.corrupted) {
                let at = dice.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << dice.below(8);
            }
            let late = match self.faults.late {
                0 => 0,
                n => dice.below(n),
            };
            self.serial += 1;
            let at = now + 5 + late;
            self.wire
                .push(Reverse((at, self.serial, to_responder, bytes)));
        }
    }

    /// Whether something is there by now.
    pub(crate) fn has(&self, now: u64) -> bool {
        self.wire.peek().is_some_and(|Reverse((t, ..))| *t <= now)
    }

    /// What is there by now, with a sum that is right, and whether it is for the responder.
    pub(crate) fn arrived(&mut self, now: u64) -> Option<(bool, Vec<u8>)> {
        while self.has(now) {
            let Reverse((_, _, to_responder, bytes)) = self.wire.pop()?;
            let (body, is) = bytes.split_at(bytes.len() - 4);
            if sum(body) == *is {
                return Some((to_responder, bytes));
            }
        }
        None
    }
}
