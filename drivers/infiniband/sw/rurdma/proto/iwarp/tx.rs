// SPDX-License-Identifier: GPL-2.0

//! Transmit: from messages to FPDUs (RFC 5041 section 5, RFC 5044 section 4).
//!
//! An FPDU is built in place in a buffer of the caller:
//!
//! ```text
//! let open = enc.begin::<C>(buf, &header, &piece)?;       // length and headers
//! copy payload to buf[open.payload..][..piece.len]        // by the caller,
//! let crc = ...                                           // summing on the way if enc.wants_crc()
//! let n = enc.finish::<C>(buf, &open, crc)?;              // pad, CRC, markers
//! ```
//!
//! Or, with [`FpduEncoder::open`] and [`FpduEncoder::seal`], the CRC is computed over the finished buffer, in one go.

#![forbid(unsafe_code)]

use crate::proto::serial::Msn;
use crate::proto::wire::crc::{self, Crc32c};
use crate::proto::wire::ddp::{self, TaggedHdr, UntaggedHdr, TAGGED_LEN, UNTAGGED_LEN};
use crate::proto::wire::mpa::{self, FPDU_HDR_LEN, MARKER_INTERVAL, MARKER_LEN};
use crate::proto::wire::rdmap::Opcode;
use zerocopy::byteorder::network_endian::{U32, U64};
use zerocopy::IntoBytes as _;

/// A piece of a message: the payload of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Offset in the message.
    pub offset: u32,
    /// Bytes.
    pub len: u16,
    /// Whether it is the last one.
    pub last: bool,
}

impl Piece {
    /// A message in one piece.
    pub const fn whole(len: u16) -> Self {
        Piece {
            offset: 0,
            len,
            last: true,
        }
    }
}

/// Cuts a message into pieces. An empty message has one, empty piece.
#[derive(Clone, Debug)]
pub struct Segmenter {
    /// Length of the message.
    length: u32,
    /// Offset of the next piece.
    next: u32,
    /// Whether the last piece was given.
    done: bool,
}

impl Segmenter {
    /// A message of `length` bytes.
    pub const fn new(length: u32) -> Self {
        Segmenter {
            length,
            next: 0,
            done: false,
        }
    }

    /// The next piece, of at most `max` bytes. `max` may differ from call to call (path MTU), 0
    /// counts as 1.
    pub fn next(&mut self, max: u16) -> Option<Piece> {
        let piece = self.peek(max)?;
        self.next = self.next.saturating_add(u32::from(piece.len));
        self.done = piece.last;
        Some(piece)
    }

    /// The piece that [`Self::next`] would give.
    pub fn peek(&self, max: u16) -> Option<Piece> {
        if self.done {
            return None;
        }
        let left = self.length.saturating_sub(self.next);
        let len = u16::try_from(left).unwrap_or(u16::MAX).min(max.max(1));
        Some(Piece {
            offset: self.next,
            len,
            last: u32::from(len) == left,
        })
    }

    /// Offset of the next piece: how much was given so far.
    pub const fn offset(&self) -> u32 {
        self.next
    }

    /// Whether all pieces were given.
    pub const fn is_done(&self) -> bool {
        self.done
    }
}

/// What TCP goes by when it fills an skb.
#[derive(Clone, Copy, Debug)]
pub struct SkbLimits {
    /// Bytes that the device takes as one.
    pub bytes: u32,
    /// Segments that it makes of them.
    pub segments: u32,
    /// The largest window that the peer has offered; zero if it is not known.
    pub window: u32,
}

impl SkbLimits {
    /// Bytes that TCP puts into one skb: whole segments of `mss` bytes, and no more than half the peer's window
    /// unless that is tiny. Linux's own calculation has the last word: where it differs, some skbs are small.
    pub fn skb(&self, mss: usize) -> usize {
        /// `TCP_MSS_DEFAULT`.
        const TINY: u32 = 536;
        let window = match self.window {
            0 => u32::MAX,
            tiny if tiny <= TINY => tiny,
            window => window / 2,
        };
        let segments = (self.bytes.min(window) as usize)
            .checked_div(mss)
            .unwrap_or(1)
            .min(self.segments as usize)
            .max(1);
        segments.saturating_mul(mss)
    }

