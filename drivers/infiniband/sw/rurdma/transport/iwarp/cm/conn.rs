// SPDX-License-Identifier: GPL-2.0

//! A connection: from `connect` or an accepted socket to the end of its socket.
//!
//! Everything that takes time or talks to the core is done in one work item, which never runs
//! twice at once. What happens to the socket, to the QP or to the clock only leaves a note in
//! [`Notes`] and queues the work; while the stream is the QP's, data go straight to it.
//!
//! Locks: `state`, then the socket's, then `notes`, which is a leaf. The QP is called with the first
//! and the second held, never with the third.

use super::handshake::{self, Received};
use super::listen::HalfOpen;
use super::seam::{StreamEnd, StreamParams};
use super::Cm;
use crate::device::Device;
use crate::kapi::net::addr::unmapped;
use crate::kapi::net::errno::NetError;
use crate::kapi::net::socket::{LockedSock, Socket, SocketEvents, TcpState};
use crate::kapi::rdma::iwcm::{CmEvent, CmId, ConnParam, Slot, MAX_PRIVATE_DATA};
use crate::kapi::rdma::stats::Counter;
use crate::kapi::sync::{new_spinlock_irq, SpinLockIrq};
use crate::kapi::timer;
use crate::proto::iwarp::cm_events::CmEvents;
use crate::proto::iwarp::mpa_rx::{Frame, Kind, MpaRx};
use crate::proto::iwarp::negotiate::{Agreed, Depths, Offer, RtrPlan, Verdict, Wishes};
use crate::qp::Qp;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, ArcBorrow, Mutex};
use kernel::workqueue::{
    impl_has_delayed_work, impl_has_work, new_delayed_work, new_work, DelayedWork, Work, WorkItem,
};

/// How long TCP may take to connect.
const CONNECT_MS: u32 = 15_000;
/// How long an initiator waits for the reply to its request.
const REPLY_MS: u32 = 10_000;
/// How long a peer that connected may take to send its request.
const REQUEST_MS: u32 = 5_000;
/// How long the consumer may take to decide. The core may lose a request without a word.
const DECISION_MS: u32 = 60_000;
/// How long an initiator may take to say that it is ready.
const RTR_MS: u32 = 5_000;
/// How long a responder that may send first, by its own consumer's will, holds back: RFC 5044
/// section 7.1.2 has it wait for the initiator's first FPDU, which a consumer that waits for the
/// responder would never send. By then the initiator has long switched to FPDUs.
const FIRST_WORD_MS: u32 = 100;
/// How long a QP may take to read what came before the peer's FIN.
const DRAIN_MS: u32 = 3_000;
/// How long the peer may take to close its end after we closed ours, before TCP alone waits for it.
const LINGER_MS: u32 = 5_000;

/// Silence after which the peer is asked whether it is still there, in seconds.
const KEEPALIVE: (u32, u32, u32) = (30, 10, 6);

/// Where a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Initiator: TCP is connecting.
    Connecting,
    /// Initiator: the request was sent.
    AwaitReply,
    /// Responder: the request has not come yet, or not all of it.
    AwaitRequest,
    /// Responder: the consumer is to decide.
    Offered,
    /// The stream is the QP's.
    Streaming,
    /// We closed our end; the peer has not.
    Lingering,
    /// Over.
    Dead,
}

/// The peer's end of the stream is closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum PeerEnd {
    /// By a FIN.
    Closed,
    /// By a RST, a timeout or whatever else broke it.
    Broken,
}

/// What happened since the work looked. Any context.
struct Notes {
    /// Whose the stream is.
    stream: Option<Arc<Qp>>,
    /// The peer's end is closed.
    peer: Option<PeerEnd>,
    /// The QP is done with the stream.
    end: Option<StreamEnd>,
    /// The initiator said that it is ready.
    ready: bool,
    /// The clock ran out.
    timeout: bool,
    /// The device goes.
    kill: bool,
}

