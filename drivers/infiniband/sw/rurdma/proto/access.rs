// SPDX-License-Identifier: GPL-2.0

//! Bounds and rights of an access to registered memory (RFC 5040 section 7.2, RFC 5041
//! section 7.1), and what to tell whom when it is denied.

#![forbid(unsafe_code)]

use super::wire::rdmap::Opcode;
use super::wire::terminate::{TermError, Terminate, LAYER_DDP, LAYER_RDMAP};

/// Rights of a memory region, with the numbers of `enum ib_access_flags`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(pub u32);

impl Rights {
    /// `IB_ACCESS_LOCAL_WRITE`.
    pub const LOCAL_WRITE: Rights = Rights(1 << 0);
    /// `IB_ACCESS_REMOTE_WRITE`.
    pub const REMOTE_WRITE: Rights = Rights(1 << 1);
    /// `IB_ACCESS_REMOTE_READ`.
    pub const REMOTE_READ: Rights = Rights(1 << 2);
    /// `IB_ACCESS_REMOTE_ATOMIC`.
    pub const REMOTE_ATOMIC: Rights = Rights(1 << 3);
    /// `IB_ACCESS_MW_BIND`.
    pub const MW_BIND: Rights = Rights(1 << 4);
    /// `IB_ZERO_BASED`.
    pub const ZERO_BASED: Rights = Rights(1 << 5);
    /// `IB_ACCESS_FLUSH_GLOBAL`.
    pub const FLUSH_GLOBAL: Rights = Rights(1 << 8);
    /// `IB_ACCESS_FLUSH_PERSISTENT`.
    pub const FLUSH_PERSISTENT: Rights = Rights(1 << 9);

    /// Both.
    #[must_use]
    pub const fn with(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// Whether all of `other` are granted.
    pub const fn contains(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the combination makes sense: whoever grants remote write or atomic access must grant
    /// local write (the rule of `ib_check_mr_access()`).
    pub const fn is_consistent(self) -> bool {
        let remote = Rights::REMOTE_WRITE.with(Rights::REMOTE_ATOMIC).0;
        self.0 & remote == 0 || self.contains(Rights::LOCAL_WRITE)
    }
}

/// Who wants to do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Gather of a work request: always granted to the owner of the key.
    LocalRead,
    /// Scatter of a receive or of a local result.
    LocalWrite,
    /// RDMA Read of the peer.
    RemoteRead,
    /// RDMA Write of the peer.
    RemoteWrite,
    /// Atomic of the peer.
    RemoteAtomic,
    /// FLUSH of the peer, of the types that these rights stand for.
    RemoteFlush(Rights),
}

impl Access {
    /// The rights it needs.
    pub const fn needs(self) -> Rights {
        match self {
            Access::LocalRead => Rights(0),
            Access::LocalWrite => Rights::LOCAL_WRITE,
            Access::RemoteRead => Rights::REMOTE_READ,
            Access::RemoteWrite => Rights::REMOTE_WRITE,
            Access::RemoteAtomic => Rights::REMOTE_ATOMIC,
            Access::RemoteFlush(types) => types,
        }
    }
}

/// Why an access is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No such key, or not valid now.
    Key,
    /// The key belongs to another protection domain.
    Domain,
    /// The region does not grant it.
    Rights,
    /// Outside of the region.
    Bounds,
    /// The range wraps around the end of the address space.
    Wrap,
    /// An atomic that is not aligned to 8 bytes.
    Unaligned,
    /// The key is not one that can be invalidated.
    Invalidate,
}

impl Denied {
    /// The Terminate for an RDMA Write or Read Response, whose placement the DDP layer checks. DDP has
    /// no code for missing rights: those are RDMAP's to check (RFC 5040 section 8.1).
    pub const fn tagged(self) -> TermError {
        match self {
            Denied::Key => TermError::DDP_INVALID_STAG,
            Denied::Rights => TermError::RDMAP_ACCESS,
            Denied::Invalidate => TermError::RDMAP_CANNOT_INVALIDATE,
            Denied::Domain => TermError::DDP_STAG_STREAM,
            Denied::Bounds | Denied::Unaligned => TermError::DDP_BOUNDS,
            Denied::Wrap => TermError::DDP_TO_WRAP,
        }
    }

