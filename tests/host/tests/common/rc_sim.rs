// SPDX-License-Identifier: GPL-2.0

//! Both ends of the RC state machines over a network that loses, doubles, delays, reorders and corrupts.
//! Time is virtual. What happens is decided by [`Dice`]: a generator in `rc`, the input in the fuzz target
//! `ib_rc`. Whoever includes this file has `proto` beside it.

use super::proto::ib::cut::Mtu;
use super::proto::ib::requester::{Effect, Kind, Limits, Request, Requester, Slot};
use super::proto::ib::responder::{Responder, Step, Verdict};
use super::proto::ib::responses::{Next as Answer, Resource};
use super::proto::serial::Psn;
use super::proto::wire::ib::flush::FlushKind;
use super::proto::wire::ib::opcode::{Extra, Op, Opcode, Service};
use super::proto::wire::ib::packet::{pad_of, Atomic, Packet, Remote};
use super::proto::wire::ib::syndrome::Syndrome;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// What decides.
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

    /// From now on the network is a good one.
    fn calm(&self) -> bool {
        false
    }
}

/// What a work request asks for. Memory of the peer is addressed from 0 on.
#[derive(Clone, Debug)]
enum Work {
    Send(Vec<u8>),
    Write(u64, Vec<u8>),
    Read(u64, u32),
    FetchAdd(u64, u64),
    CmpSwp(u64, u64, u64),
    AtomicWrite(u64, [u8; 8]),
    Flush(u64, u32),
}

const MEMORY: usize = 1 << 16;
/// The memory that atomics work on, behind everything else.
const COUNTERS: u64 = (MEMORY - 64) as u64;
const RKEY: u32 = 0x1234_5678;
const FLUSH: FlushKind = FlushKind {
    global: true,
    persistent: false,
    whole: false,
};

/// Per mille of the packets that...
#[derive(Clone, Copy, Debug)]
struct Faults {
    lost: u64,
    doubled: u64,
    corrupted: u64,
    /// Up to so many units of time late.
    late: u64,
}

impl Faults {
    const NONE: Faults = Faults {
        lost: 0,
        doubled: 0,
        corrupted: 0,
        late: 0,
    };
}

/// Two endpoints, what is between them, and what was asked for.
pub(crate) struct Sim<D> {
    dice: D,
    faults: Faults,
    lossy: bool,
    now: u64,
    /// Packets on their way: time, serial number, to the responder, bytes.
    wire: BinaryHeap<Reverse<(u64, u64, bool, Vec<u8>)>>,
    serial: u64,
    mtu: Mtu,
    requester: Requester<Vec<Slot>>,
    responder: Responder<Vec<Resource>>,
    work: Vec<Work>,
    results: Vec<Vec<u8>>,
    posted: usize,
    completed: usize,
    /// The connection has ended with this status.
    pub(crate) failed: Option<u8>,
    memory: Vec<u8>,
    receives: u32,
    message: Vec<u8>,
    delivered: Vec<Vec<u8>>,
    timer: u64,
    rnr: Option<u64>,
    atomics_executed: u64,
    atomic_writes: usize,
    flushed: usize,
}

const TIMEOUT: u64 = 400;

