// SPDX-License-Identifier: GPL-2.0

//! Sending: answers and requests into packets.

use super::connected::Connected;
use super::out::{Out, Way};
use super::packet::source_port;
use super::qp::{Path, RoceQp};
use crate::cq::{opcode, status};
use crate::kapi::rdma::av::Av;
use crate::kapi::rdma::qp::{QpKind, QpState, WC_REG_MR};
use crate::kapi::sync::Turn;
use crate::kapi::time;
use crate::mr::sges::{gather, locate_in};
use crate::mr::{key_index, Held, Whose};
use crate::proto::access::{Access, Denied};
use crate::proto::bulk::Bulk;
use crate::proto::ib::burst::MAX_PACKETS;
use crate::proto::ib::requester::{Kind, Next, Request};
use crate::proto::ib::responses::Next as Answer;
use crate::proto::ring::queue::Consumer;
use crate::proto::wire::ib::flush::FlushKind;
use crate::proto::wire::ib::opcode::{Extra, Op, Opcode, Service};
use crate::proto::wire::ib::packet::{Atomic, Packet, Remote};
use crate::proto::wire::ib::syndrome::{Nak, Syndrome};
use crate::proto::wqe::abi::{ExtFlush, MAX_SEND_BYTES, VENDOR_ERR_FRAME, WQE_UNIT};
use crate::proto::wqe::fetch::{next_send, FetchError, SendBuf};
use crate::proto::wqe::send::{Data, SendFlags, SendOp, SendWqe};
use crate::proto::wqe::WqeError;
use crate::qp::{Cause, Qp, Record};
use kernel::prelude::*;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::Arc;

/// Packets of one turn, after which it ends with the super-packet that is being filled.
const BUDGET: u32 = 128;
/// Work requests that are taken from the queue for one run of packets, at most: with the state machines locked.
const TAKE: u32 = 32;

/// Why there is no packet.
pub(super) enum Stop {
    /// Nothing to do.
    Idle,
    /// There is one, but what was built before has to leave first.
    Full,
    /// Try again, after others.
    Later,
    /// No memory, or the like: try again in a while.
    Starved,
    /// The QP is in error now.
    Failed,
}

impl From<Error> for Stop {
    fn from(_: Error) -> Self {
        Stop::Starved
    }
}

/// The engine of a QP.
pub(super) struct Tx {
    consumer: Consumer,
    buf: SendBuf,
    out: Out,
    /// Answers have their turn.
    answering: bool,
    /// Datagrams that were sent, which their numbers count.
    datagrams: u32,
    /// Whether what is sent is a stream.
    bulk: Bulk,
}

impl Tx {
    pub(super) fn new() -> Self {
        Self {
            consumer: Consumer::new(0),
            buf: [0; MAX_SEND_BYTES],
            out: Out::new(),
            answering: false,
            datagrams: 0,
            bulk: Bulk::default(),
        }
    }

    /// The QP goes back to the beginning.
    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    /// Where work requests are taken to, from where on, where packets go, and how many datagrams have.
    pub(super) fn parts(&mut self) -> (&mut SendBuf, &mut Consumer, &mut Out, &mut u32) {
        let Self {
            buf,
            consumer,
            out,
            datagrams,
            ..
        } = self;
        (buf, consumer, out, datagrams)
    }

    /// Sends what there is to send, as the budget allows. Whatever was built has left at the end.
    pub(super) fn turn(&mut self, qp: &Arc<Qp>) -> Turn {
        let Some(roce) = qp.roce() else {
            return Turn::Done;
        };
        // Where the namespace is going all is lost on the way, and yet completes as ever: the core waits for what its
        // GSI QP sends, before it lets the namespace go.
        let net = qp.dev.netdev.net();
        let mut way = Way::new(&qp.dev, net.as_ref());
        let turn = self.packets(qp, roce, &mut way);
        self.out.send(&mut way);
        let sent = self.out.rest();
        if sent != 0 {
            self.bulk.arrived(sent);
            roce.streams.store(self.bulk.is_stream(), Relaxed);
        }
        turn
    }

