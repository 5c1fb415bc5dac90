// SPDX-License-Identifier: GPL-2.0

//! Number to object: QPNs, STags and the like.
//!
//! Look-ups take no lock. All run in any context, but for [`ObjTable::insert`]. An object that is removed is not found again, and the table's own reference to it is given
//! back after an RCU grace period, so that a look-up always finds a living one.

use crate::bindings;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::null_mut;
use kernel::alloc::flags::{GFP_ATOMIC, GFP_KERNEL};
use kernel::alloc::Flags;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::{rcu, Arc};
use kernel::types::Opaque;

/// What an xarray slot points to.
///
/// # Invariants
///
/// `rcu` stands first: a pointer to it is a pointer to the node.
#[repr(C)]
struct Node<T> {
    rcu: Opaque<bindings::callback_head>,
    object: Arc<T>,
}

/// A table of reference-counted objects, looked up under RCU.
///
/// # Invariants
///
/// Every entry of `xa` is a `KBox<Node<T>>` given up with `into_raw`.
#[pin_data(PinnedDrop)]
pub(crate) struct ObjTable<T: Send + Sync + 'static> {
    #[pin]
    xa: Opaque<bindings::xarray>,
    _own: PhantomData<Arc<T>>,
}

// SAFETY: The table hands out `Arc<T>` only, and `xa` is locked by itself.
unsafe impl<T: Send + Sync + 'static> Send for ObjTable<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync + 'static> Sync for ObjTable<T> {}

impl<T: Send + Sync + 'static> ObjTable<T> {
    /// An empty table.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `xa` points to memory for an xarray.
            xa <- Opaque::ffi_init(|xa| unsafe { bindings::rurdma_xa_init(xa) }),
            _own: PhantomData,
        })
    }

    /// Enters `object` at `index`. EBUSY if the place is taken. May sleep.
    pub(crate) fn insert(&self, index: u32, object: Arc<T>) -> Result {
        self.insert_with(index, object, GFP_KERNEL, bindings::GFP_KERNEL)
    }

    /// The same without sleeping.
    pub(crate) fn insert_atomic(&self, index: u32, object: Arc<T>) -> Result {
        self.insert_with(index, object, GFP_ATOMIC, bindings::GFP_ATOMIC)
    }

    fn insert_with(&self, index: u32, object: Arc<T>, flags: Flags, gfp: u32) -> Result {
        let node = KBox::into_raw(KBox::new(
            Node {
                rcu: Opaque::zeroed(),
                object,
            },
            flags,
        )?);
        // SAFETY: `xa` is initialised; `node` is valid and aligned to a pointer.
        let err =
            unsafe { bindings::rurdma_xa_insert(self.xa.get(), index as usize, node.cast(), gfp) };
        if err != 0 {
            // SAFETY: The xarray did not take the node, so it is ours again.
            drop(unsafe { KBox::from_raw(node) });
            return Err(Error::from_errno(err));
        }
        Ok(())
    }

    /// Keeps the place at `index` for an object to come; until then it is not found. EBUSY if the place is
    /// taken. May sleep.
    pub(crate) fn reserve(this: &Arc<Self>, index: u32) -> Result<Reserved<T>> {
        // SAFETY: `xa` is initialised; null is what reserves.
        to_result(unsafe {
            bindings::rurdma_xa_insert(
                this.xa.get(),
                index as usize,
                null_mut(),
                bindings::GFP_KERNEL,
            )
        })?;
        Ok(Reserved {
            table: this.clone(),
            index,
        })
    }

    /// Finds an object. Any context.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<Arc<T>> {
        let _guard = rcu::read_lock();
        // SAFETY: `xa` is initialised; `xa_load` takes the RCU lock by itself.
        let node = unsafe { bindings::xa_load(self.xa.get(), index as usize) };
        let node = node.cast::<Node<T>>();
        // SAFETY: By the type invariant it is a node, and `_guard` keeps it from being freed.
        unsafe { node.as_ref() }.map(|node| node.object.clone())
    }

    /// Calls `f` with every object, one after the other, without a lock held. Any context.
    pub(crate) fn for_each(&self, f: impl Fn(Arc<T>)) {
        let mut index = 0;
        loop {
            let object = {
                let _guard = rcu::read_lock();
                // SAFETY: `xa` is initialised; `xa_find` takes the RCU lock by itself.
                let node = unsafe {
                    bindings::xa_find(
                        self.xa.get(),
                        &mut index,
                        usize::MAX,
                        bindings::RURDMA_XA_PRESENT,
                    )
                };
                let node = node.cast::<Node<T>>();
                // SAFETY: By the type invariant it is a node, and `_guard` keeps it from being freed.
                unsafe { node.as_ref() }.map(|node| node.object.clone())
            };
            let Some(object) = object else { break };
            f(object);
            index += 1;
        }
    }

    /// Takes an object out. The caller's own reference keeps it alive.
    pub(crate) fn remove(&self, index: u32) {
        // SAFETY: `xa` is initialised.
        let node = unsafe { bindings::rurdma_xa_erase(self.xa.get(), index as usize) };
        let node = node.cast::<Node<T>>();
        if !node.is_null() {
            // SAFETY: The node left the xarray, so nobody finds it any more.
            unsafe { free_later(node) };
        }
    }
}

