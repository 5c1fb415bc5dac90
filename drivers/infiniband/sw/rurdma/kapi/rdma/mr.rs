// SPDX-License-Identifier: GPL-2.0

//! `ib_mr`: memory that the device may access.
//!
//! The device uses virtual DMA: a DMA address is a kernel virtual address. So the memory of every
//! kind of MR comes down to a list of page addresses.

use crate::bindings;
use crate::kapi::errno::not_supported;
use crate::kapi::net::skb::SkbChunk;
use crate::kapi::rdma::object::Object;
use crate::kapi::rdma::ops::Driver;
use crate::kapi::sync::{new_spinlock_irq, SpinLockIrq};
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};
use kernel::alloc::flags::{GFP_KERNEL, __GFP_ZERO};
use kernel::error::{from_result, to_result};
use kernel::page::{PAGE_SHIFT, PAGE_SIZE};
use kernel::prelude::*;

type IbMr<D> = Object<bindings::ib_mr, <D as Driver>::Mr>;

/// What kind of MR is asked for.
pub(crate) enum MrInit {
    /// All of the kernel's memory, for kernel users.
    Dma {
        /// Access rights.
        access: u32,
    },
    /// A process's memory.
    User {
        /// The pinned pages.
        pages: UserPages,
        /// Address that the peers use for the first byte.
        iova: u64,
        /// Bytes.
        length: u64,
        /// Access rights.
        access: u32,
    },
    /// For fast registration by a kernel user.
    Fast {
        /// Pages at most.
        max_pages: u32,
    },
}

/// Pinned pages of a process.
///
/// # Invariants
///
/// `umem` is pinned until the drop; `pages` are the kernel addresses of its pages.
pub(crate) struct UserPages {
    umem: NonNull<bindings::ib_umem>,
    pages: ManuallyDrop<KVVec<usize>>,
    offset: usize,
}

// SAFETY: Pinned memory may be released by any process context.
unsafe impl Send for UserPages {}
// SAFETY: As above; access goes through raw pointers.
unsafe impl Sync for UserPages {}

impl UserPages {
    /// Pins `length` bytes at `start` of the calling process.
    ///
    /// # Safety
    ///
    /// `device` is a living device.
    unsafe fn pin(
        device: *mut bindings::ib_device,
        start: u64,
        length: u64,
        access: c_int,
    ) -> Result<Self> {
        let start = usize::try_from(start)?;
        let length = usize::try_from(length)?;
        // SAFETY: By the caller's promise; the core checks range, limits and rights.
        let umem = kernel::error::from_err_ptr(unsafe {
            bindings::rurdma_umem_get(device, start, length, access)
        })?;
        let mut this = Self {
            // SAFETY: `from_err_ptr` gives a pointer, which is not null on success.
            umem: unsafe { NonNull::new_unchecked(umem) },
            pages: ManuallyDrop::new(KVVec::new()),
            offset: start & (PAGE_SIZE - 1),
        };
        // SAFETY: The umem lives.
        let n = unsafe { bindings::rurdma_umem_num_pages(umem) };
        let mut pages = KVVec::from_elem(0usize, n, GFP_KERNEL)?;
        // SAFETY: `pages` has room for `n` addresses.
        to_result(unsafe { bindings::rurdma_umem_pages(umem, pages.as_mut_ptr(), n) })?;
        this.pages = ManuallyDrop::new(pages);
        Ok(this)
    }
}

impl UserPages {
    /// Whether the pages were pinned for writing.
    pub(crate) fn writable(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { self.umem.as_ref() }.writable() != 0
    }
}

impl Drop for UserPages {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; the list is not used after this.
        unsafe {
            bindings::ib_umem_release(self.umem.as_ptr());
            ManuallyDrop::drop(&mut self.pages);
        }
    }
}

/// The memory of an MR.
pub(crate) enum Memory {
    /// Addresses are kernel addresses.
    Kernel,
    /// A process's pages.
    User(UserPages),
    /// Pages of a fast registration, and the offset of the first byte in the first of them.
    Fast(FastPages),
}

