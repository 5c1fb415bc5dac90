// SPDX-License-Identifier: GPL-2.0

//! A packet from the IP header to the ICRC.

use crate::kapi::net::udp::{crc32, TxPacket};
use crate::kapi::rdma::av::Av;
use crate::proto::wire::ib::hdr::BTH_LEN;
use crate::proto::wire::ib::icrc::{self, Crc32};
use crate::proto::wire::ib::ip::{IpFields, IPV4_LEN, IPV6_LEN, UDP_LEN};
use crate::proto::wire::ib::packet::{packet_len, Packet};
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

/// Bytes of a packet to the other end of `av`, from the BTH to the ICRC.
pub(super) fn octets(av: &Av, packet: &TxPacket) -> usize {
    packet.len().saturating_sub(ip_len(av) + UDP_LEN)
}

/// Builds a packet to the other end of `av`; `fill` writes the payload.
pub(super) fn build<E: From<Error>>(
    av: &Av,
    port: u16,
    packet: &Packet,
    payload_len: usize,
    fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Result<TxPacket, E> {
    let ip_len = ip_len(av);
    let transport = packet_len(packet.opcode, payload_len);
    let mut skb = TxPacket::new(ip_len + UDP_LEN + transport)?;
    let bytes = skb.as_mut_slice();
    let (ip, rest) = bytes.split_at_mut_checked(ip_len).ok_or(EINVAL)?;
    let (udp, body) = rest.split_at_mut_checked(UDP_LEN).ok_or(EINVAL)?;
    let fields = write_ip(ip, av)?;
    let udp_len = (UDP_LEN + transport) as u16;
    for (to, word) in udp.chunks_exact_mut(2).zip([port, UDP_PORT, udp_len, 0]) {
        to.copy_from_slice(&word.to_be_bytes());
    }
    let at = packet.emit(payload_len, body).ok_or(EINVAL)?;
    let end = body.len() - ICRC_LEN;
    let (covered, sum) = body.split_at_mut_checked(end).ok_or(EINVAL)?;
    let (payload, pad) = covered
        .get_mut(at..)
        .and_then(|b| b.split_at_mut_checked(payload_len))
        .ok_or(EINVAL)?;
    fill(payload)?;
    pad.fill(0);
    let bth = covered.first_chunk::<BTH_LEN>().ok_or(EINVAL)?;
    let crc = icrc::begin::<KernelCrc>(&fields, port, UDP_PORT, transport as u16, bth);
    let crc = crc32(crc, covered.get(BTH_LEN..).ok_or(EINVAL)?);
    sum.copy_from_slice(&icrc::to_wire(crc));
    Ok(skb)
}

/// Writes the IP header but for what the stack fills in: lengths and checksum.
fn write_ip(ip: &mut [u8], av: &Av) -> Result<IpFields> {
    let ttl = match av.hop_limit {
        0 => DEFAULT_TTL,
        n => n,
    };
    match (av.src, av.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let [f0, f1] = DONT_FRAGMENT.to_be_bytes();
            // Never fragmented, so the identification says nothing (RFC 6864 section 4.1).
            let hdr = [0x45, av.traffic_class, 0, 0, 0, 0, f0, f1, ttl, 17, 0, 0];
            write(ip, &[&hdr, &src.octets(), &dst.octets()]);
            Ok(IpFields::V4 {
                src: src.octets(),
                dst: dst.octets(),
                id: 0,
                frag: DONT_FRAGMENT,
            })
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let word = 6 << 28 | u32::from(av.traffic_class) << 20 | av.flow_label & 0xf_ffff;
            let hdr = [0, 0, 17, ttl];
            write(
                ip,
                &[&word.to_be_bytes(), &hdr, &src.octets(), &dst.octets()],
            );
            Ok(IpFields::V6 {
                src: src.octets(),
                dst: dst.octets(),
            })
        }
        _ => Err(EINVAL),
    }
}

/// Writes `parts` one behind the other.
fn write(to: &mut [u8], parts: &[&[u8]]) {
    for (to, from) in to.iter_mut().zip(parts.iter().flat_map(|p| p.iter())) {
        *to = *from;
    }
}
