// SPDX-License-Identifier: GPL-2.0

//! RoCEv2: the InfiniBand transport over UDP (IBTA volume 1, chapter 9 and annex A17).
//!
//! SEND and WRITE of RC and UC QPs; READ, atomics, ATOMIC WRITE and FLUSH of RC QPs; SEND of UD QPs, multicast too,
//! and the GSI for ib_cm.

#![forbid(unsafe_code)]

use super::{NewQp, Transport, TransportQp};
use crate::device::Device;
use crate::kapi::net::errno::NetError;
use crate::kapi::rdma::attr::{PortImmutable, Protocol};
use crate::kapi::rdma::qp::QpState;
use crate::kapi::rdma::qp_attr::{QpAttr, QpQuery};
use crate::kapi::sync::Turn;
use crate::mcast::MAX_MEMBERS;
use crate::proto::ib::cut::Mtu;
use crate::proto::wire::ib::QPN_GSI;
use crate::qp::{Cause, Qp};
use kernel::prelude::*;
use kernel::sync::Arc;

mod connected;
mod datagram;
mod lanes;
pub(crate) mod ns;
pub(crate) mod out;
mod packet;
mod qp;
mod receive;
mod send;
mod timer;

pub(crate) use qp::RoceQp;

/// Inbound and outbound reads of a QP: a power of two.
pub(crate) const MAX_RD_ATOM: u32 = 128;
/// Address handles of a device.
const MAX_AH: u32 = 1 << 20;
/// Bytes of a packet besides its payload, at most: IPv6, UDP, BTH, RETH, immediate data, ICRC.
const OVERHEAD: u32 = 40 + 8 + 12 + 16 + 4 + 4;

/// Whether somebody else has the UDP port.
fn is_taken(e: Error) -> bool {
    e == Error::from(NetError::AddrInUse)
}

/// Says so, with what follows from it: of the error alone, which is what `rdma link add` shows, nobody knows what is in
/// use, and by whom.
fn say_taken(dev: &Device, so: &str) {
    pr_warn!(
        "{}: UDP port 4791 is taken in its network namespace, {so}: remove the links of rxe, or whatever else has it\n",
        dev.netdev.name()
    );
}

/// The RoCEv2 transport.
pub(crate) struct Roce;

/// The one object of it.
pub(crate) static ROCE: Roce = Roce;

impl Transport for Roce {
    fn protocol(&self) -> Protocol {
        Protocol::Roce
    }

    fn guid_tag(&self) -> [u8; 2] {
        [0xff, 0xfd]
    }

    fn port_immutable(&self) -> PortImmutable {
        PortImmutable {
            gid_table_len: 1024,
            pkey_table_len: 1,
            protocol: Protocol::Roce,
        }
    }

    fn caps(&self) -> u64 {
        0
    }

    fn max_rd_atom(&self) -> u32 {
        MAX_RD_ATOM
    }

    fn initial_state(&self) -> QpState {
        QpState::Reset
    }

    fn path_mtu(&self, netdev_mtu: u32) -> u8 {
        Mtu::fitting(netdev_mtu.saturating_sub(OVERHEAD)).to_enum()
    }

    fn users_come(&self, dev: &Device) {
        if let Some(gsi) = dev.qps.get(QPN_GSI) {
            datagram::begin_reception(&gsi);
        }
    }

    fn users_go(&self, dev: &Device) {
        if let Some(gsi) = dev.qps.get(QPN_GSI) {
            datagram::end_reception(&gsi);
        }
    }

    fn new_qp(&self, new: &NewQp) -> Result<TransportQp> {
        Ok(TransportQp::Roce(RoceQp::new(
            new.kind,
            new.sq_wr,
            new.wr_units,
        )?))
    }

    fn check(&self, qp: &Qp, attr: &QpAttr<'_>, from: QpState, to: QpState) -> Result {
        let kind = qp.roce().ok_or(EINVAL)?.kind;
        if attr.is_allowed(kind, from, to) {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    fn modify(&self, qp: &Arc<Qp>, attr: &QpAttr<'_>, from: QpState, to: QpState) -> Result {
        qp.roce_modify(attr, from, to)
    }

    fn resume(&self, qp: &Arc<Qp>) {
        qp.roce_resume();
    }

    fn query(&self, qp: &Qp, query: &mut QpQuery) {
        qp.roce_query(query);
    }

    fn drain(&self, qp: &Arc<Qp>, event: bool) {
        qp.roce_drain(event);
    }

    fn disconnect(&self, _qp: &Arc<Qp>) {}

    fn reset(&self, qp: &Arc<Qp>) -> Result {
        qp.roce_reset();
        Ok(())
    }

    fn run(&self, qp: &Arc<Qp>) -> Turn {
        qp.roce_work()
    }

    fn timer(&self, qp: &Arc<Qp>) {
        timer::fired(qp);
    }

    fn destroy_qp(&self, qp: &Arc<Qp>) {
        qp.roce_forget();
    }

    fn link_begins(&self, dev: &Arc<Device>) -> Result {
        ns::begin(dev).inspect_err(|e| {
            if is_taken(*e) {
                say_taken(dev, "no link is made");
            }
        })
    }

    fn netdev_leaves(&self, dev: &Device) {
        ns::leave(dev);
        dev.qps.for_each(|qp| {
            // Management goes on where the netdev arrives.
            if qp.number != QPN_GSI {
                qp.fail(Cause::Fatal);
            }
        });
    }

    fn netdev_goes(&self, dev: &Device) {
        // A namespace that ends waits for its sockets.
        ns::leave(dev);
    }

    fn netdev_arrives(&self, dev: &Arc<Device>) -> Result {
        ns::arrive(dev).inspect_err(|e| {
            let so = "the port of its link is down";
            if is_taken(*e) {
                say_taken(dev, so);
            } else {
                pr_warn!("{}: UDP port 4791: {e:?}: {so}\n", dev.netdev.name());
            }
        })
    }

    fn device_goes(&self, dev: &Device) {
        ns::end(dev);
        dev.groups.close();
    }

    fn max_ah(&self) -> u32 {
        MAX_AH
    }

    fn max_mcast(&self) -> u32 {
        MAX_MEMBERS
    }

    fn counts_packets(&self) -> bool {
        true
    }

    fn deliver_late(&self, dev: &Arc<Device>) {
        receive::late(dev);
    }
}