/// A page list that a kernel user sets anew for each registration.
///
/// A kernel user that does so while a peer still may use the old one harms only what it owns
/// itself; the list is locked all the same, so it is never read half-written.
pub(crate) struct FastPages(Pin<KBox<SpinLockIrq<PageList>>>);

struct PageList {
    pages: KVVec<usize>,
    used: usize,
    offset: usize,
    page_shift: usize,
}

impl FastPages {
    /// Room for `max` pages.
    pub(crate) fn new(max: u32) -> Result<Self> {
        let list = PageList {
            pages: KVVec::from_elem(0usize, max as usize, GFP_KERNEL)?,
            used: 0,
            offset: 0,
            page_shift: PAGE_SHIFT,
        };
        Ok(Self(KBox::pin_init(
            new_spinlock_irq!(list, "FastPages"),
            GFP_KERNEL,
        )?))
    }
}

/// A contiguous piece of an MR's memory.
#[derive(Clone, Copy)]
struct Piece {
    at: *mut u8,
    len: usize,
}

impl Memory {
    /// The piece at `offset` bytes into the MR (for kernel memory: at that address), at most `max`
    /// bytes of it.
    fn piece(&self, offset: u64, max: usize) -> Result<Piece> {
        match self {
            Self::Kernel => Ok(Piece {
                at: ptr::with_exposed_provenance_mut(offset as usize),
                len: max,
            }),
            Self::User(user) => page_piece(&user.pages, user.offset, PAGE_SHIFT, offset, max),
            Self::Fast(fast) => {
                let list = fast.0.lock();
                let pages = list.pages.get(..list.used).ok_or(EFAULT)?;
                page_piece(pages, list.offset, list.page_shift, offset, max)
            }
        }
    }

    /// Copies `dst.len()` bytes at `offset` out of the memory.
    ///
    /// The caller has checked bounds and rights, and keeps the memory from going away.
    pub(crate) fn read(&self, mut offset: u64, mut dst: &mut [u8]) -> Result {
        while !dst.is_empty() {
            let piece = self.piece(offset, dst.len())?;
            // SAFETY: The piece is pinned memory of at least `len` bytes; a process may write to
            // it meanwhile, which `memcpy()` on raw pointers takes in its stride.
            unsafe { bindings::rurdma_memcpy(dst.as_mut_ptr().cast(), piece.at.cast(), piece.len) };
            offset += piece.len as u64;
            dst = dst.get_mut(piece.len..).ok_or(EFAULT)?;
        }
        Ok(())
    }

    /// Copies `src` to `offset`. Conditions as for [`Memory::read`].
    pub(crate) fn write(&self, mut offset: u64, mut src: &[u8]) -> Result {
        while !src.is_empty() {
            let piece = self.piece(offset, src.len())?;
            // SAFETY: As in `read`.
            unsafe { bindings::rurdma_memcpy(piece.at.cast(), src.as_ptr().cast(), piece.len) };
            offset += piece.len as u64;
            src = src.get(piece.len..).ok_or(EFAULT)?;
        }
        Ok(())
    }

    /// Copies `len` bytes at `from` of a received buffer to `offset`, and takes them into the
    /// CRC32c where one is wanted. Conditions as for [`Memory::read`].
    pub(crate) fn place(
        &self,
        mut offset: u64,
        chunk: &SkbChunk<'_>,
        mut from: usize,
        mut len: usize,
        mut crc: Option<&mut u32>,
    ) -> Result {
        while len > 0 {
            let piece = self.piece(offset, len)?;
            // SAFETY: The piece is pinned memory of at least `len` bytes.
            unsafe { chunk.copy_to_raw(from, piece.at, piece.len, crc.as_deref_mut()) }?;
            offset += piece.len as u64;
            from += piece.len;
            len -= piece.len;
        }
        Ok(())
    }
}

/// The piece at `offset` bytes from the first one, which is `first` bytes into the first page.
#[inline]
fn page_piece(
    pages: &[usize],
    first: usize,
    shift: usize,
    offset: u64,
    max: usize,
) -> Result<Piece> {
    let at = (offset as usize).checked_add(first).ok_or(EFAULT)?;
    let in_page = at & ((1 << shift) - 1);
    let page = *pages.get(at >> shift).ok_or(EFAULT)?;
    Ok(Piece {
        at: ptr::with_exposed_provenance_mut(page.wrapping_add(in_page)),
        len: max.min((1 << shift) - in_page),
    })
}

