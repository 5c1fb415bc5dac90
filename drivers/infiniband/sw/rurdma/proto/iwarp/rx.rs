// SPDX-License-Identifier: GPL-2.0

//! Receive: from a byte stream to RDMAP messages (RFC 5044 section 4, RFC 5041 sections 4 to 7,
//! RFC 5040 sections 4 to 7).
//!
//! The [`Receiver`] says what it wants of the stream and is told what it got; it never holds payload:
//!
//! ```text
//! loop {
//!     match rx.want() {
//!         Want::Control(buf) => { n = take up to buf.len() bytes into buf;
//!                                 event = rx.filled::<C>(n)?; act on event }
//!         Want::Payload(p)   => { n = take up to p.remaining bytes, place them, sum them;
//!                                 rx.placed(n, crc) }
//!         Want::Nothing      => break, drop what comes
//!     }
//! }
//! ```
//!
//! [`Event::Start`] comes before the payload of a segment, when its header was found to be good. That
//! is the moment to find the memory it goes to; if there is none, [`Receiver::fail`] ends the stream.
//! [`Event::End`] comes after the CRC was found to be good. Payload is placed before that: a
//! segment with a bad CRC may have changed the buffer that it addressed, as every RNIC with
//! cut-through placement does, but is never delivered.

#![forbid(unsafe_code)]

pub mod event;

pub use event::{Event, Message, Payload, RxConfig, Segment, Target};

use crate::proto::serial::Msn;
use crate::proto::wire::crc::{self, Crc32c};
use crate::proto::wire::ddp::{self, TaggedHdr, UntaggedHdr, TAGGED_LEN, UNTAGGED_LEN};
use crate::proto::wire::mpa::{self, FPDU_HDR_LEN};
use crate::proto::wire::rdmap::{
    AtomicRequest, AtomicRequestHdr, AtomicResponseHdr, Opcode, ReadRequest, ReadRequestHdr,
};
use crate::proto::wire::terminate::{
    Culprit, TermError, Terminate, TerminateBody, CONTROL_LEN, MAX_TERMINATE_LEN,
};
use zerocopy::FromBytes as _;

/// Bytes before the payload of a tagged segment.
const HEAD_TAGGED: usize = FPDU_HDR_LEN + TAGGED_LEN;
/// Bytes before the payload of an untagged segment.
const HEAD_UNTAGGED: usize = FPDU_HDR_LEN + UNTAGGED_LEN;
/// The longest body that is collected here: a Terminate or an Atomic Request, 52 bytes both.
const MAX_BODY: usize = MAX_TERMINATE_LEN;
/// Pad and CRC.
const MAX_TRAILER: usize = 3 + mpa::CRC_LEN;

/// What the receiver wants of the stream.
#[derive(Debug)]
pub enum Want<'a> {
    /// Bytes in this buffer, then [`Receiver::filled`].
    Control(&'a mut [u8]),
    /// Bytes in the memory of the segment, then [`Receiver::placed`].
    Payload(Payload),
    /// Nothing more; what comes is dropped.
    Nothing,
}

/// Where in an FPDU the stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the first [`HEAD_TAGGED`] bytes.
    Head,
    /// In the rest of an untagged header.
    UntaggedHead,
    /// In a body that is collected.
    Body,
    /// In payload that the caller places.
    Payload,
    /// In pad and CRC.
    Trailer,
    /// Past an error or a Terminate.
    Closed,
}

/// A message of which the last segment has not come yet.
#[derive(Clone, Copy, Debug)]
struct Partial {
    /// Its opcode.
    op: Opcode,
    /// Offset of the next segment (untagged).
    next_mo: u32,
}

/// Receive state of a stream.
#[derive(Debug)]
pub struct Receiver {
    /// What was negotiated.
    config: RxConfig,
    /// Where the stream stands.
    state: State,
    /// ULPDU_Length, DDP header, collected body.
    head: [u8; HEAD_UNTAGGED + MAX_BODY],
    /// Bytes in `head`, or in `trailer`.
    have: usize,
    /// Bytes that `head` or `trailer` shall have.
    need: usize,
    /// Pad and CRC.
    trailer: [u8; MAX_TRAILER],
    /// CRC so far.
    crc: u32,
    /// The current segment, from [`State::Body`] on.
    segment: Segment,
    /// Of its payload: what has been placed.
    placed: u32,
    /// STag to invalidate of the current segment.
    inv_stag: u32,
    /// The message that is not complete.
    partial: Option<Partial>,
    /// Length of the RDMA Write that was the peer's last operation, or 0.
    written: u32,
    /// The next number of each queue.
    msn: [Msn; ddp::QUEUES],
    /// Whether an FPDU has been received.
    started: bool,
}

