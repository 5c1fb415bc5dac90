// SPDX-License-Identifier: GPL-2.0

//! MPA connection establishment: all pairs of wishes, frames byte by byte, malformed frames.

mod common;

use common::{mutate, mutation};
use proptest::prelude::*;
use rurdma_host_tests::proto::iwarp::mpa_rx::{Frame, Kind, MpaRx};
use rurdma_host_tests::proto::iwarp::negotiate::{
    Depths, MpaError, Offer, Rtr, RtrPlan, RtrSet, TooLong, Verdict, Wishes, NOT_NEGOTIATED,
};
use rurdma_host_tests::proto::iwarp::rx::{Segment, Target};
use rurdma_host_tests::proto::serial::Msn;
use rurdma_host_tests::proto::wire::mpa::MAX_FRAME_LEN;
use rurdma_host_tests::proto::wire::rdmap::Opcode;
use rurdma_host_tests::proto::wire::terminate::TermError;

const WISHES: Wishes = Wishes {
    crc: true,
    rev: 2,
    depths: Depths { ird: 16, ord: 8 },
    max_ird: 128,
    p2p: false,
    rtr: RtrSet::ALL,
};

/// Feeds a frame in pieces of `step` bytes; returns the frame, its private data, and what is left.
fn receive(kind: Kind, bytes: &[u8], step: usize) -> Result<(Frame, Vec<u8>, usize), MpaError> {
    let mut rx = MpaRx::new(kind);
    let mut at = 0;
    loop {
        let want = rx.want();
        let n = want.len().min(step).min(bytes.len() - at);
        assert!(n > 0, "stuck at {at}");
        want[..n].copy_from_slice(&bytes[at..at + n]);
        at += n;
        if let Some(frame) = rx.filled(n)? {
            assert!(rx.want().is_empty());
            assert_eq!(rx.frame(), Some(&frame));
            return Ok((frame, rx.private_data().to_vec(), bytes.len() - at));
        }
        assert!(rx.private_data().is_empty());
    }
}

fn request(w: &Wishes, pd: &[u8]) -> Vec<u8> {
    let mut buf = [0; MAX_FRAME_LEN];
    let n = w.request(pd, &mut buf).unwrap();
    buf[..n].to_vec()
}

/// A frame written by hand.
fn frame(kind: Kind, flags: u8, rev: u8, pd: &[u8]) -> Vec<u8> {
    let mut f = match kind {
        Kind::Request => b"MPA ID Req Frame".to_vec(),
        Kind::Reply => b"MPA ID Rep Frame".to_vec(),
    };
    f.extend([flags, rev]);
    f.extend((pd.len() as u16).to_be_bytes());
    f.extend(pd);
    f
}

#[test]
fn golden_frames() {
    let w = Wishes {
        p2p: true,
        ..WISHES
    };
    assert_eq!(
        request(&w, b"hi"),
        frame(Kind::Request, 0x50, 2, &[0xc0, 16, 0xc0, 8, b'h', b'i'])
    );
    let w = Wishes {
        rev: 1,
        crc: false,
        ..w
    };
    assert_eq!(request(&w, b"hi"), frame(Kind::Request, 0, 1, b"hi"));
    // A depth that would mean "not negotiated" is not said.
    let w = Wishes {
        depths: Depths {
            ird: NOT_NEGOTIATED,
            ord: u16::MAX,
        },
        ..WISHES
    };
    assert_eq!(
        request(&w, &[]),
        frame(Kind::Request, 0x50, 2, &[0x3f, 0xfe, 0x3f, 0xfe])
    );
    // Markers and CRC asked for by a peer of revision 1; reserved bits mean nothing.
    let (f, pd, _) = receive(Kind::Request, &frame(Kind::Request, 0xff, 1, b"x"), 99).unwrap();
    assert_eq!(pd, b"x");
    assert_eq!(
        f,
        Frame {
            rev: 1,
            markers: true,
            crc: true,
            reject: false,
            enhanced: None
        }
    );
    let offer = Offer::new(&f);
    let mut buf = [0; MAX_FRAME_LEN];
    let own = Wishes {
        crc: false,
        ..WISHES
    };
    let (n, agreed) = offer.accept(&own, b"yes", &mut buf).unwrap();
    assert_eq!(buf[..n], frame(Kind::Reply, 0x40, 1, b"yes"));
    assert!(agreed.crc && agreed.tx_markers);
    assert_eq!((agreed.depths, agreed.peer), (WISHES.depths, None));
    let n = offer.reject(&own, b"no", &mut buf).unwrap();
    assert_eq!(buf[..n], frame(Kind::Reply, 0x60, 1, b"no"));
    // Revision 2 without enhanced data.
    let (f, ..) = receive(Kind::Request, &frame(Kind::Request, 0, 2, &[]), 1).unwrap();
    let (n, agreed) = Offer::new(&f).accept(&own, &[], &mut buf).unwrap();
    assert_eq!(buf[..n], frame(Kind::Reply, 0, 2, &[]));
    assert!(!agreed.crc && !agreed.tx_markers);
}

