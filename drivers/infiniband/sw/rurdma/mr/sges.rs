// SPDX-License-Identifier: GPL-2.0

//! Messages in local memory: the SGEs of a work request.

use super::Span;
use crate::kapi::net::skb::SkbChunk;
use crate::proto::access::{Access, Denied};
use crate::proto::wqe::abi::{Sge, MAX_SGE};
use crate::proto::wqe::SgeList;
use crate::qp::Qp;
use core::ops::Deref;

/// A private copy of the SGEs of a work request.
pub(crate) struct Sges {
    list: [Sge; MAX_SGE],
    len: usize,
}

impl Sges {
    /// Those of `list`, which has no more than any may have.
    pub(crate) fn of(list: &SgeList<'_>) -> Self {
        let mut sges = Self {
            list: [Sge::default(); MAX_SGE],
            len: 0,
        };
        for (to, sge) in sges.list.iter_mut().zip(list.iter()) {
            *to = sge;
            sges.len += 1;
        }
        sges
    }
}

impl Deref for Sges {
    type Target = [Sge];

    fn deref(&self) -> &[Sge] {
        self.list.get(..self.len).unwrap_or(&[])
    }
}

/// The SGE in which byte `at` of a message lies, and the offset in it.
pub(crate) fn locate(sges: &[Sge], at: u64) -> Option<(Sge, u64)> {
    let mut start = 0;
    for sge in sges {
        let end = start + u64::from(sge.length);
        if at < end {
            return Some((*sge, at - start));
        }
        start = end;
    }
    None
}

/// What of an SGE lies `into` bytes behind its beginning, `max` bytes at most; and how many these are.
pub(crate) fn part(
    qp: &Qp,
    pd: u64,
    sge: &Sge,
    into: u64,
    max: usize,
    need: Access,
) -> Result<(Span, usize), Denied> {
    let left = u64::from(sge.length)
        .checked_sub(into)
        .ok_or(Denied::Bounds)?;
    let len = left.min(max as u64);
    let addr = sge.addr.checked_add(into).ok_or(Denied::Wrap)?;
    let span = Span::local(&qp.dev, !qp.user, sge.lkey, pd, addr, len, need)?;
    Ok((span, len as usize))
}

/// Places `n` bytes at `offset` of a message into the SGEs that `find` finds.
#[expect(clippy::too_many_arguments)]
pub(crate) fn scatter(
    qp: &Qp,
    pd: u64,
    find: impl Fn(u64) -> Option<(Sge, u64)>,
    mut offset: u64,
    chunk: &SkbChunk<'_>,
    mut from: usize,
    mut n: usize,
    mut crc: Option<&mut u32>,
) -> Result<(), Denied> {
    while n > 0 {
        let (sge, into) = find(offset).ok_or(Denied::Bounds)?;
        let (span, len) = part(qp, pd, &sge, into, n, Access::LocalWrite)?;
        span.place(0, chunk, from, len, crc.as_deref_mut())
            .map_err(|_| Denied::Bounds)?;
        offset += len as u64;
        from += len;
        n -= len;
    }
    Ok(())
}

/// Copies the bytes at `offset` of a message out of its SGEs.
pub(crate) fn gather(
    qp: &Qp,
    sges: &[Sge],
    mut offset: u64,
    mut to: &mut [u8],
) -> Result<(), Denied> {
    while !to.is_empty() {
        let (sge, into) = locate(sges, offset).ok_or(Denied::Bounds)?;
        let (span, len) = part(qp, qp.pd.id, &sge, into, to.len(), Access::LocalRead)?;
        let (now, later) = to.split_at_mut(len);
        span.read(0, now).map_err(|_| Denied::Bounds)?;
        offset += len as u64;
        to = later;
    }
    Ok(())
}

/// Places `bytes` at the beginning of a message into its SGEs.
pub(crate) fn scatter_bytes(
    qp: &Qp,
    pd: u64,
    sges: &[Sge],
    mut bytes: &[u8],
) -> Result<(), Denied> {
    let mut offset = 0;
    while !bytes.is_empty() {
        let (sge, into) = locate(sges, offset).ok_or(Denied::Bounds)?;
        let (span, len) = part(qp, pd, &sge, into, bytes.len(), Access::LocalWrite)?;
        let (now, later) = bytes.split_at(len);
        span.write(0, now).map_err(|_| Denied::Bounds)?;
        offset += len as u64;
        bytes = later;
    }
    Ok(())
}
