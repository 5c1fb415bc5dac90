// SPDX-License-Identifier: GPL-2.0

//! The InfiniBand transport over UDP, RoCEv2 (IBTA volume 1, chapters 5 and 9, annex A17).
//!
//! A datagram for [`UDP_PORT`] is: BTH, the extended headers that its opcode asks for, payload, 0 to 3
//! bytes of pad, ICRC.

#![forbid(unsafe_code)]

pub mod flush;
pub mod hdr;
pub mod icrc;
pub mod ip;
pub mod opcode;
pub mod packet;
pub mod syndrome;

/// The destination port of RoCEv2 (annex A17.3.2).
pub const UDP_PORT: u16 = 4791;
/// Bytes of the ICRC.
pub const ICRC_LEN: usize = 4;
/// The only P_Key of a RoCE port.
pub const DEFAULT_PKEY: u16 = 0xffff;
/// The QP number of the general services interface.
pub const QPN_GSI: u32 = 1;
/// The destination of packets for a multicast group.
pub const QPN_MULTICAST: u32 = 0xff_ffff;
