// SPDX-License-Identifier: GPL-2.0

//! Send queue entries.

#![forbid(unsafe_code)]

use super::abi::{self, opcode, ExtAtomic, ExtBind, ExtFlush, ExtReg, ExtUd, SendHdr};
use super::{SgeList, WqeError, MAX_MSG};
use zerocopy::{FromBytes, IntoBytes as _};

/// Checked `enum rurdma_send_flags`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendFlags(u8);

impl SendFlags {
    /// `RURDMA_SEND_SIGNALED`.
    pub const SIGNALED: SendFlags = SendFlags(1 << 0);
    /// `RURDMA_SEND_SOLICITED`.
    pub const SOLICITED: SendFlags = SendFlags(1 << 1);
    /// `RURDMA_SEND_FENCE`.
    pub const FENCE: SendFlags = SendFlags(1 << 2);
    /// `RURDMA_SEND_INLINE`; set by the encoder, callers look at [`Data`].
    const INLINE: SendFlags = SendFlags(1 << 3);
    /// All that exist.
    const ALL: SendFlags = SendFlags(0xf);

    /// No flags.
    pub const fn empty() -> Self {
        SendFlags(0)
    }

    /// These flags and `other`.
    #[must_use]
    pub const fn with(self, other: SendFlags) -> Self {
        SendFlags(self.0 | other.0)
    }

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: SendFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Memory of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// First address (tagged offset).
    pub addr: u64,
    /// Key (STag).
    pub rkey: u32,
}

/// What a send queue entry asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOp {
    /// Nothing; no completion either.
    Nop,
    /// Send.
    Send,
    /// Send with immediate data (the four bytes of the wire, as they stand in memory).
    SendImm(u32),
    /// Send that invalidates a key of the peer.
    SendInv(u32),
    /// RDMA write.
    Write(Remote),
    /// RDMA write with immediate data.
    WriteImm(Remote, u32),
    /// RDMA read.
    Read(Remote),
    /// RDMA read, then invalidate the sink's key. Kernel users only.
    ReadInv(Remote),
    /// Compare and swap.
    CmpSwp(Remote, ExtAtomic),
    /// Fetch and add.
    FetchAdd(Remote, ExtAtomic),
    /// Invalidate a local key.
    LocalInv(u32),
    /// Fast registration: the key, and the access rights it gets. Kernel users only.
    RegMr(u32, ExtReg),
    /// Bind a memory window: a key of it, and the rest.
    BindMw(u32, ExtBind),
    /// Atomic write of 8 bytes.
    AtomicWrite(Remote),
    /// Flush.
    Flush(Remote, ExtFlush),
}

/// Bit of an opcode in [`SendLimits::ops`].
const fn op_bit(op: u8) -> u32 {
    1 << op
}

/// Opcodes of the operations that every iWARP queue has.
pub const OPS_IWARP: u32 = op_bit(opcode::NOP)
    | op_bit(opcode::SEND)
    | op_bit(opcode::SEND_INV)
    | op_bit(opcode::WRITE)
    | op_bit(opcode::READ)
    | op_bit(opcode::LOCAL_INV)
    | op_bit(opcode::BIND_MW);
/// Opcodes that kernel users have in addition.
pub const OPS_KERNEL: u32 = op_bit(opcode::READ_INV) | op_bit(opcode::REG_MR);
/// Opcodes of a datagram queue.
pub const OPS_UD: u32 = op_bit(opcode::NOP) | op_bit(opcode::SEND) | op_bit(opcode::SEND_IMM);
/// Opcodes of a UC queue.
pub const OPS_UC: u32 = OPS_UD
    | op_bit(opcode::WRITE)
    | op_bit(opcode::WRITE_IMM)
    | op_bit(opcode::LOCAL_INV)
    | op_bit(opcode::BIND_MW);
/// Opcodes of atomic operations.
pub const OPS_ATOMIC: u32 = op_bit(opcode::CMP_SWP) | op_bit(opcode::FETCH_ADD);
/// Opcode of an atomic write.
pub const OP_ATOMIC_WRITE: u32 = op_bit(opcode::ATOMIC_WRITE);
/// Opcode of a flush.
pub const OP_FLUSH: u32 = op_bit(opcode::FLUSH);
/// Opcodes of an RC queue.
pub const OPS_RC: u32 = OPS_UC
    | op_bit(opcode::SEND_INV)
    | op_bit(opcode::READ)
    | OPS_ATOMIC
    | OP_ATOMIC_WRITE
    | OP_FLUSH;
