// SPDX-License-Identifier: GPL-2.0

//! Producer and consumer of a ring, and the completion event protocol.
//!
//! Indices run freely over 32 bits; `producer - consumer` modulo 2^32 is the number of entries in
//! use. Each side keeps its own index privately and publishes it.

#![forbid(unsafe_code)]

use super::{RingMem, ARM_ANY, ARM_NONE, ARM_SOLICITED};
use crate::proto::sync::{fence, Word};

/// The other side published an index that cannot be: more entries in use than there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// The emptying side of a ring (the module: SQ, RQ, SRQ).
#[derive(Debug)]
pub struct Consumer {
    /// Index of the next entry to take.
    head: u32,
}

impl Consumer {
    /// A consumer of a ring whose indices both are `index`.
    pub const fn new(index: u32) -> Self {
        Self { head: index }
    }

    /// Index of the next entry to take.
    pub fn head(&self) -> u32 {
        self.head
    }

    /// How many entries can be taken. Their content may be read after this.
    #[inline]
    pub fn available(&self, ring: &RingMem) -> Result<u32, Corrupt> {
        // Acquire: pairs with the release in `Producer::publish` (or the provider's), so the
        // entries below the index are complete.
        let n = ring.producer().load_acquire().wrapping_sub(self.head);
        if n > ring.depth() {
            Err(Corrupt)
        } else {
            Ok(n)
        }
    }

    /// Takes `n` entries (of those that [`Self::available`] reported).
    #[inline]
    pub fn advance(&mut self, n: u32) {
        self.head = self.head.wrapping_add(n);
    }

    /// Gives the entries taken so far back to the producer.
    #[inline]
    pub fn publish(&self, ring: &RingMem) {
        self.publish_at(ring, self.head);
    }

    /// Gives the entries below `index` back to the producer, for a consumer that returns entries
    /// later than it takes them (a send queue, at completion).
    #[inline]
    pub fn publish_at(&self, ring: &RingMem, index: u32) {
        // Release: all reads of the entries come before the producer may overwrite them.
        ring.consumer().store_release(index);
    }

    /// Arms the event of a CQ, as the consumer: the next completion of this kind raises it. Never
    /// lowers what is armed. Returns whether there are entries to poll already, in which case
    /// the caller must poll again before it waits, as no event may come for those.
    pub fn arm(&self, ring: &RingMem, solicited_only: bool) -> bool {
        let want = if solicited_only {
            ARM_SOLICITED
        } else {
            ARM_ANY
        };
        if !(solicited_only && ring.arm().load_relaxed() == ARM_ANY) {
            ring.arm().store_relaxed(want);
        }
        // Orders the store of the arm word before the load of the producer index; pairs with the
        // fence in `Producer::publish_and_check_arm`.
        fence();
        ring.producer().load_acquire() != self.head
    }
}

/// The filling side of a ring (the module: CQ; kernel users: SQ, RQ, SRQ).
#[derive(Debug)]
pub struct Producer {
    /// Index of the next entry to fill.
    tail: u32,
}

impl Producer {
    /// A producer of a ring whose indices both are `index`.
    pub const fn new(index: u32) -> Self {
        Self { tail: index }
    }

    /// Index of the next entry to fill.
    pub fn tail(&self) -> u32 {
        self.tail
    }

    /// How many entries the consumer has not given back.
    pub fn used(&self, ring: &RingMem) -> Result<u32, Corrupt> {
        // Acquire: as in `space`.
        let used = self.tail.wrapping_sub(ring.consumer().load_acquire());
        if used > ring.depth() {
            Err(Corrupt)
        } else {
            Ok(used)
        }
    }

    /// How many entries can be filled. A consumer index that cannot be counts as a full ring.
    #[inline]
    pub fn space(&self, ring: &RingMem) -> u32 {
        // Acquire: pairs with the release in `Consumer::publish`, so the consumer is done with
        // the entries that are about to be overwritten.
        let used = self.tail.wrapping_sub(ring.consumer().load_acquire());
        ring.depth().saturating_sub(used)
    }

    /// Counts `n` entries as filled. They are not visible before [`Self::publish`].
    #[inline]
    pub fn advance(&mut self, n: u32) {
        self.tail = self.tail.wrapping_add(n);
    }

    /// Shows the entries filled so far to the consumer.
    #[inline]
    pub fn publish(&self, ring: &RingMem) {
        // Release: the content of the entries comes before the index.
        ring.producer().store_release(self.tail);
    }

    /// Publishes completions and says whether the completion event is due. `solicited`: whether one
    /// of them was for a message with the solicited event bit, or failed.
    ///
    /// No event may ever be lost. The consumer stores the arm word, fences, then looks at the
    /// producer index once more before it blocks; this side stores the producer index, fences,
    /// then looks at the arm word. Of two such sequences at least one sees the other's store: either
    /// the consumer finds the completion, or this side finds the arm word. (Without the fences,
    /// both stores may sit in store buffers while both loads are satisfied from memory.)
    ///
    /// The event is raised by whoever changes the word back to `NONE`, so one arming raises one
    /// event; the exchange is conditional on the value that was judged, or a re-arming by the
    /// consumer in between would be wiped out.
    pub fn publish_and_check_arm(&self, ring: &RingMem, solicited: bool) -> bool {
        self.publish(ring);
        fence();
        // The word can be changed by the consumer at any time; a process that plays with it gets an
        // event that it did not ask for rather than a loop here.
        for _ in 0..4 {
            let arm = ring.arm().load_relaxed();
            match arm {
                ARM_ANY => (),
                ARM_SOLICITED if solicited => (),
                _ => return false,
            }
            if ring.arm().exchange_if(arm, ARM_NONE) {
                return true;
            }
        }
        true
    }
}

impl RingMem {
    /// Sets the flags and fences, so that what is read from the ring after this misses no entry
    /// whose producer did not see the flags: see `RURDMA_RING_FLUSH`.
    pub fn set_flags_and_fence(&self, flags: u32) {
        self.flags().store_relaxed(flags);
        fence();
    }
}
