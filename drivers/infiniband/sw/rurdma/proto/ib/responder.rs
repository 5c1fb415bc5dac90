// SPDX-License-Identifier: GPL-2.0

//! What is done with requests (IBTA volume 1, sections 9.7.4 and 9.7.5 for RC, 9.8.2 for UC).
//!
//! For each packet the owner asks [`Responder::receive`] what it means, touches memory and queues as told,
//! and says how that went: [`Responder::accept`], or [`Responder::refuse`], or
//! [`Responder::not_ready`].

#![forbid(unsafe_code)]

use super::cut::Mtu;
use super::responses::{Ack, Answer, Resource, Responses, TooMany};
use crate::proto::serial::Psn;
use crate::proto::wire::ib::flush::FlushKind;
use crate::proto::wire::ib::opcode::{Extra, Op, Place, Service};
use crate::proto::wire::ib::packet::{Atomic, Received, Remote};
use crate::proto::wire::ib::syndrome::{rnr_timer_us, Nak, Syndrome};
use crate::proto::wqe::MAX_MSG;
use core::ops::DerefMut;

/// What is to be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Data for the oldest receive, at this offset of its message.
    Send {
        /// Where in the message.
        place: Place,
        /// Offset of the payload.
        offset: u32,
        /// What comes with the last packet.
        extra: Extra,
    },
    /// Data for memory.
    Write {
        /// Where in the message.
        place: Place,
        /// The whole message: it is checked when it begins.
        remote: Remote,
        /// Offset of the payload.
        offset: u32,
        /// Immediate data, which takes a receive, comes with the last packet.
        imm: bool,
    },
    /// Memory is asked for.
    Read(Remote),
    /// Compare and swap.
    CmpSwp(Atomic),
    /// Fetch and add.
    FetchAdd(Atomic),
    /// Flush: what is asked for, and the memory.
    Flush(FlushKind, Remote),
    /// 8 bytes at once.
    AtomicWrite(Remote),
}

impl Step {
    /// How it is answered, if otherwise than by an acknowledge; `result` is that of an atomic.
    const fn answer(&self, result: u64) -> Option<Answer> {
        match *self {
            Step::Send { .. } | Step::Write { .. } => None,
            Step::Read(remote) => Some(Answer::Read(remote)),
            Step::CmpSwp(_) | Step::FetchAdd(_) => Some(Answer::Atomic(result)),
            Step::AtomicWrite(_) => Some(Answer::Done),
            Step::Flush(..) => Some(Answer::Flushed),
        }
    }
}

/// What a packet means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Drop,
    /// It is answered, or acknowledged, once more: see what is to be sent.
    Repeat,
    /// It is to be executed.
    Execute(Step),
    /// The request makes no sense: see what is to be sent; the QP fails.
    Invalid,
    /// UC: a message of which packets are missing is forgotten. What it took is to be given back, then
    /// the packet is to be received again.
    Abandon,
}

/// A message whose last packet has not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    /// None.
    None,
    /// A SEND of which this much has come.
    Send(u32),
    /// A WRITE of which this much has come.
    Write(Remote, u32),
}

/// Whether a message begins with it, of those that may have several packets.
fn begins(op: Op) -> bool {
    match op {
        Op::Send(place, _) | Op::Write(place, _) => place.begins(),
        _ => false,
    }
}

/// The responder of a connected QP; storage for its answers is the caller's.
#[derive(Debug)]
pub struct Responder<S> {
    service: Service,
    mtu: Mtu,
    /// The number of the next packet.
    expected: Psn,
    /// Messages that were completed.
    msn: u32,
    message: Message,
    /// The requester knows that a packet is missing, or that we are not ready.
    told: bool,
    /// The request that found no receive last, and until when, in nanoseconds, its requester was asked to wait.
    not_ready: Option<(Psn, u64)>,
    /// Answers on their way.
    pub responses: Responses<S>,
}

impl<S: DerefMut<Target = [Resource]>> Responder<S> {
    /// A responder that expects nothing yet.
    pub fn new(slots: S) -> Self {
        Responder {
            service: Service::Rc,
            mtu: Mtu::MIN,
            expected: Psn::new(0),
            msn: 0,
            message: Message::None,
            told: false,
            not_ready: None,
            responses: Responses::new(slots, 0),
        }
    }

    /// The QP becomes ready to receive: the first packet has this number; so many requests may be
    /// answered at a time.
    pub fn begin(&mut self, service: Service, mtu: Mtu, first: Psn, depth: u32) {
        self.service = service;
        self.mtu = mtu;
        self.expected = first;
        self.msn = 0;
        self.message = Message::None;
        self.told = false;
        self.not_ready = None;
        self.responses.reset(depth);
    }

