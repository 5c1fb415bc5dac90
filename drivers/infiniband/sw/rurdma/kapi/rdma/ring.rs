// SPDX-License-Identifier: GPL-2.0

//! The shared rings and doorbells of `proto::ring`, in an [`Area`] that lives as long as they do.

use crate::kapi::rdma::mmap::Area;
use crate::proto::ring::{doorbell_bytes, DoorbellMem, RingMem, StatusMem};
use crate::proto::sync::Word as _;
use core::ops::Deref;
use kernel::prelude::*;
use kernel::sync::Arc;

/// A view of shared memory and the memory itself.
pub(crate) struct Shared<T> {
    view: T,
    area: Arc<Area>,
}

/// A ring of work or completion queue entries.
pub(crate) type Ring = Shared<RingMem>;
/// The doorbell region of a context.
pub(crate) type Doorbells = Shared<DoorbellMem>;
/// The read-only page of a context.
pub(crate) type Status = Shared<StatusMem>;

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.view
    }
}

impl<T> Shared<T> {
    /// The memory, for a mapping of it.
    pub(crate) fn area(&self) -> &Arc<Area> {
        &self.area
    }
}

impl Ring {
    /// Allocates a ring of `depth` entries (a power of two) of `stride` bytes. Process context.
    pub(crate) fn alloc(depth: u32, stride: u32, user: bool) -> Result<Self> {
        Self::over(
            Area::new(RingMem::bytes(depth, stride), user)?,
            depth,
            stride,
        )
    }

    /// Another view of the same ring, to read it while its owner works on it. Any context.
    pub(crate) fn again(&self) -> Result<Self> {
        Self::over(self.area.clone(), self.depth(), self.stride())
    }

    fn over(area: Arc<Area>, depth: u32, stride: u32) -> Result<Self> {
        // SAFETY: The area is zeroed memory of this length, page-aligned, that lives as long as the
        // view; everyone accesses it through such views or, in user space, the same way.
        let view = unsafe { RingMem::new(area.base(), area.len(), depth, stride) };
        Ok(Self {
            view: view.ok_or(EINVAL)?,
            area,
        })
    }
}

impl Doorbells {
    /// Allocates doorbells for `slots` QPs of a process.
    pub(crate) fn alloc(slots: u32) -> Result<Self> {
        let area = Area::new(doorbell_bytes(slots), true)?;
        // SAFETY: As in `Ring::alloc`.
        let view = unsafe { DoorbellMem::new(area.base(), area.len(), slots) };
        Ok(Self {
            view: view.ok_or(EINVAL)?,
            area,
        })
    }
}

impl Status {
    /// Allocates the read-only page of a process's context.
    pub(crate) fn alloc() -> Result<Self> {
        let area = Area::new(StatusMem::BYTES, true)?;
        // SAFETY: As in `Ring::alloc`.
        let view = unsafe { StatusMem::new(area.base(), area.len()) };
        Ok(Self {
            view: view.ok_or(EINVAL)?,
            area,
        })
    }
}

impl Ring {
    /// Empties the ring; nobody uses it meanwhile (the QP is in RESET).
    pub(crate) fn reset(&self) {
        self.consumer().store_relaxed(0);
        self.producer().store_relaxed(0);
        self.flags().store_relaxed(0);
    }
}
