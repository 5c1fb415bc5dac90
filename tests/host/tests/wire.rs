// SPDX-License-Identifier: GPL-2.0

//! Wire formats: the vectors of the RFCs, round trips, mutations; the CRC.

mod common;

use common::{mutate, mutation, Crc};
use proptest::prelude::*;
use rurdma_host_tests::proto::atomic::AtomicOp;
use rurdma_host_tests::proto::iwarp::tx::{FpduEncoder, Header, Piece, Segmenter};
use rurdma_host_tests::proto::serial::Msn;
use rurdma_host_tests::proto::wire::crc::{to_wire, Bitwise, Crc32c, SEED};
use rurdma_host_tests::proto::wire::ddp::{TaggedHdr, UntaggedHdr};
use rurdma_host_tests::proto::wire::mpa;
use rurdma_host_tests::proto::wire::rdmap::{
    AtomicRequest, AtomicRequestHdr, Opcode, ReadRequest, ReadRequestHdr,
};
use rurdma_host_tests::proto::wire::terminate::{Culprit, TermError, Terminate, TerminateBody};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// RFC 5044 figure 5: the first FPDU of a stream with markers, a Send of 24 zeros, MSN 1.
const FIGURE_5: [u8; 52] = {
    let mut f = [0; 52];
    f[5] = 0x2a;
    f[6] = 0x41;
    f[7] = 0x43;
    f[0x13] = 1;
    f[48] = 0x52;
    f[49] = 0x23;
    f[50] = 0x99;
    f[51] = 0x83;
    f
};

/// RFC 5044 figure 6: the second FPDU, at 0x1ec of the stream, with a marker in it.
const FIGURE_6: [u8; 52] = {
    let mut f = [0; 52];
    f[1] = 0x2a;
    f[2] = 0x41;
    f[3] = 0x43;
    f[0xf] = 2;
    f[0x17] = 0x14;
    f[48] = 0x84;
    f[49] = 0x92;
    f[50] = 0x58;
    f[51] = 0x98;
    f
};

#[test]
fn rfc5044_vectors() {
    let mut enc = FpduEncoder::new(true, true);
    let mut buf = [0xff; 1024];
    let n = enc
        .control::<Crc>(&mut buf, &Header::send(Msn::FIRST, false, None), &[0; 24])
        .unwrap();
    assert_eq!(buf[..n], FIGURE_5);

    // The figures are of different streams: here the first FPDU has 492 bytes on the wire, with
    // the marker that precedes it.
    let mut enc = FpduEncoder::new(true, true);
    let body = vec![0; 492 - 4 - 2 - 18 - 4];
    let n = enc
        .control::<Crc>(&mut buf, &Header::send(Msn::FIRST, false, None), &body)
        .unwrap();
    assert_eq!(n, 492);
    let n = enc
        .control::<Crc>(&mut buf, &Header::send(Msn::new(2), false, None), &[0; 24])
        .unwrap();
    assert_eq!(buf[..n], FIGURE_6);
}