impl<D: Dice> Sim<D> {
    /// Some work, some network.
    pub(crate) fn new(mut dice: D) -> Self {
        // One run in eight has a good network, where retries must not be needed at all.
        let faults = if dice.below(8) == 0 {
            Faults::NONE
        } else {
            Faults {
                lost: dice.below(80),
                doubled: dice.below(80),
                corrupted: dice.below(40),
                late: dice.below(60),
            }
        };
        let mtu = Mtu::from_enum(1 + dice.below(3) as u8).unwrap();
        let depth = 1 << dice.below(5);
        // Often just before the wrap.
        let first = match dice.below(3) {
            0 => Psn::new(dice.next() as u32),
            _ => Psn::new(0u32.wrapping_sub(dice.below(100) as u32)),
        };
        let limits = Limits {
            mtu,
            reads: depth,
            retries: 7,
            rnr_retries: 7,
            window: 1 + dice.below(100) as u32,
        };
        let mut requester = Requester::new(vec![Slot::default(); 16]);
        requester.begin(limits, first);
        let mut responder = Responder::new(vec![Resource::EMPTY; 16]);
        responder.begin(Service::Rc, mtu, first, depth);
        let n = 1 + dice.below(30);
        let work: Vec<Work> = (0..n).map(|_| some_work(&mut dice)).collect();
        Sim {
            dice,
            faults,
            lossy: faults.lost + faults.corrupted > 0,
            now: 0,
            wire: BinaryHeap::new(),
            serial: 0,
            mtu,
            requester,
            responder,
            results: vec![Vec::new(); work.len()],
            work,
            posted: 0,
            completed: 0,
            failed: None,
            memory: memory_at_first(),
            receives: 0,
            message: Vec::new(),
            delivered: Vec::new(),
            timer: 0,
            rnr: None,
            atomics_executed: 0,
            atomic_writes: 0,
            flushed: 0,
        }
    }

