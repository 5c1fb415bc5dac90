// SPDX-License-Identifier: GPL-2.0

//! RDMAP opcodes and headers (RFC 5040 section 4, RFC 7306 sections 5 and 6).

#![forbid(unsafe_code)]

use super::ddp;
use crate::proto::atomic::AtomicOp;
use core::mem::size_of;
use zerocopy::byteorder::network_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// RDMAP message opcodes (RFC 5040 section 4.1, RFC 7306 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// RDMA Write.
    Write = 0,
    /// RDMA Read Request.
    ReadRequest = 1,
    /// RDMA Read Response.
    ReadResponse = 2,
    /// Send.
    Send = 3,
    /// Send with Invalidate.
    SendInv = 4,
    /// Send with Solicited Event.
    SendSe = 5,
    /// Send with Solicited Event and Invalidate.
    SendSeInv = 6,
    /// Terminate.
    Terminate = 7,
    /// Immediate Data.
    Immediate = 8,
    /// Immediate Data with Solicited Event.
    ImmediateSe = 9,
    /// Atomic Request.
    AtomicRequest = 10,
    /// Atomic Response.
    AtomicResponse = 11,
}

impl Opcode {
    /// All of them.
    pub const ALL: [Opcode; 12] = [
        Opcode::Write,
        Opcode::ReadRequest,
        Opcode::ReadResponse,
        Opcode::Send,
        Opcode::SendInv,
        Opcode::SendSe,
        Opcode::SendSeInv,
        Opcode::Terminate,
        Opcode::Immediate,
        Opcode::ImmediateSe,
        Opcode::AtomicRequest,
        Opcode::AtomicResponse,
    ];

    /// The opcode of an RDMAP control byte.
    pub fn from_control(rdmap: u8) -> Option<Self> {
        Self::ALL
            .get(usize::from(rdmap & ddp::RDMAP_OPCODE_MASK))
            .copied()
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Whether it addresses a tagged buffer.
    pub const fn is_tagged(self) -> bool {
        matches!(self, Opcode::Write | Opcode::ReadResponse)
    }

    /// Whether it is one of RFC 7306.
    pub const fn is_extension(self) -> bool {
        self.number() >= Opcode::Immediate.number()
    }

    /// One of the four sends.
    pub const fn is_send(self) -> bool {
        matches!(
            self,
            Opcode::Send | Opcode::SendInv | Opcode::SendSe | Opcode::SendSeInv
        )
    }

    /// Whether it asks for a solicited event.
    pub const fn is_solicited(self) -> bool {
        matches!(
            self,
            Opcode::SendSe | Opcode::SendSeInv | Opcode::ImmediateSe
        )
    }

    /// Whether it invalidates an STag.
    pub const fn is_invalidate(self) -> bool {
        matches!(self, Opcode::SendInv | Opcode::SendSeInv)
    }

    /// The send that has these properties.
    pub const fn send(solicited: bool, invalidate: bool) -> Self {
        match (solicited, invalidate) {
            (false, false) => Opcode::Send,
            (false, true) => Opcode::SendInv,
            (true, false) => Opcode::SendSe,
            (true, true) => Opcode::SendSeInv,
        }
    }

    /// The queue that an untagged message of this opcode uses.
    pub const fn queue(self) -> Option<u32> {
        match self {
            Opcode::Write | Opcode::ReadResponse => None,
            Opcode::ReadRequest | Opcode::AtomicRequest => Some(ddp::QN_READ_REQUEST),
            Opcode::Terminate => Some(ddp::QN_TERMINATE),
            Opcode::AtomicResponse => Some(ddp::QN_ATOMIC_RESPONSE),
            _ => Some(ddp::QN_SEND),
        }
    }

    /// Bytes of the RDMAP header behind the DDP header, for messages that are nothing but that.
    pub const fn fixed_body(self) -> Option<usize> {
        match self {
            Opcode::ReadRequest => Some(READ_REQUEST_LEN),
            Opcode::Immediate | Opcode::ImmediateSe => Some(IMMEDIATE_LEN),
            Opcode::AtomicRequest => Some(ATOMIC_REQUEST_LEN),
            Opcode::AtomicResponse => Some(ATOMIC_RESPONSE_LEN),
            _ => None,
        }
    }
}

/// RDMA Read Request header (RFC 5040 section 4.4).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct ReadRequestHdr {
    /// Data sink STag.
    pub sink_stag: U32,
    /// Data sink tagged offset.
    pub sink_to: U64,
    /// Bytes to read.
    pub size: U32,
    /// Data source STag.
    pub source_stag: U32,
    /// Data source tagged offset.
    pub source_to: U64,
}

