// SPDX-License-Identifier: GPL-2.0

//! Immediate data and atomic operations of iWARP (RFC 7306).

mod common;

use common::Crc;
use proptest::prelude::*;
use rurdma_host_tests::proto::access::refusal;
use rurdma_host_tests::proto::atomic::AtomicOp;
use rurdma_host_tests::proto::iwarp::orders::{
    Expect, Inbound, InboundReads, Order, OutboundReads,
};
use rurdma_host_tests::proto::iwarp::rx::{Event, Message, Receiver, RxConfig, Want};
use rurdma_host_tests::proto::iwarp::tx::{FpduEncoder, Header, Segmenter};
use rurdma_host_tests::proto::serial::Msn;
use rurdma_host_tests::proto::wire::rdmap::{
    immediate_data, immediate_of, AtomicRequest, AtomicRequestHdr, AtomicResponseHdr, Opcode,
    ReadRequest, ReadRequestHdr,
};
use rurdma_host_tests::proto::wire::terminate::{Culprit, TermError, Terminate, TerminateBody};
use std::collections::VecDeque;
use zerocopy::{FromBytes as _, IntoBytes as _};

/// One direction of a stream: encoder, wire and receiver, with a segment size of its own.
struct Pipe {
    enc: FpduEncoder,
    rx: Receiver,
    mulpdu: u16,
}

impl Pipe {
    fn new(mulpdu: u16) -> Self {
        Pipe {
            enc: FpduEncoder::new(true, false),
            rx: Receiver::new(RxConfig {
                crc: true,
                rfc7306: true,
            }),
            mulpdu,
        }
    }

    /// The FPDUs of a message.
    fn encode(&mut self, header: &Header, body: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut buf = vec![0; 10_000];
        let mut s = Segmenter::new(body.len() as u32);
        while let Some(p) = s.next(header.max_payload(self.mulpdu)) {
            let open = self.enc.begin::<Crc>(&mut buf, header, &p).unwrap();
            buf[open.payload..][..usize::from(p.len)]
                .copy_from_slice(&body[p.offset as usize..][..usize::from(p.len)]);
            let n = self.enc.seal::<Crc>(&mut buf, open.ulpdu_len).unwrap();
            wire.extend(&buf[..n]);
        }
        wire
    }

    /// What comes of these bytes: one message at most.
    fn receive(&mut self, wire: &[u8]) -> Result<Option<Message>, TermError> {
        let mut at = 0;
        let mut got = None;
        while at < wire.len() {
            match self.rx.want() {
                Want::Control(buf) => {
                    let n = buf.len().min(wire.len() - at);
                    buf[..n].copy_from_slice(&wire[at..at + n]);
                    at += n;
                    if let Event::End(_, message) = self.rx.filled::<Crc>(n)? {
                        assert!(got.is_none());
                        got = message;
                    }
                }
                Want::Payload(p) => {
                    let n = (p.remaining as usize).min(wire.len() - at);
                    let crc = <Crc as rurdma_host_tests::proto::wire::crc::Crc32c>::crc32c(
                        self.rx.crc(),
                        &wire[at..at + n],
                    );
                    at += n;
                    self.rx.placed(n as u32, crc);
                }
                Want::Nothing => break,
            }
        }
        Ok(got)
    }

    fn send(&mut self, header: &Header, body: &[u8]) -> Result<Option<Message>, TermError> {
        let wire = self.encode(header, body);
        self.receive(&wire)
    }
}

