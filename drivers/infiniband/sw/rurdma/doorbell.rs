// SPDX-License-Identifier: GPL-2.0

//! Who executes what processes post, and when: the poller of a device.
//!
//! A process that posts says so in its doorbell region, and kicks if the context asks for that: then
//! the work is done in its own system call. Where posts stream, the context has the poller come
//! ([`Bell::ask`]): a thread that looks at the doorbells itself, so that no post of the context is a
//! system call, until nothing is posted for a while. Then the context asks for kicks again, and a
//! poller without contexts sleeps.
//!
//! While there is nothing to do it looks for a moment, if nobody else wants its CPU, and then naps between two looks:
//! the contexts rely on it all the same, and a post waits for the end of the nap. A poller that is not back in time, as
//! others have the CPU, is none: its contexts ask for kicks, and it leaves them alone for a while. So work waits for a
//! poller that has no CPU for [`LATE`] at most, or as long as the scheduler takes to say so.

#![forbid(unsafe_code)]

use crate::counters::Counters;
use crate::kapi::params;
use crate::kapi::rdma::stats::Counter;
use crate::kapi::sync::{new_spinlock_irq, SpinLockIrq};
use crate::kapi::thread::{Me, Run, Thread};
use crate::kapi::time;
use crate::pauses;
use crate::proto::pace::{Leave, Naps, Watch};
use crate::proto::turns::Pass;
use crate::ucontext::Ucontext;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::str::{CStr, CString};
use kernel::sync::atomic::ordering::{Acquire, Full, Release};
use kernel::sync::atomic::Atomic;
use kernel::sync::Arc;

/// Contexts that are polled at a time; others kick.
const CONTEXTS: usize = 64;
/// QPs of a context that have their turn one after the other, before it is the next context's.
const QPS: u32 = 16;
/// Looks at all doorbells between two at the clock.
const LOOKS: u32 = 32;
/// Nanoseconds that it looks before it naps.
const LOOK: u64 = 100_000;
/// Finds in a row, each after a nap for others' sake and of a single send, of somebody who waits for an answer to each: he
/// would have it sooner if he kicked.
const LONE: u32 = 4;
/// Nanoseconds after which it should have had the CPU again.
const LATE: u64 = 10_000_000;
/// Nanoseconds between two passages through the scheduler, for RCU's sake.
const BREATH: u64 = 2_000_000;

/// Where contexts ask for the poller.
#[pin_data]
pub(crate) struct Bell {
    /// Of the device.
    pub(crate) counters: Arc<Counters>,
    /// There are contexts to come to.
    waiting: Atomic<bool>,
    #[pin]
    door: SpinLockIrq<Door>,
}

struct Door {
    waiting: KVec<Arc<Ucontext>>,
    /// `None` before it starts, and after it was stopped.
    thread: Option<Thread<Worker>>,
}

impl Bell {
    /// Has the poller come to a context, if it can, which then says [`Ucontext::attend`]. Any context.
    pub(crate) fn ask(&self, context: &Arc<Ucontext>) -> bool {
        let mut door = self.door.lock();
        let Door { waiting, thread } = &mut *door;
        let Some(thread) = thread else {
            return false;
        };
        if waiting.push_within_capacity(context.clone()).is_err() {
            return false;
        }
        self.waiting.store(true, Release);
        thread.wake();
        true
    }
}

/// The poller of a device, stopped when this is dropped. Process context.
pub(crate) struct Poller(Arc<Bell>);

impl Poller {
    /// Starts it; it sleeps. Its name is that of the module and that of the device. Process context.
    pub(crate) fn start(device: &CStr, counters: &Arc<Counters>) -> Result<Self> {
        let door = Door {
            waiting: KVec::with_capacity(CONTEXTS, GFP_KERNEL)?,
            thread: None,
        };
        let bell = Arc::pin_init(
            pin_init!(Bell {
                counters: counters.clone(),
                waiting: Atomic::new(false),
                door <- new_spinlock_irq!(door, "Bell::door"),
            }),
            GFP_KERNEL,
        )?;
        let worker = KBox::new(
            Worker {
                bell: bell.clone(),
                list: KVec::with_capacity(CONTEXTS, GFP_KERNEL)?,
            },
            GFP_KERNEL,
        )?;
        let name = CString::try_from_fmt(fmt!("rurdma/{device}"))?;
        let thread = Thread::start(&name, worker)?;
        bell.door.lock().thread = Some(thread);
        Ok(Self(bell))
    }

    /// Where contexts ask for it.
    pub(crate) fn bell(&self) -> Arc<Bell> {
        self.0.clone()
    }

