// SPDX-License-Identifier: GPL-2.0

//! Between a connection and the QP that its stream is for.

use crate::proto::iwarp::negotiate::{Agreed, RtrPlan};

/// What the two ends agreed upon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamParams {
    /// This end began.
    pub(crate) initiator: bool,
    /// FPDUs carry a CRC, in both directions.
    pub(crate) crc: bool,
    /// The peer wants markers.
    pub(crate) markers: bool,
    /// READs that the peer may have outstanding.
    pub(crate) ird: u32,
    /// READs that we may have outstanding.
    pub(crate) ord: u32,
    /// Who speaks first (RFC 6581 section 9.2).
    pub(crate) plan: RtrPlan,
}

impl StreamParams {
    /// From the result of the negotiation.
    pub(super) fn new(initiator: bool, agreed: &Agreed) -> Self {
        Self {
            initiator,
            crc: agreed.crc,
            markers: agreed.tx_markers,
            ird: u32::from(agreed.depths.ird),
            ord: u32::from(agreed.depths.ord),
            plan: agreed.rtr,
        }
    }
}

/// How a QP lets go of its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StreamEnd {
    /// In good order: everything that was posted is with TCP; a FIN follows it.
    Graceful,
    /// At once, with a RST.
    Abort,
    /// A Terminate message is the last that is with TCP; a FIN follows it.
    Terminated,
}
