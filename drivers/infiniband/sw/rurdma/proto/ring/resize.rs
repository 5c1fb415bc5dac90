// SPDX-License-Identifier: GPL-2.0

//! Moving a queue into another ring.

#![forbid(unsafe_code)]

use super::queue::Consumer;
use super::RingMem;
use crate::proto::sync::Word as _;

/// More entries are in use than the new ring is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// A queue whose entries are being copied from one ring to another of the same stride.
///
/// The copying needs no lock: meanwhile the consumer may take entries and a producer that the
/// module trusts may add some. Only [`Self::finish`] must have both of them wait. So of a work queue
/// the process's producer stands still throughout, of a CQ the process's consumer.
#[derive(Debug)]
pub struct Transfer {
    /// Entries below this index are in the new ring, or taken.
    copied: u32,
}

impl Transfer {
    /// Nothing is copied yet.
    pub const fn new(consumer: u32) -> Self {
        Self { copied: consumer }
    }

    /// How many entries below `producer` are still to be copied.
    pub fn rest(&self, producer: u32) -> u32 {
        producer.wrapping_sub(self.copied)
    }

    /// Copies the entries below `producer`, without those that were taken since.
    ///
    /// If there are more than the new ring holds, later ones overwrite earlier ones. That is fine:
    /// the earlier ones must be taken before `finish` agrees to the new ring.
    pub fn copy(&mut self, from: &RingMem, to: &RingMem, consumer: u32, producer: u32) {
        // Free-running indices: the distance says which is the later one.
        if consumer.wrapping_sub(self.copied) as i32 > 0 {
            self.copied = consumer;
        }
        let stride = from.stride();
        let mut buf = [0; 64];
        while self.copied != producer {
            let mut off = 0;
            while off < stride {
                let n = (stride - off).min(buf.len() as u32);
                if let Some(part) = buf.get_mut(..n as usize) {
                    from.copy_in(self.copied, off, part);
                    to.copy_out(self.copied, off, part);
                }
                off += n;
            }
            self.copied = self.copied.wrapping_add(1);
        }
    }

    /// Copies what is left and publishes the indices in the new ring, where `consumer` goes on as if
    /// nothing had happened. The consumer waits meanwhile. What is armed stays armed.
    ///
    /// `producer` is the index that the caller has judged: of a process, the one that was read
    /// when the copying began, whatever it may have written since. If the consumer was led
    /// beyond that, there is no number of entries that would be right.
    pub fn finish(
        &mut self,
        from: &RingMem,
        to: &RingMem,
        consumer: &Consumer,
        producer: u32,
        max: u32,
    ) -> Result<(), TooMany> {
        if producer.wrapping_sub(consumer.head()) > max.min(to.depth()) {
            return Err(TooMany);
        }
        self.copy(from, to, consumer.head(), producer);
        to.flags().store_relaxed(from.flags().load_relaxed());
        to.arm().store_relaxed(from.arm().load_relaxed());
        consumer.publish(to);
        to.producer().store_release(producer);
        Ok(())
    }
}

#[cfg(not(loom))]
#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_resize))]
mod tests {
    use super::super::queue::Producer;
    use super::super::tests::Memory;
    use super::*;

    /// Bytes of an entry: more than one part, and no multiple of one.
    const STRIDE: u32 = 80;

    fn post(p: &mut Producer, ring: &RingMem, n: u32) {
        for _ in 0..n {
            assert!(p.space(ring) > 0);
            let tail = p.tail();
            let entry = [tail.to_le_bytes(); STRIDE as usize / 4];
            ring.copy_out(tail, 0, entry.as_flattened());
            p.advance(1);
            p.publish(ring);
        }
    }

    /// Takes `n` entries, which must be the next ones.
    fn take(c: &mut Consumer, ring: &RingMem, n: u32) {
        for _ in 0..n {
            assert!(matches!(c.available(ring), Ok(1..)));
            let mut entry = [[0; 4]; STRIDE as usize / 4];
            ring.copy_in(c.head(), 0, entry.as_flattened_mut());
            assert!(entry.iter().all(|w| *w == c.head().to_le_bytes()));
            c.advance(1);
            c.publish(ring);
        }
    }

