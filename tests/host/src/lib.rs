// SPDX-License-Identifier: GPL-2.0

//! The protocol core of rurdma, built on the host and tested there.
//!
//! `proto` is not a copy: it is the directory that the kernel module compiles. Tests of a single
//! rule stand beside the rule, in `proto/**`, and also run as KUnit tests. What needs an allocator,
//! random input or two endpoints is in `tests/` of this crate:
//!
//! * `ring`: rings and doorbells, against a model of the user side, with hostile words;
//! * `wqe`: work queue entries, round trips and mutations;
//! * `wire`: every format, round trips and mutations, the vectors of the RFCs;
//! * `negotiate`: MPA connection establishment, all pairs of wishes, all cuts;
//! * `stream`: transmitter against receiver over a byte stream, cut and mutated everywhere;
//! * `terminate`: each reason for a receiver to terminate;
//! * `connection`: two endpoints, from the first byte to the last, lost at every byte;
//! * `ib_wire`, `rc_ops`, `rc`: InfiniBand packets, the rules of RC, both of its ends over bad networks;
//! * `uc`: both ends of UC over bad networks;
//! * `verbs`: the table of work requests in the documentation;
//! * `access`: bounds and rights against a naive oracle, reads in flight.
//!
//! The memory-ordering arguments of the ring are checked by the sibling crate `tests/model`.
//!
//! Run with `cargo test`; works with the compiler that the kernel uses (1.85).

#![cfg_attr(not(test), no_std)]

#[path = "../../../drivers/infiniband/sw/rurdma/proto/mod.rs"]
pub mod proto;
