// SPDX-License-Identifier: GPL-2.0

//! What is sent, and sent again (IBTA volume 1, sections 9.7.3 and 9.7.5 to 9.7.7).
//!
//! Go-back-N: work requests have consecutive packet numbers; what is not acknowledged is sent again from
//! the first such number on. No packet is kept: each is built from its work request when it is sent.
//!
//! The owner puts work requests in with [`Requester::push`], sends what [`Requester::next`] says, tells
//! what comes back, and takes out what is done with [`Requester::take_done`]. What cannot be executed it refuses
//! ([`Requester::refuse`], [`Requester::push_refused`]), and learns from [`Requester::failed`] when that has its turn.

#![forbid(unsafe_code)]

use super::cut::{Mtu, Piece};
use crate::proto::serial::Psn;
use crate::proto::wire::ib::opcode::Place;
use crate::proto::wire::ib::syndrome::{Nak, Syndrome};
use core::ops::DerefMut;

/// How a work request is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// By an acknowledge: SEND, WRITE.
    #[default]
    Plain,
    /// By as many packets as its length takes.
    Read,
    /// By the 8 bytes that were there.
    Atomic,
    /// By an empty read response: FLUSH and ATOMIC WRITE.
    Empty,
}

/// A work request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// How it is answered.
    pub kind: Kind,
    /// Bytes of the message.
    pub length: u32,
    /// It begins when all reads and atomics before it are answered.
    pub fence: bool,
    /// Whatever the owner needs to find the work request again.
    pub cookie: u32,
}

/// A work request between its start and its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    request: Request,
    /// Number of its first packet.
    first: Psn,
    /// Numbers that it takes.
    packets: u32,
    /// Of a read: the packet from which on it was asked for last. Answers begin there, or go on.
    asked_from: u32,
    /// Not 0: it cannot be executed, and fails with this `ib_wc_status` in its turn.
    refused: u8,
}

/// A packet to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The work request.
    pub request: Request,
    /// The part of the message that it carries; of a read: that it asks for, which has no place.
    pub piece: Piece,
    /// Its number.
    pub psn: Psn,
    /// An acknowledge is to be asked for.
    pub ack_request: bool,
}

/// Why nothing is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Everything was sent.
    Empty,
    /// Until an answer comes, or time passes.
    Wait,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Something is done, or may be sent: look at both.
    Progress,
    /// The responder is not ready: nothing is sent for so many microseconds, then
    /// [`Requester::rnr_over`].
    Rnr(u8),
    /// The payload belongs to this work request, at this offset.
    Place {
        /// Its [`Request::cookie`].
        cookie: u32,
        /// Offset in the message.
        offset: u32,
    },
    /// The oldest work request that is not done fails with this `ib_wc_status`, and the QP with it.
    Failed(u8),
}

/// `IB_WC_REM_INV_REQ_ERR` and its neighbours.
const REM_INV_REQ: u8 = 9;
const REM_ACCESS: u8 = 10;
const REM_OP: u8 = 11;
/// `IB_WC_RETRY_EXC_ERR`.
pub const RETRY_EXC: u8 = 12;
/// `IB_WC_RNR_RETRY_EXC_ERR`.
const RNR_RETRY_EXC: u8 = 13;
/// `IB_WC_BAD_RESP_ERR`.
const BAD_RESP: u8 = 7;

/// What a connection grants.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The path MTU.
    pub mtu: Mtu,
    /// Reads and atomics that may be unanswered.
    pub reads: u32,
    /// Times that something is sent again without progress, 0 to 7.
    pub retries: u8,
    /// Times that a responder may be not ready, 0 to 6; 7 stands for any number.
    pub rnr_retries: u8,
    /// Packets that may be unacknowledged.
    pub window: u32,
}

/// Unacknowledged packets after which an acknowledge is asked for.
const ACK_EVERY: u32 = 32;

/// The requester of an RC QP; storage for its work requests is the caller's.
#[derive(Debug)]
pub struct Requester<S> {
    /// Work requests that are not done, by number: a power of two.
    slots: S,
    limits: Limits,
    /// Number of the oldest that is not done.
    head: u32,
    /// Number of the next to be put in.
    tail: u32,
    /// Packet number of the next to be put in.
    next_psn: Psn,
    /// Number of the work request that is being sent.
    at: u32,
    /// Its next packet.
    packet: u32,
    /// The first packet that is not acknowledged.
    unacked: Psn,
    /// The first packet that was never sent.
    unsent: Psn,
    /// Reads and atomics among those that were begun.
    reads: u32,
    retries: u8,
    rnr_retries: u8,
    /// Something was sent again because of an answer, and there was no progress since.
    retried: bool,
    /// The responder asked for time.
    waits: bool,
    /// Packets that may be unacknowledged now. Few after a timeout ([`ACK_EVERY`]): whoever is slow has what was sent
    /// before, and would only get more to look at. When that is acknowledged, as many more as are acknowledged then.
    window: u32,
    /// The first packet that was not sent before the last timeout.
    late_before: Psn,
    /// Packets since the last one that asked for an acknowledge.
    since_ack: u32,
    /// Work requests that cannot be executed.
    refused: u32,
}