/// Every byte of each message, from the figures of the RFC (4 to 7 and appendix A).
#[test]
fn golden_messages() {
    let mut pipe = Pipe::new(1400);
    let mut ulpdu = |header: &Header, body: &[u8]| {
        let wire = pipe.encode(header, body);
        let len = usize::from(u16::from_be_bytes([wire[0], wire[1]]));
        wire[2..2 + len].to_vec()
    };
    let msn = Msn::new(0x0102_0304);
    let head = |op: u8, qn: u8| {
        [
            0x41,
            0x40 | op,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            qn,
            1,
            2,
            3,
            4,
            0,
            0,
            0,
            0,
        ]
    };

    let imm = u32::from_ne_bytes([0xa1, 0xa2, 0xa3, 0xa4]);
    for (solicited, op) in [(false, 8), (true, 9)] {
        let got = ulpdu(&Header::immediate(msn, solicited), &immediate_data(imm));
        let want = [&head(op, 0)[..], &[0xa1, 0xa2, 0xa3, 0xa4, 0, 0, 0, 0]].concat();
        assert_eq!(got, want);
    }

    let request = |op| AtomicRequest {
        request_id: 0x1112_1314,
        stag: 0x2122_2324,
        to: 0x3132_3334_3536_3738,
        op,
    };
    let ids: &[u8] = &[
        0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x23, 0x24, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37,
        0x38,
    ];
    let v = |n: u8| [n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7];
    let (a, b) = (u64::from_be_bytes(v(0x41)), u64::from_be_bytes(v(0x51)));
    for (op, aop, words) in [
        // What verbs ask for: all bits.
        (
            AtomicOp::fetch_add(a),
            0,
            [v(0x41), [0; 8], [0; 8], [0xff; 8]],
        ),
        (
            AtomicOp::cmp_swp(a, b),
            2,
            [v(0x51), [0xff; 8], v(0x41), [0xff; 8]],
        ),
        (
            AtomicOp::FetchAdd {
                add: a,
                add_mask: b,
            },
            0,
            [v(0x41), v(0x51), [0; 8], [0xff; 8]],
        ),
    ] {
        let hdr = request(op).to_hdr().unwrap();
        let got = ulpdu(&Header::atomic_request(msn), hdr.as_bytes());
        let want = [&head(10, 1)[..], &[0, 0, 0, aop], ids, &words.concat()].concat();
        assert_eq!(got.len(), 18 + 52);
        assert_eq!(got, want);
    }
    // RFC 7306 has no atomic write.
    assert!(request(AtomicOp::Store(1)).to_hdr().is_none());

    let answer = AtomicResponseHdr {
        request_id: 0x1112_1314.into(),
        original: a.into(),
    };
    let got = ulpdu(&Header::atomic_response(msn), answer.as_bytes());
    let want = [&head(11, 3)[..], &ids[..4], &v(0x41)].concat();
    assert_eq!(got, want);
}

fn op() -> impl Strategy<Value = AtomicOp> {
    // Few values, so that comparisons succeed now and then.
    let v = || prop_oneof![0u64..3, any::<u64>()];
    prop_oneof![
        v().prop_map(AtomicOp::fetch_add),
        (v(), v()).prop_map(|(a, b)| AtomicOp::cmp_swp(a, b)),
        (v(), any::<u64>()).prop_map(|(add, add_mask)| AtomicOp::FetchAdd { add, add_mask }),
        (v(), v(), any::<[u64; 2]>()).prop_map(|(compare, swap, m)| AtomicOp::CmpSwp {
            compare,
            swap,
            compare_mask: m[0],
            swap_mask: m[1],
        }),
    ]
}

/// A work request of the requester.
#[derive(Clone, Copy, Debug)]
enum Work {
    Atomic(usize, AtomicOp),
    Read(usize),
}

const WORDS: usize = 3;

fn work() -> impl Strategy<Value = Work> {
    prop_oneof![
        3 => (0..WORDS, op()).prop_map(|(w, op)| Work::Atomic(w, op)),
        1 => (0..WORDS).prop_map(Work::Read),
    ]
}

/// Both ends of a connection: one asks, the other one answers, in turns that `schedule` decides.
struct Pair {
    there: Pipe,
    back: Pipe,
    outbound: OutboundReads<Vec<Order>>,
    inbound: InboundReads,
    queue: VecDeque<(Msn, Inbound)>,
    memory: [u64; WORDS],
    read_msn: Msn,
    atomic_msn: Msn,
}

