// SPDX-License-Identifier: GPL-2.0

//! Transmitter against receiver over a byte stream, cut and mutated everywhere.

mod common;
#[path = "common/messages.rs"]
mod messages;

use common::{mutate, mutation, Crc};
use messages::{encode, Msg, Sink};
use proptest::prelude::*;
use rurdma_host_tests::proto::atomic::AtomicOp;
use rurdma_host_tests::proto::iwarp::rx::{Event, Receiver, RxConfig, Want};
use rurdma_host_tests::proto::iwarp::tx::FpduEncoder;
use rurdma_host_tests::proto::wire::crc::Crc32c as _;
use rurdma_host_tests::proto::wire::rdmap::{AtomicRequest, ReadRequest};
use rurdma_host_tests::proto::wire::terminate::{TermError, Terminate};

fn data(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(any::<u8>(), 0..max),
    ]
}

fn msg(max: usize) -> impl Strategy<Value = Msg> {
    prop_oneof![
        4 => (data(max), any::<bool>(), prop::option::of(any::<u32>()))
            .prop_map(|(data, se, inv)| Msg::Send { data, se, inv }),
        4 => (any::<u32>(), any::<u64>(), data(max))
            .prop_map(|(stag, to, data)| Msg::Write { stag, to, data }),
        4 => (any::<u32>(), any::<u64>(), data(max))
            .prop_map(|(stag, to, data)| Msg::ReadResponse { stag, to, data }),
        2 => any::<(u32, u64, u32, u32, u64)>().prop_map(|r| Msg::ReadRequest(ReadRequest {
            sink_stag: r.0, sink_to: r.1, size: r.2, source_stag: r.3, source_to: r.4,
        })),
        1 => any::<([u8; 8], bool)>().prop_map(|(d, s)| Msg::Immediate(d, s)),
        1 => any::<(u32, u32, u64, u64, u64)>().prop_map(|a| Msg::Atomic(AtomicRequest {
            request_id: a.0, stag: a.1, to: a.2, op: AtomicOp::FetchAdd { add: a.3, add_mask: a.4 },
        })),
        1 => any::<(u32, u64)>().prop_map(|(a, b)| Msg::AtomicResponse(a, b)),
    ]
}

