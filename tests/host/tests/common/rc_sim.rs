// SPDX-License-Identifier: GPL-2.0

//! Both ends of the RC state machines over a network that loses, doubles, delays, reorders and corrupts.
//! Time is virtual. What happens is decided by [`Dice`]: a generator in `rc`, the input in the fuzz target
//! `ib_rc`. Whoever includes this file has `dice`, `network` and `proto` beside it.

use super::dice::Dice;
use super::network::{Faults, Network};
use super::proto;
use super::proto::ib::cut::Mtu;
use super::proto::ib::requester::{
    Effect, Idle, Kind, Limits, Next, Request, Requester, Slot, RETRY_EXC,
};
use super::proto::ib::responder::{Responder, Step, Verdict};
use super::proto::ib::responses::{Next as Answer, Resource};
use super::proto::serial::Psn;
use super::proto::wire::ib::opcode::{Op, Service};
use super::proto::wire::ib::packet::Packet;
use super::proto::wire::ib::syndrome::Syndrome;
use rc_tries::{Clock, Grant, Tries, RNR_RETRY_EXC};
use rc_work::{memory_at_first, opcode, some_work, Work};

#[path = "rc_tries.rs"]
mod rc_tries;
#[path = "rc_work.rs"]
mod rc_work;

/// How a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All is done.
    Done,
    /// Retries exceeded: the peer cannot be told from a dead one, nor from one that has no time.
    GaveUp,
    /// The same, with 7 retries all the time and a peer that was alive, and had time.
    Unlucky,
    /// The peer was not ready too often.
    NotReady,
    /// A work request could not be executed.
    Refused,
}

/// What became of a run.
#[allow(dead_code, reason = "a fuzz target does not count")]
pub(crate) struct Outcome {
    pub(crate) end: End,
    pub(crate) mtu: u32,
    pub(crate) wrap: Wrap,
}

/// What the wrap of the packet numbers has met with.
#[derive(Clone, Copy, Default)]
#[allow(dead_code, reason = "a fuzz target does not count")]
pub(crate) struct Wrap {
    /// The responder has gone beyond it.
    pub(crate) passed: bool,
    /// Packets before and behind it were on their way at a time, not acknowledged.
    pub(crate) in_flight: bool,
    /// From behind it the requester has gone back to before it.
    pub(crate) back: bool,
}

/// A work request that cannot be executed.
#[derive(Clone, Copy, Debug)]
struct Bad {
    /// Which.
    at: usize,
    /// It makes no sense at all; otherwise its memory cannot be read, from this packet and this time on.
    at_all: bool,
    packet: u32,
    from: u64,
    /// It was refused.
    refused: bool,
}

/// Two endpoints, what is between them, and what was asked for.
pub(crate) struct Sim<D> {
    dice: D,
    network: Network,
    /// Nothing arrives any more from this time on.
    dies: Option<u64>,
    /// What went before was a network without these, or without losses.
    faulty: bool,
    lossy: bool,
    /// It was never granted less than 7 retries.
    patient: bool,
    now: u64,
    mtu: Mtu,
    first: Psn,
    requester: Requester<Vec<Slot>>,
    responder: Responder<Vec<Resource>>,
    tries: Tries,
    wrap: Wrap,
    /// Requests that the responder agrees to.
    depth: u32,
    sqd: Sqd,
    work: Vec<Work>,
    /// Those of them that were put in, and whether they wait for the answers before them.
    fenced: Vec<bool>,
    results: Vec<Vec<u8>>,
    bad: Option<Bad>,
    /// `ib_wc_status` of those that are done.
    statuses: Vec<u8>,
    /// The connection has ended with this status.
    failed: Option<u8>,
    memory_at_first: Vec<u8>,
    memory: Vec<u8>,
    receives: u32,
    /// Per mille of the steps that post some.
    posting: u64,
    /// Work requests that the responder has executed, and bytes of the next one.
    executed: usize,
    had: usize,
    clock: Clock,
    /// The peer is not ready for this packet, until then.
    rnr: Option<(u64, u32)>,
}

