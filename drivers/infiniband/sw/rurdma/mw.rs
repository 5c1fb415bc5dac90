// SPDX-License-Identifier: GPL-2.0

//! Memory windows: a part of an MR under a key of its own, for peers only (IBTA volume 1, section
//! 10.6.7; for iWARP the STags of RFC 5042 that are valid for a stream or for a PD).
//!
//! A window is bound, and its binding ended, by work requests and by peers: in softirq as well, where
//! nobody can be waited for. So each copy through a window holds its lease for as long as it takes.

#![forbid(unsafe_code)]

use crate::device::Device;
use crate::kapi::random;
use crate::kapi::rdma::lease::Lease;
use crate::kapi::rdma::memory::Memory;
use crate::kapi::rdma::mw::MwType;
use crate::kapi::sync::{new_spinlock_irq, SpinLockIrq};
use crate::mr::{free_index, key_index, Granted, Mr};
use crate::pd::Pd;
use crate::proto::access::{Denied, Region, Rights};
use crate::proto::wqe::abi::ExtBind;
use crate::qp::Qp;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::Arc;

/// A memory window.
#[pin_data]
pub(crate) struct Mw {
    dev: Arc<Device>,
    /// Id of its PD.
    pd: u64,
    /// Upper 24 bits of the key.
    index: u32,
    kind: MwType,
    #[pin]
    state: SpinLockIrq<State>,
    lease: Arc<Lease>,
}

struct State {
    key: u32,
    bound: Option<Bound>,
    /// It was deallocated: nothing is bound to it any more.
    dead: bool,
}

/// What a window is bound to.
struct Bound {
    /// Counts the window until [`Mr::unbind`].
    mr: Arc<Mr>,
    /// The MR's memory, which stays the same as long as a window is bound.
    memory: Arc<Memory>,
    /// Where it begins in that.
    offset: u64,
    /// What peers may do with which addresses.
    region: Region,
    /// Type 2: the life of the QP that it is open to ([`Qp::life`]).
    life: Option<i64>,
}

impl Mw {
    /// `ibv_alloc_mw(3)`: not bound.
    pub(crate) fn create(pd: &Arc<Pd>, kind: MwType) -> Result<Arc<Self>> {
        let dev = &pd.dev;
        dev.limits.mw.take()?;
        Self::enter(pd, kind).inspect_err(|_| dev.limits.mw.give())
    }

    fn enter(pd: &Arc<Pd>, kind: MwType) -> Result<Arc<Self>> {
        let dev = &pd.dev;
        let lease = Lease::new()?;
        let _keys = dev.keys.lock();
        let index = free_index(dev)?;
        let state = State {
            key: index << 8 | (random::u32() & 0xff),
            bound: None,
            dead: false,
        };
        let mw = Arc::pin_init(
            try_pin_init!(Self {
                dev: dev.clone(),
                pd: pd.id,
                index,
                kind,
                state <- new_spinlock_irq!(state, "Mw::state"),
                lease,
            }),
            GFP_KERNEL,
        )?;
        dev.mws.insert(index, mw.clone())?;
        Ok(mw)
    }

    /// The present key.
    pub(crate) fn key(&self) -> u32 {
        self.state.lock().key
    }

    /// `ibv_dealloc_mw(3)`: after this returns nobody accesses memory by way of it. Process context.
    pub(crate) fn destroy(&self) {
        self.dev.mws.remove(self.index);
        let bound = {
            let mut state = self.state.lock();
            state.dead = true;
            self.unbind(&mut state)
        };
        if let Some(bound) = bound {
            bound.mr.unbind();
        }
        self.dev.limits.mw.give();
    }

    /// Ends the binding. What it was is to be given back without the lock.
    fn unbind(&self, state: &mut State) -> Option<Bound> {
        let bound = state.bound.take();
        if bound.is_some() {
            self.lease.end();
        }
        bound
    }

