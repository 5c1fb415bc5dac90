// SPDX-License-Identifier: GPL-2.0

//! UDP sockets of the kernel: datagrams in, headers and all, as many at once as came as one.

use crate::bindings;
use crate::kapi::net::addr::family;
use crate::kapi::net::netdev::NetNs;
use crate::kapi::net::skb::{Block, SkbChunk};
use crate::kapi::net::socket::{bind, Callbacks, Hook};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ptr::{null_mut, NonNull};
use core::slice;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::{rcu, Arc, ArcBorrow};

/// Who is told of datagrams. In softirq, without a lock: do not sleep. Several at once.
pub(crate) trait Datagrams: Send + Sync + 'static {
    /// Some have come.
    fn received(this: ArcBorrow<'_, Self>, packets: &SuperPacket<'_>);
}

/// Datagrams that have come as one: a sender, a netdev or GRO has put them together. All have the same addresses
/// and ports. Mostly it is one.
pub(crate) struct SuperPacket<'a> {
    /// The IP header in front of them: 20 or 40 bytes. Its length and checksum are of all of them, its
    /// identification is that of the first.
    pub(crate) ip: &'a [u8],
    /// Port of the sender.
    pub(crate) src_port: u16,
    /// Port of the receiver.
    pub(crate) dst_port: u16,
    /// Index of the netdev that they came in by.
    pub(crate) ifindex: i32,
    /// Bytes behind the UDP header.
    len: usize,
    /// Of each datagram but the last, which may have fewer.
    chunk: usize,
    skb: *const bindings::sk_buff,
}

/// Datagrams that come as one, at most; UDP lets its users send 128 (`UDP_MAX_SEGMENTS`), GRO collects 64. Those
/// of a sender who tells other sizes are lost.
const MAX_DATAGRAMS: usize = 512;

impl SuperPacket<'_> {
    /// Bytes behind the UDP header, of all of them.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Keeps them for longer. Any context.
    pub(crate) fn keep(&self) -> KeptPackets {
        // SAFETY: As for `Datagram::keep()`.
        // INVARIANT: The same skb.
        unsafe {
            bindings::rurdma_skb_get(self.skb.cast_mut());
            KeptPackets(SuperPacket {
                ip: slice::from_raw_parts(self.ip.as_ptr(), self.ip.len()),
                ..*self
            })
        }
    }

    /// The datagrams, in the order in which they were sent.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        let step = self.chunk.max(1);
        // One that is empty is a datagram, too.
        let count = self.len.div_ceil(step).clamp(1, MAX_DATAGRAMS);
        // SAFETY: The skb lives.
        let mut block = unsafe { Block::head(self.skb) };
        (0..count).map(move |index| {
            let at = index * step;
            // SAFETY: The skb lives, whose block it is.
            if let Some(found) = unsafe { block.seek(self.skb, at) } {
                block = found;
            }
            // INVARIANT: The skb has `self.len` bytes; nobody but us has it.
            Datagram {
                ip: self.ip,
                src_port: self.src_port,
                dst_port: self.dst_port,
                ifindex: self.ifindex,
                index: index as u16,
                at,
                len: step.min(self.len - at),
                block,
                skb: self.skb,
            }
        })
    }
}

/// A datagram.
///
/// # Invariants
///
/// `skb` lives as long as the datagram, and `at..at + len` is within it; `block` is its head or one of
/// its frags.
pub(crate) struct Datagram<'a> {
    /// The IP header that it came with, which may be that of several.
    pub(crate) ip: &'a [u8],
    /// Port of the sender.
    pub(crate) src_port: u16,
    /// Port of the receiver.
    pub(crate) dst_port: u16,
    /// Index of the netdev that it came in by.
    pub(crate) ifindex: i32,
    /// How many were before it that came with it.
    pub(crate) index: u16,
    /// Bytes behind the UDP header.
    pub(crate) len: usize,
    at: usize,
    /// Where it begins, if that is known.
    block: Block,
    skb: *const bindings::sk_buff,
}

impl Datagram<'_> {
    /// The payload, to be copied to memory of a process.
    pub(crate) fn chunk(&self) -> SkbChunk<'_> {
        // SAFETY: By the type invariant.
        unsafe { SkbChunk::new(self.skb, self.block, self.at, self.len) }
    }

    /// Keeps it for longer. Any context.
    pub(crate) fn keep(&self) -> KeptDatagram {
        // SAFETY: The skb lives as long as `self`, and, with the reference that this takes, as long as
        // what comes out; so do the bytes in it, which nobody moves or changes once they are read.
        // INVARIANT: The same range of the same skb.
        unsafe {
            bindings::rurdma_skb_get(self.skb.cast_mut());
            KeptDatagram(Datagram {
                ip: slice::from_raw_parts(self.ip.as_ptr(), self.ip.len()),
                ..*self
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
        unsafe { bindings::rurdma_skb_consume(self.0.skb.cast_mut()) };
    }
}

/// Datagrams that came as one, and are kept.
///
/// # Invariants
///
/// We own a reference to their skb.
pub(crate) struct KeptPackets(SuperPacket<'static>);

// SAFETY: An skb may be read, and given back, from any thread.
unsafe impl Send for KeptPackets {}

impl KeptPackets {
    /// The datagrams.
    pub(crate) fn get(&self) -> &SuperPacket<'_> {
        &self.0
    }
}

impl Drop for KeptPackets {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_skb_consume(self.0.skb.cast_mut()) };
    }
}

/// Whether there is IPv6: the kernel has it, and it is not switched off.
pub(crate) fn has_ipv6() -> bool {
    // SAFETY: Pure function.
    unsafe { bindings::rurdma_has_ipv6() }
}

/// What is read in one `data_ready`: as each brings one, all is.
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
        // SAFETY: The skb is ours; with `true` the pointer is into it, with its length, as is the payload.
        unsafe {
            if bindings::rurdma_udp_parse(skb, &mut raw) {
                let packets = SuperPacket {
                    ip: slice::from_raw_parts(raw.ip, raw.ip_len as usize),
                    src_port: raw.src_port,
                    dst_port: raw.dst_port,
                    ifindex: raw.ifindex,
                    len: raw.len as usize,
                    chunk: raw.chunk as usize,
                    skb,
                };
                D::received(owner, &packets);
            }
            bindings::rurdma_skb_consume(skb);
        }
    }
}

/// CRC-32 over `bytes`, from and to the raw remainder.
#[inline]
pub(crate) fn crc32(seed: u32, bytes: &[u8]) -> u32 {
    // SAFETY: A valid slice.
    unsafe { bindings::crc32_le(seed, bytes.as_ptr().cast(), bytes.len()) }
}