/// Other limits for the requester, and another depth for the responder.
enum Sqd {
    /// RTS, and so many times more.
    Left(u64),
    /// SQD: nothing is begun until everything is done, and this is granted; so many times more after it.
    Drains(Grant, u64),
}

/// Work requests, answers.
const SLOTS: u32 = 16;
/// `IB_WC_SUCCESS`, `IB_WC_LOC_PROT_ERR`, `IB_WC_WR_FLUSH_ERR`.
const SUCCESS: u8 = 0;
const LOC_PROT: u8 = 4;
const WR_FLUSH: u8 = 5;

/// Mostly as many times as it takes.
fn some_retries(dice: &mut impl Dice) -> u8 {
    match dice.below(8) {
        0 => dice.below(8) as u8,
        _ => 7,
    }
}

fn some_grant(dice: &mut impl Dice, reads: u32) -> Grant {
    Grant {
        reads,
        retries: some_retries(dice),
        rnr_retries: some_retries(dice),
    }
}

impl<D: Dice> Sim<D> {
    /// Some work, some network.
    pub(crate) fn new(mut dice: D) -> Self {
        // Where the network is a good one, retries must not be needed at all.
        let faults = Faults::some(&mut dice);
        let dies = (dice.below(16) == 0).then(|| dice.below(1500));
        let mtu = Mtu::from_enum(1 + dice.below(5) as u8).unwrap();
        let depth = 1 << dice.below(5);
        // Often just before the wrap.
        let first = match dice.below(3) {
            0 => Psn::new(dice.next() as u32),
            _ => Psn::new(0u32.wrapping_sub(dice.below(40) as u32)),
        };
        let grant = some_grant(&mut dice, depth);
        let limits = Limits {
            mtu,
            reads: grant.reads,
            retries: grant.retries,
            rnr_retries: grant.rnr_retries,
            window: 1 + dice.below(100) as u32,
        };
        let mut requester = Requester::new(vec![Slot::default(); SLOTS as usize]);
        requester.begin(limits, first);
        let mut responder = Responder::new(vec![Resource::EMPTY; SLOTS as usize]);
        responder.begin(Service::Rc, mtu, first, depth);
        let n = 1 + dice.below(30);
        let work: Vec<Work> = (0..n).map(|_| some_work(&mut dice, mtu)).collect();
        let sqd = Sqd::Left(dice.below(3));
        let posting = if dice.below(4) == 0 { 10 } else { 100 };
        // From the beginning, or when it was sent already and is sent again.
        let bad = (dice.below(8) == 0).then(|| Bad {
            at: dice.below(n) as usize,
            at_all: dice.below(2) == 0,
            packet: dice.below(3) as u32,
            from: dice.below(2) * dice.below(1500),
            refused: false,
        });
        let memory_at_first = memory_at_first();
        Sim {
            dice,
            network: Network::new(faults),
            dies,
            faulty: faults != Faults::NONE || dies.is_some(),
            lossy: faults.lost + faults.corrupted > 0 || dies.is_some(),
            patient: grant.retries == 7,
            now: 0,
            mtu,
            first,
            requester,
            responder,
            tries: Tries::new(grant),
            wrap: Wrap::default(),
            depth,
            sqd,
            results: vec![Vec::new(); work.len()],
            work,
            fenced: Vec::new(),
            bad,
            statuses: Vec::new(),
            failed: None,
            memory: memory_at_first.clone(),
            memory_at_first,
            receives: 0,
            posting,
            executed: 0,
            had: 0,
            clock: Clock::default(),
            rnr: None,
        }
    }

    fn transmit(&mut self, packet: &Packet, payload: &[u8], to_responder: bool) {
        let (dice, now) = (&mut self.dice, self.now);
        self.network
            .transmit(dice, now, packet, payload, to_responder);
    }