#[test]
fn malformed_frames() {
    let ok = frame(Kind::Request, 0x40, 1, &[1; 512]);
    assert!(receive(Kind::Request, &ok, 7).is_ok());
    let err = |bytes: &[u8], e| {
        for step in [1, 3, 20, 600] {
            assert_eq!(receive(Kind::Request, bytes, step), Err(e));
        }
    };
    err(
        &frame(Kind::Request, 0, 1, &[0; 513]),
        MpaError::PrivateData,
    );
    err(&frame(Kind::Request, 0, 0, &[]), MpaError::Revision);
    err(&frame(Kind::Request, 0, 3, &[]), MpaError::Revision);
    err(
        &frame(Kind::Request, 0x10, 2, &[0; 3]),
        MpaError::PrivateData,
    );
    err(&frame(Kind::Request, 0x10, 2, &[]), MpaError::PrivateData);
    // Both are initiators.
    err(&frame(Kind::Reply, 0, 1, &[]), MpaError::Key);
    // Something else altogether is told apart by its first byte.
    let mut rx = MpaRx::new(Kind::Request);
    assert!(!rx.has_started());
    rx.want()[0] = b'G';
    assert_eq!(rx.filled(1), Err(MpaError::Key));
    assert!(rx.has_started());
}

#[test]
fn private_data_fits_or_is_refused() {
    let mut buf = [0; MAX_FRAME_LEN];
    let data = [7; 513];
    let rev1 = Wishes { rev: 1, ..WISHES };
    assert_eq!(WISHES.request(&data[..508], &mut buf), Ok(532));
    assert_eq!(WISHES.request(&data[..509], &mut buf), Err(TooLong));
    assert_eq!(rev1.request(&data[..512], &mut buf), Ok(532));
    assert_eq!(rev1.request(&data, &mut buf), Err(TooLong));
    assert_eq!(rev1.request(&data[..1], &mut buf[..20]), Err(TooLong));
}

fn depth() -> impl Strategy<Value = u16> {
    prop_oneof![
        0u16..4,
        0u16..200,
        Just(NOT_NEGOTIATED - 1),
        Just(NOT_NEGOTIATED),
        any::<u16>()
    ]
}

fn rtr() -> impl Strategy<Value = RtrSet> {
    (1u8..8).prop_map(|bits| {
        [Rtr::Send, Rtr::Write, Rtr::Read]
            .into_iter()
            .enumerate()
            .filter(|(i, _)| bits >> i & 1 == 1)
            .fold(RtrSet::NONE, |s, (_, r)| s.with(r))
    })
}

fn wishes() -> impl Strategy<Value = Wishes> {
    (
        any::<bool>(),
        1u8..3,
        depth(),
        depth(),
        1u16..300,
        any::<bool>(),
        rtr(),
    )
        .prop_map(|(crc, rev, ird, ord, max_ird, p2p, rtr)| Wishes {
            crc,
            rev,
            // A device does not promise more than it has.
            depths: Depths {
                ird: ird.min(max_ird),
                ord: ord.min(max_ird),
            },
            max_ird,
            p2p,
            rtr,
        })
}

