// SPDX-License-Identifier: GPL-2.0

//! The protocol core: everything that can be decided without doing I/O.
//!
//! This tree is compiled twice: as a module of the kernel driver, and as the host crate
//! `tests/host`, where it is tested. So it allocates nothing, reads no clock, takes no lock and
//! names no `kernel::` item (`sync.rs` is the one shim). Bytes that come from the wire or from user
//! memory can never make it panic: they only ever produce errors.

// The kernel denies `unreachable_pub`; the module is mounted privately there and publicly in the
// host crate.
#![allow(unreachable_pub)]
// The driver grows into what is here; the host crate tests all of it.
#![cfg_attr(CONFIG_RUST, allow(dead_code))]

pub mod access;
pub mod atomic;
pub mod bulk;
pub mod ib;
pub mod iwarp;
pub mod owner;
pub mod pace;
pub mod ring;
pub mod serial;
pub mod sync;
pub mod turns;
pub mod verbs;
pub mod wire;
pub mod wqe;
