// SPDX-License-Identifier: GPL-2.0

//! Locks that the kernel crate lacks.

mod spin_irq;

pub(crate) use spin_irq::{new_spinlock_irq, SpinLockIrq, SpinLockIrqGuard};