/// Atomic Request header (RFC 7306 section 5.2.1).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct AtomicRequestHdr {
    /// 28 reserved bits, AOpCode.
    pub aopcode: U32,
    /// Returned in the response.
    pub request_id: U32,
    /// Remote STag.
    pub stag: U32,
    /// Remote tagged offset.
    pub to: U64,
    /// Add or swap data.
    pub add_swap: U64,
    /// Add or swap mask.
    pub add_swap_mask: U64,
    /// Compare data.
    pub compare: U64,
    /// Compare mask.
    pub compare_mask: U64,
}

/// AOpCode of FetchAdd (RFC 7306 figure 5).
pub const AOP_FETCH_ADD: u32 = 0;
/// AOpCode of CmpSwap.
pub const AOP_CMP_SWAP: u32 = 2;
/// Bits of the AOpCode.
pub const AOP_MASK: u32 = 0xf;

/// Atomic Response header (RFC 7306 section 5.2.2).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct AtomicResponseHdr {
    /// Of the request.
    pub request_id: U32,
    /// What was there before.
    pub original: U64,
}

/// Bytes of [`ReadRequestHdr`].
pub const READ_REQUEST_LEN: usize = size_of::<ReadRequestHdr>();
/// Bytes of [`AtomicRequestHdr`].
pub const ATOMIC_REQUEST_LEN: usize = size_of::<AtomicRequestHdr>();
/// Bytes of [`AtomicResponseHdr`].
pub const ATOMIC_RESPONSE_LEN: usize = size_of::<AtomicResponseHdr>();
/// Bytes of immediate data (RFC 7306 section 6.2).
pub const IMMEDIATE_LEN: usize = 8;

/// The immediate data of verbs as that of the wire. Verbs have 32 bits, which are the first four bytes, as
/// other makers have it; the others are zero. `imm` is as it stands in a work request: in wire order.
pub const fn immediate_data(imm: u32) -> [u8; IMMEDIATE_LEN] {
    let [a, b, c, d] = imm.to_ne_bytes();
    [a, b, c, d, 0, 0, 0, 0]
}

/// What verbs can tell of the immediate data of the wire, the inverse of [`immediate_data`]: the last four
/// bytes are not looked at.
pub const fn immediate_of(data: [u8; IMMEDIATE_LEN]) -> u32 {
    let [a, b, c, d, ..] = data;
    u32::from_ne_bytes([a, b, c, d])
}

/// A read request in host byte order (RFC 5040 section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// Data sink STag.
    pub sink_stag: u32,
    /// Data sink tagged offset.
    pub sink_to: u64,
    /// Bytes to read.
    pub size: u32,
    /// Data source STag.
    pub source_stag: u32,
    /// Data source tagged offset.
    pub source_to: u64,
}

impl From<&ReadRequestHdr> for ReadRequest {
    fn from(h: &ReadRequestHdr) -> Self {
        Self {
            sink_stag: h.sink_stag.get(),
            sink_to: h.sink_to.get(),
            size: h.size.get(),
            source_stag: h.source_stag.get(),
            source_to: h.source_to.get(),
        }
    }
}

impl From<&ReadRequest> for ReadRequestHdr {
    fn from(r: &ReadRequest) -> Self {
        Self {
            sink_stag: U32::new(r.sink_stag),
            sink_to: U64::new(r.sink_to),
            size: U32::new(r.size),
            source_stag: U32::new(r.source_stag),
            source_to: U64::new(r.source_to),
        }
    }
}