impl<S: DerefMut<Target = [Slot]>> Requester<S> {
    /// A requester that sends nothing yet. The slots are a power of two.
    pub fn new(slots: S) -> Self {
        Requester {
            slots,
            limits: Limits {
                mtu: Mtu::MIN,
                reads: 0,
                retries: 0,
                rnr_retries: 0,
                window: 0,
            },
            head: 0,
            tail: 0,
            next_psn: Psn::new(0),
            at: 0,
            packet: 0,
            unacked: Psn::new(0),
            unsent: Psn::new(0),
            reads: 0,
            retries: 0,
            rnr_retries: 0,
            retried: false,
            waits: false,
            window: 0,
            late_before: Psn::new(0),
            since_ack: 0,
            refused: 0,
        }
    }

    /// The QP becomes ready to send: the first packet has this number.
    pub fn begin(&mut self, limits: Limits, first: Psn) {
        self.limits = limits;
        self.head = 0;
        self.tail = 0;
        self.at = 0;
        self.packet = 0;
        self.next_psn = first;
        self.unacked = first;
        self.unsent = first;
        self.reads = 0;
        self.retries = limits.retries;
        self.rnr_retries = limits.rnr_retries;
        self.retried = false;
        self.waits = false;
        self.window = limits.window;
        self.since_ack = 0;
        self.refused = 0;
    }

    /// Other limits for what is sent from now on (SQD).
    pub fn adjust(&mut self, reads: u32, retries: u8, rnr_retries: u8) {
        self.limits.reads = reads;
        self.limits.retries = retries;
        self.limits.rnr_retries = rnr_retries;
        self.retries = retries;
        self.rnr_retries = rnr_retries;
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.head = 0;
        self.tail = 0;
        self.at = 0;
        self.packet = 0;
        self.unacked = self.next_psn;
        self.unsent = self.next_psn;
        self.waits = false;
        self.refused = 0;
    }

    /// UC: forgets all that was put in. What was never sent has no numbers: the next packet is the one behind those
    /// that were.
    pub fn give_up(&mut self) {
        self.next_psn = self.unsent;
        self.reset();
    }

    /// Whether work requests may have an answer of their own: reads and atomics are granted.
    pub fn may_ask(&self) -> bool {
        self.limits.reads != 0
    }

    /// UC: what was sent is as good as arrived.
    pub fn all_arrived(&mut self) {
        self.unacked = self.unsent;
    }

    fn slot(&self, number: u32) -> Option<&Slot> {
        let mask = self.slots.len().wrapping_sub(1);
        self.slots.get(number as usize & mask)
    }

    fn slot_mut(&mut self, number: u32) -> Option<&mut Slot> {
        let mask = self.slots.len().wrapping_sub(1);
        self.slots.get_mut(number as usize & mask)
    }

    /// Whether another work request may be put in: behind one that cannot be executed is none.
    pub fn has_room(&self) -> bool {
        // Less than half of the numbers, with the longest message put behind: what is old and what is new
        // must differ. From the first packet of the oldest on, for that is what packets are compared with.
        let oldest = self
            .slot(self.head)
            .filter(|_| self.head != self.tail)
            .map_or(self.next_psn, |s| s.first);
        self.refused == 0
            && (self.tail.wrapping_sub(self.head) as usize) < self.slots.len()
            && self.next_psn.distance_from(oldest) < 1 << 22
    }

    /// Puts a work request in. The caller made sure of the room.
    pub fn push(&mut self, request: Request) {
        let packets = match request.kind {
            Kind::Plain | Kind::Read => self.limits.mtu.packets(request.length),
            Kind::Atomic | Kind::Empty => 1,
        };
        let first = self.next_psn;
        if let Some(to) = self.slot_mut(self.tail) {
            *to = Slot {
                request,
                first,
                packets,
                asked_from: 0,
                refused: 0,
            };
            self.tail = self.tail.wrapping_add(1);
            self.next_psn = first.plus(packets);
        }
    }

