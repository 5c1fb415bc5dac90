// SPDX-License-Identifier: GPL-2.0

//! Messages in local memory: the SGEs of a work request.

use super::{Held, Span, Whose};
use crate::kapi::net::skb::SkbChunk;
use crate::proto::access::{Access, Denied};
use crate::proto::wqe::abi::Sge;
use crate::proto::wqe::SgeList;
use crate::qp::Qp;

/// The SGE in which byte `at` of a message lies, and the offset in it.
pub(crate) fn locate(sges: &[Sge], at: u64) -> Option<(Sge, u64)> {
    find(sges.iter().copied(), at)
}

/// The same of the list of a work request, which need not be copied for it.
pub(crate) fn locate_in(list: &SgeList<'_>, at: u64) -> Option<(Sge, u64)> {
    find(list.iter(), at)
}

fn find(sges: impl Iterator<Item = Sge>, at: u64) -> Option<(Sge, u64)> {
    let mut start = 0;
    for sge in sges {
        let end = start + u64::from(sge.length);
        if at < end {
            return Some((sge, at - start));
        }
        start = end;
    }
    None
}

/// Places `n` bytes at `offset` of a message into the SGEs that `find` finds; takes them into the CRC32c where one is
/// wanted.
#[expect(clippy::too_many_arguments)]
pub(crate) fn scatter(
    held: &mut Held,
    qp: &Qp,
    pd: u64,
    mut find: impl FnMut(u64) -> Option<(Sge, u64)>,
    mut offset: u64,
    chunk: &SkbChunk<'_>,
    mut from: usize,
    mut n: usize,
    mut crc: Option<&mut u32>,
) -> Result<(), Denied> {
    while n > 0 {
        let (sge, into) = find(offset).ok_or(Denied::Bounds)?;
        let (addr, len) = range(&sge, into, n)?;
        let key = (Whose::Ours(pd), sge.lkey);
        let sum = crc.as_deref_mut();
        held.place(qp, key, addr, Access::LocalWrite, chunk, from, len, sum)?;
        offset += len as u64;
        from += len;
        n -= len;
    }
    Ok(())
}

/// Copies the bytes at `offset` of a message out of the SGEs that `find` finds.
pub(crate) fn gather(
    held: &mut Held,
    qp: &Qp,
    mut find: impl FnMut(u64) -> Option<(Sge, u64)>,
    mut offset: u64,
    mut to: &mut [u8],
) -> Result<(), Denied> {
    while !to.is_empty() {
        let (sge, into) = find(offset).ok_or(Denied::Bounds)?;
        let (addr, len) = range(&sge, into, to.len())?;
        let (now, later) = to.split_at_mut(len);
        let key = (Whose::Ours(qp.pd.id), sge.lkey);
        held.read(qp, key, addr, Access::LocalRead, now)?;
        offset += len as u64;
        to = later;
    }
    Ok(())
}

/// The first address, and the bytes, `max` at most, of what of an SGE lies `into` bytes behind its beginning.
fn range(sge: &Sge, into: u64, max: usize) -> Result<(u64, usize), Denied> {
    let left = u64::from(sge.length)
        .checked_sub(into)
        .ok_or(Denied::Bounds)?;
    let addr = sge.addr.checked_add(into).ok_or(Denied::Wrap)?;
    Ok((addr, left.min(max as u64) as usize))
}

/// Places `bytes` at the beginning of a message into its SGEs.
pub(crate) fn scatter_bytes(qp: &Qp, pd: u64, sges: &[Sge], bytes: &[u8]) -> Result<(), Denied> {
    scatter_bytes_by(qp, pd, |at| locate(sges, at), bytes)
}

/// The same into the SGEs that `find` finds.
pub(crate) fn scatter_bytes_by(
    qp: &Qp,
    pd: u64,
    find: impl Fn(u64) -> Option<(Sge, u64)>,
    mut bytes: &[u8],
) -> Result<(), Denied> {
    let mut offset = 0;
    while !bytes.is_empty() {
        let (sge, into) = find(offset).ok_or(Denied::Bounds)?;
        let (addr, len) = range(&sge, into, bytes.len())?;
        let key = (Whose::Ours(pd), sge.lkey);
        let span = Span::find(qp, key, addr, len as u64, Access::LocalWrite)?;
        let (now, later) = bytes.split_at(len);
        span.write(0, now).map_err(|_| Denied::Bounds)?;
        offset += len as u64;
        bytes = later;
    }
    Ok(())
}