/// Opcodes that kernel users of connected queues have in addition.
pub const OPS_CONNECTED_KERNEL: u32 = op_bit(opcode::REG_MR);
/// Opcodes of RFC 7306. SEND_IMM is none: Immediate Data is a message of its own and takes a receive
/// buffer of its own (section 6.3), so a Send with it would take two, where verbs have one.
pub const OPS_RFC7306: u32 = op_bit(opcode::WRITE_IMM) | OPS_ATOMIC;

/// What a queue grants.
#[derive(Clone, Copy, Debug)]
pub struct SendLimits {
    /// Allowed opcodes: bit n is opcode n.
    pub ops: u32,
    /// Whether every entry has a UD extension (UD and GSI queues).
    pub ud: bool,
    /// SGEs per entry.
    pub max_sge: u8,
    /// SGEs of an RDMA read.
    pub max_sge_rd: u8,
    /// Bytes of inline data per entry.
    pub max_inline: u16,
}

/// Where the data of an entry is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Data<'a> {
    /// In (or, for reads, to go to) local memory.
    Sges(SgeList<'a>),
    /// In the entry.
    Inline(&'a [u8]),
}

impl Data<'_> {
    /// No data.
    pub const NONE: Data<'static> = Data::Sges(SgeList::EMPTY);
}

/// A checked send queue entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SendWqe<'a> {
    /// Returned in the completion.
    pub wr_id: u64,
    /// What to do.
    pub op: SendOp,
    /// How.
    pub flags: SendFlags,
    /// With which data.
    pub data: Data<'a>,
    /// Length of the data, at most [`MAX_MSG`].
    pub length: u32,
    /// To whom, for queues that have no peer.
    pub ud: Option<ExtUd>,
}

/// Whether entries of this opcode have an extension of their own.
const fn has_ext(op: u8) -> bool {
    matches!(
        op,
        opcode::CMP_SWP | opcode::FETCH_ADD | opcode::REG_MR | opcode::BIND_MW | opcode::FLUSH
    )
}

impl<'a> SendWqe<'a> {
    /// The `wr_id` in the private copy of an entry, for the completion of one that does not parse.
    pub fn wr_id(bytes: &[u8]) -> u64 {
        SendHdr::read_from_prefix(bytes).map_or(0, |(h, _)| h.wr_id)
    }

    /// Units that the entry says it has, from its first unit.
    pub fn units(bytes: &[u8]) -> Option<u8> {
        let (hdr, _) = SendHdr::read_from_prefix(bytes).ok()?;
        (hdr.units >= 1 && usize::from(hdr.units) <= abi::MAX_SEND_UNITS).then_some(hdr.units)
    }

