// SPDX-License-Identifier: GPL-2.0

//! Interleavings of the module and a process.

#![allow(missing_docs)]

use loom::sync::atomic::{fence, AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use rurdma_model_tests::proto::owner::{Ownership, Turn};
use rurdma_model_tests::proto::ring::doorbell::{
    ask_for_wakeups, sleep_check, NeedWakeup, Pending, Scan,
};
use rurdma_model_tests::proto::ring::queue::{Consumer, Producer};
use rurdma_model_tests::proto::ring::resize::Transfer;
use rurdma_model_tests::proto::ring::{
    DoorbellMem, RingMem, StatusMem, ARM_ANY, ARM_NONE, ARM_SOLICITED, DB_NEED_WAKEUP, FLAG_FLUSH,
};

const STRIDE: u32 = 16;

fn entry(n: u32) -> [u8; 16] {
    let mut e = [n as u8; 16];
    e[15] = !(n as u8);
    e
}

/// What goes in comes out, once, in order, and complete, while indices wrap around 2^32.
#[test]
fn ring_passes_entries() {
    loom::model(|| {
        let ring = Arc::new(RingMem::model(1, STRIDE));
        let start = u32::MAX;
        ring.producer().store(start, Ordering::Relaxed);
        ring.consumer().store(start, Ordering::Relaxed);
        let r = ring.clone();
        let user = thread::spawn(move || {
            let mut p = Producer::new(start);
            for n in 1..=2 {
                while p.space(&r) == 0 {
                    thread::yield_now();
                }
                r.copy_out(p.tail(), 0, &entry(n));
                p.advance(1);
                p.publish(&r);
            }
        });
        let mut c = Consumer::new(start);
        for n in 1..=2 {
            loop {
                match c.available(&ring) {
                    Ok(0) => thread::yield_now(),
                    Ok(avail) => {
                        assert_eq!(avail, 1);
                        break;
                    }
                    Err(_) => panic!("corrupt"),
                }
            }
            let mut e = [0; 16];
            ring.copy_in(c.head(), 0, &mut e);
            assert_eq!(e, entry(n));
            c.advance(1);
            c.publish(&ring);
        }
        user.join().unwrap();
    });
}

/// A process that arms, looks once more, and would block. Returns whether it would.
fn arm_and_poll(ring: &RingMem, arm: u32, with_fence: bool) -> bool {
    ring.arm().store(arm, Ordering::Relaxed);
    if with_fence {
        fence(Ordering::SeqCst);
    }
    ring.producer().load(Ordering::Acquire) == 0
}

/// One completion against one arming: the process must not block without an event to come.
fn cq_event(arm: u32, solicited: bool, with_fence: bool) {
    loom::model(move || {
        let ring = Arc::new(RingMem::model(2, STRIDE));
        let r = ring.clone();
        let user = thread::spawn(move || arm_and_poll(&r, arm, with_fence));
        let mut p = Producer::new(0);
        assert_eq!(p.space(&ring), 2);
        ring.copy_out(0, 0, &entry(1));
        p.advance(1);
        let event = p.publish_and_check_arm(&ring, solicited);
        let blocks = user.join().unwrap();
        if arm == ARM_ANY || solicited {
            assert!(!blocks || event, "event lost");
        } else {
            assert!(!event, "event for an unsolicited completion");
        }
        // An event uses the arming up, no event leaves it.
        let left = ring.arm().load(Ordering::Relaxed);
        assert_eq!(left, if event { ARM_NONE } else { arm });
    });
}

#[test]
fn no_event_is_lost() {
    cq_event(ARM_ANY, false, true);
    cq_event(ARM_ANY, true, true);
    cq_event(ARM_SOLICITED, true, true);
    cq_event(ARM_SOLICITED, false, true);
}

#[test]
#[should_panic(expected = "event lost")]
fn without_the_users_fence_an_event_is_lost() {
    cq_event(ARM_ANY, false, false);
}

/// Two completions by different CPUs (one after the other, under a lock of theirs) and a process that
/// arms, takes the event, and arms again.
#[test]
fn rearming_is_not_wiped_out() {
    loom::model(|| {
        let ring = Arc::new(RingMem::model(2, STRIDE));
        ring.arm().store(ARM_SOLICITED, Ordering::Relaxed);
        let r = ring.clone();
        // Upgrades its arming while a solicited completion is on its way.
        let user = thread::spawn(move || arm_and_poll(&r, ARM_ANY, true));
        let mut p = Producer::new(0);
        p.advance(1);
        let first = p.publish_and_check_arm(&ring, true);
        p.advance(1);
        let second = p.publish_and_check_arm(&ring, false);
        let blocks = user.join().unwrap();
        assert!(first, "the solicited completion found nothing armed");
        assert!(!blocks || first || second, "event lost");
        // If the arming came after both completions, the process saw them.
        if !second && ring.arm().load(Ordering::Relaxed) == ARM_ANY {
            assert!(!blocks);
        }
    });
}

/// The module as the consumer of a CQ, for kernel users.
#[test]
fn kernel_arm_sees_completion_or_gets_event() {
    loom::model(|| {
        let ring = Arc::new(RingMem::model(2, STRIDE));
        let r = ring.clone();
        let poller = thread::spawn(move || !Consumer::new(0).arm(&r, false));
        let mut p = Producer::new(0);
        p.advance(1);
        let event = p.publish_and_check_arm(&ring, false);
        assert!(!poller.join().unwrap() || event, "event lost");
    });
}

/// A process that posts to slot 3 and rings. Returns whether it kicks.
fn post(db: &DoorbellMem, status: &StatusMem, ring: &RingMem, with_fence: bool) -> bool {
    ring.producer().store(1, Ordering::Release);
    db.pending(0).unwrap().fetch_or(1 << 3, Ordering::AcqRel);
    db.summary(0).unwrap().fetch_or(1, Ordering::AcqRel);
    if with_fence {
        fence(Ordering::SeqCst);
    }
    status.flags().load(Ordering::Relaxed) & DB_NEED_WAKEUP != 0
}

/// A poller that goes to sleep against one post.
fn doorbell(with_fence: bool) {
    loom::model(move || {
        let db = Arc::new(DoorbellMem::model(64));
        let status = Arc::new(StatusMem::model());
        let ring = Arc::new(RingMem::model(2, STRIDE));
        let (d, s, r) = (db.clone(), status.clone(), ring.clone());
        let user = thread::spawn(move || post(&d, &s, &r, with_fence));

        status.clear_need_wakeup();
        let mut seen = 0;
        let mut round = |db: &DoorbellMem| {
            db.take_pending(|slot| {
                assert_eq!(slot, 3);
                // The ring is looked at after the bit was taken.
                seen += Consumer::new(0).available(&ring).unwrap();
            })
        };
        round(&db);
        let asleep = loop {
            if sleep_check(&status, &db) {
                break true;
            }
            if round(&db) != 0 {
                break false;
            }
            // Only the summary bit was there yet.
            thread::yield_now();
        };
        let kicked = user.join().unwrap();
        if asleep && kicked {
            // The kick runs what is pending.
            round(&db);
        }
        assert_eq!(seen, 1, "work left behind");
    });
}

#[test]
fn no_wakeup_is_lost() {
    doorbell(true);
}

#[test]
#[should_panic(expected = "work left behind")]
fn without_the_users_fence_a_wakeup_is_lost() {
    doorbell(false);
}

/// A context: its doorbells, a ring, and how much of that was executed.
struct Context {
    db: DoorbellMem,
    status: StatusMem,
    ring: RingMem,
    seen: AtomicU32,
}

impl Context {
    /// Executes the work of a doorbell that was taken.
    fn execute(&self, slot: u32) {
        assert_eq!(slot, 3);
        let producer = self.ring.producer().load(Ordering::Acquire);
        self.seen.fetch_max(producer, Ordering::Relaxed);
    }

    /// What a kick does, and whoever has to leave.
    fn run_rung(&self) {
        self.db.take_pending(|slot| self.execute(slot));
    }

    /// The process posts for the `n`th time, and kicks if it is asked for.
    fn post(&self, n: u32) {
        self.ring.producer().store(n, Ordering::Release);
        self.db
            .pending(0)
            .unwrap()
            .fetch_or(1 << 3, Ordering::AcqRel);
        self.db.summary(0).unwrap().fetch_or(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if self.status.flags().load(Ordering::Relaxed) & DB_NEED_WAKEUP != 0 {
            self.run_rung();
        }
    }

    /// As [`Self::run_rung`], with what a scan has taken already.
    fn see_off(&self, scan: &mut Scan) {
        while let Some(slot) = scan.next_taken(&self.db) {
            self.execute(slot);
        }
        self.run_rung();
    }
}

/// The poller comes to a context that kicks, looks once, and leaves, `posts` posts meanwhile: each is
/// executed by somebody, and nobody has to do anything for it afterwards. Of two posts the interleavings with
/// three switches in the midst of a thread are tried.
fn visit(posts: u32, leave: impl Fn(&Context, &mut Scan) + Copy + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = (posts > 1).then_some(3);
    model.check(move || {
        let context = Arc::new(Context {
            db: DoorbellMem::model(64),
            status: StatusMem::model(),
            ring: RingMem::model(2, STRIDE),
            seen: AtomicU32::new(0),
        });
        context.status.set_need_wakeup();
        let c = context.clone();
        let process = thread::spawn(move || (1..=posts).for_each(|n| c.post(n)));
        context.status.clear_need_wakeup();
        let mut scan = Scan::new();
        if let Some(slot) = scan.next(&context.db) {
            context.execute(slot);
        }
        leave(&context, &mut scan);
        process.join().unwrap();
        assert_eq!(
            context.seen.load(Ordering::Relaxed),
            posts,
            "work left behind"
        );
    });
}

/// It leaves because there is no work.
fn rest(context: &Context, scan: &mut Scan) {
    while !(scan.is_empty() && sleep_check(&context.status, &context.db)) {
        if let Some(slot) = scan.next(&context.db) {
            context.execute(slot);
        } else {
            // Only the summary bit was there yet.
            thread::yield_now();
        }
    }
}

#[test]
fn a_poller_that_comes_and_rests_leaves_no_work_behind() {
    visit(1, rest);
    visit(2, rest);
}

#[test]
fn a_poller_that_comes_and_must_go_leaves_no_work_behind() {
    let go = |context: &Context, scan: &mut Scan| {
        ask_for_wakeups(&context.status);
        context.see_off(scan);
    };
    visit(1, go);
    visit(2, go);
}

#[test]
#[should_panic(expected = "work left behind")]
fn a_poller_that_does_not_look_again_leaves_work_behind() {
    visit(1, |context, _| ask_for_wakeups(&context.status));
}

#[test]
#[should_panic(expected = "work left behind")]
fn without_the_pollers_fence_work_is_left_behind() {
    visit(1, |context, scan| {
        context.status.set_need_wakeup();
        if scan.is_empty() && context.db.any_pending() {
            context.see_off(scan);
        }
    });
}

/// Two takers (poller and kick) and a poster: work is taken once.
#[test]
fn work_is_taken_once() {
    loom::model(|| {
        let db = Arc::new(DoorbellMem::model(64));
        let status = Arc::new(StatusMem::model());
        let ring = Arc::new(RingMem::model(2, STRIDE));
        let (d, s, r) = (db.clone(), status.clone(), ring.clone());
        let user = thread::spawn(move || post(&d, &s, &r, true));
        let d = db.clone();
        let other = thread::spawn(move || d.take_pending(|_| ()));
        let mut n = db.take_pending(|_| ());
        n += other.join().unwrap();
        user.join().unwrap();
        n += db.take_pending(|_| ());
        assert_eq!(n, 1);
    });
}

/// A QP goes to ERROR while a process posts: the module sees the entry, or the process kicks.
#[test]
fn no_entry_escapes_the_flush() {
    loom::model(|| {
        let ring = Arc::new(RingMem::model(2, STRIDE));
        let r = ring.clone();
        let user = thread::spawn(move || {
            r.producer().store(1, Ordering::Release);
            fence(Ordering::SeqCst);
            r.flags().load(Ordering::Relaxed) & FLAG_FLUSH != 0
        });
        ring.set_flags_and_fence(FLAG_FLUSH);
        let seen = Consumer::new(0).available(&ring).unwrap() == 1;
        let kicks = user.join().unwrap();
        assert!(seen || kicks, "an entry is never flushed");
    });
}

/// A CQ moves to another ring between an arming and a completion: the process finds the completion in the
/// new ring, or gets an event.
fn resize(with_arm: bool) {
    loom::model(move || {
        let rings = Arc::new([RingMem::model(2, STRIDE), RingMem::model(4, STRIDE)]);
        // Which of them it is, and the filling side.
        let cq = Arc::new(Mutex::new((0, Producer::new(0))));
        let (r, q) = (rings.clone(), cq.clone());
        let module = thread::spawn(move || {
            let mut cq = q.lock().unwrap();
            let ring = &r[cq.0];
            ring.copy_out(cq.1.tail(), 0, &entry(1));
            cq.1.advance(1);
            cq.1.publish_and_check_arm(ring, false)
        });
        let [old, new] = &*rings;
        old.arm().store(ARM_ANY, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let mut transfer = Transfer::new(0);
        let tail = cq.lock().unwrap().1.tail();
        transfer.copy(old, new, 0, tail);
        {
            let mut cq = cq.lock().unwrap();
            let done = transfer.finish(old, new, &Consumer::new(0), cq.1.tail(), 4);
            assert!(done.is_ok());
            if !with_arm {
                new.arm().store(ARM_NONE, Ordering::Relaxed);
            }
            cq.0 = 1;
        }
        let blocks = new.producer().load(Ordering::Acquire) == 0;
        let event = module.join().unwrap();
        assert!(!blocks || event, "event lost");
        // An event uses the arming up, no event leaves it.
        let left = new.arm().load(Ordering::Relaxed);
        assert!(!with_arm || left == if event { ARM_NONE } else { ARM_ANY });
        // The completion is there once, wherever it was written.
        let mut e = [0; 16];
        assert_eq!(Consumer::new(0).available(new), Ok(1));
        new.copy_in(0, 0, &mut e);
        assert_eq!(e, entry(1));
    });
}

#[test]
fn no_event_is_lost_in_a_resize() {
    resize(true);
}

#[test]
#[should_panic(expected = "event lost")]
fn a_resize_that_forgets_the_arm_word_loses_an_event() {
    resize(false);
}

/// Two contexts with a piece of work each, for one owner. `run` makes a context the owner, or has it leave a
/// note.
fn owner(run: impl Fn(&Ownership, &mut dyn FnMut() -> Turn) + Copy + Send + Sync + 'static) {
    loom::model(move || {
        let o = Arc::new((Ownership::new(), AtomicU32::new(0), Mutex::new(0)));
        let work = move |o: &(Ownership, AtomicU32, Mutex<u32>)| {
            o.1.fetch_add(1, Ordering::Relaxed);
            run(&o.0, &mut || {
                *o.2.try_lock().expect("two owners") = o.1.load(Ordering::Relaxed);
                Turn::Done
            });
        };
        let p = o.clone();
        let other = thread::spawn(move || work(&p));
        work(&o);
        other.join().unwrap();
        assert_eq!(*o.2.lock().unwrap(), 2, "work left behind");
    });
}

#[test]
fn no_note_is_lost() {
    for turns in 1..=2 {
        // With `More` the workqueue calls again.
        owner(move |o, f| while o.run(turns, &mut *f) == Turn::More {});
    }
}

#[test]
#[should_panic(expected = "work left behind")]
fn an_owner_that_does_not_look_loses_a_note() {
    owner(|o, f| {
        if o.try_take() {
            f();
            o.give_up();
        }
    });
}

#[test]
#[should_panic(expected = "work left behind")]
fn an_owner_that_gives_up_and_is_not_called_again_loses_a_note() {
    owner(|o, f| {
        o.run(1, f);
    });
}
