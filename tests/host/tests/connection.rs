// SPDX-License-Identifier: GPL-2.0

//! Two endpoints over a simulated byte stream: connection establishment, traffic in both directions,
//! errors. The stream is read in pieces of any size, and lost at every byte.
//!
//! The endpoint here is a transport in miniature, which shows how the parts of `proto::iwarp` are
//! meant to be used together.

mod common;

use common::Crc;
use proptest::prelude::*;
use rurdma_host_tests::proto::access::{Access, Region, Rights};
use rurdma_host_tests::proto::iwarp::mpa_rx::{Kind, MpaRx};
use rurdma_host_tests::proto::iwarp::negotiate::{
    Agreed, Depths, Offer, Rtr, RtrPlan, RtrSet, Verdict, Wishes,
};
use rurdma_host_tests::proto::iwarp::orders::{Expect, InboundReads, Order, OutboundReads};
use rurdma_host_tests::proto::iwarp::rx::{
    Event, Message, Receiver, RxConfig, Segment, Target, Want,
};
use rurdma_host_tests::proto::iwarp::tx::{FpduEncoder, Header, Segmenter};
use rurdma_host_tests::proto::serial::Msn;
use rurdma_host_tests::proto::wire::crc::Crc32c;
use rurdma_host_tests::proto::wire::mpa::{mulpdu, MAX_FRAME_LEN};
use rurdma_host_tests::proto::wire::rdmap::{Opcode, ReadRequest, ReadRequestHdr};
use rurdma_host_tests::proto::wire::terminate::{Culprit, TermError, TerminateBody};
use std::collections::VecDeque;
use zerocopy::IntoBytes as _;

const MEM: usize = 4096;
const STAG: u32 = 0xabcd_1200;
const BASE: u64 = 0x7000;
/// The STag of RTR messages, which address nothing.
const NO_STAG: u32 = 0;

/// A work request.
#[derive(Clone, Debug)]
enum Work {
    Send(Vec<u8>, bool, Option<u32>),
    Write(usize, Vec<u8>),
    /// Remote offset, local offset, length.
    Read(usize, usize, usize),
    /// Remote address and key as they are.
    RawWrite(u32, u64, usize),
    RawRead(u32, u64, u32),
}

/// Where payload that is coming goes.
enum Place {
    Nowhere,
    Memory(usize),
    Receive,
}

enum Phase {
    Mpa(Box<MpaRx>),
    Rdma,
    Dead,
}

struct Endpoint {
    wishes: Wishes,
    initiator: bool,
    emss: u32,
    phase: Phase,
    agreed: Option<Agreed>,
    peer_data: Vec<u8>,
    rx: Receiver,
    tx: FpduEncoder,
    out: VecDeque<u8>,
    sent: usize,
    mem: Vec<u8>,
    region: Region,
    receives: VecDeque<usize>,
    incoming: Vec<u8>,
    place: Place,
    first: bool,
    rtr_seen: bool,
    work: VecDeque<Work>,
    reads: OutboundReads<Vec<Order>>,
    inbound: InboundReads,
    msn: [Msn; 2],
    received: Vec<(Vec<u8>, bool, Option<u32>)>,
    completed: usize,
    term_sent: Option<TermError>,
    term_got: Option<TermError>,
}

impl Endpoint {
    fn new(initiator: bool, wishes: Wishes, emss: u32, work: Vec<Work>, fill: u8) -> Self {
        let kind = if initiator {
            Kind::Reply
        } else {
            Kind::Request
        };
        let mut ep = Endpoint {
            wishes,
            initiator,
            emss,
            phase: Phase::Mpa(Box::new(MpaRx::new(kind))),
            agreed: None,
            peer_data: Vec::new(),
            rx: Receiver::new(RxConfig {
                crc: true,
                rfc7306: false,
            }),
            tx: FpduEncoder::new(true, false),
            out: VecDeque::new(),
            sent: 0,
            mem: vec![fill; MEM],
            region: Region {
                base: BASE,
                length: MEM as u64,
                rights: Rights(7),
            },
            receives: VecDeque::from(vec![2000; 64]),
            incoming: Vec::new(),
            place: Place::Nowhere,
            first: true,
            rtr_seen: false,
            work: work.into(),
            reads: OutboundReads::new(vec![Order::EMPTY; 16], 0),
            inbound: InboundReads::new(0),
            msn: [Msn::FIRST; 2],
            received: Vec::new(),
            completed: 0,
            term_sent: None,
            term_got: None,
        };
        if initiator {
            let mut buf = [0; MAX_FRAME_LEN];
            let n = ep.wishes.request(b"from the initiator", &mut buf).unwrap();
            ep.out.extend(&buf[..n]);
        }
        ep
    }

