// SPDX-License-Identifier: GPL-2.0

//! The responder of a connection, whatever its peer sends in whatever order, and whatever of it can be
//! executed.
//!
//! * A packet is executed once, when it is its turn; of a message, what was announced and no more.
//! * Memory is touched in the range that was granted only.
//! * Every answer is that of a request that was executed, and is about the same memory; answers come in
//!   order, none is forgotten.
//! * An acknowledge says nothing that is not so when it is sent.
//! * A packet that is received leads to no more packets than its answer has.
//! * UC says nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rurdma_fuzz::proto::access::{Access, Denied, Region, Rights};
use rurdma_fuzz::proto::ib::cut::Mtu;
use rurdma_fuzz::proto::ib::responder::{Responder, Step, Verdict};
use rurdma_fuzz::proto::ib::responses::{Next, Resource};
use rurdma_fuzz::proto::serial::Psn;
use rurdma_fuzz::proto::wire::ib::flush::FlushKind;
use rurdma_fuzz::proto::wire::ib::opcode::{Op, Opcode, Place, Service};
use rurdma_fuzz::proto::wire::ib::packet::{packet_len, Packet, Received, Remote};
use rurdma_fuzz::proto::wire::ib::syndrome::{Nak, Syndrome};
use rurdma_fuzz::proto::wqe::MAX_MSG;
use rurdma_fuzz::Input;

const RKEY: u32 = 0x4711;
const BASE: u64 = 0x1000;
/// Bytes of the region that the peer may use.
const LENGTH: u64 = 0x4000;
/// Answers that are remembered.
const SLOTS: usize = 8;

/// What a request is answered by.
#[derive(Debug, PartialEq)]
enum Answer {
    Read(Remote),
    Atomic(u64),
    Done,
}

/// A request that has an answer of its own. Packets have numbers that do not wrap.
struct Asked {
    /// What is none of another operation (IBTA volume 1, section 9.7.5.1.5).
    op: Op,
    answer: Answer,
    first: u64,
    packets: u64,
    /// Packets that were sent since it was asked for the last time.
    sent: u64,
    answered: bool,
    /// Messages that were completed with it.
    msn: u32,
    /// Takes a responder resource.
    counts: bool,
}

struct Model {
    responder: Responder<Vec<Resource>>,
    service: Service,
    mtu: Mtu,
    depth: usize,
    region: Region,
    memory: Vec<u8>,
    expected: u64,
    msn: u32,
    /// The last packet of each message, and messages that were completed with it.
    messages: Vec<(u64, u32)>,
    asked: Vec<Asked>,
    /// The message in progress: of a WRITE what was announced, and how much of it has come.
    message: Option<(Option<Remote>, u32)>,
    /// Packets that may still be sent.
    budget: u64,
    /// The peer waits to be told that this has arrived.
    owed: Option<u64>,
    /// The QP has failed: this is the last that is said.
    refused: bool,
}

impl Model {
    fn new(input: &mut Input<'_>) -> Self {
        let flags = input.byte();
        let (service, depth) = match flags & 7 {
            0 | 1 => (Service::Uc, 0),
            n => (Service::Rc, u32::from(n) - 2),
        };
        let mtu = Mtu::from_enum(1 + (flags >> 3) % 5).expect("1 to 5");
        let first = match flags & 0x80 {
            0 => 0x300_0000 - u64::from(input.byte()),
            _ => 0x300_0000 + u64::from(input.long() & 0xff_ffff),
        };
        let mut responder = Responder::new(vec![Resource::EMPTY; SLOTS]);
        responder.begin(service, mtu, Psn::new(first as u32), depth);
        Model {
            responder,
            service,
            mtu,
            depth: depth as usize,
            region: Region {
                base: BASE,
                length: LENGTH,
                rights: Rights(0x30f),
            },
            memory: vec![0; LENGTH as usize],
            expected: first,
            msn: 0,
            messages: Vec::new(),
            asked: Vec::new(),
            message: None,
            budget: 0,
            owed: None,
            refused: false,
        }
    }

    /// The number of a packet that lies before the expected one.
    fn number(&self, psn: Psn) -> u64 {
        let back = Psn::new(self.expected as u32).distance_from(psn);
        assert!(back < 1 << 23);
        self.expected - u64::from(back)
    }

