// SPDX-License-Identifier: GPL-2.0

//! Two endpoints (`common/endpoint.rs`) over a simulated byte stream: connection establishment, traffic in both
//! directions, errors. The stream is read in pieces of any size, and lost at every byte.

mod common;
#[path = "common/endpoint.rs"]
mod endpoint;

use endpoint::{run, Complete, Endpoint, Work, BASE, MEM, RTR, STAG, UNLIMITED};
use proptest::prelude::*;
use rurdma_host_tests::proto::access::Rights;
use rurdma_host_tests::proto::iwarp::cm_events::Upcall;
use rurdma_host_tests::proto::iwarp::negotiate::{Depths, Rtr, RtrSet, Wishes};
use rurdma_host_tests::proto::wire::terminate::TermError;

const WISHES: Wishes = Wishes {
    crc: true,
    rev: 2,
    depths: Depths { ird: 4, ord: 4 },
    max_ird: 16,
    p2p: true,
    rtr: RtrSet::ALL,
};

fn work() -> impl Strategy<Value = Work> {
    let data = |max| prop::collection::vec(any::<u8>(), 0..max);
    prop_oneof![
        (data(2000), any::<bool>(), prop::option::of(any::<u32>()))
            .prop_map(|(d, s, i)| Work::Send(d, s, i)),
        (0..MEM / 4, data(MEM / 4)).prop_map(|(o, d)| Work::Write(o, d)),
        // Writes go to the lower half, reads come from the third quarter and go to the last one.
        (
            MEM / 2..MEM / 2 + 200,
            MEM / 4 * 3..MEM / 4 * 3 + 200,
            0usize..800
        )
            .prop_map(|(f, t, n)| Work::Read(f, t, n)),
    ]
}

/// What memory and receives of `to` must be when `from` is done: sequential execution.
fn expected(
    from: &[Work],
    to: &[Work],
    fill: [u8; 2],
) -> (Vec<u8>, Vec<(Vec<u8>, bool, Option<u32>)>) {
    let mut mem = vec![fill[1]; MEM];
    let mut received = Vec::new();
    for w in from {
        match w {
            Work::Send(d, s, i) => received.push((d.clone(), *s, *i)),
            Work::Write(o, d) => mem[*o..][..d.len()].copy_from_slice(d),
            _ => (),
        }
    }
    for w in to {
        if let Work::Read(_, t, n) = w {
            // The source is never written.
            mem[*t..][..*n].fill(fill[0]);
        }
    }
    (mem, received)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Everything arrives, whatever was negotiated and however the stream is read.
    #[test]
    fn traffic(
        wa in prop::collection::vec(work(), 0..12), wb in prop::collection::vec(work(), 0..12),
        reads in prop::collection::vec(1usize..4000, 1..12), rev in 1u8..3, p2p in any::<bool>(),
        ord in 1u16..5, ird in 1u16..5, emss in 200u32..9000, crcs in any::<[bool; 2]>(), which in 0usize..3,
    ) {
        let rtr = RtrSet::NONE.with([Rtr::Send, Rtr::Write, Rtr::Read][which]);
        let wishes = Wishes { crc: crcs[0], rev, p2p, rtr, depths: Depths { ird, ord }, ..WISHES };
        // In revision 1 depths are agreed on elsewhere: here, by being large enough.
        let depths = if rev == 1 { Depths { ird: 16, ord: 4.min(ird) } } else { Depths { ird: 2, ord: 4 } };
        // Without RTR, and in any case in the client-server model, the initiator must speak first.
        let mut wa = wa;
        if !(p2p && rev == 2) { wa.insert(0, Work::Send(vec![1], false, None)); }
        let mut a = Endpoint::new(true, wishes, emss, wa.clone(), 0xaa);
        let mut b = Endpoint::new(false, Wishes { crc: crcs[1], depths, rtr: RtrSet::ALL, ..WISHES }, emss + 100, wb.clone(), 0xbb);
        run(&mut a, &mut b, &reads, UNLIMITED);
        for ep in [&a, &b] {
            prop_assert_eq!((ep.term_sent, ep.term_got), (None, None));
            prop_assert!(ep.rx.is_between_messages() || ep.out.is_empty());
            prop_assert!(ep.reads.is_empty() && ep.work.is_empty());
            prop_assert_eq!(ep.agreed.unwrap().crc, crcs[0] || crcs[1]);
        }
        prop_assert_eq!(b.rtr_seen, p2p && rev == 2);
        for (ep, posted) in [(&mut a, wa.len() as u64), (&mut b, wb.len() as u64)] {
            ep.done.sort_unstable();
            prop_assert_eq!(&ep.done, &(0..posted).collect::<Vec<_>>());
        }
        prop_assert_eq!(&b.peer_data, b"from the initiator");
        prop_assert_eq!(&a.peer_data, b"from the responder");
        prop_assert_eq!((b.mem.clone(), b.received.clone()), expected(&wa, &wb, [0xaa, 0xbb]));
        prop_assert_eq!((a.mem.clone(), a.received.clone()), expected(&wb, &wa, [0xbb, 0xaa]));
    }
}

