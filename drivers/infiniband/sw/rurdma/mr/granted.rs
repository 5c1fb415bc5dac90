// SPDX-License-Identifier: GPL-2.0

//! What a key grants: the one way from a key to memory, for whatever access.

#![forbid(unsafe_code)]

use super::{key_index, Mr, LOCAL_DMA_LKEY};
use crate::kapi::rdma::memory::Access as Entered;
use crate::proto::access::{Access, Denied, Region, Rights};
use crate::qp::Qp;
use kernel::prelude::*;

/// Whose access it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Of a work request of ours, with memory of this PD: that of an MR.
    Ours(u64),
    /// Of the QP's peer: that of an MR, or by way of a window.
    Peers,
}

impl Whose {
    /// The PD that the memory has to be of.
    pub(super) fn pd(self, qp: &Qp) -> u64 {
        match self {
            Whose::Ours(pd) => pd,
            Whose::Peers => qp.pd.id,
        }
    }
}

/// What a key granted when it was looked up. Each access is held against it ([`Granted::at`]).
pub(crate) struct Granted {
    /// While it exists a deregistration of the memory waits, and a registration anew. The end of a fast registration,
    /// or of a window's binding, does not: that is found out by each copy.
    pub(crate) access: Entered,
    /// Which addresses there are, and what may be done with them.
    pub(crate) region: Region,
    /// Where in the memory the region begins.
    pub(crate) start: u64,
    /// Of a window of type 2: the life of the QP that it is open to ([`Qp::life`]).
    pub(crate) life: Option<i64>,
}

impl Granted {
    /// Finds the MR, or the window, with `key`: it must be in force, of the PD that it has to be of, and open to the
    /// QP. Any context.
    pub(super) fn find(qp: &Qp, whose: Whose, key: u32) -> Result<Self, Denied> {
        if key == LOCAL_DMA_LKEY && !qp.user && whose != Whose::Peers {
            return Self::all(qp);
        }
        let index = key_index(key);
        if let Some(mr) = qp.dev.mrs.get(index) {
            return Self::of(&mr, key, whose.pd(qp));
        }
        if whose != Whose::Peers {
            return Err(Denied::Key);
        }
        qp.dev.mws.get(index).ok_or(Denied::Key)?.grant(qp, key)
    }

    /// All of the kernel's memory, which begins at 0: the offset is the address.
    fn all(qp: &Qp) -> Result<Self, Denied> {
        Ok(Self {
            access: qp.dev.kernel_memory.enter().ok_or(Denied::Key)?,
            region: Region {
                base: 0,
                length: u64::MAX,
                rights: Rights::LOCAL_WRITE,
            },
            start: 0,
            life: None,
        })
    }

    fn of(mr: &Mr, key: u32, pd: u64) -> Result<Self, Denied> {
        let desc = mr.desc.lock();
        if !desc.valid || desc.key != key {
            return Err(Denied::Key);
        }
        if desc.pd != pd {
            return Err(Denied::Domain);
        }
        // With the lock held: see `Desc`.
        Ok(Self {
            access: desc.memory.enter().ok_or(Denied::Key)?,
            region: desc.region(),
            start: 0,
            life: None,
        })
    }

    /// Whether it is open to the QP still, for which it was found.
    pub(super) fn is_open_to(&self, qp: &Qp) -> bool {
        self.life.is_none_or(|life| life == qp.life())
    }

    /// Where in the memory the `len` bytes at `addr` begin, if `need` is granted there.
    pub(super) fn at(&self, need: Access, addr: u64, len: u64) -> Result<u64, Denied> {
        let offset = self.region.check(need, addr, len)?;
        Ok(self.start.wrapping_add(offset))
    }
}
