// SPDX-License-Identifier: GPL-2.0

//! The user/kernel contract, `include/uapi/rdma/rurdma-abi.h`, under Rust names.

use crate::bindings;

pub(crate) use bindings::{
    rurdma_create_cq_resp as CreateCqResp, rurdma_create_qp_resp as CreateQpResp,
    rurdma_create_srq_resp as CreateSrqResp, rurdma_uctx_req as UctxReq,
    rurdma_uctx_resp as UctxResp,
};

/// `RURDMA_ABI_VERSION`.
pub(crate) const ABI_VERSION: u32 = bindings::RURDMA_ABI_VERSION;
/// `RURDMA_DRIVER_ID`.
pub(crate) const DRIVER_ID: u32 = bindings::RURDMA_DRIVER_ID;
/// `RURDMA_CAP_KICK_METHOD`.
pub(crate) const CAP_KICK_METHOD: u64 = bindings::rurdma_caps_RURDMA_CAP_KICK_METHOD as u64;
/// `RURDMA_CAP_TIMESTAMP`.
pub(crate) const CAP_TIMESTAMP: u64 = bindings::rurdma_caps_RURDMA_CAP_TIMESTAMP as u64;
