// SPDX-License-Identifier: GPL-2.0

//! Work queue entries: round trips, mutations, each error, hostile queues.

mod common;

use common::{mutate, mutation};
use proptest::prelude::*;
use rurdma_host_tests::proto::ring::queue::Consumer;
use rurdma_host_tests::proto::wqe::abi::{
    self, opcode, ExtAtomic, ExtBind, ExtFlush, ExtReg, ExtUd,
};
use rurdma_host_tests::proto::wqe::abi::{SendHdr, Sge};
use rurdma_host_tests::proto::wqe::fetch::{next_recv, next_send, FetchError};
use rurdma_host_tests::proto::wqe::recv::RecvWqe;
use rurdma_host_tests::proto::wqe::send::{
    Data, Remote, SendFlags, SendLimits, SendOp, SendWqe, OPS_IWARP, OPS_KERNEL, OPS_RFC7306,
};
use rurdma_host_tests::proto::wqe::{SgeList, WqeError, MAX_MSG};
use std::sync::atomic::Ordering::Relaxed;
use zerocopy::{FromBytes as _, IntoBytes as _};

const EVERYTHING: SendLimits = SendLimits {
    ops: 0x7fff,
    ud: false,
    max_sge: 32,
    max_sge_rd: 32,
    max_inline: 512,
};

fn remote() -> impl Strategy<Value = Remote> {
    (any::<u64>(), any::<u32>()).prop_map(|(addr, rkey)| Remote { addr, rkey })
}

fn ext_atomic() -> impl Strategy<Value = ExtAtomic> {
    any::<[u64; 4]>().prop_map(
        |[compare_add, swap, compare_add_mask, swap_mask]| ExtAtomic {
            compare_add,
            swap,
            compare_add_mask,
            swap_mask,
        },
    )
}

fn op() -> impl Strategy<Value = SendOp> {
    let bind = (any::<[u64; 2]>(), any::<[u32; 3]>()).prop_map(|(a, b)| ExtBind {
        addr: a[0],
        length: a[1],
        mr_lkey: b[0],
        access: b[1],
        new_rkey: b[2],
        reserved: 0,
    });
    let flush = (any::<u32>(), 1u8..4, 0u8..2).prop_map(|(length, kind, level)| ExtFlush {
        length: u64::from(length),
        kind,
        level,
        reserved: [0; 22],
    });
    let reg = any::<u32>().prop_map(|access| ExtReg {
        access,
        reserved: [0; 7],
    });
    prop_oneof![
        Just(SendOp::Send),
        any::<u32>().prop_map(SendOp::SendImm),
        any::<u32>().prop_map(SendOp::SendInv),
        remote().prop_map(SendOp::Write),
        (remote(), any::<u32>()).prop_map(|(r, i)| SendOp::WriteImm(r, i)),
        remote().prop_map(SendOp::Read),
        remote().prop_map(SendOp::ReadInv),
        (remote(), ext_atomic()).prop_map(|(r, e)| SendOp::CmpSwp(r, e)),
        (remote(), ext_atomic()).prop_map(|(r, e)| SendOp::FetchAdd(r, e)),
        any::<u32>().prop_map(SendOp::LocalInv),
        (any::<u32>(), reg).prop_map(|(k, e)| SendOp::RegMr(k, e)),
        (any::<u32>(), bind).prop_map(|(k, e)| SendOp::BindMw(k, e)),
        remote().prop_map(SendOp::AtomicWrite),
        (remote(), flush).prop_map(|(r, e)| SendOp::Flush(r, e)),
    ]
}

fn flags(bits: u8) -> SendFlags {
    [SendFlags::SIGNALED, SendFlags::SOLICITED, SendFlags::FENCE]
        .into_iter()
        .enumerate()
        .filter(|(i, _)| bits >> i & 1 == 1)
        .fold(SendFlags::empty(), |a, (_, f)| a.with(f))
}

