// SPDX-License-Identifier: GPL-2.0

//! MPA request and reply frames out of a byte stream (RFC 5044 section 7.1, RFC 6581 section 6).
//!
//! Never takes a byte more than the frame has: what follows a reply are FPDUs.

#![forbid(unsafe_code)]

use super::negotiate::{Depths, MpaError, Rtr, RtrSet};
use crate::proto::wire::mpa::{self, EnhancedData, FrameHdr, FRAME_HDR_LEN, MAX_FRAME_LEN};
use zerocopy::FromBytes as _;

/// Which frame is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request, by the responder.
    Request,
    /// A reply, by the initiator.
    Reply,
}

impl Kind {
    /// The key of the frame.
    pub(super) const fn key(self) -> [u8; 16] {
        match self {
            Kind::Request => mpa::KEY_REQUEST,
            Kind::Reply => mpa::KEY_REPLY,
        }
    }
}

/// The enhanced data of a frame (RFC 6581 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enhanced {
    /// The sender's depths.
    pub depths: Depths,
    /// If the peer-to-peer model is used (A): the RTR indications (B, C, D).
    pub p2p: Option<RtrSet>,
}

impl Enhanced {
    /// Reads it. B, C and D mean nothing without A (RFC 6581 section 9.2).
    pub(super) fn from_wire(data: &EnhancedData) -> Self {
        let (ird, ord) = (data.ird.get(), data.ord.get());
        let mut rtr = RtrSet::NONE;
        for (set, kind) in [
            (ird & mpa::ENH_B != 0, Rtr::Send),
            (ord & mpa::ENH_C != 0, Rtr::Write),
            (ord & mpa::ENH_D != 0, Rtr::Read),
        ] {
            if set {
                rtr = rtr.with(kind);
            }
        }
        Enhanced {
            depths: Depths {
                ird: ird & mpa::ENH_DEPTH,
                ord: ord & mpa::ENH_DEPTH,
            },
            p2p: (ird & mpa::ENH_A != 0).then_some(rtr),
        }
    }

    /// What is sent. Depths that do not fit become the largest that does.
    pub(super) fn to_wire(self) -> EnhancedData {
        let mut ird = self.depths.ird.min(mpa::ENH_DEPTH);
        let mut ord = self.depths.ord.min(mpa::ENH_DEPTH);
        if let Some(rtr) = self.p2p {
            ird |= mpa::ENH_A;
            if rtr.contains(Rtr::Send) {
                ird |= mpa::ENH_B;
            }
            if rtr.contains(Rtr::Write) {
                ord |= mpa::ENH_C;
            }
            if rtr.contains(Rtr::Read) {
                ord |= mpa::ENH_D;
            }
        }
        EnhancedData {
            ird: ird.into(),
            ord: ord.into(),
        }
    }
}

/// A frame that is well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its revision.
    pub rev: u8,
    /// M: the peer wants markers.
    pub markers: bool,
    /// C: the peer wants CRCs.
    pub crc: bool,
    /// R: the connection is rejected.
    pub reject: bool,
    /// The enhanced data, if S is set.
    pub enhanced: Option<Enhanced>,
}

/// Collects a frame.
#[derive(Debug)]
pub struct MpaRx {
    /// Which frame.
    kind: Kind,
    /// Its bytes.
    buf: [u8; MAX_FRAME_LEN],
    /// How many there are.
    have: usize,
    /// How many are wanted, as far as is known.
    need: usize,
    /// What they say, when all are there.
    frame: Option<Frame>,
}

impl MpaRx {
    /// Nothing has been received.
    pub const fn new(kind: Kind) -> Self {
        MpaRx {
            kind,
            buf: [0; MAX_FRAME_LEN],
            have: 0,
            need: FRAME_HDR_LEN,
            frame: None,
        }
    }

    /// Where the next bytes of the stream go; empty when the frame is complete.
    pub fn want(&mut self) -> &mut [u8] {
        self.buf.get_mut(self.have..self.need).unwrap_or_default()
    }

    /// `n` bytes are there. Returns the frame when it is complete. On an error the connection is
    /// closed without an answer (RFC 5044 section 7.1.2 rules 2, 3 and 5).
    pub fn filled(&mut self, n: usize) -> Result<Option<Frame>, MpaError> {
        if self.frame.is_some() {
            return Ok(self.frame);
        }
        self.have = self.have.saturating_add(n).min(self.need);
        // Something that does not speak MPA is told apart by its first bytes, however few.
        let got = self.buf.get(..self.have).unwrap_or_default();
        if self.kind.key().iter().zip(got).any(|(k, b)| k != b) {
            return Err(MpaError::Key);
        }
        if self.have < self.need {
            return Ok(None);
        }
        let hdr = FrameHdr::read_from_prefix(&self.buf)
            .map_err(|_| MpaError::Key)?
            .0;
        if self.need == FRAME_HDR_LEN {
            let pd_len = usize::from(hdr.pd_len.get());
            if hdr.rev != mpa::REV_1 && hdr.rev != mpa::REV_2 {
                return Err(MpaError::Revision);
            }
            if pd_len > mpa::MAX_PRIVATE_DATA {
                return Err(MpaError::PrivateData);
            }
            self.need += pd_len;
            if pd_len != 0 {
                return Ok(None);
            }
        }
        // In revision 1 the S bit is a reserved one, which is not checked.
        let enhanced = if hdr.rev == mpa::REV_2 && hdr.flags & mpa::FLAG_ENHANCED != 0 {
            let pd = self.buf.get(FRAME_HDR_LEN..self.need).unwrap_or_default();
            let (data, _) =
                EnhancedData::read_from_prefix(pd).map_err(|_| MpaError::PrivateData)?;
            Some(Enhanced::from_wire(&data))
        } else {
            None
        };
        self.frame = Some(Frame {
            rev: hdr.rev,
            markers: hdr.flags & mpa::FLAG_MARKERS != 0,
            crc: hdr.flags & mpa::FLAG_CRC != 0,
            // Not checked in a request.
            reject: self.kind == Kind::Reply && hdr.flags & mpa::FLAG_REJECT != 0,
            enhanced,
        });
        Ok(self.frame)
    }

    /// Whether any byte has come.
    pub fn has_started(&self) -> bool {
        self.have != 0
    }

    /// The frame, when it is complete.
    pub fn frame(&self) -> Option<&Frame> {
        self.frame.as_ref()
    }

    /// The private data of the consumer, without the enhanced data, when the frame is complete.
    pub fn private_data(&self) -> &[u8] {
        let Some(frame) = &self.frame else {
            return &[];
        };
        let from = if frame.enhanced.is_some() {
            FRAME_HDR_LEN + mpa::ENHANCED_LEN
        } else {
            FRAME_HDR_LEN
        };
        self.buf.get(from..self.need).unwrap_or_default()
    }
}
