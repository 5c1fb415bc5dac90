// SPDX-License-Identifier: GPL-2.0

//! `ib_ucontext`.

use crate::bindings;
use crate::kapi::rdma::mmap::{Area, Mapping};
use crate::kapi::rdma::object::Object;
use crate::kapi::rdma::ops::{device_of, Driver};
use crate::kapi::rdma::udata::Udata;
use core::marker::PhantomData;
use kernel::error::{from_result, to_result};
use kernel::prelude::*;
use kernel::sync::Arc;

/// A context that is being created.
pub(crate) struct Context<'a> {
    raw: *mut bindings::ib_ucontext,
    _scope: PhantomData<&'a ()>,
}

impl Context<'_> {
    /// Offers `area` for mapping. The value must be dropped in `dealloc_ucontext` at the latest.
    pub(crate) fn map(&self, area: Arc<Area>, writable: bool) -> Result<Mapping> {
        // SAFETY: The context is being created and by the above outlives the value.
        unsafe { Mapping::for_context(self.raw, area, writable) }
    }
}

/// # Safety
///
/// Called by the core to create a context.
pub(super) unsafe extern "C" fn alloc_ucontext<D: Driver>(
    context: *mut bindings::ib_ucontext,
    udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise `device` is set and lives.
        let dev = unsafe { device_of::<D>((*context).device) }?;
        let scope = Context {
            raw: context,
            _scope: PhantomData,
        };
        // SAFETY: By the caller's promise.
        let inner = D::alloc_ucontext(dev, &scope, &unsafe { Udata::from_raw(udata) })?;
        // SAFETY: The object is being created.
        unsafe { Object::<_, D::Ucontext>::from_raw(context).set(inner) };
        Ok(0)
    })
}

/// # Safety
///
/// Called by the core to destroy a context.
pub(super) unsafe extern "C" fn dealloc_ucontext<D: Driver>(context: *mut bindings::ib_ucontext) {
    // SAFETY: The object is being destroyed.
    if let Some(inner) = unsafe { Object::<_, D::Ucontext>::from_raw(context).take() } {
        D::dealloc_ucontext(&inner);
    }
}

/// # Safety
///
/// Called by the core with a living context whose device goes.
pub(super) unsafe extern "C" fn disassociate_ucontext<D: Driver>(
    context: *mut bindings::ib_ucontext,
) {
    // SAFETY: By the caller's promise.
    if let Ok(inner) = unsafe { Object::<_, D::Ucontext>::get(context) } {
        D::disassociate_ucontext(inner);
    }
}

/// # Safety
///
/// Called by the core with a living context and the attributes of the running command.
pub(super) unsafe extern "C" fn query_ucontext<D: Driver>(
    context: *mut bindings::ib_ucontext,
    attrs: *mut bindings::uverbs_attr_bundle,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let resp = D::query_ucontext(unsafe { Object::<_, D::Ucontext>::get(context) }?)?;
        // SAFETY: By the caller's promise; `resp` is initialised to its last byte.
        to_result(unsafe { bindings::rurdma_answer_query_context(attrs, &resp) })?;
        Ok(0)
    })
}
