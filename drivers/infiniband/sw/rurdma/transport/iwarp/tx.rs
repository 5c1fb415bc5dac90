// SPDX-License-Identifier: GPL-2.0

//! Sending: from work requests and the peer's reads to FPDUs in the socket.
//!
//! FPDUs are written into pages of our own, many of them one behind the other, and given to TCP by
//! reference in one call, so that segmentation offload carries them. A send is complete when TCP
//! has taken its last byte: the consumer's buffer was copied, and TCP sees to the rest.

use super::cm::{StreamEnd, StreamParams};
use super::stream::{Context, Link, Sink};
use crate::cq::{opcode, status};
use crate::kapi::net::page::{self, PageFrag, TxPage};
use crate::kapi::net::skb;
use crate::kapi::random;
use crate::kapi::rdma::attr::access;
use crate::kapi::rdma::qp::{QpState, WC_REG_MR};
use crate::kapi::sync::Turn;
use crate::mr::{key_index, AccessError, Span};
use crate::proto::iwarp::negotiate::{Rtr, RtrPlan};
use crate::proto::iwarp::orders::Expect;
use crate::proto::iwarp::tx::{FpduEncoder, Header, Piece, Segmenter};
use crate::proto::ring::queue::Consumer;
use crate::proto::serial::Msn;
use crate::proto::wire::crc::Crc32c;
use crate::proto::wire::mpa;
use crate::proto::wire::rdmap::{ReadRequest, ReadRequestHdr};
use crate::proto::wire::terminate::{Culprit, TermError, TerminateBody};
use crate::proto::wqe::abi::{Sge, MAX_INLINE, MAX_SEND_BYTES, MAX_SGE};
use crate::proto::wqe::fetch::{next_send, FetchError, SendBuf};
use crate::proto::wqe::send::{Data, SendFlags, SendOp, SendWqe};
use crate::qp::{Cause, Qp, Record};
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Bytes that go to TCP in one call: one skb full.
const BATCH: usize = 64 << 10;
/// Pieces of pages in one call.
const MAX_FRAGS: usize = 20;

/// The kernel's CRC32c.
pub(super) struct KernelCrc;

impl Crc32c for KernelCrc {
    fn crc32c(seed: u32, data: &[u8]) -> u32 {
        skb::crc32c(seed, data)
    }
}

/// A work request that was taken from the send queue.
#[derive(Clone, Copy)]
struct Job {
    op: SendOp,
    flags: SendFlags,
    wr_id: u64,
    units: u8,
    length: u32,
    sges: usize,
    inline: bool,
}

/// Where the payload of the message in progress comes from.
#[derive(Clone, Copy)]
enum Source {
    /// The SGEs of the work request with this number, or its inline data.
    Work { number: u32, inline: bool },
    /// A peer's read.
    Read { msn: u32, request: ReadRequest },
}

/// The message in progress.
struct Current {
    header: Header,
    segments: Segmenter,
    source: Source,
    /// SGE that the next byte comes from, and the offset of the SGE in the message.
    sge: usize,
    sge_start: u64,
}

/// Why building stopped before the batch was full.
enum Stop {
    /// Nothing to do.
    Idle,
    /// No memory.
    NoMemory,
    /// The QP is in error now.
    Failed,
}

/// The sending side of a stream.
pub(super) struct Tx {
    consumer: Consumer,
    encoder: FpduEncoder,
    send_msn: Msn,
    read_msn: Msn,
    current: Option<Current>,
    /// A work request that waits for reads to complete.
    held: Option<Job>,
    buf: SendBuf,
    sges: [Sge; MAX_SGE],
    inline: [u8; MAX_INLINE],
    inline_len: usize,
    page: Option<TxPage>,
    frags: KVec<PageFrag>,
    /// Sends below this were given to TCP completely.
    taken: u32,
    /// Sends below this are in `frags` completely.
    built: u32,
    /// The peer's reads have their turn.
    answer_next: bool,
    rtr: Option<Rtr>,
    /// The Terminate is in `frags`; nothing follows.
    last_words: bool,
    /// Nothing can be sent any more.
    closed: bool,
}