    /// Stops it, and waits for that. Any number of times. Process context.
    pub(crate) fn stop(&self) {
        let thread = self.0.door.lock().thread.take();
        drop(thread);
        // Nobody comes any more.
        loop {
            let context = self.0.door.lock().waiting.pop();
            if context.is_none() {
                break;
            }
        }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A context that the poller has come to.
struct Polled {
    context: Arc<Ucontext>,
    watch: Watch,
}

impl Polled {
    /// The poller leaves it, whose context asks for kicks.
    fn left(&self, why: Leave) {
        self.context
            .left(&self.watch, time::monotonic_raw_ns(), why);
    }
}

/// What the thread has.
struct Worker {
    bell: Arc<Bell>,
    list: KVec<Polled>,
}

impl Run for Worker {
    fn run(&mut self, me: &Me) {
        me.prefer();
        while !me.should_stop() {
            // Nobody relies on the poller here: all contexts ask for kicks.
            if me.should_freeze() {
                me.freeze();
            }
            let now = time::monotonic_raw_ns();
            let limit = params::poll_ns();
            self.admit(now, limit);
            if limit == 0 {
                self.leave(Leave::Idle);
            }
            if self.list.is_empty() {
                me.sleep_unless(|| self.bell.waiting.load(Acquire));
                continue;
            }
            keep(&mut self.list, |polled| polled.context.attend());
            let in_time = self.poll(me);
            for polled in &self.list {
                polled.context.see_off();
            }
            if !in_time {
                self.leave(Leave::Crowded);
            }
        }
        self.leave(Leave::Idle);
    }
}

impl Worker {
    /// Takes those who wait to the list.
    fn admit(&mut self, now: u64, limit: u64) {
        if !self.bell.waiting.xchg(false, Full) {
            return;
        }
        loop {
            let Some(context) = self.bell.door.lock().waiting.pop() else {
                break;
            };
            let polled = Polled {
                watch: context.comes(now, limit),
                context,
            };
            match self.list.push_within_capacity(polled) {
                Ok(()) => self.bell.counters.count(Counter::PollerWakeups),
                Err(full) => full.0.left(Leave::Crowded),
            }
        }
    }

    /// Leaves all contexts; they ask for kicks.
    fn leave(&mut self, why: Leave) {
        for polled in &self.list {
            polled.left(why);
        }
        self.list.clear();
    }

    /// Does what is posted, until there is something else to do. The contexts that are on the list after that
    /// rely on the poller still. False if they had better not, as others want the CPU.
    fn poll(&mut self, me: &Me) -> bool {
        let mut breath = time::monotonic_raw_ns();
        let (mut one, mut found_at, mut nap) = (breath, breath, breath);
        let mut naps = Naps::new();
        // Whether the look before was a nap for others.
        let (mut gave_way, mut lone) = (false, 0);
        loop {
            let now = time::monotonic_raw_ns();
            let limit = params::poll_ns();
            let (pass, busy) = self.serve(now, limit);
            if self.list.is_empty()
                || limit == 0
                || me.should_stop()
                || me.should_freeze()
                || self.bell.waiting.load(Acquire)
            {
                return true;
            }
            if busy < 2 {
                one = now;
            } else if now.saturating_sub(one) >= limit.max(BREATH) {
                // More than one CPU can do: whoever came last has one of his own.
                if let Some(polled) = self.list.pop() {
                    polled.context.see_off();
                    polled.left(Leave::Crowded);
                }
                one = now;
            }
            if pass.turns > 0 {
                lone = if pass.is_one_by_one() {
                    lone + u32::from(gave_way)
                } else {
                    0
                };
                if lone >= LONE {
                    return false;
                }
                found_at = now;
                naps.over();
            }
            gave_way = false;
            let away = time::monotonic_raw_ns();
            if pass.turns > 0 {
                if !me.is_due() && away.saturating_sub(breath) < BREATH {
                    continue;
                }
                breath = away;
                if away.saturating_sub(nap) >= pauses::WORK && me.is_in_the_way() {
                    me.nap(pauses::PAUSE);
                    nap = time::monotonic_raw_ns();
                } else {
                    me.breathe();
                }
            } else {
                gave_way = !self.looks(me);
                if !gave_way && now.saturating_sub(found_at) < LOOK {
                    continue;
                }
                me.nap(naps.next());
                nap = time::monotonic_raw_ns();
            }
            if time::monotonic_raw_ns().saturating_sub(away) >= LATE {
                return false;
            }
        }
    }

    /// A turn for each context; leaves those that have nothing to do. What was done, and for how many contexts.
    fn serve(&mut self, now: u64, limit: u64) -> (Pass, u32) {
        let (mut all, mut busy) = (Pass::default(), 0);
        keep(&mut self.list, |polled| {
            let Some(pass) = polled.context.serve(QPS) else {
                return false;
            };
            if pass.turns > 0 {
                all.add(pass);
                busy += 1;
                polled.watch.found(time::monotonic_raw_ns(), pass.begun);
            } else if polled.context.is_kicking() {
                polled.watch.found(now, 0);
            } else if polled.watch.is_over(now, limit) && polled.context.may_rest() {
                polled.left(Leave::Idle);
                return false;
            }
            true
        });
        if all.turns > 0 {
            self.bell.counters.add(Counter::Polled, all.turns);
        }
        (all, busy)
    }

    /// Looks for a moment. False if somebody else wants the CPU.
    fn looks(&self, me: &Me) -> bool {
        for _ in 0..LOOKS {
            if me.is_in_the_way() {
                return false;
            }
            if self.list.iter().any(|polled| polled.context.rings()) {
                break;
            }
            core::hint::spin_loop();
        }
        true
    }
}

/// Drops what is not to stay. `Vec::retain()` indexes, and has a panic where the compiler does not see through it.
fn keep<T>(list: &mut KVec<T>, mut stays: impl FnMut(&mut T) -> bool) {
    let mut i = 0;
    while let Some(item) = list.get_mut(i) {
        if stays(item) {
            i += 1;
        } else {
            drop(list.remove(i));
        }
    }
}
