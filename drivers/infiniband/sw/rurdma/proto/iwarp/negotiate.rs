// SPDX-License-Identifier: GPL-2.0

//! MPA connection establishment: what to answer, and what was agreed (RFC 5044 section 7.1,
//! RFC 6581).
//!
//! The initiator builds a request from its [`Wishes`] ([`Wishes::request`]), collects the reply with
//! [`MpaRx`](super::mpa_rx::MpaRx), and judges it ([`Wishes::judge_reply`]). The responder collects
//! the request, turns it into an [`Offer`], shows that to its consumer, and answers
//! ([`Offer::accept`], [`Offer::reject`]).

#![forbid(unsafe_code)]

use super::mpa_rx::{Enhanced, Frame, Kind};
use super::rx::{Segment, Target};
use crate::proto::wire::ddp;
use crate::proto::wire::mpa::{self, FrameHdr, FRAME_HDR_LEN};
use crate::proto::wire::rdmap::Opcode;
use crate::proto::wire::terminate::TermError;
use zerocopy::IntoBytes as _;

/// A frame that ends the connection: TCP is closed at once, nothing is sent (RFC 5044
/// sections 7.1.2 and 8, code 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MpaError {
    /// Not the expected key: no MPA, or both ends are initiators.
    Key,
    /// A revision that is not spoken here.
    Revision,
    /// More private data than can be, or less than S promises.
    PrivateData,
    /// A reply that does not match the request (RFC 6581 section 10).
    Mismatch,
}

/// A frame cannot be built: too much private data, or too small a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// How the initiator says that it is ready (RFC 6581 section 9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rtr {
    /// B: a zero-length Send.
    Send,
    /// C: a zero-length RDMA Write.
    Write,
    /// D: a zero-length RDMA Read.
    Read,
}

/// A set of [`Rtr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtrSet(u8);

impl RtrSet {
    /// None of them.
    pub const NONE: RtrSet = RtrSet(0);
    /// All of them.
    pub const ALL: RtrSet = RtrSet(7);

    /// The bit of a member.
    const fn bit(rtr: Rtr) -> u8 {
        match rtr {
            Rtr::Send => 1,
            Rtr::Write => 2,
            Rtr::Read => 4,
        }
    }

    /// With another member.
    #[must_use]
    pub const fn with(self, rtr: Rtr) -> Self {
        RtrSet(self.0 | Self::bit(rtr))
    }

    /// Without a member.
    #[must_use]
    pub const fn without(self, rtr: Rtr) -> Self {
        RtrSet(self.0 & !Self::bit(rtr))
    }

    /// The members of both.
    #[must_use]
    pub const fn and(self, other: RtrSet) -> Self {
        RtrSet(self.0 & other.0)
    }

    /// Whether it has a member.
    pub const fn contains(self, rtr: Rtr) -> bool {
        self.0 & Self::bit(rtr) != 0
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The member to use. A Write disturbs nothing at the peer; a Read takes a slot of its inbound
    /// queue for a moment; a Send is the one that peers get wrong.
    const fn choose(self) -> Option<Rtr> {
        if self.contains(Rtr::Write) {
            Some(Rtr::Write)
        } else if self.contains(Rtr::Read) {
            Some(Rtr::Read)
        } else if self.contains(Rtr::Send) {
            Some(Rtr::Send)
        } else {
            None
        }
    }
}

/// Read queue depths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depths {
    /// Inbound: how many read requests are taken.
    pub ird: u16,
    /// Outbound: how many are sent.
    pub ord: u16,
}

/// "No automatic negotiation", in place of a depth (RFC 6581 section 9.1).
pub const NOT_NEGOTIATED: u16 = mpa::ENH_DEPTH;

/// What an endpoint wants, and can.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// Use CRCs. Off only on the explicit request of the administrator (RFC 5044 section 4.4).
    pub crc: bool,
    /// The revision to initiate with; the responder follows the initiator.
    pub rev: u8,
    /// The depths that the consumer asks for.
    pub depths: Depths,
    /// The largest IRD that the device can give, which bounds how far a peer may raise it.
    pub max_ird: u16,
    /// Initiate in the peer-to-peer model.
    pub p2p: bool,
    /// The RTR indications to use or take; never empty.
    pub rtr: RtrSet,
}

/// What was agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Generate and check CRCs.
    pub crc: bool,
    /// Insert markers into what is sent. They are never asked for here, so none are received.
    pub tx_markers: bool,
    /// The depths in force.
    pub depths: Depths,
    /// The depths that the peer named, for the consumer (RFC 6581 section 9.1).
    pub peer: Option<Depths>,
    /// The initiator's next step, and what the responder waits for.
    pub rtr: RtrPlan,
}

