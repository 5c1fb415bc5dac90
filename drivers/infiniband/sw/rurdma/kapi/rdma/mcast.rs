// SPDX-License-Identifier: GPL-2.0

//! Multicast groups of QPs.

use crate::bindings;
use crate::kapi::rdma::object::Object;
use crate::kapi::rdma::ops::Driver;
use kernel::error::from_result;
use kernel::prelude::*;

/// # Safety
///
/// Called by the core with a living UD QP and a GID.
pub(super) unsafe extern "C" fn attach_mcast<D: Driver>(
    qp: *mut bindings::ib_qp,
    gid: *mut bindings::ib_gid,
    _lid: u16,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise; a GID is 16 bytes.
        let (qp, gid) = unsafe { (Object::<_, D::Qp>::get(qp)?, *gid.cast::<[u8; 16]>()) };
        D::attach_mcast(qp, gid).map(|()| 0)
    })
}

/// # Safety
///
/// As [`attach_mcast`].
pub(super) unsafe extern "C" fn detach_mcast<D: Driver>(
    qp: *mut bindings::ib_qp,
    gid: *mut bindings::ib_gid,
    _lid: u16,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise; a GID is 16 bytes.
        let (qp, gid) = unsafe { (Object::<_, D::Qp>::get(qp)?, *gid.cast::<[u8; 16]>()) };
        D::detach_mcast(qp, gid).map(|()| 0)
    })
}
