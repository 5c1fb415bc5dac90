// SPDX-License-Identifier: GPL-2.0

//! Messages: what is sent next, from the send queue and from the peer's requests.

use super::ask::Ask;
use super::rfc7306::Immediate;
use super::{Current, Source, Stop, Tx};
use crate::cq::{opcode, status};
use crate::kapi::rdma::qp::WC_REG_MR;
use crate::mr::key_index;
use crate::proto::access::Denied;
use crate::proto::atomic::AtomicOp;
use crate::proto::iwarp::negotiate::Rtr;
use crate::proto::iwarp::orders::Inbound;
use crate::proto::iwarp::tx::{Header, Segmenter};
use crate::proto::serial::Msn;
use crate::proto::wire::terminate::{TermError, TerminateBody};
use crate::proto::wqe::abi::VENDOR_ERR_FRAME;
use crate::proto::wqe::fetch::{next_send, FetchError};
use crate::proto::wqe::send::{Data, Remote, SendFlags, SendOp, SendWqe};
use crate::qp::{Cause, Record};
use crate::transport::iwarp::cm::StreamEnd;
use crate::transport::iwarp::stream::{Context, Sink, StreamQp};
use kernel::prelude::*;

/// A work request that was taken from the send queue.
#[derive(Clone, Copy)]
pub(super) struct Job {
    op: SendOp,
    flags: SendFlags,
    pub(super) wr_id: u64,
    pub(super) units: u8,
    pub(super) length: u32,
    pub(super) sges: usize,
    inline: bool,
}

