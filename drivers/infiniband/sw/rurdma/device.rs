// SPDX-License-Identifier: GPL-2.0

//! Devices: one for each `rdma link`.

#![forbid(unsafe_code)]

use crate::ah::Ah;
use crate::counters::{Counters, Traffic};
use crate::doorbell::Poller;
use crate::kapi::net::netdev::NetDevice;
use crate::kapi::random;
use crate::kapi::rdma::attr::{DeviceAttr, Event, PortAttr, PortImmutable};
use crate::kapi::rdma::device::{DeviceHandle, DeviceInit, UnregisteredDevice};
use crate::kapi::rdma::link::LinkOps;
use crate::kapi::rdma::memory::Memory;
use crate::kapi::rdma::qp::QpKind;
use crate::kapi::rdma::stats::Counter;
use crate::kapi::table::ObjTable;
use crate::kapi::task::WorkQueue;
use crate::mcast::Groups;
use crate::mr::Mr;
use crate::mw::Mw;
use crate::proto::wire::mad;
use crate::proto::wqe::abi;
use crate::proto::wqe::send::{OPS_ATOMIC, OP_ATOMIC_WRITE, OP_FLUSH};
use crate::qp::Qp;
use crate::registry;
use crate::transport::Transport;
use crate::verbs::Rurdma;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::Atomic;
use kernel::sync::{new_mutex, Arc, Mutex};
use kernel::workqueue::{impl_has_work, new_work, Work, WorkItem};

/// QPs of a device.
pub(crate) const MAX_QP: u32 = 32768;
/// Work requests of a queue.
pub(crate) const MAX_QP_WR: u32 = 32768;
/// CQs of a device.
pub(crate) const MAX_CQ: u32 = 65536;
/// Entries of a CQ.
pub(crate) const MAX_CQE: u32 = 1 << 22;
/// MRs of a device.
pub(crate) const MAX_MR: u32 = 1 << 20;
/// Memory windows of a device.
pub(crate) const MAX_MW: u32 = 1 << 20;
/// PDs of a device.
pub(crate) const MAX_PD: u32 = 1 << 16;
/// SRQs of a device.
pub(crate) const MAX_SRQ: u32 = 1 << 15;
/// Pages of a fast registration.
pub(crate) const MAX_FAST_REG_PAGES: u32 = 512;

/// The number of a device's one port.
const PORT: u8 = 1;

/// How many objects of a kind may exist.
pub(crate) struct Quota {
    used: Atomic<u32>,
    max: u32,
}

impl Quota {
    const fn new(max: u32) -> Self {
        Self {
            used: Atomic::new(0),
            max,
        }
    }

    /// Counts one more. ENOMEM if there are too many.
    pub(crate) fn take(&self) -> Result {
        if self.used.fetch_add(1, Relaxed) >= self.max {
            self.give();
            return Err(ENOMEM);
        }
        Ok(())
    }

    /// Counts one less.
    pub(crate) fn give(&self) {
        self.used.fetch_sub(1, Relaxed);
    }
}

/// The quotas of a device.
pub(crate) struct Limits {
    /// Queue pairs.
    pub(crate) qp: Quota,
    /// Completion queues.
    pub(crate) cq: Quota,
    /// Memory regions.
    pub(crate) mr: Quota,
    /// Memory windows.
    pub(crate) mw: Quota,
    /// Protection domains.
    pub(crate) pd: Quota,
    /// Shared receive queues.
    pub(crate) srq: Quota,
    /// Address handles.
    pub(crate) ah: Quota,
}

/// The driver's part of an `ib_device`.
#[pin_data]
pub(crate) struct Device {
    /// The way back to the `ib_device`.
    pub(crate) handle: Arc<DeviceHandle>,
    /// The netdev under the link.
    pub(crate) netdev: NetDevice,
    /// The wire.
    pub(crate) transport: &'static dyn Transport,
    /// Does the work that cannot be done where it turns up.
    pub(crate) wq: Arc<WorkQueue>,
    /// The same, of streams: on a CPU that is picked for it.
    pub(crate) streams: Arc<WorkQueue>,
    /// Node GUID in wire order: EUI-64 of the MAC address, or of a random one where another link has
    /// that. It is settled when the registry has the link.
    guid: Atomic<u64>,
    /// Stands in for the MAC address of a netdev that has none.
    stand_in: [u8; 6],
    /// QPs by number.
    #[pin]
    pub(crate) qps: ObjTable<Qp>,
    /// MRs by the upper 24 bits of the key.
    #[pin]
    pub(crate) mrs: ObjTable<Mr>,
    /// Memory windows, the same way: the two have no number in common.
    #[pin]
    pub(crate) mws: ObjTable<Mw>,
    /// Held from the choice of a number for `mrs` or `mws` to its entry.
    #[pin]
    pub(crate) keys: Mutex<()>,
    /// Address handles by number.
    #[pin]
    pub(crate) ahs: ObjTable<Ah>,
    /// Multicast groups of UD QPs.
    #[pin]
    pub(crate) groups: Groups,
    /// All of the kernel's memory, for kernel users.
    pub(crate) kernel_memory: Arc<Memory>,
    /// What happened.
    pub(crate) counters: Arc<Counters>,
    /// Executes what processes post, while they post much.
    pub(crate) poller: Poller,
    /// What went over the wire, where the transport has packets of its own.
    pub(crate) traffic: Traffic,
    /// How many objects exist.
    pub(crate) limits: Limits,
    /// The port was active at the last look.
    port_active: Atomic<bool>,
    /// The transport is open where the netdev is.
    open: Atomic<bool>,
    /// Delivers what is delivered late.
    #[pin]
    work: Work<Device>,
}

