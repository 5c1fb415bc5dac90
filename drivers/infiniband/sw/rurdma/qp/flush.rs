// SPDX-License-Identifier: GPL-2.0

//! A QP in ERROR: every work request completes once, with `WR_FLUSH_ERR` if it was not executed. In SQE that is so
//! of its send queue.

use super::{Qp, Record};
use crate::cq::{opcode, status};
use crate::kapi::rdma::qp::QpState;
use crate::proto::ring::queue::Consumer;
use crate::proto::ring::FLAG_FLUSH;
use crate::proto::wqe::abi::{Cqe, MAX_SEND_BYTES};
use crate::proto::wqe::fetch::{next_send, SendBuf};
use crate::proto::wqe::send::SendWqe;
use crate::rq::{RecvWr, TakeError};
use kernel::prelude::*;
use kernel::sync::atomic::ordering::{Full, Relaxed};
use kernel::sync::Arc;

/// Why a QP goes to ERROR by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The connection ended in an orderly way, or the consumer ended it.
    Closed = 0,
    /// The connection broke, or a local work request failed.
    Fatal,
    /// A work request failed, whose completion says all there is to say (IBTA volume 1, section 11.6.3: only what
    /// no completion tells is an event).
    Completed,
    /// The peer sent a Terminate, or something invalid.
    Request,
    /// The peer violated an access right.
    Access,
}

impl Cause {
    /// Of a work request that failed: whether a completion says so, or there was no room for one.
    pub(crate) fn of_failed_work(told: bool) -> Self {
        if told {
            Self::Completed
        } else {
            Self::Fatal
        }
    }
}

impl Qp {
    /// Puts the QP into ERROR, and has its work tell the owner why, and flush. Any context; only the first call has
    /// an effect.
    pub(crate) fn fail(self: &Arc<Self>, cause: Cause) {
        self.fail_and(cause, || ());
    }

    /// The same for a send that failed, and is marked as done: it completes in ERROR, so that whoever polls it finds that
    /// state, and before anything is flushed, receives above all, which the QP's work does not wait with for the engine.
    pub(crate) fn fail_by_send(self: &Arc<Self>) {
        self.fail_and(Cause::Completed, || {
            // If the CQ is lost there is nothing more to tell.
            let _ = self.complete_sent(&mut self.sent.lock());
        });
    }

    fn fail_and(self: &Arc<Self>, cause: Cause, complete: impl FnOnce()) {
        loop {
            let from = self.state();
            if matches!(from, QpState::Reset | QpState::Error) {
                return;
            }
            if self.advance_state(from, QpState::Error) {
                break;
            }
        }
        self.untold.store(cause as u32, Relaxed);
        complete();
        self.announce_flush();
        self.queue_work();
    }

    /// In ERROR, tells the owner why, once. With no lock held: the handler of a kernel user may come back with another
    /// call. Process context.
    pub(super) fn tell_cause(&self) {
        let cause = self.untold.xchg(Cause::Closed as u32, Full);
        if cause == Cause::Fatal as u32 {
            self.handle.fatal();
        } else if cause == Cause::Request as u32 {
            self.handle.request_error();
        } else if cause == Cause::Access as u32 {
            self.handle.access_error();
        }
    }

    /// In ERROR, what the transport had of the receive queue is flushed: whoever drains a QP with an SRQ waits
    /// for this (`ib_drain_qp()`), since nothing else of it completes a receive. Once, by the engine. Any context.
    pub(crate) fn recv_flushed(&self) {
        if self.srq.is_some() && !self.last_wqe.xchg(true, Full) {
            self.handle.last_wqe_reached();
        }
    }

    /// A send failed of a QP that nobody acknowledges to, UC or a datagram QP: its send queue is in error until the
    /// consumer says otherwise, and it goes on receiving (IBTA volume 1, section 10.3.1). Before the completion that
    /// tells of it: who polls that may act at once. The flush is the engine's, which calls this.
    pub(crate) fn send_fails(&self) {
        loop {
            let from = self.state();
            if !matches!(from, QpState::Rts | QpState::Sqd)
                || self.advance_state(from, QpState::Sqe)
            {
                return;
            }
        }
    }