proptest! {
    /// Any two endpoints: both agree on the same thing, or the initiator knows why not.
    #[test]
    fn all_pairs(
        a in wishes(), b in wishes(), pd_a in prop::collection::vec(any::<u8>(), 0..=508),
        pd_b in prop::collection::vec(any::<u8>(), 0..=508), step in 1usize..600, accept in any::<bool>(),
    ) {
        let mut wire = request(&a, &pd_a);
        let len = wire.len();
        wire.extend([0xaa; 9]);
        let (req, pd, left) = receive(Kind::Request, &wire, step).unwrap();
        prop_assert_eq!((pd, left, len), (pd_a, 9, wire.len() - 9));
        let offer = Offer::new(&req);
        prop_assert_eq!(offer.is_p2p(), a.p2p && a.rev == 2);
        prop_assert_eq!(offer.rev(), a.rev);
        let mut buf = [0; MAX_FRAME_LEN];
        if !accept {
            let n = offer.reject(&b, &pd_b, &mut buf).unwrap();
            let (rep, pd, left) = receive(Kind::Reply, &buf[..n], step).unwrap();
            prop_assert_eq!((pd, left), (pd_b, 0));
            let v = a.judge_reply(&rep).unwrap();
            prop_assert!(matches!(v, Verdict::Rejected(d) if d.is_some() == (a.rev == 2)));
            return Ok(());
        }
        let (n, bt) = offer.accept(&b, &pd_b, &mut buf).unwrap();
        buf[n..].fill(0xbb);
        let (rep, pd, left) = receive(Kind::Reply, &buf, step).unwrap();
        prop_assert_eq!((pd, left), (pd_b, buf.len() - n));
        prop_assert_eq!(rep.rev, a.rev);
        let verdict = a.judge_reply(&rep).unwrap();
        let (at, term) = match verdict {
            Verdict::Accepted(t) => (t, None),
            Verdict::Terminate(e, t) => (t, Some(e)),
            Verdict::Rejected(_) => panic!("rejected"),
        };
        prop_assert_eq!(at.crc, a.crc || b.crc);
        prop_assert_eq!(at.crc, bt.crc);
        prop_assert!(!at.tx_markers && !bt.tx_markers);
        if a.rev == 1 {
            prop_assert_eq!((at.depths, at.rtr, term), (a.depths, RtrPlan::ClientServer, None));
            prop_assert_eq!((bt.depths, bt.rtr), (b.depths, RtrPlan::ClientServer));
            return Ok(());
        }
        // The relations of RFC 6581 section 9.1.
        if term.is_none() {
            prop_assert!(at.depths.ord <= bt.depths.ird);
            prop_assert!(bt.depths.ord <= at.depths.ird);
        }
        prop_assert!(at.depths.ord <= a.depths.ord && bt.depths.ord <= b.depths.ord);
        prop_assert!(at.depths.ird <= a.max_ird && bt.depths.ird <= b.max_ird.max(1));
        match (a.p2p, at.rtr, bt.rtr, term) {
            (false, RtrPlan::ClientServer, RtrPlan::ClientServer, None) => (),
            (true, RtrPlan::Send(r), RtrPlan::Expect(set), None) => {
                prop_assert!(set.contains(r) && a.rtr.contains(r) && b.rtr.contains(r));
                // A read must be possible at both ends.
                prop_assert!(r != Rtr::Read || (at.depths.ord > 0 && bt.depths.ird > 0));
            }
            (true, _, RtrPlan::Expect(_), Some(e)) => {
                prop_assert_eq!(e, TermError::MPA_RTR);
                let common = a.rtr.and(b.rtr);
                let only_read = common.without(Rtr::Read).is_empty();
                prop_assert!(common.is_empty() || (only_read && at.depths.ord == 0));
            }
            other => panic!("{other:?}"),
        }
    }

    /// Mutated frames: a frame or an error, the rest of the machine holds either.
    #[test]
    fn mutated_frames(
        a in wishes(), b in wishes(), changes in prop::collection::vec(mutation(), 0..5),
        step in 1usize..600, reply in any::<bool>(),
    ) {
        let mut buf = [0; MAX_FRAME_LEN];
        let mut bytes = request(&a, b"private");
        let kind = if reply {
            let (req, ..) = receive(Kind::Request, &bytes, 999).unwrap();
            let n = Offer::new(&req).accept(&b, b"data", &mut buf).unwrap().0;
            bytes = buf[..n].to_vec();
            Kind::Reply
        } else {
            Kind::Request
        };
        mutate(&mut bytes, &changes);
        // Enough behind it that a length can be anything.
        bytes.resize(bytes.len() + 600, 0x55);
        if let Ok((f, pd, _)) = receive(kind, &bytes, step) {
            prop_assert!(pd.len() <= 512);
            if reply {
                if let Ok(Verdict::Accepted(t)) = a.judge_reply(&f) {
                    prop_assert!(t.depths.ord <= a.depths.ord && t.depths.ird <= a.max_ird);
                }
            } else {
                let (_, t) = Offer::new(&f).accept(&b, &[], &mut buf).unwrap();
                prop_assert!(t.depths.ord <= b.depths.ord && t.depths.ird <= b.max_ird.max(1));
            }
        }
    }
}

