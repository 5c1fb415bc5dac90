// SPDX-License-Identifier: GPL-2.0

//! Rings and doorbells in memory that a process can write.
//!
//! This file and no other of `proto/` contains `unsafe`: it turns a raw mapping into typed words
//! ([`RingMem`], [`DoorbellMem`], [`StatusMem`]). The algorithms on those words are safe code in
//! [`queue`] and [`doorbell`]. The layout is that of `rurdma-abi.h`.
//!
//! The process on the other side is hostile: every word it can write is read once, by an atomic or
//! volatile load, into private memory. What the kernel relies on (its own index) is private; the
//! copy in the ring is only ever published, never read back.

pub mod doorbell;
pub mod queue;

use super::sync::{AtomicU32, AtomicU64, Word};
#[cfg(not(loom))]
use core::ptr::NonNull;

/// Offset of the producer index in a ring (`rurdma_ring_hdr.producer`).
pub const OFF_PRODUCER: usize = 0;
/// Offset of the consumer index in a ring (`rurdma_ring_hdr.consumer`).
pub const OFF_CONSUMER: usize = 64;
/// Offset of the arm word in a ring (`rurdma_ring_hdr.arm`).
pub const OFF_ARM: usize = 128;
/// Offset of the flags in a ring (`rurdma_ring_hdr.flags`).
pub const OFF_FLAGS: usize = 192;
/// Offset of entry 0 in a ring (`RURDMA_RING_ENTRIES`).
pub const OFF_ENTRIES: usize = 256;

/// `RURDMA_ARM_NONE`: no event wanted.
pub const ARM_NONE: u32 = 0;
/// `RURDMA_ARM_SOLICITED`: an event wanted for the next solicited completion or error.
pub const ARM_SOLICITED: u32 = 1;
/// `RURDMA_ARM_ANY`: an event wanted for the next completion.
pub const ARM_ANY: u32 = 2;

/// `RURDMA_RING_FLUSH`: posters must kick, the module flushes.
pub const FLAG_FLUSH: u32 = 1 << 0;
/// `RURDMA_RING_OVERFLOW`: the CQ is dead.
pub const FLAG_OVERFLOW: u32 = 1 << 1;

/// Number of summary words of a doorbell region (`RURDMA_DB_SUMMARY_WORDS`).
pub const DB_SUMMARY_WORDS: usize = 16;
/// Offset of pending word 0 in a doorbell region (`RURDMA_DB_PENDING`).
pub const DB_PENDING: usize = 128;
/// Slots that a doorbell region can cover at most.
pub const DB_MAX_SLOTS: u32 = 65536;
/// `RURDMA_DB_NEED_WAKEUP`: whoever posts must kick.
pub const DB_NEED_WAKEUP: u32 = 1 << 0;

/// Bytes of a doorbell region for `slots` slots: the summary, then a bit per slot.
pub const fn doorbell_bytes(slots: u32) -> usize {
    DB_PENDING + (slots as usize).div_ceil(64) * 8
}

/// Shared memory as words.
///
/// # Invariants
///
/// `base` is aligned to 8 and valid for reads and writes of `len` bytes as long as the value
/// exists. The memory is only accessed by atomic or volatile operations, by anybody.
#[cfg(not(loom))]
struct SharedMem {
    /// First byte.
    base: NonNull<u8>,
    /// Number of bytes.
    len: usize,
}

#[cfg(not(loom))]
// SAFETY: The memory is plain words, owned by no thread, and accessed atomically (type invariant).
unsafe impl Send for SharedMem {}
#[cfg(not(loom))]
// SAFETY: As above.
unsafe impl Sync for SharedMem {}

#[cfg(not(loom))]
impl SharedMem {
    /// Wraps `len` bytes at `base`.
    ///
    /// # Safety
    ///
    /// The type invariants must hold.
    unsafe fn new(base: NonNull<u8>, len: usize) -> Option<Self> {
        // INVARIANT: By the safety requirements; the alignment is checked here.
        ((base.as_ptr().addr() & 7) == 0).then_some(Self { base, len })
    }

