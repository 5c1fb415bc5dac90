// SPDX-License-Identifier: GPL-2.0

//! Multicast groups: which QPs receive what is sent to a group's address.

#![forbid(unsafe_code)]

use crate::device::Device;
use crate::kapi::net::group;
use crate::kapi::net::netdev::NetDevice;
use crate::kapi::net::rtnl::Rtnl;
use crate::kapi::net::udp::KeptDatagram;
use crate::kapi::rdma::stats::Counter;
use crate::kapi::sync::{new_spinlock_irq, SpinLockIrq};
use crate::proto::ib::backlog::{Backlog, Offer, Place};
use crate::qp::Qp;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::Atomic;
use kernel::sync::{new_mutex, Arc, Mutex};

/// Memberships of a device, and of a group.
pub(crate) const MAX_MEMBERS: u32 = 8192;
/// Packets of a device that may wait to be delivered.
const MAX_LATE: usize = 256;

/// A QP in a group.
#[derive(Clone, Copy)]
struct Member {
    gid: [u8; 16],
    qpn: u32,
    /// What [`Groups::moves`] was when the netdev joined for it. With a move it has left all groups.
    moves: i64,
}

impl Member {
    fn key(&self) -> ([u8; 16], u32) {
        (self.gid, self.qpn)
    }
}

/// The groups of a device.
#[pin_data]
pub(crate) struct Groups {
    /// One change at a time. Outside of `members`' lock and of the RTNL.
    #[pin]
    change: Mutex<()>,
    /// In order. Never changed, but replaced: whoever delivers a datagram keeps what there was.
    #[pin]
    members: SpinLockIrq<Arc<KVec<Member>>>,
    /// Times that the netdev has left a namespace. Changed, and compared, under the RTNL.
    moves: Atomic<i64>,
    /// What was sent to groups with many members.
    #[pin]
    late: SpinLockIrq<Backlog<KVec<Place<KeptDatagram>>>>,
}

impl Groups {
    /// None, of a device with room for `max` memberships.
    pub(crate) fn new(max: u32) -> Result<impl PinInit<Self>> {
        let none = Arc::new(KVec::new(), GFP_KERNEL)?;
        let mut places = KVec::new();
        for _ in 0..MAX_LATE.min(max as usize) {
            places.push(Place::default(), GFP_KERNEL)?;
        }
        Ok(pin_init!(Self {
            change <- new_mutex!((), "Groups::change"),
            members <- new_spinlock_irq!(none, "Groups::members"),
            moves: Atomic::new(0),
            late <- new_spinlock_irq!(Backlog::new(places), "Groups::late"),
        }))
    }

    fn snapshot(&self) -> Arc<KVec<Member>> {
        self.members.lock().clone()
    }

    fn replace(&self, members: KVec<Member>) -> Result {
        let new = Arc::new(members, GFP_KERNEL)?;
        let old = core::mem::replace(&mut *self.members.lock(), new);
        drop(old);
        Ok(())
    }

    /// The netdev leaves its namespace, and all groups with it. With the RTNL held.
    pub(crate) fn netdev_moves(&self) {
        self.moves.fetch_add(1, Relaxed);
    }

    /// The netdev joins the group for a QP.
    fn join(&self, netdev: &NetDevice, gid: [u8; 16], qpn: u32) -> Result<Member> {
        let rtnl = Rtnl::lock();
        group::join(&rtnl, netdev, &gid)?;
        let moves = self.moves.load(Relaxed);
        Ok(Member { gid, qpn, moves })
    }

    /// The netdev leaves the group again, unless it has by a move.
    fn leave(&self, netdev: &NetDevice, member: &Member) {
        let rtnl = Rtnl::lock();
        if member.moves == self.moves.load(Relaxed) {
            group::leave(&rtnl, netdev, &member.gid);
        }
    }

