// SPDX-License-Identifier: GPL-2.0

//! The RDMAP stream of a queue pair: what sending and receiving share.
//!
//! A stream begins when the connection manager hands over a socket after the MPA exchange, and ends
//! once: by a Terminate, by the consumer, or with the TCP connection. Then the QP is in ERROR; a new
//! stream needs a QP that went through RESET.

use super::cm::{Conn, StreamEnd, StreamParams};
use super::rx::Rx;
use super::tx::Tx;
use crate::kapi::errno::is_connected;
use crate::kapi::net::page::Gfp;
use crate::kapi::net::socket::{LockedSock, Socket};
use crate::kapi::rdma::attr::access;
use crate::kapi::rdma::qp::QpState;
use crate::kapi::sync::{new_spinlock_irq, Owner, SpinLockIrq, Turn};
use crate::kapi::task::Cpu;
use crate::proto::iwarp::orders::{Inbound, InboundReads, Order, OutboundReads};
use crate::proto::wire::rdmap::ReadRequest;
use crate::proto::wire::terminate::{TermError, TerminateBody};
use crate::proto::wqe::abi::Sge;
use crate::qp::{Cause, Qp};
use crate::transport::TransportQp;
use core::ops::Deref;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::{Acquire, Relaxed, Release};
use kernel::sync::atomic::Atomic;
use kernel::sync::Arc;
use kernel::time::delay::fsleep;
use kernel::time::Delta;

/// Where the answer to a read or an atomic goes.
#[derive(Clone, Copy, Default)]
pub(super) struct Sink {
    /// Number of the send (see `qp::Sent`).
    pub(super) number: u32,
    /// SGEs in `Shared::sink_sges`, from slot × stride on.
    pub(super) sges: u8,
    /// Invalidate this key when it is done.
    pub(super) invalidate: Option<u32>,
    /// Nobody posted it: the ready-to-receive indication.
    pub(super) rtr: bool,
}

/// What sending and receiving share.
pub(super) struct Shared {
    /// The connection under the stream.
    pub(super) conn: Option<Arc<Conn>>,
    /// The peer's reads and atomics.
    pub(super) inbound: InboundReads,
    queue: KVVec<(u32, Inbound)>,
    queue_head: usize,
    queue_len: usize,
    /// Our reads and atomics.
    pub(super) outbound: OutboundReads<KVVec<Order>>,
    pub(super) sinks: KVVec<Sink>,
    pub(super) sink_sges: KVVec<Sge>,
    pub(super) sink_stride: usize,
    pub(super) next_sink: usize,
    /// To be sent before anything else; nothing follows it.
    pub(super) terminate: Option<TerminateBody>,
    /// With `Stream::draining`: tell the consumer.
    pub(super) sqd_event: bool,
    /// The connection was given back.
    ended: bool,
}

impl Shared {
    fn idle() -> Self {
        Self {
            conn: None,
            inbound: InboundReads::new(0),
            queue: KVVec::new(),
            queue_head: 0,
            queue_len: 0,
            outbound: OutboundReads::new(KVVec::new(), 0),
            sinks: KVVec::new(),
            sink_sges: KVVec::new(),
            sink_stride: 0,
            next_sink: 0,
            terminate: None,
            sqd_event: false,
            ended: false,
        }
    }

    /// Queues a request of the peer; `admit` made sure that there is room.
    fn push_inbound(&mut self, msn: u32, request: Inbound) {
        let slots = self.queue.len();
        if self.queue_len < slots {
            let mut at = self.queue_head + self.queue_len;
            if at >= slots {
                at -= slots;
            }
            if let Some(slot) = self.queue.get_mut(at) {
                *slot = (msn, request);
                self.queue_len += 1;
            }
        }
    }

    /// The next request of the peer to answer, with its number.
    fn peek_inbound(&self) -> Option<(u32, Inbound)> {
        if self.queue_len == 0 {
            return None;
        }
        self.queue.get(self.queue_head).copied()
    }

    /// Takes that out of the queue.
    fn pop_inbound(&mut self) {
        if self.queue_len == 0 {
            return;
        }
        self.queue_head += 1;
        if self.queue_head == self.queue.len() {
            self.queue_head = 0;
        }
        self.queue_len -= 1;
    }
}

