// SPDX-License-Identifier: GPL-2.0

//! InfiniBand packets: round trips, arbitrary bytes, ICRC.

#![allow(missing_docs)]

use proptest::prelude::*;
use rurdma_host_tests::proto::ib::burst::{Burst, MAX_BYTES, MAX_PACKETS};
use rurdma_host_tests::proto::serial::Psn;
use rurdma_host_tests::proto::wire::ib::icrc::{self, Bitwise, Crc32 as _};
use rurdma_host_tests::proto::wire::ib::ip::IpFields;
use rurdma_host_tests::proto::wire::ib::opcode::{Extra, Op, Opcode};
use rurdma_host_tests::proto::wire::ib::packet::{
    header_len, packet_len, Atomic, Datagram, Malformed, Packet, Remote,
};

fn opcode() -> impl Strategy<Value = Opcode> {
    any::<u8>().prop_filter_map("no such opcode", Opcode::from_number)
}

prop_compose! {
    /// Headers with something in every field that the opcode has, and zero in the others.
    fn packet()(
        opcode in opcode(),
        bits in any::<(bool, bool, u16)>(),
        qpn in 0..=0xff_ffffu32,
        psn in any::<u32>(),
        (va, rkey, length) in any::<(u64, u32, u32)>(),
        (swap_add, compare, original) in any::<(u64, u64, u64)>(),
        (qkey, src_qpn) in (any::<u32>(), 0..=0xff_ffffu32),
        (extra, flush) in any::<(u32, u32)>(),
        (syndrome, msn) in (any::<u8>(), 0..=0xff_ffffu32),
    ) -> Packet {
        let mut p = Packet {
            solicited: bits.0,
            ack_request: bits.1,
            pkey: bits.2,
            ..Packet::new(opcode, qpn, Psn::new(psn))
        };
        let has = |len: usize| header_len(opcode) >= len;
        if opcode.number().is_some_and(|n| n >> 5 == 3) {
            p.datagram = Datagram { qkey, src_qpn };
        }
        match opcode.op {
            Op::Send(_, Extra::Imm | Extra::Inv) => p.extra = extra,
            Op::Write(place, e) => {
                if place.begins() {
                    p.remote = Remote { va, rkey, length };
                }
                if e != Extra::None {
                    p.extra = extra;
                }
            }
            Op::ReadRequest | Op::AtomicWrite => p.remote = Remote { va, rkey, length },
            Op::Flush => {
                p.remote = Remote { va, rkey, length };
                p.flush = flush;
            }
            Op::CmpSwp | Op::FetchAdd => p.atomic = Atomic { va, rkey, swap_add, compare },
            Op::ReadResponse(_) | Op::Acknowledge | Op::AtomicAcknowledge if has(16) => {
                p.syndrome = syndrome;
                p.msn = msn;
                if opcode.op == Op::AtomicAcknowledge {
                    p.original = original;
                }
            }
            _ => {}
        }
        p
    }
}

proptest! {
    #[test]
    fn round_trip(p in packet(), payload in 0usize..5000) {
        let mut bytes = vec![0; packet_len(p.opcode, payload)];
        let n = p.emit(payload, &mut bytes).unwrap();
        prop_assert_eq!(n, header_len(p.opcode));
        let r = Packet::parse(&bytes, bytes.len()).unwrap();
        prop_assert_eq!(r.packet, p);
        prop_assert_eq!((r.payload_at, r.payload_len), (n, payload));
        // The headers alone, and the length from elsewhere, say the same.
        prop_assert_eq!(Packet::parse(&bytes[..n], bytes.len()), Ok(r));
        // One byte less is none of it.
        prop_assert_eq!(Packet::parse(&bytes[..n - 1], bytes.len()), Err(Malformed::Truncated));
        prop_assert_eq!(p.emit(payload, &mut bytes[..n - 1]), None);
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..120), len in 0usize..70_000) {
        for len in [bytes.len(), len] {
            if let Ok(r) = Packet::parse(&bytes, len) {
                prop_assert!(r.payload_at + r.payload_len + 4 <= len);
                let mut again = vec![0; 64];
                prop_assert_eq!(r.packet.emit(r.payload_len, &mut again), Some(r.payload_at));
            }
        }
    }

    /// What routers change does not count; all else does.
    #[test]
    fn icrc_is_invariant(bth in any::<[u8; 12]>(), bit in 0usize..96, id in any::<u16>()) {
        let ip = IpFields::V4 { src: [10, 0, 0, 1], dst: [10, 0, 0, 2], id, frag: 0x4000 };
        let crc = icrc::begin::<Bitwise>(&ip, 0xc000, 4791, 16, &bth);
        let mut other = bth;
        other[bit / 8] ^= 1 << (bit % 8);
        let changed = icrc::begin::<Bitwise>(&ip, 0xc000, 4791, 16, &other);
        prop_assert_eq!(crc == changed, bit / 8 == 4);
    }
}

