// SPDX-License-Identifier: GPL-2.0

//! A checked piece of a memory region, for one access: a write, an atomic, or a flush.

use super::granted::{Granted, Whose};
use crate::kapi::rdma::memory::Access;
use crate::proto::access::{self as proto, Denied};
use crate::proto::atomic::AtomicOp;
use crate::qp::Qp;
use core::mem::size_of;
use kernel::prelude::*;

/// A range of memory that was checked for one access.
///
/// While it exists the deregistration of its MR waits, so it is held for the time of that access only.
pub(crate) struct Span {
    access: Access,
    /// Of the range's first byte.
    offset: u64,
    length: u64,
}

impl Span {
    /// Finds and checks `length` bytes at `addr` of the memory with `key`: it must be in force, of the PD that it has
    /// to be of, open to the QP, and grant `need`. Any context.
    pub(crate) fn find(
        qp: &Qp,
        (whose, key): (Whose, u32),
        addr: u64,
        length: u64,
        need: proto::Access,
    ) -> Result<Self, Denied> {
        Self::of(Granted::find(qp, whose, key)?, addr, length, need)
    }

    /// The same for all of the memory that a peer names.
    pub(crate) fn whole(qp: &Qp, key: u32, need: proto::Access) -> Result<Self, Denied> {
        let granted = Granted::find(qp, Whose::Peers, key)?;
        let (addr, length) = (granted.region.base, granted.region.length);
        Self::of(granted, addr, length, need)
    }

    fn of(granted: Granted, addr: u64, length: u64, need: proto::Access) -> Result<Self, Denied> {
        Ok(Self {
            offset: granted.at(need, addr, length)?,
            length,
            access: granted.access,
        })
    }

    /// The place `offset` bytes into the range, if `len` bytes fit behind it.
    fn at(&self, offset: u64, len: usize) -> Result<u64> {
        let end = offset.checked_add(len as u64).ok_or(EFAULT)?;
        if end > self.length {
            return Err(EFAULT);
        }
        Ok(self.offset.wrapping_add(offset))
    }

    /// Copies `src` to `offset` of the range.
    pub(crate) fn write(&self, offset: u64, src: &[u8]) -> Result {
        self.access.write(self.at(offset, src.len())?, src)
    }

    /// Does `op` to the 8 bytes at `offset` of the range; gives what was there before. One access to
    /// all other atomics, those of the CPU included. EINVAL if the bytes are not naturally aligned in
    /// memory, which an aligned address does not say: an address is what the MR's owner calls it. Any
    /// context.
    #[inline]
    pub(crate) fn atomic(&self, offset: u64, op: AtomicOp) -> Result<u64> {
        self.access.atomic(self.at(offset, size_of::<u64>())?, op)
    }

    /// Makes what was placed in the range until now visible to everybody, and persistent where the
    /// memory is. Any context.
    pub(crate) fn flush(&self) {
        self.access.flush();
    }
}
