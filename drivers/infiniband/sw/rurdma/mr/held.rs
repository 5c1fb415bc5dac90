// SPDX-License-Identifier: GPL-2.0

//! Memory that was found once, for accesses that follow each other.
//!
//! Packets and segments of a message are mostly about the same region. To find it, to lock what its key grants and to
//! enter its memory costs some atomic instructions, on lines that all QPs share which use the region; so whoever makes
//! or executes a run of them keeps what it has found for as long as the run takes.

#![forbid(unsafe_code)]

use super::granted::{Granted, Whose};
use crate::kapi::net::skb::SkbChunk;
use crate::kapi::rdma::memory::Access as Entered;
use crate::proto::access::{Access, Denied};
use crate::qp::Qp;
use kernel::prelude::*;

/// What the key of the last access granted, if there was one.
///
/// While it is held the deregistration of that memory waits, as for a copy: it is for the time of a run of packets,
/// or a batch of segments, without anything in between that sleeps. A change (`ibv_rereg_mr(3)`) waits likewise, and
/// until then what was before is in force. What may end without waiting, a fast registration or the binding of a
/// window, is found out by each access.
pub(crate) struct Held(Option<Found>);

/// What was found for whom by which key.
struct Found {
    key: u32,
    whose: Whose,
    pd: u64,
    granted: Granted,
}

impl Found {
    /// Whether a look-up would find it, as far as the key's user is concerned.
    fn is_for(&self, qp: &Qp, whose: Whose, key: u32) -> bool {
        self.key == key
            && self.whose == whose
            && self.pd == whose.pd(qp)
            && self.granted.is_open_to(qp)
    }
}

impl Held {
    /// None yet.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Nobody waits for us any more.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }

    /// Calls `f` with the memory that `key` stands for, and where in it the `len` bytes at `addr` begin, if `need` is
    /// granted there. A second time, after another look-up, if it failed with what was held: that may have ended, and
    /// there may be another one by now.
    fn access(
        &mut self,
        qp: &Qp,
        (whose, key): (Whose, u32),
        (addr, len): (u64, usize),
        need: Access,
        mut f: impl FnMut(&Entered, u64) -> Result,
    ) -> Result<(), Denied> {
        let len = len as u64;
        if let Some(Found { granted, .. }) = self.0.as_ref().filter(|f| f.is_for(qp, whose, key)) {
            let at = granted.at(need, addr, len);
            if at.is_ok_and(|at| f(&granted.access, at).is_ok()) {
                return Ok(());
            }
        }
        // The old one goes first.
        self.forget();
        let found = Found {
            key,
            whose,
            pd: whose.pd(qp),
            granted: Granted::find(qp, whose, key)?,
        };
        let granted = &self.0.insert(found).granted;
        let at = granted.at(need, addr, len)?;
        f(&granted.access, at).map_err(|_| Denied::Bounds)
    }

    /// Whether the `len` bytes at `addr` of the memory with `key` may be accessed. Any context.
    pub(crate) fn check(
        &mut self,
        qp: &Qp,
        key: (Whose, u32),
        addr: u64,
        len: usize,
        need: Access,
    ) -> Result<(), Denied> {
        self.access(qp, key, (addr, len), need, |memory, _| memory.lasts())
    }

    /// Copies `dst.len()` bytes at `addr` of the memory with `key` out of it. Any context.
    pub(crate) fn read(
        &mut self,
        qp: &Qp,
        key: (Whose, u32),
        addr: u64,
        need: Access,
        dst: &mut [u8],
    ) -> Result<(), Denied> {
        let range = (addr, dst.len());
        self.access(qp, key, range, need, |memory, at| memory.read(at, dst))
    }

    /// Copies `len` bytes at `from` of what was received to `addr` of the memory with `key`; takes them into the
    /// CRC32c where one is wanted. Any context.
    #[expect(clippy::too_many_arguments)]
    pub(crate) fn place(
        &mut self,
        qp: &Qp,
        key: (Whose, u32),
        addr: u64,
        need: Access,
        chunk: &SkbChunk<'_>,
        from: usize,
        len: usize,
        mut crc: Option<&mut u32>,
    ) -> Result<(), Denied> {
        let before = crc.as_deref().copied();
        self.access(qp, key, (addr, len), need, |memory, at| {
            // Whatever an attempt before this one has taken into it.
            if let (Some(crc), Some(before)) = (crc.as_deref_mut(), before) {
                *crc = before;
            }
            memory.place(at, chunk, from, len, crc.as_deref_mut())
        })
    }
}
