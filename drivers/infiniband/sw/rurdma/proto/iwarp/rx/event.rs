// SPDX-License-Identifier: GPL-2.0

//! What the receiver is told once, and what it reports.

#![forbid(unsafe_code)]

use crate::proto::serial::Msn;
use crate::proto::wire::rdmap::{AtomicRequest, Opcode, ReadRequest};
use crate::proto::wire::terminate::Terminate;

/// What was negotiated.
#[derive(Clone, Copy, Debug)]
pub struct RxConfig {
    /// Check CRCs.
    pub crc: bool,
    /// Accept the messages of RFC 7306.
    pub rfc7306: bool,
}

/// Where a segment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A tagged buffer.
    Tagged {
        /// The buffer.
        stag: u32,
        /// Tagged offset of the segment.
        to: u64,
    },
    /// An untagged buffer.
    Untagged {
        /// Queue.
        qn: u32,
        /// Message in the queue.
        msn: Msn,
        /// Offset of the segment in the message.
        mo: u32,
    },
}

/// A segment with a good header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Of which message.
    pub op: Opcode,
    /// Where it goes.
    pub target: Target,
    /// Bytes of payload.
    pub len: u32,
    /// Whether it is the first segment of its message.
    pub first: bool,
    /// Whether it is the last one.
    pub last: bool,
}

/// A message that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// RDMA Write: nothing is left to do.
    Write,
    /// RDMA Read Response: the oldest read is done.
    ReadResponse,
    /// A Send of any kind.
    Send {
        /// Its number.
        msn: Msn,
        /// Its length.
        length: u32,
        /// Whether it asks for a solicited event.
        solicited: bool,
        /// The STag to invalidate.
        invalidate: Option<u32>,
    },
    /// RDMA Read Request.
    ReadRequest {
        /// Its number.
        msn: Msn,
        /// What to read.
        request: ReadRequest,
    },
    /// Terminate: the stream is over.
    Terminate(Terminate),
    /// Immediate Data (RFC 7306).
    Immediate {
        /// Its number.
        msn: Msn,
        /// The data.
        data: [u8; 8],
        /// Length of the RDMA Write that it is about: the operation of the peer that came directly
        /// before it. 0 if that was none.
        written: u32,
        /// Whether it asks for a solicited event.
        solicited: bool,
    },
    /// Atomic Request (RFC 7306).
    AtomicRequest {
        /// Its number.
        msn: Msn,
        /// What to do.
        request: AtomicRequest,
    },
    /// Atomic Response (RFC 7306).
    AtomicResponse {
        /// Its number.
        msn: Msn,
        /// Of the request.
        request_id: u32,
        /// What was there before.
        original: u64,
    },
}

/// What [`Receiver::filled`] has to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing yet.
    None,
    /// The payload of this segment is next. It may be empty. Not reported for messages whose body
    /// is collected here.
    Start(Segment),
    /// A segment is complete and correct; with it, perhaps, a message.
    End(Segment, Option<Message>),
}

/// Payload that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Of this segment.
    pub segment: Segment,
    /// How much of it has been placed.
    pub placed: u32,
    /// How much has not.
    pub remaining: u32,
}
