// SPDX-License-Identifier: GPL-2.0

//! Receiving: from the socket into the memory of MRs and receive buffers.
//!
//! Runs with the socket's lock held, mostly in softirq. Payload is copied once, straight to where it
//! belongs, and summed on the way.

mod answered;
mod reader;
mod rfc7306;
mod told;

use super::cm::StreamParams;
use super::stream::{Sink, StreamQp};
use super::tx::KernelCrc;
use crate::cq::{opcode, status, WC_WITH_INVALIDATE};
use crate::kapi::net::skb::SkbChunk;
use crate::kapi::net::socket::LockedSock;
use crate::kapi::rdma::attr::access;
use crate::kapi::rdma::qp::QpState;
use crate::kapi::rdma::stats::Counter;
use crate::kapi::sync::Turn;
use crate::mr::sges::{locate, scatter};
use crate::mr::{Held, Whose};
use crate::proto::access::{refusal, Access, Denied};
use crate::proto::bulk::Bulk;
use crate::proto::iwarp::negotiate::RtrPlan;
use crate::proto::iwarp::orders::{Expect, Inbound};
use crate::proto::iwarp::rx::{Event, Message, Payload, Receiver, RxConfig, Segment, Target, Want};
use crate::proto::wire::rdmap::{Opcode, ReadRequest};
use crate::proto::wire::terminate::{TermError, Terminate};
use crate::proto::wqe::abi::Cqe;
use crate::qp::{Cause, Qp};
use crate::rq::{RecvWr, TakeError};
use answered::Answered;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::Release;
use kernel::time::delay::fsleep;
use kernel::time::Delta;
use told::Told;

/// The receiving side of a stream.
pub(super) struct Rx {
    receiver: Receiver,
    /// Receive work request of the message in progress.
    recv: RecvWr,
    have_recv: bool,
    /// Receives that are complete. Empty from one piece of the stream to the next.
    told: Told,
    /// The read that is being answered, if something of that has come.
    answered: Option<Answered>,
    /// Where the segment of a Read Response that is in progress begins in what was asked for.
    response_at: u32,
    /// What a responder waits for.
    plan: RtrPlan,
    /// Something came that the sending side has to act on.
    answer: bool,
    /// Whether what the peer reads is a stream.
    asked: Bulk,
}

/// What there is to send after something was received.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Nothing,
    Something,
    /// It is much, and there will be more.
    Stream,
}

impl Rx {
    pub(super) fn new() -> Self {
        Self {
            receiver: Receiver::new(RxConfig {
                crc: true,
                rfc7306: true,
            }),
            recv: RecvWr::empty(),
            have_recv: false,
            told: Told::new(),
            answered: None,
            response_at: 0,
            plan: RtrPlan::ClientServer,
            answer: false,
            asked: Bulk::default(),
        }
    }

    fn take_answer(&mut self) -> Answer {
        match core::mem::take(&mut self.answer) {
            false => Answer::Nothing,
            true if self.asked.is_stream() => Answer::Stream,
            true => Answer::Something,
        }
    }

    /// The QP goes back to the beginning: the receive in progress is forgotten.
    pub(super) fn reset(&mut self) {
        self.have_recv = false;
        self.answer = false;
    }

    /// The stream begins.
    pub(super) fn start(&mut self, params: &StreamParams) {
        self.receiver = Receiver::new(RxConfig {
            crc: params.crc,
            // Nothing on the wire negotiates it (RFC 7306 section 1.1).
            rfc7306: true,
        });
        self.have_recv = false;
        self.answered = None;
        self.asked = Bulk::default();
        self.plan = params.plan;
    }
}

/// Why reception ended.
struct Failure {
    error: TermError,
    cause: Cause,
}

impl From<TermError> for Failure {
    fn from(error: TermError) -> Self {
        Self {
            error,
            cause: Cause::Request,
        }
    }
}

