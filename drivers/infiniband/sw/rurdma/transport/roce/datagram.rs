// SPDX-License-Identifier: GPL-2.0

//! UD and GSI QPs: each message is a packet, and each send names its peer (IBTA volume 1, section 9.8.3).

use super::out::{Out, Way};
use super::packet::source_port;
use super::qp::Path;
use super::send::{reject, Stop, Tx};
use crate::ah::Ah;
use crate::cq::{opcode, status, WC_GRH, WC_WITH_IMM};
use crate::kapi::net::udp::Datagram;
use crate::kapi::rdma::av::gid_of_ip;
use crate::kapi::rdma::qp::{QpKind, QpState};
use crate::kapi::rdma::stats::Counter;
use crate::mr::sges::{gather, locate, locate_in, scatter, scatter_bytes};
use crate::mr::Held;
use crate::proto::ib::cut::Mtu;
use crate::proto::serial::Psn;
use crate::proto::wire::ib::ip::{of_packet, IpFields, IPV4_LEN};
use crate::proto::wire::ib::opcode::{Extra, Op, Opcode, Place, Service};
use crate::proto::wire::ib::packet::{Datagram as Deth, Packet, Received};
use crate::proto::wqe::abi::{Cqe, VENDOR_ERR_FRAME};
use crate::proto::wqe::fetch::{next_send, FetchError};
use crate::proto::wqe::send::{Data, SendFlags, SendOp, SendWqe};
use crate::qp::{Cause, Qp, Record};
use crate::rq::{RecvWr, TakeError};
use kernel::prelude::*;
use kernel::sync::Arc;

/// Bytes in front of each datagram that is received: the GRH, or the IP header in its place.
const GRH_LEN: usize = 40;
/// A Q_Key with this bit stands for the sender QP's own (section 10.2.5).
const QKEY_CONTROLLED: u32 = 0x8000_0000;
/// `RDMA_NETWORK_IPV4` and `RDMA_NETWORK_IPV6`.
const NETWORK_IPV4: u8 = 2;
const NETWORK_IPV6: u8 = 3;
/// Of a completion: the datagram came by no VLAN.
const NO_VLAN: u16 = 0xffff;
/// The Q_Key of the GSI (section 10.2.5).
const QKEY_GSI: u32 = 0x8001_0000;

impl Tx {
    /// Adds the next datagram. `Err(Idle)`: there is none.
    pub(super) fn datagram(
        &mut self,
        qp: &Arc<Qp>,
        path: &Path,
        way: &mut Way<'_>,
        state: QpState,
    ) -> Result<(), Stop> {
        if state != QpState::Rts || !qp.sent.lock().has_room() {
            return Err(Stop::Idle);
        }
        let (buf, consumer, out, datagrams) = self.parts();
        let units = match next_send(&qp.sq, consumer, buf) {
            Ok(Some(units)) => units,
            Ok(None) => return Err(Stop::Idle),
            Err(FetchError::Index) => {
                qp.fail(Cause::Fatal);
                return Err(Stop::Failed);
            }
            Err(FetchError::Frame { wr_id }) => {
                let (s, v) = (status::LOC_QP_OP_ERR, VENDOR_ERR_FRAME);
                return Err(reject(qp, wr_id, 0, s, v));
            }
        };
        consumer.advance(units);
        let (record, done) = match SendWqe::parse(buf, &qp.limits) {
            Ok(wqe) if wqe.op == SendOp::Nop => {
                let mut sent = qp.sent.lock();
                sent.nop(units);
                qp.complete_sent(&mut sent);
                return Ok(());
            }
            Ok(wqe) => {
                let psn = Psn::new(path.attr.sq_psn).plus(*datagrams);
                let done = match transmit(qp, path, out, way, &wqe, psn) {
                    Ok(()) => {
                        *datagrams = datagrams.wrapping_add(1);
                        status::SUCCESS
                    }
                    // It is not sent now: as if it were lost on the way.
                    Err(Unsent::Lost) => status::SUCCESS,
                    Err(Unsent::Refused(status)) => status,
                };
                let record = Record {
                    wr_id: wqe.wr_id,
                    byte_len: wqe.length,
                    units: units as u8,
                    opcode: opcode::SEND,
                    signaled: wqe.flags.contains(SendFlags::SIGNALED),
                    ..Record::default()
                };
                (record, done)
            }
            Err(e) => {
                let record = Record {
                    wr_id: SendWqe::wr_id(buf),
                    units: units as u8,
                    vendor_err: e.vendor_err(),
                    ..Record::default()
                };
                (record, e.wc_status())
            }
        };
        let failed = done != status::SUCCESS;
        if failed {
            qp.send_fails();
        }
        let mut sent = qp.sent.lock();
        let number = sent.start(record);
        sent.done(number, done);
        let lost = qp.complete_sent(&mut sent);
        drop(sent);
        if lost {
            qp.fail(Cause::Fatal);
        }
        if lost || failed {
            return Err(Stop::Failed);
        }
        Ok(())
    }
}

