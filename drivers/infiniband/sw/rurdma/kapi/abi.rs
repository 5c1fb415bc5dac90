// SPDX-License-Identifier: GPL-2.0

//! The user/kernel contract, `include/uapi/rdma/rurdma-abi.h`, under Rust names.

use crate::bindings;

pub(crate) use bindings::{
    rurdma_create_ah_resp as CreateAhResp, rurdma_create_cq_resp as CreateCqResp,
    rurdma_create_qp_resp as CreateQpResp, rurdma_create_srq_resp as CreateSrqResp,
    rurdma_modify_srq_req as ModifySrqReq, rurdma_modify_srq_resp as ModifySrqResp,
    rurdma_uctx_req as UctxReq, rurdma_uctx_resp as UctxResp,
};

/// `RURDMA_ABI_VERSION`.
pub(crate) const ABI_VERSION: u32 = bindings::RURDMA_ABI_VERSION;
/// `RURDMA_DRIVER_ID`.
pub(crate) const DRIVER_ID: u32 = bindings::RURDMA_DRIVER_ID;
/// `RURDMA_CAP_KICK_METHOD`.
pub(crate) const CAP_KICK_METHOD: u64 = bindings::rurdma_caps_RURDMA_CAP_KICK_METHOD as u64;
/// `RURDMA_CAP_ATOMIC_IMM`.
pub(crate) const CAP_ATOMIC_IMM: u64 = bindings::rurdma_caps_RURDMA_CAP_ATOMIC_IMM as u64;
/// `RURDMA_CAP_TIMESTAMP`.
pub(crate) const CAP_TIMESTAMP: u64 = bindings::rurdma_caps_RURDMA_CAP_TIMESTAMP as u64;

/// `RURDMA_CAP_SRQ_RESIZE`.
pub(crate) const CAP_SRQ_RESIZE: u64 = bindings::rurdma_caps_RURDMA_CAP_SRQ_RESIZE as u64;
/// `RURDMA_CAP_CQ_RESIZE`.
pub(crate) const CAP_CQ_RESIZE: u64 = bindings::rurdma_caps_RURDMA_CAP_CQ_RESIZE as u64;

/// `proto` has the numbers of `enum rurdma_vendor_err` a second time.
const _: () = {
    use crate::proto::wqe::{abi::VENDOR_ERR_FRAME, WqeError};
    use bindings as b;

    assert!(WqeError::Truncated.vendor_err() == b::rurdma_vendor_err_RURDMA_VENDOR_ERR_TRUNCATED);
    assert!(WqeError::Opcode.vendor_err() == b::rurdma_vendor_err_RURDMA_VENDOR_ERR_OPCODE);
    assert!(WqeError::Flags.vendor_err() == b::rurdma_vendor_err_RURDMA_VENDOR_ERR_FLAGS);
    assert!(WqeError::SgeCount.vendor_err() == b::rurdma_vendor_err_RURDMA_VENDOR_ERR_SGE_COUNT);
    assert!(WqeError::Inline.vendor_err() == b::rurdma_vendor_err_RURDMA_VENDOR_ERR_INLINE);
    assert!(WqeError::Units.vendor_err() == b::rurdma_vendor_err_RURDMA_VENDOR_ERR_UNITS);
    assert!(WqeError::Length.vendor_err() == b::rurdma_vendor_err_RURDMA_VENDOR_ERR_LENGTH);
    assert!(WqeError::Field.vendor_err() == b::rurdma_vendor_err_RURDMA_VENDOR_ERR_FIELD);
    assert!(VENDOR_ERR_FRAME == b::rurdma_vendor_err_RURDMA_VENDOR_ERR_FRAME);
};
