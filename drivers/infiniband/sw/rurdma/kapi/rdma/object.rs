// SPDX-License-Identifier: GPL-2.0

//! Verbs objects: memory of the core's, with a Rust object behind it.
//!
//! The core allocates most verbs objects zeroed, in the size the driver asks for, and frees them
//! with `kfree()`: nothing of Rust's is dropped by that. So behind the C object stands nothing but
//! a reference to the driver's own object, set when the core asks to create and taken back when it
//! asks to destroy. The driver's object may live on; its way back to the C object is a [`Handle`],
//! which the destruction revokes.

use crate::kapi::sync::SpinLockIrq;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::{Arc, LockClassKey};
use kernel::types::Opaque;

/// A C object of type `C` and behind it the driver's `T`.
///
/// # Invariants
///
/// `inner` and `handle` change only while the core creates or destroys the object, when nobody
/// else has it. All zeros is a valid object without either (`Arc` is a non-null pointer).
#[repr(C)]
pub(crate) struct Object<C, T> {
    raw: Opaque<C>,
    inner: UnsafeCell<Option<Arc<T>>>,
    handle: UnsafeCell<Option<Arc<Handle<C>>>>,
}

impl<C, T> Object<C, T> {
    /// # Safety
    ///
    /// `raw` must be the first field of a living `Object<C, T>`.
    pub(super) unsafe fn from_raw<'a>(raw: *mut C) -> &'a Self {
        // SAFETY: By the caller's promise; the type is `repr(C)`.
        unsafe { &*raw.cast::<Self>() }
    }

    /// Makes the object's handle. `class` is lockdep's, one for each type of object: upcalls of a CQ
    /// may come to a QP.
    ///
    /// # Safety
    ///
    /// Only from the callback that creates the object.
    pub(super) unsafe fn make_handle(
        &self,
        class: Pin<&'static LockClassKey>,
    ) -> Result<Arc<Handle<C>>> {
        let handle = Handle::new(self.raw.get(), class)?;
        // SAFETY: By the caller's promise nobody else looks at the object.
        unsafe { *self.handle.get() = Some(handle.clone()) };
        Ok(handle)
    }

    /// Ties the driver's object to the core's.
    ///
    /// # Safety
    ///
    /// Only from the callback that creates the object.
    pub(super) unsafe fn set(&self, inner: Arc<T>) {
        // SAFETY: By the caller's promise nobody else looks at the object.
        unsafe { *self.inner.get() = Some(inner) };
    }

    /// The driver's object. EINVAL where creation has not come so far.
    ///
    /// # Safety
    ///
    /// The object must live, and its destruction must not run meanwhile.
    pub(super) unsafe fn get<'a>(raw: *mut C) -> Result<&'a Arc<T>> {
        // SAFETY: By the caller's promise and the type invariant.
        let inner = unsafe { &*Self::from_raw(raw).inner.get() };
        inner.as_ref().ok_or(EINVAL)
    }

    /// Revokes the handle: no upcall comes any more. The driver's object stays.
    ///
    /// # Safety
    ///
    /// The object must live, and neither its creation nor its destruction run meanwhile.
    pub(super) unsafe fn revoke(&self) {
        // SAFETY: By the caller's promise and the type invariant nobody changes it.
        if let Some(handle) = unsafe { &*self.handle.get() } {
            handle.revoke();
        }
    }

    /// Takes the driver's object away and revokes the handle.
    ///
    /// # Safety
    ///
    /// Only from the callback that destroys the object, or that fails to create it.
    pub(super) unsafe fn take(&self) -> Option<Arc<T>> {
        // SAFETY: By the caller's promise nobody else looks at the object.
        let (inner, handle) = unsafe { ((*self.inner.get()).take(), (*self.handle.get()).take()) };
        if let Some(handle) = handle {
            handle.revoke();
        }
        inner
    }
}

/// The driver's way back to an object of the core's, valid until that is destroyed.
///
/// Upcalls are made under the handle's lock, so the destruction of the object waits for them. The
/// lock is a leaf for the driver: none of its own is taken inside.
#[pin_data]
pub(crate) struct Handle<C> {
    #[pin]
    raw: SpinLockIrq<Option<Shared<C>>>,
}

/// A pointer that may be sent: the object is used under the handle's lock only.
struct Shared<C>(NonNull<C>);

// SAFETY: The C objects carry their own locks for what the upcalls touch.
unsafe impl<C> Send for Shared<C> {}

impl<C> Handle<C> {
    fn new(raw: *mut C, class: Pin<&'static LockClassKey>) -> Result<Arc<Self>> {
        let raw = NonNull::new(raw).map(Shared);
        Arc::pin_init(
            pin_init!(Self { raw <- SpinLockIrq::new(raw, c"Handle::raw", class) }),
            GFP_KERNEL,
        )
    }

    /// From now on the object is not reached any more.
    fn revoke(&self) {
        *self.raw.lock() = None;
    }

    /// Calls `f` with the object, if it lives.
    pub(super) fn with<R>(&self, f: impl FnOnce(*mut C) -> R) -> Option<R> {
        let guard = self.raw.lock();
        guard.as_ref().map(|raw| f(raw.0.as_ptr()))
    }
}