/// What the work goes by.
pub(super) struct State {
    phase: Phase,
    pub(super) events: CmEvents,
    /// Whom to tell.
    pub(super) cm_id: Option<CmId>,
    /// Responder: the listener's account of those who have not sent their request.
    half_open: Option<HalfOpen>,
    /// The QP, from `connect` or `accept` on.
    qp: Option<Arc<Qp>>,
    /// What this end wants; the responder's comes with `accept`.
    wishes: Wishes,
    /// Initiator: to be sent with the request.
    private_data: KVec<u8>,
    /// What the peer sends.
    pub(super) mpa: Option<KBox<MpaRx>>,
    /// Responder: the request.
    offer: Option<Offer>,
    /// Reads, for the core.
    pub(super) depths: Depths,
    /// Why the attempt failed.
    pub(super) failure: Error,
    /// Responder: the clock runs until it may send first.
    holds_back: bool,
    /// It was said that the connection is over.
    forgotten: bool,
}

/// A connection.
#[pin_data]
pub(crate) struct Conn {
    /// Its number, in cm_ids' slots.
    pub(super) number: u32,
    /// Its device.
    pub(super) dev: Arc<Device>,
    cm: Arc<Cm>,
    pub(super) socket: Arc<Socket>,
    #[pin]
    notes: SpinLockIrq<Notes>,
    #[pin]
    state: Mutex<State>,
    #[pin]
    work: Work<Conn, 0>,
    #[pin]
    clock: DelayedWork<Conn, 1>,
}

impl_has_work! {
    impl HasWork<Conn, 0> for Conn { self.work }
}
impl_has_delayed_work! {
    impl HasDelayedWork<Conn, 1> for Conn { self.clock }
}

impl WorkItem<0> for Conn {
    type Pointer = Arc<Conn>;

    fn run(this: Arc<Conn>) {
        this.work();
    }
}

impl WorkItem<1> for Conn {
    type Pointer = Arc<Conn>;

    fn run(this: Arc<Conn>) {
        this.notes.lock().timeout = true;
        this.queue();
    }
}

impl SocketEvents for Conn {
    fn data_ready(this: ArcBorrow<'_, Self>, sk: &LockedSock) {
        match this.stream().as_ref().and_then(Qp::streaming) {
            Some(qp) if sk.in_backlog() => qp.stream_data_waits(sk),
            Some(qp) => qp.stream_data_ready(sk),
            None => this.queue_borrowed(),
        }
    }

    fn write_space(this: ArcBorrow<'_, Self>, sk: &LockedSock) {
        if let Some(qp) = this.stream().as_ref().and_then(Qp::streaming) {
            qp.stream_write_space(sk);
        }
    }

    fn state_change(this: ArcBorrow<'_, Self>, sk: &LockedSock) {
        this.look_at_peer(sk);
        this.queue_borrowed();
    }
}

impl Conn {
    fn new(
        cm: &Arc<Cm>,
        dev: &Arc<Device>,
        socket: Arc<Socket>,
        state: State,
    ) -> Result<Arc<Self>> {
        socket.set_nodelay();
        let (idle, interval, count) = KEEPALIVE;
        socket.set_keepalive(idle, interval, count)?;
        let this = Arc::pin_init(
            pin_init!(Self {
                number: cm.new_number(),
                dev: dev.clone(),
                cm: cm.clone(),
                socket,
                notes <- new_spinlock_irq!(
                    Notes {
                        stream: None,
                        peer: None,
                        end: None,
                        ready: false,
                        timeout: false,
                        kill: false,
                    },
                    "Conn::notes"
                ),
                state <- new_mutex!(state, "Conn::state"),
                work <- new_work!("Conn::work"),
                clock <- new_delayed_work!("Conn::clock"),
            }),
            GFP_KERNEL,
        )?;
        cm.enter_conn(&this)?;
        if let Err(err) = this.socket.hook(this.clone()) {
            cm.leave_conn(this.number);
            return Err(err);
        }
        Ok(this)
    }

