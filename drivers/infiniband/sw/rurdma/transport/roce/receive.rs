// SPDX-License-Identifier: GPL-2.0

//! Receiving: datagrams from the socket to the QP that they are for. In softirq.

use super::connected::Connected;
use super::datagram;
use super::ns::Links;
use super::packet::{icrc_is_right, read_ip};
use super::send::complete;
use crate::cq::{opcode, status, WC_WITH_IMM, WC_WITH_INVALIDATE};
use crate::kapi::net::udp::Datagram;
use crate::kapi::rdma::attr::access;
use crate::kapi::rdma::av::gid_of_ip;
use crate::kapi::rdma::qp::{QpKind, QpState};
use crate::kapi::rdma::stats::Counter;
use crate::kapi::time;
use crate::mr::{sges::locate, sges::scatter, Span};
use crate::proto::access::{Access, Denied};
use crate::proto::ib::requester::Effect;
use crate::proto::ib::responder::{Step, Verdict};
use crate::proto::wire::ib::opcode::{Extra, Op};
use crate::proto::wire::ib::packet::{Packet, Received, Remote};
use crate::proto::wire::ib::syndrome::{rnr_timer_us, Nak, Syndrome};
use crate::proto::wire::ib::{QPN_GSI, QPN_MULTICAST};
use crate::proto::wqe::abi::{Cqe, Sge, MAX_SGE};
use crate::proto::wqe::send::Data;
use crate::qp::{Cause, Qp};
use crate::rq::TakeError;
use core::net::IpAddr;
use kernel::prelude::*;
use kernel::sync::Arc;

/// The bits of a P_Key that name a partition, all set: the default one.
const PKEY_BASE: u16 = 0x7fff;

/// A packet has come for one of these links.
pub(super) fn datagram(links: &Links, d: &Datagram<'_>) {
    let Some((src, dst, fields)) = read_ip(d.ip) else {
        return;
    };
    let Ok(r) = Packet::parse(d.payload, d.payload.len()) else {
        return;
    };
    if r.packet.pkey & PKEY_BASE != PKEY_BASE || r.packet.qpn == QPN_MULTICAST {
        return;
    }
    let Some(qp) = links.qp(r.packet.qpn, &src, &dst) else {
        return;
    };
    if !icrc_is_right(&fields, (d.src_port, d.dst_port), d.payload) {
        qp.dev.counters.count(Counter::CrcErrors);
        return;
    }
    if !qp.gate.enter() {
        return;
    }
    match qp.roce().map(|roce| roce.kind) {
        Some(QpKind::Rc | QpKind::Uc) => connected(&qp, d, &r),
        Some(QpKind::Ud | QpKind::Gsi) => datagram::received(&qp, d, &r),
        None => {}
    }
    qp.gate.leave();
}

impl Links {
    /// The QP that a packet from `src` to `dst` is for.
    fn qp(&self, qpn: u32, src: &IpAddr, dst: &IpAddr) -> Option<Arc<Qp>> {
        if qpn == QPN_GSI {
            return self.with_gid(&gid_of_ip(dst))?.qps.get(QPN_GSI);
        }
        self.find(|dev| {
            let qp = dev.qps.get(qpn)?;
            let roce = qp.roce()?;
            if roce.kind.is_datagram() {
                return Some(qp);
            }
            // A connection is one of two addresses.
            let av = roce.path().av;
            (av.src == *dst && av.dst == *src).then_some(qp)
        })
    }
}

/// A packet for a connected QP.
fn connected(qp: &Arc<Qp>, d: &Datagram<'_>, r: &Received) {
    let Some(roce) = qp.roce() else {
        return;
    };
    let state = qp.state();
    {
        let mut connected = roce.connected.lock();
        let c = &mut *connected;
        if r.packet.opcode.is_request() {
            if !matches!(state, QpState::Rtr | QpState::Rts | QpState::Sqd | QpState::Sqe) {
                return;
            }
            request(qp, c, d, r);
        } else {
            if !matches!(state, QpState::Rts | QpState::Sqd) {
                return;
            }
            answered(qp, c, d, r);
        }
    }
    qp.roce_transmit();
}

/// Why a request is not executed.
enum Refusal {
    /// There is no receive.
    NotReady,
    /// The peer is told this, the consumer that.
    Nak(Nak, Cause),
}