    /// Puts in one that cannot be executed. Those before it go on as if there were nothing behind them; when they
    /// are done it fails ([`Self::failed`]). The caller made sure of the room.
    pub fn push_refused(&mut self, cookie: u32, status: u8) {
        let number = self.tail;
        self.push(Request {
            cookie,
            ..Request::default()
        });
        self.refuse_number(number, status);
    }

    /// The work request of [`Self::next`] cannot be executed, or not to its end: no packet of it is sent any more,
    /// nor of those behind it. When all before it are done it fails ([`Self::failed`]); but if its packets were
    /// sent before, and the responder acknowledges all of them, it is done.
    pub fn refuse(&mut self, status: u8) {
        self.refuse_number(self.at, status);
    }

    fn refuse_number(&mut self, number: u32, status: u8) {
        if let Some(slot) = self.slot_mut(number).filter(|s| s.refused == 0) {
            slot.refused = status;
            self.refused += 1;
        }
    }

    /// The oldest work request that is not done, and with which `ib_wc_status` it fails, if it cannot be executed.
    /// After [`Self::take_done`] has taken out all that are done.
    pub fn failed(&self) -> Option<(Request, u8)> {
        self.slot(self.head)
            .filter(|s| self.head != self.tail && s.refused != 0)
            .map(|s| (s.request, s.refused))
    }

    /// The packet that is to be sent next. It stays so until [`Self::sent`].
    pub fn next(&self) -> Result<Next, Idle> {
        if self.at == self.tail {
            return Err(Idle::Empty);
        }
        let slot = *self.slot(self.at).ok_or(Idle::Empty)?;
        let request = slot.request;
        if self.waits || slot.refused != 0 {
            return Err(Idle::Wait);
        }
        let psn = slot.first.plus(self.packet);
        if self.packet == 0 {
            let answered = request.kind != Kind::Plain;
            // What was put in before none were granted (SQD) has its turn: nothing would wake it.
            let reads = self.limits.reads.max(1);
            if (request.fence && self.reads != 0) || (answered && self.reads >= reads) {
                return Err(Idle::Wait);
            }
        }
        if psn.distance_from(self.unacked) >= self.window {
            return Err(Idle::Wait);
        }
        let piece = match request.kind {
            Kind::Plain => self.limits.mtu.piece(request.length, self.packet),
            Kind::Read => {
                let offset = self.packet.saturating_mul(self.limits.mtu.bytes());
                Piece {
                    place: Place::Only,
                    offset,
                    len: request.length.saturating_sub(offset),
                }
            }
            Kind::Atomic | Kind::Empty => Piece {
                place: Place::Only,
                offset: 0,
                len: request.length,
            },
        };
        let last_in_window = psn.distance_from(self.unacked) + 1 >= self.window;
        Ok(Next {
            request,
            piece,
            psn,
            ack_request: request.kind == Kind::Plain
                && (piece.place.ends() || last_in_window || self.since_ack + 1 >= ACK_EVERY),
        })
    }

    /// The packet of [`Self::next`] was sent.
    pub fn sent(&mut self, next: &Next) {
        self.since_ack = if next.ack_request {
            0
        } else {
            self.since_ack + 1
        };
        let packets = self.slot(self.at).map_or(0, |s| s.packets);
        let taken = match next.request.kind {
            Kind::Plain => 1,
            // One request stands for all the packets of its answer.
            _ => packets.saturating_sub(self.packet),
        };
        if self.packet == 0 && next.request.kind != Kind::Plain {
            self.reads += 1;
        }
        let from = self.packet;
        if let Some(slot) = self.slot_mut(self.at) {
            slot.asked_from = from;
        }
        self.packet += taken;
        let behind = next.psn.plus(taken);
        if self.unsent.precedes(behind) {
            self.unsent = behind;
        }
        if self.packet >= packets {
            self.at = self.at.wrapping_add(1);
            self.packet = 0;
        }
    }

    /// Whether all work requests that were put in were sent, each packet, and are not to be sent again as
    /// far as is known.
    pub fn all_sent(&self) -> bool {
        self.at == self.tail
    }

    /// Whether answers are outstanding, so that the timer has to run.
    pub fn awaits_answer(&self) -> bool {
        self.unacked != self.unsent && !self.waits
    }

    /// The oldest work request, if it is done.
    fn done(&self) -> Option<Slot> {
        let slot = self.slot(self.head).filter(|_| self.head != self.tail)?;
        let behind = slot.first.plus(slot.packets);
        (!self.unacked.precedes(behind)).then_some(*slot)
    }

    /// Whether there is something to be told: [`Self::take_done`], or [`Self::failed`].
    pub fn has_news(&self) -> bool {
        self.done().is_some() || self.failed().is_some()
    }