/// What is on the wire for each message, byte by byte.
#[test]
fn golden_headers() {
    let emit = |h: &Header, p: &Piece| {
        let mut out = [0; 18];
        let n = h.emit(p, &mut out).unwrap();
        out[..n].to_vec()
    };
    let piece = Piece {
        offset: 0x100,
        len: 0,
        last: false,
    };
    let last = Piece {
        last: true,
        ..piece
    };
    assert_eq!(
        emit(&Header::write(0x0102_0304, 0xffff_ffff_ffff_ff00), &piece),
        [0x81, 0x40, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        emit(&Header::read_response(5, 6), &last),
        [0xc1, 0x42, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1, 6]
    );
    let m = Msn::new(0x0a0b_0c0d);
    for (h, op, inv, qn) in [
        (Header::send(m, false, None), 3, 0, 0),
        (Header::send(m, false, Some(9)), 4, 9, 0),
        (Header::send(m, true, None), 5, 0, 0),
        (Header::send(m, true, Some(9)), 6, 9, 0),
        (Header::read_request(m), 1, 0, 1),
        (Header::immediate(m, false), 8, 0, 0),
        (Header::immediate(m, true), 9, 0, 0),
        (Header::atomic_request(m), 10, 0, 1),
        (Header::atomic_response(m), 11, 0, 3),
    ] {
        assert_eq!(
            emit(&h, &piece),
            [
                0x01,
                0x40 | op,
                0,
                0,
                0,
                inv,
                0,
                0,
                0,
                qn,
                10,
                11,
                12,
                13,
                0,
                0,
                1,
                0
            ]
        );
    }
    assert_eq!(
        emit(&Header::terminate(), &Piece::whole(4)),
        [0x41, 0x47, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0]
    );
}

/// RFC 5040 figure 9, RFC 5041 section 7.2, RFC 5044 section 8, RFC 6581 section 8.
#[test]
fn terminate_codes() {
    for (e, bytes) in [
        (TermError::RDMAP_CATASTROPHIC, [0x00, 0]),
        (TermError::RDMAP_INVALID_STAG, [0x01, 0]),
        (TermError::RDMAP_BOUNDS, [0x01, 1]),
        (TermError::RDMAP_ACCESS, [0x01, 2]),
        (TermError::RDMAP_STAG_STREAM, [0x01, 3]),
        (TermError::RDMAP_TO_WRAP, [0x01, 4]),
        (TermError::RDMAP_CANNOT_INVALIDATE, [0x01, 9]),
        (TermError::RDMAP_PROTECTION, [0x01, 0xff]),
        (TermError::RDMAP_VERSION, [0x02, 5]),
        (TermError::RDMAP_OPCODE, [0x02, 6]),
        (TermError::RDMAP_STREAM, [0x02, 7]),
        (TermError::RDMAP_OPERATION, [0x02, 0xff]),
        (TermError::DDP_CATASTROPHIC, [0x10, 0]),
        (TermError::DDP_INVALID_STAG, [0x11, 0]),
        (TermError::DDP_BOUNDS, [0x11, 1]),
        (TermError::DDP_STAG_STREAM, [0x11, 2]),
        (TermError::DDP_TO_WRAP, [0x11, 3]),
        (TermError::DDP_TAGGED_VERSION, [0x11, 4]),
        (TermError::DDP_INVALID_QN, [0x12, 1]),
        (TermError::DDP_NO_BUFFER, [0x12, 2]),
        (TermError::DDP_MSN_RANGE, [0x12, 3]),
        (TermError::DDP_INVALID_MO, [0x12, 4]),
        (TermError::DDP_TOO_LONG, [0x12, 5]),
        (TermError::DDP_UNTAGGED_VERSION, [0x12, 6]),
        (TermError::MPA_LOST, [0x20, 1]),
        (TermError::MPA_CRC, [0x20, 2]),
        (TermError::MPA_MARKER, [0x20, 3]),
        (TermError::MPA_FRAME, [0x20, 4]),
        (TermError::MPA_LOCAL, [0x20, 5]),
        (TermError::MPA_IRD, [0x20, 6]),
        (TermError::MPA_RTR, [0x20, 7]),
    ] {
        let body = TerminateBody::build(e, None);
        assert_eq!(body.as_bytes(), [bytes[0], bytes[1], 0, 0]);
        let back = Terminate::parse(body.as_bytes()).unwrap();
        assert_eq!((back.error, back.culprit), (e, None));
    }
}

#[test]
fn opcodes_have_one_meaning() {
    for op in Opcode::ALL {
        assert_eq!(op.is_tagged(), op.queue().is_none());
        assert_eq!(Opcode::from_control(0x40 | op.number()), Some(op));
        assert!(!op.is_invalidate() || op.is_send());
    }
}

fn read_request() -> impl Strategy<Value = ReadRequest> {
    any::<(u32, u64, u32, u32, u64)>().prop_map(|(a, b, c, d, e)| ReadRequest {
        sink_stag: a,
        sink_to: b,
        size: c,
        source_stag: d,
        source_to: e,
    })
}

proptest! {
    #[test]
    fn crcs_agree(data in prop::collection::vec(any::<u8>(), 0..300), seed in any::<u32>(), cut in any::<usize>()) {
        prop_assert_eq!(Crc::crc32c(seed, &data), Bitwise::crc32c(seed, &data));
        let (a, b) = data.split_at(cut % (data.len() + 1));
        prop_assert_eq!(Crc::crc32c(Crc::crc32c(seed, a), b), Crc::crc32c(seed, &data));
        prop_assert_eq!(to_wire(Crc::crc32c(SEED, &data)), crc32c::crc32c(&data).to_le_bytes());
    }

    #[test]
    fn headers_round_trip(
        stag in any::<u32>(), to in any::<u64>(), msn in any::<u32>(), inv in prop::option::of(any::<u32>()),
        se in any::<bool>(), offset in any::<u32>(), len in any::<u16>(), last in any::<bool>(),
    ) {
        let piece = Piece { offset, len, last };
        let mut out = [0; 18];
        let n = Header::write(stag, to).emit(&piece, &mut out).unwrap();
        let h = TaggedHdr::read_from_bytes(&out[..n]).unwrap();
        prop_assert_eq!((h.ddp & 0x80, h.ddp & 0x40 != 0, h.ddp & 3), (0x80, last, 1));
        prop_assert_eq!((h.stag.get(), h.to.get()), (stag, to.wrapping_add(offset.into())));
        let header = Header::send(Msn::new(msn), se, inv);
        let n = header.emit(&piece, &mut out).unwrap();
        prop_assert_eq!(n, header.hdr_len());
        let h = UntaggedHdr::read_from_bytes(&out[..n]).unwrap();
        let op = Opcode::from_control(h.rdmap).unwrap();
        prop_assert_eq!((op.is_solicited(), op.is_invalidate()), (se, inv.is_some()));
        prop_assert_eq!((h.msn.get(), h.mo.get(), h.inv_stag.get()), (msn, offset, inv.unwrap_or(0)));
        prop_assert!(header.emit(&piece, &mut out[..n - 1]).is_none());
    }

    #[test]
    fn read_requests_round_trip(r in read_request()) {
        let h = ReadRequestHdr::from(&r);
        prop_assert_eq!(ReadRequest::from(&ReadRequestHdr::read_from_bytes(h.as_bytes()).unwrap()), r);
    }

    #[test]
    fn atomics_round_trip(id in any::<u32>(), stag in any::<u32>(), to in any::<u64>(), v in any::<[u64; 4]>(), swap in any::<bool>(), code in 0u32..16) {
        let op = if swap {
            AtomicOp::CmpSwp { swap: v[0], swap_mask: v[1], compare: v[2], compare_mask: v[3] }
        } else {
            AtomicOp::FetchAdd { add: v[0], add_mask: v[1] }
        };
        let r = AtomicRequest { request_id: id, stag, to, op };
        let mut h = AtomicRequestHdr::read_from_bytes(r.to_hdr().unwrap().as_bytes()).unwrap();
        prop_assert_eq!(AtomicRequest::from_hdr(&h), Some(r));
        h.aopcode = code.into();
        prop_assert_eq!(AtomicRequest::from_hdr(&h).is_some(), code == 0 || code == 2);
    }

    /// A Terminate quotes what it should, and says so in its header control bits.
    #[test]
    fn terminates_round_trip(
        layer in 0u8..3, etype in 0u8..4, code in any::<u8>(), tagged in any::<bool>(),
        hdr in any::<[u8; 18]>(), len in any::<u16>(), read in prop::option::of(read_request()),
    ) {
        let error = TermError { layer, etype, code };
        let mut hdr = hdr.to_vec();
        if tagged {
            hdr.truncate(14);
            hdr[0] |= 0x80;
        } else {
            hdr[0] &= 0x7f;
        }
        let culprit = Culprit::new(&hdr, len, read).unwrap();
        let body = TerminateBody::build(error, Some(&culprit));
        let t = Terminate::parse(body.as_bytes()).unwrap();
        prop_assert_eq!(t.error, error);
        match t.culprit {
            Some(c) => {
                prop_assert!(layer < 2 && etype != 0);
                prop_assert_eq!((c.ddp_hdr(), c.segment_len()), (&hdr[..], len));
                prop_assert_eq!(c.read(), read.as_ref().filter(|_| layer == 0 && etype == 1));
            }
            None => prop_assert!(layer == 2 || etype == 0),
        }
        // The reason survives a cut, and what siw does: R without a read request behind it.
        for n in 0..body.as_bytes().len() {
            let cut = Terminate::parse(&body.as_bytes()[..n]);
            prop_assert_eq!(cut.map(|c| c.error), (n >= 4).then_some(error));
            if let Some(c) = cut.and_then(|c| c.culprit) {
                prop_assert_eq!((c.ddp_hdr(), c.read()), (&hdr[..], None));
            }
        }
    }

    #[test]
    fn terminates_random(mut bytes in prop::collection::vec(any::<u8>(), 0..60), changes in prop::collection::vec(mutation(), 0..4)) {
        mutate(&mut bytes, &changes);
        if let Some(t) = Terminate::parse(&bytes) {
            // What was understood can be sent again.
            let _ = TerminateBody::build(t.error, t.culprit.as_ref());
        }
    }

    /// Pieces cover the message without gap or overlap, whatever the path MTU does meanwhile.
    #[test]
    fn segmentation(length in prop_oneof![Just(0u32), 1u32..20_000, Just(1 << 30)], maxes in prop::collection::vec(prop_oneof![Just(0u16), 1u16..2000, Just(65521)], 1..8)) {
        let mut s = Segmenter::new(length);
        let mut at = 0u32;
        let floor = if length > 100_000 { 60_000 } else { 0 };
        for max in maxes.iter().cycle() {
            let max = (*max).max(floor);
            let peek = s.peek(max);
            let Some(p) = s.next(max) else { break };
            prop_assert_eq!(peek, Some(p));
            prop_assert_eq!(p.offset, at);
            prop_assert!(p.len <= max.max(1));
            at += u32::from(p.len);
            prop_assert_eq!(p.last, at == length);
            prop_assert!(p.len > 0 || length == 0);
            prop_assert_eq!(s.offset(), at);
        }
        prop_assert_eq!(at, length);
        prop_assert!(s.is_done() && s.next(100).is_none());
    }
}

/// For every segment size of TCP: full FPDUs fill it and never exceed it, with markers wherever the
/// stream stands.
#[test]
fn mulpdu_at_every_emss() {
    for emss in 140..=9200u32 {
        for markers in [false, true] {
            let m = mpa::mulpdu(emss, markers);
            let len = mpa::fpdu_len(m);
            if m > mpa::MIN_MULPDU && !markers {
                assert!(len <= emss as usize, "{emss}");
                assert!(len + 4 > emss as usize, "{emss}: not full");
            }
            if !markers || m == mpa::MIN_MULPDU || emss % 97 != 0 {
                continue;
            }
            // Wherever in the interval the FPDU begins.
            let mut enc = FpduEncoder::new(false, true);
            let mut buf = vec![0; 20_000];
            for _ in 0..128 {
                let len = enc.fpdu_len(m);
                assert!(len <= emss as usize, "{emss}");
                assert_eq!(enc.clone().seal::<Crc>(&mut buf, m), Some(len));
                enc.seal::<Crc>(&mut buf, 14).unwrap();
            }
        }
    }
}

#[test]
fn encoder_refuses_short_buffers() {
    let header = Header::write(1, 2);
    for (crc, markers) in [(true, false), (true, true), (false, false)] {
        let mut enc = FpduEncoder::new(crc, markers);
        let need = enc.fpdu_len(14 + 100);
        let mut buf = vec![0; need];
        assert!(enc
            .begin::<Crc>(&mut buf[..need - 1], &header, &Piece::whole(100))
            .is_none());
        assert!(enc.seal::<Crc>(&mut buf[..need - 1], 114).is_none());
        let open = enc
            .begin::<Crc>(&mut buf, &header, &Piece::whole(100))
            .unwrap();
        assert_eq!(open.payload, 16);
        assert_eq!(enc.finish::<Crc>(&mut buf, &open, open.crc), Some(need));
        assert!(enc
            .begin::<Crc>(&mut buf, &header, &Piece::whole(u16::MAX))
            .is_none());
    }
}