/// The reason of a Terminate for a tagged segment that is refused (RFC 5041 section 7.2; the rights
/// are RDMAP's to check, RFC 5040 section 8.1).
fn tagged_error(error: Denied) -> Failure {
    Failure {
        error: error.tagged(),
        cause: Cause::Access,
    }
}

impl StreamQp<'_> {
    /// Takes what the socket has, whose lock is held, up to the piece that makes it `budget` bytes; in ERROR, flushes the
    /// receive that is in progress. Any context.
    fn receive(&self, sk: &LockedSock, budget: usize) -> Answer {
        let mut answer = Answer::Nothing;
        let turn = self.stream().rx.run(|rx| {
            // A read error is a connection that is gone: `state_change` tells.
            let _ = sk.read(budget, |chunk| rx.chunk(self, chunk));
            self.end_receive(rx);
            answer = answer.max(rx.take_answer());
            Turn::Done
        });
        self.received(turn);
        answer
    }

    /// The end of a turn of the receiving side. Who leaves a note is not the socket, which calls one at a time: it is
    /// the flush of an ERROR.
    fn received(&self, turn: Turn) {
        if turn == Turn::More {
            self.queue_work();
        }
    }

    /// In ERROR, flushes the receive that is in progress: after whoever is receiving now, so that what the caller
    /// flushes of the queues completes behind all that was received. Process context.
    pub(super) fn flush_receive(&self) {
        let mut done = false;
        loop {
            let turn = self.stream().rx.run(|rx| {
                self.end_receive(rx);
                done = true;
                Turn::Done
            });
            if turn == Turn::More {
                self.queue_work();
            }
            if done {
                return;
            }
            // As for `Owner::exclusive()`; but whoever has left a note for us meanwhile is not forgotten.
            fsleep(Delta::from_micros(50));
        }
    }

    fn end_receive(&self, rx: &mut Rx) {
        if self.state() == QpState::Error {
            rx.flush(self);
            self.recv_flushed();
        }
    }
}

impl Rx {
    /// Takes a piece of the stream; gives how much of it was used: all.
    fn chunk(&mut self, qp: &StreamQp<'_>, chunk: &SkbChunk<'_>) -> usize {
        self.take(qp, chunk);
        if let Err(failure) = self.tell_all(qp) {
            self.fail(qp, failure);
        }
        chunk.len()
    }

    fn take(&mut self, qp: &StreamQp<'_>, chunk: &SkbChunk<'_>) {
        let mut at = 0;
        // Memory is looked up again for each piece of the stream, so that no deregistration waits for the peer.
        let mut held = Held::none();
        if !matches!(qp.state(), QpState::Rts | QpState::Sqd) {
            return;
        }
        while at < chunk.len() {
            let left = chunk.len() - at;
            let step = match self.receiver.want() {
                Want::Nothing => return,
                Want::Control(buf) => {
                    let n = buf.len().min(left);
                    let copied = match buf.get_mut(..n) {
                        Some(buf) => chunk.copy_to_slice(at, buf),
                        None => Err(EFAULT),
                    };
                    at += n;
                    match copied {
                        Ok(()) => self.control(qp, n, &mut held),
                        Err(_) => Err(TermError::RDMAP_STREAM.into()),
                    }
                }
                Want::Payload(payload) => {
                    let n = (payload.remaining as usize).min(left);
                    let from = at;
                    at += n;
                    self.payload(qp, &payload, chunk, from, n, &mut held)
                }
            };
            if let Err(failure) = step {
                self.fail(qp, failure);
                return;
            }
        }
    }

    /// Ends the stream with a Terminate.
    fn fail(&mut self, qp: &StreamQp<'_>, failure: Failure) {
        // If the CQ is lost, that is one more reason.
        let _ = self.tell_all(qp);
        let body = self.receiver.fail(failure.error);
        self.flush(qp);
        self.answer = true;
        // Something came, bad as it is: the initiator is past the exchange of MPA frames, and takes a
        // Terminate.
        qp.stream().may_send.store(true, Release);
        if failure.error == TermError::MPA_CRC {
            qp.dev.counters.count(Counter::CrcErrors);
        } else if failure.cause == Cause::Access {
            qp.dev.counters.count(Counter::AccessErrors);
        }
        qp.stream_terminate(body, failure.cause);
    }

