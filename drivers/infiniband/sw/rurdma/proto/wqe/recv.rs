// SPDX-License-Identifier: GPL-2.0

//! Receive queue entries (RQ and SRQ).

#![forbid(unsafe_code)]

use super::abi::{self, RecvHdr};
use super::{SgeList, WqeError};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// A checked receive queue entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecvWqe<'a> {
    /// Returned in the completion.
    pub wr_id: u64,
    /// Where the message goes.
    pub sges: SgeList<'a>,
    /// How long a message fits: the sum of the SGEs, at most `u32::MAX`.
    pub length: u32,
}

impl<'a> RecvWqe<'a> {
    /// The `wr_id` in the private copy of an entry, for the completion of one that does not parse.
    pub fn wr_id(bytes: &[u8]) -> u64 {
        RecvHdr::read_from_prefix(bytes).map_or(0, |(h, _)| h.wr_id)
    }

    /// Checks the private copy of an entry.
    pub fn parse(bytes: &'a [u8], max_sge: u8) -> Result<Self, WqeError> {
        let (hdr, rest) = RecvHdr::read_from_prefix(bytes).map_err(|_| WqeError::Truncated)?;
        if hdr.num_sge > u32::from(max_sge) || hdr.num_sge as usize > abi::MAX_SGE {
            return Err(WqeError::SgeCount);
        }
        let sges = SgeList::parse(rest, hdr.num_sge as usize).ok_or(WqeError::Truncated)?;
        // More than a message can have is no error: it just is not used.
        let length = u32::try_from(sges.total()).unwrap_or(u32::MAX);
        Ok(RecvWqe {
            wr_id: hdr.wr_id,
            sges,
            length,
        })
    }

    /// Bytes of an entry with `num_sge` SGEs: the smallest stride.
    pub const fn bytes(num_sge: usize) -> usize {
        abi::RECV_HDR + num_sge * abi::SGE_SIZE
    }

    /// Writes an entry as it stands in a ring. Returns the number of bytes written.
    pub fn encode(wr_id: u64, sges: SgeList<'_>, buf: &mut [u8]) -> Result<usize, WqeError> {
        if sges.len() > abi::MAX_SGE {
            return Err(WqeError::SgeCount);
        }
        let hdr = RecvHdr {
            wr_id,
            num_sge: sges.len() as u32,
            reserved: 0,
        };
        let len = Self::bytes(sges.len());
        let buf = buf.get_mut(..len).ok_or(WqeError::Truncated)?;
        let src = hdr.as_bytes().iter().chain(sges.as_bytes());
        for (d, s) in buf.iter_mut().zip(src) {
            *d = *s;
        }
        Ok(len)
    }
}
