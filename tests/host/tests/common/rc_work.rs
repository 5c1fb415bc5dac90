// SPDX-License-Identifier: GPL-2.0

//! What is asked for in a simulation (`rc_sim`), and what a perfect machine does with it.

use super::proto::ib::cut::{Mtu, Piece};
use super::proto::ib::requester::{Kind, Next};
use super::proto::ib::responder::Step;
use super::proto::wire::ib::flush::FlushKind;
use super::proto::wire::ib::opcode::{Extra, Op, Opcode, Place, Service};
use super::proto::wire::ib::packet::{Atomic, Packet, Remote};
use super::Dice;

const MEMORY: u64 = 1 << 17;
/// No WRITE goes below this.
const BUSY: u64 = 3 << 15;
/// The memory that atomics work on, behind everything else.
const COUNTERS: u64 = MEMORY - 64;
/// Bytes of a message, at most.
const LONGEST: u64 = 5 << 12;
const RKEY: u32 = 0x1234_5678;
const FLUSH: FlushKind = FlushKind {
    global: true,
    persistent: false,
    whole: false,
};

/// What the last packet of a message carries besides its data.
type With = (Extra, u32);

/// What a work request asks for. Memory of the peer is addressed from 0 on.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Send(Vec<u8>, With),
    Write(u64, Vec<u8>, With),
    Read(u64, u32),
    FetchAdd(u64, u64),
    CmpSwp(u64, u64, u64),
    AtomicWrite(u64, [u8; 8]),
    Flush(u64, u32),
}

/// Bytes that tell where they are, whatever the MTU, and counters that are zero.
pub(super) fn memory_at_first() -> Vec<u8> {
    let mut memory: Vec<u8> = (0..MEMORY as u32)
        .map(|i| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8)
        .collect();
    memory[COUNTERS as usize..].fill(0);
    memory
}

fn some_with(dice: &mut impl Dice, extras: &[Extra]) -> With {
    match extras.get(dice.below(4) as usize) {
        Some(extra) => (*extra, dice.below(1 << 32) as u32),
        None => (Extra::None, 0),
    }
}

pub(super) fn some_work(dice: &mut impl Dice, mtu: Mtu) -> Work {
    let mtu = u64::from(mtu.bytes());
    let length = match dice.below(4) {
        0 => dice.below(3),
        1 => mtu * dice.below(6),
        // Of several packets, whatever the path MTU.
        _ => dice.below((5 * mtu).max(6000)),
    } as usize;
    let data = dice.data(length);
    let busy = BUSY + dice.below(COUNTERS - BUSY - LONGEST);
    let counter = COUNTERS + 8 * dice.below(4);
    match dice.below(10) {
        0..=2 => Work::Send(data, some_with(dice, &[Extra::Imm, Extra::Inv])),
        3 | 4 => Work::Write(busy, data, some_with(dice, &[Extra::Imm])),
        5 => Work::Read(busy, length as u32),
        6 => Work::Read(dice.below(BUSY - LONGEST), length as u32),
        // Small numbers, so that what is compared is there often enough.
        7 => Work::FetchAdd(counter, dice.below(3)),
        8 => Work::CmpSwp(counter, dice.below(4), dice.below(4)),
        _ => match dice.below(2) {
            0 => Work::AtomicWrite(COUNTERS + 32, dice.next().to_le_bytes()),
            _ => Work::Flush(busy, 100),
        },
    }
}

const fn remote(va: u64, length: u32) -> Remote {
    Remote {
        va,
        rkey: RKEY,
        length,
    }
}

const fn atomic(va: u64, swap_add: u64, compare: u64) -> Atomic {
    Atomic {
        va,
        rkey: RKEY,
        swap_add,
        compare,
    }
}

/// What the packet at this place carries of it.
fn at(with: With, place: Place) -> With {
    if place.ends() {
        with
    } else {
        (Extra::None, 0)
    }
}

