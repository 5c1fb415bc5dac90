// SPDX-License-Identifier: GPL-2.0

//! When a process's doorbells are worth polling, and for how long.
//!
//! A poller is a CPU that does nothing else. It pays where a process keeps posting faster than its
//! work is done: then posts cost no system call, and are executed beside it. It does not pay where the
//! process waits for an answer to each post: then whoever posts executes best himself.
//!
//! There is no clock here. Times are nanoseconds of a clock that does not go back; `limit` is the
//! longest that a poller may look without finding anything.

#![forbid(unsafe_code)]

/// Kicks that are looked at together.
const KICKS: u32 = 8;
/// Kicks that are not looked at after those have shown no stream: at first, and at most. What is posted one by one, each
/// after an answer, is to be short of all that is not needed for it.
const UNSEEN: u32 = 8;
const MAX_UNSEEN: u32 = 64;
/// How long a context is left alone after the poller's CPU was crowded: at first, and at most.
const REST: u64 = 8_000_000;
const MAX_REST: u64 = 512_000_000;
/// Microseconds of a nap between two looks that find nothing: of the first, and at most. Each is twice as long as the
/// one before, so that a post waits no longer than the poller has waited for it.
const NAP: u32 = 30;
const MAX_NAP: u32 = 1000;

/// A kick, as it was.
#[derive(Clone, Copy, Debug)]
pub struct Kick {
    /// When it began.
    pub begin: u64,
    /// When it ended; it executes what was posted.
    pub end: u64,
    /// What was posted before was not complete when it began.
    pub behind: bool,
    /// No other of this context was on its way at the same time.
    pub alone: bool,
}

/// What is known of how a context posts.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the first of the kicks began that are looked at together.
    since: u64,
    /// Time that was spent in them.
    busy: u64,
    /// How many they are, and how many of them came with work before them.
    kicks: u32,
    behind: u32,
    /// How many need not be looked at now.
    unseen: u32,
    /// The end of the last one.
    last: u64,
    /// How long the poller looked for more; 0: it never did.
    spin: u64,
    /// When it last found something, and when the first kick came after it had left.
    found: u64,
    next: Option<u64>,
    /// How long it left the context alone, and until when.
    rest: u64,
    rest_until: u64,
}

/// Why a poller leaves a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Nothing was posted for a while.
    Idle,
    /// Others had the CPU for too long, or have more use for it.
    Crowded,
}

impl Pace {
    /// Of a context that nobody has posted to.
    pub fn new() -> Self {
        Self::default()
    }

    /// There was a kick. Says whether a poller would pay from here on.
    ///
    /// It would where posts stream: of [`KICKS`] kicks in a row, each soon after the one before, half came
    /// while there was unfinished work, or they took three fifths of the time. Of two ends that wait for each other
    /// each takes half at most. Where threads kick at the same time they have more CPUs than a poller has.
    pub fn kicked(&mut self, kick: Kick, limit: u64) -> bool {
        self.next.get_or_insert(kick.begin);
        let late = kick.begin.saturating_sub(self.last) > limit;
        self.last = self.last.max(kick.end);
        if late || !kick.alone {
            self.kicks = 0;
        }
        if !kick.alone {
            return false;
        }
        if self.kicks == 0 {
            self.since = kick.begin;
            self.busy = 0;
            self.behind = 0;
        }
        self.kicks += 1;
        self.busy += kick.end.saturating_sub(kick.begin);
        self.behind += u32::from(kick.behind);
        if self.kicks < KICKS {
            return false;
        }
        self.kicks = 0;
        let passed = kick.end.saturating_sub(self.since);
        let streams = self.busy >= passed / 5 * 3 || self.behind >= KICKS / 2;
        self.unseen = if streams {
            0
        } else {
            self.unseen.saturating_mul(2).clamp(UNSEEN, MAX_UNSEEN)
        };
        streams && kick.end >= self.rest_until
    }

    /// How many kicks need not be told to [`Self::kicked`], from the last one on.
    pub fn unseen(&self) -> u32 {
        if self.kicks == 0 {
            self.unseen
        } else {
            0
        }
    }

