// SPDX-License-Identifier: GPL-2.0

//! Transmitter against receiver over a byte stream, cut and mutated everywhere; each reason to
//! terminate.

mod common;

use common::{mutate, mutation, Crc};
use proptest::prelude::*;
use rurdma_host_tests::proto::atomic::AtomicOp;
use rurdma_host_tests::proto::iwarp::rx::{
    Event, Message, Receiver, RxConfig, Segment, Target, Want,
};
use rurdma_host_tests::proto::iwarp::tx::{FpduEncoder, Header, Segmenter};
use rurdma_host_tests::proto::serial::Msn;
use rurdma_host_tests::proto::wire::crc::Crc32c;
use rurdma_host_tests::proto::wire::mpa;
use rurdma_host_tests::proto::wire::rdmap::{
    AtomicRequest, AtomicResponseHdr, ReadRequest, ReadRequestHdr,
};
use rurdma_host_tests::proto::wire::terminate::{Culprit, TermError, Terminate, TerminateBody};
use zerocopy::IntoBytes as _;

/// What one end says.
#[derive(Clone, Debug, PartialEq)]
enum Msg {
    Send {
        data: Vec<u8>,
        se: bool,
        inv: Option<u32>,
    },
    Write {
        stag: u32,
        to: u64,
        data: Vec<u8>,
    },
    ReadResponse {
        stag: u32,
        to: u64,
        data: Vec<u8>,
    },
    ReadRequest(ReadRequest),
    Immediate([u8; 8], bool),
    Atomic(AtomicRequest),
    AtomicResponse(u32, u64),
    Terminate(TermError),
}

/// The next number of each queue.
#[derive(Default)]
struct Numbers([u32; 4]);

impl Numbers {
    fn next(&mut self, q: usize) -> Msn {
        self.0[q] += 1;
        Msn::new(self.0[q])
    }
}

/// Encodes messages. Returns the bytes, and where each FPDU and each message ends.
fn encode(msgs: &[Msg], mulpdu: u16, enc: &mut FpduEncoder) -> (Vec<u8>, Vec<usize>, Vec<usize>) {
    let (mut wire, mut fpdus, mut ends) = (Vec::new(), vec![0], Vec::new());
    let mut n = Numbers::default();
    let mut buf = vec![0; 70_000];
    for m in msgs {
        let (header, body): (Header, Vec<u8>) = match m {
            Msg::Send { data, se, inv } => (Header::send(n.next(0), *se, *inv), data.clone()),
            Msg::Write { stag, to, data } => (Header::write(*stag, *to), data.clone()),
            Msg::ReadResponse { stag, to, data } => {
                (Header::read_response(*stag, *to), data.clone())
            }
            Msg::ReadRequest(r) => (
                Header::read_request(n.next(1)),
                ReadRequestHdr::from(r).as_bytes().to_vec(),
            ),
            Msg::Immediate(d, se) => (Header::immediate(n.next(0), *se), d.to_vec()),
            Msg::Atomic(r) => (
                Header::atomic_request(n.next(1)),
                r.to_hdr().unwrap().as_bytes().to_vec(),
            ),
            Msg::AtomicResponse(id, v) => (
                Header::atomic_response(n.next(3)),
                AtomicResponseHdr {
                    request_id: (*id).into(),
                    original: (*v).into(),
                }
                .as_bytes()
                .to_vec(),
            ),
            Msg::Terminate(e) => (
                Header::terminate(),
                TerminateBody::build(*e, None).as_bytes().to_vec(),
            ),
        };
        let mut s = Segmenter::new(body.len() as u32);
        while let Some(p) = s.next(header.max_payload(mulpdu)) {
            let open = enc.begin::<Crc>(&mut buf, &header, &p).unwrap();
            let data = &body[p.offset as usize..][..usize::from(p.len)];
            buf[open.payload..][..data.len()].copy_from_slice(data);
            let expected = enc.fpdu_len(open.ulpdu_len);
            // Either way of finishing gives the same bytes.
            let mut other = buf.clone();
            let sealed = enc.clone().seal::<Crc>(&mut other, open.ulpdu_len).unwrap();
            let crc = if enc.wants_crc() {
                Crc::crc32c(open.crc, data)
            } else {
                0
            };
            let len = enc.finish::<Crc>(&mut buf, &open, crc).unwrap();
            assert_eq!((len, sealed), (expected, expected));
            assert_eq!(buf[..len], other[..len]);
            wire.extend(&buf[..len]);
            fpdus.push(wire.len());
        }
        ends.push(wire.len());
    }
    (wire, fpdus, ends)
}

