// SPDX-License-Identifier: GPL-2.0

//! Each reason for a receiver to terminate the connection, and the Terminate that it makes.

mod common;
#[path = "common/messages.rs"]
mod messages;

use common::Crc;
use messages::{encode, Msg, Sink};
use rurdma_host_tests::proto::iwarp::rx::{Receiver, RxConfig, Want};
use rurdma_host_tests::proto::iwarp::tx::FpduEncoder;
use rurdma_host_tests::proto::wire::mpa;
use rurdma_host_tests::proto::wire::rdmap::ReadRequest;
use rurdma_host_tests::proto::wire::terminate::{Culprit, TermError, Terminate, TerminateBody};

/// A ULPDU by hand, in an FPDU.
fn fpdu(ulpdu: &[u8]) -> Vec<u8> {
    let mut buf = vec![0; mpa::fpdu_len(ulpdu.len() as u16)];
    buf[2..2 + ulpdu.len()].copy_from_slice(ulpdu);
    let n = FpduEncoder::new(true, false)
        .seal::<Crc>(&mut buf, ulpdu.len() as u16)
        .unwrap();
    assert_eq!(n, buf.len());
    buf
}

fn tagged(ddp: u8, rdmap: u8, len: usize) -> Vec<u8> {
    let mut u = vec![ddp, rdmap, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x10, 0];
    u.resize(14 + len, 7);
    u
}

fn untagged(ddp: u8, rdmap: u8, qn: u8, msn: u8, mo: u32, len: usize) -> Vec<u8> {
    let mut u = vec![ddp, rdmap, 0, 0, 0, 9, 0, 0, 0, qn, 0, 0, 0, msn];
    u.extend(mo.to_be_bytes());
    u.resize(18 + len, 7);
    u
}