    /// Bytes of FPDUs to give to TCP in one call: as many skbs as fit into `max` bytes. What is beyond would leave
    /// alone, in a small skb, which costs as much as a large one. Where an skb takes more than `max`, whole
    /// segments.
    pub fn batch(&self, mss: usize, max: usize) -> usize {
        let skb = self.skb(mss);
        let unit = if skb <= max { skb } else { mss };
        match max.checked_rem(unit) {
            Some(rest) if rest < max => max - rest,
            _ => max,
        }
    }
}

/// The headers of a message; those of its segments follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// A tagged message.
    Tagged {
        /// Write or Read Response.
        op: Opcode,
        /// The buffer.
        stag: u32,
        /// Tagged offset of the first byte of the message.
        to: u64,
    },
    /// An untagged message.
    Untagged {
        /// Any other opcode.
        op: Opcode,
        /// Queue.
        qn: u32,
        /// Number of the message in its queue.
        msn: Msn,
        /// STag to invalidate, or zero.
        inv_stag: u32,
    },
}

impl Header {
    /// An RDMA Write to `to` in `stag`.
    pub const fn write(stag: u32, to: u64) -> Self {
        Header::Tagged {
            op: Opcode::Write,
            stag,
            to,
        }
    }

    /// An RDMA Read Response to `to` in the sink's `stag`.
    pub const fn read_response(stag: u32, to: u64) -> Self {
        Header::Tagged {
            op: Opcode::ReadResponse,
            stag,
            to,
        }
    }

    /// A Send.
    pub const fn send(msn: Msn, solicited: bool, invalidate: Option<u32>) -> Self {
        let (inv, inv_stag) = match invalidate {
            Some(stag) => (true, stag),
            None => (false, 0),
        };
        Header::Untagged {
            op: Opcode::send(solicited, inv),
            qn: ddp::QN_SEND,
            msn,
            inv_stag,
        }
    }

    /// An RDMA Read Request; the payload is a `ReadRequestHdr`.
    pub const fn read_request(msn: Msn) -> Self {
        Self::untagged(Opcode::ReadRequest, ddp::QN_READ_REQUEST, msn)
    }

    /// The Terminate; the payload is a `TerminateBody`.
    pub const fn terminate() -> Self {
        Self::untagged(Opcode::Terminate, ddp::QN_TERMINATE, Msn::FIRST)
    }

    /// Immediate Data; the payload is 8 bytes. It shares the numbers of the sends.
    pub const fn immediate(msn: Msn, solicited: bool) -> Self {
        let op = if solicited {
            Opcode::ImmediateSe
        } else {
            Opcode::Immediate
        };
        Self::untagged(op, ddp::QN_SEND, msn)
    }

    /// An Atomic Request; the payload is an `AtomicRequestHdr`. It shares the numbers of the read
    /// requests.
    pub const fn atomic_request(msn: Msn) -> Self {
        Self::untagged(Opcode::AtomicRequest, ddp::QN_READ_REQUEST, msn)
    }

    /// An Atomic Response; the payload is an `AtomicResponseHdr`.
    pub const fn atomic_response(msn: Msn) -> Self {
        Self::untagged(Opcode::AtomicResponse, ddp::QN_ATOMIC_RESPONSE, msn)
    }

    /// An untagged message that invalidates nothing.
    const fn untagged(op: Opcode, qn: u32, msn: Msn) -> Self {
        Header::Untagged {
            op,
            qn,
            msn,
            inv_stag: 0,
        }
    }

    /// Bytes of the DDP header.
    pub const fn hdr_len(&self) -> usize {
        match self {
            Header::Tagged { .. } => TAGGED_LEN,
            Header::Untagged { .. } => UNTAGGED_LEN,
        }
    }

    /// The largest payload of a segment.
    pub const fn max_payload(&self, mulpdu: u16) -> u16 {
        mulpdu.saturating_sub(self.hdr_len() as u16)
    }

    /// Writes the DDP header of the segment that carries `piece`. Returns its length.
    pub fn emit(&self, piece: &Piece, out: &mut [u8]) -> Option<usize> {
        match *self {
            Header::Tagged { op, stag, to } => {
                let hdr = TaggedHdr {
                    ddp: ddp::ddp_control(true, piece.last),
                    rdmap: ddp::rdmap_control(op.number()),
                    stag: U32::new(stag),
                    to: U64::new(to.wrapping_add(u64::from(piece.offset))),
                };
                hdr.write_to_prefix(out).ok()?;
            }
            Header::Untagged {
                op,
                qn,
                msn,
                inv_stag,
            } => {
                let hdr = UntaggedHdr {
                    ddp: ddp::ddp_control(false, piece.last),
                    rdmap: ddp::rdmap_control(op.number()),
                    inv_stag: U32::new(inv_stag),
                    qn: U32::new(qn),
                    msn: U32::new(msn.get()),
                    mo: U32::new(piece.offset),
                };
                hdr.write_to_prefix(out).ok()?;
            }
        }
        Some(self.hdr_len())
    }
}

