// SPDX-License-Identifier: GPL-2.0

//! Datagrams out, by the route that their sender has found: one skb for as many of a size as are to leave together.

use crate::bindings;
use crate::kapi::net::netdev::NetNs;
use crate::kapi::net::page::PageFrag;
use core::mem::ManuallyDrop;
use core::net::IpAddr;
use core::ptr::NonNull;
use kernel::prelude::*;

/// Datagrams that are put together, the headers last.
///
/// # Invariants
///
/// `skb` is ours, with `frags` pages at most, and room for [`Self::MAX_HEADER`] bytes in front of its data. It is
/// empty if `frags` is 0.
pub(crate) struct TxSkb {
    skb: NonNull<bindings::sk_buff>,
    frags: usize,
}

// SAFETY: An skb may be used from any thread.
unsafe impl Send for TxSkb {}

impl TxSkb {
    /// Bytes that are copied rather than referred to.
    pub(crate) const SMALL: usize = 256;
    /// Pages that are referred to; fewer than an skb may have (`MAX_SKB_FRAGS`, 17 and more).
    pub(crate) const MAX_FRAGS: usize = 16;
    /// Bytes of IP and UDP headers.
    const MAX_HEADER: usize = 48;

    /// An empty one. Any context.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Any context.
        let skb = unsafe {
            bindings::rurdma_alloc_packet(Self::MAX_HEADER as c_uint, Self::SMALL as c_uint)
        };
        let skb = NonNull::new(skb).ok_or(ENOMEM)?;
        // INVARIANT: Just allocated with that room.
        Ok(Self { skb, frags: 0 })
    }

    /// Whether so many pages can be added.
    pub(crate) fn has_room(&self, pages: usize) -> bool {
        self.frags + pages <= Self::MAX_FRAGS
    }

    /// Adds bytes of a page; without effect where there is no room.
    pub(crate) fn add(&mut self, frag: PageFrag) {
        if !self.has_room(1) || frag.is_empty() {
            return;
        }
        // SAFETY: By the type invariant there is a place; the reference goes over to the skb.
        unsafe { bindings::rurdma_skb_add_page(self.skb.as_ptr(), &frag.into_bvec()) };
        self.frags += 1;
    }

    /// What is in it: these bytes and nothing else, before or behind.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Result {
        if self.frags != 0 || bytes.len() > Self::SMALL {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariant the skb is ours, and, as nothing was added to it, as `new` made it: with
        // that room.
        unsafe { bindings::rurdma_skb_copy_in(self.skb.as_ptr(), bytes.as_ptr(), bytes.len()) };
        // INVARIANT: It passes for full.
        self.frags = Self::MAX_FRAGS;
        Ok(())
    }

    /// Sends it behind these headers of IP, without options, and UDP, with this `skb->priority`. `chunk`: where to
    /// cut, if it is to be cut. Any context without a lock that the network stack might take; softirq too.
    pub(crate) fn send(
        self,
        net: &NetNs,
        route: &Route,
        priority: u8,
        header: &[u8],
        chunk: Option<u16>,
    ) {
        if header.len() != (if route.v6 { Self::MAX_HEADER } else { 28 }) {
            return;
        }
        let skb = ManuallyDrop::new(self).skb.as_ptr();
        let chunk = chunk.unwrap_or(0);
        // SAFETY: The skb is ours to give away; by the type invariant there is the room; the header has the length
        // of those of the route's family.
        unsafe {
            bindings::rurdma_skb_header(skb, header.as_ptr(), header.len());
            if route.v6 {
                bindings::rurdma_send6(net.as_ptr(), skb, route.dst.as_ptr(), priority, chunk);
            } else {
                bindings::rurdma_send4(net.as_ptr(), skb, route.dst.as_ptr(), priority, chunk);
            }
        }
    }
}

impl Drop for TxSkb {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_skb_consume(self.skb.as_ptr()) };
    }
}

/// The way to an address.
///
/// # Invariants
///
/// We own a reference to `dst`.
pub(crate) struct Route {
    dst: NonNull<bindings::dst_entry>,
    v6: bool,
}

// SAFETY: A route may be used from any thread.
unsafe impl Send for Route {}

impl Route {
    /// Looks it up. Any context.
    pub(crate) fn find(
        net: &NetNs,
        ifindex: i32,
        (src, dst): (&IpAddr, &IpAddr),
        traffic_class: u8,
        flow_label: u32,
    ) -> Option<Self> {
        // SAFETY: The namespace is held; addresses have their sizes.
        let (raw, v6) = unsafe {
            match (src, dst) {
                (IpAddr::V4(s), IpAddr::V4(d)) => (
                    bindings::rurdma_route4(
                        net.as_ptr(),
                        ifindex,
                        s.octets().as_ptr(),
                        d.octets().as_ptr(),
                        traffic_class,
                    ),
                    false,
                ),
                (IpAddr::V6(s), IpAddr::V6(d)) => (
                    bindings::rurdma_route6(
                        net.as_ptr(),
                        ifindex,
                        s.octets().as_ptr(),
                        d.octets().as_ptr(),
                        u32::from(traffic_class) << 20 | flow_label & 0xf_ffff,
                    ),
                    true,
                ),
                _ => return None,
            }
        };
        // INVARIANT: The look-up took a reference.
        NonNull::new(raw).map(|dst| Self { dst, v6 })
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_dst_put(self.dst.as_ptr()) };
    }
}
