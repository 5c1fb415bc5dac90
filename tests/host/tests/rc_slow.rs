// SPDX-License-Identifier: GPL-2.0

//! RC: a peer that takes longer than the timer is not lost in what is sent again.

#![allow(missing_docs)]

use rurdma_host_tests::proto::ib::cut::Mtu;
use rurdma_host_tests::proto::ib::requester::{Effect, Limits, Request, Requester, Slot};
use rurdma_host_tests::proto::serial::Psn;
use rurdma_host_tests::proto::wire::ib::syndrome::Syndrome;
use std::collections::VecDeque;

const MESSAGES: u32 = 64;
const PACKETS: u32 = 64;
const WINDOW: u32 = 256;
/// Time without progress after which the requester sends again; the peer looks at one packet in each unit.
const TIMER: u32 = 240;
/// `IB_WC_RETRY_EXC_ERR`.
const RETRY_EXC: Effect = Effect::Failed(12);

/// A peer that keeps what comes until it has time, loses none, and acknowledges again what it has had before.
#[derive(Default)]
struct Slow {
    queue: VecDeque<(u32, bool)>,
    expected: u32,
    looked_at: u32,
    longest: usize,
}

impl Slow {
    /// Looks at one packet: the number that it acknowledges.
    fn look(&mut self) -> Option<Psn> {
        self.longest = self.longest.max(self.queue.len());
        let (psn, asks) = self.queue.pop_front()?;
        self.looked_at += 1;
        assert!(psn <= self.expected, "nothing is lost");
        let again = psn < self.expected;
        self.expected += u32::from(!again);
        (again || asks).then(|| Psn::new(self.expected - 1))
    }
}

/// What the peer has had to do, if it has no time from `pause` on, for so long; `Err` if the requester gives up.
fn run(retries: u8, pause: u32, length: u32) -> Result<Slow, Slow> {
    let mut r = Requester::new(vec![Slot::default(); 128]);
    let limits = Limits {
        mtu: Mtu::MIN,
        reads: 1,
        retries,
        rnr_retries: 7,
        window: WINDOW,
    };
    r.begin(limits, Psn::new(0));
    for _ in 0..MESSAGES {
        r.push(Request {
            length: PACKETS * Mtu::MIN.bytes(),
            ..Request::default()
        });
    }
    let mut peer = Slow::default();
    let (mut done, mut progress, mut told) = (0, 0, None);
    for now in 0.. {
        while let Ok(next) = r.next() {
            peer.queue.push_back((next.psn.get(), next.ack_request));
            r.sent(&next);
        }
        let pauses = now >= pause && now - pause < length;
        if let Some(psn) = (!pauses).then(|| peer.look()).flatten() {
            r.acknowledged(psn, Syndrome::Ack);
            if told != Some(psn) {
                (told, progress) = (Some(psn), now);
            }
        }
        while r.take_done().is_some() {
            done += 1;
        }
        if done == MESSAGES {
            break;
        }
        if now - progress >= TIMER {
            progress = now;
            match r.timed_out() {
                Effect::Progress => {}
                RETRY_EXC => return Err(peer),
                other => panic!("{other:?}"),
            }
        }
    }
    Ok(peer)
}

/// A pause costs the peer no more than what was on its way when it began, and as much for all tries; it is not the end of
/// the connection.
#[test]
fn a_pause() {
    for pause in [0, 100, 1000, 2500] {
        for length in (0..=7 * TIMER).step_by(60) {
            let peer = run(7, pause, length)
                .unwrap_or_else(|p| panic!("{length} from {pause}: {} looked at", p.looked_at));
            let more = peer.looked_at - MESSAGES * PACKETS;
            assert!(more <= 2 * WINDOW, "{more} more: {length} from {pause}");
            assert!(peer.longest <= 2 * WINDOW as usize);
            if length < TIMER / 2 {
                assert_eq!(more, 0, "{length} from {pause}");
            }
        }
    }
}

/// What ends the connection is the number of tries that it grants.
#[test]
fn too_long_a_pause() {
    for retries in 0..=7 {
        let longest = TIMER * (u32::from(retries) + 2);
        assert!(run(retries, 1000, longest).is_err(), "{retries}");
    }
}