    /// BIND_MW (IBTA volume 1, sections 10.6.7.2.1 and 10.6.7.2.2). Of a window of type 1 it ends the
    /// binding of before, and with length 0 that is all it does; one of type 2 must not be bound.
    fn bind(&self, qp: &Qp, bind: &ExtBind) -> Result<(), Denied> {
        let rights = Rights(bind.access);
        if self.pd != qp.pd.id {
            return Err(Denied::Domain);
        }
        // The owner of a window chooses the lower 8 bits of its key.
        if key_index(bind.new_rkey) != self.index {
            return Err(Denied::Key);
        }
        let two = self.kind == MwType::Two;
        let new = match bind.length {
            0 if two => return Err(Denied::Bounds),
            0 => None,
            length => {
                if !two && rights.contains(Rights::ZERO_BASED) {
                    return Err(Denied::Rights);
                }
                let mr = self
                    .dev
                    .mrs
                    .get(key_index(bind.mr_lkey))
                    .ok_or(Denied::Key)?;
                let (memory, offset) = mr.bind(bind.mr_lkey, self.pd, bind.addr, length, rights)?;
                Some(Bound {
                    mr,
                    memory,
                    offset,
                    region: Region {
                        base: if rights.contains(Rights::ZERO_BASED) {
                            0
                        } else {
                            bind.addr
                        },
                        length,
                        rights,
                    },
                    life: two.then(|| qp.life()),
                })
            }
        };
        let (result, spare) = {
            let mut state = self.state.lock();
            if state.dead || (two && state.bound.is_some()) {
                (Err(Denied::Invalidate), new)
            } else {
                let old = self.unbind(&mut state);
                state.key = bind.new_rkey;
                state.bound = new;
                (Ok(()), old)
            }
        };
        if let Some(bound) = spare {
            bound.mr.unbind();
        }
        result
    }

    /// Ends the binding of a window of type 2, if it has this key and is of PD `pd`; `life`: and open to
    /// this QP, as a peer asks who knows the QP only.
    fn invalidate(&self, key: u32, pd: u64, life: Option<i64>) -> Result<(), Denied> {
        if self.kind == MwType::One {
            return Err(Denied::Invalidate);
        }
        if self.pd != pd {
            return Err(Denied::Domain);
        }
        let bound = {
            let mut state = self.state.lock();
            let Some(bound) = state.bound.as_ref().filter(|_| state.key == key) else {
                return Err(Denied::Key);
            };
            if life.is_some() && bound.life != life {
                return Err(Denied::Domain);
            }
            self.unbind(&mut state)
        };
        if let Some(bound) = bound {
            bound.mr.unbind();
        }
        Ok(())
    }

    /// What it grants to the peer of a QP, to whom it must be open. Any context.
    pub(crate) fn grant(&self, qp: &Qp, key: u32) -> Result<Granted, Denied> {
        let state = self.state.lock();
        let Some(bound) = state.bound.as_ref().filter(|_| state.key == key) else {
            return Err(Denied::Key);
        };
        if self.pd != qp.pd.id || bound.life.is_some_and(|life| life != qp.life()) {
            return Err(Denied::Domain);
        }
        let access = bound.memory.enter().ok_or(Denied::Key)?;
        Ok(Granted {
            access: access.by(&self.lease),
            region: bound.region,
            start: bound.offset,
            life: bound.life,
        })
    }
}

impl Qp {
    /// BIND_MW: `key` tells which window.
    pub(crate) fn bind_mw(&self, key: u32, bind: &ExtBind) -> Result<(), Denied> {
        let mw = self.dev.mws.get(key_index(key)).ok_or(Denied::Key)?;
        mw.bind(self, bind)
    }

    /// LOCAL_INV, or READ_INV of our own: ends a fast registration, or the binding of a window.
    pub(crate) fn invalidate(&self, key: u32) -> Result<(), Denied> {
        self.invalidate_for(key, None)
    }

    /// The same, as a peer asks: a window must be open to this QP.
    pub(crate) fn invalidate_by_peer(&self, key: u32) -> Result<(), Denied> {
        self.invalidate_for(key, Some(self.life()))
    }

    fn invalidate_for(&self, key: u32, life: Option<i64>) -> Result<(), Denied> {
        let index = key_index(key);
        if let Some(mr) = self.dev.mrs.get(index) {
            return mr.invalidate(key, self.pd.id);
        }
        let mw = self.dev.mws.get(index).ok_or(Denied::Key)?;
        mw.invalidate(key, self.pd.id, life)
    }
}
