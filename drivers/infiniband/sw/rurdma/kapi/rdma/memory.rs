// SPDX-License-Identifier: GPL-2.0

//! The memory behind an MR, and the copies from and to it.
//!
//! The device uses virtual DMA: a DMA address is a kernel virtual address. So the memory of every
//! kind of MR comes down to a list of page addresses.

use crate::bindings;
use crate::kapi::errno::not_supported;
use crate::kapi::net::skb::SkbChunk;
use crate::kapi::rdma::lease::{Grant, Lease};
use crate::kapi::sync::{new_spinlock_irq, Gate, SpinLockIrq};
use crate::proto::atomic::AtomicOp;
use crate::proto::sync::fence;
use core::marker::PhantomData;
use core::mem::size_of;
use core::ptr::{self, NonNull};
use kernel::alloc::flags::GFP_KERNEL;
use kernel::error::to_result;
use kernel::page::{PAGE_SHIFT, PAGE_SIZE};
use kernel::prelude::*;
use kernel::sync::atomic::ordering::{Full, Relaxed};
use kernel::sync::atomic::Atomic;
use kernel::sync::{new_mutex, Arc, Mutex};

/// Pages of a process, pinned by `ib_umem`; released on drop, in process context.
struct Umem(NonNull<bindings::ib_umem>);

// SAFETY: A umem may be released by any process context.
unsafe impl Send for Umem {}

impl Drop for Umem {
    fn drop(&mut self) {
        // SAFETY: The umem is ours alone.
        unsafe { bindings::ib_umem_release(self.0.as_ptr()) };
    }
}

/// Where the bytes are.
enum Kind {
    /// Addresses are kernel addresses: whoever names one is a kernel user, and answers for it.
    Kernel,
    /// A process's pages, from `offset` of the first one on.
    User { pages: KVVec<usize>, offset: usize },
    /// Pages of a fast registration. They are the kernel user's again as soon as an invalidation is
    /// done, so each copy holds the list's lock.
    Fast(Pin<KBox<SpinLockIrq<PageList>>>),
}

struct PageList {
    /// Registration that the list belongs to; one that has ended has another number.
    epoch: u32,
    pages: KVVec<usize>,
    used: usize,
    offset: usize,
    page_shift: usize,
}

/// Whether what is in memory is there after a loss of power.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Persistence {
    /// It is not.
    None,
    /// Of some pages.
    Some,
    /// Of all.
    All,
}

/// Where the bytes are, and what keeps them there.
///
/// # Invariants
///
/// The page addresses of `kind` are those of the pages of `umem`, if it ever was and is pinned still.
#[pin_data]
struct Pages {
    kind: Kind,
    writable: bool,
    persistence: Persistence,
    #[pin]
    umem: Mutex<Option<Umem>>,
}

/// Memory that the device may access until it is revoked.
///
/// # Invariants
///
/// While somebody is inside the gate, the `umem` of `pages` (if it ever was) is pinned.
#[pin_data]
pub(crate) struct Memory {
    #[pin]
    gate: Gate,
    pages: Arc<Pages>,
}

/// The right to access memory. Held for the time of a copy, or of a run of them: the revocation waits for it.
///
/// # Invariants
///
/// The holder is inside the memory's gate.
pub(crate) struct Access {
    memory: Arc<Memory>,
    /// Of a fast registration: the one that the access is for.
    epoch: u32,
    /// By way of a memory window: its grant.
    grant: Option<Grant>,
}

/// The largest copy with a page list or a lease locked.
const MAX_LOCKED_COPY: usize = 4096;

impl Drop for Access {
    #[inline]
    fn drop(&mut self) {
        self.memory.gate.leave();
    }
}

impl Memory {
    fn make(
        kind: Kind,
        writable: bool,
        persistence: Persistence,
        umem: Option<Umem>,
    ) -> Result<Arc<Self>> {
        Self::over(Arc::pin_init(
            pin_init!(Pages {
                kind,
                writable,
                persistence,
                umem <- new_mutex!(umem, "Pages::umem"),
            }),
            GFP_KERNEL,
        )?)
    }

