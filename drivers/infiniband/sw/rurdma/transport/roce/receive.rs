// SPDX-License-Identifier: GPL-2.0

//! Receiving: datagrams from the socket to the QP that they are for. In softirq, but for [`late`].

use super::connected::Connected;
use super::datagram;
use super::ns::Links;
use super::packet::KernelCrc;
use super::send::complete;
use crate::cq::{opcode, status, WC_WITH_IMM, WC_WITH_INVALIDATE};
use crate::device::Device;
use crate::kapi::net::udp::{Datagram, SuperPacket};
use crate::kapi::rdma::attr::access;
use crate::kapi::rdma::av::gid_of_ip;
use crate::kapi::rdma::qp::{QpKind, QpState};
use crate::kapi::rdma::stats::Counter;
use crate::kapi::task::cond_resched;
use crate::kapi::time;
use crate::mr::sges::{locate, locate_in, scatter, scatter_bytes_by};
use crate::mr::{Held, Span, Whose};
use crate::proto::access::{Access, Denied, Rights};
use crate::proto::atomic::AtomicOp;
use crate::proto::ib::cut::Mtu;
use crate::proto::ib::requester::Effect;
use crate::proto::ib::responder::{Step, Verdict};
use crate::proto::wire::ib::flush::FlushKind;
use crate::proto::wire::ib::hdr::BTH_LEN;
use crate::proto::wire::ib::icrc;
use crate::proto::wire::ib::ip::IpFields;
use crate::proto::wire::ib::opcode::{Extra, Op};
use crate::proto::wire::ib::packet::{Atomic, Packet, Received, Remote, MAX_HDR_LEN};
use crate::proto::wire::ib::syndrome::{rnr_timer_us, Nak, Syndrome};
use crate::proto::wire::ib::{ICRC_LEN, QPN_GSI, QPN_MULTICAST};
use crate::proto::wqe::abi::Cqe;
use crate::proto::wqe::send::Data;
use crate::qp::{Cause, Qp};
use crate::rq::TakeError;
use core::mem::size_of;
use core::net::IpAddr;
use kernel::prelude::*;
use kernel::sync::Arc;

/// The bits of a P_Key that name a partition, all set: the default one.
const PKEY_BASE: u16 = 0x7fff;
/// Multicast packets that were put off and are delivered in one go.
const LATE: u32 = 16;

/// How the identifications of packets that came together are known, which their ICRCs cover.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ids {
    /// They count: a super-packet of GSO, or what GRO has made of such packets.
    Count,
    /// All have the same, which GRO puts together, too.
    Same,
}

impl Ids {
    fn other(self) -> Self {
        match self {
            Ids::Count => Ids::Same,
            Ids::Same => Ids::Count,
        }
    }

    /// What the ICRC of this packet covers.
    fn fields(self, first: &IpFields, index: u16) -> IpFields {
        match (self, first.id()) {
            (Ids::Count, Some(id)) => first.with_id(id.wrapping_add(index)),
            _ => *first,
        }
    }
}

/// What packets that came together have in common.
struct Batch {
    /// Memory that the last of them was about.
    held: Held,
    /// When the first of them was looked at; 0: nobody asked.
    now: u64,
    /// There is something to send now.
    due: bool,
    /// How many there were, and bytes in all, from BTH to ICRC.
    packets: u32,
    octets: usize,
}

impl Batch {
    const fn new() -> Self {
        Self {
            held: Held::none(),
            now: 0,
            due: false,
            packets: 0,
            octets: 0,
        }
    }

    fn count(&mut self, octets: usize) {
        self.packets += 1;
        self.octets += octets;
    }

    /// The time at which something was heard of the peer.
    fn now(&mut self) -> u64 {
        if self.now == 0 {
            self.now = time::monotonic_raw_ns();
        }
        self.now
    }
}

/// The QP that packets are for. What they give it to do, answers above all, it does when the last of them is there,
/// or one for another QP follows.
struct Target {
    qp: Arc<Qp>,
    batch: Batch,
}

impl Target {
    fn new(qp: Arc<Qp>) -> Option<Self> {
        let batch = Batch::new();
        qp.gate.enter().then_some(Self { qp, batch })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let (qp, batch) = (&self.qp, core::mem::replace(&mut self.batch, Batch::new()));
        // Before the answer: whoever knows by that that they have come finds them counted, and the memory not in use.
        if batch.packets != 0 {
            let (packets, octets) = (batch.packets, batch.octets);
            qp.dev.traffic.received(packets, octets, false);
        }
        let due = batch.due;
        drop(batch);
        if due {
            qp.roce_answer();
        }
        qp.gate.leave();
    }
}

