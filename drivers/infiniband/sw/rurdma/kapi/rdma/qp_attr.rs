// SPDX-License-Identifier: GPL-2.0

//! What is modified and queried of a QP.

use super::qp::{QpCap, QpKind, QpState};
use crate::bindings;
use crate::kapi::rdma::av::Av;
use kernel::prelude::*;

/// What `query_qp` tells.
pub(crate) struct QpQuery {
    /// State.
    pub(crate) state: QpState,
    /// Access rights of peers.
    pub(crate) access: u32,
    /// Outbound reads.
    pub(crate) max_rd_atomic: u8,
    /// Inbound reads.
    pub(crate) max_dest_rd_atomic: u8,
    /// Sizes.
    pub(crate) cap: QpCap,
    /// Every send is signalled.
    pub(crate) sig_all: bool,
    /// SQD: what was begun is not done yet.
    pub(crate) sq_draining: bool,
    /// `enum ib_mtu` of the path.
    pub(crate) path_mtu: u8,
    /// What the transport keeps.
    pub(crate) path: PathQuery,
    /// Where a connection leads.
    pub(crate) av: Option<Av>,
}

/// What is modified and queried of a connection or a datagram QP.
#[derive(Clone, Copy, Default)]
pub(crate) struct PathQuery {
    /// Number of the first packet to be received.
    pub(crate) rq_psn: u32,
    /// Number of the next packet to be sent.
    pub(crate) sq_psn: u32,
    /// The peer's QP.
    pub(crate) dest_qpn: u32,
    /// Q_Key.
    pub(crate) qkey: u32,
    /// Code of the acknowledge timeout.
    pub(crate) timeout: u8,
    /// Retries.
    pub(crate) retry_count: u8,
    /// Retries when the peer is not ready.
    pub(crate) rnr_retry: u8,
    /// Code of the time that a peer waits when we are not ready.
    pub(crate) min_rnr_timer: u8,
}

/// Changes asked of a QP.
pub(crate) struct QpAttr<'a> {
    raw: &'a bindings::ib_qp_attr,
    mask: u32,
}

impl<'a> QpAttr<'a> {
    /// Those of `raw` that `mask` (`enum ib_qp_attr_mask`) names.
    pub(super) fn new(raw: &'a bindings::ib_qp_attr, mask: u32) -> Self {
        Self { raw, mask }
    }

    fn has(&self, bit: u32) -> bool {
        self.mask & bit != 0
    }

    /// The new state.
    pub(crate) fn state(&self) -> Result<Option<QpState>> {
        if !self.has(bindings::ib_qp_attr_mask_IB_QP_STATE) {
            return Ok(None);
        }
        Ok(Some(QpState::from_raw(self.raw.qp_state).ok_or(EINVAL)?))
    }

    /// The state that the caller believes the QP is in.
    pub(crate) fn cur_state(&self) -> Result<Option<QpState>> {
        if !self.has(bindings::ib_qp_attr_mask_IB_QP_CUR_STATE) {
            return Ok(None);
        }
        Ok(Some(
            QpState::from_raw(self.raw.cur_qp_state).ok_or(EINVAL)?,
        ))
    }

    /// Whether the consumer wants `IB_EVENT_SQ_DRAINED` once SQD is reached.
    pub(crate) fn sqd_event(&self) -> bool {
        self.has(bindings::ib_qp_attr_mask_IB_QP_EN_SQD_ASYNC_NOTIFY)
            && self.raw.en_sqd_async_notify != 0
    }

    /// New access rights of peers.
    pub(crate) fn access(&self) -> Option<u32> {
        self.has(bindings::ib_qp_attr_mask_IB_QP_ACCESS_FLAGS)
            .then_some(self.raw.qp_access_flags as u32)
    }

    /// Outbound reads.
    pub(crate) fn max_rd_atomic(&self) -> Option<u8> {
        self.has(bindings::ib_qp_attr_mask_IB_QP_MAX_QP_RD_ATOMIC)
            .then_some(self.raw.max_rd_atomic)
    }

    /// Whether the core's rules for IB allow this change from one state to the other.
    pub(crate) fn is_allowed(&self, kind: QpKind, from: QpState, to: QpState) -> bool {
        // SAFETY: Pure function.
        unsafe {
            bindings::rurdma_modify_is_ok(from as u32, to as u32, kind.as_raw(), self.mask as c_int)
        }
    }

    /// The path to the peer.
    pub(crate) fn av(&self) -> Result<Option<Av>> {
        if !self.has(bindings::ib_qp_attr_mask_IB_QP_AV) {
            return Ok(None);
        }
        // SAFETY: The core resolved it and holds the SGID while we are called.
        unsafe { Av::read(&self.raw.ah_attr) }.map(Some)
    }

    /// `enum ib_mtu` of the path.
    pub(crate) fn path_mtu(&self) -> Option<u8> {
        self.has(bindings::ib_qp_attr_mask_IB_QP_PATH_MTU)
            .then_some(self.raw.path_mtu as u8)
    }

    /// Takes over what is to change.
    pub(crate) fn update(&self, path: &mut PathQuery) {
        let raw = self.raw;
        for (bit, to, from) in [
            (
                bindings::ib_qp_attr_mask_IB_QP_RQ_PSN,
                &mut path.rq_psn,
                raw.rq_psn,
            ),
            (
                bindings::ib_qp_attr_mask_IB_QP_SQ_PSN,
                &mut path.sq_psn,
                raw.sq_psn,
            ),
            (
                bindings::ib_qp_attr_mask_IB_QP_DEST_QPN,
                &mut path.dest_qpn,
                raw.dest_qp_num,
            ),
            (
                bindings::ib_qp_attr_mask_IB_QP_QKEY,
                &mut path.qkey,
                raw.qkey,
            ),
        ] {
            if self.has(bit) {
                *to = from;
            }
        }
        for (bit, to, from) in [
            (
                bindings::ib_qp_attr_mask_IB_QP_TIMEOUT,
                &mut path.timeout,
                raw.timeout,
            ),
            (
                bindings::ib_qp_attr_mask_IB_QP_RETRY_CNT,
                &mut path.retry_count,
                raw.retry_cnt,
            ),
            (
                bindings::ib_qp_attr_mask_IB_QP_RNR_RETRY,
                &mut path.rnr_retry,
                raw.rnr_retry,
            ),
            (
                bindings::ib_qp_attr_mask_IB_QP_MIN_RNR_TIMER,
                &mut path.min_rnr_timer,
                raw.min_rnr_timer,
            ),
        ] {
            if self.has(bit) {
                *to = from;
            }
        }
    }

    /// Inbound reads.
    pub(crate) fn max_dest_rd_atomic(&self) -> Option<u8> {
        self.has(bindings::ib_qp_attr_mask_IB_QP_MAX_DEST_RD_ATOMIC)
            .then_some(self.raw.max_dest_rd_atomic)
    }
}