fn conversation() -> [Vec<Work>; 2] {
    let text = |n: usize| (0..n).map(|i| i as u8).collect::<Vec<u8>>();
    let one = |k: usize| {
        vec![
            Work::Send(text(50 + k), true, None),
            Work::Write(3, text(400)),
            Work::Read(2048, 3072, 333),
            Work::Read(2050, 3500, 0),
            Work::Send(Vec::new(), false, Some(5)),
        ]
    };
    [one(0), one(1)]
}

/// What of a stream whose first `lost` bytes came was complete.
fn up_to(all: &[(usize, Complete)], lost: usize) -> Vec<(usize, Complete)> {
    all.iter().copied().filter(|(at, _)| *at <= lost).collect()
}

/// How many of these messages were complete.
fn count(messages: &[(usize, Complete)], what: impl Fn(Complete) -> bool) -> usize {
    messages.iter().filter(|(_, m)| what(*m)).count()
}

/// The connection is lost at every byte, in either direction. What was said up to there is delivered, to
/// the byte, in order, and nothing else; each work request completes once, well or flushed; and each
/// consumer is told once how it ends.
#[test]
fn lost_at_every_byte() {
    let reads = [100, 37];
    for rtr in [Rtr::Send, Rtr::Write, Rtr::Read] {
        let wishes = Wishes {
            rtr: RtrSet::NONE.with(rtr),
            ..WISHES
        };
        let make = || {
            let [wa, wb] = conversation();
            [
                Endpoint::new(true, wishes, 300, wa, 0xaa),
                Endpoint::new(false, WISHES, 300, wb, 0xbb),
            ]
        };
        let mut whole = make();
        let [a, b] = &mut whole;
        run(a, b, &reads, UNLIMITED);
        assert_eq!((a.done.len(), b.done.len()), (5, 5));
        for dir in 0..2 {
            for lost in 0..whole[dir].sent {
                let mut limits = UNLIMITED;
                limits[dir] = lost;
                let mut ends = make();
                let [a, b] = &mut ends;
                run(a, b, &reads, limits);
                a.closed();
                b.closed();
                // What the one end says up to the loss is what it says without one.
                let (from, to, all) = (&ends[dir], &ends[1 - dir], &whole[1 - dir]);
                assert_eq!(from.sent, lost);
                assert_eq!(to.messages, up_to(&all.messages, lost));
                let sends = count(&to.messages, |m| m == Complete::Send);
                assert_eq!(to.received[..], all.received[..sends]);
                let mut mem = make()[1 - dir].mem.clone();
                for (_, off, byte) in all.placed.iter().filter(|(at, ..)| *at <= lost) {
                    mem[*off] = *byte;
                }
                assert!(to.mem == mem, "memory, lost at {lost}");
                // In the other direction everything arrives that the end there came to say.
                let began =
                    |ep: &Endpoint| ep.agreed.is_some() && (ep.initiator || ep.rx.has_started());
                let all = &whole[dir];
                let answered = count(&to.messages, |m| m == Complete::ReadRequest);
                let answers = count(&from.messages, |m| matches!(m, Complete::ReadResponse(_)));
                assert_eq!(answers, answered);
                let said = if began(to) { &all.received[..] } else { &[] };
                assert_eq!(from.received[..], *said);
                let mut mem = make()[dir].mem.clone();
                for work in conversation()[1 - dir].iter().filter(|_| began(to)) {
                    if let Work::Write(off, data) = work {
                        mem[*off..][..data.len()].copy_from_slice(data);
                    }
                }
                if from.done.contains(&2) {
                    // What is read is what the other end's memory was filled with.
                    mem[3072..][..333].fill(make()[1 - dir].mem[0]);
                }
                assert!(from.mem == mem, "memory of the sender, lost at {lost}");
                for ep in &mut ends {
                    assert_eq!((ep.term_sent, ep.term_got), (None, None));
                    // Of READs those that were answered, of the others those that were sent.
                    let answers = ep.messages.iter().filter_map(|(_, m)| match m {
                        Complete::ReadResponse(n) if *n != RTR => Some(*n),
                        _ => None,
                    });
                    let sent = if began(ep) { &[0, 1, 4][..] } else { &[] };
                    let mut done: Vec<_> = answers.chain(sent.iter().copied()).collect();
                    done.sort_unstable();
                    ep.done.sort_unstable();
                    assert_eq!(ep.done, done);
                    let mut complete = [&ep.done[..], &ep.flushed].concat();
                    complete.sort_unstable();
                    assert_eq!(complete, [0, 1, 2, 3, 4]);
                    let told: &[_] = match (ep.initiator, ep.agreed) {
                        (true, None) => &[Upcall::ConnectFailed],
                        (true, _) => &[Upcall::Connected, Upcall::Disconnect, Upcall::Close],
                        (false, None) => &[],
                        (false, _) => &[Upcall::Established, Upcall::Disconnect, Upcall::Close],
                    };
                    assert_eq!(ep.told, told);
                }
                if dir == 0 {
                    // Before its first FPDU the responder says nothing but the reply.
                    let b = &ends[1];
                    assert!(b.rx.has_started() || b.sent <= 42);
                }
            }
        }
    }
}