/// Each reason to terminate, and the Terminate that it makes. The frames before the last are good.
#[test]
fn each_error() {
    let check = |frames: &[Vec<u8>], rfc7306: bool, want: TermError| {
        let mut sink = Sink::new(true);
        sink.rx = Receiver::new(RxConfig { crc: true, rfc7306 });
        let (last, good) = frames.split_last().unwrap();
        for g in good {
            let f = fpdu(g);
            assert_eq!(sink.feed(&f), Ok(f.len()), "{g:x?}");
        }
        let mut f = fpdu(last);
        f.extend([0; 64]);
        assert_eq!(sink.feed(&f), Err(want), "{last:x?}");
        // The segment is quoted if the layer says so (RFC 5040 figure 10).
        let t = Terminate::parse(sink.rx.fail(want).as_bytes()).unwrap();
        assert_eq!(t.error, want);
        if want.includes_ddp() {
            let hdr = if last[0] & 0x80 != 0 { 14 } else { 18 };
            let quoted = t.culprit.expect("culprit");
            let have = last.len().min(hdr);
            assert_eq!(quoted.ddp_hdr()[..have], last[..have]);
            assert_eq!(usize::from(quoted.segment_len()), last.len());
        } else {
            assert_eq!(t.culprit, None);
        }
        assert!(matches!(sink.rx.want(), Want::Nothing));
        assert_eq!(sink.feed(&f), Ok(0));
    };
    let one = |f: Vec<u8>, e| check(&[f], true, e);
    // Versions.
    one(tagged(0xc0, 0x40, 4), TermError::DDP_TAGGED_VERSION);
    one(tagged(0xc2, 0x40, 4), TermError::DDP_TAGGED_VERSION);
    one(tagged(0xc3, 0x40, 4), TermError::DDP_TAGGED_VERSION);
    one(
        untagged(0x42, 0x43, 0, 1, 0, 4),
        TermError::DDP_UNTAGGED_VERSION,
    );
    one(tagged(0xc1, 0x00, 4), TermError::RDMAP_VERSION);
    one(untagged(0x41, 0x83, 0, 1, 0, 4), TermError::RDMAP_VERSION);
    // Opcodes that do not exist, or not with this buffer model.
    for op in 12..16 {
        one(
            untagged(0x41, 0x40 | op, 0, 1, 0, 4),
            TermError::RDMAP_OPCODE,
        );
        one(tagged(0xc1, 0x40 | op, 4), TermError::RDMAP_OPCODE);
    }
    for op in [1, 3, 4, 5, 6, 7, 8, 9, 10, 11] {
        one(tagged(0xc1, 0x40 | op, 4), TermError::RDMAP_OPCODE);
    }
    one(untagged(0x41, 0x40, 0, 1, 0, 4), TermError::RDMAP_OPCODE);
    one(untagged(0x41, 0x42, 0, 1, 0, 4), TermError::RDMAP_OPCODE);
    // RFC 7306 where it is not in use.
    for (op, qn) in [(8, 0), (9, 0), (10, 1), (11, 3)] {
        check(
            &[untagged(0x41, 0x40 | op, qn, 1, 0, 8)],
            false,
            TermError::RDMAP_OPCODE,
        );
    }
    // Too short for a header.
    for n in 2..14 {
        one(
            tagged(0xc1, 0x40, 0)[..n].to_vec(),
            TermError::DDP_CATASTROPHIC,
        );
    }
    for n in 2..18 {
        one(
            untagged(0x41, 0x43, 0, 1, 0, 0)[..n].to_vec(),
            TermError::DDP_CATASTROPHIC,
        );
    }
    // Queues.
    for (op, right) in [(3, 0), (1, 1), (7, 2), (10, 1), (11, 3), (8, 0)] {
        for qn in [0, 1, 2, 3, 4, 255] {
            if qn != right {
                one(
                    untagged(0x41, 0x40 | op, qn, 1, 0, 8),
                    TermError::DDP_INVALID_QN,
                );
            }
        }
    }
    // Numbers.
    let send =
        |msn, mo, len, last: bool| untagged(if last { 0x41 } else { 0x01 }, 0x43, 0, msn, mo, len);
    one(send(0, 0, 4, true), TermError::DDP_MSN_RANGE);
    one(send(2, 0, 4, true), TermError::DDP_MSN_RANGE);
    check(
        &[send(1, 0, 4, true), send(1, 0, 4, true)],
        true,
        TermError::DDP_MSN_RANGE,
    );
    check(
        &[send(1, 0, 4, false), send(2, 4, 4, true)],
        true,
        TermError::DDP_MSN_RANGE,
    );
    check(
        &[send(1, 0, 4, true), untagged(0x41, 0x41, 1, 2, 0, 28)],
        true,
        TermError::DDP_MSN_RANGE,
    );
    // Offsets.
    one(send(1, 4, 4, true), TermError::DDP_INVALID_MO);
    check(
        &[send(1, 0, 4, false), send(1, 0, 4, true)],
        true,
        TermError::DDP_INVALID_MO,
    );
    check(
        &[send(1, 0, 4, false), send(1, 5, 4, true)],
        true,
        TermError::DDP_INVALID_MO,
    );
    check(
        &[
            send(1, 0, 4, false),
            send(1, 4, 4, true),
            send(2, 8, 4, true),
        ],
        true,
        TermError::DDP_INVALID_MO,
    );
    // Another message in the middle of one.
    check(
        &[send(1, 0, 4, false), tagged(0xc1, 0x40, 4)],
        true,
        TermError::RDMAP_OPCODE,
    );
    check(
        &[tagged(0x81, 0x40, 4), send(1, 0, 4, true)],
        true,
        TermError::RDMAP_OPCODE,
    );
    check(
        &[tagged(0x81, 0x40, 4), tagged(0xc1, 0x42, 4)],
        true,
        TermError::RDMAP_OPCODE,
    );
    // Headers of the wrong size, or in parts.
    for (op, qn, len) in [(1, 1, 28), (10, 1, 52), (11, 3, 12), (8, 0, 8), (9, 0, 8)] {
        let f = |ddp, len| untagged(ddp, 0x40 | op, qn, 1, 0, len);
        one(f(0x41, len - 1), TermError::RDMAP_OPERATION);
        one(f(0x41, 0), TermError::RDMAP_OPERATION);
        one(f(0x41, len + 1), TermError::DDP_TOO_LONG);
        one(f(0x01, len), TermError::RDMAP_OPERATION);
    }
    one(untagged(0x41, 0x47, 2, 1, 0, 3), TermError::RDMAP_OPERATION);
    one(untagged(0x41, 0x47, 2, 1, 0, 53), TermError::DDP_TOO_LONG);
    // An atomic operation that does not exist.
    one(untagged(0x41, 0x4a, 1, 1, 0, 52), TermError::RDMAP_OPCODE);
}

