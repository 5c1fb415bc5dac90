// SPDX-License-Identifier: GPL-2.0

//! A RoCEv2 packet from the IP header to the ICRC, of a peer that sends anything.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rurdma_fuzz::proto::wire::ib::flush::FlushKind;
use rurdma_fuzz::proto::wire::ib::hdr::BTH_LEN;
use rurdma_fuzz::proto::wire::ib::icrc::{self, Crc32 as _};
use rurdma_fuzz::proto::wire::ib::ip::{IpFields, IPV4_LEN, IPV6_LEN};
use rurdma_fuzz::proto::wire::ib::opcode::{Extra, Op, Service};
use rurdma_fuzz::proto::wire::ib::packet::{header_len, packet_len, pad_of, Packet, MAX_HDR_LEN};
use rurdma_fuzz::proto::wire::ib::syndrome::{ack_timeout_ns, rnr_timer_us, Syndrome};
use rurdma_fuzz::{Input, Sum};

/// The sum over a whole packet.
fn sum_of(ip: &IpFields, ports: (u16, u16), packet: &[u8]) -> Option<[u8; 4]> {
    let covered = packet.get(..packet.len().checked_sub(4)?)?;
    let bth = covered.first_chunk()?;
    let len = packet.len() as u16;
    let crc = icrc::begin::<Sum>(ip, ports.0, ports.1, len, bth);
    Some(icrc::to_wire(Sum::crc32(crc, &covered[BTH_LEN..])))
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let flags = input.byte();
    let ports = (input.word(), input.word());
    let (ip_len, version) = match flags & 3 {
        0 | 1 => (IPV4_LEN, 0x45),
        2 => (IPV6_LEN, 0x60),
        _ => (usize::from(input.byte()), input.byte()),
    };
    let mut ip = input.take(ip_len).to_vec();
    if let Some(first) = ip.first_mut() {
        *first = version;
    }
    let fields = IpFields::read(&ip);
    match (&fields, ip.len()) {
        (Some(IpFields::V4 { src, dst, .. }), IPV4_LEN) => {
            assert_eq!((&ip[12..16], &ip[16..]), (&src[..], &dst[..]));
        }
        (Some(IpFields::V6 { src, dst }), IPV6_LEN) => {
            assert_eq!((&ip[8..24], &ip[24..]), (&src[..], &dst[..]));
        }
        (None, n) => assert!(!matches!((n, version >> 4), (IPV4_LEN, 4) | (IPV6_LEN, 6))),
        other => panic!("{other:?}"),
    }

    // The sum is no obstacle, if the input says so.
    let mut packet = input.0.to_vec();
    if let Some(ip) = &fields {
        let right = |p: &[u8]| icrc::is_right::<Sum>(ip, ports.0, ports.1, p);
        match sum_of(ip, ports, &packet) {
            Some(sum) => {
                let n = packet.len() - 4;
                assert_eq!(right(&packet), packet[n..] == sum);
                packet[n..].copy_from_slice(&sum);
                assert!(right(&packet));
                // Routers may set these bits.
                packet[4] ^= flags | 1;
                assert!(right(&packet));
                packet[4] ^= flags | 1;
            }
            None => assert!(!right(&packet)),
        }
    }

    // Of a long packet no more than the headers are at hand.
    let len = packet.len();
    let r = Packet::parse(&packet, len);
    let head = &packet[..len.min(MAX_HDR_LEN)];
    assert_eq!(Packet::parse(head, len), r);
    let Ok(r) = r else {
        return;
    };
    let (p, opcode) = (r.packet, r.packet.opcode);
    assert_eq!(r.payload_at, header_len(opcode));
    let pad = len - 4 - r.payload_at - r.payload_len;
    assert!(pad < 4 && (pad + r.payload_len) % 4 == 0);
    assert_eq!(pad, pad_of(r.payload_len));
    assert_eq!(len, packet_len(opcode, r.payload_len));
    assert!(p.qpn <= 0xff_ffff && p.msn <= 0xff_ffff && p.datagram.src_qpn <= 0xff_ffff);
    assert_eq!(opcode.number(), Some(packet[0]));

    // What was understood can be said again, and is then understood as the same.
    let mut again = vec![0xaa; len];
    assert_eq!(p.emit(r.payload_len, &mut again), Some(r.payload_at));
    assert_eq!(Packet::parse(&again, len), Ok(r));
    assert_eq!(p.emit(r.payload_len, &mut again[..r.payload_at - 1]), None);

    // A service has nothing but its own operations, and each its own headers.
    let sends = matches!(opcode.op, Op::Send(_, Extra::None | Extra::Imm));
    match opcode.service {
        Service::Rc => {}
        Service::Uc => assert!(sends || matches!(opcode.op, Op::Write(..))),
        Service::Ud => assert!(sends),
    }
    if opcode.op != Op::Flush {
        assert_eq!(p.flush, 0);
    } else if let Some(kind) = FlushKind::from_word(p.flush) {
        assert_eq!(kind.word(), p.flush & 0x3f);
        assert!(kind.global || kind.persistent);
    }
    match Syndrome::from_number(p.syndrome) {
        Some(Syndrome::Rnr(timer)) => assert!((10..=655_360).contains(&rnr_timer_us(timer))),
        Some(Syndrome::Nak(_)) => assert!(!opcode.is_request()),
        Some(Syndrome::Ack) => assert!(p.syndrome < 0x20),
        None => assert!(p.syndrome >= 0x40),
    }
    assert_eq!(ack_timeout_ns(flags).is_none(), flags % 32 == 0);
});