/// Who speaks first after the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtrPlan {
    /// The initiator's consumer, with its first message.
    ClientServer,
    /// Initiator: send this before anything else.
    Send(Rtr),
    /// Responder: one of these comes first, and is not for the consumer.
    Expect(RtrSet),
}

impl RtrPlan {
    /// Whether `segment`, the first one that a responder gets, is an RTR indication: to be
    /// acknowledged to the connection manager (and answered, if a Read), but taking no receive
    /// buffer.
    pub fn is_indication(&self, segment: &Segment) -> bool {
        let RtrPlan::Expect(set) = self else {
            return false;
        };
        if !segment.first || !segment.last {
            return false;
        }
        match segment.op {
            Opcode::Write => set.contains(Rtr::Write) && segment.len == 0,
            Opcode::Send => {
                let send = matches!(
                    segment.target,
                    Target::Untagged {
                        qn: ddp::QN_SEND,
                        ..
                    }
                );
                set.contains(Rtr::Send) && segment.len == 0 && send
            }
            // A Read Request has a header as its payload; that it asks for nothing is seen there.
            Opcode::ReadRequest => set.contains(Rtr::Read),
            _ => false,
        }
    }
}

/// What a reply means for the initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The connection is there.
    Accepted(Agreed),
    /// The responder rejects it. The private data is for the consumer, as are these depths.
    Rejected(Option<Depths>),
    /// The responder accepts, but this end cannot: send this Terminate and close (RFC 6581
    /// section 9). Rules in force for that one FPDU are those of the second field.
    Terminate(TermError, Agreed),
}

/// Writes a frame. Returns its length.
fn build(
    kind: Kind,
    flags: u8,
    rev: u8,
    enhanced: Option<Enhanced>,
    pd: &[u8],
    buf: &mut [u8],
) -> Result<usize, TooLong> {
    let data = enhanced.map(Enhanced::to_wire);
    let data = data.as_ref().map_or(&[][..], |d| d.as_bytes());
    let pd_len = data.len() + pd.len();
    if pd_len > mpa::MAX_PRIVATE_DATA {
        return Err(TooLong);
    }
    let hdr = FrameHdr {
        key: kind.key(),
        flags: flags
            | if enhanced.is_some() {
                mpa::FLAG_ENHANCED
            } else {
                0
            },
        rev,
        pd_len: (pd_len as u16).into(),
    };
    let len = FRAME_HDR_LEN + pd_len;
    let out = buf.get_mut(..len).ok_or(TooLong)?;
    let bytes = hdr.as_bytes().iter().chain(data).chain(pd);
    for (d, s) in out.iter_mut().zip(bytes) {
        *d = *s;
    }
    Ok(len)
}

/// The C flag.
const fn crc_flag(crc: bool) -> u8 {
    if crc {
        mpa::FLAG_CRC
    } else {
        0
    }
}

/// A depth to name in a frame: all ones would mean something else.
fn named(depth: u16) -> u16 {
    depth.min(NOT_NEGOTIATED - 1)
}

impl Wishes {
    /// Builds the request. Returns its length.
    pub fn request(&self, pd: &[u8], buf: &mut [u8]) -> Result<usize, TooLong> {
        let enhanced = (self.rev >= mpa::REV_2).then(|| Enhanced {
            depths: Depths {
                ird: named(self.depths.ird),
                ord: named(self.depths.ord),
            },
            p2p: self.p2p.then(|| self.own_rtr()),
        });
        let rev = if enhanced.is_some() {
            mpa::REV_2
        } else {
            mpa::REV_1
        };
        build(Kind::Request, crc_flag(self.crc), rev, enhanced, pd, buf)
    }

    /// The RTR indications that this initiator can send: a Read needs an outbound slot.
    const fn own_rtr(&self) -> RtrSet {
        if self.depths.ord == 0 {
            self.rtr.without(Rtr::Read)
        } else {
            self.rtr
        }
    }