/// The stream of a QP.
#[pin_data]
pub(crate) struct Stream {
    pub(super) tx: Owner<Tx>,
    pub(super) rx: Owner<Rx>,
    #[pin]
    pub(super) shared: SpinLockIrq<Shared>,
    /// FPDUs may be sent: the peer is known to be ready.
    pub(super) may_send: Atomic<bool>,
    /// The socket has data that process context is to read.
    pub(super) unread: Atomic<bool>,
    /// What arrives, as [`Bulk::to_bits`]. Changed with the socket's lock held,
    /// and forgotten with the connection.
    pub(super) arrivals: Atomic<u32>,
    /// Requests of the peer wait for their turn. Changed with `shared` locked.
    asked: Atomic<bool>,
    /// Close the connection when everything posted is sent. Changed with `shared` locked.
    draining: Atomic<bool>,
}

impl Stream {
    /// Without a connection.
    pub(super) fn new() -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            try_pin_init!(Self {
                tx: Owner::new(Tx::new()?),
                rx: Owner::new(Rx::new()),
                shared <- new_spinlock_irq!(Shared::idle(), "Stream::shared"),
                may_send: Atomic::new(false),
                unread: Atomic::new(false),
                arrivals: Atomic::new(0),
                asked: Atomic::new(false),
                draining: Atomic::new(false),
            }),
            GFP_KERNEL,
        )
    }
}

impl Stream {
    /// Replaces what is shared; the old, with its memory, is the caller's to drop, without a lock.
    fn replace(&self, new: Shared) -> Shared {
        let mut shared = self.shared.lock();
        self.note_asked(&new);
        self.draining.store(false, Relaxed);
        self.arrivals.store(0, Relaxed);
        core::mem::replace(&mut *shared, new)
    }

    /// With `shared` locked, whose queue has changed.
    fn note_asked(&self, shared: &Shared) {
        self.asked.store(shared.queue_len != 0, Relaxed);
    }

    /// Queues a request of the peer. If there are more than it was granted, that is an error. Whoever calls this
    /// has the sending side run afterwards.
    pub(super) fn push_inbound(&self, msn: u32, request: Inbound) -> Result<(), TermError> {
        let mut shared = self.shared.lock();
        shared.inbound.admit()?;
        shared.push_inbound(msn, request);
        self.note_asked(&shared);
        Ok(())
    }

    /// The next request of the peer to answer, with its number. A read is taken out of the queue, an atomic is
    /// taken when it is executed. By the sending side.
    ///
    /// Mostly there is none, and no lock is taken. A request that is missed here is one whose note the sending
    /// side has not seen either (see [`Owner::run`], which is fully ordered): it comes here again.
    pub(super) fn next_inbound(&self) -> Option<(u32, Inbound)> {
        if !self.asked.load(Relaxed) {
            return None;
        }
        let mut shared = self.shared.lock();
        let next = shared.peek_inbound()?;
        if let (_, Inbound::Read(_)) = next {
            shared.pop_inbound();
            self.note_asked(&shared);
        }
        Some(next)
    }

    /// Whether the connection is to be closed when everything posted is sent. Who wants that has the sending side run
    /// afterwards.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Takes the request out of the queue that [`Self::next_inbound`] gave.
    pub(super) fn pop_inbound(&self) {
        let mut shared = self.shared.lock();
        shared.pop_inbound();
        self.note_asked(&shared);
    }
}

/// From where the sending side is driven.
#[derive(Clone, Copy)]
pub(super) enum Context<'a> {
    /// Process context, nothing held.
    Process,
    /// A callback of the socket: its lock is held.
    Callback(&'a LockedSock),
}

impl Context<'_> {
    /// Batches before others get a chance.
    pub(super) fn budget(self) -> u32 {
        match self {
            Self::Process => 64,
            Self::Callback(_) => 8,
        }
    }

    /// Lets others run, and memory become free, if that is possible here.
    pub(super) fn pause(self) {
        if let Self::Process = self {
            fsleep(Delta::from_millis(1));
        }
    }

    /// May the socket's lock be taken to read?
    pub(super) fn may_read(self) -> bool {
        matches!(self, Self::Process)
    }

    /// How memory may be allocated.
    pub(super) fn gfp(self) -> Gfp {
        match self {
            Self::Process => Gfp::Noio,
            Self::Callback(_) => Gfp::Atomic,
        }
    }
}

