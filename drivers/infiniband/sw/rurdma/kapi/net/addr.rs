// SPDX-License-Identifier: GPL-2.0

//! Socket addresses as the kernel lays them out.

use crate::kapi::net::errno::NetError;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use kernel::prelude::*;

/// `AF_INET`.
pub(crate) const AF_INET: u16 = 2;
/// `AF_INET6`.
pub(crate) const AF_INET6: u16 = 10;

/// Bytes of a `struct sockaddr_in`.
const V4_LEN: usize = 16;
/// Bytes of a `struct sockaddr_in6`.
const V6_LEN: usize = 28;

/// Memory for any socket address: a `struct sockaddr_storage`.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct SockAddrStorage([u8; 128]);

impl SockAddrStorage {
    /// An address of no family.
    pub(crate) const fn zeroed() -> Self {
        Self([0; 128])
    }

    /// The first `N` bytes from `at`; both are constants within the storage.
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        for (to, from) in out.iter_mut().zip(self.0.iter().skip(at)) {
            *to = *from;
        }
        out
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.0.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    /// As an address; EAFNOSUPPORT if it is neither IPv4 nor IPv6.
    pub(crate) fn decode(&self) -> Result<SocketAddr> {
        let port = u16::from_be_bytes(self.bytes(2));

        match u16::from_ne_bytes(self.bytes(0)) {
            AF_INET => Ok(SocketAddrV4::new(Ipv4Addr::from(self.bytes::<4>(4)), port).into()),
            AF_INET6 => Ok(SocketAddrV6::new(
                Ipv6Addr::from(self.bytes::<16>(8)),
                port,
                u32::from_be_bytes(self.bytes(4)),
                u32::from_ne_bytes(self.bytes(24)),
            )
            .into()),
            _ => Err(NetError::Family.into()),
        }
    }

    /// Bytes that are used.
    pub(crate) fn len(&self) -> usize {
        if u16::from_ne_bytes(self.bytes(0)) == AF_INET {
            V4_LEN
        } else {
            V6_LEN
        }
    }

    /// For C to write to.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut c_void {
        self.0.as_mut_ptr().cast()
    }
}

impl From<SocketAddr> for SockAddrStorage {
    fn from(addr: SocketAddr) -> Self {
        let mut out = Self::zeroed();

        out.set(2, &addr.port().to_be_bytes());
        match addr {
            SocketAddr::V4(v4) => {
                out.set(0, &AF_INET.to_ne_bytes());
                out.set(4, &v4.ip().octets());
            }
            SocketAddr::V6(v6) => {
                out.set(0, &AF_INET6.to_ne_bytes());
                out.set(4, &v6.flowinfo().to_be_bytes());
                out.set(8, &v6.ip().octets());
                out.set(24, &v6.scope_id().to_ne_bytes());
            }
        }
        out
    }
}

/// The family of an address.
pub(crate) fn family(addr: &SocketAddr) -> u16 {
    match addr {
        SocketAddr::V4(_) => AF_INET,
        SocketAddr::V6(_) => AF_INET6,
    }
}

/// The same address without a port.
pub(crate) fn any_port(mut addr: SocketAddr) -> SocketAddr {
    addr.set_port(0);
    addr
}

/// An IPv4 address in IPv6 clothes, as a listener for both families sees it, undressed.
pub(crate) fn unmapped(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => addr,
        },
        SocketAddr::V4(_) => addr,
    }
}
