// SPDX-License-Identifier: GPL-2.0

//! Whole packets: headers to values and back.

#![forbid(unsafe_code)]

use super::hdr::{
    Aeth, AtomicAckEth, AtomicEth, Bth, Deth, Feth, Reth, AETH_LEN, ATOMIC_ACK_ETH_LEN,
    ATOMIC_ETH_LEN, BTH_ACK_REQUEST, BTH_LEN, BTH_MIGRATED, BTH_PAD, BTH_PAD_SHIFT, BTH_SOLICITED,
    BTH_VERSION, DETH_LEN, EXTRA_LEN, FETH_LEN, MASK_24, RETH_LEN,
};
use super::opcode::{Extra, Op, Opcode, Service};
use super::ICRC_LEN;
use crate::proto::serial::Psn;
use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of the longest headers: those of an atomic.
pub const MAX_HDR_LEN: usize = BTH_LEN + ATOMIC_ETH_LEN;

/// Memory that a request is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// First address.
    pub va: u64,
    /// The key.
    pub rkey: u32,
    /// Bytes of the message.
    pub length: u32,
}

/// What an atomic is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Atomic {
    /// The address.
    pub va: u64,
    /// The key.
    pub rkey: u32,
    /// What is swapped in, or added.
    pub swap_add: u64,
    /// What must be there for a swap.
    pub compare: u64,
}

/// Who sent a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagram {
    /// The Q_Key.
    pub qkey: u32,
    /// The sender's QP.
    pub src_qpn: u32,
}

/// The headers of a packet. The extended ones are those that its opcode has; the others are zero, and
/// are not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The opcode.
    pub opcode: Opcode,
    /// The completion at the receiver is a solicited one.
    pub solicited: bool,
    /// An acknowledge is asked for.
    pub ack_request: bool,
    /// The partition.
    pub pkey: u16,
    /// The destination QP.
    pub qpn: u32,
    /// The packet's number.
    pub psn: Psn,
    /// RETH.
    pub remote: Remote,
    /// AtomicETH.
    pub atomic: Atomic,
    /// DETH.
    pub datagram: Datagram,
    /// Immediate data (the four bytes of the wire, as they stand in memory), or the key to invalidate.
    pub extra: u32,
    /// AETH: the number of the syndrome.
    pub syndrome: u8,
    /// AETH: the message sequence number.
    pub msn: u32,
    /// AtomicAckETH.
    pub original: u64,
    /// FETH: the word of a [`FlushKind`](super::flush::FlushKind).
    pub flush: u32,
}

/// A packet that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its headers.
    pub packet: Packet,
    /// Where its payload begins.
    pub payload_at: usize,
    /// Bytes of its payload, without pad.
    pub payload_len: usize,
}

/// Why a packet is dropped without an answer (IBTA volume 1, sections 9.6.1.1 and 9.6.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It ends within its headers.
    Truncated,
    /// A transport version that does not exist.
    Version,
    /// An opcode that does not exist; but see [`Op::Reserved`].
    Opcode,
    /// More pad than payload, or a length that is not a multiple of 4.
    Pad,
}

/// Bytes of the headers of a packet with this opcode.
pub const fn header_len(opcode: Opcode) -> usize {
    let datagram = match opcode.service {
        Service::Ud => DETH_LEN,
        _ => 0,
    };
    let extended = match opcode.op {
        Op::Send(_, extra) => extra_len(extra),
        Op::Write(place, extra) => (if place.begins() { RETH_LEN } else { 0 }) + extra_len(extra),
        Op::ReadRequest | Op::AtomicWrite => RETH_LEN,
        Op::ReadResponse(place) => {
            if place.begins() || place.ends() {
                AETH_LEN
            } else {
                0
            }
        }
        Op::Acknowledge => AETH_LEN,
        Op::AtomicAcknowledge => AETH_LEN + ATOMIC_ACK_ETH_LEN,
        Op::CmpSwp | Op::FetchAdd => ATOMIC_ETH_LEN,
        Op::Flush => FETH_LEN + RETH_LEN,
        Op::Reserved(_) => 0,
    };
    BTH_LEN + datagram + extended
}

const fn extra_len(extra: Extra) -> usize {
    match extra {
        Extra::None => 0,
        Extra::Imm | Extra::Inv => EXTRA_LEN,
    }
}

/// Bytes of pad behind a payload.
pub const fn pad_of(payload_len: usize) -> usize {
    payload_len.wrapping_neg() % 4
}

