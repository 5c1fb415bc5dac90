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
pub mod resize;

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
            pos = pos.checked_rem(total).unwrap_or(0);
        }
        // Multiple of 8, and below `total`: `stride` is a multiple of 16.
        (OFF_ENTRIES + pos, OFF_ENTRIES + total)
    }

    /// Copies bytes of the ring into private memory, from byte `off` (a multiple of 8) of the entry
    /// with the free-running index `index` on, around the end of the ring where need be. Each byte
    /// is read once.
    pub fn copy_in(&self, index: u32, off: u32, dst: &mut [u8]) {
        let (mut pos, end) = self.locate(index, off);
        let mut next = || {
            // SAFETY: `pos` is a multiple of 8 below `end`, which lies in the mapping and is a
            // multiple of 8 itself (type invariant).
            let word = unsafe { self.mem.read_data(pos) };
            pos += 8;
            if pos == end {
                pos = OFF_ENTRIES;
            }
            word
        };
        for chunk in dst.chunks_mut(8) {
            // The last one may be shorter.
            for (d, s) in chunk.iter_mut().zip(next()) {
                *d = s;
            }
        }
    }

    /// Copies private memory into the ring; a last part of less than 8 bytes is padded with zeros.
    pub fn copy_out(&self, index: u32, off: u32, src: &[u8]) {
        let (mut pos, end) = self.locate(index, off);
        let mut put = |word| {
            // SAFETY: As in `copy_in`.
            unsafe { self.mem.write_data(pos, word) };
            pos += 8;
            if pos == end {
                pos = OFF_ENTRIES;
            }
        };
        let mut rest = src;
        while let Some((word, tail)) = rest.split_first_chunk() {
            put(*word);
            rest = tail;
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            for (d, s) in word.iter_mut().zip(rest) {
                *d = *s;
            }
            put(word);
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

#[cfg(not(loom))]
#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_ring))]
mod tests {
    use super::doorbell::{sleep_check, NeedWakeup as _, Pending as _};
    use super::queue::{Consumer, Corrupt, Producer};
    use super::*;
    use core::cell::UnsafeCell;

    /// Memory for rings of up to 16 entries of 80 bytes.
    pub(super) struct Memory([UnsafeCell<u64>; (OFF_ENTRIES + 16 * 80) / 8]);

    impl Memory {
        pub(super) fn new() -> Self {
            Self(core::array::from_fn(|_| UnsafeCell::new(0)))
        }

        pub(super) fn ring(&self, depth: u32, stride: u32) -> RingMem {
            // SAFETY: As in `ring()` below.
            unsafe {
                RingMem::new(
                    NonNull::from(&self.0).cast(),
                    size_of_val(&self.0),
                    depth,
                    stride,
                )
            }
            .unwrap()
        }
    }

    /// Words for a ring of four entries of 16 bytes.
    type Mem = [UnsafeCell<u64>; (OFF_ENTRIES + 64) / 8];

    fn memory() -> Mem {
        core::array::from_fn(|_| UnsafeCell::new(0))
    }

    fn ring(mem: &Mem) -> RingMem {
        // SAFETY: The tests drop the ring before the memory, and use it through the ring only.
        unsafe { RingMem::new(NonNull::from(mem).cast(), size_of::<Mem>(), 4, 16) }.unwrap()
    }

    #[test]
    fn entries_pass_around_the_end() {
        let mem = memory();
        let ring = ring(&mem);
        let start = u32::MAX - 2;
        ring.producer().store_relaxed(start);
        ring.consumer().store_relaxed(start);
        let (mut p, mut c) = (Producer::new(start), Consumer::new(start));
        for i in 0..9u8 {
            assert_eq!(p.space(&ring), 4);
            // Two entries at once, from the middle of the first.
            ring.copy_out(p.tail(), 8, &[i; 24]);
            p.advance(2);
            p.publish(&ring);
            assert_eq!(c.available(&ring), Ok(2));
            let mut e = [0; 21];
            ring.copy_in(c.head(), 8, &mut e);
            assert_eq!(e, [i; 21]);
            c.advance(2);
            c.publish(&ring);
        }
        ring.producer().store_relaxed(c.head().wrapping_add(5));
        assert_eq!(c.available(&ring), Err(Corrupt));
        ring.consumer().store_relaxed(p.tail().wrapping_add(1));
        assert_eq!(p.space(&ring), 0);
    }

    #[test]
    fn arming_raises_one_event() {
        let mem = memory();
        let ring = ring(&mem);
        let mut p = Producer::new(0);
        let c = Consumer::new(0);
        assert!(!c.arm(&ring, true));
        p.advance(1);
        assert!(!p.publish_and_check_arm(&ring, false));
        assert!(p.publish_and_check_arm(&ring, true));
        assert!(!p.publish_and_check_arm(&ring, true));
        assert!(c.arm(&ring, false));
        assert!(p.publish_and_check_arm(&ring, false));
    }

    #[test]
    fn doorbells_ring_once() {
        let mem = memory();
        let base = NonNull::from(&mem).cast();
        // SAFETY: As in `ring()`; no other view of the memory is made.
        let db = unsafe { DoorbellMem::new(base, size_of::<Mem>(), 70) }.unwrap();
        let page = [const { UnsafeCell::new(0u64) }; 8];
        // SAFETY: As above.
        let status = unsafe { StatusMem::new(NonNull::from(&page).cast(), 64) }.unwrap();
        // Of a process that rings slot 69, slot 70 (which is none) and a word that is none.
        db.pending(1).unwrap().store_relaxed(1 << 5 | 1 << 6);
        db.summary(0).unwrap().store_relaxed(1 << 1 | 1 << 63);
        assert!(!sleep_check(&status, &db));
        let mut sum = 0;
        assert_eq!(db.take_pending(|slot| sum += slot), 1);
        assert_eq!(sum, 69);
        assert!(sleep_check(&status, &db));
        assert_eq!(status.flags().load_acquire(), DB_NEED_WAKEUP);
        status.clear_need_wakeup();
        assert!(db.pending(2).is_none());
    }
}
