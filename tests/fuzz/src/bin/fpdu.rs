// SPDX-License-Identifier: GPL-2.0

//! Messages of any kind, any segment size, with and without markers: they arrive as they were sent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rurdma_fuzz::proto::iwarp::rx::{Event, Message, Receiver, RxConfig, Want};
use rurdma_fuzz::proto::iwarp::tx::{FpduEncoder, Header, Segmenter};
use rurdma_fuzz::proto::serial::Msn;
use rurdma_fuzz::proto::wire::crc::Crc32c as _;
use rurdma_fuzz::{Input, Sum};

/// Takes the markers out.
fn strip(fpdu: &[u8], pos: usize, out: &mut Vec<u8>) {
    let mut at = 0;
    while at < fpdu.len() {
        if (pos + at) % 512 == 0 {
            at += 4;
            continue;
        }
        out.push(fpdu[at]);
        at += 1;
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let flags = input.byte();
    let markers = flags & 1 != 0;
    let crc = flags & 2 != 0 && !markers;
    let mulpdu = input.word().max(128);
    let mut enc = FpduEncoder::new(crc, markers);
    let mut rx = Receiver::new(RxConfig { crc, rfc7306: true });
    let mut buf = vec![0; 70_000];
    let (mut msn, mut pos) = (Msn::FIRST, 0);
    let mut got: Vec<u8> = Vec::new();
    while !input.0.is_empty() {
        let kind = input.byte();
        let n = usize::from(input.word() % 4000);
        let body = input.take(n);
        let header = match kind % 3 {
            0 => Header::write(n as u32, u64::MAX - 20),
            1 => Header::read_response(n as u32, 7),
            _ => {
                let h = Header::send(msn, kind & 64 != 0, (kind & 128 != 0).then_some(9));
                msn = msn.next();
                h
            }
        };
        let mut s = Segmenter::new(body.len() as u32);
        let mut wire = Vec::new();
        while let Some(p) = s.next(header.max_payload(mulpdu)) {
            let open = enc.begin::<Sum>(&mut buf, &header, &p).expect("room");
            let data = &body[p.offset as usize..][..usize::from(p.len)];
            buf[open.payload..][..data.len()].copy_from_slice(data);
            let sum = Sum::crc32c(open.crc, data);
            let expected = enc.fpdu_len(open.ulpdu_len);
            let len = enc.finish::<Sum>(&mut buf, &open, sum).expect("room");
            assert_eq!(len, expected);
            if markers {
                strip(&buf[..len], pos, &mut wire);
            } else {
                wire.extend(&buf[..len]);
            }
            pos += len;
        }
        got.clear();
        let mut at = 0;
        let mut done = None;
        while at < wire.len() {
            match rx.want() {
                Want::Control(c) => {
                    let n = c.len();
                    c.copy_from_slice(&wire[at..at + n]);
                    at += n;
                    if let Event::End(_, m) = rx.filled::<Sum>(n).expect("good") {
                        done = m;
                    }
                }
                Want::Payload(p) => {
                    let n = p.remaining as usize;
                    got.extend(&wire[at..at + n]);
                    rx.placed(p.remaining, Sum::crc32c(rx.crc(), &wire[at..at + n]));
                    at += n;
                }
                Want::Nothing => panic!("closed"),
            }
        }
        assert_eq!(got, body);
        match done.expect("complete") {
            Message::Write => assert_eq!(kind % 3, 0),
            Message::ReadResponse => assert_eq!(kind % 3, 1),
            Message::Send {
                length,
                solicited,
                invalidate,
                ..
            } => {
                assert_eq!(length as usize, body.len());
                assert_eq!(
                    (solicited, invalidate.is_some()),
                    (kind & 64 != 0, kind & 128 != 0)
                );
            }
            other => panic!("{other:?}"),
        }
    }
});