/// Bytes of a whole packet, from BTH to ICRC.
pub const fn packet_len(opcode: Opcode, payload_len: usize) -> usize {
    header_len(opcode) + payload_len + pad_of(payload_len) + ICRC_LEN
}

impl Packet {
    /// A packet without extended headers.
    pub const fn new(opcode: Opcode, qpn: u32, psn: Psn) -> Self {
        Packet {
            opcode,
            solicited: false,
            ack_request: false,
            pkey: super::DEFAULT_PKEY,
            qpn,
            psn,
            remote: Remote {
                va: 0,
                rkey: 0,
                length: 0,
            },
            atomic: Atomic {
                va: 0,
                rkey: 0,
                swap_add: 0,
                compare: 0,
            },
            datagram: Datagram {
                qkey: 0,
                src_qpn: 0,
            },
            extra: 0,
            syndrome: 0,
            msn: 0,
            original: 0,
            flush: 0,
        }
    }

    /// Reads the packet of a datagram whose UDP payload has `len` bytes, from BTH to ICRC, and begins
    /// with `bytes`: all of it, or enough for the longest headers.
    pub fn parse(bytes: &[u8], len: usize) -> Result<Received, Malformed> {
        let mut rest = bytes;
        let bth: Bth = take(&mut rest)?;
        if bth.flags & BTH_VERSION != 0 {
            return Err(Malformed::Version);
        }
        let opcode = Opcode::from_number(bth.opcode).ok_or(Malformed::Opcode)?;
        let mut packet = Packet {
            solicited: bth.flags & BTH_SOLICITED != 0,
            ack_request: bth.psn.get() & BTH_ACK_REQUEST != 0,
            pkey: bth.pkey.get(),
            ..Packet::new(opcode, bth.qpn.get() & MASK_24, Psn::new(bth.psn.get()))
        };
        if opcode.service == Service::Ud {
            let deth: Deth = take(&mut rest)?;
            packet.datagram = Datagram {
                qkey: deth.qkey.get(),
                src_qpn: deth.src_qpn.get() & MASK_24,
            };
        }
        match opcode.op {
            Op::Send(_, extra) => packet.take_extra(extra, &mut rest)?,
            Op::Write(place, extra) => {
                if place.begins() {
                    packet.take_remote(&mut rest)?;
                }
                packet.take_extra(extra, &mut rest)?;
            }
            Op::ReadRequest | Op::AtomicWrite => packet.take_remote(&mut rest)?,
            Op::ReadResponse(place) => {
                if place.begins() || place.ends() {
                    packet.take_aeth(&mut rest)?;
                }
            }
            Op::Acknowledge => packet.take_aeth(&mut rest)?,
            Op::AtomicAcknowledge => {
                packet.take_aeth(&mut rest)?;
                let ack: AtomicAckEth = take(&mut rest)?;
                packet.original = ack.original.get();
            }
            Op::CmpSwp | Op::FetchAdd => {
                let eth: AtomicEth = take(&mut rest)?;
                packet.atomic = Atomic {
                    va: eth.va.get(),
                    rkey: eth.rkey.get(),
                    swap_add: eth.swap_add.get(),
                    compare: eth.compare.get(),
                };
            }
            Op::Flush => {
                let feth: Feth = take(&mut rest)?;
                packet.flush = feth.word.get();
                packet.take_remote(&mut rest)?;
            }
            Op::Reserved(_) => {}
        }
        let payload_at = header_len(opcode);
        let pad = usize::from((bth.flags & BTH_PAD) >> BTH_PAD_SHIFT);
        let padded = len
            .checked_sub(payload_at + ICRC_LEN)
            .ok_or(Malformed::Truncated)?;
        if padded % 4 != 0 || pad > padded {
            return Err(Malformed::Pad);
        }
        Ok(Received {
            packet,
            payload_at,
            payload_len: padded - pad,
        })
    }

    fn take_remote(&mut self, rest: &mut &[u8]) -> Result<(), Malformed> {
        let reth: Reth = take(rest)?;
        self.remote = Remote {
            va: reth.va.get(),
            rkey: reth.rkey.get(),
            length: reth.length.get(),
        };
        Ok(())
    }

    fn take_aeth(&mut self, rest: &mut &[u8]) -> Result<(), Malformed> {
        let aeth: Aeth = take(rest)?;
        let [syndrome, ..] = aeth.word.to_bytes();
        self.syndrome = syndrome;
        self.msn = aeth.word.get() & MASK_24;
        Ok(())
    }