impl Receiver {
    /// A receiver at the start of the stream of FPDUs.
    pub const fn new(config: RxConfig) -> Self {
        Receiver {
            config,
            state: State::Head,
            head: [0; HEAD_UNTAGGED + MAX_BODY],
            have: 0,
            need: HEAD_TAGGED,
            trailer: [0; MAX_TRAILER],
            crc: crc::SEED,
            segment: Segment {
                op: Opcode::Write,
                target: Target::Tagged { stag: 0, to: 0 },
                len: 0,
                first: true,
                last: true,
            },
            placed: 0,
            inv_stag: 0,
            partial: None,
            written: 0,
            msn: [Msn::FIRST; ddp::QUEUES],
            started: false,
        }
    }

    /// Whether an FPDU has been received and found good. Before that, an MPA responder sends nothing
    /// (RFC 5044 section 7.1.2 rule 4).
    pub fn has_started(&self) -> bool {
        self.started
    }

    /// Whether the stream stands between two FPDUs: it may end here.
    pub fn is_between_fpdus(&self) -> bool {
        self.state == State::Head && self.have == 0
    }

    /// Whether the stream stands between two messages.
    pub fn is_between_messages(&self) -> bool {
        self.is_between_fpdus() && self.partial.is_none()
    }

    /// Whether the stream is over: an error or a Terminate.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// The CRC so far, which the caller continues over payload that it places.
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// Whether payload has to be summed.
    pub fn wants_crc(&self) -> bool {
        self.config.crc
    }

