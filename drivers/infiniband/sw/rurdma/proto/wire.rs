// SPDX-License-Identifier: GPL-2.0

//! Wire formats: what the bytes mean, and nothing about when they come.

#![forbid(unsafe_code)]

pub mod crc;
pub mod ddp;
pub mod ib;
pub mod mad;
pub mod mpa;
pub mod rdmap;
pub mod terminate;
