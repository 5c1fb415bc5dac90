// SPDX-License-Identifier: GPL-2.0

//! Memory regions: which memory a key (STag, lkey, rkey) stands for, and who may do what with it.
//!
//! A key is 32 bits: a random index of 24 bits that the device picks, and 8 bits that a kernel user
//! may choose for each fast registration (`ib_update_fast_reg_key()`). lkey and rkey are the same.

use crate::device::Device;
use crate::kapi::errno::not_supported;
use crate::kapi::random;
use crate::kapi::rdma::attr::access;
use crate::kapi::rdma::memory::{Memory, Registration};
use crate::kapi::rdma::mr::MrInit;
use crate::kapi::sync::{new_spinlock_irq, SpinLockIrq};
use crate::pd::Pd;
use crate::proto::access::Denied;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::Arc;

pub(crate) mod sges;
mod span;

pub(crate) use span::Span;

/// Tries to find a free random index before giving up.
const INDEX_TRIES: usize = 64;

/// The lkey of all of the kernel's memory (`ib_device.local_dma_lkey`).
pub(crate) const LOCAL_DMA_LKEY: u32 = 0;

/// A memory region.
#[pin_data]
pub(crate) struct Mr {
    dev: Arc<Device>,
    /// Upper 24 bits of the key.
    index: u32,
    #[pin]
    desc: SpinLockIrq<Desc>,
    memory: Arc<Memory>,
}

/// What a key grants.
#[derive(Clone, Copy)]
struct Desc {
    key: u32,
    /// Accesses are refused while false (a fast registration that is not in force).
    valid: bool,
    /// May be invalidated by a peer or a work request.
    fast: bool,
    access: u32,
    pd: u64,
    iova: u64,
    length: u64,
}

/// Where the table keeps the MR with this key.
pub(crate) fn key_index(key: u32) -> u32 {
    key >> 8
}

impl Mr {
    /// Makes an MR and enters it into the device's table.
    pub(crate) fn create(pd: &Arc<Pd>, init: MrInit) -> Result<Arc<Self>> {
        let dev = &pd.dev;
        let (memory, mut desc) = match init {
            MrInit::Dma { access } => (
                dev.kernel_memory.clone(),
                Desc {
                    access,
                    iova: 0,
                    length: u64::MAX,
                    ..Desc::new(pd)
                },
            ),
            MrInit::User {
                memory,
                iova,
                length,
                access,
            } => (
                memory,
                Desc {
                    access,
                    iova,
                    length,
                    ..Desc::new(pd)
                },
            ),
            MrInit::Fast { max_pages } => {
                if max_pages == 0 || max_pages > crate::device::MAX_FAST_REG_PAGES {
                    return Err(EINVAL);
                }
                (
                    Memory::fast(max_pages)?,
                    Desc {
                        valid: false,
                        fast: true,
                        access: 0,
                        ..Desc::new(pd)
                    },
                )
            }
        };
        // What a peer flushes is to be persistent then, so that the memory has to be.
        if desc.access & access::FLUSH_PERSISTENT != 0 && !memory.is_persistent() {
            return Err(EINVAL);
        }
        dev.limits.mr.take()?;
        let mut memory = Some(memory);
        for _ in 0..INDEX_TRIES {
            let key = random::u32();
            let index = key_index(key);
            // Index 0 would give the key of all memory.
            if index == 0 || dev.mrs.get(index).is_some() {
                continue;
            }
            desc.key = key;
            let Some(m) = memory.take() else { break };
            let made = Arc::pin_init(
                try_pin_init!(Self {
                    dev: dev.clone(),
                    index,
                    desc <- new_spinlock_irq!(desc, "Mr::desc"),
                    memory: m,
                }),
                GFP_KERNEL,
            );
            return match made.and_then(|mr| dev.mrs.insert(index, mr.clone()).map(|()| mr)) {
                Ok(mr) => Ok(mr),
                Err(e) => {
                    dev.limits.mr.give();
                    Err(e)
                }
            };
        }
        dev.limits.mr.give();
        Err(ENOMEM)
    }

    /// The key, as lkey and rkey.
    pub(crate) fn key(&self) -> u32 {
        self.desc.lock().key
    }

    /// After this returns nobody accesses the memory any more.
    pub(crate) fn destroy(&self) {
        self.dev.mrs.remove(self.index);
        // All of the kernel's memory is the device's.
        if !self.memory.is_kernel() {
            self.memory.revoke();
        }
        self.dev.limits.mr.give();
    }

    /// Changes PD or access rights.
    pub(crate) fn rereg(&self, pd: Option<&Arc<Pd>>, access: Option<u32>) -> Result {
        const WRITES: u32 = access::LOCAL_WRITE | access::REMOTE_WRITE | access::REMOTE_ATOMIC;
        // The pages may have been pinned for reading only.
        if access.is_some_and(|a| a & WRITES != 0) && !self.memory.writable() {
            return Err(not_supported());
        }
        if access.is_some_and(|a| a & access::FLUSH_PERSISTENT != 0) && !self.memory.is_persistent()
        {
            return Err(EINVAL);
        }
        let mut desc = self.desc.lock();
        if let Some(pd) = pd {
            desc.pd = pd.id;
        }
        if let Some(access) = access {
            desc.access = access;
        }
        Ok(())
    }

    /// Takes a page list for the next fast registration (`ib_map_mr_sg()`).
    pub(crate) fn map_sg(&self, registration: Registration<'_>) -> Result<c_int> {
        let (n, iova, length) = registration.take(&self.memory)?;
        let mut desc = self.desc.lock();
        desc.iova = iova;
        desc.length = length;
        Ok(n)
    }

    /// Puts a fast registration in force (REG_MR).
    pub(crate) fn register(&self, key: u32, access: u32, pd: u64) -> Result<(), Denied> {
        if access & access::FLUSH_PERSISTENT != 0 {
            return Err(Denied::Rights);
        }
        let mut desc = self.desc.lock();
        if !desc.fast || desc.valid || key_index(key) != self.index || desc.pd != pd {
            return Err(Denied::Key);
        }
        desc.key = key;
        desc.access = access;
        desc.valid = true;
        Ok(())
    }

    /// Ends a fast registration (LOCAL_INV, a peer's SEND_INV, READ_INV).
    pub(crate) fn invalidate(&self, key: u32, pd: u64) -> Result<(), Denied> {
        let mut desc = self.desc.lock();
        if !desc.fast || desc.key != key || desc.pd != pd {
            return Err(Denied::Invalidate);
        }
        desc.valid = false;
        drop(desc);
        // Whoever found it in force may be copying.
        self.memory.invalidate();
        Ok(())
    }
}

impl Desc {
    /// All of it valid, nothing allowed yet.
    fn new(pd: &Pd) -> Self {
        Self {
            key: 0,
            valid: true,
            fast: false,
            access: 0,
            pd: pd.id,
            iova: 0,
            length: 0,
        }
    }
}