    /// Begins to connect over `socket`, which is connecting.
    pub(super) fn connect(
        cm: &Arc<Cm>,
        dev: &Arc<Device>,
        socket: Arc<Socket>,
        cm_id: CmId,
        qp: Arc<Qp>,
        param: &ConnParam<'_>,
    ) -> Result {
        let mut private_data = KVec::new();
        private_data.extend_from_slice(param.private_data, GFP_KERNEL)?;
        let wishes = handshake::wishes(param.ird, param.ord, dev.transport.max_rd_atom());
        let mpa = KBox::new(MpaRx::new(Kind::Reply), GFP_KERNEL)?;
        let this = Self::new(
            cm,
            dev,
            socket,
            State {
                phase: Phase::Connecting,
                events: CmEvents::new(),
                cm_id: None,
                half_open: None,
                qp: Some(qp),
                wishes,
                private_data,
                mpa: Some(mpa),
                offer: None,
                depths: wishes.depths,
                failure: NetError::ConnReset.into(),
                holds_back: false,
                forgotten: false,
            },
        )?;
        let mut state = this.state.lock();
        // From here on no error is returned: the core will be told how it ends.
        if !state.events.promise_connect() {
            return Err(EINVAL);
        }
        cm_id.set_slot(Slot::Conn(this.number));
        state.cm_id = Some(cm_id);
        this.arm(CONNECT_MS);
        drop(state);
        this.queue();
        Ok(())
    }

    /// Takes a connection that a listener accepted.
    pub(super) fn incoming(
        cm: &Arc<Cm>,
        dev: &Arc<Device>,
        socket: Arc<Socket>,
        half_open: HalfOpen,
    ) -> Result {
        let mpa = KBox::new(MpaRx::new(Kind::Request), GFP_KERNEL)?;
        let wishes = handshake::wishes(0, 0, dev.transport.max_rd_atom());
        let this = Self::new(
            cm,
            dev,
            socket,
            State {
                phase: Phase::AwaitRequest,
                events: CmEvents::new(),
                cm_id: None,
                half_open: Some(half_open),
                qp: None,
                wishes,
                private_data: KVec::new(),
                mpa: Some(mpa),
                offer: None,
                depths: wishes.depths,
                failure: NetError::ConnReset.into(),
                holds_back: false,
                forgotten: false,
            },
        )?;
        this.arm(REQUEST_MS);
        // The request may be there already.
        this.queue();
        Ok(())
    }

    /// The consumer accepts.
    pub(super) fn accept(self: &Arc<Self>, cm_id: CmId, param: &ConnParam<'_>) -> Result {
        let qp = self.dev.qp_by_number(param.qpn).ok_or(EINVAL)?;
        let mut state = self.state.lock();
        let offer = match (state.phase, state.offer) {
            (Phase::Offered, Some(offer)) => offer,
            _ => return Err(NetError::ConnReset.into()),
        };
        state.wishes = handshake::wishes(param.ird, param.ord, self.dev.transport.max_rd_atom());
        self.disarm();
        let agreed = handshake::send(&self.socket, |buf| {
            offer
                .accept(&state.wishes, param.private_data, buf)
                .map_err(|_| EINVAL)
        });
        let started = agreed.and_then(|agreed| {
            state.depths = agreed.depths;
            self.start_stream(&mut state, qp, false, &agreed)?;
            Ok(agreed)
        });
        let agreed = match started {
            // Without the promise there is no event, so an error may be returned.
            Ok(agreed) if state.events.promise_accept() => agreed,
            other => {
                self.drop_all(&mut state);
                drop(state);
                self.queue();
                return Err(other.err().unwrap_or(EINVAL));
            }
        };
        cm_id.set_slot(Slot::Conn(self.number));
        state.cm_id = Some(cm_id);
        match agreed.rtr {
            RtrPlan::Expect(_) => self.arm(RTR_MS),
            _ => {
                state.events.up();
                state.holds_back = true;
                self.arm(FIRST_WORD_MS);
            }
        }
        drop(state);
        self.queue();
        Ok(())
    }

    /// The consumer rejects, or is not there any more.
    pub(super) fn reject(self: &Arc<Self>, private_data: &[u8]) -> Result {
        let mut state = self.state.lock();
        let offer = match (state.phase, state.offer) {
            (Phase::Offered, Some(offer)) => offer,
            // The peer has gone away meanwhile.
            _ => return Ok(()),
        };
        self.disarm();
        let sent = handshake::send(&self.socket, |buf| {
            let len = offer
                .reject(&state.wishes, private_data, buf)
                .map_err(|_| EINVAL)?;
            Ok((len, ()))
        });
        self.end_socket(&mut state, sent.is_ok());
        drop(state);
        self.queue();
        sent
    }