impl Tx {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            consumer: Consumer::new(0),
            encoder: FpduEncoder::new(true, false),
            send_msn: Msn::FIRST,
            read_msn: Msn::FIRST,
            current: None,
            held: None,
            buf: [0; MAX_SEND_BYTES],
            sges: [Sge::default(); MAX_SGE],
            inline: [0; MAX_INLINE],
            inline_len: 0,
            page: None,
            frags: KVec::with_capacity(MAX_FRAGS + 1, GFP_KERNEL)?,
            taken: 0,
            built: 0,
            answer_next: false,
            rtr: None,
            last_words: false,
            closed: true,
        })
    }

    /// The stream begins; the send queue may hold work already.
    pub(super) fn start(&mut self, params: &StreamParams) {
        self.encoder = FpduEncoder::new(params.crc, params.markers);
        self.send_msn = Msn::FIRST;
        self.read_msn = Msn::FIRST;
        self.rtr = match params.plan {
            RtrPlan::Send(rtr) => Some(rtr),
            _ => None,
        };
        self.last_words = false;
        self.closed = false;
    }

    /// The QP goes back to the beginning.
    pub(super) fn reset(&mut self) {
        self.consumer = Consumer::new(0);
        self.current = None;
        self.held = None;
        self.page = None;
        self.frags.clear();
        self.taken = 0;
        self.built = 0;
        self.closed = true;
    }

    /// Sends as much as there is, as TCP takes, and as the budget allows.
    pub(super) fn turn(&mut self, qp: &Arc<Qp>, context: Context<'_>) -> Turn {
        for _ in 0..context.budget() {
            let failed = qp.state() == QpState::Error;
            if failed {
                self.flush(qp);
            }
            let link = qp.stream().shared.lock().link.clone();
            let Some(link) = link.filter(|_| !self.closed) else {
                return Turn::Done;
            };
            if !self.flush_frags(qp, &link, context) {
                if self.closed {
                    continue;
                }
                return Turn::Done;
            }
            if self.last_words {
                self.closed = true;
                qp.stream_close(StreamEnd::Terminated);
                return Turn::Done;
            }
            if failed {
                match self.say_last_words(qp, context) {
                    Ok(true) => continue,
                    Ok(false) => {
                        self.closed = true;
                        qp.stream_close(StreamEnd::Abort);
                        return Turn::Done;
                    }
                    Err(_) => return Turn::More,
                }
            }
            if !qp.may_send() {
                return Turn::Done;
            }
            match self.build(qp, &link, context) {
                Ok(()) => (),
                Err(Stop::Failed) => continue,
                Err(Stop::NoMemory) if self.frags.is_empty() => return Turn::More,
                Err(Stop::NoMemory) => (),
                Err(Stop::Idle) if self.frags.is_empty() => {
                    self.finish_batch(qp);
                    return self.idle(qp);
                }
                Err(Stop::Idle) => (),
            }
        }
        Turn::More
    }

    /// Everything that was posted is sent.
    fn idle(&mut self, qp: &Arc<Qp>) -> Turn {
        let drained = {
            let shared = qp.stream().shared.lock();
            shared.draining && shared.outbound.is_empty() && self.held.is_none()
        };
        if drained && qp.state() == QpState::Sqd {
            self.closed = true;
            qp.handle.sq_drained();
            qp.stream_close(StreamEnd::Graceful);
        }
        Turn::Done
    }

    /// The QP is in ERROR: every work request completes now.
    fn flush(&mut self, qp: &Arc<Qp>) {
        self.current = None;
        self.taken = self.built;
        if let Some(job) = self.held.take() {
            let mut sent = qp.sent.lock();
            let number = sent.start(job.record());
            sent.done(number, status::WR_FLUSH_ERR);
        }
        qp.flush_send(&mut self.consumer);
    }

    /// Gives TCP what is built. False if it did not take all of it.
    fn flush_frags(&mut self, qp: &Arc<Qp>, link: &Link, context: Context<'_>) -> bool {
        while !self.frags.is_empty() {
            let sent = match context {
                Context::Process => link.socket.splice(&self.frags, false),
                Context::Callback(sk) => sk.splice(&self.frags, false),
            };
            match sent {
                Ok(n) => {
                    let done = page::advance(&mut self.frags, n);
                    drop_front(&mut self.frags, done);
                }
                // `write_space` comes.
                Err(e) if e == EAGAIN => return false,
                Err(_) => {
                    self.closed = true;
                    self.frags.clear();
                    self.last_words = false;
                    qp.fail(Cause::Fatal);
                    qp.stream_close(StreamEnd::Abort);
                    return false;
                }
            }
        }
        self.finish_batch(qp);
        true
    }

    /// What is built was sent, or needs no sending: completes it.
    fn finish_batch(&mut self, qp: &Arc<Qp>) {
        if self.taken == self.built {
            return;
        }
        let mut sent = qp.sent.lock();
        sent.taken(self.taken, self.built);
        self.taken = self.built;
        let lost = qp.complete_sent(&mut sent);
        drop(sent);
        if lost {
            qp.fail(Cause::Fatal);
        }
    }

    /// In ERROR: builds the Terminate, if there is one to send. False if there is not.
    fn say_last_words(&mut self, qp: &Arc<Qp>, context: Context<'_>) -> Result<bool> {
        if !qp.may_send() {
            return Ok(false);
        }
        let body = qp.stream().shared.lock().terminate;
        let Some(body) = body else {
            return Ok(false);
        };
        self.control(&Header::terminate(), body.as_bytes(), context)?;
        self.last_words = true;
        Ok(true)
    }

    /// Builds FPDUs until the batch is full.
    fn build(
        &mut self,
        qp: &Arc<Qp>,
        link: &Link,
        context: Context<'_>,
    ) -> core::result::Result<(), Stop> {
        let mss = u32::try_from(link.socket.mss()).unwrap_or(u32::MAX);
        let mulpdu = mpa::mulpdu(mss, self.encoder.has_markers());
        let mut bytes = 0;
        while bytes < BATCH && self.frags.len() < MAX_FRAGS {
            if self.current.is_none() && !self.next_message(qp, context)? {
                return Err(Stop::Idle);
            }
            if self.current.is_some() {
                bytes += self.segment(qp, mulpdu, context)?;
            } else {
                // A message without payload of its own was built.
                bytes += 64;
            }
        }
        Ok(())
    }

    /// Room for an FPDU of `len` bytes.
    fn room(&mut self, len: usize, big: bool, context: Context<'_>) -> Result<&mut TxPage> {
        let fits = match &mut self.page {
            Some(page) => page.room() >= len || (page.try_reset() && page.room() >= len),
            None => false,
        };
        if !fits {
            let order = if big { TxPage::MAX_ORDER } else { 1 };
            let page = TxPage::new(order, context.gfp())?;
            if page.room() < len {
                return Err(ENOMEM);
            }
            self.page = Some(page);
        }
        self.page.as_mut().ok_or(ENOMEM)
    }

    /// Adds the first `len` bytes of the page's room to what is to be sent.
    fn commit(&mut self, len: usize) -> Result {
        let Some(page) = &mut self.page else {
            return Err(ENOMEM);
        };
        let frag = page.commit(len);
        let frag = match self.frags.last_mut() {
            Some(last) => match last.merge(frag) {
                Ok(()) => return Ok(()),
                Err(frag) => frag,
            },
            None => frag,
        };
        self.frags.push_within_capacity(frag).map_err(|_| ENOMEM)
    }

    /// Builds a message of one segment whose payload is a header.
    fn control(&mut self, header: &Header, body: &[u8], context: Context<'_>) -> Result {
        let ulpdu = header.hdr_len() + body.len();
        let len = self.encoder.fpdu_len(u16::try_from(ulpdu)?);
        // The encoder is used while the page is borrowed.
        let mut encoder = self.encoder.clone();
        let page = self.room(len, false, context)?;
        let used = encoder
            .control::<KernelCrc>(page.as_mut_slice(), header, body)
            .ok_or(EINVAL)?;
        self.encoder = encoder;
        self.commit(used)
    }

    /// Builds the next segment of the message in progress; gives its bytes.
    fn segment(
        &mut self,
        qp: &Arc<Qp>,
        mulpdu: u16,
        context: Context<'_>,
    ) -> core::result::Result<usize, Stop> {
        let Some(mut current) = self.current.take() else {
            return Ok(0);
        };
        let max = current.header.max_payload(mulpdu);
        let Some(piece) = current.segments.peek(max) else {
            return Ok(0);
        };
        let len = self
            .encoder
            .fpdu_len(piece.len.saturating_add(current.header.hdr_len() as u16));
        let big = piece.len > 2048 || !piece.last;
        if self.room(len, big, context).is_err() {
            self.current = Some(current);
            return Err(Stop::NoMemory);
        }
        let used = match self.fill(qp, &mut current, &piece) {
            Ok(used) => used,
            Err(error) => {
                self.refuse(qp, &current, &piece, error);
                return Err(Stop::Failed);
            }
        };
        if self.commit(used).is_err() {
            return Err(Stop::NoMemory);
        }
        current.segments.next(max);
        if !piece.last {
            self.current = Some(current);
            return Ok(used);
        }
        match current.source {
            Source::Work { number, .. } => self.built = number.wrapping_add(1),
            Source::Read { .. } => qp.stream().shared.lock().inbound.retire(),
        }
        Ok(used)
    }

    /// Writes an FPDU into the page.
    fn fill(
        &mut self,
        qp: &Arc<Qp>,
        current: &mut Current,
        piece: &Piece,
    ) -> core::result::Result<usize, AccessError> {
        let Self {
            page,
            encoder,
            sges,
            inline,
            inline_len,
            ..
        } = self;
        let Some(page) = page else {
            return Err(AccessError::Bounds);
        };
        let buf = page.as_mut_slice();
        let open = encoder
            .begin::<KernelCrc>(buf, &current.header, piece)
            .ok_or(AccessError::Bounds)?;
        let payload = buf
            .get_mut(open.payload..)
            .and_then(|b| b.get_mut(..usize::from(piece.len)))
            .ok_or(AccessError::Bounds)?;
        match current.source {
            Source::Read { request, .. } => {
                if !payload.is_empty() {
                    let from = request.source_to.wrapping_add(u64::from(piece.offset));
                    let span = Span::find(
                        &qp.dev,
                        request.source_stag,
                        qp.pd.id,
                        from,
                        payload.len() as u64,
                        access::REMOTE_READ,
                    )?;
                    span.read(0, payload).map_err(|_| AccessError::Bounds)?;
                }
            }
            Source::Work { inline: true, .. } => {
                let from = piece.offset as usize;
                let data = inline
                    .get(..*inline_len)
                    .and_then(|d| d.get(from..))
                    .and_then(|d| d.get(..payload.len()))
                    .ok_or(AccessError::Bounds)?;
                payload.copy_from_slice(data);
            }
            Source::Work { .. } => gather(qp, sges, current, piece, payload)?,
        }
        let crc = if encoder.wants_crc() {
            KernelCrc::crc32c(open.crc, payload)
        } else {
            open.crc
        };
        encoder
            .finish::<KernelCrc>(buf, &open, crc)
            .ok_or(AccessError::Bounds)
    }

    /// The memory of the message in progress cannot be read: the stream ends.
    fn refuse(&mut self, qp: &Arc<Qp>, current: &Current, piece: &Piece, error: AccessError) {
        match current.source {
            Source::Work { number, .. } => {
                qp.sent.lock().done(number, status::LOC_PROT_ERR);
                // What stands before it in the batch may be sent, and is complete when it is.
                self.built = number;
                let body = TerminateBody::build(TermError::RDMAP_CATASTROPHIC, None);
                qp.stream_terminate(body, Cause::Fatal);
            }
            Source::Read { msn, request } => {
                let left = ReadRequest {
                    sink_to: request.sink_to.wrapping_add(u64::from(piece.offset)),
                    source_to: request.source_to.wrapping_add(u64::from(piece.offset)),
                    size: request.size.saturating_sub(piece.offset),
                    ..request
                };
                let culprit = Culprit::read_request(msn, left);
                let body = TerminateBody::build(rdmap_error(error), Some(&culprit));
                qp.stream_terminate(body, Cause::Access);
            }
        }
    }

    /// Finds the next message: the peer's reads and our own work take turns. False if there is
    /// nothing to do. A message that is nothing but a header is built at once.
    fn next_message(
        &mut self,
        qp: &Arc<Qp>,
        context: Context<'_>,
    ) -> core::result::Result<bool, Stop> {
        if let Some(rtr) = self.rtr {
            self.send_rtr(qp, rtr, context)
                .map_err(|_| Stop::NoMemory)?;
            self.rtr = None;
            return Ok(true);
        }
        for _ in 0..2 {
            self.answer_next = !self.answer_next;
            let found = if self.answer_next {
                self.next_answer(qp)
            } else {
                self.next_work(qp, context)?
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Says that we are ready to receive (RFC 6581 section 9.2).
    fn send_rtr(&mut self, qp: &Arc<Qp>, rtr: Rtr, context: Context<'_>) -> Result {
        match rtr {
            Rtr::Write => self.control(&Header::write(0, 0), &[], context),
            Rtr::Send => {
                self.control(&Header::send(self.send_msn, false, None), &[], context)?;
                self.send_msn = self.send_msn.next();
                Ok(())
            }
            Rtr::Read => {
                let sink = Sink {
                    rtr: true,
                    ..Sink::default()
                };
                self.request_read(qp, 0, 0, 0, sink, &[], context)
            }
        }
    }

    fn next_answer(&mut self, qp: &Arc<Qp>) -> bool {
        let next = qp.stream().shared.lock().pop_inbound();
        let Some((msn, request)) = next else {
            return false;
        };
        self.current = Some(Current {
            header: Header::read_response(request.sink_stag, request.sink_to),
            segments: Segmenter::new(request.size),
            source: Source::Read { msn, request },
            sge: 0,
            sge_start: 0,
        });
        true
    }

    fn next_work(
        &mut self,
        qp: &Arc<Qp>,
        context: Context<'_>,
    ) -> core::result::Result<bool, Stop> {
        let job = match self.held.take() {
            Some(job) => job,
            None => match self.fetch(qp)? {
                Some(job) => job,
                None => return Ok(false),
            },
        };
        if self.must_wait(qp, &job) {
            self.held = Some(job);
            return Ok(false);
        }
        self.begin(qp, job, context)?;
        Ok(true)
    }

    /// Takes the next work request from the send queue.
    fn fetch(&mut self, qp: &Arc<Qp>) -> core::result::Result<Option<Job>, Stop> {
        loop {
            if !qp.sent.lock().has_room() {
                return Ok(None);
            }
            let units = match next_send(&qp.sq, &self.consumer, &mut self.buf) {
                Ok(Some(units)) => units,
                Ok(None) => return Ok(None),
                Err(FetchError::Index) => {
                    qp.fail(Cause::Fatal);
                    qp.stream_abort();
                    return Err(Stop::Failed);
                }
                Err(FetchError::Frame { wr_id }) => {
                    self.reject(qp, wr_id, 0, status::LOC_QP_OP_ERR);
                    return Err(Stop::Failed);
                }
            };
            self.consumer.advance(units);
            let wqe = match SendWqe::parse(&self.buf, &qp.limits) {
                Ok(wqe) => wqe,
                Err(error) => {
                    let wr_id = SendWqe::wr_id(&self.buf);
                    self.reject(qp, wr_id, units as u8, error.wc_status());
                    return Err(Stop::Failed);
                }
            };
            if wqe.op == SendOp::Nop {
                qp.sent.lock().nop(units);
                // It may be all that is left to give back.
                self.built = self.built.wrapping_add(1);
                continue;
            }
            let mut job = Job {
                op: wqe.op,
                flags: wqe.flags,
                wr_id: wqe.wr_id,
                units: units as u8,
                length: wqe.length,
                sges: 0,
                inline: false,
            };
            match wqe.data {
                Data::Inline(data) => {
                    job.inline = true;
                    self.inline_len = data.len();
                    for (to, byte) in self.inline.iter_mut().zip(data) {
                        *to = *byte;
                    }
                }
                Data::Sges(list) => {
                    for (to, sge) in self.sges.iter_mut().zip(list.iter()) {
                        *to = sge;
                        job.sges += 1;
                    }
                }
            }
            return Ok(Some(job));
        }
    }

    /// A work request that makes no sense: it completes with an error, and the QP fails.
    fn reject(&mut self, qp: &Arc<Qp>, wr_id: u64, units: u8, status: u8) {
        {
            let mut sent = qp.sent.lock();
            let number = sent.start(Record {
                wr_id,
                units,
                ..Record::default()
            });
            sent.done(number, status);
        }
        let body = TerminateBody::build(TermError::RDMAP_CATASTROPHIC, None);
        qp.stream_terminate(body, Cause::Fatal);
    }

    /// Whether the work request has to wait for the peer's answers to earlier ones.
    fn must_wait(&self, qp: &Arc<Qp>, job: &Job) -> bool {
        let shared = qp.stream().shared.lock();
        if job.flags.contains(SendFlags::FENCE) && !shared.outbound.is_empty() {
            return true;
        }
        matches!(job.op, SendOp::Read(_) | SendOp::ReadInv(_)) && !shared.outbound.has_room()
    }

    /// Starts a work request.
    fn begin(
        &mut self,
        qp: &Arc<Qp>,
        job: Job,
        context: Context<'_>,
    ) -> core::result::Result<(), Stop> {
        let solicited = job.flags.contains(SendFlags::SOLICITED);
        let header = match job.op {
            SendOp::Send => {
                let msn = self.take_send_msn();
                Header::send(msn, solicited, None)
            }
            SendOp::SendInv(key) => {
                let msn = self.take_send_msn();
                Header::send(msn, solicited, Some(key))
            }
            SendOp::Write(remote) => Header::write(remote.rkey, remote.addr),
            SendOp::Read(remote) => {
                return self.begin_read(qp, &job, remote.rkey, remote.addr, false, context)
            }
            SendOp::ReadInv(remote) => {
                return self.begin_read(qp, &job, remote.rkey, remote.addr, true, context)
            }
            SendOp::LocalInv(key) => {
                let done = invalidate(qp, key);
                return self.local(qp, &job, done);
            }
            SendOp::RegMr(key, ext) => {
                let done = match qp.dev.mrs.get(key_index(key)) {
                    Some(mr) => mr.register(key, ext.access, qp.pd.id),
                    None => Err(AccessError::Key),
                };
                return self.local(qp, &job, done);
            }
            _ => {
                self.reject(qp, job.wr_id, job.units, status::LOC_QP_OP_ERR);
                return Err(Stop::Failed);
            }
        };
        let number = qp.sent.lock().start(job.record());
        self.current = Some(Current {
            header,
            segments: Segmenter::new(job.length),
            source: Source::Work {
                number,
                inline: job.inline,
            },
            sge: 0,
            sge_start: 0,
        });
        Ok(())
    }

    fn take_send_msn(&mut self) -> Msn {
        let msn = self.send_msn;
        self.send_msn = msn.next();
        msn
    }

    /// An operation that concerns nobody else is done.
    fn local(
        &mut self,
        qp: &Arc<Qp>,
        job: &Job,
        done: core::result::Result<(), AccessError>,
    ) -> core::result::Result<(), Stop> {
        let number = qp.sent.lock().start(job.record());
        if done.is_err() {
            qp.sent.lock().done(number, status::MW_BIND_ERR);
            let body = TerminateBody::build(TermError::RDMAP_CATASTROPHIC, None);
            qp.stream_terminate(body, Cause::Fatal);
            return Err(Stop::Failed);
        }
        self.built = number.wrapping_add(1);
        Ok(())
    }

    /// Builds a read request. Its sink is known to the peer by a random STag that stands for this
    /// one read and nothing else, so a sink of many SGEs needs no STag of its own, and no key of
    /// ours leaves the machine.
    fn begin_read(
        &mut self,
        qp: &Arc<Qp>,
        job: &Job,
        stag: u32,
        to: u64,
        inv: bool,
        context: Context<'_>,
    ) -> core::result::Result<(), Stop> {
        let sges = self.sges;
        let sges = sges.get(..job.sges).unwrap_or(&[]);
        // The sink is checked before the peer is asked for anything.
        for sge in sges.iter().filter(|s| s.length > 0) {
            let checked = Span::local(
                &qp.dev,
                !qp.user,
                sge.lkey,
                qp.pd.id,
                sge.addr,
                u64::from(sge.length),
                access::LOCAL_WRITE,
            );
            if checked.is_err() {
                self.reject(qp, job.wr_id, job.units, status::LOC_PROT_ERR);
                return Err(Stop::Failed);
            }
        }
        let number = qp.sent.lock().start(Record {
            awaits_peer: true,
            ..job.record()
        });
        let sink = Sink {
            number,
            sges: job.sges as u8,
            invalidate: sges.first().filter(|_| inv).map(|s| s.lkey),
            rtr: false,
        };
        match self.request_read(qp, stag, to, job.length, sink, sges, context) {
            Ok(()) => {
                self.built = number.wrapping_add(1);
                Ok(())
            }
            Err(_) => {
                // No page: rather end than lose the order of things.
                qp.fail(Cause::Fatal);
                qp.stream_abort();
                Err(Stop::Failed)
            }
        }
    }

    #[expect(clippy::too_many_arguments)]
    fn request_read(
        &mut self,
        qp: &Arc<Qp>,
        stag: u32,
        to: u64,
        size: u32,
        sink: Sink,
        sges: &[Sge],
        context: Context<'_>,
    ) -> Result {
        let request = ReadRequest {
            sink_stag: random::u32(),
            sink_to: sges.first().map_or(0, |s| s.addr),
            size,
            source_stag: stag,
            source_to: to,
        };
        let msn = self.read_msn;
        self.control(
            &Header::read_request(msn),
            ReadRequestHdr::from(&request).as_bytes(),
            context,
        )?;
        self.read_msn = msn.next();
        let mut shared = qp.stream().shared.lock();
        let shared = &mut *shared;
        let slot = shared.next_sink;
        shared
            .outbound
            .push(
                Expect::Read {
                    stag: request.sink_stag,
                    to: request.sink_to,
                    size,
                },
                slot as u64,
            )
            .map_err(|_| ENOMEM)?;
        *shared.sinks.get_mut(slot).ok_or(ENOMEM)? = sink;
        let from = slot * shared.sink_stride;
        for (to, sge) in shared.sink_sges.iter_mut().skip(from).zip(sges) {
            *to = *sge;
        }
        shared.next_sink = if slot + 1 < shared.sinks.len() {
            slot + 1
        } else {
            0
        };
        Ok(())
    }
}

impl Job {
    fn record(&self) -> Record {
        let (opcode, byte_len) = match self.op {
            SendOp::Write(_) => (opcode::RDMA_WRITE, self.length),
            SendOp::Read(_) | SendOp::ReadInv(_) => (opcode::RDMA_READ, self.length),
            SendOp::LocalInv(_) => (opcode::LOCAL_INV, 0),
            SendOp::RegMr(..) => (WC_REG_MR, 0),
            _ => (opcode::SEND, self.length),
        };
        Record {
            wr_id: self.wr_id,
            byte_len,
            units: self.units,
            opcode,
            signaled: self.flags.contains(SendFlags::SIGNALED),
            ..Record::default()
        }
    }
}

/// Ends a fast registration.
pub(super) fn invalidate(qp: &Qp, key: u32) -> core::result::Result<(), AccessError> {
    match qp.dev.mrs.get(key_index(key)) {
        Some(mr) => mr.invalidate(key, qp.pd.id),
        None => Err(AccessError::Key),
    }
}

/// The reason of a Terminate for a read that is refused.
fn rdmap_error(error: AccessError) -> TermError {
    match error {
        AccessError::Key => TermError::RDMAP_INVALID_STAG,
        AccessError::Pd => TermError::RDMAP_STAG_STREAM,
        AccessError::Bounds => TermError::RDMAP_BOUNDS,
        AccessError::Wrap => TermError::RDMAP_TO_WRAP,
        AccessError::Access => TermError::RDMAP_ACCESS,
        AccessError::Invalidate => TermError::RDMAP_CANNOT_INVALIDATE,
    }
}

/// Copies the payload of a segment out of the SGEs.
fn gather(
    qp: &Qp,
    sges: &[Sge],
    current: &mut Current,
    piece: &Piece,
    mut to: &mut [u8],
) -> core::result::Result<(), AccessError> {
    let mut at = u64::from(piece.offset);
    while !to.is_empty() {
        let sge = sges.get(current.sge).ok_or(AccessError::Bounds)?;
        let into = at - current.sge_start;
        let left = u64::from(sge.length) - into;
        if left == 0 {
            current.sge += 1;
            current.sge_start += u64::from(sge.length);
            continue;
        }
        let n = (left as usize).min(to.len());
        let (now, later) = to.split_at_mut(n);
        let addr = sge.addr.checked_add(into).ok_or(AccessError::Wrap)?;
        let span = Span::local(&qp.dev, !qp.user, sge.lkey, qp.pd.id, addr, n as u64, 0)?;
        span.read(0, now).map_err(|_| AccessError::Bounds)?;
        at += n as u64;
        to = later;
    }
    Ok(())
}

/// Drops the first `n` elements.
fn drop_front(frags: &mut KVec<PageFrag>, n: usize) {
    for _ in 0..n {
        let _ = frags.remove(0);
    }
}
