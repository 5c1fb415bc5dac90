// SPDX-License-Identifier: GPL-2.0

//! `ib_mr`: memory that the device may access.

use crate::bindings;
use crate::kapi::errno::not_supported;
use crate::kapi::rdma::memory::{Memory, Pinner, Registration};
use crate::kapi::rdma::object::Object;
use crate::kapi::rdma::ops::Driver;
use core::ptr;
use kernel::alloc::flags::{GFP_KERNEL, __GFP_ZERO};
use kernel::error::{from_result, to_result};
use kernel::prelude::*;
use kernel::sync::Arc;

type IbMr<D> = Object<bindings::ib_mr, <D as Driver>::Mr>;

/// What kind of MR is asked for.
pub(crate) enum MrInit {
    /// All of the kernel's memory, for kernel users.
    Dma {
        /// Access rights.
        access: u32,
    },
    /// A process's memory.
    User {
        /// The pinned pages.
        memory: Arc<Memory>,
        /// Address that the peers use for the first byte.
        iova: u64,
        /// Bytes.
        length: u64,
        /// Access rights.
        access: u32,
    },
    /// For fast registration by a kernel user.
    Fast {
        /// Pages at most.
        max_pages: u32,
    },
}

/// Allocates the core's part of an MR.
fn new_mr<D: Driver>(pd: &Arc<D::Pd>, init: MrInit) -> Result<*mut bindings::ib_mr> {
    let inner = D::create_mr(pd, init)?;
    let key = D::mr_key(&inner);
    // All zeros is a valid `Object`.
    let object = KBox::<IbMr<D>>::new_uninit(GFP_KERNEL | __GFP_ZERO).map_err(|_| {
        // Nobody can have bound a window to it.
        let _ = D::dereg_mr(&inner);
        ENOMEM
    })?;
    let raw = KBox::into_raw(object).cast::<bindings::ib_mr>();
    // SAFETY: The memory is zeroed and ours.
    unsafe {
        IbMr::<D>::from_raw(raw).set(inner);
        (*raw).lkey = key;
        (*raw).rkey = key;
    }
    Ok(raw)
}

fn into_ptr(result: Result<*mut bindings::ib_mr>) -> *mut bindings::ib_mr {
    result.unwrap_or_else(|e| e.to_ptr())
}

/// # Safety
///
/// Called by the core with a living PD.
pub(super) unsafe extern "C" fn get_dma_mr<D: Driver>(
    pd: *mut bindings::ib_pd,
    access: c_int,
) -> *mut bindings::ib_mr {
    // SAFETY: By the caller's promise.
    into_ptr(unsafe { Object::<_, D::Pd>::get(pd) }.and_then(|pd| {
        new_mr::<D>(
            pd,
            MrInit::Dma {
                access: access as u32,
            },
        )
    }))
}

/// # Safety
///
/// Called by the core with a living PD for a process's command.
pub(super) unsafe extern "C" fn reg_user_mr<D: Driver>(
    pd: *mut bindings::ib_pd,
    start: u64,
    length: u64,
    virt: u64,
    access: c_int,
    dmah: *mut bindings::ib_dmah,
    udata: *mut bindings::ib_udata,
) -> *mut bindings::ib_mr {
    let register = || {
        if !dmah.is_null() {
            return Err(not_supported());
        }
        // SAFETY: By the caller's promise.
        to_result(unsafe { bindings::rurdma_no_udata_io(udata) })?;
        if access as u32 & !crate::kapi::rdma::attr::access::SUPPORTED != 0 {
            return Err(not_supported());
        }
        // SAFETY: By the caller's promise.
        let inner = unsafe { Object::<_, D::Pd>::get(pd) }?;
        // SAFETY: A PD has a device.
        let memory = unsafe { Memory::pin((*pd).device, start, length, access) }?;
        new_mr::<D>(
            inner,
            MrInit::User {
                memory,
                iova: virt,
                length,
                access: access as u32,
            },
        )
    };
    into_ptr(register())
}

/// What may change.
const REREG_FLAGS: u32 = bindings::ib_mr_rereg_flags_IB_MR_REREG_TRANS
    | bindings::ib_mr_rereg_flags_IB_MR_REREG_PD
    | bindings::ib_mr_rereg_flags_IB_MR_REREG_ACCESS;

