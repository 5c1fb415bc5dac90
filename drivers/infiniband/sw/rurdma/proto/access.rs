// SPDX-License-Identifier: GPL-2.0

//! Bounds and rights of an access to registered memory.

#![forbid(unsafe_code)]
