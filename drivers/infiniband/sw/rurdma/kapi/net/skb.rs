// SPDX-License-Identifier: GPL-2.0

//! Received data.

use crate::bindings;
use core::marker::PhantomData;
use kernel::prelude::*;

/// CRC32C (Castagnoli) over `bytes`, from and to the raw remainder: start with `!0`, and invert
/// what comes out.
#[inline]
pub(crate) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    // SAFETY: A valid slice.
    unsafe { bindings::crc32c(seed, bytes.as_ptr().cast(), bytes.len()) }
}

/// A piece of a TCP stream as it was received.
///
/// # Invariants
///
/// `skb` is valid for `'a`, and `offset..offset + len` is within it.
pub(crate) struct SkbChunk<'a> {
    skb: *const bindings::sk_buff,
    offset: usize,
    len: usize,
    _skb: PhantomData<&'a bindings::sk_buff>,
}

impl SkbChunk<'_> {
    /// # Safety
    ///
    /// `skb` is valid for as long as the result, and `offset..offset + len` is within it.
    #[inline]
    pub(super) unsafe fn new(skb: *const bindings::sk_buff, offset: usize, len: usize) -> Self {
        // INVARIANT: By the caller's promise.
        Self {
            skb,
            offset,
            len,
            _skb: PhantomData,
        }
    }

    /// Number of bytes; never zero.
    #[inline]
    #[allow(clippy::len_without_is_empty)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The offset in the skb of `off`, if there are `len` bytes.
    #[inline]
    fn range(&self, off: usize, len: usize) -> Result<(c_int, c_int)> {
        if off > self.len || len > self.len - off {
            return Err(EINVAL);
        }
        // An skb has less than 2 GiB.
        Ok(((self.offset + off) as c_int, len as c_int))
    }

    /// Copies `to.len()` bytes from `off`.
    #[inline]
    pub(crate) fn copy_to_slice(&self, off: usize, to: &mut [u8]) -> Result {
        // SAFETY: A valid slice of that length.
        unsafe { self.copy_to_raw(off, to.as_mut_ptr(), to.len(), None) }
    }

    /// Copies `len` bytes from `off` to `to`, and takes them into `crc` on the way.
    ///
    /// # Safety
    ///
    /// `to` can be written to for `len` bytes. Others may write there at the same time: it may be
    /// memory of a process.
    #[inline]
    pub(in crate::kapi) unsafe fn copy_to_raw(
        &self,
        off: usize,
        to: *mut u8,
        len: usize,
        crc: Option<&mut u32>,
    ) -> Result {
        let (off, n) = self.range(off, len)?;

        if n == 0 {
            return Ok(());
        }
        // SAFETY: By the type invariant the range is within the skb, and by the caller's promise
        // there is room for it.
        let err = unsafe {
            match crc {
                Some(crc) => bindings::rurdma_skb_copy_crc32c(self.skb, off, to.cast(), n, crc),
                None => bindings::skb_copy_bits(self.skb, off, to.cast(), n),
            }
        };
        if err != 0 {
            return Err(EFAULT);
        }
        Ok(())
    }
}