    /// Judges the reply to [`Self::request`].
    pub fn judge_reply(&self, reply: &Frame) -> Result<Verdict, MpaError> {
        let peer = reply.enhanced.map(|e| e.depths);
        if reply.reject {
            return Ok(Verdict::Rejected(peer));
        }
        let enhanced_request = self.rev >= mpa::REV_2;
        if reply.enhanced.is_some() != enhanced_request {
            return Err(MpaError::Mismatch);
        }
        let mut agreed = Agreed {
            crc: self.crc || reply.crc,
            tx_markers: reply.markers,
            depths: self.depths,
            peer,
            rtr: RtrPlan::ClientServer,
        };
        let Some(enhanced) = reply.enhanced else {
            return Ok(Verdict::Accepted(agreed));
        };

        let theirs = enhanced.depths;
        if theirs.ird != NOT_NEGOTIATED {
            agreed.depths.ord = self.depths.ord.min(theirs.ird);
        }
        if theirs.ord != NOT_NEGOTIATED && theirs.ord > self.depths.ird {
            if theirs.ord > self.max_ird {
                return Ok(Verdict::Terminate(TermError::MPA_IRD, agreed));
            }
            agreed.depths.ird = theirs.ord;
        }
        if self.p2p {
            // A reply without A is one without common indication, too.
            let mut common = enhanced.p2p.unwrap_or(RtrSet::NONE).and(self.own_rtr());
            if agreed.depths.ord == 0 {
                common = common.without(Rtr::Read);
            }
            match common.choose() {
                Some(rtr) => agreed.rtr = RtrPlan::Send(rtr),
                None => return Ok(Verdict::Terminate(TermError::MPA_RTR, agreed)),
            }
        }
        Ok(Verdict::Accepted(agreed))
    }
}

/// A request, as the responder keeps it until its consumer has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The request.
    frame: Frame,
}

impl Offer {
    /// A received request.
    pub const fn new(request: &Frame) -> Self {
        Offer { frame: *request }
    }

    /// The initiator's depths, for the consumer. `None` if it did not name any.
    pub fn peer(&self) -> Option<Depths> {
        self.frame.enhanced.map(|e| e.depths)
    }

    /// Whether the initiator uses the peer-to-peer model.
    pub fn is_p2p(&self) -> bool {
        self.frame.enhanced.is_some_and(|e| e.p2p.is_some())
    }

    /// The revision of the request.
    pub const fn rev(&self) -> u8 {
        self.frame.rev
    }

    /// What will hold if the offer is accepted with these wishes.
    pub fn terms(&self, own: &Wishes) -> Agreed {
        let mut depths = own.depths;
        let mut rtr = RtrPlan::ClientServer;
        if let Some(enhanced) = self.frame.enhanced {
            let theirs = enhanced.depths;
            if theirs.ord != NOT_NEGOTIATED {
                // What the initiator asks for, as far as the device can; it lowers its ORD if that is
                // less.
                depths.ird = depths.ird.max(theirs.ord.min(own.max_ird));
            }
            if theirs.ird != NOT_NEGOTIATED {
                depths.ord = depths.ord.min(theirs.ird);
            }
            if let Some(asked) = enhanced.p2p {
                let common = asked.and(own.rtr);
                // Without a common one, name ours; the initiator then terminates.
                let named = if common.is_empty() { own.rtr } else { common };
                // An RTR by Read needs a slot (RFC 6581 section 9.1).
                if named.contains(Rtr::Read) {
                    depths.ird = depths.ird.max(1);
                }
                rtr = RtrPlan::Expect(named);
            }
        }
        Agreed {
            crc: own.crc || self.frame.crc,
            tx_markers: self.frame.markers,
            depths,
            peer: self.peer(),
            rtr,
        }
    }

    /// The enhanced data of the reply.
    fn answer(&self, agreed: &Agreed) -> Option<Enhanced> {
        let theirs = self.peer()?;
        let depth = |asked: u16, ours: u16| {
            if asked == NOT_NEGOTIATED {
                NOT_NEGOTIATED
            } else {
                named(ours)
            }
        };
        Some(Enhanced {
            depths: Depths {
                ird: depth(theirs.ord, agreed.depths.ird),
                ord: depth(theirs.ird, agreed.depths.ord),
            },
            p2p: match agreed.rtr {
                RtrPlan::Expect(set) => Some(set),
                _ => None,
            },
        })
    }

    /// Builds the reply that accepts. Returns its length and what was agreed.
    pub fn accept(
        &self,
        own: &Wishes,
        pd: &[u8],
        buf: &mut [u8],
    ) -> Result<(usize, Agreed), TooLong> {
        let agreed = self.terms(own);
        let len = build(
            Kind::Reply,
            crc_flag(agreed.crc),
            self.frame.rev,
            self.answer(&agreed),
            pd,
            buf,
        )?;
        Ok((len, agreed))
    }

    /// Builds the reply that rejects. Returns its length.
    pub fn reject(&self, own: &Wishes, pd: &[u8], buf: &mut [u8]) -> Result<usize, TooLong> {
        let agreed = self.terms(own);
        build(
            Kind::Reply,
            crc_flag(agreed.crc) | mpa::FLAG_REJECT,
            self.frame.rev,
            self.answer(&agreed),
            pd,
            buf,
        )
    }
}