    fn packets(&mut self, qp: &Arc<Qp>, roce: &RoceQp, way: &mut Way<'_>) -> Turn {
        // The path after the state, which changes after it.
        let (mut at, mut path) = (qp.state(), roce.path());
        let mut n = 0;
        while n < BUDGET || (n < BUDGET + MAX_PACKETS && !self.out.is_empty()) {
            let state = qp.state();
            if matches!(state, QpState::Reset | QpState::Init) {
                return Turn::Done;
            }
            if state != at {
                (at, path) = (state, roce.path());
            }
            let (built, stop) = match roce.kind {
                QpKind::Ud | QpKind::Gsi => (1, self.datagram(qp, &path, way, state)),
                QpKind::Rc | QpKind::Uc => self.run(qp, roce, &path, state),
            };
            n += built.max(1);
            match stop {
                Ok(()) => {}
                Err(Stop::Full) => {
                    self.out.send(way);
                    // By super-packets: equal ones stand together.
                    self.answering = !self.answering;
                }
                Err(Stop::Idle) => {
                    match state {
                        QpState::Error => {
                            flush_message(qp);
                            qp.recv_flushed();
                            qp.flush_send(&mut self.consumer);
                        }
                        QpState::Sqe => qp.flush_send(&mut self.consumer),
                        QpState::Sqd => drained(qp),
                        _ => {}
                    }
                    return Turn::Done;
                }
                Err(Stop::Failed) => {}
                Err(Stop::Later) => return Turn::More,
                Err(Stop::Starved) => {
                    roce.starved.store(true, Relaxed);
                    return Turn::More;
                }
            }
        }
        Turn::More
    }

    /// Adds packets of a connected QP, as many as a run may have: answers and requests take turns. Says how many, and
    /// why there are no more: because of the run's end, or for want of some.
    fn run(
        &mut self,
        qp: &Arc<Qp>,
        roce: &RoceQp,
        path: &Path,
        state: QpState,
    ) -> (u32, Result<(), Stop>) {
        // Before the lock: what it holds is given back behind that.
        let mut run = Run::begin(qp, path, state);
        let mut connected = roce.connected.lock();
        let c = &mut *connected;
        let mut found = Err(Stop::Idle);
        for _ in 0..2 {
            found = if self.answering {
                answers(qp, c, path, &mut self.out, &mut run)
            } else if matches!(state, QpState::Rts | QpState::Sqd) {
                self.requests(qp, c, path, &mut run)
            } else {
                Err(Stop::Idle)
            };
            if !matches!(found, Err(Stop::Idle)) {
                break;
            }
            self.answering = !self.answering;
        }
        drop(connected);
        (run.packets, found)
    }

    /// Adds packets of requests, of one message after the other.
    fn requests(
        &mut self,
        qp: &Arc<Qp>,
        c: &mut Connected,
        path: &Path,
        run: &mut Run,
    ) -> Result<(), Stop> {
        let before = run.packets;
        let stop = loop {
            // In the middle of a message nobody looks for the next one.
            let more = match self.take_works(qp, c, run) {
                Ok(()) => c.requester.next().ok(),
                Err(stop) => break Err(stop),
            };
            let Some(next) = more else {
                break match run.taken {
                    0..TAKE => Err(Stop::Idle),
                    _ if run.packets != before => Ok(()),
                    // Whoever posts nothing but what is done at once does not keep us here.
                    _ => Err(Stop::Later),
                };
            };
            if let Err(stop) = self.message(qp, c, path, run, next) {
                break Err(stop);
            }
            if run.is_over(qp) {
                break Ok(());
            }
        };
        if run.packets != before && !c.responder.is_uc() {
            super::timer::arm(qp, c, path);
        }
        stop
    }

