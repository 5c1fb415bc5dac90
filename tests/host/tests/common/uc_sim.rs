// SPDX-License-Identifier: GPL-2.0

//! Both ends of the UC state machines over a network that loses, doubles, delays, reorders and corrupts. Time is
//! virtual, and nobody answers. Beside the responder runs what it is to do, which knows of each packet whose it
//! is. Whoever includes this file has `dice`, `network` and `proto` beside it.

use super::dice::Dice;
use super::network::{Faults, Network};
use super::proto::ib::cut::Mtu;
use super::proto::ib::requester::{Idle, Kind, Limits, Next, Request, Requester, Slot};
use super::proto::ib::responder::{Responder, Step, Verdict};
use super::proto::ib::responses::Resource;
use super::proto::serial::Psn;
use super::proto::wire::ib::opcode::{Extra, Op, Opcode, Place, Service};
use super::proto::wire::ib::packet::{Packet, Received, Remote};
use std::collections::VecDeque;

/// Bytes of a message, at most: five packets of any path MTU.
const LONGEST: u64 = 5 << 12;
const MEMORY: u64 = 1 << 16;
/// Memory that may be written, and some that may not.
const RKEY: u32 = 0x1234_5678;
const NO_RKEY: u32 = 0x1234_5679;
/// Work requests.
const SLOTS: u32 = 8;
/// `IB_WC_SUCCESS`, `IB_WC_LOC_PROT_ERR`, `IB_WC_WR_FLUSH_ERR`.
const SUCCESS: u8 = 0;
const LOC_PROT: u8 = 4;
const WR_FLUSH: u8 = 5;

/// What a work request sends.
struct Message {
    /// Where to; otherwise it is a SEND.
    write: Option<Remote>,
    data: Vec<u8>,
    imm: Option<u32>,
    /// It cannot be executed here: from this packet on, or at all.
    bad: Option<u32>,
    at_all: bool,
}

impl Message {
    fn some(dice: &mut impl Dice, mtu: Mtu) -> Self {
        let mtu = u64::from(mtu.bytes());
        let length = match dice.below(4) {
            0 => dice.below(3),
            1 => mtu * dice.below(6),
            // Of several packets, whatever the path MTU.
            _ => dice.below((5 * mtu).max(6000)),
        };
        let write = (dice.below(2) == 0).then(|| Remote {
            va: dice.below(MEMORY - LONGEST),
            rkey: if dice.chance(100) { NO_RKEY } else { RKEY },
            length: length as u32,
        });
        Message {
            write,
            data: dice.data(length as usize),
            imm: (dice.below(2) == 0).then(|| dice.next() as u32),
            bad: dice.chance(20).then(|| dice.below(5) as u32),
            at_all: dice.below(4) == 0,
        }
    }

    fn length(&self) -> u32 {
        self.data.len() as u32
    }

    /// The packet that is to be sent of it, and its payload.
    fn packet(&self, next: &Next) -> (Packet, &[u8]) {
        let piece = next.piece;
        let imm = self.imm.filter(|_| piece.place.ends());
        let extra = imm.map_or(Extra::None, |_| Extra::Imm);
        let op = match self.write {
            Some(_) => Op::Write(piece.place, extra),
            None => Op::Send(piece.place, extra),
        };
        let opcode = Opcode {
            service: Service::Uc,
            op,
        };
        let p = Packet {
            extra: imm.unwrap_or(0),
            remote: self.write.unwrap_or_default(),
            ..Packet::new(opcode, 7, next.psn)
        };
        (p, &self.data[piece.offset as usize..][..piece.len as usize])
    }

    /// The step of its packet at this place, which begins at this offset.
    fn step(&self, place: Place, offset: u32) -> Step {
        let imm = self.imm.is_some() && place.ends();
        match self.write {
            Some(remote) => Step::Write {
                place,
                remote,
                offset,
                imm,
            },
            None => Step::Send {
                place,
                offset,
                extra: if imm { Extra::Imm } else { Extra::None },
            },
        }
    }
}

/// A receive.
struct Recv {
    number: u64,
    buffer: Vec<u8>,
}

/// What became of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) mtu: u32,
    /// The network did nothing wrong, and there was always a receive.
    pub(crate) good: bool,
    /// Messages that were sent to their end, that could not be, and that have arrived: all, and those again.
    pub(crate) sent: usize,
    pub(crate) refused: usize,
    pub(crate) arrived: usize,
    pub(crate) again: usize,
    /// Messages that were cut off, here or on their way; that found no receive, or a short one, or no memory.
    pub(crate) abandoned: usize,
    pub(crate) not_taken: usize,
    /// A message with packets before the wrap of the numbers and behind it was sent, and has arrived.
    pub(crate) wraps: bool,
    pub(crate) wrap_arrived: bool,
}