    fn over(pages: Arc<Pages>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                gate <- Gate::new(),
                pages,
            }),
            GFP_KERNEL,
        )
    }

    /// The same memory for other users: those of `self` can be waited for ([`Memory::close`]) while
    /// the new ones come and go. Only one of the two is revoked in the end. Process context.
    pub(crate) fn again(&self) -> Result<Arc<Self>> {
        Self::over(self.pages.clone())
    }

    /// Ends all access by way of `self`; the memory stays where it is. Process context.
    pub(crate) fn close(&self) {
        self.gate.close_and_wait();
    }

    /// All of the kernel's memory.
    pub(crate) fn kernel() -> Result<Arc<Self>> {
        Self::make(Kind::Kernel, true, Persistence::None, None)
    }

    /// Room for `max` pages of a kernel user.
    pub(crate) fn fast(max: u32) -> Result<Arc<Self>> {
        let list = PageList {
            epoch: 0,
            pages: KVVec::from_elem(0usize, max as usize, GFP_KERNEL)?,
            used: 0,
            offset: 0,
            page_shift: PAGE_SHIFT,
        };
        let list = KBox::pin_init(new_spinlock_irq!(list, "Memory::list"), GFP_KERNEL)?;
        Self::make(Kind::Fast(list), true, Persistence::None, None)
    }

    /// Pins `length` bytes at `start` of the calling process.
    ///
    /// # Safety
    ///
    /// `device` is a living device.
    pub(super) unsafe fn pin(
        device: *mut bindings::ib_device,
        start: u64,
        length: u64,
        access: c_int,
    ) -> Result<Arc<Self>> {
        let start = usize::try_from(start)?;
        let length = usize::try_from(length)?;
        // SAFETY: By the caller's promise; the core checks range, limits and rights.
        let umem = kernel::error::from_err_ptr(unsafe {
            bindings::rurdma_umem_get(device, start, length, access)
        })?;
        let umem = Umem(NonNull::new(umem).ok_or(ENOMEM)?);
        // SAFETY: The umem lives.
        let n = unsafe { bindings::rurdma_umem_num_pages(umem.0.as_ptr()) };
        let mut pages = KVVec::from_elem(0usize, n, GFP_KERNEL)?;
        let mut persistent = 0;
        // SAFETY: The umem lives; `pages` has room for `n` addresses.
        to_result(unsafe {
            bindings::rurdma_umem_pages(umem.0.as_ptr(), pages.as_mut_ptr(), n, &mut persistent)
        })?;
        let persistence = match persistent {
            0 => Persistence::None,
            all if all == n => Persistence::All,
            _ => Persistence::Some,
        };
        // SAFETY: The umem lives.
        let writable = unsafe { umem.0.as_ref() }.writable() != 0;
        let offset = start & (PAGE_SIZE - 1);
        Self::make(
            Kind::User { pages, offset },
            writable,
            persistence,
            Some(umem),
        )
    }

    /// Whether it may be written to at all.
    pub(crate) fn writable(&self) -> bool {
        self.pages.writable
    }

    /// Whether these are pages of a process.
    pub(crate) fn is_user(&self) -> bool {
        matches!(self.pages.kind, Kind::User { .. })
    }

    /// Whether all of it is there after a loss of power. Of the kernel's memory nobody knows.
    pub(crate) fn is_persistent(&self) -> bool {
        self.pages.persistence == Persistence::All
    }

    /// Whether addresses in it are kernel addresses, rather than offsets.
    pub(crate) fn is_kernel(&self) -> bool {
        matches!(self.pages.kind, Kind::Kernel)
    }

    /// Grants access, unless it was revoked. Any context.
    #[inline]
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Access> {
        if !self.gate.enter() {
            return None;
        }
        // INVARIANT: The holder is inside from here on.
        Some(Access {
            memory: self.clone(),
            epoch: match &self.pages.kind {
                Kind::Fast(list) => list.lock().epoch,
                _ => 0,
            },
            grant: None,
        })
    }

    /// Ends a fast registration: when this returns, no copy of it is under way, and none will be.
    /// Any context.
    pub(crate) fn invalidate(&self) {
        if let Kind::Fast(list) = &self.pages.kind {
            let mut list = list.lock();
            list.epoch = list.epoch.wrapping_add(1);
        }
    }

    /// Ends all access, and releases what was pinned. Process context.
    pub(crate) fn revoke(&self) {
        self.gate.close_and_wait();
        drop(self.pages.umem.lock().take());
    }
}

/// Pins memory of the calling process for an MR of a device.
pub(crate) struct Pinner<'a> {
    pub(super) device: *mut bindings::ib_device,
    pub(super) _scope: PhantomData<&'a ()>,
}