/// A reply of a peer that does as it likes.
fn judge(w: &Wishes, flags: u8, rev: u8, pd: &[u8]) -> Result<Verdict, MpaError> {
    let (f, ..) = receive(Kind::Reply, &frame(Kind::Reply, flags, rev, pd), 5).unwrap();
    w.judge_reply(&f)
}

#[test]
fn replies_of_others() {
    let p2p = Wishes {
        p2p: true,
        ..WISHES
    };
    // Not enhanced although asked for, enhanced although not asked for.
    assert_eq!(judge(&WISHES, 0, 1, &[]), Err(MpaError::Mismatch));
    let rev1 = Wishes { rev: 1, ..WISHES };
    assert_eq!(judge(&rev1, 0x10, 2, &[0; 4]), Err(MpaError::Mismatch));
    // A rejection is one in any format.
    assert_eq!(judge(&WISHES, 0x20, 1, &[]), Ok(Verdict::Rejected(None)));
    assert_eq!(
        judge(&WISHES, 0x30, 2, &[0, 3, 0, 4]),
        Ok(Verdict::Rejected(Some(Depths { ird: 3, ord: 4 })))
    );
    let terms = |v| match v {
        Ok(Verdict::Accepted(t)) => t,
        other => panic!("{other:?}"),
    };
    // All ones: nothing is changed.
    let t = terms(judge(&WISHES, 0x10, 2, &[0x3f, 0xff, 0x3f, 0xff]));
    assert_eq!(t.depths, WISHES.depths);
    // Less than we wanted; more than we offered, which we can give; more than we can give.
    let t = terms(judge(&WISHES, 0x10, 2, &[0, 3, 0, 20]));
    assert_eq!(t.depths, Depths { ird: 20, ord: 3 });
    assert!(matches!(
        judge(&WISHES, 0x10, 2, &[0, 3, 0, 129]),
        Ok(Verdict::Terminate(TermError::MPA_IRD, _))
    ));
    // Markers are the peer's to ask for.
    let t = terms(judge(&WISHES, 0x90, 2, &[0, 8, 0, 8]));
    assert!(t.tx_markers && t.crc);
    // Peer-to-peer: B, C, D alone; none; A missing.
    let rtr = |b: [u8; 4]| judge(&p2p, 0x10, 2, &b);
    assert_eq!(terms(rtr([0xc0, 8, 0, 8])).rtr, RtrPlan::Send(Rtr::Send));
    assert_eq!(
        terms(rtr([0x80, 8, 0x80, 8])).rtr,
        RtrPlan::Send(Rtr::Write)
    );
    assert_eq!(terms(rtr([0x80, 8, 0x40, 8])).rtr, RtrPlan::Send(Rtr::Read));
    for b in [[0x80, 8, 0, 8], [0x40, 8, 0xc0, 8], [0x80, 0, 0x40, 8]] {
        assert!(
            matches!(rtr(b), Ok(Verdict::Terminate(TermError::MPA_RTR, _))),
            "{b:?}"
        );
    }
    // Flags of the peer-to-peer model that nobody asked for are ignored.
    let t = terms(judge(&WISHES, 0x10, 2, &[0xc0, 8, 0xc0, 8]));
    assert_eq!(t.rtr, RtrPlan::ClientServer);
}