fn request(qp: &Arc<Qp>, c: &mut Connected, d: &Datagram<'_>, r: &Received) {
    loop {
        match c.responder.receive(r) {
            Verdict::Drop | Verdict::Repeat => return,
            Verdict::Invalid => return qp.fail(Cause::Request),
            Verdict::Abandon => {
                // The receive of the message that is lost is taken for the next one.
                continue;
            }
            Verdict::Execute(step) => {
                match execute(qp, c, d, r, &step) {
                    Ok(result) => {
                        if c.responder.accept(r, &step, result).is_err() {
                            qp.fail(Cause::Request);
                        }
                    }
                    Err(Refusal::NotReady) => {
                        let timer = qp.roce().map_or(0, |q| q.path().attr.min_rnr_timer);
                        qp.dev.counters.count(Counter::ReceiverNotReady);
                        c.responder.not_ready(timer);
                    }
                    Err(Refusal::Nak(nak, cause)) => {
                        c.responder.refuse(nak);
                        qp.fail(cause);
                    }
                }
                return;
            }
        }
    }
}

fn denied(qp: &Qp, _why: Denied) -> Refusal {
    qp.dev.counters.count(Counter::AccessErrors);
    Refusal::Nak(Nak::RemoteAccess, Cause::Access)
}

/// The peer's access to memory of ours.
fn remote(qp: &Qp, right: u32, m: &Remote, at: u32, len: usize, need: Access) -> Result<Span, Refusal> {
    if qp.access() & right == 0 {
        return Err(denied(qp, Denied::Rights));
    }
    let va = m.va.wrapping_add(u64::from(at));
    Span::remote(qp, m.rkey, va, len as u64, need).map_err(|e| denied(qp, e))
}

fn execute(
    qp: &Arc<Qp>,
    c: &mut Connected,
    d: &Datagram<'_>,
    r: &Received,
    step: &Step,
) -> Result<u64, Refusal> {
    let (from, len) = (r.payload_at, r.payload_len);
    match *step {
        Step::Send {
            place,
            offset,
            extra,
        } => {
            if place.begins() {
                take_recv(qp, c)?;
            }
            let end = u64::from(offset) + len as u64;
            if end > c.recv.room {
                c.have_recv = false;
                let _ = qp.push_recv_error(c.recv.wr_id, status::LOC_LEN_ERR);
                return Err(Refusal::Nak(Nak::InvalidRequest, Cause::Request));
            }
            let sges = c.recv.sges();
            let find = |at| locate(sges, at);
            let chunk = d.chunk();
            let placed = scatter(
                qp,
                qp.recv_pd(),
                find,
                u64::from(offset),
                &chunk,
                from,
                len,
                None,
            );
            if placed.is_err() {
                c.have_recv = false;
                let _ = qp.push_recv_error(c.recv.wr_id, status::LOC_PROT_ERR);
                return Err(Refusal::Nak(Nak::RemoteOperation, Cause::Fatal));
            }
            if place.ends() {
                let mut cqe = received(qp, c, end as u32);
                match extra {
                    Extra::None => {}
                    Extra::Imm => {
                        cqe.wc_flags |= WC_WITH_IMM;
                        cqe.imm_inv = r.packet.extra;
                    }
                    Extra::Inv => {
                        if let Err(e) = qp.invalidate_by_peer(r.packet.extra) {
                            let _ = qp.push_recv_error(cqe.wr_id, status::WR_FLUSH_ERR);
                            return Err(denied(qp, e));
                        }
                        cqe.wc_flags |= WC_WITH_INVALIDATE;
                        cqe.imm_inv = r.packet.extra;
                    }
                }
                push(qp, &cqe, r)?;
            }
            Ok(0)
        }
        Step::Write {
            place,
            remote: m,
            offset,
            imm,
        } => {
            if place.begins() && m.length > 0 {
                // All of it, before the first byte.
                let all = m.length as usize;
                drop(remote(qp, access::REMOTE_WRITE, &m, 0, all, Access::RemoteWrite)?);
            }
            if imm {
                take_recv(qp, c)?;
            }
            if len > 0 {
                let span = remote(qp, access::REMOTE_WRITE, &m, offset, len, Access::RemoteWrite)?;
                span.place(0, &d.chunk(), from, len, None)
                    .map_err(|_| denied(qp, Denied::Bounds))?;
            }
            if imm {
                let mut cqe = received(qp, c, m.length);
                cqe.opcode = opcode::RECV_RDMA_WITH_IMM;
                cqe.wc_flags |= WC_WITH_IMM;
                cqe.imm_inv = r.packet.extra;
                push(qp, &cqe, r)?;
            }
            Ok(0)
        }
        Step::Read(m) => {
            if m.length > 0 {
                let all = m.length as usize;
                drop(remote(qp, access::REMOTE_READ, &m, 0, all, Access::RemoteRead)?);
            }
            Ok(0)
        }
        // Not offered, so nobody who keeps to the rules asks.
        Step::CmpSwp(_) | Step::FetchAdd(_) | Step::Flush(..) | Step::AtomicWrite(_) => {
            Err(Refusal::Nak(Nak::InvalidRequest, Cause::Request))
        }
    }
}