/// What an MR is to become; `None`: as it was.
pub(crate) struct Rereg<'a, D: Driver> {
    /// Its PD.
    pub(crate) pd: Option<&'a Arc<D::Pd>>,
    /// Access rights.
    pub(crate) access: Option<u32>,
    /// Other memory.
    pub(crate) range: Option<Range>,
    /// Where memory is got from.
    pub(crate) pinner: Pinner<'a>,
}

/// Memory of the calling process.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    /// First byte.
    pub(crate) start: u64,
    /// Bytes.
    pub(crate) length: u64,
    /// Address that the peers use for the first byte.
    pub(crate) iova: u64,
}

/// # Safety
///
/// Called by the core with a living MR and PD; nobody else registers it anew or destroys it meanwhile.
pub(super) unsafe extern "C" fn rereg_user_mr<D: Driver>(
    mr: *mut bindings::ib_mr,
    flags: c_int,
    start: u64,
    length: u64,
    virt: u64,
    access: c_int,
    pd: *mut bindings::ib_pd,
    udata: *mut bindings::ib_udata,
) -> *mut bindings::ib_mr {
    let rereg = || {
        let flags = flags as u32;
        let has = |flag| flags & flag != 0;
        // SAFETY: By the caller's promise.
        to_result(unsafe { bindings::rurdma_no_udata_io(udata) })?;
        if flags & !REREG_FLAGS != 0 {
            return Err(not_supported());
        }
        let access = has(bindings::ib_mr_rereg_flags_IB_MR_REREG_ACCESS).then_some(access as u32);
        if access.is_some_and(|a| a & !crate::kapi::rdma::attr::access::SUPPORTED != 0) {
            return Err(not_supported());
        }
        // SAFETY: By the caller's promise.
        let (inner, pd, device) = unsafe {
            (
                IbMr::<D>::get(mr)?,
                Object::<_, D::Pd>::get(pd)?,
                (*mr).device,
            )
        };
        D::rereg_mr(
            inner,
            &Rereg {
                pd: has(bindings::ib_mr_rereg_flags_IB_MR_REREG_PD).then_some(pd),
                access,
                range: has(bindings::ib_mr_rereg_flags_IB_MR_REREG_TRANS).then_some(Range {
                    start,
                    length,
                    iova: virt,
                }),
                pinner: Pinner {
                    device,
                    _scope: core::marker::PhantomData,
                },
            },
        )?;
        // The MR is the same: the core writes down what it became.
        Ok(ptr::null_mut())
    };
    into_ptr(rereg())
}

/// # Safety
///
/// Called by the core to destroy an MR.
pub(super) unsafe extern "C" fn dereg_mr<D: Driver>(
    mr: *mut bindings::ib_mr,
    udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        to_result(unsafe { bindings::rurdma_no_udata_io(udata) })?;
        // SAFETY: The MR lives, and nobody else destroys it.
        D::dereg_mr(unsafe { IbMr::<D>::get(mr) }?)?;
        // SAFETY: The object is being destroyed, and its memory is from `new_mr`.
        unsafe {
            drop(IbMr::<D>::from_raw(mr).take());
            drop(KBox::from_raw(mr.cast::<core::mem::MaybeUninit<IbMr<D>>>()));
        }
        Ok(0)
    })
}

/// # Safety
///
/// Called by the core with a living PD.
pub(super) unsafe extern "C" fn alloc_mr<D: Driver>(
    pd: *mut bindings::ib_pd,
    kind: bindings::ib_mr_type,
    max_pages: u32,
) -> *mut bindings::ib_mr {
    if kind != bindings::ib_mr_type_IB_MR_TYPE_MEM_REG {
        return not_supported().to_ptr();
    }
    // SAFETY: By the caller's promise.
    let pd = unsafe { Object::<_, D::Pd>::get(pd) };
    into_ptr(pd.and_then(|pd| new_mr::<D>(pd, MrInit::Fast { max_pages })))
}

/// # Safety
///
/// Called by the core with a living MR from `alloc_mr` and a mapped list.
pub(super) unsafe extern "C" fn map_mr_sg<D: Driver>(
    mr: *mut bindings::ib_mr,
    sg: *mut bindings::scatterlist,
    nents: c_int,
    sg_offset: *mut c_uint,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let inner = unsafe { IbMr::<D>::get(mr) }?;
        D::map_mr_sg(
            inner,
            Registration {
                mr,
                sg,
                nents,
                sg_offset,
                _scope: core::marker::PhantomData,
            },
        )
    })
}
