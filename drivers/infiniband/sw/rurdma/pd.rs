// SPDX-License-Identifier: GPL-2.0

//! Protection domains.

#![forbid(unsafe_code)]

use crate::device::Device;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::Atomic;
use kernel::sync::Arc;

/// A protection domain: what ties MRs, QPs and SRQs that may be used together.
pub(crate) struct Pd {
    /// The device.
    pub(crate) dev: Arc<Device>,
    /// Never used twice, so that a late access cannot be taken for one of a newer PD.
    pub(crate) id: u64,
}

static NEXT_ID: Atomic<i64> = Atomic::new(1);

impl Pd {
    /// `ibv_alloc_pd(3)`.
    pub(crate) fn create(dev: &Arc<Device>) -> Result<Arc<Self>> {
        dev.limits.pd.take()?;
        let id = NEXT_ID.fetch_add(1, Relaxed) as u64;
        Arc::new(
            Self {
                dev: dev.clone(),
                id,
            },
            GFP_KERNEL,
        )
        .map_err(|e| {
            dev.limits.pd.give();
            e.into()
        })
    }

    /// `ibv_dealloc_pd(3)`.
    pub(crate) fn destroy(&self) {
        self.dev.limits.pd.give();
    }
}
