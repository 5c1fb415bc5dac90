// SPDX-License-Identifier: GPL-2.0

//! The requester of a connection, whatever is posted and whatever its peer says in whatever order.
//!
//! * A work request is done once, in its turn, and not before the peer has said so.
//! * No packet leaves outside of the window, with more reads than were agreed upon, or past a fence.
//! * What a read brings is placed once, in order.
//! * What is refused is the packet that the peer named.
//! * What cannot be executed fails in its turn, and nothing of it or behind it leaves before. UC goes on after that.
//! * It never waits for nothing: with a peer that behaves from some moment on, all is done.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rurdma_fuzz::proto::ib::cut::{Mtu, Piece};
use rurdma_fuzz::proto::ib::requester::{
    Effect, Kind, Limits, Next, Request, Requester, Slot, RETRY_EXC,
};
use rurdma_fuzz::proto::serial::Psn;
use rurdma_fuzz::proto::wire::ib::opcode::Place;
use rurdma_fuzz::proto::wire::ib::syndrome::{Nak, Syndrome};
use rurdma_fuzz::proto::wqe::MAX_MSG;
use rurdma_fuzz::Input;
use std::collections::VecDeque;

/// `IB_WC_RNR_RETRY_EXC_ERR`.
const RNR_RETRY_EXC: u8 = 13;
/// `IB_WC_LOC_PROT_ERR`.
const LOC_PROT: u8 = 4;

/// A work request that is not done. Packets have numbers that do not wrap.
struct Work {
    request: Request,
    first: u64,
    packets: u64,
    sent: bool,
    /// Packets of its answer that were placed.
    placed: u64,
    /// It cannot be executed.
    refused: bool,
}

impl Work {
    fn end(&self) -> u64 {
        self.first + self.packets
    }

    /// Its answer is still to come.
    fn asks(&self) -> bool {
        self.request.kind != Kind::Plain && self.placed < self.packets
    }
}

struct Model {
    requester: Requester<Vec<Slot>>,
    limits: Limits,
    uc: bool,
    work: VecDeque<Work>,
    /// Number of the next packet that is new.
    next: u64,
    /// The first packet that was never sent.
    unsent: u64,
    /// The peer has said, at most, that everything before this has arrived.
    told: u64,
    /// Work requests that were posted.
    posted: u32,
    /// Times that something was sent again since anything was heard.
    tries: u8,
    /// The peer's time is not over yet.
    rnr: bool,
    failed: bool,
}

fn limits(input: &mut Input<'_>) -> Limits {
    Limits {
        mtu: Mtu::from_enum(1 + input.byte() % 5).expect("1 to 5"),
        reads: u32::from(input.byte() % 5),
        retries: input.byte() % 8,
        rnr_retries: input.byte() % 8,
        window: u32::from(input.byte()) + 1,
    }
}

/// A number that is often about to wrap.
fn first_psn(input: &mut Input<'_>) -> u64 {
    match input.byte() {
        0x80.. => u64::from(input.long() & 0xff_ffff),
        near => 0x100_0000 - u64::from(near),
    }
}

impl Model {
    fn new(input: &mut Input<'_>) -> Self {
        let flags = input.byte();
        let mut model = Model {
            requester: Requester::new(vec![Slot::default(); 1 << (flags >> 1 & 3)]),
            limits: limits(input),
            uc: flags & 1 != 0,
            work: VecDeque::new(),
            next: 0,
            unsent: 0,
            told: 0,
            posted: 0,
            tries: 0,
            rnr: false,
            failed: false,
        };
        assert!(model.requester.next().is_err() && !model.requester.may_ask());
        model.begin(first_psn(input));
        model
    }

    fn begin(&mut self, first: u64) {
        self.work.clear();
        (self.next, self.unsent, self.told) = (first, first, first);
        (self.tries, self.rnr, self.failed) = (0, false, false);
        self.requester.begin(self.limits, Psn::new(first as u32));
    }

    /// The number of the oldest packet that may be spoken of.
    fn base(&self) -> u64 {
        self.work.front().map_or(self.next, |w| w.first)
    }

    /// A number of the wire.
    fn number(&self, psn: Psn) -> u64 {
        let base = self.base();
        base + u64::from(psn.distance_from(Psn::new(base as u32)))
    }

    fn psn(number: u64) -> Psn {
        Psn::new(number as u32)
    }

