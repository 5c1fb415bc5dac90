// SPDX-License-Identifier: GPL-2.0

//! Layouts and numbers of `rurdma-abi.h`.
//!
//! Written down here a second time so that the host crate needs no bindgen; the kernel side asserts
//! that both agree.

#![forbid(unsafe_code)]

use core::mem::{offset_of, size_of};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `RURDMA_WQE_UNIT`: bytes of a send queue unit.
pub const WQE_UNIT: usize = 64;
/// `RURDMA_SEND_HDR`: bytes before SGEs, inline data or extension.
pub const SEND_HDR: usize = 32;
/// `RURDMA_SEND_EXT`: bytes of an extension.
pub const SEND_EXT: usize = 32;
/// `RURDMA_RECV_HDR`: bytes before the SGEs.
pub const RECV_HDR: usize = 16;
/// `RURDMA_SGE_SIZE`.
pub const SGE_SIZE: usize = 16;
/// `RURDMA_CQE_SIZE`.
pub const CQE_SIZE: usize = 64;
/// `RURDMA_MAX_SGE`.
pub const MAX_SGE: usize = 32;
/// `RURDMA_MAX_INLINE`.
pub const MAX_INLINE: usize = 512;
/// `RURDMA_MAX_SEND_UNITS`.
pub const MAX_SEND_UNITS: usize = 9;
/// Bytes of the largest send entry.
pub const MAX_SEND_BYTES: usize = MAX_SEND_UNITS * WQE_UNIT;
/// Bytes of the largest receive entry.
pub const MAX_RECV_BYTES: usize = RECV_HDR + MAX_SGE * SGE_SIZE;
/// `RURDMA_CQE_PURGED`.
pub const CQE_PURGED: u8 = 0xff;

/// `RURDMA_VENDOR_ERR_FRAME`; the others of `enum rurdma_vendor_err` are of
/// [`WqeError`](super::WqeError).
pub const VENDOR_ERR_FRAME: u32 = 9;

/// `enum rurdma_send_opcode`.
pub mod opcode {
    /// Completes nothing, skipped.
    pub const NOP: u8 = 0;
    /// Send.
    pub const SEND: u8 = 1;
    /// Send with immediate data.
    pub const SEND_IMM: u8 = 2;
    /// Send with invalidate.
    pub const SEND_INV: u8 = 3;
    /// RDMA write.
    pub const WRITE: u8 = 4;
    /// RDMA write with immediate data.
    pub const WRITE_IMM: u8 = 5;
    /// RDMA read.
    pub const READ: u8 = 6;
    /// RDMA read that invalidates the local sink.
    pub const READ_INV: u8 = 7;
    /// Compare and swap.
    pub const CMP_SWP: u8 = 8;
    /// Fetch and add.
    pub const FETCH_ADD: u8 = 9;
    /// Local invalidate.
    pub const LOCAL_INV: u8 = 10;
    /// Fast registration.
    pub const REG_MR: u8 = 11;
    /// Bind a memory window.
    pub const BIND_MW: u8 = 12;
    /// Atomic write.
    pub const ATOMIC_WRITE: u8 = 13;
    /// Flush.
    pub const FLUSH: u8 = 14;
}

/// `struct rurdma_send_wqe`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SendHdr {
    /// Returned in the completion.
    pub wr_id: u64,
    /// One of [`opcode`].
    pub opcode: u8,
    /// `enum rurdma_send_flags`.
    pub flags: u8,
    /// SGEs that follow.
    pub num_sge: u8,
    /// Units of the whole entry.
    pub units: u8,
    /// Immediate data or key to invalidate.
    pub imm_inv: u32,
    /// Remote address.
    pub remote_addr: u64,
    /// Remote key.
    pub rkey: u32,
    /// Bytes of inline data.
    pub inline_len: u32,
}

/// `struct rurdma_ext_atomic`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct ExtAtomic {
    /// Compare value, or what to add.
    pub compare_add: u64,
    /// Value to swap in.
    pub swap: u64,
    /// Not looked at.
    pub compare_add_mask: u64,
    /// Not looked at.
    pub swap_mask: u64,
}