/// A QP that has a stream.
#[derive(Clone, Copy)]
pub(super) struct StreamQp<'a> {
    qp: &'a Arc<Qp>,
    stream: &'a Stream,
}

impl Deref for StreamQp<'_> {
    type Target = Arc<Qp>;

    fn deref(&self) -> &Arc<Qp> {
        self.qp
    }
}

impl Qp {
    /// The QP with its stream; `None` if it is one of another wire.
    pub(super) fn streaming(self: &Arc<Self>) -> Option<StreamQp<'_>> {
        match &self.transport {
            TransportQp::Iwarp(stream) => Some(StreamQp { qp: self, stream }),
            TransportQp::Roce(_) => None,
        }
    }
}

impl<'a> StreamQp<'a> {
    /// The stream.
    pub(super) fn stream(&self) -> &'a Stream {
        self.stream
    }

    /// The connection is there: RDMA begins. EINVAL if the QP is not in a state for it, EISCONN if it
    /// has a connection. Process context.
    pub(super) fn stream_start(
        &self,
        conn: Arc<Conn>,
        socket: Arc<Socket>,
        params: StreamParams,
    ) -> Result {
        if !self.gate.enter() {
            return Err(EINVAL);
        }
        let ret = self.start(conn, socket, &params);
        self.gate.leave();
        ret
    }

    fn start(&self, conn: Arc<Conn>, socket: Arc<Socket>, params: &StreamParams) -> Result {
        let stream = self.stream();
        let stride = self.cap.max_send_sge as usize;
        let ord = params.ord as usize;
        let slots = ord.max(1);
        let mut fresh = Shared {
            conn: Some(conn),
            inbound: InboundReads::new(params.ird.max(1)),
            queue: KVVec::from_elem((0, NO_REQUEST), params.ird.max(1) as usize, GFP_KERNEL)?,
            outbound: OutboundReads::new(
                KVVec::from_elem(Order::EMPTY, slots, GFP_KERNEL)?,
                slots as u32,
            ),
            sinks: KVVec::from_elem(Sink::default(), slots, GFP_KERNEL)?,
            sink_sges: KVVec::from_elem(Sge::default(), slots * stride, GFP_KERNEL)?,
            sink_stride: stride,
            ..Shared::idle()
        };
        {
            let mut shared = stream.shared.lock();
            if shared.conn.is_some() {
                return Err(is_connected());
            }
            core::mem::swap(&mut *shared, &mut fresh);
            stream.note_asked(&shared);
            stream.draining.store(false, Relaxed);
        }
        drop(fresh);
        stream.tx.exclusive(|tx| tx.start(socket, params));
        stream.rx.exclusive(|rx| rx.start(params));
        stream.may_send.store(params.initiator, Release);
        let from = self.state();
        if !matches!(from, QpState::Init | QpState::Rtr) || !self.advance_state(from, QpState::Rts)
        {
            drop(stream.replace(Shared::idle()));
            drop(stream.tx.exclusive(Tx::abandon));
            return Err(EINVAL);
        }
        // librdmacm's active side asks for no rights at all; what iw_cm would give is what RNICs give.
        self.grant(access::REMOTE_WRITE | access::REMOTE_READ);
        // What was posted before, or the indication that the peer waits for.
        self.queue_work();
        Ok(())
    }

    /// The socket has room again, which whoever streams has filled. With the socket's lock held, any context.
    pub(super) fn stream_write_space(&self, sk: &LockedSock) {
        if !self.gate.enter() {
            return;
        }
        self.transmit_elsewhere(Context::Callback(sk));
        self.gate.leave();
    }

    /// The peer ended the connection, in an orderly way or (`reset`) not. What it sent before has been
    /// read. Any context.
    pub(super) fn stream_peer_closed(&self, reset: bool) {
        if reset {
            self.fail(Cause::Fatal);
        } else {
            self.fail(Cause::Closed);
        }
        self.stream_close(if reset {
            StreamEnd::Abort
        } else {
            StreamEnd::Graceful
        });
    }

    /// The responder need not wait any more for the initiator's first FPDU.
    pub(super) fn stream_may_send(&self) {
        self.stream().may_send.store(true, Release);
        self.queue_work();
    }

    /// Gives the connection back to its manager, once.
    pub(super) fn stream_close(&self, how: StreamEnd) {
        let conn = {
            let mut shared = self.stream().shared.lock();
            let first = !core::mem::replace(&mut shared.ended, true);
            shared.conn.clone().filter(|_| first)
        };
        if let Some(conn) = conn {
            conn.stream_closed(how);
        }
    }

    /// The consumer wants no more of the connection (→ ERROR, RESET, destruction; the state is ERROR).
    /// What TCP has taken is still delivered, where it ends with a whole FPDU. Process context.
    pub(super) fn stream_abort(&self) {
        let stream = self.stream();
        stream.tx.exclusive(|tx| {
            tx.turn(self, Context::Process);
            // TCP may not have taken everything, and is not waited for.
            tx.close();
        });
        self.stream_close(StreamEnd::Abort);
    }

    /// Finish what was posted, then close (→ SQD); with `event`, the consumer is told.
    pub(super) fn stream_drain(&self, event: bool) {
        {
            let mut shared = self.stream().shared.lock();
            shared.sqd_event = event;
            self.stream().draining.store(true, Relaxed);
        }
        self.queue_work();
    }

    /// The QP goes back to the beginning; its connection, if any, has been told. The state is RESET:
    /// an engine that starts now does nothing, one that runs is waited for.
    pub(super) fn stream_reset(&self) -> Result {
        let stream = self.stream();
        let old = stream.replace(Shared::idle());
        if let Some(conn) = &old.conn {
            conn.forget_qp();
        }
        drop(old);
        stream.may_send.store(false, Release);
        // First, as it completes READs in the send queue.
        stream.rx.exclusive(Rx::reset);
        drop(stream.tx.exclusive(|tx| {
            self.reset_send();
            tx.reset()
        }));
        Ok(())
    }

    /// The QP is gone: lets go of the connection.
    pub(super) fn stream_forget(&self) {
        drop(self.stream().replace(Shared::idle()));
        drop(self.stream().tx.exclusive(Tx::reset));
    }

    /// Does what there is to do. With `More`, the caller sees to another call. Process context.
    pub(super) fn stream_run(&self) -> Turn {
        if self.state() == QpState::Error {
            self.flush_receive();
        }
        self.try_transmit(Context::Process)
    }

    /// Ends the stream with a Terminate. Any context.
    pub(super) fn stream_terminate(&self, body: TerminateBody, cause: Cause) {
        {
            let mut shared = self.stream().shared.lock();
            if shared.terminate.is_none() {
                shared.terminate = Some(body);
            }
        }
        self.fail(cause);
        self.queue_work();
    }

    /// Runs the sending side, unless somebody does already, who then does this work too.
    pub(super) fn transmit(&self, context: Context<'_>) {
        if self.try_transmit(context) == Turn::More {
            self.queue_work();
        }
    }

    /// The same on another CPU, if there is one: where much is to be sent, this one is the peer's, or his reader's, which
    /// have enough to do with it.
    pub(super) fn transmit_elsewhere(&self, context: Context<'_>) {
        match Cpu::other() {
            Some(cpu) => {
                if self.stream().tx.run(|_| Turn::More) == Turn::More {
                    self.queue_work_on(cpu);
                }
            }
            None => self.transmit(context),
        }
    }

    /// As [`Self::transmit`]; with `More`, the caller sees to another call.
    fn try_transmit(&self, context: Context<'_>) -> Turn {
        self.stream().tx.run(|tx| match tx.turn(self, context) {
            Turn::Done if !context.may_read() && self.stream().unread.load(Relaxed) => Turn::More,
            turn => turn,
        })
    }

    /// Whether FPDUs may be sent.
    pub(super) fn may_send(&self) -> bool {
        self.stream().may_send.load(Acquire)
    }
}

const NO_REQUEST: Inbound = Inbound::Read(ReadRequest {
    sink_stag: 0,
    sink_to: 0,
    size: 0,
    source_stag: 0,
    source_to: 0,
});
