// SPDX-License-Identifier: GPL-2.0

//! Headers (IBTA volume 1, sections 9.2 to 9.4; annex A19 for FETH).

#![forbid(unsafe_code)]

use core::mem::size_of;
use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The 24 low bits of a word: QP numbers, PSNs, MSNs.
pub const MASK_24: u32 = 0xff_ffff;

/// Base transport header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Bth {
    /// The opcode.
    pub opcode: u8,
    /// `BTH_*`: solicited event, migration state, pad count, version.
    pub flags: u8,
    /// The partition.
    pub pkey: U16,
    /// FECN, BECN, reserved, and the destination QP in 24 bits.
    pub qpn: U32,
    /// Acknowledge request, reserved, and the PSN in 24 bits.
    pub psn: U32,
}

/// SE: the receiver's completion is a solicited one.
pub const BTH_SOLICITED: u8 = 0x80;
/// M: the path has migrated. Without path migration it is set, as hardware does.
pub const BTH_MIGRATED: u8 = 0x40;
/// Bytes of pad.
pub const BTH_PAD: u8 = 0x30;
/// Where [`BTH_PAD`] stands.
pub const BTH_PAD_SHIFT: u32 = 4;
/// The transport version, of which there is one: 0.
pub const BTH_VERSION: u8 = 0x0f;
/// A: the requester asks for an acknowledge.
pub const BTH_ACK_REQUEST: u32 = 0x8000_0000;

/// RDMA extended transport header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Reth {
    /// First address.
    pub va: U64,
    /// The key.
    pub rkey: U32,
    /// Bytes of the message.
    pub length: U32,
}

/// Atomic extended transport header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct AtomicEth {
    /// The address.
    pub va: U64,
    /// The key.
    pub rkey: U32,
    /// What is swapped in, or added.
    pub swap_add: U64,
    /// What must be there for a swap.
    pub compare: U64,
}

/// Atomic acknowledge extended transport header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct AtomicAckEth {
    /// What was there before.
    pub original: U64,
}

/// Acknowledge extended transport header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Aeth {
    /// The syndrome, and the MSN in 24 bits.
    pub word: U32,
}

/// Datagram extended transport header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Deth {
    /// The Q_Key.
    pub qkey: U32,
    /// Reserved, and the source QP in 24 bits.
    pub src_qpn: U32,
}

/// Flush extended transport header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Feth {
    /// See [`FlushKind`](super::flush::FlushKind).
    pub word: U32,
}

/// Bytes of [`Bth`].
pub const BTH_LEN: usize = size_of::<Bth>();
/// Bytes of [`Reth`].
pub const RETH_LEN: usize = size_of::<Reth>();
/// Bytes of [`AtomicEth`].
pub const ATOMIC_ETH_LEN: usize = size_of::<AtomicEth>();
/// Bytes of [`AtomicAckEth`].
pub const ATOMIC_ACK_ETH_LEN: usize = size_of::<AtomicAckEth>();
/// Bytes of [`Aeth`].
pub const AETH_LEN: usize = size_of::<Aeth>();
/// Bytes of [`Deth`].
pub const DETH_LEN: usize = size_of::<Deth>();
/// Bytes of [`Feth`].
pub const FETH_LEN: usize = size_of::<Feth>();
/// Bytes of immediate data, and of an invalidate header.
pub const EXTRA_LEN: usize = size_of::<U32>();

const _: () = {
    assert!(BTH_LEN == 12);
    assert!(RETH_LEN == 16);
    assert!(ATOMIC_ETH_LEN == 28);
    assert!(ATOMIC_ACK_ETH_LEN == 8);
    assert!(AETH_LEN == 4);
    assert!(DETH_LEN == 8);
    assert!(FETH_LEN == 4);
};