    /// The poller comes. If it left too early the last time it now stays longer, if it stayed in vain, not
    /// so long.
    pub fn begin(&mut self, now: u64, limit: u64) -> Watch {
        let gap = self.next.unwrap_or(now).saturating_sub(self.found);
        let spin = match self.spin {
            0 => limit,
            spin if gap <= limit => spin.saturating_mul(2),
            spin if gap > limit.saturating_mul(8) => spin / 2,
            spin => spin,
        };
        self.spin = spin.clamp(limit / 16, limit);
        Watch {
            came: now,
            spin: self.spin,
            found: now,
            sends: 0,
        }
    }

    /// It leaves. If it has found less than the kicks that it takes to have it come, as where two ends wait for each
    /// other's messages, the context is left alone as it is for a crowded CPU.
    pub fn end(&mut self, watch: &Watch, now: u64, why: Leave) {
        self.found = watch.found;
        self.next = None;
        let worth_while = match why {
            Leave::Idle => watch.sends >= KICKS,
            Leave::Crowded => now.saturating_sub(watch.came) >= MAX_REST,
        };
        if worth_while {
            self.rest = 0;
        }
        if why == Leave::Crowded || !worth_while {
            self.rest = self.rest.saturating_mul(4).clamp(REST, MAX_REST);
            self.rest_until = now.saturating_add(self.rest);
        }
    }
}

/// A poller looks after a context.
#[derive(Debug)]
pub struct Watch {
    came: u64,
    spin: u64,
    found: u64,
    sends: u32,
}

impl Watch {
    /// It found something, so many sends perhaps.
    pub fn found(&mut self, now: u64, sends: u32) {
        self.found = now;
        self.sends = self.sends.saturating_add(sends);
    }

    /// Whether it has looked long enough for more.
    pub fn is_over(&self, now: u64, limit: u64) -> bool {
        now.saturating_sub(self.found) >= self.spin.min(limit)
    }
}

/// The naps of a poller.
#[derive(Debug, Default)]
pub struct Naps(u32);

impl Naps {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Microseconds of the next one.
    pub fn next(&mut self) -> u32 {
        self.0 = self.0.saturating_mul(2).clamp(NAP, MAX_NAP);
        self.0
    }

    /// Something was found.
    pub fn over(&mut self) {
        *self = Self::new();
    }
}

#[cfg(all(any(test, CONFIG_KUNIT = "y"), not(loom)))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_pace))]
mod tests {
    use super::*;

    const LIMIT: u64 = 1_000_000;

    /// Kicks that take `busy` each and come every `every`; the number of the one that wants a poller.
    fn wanted(pace: &mut Pace, start: u64, busy: u64, every: u64, behind: bool) -> Option<u32> {
        (0..64).find(|n| {
            let begin = start + u64::from(*n) * every;
            let kick = Kick {
                begin,
                end: begin + busy,
                behind,
                alone: true,
            };
            pace.kicked(kick, LIMIT)
        })
    }

    #[test]
    fn a_stream_wants_a_poller() {
        // All the time, or most of it, in the kernel.
        assert_eq!(wanted(&mut Pace::new(), 5, 10_000, 10_000, false), Some(7));
        assert_eq!(wanted(&mut Pace::new(), 5, 10_000, 16_000, false), Some(7));
        // Kicks that find the socket full are short.
        assert_eq!(wanted(&mut Pace::new(), 5, 500, 20_000, true), Some(7));
    }

    #[test]
    fn an_exchange_wants_none() {
        assert_eq!(wanted(&mut Pace::new(), 5, 10_000, 19_000, false), None);
        // Nor what is slow, however long it takes.
        assert_eq!(
            wanted(&mut Pace::new(), 5, 2 * LIMIT, 4 * LIMIT, true),
            None
        );
    }

    #[test]
    fn an_exchange_is_seldom_looked_at() {
        let mut pace = Pace::new();
        let mut begin = 5;
        for unseen in [UNSEEN, 2 * UNSEEN, 4 * UNSEEN, MAX_UNSEEN, MAX_UNSEEN] {
            for n in 0..KICKS {
                let (looked_at, expected) = (pace.unseen() == 0, begin == 5 || n != 0);
                assert_eq!(looked_at, expected);
                let kick = Kick {
                    begin,
                    end: begin + 1,
                    behind: false,
                    alone: true,
                };
                assert!(!pace.kicked(kick, LIMIT));
                begin += 9;
            }
            assert_eq!(pace.unseen(), unseen);
        }
        assert_eq!(wanted(&mut pace, begin, 9, 9, false), Some(7));
        assert_eq!(pace.unseen(), 0);
    }

