// SPDX-License-Identifier: GPL-2.0

//! Who executes what processes post, and when: the poller of a device.
//!
//! A process that posts says so in its doorbell region, and kicks if the context asks for that: then
//! the work is done in its own system call. Where posts stream, the context has the poller come
//! ([`Bell::ask`]): a thread that looks at the doorbells itself, so that no post of the context is a
//! system call, until nothing is posted for a while. Then the context asks for kicks again, and a
//! poller without contexts sleeps.
//!
//! The thread is there for others' sake only while it has work. When it has none and somebody else wants
//! its CPU, it gives way, and before it does so all of its contexts ask for kicks. Work waits for a poller
//! that has no CPU, for as long as the scheduler lets somebody else have it, where it is preempted with work in
//! its hands, or has its share used up (then others have theirs, as with any thread), and where a post comes
//! between its last look and its asking for kicks.

#![forbid(unsafe_code)]

use crate::counters::Counters;
use crate::kapi::params;
use crate::kapi::rdma::stats::Counter;
use crate::kapi::sync::{new_spinlock_irq, SpinLockIrq};
use crate::kapi::thread::{Me, Run, Thread};
use crate::kapi::time;
use crate::proto::pace::{Crowd, Leave, Watch};
use crate::ucontext::{Begun, Ucontext};
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
    begun: Begun,
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
        let mut crowd = Crowd::new();
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
                crowd.over();
                me.sleep_unless(|| self.bell.waiting.load(Acquire));
                continue;
            }
            if me.is_in_the_way() {
                // Most of those who want it are done soon: softirqs, and workers.
                me.give_way();
                if !me.is_in_the_way() {
                    continue;
                }
                me.nap(crowd.nap());
                if crowd.lasts(now, time::monotonic_raw_ns()) {
                    self.leave(Leave::Crowded);
                }
                continue;
            }
            crowd.over();
            keep(&mut self.list, |polled| polled.context.attend());
            self.poll(me);
            for polled in &mut self.list {
                polled.context.see_off(&mut polled.begun);
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
                begun: Begun::none(),
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
    /// rely on the poller still.
    fn poll(&mut self, me: &Me) {
        let mut breath = time::monotonic_raw_ns();
        let mut idle = breath;
        loop {
            let now = time::monotonic_raw_ns();
            let limit = params::poll_ns();
            let mut found = 0;
            let mut busy = 0;
            keep(&mut self.list, |polled| {
                let Some(served) = polled.context.serve(&mut polled.begun, QPS) else {
                    return false;
                };
                if served > 0 {
                    found += served;
                    busy += 1;
                    polled.watch.found(time::monotonic_raw_ns());
                } else if polled.context.is_kicking() {
                    polled.watch.found(now);
                } else if polled.watch.is_over(now, limit) && polled.context.may_rest(&polled.begun)
                {
                    polled.left(Leave::Idle);
                    return false;
                }
                true
            });
            if found > 0 {
                self.bell.counters.add(Counter::Polled, found);
            }
            if self.list.is_empty()
                || limit == 0
                || me.should_stop()
                || me.should_freeze()
                || me.is_due()
                || self.bell.waiting.load(Acquire)
            {
                return;
            }
            if busy == 0 {
                idle = now;
                let list = &self.list;
                let stays = me.watch(
                    LOOKS,
                    || list.iter().any(|polled| polled.context.rings()),
                    || list.iter().for_each(|polled| polled.context.warn()),
                );
                if !stays {
                    return;
                }
            } else if busy == 1 {
                idle = now;
            } else if now.saturating_sub(idle) >= limit.max(BREATH) {
                // More than one CPU can do: whoever came last has one of his own.
                if let Some(mut polled) = self.list.pop() {
                    polled.context.see_off(&mut polled.begun);
                    polled.left(Leave::Crowded);
                }
                idle = now;
            }
            if now.saturating_sub(breath) >= BREATH {
                breath = now;
                me.breathe();
            }
        }
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