/// Each error is found by the one end, told the other, and is the last thing that happens.
#[test]
fn errors_are_told() {
    let cases: Vec<(Work, TermError)> = vec![
        (
            Work::RawWrite(STAG + 1, BASE, 8),
            TermError::DDP_INVALID_STAG,
        ),
        (Work::RawWrite(STAG, BASE - 1, 8), TermError::DDP_BOUNDS),
        (
            Work::RawWrite(STAG, BASE + MEM as u64 - 7, 8),
            TermError::DDP_BOUNDS,
        ),
        (
            Work::RawWrite(STAG, u64::MAX - 3, 8),
            TermError::DDP_TO_WRAP,
        ),
        (
            Work::RawRead(STAG ^ 0x80, BASE, 8),
            TermError::RDMAP_INVALID_STAG,
        ),
        (
            Work::RawRead(STAG, BASE + MEM as u64, 1),
            TermError::RDMAP_BOUNDS,
        ),
        (Work::RawRead(STAG, u64::MAX, 2), TermError::RDMAP_TO_WRAP),
        (
            Work::Send(vec![0; 2001], false, None),
            TermError::DDP_TOO_LONG,
        ),
    ];
    for (work, error) in cases {
        for emss in [300, 9000] {
            let wa = vec![
                Work::Send(vec![1], false, None),
                work.clone(),
                Work::Write(0, vec![9; 9]),
            ];
            let mut a = Endpoint::new(true, WISHES, emss, wa, 1);
            let mut b = Endpoint::new(false, WISHES, emss, Vec::new(), 2);
            run(&mut a, &mut b, &[64], UNLIMITED);
            assert_eq!(b.term_sent, Some(error), "{work:?}");
            assert_eq!(a.term_got, Some(error));
            assert_eq!(a.term_sent, None);
            assert_eq!(b.received.len(), 1);
            assert!(b.mem.iter().all(|x| *x == 2), "something was placed");
        }
    }
    // Access rights.
    for (rights, work, error) in [
        (5, Work::RawWrite(STAG, BASE, 8), TermError::RDMAP_ACCESS),
        (3, Work::RawRead(STAG, BASE, 8), TermError::RDMAP_ACCESS),
    ] {
        let mut a = Endpoint::new(true, WISHES, 1460, vec![work], 1);
        let mut b = Endpoint::new(false, WISHES, 1460, Vec::new(), 2);
        b.region.rights = Rights(rights);
        run(&mut a, &mut b, &[64], UNLIMITED);
        assert_eq!((b.term_sent, a.term_got), (Some(error), Some(error)));
    }
    // No receive buffer.
    let mut a = Endpoint::new(
        true,
        WISHES,
        1460,
        vec![Work::Send(vec![1], false, None); 2],
        1,
    );
    let mut b = Endpoint::new(false, WISHES, 1460, Vec::new(), 2);
    b.receives.truncate(1);
    run(&mut a, &mut b, &[64], UNLIMITED);
    assert_eq!(a.term_got, Some(TermError::DDP_NO_BUFFER));
    assert_eq!(b.received.len(), 1);
}

/// No common RTR indication, too few inbound reads: the initiator terminates.
#[test]
fn failed_negotiation_is_told() {
    let only = |r| Wishes {
        rtr: RtrSet::NONE.with(r),
        ..WISHES
    };
    let mut a = Endpoint::new(true, only(Rtr::Send), 1460, Vec::new(), 1);
    let mut b = Endpoint::new(false, only(Rtr::Write), 1460, Vec::new(), 2);
    run(&mut a, &mut b, &[64], UNLIMITED);
    assert_eq!(
        (a.term_sent, b.term_got),
        (Some(TermError::MPA_RTR), Some(TermError::MPA_RTR))
    );
}