    /// The bytes that an access touches.
    fn touch(&mut self, access: Access, va: u64, len: u64) -> Result<&mut [u8], Denied> {
        let at = self.region.check(access, va, len)?;
        Ok(&mut self.memory[at as usize..][..len as usize])
    }

    /// Executes, and gives the result of an atomic.
    fn execute(&mut self, step: &Step, payload: &[u8]) -> Result<u64, Nak> {
        let key = match step {
            Step::Send { .. } => RKEY,
            Step::CmpSwp(a) | Step::FetchAdd(a) => a.rkey,
            Step::Write { remote, .. } | Step::Read(remote) | Step::AtomicWrite(remote) => {
                remote.rkey
            }
            Step::Flush(_, remote) => remote.rkey,
        };
        if key != RKEY {
            return Err(Nak::RemoteAccess);
        }
        let denied = |_: Denied| Nak::RemoteAccess;
        match *step {
            Step::Send { .. } => Ok(0),
            Step::Write {
                place,
                remote,
                offset,
                ..
            } => {
                if place.begins() {
                    self.touch(Access::RemoteWrite, remote.va, remote.length.into())
                        .map_err(denied)?;
                }
                let va = remote.va.wrapping_add(offset.into());
                // What was granted for the whole is granted for its parts.
                self.touch(Access::RemoteWrite, va, payload.len() as u64)
                    .expect("a part")
                    .copy_from_slice(payload);
                Ok(0)
            }
            Step::Read(r) => self
                .touch(Access::RemoteRead, r.va, r.length.into())
                .map_or_else(|e| Err(denied(e)), |_| Ok(0)),
            Step::CmpSwp(a) | Step::FetchAdd(a) => {
                let to = self
                    .touch(Access::RemoteAtomic, a.va, 8)
                    .map_err(denied)?
                    .first_chunk_mut()
                    .expect("8 bytes");
                let was = u64::from_le_bytes(*to);
                let is = match step {
                    Step::FetchAdd(_) => was.wrapping_add(a.swap_add),
                    _ if was == a.compare => a.swap_add,
                    _ => was,
                };
                *to = is.to_le_bytes();
                Ok(was)
            }
            Step::AtomicWrite(r) => {
                self.touch(Access::RemoteWrite, r.va, 8)
                    .map_err(denied)?
                    .copy_from_slice(payload);
                Ok(0)
            }
            Step::Flush(FlushKind { whole: true, .. }, _) => Ok(0),
            Step::Flush(_, r) => self
                .touch(
                    Access::RemoteFlush(Rights::FLUSH_GLOBAL),
                    r.va,
                    r.length.into(),
                )
                .map_or_else(|e| Err(denied(e)), |_| Ok(0)),
        }
    }

    /// The step is one that makes sense here.
    fn check(&mut self, r: &Received, step: &Step) {
        let len = r.payload_len as u32;
        let mtu = self.mtu.bytes();
        let (place, progress) = match *step {
            Step::Send { place, offset, .. } => {
                assert!(offset + len <= MAX_MSG);
                (place, (None, offset))
            }
            Step::Write {
                place,
                remote,
                offset,
                ..
            } => {
                assert!(remote.length <= MAX_MSG);
                assert_eq!(place.ends(), offset + len == remote.length);
                (place, (Some(remote), offset))
            }
            _ => {
                assert!(self.message.is_none() && self.service == Service::Rc);
                assert!(len == 0 || (len == 8 && matches!(step, Step::AtomicWrite(_))));
                return;
            }
        };
        assert!(len == mtu || (place.ends() && len < mtu));
        assert!(len > 0 || place == Place::Only);
        match self.message {
            None => assert!(place.begins() && progress.1 == 0),
            Some(message) => assert_eq!((place.begins(), progress), (false, message)),
        }
        let (remote, offset) = progress;
        self.message = (!place.ends()).then_some((remote, offset + len));
    }