    fn take_extra(&mut self, extra: Extra, rest: &mut &[u8]) -> Result<(), Malformed> {
        match extra {
            Extra::None => {}
            Extra::Imm => self.extra = u32::from_ne_bytes(take(rest)?),
            Extra::Inv => self.extra = take::<U32>(rest)?.get(),
        }
        Ok(())
    }

    /// Writes the headers of a packet with this payload. Returns their length; `None` if `out` is too
    /// short, or the service has no such operation.
    pub fn emit(&self, payload_len: usize, out: &mut [u8]) -> Option<usize> {
        let mut at = 0;
        let bth = Bth {
            opcode: self.opcode.number()?,
            flags: BTH_MIGRATED
                | if self.solicited { BTH_SOLICITED } else { 0 }
                | ((pad_of(payload_len) as u8) << BTH_PAD_SHIFT),
            pkey: U16::new(self.pkey),
            qpn: U32::new(self.qpn & MASK_24),
            psn: U32::new(self.psn.get() | if self.ack_request { BTH_ACK_REQUEST } else { 0 }),
        };
        put(out, &mut at, &bth)?;
        if self.opcode.service == Service::Ud {
            let deth = Deth {
                qkey: U32::new(self.datagram.qkey),
                src_qpn: U32::new(self.datagram.src_qpn & MASK_24),
            };
            put(out, &mut at, &deth)?;
        }
        match self.opcode.op {
            Op::Send(_, extra) => self.put_extra(extra, out, &mut at)?,
            Op::Write(place, extra) => {
                if place.begins() {
                    self.put_remote(out, &mut at)?;
                }
                self.put_extra(extra, out, &mut at)?;
            }
            Op::ReadRequest | Op::AtomicWrite => self.put_remote(out, &mut at)?,
            Op::ReadResponse(place) => {
                if place.begins() || place.ends() {
                    self.put_aeth(out, &mut at)?;
                }
            }
            Op::Acknowledge => self.put_aeth(out, &mut at)?,
            Op::AtomicAcknowledge => {
                self.put_aeth(out, &mut at)?;
                let ack = AtomicAckEth {
                    original: U64::new(self.original),
                };
                put(out, &mut at, &ack)?;
            }
            Op::CmpSwp | Op::FetchAdd => {
                let eth = AtomicEth {
                    va: U64::new(self.atomic.va),
                    rkey: U32::new(self.atomic.rkey),
                    swap_add: U64::new(self.atomic.swap_add),
                    compare: U64::new(self.atomic.compare),
                };
                put(out, &mut at, &eth)?;
            }
            Op::Flush => {
                let feth = Feth {
                    word: U32::new(self.flush),
                };
                put(out, &mut at, &feth)?;
                self.put_remote(out, &mut at)?;
            }
            Op::Reserved(_) => {}
        }
        Some(at)
    }

    fn put_remote(&self, out: &mut [u8], at: &mut usize) -> Option<()> {
        let reth = Reth {
            va: U64::new(self.remote.va),
            rkey: U32::new(self.remote.rkey),
            length: U32::new(self.remote.length),
        };
        put(out, at, &reth)
    }

    fn put_aeth(&self, out: &mut [u8], at: &mut usize) -> Option<()> {
        let aeth = Aeth {
            word: U32::new(u32::from(self.syndrome) << 24 | self.msn & MASK_24),
        };
        put(out, at, &aeth)
    }

    fn put_extra(&self, extra: Extra, out: &mut [u8], at: &mut usize) -> Option<()> {
        match extra {
            Extra::None => Some(()),
            Extra::Imm => put(out, at, &self.extra.to_ne_bytes()),
            Extra::Inv => put(out, at, &U32::new(self.extra)),
        }
    }
}

/// Takes a header from the front of `rest`.
fn take<T: FromBytes>(rest: &mut &[u8]) -> Result<T, Malformed> {
    let (value, behind) = T::read_from_prefix(rest).map_err(|_| Malformed::Truncated)?;
    *rest = behind;
    Ok(value)
}

/// Puts a header to `at` of `out`.
fn put<T: IntoBytes + Immutable>(out: &mut [u8], at: &mut usize, hdr: &T) -> Option<()> {
    let bytes = hdr.as_bytes();
    out.get_mut(*at..)?
        .get_mut(..bytes.len())?
        .copy_from_slice(bytes);
    *at += bytes.len();
    Some(())
}