    /// Takes work requests from the send queue until there is something to be sent, if everything was.
    fn take_works(&mut self, qp: &Arc<Qp>, c: &mut Connected, run: &mut Run) -> Result<(), Stop> {
        while run.state == QpState::Rts
            && run.taken < TAKE
            && c.requester.all_sent()
            && self.take_work(qp, c)?
        {
            run.taken += 1;
        }
        Ok(())
    }

    /// Adds packets of a message from `next` on: to its end, or that of the run, or as long as the requester goes on
    /// with it.
    fn message(
        &mut self,
        qp: &Arc<Qp>,
        c: &mut Connected,
        path: &Path,
        run: &mut Run,
        next: Next,
    ) -> Result<(), Stop> {
        let number = next.request.cookie;
        let is_uc = c.responder.is_uc();
        // Once for all of them.
        let Some(wqe) = c.shadow.work(number, &qp.limits) else {
            c.requester.refuse(status::LOC_QP_OP_ERR);
            complete(qp, c);
            return Err(Stop::Failed);
        };
        let (before, mut denied) = (run.packets, false);
        let mut at = Some(next);
        let mut built = Ok(());
        while let Some(next) = at {
            let Some((p, len)) = packet_of(&wqe, &next, is_uc, path.attr.dest_qpn) else {
                built = Err(Stop::Failed);
                break;
            };
            if !self.out.admits(&run.flow, &p, len) {
                built = Err(Stop::Full);
                break;
            }
            let held = &mut run.held;
            built = self.out.add::<Stop>(&run.flow, &p, len, |to| {
                fill(qp, held, &wqe, next.piece.offset, to).map_err(|e| {
                    denied = e.is_some();
                    Stop::Failed
                })
            });
            if built.is_err() {
                break;
            }
            if !is_uc && !c.requester.awaits_answer() {
                c.heard = time::monotonic_raw_ns();
            }
            c.requester.sent(&next);
            if is_uc {
                c.requester.all_arrived();
            }
            run.add(len);
            at = if run.is_over(qp) {
                None
            } else {
                let same = |next: &Next| next.request.cookie == number;
                c.requester.next().ok().filter(same)
            };
        }
        if denied {
            c.requester.refuse(status::LOC_PROT_ERR);
        }
        if denied || (is_uc && run.packets != before) {
            complete(qp, c);
        }
        built
    }