    /// It was executed with this result.
    fn accepted(&mut self, r: &Received, step: &Step, result: u64) {
        let p = &r.packet;
        let answer = match *step {
            Step::Send { .. } | Step::Write { .. } => None,
            Step::Read(remote) => Some(Answer::Read(remote)),
            Step::CmpSwp(_) | Step::FetchAdd(_) => Some(Answer::Atomic(result)),
            Step::AtomicWrite(_) | Step::Flush(..) => Some(Answer::Done),
        };
        let packets = match answer {
            Some(Answer::Read(remote)) => {
                u64::from(remote.length.div_ceil(self.mtu.bytes()).max(1))
            }
            _ => 1,
        };
        self.responder
            .accept(r, step, result)
            .expect("room was made");
        let first = self.expected;
        self.expected += packets;
        if self.message.is_none() {
            self.msn += 1;
            self.messages.push((self.expected - 1, self.msn));
        }
        match answer {
            Some(answer) => {
                self.budget += packets;
                self.asked.push(Asked {
                    op: p.opcode.op,
                    answer,
                    first,
                    packets,
                    sent: 0,
                    answered: false,
                    msn: self.msn,
                    counts: !matches!(step, Step::Flush(..)),
                });
                let waiting = self.asked.iter().filter(|a| a.counts && !a.answered);
                assert!(waiting.count() <= self.depth);
            }
            None if p.ack_request && self.service == Service::Rc => {
                self.budget += 1;
                self.owed = Some(first);
            }
            None => {}
        }
    }

    /// A request that was executed before has come again: its answer does, or an acknowledge.
    fn repeated(&mut self, p: &Packet, verdict: Verdict) {
        let number = self.number(p.psn);
        if !matches!(
            p.opcode.op,
            Op::ReadRequest | Op::CmpSwp | Op::FetchAdd | Op::Flush | Op::AtomicWrite
        ) {
            assert_eq!(verdict, Verdict::Repeat);
            self.budget += 1;
            self.owed = Some(self.expected - 1);
            return;
        }
        let mtu = self.mtu;
        let known = self
            .asked
            .iter_mut()
            .rev()
            .take(SLOTS)
            .find(|a| a.first <= number && number < a.first + a.packets);
        let Some(a) = known else {
            assert_eq!(verdict, Verdict::Drop);
            return;
        };
        let skipped = (number - a.first) as u32 * mtu.bytes();
        let granted = p.opcode.op == a.op
            && match a.answer {
                Answer::Read(had) => {
                    p.remote.rkey == had.rkey
                        && p.remote.va == had.va.wrapping_add(skipped.into())
                        && p.remote.length <= had.length - skipped
                }
                _ => true,
            };
        assert_eq!(
            verdict == Verdict::Repeat,
            granted,
            "{p:?} of {:?}",
            a.answer
        );
        if granted {
            if matches!(a.answer, Answer::Read(_)) {
                a.answer = Answer::Read(p.remote);
                a.first = number;
                a.packets = u64::from(mtu.packets(p.remote.length));
            }
            a.sent = 0;
            self.budget += a.packets;
        }
    }

    /// A packet has come. What can be executed is, unless there is no receive.
    fn receive(&mut self, r: &Received, payload: &[u8], no_receive: bool) {
        let p = &r.packet;
        let mut abandoned = false;
        loop {
            let was = self.responder.expected();
            assert_eq!(was, Psn::new(self.expected as u32));
            let verdict = self.responder.receive(r);
            if p.opcode.service != self.service || !p.opcode.is_request() {
                assert_eq!(verdict, Verdict::Drop);
            }
            let step = match verdict {
                Verdict::Execute(step) => step,
                Verdict::Abandon => {
                    assert!(self.service == Service::Uc && self.message.is_some() && !abandoned);
                    self.message = None;
                    abandoned = true;
                    continue;
                }
                Verdict::Invalid => {
                    assert!(self.service == Service::Rc && p.psn == was);
                    self.budget += 1;
                    self.refused = true;
                    assert!(self.responder.responses.ends());
                    return;
                }
                Verdict::Drop | Verdict::Repeat => {
                    if self.service == Service::Uc {
                        // It goes on with the next message.
                        let to = u64::from(self.responder.expected().distance_from(was));
                        self.expected += to;
                        assert_eq!(verdict, Verdict::Drop);
                    } else {
                        assert_eq!(self.responder.expected(), was);
                    }
                    if self.service == Service::Rc
                        && p.opcode.service == Service::Rc
                        && p.opcode.is_request()
                    {
                        assert!(p.psn != was);
                        if p.psn.precedes(was) {
                            self.repeated(p, verdict);
                        } else if verdict == Verdict::Repeat {
                            // A gap, of which the peer is told once.
                            self.budget += 1;
                        }
                    }
                    return;
                }
            };
            match self.service {
                Service::Uc => {
                    let to = u64::from(self.responder.expected().distance_from(was));
                    self.expected += to;
                }
                _ => assert_eq!(self.responder.expected(), was),
            }
            assert_eq!(p.psn, self.responder.expected(), "in its turn");
            self.check(r, &step);
            let takes = match step {
                Step::Send { place, .. } => place.begins(),
                Step::Write { imm, .. } => imm,
                _ => false,
            };
            if takes && no_receive {
                self.unready(&step);
                return;
            }
            match self.execute(&step, payload) {
                Ok(result) => self.accepted(r, &step, result),
                Err(_) if self.service == Service::Uc => {
                    self.responder.lose_message();
                    self.message = None;
                    self.expected += 1;
                }
                Err(nak) => {
                    self.responder.refuse(nak);
                    self.budget += 1;
                    self.refused = true;
                }
            }
            return;
        }
    }

