// SPDX-License-Identifier: GPL-2.0

//! Streams of reliable connections, which a worker places: on another CPU than that by whose softirq they come.
//!
//! An exchange is delivered where it arrives (see [`crate::proto::bulk`]); so are UC and UD, whose senders do not wait
//! for a receiver that is slower. The packets of a flow keep their order: as long as a worker has some of a
//! lane, it gets all that belong to it.

use super::ns::Links;
use super::receive;
use crate::kapi::net::udp::{KeptPackets, SuperPacket};
use crate::kapi::rdma::stats::Counter;
use crate::kapi::sync::{new_spinlock_irq, SpinLockIrq};
use crate::kapi::task::{cond_resched, Cpu, WorkQueue};
use crate::pauses::Pauses;
use crate::proto::bulk::Bulk;
use crate::proto::wire::ib::opcode::{Opcode, Service};
use crate::registry;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};
use kernel::workqueue::{impl_has_work, new_work, Work, WorkItem};

/// Lanes of a namespace.
const LANES: usize = 16;
/// Super-packets that may wait in one.
const DEPTH: usize = 1024;
/// Bytes that may: as much as a socket would have.
const MOST: usize = 8 << 20;
/// Super-packets that are delivered before others of the workqueue have their turn.
const BUDGET: u32 = 64;

/// The lanes of a namespace. A flow, the packets from one port of a sender, belongs to one.
pub(super) struct Lanes(KVec<Arc<Lane>>);

/// Packets that wait, in the order in which they came.
#[pin_data]
struct Lane {
    wq: Arc<WorkQueue>,
    #[pin]
    queue: SpinLockIrq<Queue>,
    #[pin]
    work: Work<Lane>,
    pauses: Pauses,
}

struct Queue {
    bulk: Bulk,
    slots: KVVec<Option<(Arc<Links>, KeptPackets)>>,
    head: usize,
    len: usize,
    /// Bytes that wait.
    bytes: usize,
    /// The worker has not found the end since.
    works: bool,
}

impl_has_work! {
    impl HasWork<Self> for Lane { self.work }
}

impl Lanes {
    /// Empty ones. Process context.
    pub(super) fn new() -> Result<Self> {
        let mut lanes = KVec::with_capacity(LANES, GFP_KERNEL)?;
        let (_, wq) = registry::workqueues()?;
        for _ in 0..LANES {
            lanes.push(Lane::new(wq.clone())?, GFP_KERNEL)?;
        }
        Ok(Self(lanes))
    }

    /// Packets have come. True if a worker delivers them; false if that is the caller's to do. Any context.
    pub(super) fn take(&self, links: ArcBorrow<'_, Links>, packets: &SuperPacket<'_>) -> bool {
        let flow = usize::from(packets.src_port) % LANES;
        match self.0.get(flow) {
            Some(lane) if is_reliable(packets) => lane.take(links, packets),
            _ => false,
        }
    }
}

/// Whether they are of reliable connections, by the first of them: those of a super-packet are of one sender's port,
/// and mostly of one QP.
fn is_reliable(packets: &SuperPacket<'_>) -> bool {
    let mut opcode = [0];
    packets.datagrams().next().is_some_and(|d| {
        d.len > 0
            && d.chunk().copy_to_slice(0, &mut opcode).is_ok()
            && Opcode::from_number(opcode[0]).is_some_and(|opcode| opcode.service == Service::Rc)
    })
}

impl Lane {
    fn new(wq: Arc<WorkQueue>) -> Result<Arc<Self>> {
        let mut slots = KVVec::with_capacity(DEPTH, GFP_KERNEL)?;
        for _ in 0..DEPTH {
            slots.push(None, GFP_KERNEL)?;
        }
        let queue = Queue {
            bulk: Bulk::default(),
            slots,
            head: 0,
            len: 0,
            bytes: 0,
            works: false,
        };
        Arc::pin_init(
            pin_init!(Self {
                wq,
                queue <- new_spinlock_irq!(queue, "Lane::queue"),
                work <- new_work!("Lane::work"),
                pauses: Pauses::new(),
            }),
            GFP_KERNEL,
        )
    }

    fn take(self: &Arc<Self>, links: ArcBorrow<'_, Links>, packets: &SuperPacket<'_>) -> bool {
        let mut queue = self.queue.lock();
        queue.bulk.arrived(packets.len());
        if !queue.works {
            let Some(cpu) = Cpu::other().filter(|_| queue.bulk.is_stream()) else {
                return false;
            };
            queue.works = true;
            self.wq.enqueue_on::<_, 0>(cpu, self);
        }
        if !queue.push(links, packets) {
            drop(queue);
            // As if the socket were full. The senders find out.
            if let Some(dev) = links.find(|dev| Some(dev.clone())) {
                dev.counters.count(Counter::StreamDropped);
            }
        }
        true
    }

    /// The packets that have waited longest. `None`: what comes now is delivered where it arrives, or by another call.
    fn next(&self) -> Option<(Arc<Links>, KeptPackets)> {
        let mut queue = self.queue.lock();
        let next = queue.pop();
        queue.works = next.is_some();
        next
    }
}

impl Queue {
    /// False if there is no room.
    fn push(&mut self, links: ArcBorrow<'_, Links>, packets: &SuperPacket<'_>) -> bool {
        if self.len == self.slots.len() || self.bytes >= MOST {
            return false;
        }
        let at = (self.head + self.len) % DEPTH;
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Some((Arc::from(links), packets.keep()));
            self.len += 1;
            self.bytes += packets.len();
        }
        true
    }

    fn pop(&mut self) -> Option<(Arc<Links>, KeptPackets)> {
        let next = self.slots.get_mut(self.head)?.take()?;
        self.head = (self.head + 1) % DEPTH;
        self.len -= 1;
        self.bytes = self.bytes.saturating_sub(next.1.get().len());
        Some(next)
    }
}

impl WorkItem for Lane {
    type Pointer = Arc<Lane>;

    fn run(this: Arc<Lane>) {
        for _ in 0..BUDGET {
            let Some((links, packets)) = this.next() else {
                return;
            };
            this.pauses.work(|| {
                receive::packets(&links, packets.get(), true);
                drop(packets);
            });
            cond_resched();
        }
        this.wq.enqueue_on::<_, 0>(Cpu::this(), &this);
    }
}
