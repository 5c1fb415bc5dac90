// SPDX-License-Identifier: GPL-2.0

//! The ring and doorbell protocols under the loom model checker: all interleavings of both sides,
//! and all values that the memory model lets a load return.
//!
//! The module's side is the code that the kernel runs; the process' side is written out here as the
//! provider does it. Each property has a counterpart in `tests/model.rs` that leaves one fence out
//! and must fail, so that the model is known to be able to.
//!
//! Run with `cargo test`. loom checks the C11 model, which is weaker than the kernel's in what is
//! used here, so what holds there holds in the kernel.

#[path = "../../../drivers/infiniband/sw/rurdma/proto/mod.rs"]
pub mod proto;
