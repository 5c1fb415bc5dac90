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
        // Options, a length of the other version, nothing.
        v4[0] = 0x65;
        assert_eq!(IpFields::read(&v4), None);
        assert_eq!(IpFields::read(&v6[..IPV4_LEN]), None);
        assert_eq!(IpFields::read(&[0x46; 24]), None);
        assert_eq!(IpFields::read(&[]), None);
    }
}