impl Pair {
    fn new(depth: u32) -> Self {
        Pair {
            there: Pipe::new(128),
            back: Pipe::new(128),
            outbound: OutboundReads::new(vec![Order::EMPTY; 8], depth),
            inbound: InboundReads::new(depth),
            queue: VecDeque::new(),
            memory: [0; WORDS],
            read_msn: Msn::FIRST,
            atomic_msn: Msn::FIRST,
        }
    }

    fn ask(&mut self, number: usize, work: Work) {
        let msn = self.read_msn;
        let (header, body) = match work {
            Work::Atomic(word, op) => {
                let request_id = number as u32 ^ 0x5555;
                let expect = Expect::Atomic { request_id };
                self.outbound.push(expect, number as u64).unwrap();
                let request = AtomicRequest {
                    request_id,
                    stag: 7,
                    to: word as u64 * 8,
                    op,
                };
                let hdr = request.to_hdr().unwrap();
                (Header::atomic_request(msn), hdr.as_bytes().to_vec())
            }
            Work::Read(word) => {
                let expect = Expect::Read {
                    stag: 9,
                    to: 0,
                    size: 8,
                };
                self.outbound.push(expect, number as u64).unwrap();
                let request = ReadRequest {
                    sink_stag: 9,
                    sink_to: 0,
                    size: 8,
                    source_stag: 7,
                    source_to: word as u64 * 8,
                };
                let hdr = ReadRequestHdr::from(&request);
                (Header::read_request(msn), hdr.as_bytes().to_vec())
            }
        };
        self.read_msn = msn.next();
        let (msn, request) = match self.there.send(&header, &body) {
            Ok(Some(Message::AtomicRequest { msn, request })) => (msn, Inbound::Atomic(request)),
            Ok(Some(Message::ReadRequest { msn, request })) => (msn, Inbound::Read(request)),
            other => panic!("{other:?}"),
        };
        // Requests of both kinds are numbered together, and share the depth.
        self.inbound.admit().unwrap();
        self.queue.push_back((msn, request));
    }