/// An FPDU whose payload is being filled in.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// Where in the buffer the payload goes.
    pub payload: usize,
    /// CRC over what stands before the payload.
    pub crc: u32,
    /// Length of header and payload.
    pub ulpdu_len: u16,
}

/// Frames ULPDUs.
#[derive(Clone, Debug)]
pub struct FpduEncoder {
    /// Whether CRCs are in use; if not, the field is zero.
    crc: bool,
    /// If markers are in use: position in the stream of FPDUs, modulo the interval.
    markers: Option<usize>,
}

impl FpduEncoder {
    /// An encoder at the start of the stream of FPDUs.
    pub const fn new(crc: bool, markers: bool) -> Self {
        FpduEncoder {
            crc,
            markers: if markers { Some(0) } else { None },
        }
    }

    /// Whether the caller of [`Self::finish`] has to sum the payload. Not so with markers: those
    /// stand between the bytes of the payload.
    pub const fn wants_crc(&self) -> bool {
        self.crc && self.markers.is_none()
    }

    /// Whether markers are in use.
    pub const fn has_markers(&self) -> bool {
        self.markers.is_some()
    }

    /// Bytes that the next FPDU takes, markers included, if its ULPDU has `ulpdu_len`.
    pub fn fpdu_len(&self, ulpdu_len: u16) -> usize {
        let raw = mpa::fpdu_len(ulpdu_len);
        raw + self.marker_count(raw) * MARKER_LEN
    }

    /// Bytes from here to the next marker, and the number of markers in `raw` bytes.
    fn marker_count(&self, raw: usize) -> usize {
        let first = match self.markers {
            None => return 0,
            Some(pos) => distance(pos),
        };
        // A marker right behind the last byte belongs to the next FPDU.
        match raw.checked_sub(first) {
            None | Some(0) => 0,
            Some(rest) => rest.div_ceil(MARKER_INTERVAL - MARKER_LEN),
        }
    }

    /// Starts an FPDU in `buf`: writes length and headers. `None` if `buf` is too short for the whole
    /// FPDU, or the segment too long.
    pub fn begin<C: Crc32c>(&self, buf: &mut [u8], header: &Header, piece: &Piece) -> Option<Open> {
        let mut open = self.open(buf, header, piece)?;
        if self.wants_crc() {
            open.crc = C::crc32c(open.crc, buf.get(..open.payload)?);
        }
        Some(open)
    }

    /// The same without a CRC, for [`Self::seal`].
    pub fn open(&self, buf: &mut [u8], header: &Header, piece: &Piece) -> Option<Open> {
        let ulpdu_len = piece.len.checked_add(header.hdr_len() as u16)?;
        if buf.len() < self.fpdu_len(ulpdu_len) {
            return None;
        }
        let (len, rest) = buf.split_first_chunk_mut::<FPDU_HDR_LEN>()?;
        *len = ulpdu_len.to_be_bytes();
        header.emit(piece, rest)?;
        Some(Open {
            payload: FPDU_HDR_LEN + header.hdr_len(),
            crc: crc::SEED,
            ulpdu_len,
        })
    }

    /// Ends an FPDU whose payload has been filled in. `crc` is the sum up to the end of the payload;
    /// it does not matter unless [`Self::wants_crc`]. Returns the bytes of the FPDU.
    pub fn finish<C: Crc32c>(&mut self, buf: &mut [u8], open: &Open, crc: u32) -> Option<usize> {
        let (raw, crc_at) = self.pad(buf, open.ulpdu_len)?;
        if self.markers.is_some() {
            return self.insert_markers::<C>(buf, raw);
        }
        if self.crc {
            let pad = buf.get(FPDU_HDR_LEN + usize::from(open.ulpdu_len)..crc_at)?;
            let crc = C::crc32c(crc, pad);
            put_crc(buf, crc_at, crc)?;
        }
        Some(raw)
    }

