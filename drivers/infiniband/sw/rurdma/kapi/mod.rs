// SPDX-License-Identifier: GPL-2.0

//! Safe Rust over the kernel's C interfaces: the home of all `unsafe` in this module.
//!
//! Written as if it were to move into `rust/kernel/` one day: nothing here knows what rurdma does.

pub(crate) mod abi;
pub(crate) mod errno;
pub(crate) mod ipi;
pub(crate) mod net;
pub(crate) mod params;
pub(crate) mod random;
pub(crate) mod rdma;
pub(crate) mod slot;
pub(crate) mod sync;
pub(crate) mod table;
pub(crate) mod task;
pub(crate) mod thread;
pub(crate) mod time;
pub(crate) mod timer;