/// The sum over the whole, byte by byte, with the fields that change set to ones by hand.
#[test]
fn icrc_by_hand() {
    let bth = [4, 0x40, 0xff, 0xff, 0, 0, 0, 17, 0x80, 1, 2, 3];
    let payload = *b"0123";
    let len = 12 + 4 + 4u16;
    let mut v4 = vec![0xff; 8];
    v4.extend([
        0x45,
        0xff,
        0,
        20 + 8 + len as u8,
        0x12,
        0x34,
        0x40,
        0,
        0xff,
        17,
        0xff,
        0xff,
    ]);
    v4.extend([192, 0, 2, 1, 192, 0, 2, 2]);
    let mut v6 = vec![0xff; 8];
    v6.extend([0x6f, 0xff, 0xff, 0xff, 0, 8 + len as u8, 17, 0xff]);
    v6.extend([0xfd; 16]);
    v6.extend([0xfe; 16]);
    for (mut bytes, ip) in [
        (
            v4,
            IpFields::V4 {
                src: [192, 0, 2, 1],
                dst: [192, 0, 2, 2],
                id: 0x1234,
                frag: 0x4000,
            },
        ),
        (
            v6,
            IpFields::V6 {
                src: [0xfd; 16],
                dst: [0xfe; 16],
            },
        ),
    ] {
        bytes.extend([0xc1, 0x23, 0x12, 0xb7, 0, 8 + len as u8, 0xff, 0xff]);
        bytes.extend(bth);
        let at = bytes.len() - 8;
        bytes[at] = 0xff;
        bytes.extend(payload);
        let begun = icrc::begin::<Bitwise>(&ip, 0xc123, 4791, len, &bth);
        assert_eq!(Bitwise::crc32(begun, &payload), Bitwise::crc32(!0, &bytes));
    }
}

/// Any bit of a packet counts but the eight that routers may set; what is too short has no sum.
#[test]
fn icrc_of_a_whole_packet() {
    let ip = IpFields::V4 {
        src: [10, 0, 0, 1],
        dst: [10, 0, 0, 2],
        id: 7,
        frag: 0x4000,
    };
    let right = |bytes: &[u8]| icrc::is_right::<Bitwise>(&ip, 0xc000, 4791, bytes);
    let opcode = Opcode::from_number(4).unwrap();
    let mut bytes = vec![0x5a; packet_len(opcode, 9)];
    let at = Packet::new(opcode, 9, Psn::new(1))
        .emit(9, &mut bytes)
        .unwrap();
    let (len, end) = (bytes.len() as u16, bytes.len() - 4);
    let bth: &[u8; 12] = bytes.first_chunk().unwrap();
    let begun = icrc::begin::<Bitwise>(&ip, 0xc000, 4791, len, bth);
    let sum = icrc::to_wire(Bitwise::crc32(begun, &bytes[at..end]));
    bytes[end..].copy_from_slice(&sum);
    assert!(right(&bytes));
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(right(&bytes), bit / 8 == 4, "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    for n in 0..16 {
        assert!(!right(&bytes[..n]));
    }
    assert!(!right(&vec![0; 70_000]));
}

proptest! {
    /// Packets that leave together, in however many super-packets, are those that went in: cut where the size says,
    /// with identifications that count.
    #[test]
    fn super_packets_are_cut_into_what_went_in(
        lengths in prop::collection::vec(prop_oneof![4 => Just(1044usize), 1 => Just(1060), 1 => 16..1100usize], 1..400),
        max in 1..=MAX_PACKETS,
        first in any::<u16>(),
    ) {
        let mut cut: Vec<(usize, u16)> = Vec::new();
        let mut id = first;
        let mut send = |b: &Burst| {
            prop_assert!(b.packets() <= max && b.bytes() <= MAX_BYTES);
            let chunk = b.chunk().map_or(b.bytes(), usize::from);
            prop_assert_eq!(b.chunk().is_none(), b.packets() == 1);
            let pieces = b.bytes().div_ceil(chunk);
            prop_assert_eq!(pieces as u32, b.packets());
            for i in 0..pieces {
                cut.push((chunk.min(b.bytes() - i * chunk), id.wrapping_add(i as u16)));
            }
            id = id.wrapping_add(b.packets() as u16);
            Ok(())
        };
        let mut b = Burst::new(max);
        for len in &lengths {
            if !b.admits(*len) {
                send(&b)?;
                b = Burst::new(max);
                prop_assert!(b.admits(*len));
            }
            b.add(*len);
        }
        send(&b)?;
        let went_in = lengths.iter().zip(0u16..).map(|(len, i)| (*len, first.wrapping_add(i)));
        prop_assert!(went_in.eq(cut));
    }
}