    /// A packet goes on the wire: payload, pad, and a sum in the place of the ICRC.
    fn transmit(&mut self, packet: &Packet, payload: &[u8], to_responder: bool) {
        let mut bytes = vec![0; 64];
        let n = packet.emit(payload.len(), &mut bytes).unwrap();
        bytes.truncate(n);
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len() + pad_of(payload.len()), 0);
        let sum: u32 = bytes.iter().fold(1, |s: u32, b| {
            s.wrapping_mul(31).wrapping_add(u32::from(*b))
        });
        bytes.extend_from_slice(&sum.to_le_bytes());
        let copies = 1 + u64::from(self.dice.chance(self.faults.doubled));
        for _ in 0..copies {
            if self.dice.chance(self.faults.lost) {
                continue;
            }
            let mut bytes = bytes.clone();
            if self.dice.chance(self.faults.corrupted) {
                let at = self.dice.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << self.dice.below(8);
            }
            let late = match self.faults.late {
                0 => 0,
                n => self.dice.below(n),
            };
            self.serial += 1;
            self.wire.push(Reverse((
                self.now + 5 + late,
                self.serial,
                to_responder,
                bytes,
            )));
        }
    }

    fn request(&mut self) -> bool {
        while self.posted < self.work.len() && self.requester.has_room() && self.dice.chance(700) {
            let (kind, length) = match &self.work[self.posted] {
                Work::Send(d) | Work::Write(_, d) => (Kind::Plain, d.len() as u32),
                Work::Read(_, n) => (Kind::Read, *n),
                Work::FetchAdd(..) | Work::CmpSwp(..) => (Kind::Atomic, 8),
                Work::AtomicWrite(..) | Work::Flush(..) => (Kind::Empty, 8),
            };
            self.requester.push(Request {
                kind,
                length,
                fence: self.dice.chance(200),
                cookie: self.posted as u32,
            });
            self.posted += 1;
        }
        let Ok(next) = self.requester.next() else {
            return false;
        };
        let (at, len) = (next.piece.offset as usize, next.piece.len as usize);
        let rc = |op| Opcode {
            service: Service::Rc,
            op,
        };
        let remote = |va, length| Remote {
            va,
            rkey: RKEY,
            length,
        };
        let (op, payload) = match &self.work[next.request.cookie as usize] {
            Work::Send(d) => (
                Op::Send(next.piece.place, Extra::None),
                d[at..at + len].to_vec(),
            ),
            Work::Write(_, d) => (
                Op::Write(next.piece.place, Extra::None),
                d[at..at + len].to_vec(),
            ),
            Work::Read(..) => (Op::ReadRequest, vec![]),
            Work::FetchAdd(..) => (Op::FetchAdd, vec![]),
            Work::CmpSwp(..) => (Op::CmpSwp, vec![]),
            Work::AtomicWrite(_, d) => (Op::AtomicWrite, d.to_vec()),
            Work::Flush(..) => (Op::Flush, vec![]),
        };
        let mut packet = Packet {
            ack_request: next.ack_request,
            ..Packet::new(rc(op), 7, next.psn)
        };
        match self.work[next.request.cookie as usize] {
            Work::Write(va, ref d) => packet.remote = remote(va, d.len() as u32),
            Work::Read(va, _) => {
                packet.remote = remote(va + u64::from(next.piece.offset), next.piece.len);
            }
            Work::FetchAdd(va, add) => {
                packet.atomic = Atomic {
                    va,
                    rkey: RKEY,
                    swap_add: add,
                    compare: 0,
                };
            }
            Work::CmpSwp(va, compare, swap) => {
                packet.atomic = Atomic {
                    va,
                    rkey: RKEY,
                    swap_add: swap,
                    compare,
                };
            }
            Work::AtomicWrite(va, _) => packet.remote = remote(va, 8),
            Work::Flush(va, n) => {
                packet.flush = FLUSH.word();
                packet.remote = remote(va, n);
            }
            Work::Send(_) => {}
        }
        if std::env::var_os("RURDMA_TRACE").is_some() {
            println!("{}: {next:?}", self.now);
        }
        self.transmit(&packet, &payload, true);
        self.requester.sent(&next);
        self.timer = self.timer.max(self.now);
        true
    }

    /// A packet for the responder.
    fn respond(&mut self, bytes: &[u8]) {
        let Ok(r) = Packet::parse(bytes, bytes.len()) else {
            return;
        };
        let payload = bytes[r.payload_at..r.payload_at + r.payload_len].to_vec();
        let step = match self.responder.receive(&r) {
            Verdict::Execute(step) => step,
            Verdict::Drop | Verdict::Repeat => return,
            v => panic!("{v:?} for {:?}", r.packet),
        };
        let mut result = 0;
        match step {
            Step::Send { place, offset, .. } => {
                if place.begins() {
                    if self.receives == 0 {
                        self.responder.not_ready(1 + self.dice.below(3) as u8);
                        return;
                    }
                    self.receives -= 1;
                    self.message.clear();
                }
                assert_eq!(self.message.len(), offset as usize);
                self.message.extend_from_slice(&payload);
                if place.ends() {
                    let message = std::mem::take(&mut self.message);
                    self.delivered.push(message);
                }
            }
            Step::Write { remote, offset, .. } => {
                assert_eq!(remote.rkey, RKEY);
                let at = (remote.va + u64::from(offset)) as usize;
                self.memory[at..at + payload.len()].copy_from_slice(&payload);
            }
            Step::AtomicWrite(remote) => {
                self.memory[remote.va as usize..][..8].copy_from_slice(&payload);
                self.atomic_writes += 1;
            }
            Step::FetchAdd(a) | Step::CmpSwp(a) => {
                let at = a.va as usize;
                let was = u64::from_le_bytes(self.memory[at..at + 8].try_into().unwrap());
                let is = match step {
                    Step::FetchAdd(_) => was.wrapping_add(a.swap_add),
                    _ if was == a.compare => a.swap_add,
                    _ => was,
                };
                self.memory[at..at + 8].copy_from_slice(&is.to_le_bytes());
                result = was;
                self.atomics_executed += 1;
            }
            Step::Flush(kind, _) => {
                assert_eq!(kind, FLUSH);
                // All before it is there, and nothing behind it.
                let flushes = |(_, w): &(usize, &Work)| matches!(w, Work::Flush(..));
                let at = self.work.iter().enumerate().filter(flushes);
                let (at, _) = at.clone().nth(self.flushed).expect("flushed twice");
                assert!(self.memory == self.perfect(at));
                self.flushed += 1;
            }
            Step::Read(_) => {}
        }
        self.responder.accept(&r, &step, result).unwrap();
    }

    /// Sends an answer, if there is one.
    fn answer(&mut self) -> bool {
        let Some(answer) = self.responder.responses.peek(self.mtu) else {
            return false;
        };
        if std::env::var_os("RURDMA_TRACE").is_some() {
            println!("{}: {answer:?}", self.now);
        }
        let rc = |op| Opcode {
            service: Service::Rc,
            op,
        };
        match answer {
            Answer::Ack(ack) => {
                let packet = Packet {
                    syndrome: ack.syndrome.number(),
                    msn: ack.msn,
                    ..Packet::new(rc(Op::Acknowledge), 8, ack.psn)
                };
                self.transmit(&packet, &[], false);
            }
            Answer::Read {
                remote,
                piece,
                psn,
                msn,
            } => {
                let packet = Packet {
                    syndrome: Syndrome::Ack.number(),
                    msn,
                    ..Packet::new(rc(Op::ReadResponse(piece.place)), 8, psn)
                };
                let at = (remote.va + u64::from(piece.offset)) as usize;
                let payload = self.memory[at..at + piece.len as usize].to_vec();
                self.transmit(&packet, &payload, false);
            }
            Answer::Atomic { original, psn, msn } => {
                let packet = Packet {
                    syndrome: Syndrome::Ack.number(),
                    msn,
                    original,
                    ..Packet::new(rc(Op::AtomicAcknowledge), 8, psn)
                };
                self.transmit(&packet, &[], false);
            }
        }
        self.responder.responses.sent();
        true
    }

    /// An answer for the requester.
    fn answered(&mut self, bytes: &[u8]) {
        let Ok(r) = Packet::parse(bytes, bytes.len()) else {
            return;
        };
        let p = r.packet;
        let payload = &bytes[r.payload_at..r.payload_at + r.payload_len];
        let effect = match p.opcode.op {
            Op::Acknowledge => {
                let syndrome = Syndrome::from_number(p.syndrome).unwrap();
                self.requester.acknowledged(p.psn, syndrome)
            }
            Op::ReadResponse(_) => self.requester.read_response(p.psn, r.payload_len as u32),
            Op::AtomicAcknowledge => self.requester.atomic_response(p.psn),
            _ => panic!("{p:?}"),
        };
        match effect {
            Effect::None => {}
            Effect::Progress => self.timer = self.now,
            Effect::Rnr(timer) => self.rnr = Some(self.now + u64::from(timer) * 20),
            Effect::Place { cookie, offset } => {
                let result = &mut self.results[cookie as usize];
                assert_eq!(result.len(), offset as usize, "placed in order, once");
                match p.opcode.op {
                    Op::ReadResponse(_) => result.extend_from_slice(payload),
                    _ => result.extend_from_slice(&p.original.to_le_bytes()),
                }
                self.requester.placed(p.psn);
                self.timer = self.now;
            }
            Effect::Failed(status) => self.failed = Some(status),
        }
    }

    fn complete(&mut self) {
        while let Some(request) = self.requester.take_done() {
            assert_eq!(request.cookie as usize, self.completed, "in order");
            self.completed += 1;
        }
    }

    /// Whether the network loses packets, as it was at first.
    pub(crate) fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// Until all is done, or the connection has failed.
    pub(crate) fn run(&mut self) {
        let mut steps = 0u64;
        while self.completed < self.work.len() && self.failed.is_none() {
            steps += 1;
            assert!(
                steps < 2_000_000,
                "no end: {} of {} done",
                self.completed,
                self.work.len()
            );
            if self.dice.calm() {
                self.faults = Faults::NONE;
            }
            if self.dice.chance(100) {
                self.receives = (self.receives + 2).min(8);
            }
            let mut busy = false;
            for _ in 0..1 + self.dice.below(4) {
                busy |= self.request();
            }
            for _ in 0..self.dice.below(4) {
                busy |= self.answer();
            }
            self.now += 1;
            if !busy
                && self
                    .wire
                    .peek()
                    .is_none_or(|Reverse((t, ..))| *t > self.now)
            {
                self.now += 4;
            }
            while let Some(Reverse((t, ..))) = self.wire.peek() {
                if *t > self.now {
                    break;
                }
                let Some(Reverse((_, _, to_responder, bytes))) = self.wire.pop() else {
                    break;
                };
                let (body, sum) = bytes.split_at(bytes.len() - 4);
                let is: u32 = body.iter().fold(1, |s: u32, b| {
                    s.wrapping_mul(31).wrapping_add(u32::from(*b))
                });
                if sum != is.to_le_bytes() {
                    continue;
                }
                if to_responder {
                    self.respond(&bytes);
                } else {
                    self.answered(&bytes);
                }
            }
            self.complete();
            if self.rnr.is_some_and(|t| t <= self.now) {
                self.rnr = None;
                self.requester.rnr_over();
                self.timer = self.now;
            }
            if self.requester.awaits_answer() && self.now > self.timer + TIMEOUT {
                self.timer = self.now;
                if std::env::var_os("RURDMA_TRACE").is_some() {
                    println!("{}: timeout: {:?}", self.now, self.requester);
                }
                if let Effect::Failed(status) = self.requester.timed_out() {
                    self.failed = Some(status);
                }
            }
        }
    }

    /// The memory after the first `n` work requests on a perfect machine, in order.
    fn perfect(&self, n: usize) -> Vec<u8> {
        let mut memory = memory_at_first();
        for work in self.work.iter().take(n) {
            work.execute(&mut memory);
        }
        memory
    }

    /// All is as a perfect machine would have done it.
    pub(crate) fn verify(&self) {
        let mut memory = memory_at_first();
        let mut sends = VecDeque::from(self.delivered.clone());
        let (mut atomics, mut atomic_writes, mut flushed) = (0, 0, 0);
        for (work, result) in self.work.iter().zip(&self.results) {
            let original = work.execute(&mut memory);
            match work {
                Work::Send(d) => assert_eq!(sends.pop_front().as_ref(), Some(d)),
                // Writes behind a read may be placed before it is answered.
                Work::Read(_, n) => assert_eq!(result.len(), *n as usize),
                Work::FetchAdd(..) | Work::CmpSwp(..) => {
                    atomics += 1;
                    assert_eq!(Some(&result[..]), original.as_ref().map(|o| &o[..]));
                }
                Work::AtomicWrite(..) => atomic_writes += 1,
                Work::Flush(..) => flushed += 1,
                Work::Write(..) => {}
            }
        }
        assert!(sends.is_empty(), "delivered twice");
        assert_eq!(self.atomics_executed, atomics, "once each");
        assert_eq!(self.atomic_writes, atomic_writes, "once each");
        assert_eq!(self.flushed, flushed, "once each");
        assert!(self.memory == memory);
    }
}