    /// The packet's number, from 0 on.
    fn number(&self, psn: Psn) -> u32 {
        psn.distance_from(self.first)
    }

    /// The number of the packet that has PSN 0, if it is not the first.
    fn wraps(&self) -> u32 {
        (1 << 24) - self.first.get()
    }

    /// Puts the next work request in.
    fn push(&mut self) {
        let at = self.fenced.len();
        let cookie = at as u32;
        if let Some(bad) = self.bad.as_mut().filter(|b| b.at_all && b.at == at) {
            bad.refused = true;
            self.requester.push_refused(cookie, LOC_PROT);
            assert!(!self.requester.has_room(), "nothing is taken behind it");
            self.tries.push(1, false);
            self.fenced.push(false);
            return;
        }
        let work = &self.work[at];
        let (kind, length) = (work.kind(), work.length());
        let fence = self.dice.chance(200);
        self.requester.push(Request {
            kind,
            length,
            fence,
            cookie,
        });
        let packets = match kind {
            Kind::Plain | Kind::Read => self.mtu.packets(length),
            Kind::Atomic | Kind::Empty => 1,
        };
        self.tries.push(packets, kind != Kind::Plain);
        self.fenced.push(fence);
    }

    /// Whether this packet cannot be built.
    fn is_refused(&mut self, next: &Next) -> bool {
        let at = next.request.cookie as usize;
        let index = next.piece.offset / self.mtu.bytes();
        let carries = self.work[at].carries();
        let Some(bad) = &mut self.bad else {
            return false;
        };
        if bad.refused {
            // Until all of it is acknowledged nevertheless.
            assert!(at < bad.at || self.statuses.len() > bad.at, "nothing of it");
            return false;
        }
        let here = at == bad.at && carries && index >= bad.packet && self.now >= bad.from;
        bad.refused |= here && !bad.at_all;
        bad.refused
    }

    /// Sends a packet of a work request, if there is one.
    fn request(&mut self) -> bool {
        if self.failed.is_some() {
            return false;
        }
        while self.fenced.len() < self.work.len()
            && matches!(self.sqd, Sqd::Left(_))
            && self.requester.has_room()
            && self.dice.chance(700)
        {
            self.push();
        }
        // Nothing may be before what was put in.
        self.complete();
        let Ok(next) = self.requester.next() else {
            return false;
        };
        if self.is_refused(&next) {
            self.requester.refuse(LOC_PROT);
            self.complete();
            return true;
        }
        let at = next.request.cookie as usize;
        let (packet, payload) = self.work[at].packet(&next);
        let payload = payload.to_vec();
        if std::env::var_os("RURDMA_TRACE").is_some() {
            println!("{}: {next:?}", self.now);
        }
        self.transmit(&packet, &payload, true);
        if !self.requester.awaits_answer() {
            self.clock.start(self.now);
        }
        self.requester.sent(&next);
        let number = self.number(next.psn);
        let wraps = self.wraps();
        self.wrap.back |= number < wraps && wraps < self.tries.flight().end;
        self.tries.sent(number, at);
        let flight = self.tries.flight();
        self.wrap.in_flight |= flight.start < wraps && wraps < flight.end;
        true
    }

