// SPDX-License-Identifier: GPL-2.0

//! iWARP: RDMAP and DDP over MPA over TCP (RFC 5040, 5041, 5044, 6580, 6581, 7306).

#![forbid(unsafe_code)]

use super::{NewQp, Transport, TransportQp};
use crate::device::Device;
use crate::kapi::abi::CAP_ATOMIC_IMM;
use crate::kapi::rdma::attr::{PortImmutable, Protocol};
use crate::kapi::rdma::qp::{mtu_to_enum, QpState};
use crate::kapi::rdma::qp_attr::QpAttr;
use crate::kapi::sync::Turn;
use crate::qp::Qp;
use kernel::prelude::*;
use kernel::sync::Arc;

pub(crate) mod cm;
pub(crate) mod rx;
pub(crate) mod stream;
pub(crate) mod tx;

use stream::Stream;

/// Inbound and outbound reads and atomics of a QP.
pub(crate) const MAX_RD_ATOM: u32 = 128;

/// The iWARP transport.
pub(crate) struct Iwarp;

/// The one object of it.
pub(crate) static IWARP: Iwarp = Iwarp;

impl Transport for Iwarp {
    fn protocol(&self) -> Protocol {
        Protocol::Iwarp
    }

    fn guid_tag(&self) -> [u8; 2] {
        [0xff, 0xfe]
    }

    fn port_immutable(&self) -> PortImmutable {
        PortImmutable {
            gid_table_len: 1,
            pkey_table_len: 0,
            protocol: Protocol::Iwarp,
        }
    }

    fn caps(&self) -> u64 {
        CAP_ATOMIC_IMM
    }

    fn max_rd_atom(&self) -> u32 {
        MAX_RD_ATOM
    }

    /// The IDLE of RNIC verbs is INIT to its users: receives may be posted at once.
    fn initial_state(&self) -> QpState {
        QpState::Init
    }

    fn path_mtu(&self, netdev_mtu: u32) -> u8 {
        mtu_to_enum(netdev_mtu)
    }

    fn new_qp(&self, _new: &NewQp) -> Result<TransportQp> {
        Ok(TransportQp::Iwarp(Stream::new()?))
    }

    fn modify(&self, _qp: &Arc<Qp>, _attr: &QpAttr<'_>, from: QpState, to: QpState) -> Result {
        if from == to {
            return Ok(());
        }
        match to {
            QpState::Init | QpState::Rtr => Ok(()),
            // Only a connection makes a QP ready to send.
            _ => Err(EINVAL),
        }
    }

    fn sqd_closes(&self) -> bool {
        true
    }

    fn drain(&self, qp: &Arc<Qp>, event: bool) {
        if let Some(qp) = qp.streaming() {
            qp.stream_drain(event);
        }
    }

    fn disconnect(&self, qp: &Arc<Qp>) {
        if let Some(qp) = qp.streaming() {
            qp.stream_abort();
        }
        cm::qp_goes(qp);
    }

    fn reset(&self, qp: &Arc<Qp>) -> Result {
        qp.streaming().ok_or(EINVAL)?.stream_reset()
    }

    fn run(&self, qp: &Arc<Qp>) -> Turn {
        qp.streaming().map_or(Turn::Done, |qp| qp.stream_run())
    }

    fn read(&self, qp: &Arc<Qp>) {
        if let Some(qp) = qp.streaming() {
            qp.stream_read();
        }
    }

    fn destroy_qp(&self, qp: &Arc<Qp>) {
        if let Some(qp) = qp.streaming() {
            qp.stream_forget();
        }
    }

    fn netdev_leaves(&self, dev: &Device) {
        cm::netdev_leaves(dev);
    }

    fn netdev_arrives(&self, dev: &Arc<Device>) -> Result {
        cm::netdev_arrives(dev);
        Ok(())
    }

    fn device_goes(&self, dev: &Device) {
        cm::device_goes(dev);
    }
}
