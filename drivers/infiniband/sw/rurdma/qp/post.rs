// SPDX-License-Identifier: GPL-2.0

//! Posting by kernel users: their work requests go into the same rings as a process's.

use super::Qp;
use crate::kapi::rdma::qp::{QpState, RecvWrs, SendKind, SendWr, SendWrs};
use crate::proto::ring::queue::Producer;
use crate::proto::wqe::abi::{ExtAtomic, ExtReg, ExtUd, Sge, MAX_INLINE, MAX_SEND_BYTES, MAX_SGE};
use crate::proto::wqe::send::{Data, Remote, SendFlags, SendOp, SendWqe};
use crate::proto::wqe::SgeList;
use kernel::prelude::*;
use kernel::sync::Arc;

impl Qp {
    /// `ib_post_send()`. Any context: the work is done by the workqueue.
    pub(crate) fn post_send(self: &Arc<Self>, wrs: &mut SendWrs<'_>) -> Result {
        if matches!(self.state(), QpState::Reset | QpState::Init | QpState::Rtr) {
            return Err(EINVAL);
        }
        let mut producer = self.post.lock();
        let before = producer.tail();
        let mut ret = Ok(());
        while let Some(wr) = wrs.peek() {
            ret = self.post_one(&mut producer, &wr);
            if ret.is_err() {
                break;
            }
            wrs.advance();
        }
        let posted = producer.tail() != before;
        drop(producer);
        if posted {
            self.queue_work();
        }
        ret
    }

    fn post_one(&self, producer: &mut Producer, wr: &SendWr<'_>) -> Result {
        let remote = |addr, rkey| Remote { addr, rkey };
        let op = match wr.kind {
            SendKind::Send => SendOp::Send,
            SendKind::SendImm(imm) => SendOp::SendImm(imm),
            SendKind::SendInv(key) => SendOp::SendInv(key),
            SendKind::Write(addr, key) => SendOp::Write(remote(addr, key)),
            SendKind::WriteImm(addr, key, imm) => SendOp::WriteImm(remote(addr, key), imm),
            SendKind::Read(addr, key) => SendOp::Read(remote(addr, key)),
            SendKind::ReadInv(addr, key) => SendOp::ReadInv(remote(addr, key)),
            SendKind::CmpSwp(addr, key, compare, swap) => SendOp::CmpSwp(
                remote(addr, key),
                ExtAtomic {
                    compare_add: compare,
                    swap,
                    ..ExtAtomic::default()
                },
            ),
            SendKind::FetchAdd(addr, key, add) => SendOp::FetchAdd(
                remote(addr, key),
                ExtAtomic {
                    compare_add: add,
                    ..ExtAtomic::default()
                },
            ),
            SendKind::AtomicWrite(addr, key) => SendOp::AtomicWrite(remote(addr, key)),
            SendKind::LocalInv(key) => SendOp::LocalInv(key),
            SendKind::RegMr(key, access) => SendOp::RegMr(
                key,
                ExtReg {
                    access,
                    ..ExtReg::default()
                },
            ),
            SendKind::Unsupported => return Err(EINVAL),
        };
        let mut flags = SendFlags::empty();
        for (set, flag) in [
            (wr.signaled, SendFlags::SIGNALED),
            (wr.solicited, SendFlags::SOLICITED),
            (wr.fence, SendFlags::FENCE),
        ] {
            if set {
                flags = flags.with(flag);
            }
        }
        let mut inline = [0u8; MAX_INLINE];
        let mut sges = [Sge::default(); MAX_SGE];
        let data = if wr.inline {
            let n = wr.copy_inline(&mut inline)?;
            Data::Inline(inline.get(..n).ok_or(EINVAL)?)
        } else {
            if wr.sges.len() > self.cap.max_send_sge as usize {
                return Err(EINVAL);
            }
            let mut n = 0;
            for (to, (addr, length, lkey)) in sges.iter_mut().zip(wr.sges.iter()) {
                *to = Sge { addr, length, lkey };
                n += 1;
            }
            Data::Sges(SgeList::new(sges.get(..n).ok_or(EINVAL)?))
        };
        let wqe = SendWqe {
            wr_id: wr.wr_id,
            op,
            flags,
            data,
            length: 0,
            ud: wr.ud.map(|ud| ExtUd {
                ah_handle: ud.ah,
                remote_qpn: ud.qpn,
                remote_qkey: ud.qkey,
                ..ExtUd::default()
            }),
        };
        let mut buf = [0u8; MAX_SEND_BYTES];
        let units = u32::from(wqe.encode(&mut buf).map_err(|_| EINVAL)?);
        if producer.space(&self.sq) < units {
            return Err(ENOMEM);
        }
        let bytes = buf.get(..units as usize * 64).ok_or(EINVAL)?;
        self.sq.copy_out(producer.tail(), 0, bytes);
        producer.advance(units);
        producer.publish(&self.sq);
        Ok(())
    }

    /// `ib_post_recv()`. Any context.
    pub(crate) fn post_recv(self: &Arc<Self>, wrs: &mut RecvWrs<'_>) -> Result {
        if self.state() == QpState::Reset {
            return Err(EINVAL);
        }
        let ret = match &mut *self.rq.lock() {
            Some(rq) => rq.post(wrs),
            None => Err(EINVAL),
        };
        if self.state() == QpState::Error {
            self.queue_work();
        }
        ret
    }
}
