// SPDX-License-Identifier: GPL-2.0

//! Read and atomic requests in flight.
//!
//! Inbound: at most IRD of them wait or are being answered (RFC 5040 section 3.3; RFC 7306
//! section 5.2 lets atomics share the depth, and section 5.2.2 rule 4 is met because it is negotiated for
//! both together). Outbound: at most ORD, answered in the order in which
//! they were sent (RFC 5040 section 5.5).

#![forbid(unsafe_code)]

use crate::proto::wire::rdmap::{AtomicRequest, ReadRequest};
use crate::proto::wire::terminate::TermError;
use core::ops::DerefMut;

/// A request of the peer that has to be answered, in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// RDMA Read Request.
    Read(ReadRequest),
    /// Atomic Request.
    Atomic(AtomicRequest),
}

/// Counts inbound requests against the inbound read queue depth.
#[derive(Clone, Debug)]
pub struct InboundReads {
    /// The depth.
    ird: u32,
    /// Requests that are not answered.
    used: u32,
}

impl InboundReads {
    /// A queue that takes `ird` requests.
    pub const fn new(ird: u32) -> Self {
        InboundReads { ird, used: 0 }
    }

    /// A request has come. If the peer exceeds the depth that it was granted, there is no untagged
    /// buffer for it in queue 1 (RFC 5041 section 7.1).
    pub fn admit(&mut self) -> Result<(), TermError> {
        if self.used >= self.ird {
            return Err(TermError::DDP_NO_BUFFER);
        }
        self.used += 1;
        Ok(())
    }

    /// The last segment of a response was handed to the stream.
    pub fn retire(&mut self) {
        self.used = self.used.saturating_sub(1);
    }

    /// Requests that are not answered.
    pub const fn in_flight(&self) -> u32 {
        self.used
    }
}

/// What an outbound request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// A read response.
    Read {
        /// Sink STag of the request.
        stag: u32,
        /// Sink tagged offset of the request.
        to: u64,
        /// Bytes asked for.
        size: u32,
    },
    /// An atomic response.
    Atomic {
        /// Request identifier of the request.
        request_id: u32,
    },
}

/// An outbound request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What it waits for.
    pub expect: Expect,
    /// Whatever the owner needs to find the work request again.
    pub cookie: u64,
    /// Bytes that have come.
    done: u32,
}

impl Order {
    /// Checks the header of a read response segment against the request, which is to be the oldest: same buffer, next
    /// offset, no more than was asked for. Returns the offset of the segment in what was asked for.
    pub fn response(&mut self, stag: u32, to: u64, len: u32, last: bool) -> Result<u32, TermError> {
        let Expect::Read {
            stag: sink,
            to: base,
            size,
        } = self.expect
        else {
            return Err(TermError::RDMAP_OPCODE);
        };
        let offset = self.done;
        // An empty segment addresses nothing (RFC 5041 section 7.1 checks non-empty ones only).
        if len != 0 {
            if stag != sink {
                return Err(TermError::DDP_INVALID_STAG);
            }
            if to != base.wrapping_add(u64::from(offset)) || len > size.saturating_sub(offset) {
                return Err(TermError::DDP_BOUNDS);
            }
        }
        self.done = offset.saturating_add(len);
        // The peer must not claim to be done before it is.
        if last && self.done != size {
            return Err(TermError::RDMAP_STREAM);
        }
        Ok(offset)
    }

    /// An unused slot.
    pub const EMPTY: Order = Order {
        expect: Expect::Atomic { request_id: 0 },
        cookie: 0,
        done: 0,
    };
}

/// There are as many requests in flight as the peer allows: wait for a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Outbound requests in flight, oldest first, in storage of the caller.
#[derive(Debug)]
pub struct OutboundReads<S> {
    /// Storage.
    slots: S,
    /// Slot of the oldest.
    head: usize,
    /// Number in flight.
    len: usize,
    /// The outbound read queue depth.
    ord: usize,
}

impl<S: DerefMut<Target = [Order]>> OutboundReads<S> {
    /// A queue of at most `ord` requests, and of as many as there are slots.
    pub fn new(slots: S, ord: u32) -> Self {
        let ord = (ord as usize).min(slots.len());
        OutboundReads {
            slots,
            head: 0,
            len: 0,
            ord,
        }
    }

    /// Whether another request may be sent.
    pub fn has_room(&self) -> bool {
        self.len < self.ord
    }

    /// Requests in flight.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A request is about to be sent.
    pub fn push(&mut self, expect: Expect, cookie: u64) -> Result<(), Full> {
        if !self.has_room() {
            return Err(Full);
        }
        let mut at = self.head + self.len;
        if at >= self.slots.len() {
            at -= self.slots.len();
        }
        *self.slots.get_mut(at).ok_or(Full)? = Order {
            expect,
            cookie,
            done: 0,
        };
        self.len += 1;
        Ok(())
    }

    /// The oldest request.
    pub fn oldest(&self) -> Option<&Order> {
        if self.len == 0 {
            return None;
        }
        self.slots.get(self.head)
    }

    /// The response has come ([`Order::response`]): takes the oldest request out.
    pub fn complete(&mut self) -> Option<Order> {
        let order = *self.oldest()?;
        self.head += 1;
        if self.head >= self.slots.len() {
            self.head = 0;
        }
        self.len -= 1;
        Some(order)
    }

    /// An atomic response has come: takes the oldest request out, which must be its.
    pub fn atomic_response(&mut self, request_id: u32) -> Result<Order, TermError> {
        match self.oldest().map(|o| o.expect) {
            Some(Expect::Atomic { request_id: id }) if id == request_id => {
                self.complete().ok_or(TermError::RDMAP_OPCODE)
            }
            Some(Expect::Atomic { .. }) => Err(TermError::RDMAP_OPERATION),
            _ => Err(TermError::RDMAP_OPCODE),
        }
    }
}