    /// There is no receive for it.
    fn unready(&mut self, step: &Step) {
        self.responder.not_ready(7);
        // As it was before this packet.
        self.message = match *step {
            Step::Write {
                place,
                remote,
                offset,
                ..
            } if !place.begins() => Some((Some(remote), offset)),
            _ => None,
        };
        if self.service == Service::Uc {
            self.message = None;
            self.expected += 1;
        } else {
            self.budget += 1;
        }
    }

    /// Whether the peer has been told all up to this packet, by one about `number`.
    fn told(&mut self, number: u64) {
        self.owed = self.owed.filter(|o| *o > number);
    }

    /// Sends `max` packets. The memory of reads is gone, if that is said.
    fn send(&mut self, max: usize, gone: bool) {
        for _ in 0..max {
            let Some(next) = self.responder.responses.peek(self.mtu) else {
                break;
            };
            assert_eq!(self.responder.responses.peek(self.mtu), Some(next));
            assert!(self.service == Service::Rc && self.budget > 0, "{next:?}");
            self.budget -= 1;
            match next {
                Next::Ack(ack) => match ack.syndrome {
                    Syndrome::Ack => {
                        let number = self.number(ack.psn);
                        assert!(number < self.expected);
                        let before = |a: &&Asked| a.first <= number && !a.answered;
                        assert!(!self.asked.iter().any(|a| before(&a)), "{ack:?}");
                        let known = self.messages.iter().rev().find(|(n, _)| *n <= number);
                        assert_eq!(ack.msn, known.map_or(0, |(_, msn)| *msn));
                        self.told(number);
                    }
                    _ => {
                        assert_eq!(ack.psn, self.responder.expected(), "{ack:?}");
                        assert_eq!(ack.msn, self.msn);
                        assert!(self.asked.iter().all(|a| a.answered));
                        self.told(self.expected - 1);
                    }
                },
                Next::Read {
                    remote,
                    piece,
                    psn,
                    msn,
                } => {
                    let a = self.answer(psn, msn);
                    match a {
                        Answer::Read(asked) => {
                            assert_eq!(remote, asked);
                            assert!(piece.offset + piece.len <= asked.length);
                            let va = remote.va.wrapping_add(piece.offset.into());
                            let read = self.touch(Access::RemoteRead, va, piece.len.into());
                            assert_eq!(read.map(|b| b.len()), Ok(piece.len as usize));
                        }
                        Answer::Done => assert_eq!((remote, piece.len), (Remote::default(), 0)),
                        other => panic!("{other:?} for {next:?}"),
                    }
                    if gone && piece.len > 0 {
                        let nak = Syndrome::Nak(Nak::RemoteAccess);
                        self.responder.responses.refuse(nak);
                        match self.responder.responses.peek(self.mtu) {
                            Some(Next::Ack(ack)) => {
                                assert_eq!((ack.psn, ack.syndrome), (psn, nak));
                            }
                            other => panic!("{other:?}"),
                        }
                        self.responder.responses.sent();
                        assert_eq!(self.responder.responses.peek(self.mtu), None);
                        self.refused = true;
                        self.asked.clear();
                        self.owed = None;
                        return;
                    }
                }
                Next::Atomic { original, psn, msn } => {
                    let a = self.answer(psn, msn);
                    assert_eq!(a, Answer::Atomic(original));
                }
            }
            self.responder.responses.sent();
        }
    }