/// Packets have come for some of these links; `streamed`: a worker has them. Any context without a lock.
pub(super) fn packets(links: &Links, packets: &SuperPacket<'_>, streamed: bool) {
    let Some(fields) = IpFields::read(packets.ip) else {
        return;
    };
    let (src, dst) = (fields.src(), fields.dst());
    let mut ids = Ids::Count;
    let mut target: Option<Target> = None;
    for d in packets.datagrams() {
        let Some((r, bth)) = parse(&d) else {
            continue;
        };
        if r.packet.qpn == QPN_MULTICAST {
            multicast(links, &d, (&r, &bth), &fields, &mut ids);
            continue;
        }
        if target.as_ref().is_none_or(|t| t.qp.number != r.packet.qpn) {
            // The old one goes first.
            drop(target.take());
            target = qp_of(links, r.packet.qpn, &src, &dst).and_then(Target::new);
            if let Some(t) = target.as_ref().filter(|_| streamed) {
                t.qp.dev.counters.count(Counter::Streamed);
            }
        }
        if let Some(Target { qp, batch }) = &mut target {
            if arrives(&qp.dev, &d, &bth, &fields, &mut ids) {
                batch.count(d.len);
                deliver(qp, &d, &r, batch);
            }
        }
    }
}

/// A BTH as it came.
type Bth = [u8; BTH_LEN];

/// The headers, of a partition that everybody is in; and their beginning, which the ICRC covers. They are read once.
fn parse(d: &Datagram<'_>) -> Option<(Received, Bth)> {
    let mut bytes = [0; MAX_HDR_LEN];
    let bytes = bytes.get_mut(..d.len.min(MAX_HDR_LEN))?;
    d.chunk().copy_to_slice(0, bytes).ok()?;
    let r = Packet::parse(bytes, d.len).ok()?;
    let bth = *bytes.first_chunk()?;
    (r.packet.pkey & PKEY_BASE == PKEY_BASE).then_some((r, bth))
}

/// A packet is for this link: whether its ICRC is right. If not, that is counted.
fn arrives(dev: &Device, d: &Datagram<'_>, bth: &Bth, fields: &IpFields, ids: &mut Ids) -> bool {
    let mut right = is_right(d, bth, &ids.fields(fields, d.index));
    if !right && d.index != 0 && fields.id().is_some() {
        // What is found out is so of those behind it, too.
        right = is_right(d, bth, &ids.other().fields(fields, d.index));
        if right {
            *ids = ids.other();
        }
    }
    if !right {
        dev.counters.count(Counter::CrcErrors);
    }
    right
}

/// Whether the ICRC is right, with these fields of the IP header.
fn is_right(d: &Datagram<'_>, bth: &Bth, fields: &IpFields) -> bool {
    let mut sum = [0; ICRC_LEN];
    let chunk = d.chunk();
    let Some(end) = d.len.checked_sub(ICRC_LEN).filter(|end| *end >= BTH_LEN) else {
        return false;
    };
    if chunk.copy_to_slice(end, &mut sum).is_err() {
        return false;
    }
    let ports = (d.src_port, d.dst_port);
    icrc::is_right_of::<KernelCrc>(fields, ports, d.len, bth, sum, |crc| {
        chunk.crc32(BTH_LEN, end - BTH_LEN, crc)
    })
}

/// A packet whose ICRC is right, for a QP that was entered.
fn deliver(qp: &Arc<Qp>, d: &Datagram<'_>, r: &Received, batch: &mut Batch) {
    match qp.roce().map(|roce| roce.kind) {
        Some(QpKind::Rc | QpKind::Uc) => connected(qp, d, r, batch),
        Some(QpKind::Ud | QpKind::Gsi) => datagram::received(qp, d, r),
        None => {}
    }
}

/// The same for one of a group, which was not.
fn deliver_one(qp: &Arc<Qp>, d: &Datagram<'_>, r: &Received) {
    if let Some(Target { qp, batch }) = &mut Target::new(qp.clone()) {
        deliver(qp, d, r, batch);
    }
}