    /// What is wanted of the stream next.
    pub fn want(&mut self) -> Want<'_> {
        match self.state {
            State::Head | State::UntaggedHead | State::Body => {
                Want::Control(self.head.get_mut(self.have..self.need).unwrap_or_default())
            }
            State::Trailer => Want::Control(
                self.trailer
                    .get_mut(self.have..self.need)
                    .unwrap_or_default(),
            ),
            State::Payload => Want::Payload(Payload {
                segment: self.segment,
                placed: self.placed,
                remaining: self.segment.len.saturating_sub(self.placed),
            }),
            State::Closed => Want::Nothing,
        }
    }

    /// `n` bytes of [`Want::Control`] are there. After an error the stream is over: call
    /// [`Self::fail`] for the Terminate to send.
    pub fn filled<C: Crc32c>(&mut self, n: usize) -> Result<Event, TermError> {
        self.have = self.have.saturating_add(n).min(self.need);
        if self.have < self.need {
            return Ok(Event::None);
        }
        let result = match self.state {
            State::Head => self.end_of_head::<C>(),
            State::UntaggedHead => self.end_of_untagged_head::<C>(),
            State::Body => {
                self.sum_head::<C>(HEAD_UNTAGGED);
                self.begin_trailer();
                Ok(Event::None)
            }
            State::Trailer => self.end_of_fpdu::<C>(),
            State::Payload | State::Closed => Ok(Event::None),
        };
        if result.is_err() {
            self.state = State::Closed;
        }
        result
    }

    /// `n` bytes of [`Want::Payload`] were placed; `crc` is [`Self::crc`] continued over them.
    pub fn placed(&mut self, n: u32, crc: u32) {
        if self.state != State::Payload {
            return;
        }
        self.placed = self.placed.saturating_add(n).min(self.segment.len);
        self.crc = crc;
        if self.placed == self.segment.len {
            self.begin_trailer();
        }
    }

    /// Ends the stream because of `error`, found here or by the caller, in the current segment.
    /// Returns the Terminate to send.
    pub fn fail(&mut self, error: TermError) -> TerminateBody {
        self.state = State::Closed;
        TerminateBody::build(error, self.culprit().as_ref())
    }

    /// The current segment (or that of the last [`Event::End`]), for a Terminate.
    pub fn culprit(&self) -> Option<Culprit> {
        let len = u16::from_be_bytes(*self.head.first_chunk()?);
        let hdr = self.head.get(FPDU_HDR_LEN..)?;
        let tagged = hdr.first()? & ddp::TAGGED != 0;
        let hdr_len = if tagged { TAGGED_LEN } else { UNTAGGED_LEN };
        let read = if !tagged && self.segment.op == Opcode::ReadRequest {
            let body = self.head.get(HEAD_UNTAGGED..)?;
            let (hdr, _) = ReadRequestHdr::ref_from_prefix(body).ok()?;
            Some(ReadRequest::from(hdr))
        } else {
            None
        };
        Culprit::new(hdr.get(..hdr_len)?, len, read)
    }

    /// Continues the CRC over `head` from `from` on.
    fn sum_head<C: Crc32c>(&mut self, from: usize) {
        if self.config.crc {
            let bytes = self.head.get(from..self.need).unwrap_or_default();
            self.crc = C::crc32c(self.crc, bytes);
        }
    }

    /// Pad and CRC are next.
    fn begin_trailer(&mut self) {
        self.state = State::Trailer;
        self.have = 0;
        self.need = mpa::pad_len(self.ulpdu_len()) + mpa::CRC_LEN;
    }

    /// ULPDU_Length.
    fn ulpdu_len(&self) -> u16 {
        self.head
            .first_chunk()
            .map_or(0, |b| u16::from_be_bytes(*b))
    }

    /// The first bytes are there, which all segments have: versions, opcode, length.
    fn end_of_head<C: Crc32c>(&mut self) -> Result<Event, TermError> {
        // A segment that is not parsed to the end yet must not look like an earlier read request.
        self.segment.op = Opcode::Write;
        let Ok((hdr, _)) =
            TaggedHdr::read_from_prefix(self.head.get(FPDU_HDR_LEN..).unwrap_or(&[]))
        else {
            return Err(TermError::DDP_CATASTROPHIC);
        };
        let tagged = hdr.ddp & ddp::TAGGED != 0;
        if hdr.ddp & ddp::VERSION_MASK != ddp::VERSION {
            return Err(if tagged {
                TermError::DDP_TAGGED_VERSION
            } else {
                TermError::DDP_UNTAGGED_VERSION
            });
        }
        if hdr.rdmap & ddp::RDMAP_VERSION_MASK != ddp::RDMAP_VERSION {
            return Err(TermError::RDMAP_VERSION);
        }
        let op = Opcode::from_control(hdr.rdmap)
            .filter(|op| op.is_tagged() == tagged)
            .filter(|op| self.config.rfc7306 || !op.is_extension())
            .ok_or(TermError::RDMAP_OPCODE)?;
        let hdr_len = if tagged { TAGGED_LEN } else { UNTAGGED_LEN };
        // An ULPDU that does not hold its own header: neither RFC has a code for it.
        let len = usize::from(self.ulpdu_len())
            .checked_sub(hdr_len)
            .ok_or(TermError::DDP_CATASTROPHIC)?;
        // Messages of one stream do not interleave (RFC 5041 section 5.3: segments are sent in
        // order, messages in order).
        if self.partial.is_some_and(|p| p.op != op) {
            return Err(TermError::RDMAP_OPCODE);
        }
        self.segment = Segment {
            op,
            target: Target::Tagged {
                stag: hdr.stag.get(),
                to: hdr.to.get(),
            },
            len: len as u32,
            first: self.partial.is_none(),
            last: hdr.ddp & ddp::LAST != 0,
        };
        if !tagged {
            self.state = State::UntaggedHead;
            self.need = HEAD_UNTAGGED;
            return Ok(Event::None);
        }
        self.crc = crc::SEED;
        self.sum_head::<C>(0);
        Ok(self.begin_payload())
    }

    /// The rest of an untagged header is there.
    fn end_of_untagged_head<C: Crc32c>(&mut self) -> Result<Event, TermError> {
        let bytes = self.head.get(FPDU_HDR_LEN..).unwrap_or(&[]);
        let Ok((hdr, _)) = UntaggedHdr::read_from_prefix(bytes) else {
            return Err(TermError::DDP_CATASTROPHIC);
        };
        let op = self.segment.op;
        let qn = hdr.qn.get();
        if op.queue() != Some(qn) {
            return Err(TermError::DDP_INVALID_QN);
        }
        let msn = Msn::new(hdr.msn.get());
        let expected = self.msn.get(qn as usize).copied();
        if expected != Some(msn) {
            return Err(TermError::DDP_MSN_RANGE);
        }
        let mo = hdr.mo.get();
        if mo != self.partial.map_or(0, |p| p.next_mo) {
            return Err(TermError::DDP_INVALID_MO);
        }
        if mo.checked_add(self.segment.len).is_none() {
            return Err(TermError::DDP_TOO_LONG);
        }
        self.segment.target = Target::Untagged { qn, msn, mo };
        self.inv_stag = hdr.inv_stag.get();
        self.crc = crc::SEED;
        self.sum_head::<C>(0);
        if op.is_send() {
            return Ok(self.begin_payload());
        }

        // A body that is nothing but a header, in one segment, collected here.
        let len = self.segment.len as usize;
        let good = match op.fixed_body() {
            Some(fixed) if len > fixed => return Err(TermError::DDP_TOO_LONG),
            Some(fixed) => len == fixed,
            None if len > MAX_BODY => return Err(TermError::DDP_TOO_LONG),
            None => len >= CONTROL_LEN,
        };
        if !good || !self.segment.last {
            return Err(TermError::RDMAP_OPERATION);
        }
        self.state = State::Body;
        self.need = HEAD_UNTAGGED + len;
        Ok(Event::None)
    }

    /// The header is good, payload for the caller is next.
    fn begin_payload(&mut self) -> Event {
        self.placed = 0;
        if self.segment.len == 0 {
            self.begin_trailer();
        } else {
            self.state = State::Payload;
        }
        Event::Start(self.segment)
    }

    /// The last byte of the FPDU is there.
    fn end_of_fpdu<C: Crc32c>(&mut self) -> Result<Event, TermError> {
        let trailer = self.trailer.get(..self.need).unwrap_or_default();
        if self.config.crc {
            let (pad, crc) = trailer
                .split_last_chunk::<{ mpa::CRC_LEN }>()
                .ok_or(TermError::MPA_CRC)?;
            if *crc != crc::to_wire(C::crc32c(self.crc, pad)) {
                return Err(TermError::MPA_CRC);
            }
        }
        self.started = true;
        let segment = self.segment;
        self.partial = if segment.last {
            None
        } else {
            let next_mo = match segment.target {
                Target::Untagged { mo, .. } => mo.saturating_add(segment.len),
                Target::Tagged { .. } => 0,
            };
            Some(Partial {
                op: segment.op,
                next_mo,
            })
        };
        if segment.op == Opcode::Write {
            let before = if segment.first { 0 } else { self.written };
            self.written = before.saturating_add(segment.len);
        }
        self.state = State::Head;
        self.have = 0;
        self.need = HEAD_TAGGED;
        if !segment.last {
            return Ok(Event::End(segment, None));
        }
        if let Target::Untagged { qn, .. } = segment.target {
            if let Some(next) = self.msn.get_mut(qn as usize) {
                *next = next.next();
            }
        }
        let message = self.message(&segment)?;
        match message {
            Message::Terminate(_) => self.state = State::Closed,
            // Answers are no operations of the peer's: they may come between a Write and its
            // Immediate Data.
            Message::Write | Message::ReadResponse | Message::AtomicResponse { .. } => (),
            _ => self.written = 0,
        }
        Ok(Event::End(segment, Some(message)))
    }

    /// The message whose last segment is `segment`.
    fn message(&self, segment: &Segment) -> Result<Message, TermError> {
        let body = self
            .head
            .get(HEAD_UNTAGGED..HEAD_UNTAGGED + (segment.len as usize).min(MAX_BODY))
            .unwrap_or_default();
        let Target::Untagged { msn, mo, .. } = segment.target else {
            return Ok(if segment.op == Opcode::Write {
                Message::Write
            } else {
                Message::ReadResponse
            });
        };
        // The lengths were checked with the header.
        let broken = TermError::RDMAP_OPERATION;
        Ok(match segment.op {
            Opcode::ReadRequest => {
                let (hdr, _) = ReadRequestHdr::ref_from_prefix(body).map_err(|_| broken)?;
                Message::ReadRequest {
                    msn,
                    request: hdr.into(),
                }
            }
            Opcode::Terminate => Message::Terminate(Terminate::parse(body).ok_or(broken)?),
            Opcode::Immediate | Opcode::ImmediateSe => Message::Immediate {
                msn,
                data: *body.first_chunk().ok_or(broken)?,
                written: self.written,
                solicited: segment.op.is_solicited(),
            },
            Opcode::AtomicRequest => {
                let (hdr, _) = AtomicRequestHdr::ref_from_prefix(body).map_err(|_| broken)?;
                Message::AtomicRequest {
                    msn,
                    // An AOpCode that does not exist.
                    request: AtomicRequest::from_hdr(hdr).ok_or(TermError::RDMAP_OPCODE)?,
                }
            }
            Opcode::AtomicResponse => {
                let (hdr, _) = AtomicResponseHdr::ref_from_prefix(body).map_err(|_| broken)?;
                Message::AtomicResponse {
                    msn,
                    request_id: hdr.request_id.get(),
                    original: hdr.original.get(),
                }
            }
            _ => Message::Send {
                msn,
                length: mo.saturating_add(segment.len),
                solicited: segment.op.is_solicited(),
                invalidate: segment.op.is_invalidate().then_some(self.inv_stag),
            },
        })
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_rx))]
mod tests {
    use super::*;
    use crate::proto::iwarp::tx::{FpduEncoder, Header};
    use crate::proto::wire::crc::Bitwise;