    #[test]
    fn threads_want_none() {
        let mut pace = Pace::new();
        for n in 0..64 {
            let kick = Kick {
                begin: n * 100,
                end: n * 100 + 90,
                behind: true,
                alone: n % 4 != 0,
            };
            assert!(!pace.kicked(kick, LIMIT));
        }
    }

    #[test]
    fn a_pause_begins_anew() {
        let mut pace = Pace::new();
        let kick = |begin| Kick {
            begin,
            end: begin + 90,
            behind: true,
            alone: true,
        };
        for n in 0..7 {
            assert!(!pace.kicked(kick(n * 100), LIMIT));
        }
        assert_eq!(wanted(&mut pace, 3 * LIMIT, 90, 100, true), Some(7));
    }

    #[test]
    fn it_looks_longer_where_it_left_too_early() {
        let mut pace = Pace::new();
        let mut now = LIMIT;
        // Bursts that come after so many times the limit.
        for (gap, spin) in [
            (0, LIMIT),
            (2, LIMIT),
            (100, LIMIT / 2),
            (100, LIMIT / 4),
            (9, LIMIT / 8),
            (8, LIMIT / 8),
            (100, LIMIT / 16),
            (100, LIMIT / 16),
            (1, LIMIT / 8),
            (0, LIMIT / 4),
        ] {
            now += gap * LIMIT;
            // The kicks before it comes take their time.
            assert!(wanted(&mut pace, now, LIMIT / 2, LIMIT / 2, false).is_some());
            now += 4 * LIMIT;
            let mut watch = pace.begin(now, LIMIT);
            assert_eq!((gap, watch.spin), (gap, spin));
            assert!(!watch.is_over(now + spin - 1, LIMIT));
            assert!(watch.is_over(now + spin, LIMIT));
            // A limit that is lowered meanwhile is in force at once.
            assert!(watch.is_over(now + 10, 10));
            watch.found(now, KICKS);
            pace.end(&watch, now + spin, Leave::Idle);
        }
    }

    #[test]
    fn what_came_in_vain_is_left_alone() {
        let mut pace = Pace::new();
        let mut now = 1;
        for rest in [REST, 4 * REST] {
            let mut watch = pace.begin(now, LIMIT);
            watch.found(now, KICKS - 1);
            pace.end(&watch, now, Leave::Idle);
            let start = now + rest - 1000;
            assert_eq!(wanted(&mut pace, now, 1000, 1000, true), None);
            now = start + 100_000;
            assert!(wanted(&mut pace, start, 1000, 1000, true).is_some());
        }
        let mut watch = pace.begin(now, LIMIT);
        watch.found(now, KICKS - 1);
        watch.found(now, 1);
        pace.end(&watch, now, Leave::Idle);
        assert!(wanted(&mut pace, now, 1000, 1000, true).is_some());
    }

    #[test]
    fn a_crowd_has_it_left_alone() {
        let mut pace = Pace::new();
        let mut now = 1;
        for rest in [REST, 4 * REST, 16 * REST] {
            let watch = pace.begin(now, LIMIT);
            pace.end(&watch, now, Leave::Crowded);
            assert_eq!(wanted(&mut pace, now, 1000, 1000, true), None);
            let start = now + rest - 1000;
            assert!(wanted(&mut pace, start, 1000, 1000, true).is_some());
            now = start + 100_000;
        }
        let watch = pace.begin(now, LIMIT);
        now += MAX_REST;
        pace.end(&watch, now, Leave::Crowded);
        now += REST;
        assert!(wanted(&mut pace, now, 1000, 1000, true).is_some());
        let mut watch = pace.begin(now, LIMIT);
        watch.found(now, KICKS);
        pace.end(&watch, now, Leave::Idle);
        assert!(wanted(&mut pace, now, 1000, 1000, true).is_some());
    }

    #[test]
    fn naps_grow_until_something_is_found() {
        let mut naps = Naps::new();
        for _ in 0..2 {
            let us: [u32; 7] = core::array::from_fn(|_| naps.next());
            assert_eq!(us, [30, 60, 120, 240, 480, 960, 1000]);
            naps.over();
        }
    }
}
