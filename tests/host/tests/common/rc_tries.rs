// SPDX-License-Identifier: GPL-2.0

//! What a requester of a simulation (`rc_sim`) may do, by what it was granted and told: how much it asks for,
//! and how often it tries; and how long it waits. Packets have numbers from 0 on.

use super::proto::ib::requester::RETRY_EXC;
use std::ops::Range;

/// `IB_WC_RNR_RETRY_EXC_ERR`.
pub(super) const RNR_RETRY_EXC: u8 = 13;

/// What is granted, of `Limits` that which may be changed in SQD.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub(super) reads: u32,
    pub(super) retries: u8,
    pub(super) rnr_retries: u8,
}

/// What a requester waits for an answer.
const TIMEOUT: u64 = 400;

/// The clock of a requester, and what the responder could do while it ran.
#[derive(Default)]
pub(super) struct Clock {
    /// It runs since then.
    since: u64,
    /// The responder had nothing more to say.
    idle: u64,
    /// Answers that it has sent since the clock was started.
    said: u64,
    /// It had more to say for too long.
    slow: bool,
}

impl Clock {
    /// It is started, or once more.
    pub(super) fn start(&mut self, now: u64) {
        self.since = now;
        self.said = 0;
        self.slow = false;
    }

    pub(super) fn rings(&self, now: u64) -> bool {
        now > self.since + TIMEOUT
    }

    pub(super) fn answered(&mut self) {
        self.said += 1;
    }

    /// The responder has more to say by now, or not. What it says late comes too late; the other half of the time
    /// is that of the packets on their way.
    pub(super) fn look(&mut self, now: u64, has_more: bool) {
        if !has_more {
            self.idle = now;
        }
        self.slow |= now - self.idle.max(self.since) > TIMEOUT / 2;
    }

    /// Whether the responder has had time to answer. Of as many answers as this, which are more than can be asked
    /// for at a time, those that are needed must be some.
    pub(super) fn had_time(&self) -> bool {
        !self.slow || self.said >= TIMEOUT
    }
}

pub(super) struct Tries {
    grant: Grant,
    /// Packets of the work requests, and whether there is an answer to them besides an acknowledge.
    work: Vec<(Range<u32>, bool)>,
    /// Work requests that were begun.
    begun: usize,
    /// Everything before this packet is acknowledged, or answered.
    done: u32,
    /// Everything from this packet on was never sent.
    unsent: u32,
    /// Times since then that the clock ran out.
    late: u8,
    /// Those of them in which the responder had time to answer.
    in_time: u8,
    /// Times since then that the peer was not ready.
    not_ready: u8,
}

impl Tries {
    pub(super) fn new(grant: Grant) -> Self {
        Tries {
            grant,
            work: Vec::new(),
            begun: 0,
            done: 0,
            unsent: 0,
            late: 0,
            in_time: 0,
            not_ready: 0,
        }
    }

    /// SQD: what was tried does not count any more.
    pub(super) fn adjust(&mut self, grant: Grant) {
        self.grant = grant;
        self.late = 0;
        self.in_time = 0;
        self.not_ready = 0;
    }

    /// A work request of so many packets is put in.
    pub(super) fn push(&mut self, packets: u32, asks: bool) {
        let first = self.work.last().map_or(0, |(p, _)| p.end);
        self.work.push((first..first + packets, asks));
    }

    /// This packet is sent, of this work request.
    pub(super) fn sent(&mut self, number: u32, of: usize) {
        let (packets, asks) = &self.work[of];
        assert!(packets.contains(&number));
        // One request stands for all the packets of its answer.
        let end = if *asks { packets.end } else { number + 1 };
        self.unsent = self.unsent.max(end);
        if of < self.begun {
            return;
        }
        assert_eq!(
            (of, number),
            (self.begun, self.work[of].0.start),
            "in order"
        );
        self.begun += 1;
        if self.work[of].1 {
            let asked = self.work[..self.begun]
                .iter()
                .filter(|(p, asks)| *asks && p.end > self.done)
                .count();
            assert!(asked as u32 <= self.grant.reads, "no more than granted");
        }
    }

    /// The packets that were sent and are not acknowledged.
    pub(super) fn flight(&self) -> Range<u32> {
        self.done..self.unsent
    }

    /// Times since there was progress that the clock ran out, though the responder had time to answer.
    pub(super) fn in_time(&self) -> u8 {
        self.in_time
    }

    fn progress(&mut self, done: u32) {
        if done > self.done {
            self.done = done;
            self.late = 0;
            self.in_time = 0;
            self.not_ready = 0;
        }
    }

    /// An answer says that everything before this packet has arrived. Where data are to come, only they do.
    pub(super) fn told(&mut self, before: u32) {
        let asks = |(p, asks): &&(Range<u32>, bool)| *asks && p.end > self.done;
        let most = match self.work.iter().find(asks) {
            Some((p, _)) => p.start.max(self.done),
            None => before,
        };
        self.progress(before.min(most));
    }

    /// An answer to this packet has come. Says whether it is the one that is to come next.
    pub(super) fn answered(&mut self, number: u32) -> bool {
        self.told(number);
        let next = self.done == number;
        if next {
            self.progress(number + 1);
        }
        next
    }

    /// The clock has run out, and the QP has failed or not. Once an answer may have shown that something is
    /// missing, which is a try, too.
    pub(super) fn timed_out(&mut self, failed: bool, had_time: bool) {
        let granted = self.grant.retries;
        self.in_time += u8::from(had_time);
        if failed {
            assert!([granted, granted.wrapping_sub(1)].contains(&self.late));
        } else {
            self.late += 1;
            assert!(self.late <= granted);
        }
    }

    /// The peer is not ready, and the QP has not failed.
    pub(super) fn waits(&mut self) {
        let granted = self.grant.rnr_retries;
        if granted != 7 {
            assert!(self.not_ready < granted);
            self.not_ready += 1;
        }
    }

    /// An answer has let the QP fail.
    pub(super) fn failed(&self, status: u8, is_rnr: bool) {
        match status {
            RETRY_EXC => assert_eq!(self.late, self.grant.retries),
            RNR_RETRY_EXC => {
                assert!(is_rnr && self.grant.rnr_retries != 7);
                assert_eq!(self.not_ready, self.grant.rnr_retries);
            }
            _ => panic!("status {status}"),
        }
    }
}