    fn message(&mut self, header: &Header, body: &[u8]) {
        let markers = self.tx.has_markers();
        let mut s = Segmenter::new(body.len() as u32);
        let mut buf = vec![0; 70_000];
        while let Some(p) = s.next(header.max_payload(mulpdu(self.emss, markers))) {
            let open = self.tx.begin::<Crc>(&mut buf, header, &p).unwrap();
            let data = &body[p.offset as usize..][..usize::from(p.len)];
            buf[open.payload..][..data.len()].copy_from_slice(data);
            let crc = Crc::crc32c(open.crc, data);
            let n = self.tx.finish::<Crc>(&mut buf, &open, crc).unwrap();
            assert!(n <= self.emss as usize);
            self.out.extend(&buf[..n]);
        }
    }

    fn next_msn(&mut self, q: usize) -> Msn {
        let m = self.msn[q];
        self.msn[q] = m.next();
        m
    }

    fn read_request(&mut self, r: ReadRequest) {
        let header = Header::read_request(self.next_msn(1));
        self.message(&header, ReadRequestHdr::from(&r).as_bytes());
    }

    fn terminate(&mut self, error: TermError, body: TerminateBody) {
        self.message(&Header::terminate(), body.as_bytes());
        self.term_sent = Some(error);
        self.phase = Phase::Dead;
    }

    fn begin_rdma(&mut self, agreed: Agreed) {
        self.rx = Receiver::new(RxConfig {
            crc: agreed.crc,
            rfc7306: false,
        });
        self.tx = FpduEncoder::new(agreed.crc, agreed.tx_markers);
        self.reads = OutboundReads::new(vec![Order::EMPTY; 16], agreed.depths.ord.into());
        self.inbound = InboundReads::new(agreed.depths.ird.into());
        self.agreed = Some(agreed);
        self.phase = Phase::Rdma;
        if let RtrPlan::Send(rtr) = agreed.rtr {
            match rtr {
                Rtr::Write => self.message(&Header::write(NO_STAG, 0), &[]),
                Rtr::Send => {
                    let header = Header::send(self.next_msn(0), false, None);
                    self.message(&header, &[]);
                }
                Rtr::Read => {
                    let expect = Expect::Read {
                        stag: NO_STAG,
                        to: 0,
                        size: 0,
                    };
                    self.reads.push(expect, u64::MAX).unwrap();
                    self.read_request(ReadRequest {
                        sink_stag: NO_STAG,
                        sink_to: 0,
                        size: 0,
                        source_stag: NO_STAG,
                        source_to: 0,
                    });
                }
            }
        }
    }

    /// Sends what may be sent.
    fn transmit(&mut self) {
        if !matches!(self.phase, Phase::Rdma) || (!self.initiator && !self.rx.has_started()) {
            return;
        }
        while let Some(work) = self.work.front().cloned() {
            match work {
                Work::Send(data, se, inv) => {
                    let header = Header::send(self.next_msn(0), se, inv);
                    self.message(&header, &data);
                    self.completed += 1;
                }
                Work::Write(off, data) => {
                    self.message(&Header::write(STAG, BASE + off as u64), &data);
                    self.completed += 1;
                }
                Work::RawWrite(stag, to, len) => {
                    self.message(&Header::write(stag, to), &vec![0; len]);
                    self.completed += 1;
                }
                Work::Read(..) | Work::RawRead(..) => {
                    if !self.reads.has_room() {
                        return;
                    }
                    let (stag, from, to, size) = match work {
                        Work::Read(from, to, len) => {
                            (STAG, BASE + from as u64, to as u64, len as u32)
                        }
                        Work::RawRead(stag, from, size) => (stag, from, 0, size),
                        _ => unreachable!(),
                    };
                    let expect = Expect::Read {
                        stag: STAG,
                        to: BASE + to,
                        size,
                    };
                    self.reads.push(expect, 0).unwrap();
                    self.read_request(ReadRequest {
                        sink_stag: STAG,
                        sink_to: BASE + to,
                        size,
                        source_stag: stag,
                        source_to: from,
                    });
                }
            }
            self.work.pop_front();
        }
    }