impl Tx {
    /// Finds the next message: the peer's requests and our own work take turns. False if there is
    /// nothing to do. A message that is nothing but a header is built at once.
    pub(super) fn next_message(
        &mut self,
        qp: &StreamQp<'_>,
        context: Context<'_>,
    ) -> core::result::Result<bool, Stop> {
        if let Some(rtr) = self.rtr {
            self.send_rtr(qp, rtr, context)
                .map_err(|_| Stop::NoMemory)?;
            self.rtr = None;
            return Ok(true);
        }
        if let Some(immediate) = self.immediate {
            self.send_immediate(immediate, context)
                .map_err(|_| Stop::NoMemory)?;
            self.immediate = None;
            return Ok(true);
        }
        for _ in 0..2 {
            self.answer_next = !self.answer_next;
            let found = if self.answer_next {
                self.next_answer(qp, context)?
            } else {
                self.next_work(qp, context)?
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Says that we are ready to receive (RFC 6581 section 9.2).
    fn send_rtr(&mut self, qp: &StreamQp<'_>, rtr: Rtr, context: Context<'_>) -> Result {
        match rtr {
            Rtr::Write => self.control(&Header::write(0, 0), &[], context),
            Rtr::Send => {
                self.control(&Header::send(self.send_msn, false, None), &[], context)?;
                self.send_msn = self.send_msn.next();
                Ok(())
            }
            Rtr::Read => {
                let sink = Sink {
                    rtr: true,
                    ..Sink::default()
                };
                let nothing = Remote { addr: 0, rkey: 0 };
                self.request(qp, &Ask::Read(nothing, 0), sink, &[], context)
            }
        }
    }

    /// Answers are given in the order of the requests, reads and atomics alike (RFC 5040 section 5.5,
    /// RFC 7306 section 5.4).
    fn next_answer(
        &mut self,
        qp: &StreamQp<'_>,
        context: Context<'_>,
    ) -> core::result::Result<bool, Stop> {
        let (msn, request) = match qp.stream().next_inbound() {
            None => return Ok(false),
            Some((msn, Inbound::Read(request))) => (msn, request),
            Some((msn, Inbound::Atomic(request))) => {
                self.answer_atomic(qp, msn, &request, context)?;
                return Ok(true);
            }
        };
        self.current = Some(Current {
            header: Header::read_response(request.sink_stag, request.sink_to),
            segments: Segmenter::new(request.size),
            source: Source::Read { msn, request },
            sge: 0,
            sge_start: 0,
        });
        Ok(true)
    }

    fn next_work(
        &mut self,
        qp: &StreamQp<'_>,
        context: Context<'_>,
    ) -> core::result::Result<bool, Stop> {
        let job = match self.held.take() {
            Some(job) => job,
            None => match self.fetch(qp)? {
                Some(job) => job,
                None => return Ok(false),
            },
        };
        if self.must_wait(qp, &job) {
            self.held = Some(job);
            return Ok(false);
        }
        self.begin(qp, job, context)?;
        Ok(true)
    }

    /// Takes the next work request from the send queue.
    fn fetch(&mut self, qp: &StreamQp<'_>) -> core::result::Result<Option<Job>, Stop> {
        loop {
            if self.startable == 0 {
                self.startable = qp.sent.lock().room();
                if self.startable == 0 {
                    return Ok(None);
                }
            }
            let units = match next_send(&qp.sq, &self.consumer, &mut self.buf) {
                Ok(Some(units)) => units,
                Ok(None) => return Ok(None),
                Err(FetchError::Index) => {
                    qp.fail(Cause::Fatal);
                    qp.stream_close(StreamEnd::Abort);
                    return Err(Stop::Failed);
                }
                Err(FetchError::Frame { wr_id }) => {
                    self.reject(qp, wr_id, 0, status::LOC_QP_OP_ERR, VENDOR_ERR_FRAME);
                    return Err(Stop::Failed);
                }
            };
            self.consumer.advance(units);
            // Whatever it is, it is started once, or refused. (After an error nothing more is taken.)
            self.startable = self.startable.saturating_sub(1);
            let wqe = match SendWqe::parse(&self.buf, &qp.limits) {
                Ok(wqe) => wqe,
                Err(error) => {
                    let wr_id = SendWqe::wr_id(&self.buf);
                    self.reject(
                        qp,
                        wr_id,
                        units as u8,
                        error.wc_status(),
                        error.vendor_err(),
                    );
                    return Err(Stop::Failed);
                }
            };
            if wqe.op == SendOp::Nop {
                qp.sent.lock().nop(units);
                // It may be all that is left to give back.
                self.built = self.built.wrapping_add(1);
                continue;
            }
            let mut job = Job {
                op: wqe.op,
                flags: wqe.flags,
                wr_id: wqe.wr_id,
                units: units as u8,
                length: wqe.length,
                sges: 0,
                inline: false,
            };
            match wqe.data {
                Data::Inline(data) => {
                    job.inline = true;
                    self.inline_len = data.len();
                    for (to, byte) in self.inline.iter_mut().zip(data) {
                        *to = *byte;
                    }
                }
                Data::Sges(list) => {
                    for (to, sge) in self.sges.iter_mut().zip(list.iter()) {
                        *to = sge;
                        job.sges += 1;
                    }
                }
            }
            return Ok(Some(job));
        }
    }

    /// A work request that makes no sense: it completes with an error, and the QP fails.
    pub(super) fn reject(
        &mut self,
        qp: &StreamQp<'_>,
        wr_id: u64,
        units: u8,
        status: u8,
        vendor_err: u32,
    ) {
        qp.sent.lock().refuse(wr_id, units, status, vendor_err);
        let body = TerminateBody::build(TermError::RDMAP_CATASTROPHIC, None);
        qp.stream_terminate(body, Cause::Fatal);
    }

    /// Whether the work request has to wait for the peer's answers to earlier ones. Most need not even ask.
    fn must_wait(&self, qp: &StreamQp<'_>, job: &Job) -> bool {
        let fenced = job.flags.contains(SendFlags::FENCE);
        let asks = matches!(
            job.op,
            SendOp::Read(_) | SendOp::ReadInv(_) | SendOp::CmpSwp(..) | SendOp::FetchAdd(..)
        );
        if !fenced && !asks {
            return false;
        }
        let shared = qp.stream().shared.lock();
        (fenced && !shared.outbound.is_empty()) || (asks && !shared.outbound.has_room())
    }

    /// Starts a work request.
    fn begin(
        &mut self,
        qp: &StreamQp<'_>,
        job: Job,
        context: Context<'_>,
    ) -> core::result::Result<(), Stop> {
        let solicited = job.flags.contains(SendFlags::SOLICITED);
        let mut immediate = None;
        let header = match job.op {
            SendOp::Send => {
                let msn = self.take_send_msn();
                Header::send(msn, solicited, None)
            }
            SendOp::SendInv(key) => {
                let msn = self.take_send_msn();
                Header::send(msn, solicited, Some(key))
            }
            SendOp::Write(remote) => Header::write(remote.rkey, remote.addr),
            SendOp::WriteImm(remote, imm) => {
                immediate = Some(imm);
                Header::write(remote.rkey, remote.addr)
            }
            SendOp::Read(remote) => {
                return self.ask(qp, &job, &Ask::Read(remote, job.length), false, context)
            }
            SendOp::ReadInv(remote) => {
                return self.ask(qp, &job, &Ask::Read(remote, job.length), true, context)
            }
            SendOp::CmpSwp(remote, ext) => {
                let op = AtomicOp::cmp_swp(ext.compare_add, ext.swap);
                return self.ask(qp, &job, &Ask::Atomic(remote, op), false, context);
            }
            SendOp::FetchAdd(remote, ext) => {
                let op = AtomicOp::fetch_add(ext.compare_add);
                return self.ask(qp, &job, &Ask::Atomic(remote, op), false, context);
            }
            SendOp::LocalInv(key) => {
                return self.local(qp, &job, qp.invalidate(key));
            }
            SendOp::RegMr(key, ext) => {
                let done = match qp.dev.mrs.get(key_index(key)) {
                    Some(mr) => mr.register(key, ext.access, qp.pd.id),
                    None => Err(Denied::Key),
                };
                return self.local(qp, &job, done);
            }
            SendOp::BindMw(key, ext) => return self.local(qp, &job, qp.bind_mw(key, &ext)),
            _ => {
                self.reject(qp, job.wr_id, job.units, status::LOC_QP_OP_ERR, 0);
                return Err(Stop::Failed);
            }
        };
        let number = qp.sent.lock().start(job.record());
        self.immediate = immediate.map(|imm| Immediate {
            number,
            imm,
            solicited,
        });
        self.current = Some(Current {
            header,
            segments: Segmenter::new(job.length),
            source: Source::Work {
                number,
                inline: job.inline,
            },
            sge: 0,
            sge_start: 0,
        });
        Ok(())
    }

    fn take_send_msn(&mut self) -> Msn {
        let msn = self.send_msn;
        self.send_msn = msn.next();
        msn
    }

    /// An operation that concerns nobody else is done.
    fn local(
        &mut self,
        qp: &StreamQp<'_>,
        job: &Job,
        done: core::result::Result<(), Denied>,
    ) -> core::result::Result<(), Stop> {
        let number = qp.sent.lock().start(job.record());
        if done.is_err() {
            qp.sent.lock().done(number, status::MW_BIND_ERR);
            let body = TerminateBody::build(TermError::RDMAP_CATASTROPHIC, None);
            qp.stream_terminate(body, Cause::Fatal);
            return Err(Stop::Failed);
        }
        self.built = number.wrapping_add(1);
        Ok(())
    }
}

impl Job {
    pub(super) fn record(&self) -> Record {
        let (opcode, byte_len) = match self.op {
            SendOp::Write(_) | SendOp::WriteImm(..) => (opcode::RDMA_WRITE, self.length),
            SendOp::Read(_) | SendOp::ReadInv(_) => (opcode::RDMA_READ, self.length),
            SendOp::CmpSwp(..) => (opcode::COMP_SWAP, self.length),
            SendOp::FetchAdd(..) => (opcode::FETCH_ADD, self.length),
            SendOp::LocalInv(_) => (opcode::LOCAL_INV, 0),
            SendOp::BindMw(..) => (opcode::BIND_MW, 0),
            SendOp::RegMr(..) => (WC_REG_MR, 0),
            _ => (opcode::SEND, self.length),
        };
        Record {
            wr_id: self.wr_id,
            byte_len,
            units: self.units,
            opcode,
            signaled: self.flags.contains(SendFlags::SIGNALED),
            ..Record::default()
        }
    }
}