/// An entry that is legal on some queue, as bytes with its parts.
fn with_entry(
    op: SendOp,
    inline: Option<&[u8]>,
    sges: &[Sge],
    wr_id: u64,
    f: u8,
    ud: Option<ExtUd>,
    check: impl FnOnce(SendWqe<'_>),
) {
    let inline_ok = matches!(
        op,
        SendOp::Send
            | SendOp::SendImm(_)
            | SendOp::SendInv(_)
            | SendOp::Write(_)
            | SendOp::WriteImm(..)
    );
    let eight = [Sge {
        addr: 64,
        length: 8,
        lkey: 7,
    }];
    let data = match op {
        SendOp::LocalInv(_) | SendOp::RegMr(..) | SendOp::BindMw(..) | SendOp::Flush(..) => {
            Data::NONE
        }
        SendOp::CmpSwp(..) | SendOp::FetchAdd(..) | SendOp::AtomicWrite(_) => {
            Data::Sges(SgeList::new(&eight))
        }
        _ => match inline {
            Some(d) if inline_ok => Data::Inline(d),
            _ => Data::Sges(SgeList::new(sges)),
        },
    };
    let length = match data {
        Data::Sges(s) => s.total() as u32,
        Data::Inline(d) => d.len() as u32,
    };
    check(SendWqe {
        wr_id,
        op,
        flags: flags(f),
        data,
        length,
        ud,
    });
}

fn sges() -> impl Strategy<Value = Vec<Sge>> {
    prop::collection::vec(
        (any::<u64>(), 0..MAX_MSG / 32, any::<u32>()).prop_map(|(addr, length, lkey)| Sge {
            addr,
            length,
            lkey,
        }),
        0..=32,
    )
}

proptest! {
    #[test]
    fn send_round_trip(
        op in op(), inline in prop::option::of(prop::collection::vec(any::<u8>(), 0..=512)),
        sges in sges(), wr_id in any::<u64>(), f in 0u8..8, ud in prop::option::of(any::<[u32; 3]>()),
    ) {
        let is_send = matches!(op, SendOp::Send | SendOp::SendImm(_));
        let ud = ud.filter(|_| is_send).map(|u| ExtUd {
            ah_handle: u[0], remote_qpn: u[1], remote_qkey: u[2], reserved: [0; 5],
        });
        with_entry(op, inline.as_deref(), &sges, wr_id, f, ud, |wqe| {
            let mut buf = [0xee; abi::MAX_SEND_BYTES];
            let units = wqe.encode(&mut buf).unwrap();
            assert!(buf[usize::from(units) * 64..].iter().all(|b| *b == 0xee));
            let limits = SendLimits { ud: ud.is_some(), ..EVERYTHING };
            let bytes = &buf[..usize::from(units) * 64];
            assert_eq!(SendWqe::units(bytes), Some(units));
            assert_eq!(SendWqe::wr_id(bytes), wr_id);
            let back = SendWqe::parse(bytes, &limits).unwrap();
            assert_eq!(back, wqe);
            // Every operation can be forbidden.
            let none = SendLimits { ops: 0, ..limits };
            assert_eq!(SendWqe::parse(bytes, &none), Err(WqeError::Opcode));
        });
    }

    /// Mutated and random entries: no panic, and what is accepted keeps the limits.
    #[test]
    fn send_mutated(
        op in op(), sges in sges(), changes in prop::collection::vec(mutation(), 0..6),
        ud in any::<bool>(), ops in any::<u32>(), max_sge in 0u8..33, max_inline in 0u16..513,
        random in prop::option::of(prop::collection::vec(any::<u8>(), 0..600)),
    ) {
        let mut bytes = Vec::new();
        with_entry(op, None, &sges, 1, 1, None, |wqe| {
            let mut buf = [0; abi::MAX_SEND_BYTES];
            let n = usize::from(wqe.encode(&mut buf).unwrap()) * 64;
            bytes = buf[..n].to_vec();
        });
        if let Some(r) = random { bytes = r; }
        mutate(&mut bytes, &changes);
        let limits = SendLimits { ops, ud, max_sge, max_sge_rd: max_sge, max_inline };
        if let Ok(wqe) = SendWqe::parse(&bytes, &limits) {
            assert!(wqe.length <= MAX_MSG);
            assert!(bytes.len() >= usize::from(SendWqe::units(&bytes).unwrap()) * 64 || wqe.op == SendOp::Nop);
            match wqe.data {
                Data::Sges(s) => {
                    let max = if matches!(wqe.op, SendOp::CmpSwp(..) | SendOp::FetchAdd(..) | SendOp::AtomicWrite(_)) { 1 } else { max_sge };
                    assert!(s.len() <= usize::from(max));
                    assert_eq!(s.total(), u64::from(wqe.length));
                    assert_eq!(s.iter().count(), s.len());
                }
                Data::Inline(d) => assert!(d.len() <= usize::from(max_inline) && d.len() == wqe.length as usize),
            }
            assert_eq!(wqe.ud.is_some(), ud && wqe.op != SendOp::Nop);
        }
    }

    #[test]
    fn recv_round_trip(sges in sges(), wr_id in any::<u64>(), max in 0u8..40) {
        let mut buf = [0; abi::MAX_RECV_BYTES];
        let n = RecvWqe::encode(wr_id, SgeList::new(&sges), &mut buf).unwrap();
        assert_eq!(n, RecvWqe::bytes(sges.len()));
        match RecvWqe::parse(&buf[..n], max) {
            Ok(w) => {
                assert!(sges.len() <= usize::from(max));
                assert_eq!(w.wr_id, wr_id);
                assert_eq!(w.sges.iter().collect::<Vec<_>>(), sges);
                assert_eq!(u64::from(w.length), w.sges.total());
            }
            Err(e) => {
                assert!(sges.len() > usize::from(max));
                assert_eq!(e, WqeError::SgeCount);
            }
        }
        for cut in 0..n {
            assert!(RecvWqe::parse(&buf[..cut], 32).is_err());
        }
    }

    #[test]
    fn recv_random(bytes in prop::collection::vec(any::<u8>(), 0..600), max in any::<u8>()) {
        if let Ok(w) = RecvWqe::parse(&bytes, max) {
            assert!(w.sges.len() <= 32.min(usize::from(max)));
        }
    }

    /// A whole queue of entries of all sizes, around the end of the ring; then a hostile one.
    #[test]
    fn fetch_stream(
        lens in prop::collection::vec(0usize..=512, 1..30), start in any::<u32>(),
        hostile in any::<[u8; 64]>(),
    ) {
        let ring = common::ring(16, 64);
        ring.producer().store(start, Relaxed);
        let mut tail = start;
        let mut c = Consumer::new(start);
        let mut out = [0; abi::MAX_SEND_BYTES];
        for (i, len) in lens.iter().enumerate() {
            let data: Vec<u8> = (0..*len).map(|k| (k + i) as u8).collect();
            let wqe = SendWqe {
                wr_id: i as u64, op: SendOp::Send, flags: SendFlags::SIGNALED,
                data: Data::Inline(&data), length: *len as u32, ud: None,
            };
            let mut buf = [0; abi::MAX_SEND_BYTES];
            let units = wqe.encode(&mut buf).unwrap();
            ring.copy_out(tail, 0, &buf[..usize::from(units) * 64]);
            tail = tail.wrapping_add(u32::from(units));
            ring.producer().store(tail, Relaxed);
            let n = next_send(&ring, &c, &mut out).unwrap().unwrap();
            prop_assert_eq!(n, u32::from(units));
            prop_assert_eq!(SendWqe::parse(&out[..n as usize * 64], &EVERYTHING).unwrap(), wqe);
            c.advance(n);
            prop_assert_eq!(next_send(&ring, &c, &mut out), Ok(None));
        }
        ring.copy_out(tail, 0, &hostile);
        ring.producer().store(tail.wrapping_add(1), Relaxed);
        let wr_id = u64::from_ne_bytes(hostile[..8].try_into().unwrap());
        match next_send(&ring, &c, &mut out) {
            Ok(n) => prop_assert!(n == Some(1) && hostile[11] == 1),
            Err(e) => prop_assert_eq!(e, FetchError::Frame { wr_id }),
        }
        ring.producer().store(tail.wrapping_add(17), Relaxed);
        prop_assert_eq!(next_send(&ring, &c, &mut out), Err(FetchError::Index));
    }
}

/// Every reason to reject an entry, one change away from a good one.
#[test]
fn each_error() {
    use WqeError as E;
    let limits = SendLimits {
        ops: OPS_IWARP,
        ud: false,
        max_sge: 4,
        max_sge_rd: 2,
        max_inline: 64,
    };
    let good = |op, inline: Option<u32>, sges: &[u32]| {
        let mut hdr = SendHdr {
            wr_id: 9,
            opcode: op,
            units: 9,
            num_sge: sges.len() as u8,
            ..SendHdr::default()
        };
        if let Some(n) = inline {
            hdr.flags = 8;
            hdr.inline_len = n;
        }
        let mut bytes = vec![0u8; abi::MAX_SEND_BYTES];
        bytes[..32].copy_from_slice(hdr.as_bytes());
        for (i, length) in sges.iter().enumerate() {
            let sge = Sge {
                addr: 0,
                length: *length,
                lkey: 0,
            };
            bytes[32 + i * 16..48 + i * 16].copy_from_slice(sge.as_bytes());
        }
        bytes
    };
    let parse = |b: &[u8], l: &SendLimits| SendWqe::parse(b, l).map(|w| w.length);
    let check = |b: Vec<u8>, want| assert_eq!(parse(&b, &limits), want);
    check(good(opcode::SEND, None, &[1, 2, 3]), Ok(6));
    check(good(opcode::SEND, None, &[]), Ok(0));
    check(good(opcode::SEND, None, &[1; 5]), Err(E::SgeCount));
    check(good(opcode::READ, None, &[1, 2]), Ok(3));
    check(good(opcode::READ, None, &[1; 3]), Err(E::SgeCount));
    check(good(opcode::SEND, None, &[MAX_MSG, 0]), Ok(MAX_MSG));
    check(good(opcode::SEND, None, &[MAX_MSG, 1]), Err(E::Length));
    check(good(opcode::SEND, None, &[u32::MAX; 4]), Err(E::Length));
    check(good(opcode::SEND, Some(64), &[]), Ok(64));
    check(good(opcode::SEND, Some(65), &[]), Err(E::Inline));
    check(good(opcode::SEND, Some(4), &[1]), Err(E::Inline));
    check(good(opcode::READ, Some(4), &[]), Err(E::Inline));
    check(good(opcode::LOCAL_INV, None, &[]), Ok(0));
    check(good(opcode::LOCAL_INV, None, &[1]), Err(E::SgeCount));
    check(good(opcode::REG_MR, None, &[]), Err(E::Opcode));
    check(good(opcode::WRITE_IMM, None, &[]), Err(E::Opcode));
    check(good(31, None, &[]), Err(E::Opcode));
    check(good(32, None, &[]), Err(E::Opcode));
    check(good(255, None, &[]), Err(E::Opcode));
    check(good(opcode::NOP, None, &[1; 9]), Ok(0));
    let mut b = good(opcode::SEND, None, &[]);
    b[9] = 16;
    check(b, Err(E::Flags));
    for units in [0, 10, 255] {
        let mut b = good(opcode::SEND, None, &[]);
        b[11] = units;
        check(b, Err(E::Units));
    }
    // Three SGEs need 80 bytes: two units.
    let mut b = good(opcode::SEND, None, &[1, 1, 1]);
    b[11] = 1;
    check(b.clone(), Err(E::Units));
    b[11] = 2;
    check(b.clone(), Ok(3));
    check(b[..127].to_vec(), Err(E::Truncated));
    check(b[..31].to_vec(), Err(E::Truncated));

    let all = SendLimits {
        max_inline: 512,
        ..EVERYTHING
    };
    let check = |b: Vec<u8>, want| assert_eq!(parse(&b, &all), want);
    // SGEs stand behind the extension.
    let atomic = |length: u32| {
        let mut b = good(opcode::CMP_SWP, None, &[]);
        b[10] = 1;
        b[64..80].copy_from_slice(
            Sge {
                addr: 0,
                length,
                lkey: 0,
            }
            .as_bytes(),
        );
        b
    };
    check(atomic(8), Ok(8));
    check(atomic(4), Err(E::Length));
    check(good(opcode::ATOMIC_WRITE, Some(8), &[]), Ok(8));
    check(good(opcode::ATOMIC_WRITE, Some(9), &[]), Err(E::Length));
    check(good(opcode::FLUSH, None, &[]), Err(E::Field));
    let mut b = good(opcode::FLUSH, None, &[]);
    b[40] = 3;
    check(b.clone(), Ok(0));
    // A range of 4 GiB has no place in the header; of a whole region the length says nothing.
    b[36] = 1;
    check(b.clone(), Err(E::Length));
    b[41] = 1;
    check(b.clone(), Ok(0));
    b[41] = 2;
    check(b, Err(E::Field));
    let ud = SendLimits {
        ud: true,
        ..EVERYTHING
    };
    assert_eq!(parse(&good(opcode::WRITE, None, &[]), &ud), Err(E::Opcode));
    assert_eq!(parse(&good(opcode::SEND, None, &[]), &ud), Ok(0));
    let kernel = SendLimits {
        ops: OPS_IWARP | OPS_KERNEL,
        ..limits
    };
    assert_eq!(parse(&good(opcode::REG_MR, None, &[]), &kernel), Ok(0));
    let ext = SendLimits {
        ops: OPS_RFC7306,
        ..limits
    };
    assert_eq!(parse(&good(opcode::WRITE_IMM, None, &[]), &ext), Ok(0));
    // Immediate data of a Send would take a second receive.
    assert_eq!(
        parse(&good(opcode::SEND_IMM, None, &[]), &ext),
        Err(E::Opcode)
    );
    assert_eq!(parse(&good(opcode::SEND, None, &[]), &ext), Err(E::Opcode));
    assert_eq!(E::Length.wc_status(), 1);
    assert_eq!(E::Opcode.wc_status(), 2);
}

#[test]
fn encode_refuses() {
    let sges = [Sge::default(); 33];
    let mut wqe = SendWqe {
        wr_id: 0,
        op: SendOp::Send,
        flags: SendFlags::empty(),
        data: Data::Sges(SgeList::new(&sges)),
        length: 0,
        ud: None,
    };
    let mut buf = [0; 1024];
    assert_eq!(wqe.encode(&mut buf), Err(WqeError::SgeCount));
    wqe.data = Data::Inline(&[0; 513]);
    assert_eq!(wqe.encode(&mut buf), Err(WqeError::Inline));
    wqe.data = Data::Inline(&[0; 512]);
    assert_eq!(wqe.encode(&mut buf[..512]), Err(WqeError::Truncated));
    assert_eq!(wqe.encode(&mut buf), Ok(9));
    assert!(RecvWqe::encode(0, SgeList::new(&sges), &mut buf).is_err());
}

#[test]
fn fetch_recv() {
    let ring = common::ring(4, 48);
    let mut c = Consumer::new(0);
    let mut buf = [0; abi::MAX_RECV_BYTES];
    assert_eq!(next_recv(&ring, &c, &mut buf), Ok(None));
    let sges = [
        Sge {
            addr: 1,
            length: 2,
            lkey: 3,
        },
        Sge {
            addr: 4,
            length: 5,
            lkey: 6,
        },
    ];
    let mut entry = [0; 48];
    RecvWqe::encode(77, SgeList::new(&sges), &mut entry).unwrap();
    for i in 0..9u32 {
        ring.copy_out(i, 0, &entry);
        ring.producer().store(i + 1, Relaxed);
        let got = next_recv(&ring, &c, &mut buf).unwrap().unwrap();
        let w = RecvWqe::parse(got, 2).unwrap();
        assert_eq!((w.wr_id, w.length), (77, 7));
        assert_eq!(w.sges.get(1), Some(sges[1]));
        assert_eq!(w.sges.get(2), None);
        c.advance(1);
    }
    ring.producer().store(99, Relaxed);
    assert_eq!(next_recv(&ring, &c, &mut buf), Err(FetchError::Index));
}

/// The numbers here are those of the header that the provider is compiled with.
#[test]
fn numbers_are_those_of_the_header() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../include/uapi/rdma/rurdma-abi.h"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let value = |name: &str| -> u64 {
        let line = text
            .lines()
            .find(|l| l.split_whitespace().take(2).any(|w| w == name))
            .unwrap_or_else(|| panic!("{name} is not in the header"));
        let rest = &line[line.find(name).unwrap() + name.len()..];
        let rest = rest.trim_start_matches([' ', '\t', '=']);
        let rest = rest
            .split("/*")
            .next()
            .unwrap()
            .trim()
            .trim_end_matches(',');
        let num = |s: &str| {
            let s = s.trim().trim_end_matches(['U', 'u']);
            match s.strip_prefix("0x") {
                Some(h) => u64::from_str_radix(h, 16).unwrap(),
                None => s.parse().unwrap_or_else(|_| panic!("{name}: {s}")),
            }
        };
        match rest.split_once("<<") {
            Some((a, b)) => num(a) << num(b),
            None => num(rest),
        }
    };
    use rurdma_host_tests::proto::ring;
    for (name, ours) in [
        ("RURDMA_WQE_UNIT", abi::WQE_UNIT as u64),
        ("RURDMA_SEND_HDR", abi::SEND_HDR as u64),
        ("RURDMA_SEND_EXT", abi::SEND_EXT as u64),
        ("RURDMA_RECV_HDR", abi::RECV_HDR as u64),
        ("RURDMA_SGE_SIZE", abi::SGE_SIZE as u64),
        ("RURDMA_CQE_SIZE", abi::CQE_SIZE as u64),
        ("RURDMA_MAX_SGE", abi::MAX_SGE as u64),
        ("RURDMA_MAX_INLINE", abi::MAX_INLINE as u64),
        ("RURDMA_MAX_SEND_UNITS", abi::MAX_SEND_UNITS as u64),
        ("RURDMA_CQE_PURGED", u64::from(abi::CQE_PURGED)),
        ("RURDMA_RING_ENTRIES", ring::OFF_ENTRIES as u64),
        ("RURDMA_DB_SUMMARY_WORDS", ring::DB_SUMMARY_WORDS as u64),
        ("RURDMA_DB_PENDING", ring::DB_PENDING as u64),
        ("RURDMA_ARM_NONE", u64::from(ring::ARM_NONE)),
        ("RURDMA_ARM_SOLICITED", u64::from(ring::ARM_SOLICITED)),
        ("RURDMA_ARM_ANY", u64::from(ring::ARM_ANY)),
        ("RURDMA_RING_FLUSH", u64::from(ring::FLAG_FLUSH)),
        ("RURDMA_RING_OVERFLOW", u64::from(ring::FLAG_OVERFLOW)),
        ("RURDMA_DB_NEED_WAKEUP", u64::from(ring::DB_NEED_WAKEUP)),
        ("RURDMA_OP_NOP", u64::from(opcode::NOP)),
        ("RURDMA_OP_SEND", u64::from(opcode::SEND)),
        ("RURDMA_OP_SEND_IMM", u64::from(opcode::SEND_IMM)),
        ("RURDMA_OP_SEND_INV", u64::from(opcode::SEND_INV)),
        ("RURDMA_OP_WRITE", u64::from(opcode::WRITE)),
        ("RURDMA_OP_WRITE_IMM", u64::from(opcode::WRITE_IMM)),
        ("RURDMA_OP_READ", u64::from(opcode::READ)),
        ("RURDMA_OP_READ_INV", u64::from(opcode::READ_INV)),
        ("RURDMA_OP_CMP_SWP", u64::from(opcode::CMP_SWP)),
        ("RURDMA_OP_FETCH_ADD", u64::from(opcode::FETCH_ADD)),
        ("RURDMA_OP_LOCAL_INV", u64::from(opcode::LOCAL_INV)),
        ("RURDMA_OP_REG_MR", u64::from(opcode::REG_MR)),
        ("RURDMA_OP_BIND_MW", u64::from(opcode::BIND_MW)),
        ("RURDMA_OP_ATOMIC_WRITE", u64::from(opcode::ATOMIC_WRITE)),
        ("RURDMA_OP_FLUSH", u64::from(opcode::FLUSH)),
    ] {
        assert_eq!(value(name), ours, "{name}");
    }
    for (name, flag) in [
        ("RURDMA_SEND_SIGNALED", SendFlags::SIGNALED),
        ("RURDMA_SEND_SOLICITED", SendFlags::SOLICITED),
        ("RURDMA_SEND_FENCE", SendFlags::FENCE),
    ] {
        let bytes = SendHdr {
            flags: value(name) as u8,
            opcode: 1,
            units: 1,
            ..SendHdr::default()
        };
        let mut unit = [0; 64];
        unit[..32].copy_from_slice(bytes.as_bytes());
        assert_eq!(SendWqe::parse(&unit, &EVERYTHING).unwrap().flags, flag);
    }
    assert_eq!(value("RURDMA_SEND_INLINE"), 8);
    let cqe = abi::Cqe {
        wr_id: 5,
        status: 3,
        ..abi::Cqe::default()
    };
    assert_eq!(abi::Cqe::read_from_bytes(cqe.as_bytes()).unwrap(), cqe);
}
