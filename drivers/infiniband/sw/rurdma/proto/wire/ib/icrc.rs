// SPDX-License-Identifier: GPL-2.0

//! The invariant CRC of RoCEv2 (IBTA volume 1, section 7.8.1 and annex A17.3.3): Ethernet's CRC-32 over
//! everything from the IP header on that no router changes; what one may change counts as ones. In front
//! stand 8 bytes of ones for the LRH that RoCE has not.

#![forbid(unsafe_code)]

use super::hdr::BTH_LEN;
use super::ip::{IpFields, IPV4_LEN, IPV6_LEN, UDP_LEN};
use super::ICRC_LEN;

/// An implementation of CRC-32 (polynomial 0x04c11db7, reflected).
///
/// `crc32` continues the remainder `crc` over `data`, without inverting anything before or after: the
/// convention of the kernel's `crc32_le()`.
pub trait Crc32 {
    /// Continues `crc` over `data`.
    fn crc32(crc: u32, data: &[u8]) -> u32;
}

/// The remainder after the 8 bytes of ones.
pub const SEED: u32 = 0xdebb_20e3;

/// What is sent for the final remainder.
pub const fn to_wire(crc: u32) -> [u8; 4] {
    (!crc).to_le_bytes()
}

/// Bytes that stand for the headers of a packet, at most: of IPv6, UDP, BTH.
const MAX_PSEUDO: usize = IPV6_LEN + UDP_LEN + BTH_LEN;

/// The remainder behind the BTH of a datagram with `udp_payload` bytes, from BTH to ICRC.
///
/// In one call over all headers: they are short, and what a call costs beside its bytes (on some machines the vector
/// registers are saved for each) would come three times a packet.
pub fn begin<C: Crc32>(
    ip: &IpFields,
    src_port: u16,
    dst_port: u16,
    udp_payload: u16,
    bth: &[u8; BTH_LEN],
) -> u32 {
    const PROTOCOL_UDP: u8 = 17;
    let udp_len = udp_payload.wrapping_add(UDP_LEN as u16);
    let mut hdr = [0; MAX_PSEUDO];
    let at = match ip {
        IpFields::V4 { src, dst, id, frag } => {
            let [total0, total1] = udp_len.wrapping_add(IPV4_LEN as u16).to_be_bytes();
            let [id0, id1] = id.to_be_bytes();
            let [frag0, frag1] = frag.to_be_bytes();
            // Ones: type of service, time to live, checksum.
            fill(&mut hdr, 0, &[0x45, 0xff, total0, total1, id0, id1]);
            fill(&mut hdr, 6, &[frag0, frag1, 0xff, PROTOCOL_UDP, 0xff, 0xff]);
            fill(&mut hdr, 12, src);
            fill(&mut hdr, 16, dst);
            IPV4_LEN
        }
        IpFields::V6 { src, dst } => {
            let [len0, len1] = udp_len.to_be_bytes();
            // Ones: traffic class, flow label, hop limit.
            fill(&mut hdr, 0, &[0x6f, 0xff, 0xff, 0xff, len0, len1]);
            fill(&mut hdr, 6, &[PROTOCOL_UDP, 0xff]);
            fill(&mut hdr, 8, src);
            fill(&mut hdr, 24, dst);
            IPV6_LEN
        }
    };
    let [s0, s1] = src_port.to_be_bytes();
    let [d0, d1] = dst_port.to_be_bytes();
    let [l0, l1] = udp_len.to_be_bytes();
    // Ones: checksum.
    fill(&mut hdr, at, &[s0, s1, d0, d1, l0, l1, 0xff, 0xff]);
    // Ones: FECN, BECN and what is reserved beside them.
    let mut bth = *bth;
    bth[4] = 0xff;
    fill(&mut hdr, at + UDP_LEN, &bth);
    C::crc32(SEED, hdr.get(..at + UDP_LEN + BTH_LEN).unwrap_or(&hdr))
}

/// Whether the ICRC of `packet`, a UDP payload from BTH to ICRC, is right.
pub fn is_right<C: Crc32>(ip: &IpFields, src_port: u16, dst_port: u16, packet: &[u8]) -> bool {
    let Some((covered, sum)) = packet.split_last_chunk::<ICRC_LEN>() else {
        return false;
    };
    let Some((bth, rest)) = covered.split_first_chunk::<BTH_LEN>() else {
        return false;
    };
    let ports = (src_port, dst_port);
    let rest = |crc| Some(C::crc32(crc, rest));
    is_right_of::<C>(ip, ports, packet.len(), bth, *sum, rest)
}

/// The same of a packet of `len` bytes that is not in one piece: `bth` are its first, `sum` its last bytes, and
/// `rest` continues a remainder over what is between these, if that can be read.
pub fn is_right_of<C: Crc32>(
    ip: &IpFields,
    (src_port, dst_port): (u16, u16),
    len: usize,
    bth: &[u8; BTH_LEN],
    sum: [u8; ICRC_LEN],
    rest: impl FnOnce(u32) -> Option<u32>,
) -> bool {
    let Ok(len) = u16::try_from(len) else {
        return false;
    };
    let begun = begin::<C>(ip, src_port, dst_port, len, bth);
    rest(begun).is_some_and(|crc| to_wire(crc) == sum)
}

/// Copies `from` to `at` of `to`, which has the room.
#[inline]
fn fill<const N: usize>(to: &mut [u8; MAX_PSEUDO], at: usize, from: &[u8; N]) {
    if let Some(to) = to.get_mut(at..at + N) {
        to.copy_from_slice(from);
    }
}

/// CRC-32 bit by bit. For tests, and where nothing better is at hand.
#[derive(Debug)]
pub struct Bitwise;

impl Crc32 for Bitwise {
    fn crc32(crc: u32, data: &[u8]) -> u32 {
        data.iter().fold(crc, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |c, _| {
                if c & 1 == 1 {
                    (c >> 1) ^ 0xedb8_8320
                } else {
                    c >> 1
                }
            })
        })
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    ::kernel::macros::kunit_tests(rurdma_proto_ib_icrc)
)]
mod tests {
    use super::*;

    #[test]
    fn seed_is_eight_bytes_of_ones() {
        assert_eq!(Bitwise::crc32(!0, &[0xff; 8]), SEED);
        assert_eq!(!Bitwise::crc32(!0, b"123456789"), 0xcbf4_3926);
    }
}