    /// The QP is done with the stream. Any context.
    pub(crate) fn stream_closed(self: &Arc<Self>, how: StreamEnd) {
        {
            let mut notes = self.notes.lock();
            // An abort overtakes an end in good order.
            if notes.end.is_none() || how == StreamEnd::Abort {
                notes.end = Some(how);
            }
        }
        self.queue();
    }

    /// The QP goes back to the beginning: nothing of this connection reaches it any more. Process
    /// context.
    pub(crate) fn forget_qp(&self) {
        // The work tells the QP with this held; callbacks tell it with the socket's lock held.
        let _state = self.state.lock();
        let qp = self.notes.lock().stream.take();
        self.socket.with_lock(|_| ());
        drop(qp);
    }

    /// Responder: the initiator's first message is there. Any context.
    pub(crate) fn stream_established(self: &Arc<Self>) {
        self.notes.lock().ready = true;
        self.queue();
    }

    /// The QP goes before its connection is there: the attempt ends. Process context.
    pub(super) fn qp_goes(self: &Arc<Self>, qp: &Arc<Qp>) {
        let trying = {
            let state = self.state.lock();
            state.phase != Phase::Streaming && state.qp.as_ref().is_some_and(|q| Arc::ptr_eq(q, qp))
        };
        if trying {
            self.kill();
        }
    }

    /// The device goes, or leaves its namespace: the socket must go now. Any context.
    pub(super) fn kill(self: &Arc<Self>) {
        self.notes.lock().kill = true;
        self.queue();
    }

    fn queue(self: &Arc<Self>) {
        // Queued already: it will see what we left it.
        let _ = self.cm.queue().enqueue::<_, 0>(self.clone());
    }

    fn queue_borrowed(self: ArcBorrow<'_, Self>) {
        Arc::from(self).queue();
    }

    fn arm(self: &Arc<Self>, ms: u32) {
        timer::arm::<_, 1>(self.cm.queue(), self, ms);
    }

    /// Stops the clock; what it said is forgotten.
    fn disarm(self: &Arc<Self>) {
        timer::disarm::<_, 1>(self);
        self.notes.lock().timeout = false;
    }