    /// Answers the oldest request. Returns its number, and what the requester got.
    fn answer(&mut self) -> Option<(usize, u64)> {
        let (_, request) = self.queue.pop_front()?;
        let got = match request {
            Inbound::Atomic(request) => {
                let word = &mut self.memory[request.to as usize / 8];
                let original = *word;
                *word = request.op.apply(original).unwrap_or(original);
                let hdr = AtomicResponseHdr {
                    request_id: request.request_id.into(),
                    original: original.into(),
                };
                let header = Header::atomic_response(self.atomic_msn);
                self.atomic_msn = self.atomic_msn.next();
                match self.back.send(&header, hdr.as_bytes()) {
                    Ok(Some(Message::AtomicResponse {
                        request_id,
                        original,
                        ..
                    })) => {
                        let order = self.outbound.atomic_response(request_id).unwrap();
                        (order.cookie as usize, original)
                    }
                    other => panic!("{other:?}"),
                }
            }
            Inbound::Read(request) => {
                let value = self.memory[request.source_to as usize / 8];
                let header = Header::read_response(request.sink_stag, request.sink_to);
                assert_eq!(
                    self.back.send(&header, &value.to_ne_bytes()),
                    Ok(Some(Message::ReadResponse))
                );
                let mut order = self.outbound.complete().unwrap();
                assert_eq!(order.response(9, 0, 8, true), Ok(0));
                (order.cookie as usize, value)
            }
        };
        self.inbound.retire();
        Some(got)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Reads and atomics, as many in flight as the depth allows: each gets what it would get if all were
    /// done one after the other, in the order of the requests (RFC 7306 sections 5.4 and 7).
    #[test]
    fn answered_in_order(all in prop::collection::vec(work(), 1..40), depth in 1u32..8, schedule in any::<u64>()) {
        let mut pair = Pair::new(depth);
        let mut memory = [0u64; WORDS];
        let want: Vec<u64> = all.iter().map(|w| match *w {
            Work::Atomic(word, op) => {
                let original = memory[word];
                memory[word] = op.apply(original).unwrap_or(original);
                original
            }
            Work::Read(word) => memory[word],
        }).collect();
        let mut asked = 0;
        let mut got = Vec::new();
        let mut turns = schedule | 1;
        while got.len() < all.len() {
            turns = turns.rotate_left(1);
            if turns & 1 == 0 && asked < all.len() && pair.outbound.has_room() {
                pair.ask(asked, all[asked]);
                asked += 1;
            } else if let Some((number, value)) = pair.answer() {
                prop_assert_eq!(number, got.len());
                got.push(value);
            }
        }
        prop_assert_eq!(got, want);
        prop_assert_eq!(pair.memory, memory);
        prop_assert_eq!(pair.inbound.in_flight(), 0);
    }

    #[test]
    fn immediate_round_trip(imm in any::<u32>(), rest in any::<[u8; 4]>()) {
        let data = immediate_data(imm);
        prop_assert_eq!(&data[..4], &imm.to_ne_bytes());
        prop_assert_eq!(&data[4..], &[0; 4]);
        prop_assert_eq!(immediate_of(data), imm);
        // A peer that has eight bytes to say is heard as far as verbs can.
        let [a, b, c, d] = imm.to_ne_bytes();
        let [e, f, g, h] = rest;
        prop_assert_eq!(immediate_of([a, b, c, d, e, f, g, h]), imm);
    }

    /// Any 52 bytes: an operation that exists, or none; reserved bits mean nothing.
    #[test]
    fn atomic_request_of_any_bytes(mut body in prop::collection::vec(any::<u8>(), 52), code in 0u8..16) {
        body[3] = body[3] & 0xf0 | code;
        let hdr = AtomicRequestHdr::read_from_bytes(&body).unwrap();
        let mut pipe = Pipe::new(1000);
        let got = pipe.send(&Header::atomic_request(Msn::FIRST), &body);
        match AtomicRequest::from_hdr(&hdr) {
            Some(request) => {
                prop_assert!(code == 0 || code == 2);
                prop_assert_eq!(got, Ok(Some(Message::AtomicRequest { msn: Msn::FIRST, request })));
                // What is sent again lacks the reserved bits, and what does not belong to the operation.
                let again = request.to_hdr().unwrap();
                prop_assert_eq!(AtomicRequest::from_hdr(&again), Some(request));
                prop_assert_eq!(again.aopcode.get(), u32::from(code));
            }
            None => {
                prop_assert!(code != 0 && code != 2);
                prop_assert_eq!(got, Err(TermError::RDMAP_OPCODE));
                // The operation is not quoted, only its DDP header (section 8.1).
                let t = pipe.rx.fail(TermError::RDMAP_OPCODE);
                prop_assert_eq!(t.as_bytes().len(), 4 + 2 + 18);
            }
        }
    }

    /// How much was written before immediate data comes, whatever else the peer does.
    #[test]
    fn immediate_knows_its_write(all in prop::collection::vec((0u8..8, 0usize..3000), 1..30), mulpdu in 128u16..1500) {
        let mut pipe = Pipe::new(mulpdu);
        let mut last = 0u32;
        let mut msn = [Msn::FIRST; 4];
        for (kind, len) in all {
            let mut next = |q: usize| {
                let m = msn[q];
                msn[q] = m.next();
                m
            };
            let data = vec![1; len];
            let id = AtomicResponseHdr { request_id: 1.into(), original: 2.into() };
            let atomic = AtomicRequest { request_id: 1, stag: 1, to: 8, op: AtomicOp::fetch_add(1) }.to_hdr().unwrap();
            let read = ReadRequest { sink_stag: 1, sink_to: 1, size: 1, source_stag: 1, source_to: 1 };
            let (header, body) = match kind {
                0 | 1 => (Header::write(1, 2), data),
                2 => (Header::send(next(0), false, None), data),
                3 => (Header::read_request(next(1)), ReadRequestHdr::from(&read).as_bytes().to_vec()),
                4 => (Header::atomic_request(next(1)), atomic.as_bytes().to_vec()),
                // Answers are not what the peer was asked to do by its own user.
                5 => (Header::read_response(1, 2), data),
                6 => (Header::atomic_response(next(3)), id.as_bytes().to_vec()),
                _ => (Header::immediate(next(0), len % 2 == 1), immediate_data(len as u32).to_vec()),
            };
            match pipe.send(&header, &body).unwrap().unwrap() {
                Message::Write => last = len as u32,
                Message::ReadResponse | Message::AtomicResponse { .. } => (),
                Message::Immediate { data, written, solicited, .. } => {
                    prop_assert_eq!((immediate_of(data), solicited), (len as u32, len % 2 == 1));
                    prop_assert_eq!(written, last);
                    last = 0;
                }
                _ => last = 0,
            }
        }
    }
}

/// A Write longer than 2^32 bytes does not wrap what is told of it.
#[test]
fn written_saturates() {
    let mut pipe = Pipe::new(u16::MAX);
    let header = Header::write(1, 2);
    let mut wire = vec![0; 70_000];
    let mut enc = FpduEncoder::new(false, false);
    pipe.rx = Receiver::new(RxConfig {
        crc: false,
        rfc7306: true,
    });
    let mut s = Segmenter::new(u32::MAX);
    let max = 65_500;
    let mut total = 0u64;
    while total <= u64::from(u32::MAX) {
        let Some(mut p) = s.next(max) else { break };
        // Once more than there is.
        p.last = false;
        let open = enc.begin::<Crc>(&mut wire, &header, &p).unwrap();
        let n = enc.finish::<Crc>(&mut wire, &open, 0).unwrap();
        assert_eq!(pipe.receive(&wire[..n]), Ok(None));
        total += u64::from(p.len);
    }
    let p = rurdma_host_tests::proto::iwarp::tx::Piece {
        offset: 0,
        len: 1000,
        last: true,
    };
    let open = enc.begin::<Crc>(&mut wire, &header, &p).unwrap();
    let n = enc.finish::<Crc>(&mut wire, &open, 0).unwrap();
    assert_eq!(pipe.receive(&wire[..n]), Ok(Some(Message::Write)));
    let n = enc
        .control::<Crc>(&mut wire, &Header::immediate(Msn::FIRST, false), &[0; 8])
        .unwrap();
    let Ok(Some(Message::Immediate { written, .. })) = pipe.receive(&wire[..n]) else {
        panic!("no immediate data");
    };
    assert_eq!(written, u32::MAX);
}

/// Responses that nobody waits for, or another one waits for.
#[test]
fn responses_that_lie() {
    let queue = || {
        let mut q = OutboundReads::new(vec![Order::EMPTY; 3], 3);
        q.push(Expect::Atomic { request_id: 1 }, 10).unwrap();
        q.push(Expect::Atomic { request_id: 2 }, 11).unwrap();
        q
    };
    assert_eq!(
        OutboundReads::new(vec![Order::EMPTY; 3], 3).atomic_response(1),
        Err(TermError::RDMAP_OPCODE)
    );
    // The second before the first.
    assert_eq!(queue().atomic_response(2), Err(TermError::RDMAP_OPERATION));
    assert_eq!(
        queue().oldest().copied().unwrap().response(0, 0, 8, true),
        Err(TermError::RDMAP_OPCODE)
    );
    // One of them twice.
    let mut q = queue();
    assert_eq!(q.atomic_response(1).unwrap().cookie, 10);
    assert_eq!(q.atomic_response(1), Err(TermError::RDMAP_OPERATION));
    assert_eq!(q.atomic_response(2).unwrap().cookie, 11);

    // And its number: queue 3 counts by itself.
    let mut pipe = Pipe::new(1000);
    let hdr = AtomicResponseHdr {
        request_id: 1.into(),
        original: 2.into(),
    };
    let first = Header::atomic_response(Msn::FIRST);
    assert!(pipe.send(&first, hdr.as_bytes()).is_ok());
    assert_eq!(
        pipe.send(&first, hdr.as_bytes()),
        Err(TermError::DDP_MSN_RANGE)
    );
}

/// Immediate data has a number of the sends.
#[test]
fn immediate_is_counted_with_the_sends() {
    let mut pipe = Pipe::new(1000);
    let mut msn = Msn::FIRST;
    for i in 0..6 {
        let header = if i % 2 == 0 {
            Header::send(msn, false, None)
        } else {
            Header::immediate(msn, false)
        };
        assert!(pipe.send(&header, &[0; 8]).unwrap().is_some());
        msn = msn.next();
    }
    assert_eq!(
        pipe.send(&Header::immediate(Msn::FIRST, false), &[0; 8]),
        Err(TermError::DDP_MSN_RANGE)
    );
}

/// An atomic that is refused when it is its turn: the Terminate is the one that it would have got at once.
#[test]
fn refused_later() {
    let request = AtomicRequest {
        request_id: 1,
        stag: 2,
        to: 4,
        op: AtomicOp::fetch_add(1),
    };
    let mut pipe = Pipe::new(1000);
    let header = Header::atomic_request(Msn::FIRST);
    pipe.send(&header, request.to_hdr().unwrap().as_bytes())
        .unwrap();
    for error in [TermError::RDMAP_ACCESS, TermError::RDMAP_STREAM] {
        let later = TerminateBody::build(error, Some(&Culprit::atomic_request(1)));
        assert_eq!(pipe.rx.fail(error).as_bytes(), later.as_bytes());
        // M and D, not R: length 70, and the DDP header.
        assert_eq!(later.as_bytes()[2..6], [0xc0, 0, 0, 70]);
        assert_eq!(later.as_bytes().len(), 24);
        let t = Terminate::parse(later.as_bytes()).unwrap();
        assert_eq!(t.culprit.unwrap().op(), Some(Opcode::AtomicRequest));
    }
}

/// What a work request completes with when the peer ends the stream.
#[test]
fn what_a_terminate_is_about() {
    use Opcode::{AtomicRequest as Atomic, ReadRequest as Read};
    let read = ReadRequest {
        sink_stag: 1,
        sink_to: 2,
        size: 3,
        source_stag: 4,
        source_to: 5,
    };
    let of_read = Culprit::read_request(1, read);
    let of_atomic = Culprit::atomic_request(1);
    let of_send = Culprit::new(&[0x41; 18], 40, None).unwrap();
    for (error, culprit, oldest, want) in [
        (TermError::RDMAP_ACCESS, Some(&of_read), Read, Some(10)),
        (TermError::RDMAP_ACCESS, Some(&of_atomic), Atomic, Some(10)),
        (TermError::RDMAP_BOUNDS, Some(&of_atomic), Atomic, Some(10)),
        (TermError::RDMAP_STREAM, Some(&of_atomic), Atomic, Some(11)),
        (TermError::RDMAP_OPCODE, Some(&of_atomic), Atomic, Some(11)),
        (TermError::DDP_NO_BUFFER, Some(&of_atomic), Atomic, Some(9)),
        // A peer that does not know the opcode, and quotes nothing.
        (TermError::RDMAP_OPCODE, None, Atomic, Some(11)),
        (TermError::RDMAP_OPCODE, None, Read, None),
        // About something else.
        (TermError::RDMAP_ACCESS, Some(&of_atomic), Read, None),
        (TermError::RDMAP_ACCESS, Some(&of_read), Atomic, None),
        (TermError::RDMAP_ACCESS, Some(&of_send), Atomic, None),
        (TermError::DDP_NO_BUFFER, Some(&of_send), Atomic, None),
        (TermError::RDMAP_ACCESS, None, Atomic, None),
        (TermError::RDMAP_ACCESS, None, Read, None),
        (TermError::RDMAP_CATASTROPHIC, None, Atomic, None),
        (TermError::MPA_CRC, None, Atomic, None),
    ] {
        let t = Terminate {
            error,
            culprit: culprit.copied(),
        };
        assert_eq!(refusal(&t, oldest), want, "{error:?} {oldest:?}");
    }
}