    /// Takes out the oldest work request if it is done.
    pub fn take_done(&mut self) -> Option<Request> {
        let slot = self.done()?;
        if self.at == self.head {
            self.at = self.at.wrapping_add(1);
            self.packet = 0;
        }
        self.head = self.head.wrapping_add(1);
        self.refused -= u32::from(slot.refused != 0);
        Some(slot.request)
    }

    /// The oldest work request that is not done.
    pub fn oldest(&self) -> Option<Request> {
        self.slot(self.head)
            .filter(|_| self.head != self.tail)
            .map(|s| s.request)
    }

    /// The work request, and its number, that this packet belongs to.
    fn find(&self, psn: Psn) -> Option<(u32, Slot)> {
        let mut number = self.head;
        while number != self.tail {
            let slot = self.slot(number)?;
            if psn.distance_from(slot.first) < slot.packets {
                return Some((number, *slot));
            }
            number = number.wrapping_add(1);
        }
        None
    }

    /// Everything before this packet has arrived: up to the first read or atomic whose answer has not.
    /// Says whether such a one stands before it.
    fn acknowledge(&mut self, behind: Psn) -> bool {
        let mut to = behind;
        let mut number = self.head;
        while number != self.tail {
            let Some(slot) = self.slot(number) else {
                break;
            };
            if !slot.first.precedes(behind) {
                break;
            }
            let end = slot.first.plus(slot.packets);
            // (One that is answered in part begins at the first unacknowledged packet.)
            if slot.request.kind != Kind::Plain && self.unacked.precedes(end) {
                to = if slot.first.precedes(self.unacked) {
                    self.unacked
                } else {
                    slot.first
                };
                break;
            }
            number = number.wrapping_add(1);
        }
        if self.unacked.precedes(to) {
            self.progress(to);
        }
        to.precedes(behind)
    }

    /// Everything before this packet is done with.
    fn progress(&mut self, to: Psn) {
        let packets = to.distance_from(self.unacked);
        self.unacked = to;
        self.retries = self.limits.retries;
        self.rnr_retries = self.limits.rnr_retries;
        self.retried = false;
        if self.window < self.limits.window && !to.precedes(self.late_before) {
            self.window = self.window.saturating_add(packets).min(self.limits.window);
        }
        // What was to be sent again has arrived meanwhile.
        let Some(slot) = self.slot(self.at).filter(|_| self.at != self.tail) else {
            return;
        };
        if slot.first.plus(self.packet).precedes(to) {
            self.rewind(to);
        }
    }

    /// What is sent next is this packet.
    fn rewind(&mut self, to: Psn) {
        match self.find(to) {
            Some((number, slot)) => {
                self.at = number;
                self.packet = to.distance_from(slot.first);
            }
            None => {
                self.at = self.tail;
                self.packet = 0;
            }
        }
        self.since_ack = 0;
        // Reads that are begun: those before it, and the one in whose middle it stands.
        let mut reads = 0;
        let mut number = self.head;
        while number != self.at {
            reads += u32::from(self.slot(number).is_some_and(|s| {
                s.request.kind != Kind::Plain && self.unacked.precedes(s.first.plus(s.packets))
            }));
            number = number.wrapping_add(1);
        }
        if self.packet != 0
            && self
                .slot(self.at)
                .is_some_and(|s| s.request.kind != Kind::Plain)
        {
            reads += 1;
        }
        self.reads = reads;
    }

    /// Whether a packet with this number was sent and not acknowledged.
    fn is_outstanding(&self, psn: Psn) -> bool {
        psn.distance_from(self.unacked) < self.unsent.distance_from(self.unacked)
    }

    /// Sends again from the first packet that is not acknowledged.
    fn again(&mut self) -> Effect {
        if self.retries == 0 {
            return Effect::Failed(RETRY_EXC);
        }
        self.retries -= 1;
        self.rewind(self.unacked);
        Effect::Progress
    }

    /// An answer shows that something is missing. More than one may show the same: only the first counts,
    /// then the timer decides.
    fn missing(&mut self) -> Effect {
        if self.retried {
            return Effect::None;
        }
        self.retried = true;
        self.again()
    }

    /// Whether we wait for the time of the responder that asks for this packet: it has not been sent since, so that
    /// what asks for it is as old, or doubled on its way. It neither counts once more nor ends the wait.
    fn is_told_again(&self, psn: Psn) -> bool {
        self.waits && psn == self.unacked
    }

