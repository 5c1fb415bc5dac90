// SPDX-License-Identifier: GPL-2.0

//! MPA: request and reply frames, FPDU framing (RFC 5044, RFC 6581).

#![forbid(unsafe_code)]

use core::mem::size_of;
use zerocopy::byteorder::network_endian::U16;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Key of a request frame (RFC 5044 section 7.1.1).
pub const KEY_REQUEST: [u8; 16] = *b"MPA ID Req Frame";
/// Key of a reply frame.
pub const KEY_REPLY: [u8; 16] = *b"MPA ID Rep Frame";

/// Revision of RFC 5044.
pub const REV_1: u8 = 1;
/// Revision of RFC 6581.
pub const REV_2: u8 = 2;

/// The largest private data, enhanced data included (RFC 5044 section 7.1.1).
pub const MAX_PRIVATE_DATA: usize = 512;

/// M: the sender wants to receive markers.
pub const FLAG_MARKERS: u8 = 0x80;
/// C: the sender wants CRCs.
pub const FLAG_CRC: u8 = 0x40;
/// R: the connection is rejected (replies).
pub const FLAG_REJECT: u8 = 0x20;
/// S: the private data begins with [`EnhancedData`] (RFC 6581 section 6).
pub const FLAG_ENHANCED: u8 = 0x10;

/// Request and reply frame without private data (RFC 5044 section 7.1.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FrameHdr {
    /// [`KEY_REQUEST`] or [`KEY_REPLY`].
    pub key: [u8; 16],
    /// `FLAG_*`; the low bits are reserved and not checked.
    pub flags: u8,
    /// Revision.
    pub rev: u8,
    /// Bytes of private data.
    pub pd_len: U16,
}

/// Bytes of [`FrameHdr`].
pub const FRAME_HDR_LEN: usize = size_of::<FrameHdr>();
/// Bytes of the longest frame.
pub const MAX_FRAME_LEN: usize = FRAME_HDR_LEN + MAX_PRIVATE_DATA;

/// Enhanced connection establishment data (RFC 6581 section 9).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EnhancedData {
    /// A, B, and the inbound read queue depth.
    pub ird: U16,
    /// C, D, and the outbound read queue depth.
    pub ord: U16,
}

/// Bytes of [`EnhancedData`].
pub const ENHANCED_LEN: usize = size_of::<EnhancedData>();

/// A (in `ird`): peer-to-peer connection model.
pub const ENH_A: u16 = 0x8000;
/// B (in `ird`): zero-length FULPDU (Send) as RTR indication.
pub const ENH_B: u16 = 0x4000;
/// C (in `ord`): zero-length RDMA Write as RTR indication.
pub const ENH_C: u16 = 0x8000;
/// D (in `ord`): zero-length RDMA Read as RTR indication.
pub const ENH_D: u16 = 0x4000;
/// Bits of a depth; all ones is "no automatic negotiation" (RFC 6581 section 9.1).
pub const ENH_DEPTH: u16 = 0x3fff;

/// Bytes of `ULPDU_Length`.
pub const FPDU_HDR_LEN: usize = 2;
/// Bytes of the CRC.
pub const CRC_LEN: usize = 4;
/// Bytes of a marker, which is sent every [`MARKER_INTERVAL`] bytes (RFC 5044 section 4.3).
pub const MARKER_LEN: usize = 4;
/// Distance of the first bytes of two markers in the stream.
pub const MARKER_INTERVAL: usize = 512;
/// No MULPDU is smaller than this (RFC 5044 section 4.5).
pub const MIN_MULPDU: u16 = 128;

/// Padding of an FPDU: ULPDU_Length, ULPDU and pad together are a multiple of 4 (RFC 5044
/// section 4.1).
pub const fn pad_len(ulpdu_len: u16) -> usize {
    // 2 + ulpdu_len + pad = 0 (mod 4), so pad = 2 - ulpdu_len (mod 4).
    (2u16.wrapping_sub(ulpdu_len) & 3) as usize
}

/// Bytes of an FPDU without markers.
pub const fn fpdu_len(ulpdu_len: u16) -> usize {
    FPDU_HDR_LEN + ulpdu_len as usize + pad_len(ulpdu_len) + CRC_LEN
}

/// The largest ULPDU that a TCP segment of `emss` bytes takes (RFC 5044 section 4.5).
///
/// The result is capped so that it fits `ULPDU_Length`.
pub const fn mulpdu(emss: u32, markers: bool) -> u16 {
    // Larger segments than this cannot be filled by one FPDU.
    let emss = if emss > 65535 { 65532 } else { emss };
    let overhead = 6
        + emss % 4
        + if markers {
            4 * emss.div_ceil(MARKER_INTERVAL as u32)
        } else {
            0
        };
    let m = emss.saturating_sub(overhead);
    if m < MIN_MULPDU as u32 {
        MIN_MULPDU
    } else {
        m as u16
    }
}

const _: () = {
    assert!(FRAME_HDR_LEN == 20);
    assert!(ENHANCED_LEN == 4);
};

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_mpa))]
mod tests {
    use super::*;

    #[test]
    fn fpdus_are_aligned() {
        let mut ulpdu = 0;
        while ulpdu < 5000 {
            let len = fpdu_len(ulpdu);
            assert!(len % 4 == 0);
            assert!(pad_len(ulpdu) < 4);
            assert!(len - usize::from(ulpdu) - 6 == pad_len(ulpdu));
            ulpdu += 1;
        }
    }

    #[test]
    fn full_fpdu_fits_segment() {
        assert_eq!(mulpdu(1448, false), 1442);
        assert_eq!(fpdu_len(1442), 1448);
        assert_eq!(mulpdu(1460, false), 1454);
        assert_eq!(mulpdu(1460, true), 1442);
        assert_eq!(mulpdu(60, false), MIN_MULPDU);
        assert!(fpdu_len(mulpdu(u32::MAX, false)) <= 65536);
    }
}