/// Two endpoints, what is between them, and what was asked for.
pub(crate) struct Sim<D> {
    dice: D,
    network: Network,
    now: u64,
    mtu: Mtu,
    first: Psn,
    requester: Requester<Vec<Slot>>,
    responder: Responder<Vec<Resource>>,
    messages: Vec<Message>,
    /// Those of them that were put in, with `ib_wc_status` those that are done.
    pushed: usize,
    statuses: Vec<u8>,
    /// Of each packet that was sent: its message, which packet of it, and how many copies have arrived.
    packets: Vec<(usize, u32, u32)>,
    /// The message that is coming, and its next packet.
    coming: Option<(usize, u32)>,
    memory: Vec<u8>,
    /// Receives that are there, and the one that a message has taken.
    receives: VecDeque<Recv>,
    held: Option<Recv>,
    posted: u64,
    /// Per mille of the steps that post one; always there is one.
    posting: u64,
    generous: bool,
    /// Messages that have arrived; receives that have completed.
    arrived: Vec<usize>,
    completed: Vec<u64>,
    outcome: Outcome,
}

/// How the execution of a step has gone.
enum Went {
    /// As it should.
    Well,
    /// There is no receive.
    NotReady,
    /// It is too long, or its memory is not to be written.
    Denied,
}

impl<D: Dice> Sim<D> {
    /// Some work, some network.
    pub(crate) fn new(mut dice: D) -> Self {
        let mut faults = Faults::some(&mut dice);
        // Often it keeps the order, so that more arrives.
        if dice.below(3) != 0 {
            faults.late = 0;
        }
        if dice.below(2) == 0 {
            faults.doubled = 0;
        }
        let mtu = Mtu::from_enum(1 + dice.below(5) as u8).unwrap();
        // Often just before the wrap.
        let first = match dice.below(3) {
            0 => Psn::new(dice.next() as u32),
            _ => Psn::new(0u32.wrapping_sub(dice.below(40) as u32)),
        };
        let limits = Limits {
            mtu,
            reads: 0,
            retries: 0,
            rnr_retries: 0,
            window: 1 + dice.below(100) as u32,
        };
        let mut requester = Requester::new(vec![Slot::default(); SLOTS as usize]);
        requester.begin(limits, first);
        let mut responder = Responder::new(vec![Resource::EMPTY; 1]);
        responder.begin(Service::Uc, mtu, first, 0);
        let n = 1 + dice.below(30);
        let messages = (0..n).map(|_| Message::some(&mut dice, mtu)).collect();
        let generous = dice.below(2) == 0;
        Sim {
            network: Network::new(faults),
            now: 0,
            mtu,
            first,
            requester,
            responder,
            messages,
            pushed: 0,
            statuses: Vec::new(),
            packets: Vec::new(),
            coming: None,
            memory: vec![0; MEMORY as usize],
            receives: VecDeque::new(),
            held: None,
            posted: 0,
            posting: if dice.below(2) == 0 { 20 } else { 200 },
            generous,
            arrived: Vec::new(),
            completed: Vec::new(),
            outcome: Outcome {
                mtu: mtu.bytes(),
                good: generous && faults == Faults::NONE,
                ..Outcome::default()
            },
            dice,
        }
    }

    /// The number of the packet that has PSN 0, if it is not the first.
    fn wraps(&self) -> u32 {
        (1 << 24) - self.first.get()
    }

    /// Whether a message has packets before the wrap, if this is the number of its last one.
    fn is_over_wrap(&self, message: usize, last: u32) -> bool {
        let before = self.mtu.packets(self.messages[message].length()) - 1;
        last >= self.wraps() && last - before < self.wraps()
    }

    /// Puts the next work request in.
    fn push(&mut self) {
        let m = &self.messages[self.pushed];
        let cookie = self.pushed as u32;
        self.pushed += 1;
        if m.bad.is_some() && m.at_all {
            self.requester.push_refused(cookie, LOC_PROT);
            assert!(!self.requester.has_room(), "nothing is taken behind it");
            return;
        }
        self.requester.push(Request {
            kind: Kind::Plain,
            length: m.length(),
            fence: self.dice.chance(200),
            cookie,
        });
    }