    /// SQE → RTS, by the queue's engine.
    pub(crate) fn resume_send(self: &Arc<Self>, consumer: &mut Consumer) {
        self.flush_send(consumer);
        self.sent.lock().resume();
        // It may be in ERROR meanwhile.
        self.advance_state(QpState::Sqe, QpState::Rts);
    }

    /// From now on whoever posts has to kick.
    fn announce_flush(&self) {
        self.sq.set_flags_and_fence(FLAG_FLUSH);
        if let Some(rq) = &*self.rq.lock() {
            rq.ring().set_flags_and_fence(FLAG_FLUSH);
        }
    }

    /// Flushes what is in the receive queue. Process context.
    pub(super) fn flush_recv(&self) {
        if self.srq.is_some() {
            return;
        }
        let _flushing = self.flushing.lock();
        let mut wr = RecvWr::empty();
        // What is posted meanwhile is flushed for whoever posts it (FLAG_FLUSH), so that this ends. A QP
        // that is reset has nothing to flush any more.
        let depth = self.rq.lock().as_ref().map_or(0, |rq| rq.ring().depth());
        for _ in 0..depth {
            if self.state() != QpState::Error {
                return;
            }
            match self.take_recv(&mut wr) {
                Ok(()) | Err(TakeError::Bad { .. }) => {
                    if self
                        .push_recv_error(wr.wr_id, status::WR_FLUSH_ERR)
                        .is_err()
                    {
                        return;
                    }
                }
                Err(TakeError::Empty | TakeError::Corrupt) => return,
            }
        }
    }

    /// Completes a receive that got nothing.
    pub(crate) fn push_recv_error(
        &self,
        wr_id: u64,
        status: u8,
    ) -> Result<(), crate::cq::Overflow> {
        self.push_bad_recv(wr_id, status, 0)
    }

    /// Completes a receive that was refused, and says why (`enum rurdma_vendor_err`).
    pub(crate) fn push_bad_recv(
        &self,
        wr_id: u64,
        status: u8,
        vendor_err: u32,
    ) -> Result<(), crate::cq::Overflow> {
        let cqe = Cqe {
            vendor_err,
            wr_id,
            qp_num: self.number,
            status,
            opcode: opcode::RECV,
            vlan_id: 0xffff,
            ..Cqe::default()
        };
        self.recv_cq.push(&cqe, true)
    }

    /// Flushes what was started, then what is in the send queue. If the CQ does not take it, a QP in SQE fails: nobody
    /// would wait for what is not told. By the queue's engine.
    pub(crate) fn flush_send(self: &Arc<Self>, consumer: &mut Consumer) {
        if self.flush_sent() || self.flush_posted(consumer) {
            self.fail(Cause::Fatal);
        }
    }

    /// Flushes what was started. True if the CQ is lost.
    fn flush_sent(&self) -> bool {
        let mut sent = self.sent.lock();
        sent.flush();
        self.complete_sent(&mut sent)
    }

    /// Flushes what is in the send queue, as far as the CQ takes it. True if that is lost.
    fn flush_posted(&self, consumer: &mut Consumer) -> bool {
        let mut buf: SendBuf = [0; MAX_SEND_BYTES];
        // What is posted meanwhile is flushed for whoever posts it, so that this ends.
        for _ in 0..self.sq.depth() {
            // An index or entry that makes no sense ends the queue: nothing behind it can be found.
            let Ok(Some(units)) = next_send(&self.sq, consumer, &mut buf) else {
                return false;
            };
            consumer.advance(units);
            let mut sent = self.sent.lock();
            if is_nop(&buf) {
                sent.nop(units);
            } else {
                let number = sent.start(Record {
                    wr_id: SendWqe::wr_id(&buf),
                    units: units as u8,
                    ..Record::default()
                });
                sent.done(number, status::WR_FLUSH_ERR);
            }
            if self.complete_sent(&mut sent) {
                return true;
            }
        }
        false
    }
}

fn is_nop(buf: &SendBuf) -> bool {
    use crate::proto::wqe::abi::opcode::NOP;
    // The opcode stands behind the 64 bits of the id.
    buf.get(8) == Some(&NOP)
}