    /// `ibv_attach_mcast(3)`; the netdev joins the group. Attaching twice is no error. EINVAL: no
    /// multicast address; ENOMEM: too many memberships. Process context.
    pub(crate) fn attach(&self, netdev: &NetDevice, gid: [u8; 16], qpn: u32) -> Result {
        if !group::is_multicast(&gid) {
            return Err(EINVAL);
        }
        let _one = self.change.lock();
        let old = self.snapshot();
        let Err(at) = old.binary_search_by_key(&(gid, qpn), Member::key) else {
            return Ok(());
        };
        if old.len() >= MAX_MEMBERS as usize {
            return Err(ENOMEM);
        }
        let mut members = KVec::with_capacity(old.len() + 1, GFP_KERNEL)?;
        let (before, after) = old.split_at_checked(at).ok_or(EINVAL)?;
        members.extend_from_slice(before, GFP_KERNEL)?;
        let member = self.join(netdev, gid, qpn)?;
        members
            .push(member, GFP_KERNEL)
            .and_then(|()| members.extend_from_slice(after, GFP_KERNEL))
            .map_err(Error::from)
            .and_then(|()| self.replace(members))
            .inspect_err(|_| self.leave(netdev, &member))
    }

    /// `ibv_detach_mcast(3)`; the netdev leaves the group. EINVAL: the QP is not in it. Process context.
    pub(crate) fn detach(&self, netdev: &NetDevice, gid: [u8; 16], qpn: u32) -> Result {
        let _one = self.change.lock();
        let old = self.snapshot();
        let at = old
            .binary_search_by_key(&(gid, qpn), Member::key)
            .map_err(|_| EINVAL)?;
        let gone = *old.get(at).ok_or(EINVAL)?;
        let mut members = KVec::with_capacity(old.len(), GFP_KERNEL)?;
        for m in old.iter().filter(|m| m.key() != gone.key()) {
            members.push(*m, GFP_KERNEL)?;
        }
        self.replace(members)?;
        self.leave(netdev, &gone);
        Ok(())
    }
}

impl Groups {
    /// Takes the oldest packet that waits, and the group that it is for; [`Device::late_done`] follows. Any
    /// context.
    pub(crate) fn take_late(&self) -> Option<([u8; 16], KeptDatagram)> {
        self.late.lock().take()
    }

    /// The device goes: no packet waits from now on but for those that do already. Any context.
    pub(crate) fn close(&self) {
        self.late.lock().close();
    }

    /// Those in a group.
    fn of<'a>(members: &'a [Member], gid: &[u8; 16]) -> &'a [Member] {
        let from = members.partition_point(|m| m.gid < *gid);
        let rest = members.get(from..).unwrap_or(&[]);
        let n = rest.partition_point(|m| m.gid == *gid);
        rest.get(..n).unwrap_or(&[])
    }
}

impl Device {
    /// Hands what was sent to a group to each QP in it: now, or, where these are many, later by way of
    /// [`Transport::deliver_late`](crate::transport::Transport::deliver_late). Any context.
    pub(crate) fn to_group(
        self: &Arc<Self>,
        gid: &[u8; 16],
        keep: impl FnOnce() -> KeptDatagram,
        f: impl Fn(&Arc<Qp>),
    ) {
        let members = self.groups.snapshot();
        let members = Groups::of(&members, gid);
        if members.is_empty() {
            return;
        }
        let offer = {
            let mut late = self.groups.late.lock();
            let offer = late.offer(gid, members.len(), keep);
            if offer == Offer::Later {
                // With the lock held: nothing is queued once it is closed.
                self.queue_work();
            }
            offer
        };
        match offer {
            Offer::Now => self.each(members, f),
            Offer::Later => {}
            Offer::Lost => self.counters.count(Counter::MulticastDropped),
        }
    }

    /// Hands what waited to each QP that is in the group now. Any context.
    pub(crate) fn to_group_late(&self, gid: &[u8; 16], f: impl Fn(&Arc<Qp>)) {
        self.each(Groups::of(&self.groups.snapshot(), gid), f);
    }

    fn each(&self, members: &[Member], f: impl Fn(&Arc<Qp>)) {
        for m in members {
            if let Some(qp) = self.qps.get(m.qpn) {
                f(&qp);
            }
        }
    }

    /// The packet that was taken is delivered. True if the next one is to be; where the budget is `spent`,
    /// that is the workqueue's. Any context.
    pub(crate) fn late_done(self: &Arc<Self>, spent: bool) -> bool {
        let mut late = self.groups.late.lock();
        if !late.done() {
            return false;
        }
        if spent && !late.is_closed() {
            self.queue_work();
            return false;
        }
        true
    }
}
