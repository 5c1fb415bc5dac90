// SPDX-License-Identifier: GPL-2.0

//! A memory region that was found once, for accesses that follow each other.
//!
//! Packets of a message are mostly about the same region. To find it, to lock what its key grants and to enter its
//! memory costs some atomic instructions, on lines that all QPs share which use the region; so whoever makes or
//! executes a run of packets keeps what it has found for as long as the run takes.

#![forbid(unsafe_code)]

use super::{key_index, Mr, Span, LOCAL_DMA_LKEY};
use crate::kapi::net::skb::SkbChunk;
use crate::kapi::rdma::memory::Access as Entered;
use crate::proto::access::{Access, Denied, Region};
use crate::qp::Qp;
use kernel::prelude::*;

/// The region of the last access, if there was one.
///
/// While it is held the deregistration of that region waits, as for a copy: it is for the time of a run of packets,
/// without anything in between that sleeps. A change (`ibv_rereg_mr(3)`) waits likewise, and until then what was
/// before is in force; a fast registration that has ended is found out by each copy.
///
/// Windows and the key of all the kernel's memory are not held: the former have rules of their own, the latter costs
/// nothing to find.
pub(crate) struct Held(Option<Found>);

/// What a key granted when it was looked up.
struct Found {
    key: u32,
    pd: u64,
    region: Region,
    /// A fast registration, which may end while it is held.
    fast: bool,
    access: Entered,
}

impl Found {
    /// The region with this key, if it is in force, and of PD `pd`. Any context.
    fn find(mr: &Mr, key: u32, pd: u64) -> Option<Self> {
        let desc = mr.desc.lock();
        if !desc.valid || desc.key != key || desc.pd != pd {
            return None;
        }
        // With the lock held: see `Desc`.
        Some(Self {
            key,
            pd,
            region: desc.region(),
            fast: desc.fast,
            access: desc.memory.enter()?,
        })
    }
}

/// Whose access it is.
#[derive(Clone, Copy)]
pub(crate) enum Whose {
    /// Of a work request of ours, with memory of this PD.
    Ours(u64),
    /// Of the QP's peer.
    Peers,
}

impl Whose {
    fn pd(self, qp: &Qp) -> u64 {
        match self {
            Whose::Ours(pd) => pd,
            Whose::Peers => qp.pd.id,
        }
    }

    /// What is looked up for one access alone.
    fn find(self, qp: &Qp, key: u32, addr: u64, len: usize, need: Access) -> Result<Span, Denied> {
        let len = len as u64;
        match self {
            Whose::Ours(pd) => Span::local(&qp.dev, !qp.user, key, pd, addr, len, need),
            Whose::Peers => Span::remote(qp, key, addr, len, need),
        }
    }
}

impl Held {
    /// None yet.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// The memory of the region with this key, and where in it the `len` bytes at `addr` begin. `None`: it is not
    /// known here whether, or why, that is denied.
    fn at(
        &mut self,
        (key, pd): (u32, u64),
        qp: &Qp,
        addr: u64,
        len: usize,
        need: Access,
    ) -> Option<(&Entered, u64)> {
        if key == LOCAL_DMA_LKEY {
            return None;
        }
        if !self.0.as_ref().is_some_and(|f| f.key == key && f.pd == pd) {
            // The old one goes first.
            self.0 = None;
            let mr = qp.dev.mrs.get(key_index(key))?;
            self.0 = Found::find(&mr, key, pd);
        }
        let found = self.0.as_ref()?;
        let offset = found.region.check(need, addr, len as u64).ok()?;
        Some((&found.access, offset))
    }

    /// Whether the `len` bytes at `addr` of the region with `key` may be accessed. Any context.
    pub(crate) fn check(
        &mut self,
        qp: &Qp,
        (whose, key): (Whose, u32),
        addr: u64,
        len: usize,
        need: Access,
    ) -> Result<(), Denied> {
        let known = self.at((key, whose.pd(qp)), qp, addr, len, need).is_some();
        // No copy finds out whether it has ended.
        if known && self.0.as_ref().is_some_and(|f| !f.fast) {
            return Ok(());
        }
        whose.find(qp, key, addr, len, need).map(drop)
    }

    /// Copies `dst.len()` bytes at `addr` of the region with `key` out of it. Any context.
    pub(crate) fn read(
        &mut self,
        qp: &Qp,
        (whose, key): (Whose, u32),
        addr: u64,
        need: Access,
        dst: &mut [u8],
    ) -> Result<(), Denied> {
        if let Some((memory, offset)) = self.at((key, whose.pd(qp)), qp, addr, dst.len(), need) {
            if memory.read(offset, dst).is_ok() {
                return Ok(());
            }
            // A fast registration that has ended. There may be another one by now.
            self.0 = None;
        }
        let span = whose.find(qp, key, addr, dst.len(), need)?;
        span.read(0, dst).map_err(|_| Denied::Bounds)
    }

    /// Copies `len` bytes at `from` of what was received to `addr` of the region with `key`. Any context.
    #[expect(clippy::too_many_arguments)]
    pub(crate) fn place(
        &mut self,
        qp: &Qp,
        (whose, key): (Whose, u32),
        addr: u64,
        need: Access,
        chunk: &SkbChunk<'_>,
        from: usize,
        len: usize,
    ) -> Result<(), Denied> {
        if let Some((memory, offset)) = self.at((key, whose.pd(qp)), qp, addr, len, need) {
            if memory.place(offset, chunk, from, len, None).is_ok() {
                return Ok(());
            }
            self.0 = None;
        }
        let span = whose.find(qp, key, addr, len, need)?;
        span.place(0, chunk, from, len, None)
            .map_err(|_| Denied::Bounds)
    }
}
