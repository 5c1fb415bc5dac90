// SPDX-License-Identifier: GPL-2.0

//! Work and completion queue entries (`rurdma-abi.h`).
//!
//! A work queue entry is first copied out of the shared ring ([`fetch`]) and only then looked at, so
//! what was checked is what is executed. [`SendWqe::parse`] and [`RecvWqe::parse`] turn the copy
//! into typed values that hold no field in a state that the rest would have to check again.

#![forbid(unsafe_code)]

pub mod abi;
pub mod fetch;
pub mod recv;
pub mod send;

use abi::Sge;
use zerocopy::{FromBytes as _, IntoBytes as _};

/// The largest message: 1 GiB.
pub const MAX_MSG: u32 = 1 << 30;

/// What is wrong with a work queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WqeError {
    /// The bytes are fewer than the entry says it has.
    Truncated,
    /// An opcode that does not exist, or not for this queue.
    Opcode,
    /// A flag that does not exist, or not for this operation.
    Flags,
    /// More SGEs than the queue has, or than the operation takes.
    SgeCount,
    /// More inline data than the queue takes, or where there can be none.
    Inline,
    /// The entry says it takes fewer units than its content needs.
    Units,
    /// The message is too long, or has another length than the operation.
    Length,
    /// A field of an extension is out of range.
    Field,
}

impl WqeError {
    /// The `ib_wc_status` that the entry completes with: `IB_WC_LOC_LEN_ERR` (1) or
    /// `IB_WC_LOC_QP_OP_ERR` (2).
    pub const fn wc_status(self) -> u8 {
        match self {
            WqeError::Length => 1,
            _ => 2,
        }
    }

    /// `enum rurdma_vendor_err`, for the completion.
    pub const fn vendor_err(self) -> u32 {
        match self {
            WqeError::Truncated => 1,
            WqeError::Opcode => 2,
            WqeError::Flags => 3,
            WqeError::SgeCount => 4,
            WqeError::Inline => 5,
            WqeError::Units => 6,
            WqeError::Length => 7,
            WqeError::Field => 8,
        }
    }
}

/// The SGEs of an entry.
#[derive(Clone, Copy, Debug)]
pub struct SgeList<'a> {
    /// Whole `struct rurdma_sge`s.
    bytes: &'a [u8],
}

impl<'a> SgeList<'a> {
    /// No SGEs.
    pub const EMPTY: SgeList<'static> = SgeList { bytes: &[] };

    /// A list of SGEs in memory.
    pub fn new(sges: &'a [Sge]) -> Self {
        Self {
            bytes: sges.as_bytes(),
        }
    }

    /// The first `count` SGEs of `bytes`.
    fn parse(bytes: &'a [u8], count: usize) -> Option<Self> {
        let bytes = bytes.get(..count.checked_mul(abi::SGE_SIZE)?)?;
        Some(Self { bytes })
    }

    /// Number of SGEs.
    pub fn len(&self) -> usize {
        self.bytes.len() / abi::SGE_SIZE
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The SGEs, in order.
    pub fn iter(&self) -> impl Iterator<Item = Sge> + 'a {
        self.bytes
            .chunks_exact(abi::SGE_SIZE)
            .filter_map(|b| Sge::read_from_bytes(b).ok())
    }

    /// SGE number `i`.
    pub fn get(&self, i: usize) -> Option<Sge> {
        let b = self.bytes.chunks_exact(abi::SGE_SIZE).nth(i)?;
        Sge::read_from_bytes(b).ok()
    }

    /// Sum of the lengths. It cannot overflow: a list has far fewer than 2^32 elements.
    pub fn total(&self) -> u64 {
        self.iter()
            .fold(0u64, |n, s| n.saturating_add(u64::from(s.length)))
    }

    /// The bytes of the list as they stand in an entry.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl PartialEq for SgeList<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}