impl Pinner<'_> {
    /// `length` bytes at `start`, for these rights.
    pub(crate) fn pin(&self, start: u64, length: u64, access: u32) -> Result<Arc<Memory>> {
        // SAFETY: The device lives for the scope of the value.
        unsafe { Memory::pin(self.device, start, length, access as c_int) }
    }

    /// The same bytes as `memory`, for other rights. EOPNOTSUPP if they are another process's, as their
    /// addresses mean something else here.
    pub(crate) fn pin_again(&self, memory: &Memory, access: u32) -> Result<Arc<Memory>> {
        let (start, length) = {
            let umem = memory.pages.umem.lock();
            let umem = umem.as_ref().ok_or(EINVAL)?.0.as_ptr();
            // SAFETY: The umem lives while the lock is held.
            unsafe {
                if !bindings::rurdma_umem_is_ours(umem) {
                    return Err(not_supported());
                }
                ((*umem).address, (*umem).length)
            }
        };
        self.pin(start as u64, length as u64, access)
    }
}

/// A contiguous piece of memory.
#[derive(Clone, Copy)]
struct Piece {
    at: *mut u8,
    len: usize,
}

impl Access {
    /// The same access, for the present term of a lease only. Any context.
    pub(crate) fn by(mut self, lease: &Arc<Lease>) -> Self {
        self.grant = Some(lease.grant());
        self
    }

    /// EFAULT if what it is for, a fast registration or the binding of a window, has ended; then every copy fails. Any
    /// context.
    pub(crate) fn lasts(&self) -> Result {
        if let Some(grant) = &self.grant {
            grant.hold().map(drop)?;
        }
        match &self.memory.pages.kind {
            Kind::Fast(list) if list.lock().epoch != self.epoch => Err(EFAULT),
            _ => Ok(()),
        }
    }

    /// Calls `copy` with the piece at `offset` bytes into the MR (for kernel memory: at that address),
    /// at most `max` bytes of it. Gives its length.
    fn with_piece(
        &self,
        offset: u64,
        max: usize,
        copy: impl FnOnce(Piece) -> Result,
    ) -> Result<usize> {
        // The lock that is taken last goes first.
        let _granted;
        let _locked;
        let mut max = max;
        if let Some(grant) = &self.grant {
            _granted = grant.hold()?;
            max = max.min(MAX_LOCKED_COPY);
        }
        let piece = match &self.memory.pages.kind {
            Kind::Kernel => Piece {
                at: ptr::with_exposed_provenance_mut(offset as usize),
                len: max,
            },
            Kind::User {
                pages,
                offset: first,
            } => page_piece(pages, *first, PAGE_SHIFT, offset, max)?,
            Kind::Fast(list) => {
                let list = list.lock();
                if list.epoch != self.epoch {
                    return Err(EFAULT);
                }
                let pages = list.pages.get(..list.used).ok_or(EFAULT)?;
                let max = max.min(MAX_LOCKED_COPY);
                let piece = page_piece(pages, list.offset, list.page_shift, offset, max)?;
                _locked = list;
                piece
            }
        };
        copy(piece)?;
        Ok(piece.len)
    }

    /// As [`Self::with_piece`], for what changes the piece. In persistent memory that is persistent at
    /// once, whoever wrote by whatever operation, so that a FLUSH has nothing to look for, and takes no
    /// longer than any other operation.
    fn change_piece(
        &self,
        offset: u64,
        max: usize,
        change: impl FnOnce(Piece) -> Result,
    ) -> Result<usize> {
        self.with_piece(offset, max, |piece| {
            change(piece)?;
            if self.memory.pages.persistence != Persistence::None {
                // SAFETY: By the type invariants the piece is memory of that length.
                unsafe { bindings::rurdma_persist(piece.at.cast(), piece.len) };
            }
            Ok(())
        })
    }

    /// What was placed until now is visible to everybody when this returns, and, where the memory is
    /// persistent, there after a loss of power (see [`Self::change_piece`]). Any context.
    pub(crate) fn flush(&self) {
        fence();
    }