impl_has_work! {
    impl HasWork<Self> for Device { self.work }
}

impl WorkItem for Device {
    type Pointer = Arc<Device>;

    fn run(this: Arc<Device>) {
        this.transport.deliver_late(&this);
    }
}

impl Device {
    /// Makes and registers a device: `rdma link add`.
    pub(crate) fn add_link(
        name: &CStr,
        netdev: &NetDevice,
        transport: &'static dyn Transport,
        link_ops: &LinkOps,
    ) -> Result {
        let new = UnregisteredDevice::<Rurdma>::new(netdev)?;
        let handle = new.handle()?;
        let stand_in = random_mac();
        let mac = mac_of(netdev, stand_in);
        let (wq, streams) = registry::workqueues()?;
        let kernel_memory = Memory::kernel()?;
        let groups = Groups::new(transport.max_mcast())?;
        let counters = Arc::new(Counters::new()?, GFP_KERNEL)?;
        let dev = Arc::pin_init(
            try_pin_init!(Self {
                handle,
                netdev: netdev.clone(),
                transport,
                wq,
                streams,
                guid: Atomic::new(guid_of(&mac, transport.guid_tag())),
                stand_in,
                qps <- ObjTable::new(),
                mrs <- ObjTable::new(),
                mws <- ObjTable::new(),
                keys <- new_mutex!((), "Device::keys"),
                ahs <- ObjTable::new(),
                groups <- groups,
                kernel_memory,
                poller: Poller::start(name, &counters)?,
                counters,
                traffic: Traffic::new()?,
                limits: Limits {
                    qp: Quota::new(MAX_QP),
                    cq: Quota::new(MAX_CQ),
                    mr: Quota::new(MAX_MR),
                    mw: Quota::new(MAX_MW),
                    pd: Quota::new(MAX_PD),
                    srq: Quota::new(MAX_SRQ),
                    ah: Quota::new(transport.max_ah()),
                },
                port_active: Atomic::new(netdev.is_operational()),
                open: Atomic::new(true),
                work <- new_work!("Device::work"),
            }),
            GFP_KERNEL,
        )?;
        registry::enter(&dev)?;
        transport
            .link_begins(&dev)
            .inspect_err(|_| registry::leave(&dev))?;
        let init = DeviceInit {
            node_guid: dev.guid(),
            protocol: transport.protocol(),
            comp_vectors: crate::kapi::task::cpu_count(),
        };
        // From here on the core says when the device is gone, whatever happens.
        new.register(name, netdev, &init, dev.clone(), link_ops)?;
        // The netdev may have gone before there was a device to tell.
        if !netdev.is_registered() {
            dev.handle.unregister_queued();
        }
        Ok(())
    }

    /// Node GUID, in wire order.
    pub(crate) fn guid(&self) -> u64 {
        self.guid.load(Relaxed)
    }

    /// Takes another GUID, as this one is somebody else's. Before the device is registered.
    pub(crate) fn renew_guid(&self) {
        let guid = guid_of(&random_mac(), self.transport.guid_tag());
        self.guid.store(guid, Relaxed);
    }

    /// `ibv_query_device(3)`.
    pub(crate) fn attr(&self) -> DeviceAttr {
        let ops = self.transport.protocol().send_ops(QpKind::Rc, true);
        DeviceAttr {
            sys_image_guid: self.guid(),
            max_mr_size: u64::MAX >> 1,
            max_qp: MAX_QP,
            max_qp_wr: MAX_QP_WR,
            max_sge: abi::MAX_SGE as u32,
            max_sge_rd: abi::MAX_SGE as u32,
            max_cq: MAX_CQ,
            max_cqe: MAX_CQE,
            max_mr: MAX_MR,
            max_mw: MAX_MW,
            max_pd: MAX_PD,
            max_rd_atom: self.transport.max_rd_atom(),
            max_ah: self.transport.max_ah(),
            max_mcast: self.transport.max_mcast(),
            max_srq: MAX_SRQ,
            max_srq_wr: MAX_QP_WR,
            max_srq_sge: abi::MAX_SGE as u32,
            max_fast_reg_pages: MAX_FAST_REG_PAGES,
            max_pkeys: self.transport.port_immutable().pkey_table_len as u16,
            atomics: ops & OPS_ATOMIC == OPS_ATOMIC,
            atomic_write: ops & OP_ATOMIC_WRITE != 0,
            flush: ops & OP_FLUSH != 0,
        }
    }

