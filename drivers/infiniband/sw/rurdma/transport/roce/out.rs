// SPDX-License-Identifier: GPL-2.0

//! Packets into super-packets, super-packets into the network stack.
//!
//! Packets are built one behind the other in pages of ours, and leave as one skb when the next one does not fit, or
//! when the turn is over: in the meantime nobody waits for them. Without a lock held; a packet may be added with the
//! state machines locked.

use super::packet::{build, Header};
use crate::device::Device;
use crate::kapi::net::netdev::NetNs;
use crate::kapi::net::page::{Gfp, TxPage};
use crate::kapi::net::udp_tx::{Route, TxSkb};
use crate::kapi::rdma::av::Av;
use crate::proto::ib::burst::{Burst, MAX_PACKETS};
use crate::proto::wire::ib::packet::{packet_len, Packet};
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::Atomic;

/// What an administrator can turn.
pub(crate) struct Knobs {
    /// Packets leave as super-packets. On.
    gso: Atomic<bool>,
}

impl Knobs {
    /// Sets all of them, for packets from now on.
    pub(crate) fn set(&self, gso: bool) {
        self.gso.store(gso, Relaxed);
    }
}

/// For all links.
pub(crate) static KNOBS: Knobs = Knobs {
    gso: Atomic::new(true),
};

/// Pages are allocated in these orders: for one who sends little, which is kept, and for one who sends much, which
/// is not: the page allocator has those at hand (`PAGE_ALLOC_COSTLY_ORDER`).
const ORDER_LITTLE: u32 = 1;
const ORDER_MUCH: u32 = 3;

/// The way that packets go. It is looked up once a turn for as long as the peer is the same, and not kept
/// beyond that: a route must not outlive its namespace. There is none where the namespace is going.
pub(super) struct Way<'a> {
    dev: &'a Device,
    net: Option<&'a NetNs>,
    found: Option<(Av, Route)>,
}

impl<'a> Way<'a> {
    pub(super) fn new(dev: &'a Device, net: Option<&'a NetNs>) -> Self {
        Self {
            dev,
            net,
            found: None,
        }
    }

    /// The route to the other end of `av`, and the namespace that it is of.
    fn to(&mut self, av: &Av) -> Option<(&'a NetNs, &Route)> {
        let net = self.net?;
        if self.found.as_ref().is_none_or(|(known, _)| known != av) {
            self.found = Route::find(
                net,
                av.ifindex,
                (&av.src, &av.dst),
                av.traffic_class,
                av.flow_label,
            )
            .map(|route| (*av, route));
        }
        self.found.as_ref().map(|(_, route)| (net, route))
    }
}

/// Where to, and from which port.
type Flow = (Av, u16);

/// What a QP is about to send.
pub(super) struct Out {
    /// The super-packet that is being filled.
    burst: Burst,
    flow: Flow,
    skb: Option<TxSkb>,
    /// Where the next packet is written to.
    page: Option<TxPage>,
    /// Bytes of the page that are written and not in the skb.
    written: usize,
    /// Identification of the next packet. It counts, as the stack has it count within a super-packet and GRO
    /// expects it.
    id: u16,
    /// A page was used up in this turn.
    much: bool,
    /// Bytes that were sent in it.
    sent: usize,
}

impl Out {
    pub(super) fn new() -> Self {
        Self {
            burst: Burst::new(1),
            flow: (Av::NONE, 0),
            skb: None,
            page: None,
            written: 0,
            id: 0,
            much: false,
            sent: 0,
        }
    }