/// A kernel user's new page list.
pub(crate) struct Registration<'a> {
    mr: *mut bindings::ib_mr,
    sg: *mut bindings::scatterlist,
    nents: c_int,
    sg_offset: *mut c_uint,
    _scope: core::marker::PhantomData<&'a ()>,
}

impl Registration<'_> {
    /// Takes the list into `pages`. Gives the number of entries taken, the address (iova) of the
    /// first byte, and the length.
    pub(crate) fn take(self, pages: &FastPages) -> Result<(c_int, u64, u64)> {
        let mut guard = pages.0.lock();
        let list = &mut *guard;
        list.used = 0;
        // SAFETY: The core called us with a living MR and a mapped list.
        let n = unsafe {
            bindings::rurdma_sg_to_pages(
                self.mr,
                self.sg,
                self.nents,
                self.sg_offset,
                list.pages.as_mut_ptr(),
                list.pages.len(),
                &mut list.used,
            )
        };
        if n < 0 {
            return Err(Error::from_errno(n));
        }
        // SAFETY: The MR lives; the core filled these in.
        let (iova, length, page_size) =
            unsafe { ((*self.mr).iova, (*self.mr).length, (*self.mr).page_size) };
        list.page_shift = page_size.trailing_zeros() as usize;
        list.offset = (iova & (u64::from(page_size) - 1)) as usize;
        Ok((n, iova, length))
    }
}

/// Allocates the core's part of an MR.
fn new_mr<D: Driver>(pd: &kernel::sync::Arc<D::Pd>, init: MrInit) -> Result<*mut bindings::ib_mr> {
    let inner = D::create_mr(pd, init)?;
    let key = D::mr_key(&inner);
    // SAFETY: All zeros is a valid `Object`.
    let object = KBox::<IbMr<D>>::new_uninit(GFP_KERNEL | __GFP_ZERO).map_err(|_| {
        D::dereg_mr(&inner);
        ENOMEM
    })?;
    let raw = KBox::into_raw(object).cast::<bindings::ib_mr>();
    // SAFETY: The memory is zeroed and ours.
    unsafe {
        IbMr::<D>::from_raw(raw).set(inner);
        (*raw).lkey = key;
        (*raw).rkey = key;
    }
    Ok(raw)
}

fn into_ptr(result: Result<*mut bindings::ib_mr>) -> *mut bindings::ib_mr {
    result.unwrap_or_else(|e| e.to_ptr())
}

/// # Safety
///
/// Called by the core with a living PD.
pub(super) unsafe extern "C" fn get_dma_mr<D: Driver>(
    pd: *mut bindings::ib_pd,
    access: c_int,
) -> *mut bindings::ib_mr {
    // SAFETY: By the caller's promise.
    into_ptr(unsafe { Object::<_, D::Pd>::get(pd) }.and_then(|pd| {
        new_mr::<D>(
            pd,
            MrInit::Dma {
                access: access as u32,
            },
        )
    }))
}

/// # Safety
///
/// Called by the core with a living PD for a process's command.
pub(super) unsafe extern "C" fn reg_user_mr<D: Driver>(
    pd: *mut bindings::ib_pd,
    start: u64,
    length: u64,
    virt: u64,
    access: c_int,
    dmah: *mut bindings::ib_dmah,
    udata: *mut bindings::ib_udata,
) -> *mut bindings::ib_mr {
    let register = || {
        if !dmah.is_null() {
            return Err(not_supported());
        }
        // SAFETY: By the caller's promise.
        to_result(unsafe { bindings::rurdma_no_udata_io(udata) })?;
        if access as u32 & !crate::kapi::rdma::attr::access::SUPPORTED != 0 {
            return Err(not_supported());
        }
        // SAFETY: By the caller's promise.
        let inner = unsafe { Object::<_, D::Pd>::get(pd) }?;
        // SAFETY: A PD has a device.
        let pages = unsafe { UserPages::pin((*pd).device, start, length, access) }?;
        new_mr::<D>(
            inner,
            MrInit::User {
                pages,
                iova: virt,
                length,
                access: access as u32,
            },
        )
    };
    into_ptr(register())
}