    fn push(&mut self, kind: Kind, length: u32, fence: bool) {
        let kind = if self.uc || !self.requester.may_ask() {
            Kind::Plain
        } else {
            kind
        };
        if !self.requester.has_room() {
            return;
        }
        let request = Request {
            kind,
            length,
            fence,
            cookie: self.posted,
        };
        let mtu = u64::from(self.limits.mtu.bytes());
        let packets = match kind {
            Kind::Plain | Kind::Read => u64::from(length).div_ceil(mtu).max(1),
            Kind::Atomic | Kind::Empty => 1,
        };
        self.requester.push(request);
        self.work.push_back(Work {
            request,
            first: self.next,
            packets,
            sent: false,
            placed: 0,
            refused: false,
        });
        self.posted += 1;
        self.next += packets;
        // Old and new numbers can be told apart.
        assert!(self.next - self.base() < 1 << 23);
    }

    /// A new work request cannot be executed, or the next one whose memory is to be sent.
    fn refuse(&mut self, new: bool) {
        if new {
            if !self.requester.has_room() {
                return;
            }
            self.requester.push_refused(self.posted, LOC_PROT);
            self.work.push_back(Work {
                request: Request {
                    cookie: self.posted,
                    ..Request::default()
                },
                first: self.next,
                packets: 1,
                sent: false,
                placed: 0,
                refused: true,
            });
            self.posted += 1;
            self.next += 1;
        } else {
            let Ok(n) = self.requester.next() else {
                return;
            };
            let is_it = |w: &&mut Work| w.request.cookie == n.request.cookie;
            match self.work.iter_mut().find(is_it) {
                Some(w) if matches!(n.request.kind, Kind::Plain | Kind::Empty) => w.refused = true,
                _ => return,
            }
            self.requester.refuse(LOC_PROT);
        }
        assert!(!self.requester.has_room());
        self.settle();
    }

    /// The packet that is about to be sent.
    fn check(&mut self, n: &Next) {
        assert!(!self.failed);
        let number = self.number(n.psn);
        let at = self
            .work
            .iter()
            .position(|w| w.first <= number && number < w.end())
            .expect("of a work request");
        assert!(
            self.work.iter().take(at).all(|w| w.sent),
            "in the order of posting"
        );
        assert!(!self.work.iter().take(at + 1).any(|w| w.refused));
        let w = &self.work[at];
        assert_eq!(n.request, w.request);
        let index = (number - w.first) as u32;
        if index == 0 && w.request.fence {
            assert!(
                !self.work.iter().take(at).any(Work::asks),
                "a fence is kept"
            );
        }
        let (mtu, length) = (self.limits.mtu.bytes(), w.request.length);
        let expected = match w.request.kind {
            Kind::Plain => {
                let offset = index * mtu;
                let len = (length - offset).min(mtu);
                Piece {
                    place: Place::of(index == 0, offset + len == length),
                    offset,
                    len,
                }
            }
            Kind::Read => {
                assert_eq!(u64::from(index), w.placed, "from where it is missing");
                Piece {
                    place: Place::Only,
                    offset: index * mtu,
                    len: length - index * mtu,
                }
            }
            Kind::Atomic | Kind::Empty => Piece {
                place: Place::Only,
                offset: 0,
                len: length,
            },
        };
        assert_eq!(n.piece, expected);
        if w.request.kind == Kind::Plain {
            assert!(n.ack_request || !expected.place.ends());
        }
        assert!(number < self.told.max(self.base()) + u64::from(self.limits.window));
        let behind = match w.request.kind {
            Kind::Plain => number + 1,
            _ => w.end(),
        };
        self.work[at].sent = true;
        self.unsent = self.unsent.max(behind);
        let asked = self.work.iter().filter(|w| w.sent && w.asks()).count();
        assert!(asked <= self.limits.reads as usize);
    }

    /// Sends what is to be sent; `max` packets at most.
    fn send(&mut self, max: usize) -> Vec<Next> {
        let mut sent = Vec::new();
        while sent.len() < max {
            let Ok(n) = self.requester.next() else {
                break;
            };
            assert_eq!(self.requester.next(), Ok(n));
            self.check(&n);
            self.requester.sent(&n);
            if self.uc {
                self.requester.all_arrived();
                self.told = self.unsent;
                self.settle();
            }
            sent.push(n);
        }
        if !self.uc {
            // Each number once, unless something is heard.
            assert!(sent.len() <= self.limits.window as usize);
            let rises = |w: &[Next]| self.number(w[0].psn) < self.number(w[1].psn);
            assert!(sent.windows(2).all(rises));
        }
        sent
    }

