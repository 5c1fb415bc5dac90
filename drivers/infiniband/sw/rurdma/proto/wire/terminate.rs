// SPDX-License-Identifier: GPL-2.0

//! The Terminate message: reasons, building, parsing (RFC 5040 section 4.8, RFC 5041 section 7.2,
//! RFC 5044 section 8, RFC 6581 section 8).

#![forbid(unsafe_code)]

use super::ddp::{self, TAGGED_LEN, UNTAGGED_LEN};
use super::rdmap::{Opcode, ReadRequest, ReadRequestHdr, ATOMIC_REQUEST_LEN, READ_REQUEST_LEN};
use zerocopy::byteorder::network_endian::U32;
use zerocopy::{FromBytes as _, IntoBytes as _};

/// Why a stream is terminated: layer, error type, error code (RFC 5040 figure 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TermError {
    /// 0 RDMAP, 1 DDP, 2 LLP.
    pub layer: u8,
    /// Error type of the layer.
    pub etype: u8,
    /// Error code of the type.
    pub code: u8,
}

/// Layer RDMAP.
pub const LAYER_RDMAP: u8 = 0;
/// Layer DDP.
pub const LAYER_DDP: u8 = 1;
/// Layer LLP, which is MPA here.
pub const LAYER_LLP: u8 = 2;

/// Defines the reasons.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $layer:literal / $etype:literal / $code:literal;)*) => {
        impl TermError {
            $($(#[$doc])* pub const $name: TermError = TermError {
                layer: $layer,
                etype: $etype,
                code: $code,
            };)*
        }
    };
}

reasons! {
    /// RDMAP: local catastrophic error.
    RDMAP_CATASTROPHIC = 0 / 0 / 0;
    /// RDMAP remote protection: invalid STag.
    RDMAP_INVALID_STAG = 0 / 1 / 0x00;
    /// RDMAP remote protection: base or bounds violation.
    RDMAP_BOUNDS = 0 / 1 / 0x01;
    /// RDMAP remote protection: access rights violation.
    RDMAP_ACCESS = 0 / 1 / 0x02;
    /// RDMAP remote protection: STag not associated with the RDMAP stream.
    RDMAP_STAG_STREAM = 0 / 1 / 0x03;
    /// RDMAP remote protection: TO wrap.
    RDMAP_TO_WRAP = 0 / 1 / 0x04;
    /// RDMAP remote protection: STag cannot be invalidated.
    RDMAP_CANNOT_INVALIDATE = 0 / 1 / 0x09;
    /// RDMAP remote protection: unspecified.
    RDMAP_PROTECTION = 0 / 1 / 0xff;
    /// RDMAP remote operation: invalid RDMAP version.
    RDMAP_VERSION = 0 / 2 / 0x05;
    /// RDMAP remote operation: unexpected opcode.
    RDMAP_OPCODE = 0 / 2 / 0x06;
    /// RDMAP remote operation: catastrophic error, localized to the stream. Also that of an
    /// unaligned atomic (RFC 7306 section 8.2).
    RDMAP_STREAM = 0 / 2 / 0x07;
    /// RDMAP remote operation: unspecified.
    RDMAP_OPERATION = 0 / 2 / 0xff;
    /// DDP: local catastrophic error.
    DDP_CATASTROPHIC = 1 / 0 / 0;
    /// DDP tagged buffer: invalid STag.
    DDP_INVALID_STAG = 1 / 1 / 0;
    /// DDP tagged buffer: base or bounds violation.
    DDP_BOUNDS = 1 / 1 / 1;
    /// DDP tagged buffer: STag not associated with the DDP stream.
    DDP_STAG_STREAM = 1 / 1 / 2;
    /// DDP tagged buffer: TO wrap.
    DDP_TO_WRAP = 1 / 1 / 3;
    /// DDP tagged buffer: invalid DDP version.
    DDP_TAGGED_VERSION = 1 / 1 / 4;
    /// DDP untagged buffer: invalid QN.
    DDP_INVALID_QN = 1 / 2 / 1;
    /// DDP untagged buffer: invalid MSN, no buffer available.
    DDP_NO_BUFFER = 1 / 2 / 2;
    /// DDP untagged buffer: invalid MSN, out of range.
    DDP_MSN_RANGE = 1 / 2 / 3;
    /// DDP untagged buffer: invalid MO.
    DDP_INVALID_MO = 1 / 2 / 4;
    /// DDP untagged buffer: message too long for the buffer.
    DDP_TOO_LONG = 1 / 2 / 5;
    /// DDP untagged buffer: invalid DDP version.
    DDP_UNTAGGED_VERSION = 1 / 2 / 6;
    /// MPA: TCP connection lost. Cannot be sent, of course.
    MPA_LOST = 2 / 0 / 1;
    /// MPA: CRC error.
    MPA_CRC = 2 / 0 / 2;
    /// MPA: marker and ULPDU_Length disagree.
    MPA_MARKER = 2 / 0 / 3;
    /// MPA: invalid request or reply frame.
    MPA_FRAME = 2 / 0 / 4;
    /// MPA: local catastrophic error (RFC 6581).
    MPA_LOCAL = 2 / 0 / 5;
    /// MPA: insufficient IRD resources (RFC 6581).
    MPA_IRD = 2 / 0 / 6;
    /// MPA: no matching RTR option (RFC 6581).
    MPA_RTR = 2 / 0 / 7;
}

