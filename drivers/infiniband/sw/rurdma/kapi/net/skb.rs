// SPDX-License-Identifier: GPL-2.0

//! Received data.

use crate::bindings;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::null;
use kernel::prelude::*;

/// CRC32C (Castagnoli) over `bytes`, from and to the raw remainder: start with `!0`, and invert
/// what comes out.
#[inline]
pub(crate) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    // SAFETY: A valid slice.
    unsafe { bindings::crc32c(seed, bytes.as_ptr().cast(), bytes.len()) }
}

/// Where bytes of an skb are, if they are in one piece, for as long as the skb lives and nobody changes its
/// layout; else null.
///
/// # Safety
///
/// `skb` is valid, and `offset..offset + len` is within it.
#[inline]
pub(super) unsafe fn find_flat(
    skb: *const bindings::sk_buff,
    offset: usize,
    len: usize,
) -> *const u8 {
    // SAFETY: By the caller's promise.
    unsafe { bindings::rurdma_skb_flat(skb, offset, len) }
}

/// A piece of what was received.
///
/// # Invariants
///
/// `skb` is valid for `'a`, and `offset..offset + len` is within it. `flat` is null, or points to these bytes, for
/// `'a`. Others may write to them at any time: what is in an skb of this machine may be in the page cache.
pub(crate) struct SkbChunk<'a> {
    skb: *const bindings::sk_buff,
    offset: usize,
    len: usize,
    flat: *const u8,
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
            flat: null(),
            _skb: PhantomData,
        }
    }

    /// The same where it is known that the bytes are in one piece.
    ///
    /// # Safety
    ///
    /// As of [`SkbChunk::new`]; `flat` is what [`find_flat`] says of this range.
    #[inline]
    pub(super) unsafe fn in_one_piece(
        skb: *const bindings::sk_buff,
        offset: usize,
        len: usize,
        flat: *const u8,
    ) -> Self {
        // INVARIANT: By the caller's promise.
        Self {
            skb,
            offset,
            len,
            flat,
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

    /// CRC-32 over `len` bytes from `off`, from and to the raw remainder. `None` if they are not there, or cannot
    /// be read.
    pub(crate) fn crc32(&self, off: usize, len: usize, mut crc: u32) -> Option<u32> {
        if !self.flat.is_null() {
            let _ = self.range(off, len).ok()?;
            // SAFETY: By the type invariant, as the range is within it. C reads it, byte by byte or otherwise, and
            // takes what others write meanwhile in its stride.
            return Some(unsafe { bindings::crc32_le(crc, self.flat.add(off).cast(), len) });
        }
        let (off, _) = self.range(off, len).ok()?;
        let (mut state, mut done) = (MaybeUninit::uninit(), 0);
        // SAFETY: By the type invariant the range is within the skb, which is only read. The state is set by the
        // first call, and used up by the call that says 0.
        unsafe {
            let from = off as u32;
            let to = from + len as u32;
            let state = state.as_mut_ptr();
            bindings::skb_prepare_seq_read(self.skb.cast_mut(), from, to, state);
            loop {
                let mut data = null();
                let n = bindings::skb_seq_read(done as u32, &mut data, state) as usize;
                if n == 0 {
                    break;
                }
                // There may be more behind the end.
                let n = n.min(len - done);
                crc = bindings::crc32_le(crc, data.cast(), n);
                done += n;
            }
        }
        (done == len).then_some(crc)
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
        let (at, n) = self.range(off, len)?;

        if n == 0 {
            return Ok(());
        }
        if !self.flat.is_null() && crc.is_none() {
            // SAFETY: By the type invariant, as the range is within it, and the caller's promise. They do not overlap:
            // one is an skb's.
            unsafe { bindings::rurdma_memcpy(to.cast(), self.flat.add(off).cast(), len) };
            return Ok(());
        }
        // SAFETY: By the type invariant the range is within the skb, and by the caller's promise
        // there is room for it.
        let err = unsafe {
            match crc {
                Some(crc) => bindings::rurdma_skb_copy_crc32c(self.skb, at, to.cast(), n, crc),
                None => bindings::skb_copy_bits(self.skb, at, to.cast(), n),
            }
        };
        if err != 0 {
            return Err(EFAULT);
        }
        Ok(())
    }
}