/// A packet for a group: every QP of it gets it that belongs to the link by which it came; where these are
/// many, later.
fn multicast(
    links: &Links,
    d: &Datagram<'_>,
    (r, bth): (&Received, &Bth),
    fields: &IpFields,
    ids: &mut Ids,
) {
    let here = |dev: &Arc<Device>| (dev.netdev.ifindex() == d.ifindex).then(|| dev.clone());
    let Some(dev) = links.find(here) else {
        return;
    };
    if !arrives(&dev, d, bth, fields, ids) {
        return;
    }
    dev.traffic.received(1, d.len, true);
    // Longer than any datagram: nobody takes it, and it is not to be kept.
    if r.payload_len > Mtu::MAX.bytes() as usize {
        return;
    }
    dev.to_group(
        &gid_of_ip(&fields.dst()),
        || d.keep(),
        |qp| deliver_one(qp, d, r),
    );
}

/// Delivers what was put off, as the budget allows. Process context.
pub(super) fn late(dev: &Arc<Device>) {
    let mut left = LATE;
    while let Some((gid, kept)) = dev.groups.take_late() {
        let d = kept.get();
        if let Some((r, _)) = parse(d) {
            dev.to_group_late(&gid, |qp| {
                deliver_one(qp, d, &r);
                cond_resched();
            });
        }
        drop(kept);
        left = left.saturating_sub(1);
        if !dev.late_done(left == 0) {
            return;
        }
    }
}

/// The QP that a packet from `src` to `dst` is for.
fn qp_of(links: &Links, qpn: u32, src: &IpAddr, dst: &IpAddr) -> Option<Arc<Qp>> {
    if qpn == QPN_GSI {
        return links.gsi(&gid_of_ip(dst));
    }
    let qp = links.qp(qpn)?;
    let roce = qp.roce()?;
    // A connection is one of two addresses.
    let av = roce.path().av;
    (roce.kind.is_datagram() || (av.src == *dst && av.dst == *src)).then_some(qp)
}

/// A packet for a connected QP.
fn connected(qp: &Arc<Qp>, d: &Datagram<'_>, r: &Received, batch: &mut Batch) {
    let Some(roce) = qp.roce() else {
        return;
    };
    let mut connected = roce.connected.lock();
    if qp.state() == QpState::Rtr && !connected.established && connected.responder.is_due(r) {
        // The first packet of a peer that is ahead of the consumer (section 11.6.3), before it leads to anything.
        connected.established = true;
        drop(connected);
        qp.handle.established();
        connected = roce.connected.lock();
    }
    let c = &mut *connected;
    // With the lock held, which a reset takes after it has changed the state.
    let state = qp.state();
    if r.packet.opcode.is_request() {
        if matches!(
            state,
            QpState::Rtr | QpState::Rts | QpState::Sqd | QpState::Sqe
        ) {
            request(qp, c, d, r, &mut batch.held);
        }
    } else if matches!(state, QpState::Rts | QpState::Sqd) {
        answered(qp, c, d, r, batch);
    }
    batch.due |= c.has_to_send(qp.state());
}

/// Why a request is not executed.
enum Refusal {
    /// There is no receive.
    NotReady,
    /// The peer is told this, the consumer that.
    Nak(Nak, Cause),
}

