// SPDX-License-Identifier: GPL-2.0

//! The requester's clock: no answer in time, or the time that the responder asked for is over (IBTA
//! volume 1, sections 9.7.6.1.3 and 9.7.5.2.8).

use super::connected::Connected;
use super::qp::Path;
use super::receive::fail;
use crate::kapi::rdma::qp::QpState;
use crate::kapi::time;
use crate::proto::ib::requester::Effect;
use crate::proto::wire::ib::syndrome::ack_timeout_ns;
use crate::qp::Qp;
use kernel::sync::Arc;

/// Nanoseconds of a millisecond, which is what the timer counts.
const MS: u64 = 1_000_000;

/// Nanoseconds until something is to be done; `None`: never.
fn due(c: &Connected, path: &Path, now: u64) -> Option<u64> {
    if c.not_before != 0 {
        return Some(c.not_before.saturating_sub(now));
    }
    if !c.requester.awaits_answer() {
        return None;
    }
    let timeout = ack_timeout_ns(path.attr.timeout)?;
    Some((c.heard + timeout).saturating_sub(now))
}

/// Sees to it that the clock runs. With the QP's state machines locked.
pub(super) fn arm(qp: &Arc<Qp>, c: &mut Connected, path: &Path) {
    if !matches!(qp.state(), QpState::Rts | QpState::Sqd) {
        return;
    }
    let now = time::monotonic_raw_ns();
    if let Some(ns) = due(c, path, now) {
        // A clock that runs down too early is wound again; one that would be too late is now.
        if c.rings_at != 0 && c.rings_at <= now.saturating_add(ns) {
            return;
        }
        c.rings_at = now.saturating_add(ns).max(1);
        qp.arm_timer(u32::try_from(ns.div_ceil(MS)).unwrap_or(u32::MAX).max(1));
    }
}

/// The clock has run down. Process context.
pub(super) fn fired(qp: &Arc<Qp>) {
    let Some(roce) = qp.roce() else {
        return;
    };
    let path = roce.path();
    {
        let mut connected = roce.connected.lock();
        let c = &mut *connected;
        c.rings_at = 0;
        if !matches!(qp.state(), QpState::Rts | QpState::Sqd) {
            return;
        }
        let now = time::monotonic_raw_ns();
        match due(c, &path, now) {
            None => return,
            Some(0) if c.not_before != 0 => {
                c.not_before = 0;
                c.heard = now;
                c.requester.rnr_over();
            }
            Some(0) => {
                c.heard = now;
                if let Effect::Failed(status) = c.requester.timed_out() {
                    fail(qp, c, status);
                }
            }
            Some(_) => {}
        }
        arm(qp, c, &path);
    }
    qp.roce_transmit();
}