impl Work {
    /// What it does to the peer's memory; of an atomic: what was there before.
    fn execute(&self, memory: &mut [u8]) -> Option<[u8; 8]> {
        match self {
            Work::Write(va, d) => memory[*va as usize..][..d.len()].copy_from_slice(d),
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
            Work::Send(_) | Work::Read(..) | Work::Flush(..) => {}
        }
        None
    }
}

/// Bytes that tell where they are, and counters that are zero.
fn memory_at_first() -> Vec<u8> {
    let mut memory: Vec<u8> = (0..MEMORY).map(|i| i as u8).collect();
    memory[COUNTERS as usize..].fill(0);
    memory
}

fn some_work(dice: &mut impl Dice) -> Work {
    let length = match dice.below(4) {
        0 => dice.below(3),
        1 => 256 * dice.below(5),
        _ => dice.below(6000),
    } as usize;
    let data = dice.data(length);
    let va = dice.below(COUNTERS - 6000);
    let counter = COUNTERS + 8 * dice.below(4);
    match dice.below(10) {
        0..=2 => Work::Send(data),
        3 | 4 => Work::Write(va, data),
        5 | 6 => Work::Read(va, length as u32),
        // Small numbers, so that what is compared is there often enough.
        7 => Work::FetchAdd(counter, dice.below(3)),
        8 => Work::CmpSwp(counter, dice.below(4), dice.below(4)),
        _ => match dice.below(2) {
            0 => Work::AtomicWrite(COUNTERS + 32, dice.next().to_le_bytes()),
            _ => Work::Flush(va, 100),
        },
    }
}
