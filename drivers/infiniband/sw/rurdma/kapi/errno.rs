// SPDX-License-Identifier: GPL-2.0

//! Errors that the kernel crate has no names for.

use crate::bindings;
use kernel::error::Error;

/// `EOPNOTSUPP`: the verb or option exists, not here.
pub(crate) fn not_supported() -> Error {
    Error::from_errno(-(bindings::EOPNOTSUPP as i32))
}

/// `EISCONN`: connected already.
pub(crate) fn is_connected() -> Error {
    Error::from_errno(-(bindings::EISCONN as i32))
}