    /// An acknowledge has come (section 9.7.5.2.1 and following).
    pub fn acknowledged(&mut self, psn: Psn, syndrome: Syndrome) -> Effect {
        if !self.is_outstanding(psn) {
            // Of a packet that was acknowledged before, or never sent: a ghost.
            return Effect::None;
        }
        match syndrome {
            Syndrome::Ack => {
                self.waits = false;
                if self.acknowledge(psn.next()) {
                    return self.missing();
                }
                Effect::Progress
            }
            Syndrome::Nak(Nak::Sequence) => {
                if self.is_told_again(psn) {
                    return Effect::None;
                }
                self.waits = false;
                self.acknowledge(psn);
                self.missing()
            }
            Syndrome::Rnr(timer) => {
                if self.is_told_again(psn) {
                    return Effect::None;
                }
                if self.acknowledge(psn) {
                    return self.missing();
                }
                if self.rnr_retries == 0 {
                    return Effect::Failed(RNR_RETRY_EXC);
                }
                if self.limits.rnr_retries != 7 {
                    self.rnr_retries -= 1;
                }
                self.rewind(psn);
                self.waits = true;
                Effect::Rnr(timer)
            }
            Syndrome::Nak(nak) => {
                if self.acknowledge(psn) {
                    return self.missing();
                }
                Effect::Failed(match nak {
                    Nak::InvalidRequest => REM_INV_REQ,
                    Nak::RemoteAccess => REM_ACCESS,
                    _ => REM_OP,
                })
            }
        }
    }

    /// A packet of a read response has come, which says that it is for this place. After [`Effect::Place`] and the
    /// placement: [`Self::placed`].
    pub fn read_response(&mut self, psn: Psn, place: Place, len: u32) -> Effect {
        match self.response(psn) {
            Ok(slot) => match slot.request.kind {
                Kind::Read => {
                    let index = psn.distance_from(slot.first);
                    let piece = self.limits.mtu.piece(slot.request.length, index);
                    // FIRST and ONLY stand where an answer begins, LAST and ONLY at its end (section 9.7.5.2.4). What
                    // was asked for again in its middle may begin there, or go on: responders differ, and the answer
                    // to what was asked before may have been on its way.
                    let begins = match index {
                        0 => place.begins(),
                        i => !place.begins() || i == slot.asked_from,
                    };
                    if !begins || place.ends() != piece.place.ends() || len != piece.len {
                        return Effect::Failed(BAD_RESP);
                    }
                    Effect::Place {
                        cookie: slot.request.cookie,
                        offset: piece.offset,
                    }
                }
                Kind::Empty if len == 0 && place == Place::Only => {
                    self.placed(psn);
                    Effect::Progress
                }
                _ => Effect::Failed(BAD_RESP),
            },
            Err(effect) => effect,
        }
    }

    /// A response has come that says otherwise than that it is one: an acknowledge of this number refuses, or asks for
    /// time, but no response does (section 9.7.5.1.1). `Failed`, if it is the next one.
    pub fn contradictory_response(&mut self, psn: Psn) -> Effect {
        match self.response(psn) {
            Ok(_) => Effect::Failed(BAD_RESP),
            Err(effect) => effect,
        }
    }

    /// The result of an atomic has come: it is to be placed, then [`Self::placed`].
    pub fn atomic_response(&mut self, psn: Psn) -> Effect {
        match self.response(psn) {
            Ok(slot) if slot.request.kind == Kind::Atomic => Effect::Place {
                cookie: slot.request.cookie,
                offset: 0,
            },
            Ok(_) => Effect::Failed(BAD_RESP),
            Err(effect) => effect,
        }
    }

    /// An answer has come that acknowledges all before it. `Err` if it is not the next one.
    fn response(&mut self, psn: Psn) -> Result<Slot, Effect> {
        if !self.is_outstanding(psn) {
            return Err(Effect::None);
        }
        self.waits = false;
        if self.acknowledge(psn) {
            // One before it is missing.
            return Err(self.missing());
        }
        self.find(psn).map(|(_, slot)| slot).ok_or(Effect::None)
    }

    /// The answer with this number is where it belongs.
    pub fn placed(&mut self, psn: Psn) {
        let behind = psn.next();
        let ends = self
            .find(psn)
            .is_some_and(|(_, s)| behind == s.first.plus(s.packets));
        self.progress(behind);
        if ends {
            self.reads = self.reads.saturating_sub(1);
        }
    }

    /// No answer has come for the time that the connection grants.
    pub fn timed_out(&mut self) -> Effect {
        if !self.awaits_answer() {
            return Effect::None;
        }
        self.window = self.window.min(ACK_EVERY);
        self.late_before = self.unsent;
        self.again()
    }

    /// The time that the responder asked for is over.
    pub fn rnr_over(&mut self) {
        self.waits = false;
    }
}
