// SPDX-License-Identifier: GPL-2.0

//! The one seam between verbs and the wire.

use crate::device::Device;
use crate::kapi::rdma::attr::{PortImmutable, Protocol};
use crate::kapi::rdma::qp::QpState;
use crate::qp::Qp;
use kernel::prelude::*;
use kernel::sync::Arc;

pub(crate) mod iwarp;

/// What the wire keeps for a QP.
pub(crate) enum TransportQp {
    /// iWARP: a stream over TCP.
    Iwarp(Pin<KBox<iwarp::stream::Stream>>),
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
    /// Operations that may be posted: bit n stands for opcode n (`enum rurdma_send_opcode`).
    fn send_ops(&self, user: bool) -> u32;
    /// State of a new QP.
    fn initial_state(&self) -> QpState;

    /// The wire's part of a new QP.
    fn new_qp(&self) -> Result<TransportQp>;
    /// The consumer asks for a transition that is legal for the verbs; the state changes after it.
    fn modify(&self, qp: &Arc<Qp>, from: QpState, to: QpState) -> Result;
    /// Finish what was posted, then close the connection (→ SQD).
    fn drain(&self, qp: &Arc<Qp>);
    /// End the connection; nothing is waited for. Any number of times.
    fn disconnect(&self, qp: &Arc<Qp>);
    /// Forget the old connection, and wait for whoever works on it; the state is RESET. Process
    /// context.
    fn reset(&self, qp: &Arc<Qp>) -> Result;
    /// There may be work: do it. In ERROR, flush the send queue. Process context.
    fn run(&self, qp: &Arc<Qp>);
    /// The QP is being destroyed; nobody works on it any more.
    fn destroy_qp(&self, qp: &Arc<Qp>);
    /// The netdev leaves its namespace: every connection ends. Process context.
    fn netdev_leaves(&self, dev: &Device);
    /// The netdev is in a namespace again. Process context.
    fn netdev_arrives(&self, dev: &Device);
    /// The device goes; waits until nothing of it is in use on the wire. Process context.
    fn device_goes(&self, dev: &Device);
}