    /// A packet for the responder.
    fn respond(&mut self, bytes: &[u8]) {
        let Ok(r) = Packet::parse(bytes, bytes.len()) else {
            return;
        };
        let payload = &bytes[r.payload_at..r.payload_at + r.payload_len];
        let step = match self.responder.receive(&r) {
            Verdict::Execute(step) => step,
            Verdict::Drop | Verdict::Repeat => return,
            v => panic!("{v:?} for {:?}", r.packet),
        };
        let next = self.work.get(self.executed);
        assert!(
            next.is_some_and(|w| w.is(&step, payload, r.packet.extra, self.had)),
            "{step:?} is not what comes next, or comes again"
        );
        let (ends, takes_receive) = match step {
            Step::Send { place, .. } => (place.ends(), place.begins()),
            Step::Write { place, imm, .. } => (place.ends(), imm),
            _ => (true, false),
        };
        if takes_receive {
            if self.receives == 0 {
                self.responder.not_ready(1 + self.dice.below(3) as u8);
                return;
            }
            self.receives -= 1;
        }
        let mut result = 0;
        match step {
            Step::Send { .. } | Step::Read(_) => {}
            Step::Write { remote, offset, .. } => {
                let at = (remote.va + u64::from(offset)) as usize;
                self.memory[at..at + payload.len()].copy_from_slice(payload);
            }
            Step::AtomicWrite(remote) => {
                self.memory[remote.va as usize..][..8].copy_from_slice(payload);
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
            }
            // All before it is there, and nothing behind it.
            Step::Flush(..) => assert!(self.memory == self.perfect()),
        }
        if ends {
            self.executed += 1;
            self.had = 0;
        } else {
            self.had += payload.len();
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
        match answer {
            Answer::Ack(ack) => {
                let packet = Packet {
                    syndrome: ack.syndrome.number(),
                    msn: ack.msn,
                    ..Packet::new(opcode(Op::Acknowledge), 8, ack.psn)
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
                    ..Packet::new(opcode(Op::ReadResponse(piece.place)), 8, psn)
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
                    ..Packet::new(opcode(Op::AtomicAcknowledge), 8, psn)
                };
                self.transmit(&packet, &[], false);
            }
        }
        self.responder.responses.sent();
        self.clock.answered();
        true
    }

    /// An answer for the requester.
    fn answered(&mut self, bytes: &[u8]) {
        let Ok(r) = Packet::parse(bytes, bytes.len()) else {
            return;
        };
        let p = r.packet;
        let payload = &bytes[r.payload_at..r.payload_at + r.payload_len];
        let number = self.number(p.psn);
        let (mut in_turn, mut is_rnr) = (false, false);
        let effect = match p.opcode.op {
            Op::Acknowledge => {
                let syndrome = Syndrome::from_number(p.syndrome).unwrap();
                is_rnr = matches!(syndrome, Syndrome::Rnr(_));
                let before = match syndrome {
                    Syndrome::Ack => p.psn.next(),
                    _ => p.psn,
                };
                self.tries.told(self.number(before));
                self.requester.acknowledged(p.psn, syndrome)
            }
            Op::ReadResponse(place) => {
                in_turn = self.tries.answered(number);
                let len = r.payload_len as u32;
                self.requester.read_response(p.psn, place, len)
            }
            Op::AtomicAcknowledge => {
                in_turn = self.tries.answered(number);
                self.requester.atomic_response(p.psn)
            }
            _ => panic!("{p:?}"),
        };
        match effect {
            Effect::None => assert!(!in_turn),
            Effect::Progress => self.clock.start(self.now),
            Effect::Rnr(timer) => {
                assert!(is_rnr);
                assert!(self.rnr.is_none_or(|(_, of)| of != number), "once");
                self.tries.waits();
                self.rnr = Some((self.now + u64::from(timer) * 20, number));
            }
            Effect::Place { cookie, offset } => {
                assert!(in_turn);
                let result = &mut self.results[cookie as usize];
                assert_eq!(result.len(), offset as usize, "placed in order, once");
                match p.opcode.op {
                    Op::ReadResponse(_) => result.extend_from_slice(payload),
                    _ => result.extend_from_slice(&p.original.to_le_bytes()),
                }
                self.requester.placed(p.psn);
                self.clock.start(self.now);
            }
            Effect::Failed(status) => {
                self.tries.failed(status, is_rnr);
                return self.fail(status);
            }
        }
        self.complete();
    }

    fn complete(&mut self) {
        while let Some(request) = self.requester.take_done() {
            assert_eq!(request.cookie as usize, self.statuses.len(), "in order");
            self.statuses.push(SUCCESS);
        }
        if let Some((request, status)) = self.requester.failed() {
            let bad = self.bad.filter(|b| b.refused).map(|b| b.at);
            assert_eq!((Some(request.cookie as usize), status), (bad, LOC_PROT));
            self.over(status);
        }
    }

    /// An answer, or the want of one, lets the QP fail.
    fn fail(&mut self, status: u8) {
        self.complete();
        // One that could not be executed may have been next: then that is what it fails with.
        if self.failed.is_none() {
            self.over(status);
        }
    }

    /// The QP fails, as the driver lets it: the oldest work request has this status, all behind it are flushed.
    fn over(&mut self, status: u8) {
        let oldest = self.requester.oldest().map(|r| r.cookie as usize);
        assert_eq!(oldest, Some(self.statuses.len()), "whose failure it is");
        if status == RNR_RETRY_EXC {
            assert!(self.work[self.statuses.len()].takes_receive());
        }
        self.statuses.push(status);
        self.statuses.resize(self.work.len(), WR_FLUSH);
        self.failed = Some(status);
        // Nothing completes after that.
        assert_eq!(self.requester.take_done(), None);
        self.requester.reset();
        assert_eq!(self.requester.take_done(), None);
        assert_eq!(self.requester.next(), Err(Idle::Empty));
        assert!(self.requester.oldest().is_none() && !self.requester.awaits_answer());
    }

    /// Sometimes the limits change: when everything is done, or in the midst of it.
    fn change_limits(&mut self) {
        match self.sqd {
            Sqd::Left(left) if left > 0 && self.dice.chance(5) => {
                let reads = 1 + self.dice.below(u64::from(SLOTS)) as u32;
                let grant = some_grant(&mut self.dice, reads);
                if self.dice.below(2) == 0 {
                    self.sqd = Sqd::Drains(grant, left - 1);
                } else {
                    self.sqd = Sqd::Left(left - 1);
                    // What is on its way is what was granted before.
                    self.adjust(grant, reads.max(self.depth));
                }
            }
            Sqd::Drains(grant, left) if self.requester.oldest().is_none() => {
                assert!(self.requester.all_sent() && !self.requester.awaits_answer());
                self.sqd = Sqd::Left(left);
                self.adjust(grant, grant.reads);
            }
            _ => {}
        }
    }

    fn adjust(&mut self, grant: Grant, depth: u32) {
        self.depth = depth;
        self.patient &= grant.retries == 7;
        self.responder.responses.set_depth(depth);
        self.requester
            .adjust(grant.reads, grant.retries, grant.rnr_retries);
        self.tries.adjust(grant);
    }

    /// Until all is done, or the connection has failed.
    pub(crate) fn run(&mut self) {
        let mut steps = 0u64;
        while self.statuses.len() < self.work.len() {
            steps += 1;
            assert!(
                steps < 2_000_000,
                "no end: {} of {} done",
                self.statuses.len(),
                self.work.len()
            );
            if self.dice.calm() {
                self.network.faults = Faults::NONE;
            } else if self.dies.is_some_and(|at| at <= self.now) {
                self.network.faults.lost = 1000;
            }
            if self.dice.chance(self.posting) {
                self.receives = (self.receives + 2).min(8);
            }
            self.change_limits();
            let mut busy = false;
            for _ in 0..1 + self.dice.below(4) {
                busy |= self.request();
            }
            for _ in 0..self.dice.answers() {
                busy |= self.answer();
            }
            self.now += 1;
            if !busy && !self.network.has(self.now) {
                self.now += 4;
            }
            self.arrive();
            self.clocks();
        }
    }

    /// What is there by now is received.
    fn arrive(&mut self) {
        while self.failed.is_none() {
            let Some((to_responder, bytes)) = self.network.arrived(self.now) else {
                return;
            };
            if to_responder {
                self.respond(&bytes);
            } else {
                self.answered(&bytes);
            }
        }
    }

    /// The requester's clocks: the peer's time is over, or no answer has come.
    fn clocks(&mut self) {
        if self.rnr.is_some_and(|(t, _)| t <= self.now) {
            self.rnr = None;
            self.requester.rnr_over();
            self.clock.start(self.now);
        }
        let has_more = self.responder.responses.peek(self.mtu).is_some();
        self.clock.look(self.now, has_more);
        if self.rnr.is_none() && self.requester.awaits_answer() && self.clock.rings(self.now) {
            let had_time = self.clock.had_time();
            self.clock.start(self.now);
            if std::env::var_os("RURDMA_TRACE").is_some() {
                println!("{}: timeout: {:?}", self.now, self.requester);
            }
            match self.requester.timed_out() {
                Effect::Progress => self.tries.timed_out(false, had_time),
                Effect::Failed(RETRY_EXC) => {
                    self.tries.timed_out(true, had_time);
                    self.fail(RETRY_EXC);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The memory of a perfect machine that has been told as much as the responder.
    fn perfect(&self) -> Vec<u8> {
        let mut memory = self.memory_at_first.clone();
        for work in self.work.iter().take(self.executed) {
            work.execute(&mut memory);
        }
        if let Some(work) = self.work.get(self.executed) {
            work.execute_part(&mut memory, self.had);
        }
        memory
    }

    /// All is as a perfect machine would have done it; as far as was told, if the connection has failed.
    pub(crate) fn verify(&self) -> Outcome {
        let done = self.statuses.iter().take_while(|s| **s == SUCCESS).count();
        assert_eq!(self.statuses.len(), self.work.len(), "once each");
        assert_eq!(self.statuses.get(done).copied(), self.failed);
        assert!(self.statuses.iter().skip(done + 1).all(|s| *s == WR_FLUSH));
        assert!(done <= self.executed && self.executed <= self.fenced.len());
        assert!(self.memory == self.perfect());
        let mut memory = self.memory_at_first.clone();
        for (at, (work, result)) in self.work.iter().zip(&self.results).enumerate() {
            let original = work.execute(&mut memory);
            // What was not done may have brought a part of it.
            assert!(result.len() == work.brings() || (at >= done && result.len() < work.brings()));
            assert!(at < self.executed || result.is_empty());
            match work {
                Work::Read(va, _) => self.check_read(at, *va, &memory),
                _ => assert!(result.is_empty() || original.is_some_and(|o| o == result[..])),
            }
        }
        let end = match self.failed {
            None => End::Done,
            Some(RNR_RETRY_EXC) => End::NotReady,
            Some(LOC_PROT) => End::Refused,
            Some(_) => {
                // What is late only is not lost, and 7 times is often enough, if the responder has had time to
                // answer. One that never had any is as good as dead.
                let in_time = self.tries.in_time();
                let patient = self.patient && in_time >= 7;
                assert!(self.lossy || (self.faulty && !patient) || in_time == 0);
                if patient && self.dies.is_none() {
                    End::Unlucky
                } else {
                    End::GaveUp
                }
            }
        };
        Outcome {
            end,
            mtu: self.mtu.bytes(),
            wrap: Wrap {
                passed: self.number(self.responder.expected()) > self.wraps(),
                ..self.wrap
            },
        }
    }

    /// What a READ has brought is what was there; or a WRITE behind it has put it there, before it was read:
    /// up to the first that is fenced, which waits for it, and with it all behind.
    fn check_read(&self, at: usize, va: u64, memory: &[u8]) {
        let result = &self.results[at];
        if memory[va as usize..].starts_with(result) {
            return;
        }
        let behind = self.work.iter().zip(&self.fenced).skip(at + 1);
        let may: Vec<&Work> = behind.take_while(|(_, f)| !**f).map(|(w, _)| w).collect();
        for (i, byte) in (va..).zip(result) {
            assert!(
                memory[i as usize] == *byte || may.iter().any(|w| w.puts(i) == Some(*byte)),
                "READ {at} has {byte:#x} of {i:#x}"
            );
        }
    }
}
