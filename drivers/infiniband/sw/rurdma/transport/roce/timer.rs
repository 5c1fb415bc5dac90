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

/// When something is to be done, in nanoseconds; `None`: never.
fn due(c: &Connected, path: &Path) -> Option<u64> {
    if c.not_before != 0 {
        return Some(c.not_before);
    }
    if !c.requester.awaits_answer() {
        return None;
    }
    Some(c.heard + ack_timeout_ns(path.attr.timeout)?)
}

/// Sees to it that the clock runs. With the QP's state machines locked.
pub(super) fn arm(qp: &Arc<Qp>, c: &mut Connected, path: &Path) {
    if !matches!(qp.state(), QpState::Rts | QpState::Sqd) {
        return;
    }
    let Some(at) = due(c, path) else {
        return;
    };
    // A clock that runs down too early is wound again; one that would be too late is now. While packets stream it is
    // always early, so that nobody looks what time it is.
    if c.rings_at != 0 && c.rings_at <= at {
        return;
    }
    let now = time::monotonic_raw_ns();
    let at = at.max(now);
    if c.rings_at != 0 && c.rings_at <= at {
        return;
    }
    c.rings_at = at.max(1);
    let ms = (at - now).div_ceil(MS);
    qp.arm_timer(u32::try_from(ms).unwrap_or(u32::MAX).max(1));
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
        match due(c, &path) {
            None => return,
            Some(at) if at > now => {}
            Some(_) if c.not_before != 0 => {
                c.not_before = 0;
                c.heard = now;
                c.requester.rnr_over();
            }
            Some(_) => {
                c.heard = now;
                if let Effect::Failed(status) = c.requester.timed_out() {
                    fail(qp, c, status);
                }
            }
        }
        arm(qp, c, &path);
    }
    qp.roce_transmit();
}
