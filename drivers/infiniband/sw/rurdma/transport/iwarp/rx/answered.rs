// SPDX-License-Identifier: GPL-2.0

//! The read that is being answered: looked up once, not for each segment of the response.

use crate::mr::sges::locate;
use crate::proto::iwarp::orders::Order;
use crate::proto::wire::terminate::TermError;
use crate::proto::wqe::abi::Sge;
use crate::transport::iwarp::stream::StreamQp;

/// The oldest of our reads. The receiving side's own: it stays the oldest until that side says otherwise, and the
/// stream's reads are not flushed while a piece of the stream is placed (`StreamQp::flush_receive`).
pub(super) struct Answered {
    pub(super) order: Order,
    /// The SGE that was written to last, and where in the message it begins.
    sge: Option<(Sge, u64)>,
}

impl Answered {
    /// A response begins. Any context.
    pub(super) fn oldest(qp: &StreamQp<'_>) -> Result<Self, TermError> {
        let shared = qp.stream().shared.lock();
        let order = shared.outbound.oldest().ok_or(TermError::RDMAP_OPCODE)?;
        Ok(Self {
            order: *order,
            sge: None,
        })
    }

    /// As [`locate`], in the read's SGEs. A stream that was reset meanwhile has none.
    pub(super) fn locate(&mut self, qp: &StreamQp<'_>, at: u64) -> Option<(Sge, u64)> {
        if let Some((sge, begin)) = &self.sge {
            let into = at.checked_sub(*begin);
            if let Some(into) = into.filter(|into| *into < u64::from(sge.length)) {
                return Some((*sge, into));
            }
        }
        let shared = qp.stream().shared.lock();
        let slot = self.order.cookie as usize;
        let sges = usize::from(shared.sinks.get(slot)?.sges);
        let from = slot * shared.sink_stride;
        let (sge, into) = locate(shared.sink_sges.get(from..from + sges)?, at)?;
        self.sge = Some((sge, at - into));
        Some((sge, into))
    }
}