    /// Feeds bytes one by one. Returns the last event that was one, and the payload's sum of bytes.
    fn feed(rx: &mut Receiver, bytes: &[u8]) -> (Result<Event, TermError>, u32) {
        let (mut last, mut sum) = (Ok(Event::None), 0);
        for b in bytes {
            match rx.want() {
                Want::Control(buf) => {
                    if let Some(first) = buf.first_mut() {
                        *first = *b;
                    }
                    match rx.filled::<Bitwise>(1) {
                        Ok(Event::None) => (),
                        other => last = other,
                    }
                }
                Want::Payload(_) => {
                    sum += u32::from(*b);
                    let crc = Bitwise::crc32c(rx.crc(), &[*b]);
                    rx.placed(1, crc);
                }
                Want::Nothing => break,
            }
        }
        (last, sum)
    }

    const CONFIG: RxConfig = RxConfig {
        crc: true,
        rfc7306: false,
    };

    #[test]
    fn a_send_arrives() {
        let mut buf = [0; 64];
        let header = Header::send(Msn::FIRST, true, Some(0x1234));
        let n = FpduEncoder::new(true, false)
            .control::<Bitwise>(&mut buf, &header, &[3; 21])
            .unwrap();
        let mut rx = Receiver::new(CONFIG);
        let (event, sum) = feed(&mut rx, &buf[..n]);
        assert_eq!(sum, 63);
        let expected = Message::Send {
            msn: Msn::FIRST,
            length: 21,
            solicited: true,
            invalidate: Some(0x1234),
        };
        assert!(matches!(event, Ok(Event::End(_, Some(m))) if m == expected));
        assert!(rx.has_started() && rx.is_between_messages());
        // The same once more has a number that was used.
        assert_eq!(feed(&mut rx, &buf[..n]).0, Err(TermError::DDP_MSN_RANGE));
        assert!(rx.is_closed());
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let mut buf = [0; 64];
        let n = FpduEncoder::new(true, false)
            .control::<Bitwise>(&mut buf, &Header::write(1, 2), &[7; 30])
            .unwrap();
        buf[20] ^= 4;
        let mut rx = Receiver::new(CONFIG);
        assert_eq!(feed(&mut rx, &buf[..n]).0, Err(TermError::MPA_CRC));
        assert_eq!(rx.fail(TermError::MPA_CRC).as_bytes(), [0x20, 2, 0, 0]);
    }
}