    fn start(&mut self, s: &Segment) -> Result<(), TermError> {
        let rtr = self.agreed.is_some_and(|a| a.rtr.is_indication(s));
        if self.first && rtr {
            self.rtr_seen = true;
            self.place = Place::Nowhere;
            return Ok(());
        }
        self.place = match (s.op, s.target) {
            (Opcode::Write, Target::Tagged { stag, to }) => {
                if s.len != 0 && stag != STAG {
                    return Err(TermError::DDP_INVALID_STAG);
                }
                let off = self
                    .region
                    .check(Access::RemoteWrite, to, s.len.into())
                    .map_err(|d| d.tagged())?;
                Place::Memory(off as usize)
            }
            (Opcode::ReadResponse, Target::Tagged { stag, to }) => {
                self.reads.response(stag, to, s.len, s.last)?;
                let off = self
                    .region
                    .check(Access::LocalWrite, to, s.len.into())
                    .map_err(|d| d.tagged())?;
                Place::Memory(off as usize)
            }
            (_, Target::Untagged { mo, .. }) => {
                let room = self.receives.front().ok_or(TermError::DDP_NO_BUFFER)?;
                if (mo + s.len) as usize > *room {
                    return Err(TermError::DDP_TOO_LONG);
                }
                Place::Receive
            }
            _ => unreachable!(),
        };
        Ok(())
    }

    fn end(&mut self, s: &Segment, m: Option<Message>) -> Result<(), TermError> {
        let first = std::mem::replace(&mut self.first, false);
        match m {
            None | Some(Message::Write) => (),
            Some(Message::ReadResponse) => {
                let order = self.reads.complete().unwrap();
                if order.cookie == 0 {
                    self.completed += 1;
                }
            }
            Some(Message::Send {
                length,
                solicited,
                invalidate,
                ..
            }) => {
                if first && self.rtr_seen {
                    return Ok(());
                }
                let data = std::mem::take(&mut self.incoming);
                assert_eq!(data.len(), length as usize);
                self.receives.pop_front().unwrap();
                self.received.push((data, solicited, invalidate));
            }
            Some(Message::ReadRequest { msn, request: r }) => {
                if first && self.agreed.is_some_and(|a| a.rtr.is_indication(s)) {
                    self.rtr_seen = true;
                }
                self.inbound.admit()?;
                let found = if r.size == 0 {
                    Ok(0)
                } else if r.source_stag != STAG {
                    Err(TermError::RDMAP_INVALID_STAG)
                } else {
                    self.region
                        .check(Access::RemoteRead, r.source_to, r.size.into())
                        .map_err(|d| d.request())
                };
                match found {
                    Ok(off) => {
                        let data = self.mem[off as usize..][..r.size as usize].to_vec();
                        self.message(&Header::read_response(r.sink_stag, r.sink_to), &data);
                        self.inbound.retire();
                    }
                    Err(e) => {
                        let culprit = Culprit::read_request(msn.get(), r);
                        self.terminate(e, TerminateBody::build(e, Some(&culprit)));
                    }
                }
            }
            Some(Message::Terminate(t)) => {
                self.term_got = Some(t.error);
                self.phase = Phase::Dead;
            }
            other => panic!("{other:?}"),
        }
        Ok(())
    }

