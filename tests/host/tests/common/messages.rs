// SPDX-License-Identifier: GPL-2.0

//! RDMAP messages as one end says them, and as the other end hears them.

use super::common::Crc;
use rurdma_host_tests::proto::iwarp::rx::{
    Event, Message, Receiver, RxConfig, Segment, Target, Want,
};
use rurdma_host_tests::proto::iwarp::tx::{FpduEncoder, Header, Segmenter};
use rurdma_host_tests::proto::serial::Msn;
use rurdma_host_tests::proto::wire::crc::Crc32c as _;
use rurdma_host_tests::proto::wire::rdmap::{
    AtomicRequest, AtomicResponseHdr, ReadRequest, ReadRequestHdr,
};
use rurdma_host_tests::proto::wire::terminate::{TermError, TerminateBody};
use zerocopy::IntoBytes as _;

/// What one end says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Msg {
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
pub(crate) fn encode(
    msgs: &[Msg],
    mulpdu: u16,
    enc: &mut FpduEncoder,
) -> (Vec<u8>, Vec<usize>, Vec<usize>) {
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
pub(crate) struct Sink {
    /// What is tested.
    pub(crate) rx: Receiver,
    /// Payload of the message that is coming.
    data: Vec<u8>,
    /// Where its first byte goes.
    at: Option<Target>,
    segment: Option<Segment>,
    /// What it made of the bytes.
    pub(crate) got: Vec<Msg>,
}

impl Sink {
    pub(crate) fn new(crc: bool) -> Self {
        Sink {
            rx: Receiver::new(RxConfig { crc, rfc7306: true }),
            data: Vec::new(),
            at: None,
            segment: None,
            got: Vec::new(),
        }
    }

    /// Takes bytes as they come. Returns the bytes that were wanted.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<usize, TermError> {
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
