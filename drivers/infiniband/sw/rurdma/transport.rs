// SPDX-License-Identifier: GPL-2.0

//! The one seam between verbs and the wire.

use crate::device::Device;
use crate::kapi::rdma::attr::{PortImmutable, Protocol};
use crate::kapi::rdma::qp::{QpKind, QpState};
use crate::kapi::rdma::qp_attr::{QpAttr, QpQuery};
use crate::kapi::sync::Turn;
use crate::qp::Qp;
use kernel::prelude::*;
use kernel::sync::Arc;

pub(crate) mod iwarp;
pub(crate) mod roce;

/// What the wire keeps for a QP.
pub(crate) enum TransportQp {
    /// iWARP: a stream over TCP.
    Iwarp(Pin<KBox<iwarp::stream::Stream>>),
    /// RoCEv2: packets over UDP.
    Roce(Pin<KBox<roce::RoceQp>>),
}

/// What the wire must know of a new QP.
pub(crate) struct NewQp {
    /// Its type.
    pub(crate) kind: QpKind,
    /// Work requests of the send queue.
    pub(crate) sq_wr: u32,
    /// Units of the largest of them.
    pub(crate) wr_units: u32,
}

/// What a wire protocol provides. One object for each protocol; a device has one for life.
pub(crate) trait Transport: Sync {
    /// The protocol.
    fn protocol(&self) -> Protocol;
    /// Middle bytes of the node GUID, different for each protocol.
    fn guid_tag(&self) -> [u8; 2];
    /// Properties of the port that never change.
    fn port_immutable(&self) -> PortImmutable;
    /// Capabilities for the provider (`enum rurdma_caps`), beyond those of all transports.
    fn caps(&self) -> u64;
    /// Reads of a QP, inbound and outbound.
    fn max_rd_atom(&self) -> u32;
    /// State of a new QP.
    fn initial_state(&self) -> QpState;

    /// `enum ib_mtu` of paths over a netdev with an MTU of so many bytes.
    fn path_mtu(&self, netdev_mtu: u32) -> u8;
    /// Address handles of a device.
    fn max_ah(&self) -> u32 {
        0
    }
    /// Memberships in multicast groups of a device.
    fn max_mcast(&self) -> u32 {
        0
    }
    /// Whether it counts its packets ([`Device::traffic`]).
    fn counts_packets(&self) -> bool {
        false
    }
    /// Deliver what was kept for that ([`Device::to_group`]). Process context.
    fn deliver_late(&self, _dev: &Arc<Device>) {}

    /// A link begins: it is entered, and about to be registered. Process context.
    fn link_begins(&self, _dev: &Arc<Device>) -> Result {
        Ok(())
    }
    /// The core's users of the device are there, its MAD services among them. Process context.
    fn users_come(&self, _dev: &Device) {}
    /// They are about to lose it: from the return on nothing that was received is on its way to the MAD services.
    /// Process context.
    fn users_go(&self, _dev: &Device) {}
    /// The wire's part of a new QP.
    fn new_qp(&self, new: &NewQp) -> Result<TransportQp>;
    /// Whether the attributes are those of this transition.
    fn check(&self, _qp: &Qp, _attr: &QpAttr<'_>, _from: QpState, _to: QpState) -> Result {
        Ok(())
    }
    /// The consumer asks for a transition that is legal for the verbs, or for other attributes; the state
    /// changes after it.
    fn modify(&self, qp: &Arc<Qp>, attr: &QpAttr<'_>, from: QpState, to: QpState) -> Result;
    /// SQE → RTS, the attributes are taken over: what was posted until now is flushed, what comes from now on is
    /// executed. The state changes here, for an engine goes by what it has seen of it. Process context.
    fn resume(&self, _qp: &Arc<Qp>) {}
    /// Adds what the wire keeps.
    fn query(&self, _qp: &Qp, _query: &mut QpQuery) {}
    /// Finish what was begun, or posted and then close the connection ([`Self::sqd_closes`]; → SQD); with `event`, the
    /// consumer is told.
    fn drain(&self, qp: &Arc<Qp>, event: bool);
    /// Whether SQD closes the connection.
    fn sqd_closes(&self) -> bool {
        false
    }
    /// End the connection; nothing is waited for. Any number of times.
    fn disconnect(&self, qp: &Arc<Qp>);
    /// Forget the old connection, and wait for whoever works on it; the state is RESET. Process
    /// context.
    fn reset(&self, qp: &Arc<Qp>) -> Result;
    /// There may be work: do it. In ERROR, flush the send queue. With `More`, the caller sees to another call.
    /// Process context.
    fn run(&self, qp: &Arc<Qp>) -> Turn;
    /// Place what has arrived and was left to the workqueue ([`Qp::queue_reader`]). Process context.
    fn read(&self, _qp: &Arc<Qp>) {}
    /// The QP's timer has run down. Process context.
    fn timer(&self, _qp: &Arc<Qp>) {}
    /// The QP is being destroyed; nobody works on it any more.
    fn destroy_qp(&self, qp: &Arc<Qp>);
    /// The netdev leaves its namespace: every connection ends. Process context.
    fn netdev_leaves(&self, dev: &Device);
    /// The netdev goes, and its namespace perhaps with it; the device follows. Process context.
    fn netdev_goes(&self, _dev: &Device) {}
    /// The netdev is in a namespace again. An error: nothing comes there. Process context.
    fn netdev_arrives(&self, dev: &Arc<Device>) -> Result;
    /// The device goes; waits until nothing of it is in use on the wire. Process context.
    fn device_goes(&self, dev: &Device);
}
