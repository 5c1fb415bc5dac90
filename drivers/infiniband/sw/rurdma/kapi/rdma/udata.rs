// SPDX-License-Identifier: GPL-2.0

//! The driver's part of a verbs command: request in, response out.

use crate::bindings;
use crate::kapi::rdma::object::Object;
use crate::kapi::rdma::ops::Driver;
use core::marker::PhantomData;
use core::mem::{size_of, MaybeUninit};
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::uaccess::{UserPtr, UserSlice};

/// A struct of the user/kernel contract: any bytes are a value, and it has no padding.
///
/// # Safety
///
/// The type is `repr(C)`, made of integers only, without padding.
pub(crate) unsafe trait AbiStruct {}

// SAFETY: Integers only; `bindings` asserts the layout, the header has no holes.
unsafe impl AbiStruct for bindings::rurdma_uctx_req {}
// SAFETY: As above.
unsafe impl AbiStruct for bindings::rurdma_uctx_resp {}
// SAFETY: As above.
unsafe impl AbiStruct for bindings::rurdma_create_cq_resp {}
// SAFETY: As above.
unsafe impl AbiStruct for bindings::rurdma_create_qp_resp {}
// SAFETY: As above.
unsafe impl AbiStruct for bindings::rurdma_create_srq_resp {}
// SAFETY: As above.
unsafe impl AbiStruct for bindings::rurdma_modify_srq_req {}
// SAFETY: As above.
unsafe impl AbiStruct for bindings::rurdma_modify_srq_resp {}
// SAFETY: As above.
unsafe impl AbiStruct for bindings::rurdma_create_ah_resp {}

/// The udata of the running command; without one the user is the kernel.
pub(crate) struct Udata<'a> {
    raw: *mut bindings::ib_udata,
    _scope: PhantomData<&'a ()>,
}

impl Udata<'_> {
    /// # Safety
    ///
    /// `raw` is null or the udata of the command that runs, for as long as the value lives.
    pub(super) unsafe fn from_raw(raw: *mut bindings::ib_udata) -> Self {
        Self {
            raw,
            _scope: PhantomData,
        }
    }

    /// Whether a process asks, rather than the kernel.
    pub(crate) fn is_user(&self) -> bool {
        !self.raw.is_null()
    }

    /// Copies the request; what a shorter one lacks is zero. EOPNOTSUPP if a longer one asks for
    /// what we do not know.
    pub(crate) fn request<T: AbiStruct>(&self) -> Result<T> {
        let mut req = MaybeUninit::<T>::zeroed();
        if self.is_user() {
            // SAFETY: `raw` is a udata; `req` has room for `size_of::<T>()` bytes.
            to_result(unsafe {
                bindings::_ib_copy_validate_udata_in(
                    self.raw,
                    req.as_mut_ptr().cast(),
                    size_of::<T>(),
                    size_of::<T>(),
                )
            })?;
        }
        // SAFETY: It is zeroed or copied, and any bytes are a value of an `AbiStruct`.
        Ok(unsafe { req.assume_init() })
    }

    /// Whether there is a request at all, be it empty: a provider that knows of none sends none.
    pub(crate) fn has_request(&self) -> bool {
        // SAFETY: `raw` is a udata unless it is null.
        self.is_user() && unsafe { (*self.raw).inlen } != 0
    }

    /// Answers to an address that the request told, where the command has no response.
    pub(crate) fn respond_at<T: AbiStruct>(&self, address: u64, resp: &T) -> Result {
        let to = usize::try_from(address).map_err(|_| EFAULT)?;
        // SAFETY: An `AbiStruct` has no padding: all of its bytes are initialised.
        let bytes = unsafe {
            core::slice::from_raw_parts(core::ptr::from_ref(resp).cast::<u8>(), size_of::<T>())
        };
        UserSlice::new(UserPtr::from_addr(to), bytes.len())
            .writer()
            .write_slice(bytes)
    }

    /// Whether the process has room for the whole answer.
    pub(crate) fn has_room_for<T: AbiStruct>(&self) -> bool {
        // SAFETY: `raw` is a udata unless it is null.
        self.is_user() && unsafe { (*self.raw).outlen } >= size_of::<T>()
    }

    /// Answers. A shorter buffer gets what fits, a longer one is filled with zeros.
    pub(crate) fn respond<T: AbiStruct>(&self, resp: &T) -> Result {
        if !self.is_user() {
            return Ok(());
        }
        // SAFETY: `raw` is a udata; `resp` has `size_of::<T>()` initialised bytes.
        to_result(unsafe {
            bindings::_ib_respond_udata(self.raw, core::ptr::from_ref(resp).cast(), size_of::<T>())
        })
    }

    /// Answers with nothing; EOPNOTSUPP if the request asks for something.
    pub(crate) fn respond_empty(&self) -> Result {
        // SAFETY: `raw` is null or the udata of a running command.
        to_result(unsafe { bindings::rurdma_no_udata_io(self.raw) })
    }

    /// The driver's object of the context of the process that asks.
    pub(crate) fn context<D: Driver>(&self) -> Result<Arc<D::Ucontext>> {
        let raw = self.ucontext();
        if raw.is_null() {
            return Err(EINVAL);
        }
        // SAFETY: The context lives as long as the command.
        Ok(unsafe { Object::<_, D::Ucontext>::get(raw) }?.clone())
    }

    /// The context of the process that asks.
    pub(super) fn ucontext(&self) -> *mut bindings::ib_ucontext {
        if !self.is_user() {
            return core::ptr::null_mut();
        }
        // SAFETY: `raw` is the udata of a running command.
        unsafe { bindings::rurdma_udata_ucontext(self.raw) }
    }
}
