// SPDX-License-Identifier: GPL-2.0

//! MPA frames of a peer that sends anything, against any wishes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rurdma_fuzz::proto::iwarp::mpa_rx::{Kind, MpaRx};
use rurdma_fuzz::proto::iwarp::negotiate::{Depths, Offer, Rtr, RtrPlan, RtrSet, Verdict, Wishes};
use rurdma_fuzz::proto::wire::mpa::MAX_FRAME_LEN;
use rurdma_fuzz::Input;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let flags = input.byte();
    let max_ird = u16::from(input.byte()).max(1);
    let mut rtr = RtrSet::ALL;
    for (bit, r) in [(1, Rtr::Send), (2, Rtr::Write)] {
        if flags & bit != 0 {
            rtr = rtr.without(r);
        }
    }
    let wishes = Wishes {
        crc: flags & 4 != 0,
        rev: 1 + (flags >> 3 & 1),
        depths: Depths {
            ird: u16::from(input.byte()).min(max_ird),
            ord: u16::from(input.byte()),
        },
        max_ird,
        p2p: flags & 16 != 0,
        rtr,
    };
    let step = usize::from(input.byte()) + 1;
    let kind = if flags & 32 != 0 {
        Kind::Request
    } else {
        Kind::Reply
    };
    // The key is not what is to be found out.
    let mut stream = match kind {
        Kind::Request => b"MPA ID Req Frame".to_vec(),
        Kind::Reply => b"MPA ID Rep Frame".to_vec(),
    };
    stream.extend(input.0);
    let mut rx = MpaRx::new(kind);
    let mut at = 0;
    let frame = loop {
        let want = rx.want();
        let n = want.len().min(step).min(stream.len() - at);
        if n == 0 {
            return;
        }
        want[..n].copy_from_slice(&stream[at..at + n]);
        at += n;
        match rx.filled(n) {
            Ok(None) => (),
            Ok(Some(f)) => break f,
            Err(_) => return,
        }
    };
    let pd = rx.private_data();
    assert!(pd.len() <= 512 && at <= MAX_FRAME_LEN);
    let mut buf = [0; MAX_FRAME_LEN];
    match kind {
        Kind::Reply => {
            if let Ok(Verdict::Accepted(t)) = wishes.judge_reply(&frame) {
                assert!(t.depths.ord <= wishes.depths.ord && t.depths.ird <= max_ird);
                assert!(t.crc || !wishes.crc);
                assert_eq!(
                    matches!(t.rtr, RtrPlan::Send(_)),
                    wishes.p2p && wishes.rev == 2
                );
            }
        }
        Kind::Request => {
            let offer = Offer::new(&frame);
            let pd = &pd[..pd.len().min(508)];
            let (n, t) = offer.accept(&wishes, pd, &mut buf).expect("it fits");
            assert!(t.depths.ord <= wishes.depths.ord && t.depths.ird <= max_ird);
            // The reply is a frame that the initiator understands.
            let mut back = MpaRx::new(Kind::Reply);
            let mut at = 0;
            loop {
                let want = back.want();
                let k = want.len();
                want.copy_from_slice(&buf[at..at + k]);
                at += k;
                if let Some(f) = back.filled(k).expect("well formed") {
                    assert_eq!((f.rev, f.reject, f.crc, at), (frame.rev, false, t.crc, n));
                    assert_eq!(back.private_data(), pd);
                    break;
                }
            }
            assert!(offer.reject(&wishes, pd, &mut buf).is_ok());
        }
    }
});