    /// The 32-bit word at `off`.
    ///
    /// # Safety
    ///
    /// `off` must be a multiple of 4 and `off + 4 <= len`.
    #[inline]
    unsafe fn u32_at(&self, off: usize) -> &AtomicU32 {
        debug_assert!(off & 3 == 0 && off + 4 <= self.len);
        // SAFETY: The word lies in the mapping and is aligned (safety requirement); the mapping is
        // valid and accessed atomically (type invariant).
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(off).cast()) }
    }

    /// The 64-bit word at `off`.
    ///
    /// # Safety
    ///
    /// `off` must be a multiple of 8 and `off + 8 <= len`.
    #[inline]
    unsafe fn u64_at(&self, off: usize) -> &AtomicU64 {
        debug_assert!(off & 7 == 0 && off + 8 <= self.len);
        // SAFETY: As in `u32_at`.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(off).cast()) }
    }

    /// Reads 8 bytes of an entry, in memory order.
    ///
    /// # Safety
    ///
    /// As for [`Self::u64_at`].
    #[inline]
    unsafe fn read_data(&self, off: usize) -> [u8; 8] {
        // In the kernel a volatile read is what READ_ONCE() is, and unlike the atomics' helpers it
        // is inlined: entries are copied for every work request.
        #[cfg(CONFIG_RUST)]
        // SAFETY: In the mapping and aligned (safety requirement); volatile, so that a concurrent
        // writer can make the value stale but nothing else.
        let v = unsafe { self.base.as_ptr().add(off).cast::<u64>().read_volatile() };
        #[cfg(not(CONFIG_RUST))]
        // SAFETY: Safety requirement.
        let v = unsafe { self.u64_at(off) }.load_relaxed();
        v.to_ne_bytes()
    }

    /// Writes 8 bytes of an entry, in memory order.
    ///
    /// # Safety
    ///
    /// As for [`Self::u64_at`].
    #[inline]
    unsafe fn write_data(&self, off: usize, v: [u8; 8]) {
        let v = u64::from_ne_bytes(v);
        #[cfg(CONFIG_RUST)]
        // SAFETY: As in `read_data`.
        unsafe {
            self.base.as_ptr().add(off).cast::<u64>().write_volatile(v)
        };
        #[cfg(not(CONFIG_RUST))]
        // SAFETY: Safety requirement.
        unsafe { self.u64_at(off) }.store_relaxed(v);
    }
}

/// Shared memory of the model checker: loom atomics at the offsets that are in use.
#[cfg(loom)]
struct SharedMem {
    /// 32-bit words by offset.
    w32: std::vec::Vec<(usize, AtomicU32)>,
    /// 64-bit words by offset.
    w64: std::vec::Vec<(usize, AtomicU64)>,
}

#[cfg(loom)]
impl SharedMem {
    /// Words at the given offsets, all zero.
    fn model(o32: &[usize], o64: &[usize]) -> Self {
        Self {
            w32: o32.iter().map(|o| (*o, AtomicU32::new(0))).collect(),
            w64: o64.iter().map(|o| (*o, AtomicU64::new(0))).collect(),
        }
    }

    /// The 32-bit word at `off`.
    ///
    /// # Safety
    ///
    /// None, it panics: this is a test.
    unsafe fn u32_at(&self, off: usize) -> &AtomicU32 {
        &self.w32.iter().find(|w| w.0 == off).unwrap().1
    }

    /// The 64-bit word at `off`.
    ///
    /// # Safety
    ///
    /// None.
    unsafe fn u64_at(&self, off: usize) -> &AtomicU64 {
        &self.w64.iter().find(|w| w.0 == off).unwrap().1
    }

    /// Reads 8 bytes of an entry.
    ///
    /// # Safety
    ///
    /// None.
    unsafe fn read_data(&self, off: usize) -> [u8; 8] {
        // SAFETY: No requirements.
        unsafe { self.u64_at(off) }.load_relaxed().to_ne_bytes()
    }

    /// Writes 8 bytes of an entry.
    ///
    /// # Safety
    ///
    /// None.
    unsafe fn write_data(&self, off: usize, v: [u8; 8]) {
        // SAFETY: No requirements.
        unsafe { self.u64_at(off) }.store_relaxed(u64::from_ne_bytes(v));
    }
}

/// A ring: `struct rurdma_ring_hdr` and its entries.
///
/// # Invariants
///
/// `depth` is a power of two, `stride` a multiple of 16, neither is zero, and `mem` holds
/// `OFF_ENTRIES + depth * stride` bytes or more.
pub struct RingMem {
    /// Header and entries.
    mem: SharedMem,
    /// Number of entries.
    depth: u32,
    /// Bytes of an entry.
    stride: u32,
}