/// A place in a table that is kept for an object; given back on drop.
pub(crate) struct Reserved<T: Send + Sync + 'static> {
    table: Arc<ObjTable<T>>,
    index: u32,
}

impl<T: Send + Sync + 'static> Reserved<T> {
    /// Where it is.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Puts the object there. Taking it out is up to the caller now.
    pub(crate) fn fill(self, object: Arc<T>) -> Result {
        let node = KBox::into_raw(KBox::new(
            Node {
                rcu: Opaque::zeroed(),
                object,
            },
            GFP_KERNEL,
        )?);
        // SAFETY: `xa` is initialised; `node` is valid and aligned to a pointer.
        let err = unsafe {
            bindings::rurdma_xa_store(
                self.table.xa.get(),
                self.index as usize,
                node.cast(),
                bindings::GFP_KERNEL,
            )
        };
        if err != 0 {
            // SAFETY: The xarray did not take the node, so it is ours again.
            drop(unsafe { KBox::from_raw(node) });
            return Err(Error::from_errno(err));
        }
        // SAFETY: `self` is forgotten, so its reference to the table is ours to give back.
        drop(unsafe { core::ptr::read(&ManuallyDrop::new(self).table) });
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Drop for Reserved<T> {
    fn drop(&mut self) {
        self.table.remove(self.index);
    }
}

/// Frees a node once those who found it before are through.
///
/// # Safety
///
/// `node` is from `KBox::into_raw`, given up, and cannot be found any more.
unsafe fn free_later<T>(node: *mut Node<T>) {
    // SAFETY: By the caller's promise. The module calls `barrier()` before it goes.
    unsafe {
        bindings::call_rcu(
            Opaque::cast_into(&raw const (*node).rcu),
            Some(free_node::<T>),
        )
    };
}

/// Gives a reference back after an RCU grace period, as the table does. Whoever found the object before,
/// in softirq or with interrupts off, where it must not be freed, has given his back by then. Process
/// context.
pub(crate) fn give_back_later<T: Send + Sync + 'static>(object: Arc<T>) {
    let node = KBox::new(
        Node {
            rcu: Opaque::zeroed(),
            object: object.clone(),
        },
        GFP_KERNEL,
    );
    match node {
        // SAFETY: Nobody else knows of the node.
        Ok(node) => unsafe { free_later(KBox::into_raw(node)) },
        // SAFETY: May be called from process context.
        Err(_) => unsafe { bindings::synchronize_rcu() },
    }
    drop(object);
}

/// Frees a node after its grace period.
///
/// # Safety
///
/// `rcu` is the first field of a `KBox<Node<T>>` that was given up.
unsafe extern "C" fn free_node<T>(rcu: *mut bindings::callback_head) {
    // SAFETY: By the caller's promise and the type invariant of `Node`.
    drop(unsafe { KBox::from_raw(rcu.cast::<Node<T>>()) });
}

#[pinned_drop]
impl<T: Send + Sync + 'static> PinnedDrop for ObjTable<T> {
    fn drop(self: Pin<&mut Self>) {
        // Owners remove what they inserted; an entry left over would be a leak, not a danger.
        // SAFETY: Nobody else has the table any more.
        unsafe { bindings::xa_destroy(self.xa.get()) };
    }
}

/// Waits until every removed entry was given back. Process context.
pub(crate) fn barrier() {
    // SAFETY: May be called from process context at any time.
    unsafe { bindings::rcu_barrier() };
}