/// `struct rurdma_ext_ud`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct ExtUd {
    /// Address handle.
    pub ah_handle: u32,
    /// Destination QP.
    pub remote_qpn: u32,
    /// Its queue key.
    pub remote_qkey: u32,
    /// Zero.
    pub reserved: [u32; 5],
}

/// `struct rurdma_ext_bind`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct ExtBind {
    /// First address of the window.
    pub addr: u64,
    /// Its length.
    pub length: u64,
    /// The region it is bound to.
    pub mr_lkey: u32,
    /// `enum ib_access_flags`.
    pub access: u32,
    /// The key it gets.
    pub new_rkey: u32,
    /// Zero.
    pub reserved: u32,
}

/// `struct rurdma_ext_reg`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct ExtReg {
    /// `enum ib_access_flags`.
    pub access: u32,
    /// Zero.
    pub reserved: [u32; 7],
}

/// `struct rurdma_ext_flush`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct ExtFlush {
    /// Bytes to flush.
    pub length: u64,
    /// Bit 0: global visibility, bit 1: persistence.
    pub kind: u8,
    /// 0: range, 1: memory region.
    pub level: u8,
    /// Zero.
    pub reserved: [u8; 22],
}

/// `struct rurdma_sge`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Sge {
    /// First byte.
    pub addr: u64,
    /// Number of bytes.
    pub length: u32,
    /// Key of the memory.
    pub lkey: u32,
}

/// `struct rurdma_recv_wqe`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RecvHdr {
    /// Returned in the completion.
    pub wr_id: u64,
    /// SGEs that follow.
    pub num_sge: u32,
    /// Zero.
    pub reserved: u32,
}

/// `struct rurdma_cqe`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Cqe {
    /// Of the work request.
    pub wr_id: u64,
    /// Nanoseconds, `CLOCK_MONOTONIC_RAW`.
    pub timestamp: u64,
    /// Bytes transferred.
    pub byte_len: u32,
    /// The local QP.
    pub qp_num: u32,
    /// Immediate data or invalidated key.
    pub imm_inv: u32,
    /// The sender's QP.
    pub src_qp: u32,
    /// Our own reason.
    pub vendor_err: u32,
    /// `enum ibv_wc_flags`.
    pub wc_flags: u16,
    /// 0xffff: none.
    pub vlan_id: u16,
    /// `enum ibv_wc_status`.
    pub status: u8,
    /// `enum ibv_wc_opcode`.
    pub opcode: u8,
    /// `enum rdma_network_type`.
    pub network_hdr_type: u8,
    /// Service level.
    pub sl: u8,
    /// Source MAC address.
    pub smac: [u8; 6],
    /// P_Key index.
    pub pkey_index: u16,
    /// Zero.
    pub reserved: [u8; 12],
}

const _: () = {
    assert!(size_of::<SendHdr>() == SEND_HDR);
    assert!(offset_of!(SendHdr, units) == 11);
    assert!(offset_of!(SendHdr, imm_inv) == 12);
    assert!(offset_of!(SendHdr, remote_addr) == 16);
    assert!(offset_of!(SendHdr, inline_len) == 28);
    assert!(size_of::<ExtAtomic>() == SEND_EXT);
    assert!(size_of::<ExtUd>() == SEND_EXT);
    assert!(size_of::<ExtBind>() == SEND_EXT);
    assert!(size_of::<ExtReg>() == SEND_EXT);
    assert!(size_of::<ExtFlush>() == SEND_EXT);
    assert!(size_of::<Sge>() == SGE_SIZE);
    assert!(size_of::<RecvHdr>() == RECV_HDR);
    assert!(size_of::<Cqe>() == CQE_SIZE);
    assert!(offset_of!(Cqe, vendor_err) == 32);
    assert!(offset_of!(Cqe, status) == 40);
    assert!(offset_of!(Cqe, pkey_index) == 50);
    assert!(SEND_HDR + SEND_EXT + MAX_SGE * SGE_SIZE <= MAX_SEND_BYTES);
    assert!(SEND_HDR + MAX_INLINE <= MAX_SEND_BYTES);
};