fn request(qp: &Arc<Qp>, c: &mut Connected, d: &Datagram<'_>, r: &Received, held: &mut Held) {
    loop {
        match c.responder.receive(r) {
            Verdict::Drop | Verdict::Repeat => return,
            Verdict::Invalid => return qp.fail(Cause::Request),
            Verdict::Abandon => {
                // The receive of the message that is lost is taken for the next one.
                continue;
            }
            Verdict::Execute(step) => {
                match execute(qp, c, d, r, &step, held) {
                    Ok(result) => {
                        if c.responder.accept(r, &step, result).is_err() {
                            qp.fail(Cause::Request);
                        }
                    }
                    Err(Refusal::NotReady) => {
                        let timer = qp.roce().map_or(0, |q| q.path().attr.min_rnr_timer);
                        let now = time::monotonic_raw_ns();
                        if c.responder.finds_no_receive(timer, now) {
                            qp.dev.counters.count(Counter::ReceiverNotReady);
                        }
                        c.responder.not_ready(timer);
                    }
                    // Of UC nobody is told: the message is lost (section 9.8.2.2), and its receive is the next
                    // one's. What fails here and is not the peer's doing is fatal all the same.
                    Err(Refusal::Nak(_, Cause::Access | Cause::Request)) if c.responder.is_uc() => {
                        c.responder.lose_message();
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

fn denied(qp: &Qp, why: Denied) -> Refusal {
    qp.dev.counters.count(Counter::AccessErrors);
    match why {
        Denied::Unaligned => Refusal::Nak(Nak::InvalidRequest, Cause::Request),
        _ => Refusal::Nak(Nak::RemoteAccess, Cause::Access),
    }
}

/// Whether the QP has all of these rights. An operation that it was not set up for is no violation of
/// memory, but a request that makes no sense (IBTA volume 1, section 9.9.3: "unsupported or reserved
/// opcode").
fn permits(qp: &Qp, rights: u32) -> Result<(), Refusal> {
    if qp.access() & rights == rights {
        return Ok(());
    }
    qp.dev.counters.count(Counter::AccessErrors);
    Err(Refusal::Nak(Nak::InvalidRequest, Cause::Request))
}

/// The peer's access to memory of ours.
fn remote(qp: &Qp, m: &Remote, len: usize, need: Access) -> Result<Span, Refusal> {
    Span::find(qp, (Whose::Peers, m.rkey), m.va, len as u64, need).map_err(|e| denied(qp, e))
}

fn execute(
    qp: &Arc<Qp>,
    c: &mut Connected,
    d: &Datagram<'_>,
    r: &Received,
    step: &Step,
    held: &mut Held,
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
                if c.responder.is_uc() {
                    return Err(Refusal::Nak(Nak::InvalidRequest, Cause::Request));
                }
                c.have_recv = false;
                let _ = qp.push_recv_error(c.recv.wr_id, status::LOC_LEN_ERR);
                return Err(Refusal::Nak(Nak::InvalidRequest, Cause::Request));
            }
            let sges = c.recv.sges();
            let find = |at| locate(sges, at);
            let chunk = d.chunk();
            let at = u64::from(offset);
            let placed = scatter(held, qp, qp.recv_pd(), find, at, &chunk, from, len, None);
            if placed.is_err() {
                c.have_recv = false;
                let told = qp.push_recv_error(c.recv.wr_id, status::LOC_PROT_ERR);
                let cause = Cause::of_failed_work(told.is_ok());
                return Err(Refusal::Nak(Nak::RemoteOperation, cause));
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
            permits(qp, access::REMOTE_WRITE)?;
            let key = (Whose::Peers, m.rkey);
            if place.begins() && m.length > 0 {
                // All of it, before the first byte.
                let all = m.length as usize;
                held.check(qp, key, m.va, all, Access::RemoteWrite)
                    .map_err(|e| denied(qp, e))?;
            }
            if imm {
                take_recv(qp, c)?;
            }
            if len > 0 {
                let va = m.va.wrapping_add(u64::from(offset));
                held.place(
                    qp,
                    key,
                    va,
                    Access::RemoteWrite,
                    &d.chunk(),
                    from,
                    len,
                    None,
                )
                .map_err(|e| denied(qp, e))?;
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
            permits(qp, access::REMOTE_READ)?;
            if m.length > 0 {
                let all = m.length as usize;
                held.check(qp, (Whose::Peers, m.rkey), m.va, all, Access::RemoteRead)
                    .map_err(|e| denied(qp, e))?;
            }
            Ok(0)
        }
        Step::CmpSwp(a) => atomic(qp, &a, AtomicOp::cmp_swp(a.compare, a.swap_add)),
        Step::FetchAdd(a) => atomic(qp, &a, AtomicOp::fetch_add(a.swap_add)),
        Step::AtomicWrite(m) => {
            permits(qp, access::REMOTE_WRITE)?;
            let span = remote(qp, &m, len, Access::RemoteWrite)?;
            let mut bytes = [0; size_of::<u64>()];
            let copied = d.chunk().copy_to_slice(from, &mut bytes);
            if copied.is_err() || m.va % 8 != 0 {
                return Err(denied(qp, Denied::Unaligned));
            }
            at_once(qp, &span, AtomicOp::Store(u64::from_ne_bytes(bytes))).map(|_| 0)
        }
        Step::Flush(kind, m) => flush(qp, kind, &m).map(|()| 0),
    }
}

/// An atomic of the peer; gives what was there before.
fn atomic(qp: &Qp, a: &Atomic, op: AtomicOp) -> Result<u64, Refusal> {
    permits(qp, access::REMOTE_ATOMIC)?;
    let m = Remote {
        va: a.va,
        rkey: a.rkey,
        length: size_of::<u64>() as u32,
    };
    let span = remote(qp, &m, size_of::<u64>(), Access::RemoteAtomic)?;
    at_once(qp, &span, op)
}

/// One access to the 8 bytes of a span. An aligned address need not be one of aligned memory.
fn at_once(qp: &Qp, span: &Span, op: AtomicOp) -> Result<u64, Refusal> {
    span.atomic(0, op).map_err(|e| {
        denied(
            qp,
            if e == EINVAL {
                Denied::Unaligned
            } else {
                Denied::Bounds
            },
        )
    })
}

/// A FLUSH of the peer (annex A19). What came before it was placed as it came.
fn flush(qp: &Qp, kind: FlushKind, m: &Remote) -> Result<(), Refusal> {
    let mut rights = Rights::default();
    if kind.global {
        rights = rights.with(Rights::FLUSH_GLOBAL);
    }
    if kind.persistent {
        rights = rights.with(Rights::FLUSH_PERSISTENT);
    }
    permits(qp, rights.0)?;
    let need = Access::RemoteFlush(rights);
    let span = if kind.whole {
        Span::whole(qp, m.rkey, need).map_err(|e| denied(qp, e))?
    } else {
        remote(qp, m, m.length as usize, need)?
    };
    span.flush();
    Ok(())
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
            let told = qp.push_bad_recv(wr_id, status::LOC_QP_OP_ERR, error.vendor_err());
            Err(Refusal::Nak(
                Nak::RemoteOperation,
                Cause::of_failed_work(told.is_ok()),
            ))
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
fn answered(qp: &Arc<Qp>, c: &mut Connected, d: &Datagram<'_>, r: &Received, batch: &mut Batch) {
    let p = &r.packet;
    let effect = match p.opcode.op {
        Op::Acknowledge => match Syndrome::from_number(p.syndrome) {
            Some(syndrome) => c.requester.acknowledged(p.psn, syndrome),
            None => Effect::None,
        },
        // (One from the middle has no AETH, and says nothing.)
        Op::ReadResponse(_) | Op::AtomicAcknowledge
            if Syndrome::from_number(p.syndrome) != Some(Syndrome::Ack) =>
        {
            c.requester.contradictory_response(p.psn)
        }
        Op::ReadResponse(place) => {
            let len = r.payload_len as u32;
            c.requester.read_response(p.psn, place, len)
        }
        Op::AtomicAcknowledge => c.requester.atomic_response(p.psn),
        _ => Effect::None,
    };
    match effect {
        Effect::None => return,
        Effect::Progress => c.heard = batch.now(),
        Effect::Rnr(timer) => {
            c.heard = time::monotonic_raw_ns();
            c.not_before = c.heard + u64::from(rnr_timer_us(timer)) * 1000;
            if let Some(roce) = qp.roce() {
                super::timer::arm(qp, c, &roce.path());
            }
        }
        Effect::Place { cookie, offset } => {
            c.heard = batch.now();
            if !place(qp, c, d, r, (cookie, offset), &mut batch.held) {
                return fail(qp, c, status::LOC_PROT_ERR);
            }
            c.requester.placed(p.psn);
        }
        Effect::Failed(status) => return fail(qp, c, status),
    }
    complete(qp, c);
}

/// Puts what a read brought, or what was there before an atomic, where the work request says.
fn place(
    qp: &Arc<Qp>,
    c: &Connected,
    d: &Datagram<'_>,
    r: &Received,
    (number, offset): (u32, u32),
    held: &mut Held,
) -> bool {
    let Some(wqe) = c.shadow.work(number, &qp.limits) else {
        return false;
    };
    let Data::Sges(list) = wqe.data else {
        return false;
    };
    let find = |at| locate_in(&list, at);
    if r.packet.opcode.op == Op::AtomicAcknowledge {
        // A number on the wire, and in memory one of this machine.
        let bytes = r.packet.original.to_ne_bytes();
        return scatter_bytes_by(qp, qp.pd.id, find, &bytes).is_ok();
    }
    let (chunk, at) = (d.chunk(), u64::from(offset));
    let (from, len) = (r.payload_at, r.payload_len);
    scatter(held, qp, qp.pd.id, find, at, &chunk, from, len, None).is_ok()
}

/// The oldest work request fails, and the QP with it. (One that could not be executed has its own status.)
pub(super) fn fail(qp: &Arc<Qp>, c: &mut Connected, status: u8) {
    complete(qp, c);
    if let Some(request) = c.requester.oldest() {
        qp.sent.lock().done(request.cookie, status);
    }
    qp.fail_by_send();
}
