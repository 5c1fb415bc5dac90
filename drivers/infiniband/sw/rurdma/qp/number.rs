// SPDX-License-Identifier: GPL-2.0

//! QP numbers: no two QPs of the module have the same, so that a packet's number says which it is for,
//! whatever link it comes by.

use super::Qp;
use crate::device::MAX_QP;
use crate::kapi::random;
use crate::kapi::slot::Slot;
use crate::kapi::table::{ObjTable, Reserved};
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::Arc;

static NUMBERS: Slot<ObjTable<Qp>> = Slot::new();

/// Numbers have 24 bits. 0 and 1 are the management QPs of IB, the last one stands for a multicast group.
const MASK: u32 = 0xff_ffff;
const FIRST: u32 = 2;

/// Tries to find a free random number before giving up.
const TRIES: usize = 64;
const _: () = assert!(
    MAX_QP < MASK / 64,
    "of one link's QPs no two tries in a row collide"
);

/// At the module's init.
pub(crate) fn init() -> Result {
    NUMBERS.set(Arc::pin_init(ObjTable::new(), GFP_KERNEL)?)
}

/// At the module's exit, when there are no QPs any more.
pub(crate) fn exit() {
    drop(NUMBERS.take());
}

/// All QPs, by number; but for those of the GSI, of which every link has one.
pub(crate) fn table() -> Result<Arc<ObjTable<Qp>>> {
    NUMBERS.get().ok_or(ENODEV)
}

/// A random number that no QP has. ENOMEM: none was found.
pub(super) fn take() -> Result<Reserved<Qp>> {
    let table = table()?;
    for _ in 0..TRIES {
        let number = random::u32() & MASK;
        if !(FIRST..MASK).contains(&number) {
            continue;
        }
        match ObjTable::reserve(&table, number) {
            Err(e) if e == EBUSY => {}
            other => return other,
        }
    }
    Err(ENOMEM)
}

/// The QP goes.
pub(super) fn give(number: u32) {
    if let Some(table) = NUMBERS.get() {
        table.remove(number);
    }
}