    /// Completes an FPDU of which `buf` holds, from its third byte on, the ULPDU of `ulpdu_len` bytes.
    /// Returns the bytes of the FPDU.
    pub fn seal<C: Crc32c>(&mut self, buf: &mut [u8], ulpdu_len: u16) -> Option<usize> {
        if buf.len() < self.fpdu_len(ulpdu_len) {
            return None;
        }
        *buf.first_chunk_mut::<FPDU_HDR_LEN>()? = ulpdu_len.to_be_bytes();
        let (raw, crc_at) = self.pad(buf, ulpdu_len)?;
        if self.markers.is_some() {
            return self.insert_markers::<C>(buf, raw);
        }
        if self.crc {
            let crc = C::crc32c(crc::SEED, buf.get(..crc_at)?);
            put_crc(buf, crc_at, crc)?;
        }
        Some(raw)
    }

    /// A whole FPDU of a message that is one short segment: a request, a Terminate and so on.
    pub fn control<C: Crc32c>(
        &mut self,
        buf: &mut [u8],
        header: &Header,
        body: &[u8],
    ) -> Option<usize> {
        let piece = Piece::whole(u16::try_from(body.len()).ok()?);
        let open = self.open(buf, header, &piece)?;
        buf.get_mut(open.payload..open.payload + body.len())?
            .copy_from_slice(body);
        self.seal::<C>(buf, open.ulpdu_len)
    }

    /// Writes pad and an empty CRC field. Returns the FPDU's bytes without markers, and where the CRC
    /// stands.
    fn pad(&self, buf: &mut [u8], ulpdu_len: u16) -> Option<(usize, usize)> {
        let raw = mpa::fpdu_len(ulpdu_len);
        let crc_at = raw - mpa::CRC_LEN;
        buf.get_mut(FPDU_HDR_LEN + usize::from(ulpdu_len)..raw)?
            .fill(0);
        Some((raw, crc_at))
    }

    /// Spreads an FPDU of `raw` bytes and puts the markers in, then the CRC (RFC 5044 sections 4.3 and
    /// 4.4). Slow, and only for peers that ask for it.
    fn insert_markers<C: Crc32c>(&mut self, buf: &mut [u8], raw: usize) -> Option<usize> {
        let pos = self.markers?;
        let first = distance(pos);
        let count = self.marker_count(raw);
        let total = raw + count * MARKER_LEN;
        if buf.len() < total {
            return None;
        }
        // The length field stands behind a marker that precedes the FPDU.
        let start = if first == 0 { MARKER_LEN } else { 0 };
        // Back to front, so that nothing is overwritten before it has moved.
        let mut end = raw;
        for k in (0..count).rev() {
            let from = first + k * (MARKER_INTERVAL - MARKER_LEN);
            let at = first + k * MARKER_INTERVAL;
            // Byte by byte: `copy_within()` has a panic that the compiler cannot rule out.
            let shift = (k + 1) * MARKER_LEN;
            for i in (from..end).rev() {
                let byte = *buf.get(i)?;
                *buf.get_mut(i + shift)? = byte;
            }
            let back = u16::try_from(at.saturating_sub(start)).ok()?;
            let [hi, lo] = back.to_be_bytes();
            buf.get_mut(at..at + MARKER_LEN)?
                .copy_from_slice(&[0, 0, hi, lo]);
            end = from;
        }
        if self.crc {
            let crc_at = total - mpa::CRC_LEN;
            let crc = C::crc32c(crc::SEED, buf.get(..crc_at)?);
            put_crc(buf, crc_at, crc)?;
        }
        self.markers = Some((pos + total) % MARKER_INTERVAL);
        Some(total)
    }
}

/// Bytes from the position `pos` to the next marker.
const fn distance(pos: usize) -> usize {
    (MARKER_INTERVAL - pos % MARKER_INTERVAL) % MARKER_INTERVAL
}

/// Writes the CRC field.
fn put_crc(buf: &mut [u8], at: usize, crc: u32) -> Option<()> {
    buf.get_mut(at..at + mpa::CRC_LEN)?
        .copy_from_slice(&crc::to_wire(crc));
    Some(())
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_tx))]
mod tests {
    use super::*;
    use crate::proto::wire::crc::Bitwise;

