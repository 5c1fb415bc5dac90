// SPDX-License-Identifier: GPL-2.0

//! Memory regions: which memory a key (STag, lkey, rkey) stands for, and who may do what with it.
//!
//! A key is 32 bits: a random index of 24 bits that the device picks, and 8 bits that a kernel user
//! may choose for each fast registration (`ib_update_fast_reg_key()`). lkey and rkey are the same.

use crate::device::Device;
use crate::kapi::random;
use crate::kapi::rdma::attr::access;
use crate::kapi::rdma::memory::{Memory, Registration};
use crate::kapi::rdma::mr::{MrInit, Rereg};
use crate::kapi::sync::{new_spinlock_irq, SpinLockIrq};
use crate::kapi::table::give_back_later;
use crate::pd::Pd;
use crate::proto::access::{Denied, Region, Rights};
use crate::verbs::Rurdma;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::Arc;

mod granted;
mod held;
pub(crate) mod sges;
mod span;

pub(crate) use granted::{Granted, Whose};
pub(crate) use held::Held;
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
}

/// What a key grants. Whoever finds the memory enters it with the lock held, so that a change of
/// any of this can wait for those who found what was before.
struct Desc {
    memory: Arc<Memory>,
    key: u32,
    /// Accesses are refused while false (a fast registration that is not in force).
    valid: bool,
    /// May be invalidated by a peer or a work request.
    fast: bool,
    access: u32,
    pd: u64,
    iova: u64,
    length: u64,
    /// Memory windows that are bound to it.
    windows: u32,
    /// It was deregistered: nothing is bound to it any more.
    dead: bool,
}

/// A random index that no key has. Called with the device's `keys` held until it is entered.
pub(crate) fn free_index(dev: &Device) -> Result<u32> {
    for _ in 0..INDEX_TRIES {
        let index = key_index(random::u32());
        // Index 0 would give the key of all memory.
        if index != 0 && dev.mrs.get(index).is_none() && dev.mws.get(index).is_none() {
            return Ok(index);
        }
    }
    Err(ENOMEM)
}

/// Where the table keeps the MR with this key.
pub(crate) fn key_index(key: u32) -> u32 {
    key >> 8
}

impl Mr {
    /// Makes an MR and enters it into the device's table.
    pub(crate) fn create(pd: &Arc<Pd>, init: MrInit) -> Result<Arc<Self>> {
        let dev = &pd.dev;
        let desc = match init {
            MrInit::Dma { access } => Desc {
                access,
                length: u64::MAX,
                ..Desc::new(pd, dev.kernel_memory.clone())
            },
            MrInit::User {
                memory,
                iova,
                length,
                access,
            } => Desc {
                access,
                iova,
                length,
                ..Desc::new(pd, memory)
            },
            MrInit::Fast { max_pages } => {
                if max_pages == 0 || max_pages > crate::device::MAX_FAST_REG_PAGES {
                    return Err(EINVAL);
                }
                Desc {
                    valid: false,
                    fast: true,
                    ..Desc::new(pd, Memory::fast(max_pages)?)
                }
            }
        };
        // What a peer flushes is to be persistent then, so that the memory has to be.
        if desc.access & access::FLUSH_PERSISTENT != 0 && !desc.memory.is_persistent() {
            return Err(EINVAL);
        }
        dev.limits.mr.take()?;
        Self::enter(dev, desc).inspect_err(|_| dev.limits.mr.give())
    }

    /// Finds a key, and enters an MR under it into the device's table.
    fn enter(dev: &Arc<Device>, mut desc: Desc) -> Result<Arc<Self>> {
        let _keys = dev.keys.lock();
        let index = free_index(dev)?;
        desc.key = index << 8 | (random::u32() & 0xff);
        let mr = Arc::pin_init(
            try_pin_init!(Self {
                dev: dev.clone(),
                index,
                desc <- new_spinlock_irq!(desc, "Mr::desc"),
            }),
            GFP_KERNEL,
        )?;
        dev.mrs.insert(index, mr.clone())?;
        Ok(mr)
    }

    /// The key, as lkey and rkey.
    pub(crate) fn key(&self) -> u32 {
        self.desc.lock().key
    }