enum Unsent {
    Lost,
    Refused(u8),
}

impl From<Error> for Unsent {
    fn from(_: Error) -> Self {
        Unsent::Lost
    }
}

fn transmit(
    qp: &Arc<Qp>,
    path: &Path,
    out: &mut Out,
    way: &mut Way<'_>,
    wqe: &SendWqe<'_>,
    psn: Psn,
) -> Result<(), Unsent> {
    let ud = wqe.ud.ok_or(Unsent::Refused(status::LOC_QP_OP_ERR))?;
    let ah: Arc<Ah> = qp
        .dev
        .ahs
        .get(ud.ah_handle)
        .filter(|ah| ah.pd == qp.pd.id)
        .ok_or(Unsent::Refused(status::LOC_QP_OP_ERR))?;
    let max = Mtu::fitting(qp.dev.netdev.mtu().saturating_sub(super::OVERHEAD));
    if wqe.length > max.bytes() {
        return Err(Unsent::Refused(status::LOC_LEN_ERR));
    }
    let (extra, value) = match wqe.op {
        SendOp::SendImm(imm) => (Extra::Imm, imm),
        _ => (Extra::None, 0),
    };
    let qkey = if ud.remote_qkey & QKEY_CONTROLLED != 0 {
        path.attr.qkey
    } else {
        ud.remote_qkey
    };
    let p = Packet {
        solicited: wqe.flags.contains(SendFlags::SOLICITED),
        datagram: Deth {
            qkey,
            src_qpn: qp.number,
        },
        extra: value,
        ..Packet::new(
            Opcode {
                service: Service::Ud,
                op: Op::Send(Place::Only, extra),
            },
            ud.remote_qpn,
            psn,
        )
    };
    let port = source_port(ah.av.flow_label, qp.number, ud.remote_qpn);
    let flow = (ah.av, port);
    let len = wqe.length as usize;
    if !out.admits(&flow, &p, len) {
        out.send(way);
    }
    out.add::<Unsent>(&flow, &p, len, |to| {
        match wqe.data {
            Data::Inline(data) => to.copy_from_slice(data.get(..to.len()).ok_or(Unsent::Lost)?),
            Data::Sges(list) => {
                let find = |at| locate_in(&list, at);
                gather(&mut Held::none(), qp, find, 0, to)
                    .map_err(|_| Unsent::Refused(status::LOC_PROT_ERR))?;
            }
        }
        Ok(())
    })
}

/// The core's agents that answer are there: the GSI receives. Process context.
pub(super) fn begin_reception(gsi: &Qp) {
    if let Some(roce) = gsi.roce() {
        roce.connected.lock().deaf = false;
    }
}

/// The core's agents are about to go, and nothing keeps one from going while the core answers with it
/// (`agent_send_response()` and `ib_agent_port_close()`, Linux 7.2): the GSI receives nothing more, and from the
/// return on the core handles nothing that it has received. It sends as before, for others say goodbye by it still.
/// Process context.
pub(super) fn end_reception(gsi: &Qp) {
    let Some(roce) = gsi.roce() else {
        return;
    };
    roce.connected.lock().deaf = true;
    gsi.recv_cq.flush_unpolled(gsi.number);
    gsi.recv_cq.settle();
}