    /// This packet of an answer is sent.
    fn answer(&mut self, psn: Psn, msn: u32) -> Answer {
        let number = self.number(psn);
        let at = self
            .asked
            .iter()
            .rposition(|a| a.first <= number && number < a.first + a.packets)
            .expect("asked for");
        assert!(self.asked[..at].iter().all(|a| a.answered), "in order");
        let a = &mut self.asked[at];
        assert_eq!(number - a.first, a.sent);
        a.sent += 1;
        a.answered |= a.sent == a.packets;
        assert_eq!(msn, a.msn);
        let answer = match a.answer {
            Answer::Read(remote) => Answer::Read(remote),
            Answer::Atomic(v) => Answer::Atomic(v),
            Answer::Done => Answer::Done,
        };
        // All before it has arrived.
        self.told(number);
        answer
    }
}

/// The next packet, as it stands on the wire.
fn packet(m: &Model, input: &mut Input<'_>, op: u8) -> (Packet, usize) {
    let bits = match m.service {
        Service::Uc => 0x20,
        _ => 0,
    };
    let number = input.byte();
    // Mostly of the right service.
    let opcode = Opcode::from_number(number)
        .filter(|_| op & 1 != 0)
        .or_else(|| Opcode::from_number(number & 0x1f | bits))
        .or_else(|| Opcode::from_number(bits))
        .expect("a SEND");
    let number = match op >> 1 & 3 {
        0 | 1 => m.expected,
        2 => m
            .expected
            .wrapping_add(i64::from(input.byte() as i8) as u64),
        _ => input.long().into(),
    };
    let mtu = m.mtu.bytes();
    let length = match op >> 3 & 3 {
        0 => 8,
        1 => u32::from(input.byte() & 15) * mtu,
        2 => input.word().into(),
        _ => input.long(),
    };
    let va = match op >> 5 & 3 {
        0 => BASE,
        1 => BASE + u64::from(input.byte()) * 8,
        2 => BASE.wrapping_add(i64::from(input.word() as i16) as u64),
        _ => u64::from(input.long()) << 32 | u64::from(input.long()),
    };
    let flags = input.byte();
    let mut p = Packet {
        ack_request: flags & 1 != 0,
        solicited: flags & 2 != 0,
        ..Packet::new(opcode, 7, Psn::new(number as u32))
    };
    let rkey = if flags & 0x3c == 0x3c { 0 } else { RKEY };
    p.remote = Remote { va, rkey, length };
    p.atomic.va = va;
    p.atomic.rkey = rkey;
    p.atomic.swap_add = length.into();
    p.atomic.compare = (flags >> 6).into();
    p.flush = match flags >> 6 {
        0 => input.byte().into(),
        kind => kind.into(),
    };
    let full = match opcode.op {
        Op::Send(place, _) | Op::Write(place, _) => !place.ends(),
        _ => false,
    };
    let rest = match m.message {
        Some((Some(remote), offset)) => (remote.length - offset).min(mtu),
        _ => length.min(mtu),
    };
    let payload = match (flags >> 2 & 3, opcode.op) {
        (0..=2, Op::AtomicWrite) => 8,
        (0..=2, Op::Send(..) | Op::Write(..)) if full => mtu,
        (0..=2, Op::Send(..) | Op::Write(..)) => rest,
        (0..=2, _) => 0,
        _ => u32::from(input.word()) % 5000,
    };
    (p, payload as usize)
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut m = Model::new(&mut input);
    let mut wire = vec![0x77; 8192];
    while !input.0.is_empty() && !m.refused {
        let op = input.byte();
        if op & 0x80 != 0 {
            m.send(usize::from(op & 0x1f), op & 0x7f == 0x7f);
            continue;
        }
        let (p, payload) = packet(&m, &mut input, op);
        let len = packet_len(p.opcode, payload);
        p.emit(payload, &mut wire).expect("room");
        let r = Packet::parse(&wire, len).expect("well formed");
        let no_receive = input.byte() & 15 == 15;
        m.receive(&r, &wire[r.payload_at..][..payload], no_receive);
    }
    // Everybody is told in the end.
    m.send(usize::MAX, false);
    assert_eq!(m.responder.responses.peek(m.mtu), None);
    assert!(m.asked.iter().all(|a| a.answered) && m.owed.is_none());
});