fn take_recv(qp: &Arc<Qp>, c: &mut Connected) -> Result<(), Refusal> {
    if c.have_recv {
        return Ok(());
    }
    match qp.take_recv(&mut c.recv) {
        Ok(()) => {
            c.have_recv = true;
            Ok(())
        }
        Err(TakeError::Empty) => Err(Refusal::NotReady),
        Err(TakeError::Bad { wr_id, error }) => {
            let _ = qp.push_bad_recv(wr_id, status::LOC_QP_OP_ERR, error.vendor_err());
            Err(Refusal::Nak(Nak::RemoteOperation, Cause::Fatal))
        }
        Err(TakeError::Corrupt) => Err(Refusal::Nak(Nak::RemoteOperation, Cause::Fatal)),
    }
}

/// The completion of the receive in progress.
fn received(qp: &Qp, c: &mut Connected, byte_len: u32) -> Cqe {
    c.have_recv = false;
    Cqe {
        wr_id: c.recv.wr_id,
        byte_len,
        qp_num: qp.number,
        status: status::SUCCESS,
        opcode: opcode::RECV,
        vlan_id: 0xffff,
        ..Cqe::default()
    }
}

fn push(qp: &Qp, cqe: &Cqe, r: &Received) -> Result<(), Refusal> {
    qp.recv_cq
        .push(cqe, r.packet.solicited)
        .map_err(|_| Refusal::Nak(Nak::RemoteOperation, Cause::Fatal))
}

/// An answer to one of our requests.
fn answered(qp: &Arc<Qp>, c: &mut Connected, d: &Datagram<'_>, r: &Received) {
    let p = &r.packet;
    let effect = match p.opcode.op {
        Op::Acknowledge => match Syndrome::from_number(p.syndrome) {
            Some(syndrome) => c.requester.acknowledged(p.psn, syndrome),
            None => Effect::None,
        },
        Op::ReadResponse(_) => c.requester.read_response(p.psn, r.payload_len as u32),
        Op::AtomicAcknowledge => c.requester.atomic_response(p.psn),
        _ => Effect::None,
    };
    match effect {
        Effect::None => return,
        Effect::Progress => c.heard = time::monotonic_raw_ns(),
        Effect::Rnr(timer) => {
            c.heard = time::monotonic_raw_ns();
            c.not_before = c.heard + u64::from(rnr_timer_us(timer)) * 1000;
            if let Some(roce) = qp.roce() {
                super::timer::arm(qp, c, &roce.path());
            }
        }
        Effect::Place { cookie, offset } => {
            c.heard = time::monotonic_raw_ns();
            if !place(qp, c, d, r, cookie, offset) {
                return fail(qp, c, status::LOC_PROT_ERR);
            }
            c.requester.placed(p.psn);
        }
        Effect::Failed(status) => return fail(qp, c, status),
    }
    complete(qp, c);
}

/// Puts what a read brought where the work request says.
fn place(
    qp: &Arc<Qp>,
    c: &Connected,
    d: &Datagram<'_>,
    r: &Received,
    number: u32,
    offset: u32,
) -> bool {
    let Some(wqe) = c.work(number, &qp.limits) else {
        return false;
    };
    let Data::Sges(list) = wqe.data else {
        return false;
    };
    let mut sges = [Sge::default(); MAX_SGE];
    let mut n = 0;
    for (to, sge) in sges.iter_mut().zip(list.iter()) {
        *to = sge;
        n += 1;
    }
    let sges = sges.get(..n).unwrap_or(&[]);
    let find = |at| locate(sges, at);
    scatter(
        qp,
        qp.pd.id,
        find,
        u64::from(offset),
        &d.chunk(),
        r.payload_at,
        r.payload_len,
        None,
    )
    .is_ok()
}

/// The oldest work request fails, and the QP with it.
pub(super) fn fail(qp: &Arc<Qp>, c: &mut Connected, status: u8) {
    complete(qp, c);
    if let Some(request) = c.requester.oldest() {
        qp.sent.lock().done(request.cookie, status);
    }
    qp.fail(Cause::Fatal);
}