    /// The receive in progress fails. In its turn: what was received before is told first.
    fn recv_fails(&mut self, qp: &StreamQp<'_>, status: u8) {
        let _ = self.tell_all(qp);
        self.have_recv = false;
        let _ = qp.push_recv_error(self.recv.wr_id, status);
    }

    /// The receive in progress will not be completed by the peer.
    fn flush(&mut self, qp: &Qp) {
        if core::mem::take(&mut self.have_recv) {
            let _ = qp.push_recv_error(self.recv.wr_id, status::WR_FLUSH_ERR);
        }
    }

    /// `n` more bytes of a header or trailer are there.
    fn control(&mut self, qp: &StreamQp<'_>, n: usize, held: &mut Held) -> Result<(), Failure> {
        match self.receiver.filled::<KernelCrc>(n)? {
            Event::None => Ok(()),
            Event::Start(segment) => self.begin(qp, &segment, held),
            Event::End(_, message) => self.end(qp, message),
        }
    }

    /// A segment begins: finds its memory before a byte of it is taken.
    fn begin(
        &mut self,
        qp: &StreamQp<'_>,
        segment: &Segment,
        held: &mut Held,
    ) -> Result<(), Failure> {
        match (segment.op, segment.target) {
            (Opcode::Write, Target::Tagged { stag, to }) => {
                if segment.len > 0 {
                    may_write(qp)?;
                    let (key, len) = ((Whose::Peers, stag), segment.len as usize);
                    held.check(qp, key, to, len, Access::RemoteWrite)
                        .map_err(tagged_error)?;
                }
                Ok(())
            }
            (Opcode::ReadResponse, Target::Tagged { stag, to }) => {
                let answered = match &mut self.answered {
                    Some(answered) => answered,
                    none => none.insert(Answered::oldest(qp)?),
                };
                let order = &mut answered.order;
                self.response_at = order.response(stag, to, segment.len, segment.last)?;
                Ok(())
            }
            (_, Target::Untagged { mo, .. }) => {
                if segment.first && !self.is_indication(segment) {
                    self.take_recv(qp)?;
                }
                if self.have_recv && u64::from(mo) + u64::from(segment.len) > self.recv.room {
                    self.recv_fails(qp, status::LOC_LEN_ERR);
                    return Err(TermError::DDP_TOO_LONG.into());
                }
                Ok(())
            }
            _ => Err(TermError::RDMAP_OPCODE.into()),
        }
    }

    /// Whether the segment is the initiator's ready-to-receive indication, not a message.
    fn is_indication(&self, segment: &Segment) -> bool {
        !self.receiver.has_started() && self.plan.is_indication(segment)
    }

    fn take_recv(&mut self, qp: &StreamQp<'_>) -> Result<(), Failure> {
        match qp.take_recv(&mut self.recv) {
            Ok(()) => {
                self.have_recv = true;
                Ok(())
            }
            Err(TakeError::Empty) => {
                qp.dev.counters.count(Counter::ReceiverNotReady);
                Err(TermError::DDP_NO_BUFFER.into())
            }
            Err(TakeError::Corrupt) => Err(Failure {
                error: TermError::RDMAP_CATASTROPHIC,
                cause: Cause::Fatal,
            }),
            Err(TakeError::Bad { wr_id, error }) => {
                let _ = self.tell_all(qp);
                let _ = qp.push_bad_recv(wr_id, error.wc_status(), error.vendor_err());
                Err(Failure {
                    error: TermError::RDMAP_CATASTROPHIC,
                    cause: Cause::Fatal,
                })
            }
        }
    }

