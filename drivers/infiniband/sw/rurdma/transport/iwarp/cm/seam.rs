// SPDX-License-Identifier: GPL-2.0

//! Between a connection and the QP that its stream is for.

use crate::proto::iwarp::negotiate::{Agreed, Rtr, RtrPlan, RtrSet};

/// Who says first that it is ready (RFC 6581 section 9.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RtrRole {
    /// Nobody in particular: the initiator's consumer has the first word.
    None,
    /// Initiator: this message leaves before anything else.
    Send(Rtr),
    /// Responder: one of these comes first; nothing may be sent before.
    Expect(RtrSet),
}

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
    /// Who speaks first.
    pub(crate) rtr: RtrRole,
    /// The plan that `rtr` comes from, which knows an indication when it sees one.
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
            rtr: match agreed.rtr {
                RtrPlan::ClientServer => RtrRole::None,
                RtrPlan::Send(rtr) => RtrRole::Send(rtr),
                RtrPlan::Expect(set) => RtrRole::Expect(set),
            },
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