    /// Takes out what is done. Behind what cannot be executed all is flushed, and the next one begins afresh.
    fn complete(&mut self) {
        while let Some(request) = self.requester.take_done() {
            assert_eq!(request.cookie as usize, self.statuses.len(), "in order");
            self.statuses.push(SUCCESS);
        }
        if let Some((request, status)) = self.requester.failed() {
            let at = request.cookie as usize;
            assert_eq!((at, status), (self.statuses.len(), LOC_PROT));
            assert!(self.messages[at].bad.is_some());
            self.outcome.refused += 1;
            self.statuses.push(status);
            self.statuses.resize(self.pushed, WR_FLUSH);
            self.requester.give_up();
            assert!(self.requester.oldest().is_none() && self.requester.has_room());
        }
        assert!(!self.requester.awaits_answer(), "there is none");
    }

    /// Sends a packet of a work request, if there is one.
    fn request(&mut self) {
        while self.pushed < self.messages.len()
            && self.requester.has_room()
            && self.dice.chance(700)
        {
            self.push();
        }
        // Nothing may be before what was put in.
        self.complete();
        let next = match self.requester.next() {
            Ok(next) => next,
            Err(idle) => return assert_eq!(idle, Idle::Empty, "nothing is waited for"),
        };
        let at = next.request.cookie as usize;
        let index = next.piece.offset / self.mtu.bytes();
        let m = &self.messages[at];
        if m.bad.is_some_and(|from| index >= from) {
            self.requester.refuse(LOC_PROT);
            return self.complete();
        }
        let number = self.packets.len() as u32;
        assert_eq!(next.psn, self.first.plus(number), "each number once");
        let (packet, payload) = m.packet(&next);
        if std::env::var_os("RURDMA_TRACE").is_some() {
            println!("{}: {next:?}", self.now);
        }
        self.network
            .transmit(&mut self.dice, self.now, &packet, payload, true);
        self.requester.sent(&next);
        self.requester.all_arrived();
        self.packets.push((at, index, 0));
        if next.piece.place.ends() {
            self.outcome.sent += 1;
            self.outcome.wraps |= self.is_over_wrap(at, number);
        }
        self.complete();
    }

    /// A packet for the responder.
    fn receive(&mut self, bytes: &[u8]) {
        let r = Packet::parse(bytes, bytes.len()).unwrap();
        let payload = &bytes[r.payload_at..r.payload_at + r.payload_len];
        let number = r.packet.psn.distance_from(self.first);
        let (at, index, copies) = &mut self.packets[number as usize];
        *copies += 1;
        let (at, index) = (*at, *index);
        // A message begins with its first packet, and goes on with what follows without a hole.
        let due = index == 0 || self.coming == Some((at, index));
        assert!(due || !self.responder.is_due(&r));
        let cut_off = self.coming.take().is_some_and(|c| c != (at, index));
        self.outcome.abandoned += usize::from(cut_off);
        let mut verdict = self.responder.receive(&r);
        if std::env::var_os("RURDMA_TRACE").is_some() {
            println!("{}: {number} is {index} of {at}: {verdict:?}", self.now);
        }
        // (The receive that the message has taken is the next one's.)
        assert_eq!(verdict == Verdict::Abandon, cut_off);
        if cut_off {
            verdict = self.responder.receive(&r);
        }
        let step = match verdict {
            Verdict::Execute(step) => step,
            other => return assert_eq!((other, due), (Verdict::Drop, false)),
        };
        assert!(due, "{step:?} of a message that has a hole");
        match self.execute(&r, at, index, payload, &step) {
            Went::Well => {
                self.responder.accept(&r, &step, 0).unwrap();
                let m = &self.messages[at];
                if index + 1 < self.mtu.packets(m.length()) {
                    self.coming = Some((at, index + 1));
                } else {
                    self.outcome.again += usize::from(self.arrived.contains(&at));
                    self.outcome.wrap_arrived |= self.is_over_wrap(at, number);
                    self.arrived.push(at);
                }
            }
            Went::NotReady => {
                self.responder.not_ready(7);
                self.outcome.not_taken += 1;
            }
            Went::Denied => {
                self.responder.lose_message();
                self.outcome.not_taken += 1;
            }
        }
        // Nobody is told anything.
        assert_eq!(self.responder.responses.peek(self.mtu), None);
    }

