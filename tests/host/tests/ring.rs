// SPDX-License-Identifier: GPL-2.0

//! Rings and doorbells against a model of the user side, and against a hostile one.

mod common;

use proptest::prelude::*;
use rurdma_host_tests::proto::ring::doorbell::{sleep_check, NeedWakeup, Pending, Scan};
use rurdma_host_tests::proto::ring::queue::{Consumer, Corrupt, Producer};
use rurdma_host_tests::proto::ring::{
    DoorbellMem, ARM_ANY, ARM_NONE, ARM_SOLICITED, DB_NEED_WAKEUP, FLAG_FLUSH,
};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::Arc;

fn pattern(n: u32, stride: u32) -> Vec<u8> {
    (0..stride)
        .map(|i| (n.wrapping_mul(31) + i) as u8)
        .collect()
}

#[test]
fn impossible_geometries() {
    assert!(common::try_ring(4096, 0, 64).is_none());
    assert!(common::try_ring(4096, 3, 64).is_none());
    assert!(common::try_ring(4096, 4, 0).is_none());
    assert!(common::try_ring(4096, 4, 8).is_none());
    assert!(common::try_ring(4096, 64, 64).is_none());
    assert!(common::try_ring(256 + 4096, 64, 64).is_some());
    assert!(common::try_ring(4096, 1 << 31, 1 << 31).is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Push(u32),
    Pop(u32),
}

proptest! {
    /// Entries come out as they went in, at every geometry and around the wrap of the indices.
    #[test]
    fn fifo(
        depth_log in 0u32..7,
        stride in prop::sample::select(vec![16u32, 48, 64, 80, 528]),
        start in prop_oneof![Just(0u32), Just(u32::MAX - 3), any::<u32>()],
        steps in prop::collection::vec(
            prop_oneof![(1u32..70).prop_map(Step::Push), (1u32..70).prop_map(Step::Pop)], 1..60),
    ) {
        let depth = 1 << depth_log;
        let ring = common::ring(depth, stride);
        ring.producer().store(start, Relaxed);
        ring.consumer().store(start, Relaxed);
        let (mut p, mut c) = (Producer::new(start), Consumer::new(start));
        let mut oracle = VecDeque::new();
        let mut next = 0;
        for step in steps {
            match step {
                Step::Push(n) => {
                    prop_assert_eq!(p.space(&ring), depth - oracle.len() as u32);
                    let n = n.min(p.space(&ring));
                    for i in 0..n {
                        ring.copy_out(p.tail().wrapping_add(i), 0, &pattern(next, stride));
                        oracle.push_back(next);
                        next += 1;
                    }
                    p.advance(n);
                    p.publish(&ring);
                }
                Step::Pop(n) => {
                    let avail = c.available(&ring).unwrap();
                    prop_assert_eq!(avail, oracle.len() as u32);
                    for _ in 0..n.min(avail) {
                        let mut e = vec![0; stride as usize];
                        ring.copy_in(c.head(), 0, &mut e);
                        prop_assert_eq!(e, pattern(oracle.pop_front().unwrap(), stride));
                        c.advance(1);
                    }
                    c.publish(&ring);
                }
            }
        }
    }

    /// Copies at any place are those of an array that is indexed modulo its length.
    #[test]
    fn copies_wrap(
        depth_log in 0u32..5,
        stride in prop::sample::select(vec![16u32, 48, 64]),
        index in any::<u32>(), off in 0u32..80, len in 0usize..700,
    ) {
        let depth = 1u32 << depth_log;
        let total = (depth * stride) as usize;
        let ring = common::ring(depth, stride);
        let image: Vec<u8> = (0..total).map(|i| (i * 7 + i / 256) as u8).collect();
        ring.copy_out(0, 0, &image);
        let start = ((index % depth) * stride + (off & !7)) as usize;
        let mut got = vec![0; len];
        ring.copy_in(index, off, &mut got);
        let want: Vec<u8> = (0..len).map(|i| image[(start + i) % total]).collect();
        prop_assert_eq!(got, want);
    }

    /// Whatever the other side writes as its index: never more than there is.
    #[test]
    fn hostile_indices(depth_log in 0u32..12, own in any::<u32>(), theirs in any::<u32>()) {
        let depth = 1u32 << depth_log;
        let ring = common::ring(depth, 16);
        ring.producer().store(theirs, Relaxed);
        ring.consumer().store(theirs, Relaxed);
        let used = theirs.wrapping_sub(own);
        match Consumer::new(own).available(&ring) {
            Ok(n) => prop_assert!(n == used && n <= depth),
            Err(Corrupt) => prop_assert!(used > depth),
        }
        let space = Producer::new(own).space(&ring);
        let used = own.wrapping_sub(theirs);
        prop_assert_eq!(space, depth.saturating_sub(used));
        match Producer::new(own).used(&ring) {
            Ok(n) => prop_assert!(n == used && n <= depth),
            Err(Corrupt) => prop_assert!(used > depth),
        }
    }

    /// Slots that were rung are found once each, others never; bits of slots that do not exist do
    /// nothing.
    #[test]
    fn doorbell_slots(
        slots in prop_oneof![1u32..200, Just(4096u32), Just(4097), Just(65536)],
        rung in prop::collection::btree_set(0u32..65536, 0..40),
        junk in prop::collection::vec((0usize..1024, any::<u64>(), 0usize..16, any::<u64>()), 0..4),
    ) {
        let db = common::doorbells(slots);
        let rung: BTreeSet<u32> = rung.into_iter().map(|s| s % slots).collect();
        for s in &rung {
            db.pending(*s as usize / 64).unwrap().fetch_or(1 << (s % 64), AcqRel);
            db.summary(*s as usize / 4096).unwrap().fetch_or(1 << (s / 64 % 64), AcqRel);
        }
        prop_assert_eq!(db.any_pending(), !rung.is_empty());
        let mut found = BTreeSet::new();
        let n = db.take_pending(|s| assert!(found.insert(s), "twice"));
        prop_assert_eq!(n as usize, found.len());
        prop_assert_eq!(&found, &rung);
        prop_assert!(!db.any_pending());
        // All bits set by a process that likes trouble.
        for (w, v, i, s) in junk {
            if let Some(p) = db.pending(w) { p.store(v, Relaxed); }
            if let Some(p) = db.summary(i) { p.store(s, Relaxed); }
        }
        let n = db.take_pending(|s| assert!(s < slots));
        prop_assert!(n <= slots);
        for w in 0..1024 {
            if let Some(p) = db.pending(w) { p.store(u64::MAX, Relaxed); }
            if let Some(s) = db.summary(w % 16) { s.store(u64::MAX, Relaxed); }
        }
        prop_assert_eq!(db.take_pending(|_| ()), slots);
    }
}

/// All arm words against both kinds of completion.
#[test]
fn events() {
    for arm in [ARM_NONE, ARM_SOLICITED, ARM_ANY, 3, u32::MAX] {
        for solicited in [false, true] {
            let ring = common::ring(4, 64);
            ring.arm().store(arm, Relaxed);
            let mut p = Producer::new(0);
            p.advance(1);
            let event = p.publish_and_check_arm(&ring, solicited);
            let want = arm == ARM_ANY || (arm == ARM_SOLICITED && solicited);
            assert_eq!(event, want, "{arm} {solicited}");
            let left = if want { ARM_NONE } else { arm };
            assert_eq!(ring.arm().load(Relaxed), left);
            assert_eq!(ring.producer().load(Relaxed), 1);
            p.advance(1);
            assert!(
                !want || !p.publish_and_check_arm(&ring, solicited),
                "one event per arming"
            );
        }
    }
}

#[test]
fn arming_never_lowers() {
    let ring = common::ring(4, 64);
    let c = Consumer::new(0);
    assert!(!c.arm(&ring, true));
    assert_eq!(ring.arm().load(Relaxed), ARM_SOLICITED);
    assert!(!c.arm(&ring, false));
    assert!(!c.arm(&ring, true));
    assert_eq!(ring.arm().load(Relaxed), ARM_ANY);
    ring.producer().store(1, Release);
    assert!(c.arm(&ring, false), "a completion is there");
}

#[test]
fn sleep_only_without_work() {
    let (db, st) = (common::doorbells(64), common::status());
    st.clear_need_wakeup();
    assert!(sleep_check(&st, &db));
    assert_eq!(st.flags().load(Relaxed), DB_NEED_WAKEUP);
    st.clear_need_wakeup();
    db.pending(0).unwrap().fetch_or(1, AcqRel);
    db.summary(0).unwrap().fetch_or(1, AcqRel);
    assert!(!sleep_check(&st, &db));
    assert_eq!(st.flags().load(Relaxed), 0);
    st.set_dead();
    let ring = common::ring(1, 16);
    ring.set_flags_and_fence(FLAG_FLUSH);
    assert_eq!(ring.flags().load(Relaxed), FLAG_FLUSH);
}

fn ring_doorbell(db: &DoorbellMem, slot: u32) {
    let word = slot as usize / 64;
    db.pending(word).unwrap().fetch_or(1 << (slot % 64), AcqRel);
    db.summary(word / 64)
        .unwrap()
        .fetch_or(1 << (word % 64), AcqRel);
}

#[test]
fn a_scan_finds_each_doorbell_once() {
    let db = common::doorbells(32768);
    let rung = [0, 1, 63, 64, 4095, 4096, 20000, 32767];
    let mut scan = Scan::new();
    assert_eq!(scan.next(&db), None);
    for slot in rung {
        ring_doorbell(&db, slot);
        ring_doorbell(&db, slot);
    }
    let mut found: Vec<u32> = std::iter::from_fn(|| scan.next(&db)).collect();
    found.sort_unstable();
    assert_eq!(found, rung);
    assert!(scan.is_empty() && !db.any_pending());
    // What a process writes that has no slots there.
    let small = common::doorbells(70);
    small.summary(0).unwrap().store(u64::MAX, Relaxed);
    assert!(small.summary(1).is_none());
    small.pending(1).unwrap().store(u64::MAX, Relaxed);
    let found: Vec<u32> = std::iter::from_fn(|| scan.next(&small)).collect();
    assert_eq!(found, [64, 65, 66, 67, 68, 69]);
    assert_eq!(scan.next(&small), None);
}

#[test]
fn a_scan_keeps_what_it_has_taken() {
    let db = common::doorbells(32768);
    let mut scan = Scan::new();
    for slot in [5, 6, 300, 4000] {
        ring_doorbell(&db, slot);
    }
    let first = scan.next(&db).unwrap();
    assert!(!scan.is_empty());
    // The rest of what was taken, and then what was not.
    ring_doorbell(&db, 9000);
    let taken: Vec<u32> = std::iter::from_fn(|| scan.next_taken(&db)).collect();
    assert!(scan.is_empty());
    let mut all = vec![first];
    all.extend(taken);
    assert_eq!(all, [5, 6, 300, 4000]);
    db.take_pending(|slot| all.push(slot));
    assert_eq!(all, [5, 6, 300, 4000, 9000]);
}

/// A doorbell that is rung all the time, and others.
#[test]
fn a_scan_is_fair() {
    let db = common::doorbells(32768);
    let mut scan = Scan::new();
    for loud in [0, 64, 20000] {
        for slot in [63, 65, 4096, 32767] {
            ring_doorbell(&db, slot);
        }
        let mut turns = 0;
        let mut left = 4;
        while left > 0 {
            ring_doorbell(&db, loud);
            let slot = scan.next(&db).unwrap();
            left -= u32::from(slot != loud);
            turns += 1;
            assert!(turns < 20, "{loud} keeps others from having their turn");
        }
        while scan.next(&db).is_some() {}
    }
}

/// Two real threads, many wraps.
#[test]
fn threads() {
    const N: u32 = 100_000;
    let ring = Arc::new(common::ring(8, 64));
    let r = ring.clone();
    let user = std::thread::spawn(move || {
        let mut p = Producer::new(0);
        while p.tail() < N {
            let n = p.space(&r).min(N - p.tail());
            for i in 0..n {
                r.copy_out(p.tail() + i, 0, &(p.tail() + i).to_ne_bytes().repeat(16));
            }
            p.advance(n);
            p.publish(&r);
            std::thread::yield_now();
        }
    });
    let mut c = Consumer::new(0);
    while c.head() < N {
        for _ in 0..c.available(&ring).unwrap() {
            let mut e = [0; 64];
            ring.copy_in(c.head(), 0, &mut e);
            assert_eq!(e.as_slice(), c.head().to_ne_bytes().repeat(16));
            c.advance(1);
            c.publish(&ring);
        }
        std::thread::yield_now();
    }
    user.join().unwrap();
    assert_eq!(ring.consumer().load(Acquire), N);
}

/// A producer index that jumps while the consumer runs is found or stays in bounds.
#[test]
fn hostile_thread() {
    let ring = Arc::new(common::ring(8, 64));
    let r = ring.clone();
    let user = std::thread::spawn(move || {
        let mut x = 1u32;
        for _ in 0..200_000 {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            r.producer()
                .store(if x & 1 == 0 { x } else { x % 16 }, Relaxed);
            r.arm().store(x >> 16 & 3, Relaxed);
        }
    });
    let c = Consumer::new(0);
    let p = Producer::new(0);
    while !user.is_finished() {
        if let Ok(n) = c.available(&ring) {
            assert!(n <= 8);
        }
        // Comes to an end, whatever the word does. (It publishes 0 again and again.)
        p.publish_and_check_arm(&ring, true);
    }
    user.join().unwrap();
}