    /// Places `n` bytes of payload.
    fn payload(
        &mut self,
        qp: &StreamQp<'_>,
        payload: &Payload,
        chunk: &SkbChunk<'_>,
        from: usize,
        n: usize,
        held: &mut Held,
    ) -> Result<(), Failure> {
        let mut crc = self.receiver.crc();
        let sum = self.receiver.wants_crc().then_some(&mut crc);
        let segment = &payload.segment;
        match (segment.op, segment.target) {
            (Opcode::Write, Target::Tagged { stag, to }) => {
                may_write(qp)?;
                let at = to.wrapping_add(u64::from(payload.placed));
                let (key, need) = ((Whose::Peers, stag), Access::RemoteWrite);
                held.place(qp, key, at, need, chunk, from, n, sum)
                    .map_err(tagged_error)?;
            }
            (Opcode::ReadResponse, _) => {
                let offset = u64::from(self.response_at) + u64::from(payload.placed);
                let answered = self.answered.as_mut().ok_or(TermError::RDMAP_OPCODE)?;
                let find = |at| answered.locate(qp, at);
                scatter(held, qp, qp.pd.id, find, offset, chunk, from, n, sum)
                    .map_err(local_error)?;
            }
            (_, Target::Untagged { mo, .. }) => {
                let offset = u64::from(mo) + u64::from(payload.placed);
                let sges = self.recv.sges();
                let find = |at| locate(sges, at);
                let placed = scatter(held, qp, qp.recv_pd(), find, offset, chunk, from, n, sum);
                if let Err(error) = placed {
                    self.recv_fails(qp, status::LOC_PROT_ERR);
                    return Err(local_error(error));
                }
            }
            _ => return Err(TermError::RDMAP_OPCODE.into()),
        }
        self.receiver.placed(n as u32, crc);
        if self.told.waits(n) {
            return self.tell_all(qp);
        }
        Ok(())
    }

    /// A segment is complete, and perhaps a message.
    fn end(&mut self, qp: &StreamQp<'_>, message: Option<Message>) -> Result<(), Failure> {
        if !qp.may_send() {
            // The initiator is known to be ready now.
            self.answer = true;
            qp.stream().may_send.store(true, Release);
            let conn = qp.stream().shared.lock().conn.clone();
            if let Some(conn) = conn {
                conn.stream_established();
            }
        }
        match message {
            None | Some(Message::Write) => Ok(()),
            Some(Message::ReadResponse) => self.read_done(qp),
            Some(Message::Send {
                length,
                solicited,
                invalidate,
                ..
            }) => self.send_done(qp, length, solicited, invalidate),
            Some(Message::ReadRequest { msn, request }) => {
                self.read_request(qp, msn.get(), request)
            }
            Some(Message::Terminate(terminate)) => {
                self.tell_all(qp)?;
                terminated(qp, &terminate);
                Ok(())
            }
            Some(Message::Immediate {
                data,
                written,
                solicited,
                ..
            }) => self.immediate(qp, data, written, solicited),
            Some(Message::AtomicRequest { msn, request }) => {
                self.request(qp, msn.get(), Inbound::Atomic(request))
            }
            Some(Message::AtomicResponse {
                request_id,
                original,
                ..
            }) => self.atomic_done(qp, request_id, original),
        }
    }

    fn send_done(
        &mut self,
        qp: &StreamQp<'_>,
        length: u32,
        solicited: bool,
        inv: Option<u32>,
    ) -> Result<(), Failure> {
        if !self.have_recv {
            // The ready-to-receive indication.
            return Ok(());
        }
        self.have_recv = false;
        let mut cqe = Cqe {
            wr_id: self.recv.wr_id,
            byte_len: length,
            qp_num: qp.number,
            status: status::SUCCESS,
            opcode: opcode::RECV,
            vlan_id: 0xffff,
            ..Cqe::default()
        };
        if let Some(key) = inv {
            if let Err(error) = qp.invalidate_by_peer(key) {
                self.recv_fails(qp, status::WR_FLUSH_ERR);
                return Err(Failure {
                    error: error.request(),
                    cause: Cause::Access,
                });
            }
            cqe.imm_inv = key;
            cqe.wc_flags = WC_WITH_INVALIDATE;
        }
        self.tell(qp, cqe, solicited)
    }

