// SPDX-License-Identifier: GPL-2.0

//! A checked piece of a memory region, and the copies from and to it.

use super::{key_index, Mr, LOCAL_DMA_LKEY};
use crate::device::Device;
use crate::kapi::net::skb::SkbChunk;
use crate::kapi::rdma::mr::Memory;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Why an access is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessError {
    /// No MR has this key, or it is not in force.
    Key,
    /// The MR is of another PD.
    Pd,
    /// Not all of the range is inside the MR.
    Bounds,
    /// The range wraps around the end of the address space.
    Wrap,
    /// The MR does not grant this.
    Access,
    /// The key cannot be invalidated.
    Invalidate,
}

/// A range of memory that was checked for one access.
///
/// While it exists the deregistration of its MR waits, so it is held for the time of a copy only.
pub(crate) struct Span {
    /// `None`: all of the kernel's memory.
    mr: Option<Arc<Mr>>,
    /// Bytes from the MR's first one.
    offset: u64,
    length: u64,
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mr) = &self.mr {
            mr.gate.leave();
        }
    }
}

impl Span {
    /// Finds and checks `length` bytes at `addr` of the MR with `key`: it must be in force, of PD
    /// `pd`, and grant all of `need`. Any context.
    pub(crate) fn find(
        dev: &Device,
        key: u32,
        pd: u64,
        addr: u64,
        length: u64,
        need: u32,
    ) -> Result<Self, AccessError> {
        let mr = dev.mrs.get(key_index(key)).ok_or(AccessError::Key)?;
        if !mr.gate.enter() {
            return Err(AccessError::Key);
        }
        // From here on the drop leaves the gate.
        let mut span = Self {
            mr: Some(mr),
            offset: 0,
            length,
        };
        let Some(mr) = &span.mr else {
            return Err(AccessError::Key);
        };
        let desc = *mr.desc.lock();
        if !desc.valid || desc.key != key {
            return Err(AccessError::Key);
        }
        if desc.pd != pd {
            return Err(AccessError::Pd);
        }
        if desc.access & need != need {
            return Err(AccessError::Access);
        }
        let end = addr.checked_add(length).ok_or(AccessError::Wrap)?;
        if addr < desc.iova || end - desc.iova > desc.length {
            return Err(AccessError::Bounds);
        }
        span.offset = match mr.memory {
            // The address of kernel memory is the memory's own.
            Memory::Kernel => addr,
            _ => addr - desc.iova,
        };
        Ok(span)
    }

    /// As [`Span::find`] for an SGE of our own: `kernel` users may use the key of all memory.
    pub(crate) fn local(
        dev: &Device,
        kernel: bool,
        key: u32,
        pd: u64,
        addr: u64,
        length: u64,
        need: u32,
    ) -> Result<Self, AccessError> {
        if kernel && key == LOCAL_DMA_LKEY {
            return Ok(Self {
                mr: None,
                offset: addr,
                length,
            });
        }
        Self::find(dev, key, pd, addr, length, need)
    }

    fn memory(&self) -> &Memory {
        match &self.mr {
            Some(mr) => &mr.memory,
            None => &Memory::Kernel,
        }
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
        self.memory().read(self.at(offset, dst.len())?, dst)
    }

    /// Copies `src` to `offset` of the range.
    #[inline]
    pub(crate) fn write(&self, offset: u64, src: &[u8]) -> Result {
        self.memory().write(self.at(offset, src.len())?, src)
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
        self.memory()
            .place(self.at(offset, len)?, chunk, from, len, crc)
    }
}
