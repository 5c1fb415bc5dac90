// SPDX-License-Identifier: GPL-2.0

//! Errors of the network that the kernel crate has no names for.

use crate::bindings;
use kernel::error::Error;

/// An errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum NetError {
    /// `EPROTO`: the peer did not speak the protocol.
    Protocol = bindings::EPROTO,
    /// `EAFNOSUPPORT`: neither IPv4 nor IPv6.
    Family = bindings::EAFNOSUPPORT,
    /// `EADDRINUSE`.
    AddrInUse = bindings::EADDRINUSE,
    /// `EADDRNOTAVAIL`.
    AddrNotAvail = bindings::EADDRNOTAVAIL,
    /// `ENETDOWN`: the network device is gone, or on its way.
    NetDown = bindings::ENETDOWN,
    /// `ECONNRESET`: reset by the peer, or closed too early.
    ConnReset = bindings::ECONNRESET,
    /// `ENOTCONN`: closed.
    NotConn = bindings::ENOTCONN,
    /// `ETIMEDOUT`.
    TimedOut = bindings::ETIMEDOUT,
    /// `ECONNREFUSED`: refused by the peer's application.
    ConnRefused = bindings::ECONNREFUSED,
    /// `EINPROGRESS`.
    InProgress = bindings::EINPROGRESS,
}

impl NetError {
    /// As C functions return it.
    pub(crate) fn to_errno(self) -> i32 {
        -(self as i32)
    }
}

impl From<NetError> for Error {
    fn from(err: NetError) -> Self {
        Error::from_errno(err.to_errno())
    }
}