    /// Checks the private copy of an entry.
    pub fn parse(bytes: &'a [u8], limits: &SendLimits) -> Result<Self, WqeError> {
        let (hdr, rest) = SendHdr::read_from_prefix(bytes).map_err(|_| WqeError::Truncated)?;
        let units = usize::from(Self::units(bytes).ok_or(WqeError::Units)?);
        if hdr.opcode >= 32 || limits.ops & op_bit(hdr.opcode) == 0 {
            return Err(WqeError::Opcode);
        }
        if hdr.opcode == opcode::NOP {
            return Ok(SendWqe {
                wr_id: hdr.wr_id,
                op: SendOp::Nop,
                flags: SendFlags::empty(),
                data: Data::NONE,
                length: 0,
                ud: None,
            });
        }
        let flags = SendFlags(hdr.flags);
        if !SendFlags::ALL.contains(flags) {
            return Err(WqeError::Flags);
        }
        // What exceeds the units does not belong to the entry.
        let avail = (units * abi::WQE_UNIT).saturating_sub(abi::SEND_HDR);
        let body = rest.get(..avail).ok_or(WqeError::Truncated)?;

        let (ud, ext, body) = if limits.ud {
            let (ud, body) = ExtUd::read_from_prefix(body).map_err(|_| WqeError::Units)?;
            (Some(ud), None, body)
        } else if has_ext(hdr.opcode) {
            let ext = body.get(..abi::SEND_EXT).ok_or(WqeError::Units)?;
            let body = body.get(abi::SEND_EXT..).ok_or(WqeError::Units)?;
            (None, Some(ext), body)
        } else {
            (None, None, body)
        };

        let remote = Remote {
            addr: hdr.remote_addr,
            rkey: hdr.rkey,
        };
        let op = match hdr.opcode {
            opcode::SEND => SendOp::Send,
            opcode::SEND_IMM => SendOp::SendImm(hdr.imm_inv),
            opcode::SEND_INV => SendOp::SendInv(hdr.imm_inv),
            opcode::WRITE => SendOp::Write(remote),
            opcode::WRITE_IMM => SendOp::WriteImm(remote, hdr.imm_inv),
            opcode::READ => SendOp::Read(remote),
            opcode::READ_INV => SendOp::ReadInv(remote),
            opcode::CMP_SWP => SendOp::CmpSwp(remote, read_ext(ext)?),
            opcode::FETCH_ADD => SendOp::FetchAdd(remote, read_ext(ext)?),
            opcode::LOCAL_INV => SendOp::LocalInv(hdr.imm_inv),
            opcode::REG_MR => SendOp::RegMr(hdr.imm_inv, read_ext(ext)?),
            opcode::BIND_MW => SendOp::BindMw(hdr.rkey, read_ext(ext)?),
            opcode::ATOMIC_WRITE => SendOp::AtomicWrite(remote),
            opcode::FLUSH => {
                let ext: ExtFlush = read_ext(ext)?;
                if ext.kind == 0 || ext.kind > 3 || ext.level > 1 {
                    return Err(WqeError::Field);
                }
                // The wire has 32 bits for it; of a whole region it says nothing.
                if ext.level == 0 && u32::try_from(ext.length).is_err() {
                    return Err(WqeError::Length);
                }
                SendOp::Flush(remote, ext)
            }
            _ => return Err(WqeError::Opcode),
        };
        if limits.ud && !matches!(op, SendOp::Send | SendOp::SendImm(_)) {
            return Err(WqeError::Opcode);
        }
        let (data, length) = Self::parse_data(&hdr, op, flags, body, limits)?;
        Ok(SendWqe {
            wr_id: hdr.wr_id,
            op,
            flags: SendFlags(hdr.flags & !SendFlags::INLINE.0),
            data,
            length,
            ud,
        })
    }

    /// Checks the part behind header and extension.
    fn parse_data(
        hdr: &SendHdr,
        op: SendOp,
        flags: SendFlags,
        body: &'a [u8],
        limits: &SendLimits,
    ) -> Result<(Data<'a>, u32), WqeError> {
        /// What an operation can have as data.
        enum Takes {
            /// None.
            Nothing,
            /// Anything.
            Any,
            /// SGEs to write to.
            Sink,
            /// 8 bytes to write to.
            Sink8,
            /// 8 bytes.
            Exactly8,
        }
        let takes = match op {
            SendOp::Nop
            | SendOp::LocalInv(_)
            | SendOp::RegMr(..)
            | SendOp::BindMw(..)
            | SendOp::Flush(..) => Takes::Nothing,
            SendOp::Send
            | SendOp::SendImm(_)
            | SendOp::SendInv(_)
            | SendOp::Write(_)
            | SendOp::WriteImm(..) => Takes::Any,
            SendOp::Read(_) | SendOp::ReadInv(_) => Takes::Sink,
            SendOp::CmpSwp(..) | SendOp::FetchAdd(..) => Takes::Sink8,
            SendOp::AtomicWrite(_) => Takes::Exactly8,
        };

        if flags.contains(SendFlags::INLINE) {
            if !matches!(takes, Takes::Any | Takes::Exactly8) || hdr.num_sge != 0 {
                return Err(WqeError::Inline);
            }
            if hdr.inline_len > u32::from(limits.max_inline) {
                return Err(WqeError::Inline);
            }
            if matches!(takes, Takes::Exactly8) && hdr.inline_len != 8 {
                return Err(WqeError::Length);
            }
            let data = body.get(..hdr.inline_len as usize).ok_or(WqeError::Units)?;
            return Ok((Data::Inline(data), hdr.inline_len));
        }

        let max = match takes {
            Takes::Nothing => 0,
            Takes::Any => limits.max_sge,
            Takes::Sink => limits.max_sge_rd,
            Takes::Sink8 | Takes::Exactly8 => 1,
        };
        if hdr.num_sge > max {
            return Err(WqeError::SgeCount);
        }
        let sges = SgeList::parse(body, usize::from(hdr.num_sge)).ok_or(WqeError::Units)?;
        let total = sges.total();
        if total > u64::from(MAX_MSG)
            || (matches!(takes, Takes::Sink8 | Takes::Exactly8) && total != 8)
        {
            return Err(WqeError::Length);
        }
        // At most MAX_MSG, so no bits are lost.
        Ok((Data::Sges(sges), total as u32))
    }

