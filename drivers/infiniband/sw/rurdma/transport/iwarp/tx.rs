// SPDX-License-Identifier: GPL-2.0

//! Sending: from work requests and the peer's reads and atomics to FPDUs in the socket.
//!
//! FPDUs are written into pages of our own, many of them one behind the other, and given to TCP by
//! reference in one call, so that segmentation offload carries them. A send is complete when TCP
//! has taken its last byte: the consumer's buffer was copied, and TCP sees to the rest.

mod ask;
mod rfc7306;
mod segment;
mod work;

use super::cm::{StreamEnd, StreamParams};
use super::stream::{Context, StreamQp};
use crate::cq::status;
use crate::kapi::net::page::{self, PageFrag, TxPage};
use crate::kapi::net::skb;
use crate::kapi::net::socket::Socket;
use crate::kapi::rdma::qp::QpState;
use crate::kapi::rdma::stats::Counter;
use crate::kapi::sync::Turn;
use crate::mr::Held;
use crate::proto::iwarp::negotiate::{Rtr, RtrPlan};
use crate::proto::iwarp::tx::{FpduEncoder, Header, Segmenter};
use crate::proto::ring::queue::Consumer;
use crate::proto::serial::Msn;
use crate::proto::wire::crc::Crc32c;
use crate::proto::wire::mpa;
use crate::proto::wire::rdmap::ReadRequest;
use crate::proto::wqe::abi::{Sge, MAX_INLINE, MAX_SEND_BYTES, MAX_SGE};
use crate::proto::wqe::fetch::SendBuf;
use crate::qp::Cause;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::sync::Arc;
use rfc7306::Immediate;
use work::Job;

/// Bytes that go to TCP in one call, at most: about one skb full (see
/// [`SkbLimits::batch`](crate::proto::iwarp::tx::SkbLimits::batch)).
const BATCH: usize = 64 << 10;
/// Pages that were filled and are looked at again: less than half a MiB of what is with TCP.
const USED: usize = 4;
/// Pieces of pages in one call.
const MAX_FRAGS: usize = 20;

/// The kernel's CRC32c.
pub(super) struct KernelCrc;

impl Crc32c for KernelCrc {
    fn crc32c(seed: u32, data: &[u8]) -> u32 {
        skb::crc32c(seed, data)
    }
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
    /// That of the stream, from its beginning until the QP goes back to its own: the owner need not ask what is
    /// shared for it.
    socket: Option<Arc<Socket>>,
    consumer: Consumer,
    encoder: FpduEncoder,
    send_msn: Msn,
    /// Of the next read or atomic request.
    read_msn: Msn,
    /// Of the next atomic response.
    atomic_msn: Msn,
    current: Option<Current>,
    /// What follows the Write in progress, before anything else.
    immediate: Option<Immediate>,
    /// A work request that waits for reads or atomics to complete.
    held: Option<Job>,
    /// Work requests that may be taken from the send queue before `Qp::sent` is asked again: it has room for these,
    /// and nobody else starts any.
    startable: usize,
    buf: SendBuf,
    sges: [Sge; MAX_SGE],
    inline: [u8; MAX_INLINE],
    inline_len: usize,
    /// Memory that FPDUs are built from; forgotten when a batch is built, and before waiting for memory.
    memory: Held,
    page: Option<TxPage>,
    /// Those before it, the oldest of them at `oldest`: when its turn comes TCP may have done with it.
    used: [Option<TxPage>; USED],
    oldest: usize,
    frags: KVec<PageFrag>,
    /// Sends below this were given to TCP completely.
    taken: u32,
    /// Sends below this are in `frags` completely.
    built: u32,
    /// The peer's reads and atomics have their turn.
    answer_next: bool,
    rtr: Option<Rtr>,
    /// The Terminate is in `frags`; nothing follows.
    last_words: bool,
    /// Times in a row that TCP took nothing although it had room.
    starved: u8,
    /// Nothing can be sent any more.
    closed: bool,
}