    /// Copies `dst.len()` bytes at `offset` out of the memory. The caller has checked the rights.
    pub(crate) fn read(&self, mut offset: u64, mut dst: &mut [u8]) -> Result {
        while !dst.is_empty() {
            let to = dst.as_mut_ptr();
            let n = self.with_piece(offset, dst.len(), |piece| {
                // SAFETY: By the type invariants the piece is memory of at least `len` bytes, no more
                // than `dst` has; a process may write to it meanwhile, which `memcpy()` on raw pointers
                // takes in its stride.
                unsafe { bindings::rurdma_memcpy(to.cast(), piece.at.cast(), piece.len) };
                Ok(())
            })?;
            offset += n as u64;
            dst = dst.get_mut(n..).ok_or(EFAULT)?;
        }
        Ok(())
    }

    /// Copies `src` to `offset`. See [`Access::read`].
    pub(crate) fn write(&self, mut offset: u64, mut src: &[u8]) -> Result {
        while !src.is_empty() {
            let from = src.as_ptr();
            let n = self.change_piece(offset, src.len(), |piece| {
                // SAFETY: As in `read`.
                unsafe { bindings::rurdma_memcpy(piece.at.cast(), from.cast(), piece.len) };
                Ok(())
            })?;
            offset += n as u64;
            src = src.get(n..).ok_or(EFAULT)?;
        }
        Ok(())
    }

    /// Does `op` to the 8 bytes at `offset`, and gives what was there before, as a number of this
    /// machine. It is one access to all CPUs, whoever runs on them: another atomic, of whatever QP or
    /// device, and a process that uses atomics of its own come before it or after it. EINVAL if the
    /// bytes are not naturally aligned in memory. See [`Access::read`].
    pub(crate) fn atomic(&self, offset: u64, op: AtomicOp) -> Result<u64> {
        let mut original = 0;
        self.change_piece(offset, size_of::<u64>(), |piece| {
            let at = piece.at.cast::<u64>();
            if piece.len != size_of::<u64>() || !at.is_aligned() {
                return Err(EINVAL);
            }
            // SAFETY: By the type invariants the piece is memory of that length, and lives while it is
            // accessed; it is aligned. What else accesses it are atomics, processes and the copies of
            // C code above, which are no concern of the compiler's.
            let word = unsafe { Atomic::<u64>::from_ptr(at) };
            original = execute(word, op);
            Ok(())
        })?;
        Ok(original)
    }

    /// Copies `len` bytes at `from` of a received buffer to `offset`, and takes them into the
    /// CRC32c where one is wanted. See [`Access::read`].
    pub(crate) fn place(
        &self,
        mut offset: u64,
        chunk: &SkbChunk<'_>,
        mut from: usize,
        mut len: usize,
        mut crc: Option<&mut u32>,
    ) -> Result {
        while len > 0 {
            let sum = crc.as_deref_mut();
            let n = self.change_piece(offset, len, |piece| {
                // SAFETY: As in `read`.
                unsafe { chunk.copy_to_raw(from, piece.at, piece.len, sum) }
            })?;
            offset += n as u64;
            from += n;
            len -= n;
        }
        Ok(())
    }
}

/// Does `op` to `word`, fully ordered, and gives what was there before.
fn execute(word: &Atomic<u64>, op: AtomicOp) -> u64 {
    match op {
        AtomicOp::Store(value) => return word.xchg(value, Full),
        AtomicOp::FetchAdd { add, add_mask: 0 } => return word.fetch_add(add, Full),
        _ => {}
    }
    let mut old = word.load(Relaxed);
    loop {
        // What does not compare is stored as it is, so that it is ordered like what does.
        let new = op.apply(old).unwrap_or(old);
        match word.cmpxchg(old, new, Full) {
            Ok(_) => return old,
            // Somebody else's success: this comes to an end.
            Err(now) => old = now,
        }
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
    pub(super) mr: *mut bindings::ib_mr,
    pub(super) sg: *mut bindings::scatterlist,
    pub(super) nents: c_int,
    pub(super) sg_offset: *mut c_uint,
    pub(super) _scope: PhantomData<&'a ()>,
}

impl Registration<'_> {
    /// Takes the list into `memory`, which is for fast registration. Gives the number of entries taken, the address (iova) of the
    /// first byte, and the length.
    pub(crate) fn take(self, memory: &Memory) -> Result<(c_int, u64, u64)> {
        let Kind::Fast(list) = &memory.pages.kind else {
            return Err(EINVAL);
        };
        let mut guard = list.lock();
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