    /// The number of the next packet.
    pub fn expected(&self) -> Psn {
        self.expected
    }

    /// Whether a packet is a request whose turn it is, and that makes sense.
    pub fn is_due(&self, r: &Received) -> bool {
        let p = &r.packet;
        // Of UC the packets before it may be lost.
        let turn = p.psn == self.expected || (self.is_uc() && begins(p.opcode.op));
        turn && p.opcode.service == self.service && self.step(r).is_some()
    }

    /// The path MTU.
    pub fn mtu(&self) -> Mtu {
        self.mtu
    }

    /// A request has come.
    pub fn receive(&mut self, r: &Received) -> Verdict {
        let p = &r.packet;
        if p.opcode.service != self.service || !p.opcode.is_request() {
            return Verdict::Drop;
        }
        if p.psn != self.expected {
            if self.service == Service::Uc {
                return self.lost(r);
            }
            if p.psn.precedes(self.expected) {
                return self.duplicate(r);
            }
            if self.told {
                return Verdict::Drop;
            }
            self.told = true;
            self.say(self.expected, Syndrome::Nak(Nak::Sequence));
            return Verdict::Repeat;
        }
        match self.step(r) {
            Some(step) => {
                // Before it is executed: an atomic that is refused has not happened.
                let room = match step.answer(0) {
                    Some(answer) => self.responses.make_room(answer),
                    None => Ok(()),
                };
                if room.is_err() {
                    self.refuse(Nak::InvalidRequest);
                    return Verdict::Invalid;
                }
                Verdict::Execute(step)
            }
            None if self.service == Service::Uc => self.lost(r),
            None => {
                self.refuse(Nak::InvalidRequest);
                Verdict::Invalid
            }
        }
    }

    /// What a packet with the expected number asks for; `None` if it makes no sense here (sections
    /// 9.7.4.1.2 to 9.7.4.1.6).
    fn step(&self, r: &Received) -> Option<Step> {
        let p = &r.packet;
        let len = u32::try_from(r.payload_len).ok()?;
        // Between the packets of a message is nothing else.
        let going_on = match p.opcode.op {
            Op::Send(place, _) | Op::Write(place, _) => !place.begins(),
            _ => false,
        };
        if going_on != (self.message != Message::None) {
            return None;
        }
        match p.opcode.op {
            Op::Send(place, extra) => {
                let offset = match self.message {
                    Message::Send(offset) => offset,
                    Message::None => 0,
                    Message::Write(..) => return None,
                };
                self.fits(place, len)?;
                (len <= MAX_MSG - offset).then_some(Step::Send {
                    place,
                    offset,
                    extra,
                })
            }
            Op::Write(place, extra) => {
                let (remote, offset) = match self.message {
                    Message::Write(remote, offset) => (remote, offset),
                    Message::None => (p.remote, 0),
                    Message::Send(_) => return None,
                };
                self.fits(place, len)?;
                let left = remote.length.checked_sub(offset)?.checked_sub(len)?;
                // The length of the first packet's header is that of the message.
                if remote.length > MAX_MSG || place.ends() != (left == 0) {
                    return None;
                }
                Some(Step::Write {
                    place,
                    remote,
                    offset,
                    imm: extra == Extra::Imm,
                })
            }
            Op::ReadRequest => {
                (len == 0 && p.remote.length <= MAX_MSG).then_some(Step::Read(p.remote))
            }
            Op::CmpSwp => (len == 0).then_some(Step::CmpSwp(p.atomic)),
            Op::FetchAdd => (len == 0).then_some(Step::FetchAdd(p.atomic)),
            Op::Flush => {
                let kind = FlushKind::from_word(p.flush)?;
                (len == 0).then_some(Step::Flush(kind, p.remote))
            }
            Op::AtomicWrite => {
                (len == 8 && p.remote.length == 8).then_some(Step::AtomicWrite(p.remote))
            }
            Op::ReadResponse(_) | Op::Acknowledge | Op::AtomicAcknowledge | Op::Reserved(_) => None,
        }
    }

    /// Whether a packet at this place may have so many bytes.
    fn fits(&self, place: Place, len: u32) -> Option<()> {
        let mtu = self.mtu.bytes();
        match place {
            Place::First | Place::Middle => len == mtu,
            Place::Last => len > 0 && len <= mtu,
            Place::Only => len <= mtu,
        }
        .then_some(())
    }

