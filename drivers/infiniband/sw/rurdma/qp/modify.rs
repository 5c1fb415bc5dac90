// SPDX-License-Identifier: GPL-2.0

//! States of a queue pair (`ibv_modify_qp(3)`; RFC 5040 section 6 and the RNIC verbs for iWARP).

use super::{new_life, Attrs, Cause, Qp};
use crate::kapi::rdma::qp::QpState;
use crate::kapi::rdma::qp_attr::{PathQuery, QpAttr, QpQuery};
use crate::proto::ring::queue::Producer;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::{Full, Relaxed};
use kernel::sync::Arc;

/// Whether a consumer may ask for this transition (IBTA volume 1, figure 124: any state goes to
/// RESET and ERROR).
fn is_legal(from: QpState, to: QpState) -> bool {
    use QpState::{Error, Init, Reset, Rtr, Rts, Sqd, Sqe};

    matches!(to, Reset | Error)
        || matches!(
            (from, to),
            (Reset | Init, Init) | (Init, Rtr) | (Rtr | Rts | Sqd | Sqe, Rts) | (Rts | Sqd, Sqd)
        )
}

impl Qp {
    /// `ibv_modify_qp(3)`.
    pub(crate) fn modify(self: &Arc<Self>, attr: &QpAttr<'_>) -> Result {
        let _modifying = self.modifying.lock();
        let mut attrs = self.attrs.lock();
        let from = self.state();
        if attr.cur_state()?.is_some_and(|cur| cur != from) {
            return Err(EINVAL);
        }
        let to = attr.state()?.unwrap_or(from);
        if (from, to) == (QpState::Error, QpState::Sqd) && self.dev.transport.sqd_closes() {
            // librdmacm drains the QP to disconnect, even if the peer was faster: nothing is left
            // to drain then.
            return Ok(());
        }
        if attr.state()?.is_some() && !is_legal(from, to) {
            return Err(EINVAL);
        }
        self.dev.transport.check(self, attr, from, to)?;
        let mut new = *attrs;
        let max = self.dev.transport.max_rd_atom();
        for (to, from) in [
            (&mut new.max_rd_atomic, attr.max_rd_atomic()),
            (&mut new.max_dest_rd_atomic, attr.max_dest_rd_atomic()),
        ] {
            if let Some(n) = from {
                if u32::from(n) > max {
                    return Err(EINVAL);
                }
                *to = n;
            }
        }
        *attrs = new;
        drop(attrs);
        if let Some(access) = attr.access() {
            self.access.store(access, Relaxed);
        }
        if attr.state()?.is_none() || to == from {
            return self.dev.transport.modify(self, attr, from, from);
        }
        if matches!(to, QpState::Error | QpState::Reset | QpState::Sqd) {
            self.catch_up();
        }
        match to {
            QpState::Error => {
                self.fail(Cause::Closed);
                self.dev.transport.disconnect(self);
                // The caller finds what is in the queues flushed.
                self.kick();
            }
            QpState::Reset => self.reset()?,
            QpState::Rts if from == QpState::Sqe => {
                self.dev.transport.modify(self, attr, from, to)?;
                self.dev.transport.resume(self);
            }
            QpState::Sqd => {
                // The connection may have failed meanwhile.
                if self.advance_state(from, QpState::Sqd) {
                    self.dev.transport.drain(self, attr.sqd_event());
                }
            }
            _ => {
                self.dev.transport.modify(self, attr, from, to)?;
                // The connection may have failed meanwhile.
                if self.advance_state(from, to) && to == QpState::Rts {
                    // What was posted before.
                    self.queue_work();
                }
            }
        }
        Ok(())
    }

    /// No send is begun after this: those that a process has posted before are. Process context.
    pub(super) fn catch_up(&self) {
        let context = match &*self.user_side.lock() {
            Some(side) => side.slot.context().clone(),
            None => return,
        };
        context.catch_up();
    }

    /// Back to the beginning: what is in the queues is forgotten.
    fn reset(self: &Arc<Self>) -> Result {
        self.last_wqe.store(true, Relaxed);
        self.fail(Cause::Closed);
        self.dev.transport.disconnect(self);
        // From here on nobody begins to flush. Those who have begun are waited for, so that nothing of
        // before completes later: the engines by the transport, the receive queue's below.
        self.set_state(QpState::Reset);
        self.dev.transport.reset(self)?;
        let _flushing = self.flushing.lock();
        if let Some(rq) = &mut *self.rq.lock() {
            rq.reset();
        }
        self.last_wqe.store(false, Relaxed);
        self.untold.store(Cause::Closed as u32, Relaxed);
        // What was opened to the old connection is not open to the next one.
        self.life.store(new_life(), Relaxed);
        self.access.store(0, Relaxed);
        *self.attrs.lock() = Attrs {
            max_rd_atomic: 0,
            max_dest_rd_atomic: 0,
        };
        self.set_state(self.dev.transport.initial_state());
        Ok(())
    }

    /// Empties the send queue. By its engine, so that nobody walks it meanwhile.
    pub(crate) fn reset_send(&self) {
        *self.post.lock() = Producer::new(0);
        self.sent.lock().reset();
        self.sq.reset();
    }

    /// `from` becomes `to`, unless the state has changed meanwhile.
    pub(crate) fn advance_state(&self, from: QpState, to: QpState) -> bool {
        self.state.cmpxchg(from as u32, to as u32, Full).is_ok()
    }

    /// `ibv_query_qp(3)`.
    pub(crate) fn query(&self) -> QpQuery {
        let attrs = self.attrs();
        let mut query = QpQuery {
            state: self.state(),
            access: self.access(),
            max_rd_atomic: attrs.max_rd_atomic,
            max_dest_rd_atomic: attrs.max_dest_rd_atomic,
            cap: self.cap,
            sig_all: self.sig_all,
            sq_draining: self.state() == QpState::Sqd,
            path_mtu: self.dev.transport.path_mtu(self.dev.netdev.mtu()),
            path: PathQuery::default(),
            av: None,
        };
        self.dev.transport.query(self, &mut query);
        query
    }
}
