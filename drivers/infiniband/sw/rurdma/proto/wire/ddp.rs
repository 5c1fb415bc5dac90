// SPDX-License-Identifier: GPL-2.0

//! DDP segment headers, with the RDMAP control byte in them (RFC 5041 section 4, RFC 5040
//! section 4.1).

#![forbid(unsafe_code)]

use core::mem::size_of;
use zerocopy::byteorder::network_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// T: the segment addresses a tagged buffer.
pub const TAGGED: u8 = 0x80;
/// L: the last segment of its message.
pub const LAST: u8 = 0x40;
/// DV: the version bits.
pub const VERSION_MASK: u8 = 0x03;
/// The version of RFC 5041.
pub const VERSION: u8 = 1;

/// RV: the version bits of the RDMAP control byte.
pub const RDMAP_VERSION_MASK: u8 = 0xc0;
/// The version of RFC 5040.
pub const RDMAP_VERSION: u8 = 0x40;
/// The opcode bits of the RDMAP control byte.
pub const RDMAP_OPCODE_MASK: u8 = 0x0f;

/// Queue of sends and immediate data (RFC 5040 section 4.1, RFC 7306 section 4).
pub const QN_SEND: u32 = 0;
/// Queue of read and atomic requests.
pub const QN_READ_REQUEST: u32 = 1;
/// Queue of the terminate message.
pub const QN_TERMINATE: u32 = 2;
/// Queue of atomic responses.
pub const QN_ATOMIC_RESPONSE: u32 = 3;
/// Number of queues.
pub const QUEUES: usize = 4;

/// Header of a tagged segment (RFC 5041 section 4.2).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct TaggedHdr {
    /// T, L, DV.
    pub ddp: u8,
    /// RV, opcode.
    pub rdmap: u8,
    /// The buffer.
    pub stag: U32,
    /// Where in it.
    pub to: U64,
}

/// Header of an untagged segment (RFC 5041 section 4.3).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct UntaggedHdr {
    /// T, L, DV.
    pub ddp: u8,
    /// RV, opcode.
    pub rdmap: u8,
    /// STag to invalidate, or zero (RFC 5040 section 4.1).
    pub inv_stag: U32,
    /// Queue number.
    pub qn: U32,
    /// Message sequence number.
    pub msn: U32,
    /// Offset in the message.
    pub mo: U32,
}

/// Bytes of [`TaggedHdr`].
pub const TAGGED_LEN: usize = size_of::<TaggedHdr>();
/// Bytes of [`UntaggedHdr`].
pub const UNTAGGED_LEN: usize = size_of::<UntaggedHdr>();

/// The DDP control byte.
pub const fn ddp_control(tagged: bool, last: bool) -> u8 {
    VERSION | if tagged { TAGGED } else { 0 } | if last { LAST } else { 0 }
}

/// The RDMAP control byte.
pub const fn rdmap_control(opcode: u8) -> u8 {
    RDMAP_VERSION | (opcode & RDMAP_OPCODE_MASK)
}

const _: () = {
    assert!(TAGGED_LEN == 14);
    assert!(UNTAGGED_LEN == 18);
};
