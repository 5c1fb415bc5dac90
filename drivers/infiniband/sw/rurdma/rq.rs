// SPDX-License-Identifier: GPL-2.0

//! Receive work requests: the queue behind an RQ and behind an SRQ.

#![forbid(unsafe_code)]

use crate::kapi::rdma::qp::RecvWrs;
use crate::kapi::rdma::ring::Ring;
use crate::proto::ring::queue::{Consumer, Producer};
use crate::proto::ring::resize::{TooMany, Transfer};
use crate::proto::wqe::abi::{Sge, MAX_RECV_BYTES, MAX_SGE};
use crate::proto::wqe::fetch::{next_recv, RecvBuf};
use crate::proto::wqe::recv::RecvWqe;
use crate::proto::wqe::{SgeList, WqeError};
use kernel::prelude::*;

/// Why no receive work request could be taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakeError {
    /// There is none.
    Empty,
    /// The process wrote an impossible index.
    Corrupt,
    /// The work request with this id makes no sense; it was taken.
    Bad {
        /// For its completion.
        wr_id: u64,
        /// What is wrong.
        error: WqeError,
    },
}

/// A queue of receive work requests in a (possibly shared) ring.
pub(crate) struct RecvQueue {
    ring: Ring,
    consumer: Consumer,
    /// Of a kernel user; a process produces by itself.
    producer: Producer,
    max_wr: u32,
    max_sge: u8,
}

/// A receive work request, taken from the queue.
pub(crate) struct RecvWr {
    /// Returned in the completion.
    pub(crate) wr_id: u64,
    /// Room in bytes.
    pub(crate) room: u64,
    sges: [Sge; MAX_SGE],
    used: usize,
}

impl RecvWr {
    /// None taken yet.
    pub(crate) fn empty() -> Self {
        Self {
            wr_id: 0,
            room: 0,
            sges: [Sge::default(); MAX_SGE],
            used: 0,
        }
    }

    /// Where the message goes, in order.
    pub(crate) fn sges(&self) -> &[Sge] {
        self.sges.get(..self.used).unwrap_or(&[])
    }
}

/// Where a queue stands: its indices, read once and judged.
#[derive(Clone, Copy)]
pub(crate) struct Position {
    consumer: u32,
    producer: u32,
}

impl Position {
    /// Work requests in the queue.
    pub(crate) fn len(self) -> u32 {
        self.producer.wrapping_sub(self.consumer)
    }
}

/// A queue on its way into another ring. Lives outside the queue's lock.
pub(crate) struct Resize {
    old: Ring,
    new: Ring,
    transfer: Transfer,
}

impl Resize {
    /// Allocates room for `max_wr` work requests, for a queue whose ring is `old` (another view of
    /// it) and that stands at `at`. Process context, without the queue's lock.
    pub(crate) fn new(old: Ring, at: Position, max_wr: u32, user: bool) -> Result<Self> {
        let depth = max_wr.max(1).next_power_of_two();
        Ok(Self {
            new: Ring::alloc(depth, old.stride(), user)?,
            old,
            transfer: Transfer::new(at.consumer),
        })
    }

    /// The new ring, for its mapping.
    pub(crate) fn ring(&self) -> &Ring {
        &self.new
    }

    /// Copies what is in the queue. Without the queue's lock.
    pub(crate) fn copy(&mut self, at: Position) {
        self.transfer
            .copy(&self.old, &self.new, at.consumer, at.producer);
    }

    /// Work requests that are still to be copied.
    pub(crate) fn rest(&self, at: Position) -> u32 {
        self.transfer.rest(at.producer)
    }
}

/// Bytes of a ring entry with `max_sge` SGEs.
pub(crate) fn stride(max_sge: u32) -> u32 {
    RecvWqe::bytes(max_sge as usize) as u32
}

impl RecvQueue {
    /// Allocates room for `max_wr` work requests of `max_sge` SGEs. Process context.
    pub(crate) fn new(max_wr: u32, max_sge: u32, user: bool) -> Result<Self> {
        let depth = max_wr.max(1).next_power_of_two();
        Ok(Self {
            ring: Ring::alloc(depth, stride(max_sge), user)?,
            consumer: Consumer::new(0),
            producer: Producer::new(0),
            max_wr: depth,
            max_sge: max_sge as u8,
        })
    }