/// Takes the markers out as a receiver that wants them does, written from RFC 5044 section 4.3 and
/// without the code under test: verifies pointers and CRCs. Returns FPDUs without markers.
fn strip_markers(wire: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut pos = 0;
    while pos < wire.len() {
        // A marker between FPDUs belongs to the one behind it.
        let begin = pos;
        if pos % 512 == 0 {
            assert_eq!(wire[pos..pos + 4], [0, 0, 0, 0]);
            pos += 4;
        }
        let length_at = pos;
        let len = usize::from(u16::from_be_bytes([wire[pos], wire[pos + 1]]));
        let raw = (2 + len).div_ceil(4) * 4 + 4;
        let mut fpdu = Vec::new();
        let mut before_crc = 0;
        while fpdu.len() < raw {
            if pos % 512 == 0 && pos != begin {
                let ptr = u16::from_be_bytes([wire[pos + 2], wire[pos + 3]]);
                assert_eq!(wire[pos..pos + 2], [0, 0]);
                assert_eq!(usize::from(ptr), pos - length_at);
                pos += 4;
            }
            if fpdu.len() == raw - 4 {
                before_crc = pos;
            }
            fpdu.push(wire[pos]);
            pos += 1;
        }
        let crc = crc32c::crc32c(&wire[begin..before_crc]);
        assert_eq!(wire[before_crc..before_crc + 4], crc.to_le_bytes());
        out.extend(fpdu);
    }
    assert_eq!(pos, wire.len());
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// What is said is heard, for every segment size and every way of cutting the stream.
    #[test]
    fn round_trip(
        msgs in prop::collection::vec(msg(6000), 1..12), mulpdu in prop_oneof![Just(128u16), 128u16..9000, Just(1442), Just(65533)],
        crc in any::<bool>(), reads in prop::collection::vec(1usize..3000, 1..20), terminate in any::<bool>(),
    ) {
        let mut msgs = msgs;
        if terminate { msgs.push(Msg::Terminate(TermError::DDP_BOUNDS)); }
        let (wire, ..) = encode(&msgs, mulpdu, &mut FpduEncoder::new(crc, false));
        let mut sink = Sink::new(crc);
        let mut at = 0;
        for n in reads.iter().cycle() {
            if at == wire.len() { break; }
            let n = (*n).min(wire.len() - at);
            prop_assert_eq!(sink.feed(&wire[at..at + n]), Ok(n));
            at += n;
        }
        prop_assert_eq!(&sink.got, &msgs);
        prop_assert_eq!(sink.rx.is_between_messages(), !terminate);
        prop_assert_eq!(sink.rx.is_closed(), terminate);
    }

    /// Markers come where RFC 5044 wants them, with CRCs over them.
    #[test]
    fn markers(msgs in prop::collection::vec(msg(3000), 1..8), mulpdu in 128u16..9000) {
        let (wire, ..) = encode(&msgs, mulpdu, &mut FpduEncoder::new(true, true));
        let stripped = strip_markers(&wire);
        let mut sink = Sink::new(false);
        prop_assert_eq!(sink.feed(&stripped), Ok(stripped.len()));
        prop_assert_eq!(sink.got, msgs);
    }

    /// Mutated streams without CRC: errors, or other messages, but nothing else.
    #[test]
    fn mutated(
        msgs in prop::collection::vec(msg(600), 1..6), mulpdu in 128u16..700,
        changes in prop::collection::vec(mutation(), 0..6), step in 1usize..900,
        random in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
    ) {
        let (mut wire, ..) = encode(&msgs, mulpdu, &mut FpduEncoder::new(false, false));
        if let Some(r) = random { wire = r; }
        mutate(&mut wire, &changes);
        let mut rx = Receiver::new(RxConfig { crc: false, rfc7306: step % 2 == 0 });
        let mut at = 0;
        let mut placed = 0;
        while at < wire.len() {
            let n = match rx.want() {
                Want::Control(buf) => {
                    let n = buf.len().min(step).min(wire.len() - at);
                    buf[..n].copy_from_slice(&wire[at..at + n]);
                    match rx.filled::<Crc>(n) {
                        Ok(Event::Start(s)) => {
                            prop_assert!(s.len <= 65535);
                            placed = 0;
                        }
                        Ok(_) => (),
                        Err(e) => {
                            let body = rx.fail(e);
                            prop_assert!(Terminate::parse(body.as_bytes()).is_some_and(|t| t.error == e));
                            prop_assert!(matches!(rx.want(), Want::Nothing));
                        }
                    }
                    n
                }
                Want::Payload(p) => {
                    prop_assert_eq!(p.placed, placed);
                    let n = (p.remaining as usize).min(step).min(wire.len() - at);
                    placed += n as u32;
                    rx.placed(n as u32, 0);
                    n
                }
                Want::Nothing => break,
            };
            at += n;
        }
        // Calls that make no sense are harmless.
        rx.placed(99, 0);
        let _ = rx.filled::<Crc>(99);
        let _ = rx.fail(TermError::MPA_LOCAL);
    }
}

/// A conversation with everything in it.
fn everything() -> Vec<Msg> {
    let text = |n: usize| (0..n).map(|i| (i * 5 + 1) as u8).collect::<Vec<u8>>();
    vec![
        Msg::Write {
            stag: 0x1234,
            to: 0x10_0000,
            data: text(400),
        },
        Msg::Send {
            data: text(300),
            se: true,
            inv: Some(77),
        },
        Msg::ReadRequest(ReadRequest {
            sink_stag: 1,
            sink_to: 2,
            size: 3,
            source_stag: 4,
            source_to: 5,
        }),
        Msg::Send {
            data: Vec::new(),
            se: false,
            inv: None,
        },
        Msg::ReadResponse {
            stag: 9,
            to: u64::MAX - 10,
            data: text(131),
        },
        Msg::Immediate(*b"immediat", true),
        Msg::Atomic(AtomicRequest {
            request_id: 5,
            stag: 6,
            to: 8,
            op: AtomicOp::CmpSwp {
                swap: 1,
                swap_mask: 2,
                compare: 3,
                compare_mask: 4,
            },
        }),
        Msg::AtomicResponse(1, 2),
        Msg::Terminate(TermError::RDMAP_ACCESS),
    ]
}

