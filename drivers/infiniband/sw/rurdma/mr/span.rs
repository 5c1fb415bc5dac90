// SPDX-License-Identifier: GPL-2.0

//! A checked piece of a memory region, the copies from and to it, and the atomics on it.

use super::{key_index, Mr, LOCAL_DMA_LKEY};
use crate::device::Device;
use crate::kapi::net::skb::SkbChunk;
use crate::kapi::rdma::memory::Access;
use crate::proto::access::{self as proto, Denied};
use crate::proto::atomic::AtomicOp;
use crate::qp::Qp;
use core::mem::size_of;
use kernel::prelude::*;

/// A range of memory that was checked for one access.
///
/// While it exists the deregistration of its MR waits, so it is held for the time of a copy only.
pub(crate) struct Span {
    access: Access,
    /// Of the range's first byte.
    offset: u64,
    length: u64,
}

impl Span {
    /// Finds and checks `length` bytes at `addr` of the MR or window with `key`, for the peer of `qp`: it
    /// must be in force, of the QP's PD, open to the QP, and grant `need`. Any context.
    pub(crate) fn remote(
        qp: &Qp,
        key: u32,
        addr: u64,
        length: u64,
        need: proto::Access,
    ) -> Result<Self, Denied> {
        let index = key_index(key);
        if let Some(mr) = qp.dev.mrs.get(index) {
            return Self::of(&mr, key, qp.pd.id, addr, length, need);
        }
        let mw = qp.dev.mws.get(index).ok_or(Denied::Key)?;
        let (access, offset) = mw.access(qp, key, addr, length, need)?;
        Ok(Self {
            access,
            offset,
            length,
        })
    }

    /// The same for all of the MR or window.
    pub(crate) fn whole(qp: &Qp, key: u32, need: proto::Access) -> Result<Self, Denied> {
        let index = key_index(key);
        let range = match qp.dev.mrs.get(index) {
            Some(mr) => Some(mr.range()),
            None => qp.dev.mws.get(index).and_then(|mw| mw.range()),
        };
        // Whether the key is the right one is looked at below.
        let (addr, length) = range.ok_or(Denied::Key)?;
        Self::remote(qp, key, addr, length, need)
    }

    /// Checks `length` bytes at `addr` of an MR: `key` must be its key, and in force, of PD `pd`, and
    /// grant `need`.
    fn of(
        mr: &Mr,
        key: u32,
        pd: u64,
        addr: u64,
        length: u64,
        need: proto::Access,
    ) -> Result<Self, Denied> {
        let desc = mr.desc.lock();
        if !desc.valid || desc.key != key {
            return Err(Denied::Key);
        }
        if desc.pd != pd {
            return Err(Denied::Domain);
        }
        // All of the kernel's memory begins at 0: there the offset is the address.
        let offset = desc.region().check(need, addr, length)?;
        // With the lock held: see `Desc`.
        Ok(Self {
            access: desc.memory.enter().ok_or(Denied::Key)?,
            offset,
            length,
        })
    }

    /// The same for an SGE of our own, which names an MR: `kernel` users may use the key of all memory.
    pub(crate) fn local(
        dev: &Device,
        kernel: bool,
        key: u32,
        pd: u64,
        addr: u64,
        length: u64,
        need: proto::Access,
    ) -> Result<Self, Denied> {
        if kernel && key == LOCAL_DMA_LKEY {
            return Ok(Self {
                access: dev.kernel_memory.enter().ok_or(Denied::Key)?,
                offset: addr,
                length,
            });
        }
        let mr = dev.mrs.get(key_index(key)).ok_or(Denied::Key)?;
        Self::of(&mr, key, pd, addr, length, need)
    }

    /// The place `offset` bytes into the range, if `len` bytes fit behind it.
    fn at(&self, offset: u64, len: usize) -> Result<u64> {
        let end = offset.checked_add(len as u64).ok_or(EFAULT)?;
        if end > self.length {
            return Err(EFAULT);
        }
        Ok(self.offset.wrapping_add(offset))
    }

    /// Copies `dst.len()` bytes at `offset` of the range out of it.
    #[inline]
    pub(crate) fn read(&self, offset: u64, dst: &mut [u8]) -> Result {
        self.access.read(self.at(offset, dst.len())?, dst)
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

    /// Copies `len` bytes at `from` of a received buffer to `offset` of the range; takes them into
    /// the CRC32c where one is wanted.
    #[inline]
    pub(crate) fn place(
        &self,
        offset: u64,
        chunk: &SkbChunk<'_>,
        from: usize,
        len: usize,
        crc: Option<&mut u32>,
    ) -> Result {
        self.access
            .place(self.at(offset, len)?, chunk, from, len, crc)
    }
}