    /// Takes a work request from the send queue, when all before it were sent. False if there is none, or no room for
    /// one, or it has to wait.
    fn take_work(&mut self, qp: &Arc<Qp>, c: &mut Connected) -> Result<bool, Stop> {
        c.held_back = !c.requester.has_room() || !qp.sent.lock().has_room();
        if c.held_back {
            return Ok(false);
        }
        let units = match next_send(&qp.sq, &self.consumer, &mut self.buf) {
            Ok(Some(units)) => units,
            Ok(None) => return Ok(false),
            Err(FetchError::Index) => {
                qp.fail(Cause::Fatal);
                return Err(Stop::Failed);
            }
            Err(FetchError::Frame { wr_id }) if c.responder.is_uc() => {
                let (s, v) = (status::LOC_QP_OP_ERR, VENDOR_ERR_FRAME);
                return Err(reject(qp, wr_id, 0, s, v));
            }
            Err(FetchError::Frame { wr_id }) => {
                let record = Record {
                    wr_id,
                    vendor_err: VENDOR_ERR_FRAME,
                    ..Record::default()
                };
                return Err(refuse(qp, c, record, status::LOC_QP_OP_ERR));
            }
        };
        let wqe = match SendWqe::parse(&self.buf, &qp.limits) {
            // More of the ring than any of its operations needs.
            Ok(_) if !c.shadow.can_keep(units) => Err(WqeError::Units),
            parsed => parsed,
        };
        let nonsense = |e: WqeError| Record {
            wr_id: SendWqe::wr_id(&self.buf),
            units: units as u8,
            vendor_err: e.vendor_err(),
            ..Record::default()
        };
        let wqe = match wqe {
            Ok(wqe) => wqe,
            Err(e) => {
                self.consumer.advance(units);
                return Err(refuse(qp, c, nonsense(e), e.wc_status()));
            }
        };
        let asks = matches!(
            wqe.op,
            SendOp::Read(_)
                | SendOp::ReadInv(_)
                | SendOp::CmpSwp(..)
                | SendOp::FetchAdd(..)
                | SendOp::AtomicWrite(_)
                | SendOp::Flush(..)
        );
        if asks && !c.requester.may_ask() {
            // It would never have its turn.
            let e = WqeError::Opcode;
            self.consumer.advance(units);
            return Err(refuse(qp, c, nonsense(e), e.wc_status()));
        }
        let fenced = wqe.flags.contains(SendFlags::FENCE);
        let kind = match wqe.op {
            SendOp::Read(_) | SendOp::ReadInv(_) => Kind::Read,
            SendOp::CmpSwp(..) | SendOp::FetchAdd(..) => Kind::Atomic,
            SendOp::AtomicWrite(_) | SendOp::Flush(..) => Kind::Empty,
            _ => Kind::Plain,
        };
        // What is done here is done in its turn (IBTA volume 1, section 10.8.3.3): what was posted before it
        // has been sent, as we are asked for the next one only then, and found its memory. A fenced one waits for
        // the answers, too.
        let local = matches!(
            wqe.op,
            SendOp::LocalInv(_) | SendOp::RegMr(..) | SendOp::BindMw(..)
        );
        if (local || wqe.op == SendOp::Nop) && fenced && c.requester.oldest().is_some() {
            c.held_back = true;
            return Ok(false);
        }
        self.consumer.advance(units);
        if wqe.op == SendOp::Nop {
            let mut sent = qp.sent.lock();
            sent.nop(units);
            qp.complete_sent(&mut sent);
            return Ok(true);
        }
        let record = record(&wqe, units);
        if local {
            let done = match wqe.op {
                SendOp::LocalInv(key) => qp.invalidate(key),
                SendOp::BindMw(key, ext) => qp.bind_mw(key, &ext),
                SendOp::RegMr(key, ext) => match qp.dev.mrs.get(key_index(key)) {
                    Some(mr) => mr.register(key, ext.access, qp.pd.id),
                    None => Err(Denied::Key),
                },
                _ => Err(Denied::Key),
            };
            if done.is_err() {
                return Err(refuse(qp, c, record, status::MW_BIND_ERR));
            }
            let mut sent = qp.sent.lock();
            let number = sent.start(record);
            sent.done(number, status::SUCCESS);
            let lost = qp.complete_sent(&mut sent);
            drop(sent);
            if lost {
                qp.fail(Cause::Fatal);
                return Err(Stop::Failed);
            }
            return Ok(true);
        }
        let number = qp.sent.lock().start(record);
        let bytes = units as usize * WQE_UNIT;
        let request = Request {
            kind,
            length: wqe.length,
            fence: fenced,
            cookie: number,
        };
        c.shadow.keep(number, self.buf.get(..bytes).unwrap_or(&[]));
        c.requester.push(request);
        Ok(true)
    }
}

/// Packets that are made with the state machines locked once.
struct Run {
    /// Where they go, of a QP in this state.
    flow: (Av, u16),
    state: QpState,
    packets: u32,
    bytes: usize,
    /// Work requests that were taken for them.
    taken: u32,
    /// Memory that they are about.
    held: Held,
}

impl Run {
    /// Packets of a run, and bytes of their payload, at most: interrupts are off, and who receives may wait.
    const PACKETS: u32 = 16;
    const BYTES: usize = 16 << 10;