/// # Safety
///
/// Called by the core with a living MR and PD.
pub(super) unsafe extern "C" fn rereg_user_mr<D: Driver>(
    mr: *mut bindings::ib_mr,
    flags: c_int,
    _start: u64,
    _length: u64,
    _virt: u64,
    access: c_int,
    pd: *mut bindings::ib_pd,
    udata: *mut bindings::ib_udata,
) -> *mut bindings::ib_mr {
    let rereg = || {
        let flags = flags as u32;
        // SAFETY: By the caller's promise.
        to_result(unsafe { bindings::rurdma_no_udata_io(udata) })?;
        if flags & !(bindings::ib_mr_rereg_flags_IB_MR_REREG_PD | bindings::ib_mr_rereg_flags_IB_MR_REREG_ACCESS) != 0 {
            return Err(not_supported());
        }
        // SAFETY: By the caller's promise.
        let inner = unsafe { IbMr::<D>::get(mr) }?;
        let new_pd = if flags & bindings::ib_mr_rereg_flags_IB_MR_REREG_PD != 0 {
            // SAFETY: By the caller's promise.
            Some(unsafe { Object::<_, D::Pd>::get(pd) }?)
        } else {
            None
        };
        let access = (flags & bindings::ib_mr_rereg_flags_IB_MR_REREG_ACCESS != 0).then_some(access as u32);
        if access.is_some_and(|a| a & !crate::kapi::rdma::attr::access::SUPPORTED != 0) {
            return Err(not_supported());
        }
        D::rereg_mr(inner, new_pd, access)?;
        if flags & bindings::ib_mr_rereg_flags_IB_MR_REREG_PD != 0 {
            // SAFETY: The core holds the MR's lock; the driver sets the new PD (see `rereg_user_mr`
            // in the core, which counts the PDs' users).
            unsafe { (*mr).pd = pd };
        }
        Ok(ptr::null_mut())
    };
    into_ptr(rereg())
}

/// # Safety
///
/// Called by the core to destroy an MR.
pub(super) unsafe extern "C" fn dereg_mr<D: Driver>(
    mr: *mut bindings::ib_mr,
    udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        to_result(unsafe { bindings::rurdma_no_udata_io(udata) })?;
        // SAFETY: The object is being destroyed, and its memory is from `new_mr`.
        unsafe {
            if let Some(inner) = IbMr::<D>::from_raw(mr).take() {
                D::dereg_mr(&inner);
            }
            drop(KBox::from_raw(mr.cast::<core::mem::MaybeUninit<IbMr<D>>>()));
        }
        Ok(0)
    })
}

/// # Safety
///
/// Called by the core with a living PD.
pub(super) unsafe extern "C" fn alloc_mr<D: Driver>(
    pd: *mut bindings::ib_pd,
    kind: bindings::ib_mr_type,
    max_pages: u32,
) -> *mut bindings::ib_mr {
    if kind != bindings::ib_mr_type_IB_MR_TYPE_MEM_REG {
        return not_supported().to_ptr();
    }
    // SAFETY: By the caller's promise.
    into_ptr(
        unsafe { Object::<_, D::Pd>::get(pd) }
            .and_then(|pd| new_mr::<D>(pd, MrInit::Fast { max_pages })),
    )
}

/// # Safety
///
/// Called by the core with a living MR from `alloc_mr` and a mapped list.
pub(super) unsafe extern "C" fn map_mr_sg<D: Driver>(
    mr: *mut bindings::ib_mr,
    sg: *mut bindings::scatterlist,
    nents: c_int,
    sg_offset: *mut c_uint,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let inner = unsafe { IbMr::<D>::get(mr) }?;
        D::map_mr_sg(
            inner,
            Registration {
                mr,
                sg,
                nents,
                sg_offset,
                _scope: core::marker::PhantomData,
            },
        )
    })
}
