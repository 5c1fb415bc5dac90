// SPDX-License-Identifier: GPL-2.0

//! Messages in local memory: the SGEs of a work request.

use super::Span;
use crate::kapi::net::skb::SkbChunk;
use crate::proto::access::{Access, Denied};
use crate::proto::wqe::abi::Sge;
use crate::qp::Qp;

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
        let len = n.min((u64::from(sge.length) - into) as usize);
        let addr = sge.addr.checked_add(into).ok_or(Denied::Wrap)?;
        let span = Span::local(
            &qp.dev,
            !qp.user,
            sge.lkey,
            pd,
            addr,
            len as u64,
            Access::LocalWrite,
        )?;
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
        let len = to.len().min((u64::from(sge.length) - into) as usize);
        let (now, later) = to.split_at_mut(len);
        let addr = sge.addr.checked_add(into).ok_or(Denied::Wrap)?;
        let span = Span::local(
            &qp.dev,
            !qp.user,
            sge.lkey,
            qp.pd.id,
            addr,
            len as u64,
            Access::LocalRead,
        )?;
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
        let len = bytes.len().min((u64::from(sge.length) - into) as usize);
        let (now, later) = bytes.split_at(len);
        let addr = sge.addr.checked_add(into).ok_or(Denied::Wrap)?;
        let span = Span::local(
            &qp.dev,
            !qp.user,
            sge.lkey,
            pd,
            addr,
            len as u64,
            Access::LocalWrite,
        )?;
        span.write(0, now).map_err(|_| Denied::Bounds)?;
        offset += len as u64;
        bytes = later;
    }
    Ok(())
}
