// SPDX-License-Identifier: GPL-2.0

//! Memory that the kernel and a process share: rings and doorbells.

use crate::bindings;
use crate::kapi::rdma::account::Charge;
use crate::kapi::rdma::udata::Udata;
use core::ptr::NonNull;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::error::to_result;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Zeroed, page-aligned kernel memory that may be mapped to user space.
///
/// A process's area is accounted to its locked memory (`RLIMIT_MEMLOCK`) for as long as it lives.
///
/// # Invariants
///
/// `base` is the start of `len` bytes from `vmalloc_user()`.
pub(crate) struct Area {
    base: NonNull<u8>,
    len: usize,
    _charge: Option<Charge>,
}

// SAFETY: The area is plain memory, accessed by raw pointers under its users' own rules.
unsafe impl Send for Area {}
// SAFETY: As above.
unsafe impl Sync for Area {}

impl Area {
    /// Allocates at least `len` bytes; a process's are accounted to it. Process context.
    pub(crate) fn new(len: usize, user: bool) -> Result<Arc<Self>> {
        let len = len.checked_next_multiple_of(PAGE_SIZE).ok_or(ENOMEM)?;
        let charge = if user {
            Some(Charge::new(len / PAGE_SIZE)?)
        } else {
            None
        };
        // SAFETY: May be called from process context.
        let base = NonNull::new(unsafe { bindings::vmalloc_user_noprof(len) }.cast());
        let area = Self {
            base: base.ok_or(ENOMEM)?,
            len,
            _charge: charge,
        };
        Ok(Arc::new(area, GFP_KERNEL)?)
    }

    /// Start of the area, page-aligned.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Length in bytes, a multiple of the page size.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; `vfree()` defers itself in softirq. Pages that a process
        // still maps live on by the mapping's own references.
        unsafe { bindings::vfree(self.base.as_ptr().cast()) };
    }
}

/// What an mmap offset of a context stands for.
#[repr(C)]
struct Entry {
    raw: bindings::rdma_user_mmap_entry,
    area: Arc<Area>,
    writable: bool,
}

/// An offset at which a process may map an area; given back on drop.
///
/// # Invariants
///
/// The entry was inserted and is removed by the drop only; the context outlives the value.
pub(crate) struct Mapping(NonNull<Entry>);

// SAFETY: The core's functions on entries lock by themselves.
unsafe impl Send for Mapping {}
// SAFETY: As above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Offers `area` to the process that runs the command. The value must be dropped before the
    /// command's context goes, which holds for what a verbs object owns until it is destroyed.
    pub(crate) fn new(udata: &Udata<'_>, area: Arc<Area>, writable: bool) -> Result<Self> {
        // SAFETY: A udata has a context.
        unsafe { Self::for_context(udata.ucontext(), area, writable) }
    }

    /// # Safety
    ///
    /// `ucontext` is null or a context that outlives the value.
    pub(super) unsafe fn for_context(
        ucontext: *mut bindings::ib_ucontext,
        area: Arc<Area>,
        writable: bool,
    ) -> Result<Self> {
        if ucontext.is_null() {
            return Err(EINVAL);
        }
        let len = area.len();
        let entry = KBox::into_raw(KBox::new(
            Entry {
                // SAFETY: All zeros is what the core expects before the insertion.
                raw: unsafe { core::mem::zeroed() },
                area,
                writable,
            },
            GFP_KERNEL,
        )?);
        // SAFETY: The context lives, `raw` is memory of ours.
        let err =
            unsafe { bindings::rdma_user_mmap_entry_insert(ucontext, &raw mut (*entry).raw, len) };
        if err != 0 {
            // SAFETY: The core did not take it.
            drop(unsafe { KBox::from_raw(entry) });
            return Err(Error::from_errno(err));
        }
        // SAFETY: A box is never null.
        Ok(Self(unsafe { NonNull::new_unchecked(entry) }))
    }

    /// The offset to give to `mmap()`, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        // SAFETY: By the type invariant the entry lives.
        unsafe { bindings::rurdma_mmap_offset(&raw mut (*self.0.as_ptr()).raw) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; `mmap_free` runs with the last reference.
        unsafe { bindings::rdma_user_mmap_entry_remove(&raw mut (*self.0.as_ptr()).raw) };
    }
}

/// `ib_device_ops.mmap_free`.
///
/// # Safety
///
/// `raw` is an entry made by [`Mapping`], unused from now on.
pub(super) unsafe extern "C" fn mmap_free(raw: *mut bindings::rdma_user_mmap_entry) {
    // SAFETY: `raw` is the first field of a boxed `Entry`.
    drop(unsafe { KBox::from_raw(raw.cast::<Entry>()) });
}

/// `ib_device_ops.mmap`.
///
/// # Safety
///
/// Called by the core with a living context and the area that is being mapped.
pub(super) unsafe extern "C" fn mmap(
    context: *mut bindings::ib_ucontext,
    vma: *mut bindings::vm_area_struct,
) -> c_int {
    kernel::error::from_result(|| {
        // SAFETY: By the caller's promise.
        let raw = unsafe { bindings::rdma_user_mmap_entry_get(context, vma) };
        if raw.is_null() {
            return Err(EINVAL);
        }
        // SAFETY: Every entry of our contexts is an `Entry`, and we hold a reference to it.
        let entry = unsafe { &*raw.cast::<Entry>() };
        // SAFETY: The vma is being set up and ours; the area is from `vmalloc_user()` and at least
        // as long as the vma, since the core compared its length with the entry's.
        let ret = unsafe {
            bindings::rurdma_map_area(vma, entry.area.base.as_ptr().cast(), entry.writable)
        };
        // SAFETY: The reference is from `rdma_user_mmap_entry_get()`.
        unsafe { bindings::rdma_user_mmap_entry_put(raw) };
        to_result(ret)?;
        Ok(0)
    })
}