    /// The Terminate for an RDMA Read or Atomic Request, whose source the RDMAP layer checks.
    pub const fn request(self) -> TermError {
        match self {
            Denied::Key => TermError::RDMAP_INVALID_STAG,
            Denied::Domain => TermError::RDMAP_STAG_STREAM,
            Denied::Rights => TermError::RDMAP_ACCESS,
            Denied::Invalidate => TermError::RDMAP_CANNOT_INVALIDATE,
            Denied::Bounds => TermError::RDMAP_BOUNDS,
            Denied::Wrap => TermError::RDMAP_TO_WRAP,
            // RFC 7306 section 8.2.
            Denied::Unaligned => TermError::RDMAP_STREAM,
        }
    }

    /// The `ib_wc_status` of a local work request: `IB_WC_LOC_PROT_ERR`.
    pub const fn local_status(self) -> u8 {
        4
    }
}

/// A range of registered memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address (tagged offset); zero for zero-based regions.
    pub base: u64,
    /// Bytes.
    pub length: u64,
    /// What it grants.
    pub rights: Rights,
}

impl Region {
    /// Where `len` bytes at `addr` begin in the region, if they are all in it.
    fn offset(&self, addr: u64, len: u64) -> Result<u64, Denied> {
        // The last byte may be the last one there is; the one behind it may not wrap further.
        if addr.checked_add(len.saturating_sub(1)).is_none() {
            return Err(Denied::Wrap);
        }
        let offset = addr.checked_sub(self.base).ok_or(Denied::Bounds)?;
        match self.length.checked_sub(offset) {
            Some(room) if len <= room => Ok(offset),
            _ => Err(Denied::Bounds),
        }
    }

    /// Checks that a window to `len` bytes at `addr`, which grants `rights` to peers, may be bound to
    /// the region (IBTA volume 1, C10-72 to C10-75). Returns where it begins in the region.
    pub fn bind(&self, rights: Rights, addr: u64, len: u64) -> Result<u64, Denied> {
        // The right to local write says nothing here, but is asked for all the same.
        let known = Access::RemoteRead
            .needs()
            .with(Access::RemoteWrite.needs())
            .with(Access::RemoteAtomic.needs())
            .with(Rights::LOCAL_WRITE)
            .with(Rights::ZERO_BASED);
        let writes = Rights::REMOTE_WRITE.with(Rights::REMOTE_ATOMIC).0 & rights.0 != 0;
        if !known.contains(rights)
            || !self.rights.contains(Rights::MW_BIND)
            || (writes && !self.rights.contains(Rights::LOCAL_WRITE))
        {
            return Err(Denied::Rights);
        }
        self.offset(addr, len)
    }

    /// Checks an access to `len` bytes at `addr`. Returns the offset in the region.
    ///
    /// An empty access touches nothing and is not checked at all (RFC 5041 section 7.1, RFC 5040
    /// section 7.2 rule 4): the caller need not even look up the key.
    pub fn check(&self, access: Access, addr: u64, len: u64) -> Result<u64, Denied> {
        if len == 0 {
            return Ok(0);
        }
        if !self.rights.contains(access.needs()) {
            return Err(Denied::Rights);
        }
        if access == Access::RemoteAtomic && addr % 8 != 0 {
            return Err(Denied::Unaligned);
        }
        self.offset(addr, len)
    }
}

/// The `ib_wc_status` of the work request that a received Terminate is about: access error (10),
/// invalid request (9), or operation error (11).
pub const fn remote_status(error: TermError) -> u8 {
    match (error.layer, error.etype) {
        (LAYER_RDMAP, 1) | (LAYER_DDP, 1) => 10,
        (LAYER_DDP, 2) => 9,
        _ => 11,
    }
}

/// The `ib_wc_status` of the oldest request of ours without an answer, a Read or an Atomic Request
/// (`oldest`), if a Terminate of the peer is about it. `None` if it was only interrupted.
pub fn refusal(terminate: &Terminate, oldest: Opcode) -> Option<u8> {
    let error = terminate.error;
    if !matches!(error.layer, LAYER_RDMAP | LAYER_DDP) {
        return None;
    }
    let refused = match (&terminate.culprit, oldest) {
        (Some(c), Opcode::ReadRequest) => error.etype == 1 && c.read().is_some(),
        // Of an Atomic Request no more than the DDP header is quoted.
        (Some(c), Opcode::AtomicRequest) => {
            matches!(error.etype, 1 | 2) && c.op() == Some(Opcode::AtomicRequest)
        }
        // A peer that does not know RFC 7306 may say so without quoting anything, as siw would; all else
        // that can wait for an answer it knows.
        (None, Opcode::AtomicRequest) => error == TermError::RDMAP_OPCODE,
        _ => false,
    };
    refused.then(|| remote_status(error))
}