    /// Executes a step as the driver does, which is to be that of this packet of this message.
    fn execute(
        &mut self,
        r: &Received,
        at: usize,
        index: u32,
        payload: &[u8],
        step: &Step,
    ) -> Went {
        let m = &self.messages[at];
        let piece = self.mtu.piece(m.length(), index);
        let (place, from) = (piece.place, piece.offset as usize);
        assert_eq!(
            *step,
            m.step(place, piece.offset),
            "it is that of the packet"
        );
        assert!(m.data[from..].starts_with(payload) && payload.len() == piece.len as usize);
        let imm = m.imm.filter(|_| place.ends());
        assert_eq!(r.packet.extra, imm.unwrap_or(0));
        if m.write.is_some_and(|to| to.rkey != RKEY) {
            return Went::Denied;
        }
        let takes_receive = match m.write {
            Some(_) => imm.is_some(),
            None => place.begins(),
        };
        if takes_receive && self.held.is_none() {
            self.held = self.receives.pop_front();
            if self.held.is_none() {
                return Went::NotReady;
            }
        }
        let completes = match m.write {
            Some(to) => {
                let to = to.va as usize;
                self.memory[to + from..][..payload.len()].copy_from_slice(payload);
                assert!(!place.ends() || self.memory[to..].starts_with(&m.data));
                imm.is_some()
            }
            None => {
                let recv = self.held.as_mut().unwrap();
                let Some(to) = recv.buffer.get_mut(from..from + payload.len()) else {
                    return Went::Denied;
                };
                to.copy_from_slice(payload);
                // What a message that was cut off has left is not in it.
                assert!(!place.ends() || recv.buffer.starts_with(&m.data));
                place.ends()
            }
        };
        if completes {
            self.completed.push(self.held.take().unwrap().number);
        }
        Went::Well
    }

    /// Posts a receive, which may be a short one.
    fn post(&mut self) {
        let room = match self.dice.chance(200) && !self.generous {
            true => self.dice.below(LONGEST),
            false => LONGEST,
        };
        self.receives.push_back(Recv {
            number: self.posted,
            buffer: vec![0; room as usize],
        });
        self.posted += 1;
    }

    /// Until all is sent, and what has not got lost is there.
    pub(crate) fn run(&mut self) {
        // Later than this nothing is that was sent before.
        let mut until = 100;
        let mut steps = 0;
        while self.statuses.len() < self.messages.len() || self.now < until {
            steps += 1;
            assert!(steps < 100_000, "no end: {} done", self.statuses.len());
            if self.statuses.len() < self.messages.len() {
                until = self.now + 100;
                for _ in 0..self.dice.below(4) {
                    self.request();
                }
            }
            while self.dice.chance(self.posting) || (self.generous && self.receives.len() < 8) {
                self.post();
            }
            self.now += 1;
            while let Some((_, bytes)) = self.network.arrived(self.now) {
                if self.generous && self.receives.is_empty() {
                    self.post();
                }
                self.receive(&bytes);
            }
        }
    }

    /// What has arrived is what was sent, and as it was sent.
    pub(crate) fn verify(mut self) -> Outcome {
        assert!(self.requester.all_sent() && self.requester.oldest().is_none());
        assert_eq!(self.statuses.len(), self.messages.len(), "once each");
        // Receives are used up in their order, one for each message that takes one, and one may be in use.
        let recvs = self.held.iter().chain(&self.receives).map(|r| r.number);
        let all: Vec<u64> = self.completed.iter().copied().chain(recvs).collect();
        assert!(all.into_iter().eq(0..self.posted));
        let takes = |at: &&usize| {
            let m = &self.messages[**at];
            m.write.is_none() || m.imm.is_some()
        };
        let taken = self.arrived.iter().filter(takes).count();
        assert_eq!(self.completed.len(), taken);
        // As often as all of its packets have arrived, at most.
        for (at, m) in self.messages.iter().enumerate() {
            let times = self.arrived.iter().filter(|a| **a == at).count();
            let packets = self.packets.iter().filter(|(of, ..)| *of == at);
            let copies: Vec<u32> = packets.map(|(.., copies)| *copies).collect();
            let is_all = copies.len() as u32 == self.mtu.packets(m.length());
            let most = copies.into_iter().min().filter(|_| is_all).unwrap_or(0);
            assert!(times as u32 <= most, "{at} has arrived {times} times");
        }
        let faults = self.network.faults;
        if faults.late == 0 {
            // UC does not know what is old, and takes a packet twice that is a message. All else is in order.
            let ordered = |w: &[usize]| w[0] < w[1] || (w[0] == w[1] && faults.doubled != 0);
            assert!(self.arrived.windows(2).all(ordered));
        }
        if self.outcome.good {
            let may = |m: &Message| m.write.is_none_or(|to| to.rkey == RKEY);
            let is_sent = |at: &usize| self.statuses[*at] == SUCCESS && may(&self.messages[*at]);
            assert!((0..self.messages.len())
                .filter(is_sent)
                .eq(self.arrived.iter().copied()));
        }
        self.outcome.arrived = self.arrived.len();
        self.outcome
    }
}
