// SPDX-License-Identifier: GPL-2.0

//! UDP sockets of the kernel: whole datagrams in, headers and all.

use crate::bindings;
use crate::kapi::net::addr::family;
use crate::kapi::net::netdev::NetNs;
use crate::kapi::net::skb::SkbChunk;
use crate::kapi::net::socket::{bind, Callbacks, Hook};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ptr::{null_mut, NonNull};
use core::slice;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::{rcu, Arc, ArcBorrow};

/// Who is told of datagrams. In softirq, without a lock: do not sleep. Several at once.
pub(crate) trait Datagrams: Send + Sync + 'static {
    /// One has come.
    fn received(this: ArcBorrow<'_, Self>, datagram: &Datagram<'_>);
}

/// A datagram.
pub(crate) struct Datagram<'a> {
    /// The IP header: 20 or 40 bytes.
    pub(crate) ip: &'a [u8],
    /// Port of the sender.
    pub(crate) src_port: u16,
    /// Port of the receiver.
    pub(crate) dst_port: u16,
    /// Index of the netdev that it came in by.
    pub(crate) ifindex: i32,
    /// What is behind the UDP header.
    pub(crate) payload: &'a [u8],
    skb: *const bindings::sk_buff,
}

impl Datagram<'_> {
    /// The payload, to be copied to memory of a process.
    pub(crate) fn chunk(&self) -> SkbChunk<'_> {
        // SAFETY: The skb lives as long as `self`; its data are its payload.
        unsafe { SkbChunk::new(self.skb, 0, self.payload.len()) }
    }
}

impl Datagram<'_> {
    /// Keeps it for longer. Any context.
    pub(crate) fn keep(&self) -> KeptDatagram {
        // SAFETY: The skb lives as long as `self`, and, with the reference that this takes, as long as
        // what comes out; so do the bytes in it, which nobody moves or changes once they are read.
        unsafe {
            bindings::rurdma_skb_get(self.skb.cast_mut());
            KeptDatagram(Datagram {
                ip: slice::from_raw_parts(self.ip.as_ptr(), self.ip.len()),
                src_port: self.src_port,
                dst_port: self.dst_port,
                ifindex: self.ifindex,
                payload: slice::from_raw_parts(self.payload.as_ptr(), self.payload.len()),
                skb: self.skb,
            })
        }
    }
}

/// A datagram that is kept.
///
/// # Invariants
///
/// We own a reference to its skb.
pub(crate) struct KeptDatagram(Datagram<'static>);

// SAFETY: An skb may be read, and given back, from any thread.
unsafe impl Send for KeptDatagram {}

impl KeptDatagram {
    /// The datagram.
    pub(crate) fn get(&self) -> &Datagram<'_> {
        &self.0
    }
}

impl Drop for KeptDatagram {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::consume_skb(self.0.skb.cast_mut()) };
    }
}

/// Whether there is IPv6: the kernel has it, and it is not switched off.
pub(crate) fn has_ipv6() -> bool {
    // SAFETY: Pure function.
    unsafe { bindings::rurdma_has_ipv6() }
}

/// Datagrams of one `data_ready`: as each datagram brings one, all are read.
const BUDGET: u32 = 64;

/// A UDP socket that receives. Closed on drop, in process context.
///
/// # Invariants
///
/// `sock` is an owned `struct socket` of UDP, whose user data is `hook`'s.
pub(crate) struct UdpSocket {
    sock: NonNull<bindings::socket>,
    orig: Callbacks,
    hook: Hook,
}

// SAFETY: A socket may be used from any thread.
unsafe impl Send for UdpSocket {}
// SAFETY: As above.
unsafe impl Sync for UdpSocket {}

impl UdpSocket {
    /// Binds to `port` of every address of one family in `net`. EADDRINUSE: somebody has it.
    pub(crate) fn new<D: Datagrams>(
        net: &NetNs,
        v6: bool,
        port: u16,
        owner: Arc<D>,
    ) -> Result<Self> {
        let any: IpAddr = if v6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let addr = SocketAddr::new(any, port);
        let mut sock = null_mut();
        // SAFETY: The namespace is held; process context.
        to_result(unsafe {
            bindings::rurdma_udp_create(net.as_ptr(), c_int::from(family(&addr)), &mut sock)
        })?;
        let sock = NonNull::new(sock).ok_or(ENOMEM)?;
        // SAFETY: Just created, with the stack's own callbacks.
        let (sk, orig) = unsafe {
            let sk = bindings::rurdma_sock_sk(sock.as_ptr());
            (sk, Callbacks::of(sk))
        };
        // INVARIANT: Installed below.
        let this = Self {
            sock,
            orig,
            hook: Hook::new(owner),
        };
        let callbacks = Callbacks {
            data_ready: Some(data_ready::<D>),
            ..orig
        };
        // SAFETY: The socket lives; the callback is the one for an `Arc<D>`.
        unsafe {
            callbacks.install(sk, this.hook.data.cast_mut());
            if v6 {
                to_result(bindings::rurdma_sk_v6only(sk))?;
            }
            bind(sock.as_ptr(), &addr)?;
        }
        Ok(this)
    }