    /// Takes out what is done. Something is under way, unless nothing is to be done.
    fn settle(&mut self) {
        while let Some(done) = self.requester.take_done() {
            let w = self.work.pop_front().expect("posted, and not done before");
            assert_eq!(done, w.request, "in order");
            assert!(w.sent && !w.asks() && w.end() <= self.told, "not too early");
        }
        let oldest = self.work.front().map(|w| w.request);
        assert_eq!(self.requester.oldest(), oldest);
        let refused = self.work.front().filter(|w| w.refused);
        let fails = refused.map(|w| (w.request, LOC_PROT));
        assert_eq!(self.requester.failed(), fails);
        if fails.is_some() && self.uc {
            // What was never sent has no numbers.
            self.requester.give_up();
            self.work.clear();
            self.next = self.unsent;
            assert!(self.requester.oldest().is_none() && self.requester.has_room());
        } else if fails.is_some() {
            self.failed = true;
        }
        if self.failed {
            return;
        }
        let moves = self.requester.next().is_ok() || self.requester.awaits_answer() || self.rnr;
        assert!(moves || self.work.is_empty(), "it waits for nothing");
    }

    /// An answer about this packet has had this effect.
    fn effect(&mut self, number: u64, known: bool, effect: Effect) {
        match effect {
            Effect::None => {}
            _ if !known => panic!("{effect:?} of a packet that is not outstanding"),
            Effect::Progress => {}
            Effect::Rnr(_) => {
                self.rnr = true;
                assert!(self.requester.next().is_err() && !self.requester.awaits_answer());
            }
            Effect::Place { .. } => unreachable!("handled before"),
            Effect::Failed(status) => {
                self.failed = true;
                self.settle();
                let w = self.work.front().expect("whose failure it is");
                if status != RETRY_EXC {
                    assert!(w.first <= number && number < w.end(), "the refused one");
                }
            }
        }
        self.settle();
    }

    /// The peer speaks of a packet, and says that everything before `behind` has arrived.
    fn hear(&mut self, number: u64, behind: u64) -> bool {
        let known = number < self.unsent;
        if known {
            self.told = self.told.max(behind);
            // It may be progress: what was told before may count only now that a read is answered.
            self.tries = 0;
        }
        known
    }

    fn acknowledge(&mut self, psn: Psn, syndrome: Syndrome) {
        let number = self.number(psn);
        let known = self.hear(number, number + u64::from(syndrome == Syndrome::Ack));
        let effect = self.requester.acknowledged(psn, syndrome);
        if let Effect::Failed(status) = effect {
            match syndrome {
                Syndrome::Ack | Syndrome::Nak(Nak::Sequence) => assert_eq!(status, RETRY_EXC),
                Syndrome::Rnr(_) => assert!([RETRY_EXC, RNR_RETRY_EXC].contains(&status)),
                Syndrome::Nak(_) => {}
            }
            if status == RNR_RETRY_EXC {
                assert!(self.limits.rnr_retries != 7);
            }
        }
        self.effect(number, known, effect);
    }

    /// A read response of `len` bytes that is for this place, or the answer to an atomic.
    fn respond(&mut self, psn: Psn, place: Place, len: Option<u32>) {
        let number = self.number(psn);
        let known = self.hear(number, number);
        let at = self
            .work
            .iter()
            .position(|w| w.first <= number && number < w.end());
        let in_turn = at.is_some_and(|at| !self.work.iter().take(at).any(Work::asks));
        let effect = match len {
            Some(len) => self.requester.read_response(psn, place, len),
            None => self.requester.atomic_response(psn),
        };
        let placed = match (effect, at) {
            (Effect::Place { cookie, offset }, Some(at)) => {
                assert!(known && in_turn);
                let w = &self.work[at];
                assert_eq!(cookie, w.request.cookie);
                assert_eq!(number, w.first + w.placed, "once, and in order");
                match w.request.kind {
                    Kind::Read => {
                        let left = w.request.length - offset;
                        assert_eq!(offset, w.placed as u32 * self.limits.mtu.bytes());
                        assert_eq!(len, Some(left.min(self.limits.mtu.bytes())));
                        assert_eq!(place.ends(), left <= self.limits.mtu.bytes());
                        assert!(place.begins() || w.placed != 0);
                    }
                    Kind::Atomic => assert!(len.is_none() && offset == 0),
                    other => panic!("{other:?} has no data"),
                }
                self.requester.placed(psn);
                true
            }
            (Effect::Progress, Some(at)) => {
                in_turn && self.work[at].request.kind == Kind::Empty && len == Some(0)
            }
            _ => false,
        };
        if placed {
            self.work[at.expect("it is known")].placed += 1;
            self.hear(number, number + 1);
            self.settle();
        } else {
            self.effect(number, known, effect);
        }
    }

    fn time_out(&mut self) {
        let awaits = self.requester.awaits_answer();
        match self.requester.timed_out() {
            Effect::None => assert!(!awaits),
            Effect::Progress => {
                self.tries += 1;
                assert!(awaits && self.tries <= self.limits.retries);
            }
            Effect::Failed(RETRY_EXC) => {
                assert!(awaits && self.work.front().is_some_and(|w| w.sent));
                self.failed = true;
            }
            other => panic!("{other:?}"),
        }
        self.settle();
    }

