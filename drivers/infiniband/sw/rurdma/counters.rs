// SPDX-License-Identifier: GPL-2.0

//! What is counted of a device: what goes wrong, or happens rarely; and kicks and packets, each CPU its own.

#![forbid(unsafe_code)]

use crate::kapi::rdma::stats::{Counter, COUNTERS, PACKET_COUNTERS};
use crate::proto::wire::mad;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::cpu::{nr_cpu_ids, CpuId};
use kernel::prelude::*;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::Atomic;

/// A number that each CPU counts on a cache line of its own.
#[repr(align(64))]
struct Line(Atomic<u64>);

/// The counters of a device.
pub(crate) struct Counters {
    values: [Atomic<u64>; COUNTERS],
    kicks: KVVec<Line>,
}

impl Counters {
    /// All zero. Process context.
    pub(crate) fn new() -> Result<Self> {
        let cpus = nr_cpu_ids() as usize;
        let mut kicks = KVVec::with_capacity(cpus, GFP_KERNEL)?;
        for _ in 0..cpus {
            kicks.push(Line(Atomic::new(0)), GFP_KERNEL)?;
        }
        Ok(Self {
            values: [const { Atomic::new(0) }; COUNTERS],
            kicks,
        })
    }

    /// Counts a kick. Any context.
    #[inline]
    pub(crate) fn kicked(&self) {
        if let Some(line) = self.kicks.get(CpuId::current().as_u32() as usize) {
            line.0.fetch_add(1, Relaxed);
        }
    }

    /// Counts one more. Any context.
    pub(crate) fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts so many more. Any context.
    pub(crate) fn add(&self, counter: Counter, n: u32) {
        if let Some(value) = self.values.get(counter as usize) {
            value.fetch_add(u64::from(n), Relaxed);
        }
    }

    /// The value of one.
    pub(crate) fn value(&self, counter: Counter) -> u64 {
        self.values
            .get(counter as usize)
            .map_or(0, |value| value.load(Relaxed))
    }

    /// The values, in the order of [`Counter`].
    pub(crate) fn values(&self) -> [u64; COUNTERS] {
        let mut values = [0; COUNTERS];
        for (to, from) in values.iter_mut().zip(&self.values) {
            *to = from.load(Relaxed);
        }
        let kicks = self.kicks.iter().map(|line| line.0.load(Relaxed)).sum();
        if let Some(to) = values.get_mut(Counter::Kicks as usize) {
            *to = kicks;
        }
        values
    }
}

/// What goes one way.
struct Way {
    octets: Atomic<u64>,
    packets: Atomic<u64>,
    multicast: Atomic<u64>,
}

impl Way {
    const fn new() -> Self {
        Self {
            octets: Atomic::new(0),
            packets: Atomic::new(0),
            multicast: Atomic::new(0),
        }
    }

    #[inline]
    fn count(&self, packets: u32, octets: usize, multicast: bool) {
        self.octets.fetch_add(octets as u64, Relaxed);
        self.packets.fetch_add(u64::from(packets), Relaxed);
        if multicast {
            self.multicast.fetch_add(u64::from(packets), Relaxed);
        }
    }

    fn add_to(&self, sum: &mut mad::Traffic) {
        let add = |to: &mut u64, from: &Atomic<u64>| *to = to.saturating_add(from.load(Relaxed));
        add(&mut sum.octets, &self.octets);
        add(&mut sum.packets, &self.packets);
        add(&mut sum.multicast, &self.multicast);
    }
}

/// What one CPU counts, on a cache line that no other writes.
#[repr(align(64))]
struct OfCpu {
    sent: Way,
    received: Way,
}

const _: () = assert!(core::mem::size_of::<OfCpu>() == 64);

/// The packets of a link.
///
/// A CPU counts in its own place. A thread may be moved to another CPU after it has asked where it is, so the
/// counters are atomic all the same; that costs little where the cache line does not travel.
pub(crate) struct Traffic(KVVec<OfCpu>);

impl Traffic {
    /// All zero. Process context.
    pub(crate) fn new() -> Result<Self> {
        let cpus = nr_cpu_ids() as usize;
        let mut places = KVVec::with_capacity(cpus, GFP_KERNEL)?;
        for _ in 0..cpus {
            let place = OfCpu {
                sent: Way::new(),
                received: Way::new(),
            };
            places.push(place, GFP_KERNEL)?;
        }
        Ok(Self(places))
    }

    #[inline]
    fn here(&self) -> Option<&OfCpu> {
        self.0.get(CpuId::current().as_u32() as usize)
    }

    /// Packets of so many octets in all, each from its BTH to its ICRC, are sent; to a multicast group perhaps. Any
    /// context.
    #[inline]
    pub(crate) fn sent(&self, packets: u32, octets: usize, multicast: bool) {
        if let Some(here) = self.here() {
            here.sent.count(packets, octets, multicast);
        }
    }

    /// Such packets have come. Any context.
    #[inline]
    pub(crate) fn received(&self, packets: u32, octets: usize, multicast: bool) {
        if let Some(here) = self.here() {
            here.received.count(packets, octets, multicast);
        }
    }

    /// For `rdma statistic`: packets sent and received, octets sent and received.
    pub(crate) fn values(&self) -> [u64; PACKET_COUNTERS] {
        let (sent, received) = self.sums();
        [sent.packets, received.packets, sent.octets, received.octets]
    }

    /// What was sent and what was received, by all CPUs.
    pub(crate) fn sums(&self) -> (mad::Traffic, mad::Traffic) {
        let mut sums = (mad::Traffic::default(), mad::Traffic::default());
        for of_cpu in &self.0 {
            of_cpu.sent.add_to(&mut sums.0);
            of_cpu.received.add_to(&mut sums.1);
        }
        sums
    }
}
