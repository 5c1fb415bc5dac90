// SPDX-License-Identifier: GPL-2.0

//! Received data.

use crate::bindings;
use core::cell::Cell;
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

/// Bytes of an skb that lie in one piece. Others may write to them at any time: what is in an skb of this machine may
/// be in the page cache.
#[derive(Clone, Copy)]
pub(super) struct Block {
    data: *const u8,
    /// Offset of the first one.
    start: usize,
    len: usize,
    /// The frag behind it.
    next: u32,
}

impl Block {
    /// The head of an skb, which may be empty.
    ///
    /// # Safety
    ///
    /// `skb` is valid.
    #[inline]
    pub(super) unsafe fn head(skb: *const bindings::sk_buff) -> Self {
        let mut len = 0;
        // SAFETY: By the caller's promise.
        let data = unsafe { bindings::rurdma_skb_head(skb, &mut len) };
        Self {
            data: data.cast(),
            start: 0,
            len: len as usize,
            next: 0,
        }
    }

    /// The one with the byte at `at`: this one, or one behind it; from the head on if it is before. `None` if it is
    /// in an skb behind this one, or cannot be read.
    ///
    /// # Safety
    ///
    /// `skb` is valid; the block is its head or one of its frags, and so is what comes out.
    #[inline]
    pub(super) unsafe fn seek(self, skb: *const bindings::sk_buff, at: usize) -> Option<Self> {
        let mut block = self;
        if at < block.start {
            // SAFETY: By the caller's promise.
            block = unsafe { Self::head(skb) };
        }
        while at - block.start >= block.len {
            let mut len = 0;
            // SAFETY: By the caller's promise; there is nothing behind the last frag.
            let data = unsafe { bindings::rurdma_skb_frag(skb, block.next, &mut len) };
            if data.is_null() {
                return None;
            }
            block = Self {
                data: data.cast(),
                start: block.start + block.len,
                len: len as usize,
                next: block.next + 1,
            };
        }
        Some(block)
    }
}

/// A piece of what was received.
///
/// # Invariants
///
/// `skb` is valid for `'a`, and `offset..offset + len` is within it. `block` is the head of the skb or one of its
/// frags, which stay where they are for `'a`.
pub(crate) struct SkbChunk<'a> {
    skb: *const bindings::sk_buff,
    offset: usize,
    len: usize,
    /// Where the last copy ended: mostly the next one begins there.
    block: Cell<Block>,
    _skb: PhantomData<&'a bindings::sk_buff>,
}

impl SkbChunk<'_> {
    /// # Safety
    ///
    /// `skb` is valid for as long as the result, and `offset..offset + len` is within it. `block` is its head or one
    /// of its frags, best the one where these bytes begin.
    #[inline]
    pub(super) unsafe fn new(
        skb: *const bindings::sk_buff,
        block: Block,
        offset: usize,
        len: usize,
    ) -> Self {
        // INVARIANT: By the caller's promise.
        Self {
            skb,
            offset,
            len,
            block: Cell::new(block),
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
    fn range(&self, off: usize, len: usize) -> Result<usize> {
        if off > self.len || len > self.len - off {
            return Err(EINVAL);
        }
        Ok(self.offset + off)
    }

    /// The bytes from `at` on of the skb that lie in one piece. `None` if they are in an skb behind this one, or
    /// cannot be read.
    #[inline]
    fn block_at(&self, at: usize) -> Option<(*const u8, usize)> {
        // SAFETY: By the type invariant.
        let block = unsafe { self.block.get().seek(self.skb, at) }?;
        // INVARIANT: The head, or a frag.
        self.block.set(block);
        let into = at - block.start;
        // `into` is less than the block's length.
        Some((block.data.wrapping_add(into), block.len - into))
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
        let (mut at, mut left) = (self.range(off, len).ok()?, len);
        while left > 0 {
            let Some((from, n)) = self.block_at(at) else {
                return self.crc32_anyhow(at, left, crc);
            };
            let n = n.min(left);
            // SAFETY: By the type invariant these bytes are the skb's. C reads them, and takes what others write
            // meanwhile in its stride.
            crc = unsafe { bindings::crc32_le(crc, from.cast(), n) };
            at += n;
            left -= n;
        }
        Some(crc)
    }

    /// The same over `len` bytes of the skb from `at`, which are within the chunk, wherever they are.
    fn crc32_anyhow(&self, at: usize, len: usize, mut crc: u32) -> Option<u32> {
        let (mut state, mut done) = (MaybeUninit::uninit(), 0);
        // SAFETY: By the type invariant the range is within the skb, which is only read. The state is set by the
        // first call, and used up by the call that says 0.
        unsafe {
            let from = at as u32;
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
        let (mut at, mut to, mut left, mut crc) = (self.range(off, len)?, to, len, crc);
        while left > 0 {
            let Some((from, n)) = self.block_at(at) else {
                // SAFETY: What is left of the range, and of the room for it.
                return unsafe { self.copy_anyhow(at, to, left, crc) };
            };
            let n = n.min(left);
            // SAFETY: By the type invariant these bytes are the skb's, and by the caller's promise there is room for
            // them. Both may change meanwhile, which C functions on raw pointers take in their stride. What is
            // summed was copied just before, and is in the cache.
            unsafe {
                bindings::rurdma_memcpy(to.cast(), from.cast(), n);
                if let Some(crc) = crc.as_deref_mut() {
                    *crc = bindings::crc32c(*crc, from.cast(), n);
                }
                to = to.add(n);
            }
            at += n;
            left -= n;
        }
        Ok(())
    }

    /// Copies `len` bytes of the skb from `at`, wherever they are.
    ///
    /// # Safety
    ///
    /// They are within the chunk; for `to`, see [`Self::copy_to_raw`].
    unsafe fn copy_anyhow(
        &self,
        at: usize,
        to: *mut u8,
        len: usize,
        crc: Option<&mut u32>,
    ) -> Result {
        // An skb has less than 2 GiB.
        let (off, n) = (at as c_int, len as c_int);
        // SAFETY: By the type invariant and the caller's promise.
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
