// SPDX-License-Identifier: GPL-2.0

//! Which QPs there are, and what may be posted to them: a matter of the transport.
//!
//! The table of work requests in `Documentation/infiniband/rurdma.rst` says the same; `tests/host/tests/verbs.rs`
//! compares the two.

#![forbid(unsafe_code)]

use super::wqe::send::{
    OPS_CONNECTED_KERNEL, OPS_IWARP, OPS_KERNEL, OPS_RC, OPS_RFC7306, OPS_UC, OPS_UD,
};

/// `enum ib_qp_type`, those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QpKind {
    /// Reliable connection.
    Rc,
    /// Unreliable connection.
    Uc,
    /// Unreliable datagram.
    Ud,
    /// The general services interface: QP 1, for MADs.
    Gsi,
}

impl QpKind {
    /// Whether each send names its peer.
    pub const fn is_datagram(self) -> bool {
        matches!(self, Self::Ud | Self::Gsi)
    }
}

/// Wire protocols of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// iWARP with iw_cm.
    Iwarp,
    /// RoCEv2 with ib_cm.
    Roce,
}

impl Protocol {
    /// Whether there are QPs of this type.
    pub const fn supports(self, kind: QpKind) -> bool {
        match self {
            Protocol::Iwarp => matches!(kind, QpKind::Rc),
            Protocol::Roce => true,
        }
    }

    /// Operations that may be posted to such a QP, by a process (`user`) or a kernel user: bit n stands for
    /// opcode n (`enum rurdma_send_opcode`). None to one that there is not.
    pub const fn send_ops(self, kind: QpKind, user: bool) -> u32 {
        let (all, kernel) = match (self, kind) {
            (Protocol::Iwarp, QpKind::Rc) => (OPS_IWARP | OPS_RFC7306, OPS_KERNEL),
            (Protocol::Iwarp, _) => (0, 0),
            (Protocol::Roce, QpKind::Rc) => (OPS_RC, OPS_CONNECTED_KERNEL),
            (Protocol::Roce, QpKind::Uc) => (OPS_UC, OPS_CONNECTED_KERNEL),
            (Protocol::Roce, QpKind::Ud | QpKind::Gsi) => (OPS_UD, 0),
        };
        if user {
            all
        } else {
            all | kernel
        }
    }
}