    fn sk(&self) -> *mut bindings::sock {
        // SAFETY: By the type invariant the socket lives.
        unsafe { bindings::rurdma_sock_sk(self.sock.as_ptr()) }
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. Callbacks run in RCU read-side sections: after the grace
        // period none of ours does, and `hook` is dropped only after that.
        unsafe {
            self.orig.install(self.sk(), null_mut());
            bindings::sock_release(self.sock.as_ptr());
            bindings::synchronize_net();
        }
    }
}

/// # Safety
///
/// The callback of a UDP socket with a `D` hooked in.
unsafe extern "C" fn data_ready<D: Datagrams>(sk: *mut bindings::sock) {
    let _guard = rcu::read_lock();
    // SAFETY: The socket lives.
    let data = unsafe { bindings::rurdma_sk_user_data(sk) };
    if data.is_null() {
        return;
    }
    // SAFETY: By the invariant of `UdpSocket` it is an `Arc<D>`, dropped a grace period after it
    // was taken out.
    let owner = unsafe { ArcBorrow::from_raw(data.cast_const().cast::<D>()) };
    for _ in 0..BUDGET {
        // SAFETY: The socket lives; no lock is held.
        let skb = unsafe { bindings::rurdma_udp_receive(sk) };
        if skb.is_null() {
            break;
        }
        let mut raw: bindings::rurdma_datagram = pin_init::zeroed();
        // SAFETY: The skb is ours; with `true` the pointers are into it, with their lengths.
        unsafe {
            if bindings::rurdma_udp_parse(skb, &mut raw) {
                let datagram = Datagram {
                    ip: slice::from_raw_parts(raw.ip, raw.ip_len as usize),
                    src_port: raw.src_port,
                    dst_port: raw.dst_port,
                    ifindex: raw.ifindex,
                    payload: slice::from_raw_parts(raw.payload, raw.len as usize),
                    skb,
                };
                D::received(owner, &datagram);
            }
            bindings::consume_skb(skb);
        }
    }
}

/// A packet that is being built: IP header, UDP header and what follows, in one piece.
///
/// # Invariants
///
/// `skb` is ours, linear, with `len` bytes.
pub(crate) struct TxPacket {
    skb: NonNull<bindings::sk_buff>,
    data: NonNull<u8>,
    len: usize,
}

// SAFETY: An skb may be used from any thread.
unsafe impl Send for TxPacket {}

impl TxPacket {
    /// Room for `len` bytes from the IP header on. Any context.
    pub(crate) fn new(len: usize) -> Result<Self> {
        let n = u32::try_from(len)?;
        // SAFETY: Any context.
        let skb = NonNull::new(unsafe { bindings::rurdma_alloc_packet(n) }).ok_or(ENOMEM)?;
        // SAFETY: Just allocated.
        let data = unsafe { NonNull::new((*skb.as_ptr()).data) }.ok_or(ENOMEM)?;
        Ok(Self { skb, data, len })
    }

    /// Bytes from the IP header on.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Its bytes.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: By the type invariant; every byte is written before it is sent, and reading
        // memory of the allocator is no fault.
        unsafe { slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }

    /// Sends it with this `skb->priority`. Any context without a lock that the network stack might take; softirq too.
    pub(crate) fn send(self, net: &NetNs, route: &Route, priority: u8) {
        let skb = self.skb.as_ptr();
        core::mem::forget(self);
        // SAFETY: The skb is ours to give away, and begins with a header of the route's family.
        unsafe {
            if route.v6 {
                bindings::rurdma_send6(net.as_ptr(), skb, route.dst.as_ptr(), priority);
            } else {
                bindings::rurdma_send4(net.as_ptr(), skb, route.dst.as_ptr(), priority);
            }
        }
    }
}

impl Drop for TxPacket {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::consume_skb(self.skb.as_ptr()) };
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

/// CRC-32 over `bytes`, from and to the raw remainder.
#[inline]
pub(crate) fn crc32(seed: u32, bytes: &[u8]) -> u32 {
    // SAFETY: A valid slice.
    unsafe { bindings::crc32_le(seed, bytes.as_ptr().cast(), bytes.len()) }
}