/// The connection is lost at every byte, and read in two parts cut at every byte.
#[test]
fn cut_at_every_byte() {
    let msgs = everything();
    for crc in [false, true] {
        let (wire, fpdus, ends) = encode(&msgs, 140, &mut FpduEncoder::new(crc, false));
        for cut in 0..=wire.len() {
            let mut sink = Sink::new(crc);
            assert_eq!(sink.feed(&wire[..cut]), Ok(cut));
            let done = ends.iter().filter(|e| **e <= cut).count();
            assert_eq!(sink.got, msgs[..done]);
            if done < msgs.len() {
                assert_eq!(sink.rx.is_between_fpdus(), fpdus.contains(&cut));
                assert_eq!(
                    sink.rx.is_between_messages(),
                    cut == 0 || ends.contains(&cut),
                    "{cut}"
                );
            }
            assert_eq!(sink.rx.has_started(), cut >= fpdus[1]);
            assert_eq!(sink.feed(&wire[cut..]), Ok(wire.len() - cut));
            assert_eq!(sink.got, msgs);
            // After the Terminate nothing is wanted.
            assert_eq!(sink.feed(&[1, 2, 3]), Ok(0));
        }
    }
}

/// One bit is wrong, at every byte: no message of a broken FPDU or behind it is delivered.
#[test]
fn corrupted_at_every_byte() {
    let msgs = everything();
    let (wire, fpdus, ends) = encode(&msgs, 140, &mut FpduEncoder::new(true, false));
    for at in 0..wire.len() {
        let mut bad = wire.clone();
        bad[at] ^= 1 << (at % 8);
        let begin = *fpdus.iter().rfind(|f| **f <= at).unwrap();
        let done = ends.iter().filter(|e| **e <= begin).count();
        let mut sink = Sink::new(true);
        let mut rx_only = |bytes: &[u8]| -> Result<usize, TermError> {
            // As `Sink::feed`, without its assertions on continuity, which a broken header violates
            // before the CRC is there.
            let mut p = 0;
            while p < bytes.len() {
                let rest = &bytes[p..];
                match sink.rx.want() {
                    Want::Control(buf) => {
                        let n = buf.len().min(rest.len());
                        buf[..n].copy_from_slice(&rest[..n]);
                        p += n;
                        if let Event::End(_, Some(_)) = sink.rx.filled::<Crc>(n)? {
                            sink.got.push(Msg::Immediate([0; 8], false));
                        }
                    }
                    Want::Payload(pl) => {
                        let n = rest.len().min(pl.remaining as usize);
                        p += n;
                        let crc = Crc::crc32c(sink.rx.crc(), &rest[..n]);
                        sink.rx.placed(n as u32, crc);
                    }
                    Want::Nothing => break,
                }
            }
            Ok(p)
        };
        let result = rx_only(&bad);
        assert_eq!(sink.got.len(), done, "byte {at}");
        // A length that is too large makes the receiver wait; all else is found.
        if at - begin >= 2 {
            assert!(result.is_err(), "byte {at}");
        }
        if at - begin >= 20 && begin + 24 <= at {
            // Not in a header: it can only be the CRC that tells.
            assert_eq!(result, Err(TermError::MPA_CRC), "byte {at}");
        }
    }
}

/// Without CRC the field means nothing.
#[test]
fn crc_field_is_ignored_if_off() {
    let msgs = everything();
    let (mut wire, fpdus, _) = encode(&msgs, 140, &mut FpduEncoder::new(false, false));
    for end in &fpdus[1..] {
        assert_eq!(wire[end - 4..*end], [0; 4]);
        wire[end - 4..*end].fill(0xa5);
    }
    let mut sink = Sink::new(false);
    assert_eq!(sink.feed(&wire), Ok(wire.len()));
    assert_eq!(sink.got, msgs);
}

/// The same bytes whatever the reads look like.
#[test]
fn many_small_messages() {
    let msgs: Vec<Msg> = (0..2000u32)
        .map(|i| Msg::Send {
            data: i.to_be_bytes()[..(i % 5).min(4) as usize].to_vec(),
            se: false,
            inv: None,
        })
        .collect();
    let (wire, ..) = encode(&msgs, 128, &mut FpduEncoder::new(true, false));
    for step in [1, 7, 16, 20, 24, 4096] {
        let mut sink = Sink::new(true);
        for chunk in wire.chunks(step) {
            assert_eq!(sink.feed(chunk), Ok(chunk.len()));
        }
        assert_eq!(sink.got, msgs);
    }
}