impl Tx {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            socket: None,
            consumer: Consumer::new(0),
            encoder: FpduEncoder::new(true, false),
            send_msn: Msn::FIRST,
            read_msn: Msn::FIRST,
            atomic_msn: Msn::FIRST,
            current: None,
            immediate: None,
            held: None,
            startable: 0,
            buf: [0; MAX_SEND_BYTES],
            sges: [Sge::default(); MAX_SGE],
            inline: [0; MAX_INLINE],
            inline_len: 0,
            memory: Held::none(),
            page: None,
            used: [const { None }; USED],
            oldest: 0,
            frags: KVec::with_capacity(MAX_FRAGS + 1, GFP_KERNEL)?,
            taken: 0,
            built: 0,
            answer_next: false,
            rtr: None,
            last_words: false,
            starved: 0,
            closed: true,
        })
    }

    /// The stream begins; the send queue may hold work already.
    pub(super) fn start(&mut self, socket: Arc<Socket>, params: &StreamParams) {
        self.socket = Some(socket);
        self.encoder = FpduEncoder::new(params.crc, params.markers);
        self.send_msn = Msn::FIRST;
        self.read_msn = Msn::FIRST;
        self.atomic_msn = Msn::FIRST;
        self.rtr = match params.plan {
            RtrPlan::Send(rtr) => Some(rtr),
            _ => None,
        };
        self.last_words = false;
        self.closed = false;
    }

    /// The stream did not begin after all. Gives the socket back, which the caller drops when it is not the owner any
    /// more.
    pub(super) fn abandon(&mut self) -> Option<Arc<Socket>> {
        self.close();
        self.socket.take()
    }

    /// Nothing more is sent; what is posted is still flushed.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// The QP goes back to the beginning. As for the socket, see [`Self::abandon`].
    pub(super) fn reset(&mut self) -> Option<Arc<Socket>> {
        self.consumer = Consumer::new(0);
        self.current = None;
        self.immediate = None;
        self.held = None;
        self.page = None;
        self.drop_used();
        self.frags.clear();
        self.startable = 0;
        self.taken = 0;
        self.built = 0;
        self.abandon()
    }

    /// Sends as much as there is, as TCP takes, and as the budget allows.
    pub(super) fn turn(&mut self, qp: &StreamQp<'_>, context: Context<'_>) -> Turn {
        // Whoever else changes it is an owner, too: it can be out for the time of a turn, without a reference.
        let Some(socket) = self.socket.take() else {
            if qp.state() == QpState::Error {
                self.flush(qp);
            }
            return Turn::Done;
        };
        let turn = self.batches(qp, &socket, context);
        self.socket = Some(socket);
        turn
    }

    /// A turn with a connection, batch after batch.
    fn batches(&mut self, qp: &StreamQp<'_>, socket: &Socket, context: Context<'_>) -> Turn {
        for _ in 0..context.budget() {
            let failed = qp.state() == QpState::Error;
            if failed {
                // Nothing is placed for a READ that completes; who has the socket's lock can be sure of that.
                if context.may_read() {
                    qp.flush_receive();
                }
                self.flush(qp);
            }
            if context.may_read() {
                qp.read_waiting(socket);
            }
            if self.closed {
                return Turn::Done;
            }
            if !self.flush_frags(qp, socket, context) {
                if self.closed {
                    continue;
                }
                match self.starved {
                    0 => return Turn::Done,
                    // There may be room since.
                    1 => continue,
                    _ => context.pause(),
                }
                return Turn::More;
            }
            if self.last_words {
                self.closed = true;
                qp.dev.counters.count(Counter::TerminateSent);
                qp.stream_close(StreamEnd::Terminated);
                return Turn::Done;
            }
            if failed {
                match self.say_last_words(qp, context) {
                    Ok(true) => continue,
                    Ok(false) => {
                        self.closed = true;
                        qp.stream_close(StreamEnd::Graceful);
                        return Turn::Done;
                    }
                    Err(_) => {
                        context.pause();
                        return Turn::More;
                    }
                }
            }
            if !qp.may_send() {
                return Turn::Done;
            }
            match self.build(qp, socket, context) {
                Ok(()) => (),
                Err(Stop::Failed) => {
                    // What was built before it leaves, and is complete, before the flush.
                    self.flush_frags(qp, socket, context);
                }
                Err(Stop::NoMemory) if self.frags.is_empty() => {
                    context.pause();
                    return Turn::More;
                }
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
    fn idle(&mut self, qp: &StreamQp<'_>) -> Turn {
        self.drop_used();
        if !qp.stream().is_draining() {
            return Turn::Done;
        }
        let (drained, event) = {
            let shared = qp.stream().shared.lock();
            let done = shared.outbound.is_empty() && self.held.is_none();
            (done, shared.sqd_event)
        };
        if drained && qp.state() == QpState::Sqd {
            self.closed = true;
            if event {
                qp.handle.sq_drained();
            }
            qp.stream_close(StreamEnd::Graceful);
        }
        Turn::Done
    }

    /// The QP is in ERROR: every work request completes now.
    fn flush(&mut self, qp: &StreamQp<'_>) {
        self.current = None;
        self.immediate = None;
        self.drop_used();
        self.taken = self.built;
        if let Some(job) = self.held.take() {
            let mut sent = qp.sent.lock();
            let number = sent.start(job.record());
            sent.done(number, status::WR_FLUSH_ERR);
        }
        qp.flush_send(&mut self.consumer);
    }

    /// Gives TCP what is built. False if it did not take all of it.
    fn flush_frags(&mut self, qp: &StreamQp<'_>, socket: &Socket, context: Context<'_>) -> bool {
        while !self.frags.is_empty() {
            let sent = match context {
                Context::Process => socket.splice(&self.frags, false),
                Context::Callback(sk) => sk.splice(&self.frags, false),
            };
            match sent {
                Ok(n) => {
                    self.starved = 0;
                    let done = page::advance(&mut self.frags, n);
                    drop_front(&mut self.frags, done);
                }
                Err(e) if e == EAGAIN => {
                    // `write_space` comes, unless it was memory that lacked: no acknowledge brings that.
                    self.starved = if socket.is_writeable() {
                        self.starved.saturating_add(1)
                    } else {
                        0
                    };
                    return false;
                }
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
    fn finish_batch(&mut self, qp: &StreamQp<'_>) {
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
    fn say_last_words(&mut self, qp: &StreamQp<'_>, context: Context<'_>) -> Result<bool> {
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
        qp: &StreamQp<'_>,
        socket: &Socket,
        context: Context<'_>,
    ) -> core::result::Result<(), Stop> {
        let ret = self.build_batch(qp, socket, context);
        self.memory.forget();
        ret
    }

    fn build_batch(
        &mut self,
        qp: &StreamQp<'_>,
        socket: &Socket,
        context: Context<'_>,
    ) -> core::result::Result<(), Stop> {
        let mss = socket.mss();
        let full = socket.skb_limits().batch(mss, BATCH);
        let mulpdu = mpa::mulpdu(
            u32::try_from(mss).unwrap_or(u32::MAX),
            self.encoder.has_markers(),
        );
        let mut bytes = 0;
        while bytes < full && self.frags.len() < MAX_FRAGS {
            if self.current.is_none() && !self.next_message(qp, context)? {
                return Err(Stop::Idle);
            }
            if self.current.is_some() {
                // What does not fit any more begins the next skb.
                if bytes + self.next_len(mulpdu) > full && !self.frags.is_empty() {
                    break;
                }
                bytes += self.segment(qp, mulpdu, context)?;
            } else {
                // A message without payload of its own was built.
                bytes += 64;
            }
        }
        Ok(())
    }

    /// Bytes of the next FPDU of the message in progress.
    fn next_len(&self, mulpdu: u16) -> usize {
        let Some(current) = &self.current else {
            return 0;
        };
        let max = current.header.max_payload(mulpdu);
        let payload = current.segments.peek(max).map_or(0, |piece| piece.len);
        let ulpdu = payload.saturating_add(current.header.hdr_len() as u16);
        self.encoder.fpdu_len(ulpdu)
    }

    /// Room for an FPDU of `len` bytes.
    fn room(&mut self, len: usize, big: bool, context: Context<'_>) -> Result<&mut TxPage> {
        let fits = match &mut self.page {
            Some(page) => page.room() >= len || (page.try_reset() && page.room() >= len),
            None => false,
        };
        if !fits {
            let order = if big { TxPage::MAX_ORDER } else { 1 };
            let page = match self.used_page(order).filter(|page| page.room() >= len) {
                Some(page) => page,
                None => {
                    // It may take long.
                    self.memory.forget();
                    TxPage::new(order, context.gfp())?
                }
            };
            if page.room() < len {
                return Err(ENOMEM);
            }
            if let Some(place) = self.used.get_mut(self.oldest) {
                *place = self.page.replace(page);
                self.oldest = (self.oldest + 1) % USED;
            }
        }
        self.page.as_mut().ok_or(ENOMEM)
    }

    /// A page of that order that TCP has done with: the oldest, or none.
    fn used_page(&mut self, order: u32) -> Option<TxPage> {
        let mut page = self.used.get_mut(self.oldest)?.take()?;
        (page.size() >= PAGE_SIZE << order && page.try_reset()).then_some(page)
    }

    /// Only who streams needs them again.
    fn drop_used(&mut self) {
        self.used = [const { None }; USED];
    }

    /// Adds the first `len` bytes of the page's room to what is to be sent.
    fn commit(&mut self, len: usize) -> Result {
        let Some(page) = &mut self.page else {
            return Err(ENOMEM);
        };
        match page.commit_behind(self.frags.last_mut(), len) {
            Some(frag) => self.frags.push_within_capacity(frag).map_err(|_| ENOMEM),
            None => Ok(()),
        }
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
}

/// Drops the first `n` elements.
fn drop_front(frags: &mut KVec<PageFrag>, n: usize) {
    for _ in 0..n {
        let _ = frags.remove(0);
    }
}