impl RingMem {
    /// Bytes of the mapping of a ring, before it is rounded up to pages.
    pub const fn bytes(depth: u32, stride: u32) -> usize {
        OFF_ENTRIES + depth as usize * stride as usize
    }

    /// Wraps a ring of `depth` entries of `stride` bytes at `base`. `None` if the geometry is not
    /// possible: `depth` not a power of two, `stride` not a multiple of 16, `len` too short,
    /// `base` not aligned to 8.
    ///
    /// # Safety
    ///
    /// `base` must be valid for reads and writes of `len` bytes as long as the value exists, and
    /// the memory must not be accessed by anything but atomic or volatile operations.
    #[cfg(not(loom))]
    pub unsafe fn new(base: NonNull<u8>, len: usize, depth: u32, stride: u32) -> Option<Self> {
        let entries = u64::from(depth) * u64::from(stride);
        if !depth.is_power_of_two()
            || stride == 0
            || stride % 16 != 0
            || entries > u64::from(u32::MAX)
            || (len as u64) < OFF_ENTRIES as u64 + entries
        {
            return None;
        }
        // SAFETY: By the safety requirements.
        let mem = unsafe { SharedMem::new(base, len)? };
        // INVARIANT: Checked above.
        Some(Self { mem, depth, stride })
    }

    /// A ring for the model checker.
    #[cfg(loom)]
    pub fn model(depth: u32, stride: u32) -> Self {
        let entries: std::vec::Vec<usize> = (OFF_ENTRIES..Self::bytes(depth, stride))
            .step_by(8)
            .collect();
        Self {
            mem: SharedMem::model(&[OFF_PRODUCER, OFF_CONSUMER, OFF_ARM, OFF_FLAGS], &entries),
            depth,
            stride,
        }
    }

    /// Number of entries.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Bytes of an entry.
    pub fn stride(&self) -> u32 {
        self.stride
    }

    /// The producer index, written by whoever fills entries.
    #[inline]
    pub fn producer(&self) -> &AtomicU32 {
        // SAFETY: The header lies in the mapping (type invariant).
        unsafe { self.mem.u32_at(OFF_PRODUCER) }
    }

    /// The consumer index, written by whoever empties entries.
    #[inline]
    pub fn consumer(&self) -> &AtomicU32 {
        // SAFETY: As above.
        unsafe { self.mem.u32_at(OFF_CONSUMER) }
    }

    /// The arm word of a CQ.
    #[inline]
    pub fn arm(&self) -> &AtomicU32 {
        // SAFETY: As above.
        unsafe { self.mem.u32_at(OFF_ARM) }
    }

    /// The flags, `FLAG_*`.
    #[inline]
    pub fn flags(&self) -> &AtomicU32 {
        // SAFETY: As above.
        unsafe { self.mem.u32_at(OFF_FLAGS) }
    }

    /// Offset in the mapping of byte `off` of the entry with the free-running index `index`, and
    /// the offset at which the entries end.
    #[inline]
    fn locate(&self, index: u32, off: u32) -> (usize, usize) {
        let total = self.depth as usize * self.stride as usize;
        let slot = (index & (self.depth - 1)) as usize;
        let mut pos = slot * self.stride as usize + (off & !7) as usize;
        if pos >= total {
            pos %= total;
        }
        // Multiple of 8, and below `total`: `stride` is a multiple of 16.
        (OFF_ENTRIES + pos, OFF_ENTRIES + total)
    }

    /// Copies bytes of the ring into private memory, from byte `off` (a multiple of 8) of the entry
    /// with the free-running index `index` on, around the end of the ring where need be. Each byte
    /// is read once.
    pub fn copy_in(&self, index: u32, off: u32, dst: &mut [u8]) {
        let (mut pos, end) = self.locate(index, off);
        for chunk in dst.chunks_mut(8) {
            // SAFETY: `pos` is a multiple of 8 below `end`, which lies in the mapping and is a
            // multiple of 8 itself (type invariant).
            let word = unsafe { self.mem.read_data(pos) };
            for (d, s) in chunk.iter_mut().zip(word) {
                *d = s;
            }
            pos += 8;
            if pos == end {
                pos = OFF_ENTRIES;
            }
        }
    }