/// A message of more than 2^32 bytes is not.
#[test]
fn message_offset_overflow() {
    let mut sink = Sink::new(false);
    let mut segment = vec![0; mpa::fpdu_len(18 + 65517)];
    let len = 18 + 65517u16;
    let mut mo = 0u32;
    let mut n = 0;
    let result = loop {
        segment[..2].copy_from_slice(&len.to_be_bytes());
        segment[2..20].copy_from_slice(&untagged(0x01, 0x43, 0, 1, mo, 0));
        // Not `feed`, which would keep 4 GiB.
        let r = sink.rx.want_all(&segment[..mpa::fpdu_len(len)]);
        if r.is_err() {
            break r;
        }
        n += 1;
        mo = mo.wrapping_add(65517);
    };
    assert_eq!(result, Err(TermError::DDP_TOO_LONG));
    assert_eq!(n, u32::MAX / 65517);
}

/// Feeds an FPDU without keeping its payload.
trait WantAll {
    fn want_all(&mut self, bytes: &[u8]) -> Result<(), TermError>;
}

impl WantAll for Receiver {
    fn want_all(&mut self, bytes: &[u8]) -> Result<(), TermError> {
        let mut at = 0;
        while at < bytes.len() {
            match self.want() {
                Want::Control(buf) => {
                    let n = buf.len();
                    buf.copy_from_slice(&bytes[at..at + n]);
                    at += n;
                    self.filled::<Crc>(n)?;
                }
                Want::Payload(p) => {
                    at += p.remaining as usize;
                    self.placed(p.remaining, 0);
                }
                Want::Nothing => break,
            }
        }
        Ok(())
    }
}

/// An error that the caller finds, in a read request: the Terminate quotes the request, and one that
/// is found later looks the same.
#[test]
fn culprit_of_a_read() {
    let request = ReadRequest {
        sink_stag: 1,
        sink_to: 2,
        size: 3,
        source_stag: 4,
        source_to: 5,
    };
    let (wire, ..) = encode(
        &[Msg::ReadRequest(request)],
        128,
        &mut FpduEncoder::new(true, false),
    );
    let mut sink = Sink::new(true);
    sink.feed(&wire).unwrap();
    let now = sink.rx.fail(TermError::RDMAP_INVALID_STAG);
    let later = TerminateBody::build(
        TermError::RDMAP_INVALID_STAG,
        Some(&Culprit::read_request(1, request)),
    );
    assert_eq!(now.as_bytes(), later.as_bytes());
    assert_eq!(now.as_bytes().len(), 52);
    // Whereas one in the write behind it does not quote the read.
    let (wire, ..) = encode(
        &[
            Msg::ReadRequest(request),
            Msg::Write {
                stag: 5,
                to: 6,
                data: vec![1; 9],
            },
        ],
        128,
        &mut FpduEncoder::new(true, false),
    );
    let mut sink = Sink::new(true);
    sink.feed(&wire[..wire.len() - 4]).unwrap();
    let t = Terminate::parse(sink.rx.fail(TermError::DDP_INVALID_STAG).as_bytes()).unwrap();
    let c = t.culprit.unwrap();
    assert_eq!(
        (c.read(), c.segment_len(), c.ddp_hdr().len()),
        (None, 23, 14)
    );
}