    /// Takes bytes from the stream.
    fn receive(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.phase {
                Phase::Dead => return,
                Phase::Mpa(mpa) => {
                    let want = mpa.want();
                    let n = want.len().min(bytes.len());
                    want[..n].copy_from_slice(&bytes[..n]);
                    bytes = &bytes[n..];
                    let Some(frame) = mpa.filled(n).unwrap() else {
                        continue;
                    };
                    self.peer_data = mpa.private_data().to_vec();
                    if self.initiator {
                        match self.wishes.judge_reply(&frame).unwrap() {
                            Verdict::Accepted(agreed) => self.begin_rdma(agreed),
                            Verdict::Rejected(_) => self.phase = Phase::Dead,
                            Verdict::Terminate(e, agreed) => {
                                self.tx = FpduEncoder::new(agreed.crc, agreed.tx_markers);
                                self.terminate(e, TerminateBody::build(e, None));
                            }
                        }
                    } else {
                        let mut buf = [0; MAX_FRAME_LEN];
                        let (n, agreed) = Offer::new(&frame)
                            .accept(&self.wishes, b"from the responder", &mut buf)
                            .unwrap();
                        self.out.extend(&buf[..n]);
                        self.begin_rdma(agreed);
                    }
                }
                Phase::Rdma => {
                    let event = match self.rx.want() {
                        Want::Control(buf) => {
                            let n = buf.len().min(bytes.len());
                            buf[..n].copy_from_slice(&bytes[..n]);
                            bytes = &bytes[n..];
                            self.rx.filled::<Crc>(n)
                        }
                        Want::Payload(p) => {
                            let n = bytes.len().min(p.remaining as usize);
                            match self.place {
                                Place::Nowhere => panic!("payload for nobody"),
                                Place::Memory(off) => self.mem[off + p.placed as usize..][..n]
                                    .copy_from_slice(&bytes[..n]),
                                Place::Receive => self.incoming.extend(&bytes[..n]),
                            }
                            let crc = Crc::crc32c(self.rx.crc(), &bytes[..n]);
                            bytes = &bytes[n..];
                            self.rx.placed(n as u32, crc);
                            Ok(Event::None)
                        }
                        Want::Nothing => return,
                    };
                    let result = match event {
                        Ok(Event::None) => Ok(()),
                        Ok(Event::Start(s)) => self.start(&s),
                        Ok(Event::End(s, m)) => self.end(&s, m),
                        Err(e) => Err(e),
                    };
                    if let Err(e) = result {
                        let body = self.rx.fail(e);
                        self.terminate(e, body);
                    }
                }
            }
        }
    }
}

/// Runs two endpoints until nothing moves. `limits`: bytes that each may send before the connection
/// is lost in that direction.
fn run(a: &mut Endpoint, b: &mut Endpoint, reads: &[usize], limits: [usize; 2]) {
    let mut sizes = reads.iter().cycle();
    loop {
        a.transmit();
        b.transmit();
        let mut moved = false;
        for dir in 0..2 {
            let (from, to) = if dir == 0 {
                (&mut *a, &mut *b)
            } else {
                (&mut *b, &mut *a)
            };
            let n = (*sizes.next().unwrap())
                .min(from.out.len())
                .min(limits[dir] - from.sent);
            if n > 0 {
                let bytes: Vec<u8> = from.out.drain(..n).collect();
                from.sent += n;
                to.receive(&bytes);
                moved = true;
            }
        }
        if !moved {
            return;
        }
    }
}

const UNLIMITED: [usize; 2] = [usize::MAX; 2];

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
        prop_assert_eq!((a.completed, b.completed), (wa.len(), wb.len()));
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

/// The connection is lost at every byte, in either direction: what was delivered is what was said up
/// to there, in order.
#[test]
fn lost_at_every_byte() {
    for rtr in [Rtr::Send, Rtr::Write, Rtr::Read] {
        let wishes = Wishes {
            rtr: RtrSet::NONE.with(rtr),
            ..WISHES
        };
        let make = || {
            let [wa, wb] = conversation();
            (
                Endpoint::new(true, wishes, 300, wa, 0xaa),
                Endpoint::new(false, WISHES, 300, wb, 0xbb),
            )
        };
        let (mut a, mut b) = make();
        run(&mut a, &mut b, &[100], UNLIMITED);
        let full = [a.sent, b.sent];
        let all = [a.received.clone(), b.received.clone()];
        assert_eq!((a.completed, b.completed), (5, 5));
        for dir in 0..2 {
            for lost in 0..full[dir] {
                let mut limits = UNLIMITED;
                limits[dir] = lost;
                let (mut a, mut b) = make();
                run(&mut a, &mut b, &[100, 37], limits);
                for (ep, all) in [(&a, &all[0]), (&b, &all[1])] {
                    assert_eq!((ep.term_sent, ep.term_got), (None, None));
                    assert!(ep.received.len() <= all.len());
                    assert_eq!(ep.received[..], all[..ep.received.len()]);
                    assert!(ep.completed + ep.work.len() + ep.reads.len() <= 6);
                }
                if dir == 0 {
                    // Before its first FPDU the responder says nothing but the reply.
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