    /// RFC 5044 figures 5 and 6: FPDUs with a marker before and in them.
    #[test]
    fn markers_and_crc_of_rfc_5044() {
        let mut enc = FpduEncoder::new(true, true);
        let mut buf = [0xff; 512];
        let first = Header::send(Msn::FIRST, false, None);
        let n = enc.clone().control::<Bitwise>(&mut buf, &first, &[0; 24]);
        assert_eq!(n, Some(52));
        assert_eq!(buf[..8], [0, 0, 0, 0, 0, 0x2a, 0x41, 0x43]);
        assert_eq!(buf[48..52], [0x52, 0x23, 0x99, 0x83]);

        // One of 492 bytes brings the stream to where the second figure is.
        let n = enc.control::<Bitwise>(&mut buf, &first, &[0; 464]);
        assert_eq!(n, Some(492));
        let second = Header::send(Msn::new(2), false, None);
        assert_eq!(enc.fpdu_len(42), 52);
        let n = enc.control::<Bitwise>(&mut buf, &second, &[0; 24]);
        assert_eq!(n, Some(52));
        assert_eq!(buf[20..24], [0, 0, 0, 0x14]);
        assert_eq!(buf[48..52], [0x84, 0x92, 0x58, 0x98]);
    }

    /// Summed piece by piece or in one go: the same bytes, with markers and without.
    #[test]
    fn both_ways_to_sum_agree() {
        let header = Header::write(0x1234, 0x5678);
        for (crc, markers) in [(true, false), (true, true), (false, false), (false, true)] {
            let mut pieces = FpduEncoder::new(crc, markers);
            let mut whole = pieces.clone();
            for len in [0u16, 1, 2, 3, 64, 500, 1001] {
                let piece = Piece::whole(len);
                let (mut a, mut b) = ([0xaa; 1100], [0x55; 1100]);
                let open = pieces.begin::<Bitwise>(&mut a, &header, &piece).unwrap();
                let range = open.payload..open.payload + usize::from(len);
                a[range.clone()].fill(7);
                let crc = if pieces.wants_crc() {
                    Bitwise::crc32c(open.crc, &a[range.clone()])
                } else {
                    open.crc
                };
                let n = pieces.finish::<Bitwise>(&mut a, &open, crc).unwrap();
                let open = whole.open(&mut b, &header, &piece).unwrap();
                b[range].fill(7);
                assert_eq!(whole.seal::<Bitwise>(&mut b, open.ulpdu_len), Some(n));
                assert_eq!(a[..n], b[..n]);
            }
        }
    }

    #[test]
    fn batches_fill_skbs() {
        const MAX: usize = 64 << 10;
        let both = |bytes, segments, window, mss| {
            let limits = SkbLimits {
                bytes,
                segments,
                window,
            };
            (limits.skb(mss), limits.batch(mss, MAX))
        };
        let segs = |mss: usize, skb: usize, batch: usize| (skb * mss, batch * mss);
        // MTU 1500 and 9000: 45 segments, and not the 46th; 7.
        assert_eq!(both(65215, 65535, 1 << 20, 1448), segs(1448, 45, 45));
        assert_eq!(both(65215, 65535, 1 << 20, 8948), segs(8948, 7, 7));
        // A peer whose window is small yet, tiny, and not known.
        assert_eq!(both(65215, 65535, 64256, 1448), segs(1448, 22, 44));
        assert_eq!(both(65215, 65535, 500, 1448), segs(1448, 1, 45));
        assert_eq!(both(65215, 65535, 0, 1448), segs(1448, 45, 45));
        // A device that takes few segments; larger skbs than we build; a segment as large as an skb; nonsense.
        assert_eq!(both(65215, 16, 1 << 20, 1448), segs(1448, 16, 32));
        assert_eq!(both(512 << 10, 65535, 1 << 30, 1448), segs(1448, 362, 45));
        assert_eq!(both(65215, 65535, 1 << 20, 65483), segs(65483, 1, 1));
        assert_eq!(both(65215, 65535, 1 << 20, 70000), (70000, MAX));
        assert_eq!(both(0, 0, 0, 0), (0, MAX));
        let (mut mss, mut ok) = (1, true);
        while mss < 70000 {
            let (skb, n) = both(3 * mss as u32, 65535, 0, mss);
            // Never nothing, never too much, and whole FPDUs of a segment's size fill it.
            ok &= skb == 3 * mss && n > 0 && n <= MAX && (mss > MAX || n % mss == 0);
            mss += 7;
        }
        assert!(ok);
    }

    #[test]
    fn pieces_cover_the_message() {
        let mut s = Segmenter::new(2500);
        let (mut at, mut n) = (0, 0);
        while let Some(p) = s.next(1000) {
            assert_eq!(p.offset, at);
            at += u32::from(p.len);
            n += 1;
            assert_eq!(p.last, at == 2500);
        }
        assert_eq!(n, 3);
        assert_eq!(Segmenter::new(0).next(1000), Some(Piece::whole(0)));
    }
}
