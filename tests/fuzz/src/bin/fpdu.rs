// SPDX-License-Identifier: GPL-2.0

//! Messages of any kind, any segment size, with and without markers: they arrive as they were sent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rurdma_fuzz::proto::iwarp::rx::{Event, Message, Receiver, RxConfig, Want};
use rurdma_fuzz::proto::iwarp::tx::{FpduEncoder, Header, Segmenter};
use rurdma_fuzz::proto::serial::Msn;
use rurdma_fuzz::proto::wire::crc::Crc32c as _;
use rurdma_fuzz::{Input, Sum};
use zerocopy::IntoBytes as _;

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
    let mut pos = 0;
    // Of sends, requests and answers.
    let mut numbers = [Msn::FIRST; 3];
    let mut next = |queue: usize| {
        let msn = numbers[queue];
        numbers[queue] = msn.next();
        msn
    };
    let mut got: Vec<u8> = Vec::new();
    while !input.0.is_empty() {
        let kind = input.byte();
        let n = usize::from(input.word() % 4000);
        let body = input.take(n);
        // Messages that are nothing but a header have a length of their own, and atomics one of two codes.
        let mut fixed = [0; 52];
        for (to, from) in fixed.iter_mut().zip(body) {
            *to = *from;
        }
        fixed[3] = fixed[3] & 0xf0 | (kind >> 6 & 2);
        let (header, body) = match kind % 6 {
            0 => (Header::write(n as u32, u64::MAX - 20), body),
            1 => (Header::read_response(n as u32, 7), body),
            2 => {
                let inv = (kind & 128 != 0).then_some(9);
                (Header::send(next(0), kind & 64 != 0, inv), body)
            }
            3 => (Header::immediate(next(0), kind & 64 != 0), &fixed[..8]),
            4 => (Header::atomic_request(next(1)), &fixed[..]),
            _ => (Header::atomic_response(next(2)), &fixed[..12]),
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
        match done.expect("complete") {
            Message::Write => assert_eq!((kind % 6, &got[..]), (0, body)),
            Message::ReadResponse => assert_eq!((kind % 6, &got[..]), (1, body)),
            Message::Immediate {
                data, solicited, ..
            } => assert_eq!((&data[..], solicited), (body, kind & 64 != 0)),
            Message::AtomicRequest { request, .. } => {
                let hdr = request.to_hdr().expect("of the wire");
                // Behind the reserved bits; a fetch and add compares nothing.
                let end = if kind & 128 != 0 { 52 } else { 36 };
                assert_eq!(hdr.as_bytes()[4..end], body[4..end]);
                assert_eq!(hdr.as_bytes()[3], body[3] & 0xf);
            }
            Message::AtomicResponse {
                request_id,
                original,
                ..
            } => {
                assert_eq!(request_id.to_be_bytes(), body[..4]);
                assert_eq!(original.to_be_bytes(), body[4..]);
            }
            Message::Send {
                length,
                solicited,
                invalidate,
                ..
            } => {
                assert_eq!(length as usize, body.len());
                assert_eq!(got, body);
                assert_eq!(
                    (solicited, invalidate.is_some()),
                    (kind & 64 != 0, kind & 128 != 0)
                );
            }
            other => panic!("{other:?}"),
        }
    }
});