/// The other end.
struct Sink {
    rx: Receiver,
    /// Payload of the message that is coming.
    data: Vec<u8>,
    /// Where its first byte goes.
    at: Option<Target>,
    segment: Option<Segment>,
    got: Vec<Msg>,
}

impl Sink {
    fn new(crc: bool) -> Self {
        Sink {
            rx: Receiver::new(RxConfig { crc, rfc7306: true }),
            data: Vec::new(),
            at: None,
            segment: None,
            got: Vec::new(),
        }
    }

    /// Takes bytes as they come. Returns the bytes that were wanted.
    fn feed(&mut self, bytes: &[u8]) -> Result<usize, TermError> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.rx.want() {
                Want::Control(buf) => {
                    assert!(!buf.is_empty());
                    let n = buf.len().min(rest.len());
                    buf[..n].copy_from_slice(&rest[..n]);
                    at += n;
                    let event = self.rx.filled::<Crc>(n)?;
                    self.event(event);
                }
                Want::Payload(p) => {
                    assert!(p.remaining > 0);
                    assert_eq!(Some(p.segment), self.segment);
                    assert_eq!(p.placed + p.remaining, p.segment.len);
                    let n = rest.len().min(p.remaining as usize);
                    self.data.extend(&rest[..n]);
                    at += n;
                    let crc = if self.rx.wants_crc() {
                        Crc::crc32c(self.rx.crc(), &rest[..n])
                    } else {
                        0
                    };
                    self.rx.placed(n as u32, crc);
                }
                Want::Nothing => return Ok(at),
            }
        }
        Ok(at)
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::None => (),
            Event::Start(s) => {
                assert_eq!(s.first, self.at.is_none());
                match (self.at, s.target) {
                    (None, t) => self.at = Some(t),
                    (Some(Target::Tagged { stag, to }), Target::Tagged { stag: s2, to: t2 }) => {
                        assert_eq!((stag, to.wrapping_add(self.data.len() as u64)), (s2, t2));
                    }
                    (Some(Target::Untagged { qn, msn, .. }), t) => {
                        assert_eq!(
                            t,
                            Target::Untagged {
                                qn,
                                msn,
                                mo: self.data.len() as u32
                            }
                        );
                    }
                    other => panic!("{other:?}"),
                }
                self.segment = Some(s);
            }
            Event::End(s, message) => {
                assert_eq!(s.last, message.is_some());
                assert!(self.rx.has_started());
                if let Some(m) = message {
                    self.deliver(m);
                    self.at = None;
                }
            }
        }
    }

    fn deliver(&mut self, m: Message) {
        let mut data = std::mem::take(&mut self.data);
        let tagged = match self.at {
            Some(Target::Tagged { stag, to }) => (stag, to),
            _ => (0, 0),
        };
        self.got.push(match m {
            Message::Write => Msg::Write {
                stag: tagged.0,
                to: tagged.1,
                data,
            },
            Message::ReadResponse => Msg::ReadResponse {
                stag: tagged.0,
                to: tagged.1,
                data,
            },
            Message::Send {
                length,
                solicited,
                invalidate,
                ..
            } => {
                assert_eq!(length as usize, data.len());
                Msg::Send {
                    data: std::mem::take(&mut data),
                    se: solicited,
                    inv: invalidate,
                }
            }
            Message::ReadRequest { request, .. } => Msg::ReadRequest(request),
            Message::Terminate(t) => Msg::Terminate(t.error),
            Message::Immediate {
                data, solicited, ..
            } => Msg::Immediate(data, solicited),
            Message::AtomicRequest { request, .. } => Msg::Atomic(request),
            Message::AtomicResponse {
                request_id,
                original,
                ..
            } => Msg::AtomicResponse(request_id, original),
        });
    }
}

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
        let mut sink = Sink {
            segment: None,
            ..Sink::new(true)
        };
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
