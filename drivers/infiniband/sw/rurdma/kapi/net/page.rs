// SPDX-License-Identifier: GPL-2.0

//! Pages to send from.
//!
//! What is to be sent is written into a [`TxPage`] once, headers, payload and checksum side by side,
//! and given to TCP, or an skb, by reference. Bytes that were handed out as a [`PageFrag`] do not change any
//! more; what follows them in the page is used for the next ones.

use crate::bindings;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

/// May the allocator sleep?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gfp {
    /// Yes, but it may not wait for storage, which may run over us.
    Noio,
    /// No.
    Atomic,
}

/// Physically contiguous pages that are filled from the front to the back.
///
/// # Invariants
///
/// - We own a reference to the (compound) page of `size` bytes, which is mapped at `addr`.
/// - Nobody else writes to it, and nobody else reads at or behind `tail`.
pub(crate) struct TxPage {
    page: NonNull<bindings::page>,
    addr: NonNull<u8>,
    size: usize,
    tail: usize,
}

// SAFETY: The page is written to by the owner of the `TxPage` alone, with `&mut`.
unsafe impl Send for TxPage {}
// SAFETY: As above.
unsafe impl Sync for TxPage {}

impl TxPage {
    /// The largest order worth asking for: 64 KiB, what TCP takes for one skb.
    pub(crate) const MAX_ORDER: u32 = 4;

    /// Allocates `PAGE_SIZE << order` bytes, or as many as can be had: at least a page.
    pub(crate) fn new(order: u32, gfp: Gfp) -> Result<Self> {
        let alloc = |order| {
            // SAFETY: The caller tells by `gfp` whether it may sleep.
            NonNull::new(unsafe { bindings::rurdma_alloc_pages(gfp == Gfp::Noio, order) })
        };
        let (page, order) = (0..=order.min(Self::MAX_ORDER))
            .rev()
            .find_map(|order| alloc(order).map(|page| (page, order)))
            .ok_or(ENOMEM)?;
        // SAFETY: Pages from the page allocator that are not highmem are mapped for good.
        let addr = unsafe { bindings::rurdma_page_address(page.as_ptr()) };

        // INVARIANT: The page was just allocated, so it is ours.
        Ok(Self {
            page,
            addr: NonNull::new(addr.cast()).ok_or(ENOMEM)?,
            size: PAGE_SIZE << order,
            tail: 0,
        })
    }

    /// Bytes of all of it.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Bytes that are left.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.size - self.tail
    }

    /// What is left, to write to. It holds whatever was there before.
    #[inline]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        let room = self.room();
        // SAFETY: By the type invariant the bytes from `tail` on are ours alone; they have the
        // value that whoever had the page last, outside of Rust, gave them.
        unsafe { core::slice::from_raw_parts_mut(self.addr.as_ptr().add(self.tail), room) }
    }

    /// Hands out the first `len` bytes of what is left, which were written before.
    #[inline]
    pub(crate) fn commit(&mut self, len: usize) -> PageFrag {
        let len = len.min(self.room());
        let offset = self.tail;

        // SAFETY: By the type invariant. The fragment owns the reference.
        unsafe { bindings::rurdma_get_page(self.page.as_ptr()) };
        self.tail += len;
        // The size of a page is far below 4 GiB.
        PageFrag(bindings::bio_vec {
            bv_page: self.page.as_ptr(),
            bv_len: len as u32,
            bv_offset: offset as u32,
        })
    }

    /// The same, as a part of `before` if that ends where the bytes begin: then there is no new fragment, and
    /// no new reference.
    #[inline]
    pub(crate) fn commit_behind(
        &mut self,
        before: Option<&mut PageFrag>,
        len: usize,
    ) -> Option<PageFrag> {
        let len = len.min(self.room());
        let here = |frag: &&mut PageFrag| {
            frag.0.bv_page == self.page.as_ptr()
                && frag.0.bv_offset as usize + frag.len() == self.tail
        };
        match before.filter(here) {
            Some(frag) => {
                // INVARIANT: All of it is within the page, to which the fragment has a reference.
                frag.0.bv_len += len as u32;
                self.tail += len;
                None
            }
            None => Some(self.commit(len)),
        }
    }

    /// Starts again at the front, if everything that was handed out has been given back.
    #[inline]
    pub(crate) fn try_reset(&mut self) -> bool {
        // SAFETY: By the type invariant.
        // INVARIANT: The only reference is ours: nobody reads any of it, and nobody can begin to.
        let sole = unsafe { bindings::rurdma_page_count(self.page.as_ptr()) } == 1;
        if sole {
            self.tail = 0;
        }
        sole
    }
}

impl Drop for TxPage {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_put_page(self.page.as_ptr()) };
    }
}

/// Bytes of a [`TxPage`] that do not change any more.
///
/// # Invariants
///
/// We own a reference to the page; the bytes are within it.
#[repr(transparent)]
pub(crate) struct PageFrag(bindings::bio_vec);

// SAFETY: The bytes do not change, and the reference may be given back on any thread.
unsafe impl Send for PageFrag {}
// SAFETY: As above.
unsafe impl Sync for PageFrag {}

impl PageFrag {
    /// Number of bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0.bv_len as usize
    }

    /// No bytes left?
    pub(crate) fn is_empty(&self) -> bool {
        self.0.bv_len == 0
    }

    /// Drops the first `n` bytes, which were sent.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize) {
        let n = n.min(self.len()) as u32;

        // INVARIANT: Still within the page.
        self.0.bv_offset += n;
        self.0.bv_len -= n;
    }

    /// The raw form, which owns the reference from now on.
    pub(super) fn into_bvec(self) -> bindings::bio_vec {
        let frag = ManuallyDrop::new(self);
        bindings::bio_vec { ..frag.0 }
    }

    /// As the array of `bio_vec` that it is.
    pub(super) fn as_bvecs(frags: &[PageFrag]) -> *const bindings::bio_vec {
        frags.as_ptr().cast()
    }
}

impl Clone for PageFrag {
    fn clone(&self) -> Self {
        // SAFETY: By the type invariant; the new fragment owns the new reference.
        unsafe { bindings::rurdma_get_page(self.0.bv_page) };
        Self(bindings::bio_vec { ..self.0 })
    }
}

impl Drop for PageFrag {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_put_page(self.0.bv_page) };
    }
}

/// Drops the first `n` bytes of a list of fragments; returns how many of its fragments are used up.
pub(crate) fn advance(frags: &mut [PageFrag], mut n: usize) -> usize {
    let mut done = 0;

    for frag in frags {
        let step = n.min(frag.len());
        frag.advance(step);
        n -= step;
        if !frag.is_empty() {
            break;
        }
        done += 1;
    }
    done
}