    /// After this returns nobody accesses the memory any more. EBUSY, and nothing has changed, while a
    /// window is bound to it, as IBTA's Deregister Memory Region has it.
    pub(crate) fn destroy(&self) -> Result {
        let memory = {
            let mut desc = self.desc.lock();
            if desc.windows > 0 {
                return Err(EBUSY);
            }
            desc.dead = true;
            desc.memory.clone()
        };
        self.dev.mrs.remove(self.index);
        // All of the kernel's memory is the device's.
        if !memory.is_kernel() {
            memory.revoke();
        }
        self.dev.limits.mr.give();
        Ok(())
    }

    /// Binds a window of PD `pd` to `length` bytes at `addr`, with these rights of peers: gives the memory,
    /// which is the same until [`Mr::unbind`], and where in it that begins. Any context.
    pub(crate) fn bind(
        &self,
        key: u32,
        pd: u64,
        addr: u64,
        length: u64,
        rights: Rights,
    ) -> Result<(Arc<Memory>, u64), Denied> {
        let mut desc = self.desc.lock();
        // Kernel users have no windows, and a fast registration ends without asking.
        if desc.dead || desc.key != key || !desc.memory.is_user() {
            return Err(Denied::Key);
        }
        if desc.pd != pd {
            return Err(Denied::Domain);
        }
        let offset = desc.region().bind(rights, addr, length)?;
        desc.windows += 1;
        Ok((desc.memory.clone(), offset))
    }

    /// A window is not bound to it any more. Any context.
    pub(crate) fn unbind(&self) {
        let mut desc = self.desc.lock();
        desc.windows = desc.windows.saturating_sub(1);
    }

    /// `ibv_rereg_mr(3)`. The change is there at once for whoever comes; whoever copies by what was
    /// before is waited for. On failure the MR is as it was. EBUSY while a window is bound to it, as
    /// IBTA's Reregister Memory Region has it. One at a time.
    pub(crate) fn rereg(&self, change: &Rereg<'_, Rurdma>) -> Result {
        const WRITES: u32 = access::LOCAL_WRITE | access::REMOTE_WRITE | access::REMOTE_ATOMIC;

        let (present, access) = {
            let desc = self.desc.lock();
            (desc.memory.clone(), change.access.unwrap_or(desc.access))
        };
        let pinned = match change.range {
            Some(range) => Some(change.pinner.pin(range.start, range.length, access)?),
            // The pages were pinned for reading only.
            None if access & WRITES != 0 && !present.writable() => {
                Some(change.pinner.pin_again(&present, access)?)
            }
            None => None,
        };
        let others = pinned.is_some();
        let mut memory = match pinned {
            Some(memory) => memory,
            None => present.again()?,
        };
        drop(present);
        if access & access::FLUSH_PERSISTENT != 0 && !memory.is_persistent() {
            return Err(EINVAL);
        }
        {
            let mut guard = self.desc.lock();
            let desc = &mut *guard;
            if desc.windows > 0 {
                return Err(EBUSY);
            }
            core::mem::swap(&mut desc.memory, &mut memory);
            desc.access = access;
            if let Some(pd) = change.pd {
                desc.pd = pd.id;
            }
            if let Some(range) = change.range {
                desc.iova = range.iova;
                desc.length = range.length;
            }
        }
        // What was before.
        if others {
            memory.revoke();
        } else {
            memory.close();
        }
        give_back_later(memory);
        Ok(())
    }

    /// Takes a page list for the next fast registration (`ib_map_mr_sg()`).
    pub(crate) fn map_sg(&self, registration: Registration<'_>) -> Result<c_int> {
        let memory = self.desc.lock().memory.clone();
        let (n, iova, length) = registration.take(&memory)?;
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
        let memory = desc.memory.clone();
        drop(desc);
        // Whoever found it in force may be copying.
        memory.invalidate();
        Ok(())
    }
}

impl Desc {
    /// All of it valid, nothing allowed yet.
    fn new(pd: &Pd, memory: Arc<Memory>) -> Self {
        Self {
            memory,
            key: 0,
            valid: true,
            fast: false,
            access: 0,
            pd: pd.id,
            iova: 0,
            length: 0,
            windows: 0,
            dead: false,
        }
    }

    /// What may be accessed how.
    fn region(&self) -> Region {
        Region {
            base: self.iova,
            length: self.length,
            rights: Rights(self.access),
        }
    }
}