    /// `ibv_query_port(3)`.
    pub(crate) fn port(&self) -> PortAttr {
        let immutable = self.transport.port_immutable();
        PortAttr {
            active: self.is_active(),
            enabled: self.netdev.is_running(),
            mtu: self.netdev.mtu(),
            path_mtu: self.transport.path_mtu(self.netdev.mtu()),
            max_msg: crate::proto::wqe::MAX_MSG,
            gid_table_len: immutable.gid_table_len,
            pkey_table_len: immutable.pkey_table_len as u16,
            cm_sup: true,
        }
    }

    /// What never changes about the port.
    pub(crate) fn port_immutable(&self) -> PortImmutable {
        self.transport.port_immutable()
    }

    /// Entry `index` of the GID table; for RoCE the core keeps the table itself.
    pub(crate) fn gid(&self, index: i32) -> Result<[u8; 16]> {
        if index != 0 {
            return Err(EINVAL);
        }
        // The convention of iWARP: the MAC address, then zeros. The present one: rdma_cm looks for it.
        let mut gid = [0; 16];
        for (to, from) in gid.iter_mut().zip(mac_of(&self.netdev, self.stand_in)) {
            *to = from;
        }
        Ok(gid)
    }

    /// Answers a management datagram, if it asks for what the port knows itself. Process context.
    pub(crate) fn process_mad(
        &self,
        request: &[u8; mad::MAD_LEN],
        response: &mut [u8; mad::MAD_LEN],
    ) -> bool {
        let counters = || {
            let (sent, received) = self.traffic.sums();
            mad::PortCounters {
                sent,
                received,
                receive_errors: self.counters.value(Counter::CrcErrors),
                link_downed: self.counters.value(Counter::LinkDowned),
            }
        };
        mad::answer(request, PORT, counters, response)
    }

    /// Has the device's work done by the workqueue. Any context.
    pub(crate) fn queue_work(self: &Arc<Self>) {
        // If it is queued already, that run sees what there is to do now.
        let _ = self.wq.queue().enqueue::<_, 0>(self.clone());
    }

    /// The QP with this number.
    pub(crate) fn qp_by_number(&self, number: u32) -> Option<Arc<Qp>> {
        self.qps.get(number)
    }

    /// The netdev leaves for another namespace: connections end, the port is down until it arrives. With the
    /// RTNL held.
    pub(crate) fn netdev_moves(&self) {
        self.groups.netdev_moves();
        self.transport.netdev_leaves(self);
        self.netdev_changed();
    }

    /// The netdev is in a namespace again. If the transport cannot be there, the port stays down.
    pub(crate) fn netdev_arrived(self: &Arc<Self>) {
        let open = self.transport.netdev_arrives(self).is_ok();
        self.open.store(open, Relaxed);
        self.netdev_changed();
    }

    /// Whether the port can be used.
    fn is_active(&self) -> bool {
        self.netdev.is_operational() && self.open.load(Relaxed)
    }

    /// Something changed about the netdev: tells the device's users what that means for them.
    pub(crate) fn netdev_changed(&self) {
        let active = self.is_active();
        if self
            .port_active
            .xchg(active, kernel::sync::atomic::ordering::Full)
            != active
        {
            if !active {
                self.counters.count(Counter::LinkDowned);
            }
            self.handle.dispatch(if active {
                Event::PortActive
            } else {
                Event::PortErr
            });
        }
    }
}

/// The netdev's MAC address at present; `stand_in` where it has none (`lo`).
fn mac_of(netdev: &NetDevice, stand_in: [u8; 6]) -> [u8; 6] {
    let mac = netdev.address::<6>();
    if mac == [0; 6] {
        stand_in
    } else {
        mac
    }
}

/// A locally administered MAC address.
fn random_mac() -> [u8; 6] {
    let [a, b, c, d] = random::u32().to_ne_bytes();
    [0x02, 0x72, a, b, c, d]
}

/// EUI-64 of a MAC address, in wire order. Both links of a netdev have a GUID of their own: `tag` stands in the
/// place of the constant in the middle (`ff:fe` is the usual one).
fn guid_of(mac: &[u8; 6], tag: [u8; 2]) -> u64 {
    let [a, b, c, d, e, f] = *mac;
    u64::from_ne_bytes([a ^ 2, b, c, tag[0], tag[1], d, e, f])
}
