// SPDX-License-Identifier: GPL-2.0

//! Attributes that the core asks a driver for, and constants of verbs.

use crate::bindings;
pub(crate) use crate::proto::verbs::Protocol;

/// What `query_device` and the device's limits are made of.
pub(crate) struct DeviceAttr {
    /// System image GUID, big endian as in `node_guid`.
    pub(crate) sys_image_guid: u64,
    /// Largest MR in bytes.
    pub(crate) max_mr_size: u64,
    /// QPs of a device.
    pub(crate) max_qp: u32,
    /// Work requests of a queue.
    pub(crate) max_qp_wr: u32,
    /// SGEs of a work request.
    pub(crate) max_sge: u32,
    /// SGEs of an RDMA READ.
    pub(crate) max_sge_rd: u32,
    /// CQs of a device.
    pub(crate) max_cq: u32,
    /// Entries of a CQ.
    pub(crate) max_cqe: u32,
    /// MRs of a device.
    pub(crate) max_mr: u32,
    /// Memory windows of a device.
    pub(crate) max_mw: u32,
    /// PDs of a device.
    pub(crate) max_pd: u32,
    /// Inbound and outbound reads of a QP.
    pub(crate) max_rd_atom: u32,
    /// Address handles of a device.
    pub(crate) max_ah: u32,
    /// Memberships of QPs in multicast groups: of the device, and of a group.
    pub(crate) max_mcast: u32,
    /// SRQs of a device.
    pub(crate) max_srq: u32,
    /// Work requests of an SRQ.
    pub(crate) max_srq_wr: u32,
    /// SGEs of an SRQ's work request.
    pub(crate) max_srq_sge: u32,
    /// Pages of a fast registration.
    pub(crate) max_fast_reg_pages: u32,
    /// P_Keys of a port.
    pub(crate) max_pkeys: u16,
    /// Work requests may be atomics. They are atomic to the CPU, too.
    pub(crate) atomics: bool,
    /// Work requests may be atomic writes.
    pub(crate) atomic_write: bool,
    /// Work requests may be flushes, of both types.
    pub(crate) flush: bool,
}

/// What `query_port` tells.
pub(crate) struct PortAttr {
    /// The link is up and has a carrier.
    pub(crate) active: bool,
    /// The netdev is administratively up.
    pub(crate) enabled: bool,
    /// MTU of the netdev in bytes.
    pub(crate) mtu: u32,
    /// `enum ib_mtu` of paths over it.
    pub(crate) path_mtu: u8,
    /// Largest message in bytes.
    pub(crate) max_msg: u32,
    /// Entries of the GID table.
    pub(crate) gid_table_len: i32,
    /// Entries of the P_Key table.
    pub(crate) pkey_table_len: u16,
    /// Connection management is that of IB: a CM MAD is spoken.
    pub(crate) cm_sup: bool,
}

/// What never changes about a port.
pub(crate) struct PortImmutable {
    /// Entries of the GID table.
    pub(crate) gid_table_len: i32,
    /// Entries of the P_Key table.
    pub(crate) pkey_table_len: i32,
    /// The wire protocol.
    pub(crate) protocol: Protocol,
}

/// Asynchronous events.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    /// The port became active.
    PortActive,
    /// The port went down.
    PortErr,
    /// The GID table changed.
    GidChange,
}

impl Event {
    pub(super) fn as_raw(self) -> bindings::ib_event_type {
        match self {
            Self::PortActive => bindings::ib_event_type_IB_EVENT_PORT_ACTIVE,
            Self::PortErr => bindings::ib_event_type_IB_EVENT_PORT_ERR,
            Self::GidChange => bindings::ib_event_type_IB_EVENT_GID_CHANGE,
        }
    }
}

/// `enum ib_access_flags`, those with a meaning for software.
pub(crate) mod access {
    use crate::bindings;

    /// The NIC may write.
    pub(crate) const LOCAL_WRITE: u32 = bindings::ib_access_flags_IB_ACCESS_LOCAL_WRITE;
    /// A peer may write.
    pub(crate) const REMOTE_WRITE: u32 = bindings::ib_access_flags_IB_ACCESS_REMOTE_WRITE;
    /// A peer may read.
    pub(crate) const REMOTE_READ: u32 = bindings::ib_access_flags_IB_ACCESS_REMOTE_READ;
    /// A peer may use atomic operations.
    pub(crate) const REMOTE_ATOMIC: u32 = bindings::ib_access_flags_IB_ACCESS_REMOTE_ATOMIC;
    /// Memory windows may be bound.
    pub(crate) const MW_BIND: u32 = bindings::ib_access_flags_IB_ACCESS_MW_BIND;
    /// A peer may make what it wrote visible to everybody (FLUSH).
    pub(crate) const FLUSH_GLOBAL: u32 = bindings::ib_access_flags_IB_ACCESS_FLUSH_GLOBAL;
    /// A peer may make what it wrote persistent (FLUSH).
    pub(crate) const FLUSH_PERSISTENT: u32 = bindings::ib_access_flags_IB_ACCESS_FLUSH_PERSISTENT;
    /// Addresses count from zero.
    pub(crate) const ZERO_BASED: u32 = bindings::ib_access_flags_IB_ZERO_BASED;
    /// The memory is of huge pages: a hint.
    pub(crate) const HUGETLB: u32 = bindings::ib_access_flags_IB_ACCESS_HUGETLB;
    /// Hints that software may ignore (`IB_ACCESS_OPTIONAL`).
    pub(crate) const OPTIONAL: u32 = bindings::ib_access_flags_IB_ACCESS_OPTIONAL;
    /// Everything a software device can serve.
    pub(crate) const SUPPORTED: u32 = LOCAL_WRITE
        | REMOTE_WRITE
        | REMOTE_READ
        | REMOTE_ATOMIC
        | MW_BIND
        | FLUSH_GLOBAL
        | FLUSH_PERSISTENT
        | ZERO_BASED
        | HUGETLB
        | OPTIONAL;
}