impl TermError {
    /// Whether the Terminate carries the DDP segment length and header (RFC 5040 figure 10).
    pub const fn includes_ddp(self) -> bool {
        match self.layer {
            LAYER_RDMAP => self.etype != 0,
            // A local catastrophic error has no header, as section 4.8 says of the field.
            LAYER_DDP => self.etype != 0,
            _ => false,
        }
    }

    /// Whether it carries the RDMA header, if the cause was a read request.
    pub const fn includes_rdmap(self) -> bool {
        self.layer == LAYER_RDMAP && self.etype == 1
    }
}

/// M: the DDP segment length is valid (bit 16 of the control word).
pub const HDRCT_M: u32 = 1 << 15;
/// D: the DDP header is included.
pub const HDRCT_D: u32 = 1 << 14;
/// R: the RDMA header is included.
pub const HDRCT_R: u32 = 1 << 13;

/// Bytes of the control word.
pub const CONTROL_LEN: usize = 4;
/// Bytes of the longest Terminate header.
pub const MAX_TERMINATE_LEN: usize = CONTROL_LEN + 2 + UNTAGGED_LEN + READ_REQUEST_LEN;

/// The segment that caused an error, as far as a Terminate quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Its DDP header.
    ddp: [u8; UNTAGGED_LEN],
    /// How much of it is one: 14 or 18.
    ddp_len: u8,
    /// Length of the segment (ULPDU).
    segment_len: u16,
    /// The read request that it was.
    read: Option<ReadRequest>,
}

impl Culprit {
    /// A segment with this DDP header, of 14 or 18 bytes. `None` if it has another length.
    pub fn new(ddp_hdr: &[u8], segment_len: u16, read: Option<ReadRequest>) -> Option<Self> {
        if ddp_hdr.len() != TAGGED_LEN && ddp_hdr.len() != UNTAGGED_LEN {
            return None;
        }
        let mut ddp = [0; UNTAGGED_LEN];
        for (d, s) in ddp.iter_mut().zip(ddp_hdr) {
            *d = *s;
        }
        Some(Self {
            ddp,
            ddp_len: ddp_hdr.len() as u8,
            segment_len,
            read,
        })
    }

    /// A read request that was accepted some time ago. `read` is what is left of it (RFC 5040
    /// section 4.8: offsets and size move on while it is processed).
    pub fn read_request(msn: u32, read: ReadRequest) -> Self {
        Self::request(Opcode::ReadRequest, msn, READ_REQUEST_LEN, Some(read))
    }

    /// An atomic request that was accepted some time ago. A Terminate quotes no more of it than its DDP
    /// header (RFC 7306 section 8.1).
    pub fn atomic_request(msn: u32) -> Self {
        Self::request(Opcode::AtomicRequest, msn, ATOMIC_REQUEST_LEN, None)
    }

    /// A request of `body` bytes.
    fn request(op: Opcode, msn: u32, body: usize, read: Option<ReadRequest>) -> Self {
        let hdr = ddp::UntaggedHdr {
            ddp: ddp::ddp_control(false, true),
            rdmap: ddp::rdmap_control(op.number()),
            inv_stag: U32::new(0),
            qn: U32::new(ddp::QN_READ_REQUEST),
            msn: U32::new(msn),
            mo: U32::new(0),
        };
        let mut ddp = [0; UNTAGGED_LEN];
        for (d, s) in ddp.iter_mut().zip(hdr.as_bytes()) {
            *d = *s;
        }
        Self {
            ddp,
            ddp_len: UNTAGGED_LEN as u8,
            segment_len: (UNTAGGED_LEN + body) as u16,
            read,
        }
    }

    /// The opcode in the header.
    pub fn op(&self) -> Option<Opcode> {
        let [_, rdmap, ..] = self.ddp;
        Opcode::from_control(rdmap)
    }

    /// The DDP header.
    pub fn ddp_hdr(&self) -> &[u8] {
        self.ddp
            .get(..usize::from(self.ddp_len))
            .unwrap_or_default()
    }

    /// Length of the segment.
    pub fn segment_len(&self) -> u16 {
        self.segment_len
    }

    /// The read request that it was, if it was one.
    pub fn read(&self) -> Option<&ReadRequest> {
        self.read.as_ref()
    }
}

/// The Terminate header: what follows the DDP header of the message.
#[derive(Clone, Copy, Debug)]
pub struct TerminateBody {
    /// Storage.
    buf: [u8; MAX_TERMINATE_LEN],
    /// Bytes in use.
    len: usize,
}