impl Work {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Work::Send(..) | Work::Write(..) => Kind::Plain,
            Work::Read(..) => Kind::Read,
            Work::FetchAdd(..) | Work::CmpSwp(..) => Kind::Atomic,
            Work::AtomicWrite(..) | Work::Flush(..) => Kind::Empty,
        }
    }

    /// Bytes of the message.
    pub(super) fn length(&self) -> u32 {
        match self {
            Work::Send(d, _) | Work::Write(_, d, _) => d.len() as u32,
            Work::Read(_, n) => *n,
            _ => 8,
        }
    }

    /// Bytes that it brings.
    pub(super) fn brings(&self) -> usize {
        match self.kind() {
            Kind::Plain | Kind::Empty => 0,
            Kind::Read | Kind::Atomic => self.length() as usize,
        }
    }

    /// Whether its packets carry memory of the requester's.
    pub(super) fn carries(&self) -> bool {
        matches!(
            self,
            Work::Send(..) | Work::Write(..) | Work::AtomicWrite(..)
        )
    }

    /// Whether it takes a receive.
    pub(super) fn takes_receive(&self) -> bool {
        matches!(self, Work::Send(..) | Work::Write(_, _, (Extra::Imm, _)))
    }

    /// The packet that is to be sent of it, and its payload.
    pub(super) fn packet(&self, next: &Next) -> (Packet, &[u8]) {
        let Piece { place, offset, len } = next.piece;
        let (offset, len) = (offset as usize, len as usize);
        let mut p = Packet {
            ack_request: next.ack_request,
            ..Packet::new(opcode(Op::ReadRequest), 7, next.psn)
        };
        let none: &[u8] = &[];
        let (op, payload) = match self {
            Work::Send(d, with) => {
                let (extra, value) = at(*with, place);
                p.extra = value;
                (Op::Send(place, extra), &d[offset..offset + len])
            }
            Work::Write(va, d, with) => {
                let (extra, value) = at(*with, place);
                p.extra = value;
                p.remote = remote(*va, d.len() as u32);
                (Op::Write(place, extra), &d[offset..offset + len])
            }
            Work::Read(va, _) => {
                p.remote = remote(va + offset as u64, len as u32);
                (Op::ReadRequest, none)
            }
            Work::FetchAdd(va, add) => {
                p.atomic = atomic(*va, *add, 0);
                (Op::FetchAdd, none)
            }
            Work::CmpSwp(va, compare, swap) => {
                p.atomic = atomic(*va, *swap, *compare);
                (Op::CmpSwp, none)
            }
            Work::AtomicWrite(va, d) => {
                p.remote = remote(*va, 8);
                (Op::AtomicWrite, &d[..])
            }
            Work::Flush(va, n) => {
                p.flush = FLUSH.word();
                p.remote = remote(*va, *n);
                (Op::Flush, none)
            }
        };
        p.opcode = opcode(op);
        (p, payload)
    }

    /// Whether this step of the responder, with what its packet carries, is the next one of this work
    /// request, of which so many bytes have been there.
    pub(super) fn is(&self, step: &Step, payload: &[u8], value: u32, had: usize) -> bool {
        let goes_on = |data: &[u8], place: Place, offset: u32| {
            offset as usize == had
                && place.begins() == (had == 0)
                && place.ends() == (had + payload.len() == data.len())
                && data[had..].starts_with(payload)
        };
        match (self, *step) {
            (
                Work::Send(d, with),
                Step::Send {
                    place,
                    offset,
                    extra,
                },
            ) => goes_on(d, place, offset) && at(*with, place) == (extra, value),
            (
                Work::Write(va, d, with),
                Step::Write {
                    place,
                    remote: to,
                    offset,
                    imm,
                },
            ) => {
                let extra = if imm { Extra::Imm } else { Extra::None };
                goes_on(d, place, offset)
                    && at(*with, place) == (extra, value)
                    && to == remote(*va, d.len() as u32)
            }
            (Work::Read(va, n), Step::Read(from)) => from == remote(*va, *n),
            (Work::FetchAdd(va, add), Step::FetchAdd(a)) => a == atomic(*va, *add, 0),
            (Work::CmpSwp(va, compare, swap), Step::CmpSwp(a)) => a == atomic(*va, *swap, *compare),
            (Work::AtomicWrite(va, d), Step::AtomicWrite(to)) => {
                to == remote(*va, 8) && payload == d
            }
            (Work::Flush(va, n), Step::Flush(kind, what)) => {
                kind == FLUSH && what == remote(*va, *n)
            }
            _ => false,
        }
    }

    /// What it does to the peer's memory; of an atomic: what was there before.
    pub(super) fn execute(&self, memory: &mut [u8]) -> Option<[u8; 8]> {
        match self {
            Work::Write(va, d, _) => memory[*va as usize..][..d.len()].copy_from_slice(d),
            Work::AtomicWrite(va, d) => memory[*va as usize..][..8].copy_from_slice(d),
            Work::FetchAdd(va, _) | Work::CmpSwp(va, ..) => {
                let m: &mut [u8; 8] = (&mut memory[*va as usize..][..8]).try_into().unwrap();
                let original = *m;
                let was = u64::from_le_bytes(original);
                let is = match self {
                    Work::FetchAdd(_, add) => was.wrapping_add(*add),
                    Work::CmpSwp(_, compare, swap) if was == *compare => *swap,
                    _ => was,
                };
                *m = is.to_le_bytes();
                return Some(original);
            }
            Work::Send(..) | Work::Read(..) | Work::Flush(..) => {}
        }
        None
    }

    /// The same, if so many bytes have arrived and more are to come.
    pub(super) fn execute_part(&self, memory: &mut [u8], had: usize) {
        if let Work::Write(va, d, _) = self {
            memory[*va as usize..][..had].copy_from_slice(&d[..had]);
        }
    }

    /// What a WRITE puts to this address.
    pub(super) fn puts(&self, to: u64) -> Option<u8> {
        match self {
            Work::Write(va, d, _) => d.get(to.checked_sub(*va)? as usize).copied(),
            _ => None,
        }
    }
}

pub(super) const fn opcode(op: Op) -> Opcode {
    Opcode {
        service: Service::Rc,
        op,
    }
}