    fn rnr_over(&mut self) {
        self.requester.rnr_over();
        self.rnr = false;
        self.settle();
    }

    /// What a peer answers to this packet that has had all before it.
    fn answer(&mut self, n: &Next) {
        let mtu = self.limits.mtu;
        match n.request.kind {
            Kind::Plain if n.ack_request => self.acknowledge(n.psn, Syndrome::Ack),
            Kind::Plain => {}
            Kind::Read => {
                let packets = mtu.packets(n.piece.len);
                for i in 0..packets {
                    let piece = mtu.piece(n.piece.len, i);
                    self.respond(n.psn.plus(i), piece.place, Some(piece.len));
                }
            }
            Kind::Atomic => self.respond(n.psn, Place::Only, None),
            Kind::Empty => self.respond(n.psn, Place::Only, Some(0)),
        }
    }

    /// From now on the peer behaves, and has seen nothing that it did not acknowledge.
    fn finish(&mut self) {
        self.rnr_over();
        if self.requester.awaits_answer() {
            self.time_out();
        }
        while !self.failed && !self.work.is_empty() {
            let sent = self.send(usize::MAX);
            assert!(!sent.is_empty());
            for n in &sent {
                self.answer(n);
                if self.failed {
                    assert!(self.requester.failed().is_some());
                    return;
                }
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut m = Model::new(&mut input);
    // Messages for whose packets there is no time.
    let huge = input.byte() & 7 == 0;
    while !input.0.is_empty() && !m.failed {
        let op = input.byte();
        let psn = |m: &Model, input: &mut Input<'_>| {
            let near = i64::from(input.byte() as i8);
            match op >> 6 {
                0 => Model::psn((m.base() as i64 + near) as u64),
                1 => Model::psn((m.told as i64 + near) as u64),
                2 => Model::psn((m.unsent as i64 - 1 - (near & 7)) as u64),
                _ => Psn::new(input.long()),
            }
        };
        match op & 0xf {
            0..=3 => {
                let kind = [Kind::Plain, Kind::Read, Kind::Atomic, Kind::Empty];
                let kind = kind[usize::from(op & 3)];
                let length = match kind {
                    Kind::Atomic | Kind::Empty => 8,
                    _ if huge => input.long() % (MAX_MSG + 1),
                    // Often whole packets.
                    _ if op & 0x20 != 0 => m.limits.mtu.bytes() * u32::from(input.byte() & 7),
                    _ => u32::from(input.word()) % 9000,
                };
                m.push(kind, length, op & 0x10 != 0);
            }
            5 if op & 0x80 != 0 => m.refuse(op & 0x40 != 0),
            4 | 5 => drop(m.send(usize::from(op >> 4) + 1)),
            6 => drop(m.send(usize::from(input.byte()))),
            _ if m.uc => {}
            7 | 8 => {
                let psn = psn(&m, &mut input);
                if let Some(syndrome) = Syndrome::from_number(input.byte()) {
                    m.acknowledge(psn, syndrome);
                }
            }
            9 => {
                let psn = psn(&m, &mut input);
                let len = u32::from(input.word());
                let place = Place::of(op & 0x10 != 0, op & 0x20 != 0);
                m.respond(psn, place, Some(len));
            }
            10 => {
                let psn = psn(&m, &mut input);
                m.respond(psn, Place::Only, None);
            }
            11 => m.time_out(),
            12 => m.rnr_over(),
            // As it should be.
            13 => {
                for n in m.send(usize::from(op >> 4) + 1) {
                    if !m.failed && !(huge && n.piece.len > 1 << 20) {
                        m.answer(&n);
                    }
                }
            }
            // The next packet of the oldest answer.
            14 => {
                let next = m.work.iter().find(|w| w.asks()).map(|w| {
                    let mtu = m.limits.mtu.bytes();
                    let left = w.request.length - w.placed as u32 * mtu;
                    let (place, len) = match w.request.kind {
                        Kind::Read => (Place::of(w.placed == 0, left <= mtu), Some(left.min(mtu))),
                        Kind::Empty => (Place::Only, Some(0)),
                        _ => (Place::Only, None),
                    };
                    (Model::psn(w.first + w.placed), place, len)
                });
                if let Some((psn, place, len)) = next {
                    m.respond(psn, place, len);
                }
            }
            _ => {
                m.requester.reset();
                assert!(m.requester.oldest().is_none() && m.requester.next().is_err());
                assert!(!m.requester.awaits_answer());
                m.limits = limits(&mut input);
                m.begin(first_psn(&mut input));
            }
        }
        m.settle();
    }
    if !m.failed && !huge {
        m.finish();
        assert!(m.failed || (m.work.is_empty() && !m.requester.awaits_answer()));
    }
});
