// SPDX-License-Identifier: GPL-2.0

//! Taking an entry out of a shared ring into private memory.

#![forbid(unsafe_code)]

use super::abi;
use super::send::SendWqe;
use crate::proto::ring::queue::Consumer;
use crate::proto::ring::RingMem;

/// Private memory for one send queue entry.
pub type SendBuf = [u8; abi::MAX_SEND_BYTES];
/// Private memory for one receive queue entry.
pub type RecvBuf = [u8; abi::MAX_RECV_BYTES];

/// The queue cannot be read on: the QP goes to ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The producer index is impossible.
    Index,
    /// An entry does not say how long it is, or is longer than what was posted, so the next one
    /// cannot be found. Its `wr_id` is there for a completion.
    Frame {
        /// Of the bad entry.
        wr_id: u64,
    },
}

/// Copies the next send entry into `buf`. `None` if there is none, otherwise its units; the entry is
/// the first `units * 64` bytes of `buf`, and still has to be parsed. The consumer is not advanced:
/// call `consumer.advance(units)` for that.
pub fn next_send(
    ring: &RingMem,
    consumer: &Consumer,
    buf: &mut SendBuf,
) -> Result<Option<u32>, FetchError> {
    let avail = consumer.available(ring).map_err(|_| FetchError::Index)?;
    if avail == 0 {
        return Ok(None);
    }
    let (first, rest) = buf.split_at_mut(abi::WQE_UNIT);
    ring.copy_in(consumer.head(), 0, first);
    // From here on only the copy is looked at: `units` too is read once.
    let frame = FetchError::Frame {
        wr_id: SendWqe::wr_id(first),
    };
    let units = u32::from(SendWqe::units(first).ok_or(frame)?);
    if units > avail {
        return Err(frame);
    }
    let more = (units.saturating_sub(1) as usize) * abi::WQE_UNIT;
    let rest = rest.get_mut(..more).ok_or(frame)?;
    ring.copy_in(consumer.head().wrapping_add(1), 0, rest);
    Ok(Some(units))
}

/// Copies the next receive entry into `buf`. `None` if there is none, otherwise its bytes: a whole
/// stride. The consumer is not advanced.
pub fn next_recv<'b>(
    ring: &RingMem,
    consumer: &Consumer,
    buf: &'b mut RecvBuf,
) -> Result<Option<&'b [u8]>, FetchError> {
    if consumer.available(ring).map_err(|_| FetchError::Index)? == 0 {
        return Ok(None);
    }
    let len = (ring.stride() as usize).min(buf.len());
    let Some(dst) = buf.get_mut(..len) else {
        return Ok(None);
    };
    ring.copy_in(consumer.head(), 0, dst);
    Ok(Some(dst))
}
