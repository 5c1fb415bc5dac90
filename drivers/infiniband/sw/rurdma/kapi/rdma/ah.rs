// SPDX-License-Identifier: GPL-2.0

//! `ib_ah`.

use crate::bindings;
use crate::kapi::abi::CreateAhResp;
use crate::kapi::rdma::av::Av;
use crate::kapi::rdma::object::Object;
use crate::kapi::rdma::ops::Driver;
use crate::kapi::rdma::udata::Udata;
use kernel::error::from_result;
use kernel::prelude::*;
use kernel::sync::Arc;

/// # Safety
///
/// Called by the core to create an address handle of a kernel user; may be in atomic context.
pub(super) unsafe extern "C" fn create_ah<D: Driver>(
    ah: *mut bindings::ib_ah,
    init: *mut bindings::rdma_ah_init_attr,
    _udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let (pd, av) = unsafe {
            (
                Object::<_, D::Pd>::get((*ah).pd)?,
                Av::read((*init).ah_attr)?,
            )
        };
        let inner = D::create_ah(pd, av, None)?;
        // SAFETY: The object is being created.
        unsafe { Object::<_, D::Ah>::from_raw(ah).set(inner) };
        Ok(0)
    })
}

/// # Safety
///
/// Called by the core to create an address handle of a process.
pub(super) unsafe extern "C" fn create_user_ah<D: Driver>(
    ah: *mut bindings::ib_ah,
    init: *mut bindings::rdma_ah_init_attr,
    udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let (pd, av, udata) = unsafe {
            (
                Object::<_, D::Pd>::get((*ah).pd)?,
                Av::read((*init).ah_attr)?,
                Udata::from_raw(udata),
            )
        };
        let inner = D::create_ah(pd, av, Some(udata.context::<D>()?))?;
        let resp = CreateAhResp {
            handle: D::ah_handle(&inner),
            reserved: 0,
        };
        if let Err(e) = udata.respond(&resp) {
            D::destroy_ah(&inner);
            return Err(e);
        }
        // SAFETY: The object is being created.
        unsafe { Object::<_, D::Ah>::from_raw(ah).set(inner) };
        Ok(0)
    })
}

/// # Safety
///
/// Called by the core with an address handle, and attributes to fill: it finds by them whose answer to a management
/// datagram has come. May be in atomic context.
pub(super) unsafe extern "C" fn query_ah<D: Driver>(
    ah: *mut bindings::ib_ah,
    attr: *mut bindings::rdma_ah_attr,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let ah = unsafe { Object::<_, D::Ah>::get(ah)? };
        // SAFETY: By the caller's promise there is room for it; zeros are a valid one.
        let attr = unsafe {
            attr.write_bytes(0, 1);
            &mut *attr
        };
        D::query_ah(ah).write(attr);
        Ok(0)
    })
}

/// # Safety
///
/// Called by the core to destroy an address handle; may be in atomic context.
pub(super) unsafe extern "C" fn destroy_ah<D: Driver>(
    ah: *mut bindings::ib_ah,
    _flags: u32,
) -> c_int {
    // SAFETY: The object is being destroyed.
    if let Some(inner) = unsafe { Object::<_, D::Ah>::from_raw(ah).take() } {
        D::destroy_ah(&inner);
    }
    0
}

/// # Safety
///
/// Called by the core for a kernel user's send.
pub(super) unsafe fn of_raw<'a, D: Driver>(ah: *mut bindings::ib_ah) -> Result<&'a Arc<D::Ah>> {
    if ah.is_null() {
        return Err(EINVAL);
    }
    // SAFETY: By the caller's promise it lives.
    unsafe { Object::<_, D::Ah>::get(ah) }
}

/// # Safety
///
/// Called by the core with a living device and a P_Key to fill.
pub(super) unsafe extern "C" fn query_pkey(
    _dev: *mut bindings::ib_device,
    _port: u32,
    index: u16,
    pkey: *mut u16,
) -> c_int {
    if index != 0 {
        return EINVAL.to_errno();
    }
    // SAFETY: By the caller's promise. RoCE has one partition.
    unsafe { *pkey = 0xffff };
    0
}

/// # Safety
///
/// Called by the core.
pub(super) unsafe extern "C" fn get_link_layer(
    _dev: *mut bindings::ib_device,
    _port: u32,
) -> bindings::rdma_link_layer {
    bindings::rdma_link_layer_IB_LINK_LAYER_ETHERNET
}
