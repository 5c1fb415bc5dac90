// SPDX-License-Identifier: GPL-2.0

//! The RDMA core (`drivers/infiniband/core`) as a Rust driver sees it.
//!
//! [`ops::Driver`] is what a driver implements; the files here turn the core's callbacks into calls
//! of it, one file for each verbs object.

pub(crate) mod account;
mod ah;
pub(crate) mod attr;
pub(crate) mod av;
pub(crate) mod client;
pub(crate) mod cq;
pub(crate) mod device;
pub(crate) mod iwcm;
pub(crate) mod kick;
pub(crate) mod lease;
pub(crate) mod linger;
pub(crate) mod link;
mod mad;
mod mcast;
pub(crate) mod memory;
pub(crate) mod mmap;
pub(crate) mod mr;
pub(crate) mod mw;
pub(crate) mod object;
pub(crate) mod ops;
pub(crate) mod pd;
pub(crate) mod qp;
pub(crate) mod qp_attr;
pub(crate) mod ring;
pub(crate) mod srq;
pub(crate) mod stats;
pub(crate) mod ucontext;
pub(crate) mod udata;