    #[test]
    fn order_survives_growing_and_shrinking() {
        let (small, big) = (Memory::new(), Memory::new());
        // Around the end of the index space, too.
        for start in [0, u32::MAX - 5] {
            let (four, sixteen) = (small.ring(4, STRIDE), big.ring(16, STRIDE));
            four.producer().store_relaxed(start);
            four.consumer().store_relaxed(start);
            let (mut p, mut c) = (Producer::new(start), Consumer::new(start));
            post(&mut p, &four, 3);
            take(&mut c, &four, 2);
            post(&mut p, &four, 3);
            let mut t = Transfer::new(c.head());
            t.copy(&four, &sixteen, c.head(), p.tail());
            assert_eq!(t.finish(&four, &sixteen, &c, p.tail(), 16), Ok(()));
            post(&mut p, &sixteen, 12);
            assert_eq!(p.space(&sixteen), 0);
            take(&mut c, &sixteen, 11);
            // Five are left: not before one more is taken.
            let mut t = Transfer::new(c.head());
            t.copy(&sixteen, &four, c.head(), p.tail());
            assert_eq!(t.finish(&sixteen, &four, &c, p.tail(), 4), Err(TooMany));
            let mut t = Transfer::new(c.head());
            t.copy(&sixteen, &four, c.head(), p.tail());
            take(&mut c, &sixteen, 1);
            assert_eq!(t.finish(&sixteen, &four, &c, p.tail(), 4), Ok(()));
            assert_eq!(p.space(&four), 0);
            take(&mut c, &four, 4);
            assert_eq!(c.available(&four), Ok(0));
        }
    }

    #[test]
    fn both_sides_go_on_meanwhile() {
        let (old, new) = (Memory::new(), Memory::new());
        let (old, new) = (old.ring(8, STRIDE), new.ring(16, STRIDE));
        let (mut p, mut c) = (Producer::new(0), Consumer::new(0));
        post(&mut p, &old, 6);
        let mut t = Transfer::new(c.head());
        t.copy(&old, &new, c.head(), p.tail());
        // The consumer overtakes what is copied, the producer goes once around.
        take(&mut c, &old, 6);
        post(&mut p, &old, 8);
        take(&mut c, &old, 3);
        assert_eq!(t.rest(p.tail()), 8);
        t.copy(&old, &new, c.head(), p.tail());
        post(&mut p, &old, 2);
        assert_eq!(t.rest(p.tail()), 2);
        assert_eq!(t.finish(&old, &new, &c, p.tail(), 16), Ok(()));
        take(&mut c, &new, 7);
        assert_eq!(c.available(&new), Ok(0));
    }

    #[test]
    fn what_is_armed_stays_armed() {
        let (old, new) = (Memory::new(), Memory::new());
        let (old, new) = (old.ring(4, STRIDE), new.ring(2, STRIDE));
        let (mut p, c) = (Producer::new(0), Consumer::new(0));
        assert!(!c.arm(&old, true));
        // An event that is not due yet, and entries of before.
        p.advance(1);
        assert!(!p.publish_and_check_arm(&old, false));
        let mut t = Transfer::new(c.head());
        assert_eq!(t.finish(&old, &new, &c, p.tail(), 2), Ok(()));
        p.advance(1);
        assert!(p.publish_and_check_arm(&new, true));
        assert!(!p.publish_and_check_arm(&new, true));
        assert_eq!(c.available(&new), Ok(2));
        assert_eq!(p.space(&new), 0);
    }

    #[test]
    fn a_process_that_goes_on_posting_gains_nothing() {
        let (old, new) = (Memory::new(), Memory::new());
        let (old, new) = (old.ring(8, STRIDE), new.ring(16, STRIDE));
        let (mut p, mut c) = (Producer::new(0), Consumer::new(0));
        post(&mut p, &old, 2);
        let judged = p.tail();
        let mut t = Transfer::new(c.head());
        t.copy(&old, &new, c.head(), judged);
        // The consumer is led beyond the index that was judged.
        post(&mut p, &old, 2);
        take(&mut c, &old, 3);
        assert_eq!(t.finish(&old, &new, &c, judged, 16), Err(TooMany));
    }
}