    fn begin(qp: &Qp, path: &Path, state: QpState) -> Self {
        Self {
            flow: flow(qp, path),
            state,
            packets: 0,
            bytes: 0,
            taken: 0,
            held: Held::none(),
        }
    }

    /// A packet with so many bytes was added.
    fn add(&mut self, len: usize) {
        self.packets += 1;
        self.bytes += len;
    }

    /// Whether it has to end: it is long enough, or the state is another one.
    fn is_over(&self, qp: &Qp) -> bool {
        self.packets >= Self::PACKETS || self.bytes >= Self::BYTES || qp.state() != self.state
    }
}

/// The packet of a work request that is next, and the bytes of its payload. `None`: there is none.
fn packet_of(
    wqe: &SendWqe<'_>,
    next: &Next,
    is_uc: bool,
    dest_qpn: u32,
) -> Option<(Packet, usize)> {
    let piece = next.piece;
    let service = if is_uc { Service::Uc } else { Service::Rc };
    let whole = |r: crate::proto::wqe::send::Remote, length| Remote {
        va: r.addr,
        rkey: r.rkey,
        length,
    };
    let mut p = Packet {
        ack_request: next.ack_request && !is_uc,
        ..Packet::new(
            Opcode {
                service,
                op: Op::Send(piece.place, Extra::None),
            },
            dest_qpn,
            next.psn,
        )
    };
    let ends = piece.place.ends();
    p.solicited = ends && wqe.flags.contains(SendFlags::SOLICITED);
    let extra;
    (extra, p.extra) = match wqe.op {
        SendOp::SendImm(imm) | SendOp::WriteImm(_, imm) if ends => (Extra::Imm, imm),
        SendOp::SendInv(key) if ends => (Extra::Inv, key),
        _ => (Extra::None, 0),
    };
    p.opcode.op = match wqe.op {
        SendOp::Send | SendOp::SendImm(_) | SendOp::SendInv(_) => Op::Send(piece.place, extra),
        SendOp::Write(r) | SendOp::WriteImm(r, _) => {
            p.remote = whole(r, wqe.length);
            Op::Write(piece.place, extra)
        }
        SendOp::Read(r) | SendOp::ReadInv(r) => {
            p.remote = Remote {
                va: r.addr.wrapping_add(u64::from(piece.offset)),
                rkey: r.rkey,
                length: piece.len,
            };
            Op::ReadRequest
        }
        SendOp::CmpSwp(r, ext) => {
            p.atomic = Atomic {
                va: r.addr,
                rkey: r.rkey,
                swap_add: ext.swap,
                compare: ext.compare_add,
            };
            Op::CmpSwp
        }
        SendOp::FetchAdd(r, ext) => {
            p.atomic = Atomic {
                va: r.addr,
                rkey: r.rkey,
                swap_add: ext.compare_add,
                compare: 0,
            };
            Op::FetchAdd
        }
        SendOp::AtomicWrite(r) => {
            p.remote = whole(r, wqe.length);
            Op::AtomicWrite
        }
        SendOp::Flush(r, ext) => {
            let kind = flush_kind(&ext);
            p.flush = kind.word();
            // All of the region needs no range.
            p.remote = whole(r, if kind.whole { 0 } else { ext.length as u32 });
            Op::Flush
        }
        SendOp::Nop | SendOp::LocalInv(_) | SendOp::RegMr(..) | SendOp::BindMw(..) => return None,
    };
    let len = match next.request.kind {
        // Of FLUSH and ATOMIC WRITE only the latter has data.
        Kind::Plain | Kind::Empty => piece.len as usize,
        Kind::Read | Kind::Atomic => 0,
    };
    Some((p, len))
}

