// SPDX-License-Identifier: GPL-2.0

//! A packet from the IP header to the ICRC.

use crate::kapi::net::udp::crc32;
use crate::kapi::rdma::av::Av;
use crate::proto::wire::ib::hdr::BTH_LEN;
use crate::proto::wire::ib::icrc::{self, Crc32};
use crate::proto::wire::ib::ip::{IpFields, IPV4_LEN, IPV6_LEN, UDP_LEN};
use crate::proto::wire::ib::packet::Packet;
use crate::proto::wire::ib::{ICRC_LEN, UDP_PORT};
use core::net::IpAddr;
use kernel::prelude::*;

/// The kernel's CRC-32.
pub(super) struct KernelCrc;

impl Crc32 for KernelCrc {
    fn crc32(seed: u32, data: &[u8]) -> u32 {
        crc32(seed, data)
    }
}

const DONT_FRAGMENT: u16 = 0x4000;
const DEFAULT_TTL: u8 = 64;

/// The source port: the same for all packets of a flow, different for others, so that routers spread
/// them (annex A17.3.2).
pub(super) fn source_port(flow_label: u32, a: u32, b: u32) -> u16 {
    let flow = match flow_label {
        0 => {
            let x = u64::from(a) * u64::from(b);
            (x ^ (x >> 20) ^ (x >> 40)) as u32
        }
        label => label,
    };
    0xc000 | ((flow ^ (flow >> 14)) & 0x3fff) as u16
}

/// Bytes of the IP header in front of it.
fn ip_len(av: &Av) -> usize {
    match av.dst {
        IpAddr::V4(_) => IPV4_LEN,
        IpAddr::V6(_) => IPV6_LEN,
    }
}

/// Headers in front of a super-packet, or of a packet.
pub(super) struct Header {
    bytes: [u8; IPV6_LEN + UDP_LEN],
    len: usize,
}

impl Header {
    /// To the other end of `av`, with so many bytes behind the UDP header; of IPv4 with this identification. What
    /// the stack fills in is left out: lengths of IP, checksums.
    pub(super) fn new(av: &Av, port: u16, id: u16, transport: usize) -> Result<Self> {
        let mut header = Header {
            bytes: [0; IPV6_LEN + UDP_LEN],
            len: ip_len(av) + UDP_LEN,
        };
        let (ip, udp) = header
            .bytes
            .get_mut(..header.len)
            .and_then(|b| b.split_at_mut_checked(ip_len(av)))
            .ok_or(EINVAL)?;
        write_ip(ip, av, id)?;
        let len = u16::try_from(UDP_LEN + transport)?;
        for (to, word) in udp.chunks_exact_mut(2).zip([port, UDP_PORT, len, 0]) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        Ok(header)
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// Builds a packet to the other end of `av` in `body`, which has its length, from the BTH to the ICRC. `fill` writes
/// the payload.
pub(super) fn build<E: From<Error>>(
    body: &mut [u8],
    (av, port, id): (&Av, u16, u16),
    packet: &Packet,
    payload_len: usize,
    fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let fields = fields(av, id)?;
    let len = body.len() as u16;
    let at = packet.emit(payload_len, body).ok_or(EINVAL)?;
    let (covered, sum) = body.split_last_chunk_mut::<ICRC_LEN>().ok_or(EINVAL)?;
    let (payload, pad) = covered
        .get_mut(at..)
        .and_then(|b| b.split_at_mut_checked(payload_len))
        .ok_or(EINVAL)?;
    fill(payload)?;
    pad.fill(0);
    let bth = covered.first_chunk::<BTH_LEN>().ok_or(EINVAL)?;
    let crc = icrc::begin::<KernelCrc>(&fields, port, UDP_PORT, len, bth);
    let crc = crc32(crc, covered.get(BTH_LEN..).ok_or(EINVAL)?);
    *sum = icrc::to_wire(crc);
    Ok(())
}

/// What of the IP header the ICRC covers.
fn fields(av: &Av, id: u16) -> Result<IpFields> {
    match (av.src, av.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Ok(IpFields::V4 {
            src: src.octets(),
            dst: dst.octets(),
            id,
            frag: DONT_FRAGMENT,
        }),
        (IpAddr::V6(src), IpAddr::V6(dst)) => Ok(IpFields::V6 {
            src: src.octets(),
            dst: dst.octets(),
        }),
        _ => Err(EINVAL),
    }
}

/// Writes the IP header but for what the stack fills in: lengths and checksum.
fn write_ip(ip: &mut [u8], av: &Av, id: u16) -> Result {
    let ttl = match av.hop_limit {
        0 => DEFAULT_TTL,
        n => n,
    };
    match (av.src, av.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let [i0, i1] = id.to_be_bytes();
            let [f0, f1] = DONT_FRAGMENT.to_be_bytes();
            let hdr = [0x45, av.traffic_class, 0, 0, i0, i1, f0, f1, ttl, 17, 0, 0];
            write(ip, &[&hdr, &src.octets(), &dst.octets()]);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let word = 6 << 28 | u32::from(av.traffic_class) << 20 | av.flow_label & 0xf_ffff;
            let hdr = [0, 0, 17, ttl];
            write(
                ip,
                &[&word.to_be_bytes(), &hdr, &src.octets(), &dst.octets()],
            );
        }
        _ => return Err(EINVAL),
    }
    Ok(())
}

/// Writes `parts` one behind the other.
fn write(to: &mut [u8], parts: &[&[u8]]) {
    for (to, from) in to.iter_mut().zip(parts.iter().flat_map(|p| p.iter())) {
        *to = *from;
    }
}