    /// The step of this packet was executed; or, a read, will be.
    pub fn accept(&mut self, r: &Received, step: &Step, result: u64) -> Result<(), TooMany> {
        let len = r.payload_len as u32;
        let psn = self.expected;
        let (ends, mut packets) = match *step {
            Step::Send { place, offset, .. } => {
                self.message = if place.ends() {
                    Message::None
                } else {
                    Message::Send(offset + len)
                };
                (place.ends(), 1)
            }
            Step::Write {
                place,
                remote,
                offset,
                ..
            } => {
                self.message = if place.ends() {
                    Message::None
                } else {
                    Message::Write(remote, offset + len)
                };
                (place.ends(), 1)
            }
            _ => (true, 1),
        };
        let msn = if ends { self.msn + 1 } else { self.msn } & 0xff_ffff;
        let answer = step.answer(result);
        if let Some(answer) = answer {
            if let Answer::Read(remote) = answer {
                packets = self.mtu.packets(remote.length);
            }
            let request = r.packet.opcode.op;
            if let Err(e) = self.responses.push(request, answer, psn, packets, msn) {
                self.refuse(Nak::InvalidRequest);
                return Err(e);
            }
        }
        self.msn = msn;
        self.expected = psn.plus(packets);
        self.told = false;
        // A refusal that has not been sent asked for this very packet: it is not so any more.
        if answer.is_none()
            && self.service == Service::Rc
            && (r.packet.ack_request || self.responses.refuses())
        {
            self.say(psn, Syndrome::Ack);
        }
        Ok(())
    }

    /// Whether this is UC, where nobody is told anything.
    pub fn is_uc(&self) -> bool {
        self.service == Service::Uc
    }

    /// UC: the message of this packet is dropped (section 9.8.2.2).
    pub fn lose_message(&mut self) {
        self.message = Message::None;
        self.expected = self.expected.next();
    }

    /// There is no receive for it: the requester is asked to come again (section 9.7.5.2.8); of UC the
    /// message is lost.
    pub fn not_ready(&mut self, timer: u8) {
        if self.is_uc() {
            return self.lose_message();
        }
        self.told = true;
        self.say(self.expected, Syndrome::Rnr(timer));
    }

    /// The request that is expected finds no receive, at this time in nanoseconds. Whether it is the first time that
    /// it comes: before the time is over that the requester is asked to wait, only the network says it again.
    pub fn finds_no_receive(&mut self, timer: u8, now: u64) -> bool {
        let again = |(psn, until): (Psn, u64)| psn == self.expected && now < until;
        if self.not_ready.is_some_and(again) {
            return false;
        }
        let until = now + u64::from(rnr_timer_us(timer)) * 1000;
        self.not_ready = Some((self.expected, until));
        true
    }

    /// It may not be executed, or could not: the requester is told.
    pub fn refuse(&mut self, nak: Nak) {
        if self.service == Service::Rc {
            self.say(self.expected, Syndrome::Nak(nak));
        }
    }

    fn say(&mut self, psn: Psn, syndrome: Syndrome) {
        self.responses.acknowledge(Ack {
            psn,
            syndrome,
            msn: self.msn,
        });
    }

    /// A request that was executed comes again (section 9.7.4.1.1 and 9.7.5.1.5).
    fn duplicate(&mut self, r: &Received) -> Verdict {
        let p = &r.packet;
        let op = p.opcode.op;
        let known = match op {
            Op::ReadRequest => self.responses.again(op, p.psn, Some((p.remote, self.mtu))),
            Op::CmpSwp | Op::FetchAdd | Op::Flush | Op::AtomicWrite => {
                self.responses.again(op, p.psn, None)
            }
            _ => {
                // Everything so far has arrived; a refusal says that, too.
                if !self.responses.refuses() {
                    self.say(self.expected.plus(Self::BEFORE), Syndrome::Ack);
                }
                true
            }
        };
        if known {
            Verdict::Repeat
        } else {
            Verdict::Drop
        }
    }

    /// One less, modulo 2^24.
    const BEFORE: u32 = 0xff_ffff;

    /// UC: packets are missing, or out of order. A message goes on with its first packet only (section
    /// 9.8.2.2.1).
    fn lost(&mut self, r: &Received) -> Verdict {
        let was = core::mem::replace(&mut self.message, Message::None);
        if was != Message::None {
            return Verdict::Abandon;
        }
        if !begins(r.packet.opcode.op) || r.packet.psn == self.expected {
            return Verdict::Drop;
        }
        self.expected = r.packet.psn;
        match self.step(r) {
            Some(step) => Verdict::Execute(step),
            None => Verdict::Drop,
        }
    }
}
