// SPDX-License-Identifier: GPL-2.0

//! A transport in miniature, which shows how the parts of `proto::iwarp` are meant to be used together,
//! and a stream between two of them.

use super::common::Crc;
use rurdma_host_tests::proto::access::{Access, Region, Rights};
use rurdma_host_tests::proto::iwarp::cm_events::{CmEvents, Upcall};
use rurdma_host_tests::proto::iwarp::mpa_rx::{Kind, MpaRx};
use rurdma_host_tests::proto::iwarp::negotiate::{Agreed, Offer, Rtr, RtrPlan, Verdict, Wishes};
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

pub(super) const MEM: usize = 4096;
pub(super) const STAG: u32 = 0xabcd_1200;
pub(super) const BASE: u64 = 0x7000;
/// The STag of RTR messages, which address nothing.
const NO_STAG: u32 = 0;
/// In place of a work request's number: an RTR Read, which nobody posted.
pub(super) const RTR: u64 = u64::MAX;

/// A work request.
#[derive(Clone, Debug)]
pub(super) enum Work {
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

/// A message that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Complete {
    Send,
    Write,
    ReadRequest,
    /// To the work request with this number.
    ReadResponse(u64),
}

pub(super) struct Endpoint {
    wishes: Wishes,
    pub(super) initiator: bool,
    emss: u32,
    phase: Phase,
    pub(super) agreed: Option<Agreed>,
    pub(super) peer_data: Vec<u8>,
    pub(super) rx: Receiver,
    tx: FpduEncoder,
    pub(super) out: VecDeque<u8>,
    pub(super) sent: usize,
    pub(super) mem: Vec<u8>,
    pub(super) region: Region,
    pub(super) receives: VecDeque<usize>,
    incoming: Vec<u8>,
    place: Place,
    first: bool,
    pub(super) rtr_seen: bool,
    /// With their numbers.
    pub(super) work: VecDeque<(u64, Work)>,
    pub(super) reads: OutboundReads<Vec<Order>>,
    /// The read that is being answered.
    answered: Option<Order>,
    inbound: InboundReads,
    msn: [Msn; 2],
    pub(super) received: Vec<(Vec<u8>, bool, Option<u32>)>,
    /// Work requests that completed, well or not.
    pub(super) done: Vec<u64>,
    pub(super) flushed: Vec<u64>,
    /// Bytes of the stream that were taken; which message was complete with which of them, and which
    /// of them went where.
    taken: usize,
    pub(super) messages: Vec<(usize, Complete)>,
    pub(super) placed: Vec<(usize, usize, u8)>,
    events: CmEvents,
    pub(super) told: Vec<Upcall>,
    pub(super) term_sent: Option<TermError>,
    pub(super) term_got: Option<TermError>,
}

impl Endpoint {
    pub(super) fn new(
        initiator: bool,
        wishes: Wishes,
        emss: u32,
        work: Vec<Work>,
        fill: u8,
    ) -> Self {
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
            work: (0..).zip(work).collect(),
            reads: OutboundReads::new(vec![Order::EMPTY; 16], 0),
            answered: None,
            inbound: InboundReads::new(0),
            msn: [Msn::FIRST; 2],
            received: Vec::new(),
            done: Vec::new(),
            flushed: Vec::new(),
            taken: 0,
            messages: Vec::new(),
            placed: Vec::new(),
            events: CmEvents::new(),
            told: Vec::new(),
            term_sent: None,
            term_got: None,
        };
        if initiator {
            assert!(ep.events.promise_connect());
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
        // A responder that expects an RTR is not up before it.
        if !matches!(agreed.rtr, RtrPlan::Expect(_)) {
            self.events.up();
        }
        self.tell();
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
                    self.reads.push(expect, RTR).unwrap();
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

    fn tell(&mut self) {
        while let Some(upcall) = self.events.next() {
            self.told.push(upcall);
        }
    }

    /// The stream ended, and all before that was taken: what `cm/conn.rs` and the flush of a QP do then.
    pub(super) fn closed(&mut self) {
        if let Phase::Rdma = self.phase {
            self.events.closing();
            self.tell();
        }
        self.phase = Phase::Dead;
        self.events.gone();
        self.tell();
        for _ in 0..self.reads.len() {
            let number = self.reads.complete().unwrap().cookie;
            if number != RTR {
                self.flushed.push(number);
            }
        }
        self.flushed.extend(self.work.drain(..).map(|(n, _)| n));
    }

    /// Sends what may be sent.
    fn transmit(&mut self) {
        if !matches!(self.phase, Phase::Rdma) || (!self.initiator && !self.rx.has_started()) {
            return;
        }
        while let Some((number, work)) = self.work.front().cloned() {
            match work {
                Work::Send(data, se, inv) => {
                    let header = Header::send(self.next_msn(0), se, inv);
                    self.message(&header, &data);
                    self.done.push(number);
                }
                Work::Write(off, data) => {
                    self.message(&Header::write(STAG, BASE + off as u64), &data);
                    self.done.push(number);
                }
                Work::RawWrite(stag, to, len) => {
                    self.message(&Header::write(stag, to), &vec![0; len]);
                    self.done.push(number);
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
                    self.reads.push(expect, number).unwrap();
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
                let mut order = match self.answered {
                    Some(order) => order,
                    None => *self.reads.oldest().ok_or(TermError::RDMAP_OPCODE)?,
                };
                order.response(stag, to, s.len, s.last)?;
                self.answered = (!s.last).then_some(order);
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
        self.events.up();
        self.tell();
        match m {
            None => (),
            Some(Message::Write) => self.messages.push((self.taken, Complete::Write)),
            Some(Message::ReadResponse) => {
                let number = self.reads.complete().unwrap().cookie;
                let message = Complete::ReadResponse(number);
                self.messages.push((self.taken, message));
                if number != RTR {
                    self.done.push(number);
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
                self.messages.push((self.taken, Complete::Send));
                let data = std::mem::take(&mut self.incoming);
                assert_eq!(data.len(), length as usize);
                self.receives.pop_front().unwrap();
                self.received.push((data, solicited, invalidate));
            }
            Some(Message::ReadRequest { msn, request: r }) => {
                self.messages.push((self.taken, Complete::ReadRequest));
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
                    self.taken += n;
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
                        assert!(self.events.promise_accept());
                        self.begin_rdma(agreed);
                    }
                }
                Phase::Rdma => {
                    let event = match self.rx.want() {
                        Want::Control(buf) => {
                            let n = buf.len().min(bytes.len());
                            buf[..n].copy_from_slice(&bytes[..n]);
                            bytes = &bytes[n..];
                            self.taken += n;
                            self.rx.filled::<Crc>(n)
                        }
                        Want::Payload(p) => {
                            let n = bytes.len().min(p.remaining as usize);
                            match self.place {
                                Place::Nowhere => panic!("payload for nobody"),
                                Place::Memory(off) => {
                                    let off = off + p.placed as usize;
                                    self.mem[off..][..n].copy_from_slice(&bytes[..n]);
                                    let log = |i| (self.taken + i + 1, off + i, bytes[i]);
                                    self.placed.extend((0..n).map(log));
                                }
                                Place::Receive => self.incoming.extend(&bytes[..n]),
                            }
                            let crc = Crc::crc32c(self.rx.crc(), &bytes[..n]);
                            bytes = &bytes[n..];
                            self.taken += n;
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
pub(super) fn run(a: &mut Endpoint, b: &mut Endpoint, reads: &[usize], limits: [usize; 2]) {
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

pub(super) const UNLIMITED: [usize; 2] = [usize::MAX; 2];
