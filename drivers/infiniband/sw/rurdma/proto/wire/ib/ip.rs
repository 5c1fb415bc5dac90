// SPDX-License-Identifier: GPL-2.0

//! What of an IP header the transport looks at (annex A17.3.1): who sent the packet to whom, and what the
//! ICRC covers.

#![forbid(unsafe_code)]

use core::net::IpAddr;

/// Bytes of an IPv4 header without options.
pub const IPV4_LEN: usize = 20;
/// Bytes of an IPv6 header.
pub const IPV6_LEN: usize = 40;
/// Bytes of a UDP header.
pub const UDP_LEN: usize = 8;

/// What of an IP header the ICRC covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFields {
    /// IPv4 without options.
    V4 {
        /// Source.
        src: [u8; 4],
        /// Destination.
        dst: [u8; 4],
        /// Identification.
        id: u16,
        /// Flags and fragment offset; with nothing but "don't fragment" a datagram is whole.
        frag: u16,
    },
    /// IPv6 without extension headers.
    V6 {
        /// Source.
        src: [u8; 16],
        /// Destination.
        dst: [u8; 16],
    },
}

impl IpFields {
    /// Reads a header, which is all of `ip`. `None` if it is not one of IP without options.
    pub fn read(ip: &[u8]) -> Option<Self> {
        match (ip.first()? >> 4, ip.len()) {
            (4, IPV4_LEN) => Some(IpFields::V4 {
                src: bytes(ip, 12)?,
                dst: bytes(ip, 16)?,
                id: u16::from_be_bytes(bytes(ip, 4)?),
                frag: u16::from_be_bytes(bytes(ip, 6)?),
            }),
            (6, IPV6_LEN) => Some(IpFields::V6 {
                src: bytes(ip, 8)?,
                dst: bytes(ip, 24)?,
            }),
            _ => None,
        }
    }

    /// The same with another identification, if there is one.
    pub fn with_id(self, new: u16) -> Self {
        match self {
            IpFields::V4 { src, dst, frag, .. } => IpFields::V4 {
                src,
                dst,
                id: new,
                frag,
            },
            v6 @ IpFields::V6 { .. } => v6,
        }
    }

    /// The identification, if there is one.
    pub fn id(&self) -> Option<u16> {
        match self {
            IpFields::V4 { id, .. } => Some(*id),
            IpFields::V6 { .. } => None,
        }
    }

    /// Who sent it.
    pub fn src(&self) -> IpAddr {
        match *self {
            IpFields::V4 { src, .. } => src.into(),
            IpFields::V6 { src, .. } => src.into(),
        }
    }

    /// Whom it is for.
    pub fn dst(&self) -> IpAddr {
        match *self {
            IpFields::V4 { dst, .. } => dst.into(),
            IpFields::V6 { dst, .. } => dst.into(),
        }
    }
}

/// The header of one of the packets that came together behind `header`: the one with this index, the first being
/// 0, with `payload` bytes behind its UDP header. It is at the end of the result, with zeros before it; `None` as
/// of [`IpFields::read`].
pub fn of_packet(header: &[u8], index: u16, payload: usize) -> Option<[u8; IPV6_LEN]> {
    let id = IpFields::read(header)?.id();
    let mut out = [0; IPV6_LEN];
    let start = IPV6_LEN.checked_sub(header.len())?;
    let ip = out.get_mut(start..)?;
    ip.copy_from_slice(header);
    let behind = UDP_LEN + payload;
    if let Some(first) = id {
        put(ip, 2, u16::try_from(IPV4_LEN + behind).ok()?)?;
        put(ip, 4, first.wrapping_add(index))?;
        put(ip, 10, 0)?;
        put(ip, 10, checksum(ip))?;
    } else {
        put(ip, 4, u16::try_from(behind).ok()?)?;
    }
    Some(out)
}

/// The Internet checksum (RFC 1071) of whole words.
fn checksum(of: &[u8]) -> u16 {
    let mut sum = 0u32;
    let mut words = of.chunks_exact(2);
    for word in &mut words {
        if let [high, low] = word {
            sum += u32::from(u16::from_be_bytes([*high, *low]));
        }
    }
    // Of at most 20 words: twice is enough.
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// Puts a word to `at`.
fn put(to: &mut [u8], at: usize, word: u16) -> Option<()> {
    to.get_mut(at..at + 2)?.copy_from_slice(&word.to_be_bytes());
    Some(())
}

/// The `N` bytes at `at`.
fn bytes<const N: usize>(of: &[u8], at: usize) -> Option<[u8; N]> {
    of.get(at..)?.first_chunk().copied()
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_ib_ip))]
mod tests {
    use super::*;

    #[test]
    fn headers_without_options_are_read() {
        let mut v4 = [0u8; IPV4_LEN];
        for (i, b) in (0u8..).zip(v4.iter_mut()) {
            *b = i;
        }
        v4[0] = 0x45;
        let read = IpFields::read(&v4);
        assert_eq!(
            read,
            Some(IpFields::V4 {
                src: [12, 13, 14, 15],
                dst: [16, 17, 18, 19],
                id: 0x0405,
                frag: 0x0607,
            })
        );
        assert_eq!(read.map(|f| f.src()), Some(IpAddr::from([12, 13, 14, 15])));
        assert_eq!(read.map(|f| f.dst()), Some(IpAddr::from([16, 17, 18, 19])));
        let mut v6 = [7u8; IPV6_LEN];
        v6[0] = 0x60;
        v6[24..].fill(9);
        assert_eq!(
            IpFields::read(&v6),
            Some(IpFields::V6 {
                src: [7; 16],
                dst: [9; 16],
            })
        );
        assert_eq!(read.and_then(|f| f.with_id(9).id()), Some(9));
        assert_eq!(IpFields::read(&v6).and_then(|f| f.with_id(9).id()), None);
        // Options, a length of the other version, nothing.
        v4[0] = 0x65;
        assert_eq!(IpFields::read(&v4), None);
        assert_eq!(IpFields::read(&v6[..IPV4_LEN]), None);
        assert_eq!(IpFields::read(&[0x46; 24]), None);
        assert_eq!(IpFields::read(&[]), None);
    }
    #[test]
    fn headers_of_single_packets() {
        // The example of the algorithm that everybody knows: 0xb861.
        let mut v4 = [
            0x45, 0, 0xff, 0xff, 0xff, 0xfe, 0x40, 0, 0x40, 17, 0, 0, 192, 168, 0, 1, 192, 168, 0,
            199,
        ];
        let out = of_packet(&v4, 2, 0x73 - 28).unwrap_or([1; IPV6_LEN]);
        assert_eq!(out[..20], [0; 20]);
        v4[2..6].copy_from_slice(&[0, 0x73, 0, 0]);
        v4[10..12].copy_from_slice(&[0xb8, 0x61]);
        assert_eq!(out[20..], v4);
        let mut v6 = [7u8; IPV6_LEN];
        v6[0] = 0x60;
        v6[4..6].copy_from_slice(&[0xff, 0]);
        let out = of_packet(&v6, 5, 100).unwrap_or([1; IPV6_LEN]);
        v6[4..6].copy_from_slice(&[0, 108]);
        assert_eq!(out, v6);
        assert_eq!(of_packet(&v6, 5, 70_000), None);
        assert_eq!(of_packet(&[], 5, 100), None);
    }
}