    /// Whether nothing waits to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.burst.is_empty()
    }

    /// Whether such a packet may be added. If not, [`Self::send`] comes first.
    pub(super) fn admits(&self, flow: &Flow, packet: &Packet, payload_len: usize) -> bool {
        let len = packet_len(packet.opcode, payload_len);
        self.burst.is_empty()
            || (self.burst.admits(len)
                && self.flow == *flow
                // Else the rest of this page goes to the skb, and a part of the next one.
                && (self.has_room(len) || self.skb.as_ref().is_some_and(|skb| skb.has_room(2))))
    }

    /// Whether the page has room for so many bytes more.
    fn has_room(&self, len: usize) -> bool {
        self.page
            .as_ref()
            .is_some_and(|page| page.room() >= self.written + len)
    }

    /// What is written to the page goes to the skb.
    fn commit(&mut self) {
        let written = core::mem::take(&mut self.written);
        if let (Some(page), Some(skb)) = (&mut self.page, &mut self.skb) {
            if written != 0 {
                skb.add(page.commit(written));
            }
        }
    }

    /// Sees to it that the page has room for so many bytes more.
    fn make_room(&mut self, len: usize) -> Result {
        if self.has_room(len) {
            return Ok(());
        }
        self.commit();
        self.much |= self.page.is_some() && !self.burst.is_empty();
        let order = if self.much { ORDER_MUCH } else { ORDER_LITTLE };
        // Everything that was sent from it may have arrived.
        let again = |page: &mut TxPage| page.size() >= PAGE_SIZE << order && page.try_reset();
        if self.page.as_mut().is_some_and(again) && self.has_room(len) {
            return Ok(());
        }
        match TxPage::new(order, Gfp::Atomic) {
            Ok(page) if page.room() >= len => {
                self.page = Some(page);
                Ok(())
            }
            // Memory is in pieces: the page there is may do, though it is not of that size.
            _ if self.page.as_mut().is_some_and(TxPage::try_reset) && self.has_room(len) => Ok(()),
            _ => Err(ENOMEM),
        }
    }

    /// Adds a packet, which is admitted. `fill` writes its payload; if it fails there is no such packet.
    pub(super) fn add<E: From<Error>>(
        &mut self,
        flow: &Flow,
        packet: &Packet,
        payload_len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let len = packet_len(packet.opcode, payload_len);
        if self.skb.is_none() {
            self.skb = Some(TxSkb::new()?);
        }
        if self.burst.is_empty() {
            let gso = KNOBS.gso.load(Relaxed);
            self.burst = Burst::new(if gso { MAX_PACKETS } else { 1 });
            self.flow = *flow;
        }
        self.make_room(len)?;
        let at = self.written;
        let body = self
            .page
            .as_mut()
            .and_then(|page| page.as_mut_slice().get_mut(at..at + len))
            .ok_or(ENOMEM)?;
        let id = self.id;
        build::<E>(body, (&flow.0, flow.1, id), packet, payload_len, fill)?;
        self.written += len;
        self.id = id.wrapping_add(1);
        self.burst.add(len);
        Ok(())
    }

    /// Sends what there is. Without a route, or without memory, it is lost, as it might be on the way. Any context
    /// without a lock that the network stack might take; softirq too.
    pub(super) fn send(&mut self, way: &mut Way<'_>) {
        let burst = core::mem::replace(&mut self.burst, Burst::new(1));
        if burst.is_empty() {
            return;
        }
        let bytes = burst.bytes();
        let alone = self.written == bytes && bytes <= TxSkb::SMALL;
        if !alone {
            self.commit();
        }
        self.written = 0;
        self.sent += bytes;
        let Some(mut skb) = self.skb.take() else {
            return;
        };
        if alone {
            // Its place in the page is free again.
            let from = self.page.as_mut().map(|page| page.as_mut_slice());
            if let Some(Err(_)) = from.and_then(|b| b.get(..bytes)).map(|b| skb.copy(b)) {
                return;
            }
        }
        let (av, port) = self.flow;
        let first = self.id.wrapping_sub(burst.packets() as u16);
        let Ok(header) = Header::new(&av, port, first, bytes) else {
            return;
        };
        let traffic = &way.dev.traffic;
        if let Some((net, route)) = way.to(&av) {
            traffic.sent(burst.packets(), bytes, av.dst.is_multicast());
            skb.send(net, route, av.sl, header.bytes(), burst.chunk());
        }
    }

    /// The turn is over: large pages are given back. Says how many bytes were sent in it.
    pub(super) fn rest(&mut self) -> usize {
        let large = |page: &mut TxPage| page.size() > PAGE_SIZE << ORDER_LITTLE;
        drop(self.page.take_if(large));
        self.much = false;
        core::mem::take(&mut self.sent)
    }
}
