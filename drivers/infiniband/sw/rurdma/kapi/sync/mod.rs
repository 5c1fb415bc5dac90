// SPDX-License-Identifier: GPL-2.0

//! Locks that the kernel crate lacks.

mod gate;
mod owner;
mod spin_irq;

pub(crate) use gate::Gate;
pub(crate) use owner::{Owner, Turn};
pub(crate) use spin_irq::{new_spinlock_irq, SpinLockIrq, SpinLockIrqGuard};