#[test]
fn requests_of_others() {
    let offer = |flags, pd: &[u8]| {
        let (f, ..) = receive(Kind::Request, &frame(Kind::Request, flags, 2, pd), 5).unwrap();
        Offer::new(&f)
    };
    let mut buf = [0; MAX_FRAME_LEN];
    // No automatic negotiation: depths unchanged, all ones in the reply.
    let o = offer(0x10, &[0x3f, 0xff, 0x3f, 0xff]);
    let (n, t) = o.accept(&WISHES, &[], &mut buf).unwrap();
    assert_eq!(t.depths, WISHES.depths);
    assert_eq!(buf[20..n], [0x3f, 0xff, 0x3f, 0xff]);
    // The initiator's ORD raises our IRD as far as the device goes; its IRD bounds our ORD.
    let o = offer(0x10, &[0, 2, 0, 200]);
    assert_eq!(o.peer(), Some(Depths { ird: 2, ord: 200 }));
    let (n, t) = o.accept(&WISHES, &[], &mut buf).unwrap();
    assert_eq!(t.depths, Depths { ird: 128, ord: 2 });
    assert_eq!(buf[20..n], [0, 128, 0, 2]);
    // RTR by Read of an initiator that does not want to read: IRD is 1 all the same.
    let none = Wishes {
        depths: Depths { ird: 0, ord: 0 },
        ..WISHES
    };
    let (n, t) = offer(0x10, &[0x80, 0, 0x40, 0])
        .accept(&none, &[], &mut buf)
        .unwrap();
    assert_eq!(t.depths, Depths { ird: 1, ord: 0 });
    assert_eq!(buf[20..n], [0x80, 1, 0x40, 0]);
    // No common indication: ours are named.
    let only_send = Wishes {
        rtr: RtrSet::NONE.with(Rtr::Send),
        ..WISHES
    };
    let (n, t) = offer(0x10, &[0x80, 0, 0x40, 0])
        .accept(&only_send, &[], &mut buf)
        .unwrap();
    assert_eq!(buf[20..n], [0xc0, 16, 0, 0]);
    assert_eq!(t.rtr, RtrPlan::Expect(RtrSet::NONE.with(Rtr::Send)));
    // B, C and D without A mean nothing.
    let o = offer(0x10, &[0x40, 1, 0xc0, 1]);
    assert!(!o.is_p2p());
    let (n, t) = o.accept(&WISHES, &[], &mut buf).unwrap();
    assert_eq!(t.rtr, RtrPlan::ClientServer);
    assert_eq!(buf[20] & 0xc0 | buf[22] & 0xc0, 0);
    assert_eq!(n, 24);
}

#[test]
fn indications() {
    let seg = |op, len, last| Segment {
        op,
        target: if op == Opcode::Write {
            Target::Tagged { stag: 1, to: 2 }
        } else {
            Target::Untagged {
                qn: op.queue().unwrap(),
                msn: Msn::FIRST,
                mo: 0,
            }
        },
        len,
        first: true,
        last,
    };
    let all = RtrPlan::Expect(RtrSet::ALL);
    for (op, len) in [
        (Opcode::Write, 0),
        (Opcode::Send, 0),
        (Opcode::ReadRequest, 28),
    ] {
        assert!(all.is_indication(&seg(op, len, true)));
        assert!(!all.is_indication(&seg(op, len, false)));
        assert!(!RtrPlan::ClientServer.is_indication(&seg(op, len, true)));
        assert!(!RtrPlan::Expect(RtrSet::NONE).is_indication(&seg(op, len, true)));
    }
    assert!(!all.is_indication(&seg(Opcode::Write, 1, true)));
    assert!(!all.is_indication(&seg(Opcode::Send, 1, true)));
    assert!(!all.is_indication(&seg(Opcode::SendSe, 0, true)));
}