/// Copies what a work request sends from `offset` on. `Err(Some(_))`: it may not be read.
fn fill(
    qp: &Qp,
    held: &mut Held,
    wqe: &SendWqe<'_>,
    offset: u32,
    to: &mut [u8],
) -> Result<(), Option<Denied>> {
    match wqe.data {
        Data::Inline(data) => {
            let data = data.get(offset as usize..).and_then(|d| d.get(..to.len()));
            to.copy_from_slice(data.ok_or(None)?);
            Ok(())
        }
        Data::Sges(list) => {
            let find = |at| locate_in(&list, at);
            gather(held, qp, find, u64::from(offset), to).map_err(Some)
        }
    }
}

/// What a checked work request asks to be flushed, and how.
fn flush_kind(ext: &ExtFlush) -> FlushKind {
    FlushKind {
        global: ext.kind & 1 != 0,
        persistent: ext.kind & 2 != 0,
        whole: ext.level != 0,
    }
}

/// A work request of a connected QP that cannot be executed: it fails in its turn.
fn refuse(qp: &Arc<Qp>, c: &mut Connected, record: Record, status: u8) -> Stop {
    let number = qp.sent.lock().start(record);
    c.requester.push_refused(number, status);
    complete(qp, c);
    Stop::Failed
}

/// The same where nobody acknowledges, if nothing behind it can be found: the QP fails.
pub(super) fn reject(qp: &Arc<Qp>, wr_id: u64, units: u8, status: u8, vendor_err: u32) -> Stop {
    qp.sent.lock().refuse(wr_id, units, status, vendor_err);
    qp.fail(Cause::Completed);
    Stop::Failed
}

fn record(wqe: &SendWqe<'_>, units: u32) -> Record {
    let (opcode, byte_len) = match wqe.op {
        SendOp::Write(_) | SendOp::WriteImm(..) => (opcode::RDMA_WRITE, wqe.length),
        SendOp::Read(_) | SendOp::ReadInv(_) => (opcode::RDMA_READ, wqe.length),
        SendOp::CmpSwp(..) => (opcode::COMP_SWAP, wqe.length),
        SendOp::FetchAdd(..) => (opcode::FETCH_ADD, wqe.length),
        SendOp::AtomicWrite(_) => (opcode::ATOMIC_WRITE, wqe.length),
        SendOp::Flush(..) => (opcode::FLUSH, 0),
        SendOp::LocalInv(_) => (opcode::LOCAL_INV, 0),
        SendOp::BindMw(..) => (opcode::BIND_MW, 0),
        SendOp::RegMr(..) => (WC_REG_MR, 0),
        _ => (opcode::SEND, wqe.length),
    };
    Record {
        wr_id: wqe.wr_id,
        byte_len,
        units: units as u8,
        opcode,
        signaled: wqe.flags.contains(SendFlags::SIGNALED),
        awaits_peer: true,
        ..Record::default()
    }
}

/// Completes what the peer has acknowledged. If a work request that cannot be executed is next, it fails, and the QP
/// with it, of UC its send queue: not earlier, for those before it complete as they would without it (IBTA volume 1,
/// section 9.9.2).
pub(super) fn complete(qp: &Arc<Qp>, c: &mut Connected) {
    // Most packets of the answer to a read change nothing.
    if !c.requester.has_news() {
        return;
    }
    let mut sent = qp.sent.lock();
    while let Some(request) = c.requester.take_done() {
        sent.done(request.cookie, status::SUCCESS);
    }
    let lost = qp.complete_sent(&mut sent);
    let failed = c.requester.failed();
    if let Some((request, status)) = failed {
        sent.done(request.cookie, status);
    }
    drop(sent);
    if lost {
        qp.fail(Cause::Fatal);
    } else if failed.is_some() && c.responder.is_uc() {
        qp.send_fails();
        c.requester.give_up();
    } else if failed.is_some() {
        qp.fail_by_send();
    }
}