    /// Writes the entry as it stands in a ring, the inverse of [`Self::parse`]. Returns the units
    /// that it takes; `buf` needs `abi::MAX_SEND_BYTES` bytes at most.
    pub fn encode(&self, buf: &mut [u8]) -> Result<u8, WqeError> {
        let mut hdr = SendHdr {
            wr_id: self.wr_id,
            flags: self.flags.0 & !SendFlags::INLINE.0,
            ..SendHdr::default()
        };
        let mut ext = [0u8; abi::SEND_EXT];
        let mut remote = None;
        let mut ext_used = false;
        hdr.opcode = match self.op {
            SendOp::Nop => opcode::NOP,
            SendOp::Send => opcode::SEND,
            SendOp::SendImm(v) => {
                hdr.imm_inv = v;
                opcode::SEND_IMM
            }
            SendOp::SendInv(v) => {
                hdr.imm_inv = v;
                opcode::SEND_INV
            }
            SendOp::Write(r) => {
                remote = Some(r);
                opcode::WRITE
            }
            SendOp::WriteImm(r, v) => {
                remote = Some(r);
                hdr.imm_inv = v;
                opcode::WRITE_IMM
            }
            SendOp::Read(r) => {
                remote = Some(r);
                opcode::READ
            }
            SendOp::ReadInv(r) => {
                remote = Some(r);
                opcode::READ_INV
            }
            SendOp::CmpSwp(r, e) => {
                remote = Some(r);
                ext_used = put(&mut ext, e.as_bytes());
                opcode::CMP_SWP
            }
            SendOp::FetchAdd(r, e) => {
                remote = Some(r);
                ext_used = put(&mut ext, e.as_bytes());
                opcode::FETCH_ADD
            }
            SendOp::LocalInv(v) => {
                hdr.imm_inv = v;
                opcode::LOCAL_INV
            }
            SendOp::RegMr(v, e) => {
                hdr.imm_inv = v;
                ext_used = put(&mut ext, e.as_bytes());
                opcode::REG_MR
            }
            SendOp::BindMw(v, e) => {
                hdr.rkey = v;
                ext_used = put(&mut ext, e.as_bytes());
                opcode::BIND_MW
            }
            SendOp::AtomicWrite(r) => {
                remote = Some(r);
                opcode::ATOMIC_WRITE
            }
            SendOp::Flush(r, e) => {
                remote = Some(r);
                ext_used = put(&mut ext, e.as_bytes());
                opcode::FLUSH
            }
        };
        if let Some(r) = remote {
            hdr.remote_addr = r.addr;
            hdr.rkey = r.rkey;
        }
        if let Some(ud) = &self.ud {
            ext_used = put(&mut ext, ud.as_bytes());
        }
        let payload = match self.data {
            Data::Sges(s) => {
                if s.len() > abi::MAX_SGE {
                    return Err(WqeError::SgeCount);
                }
                hdr.num_sge = s.len() as u8;
                s.as_bytes()
            }
            Data::Inline(d) => {
                if d.len() > abi::MAX_INLINE {
                    return Err(WqeError::Inline);
                }
                hdr.flags |= SendFlags::INLINE.0;
                hdr.inline_len = d.len() as u32;
                d
            }
        };
        let ext: &[u8] = if ext_used { &ext } else { &[] };
        let bytes = abi::SEND_HDR + ext.len() + payload.len();
        let units = bytes.div_ceil(abi::WQE_UNIT);
        hdr.units = units as u8;
        let buf = buf
            .get_mut(..units * abi::WQE_UNIT)
            .ok_or(WqeError::Truncated)?;
        let mut rest = buf;
        for part in [hdr.as_bytes(), ext, payload] {
            let (head, tail) = rest
                .split_at_mut_checked(part.len())
                .ok_or(WqeError::Truncated)?;
            head.copy_from_slice(part);
            rest = tail;
        }
        rest.fill(0);
        Ok(hdr.units)
    }
}

/// Reads the extension that [`has_ext`] promised.
fn read_ext<T: FromBytes>(ext: Option<&[u8]>) -> Result<T, WqeError> {
    let ext = ext.ok_or(WqeError::Opcode)?;
    T::read_from_bytes(ext).map_err(|_| WqeError::Truncated)
}

/// Fills `dst` from `src`; always true.
fn put(dst: &mut [u8; abi::SEND_EXT], src: &[u8]) -> bool {
    for (d, s) in dst.iter_mut().zip(src) {
        *d = *s;
    }
    true
}
