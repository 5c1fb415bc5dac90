// SPDX-License-Identifier: GPL-2.0

//! Answers, in the order of their requests (IBTA volume 1, section 9.7.5.1.1).
//!
//! Reads are answered by whoever sends, while later requests are executed; their acknowledges wait until
//! it is their turn. What was answered stays until its place is needed: a requester may ask again.

#![forbid(unsafe_code)]

use super::cut::{Mtu, Piece};
use crate::proto::serial::Psn;
use crate::proto::wire::ib::opcode::Op;
use crate::proto::wire::ib::packet::Remote;
use crate::proto::wire::ib::syndrome::{Nak, Syndrome};
use core::ops::DerefMut;

/// What a request asked to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The content of memory, in several packets.
    Read(Remote),
    /// What was there before an atomic.
    Atomic(u64),
    /// It is done: an empty read response (annex A19, ATOMIC WRITE).
    Done,
    /// The same of a FLUSH, of which any number may be on their way.
    Flushed,
}

impl Answer {
    /// Whether it takes one of the responder resources that were agreed upon. A FLUSH may be done again,
    /// so that nothing has to be kept for it; there are requesters that do not count it.
    const fn counts(&self) -> bool {
        !matches!(self, Answer::Flushed)
    }
}

/// A request with an answer of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// What the request was.
    request: Op,
    /// The answer.
    answer: Answer,
    /// Number of the request, and of the first packet of the answer.
    first: Psn,
    /// Packets of the answer.
    packets: u32,
    /// Packets that were sent.
    sent: u32,
    /// MSN of the request.
    msn: u32,
    /// It was answered once.
    answered: bool,
}

impl Resource {
    /// An unused slot.
    pub const EMPTY: Resource = Resource {
        request: Op::FetchAdd,
        answer: Answer::Atomic(0),
        first: Psn::new(0),
        packets: 0,
        sent: 0,
        msn: 0,
        answered: false,
    };
}

/// An acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The number of the packet that it is about.
    pub psn: Psn,
    /// What it says.
    pub syndrome: Syndrome,
    /// Messages that were completed.
    pub msn: u32,
}

/// The next packet to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An acknowledge.
    Ack(Ack),
    /// A part of a read.
    Read {
        /// What was asked for.
        remote: Remote,
        /// Which part of it.
        piece: Piece,
        /// Its number.
        psn: Psn,
        /// For the AETH.
        msn: u32,
    },
    /// The result of an atomic.
    Atomic {
        /// What was there before.
        original: u64,
        /// Its number.
        psn: Psn,
        /// For the AETH.
        msn: u32,
    },
}

/// More requests with answers than were agreed upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// Answers of a responder, in storage of the caller.
#[derive(Debug)]
pub struct Responses<S> {
    /// The last requests with answers, by number: a power of two.
    slots: S,
    /// The responder resources of the QP.
    depth: u32,
    /// Number of the next request with an answer.
    next: u32,
    /// All before this number are answered; of those behind it some may be, too.
    unsent: u32,
    /// Requests that are remembered.
    known: u32,
    /// An acknowledge, behind all of those.
    ack: Option<Ack>,
}

impl<S: DerefMut<Target = [Resource]>> Responses<S> {
    /// None yet, and at most `depth`. The slots are a power of two.
    pub fn new(slots: S, depth: u32) -> Self {
        let mut responses = Responses {
            slots,
            depth: 0,
            next: 0,
            unsent: 0,
            known: 0,
            ack: None,
        };
        responses.reset(depth);
        responses
    }

    /// From now on at most `depth`, and no more than there are slots.
    pub fn set_depth(&mut self, depth: u32) {
        self.depth = depth.min(self.slots.len() as u32);
    }

    /// Forgets everything; from now on at most `depth`.
    pub fn reset(&mut self, depth: u32) {
        self.set_depth(depth);
        self.next = 0;
        self.unsent = 0;
        self.known = 0;
        self.ack = None;
    }

    fn slot(&mut self, number: u32) -> Option<&mut Resource> {
        let mask = self.slots.len().wrapping_sub(1);
        self.slots.get_mut(number as usize & mask)
    }

    /// Answers that wait to be sent, those that count.
    fn waiting(&mut self) -> u32 {
        let mut waiting = 0;
        let mut number = self.unsent;
        while number != self.next {
            waiting += u32::from(
                self.slot(number)
                    .is_some_and(|r| r.answer.counts() && r.sent < r.packets),
            );
            number = number.wrapping_add(1);
        }
        waiting
    }

    /// Makes room for one more such answer, which there is if the requester keeps to what was agreed upon.
    pub fn make_room(&mut self, answer: Answer) -> Result<(), TooMany> {
        loop {
            self.skip_sent();
            let kept = self.next.wrapping_sub(self.unsent) as usize;
            if kept < self.slots.len() && (!answer.counts() || self.waiting() < self.depth) {
                return Ok(());
            }
            // Whoever goes on asking has the answers that are only being repeated.
            let number = self.unsent;
            if kept == 0 || !self.slot(number).is_some_and(|r| r.answered) {
                return Err(TooMany);
            }
            self.unsent = number.wrapping_add(1);
        }
    }

