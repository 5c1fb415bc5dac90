// SPDX-License-Identifier: GPL-2.0

//! Address handles.

#![forbid(unsafe_code)]

use crate::device::Device;
use crate::kapi::random;
use crate::kapi::rdma::av::Av;
use crate::pd::Pd;
use crate::ucontext::Ucontext;
use kernel::alloc::flags::GFP_ATOMIC;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Tries to find a free random handle before giving up.
const HANDLE_TRIES: usize = 64;

/// An address handle: where a datagram goes.
pub(crate) struct Ah {
    dev: Arc<Device>,
    /// By which work requests name it; never 0.
    pub(crate) handle: u32,
    /// That of the process.
    context: Option<Arc<Ucontext>>,
    /// PD of the QPs that may use it.
    pub(crate) pd: u64,
    /// The path.
    pub(crate) av: Av,
}

impl Ah {
    /// `ibv_create_ah(3)`, of a process with its context. Any context.
    pub(crate) fn create(
        pd: &Arc<Pd>,
        av: Av,
        context: Option<Arc<Ucontext>>,
    ) -> Result<Arc<Self>> {
        let dev = &pd.dev;
        dev.limits.ah.take()?;
        let made = Self::enter(dev, pd.id, av, context);
        if made.is_err() {
            dev.limits.ah.give();
        }
        made
    }

    fn enter(
        dev: &Arc<Device>,
        pd: u64,
        av: Av,
        context: Option<Arc<Ucontext>>,
    ) -> Result<Arc<Self>> {
        for _ in 0..HANDLE_TRIES {
            let handle = random::u32();
            if handle == 0 || dev.ahs.get(handle).is_some() {
                continue;
            }
            let ah = Arc::new(
                Self {
                    dev: dev.clone(),
                    handle,
                    context: context.clone(),
                    pd,
                    av,
                },
                GFP_ATOMIC,
            )?;
            match dev.ahs.insert_atomic(handle, ah.clone()) {
                Ok(()) => return Ok(ah),
                // Somebody else was faster.
                Err(e) if e == EBUSY => {}
                Err(e) => return Err(e),
            }
        }
        Err(ENOMEM)
    }

    /// `ibv_destroy_ah(3)`: what was posted with it before is on its way. Any context, but process context if
    /// it is a process's.
    pub(crate) fn destroy(&self) {
        if let Some(context) = &self.context {
            context.catch_up();
        }
        self.dev.ahs.remove(self.handle);
        self.dev.limits.ah.give();
    }
}