    fn rearm(self: &Arc<Self>, ms: u32) {
        self.disarm();
        self.arm(ms);
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> Arc<Socket> {
        self.socket.clone()
    }

    fn stream(&self) -> Option<Arc<Qp>> {
        self.notes.lock().stream.clone()
    }

    /// Tells the QP, once, if the peer's end is closed. The data before that are told first: a
    /// FIN is seen before the data in the same segment.
    fn look_at_peer(&self, sk: &LockedSock) {
        if !sk.peer_closed() {
            return;
        }
        let end = if sk.state() == TcpState::Closed && sk.error().is_some() {
            PeerEnd::Broken
        } else {
            PeerEnd::Closed
        };
        let qp = {
            let mut notes = self.notes.lock();
            let Some(qp) = notes.stream.clone() else {
                return;
            };
            if notes.peer >= Some(end) {
                return;
            }
            notes.peer = Some(end);
            qp
        };
        if let Some(qp) = qp.streaming() {
            qp.stream_last_data(sk);
            qp.stream_peer_closed(end == PeerEnd::Broken);
        }
    }

    /// The work.
    fn work(self: &Arc<Self>) {
        let mut state = self.state.lock();
        self.step(&mut state);
        self.tell(&mut state);
        let over = state.phase == Phase::Dead && !state.forgotten;
        state.forgotten |= over;
        drop(state);
        if over {
            self.disarm();
            self.cm.leave_conn(self.number);
        }
    }

    /// Does what can be done now.
    fn step(self: &Arc<Self>, state: &mut State) {
        let (kill, timeout) = {
            let mut notes = self.notes.lock();
            (notes.kill, core::mem::take(&mut notes.timeout))
        };
        if kill {
            state.failure = NetError::NetDown.into();
            return self.drop_all(state);
        }
        match state.phase {
            Phase::Connecting => self.step_connecting(state, timeout),
            Phase::AwaitReply => self.step_reply(state, timeout),
            Phase::AwaitRequest => self.step_request(state, timeout),
            Phase::Offered => {
                if timeout || self.socket.state() != TcpState::Established {
                    self.drop_all(state);
                }
            }
            Phase::Streaming => self.step_streaming(state, timeout),
            Phase::Lingering => {
                // What is queued is TCP's to deliver, however long the peer takes.
                if handshake::discard(&self.socket) || timeout {
                    self.socket.close();
                    state.phase = Phase::Dead;
                }
            }
            Phase::Dead => {}
        }
    }

    fn step_connecting(self: &Arc<Self>, state: &mut State, timeout: bool) {
        match self.socket.state() {
            TcpState::Established | TcpState::PeerClosed => {
                let sent = handshake::send(&self.socket, |buf| {
                    let len = state
                        .wishes
                        .request(&state.private_data, buf)
                        .map_err(|_| EINVAL)?;
                    Ok((len, ()))
                });
                match sent {
                    Ok(()) => {
                        state.phase = Phase::AwaitReply;
                        self.rearm(REPLY_MS);
                        self.step_reply(state, false);
                    }
                    Err(err) => self.fail(state, err),
                }
            }
            TcpState::Connecting if timeout => self.fail(state, NetError::TimedOut.into()),
            TcpState::Connecting => {}
            TcpState::LocalClosed | TcpState::Closed => {
                let err = self.socket.error().unwrap_or(NetError::ConnReset.into());
                self.fail(state, err);
            }
        }
    }

    /// Reads on. The frame, if it is complete.
    fn read_frame(self: &Arc<Self>, state: &mut State, timeout: bool) -> Option<Frame> {
        let Some(mpa) = state.mpa.as_mut() else {
            self.fail(state, EINVAL);
            return None;
        };
        let Received { frame, closed } = handshake::receive(&self.socket, mpa);
        match frame {
            Ok(Some(frame)) => return Some(frame),
            Ok(None) if closed => self.fail(state, NetError::ConnReset.into()),
            Ok(None) if timeout => self.fail(state, NetError::TimedOut.into()),
            Ok(None) => {}
            // No MPA: TCP is closed at once, nothing is sent (RFC 5044 section 7.1.2).
            Err(_) => self.fail(state, NetError::Protocol.into()),
        }
        None
    }

    fn step_reply(self: &Arc<Self>, state: &mut State, timeout: bool) {
        let Some(reply) = self.read_frame(state, timeout) else {
            return;
        };
        self.disarm();
        match state.wishes.judge_reply(&reply) {
            Ok(Verdict::Accepted(agreed)) => {
                state.depths = agreed.depths;
                let started = match state.qp.take() {
                    Some(qp) => self.start_stream(state, qp, true, &agreed),
                    None => Err(EINVAL),
                };
                match started {
                    Ok(()) => {
                        state.events.up();
                    }
                    Err(err) => self.fail(state, err),
                }
            }
            Ok(Verdict::Rejected(depths)) => {
                if let Some(depths) = depths {
                    // As seen from this end.
                    state.depths = Depths {
                        ird: depths.ord,
                        ord: depths.ird,
                    };
                }
                state.failure = NetError::ConnRefused.into();
                self.end_socket(state, true);
            }
            Ok(Verdict::Terminate(error, agreed)) => {
                handshake::send_terminate(&self.socket, error, &agreed);
                state.mpa = None;
                state.failure = NetError::Protocol.into();
                self.end_socket(state, true);
            }
            Err(_) => {
                state.mpa = None;
                self.fail(state, NetError::Protocol.into());
            }
        }
    }

    fn step_request(self: &Arc<Self>, state: &mut State, timeout: bool) {
        let Some(request) = self.read_frame(state, timeout) else {
            return;
        };
        self.disarm();
        let offer = Offer::new(&request);
        state.offer = Some(offer);
        state.phase = Phase::Offered;
        self.arm(DECISION_MS);
        let mpa = state.mpa.take();
        let private_data = mpa.as_ref().map_or(&[][..], |mpa| mpa.private_data());
        let told = match state.half_open.take() {
            Some(half_open) => self.offer(half_open, &offer, private_data),
            None => Err(EINVAL),
        };
        if let Err(err) = told {
            // The backlog is full, or the listener is gone.
            self.fail(state, err);
        }
    }

    /// Shows a request to the consumer.
    fn offer(&self, listener: HalfOpen, offer: &Offer, private_data: &[u8]) -> Result {
        let max = self.dev.transport.max_rd_atom();
        let (ird, ord) = match offer.peer() {
            Some(peer) => (u32::from(peer.ird).min(max), u32::from(peer.ord).min(max)),
            // Revision 1 does not say.
            None => (max, max),
        };
        listener.event(&CmEvent::ConnectRequest {
            local: unmapped(self.socket.local_addr()?),
            remote: unmapped(self.socket.peer_addr()?),
            private_data: self.cut(private_data),
            ird,
            ord,
            slot: Slot::Conn(self.number),
        })
    }

    /// What of private data the core can pass on; what is lost is counted.
    pub(super) fn cut<'a>(&self, private_data: &'a [u8]) -> &'a [u8] {
        match private_data.get(..MAX_PRIVATE_DATA) {
            Some(cut) if cut.len() < private_data.len() => {
                self.dev.counters.count(Counter::PrivateDataCut);
                cut
            }
            _ => private_data,
        }
    }

    /// The stream becomes the QP's.
    fn start_stream(
        self: &Arc<Self>,
        state: &mut State,
        qp: Arc<Qp>,
        initiator: bool,
        agreed: &Agreed,
    ) -> Result {
        let params = StreamParams::new(initiator, agreed);
        let stream = qp.streaming().ok_or(EINVAL)?;
        stream.stream_start(self.clone(), self.socket.clone(), params)?;
        self.notes.lock().stream = Some(qp.clone());
        state.qp = Some(qp.clone());
        state.phase = Phase::Streaming;
        self.dev.counters.count(if initiator {
            Counter::Connected
        } else {
            Counter::Accepted
        });
        // What came meanwhile was told to nobody but this work.
        self.socket.with_lock(|sk| {
            stream.stream_data_ready(sk);
            self.look_at_peer(sk);
        });
        Ok(())
    }

    fn step_streaming(self: &Arc<Self>, state: &mut State, timeout: bool) {
        let (end, peer, ready) = {
            let notes = self.notes.lock();
            (notes.end, notes.peer, notes.ready)
        };
        if ready && state.events.up() {
            self.disarm();
        }
        let mut timeout = timeout;
        if state.holds_back && (ready || timeout) {
            state.holds_back = false;
            self.disarm();
            timeout = false;
            if let Some(qp) = state.qp.as_ref().and_then(Qp::streaming) {
                qp.stream_may_send();
            }
        }
        match (end, peer) {
            (Some(how), _) => self.end_stream(state, how),
            (None, Some(PeerEnd::Broken)) => self.end_stream(state, StreamEnd::Abort),
            // Ready too late, or still reading after the FIN.
            _ if timeout => self.drop_all(state),
            (None, Some(PeerEnd::Closed)) => {
                // The QP reads what there is, and says when it is done.
                if state.events.closing() {
                    self.rearm(DRAIN_MS);
                }
            }
            (None, None) => {}
        }
    }

    /// The stream is nobody's any more.
    fn end_stream(self: &Arc<Self>, state: &mut State, how: StreamEnd) {
        self.leave_stream(how == StreamEnd::Abort);
        self.end_socket(state, how != StreamEnd::Abort);
    }

    /// The QP has no stream any more, and flushes what it still has if it did not end it itself.
    fn leave_stream(&self, reset: bool) {
        let qp = self.notes.lock().stream.take();
        if let Some(qp) = qp.as_ref().and_then(Qp::streaming) {
            qp.stream_peer_closed(reset);
        }
    }

    /// Closes our end, in good order or not.
    fn end_socket(self: &Arc<Self>, state: &mut State, graceful: bool) {
        self.disarm();
        state.events.gone();
        state.qp = None;
        state.half_open = None;
        if !graceful {
            self.socket.abort();
            state.phase = Phase::Dead;
        } else if handshake::discard(&self.socket) {
            self.socket.close();
            state.phase = Phase::Dead;
        } else {
            self.socket.shutdown_send();
            state.phase = Phase::Lingering;
            self.arm(LINGER_MS);
        }
    }

    /// The attempt has failed.
    fn fail(self: &Arc<Self>, state: &mut State, err: Error) {
        state.failure = err;
        self.end_socket(state, false);
    }

    /// Ends everything at once, whatever it is.
    fn drop_all(self: &Arc<Self>, state: &mut State) {
        self.leave_stream(true);
        if state.phase != Phase::Dead {
            self.end_socket(state, false);
        }
    }
}