/// ERROR: the receive of a message that has not come to its end gets nothing more. Before the receive
/// queue is flushed, so that completions keep their order.
fn flush_message(qp: &Arc<Qp>) {
    let Some(roce) = qp.roce() else {
        return;
    };
    let mut c = roce.connected.lock();
    if core::mem::take(&mut c.have_recv) {
        let _ = qp.push_recv_error(c.recv.wr_id, status::WR_FLUSH_ERR);
    }
}

/// SQD, and nothing is to be sent: tells the consumer once everything is answered.
fn drained(qp: &Arc<Qp>) {
    let Some(roce) = qp.roce() else {
        return;
    };
    let over = {
        let mut c = roce.connected.lock();
        let over = c.sqd_event && c.requester.oldest().is_none();
        c.sqd_event &= !over;
        over
    };
    if over {
        qp.handle.sq_drained();
    }
}

/// Where a connected QP sends to.
fn flow(qp: &Qp, path: &Path) -> (Av, u16) {
    let port = source_port(path.av.flow_label, qp.number, path.attr.dest_qpn);
    (path.av, port)
}

/// Adds packets of answers.
fn answers(
    qp: &Arc<Qp>,
    c: &mut Connected,
    path: &Path,
    out: &mut Out,
    run: &mut Run,
) -> Result<(), Stop> {
    loop {
        answer(qp, c, path, out, run)?;
        if run.is_over(qp) {
            return Ok(());
        }
    }
}

/// Adds the next packet of an answer. In ERROR only the refusal that led there, and what has to come before it, or
/// the acknowledge of what was executed.
fn answer(
    qp: &Arc<Qp>,
    c: &mut Connected,
    path: &Path,
    out: &mut Out,
    run: &mut Run,
) -> Result<(), Stop> {
    let mtu = c.responder.mtu();
    let next = c.responder.responses.peek(mtu).ok_or(Stop::Idle)?;
    // Of a message that has completed here the peer is told, too: whoever was told may be in ERROR at once.
    let done = matches!(next, Answer::Ack(ack) if ack.syndrome == Syndrome::Ack);
    if run.state == QpState::Error && !done && !c.responder.responses.ends() {
        return Err(Stop::Idle);
    }
    let packet = |op, psn, msn| Packet {
        syndrome: Syndrome::Ack.number(),
        msn,
        ..Packet::new(
            Opcode {
                service: Service::Rc,
                op,
            },
            path.attr.dest_qpn,
            psn,
        )
    };
    // The packet, and the memory that it is to carry.
    let (p, from) = match next {
        Answer::Ack(ack) => {
            let p = Packet {
                syndrome: ack.syndrome.number(),
                ..packet(Op::Acknowledge, ack.psn, ack.msn)
            };
            (p, None)
        }
        Answer::Read {
            remote,
            piece,
            psn,
            msn,
        } => (
            packet(Op::ReadResponse(piece.place), psn, msn),
            Some((remote, piece)).filter(|_| piece.len != 0),
        ),
        Answer::Atomic { original, psn, msn } => {
            let p = Packet {
                original,
                ..packet(Op::AtomicAcknowledge, psn, msn)
            };
            (p, None)
        }
    };
    let len = from.map_or(0, |(_, piece)| piece.len as usize);
    if !out.admits(&run.flow, &p, len) {
        return Err(Stop::Full);
    }
    let (mut denied, held) = (false, &mut run.held);
    let built = out.add::<Stop>(&run.flow, &p, len, |to| {
        let Some((remote, piece)) = from else {
            return Ok(());
        };
        let at = remote.va.wrapping_add(u64::from(piece.offset));
        let key = (Whose::Peers, remote.rkey);
        held.read(qp, key, at, Access::RemoteRead, to).map_err(|_| {
            denied = true;
            Stop::Failed
        })
    });
    if denied {
        c.responder
            .responses
            .refuse(Syndrome::Nak(Nak::RemoteAccess));
        qp.fail(Cause::Access);
    }
    built?;
    run.add(len);
    c.responder.responses.sent();
    Ok(())
}