    /// The ring, for its mapping and its flags.
    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Work requests that fit.
    pub(crate) fn max_wr(&self) -> u32 {
        self.max_wr
    }

    /// Work requests that are in the queue; 0 if the process's index is impossible.
    pub(crate) fn len(&self) -> u32 {
        self.consumer.available(&self.ring).unwrap_or(0)
    }

    /// Where the queue stands. EINVAL if the process's index is impossible.
    pub(crate) fn position(&self) -> Result<Position> {
        let consumer = self.consumer.head();
        let len = self.consumer.available(&self.ring).map_err(|_| EINVAL)?;
        Ok(Position {
            consumer,
            producer: consumer.wrapping_add(len),
        })
    }

    /// Goes on in the new ring, with what is in the queue up to the producer index of `at`. EINVAL if
    /// that is more than `max_wr`: nothing has changed then. Either way `resize` keeps the ring that
    /// is not needed, to be dropped without the queue's lock: freeing may sleep.
    pub(crate) fn finish_resize(
        &mut self,
        resize: &mut Resize,
        at: Position,
        max_wr: u32,
    ) -> Result {
        resize
            .transfer
            .finish(
                &resize.old,
                &resize.new,
                &self.consumer,
                at.producer,
                max_wr,
            )
            .map_err(|TooMany| EINVAL)?;
        core::mem::swap(&mut self.ring, &mut resize.new);
        self.max_wr = self.ring.depth();
        Ok(())
    }

    /// Takes the work request in front into `wr`.
    pub(crate) fn take(&mut self, wr: &mut RecvWr) -> Result<(), TakeError> {
        let mut buf: RecvBuf = [0; MAX_RECV_BYTES];
        let bytes = match next_recv(&self.ring, &self.consumer, &mut buf) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(TakeError::Empty),
            Err(_) => return Err(TakeError::Corrupt),
        };
        self.consumer.advance(1);
        self.consumer.publish(&self.ring);
        wr.wr_id = RecvWqe::wr_id(bytes);
        let parsed = RecvWqe::parse(bytes, self.max_sge).map_err(|error| TakeError::Bad {
            wr_id: wr.wr_id,
            error,
        })?;
        wr.room = parsed.sges.total();
        wr.used = 0;
        for (to, sge) in wr.sges.iter_mut().zip(parsed.sges.iter()) {
            *to = sge;
            wr.used += 1;
        }
        Ok(())
    }

    /// Drops everything that is in the queue (→ RESET).
    pub(crate) fn reset(&mut self) {
        self.consumer = Consumer::new(0);
        self.producer = Producer::new(0);
        self.ring.reset();
    }

    /// Posts a kernel user's list. EINVAL or ENOMEM for the first that cannot be posted.
    pub(crate) fn post(&mut self, wrs: &mut RecvWrs<'_>) -> Result {
        while let Some(wr) = wrs.peek() {
            if wr.sges.len() > usize::from(self.max_sge) {
                return Err(EINVAL);
            }
            if self.producer.space(&self.ring) == 0 {
                return Err(ENOMEM);
            }
            let mut sges = [Sge::default(); MAX_SGE];
            let mut n = 0;
            for (to, (addr, length, lkey)) in sges.iter_mut().zip(wr.sges.iter()) {
                *to = Sge { addr, length, lkey };
                n += 1;
            }
            let list = SgeList::new(sges.get(..n).ok_or(EINVAL)?);
            let mut buf: RecvBuf = [0; MAX_RECV_BYTES];
            let used = RecvWqe::encode(wr.wr_id, list, &mut buf).map_err(|_| EINVAL)?;
            let bytes = buf.get(..used).ok_or(EINVAL)?;
            self.ring.copy_out(self.producer.tail(), 0, bytes);
            self.producer.advance(1);
            self.producer.publish(&self.ring);
            wrs.advance();
        }
        Ok(())
    }
}