/// An atomic request in host byte order (RFC 7306 section 5.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtomicRequest {
    /// Returned in the response.
    pub request_id: u32,
    /// Remote STag.
    pub stag: u32,
    /// Remote tagged offset.
    pub to: u64,
    /// The operation.
    pub op: AtomicOp,
}

impl AtomicRequest {
    /// Reads a header. `None` if the AOpCode does not exist.
    pub fn from_hdr(h: &AtomicRequestHdr) -> Option<Self> {
        let op = match h.aopcode.get() & AOP_MASK {
            AOP_FETCH_ADD => AtomicOp::FetchAdd {
                add: h.add_swap.get(),
                add_mask: h.add_swap_mask.get(),
            },
            AOP_CMP_SWAP => AtomicOp::CmpSwp {
                swap: h.add_swap.get(),
                swap_mask: h.add_swap_mask.get(),
                compare: h.compare.get(),
                compare_mask: h.compare_mask.get(),
            },
            _ => return None,
        };
        Some(Self {
            request_id: h.request_id.get(),
            stag: h.stag.get(),
            to: h.to.get(),
            op,
        })
    }

    /// The header to send. `None` if RFC 7306 has no such operation.
    pub fn to_hdr(self) -> Option<AtomicRequestHdr> {
        let (aop, data, mask, compare, compare_mask) = match self.op {
            AtomicOp::FetchAdd { add, add_mask } => (AOP_FETCH_ADD, add, add_mask, 0, u64::MAX),
            AtomicOp::CmpSwp {
                swap,
                swap_mask,
                compare,
                compare_mask,
            } => (AOP_CMP_SWAP, swap, swap_mask, compare, compare_mask),
            AtomicOp::Store(_) => return None,
        };
        Some(AtomicRequestHdr {
            aopcode: U32::new(aop),
            request_id: U32::new(self.request_id),
            stag: U32::new(self.stag),
            to: U64::new(self.to),
            add_swap: U64::new(data),
            add_swap_mask: U64::new(mask),
            compare: U64::new(compare),
            compare_mask: U64::new(compare_mask),
        })
    }
}

const _: () = {
    assert!(READ_REQUEST_LEN == 28);
    assert!(ATOMIC_REQUEST_LEN == 52);
    assert!(ATOMIC_RESPONSE_LEN == 12);
};

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_rdmap))]
mod tests {
    use super::*;

    #[test]
    fn opcodes() {
        let mut n = 0u8;
        while n < 16 {
            let op = Opcode::from_control(ddp::rdmap_control(n));
            assert_eq!(op.map(Opcode::number), (n < 12).then_some(n));
            n += 1;
        }
        assert_eq!(Opcode::send(true, true), Opcode::SendSeInv);
        assert!(Opcode::SendInv.is_invalidate());
        assert_eq!(Opcode::AtomicResponse.queue(), Some(3));
    }

    /// The pseudocode of RFC 7306 section 5.1.1, bit by bit.
    fn rfc_fetch_add(old: u64, add: u64, mask: u64) -> u64 {
        let (mut carry, mut result) = (0, 0);
        for bit in 0..64 {
            let sum = carry + (old >> bit & 1) + (add >> bit & 1);
            carry = sum >> 1;
            result |= (sum & 1) << bit;
            if mask >> bit & 1 == 1 {
                carry = 0;
            }
        }
        result
    }

    #[test]
    fn masked_add_is_that_of_the_rfc() {
        let mut x = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..1000 {
            let mut next = || {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                x
            };
            let (old, add, mask) = (next(), next(), next() & next());
            let op = AtomicOp::FetchAdd {
                add,
                add_mask: mask,
            };
            assert_eq!(op.apply(old), Some(rfc_fetch_add(old, add, mask)));
            let plain = AtomicOp::fetch_add(add);
            assert_eq!(plain.apply(old), Some(old.wrapping_add(add)));
        }
    }

    #[test]
    fn masked_swap() {
        let op = AtomicOp::CmpSwp {
            swap: 0xaaaa,
            swap_mask: 0xff,
            compare: 0x1200,
            compare_mask: 0xff00,
        };
        assert_eq!(op.apply(0x1234), Some(0x12aa));
        assert_eq!(op.apply(0x1334), None);
    }
}