    /// Copies private memory into the ring; a last part of less than 8 bytes is padded with zeros.
    pub fn copy_out(&self, index: u32, off: u32, src: &[u8]) {
        let (mut pos, end) = self.locate(index, off);
        for chunk in src.chunks(8) {
            let mut word = [0; 8];
            for (d, s) in word.iter_mut().zip(chunk) {
                *d = *s;
            }
            // SAFETY: As in `copy_in`.
            unsafe { self.mem.write_data(pos, word) };
            pos += 8;
            if pos == end {
                pos = OFF_ENTRIES;
            }
        }
    }
}

/// The writable doorbell region of a context: summary and pending words.
///
/// # Invariants
///
/// `mem` holds `doorbell_bytes(slots)` bytes or more, and `slots <= DB_MAX_SLOTS`.
pub struct DoorbellMem {
    /// Summary, then pending words.
    mem: SharedMem,
    /// Number of slots.
    slots: u32,
}

impl DoorbellMem {
    /// Wraps a region of `slots` slots at `base`. `None` if it is too short for them, not aligned
    /// to 8, or if there are more slots than the summary covers.
    ///
    /// # Safety
    ///
    /// As for [`RingMem::new`].
    #[cfg(not(loom))]
    pub unsafe fn new(base: NonNull<u8>, len: usize, slots: u32) -> Option<Self> {
        if slots > DB_MAX_SLOTS || len < doorbell_bytes(slots) {
            return None;
        }
        // SAFETY: By the safety requirements.
        let mem = unsafe { SharedMem::new(base, len)? };
        // INVARIANT: Checked above.
        Some(Self { mem, slots })
    }

    /// A region for the model checker, of one summary word.
    #[cfg(loom)]
    pub fn model(slots: u32) -> Self {
        let words: std::vec::Vec<usize> = core::iter::once(0)
            .chain((DB_PENDING..doorbell_bytes(slots)).step_by(8))
            .collect();
        Self {
            mem: SharedMem::model(&[], &words),
            slots,
        }
    }

    /// Number of slots.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Summary word `i`, if the region has slots that it covers.
    #[inline]
    pub fn summary(&self, i: usize) -> Option<&AtomicU64> {
        if i >= (self.slots as usize).div_ceil(64 * 64) {
            return None;
        }
        // SAFETY: A word that covers a slot is one of the `DB_SUMMARY_WORDS` (type invariant), which
        // lie in the mapping.
        Some(unsafe { self.mem.u64_at(i * 8) })
    }

    /// Pending word `w`, if the region has slots in it.
    #[inline]
    pub fn pending(&self, w: usize) -> Option<&AtomicU64> {
        if w >= (self.slots as usize).div_ceil(64) {
            return None;
        }
        // SAFETY: The pending words of all slots lie in the mapping (type invariant).
        Some(unsafe { self.mem.u64_at(DB_PENDING + w * 8) })
    }
}

/// The status page of a context, which the process can only read: `struct rurdma_db_status`.
///
/// # Invariants
///
/// `mem` holds 64 bytes or more.
pub struct StatusMem {
    /// The page.
    mem: SharedMem,
}

impl StatusMem {
    /// Bytes of `struct rurdma_db_status`.
    pub const BYTES: usize = 64;

    /// Wraps a status page at `base`. `None` if it is too short or not aligned to 8.
    ///
    /// # Safety
    ///
    /// As for [`RingMem::new`].
    #[cfg(not(loom))]
    pub unsafe fn new(base: NonNull<u8>, len: usize) -> Option<Self> {
        if len < Self::BYTES {
            return None;
        }
        // SAFETY: By the safety requirements.
        let mem = unsafe { SharedMem::new(base, len)? };
        // INVARIANT: Checked above.
        Some(Self { mem })
    }

    /// A page for the model checker.
    #[cfg(loom)]
    pub fn model() -> Self {
        Self {
            mem: SharedMem::model(&[0, 4], &[]),
        }
    }

    /// The flags, `DB_*`.
    #[inline]
    pub fn flags(&self) -> &AtomicU32 {
        // SAFETY: Type invariant.
        unsafe { self.mem.u32_at(0) }
    }

    /// Tells the process that the device is gone.
    pub fn set_dead(&self) {
        // SAFETY: Type invariant.
        unsafe { self.mem.u32_at(4) }.store_release(1);
    }
}