    /// A request was executed, or a read accepted: its answer follows when it is its turn.
    pub fn push(
        &mut self,
        request: Op,
        answer: Answer,
        psn: Psn,
        packets: u32,
        msn: u32,
    ) -> Result<(), TooMany> {
        self.make_room(answer)?;
        let number = self.next;
        *self.slot(number).ok_or(TooMany)? = Resource {
            request,
            answer,
            first: psn,
            packets,
            sent: 0,
            msn,
            answered: false,
        };
        self.next = number.wrapping_add(1);
        self.known = (self.known + 1).min(self.slots.len() as u32);
        // The answer says all that an acknowledge of an earlier request would.
        self.ack = None;
        Ok(())
    }

    /// Goes on to the first answer that is to be sent.
    fn skip_sent(&mut self) {
        while self.unsent != self.next {
            let number = self.unsent;
            if self.slot(number).is_some_and(|r| r.sent < r.packets) {
                break;
            }
            self.unsent = number.wrapping_add(1);
        }
    }

    /// Whether anything waits to be sent.
    pub fn wait(&mut self) -> bool {
        self.skip_sent();
        self.unsent != self.next || self.ack.is_some()
    }

    /// Whether a refusal waits to be sent.
    pub fn refuses(&self) -> bool {
        self.ack.is_some_and(|a| a.syndrome != Syndrome::Ack)
    }

    /// Whether a refusal that ends the connection waits to be sent.
    pub fn ends(&self) -> bool {
        self.ack.is_some_and(|a| match a.syndrome {
            Syndrome::Ack | Syndrome::Rnr(_) | Syndrome::Nak(Nak::Sequence) => false,
            Syndrome::Nak(_) => true,
        })
    }

    /// An acknowledge follows. It says what one that has not been sent would have said, too.
    pub fn acknowledge(&mut self, ack: Ack) {
        self.ack = Some(ack);
    }

    /// The packet that is to be sent next. It stays so until [`Self::sent`].
    pub fn peek(&mut self, mtu: Mtu) -> Option<Next> {
        self.skip_sent();
        if self.next != self.unsent {
            let number = self.unsent;
            let r = *self.slot(number)?;
            let psn = r.first.plus(r.sent);
            return Some(match r.answer {
                Answer::Read(remote) => Next::Read {
                    remote,
                    piece: mtu.piece(remote.length, r.sent),
                    psn,
                    msn: r.msn,
                },
                Answer::Done | Answer::Flushed => Next::Read {
                    remote: Remote::default(),
                    piece: mtu.piece(0, 0),
                    psn,
                    msn: r.msn,
                },
                Answer::Atomic(original) => Next::Atomic {
                    original,
                    psn,
                    msn: r.msn,
                },
            });
        }
        self.ack.map(Next::Ack)
    }

    /// The packet of [`Self::peek`] has been sent.
    pub fn sent(&mut self) {
        if self.next == self.unsent {
            self.ack = None;
            return;
        }
        let number = self.unsent;
        if let Some(r) = self.slot(number) {
            r.sent += 1;
            r.answered |= r.sent >= r.packets;
        }
    }

    /// The memory of the read that is to be answered cannot be read any more: this is said instead,
    /// and nothing after it.
    pub fn refuse(&mut self, syndrome: Syndrome) {
        let number = self.unsent;
        if let Some((psn, msn)) = self.slot(number).map(|r| (r.first.plus(r.sent), r.msn)) {
            self.unsent = self.next;
            self.ack = Some(Ack { psn, syndrome, msn });
        }
    }

    /// A request with an answer comes again, from this packet on: that is answered again (section
    /// 9.7.5.2.5). A read may ask for less than it did, never for more. False if it is not known any
    /// more, or is another one, be it another atomic: then it is ignored (section 9.7.5.1.5).
    pub fn again(&mut self, request: Op, psn: Psn, read: Option<(Remote, Mtu)>) -> bool {
        let pending = self.next.wrapping_sub(self.unsent);
        for back in 1..=self.known {
            let number = self.next.wrapping_sub(back);
            let Some(r) = self.slot(number) else {
                return false;
            };
            let skipped = psn.distance_from(r.first);
            if skipped >= r.packets {
                continue;
            }
            // The result of one operation is none of another.
            if request != r.request {
                return false;
            }
            match (&r.answer, read) {
                (Answer::Read(had), Some((asks, mtu))) => {
                    let bytes = skipped.saturating_mul(mtu.bytes());
                    if asks.rkey != had.rkey
                        || asks.va != had.va.wrapping_add(u64::from(bytes))
                        || asks.length > had.length.saturating_sub(bytes)
                    {
                        return false;
                    }
                    // The answer to this request, which begins with it.
                    r.answer = Answer::Read(asks);
                    r.first = psn;
                    r.packets = mtu.packets(asks.length);
                }
                (Answer::Atomic(_) | Answer::Done | Answer::Flushed, None) => {}
                _ => return false,
            }
            r.sent = 0;
            if back > pending {
                self.unsent = number;
            }
            return true;
        }
        false
    }
}