impl TerminateBody {
    /// Builds a Terminate for `error`, which `culprit` caused. Quotes of it what RFC 5040 figure 10
    /// asks for.
    pub fn build(error: TermError, culprit: Option<&Culprit>) -> Self {
        let mut body = TerminateBody {
            buf: [0; MAX_TERMINATE_LEN],
            len: 0,
        };
        let mut control = u32::from(error.layer & 0xf) << 28
            | u32::from(error.etype & 0xf) << 24
            | u32::from(error.code) << 16;
        let culprit = culprit.filter(|_| error.includes_ddp());
        let read = culprit
            .and_then(|c| c.read.as_ref())
            .filter(|_| error.includes_rdmap());
        if culprit.is_some() {
            control |= HDRCT_M | HDRCT_D;
        }
        if read.is_some() {
            control |= HDRCT_R;
        }
        body.push(&control.to_be_bytes());
        if let Some(c) = culprit {
            body.push(&c.segment_len.to_be_bytes());
            body.push(c.ddp_hdr());
        }
        if let Some(r) = read {
            body.push(ReadRequestHdr::from(r).as_bytes());
        }
        body
    }

    /// Appends bytes.
    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(dst) = self.buf.get_mut(self.len..end) {
            dst.copy_from_slice(bytes);
            self.len = end;
        }
    }

    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }
}

/// A received Terminate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminate {
    /// The reason.
    pub error: TermError,
    /// What caused it, as far as the peer says so.
    pub culprit: Option<Culprit>,
}

impl Terminate {
    /// Parses a Terminate header. `None` if it is shorter than its control word. Peers differ in what
    /// they quote: siw sets R for a Send with Invalidate, which has no RDMA header. The reason counts,
    /// so a quotation that is not whole is left out.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let (control, rest) = body.split_first_chunk::<CONTROL_LEN>()?;
        let control = u32::from_be_bytes(*control);
        let error = TermError {
            layer: (control >> 28) as u8,
            etype: (control >> 24 & 0xf) as u8,
            code: (control >> 16) as u8,
        };
        let culprit = if control & HDRCT_D != 0 {
            Self::quoted(control, rest)
        } else {
            None
        };
        Some(Terminate { error, culprit })
    }

    /// What is quoted behind a control word with D.
    fn quoted(control: u32, rest: &[u8]) -> Option<Culprit> {
        // The segment length is there whenever D is set; M says whether it means anything.
        let (segment_len, rest) = rest.split_first_chunk::<2>()?;
        let tagged = rest.first()? & ddp::TAGGED != 0;
        let hdr_len = if tagged { TAGGED_LEN } else { UNTAGGED_LEN };
        let hdr = rest.get(..hdr_len)?;
        let rest = rest.get(hdr_len..)?;
        let read = ReadRequestHdr::ref_from_prefix(rest)
            .ok()
            .filter(|_| control & HDRCT_R != 0)
            .map(|(hdr, _)| ReadRequest::from(hdr));
        let segment_len = if control & HDRCT_M != 0 {
            u16::from_be_bytes(*segment_len)
        } else {
            0
        };
        Culprit::new(hdr, segment_len, read)
    }
}

const _: () = assert!(MAX_TERMINATE_LEN == 52);

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    ::kernel::macros::kunit_tests(rurdma_proto_terminate)
)]
mod tests {
    use super::*;

    const READ: ReadRequest = ReadRequest {
        sink_stag: 1,
        sink_to: 2,
        size: 3,
        source_stag: 4,
        source_to: 5,
    };

    #[test]
    fn quotes_what_figure_10_asks_for() {
        let culprit = Culprit::read_request(7, READ);
        let b = TerminateBody::build(TermError::RDMAP_ACCESS, Some(&culprit));
        assert_eq!(b.as_bytes().len(), 52);
        assert_eq!(b.as_bytes()[..6], [0x01, 0x02, 0xe0, 0x00, 0, 46]);
        let b = TerminateBody::build(TermError::RDMAP_OPCODE, Some(&culprit));
        assert_eq!(b.as_bytes().len(), 24);
        assert_eq!(b.as_bytes()[..4], [0x02, 0x06, 0xc0, 0x00]);
        let b = TerminateBody::build(TermError::MPA_CRC, Some(&culprit));
        assert_eq!(b.as_bytes(), [0x20, 0x02, 0, 0]);
        let b = TerminateBody::build(TermError::DDP_NO_BUFFER, None);
        assert_eq!(b.as_bytes(), [0x12, 0x02, 0, 0]);
    }

    #[test]
    fn round_trip() {
        let culprit = Culprit::read_request(7, READ);
        let b = TerminateBody::build(TermError::RDMAP_BOUNDS, Some(&culprit));
        let t = Terminate::parse(b.as_bytes());
        assert_eq!(t.map(|t| t.error), Some(TermError::RDMAP_BOUNDS));
        assert_eq!(t.and_then(|t| t.culprit), Some(culprit));
        // Cut short, the reason remains.
        for n in 0..52 {
            let t = Terminate::parse(&b.as_bytes()[..n]);
            assert_eq!(t.is_some(), n >= 4);
            assert_eq!(t.is_some_and(|t| t.culprit.is_some()), n >= 24);
        }
    }
}