    /// The peer wants to read.
    fn read_request(
        &mut self,
        qp: &StreamQp<'_>,
        msn: u32,
        request: ReadRequest,
    ) -> Result<(), Failure> {
        if request.size > 0 && qp.access() & access::REMOTE_READ == 0 {
            return Err(Failure {
                error: TermError::RDMAP_ACCESS,
                cause: Cause::Access,
            });
        }
        self.asked.arrived(request.size as usize);
        self.request(qp, msn, Inbound::Read(request))
    }

    /// The peer wants an answer: it waits for its turn.
    fn request(&mut self, qp: &StreamQp<'_>, msn: u32, request: Inbound) -> Result<(), Failure> {
        qp.stream().push_inbound(msn, request)?;
        self.answer = true;
        Ok(())
    }

    /// One of our reads is done.
    fn read_done(&mut self, qp: &StreamQp<'_>) -> Result<(), Failure> {
        self.answered = None;
        let sink = {
            let mut shared = qp.stream().shared.lock();
            let order = shared.outbound.complete();
            order.and_then(|o| shared.sinks.get(o.cookie as usize).copied())
        };
        // Work may have waited for this.
        self.answer = true;
        let Some(sink) = sink.filter(|s| !s.rtr) else {
            return Ok(());
        };
        let mut done = status::SUCCESS;
        if let Some(key) = sink.invalidate {
            if qp.invalidate(key).is_err() {
                done = status::MW_BIND_ERR;
            }
        }
        // In the order in which they were done, where there is one CQ for both.
        self.tell_all(qp)?;
        answered(qp, &sink, done)
    }
}

/// A read or an atomic of ours is done, with this status.
fn answered(qp: &Qp, sink: &Sink, done: u8) -> Result<(), Failure> {
    let lost = {
        let mut sent = qp.sent.lock();
        sent.done(sink.number, done);
        qp.complete_sent(&mut sent)
    };
    if lost || done != status::SUCCESS {
        return Err(Failure {
            error: TermError::RDMAP_CATASTROPHIC,
            cause: Cause::Fatal,
        });
    }
    Ok(())
}

/// The peer ended the stream, for a reason that it names.
fn terminated(qp: &StreamQp<'_>, terminate: &Terminate) {
    qp.dev.counters.count(Counter::TerminateReceived);
    // A read or atomic that was refused completes with that; everything else was only interrupted.
    let oldest = qp.stream().shared.lock().outbound.oldest().copied();
    let refused = oldest.and_then(|order| {
        let op = match order.expect {
            Expect::Read { .. } => Opcode::ReadRequest,
            Expect::Atomic { .. } => Opcode::AtomicRequest,
        };
        refusal(terminate, op)
    });
    if let Some(status) = refused {
        let mut sent = qp.sent.lock();
        if let Some(number) = sent.oldest_awaiting_peer() {
            sent.done(number, status);
        }
    }
    qp.fail(Cause::Request);
    qp.stream_close(super::cm::StreamEnd::Graceful);
}

/// Whether the peer may write at all.
fn may_write(qp: &Qp) -> Result<(), Failure> {
    if qp.access() & access::REMOTE_WRITE == 0 {
        return Err(tagged_error(Denied::Rights));
    }
    Ok(())
}

/// Our own memory is not what the work request said.
fn local_error(_error: Denied) -> Failure {
    Failure {
        error: TermError::RDMAP_CATASTROPHIC,
        cause: Cause::Fatal,
    }
}