/// A datagram has come.
pub(super) fn received(qp: &Arc<Qp>, d: &Datagram<'_>, r: &Received) {
    let Some(roce) = qp.roce() else {
        return;
    };
    let p = &r.packet;
    let Op::Send(_, extra) = p.opcode.op else {
        return;
    };
    let qkey = match roce.kind {
        QpKind::Gsi => QKEY_GSI,
        _ => roce.path().attr.qkey,
    };
    if p.opcode.service != Service::Ud
        || p.datagram.qkey != qkey
        || !matches!(
            qp.state(),
            QpState::Rtr | QpState::Rts | QpState::Sqd | QpState::Sqe
        )
    {
        return;
    }
    let vlan_id = vlan_of(qp, d);
    // One at a time: receives are used in the order of their completions.
    let mut connected = roce.connected.lock();
    let c = &mut *connected;
    if c.deaf {
        return;
    }
    let wr = &mut c.recv;
    if !c.have_recv {
        match qp.take_recv(wr) {
            Ok(()) => c.have_recv = true,
            Err(TakeError::Bad { wr_id, error }) => {
                let _ = qp.push_bad_recv(wr_id, status::LOC_QP_OP_ERR, error.vendor_err());
                return;
            }
            // Lost, as it might be on the way.
            Err(TakeError::Empty) => {
                qp.dev.counters.count(Counter::ReceiverNotReady);
                return;
            }
            Err(TakeError::Corrupt) => return,
        }
    }
    let total = GRH_LEN + r.payload_len;
    if total as u64 > wr.room {
        // Anybody may send it, and the QP is not to suffer: the receive is for the next one (section
        // 9.8.3.2.1: dropped).
        return;
    }
    c.have_recv = false;
    let mut cqe = Cqe {
        wr_id: wr.wr_id,
        byte_len: total as u32,
        qp_num: qp.number,
        src_qp: p.datagram.src_qpn,
        opcode: opcode::RECV,
        wc_flags: WC_GRH,
        vlan_id,
        network_hdr_type: if d.ip.len() == IPV4_LEN {
            NETWORK_IPV4
        } else {
            NETWORK_IPV6
        },
        ..Cqe::default()
    };
    if extra == Extra::Imm {
        cqe.wc_flags |= WC_WITH_IMM;
        cqe.imm_inv = p.extra;
    }
    cqe.status = if place(qp, wr, d, r) {
        status::SUCCESS
    } else {
        status::LOC_PROT_ERR
    };
    let lost = qp.recv_cq.push(&cqe, p.solicited).is_err();
    drop(connected);
    if lost || cqe.status != status::SUCCESS {
        qp.fail(Cause::of_failed_work(!lost));
    }
}

/// The VLAN of the address that the datagram is for, by which the core looks for that in its table when it
/// makes an address handle for the answer.
fn vlan_of(qp: &Qp, d: &Datagram<'_>) -> u16 {
    let dev = &qp.dev;
    // Where it came by the link's own netdev, and that is a card, there is nothing to look for.
    if d.ifindex == dev.netdev.ifindex() && !dev.netdev.has_lower() {
        return NO_VLAN;
    }
    IpFields::read(d.ip).map_or(NO_VLAN, |ip| dev.handle.vlan_of_gid(&gid_of_ip(&ip.dst())))
}

/// Header and payload into the receive.
fn place(qp: &Qp, wr: &RecvWr, d: &Datagram<'_>, r: &Received) -> bool {
    let find = |at| locate(wr.sges(), at);
    let chunk = d.chunk();
    let pd = qp.recv_pd();
    // As if it had come alone. An IPv4 header stands in the second half.
    let Some(grh) = of_packet(d.ip, d.index, d.len) else {
        return false;
    };
    scatter_bytes(qp, pd, wr.sges(), &grh).is_ok()
        && scatter(
            &mut Held::none(),
            qp,
            pd,
            find,
            GRH_LEN as u64,
            &chunk,
            r.payload_at,
            r.payload_len,
            None,
        )
        .is_ok()
}
