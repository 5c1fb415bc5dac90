// SPDX-License-Identifier: GPL-2.0

//! MPA connection establishment over a socket; what is said is `proto::iwarp::negotiate`'s matter.

use crate::kapi::net::socket::Socket;
use crate::kapi::params;
use crate::proto::iwarp::mpa_rx::{Frame, MpaRx};
use crate::proto::iwarp::negotiate::{Agreed, Depths, MpaError, RtrSet, Wishes};
use crate::proto::iwarp::tx::{FpduEncoder, Header};
use crate::proto::wire::mpa::{MAX_FRAME_LEN, REV_1, REV_2};
use crate::proto::wire::terminate::{TermError, TerminateBody};
use crate::transport::iwarp::tx::KernelCrc;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::Atomic;

/// What an administrator can turn when the module is loaded.
pub(crate) struct Knobs {
    /// Initiate with this MPA revision. 2; the responder follows the initiator.
    revision: Atomic<u32>,
    /// Initiate in the peer-to-peer model, with a ready-to-receive message: then the responder may
    /// be the first to send, as many programs have it. On.
    peer_to_peer: Atomic<bool>,
}

impl Knobs {
    /// Sets all of them, for connections from now on.
    pub(crate) fn set(&self, revision: u8, peer_to_peer: bool) {
        self.revision.store(u32::from(revision), Relaxed);
        self.peer_to_peer.store(peer_to_peer, Relaxed);
    }
}

/// For all links.
pub(crate) static KNOBS: Knobs = Knobs {
    revision: Atomic::new(REV_2 as u32),
    peer_to_peer: Atomic::new(true),
};

/// What this end wants, for reads as the consumer asks for.
pub(super) fn wishes(ird: u32, ord: u32, max: u32) -> Wishes {
    let depth = |n: u32| n.min(max).min(u32::from(u16::MAX)) as u16;

    Wishes {
        // CRCs are used if either end asks (RFC 5044 section 4.4).
        crc: params::mpa_crc(),
        rev: if KNOBS.revision.load(Relaxed) <= u32::from(REV_1) {
            REV_1
        } else {
            REV_2
        },
        depths: Depths {
            ird: depth(ird),
            ord: depth(ord),
        },
        max_ird: depth(max),
        p2p: KNOBS.peer_to_peer.load(Relaxed),
        rtr: RtrSet::ALL,
    }
}

/// What was received so far.
pub(super) struct Received {
    /// The frame, when it is complete.
    pub(super) frame: core::result::Result<Option<Frame>, MpaError>,
    /// The peer has closed its end, and everything before that was read.
    pub(super) closed: bool,
}

/// Reads as much of a frame as there is, and nothing behind it.
pub(super) fn receive(socket: &Socket, rx: &mut MpaRx) -> Received {
    socket.with_lock(|sk| {
        let mut frame = Ok(rx.frame().copied());
        // What cannot be read shows as closed.
        let _ = sk.read(usize::MAX, |chunk| {
            let mut used = 0;
            while let Ok(None) = frame {
                let want = rx.want();
                let n = want.len().min(chunk.len() - used);
                let Some(to) = want.get_mut(..n).filter(|to| !to.is_empty()) else {
                    break;
                };
                if chunk.copy_to_slice(used, to).is_err() {
                    frame = Err(MpaError::Mismatch);
                    break;
                }
                used += n;
                frame = rx.filled(n);
            }
            used
        });
        Received {
            frame,
            closed: sk.peer_closed(),
        }
    })
}

/// Reads and forgets what there is. True: the peer has closed its end.
pub(super) fn discard(socket: &Socket) -> bool {
    socket.with_lock(|sk| {
        // A connection that cannot be read is closed.
        let _ = sk.read(usize::MAX, |chunk| chunk.len());
        sk.peer_closed()
    })
}

/// Builds a frame and sends it whole: at this point the socket's buffer is empty.
pub(super) fn send<T>(
    socket: &Socket,
    build: impl FnOnce(&mut [u8]) -> Result<(usize, T)>,
) -> Result<T> {
    let mut buf = [0; MAX_FRAME_LEN];
    let (len, ret) = build(&mut buf)?;
    let frame = buf.get(..len).ok_or(EINVAL)?;

    if socket.send_bytes(frame)? == len {
        Ok(ret)
    } else {
        Err(ENOMEM)
    }
}

/// Sends a Terminate as the first and last FPDU of a stream that does not come to be.
pub(super) fn send_terminate(socket: &Socket, error: TermError, agreed: &Agreed) {
    let sent = send(socket, |buf| {
        let body = TerminateBody::build(error, None);
        let len = FpduEncoder::new(agreed.crc, agreed.tx_markers)
            .control::<KernelCrc>(buf, &Header::terminate(), body.as_bytes())
            .ok_or(EINVAL)?;
        Ok((len, ()))
    });
    // If that fails the peer learns from the FIN.
    let _ = sent;
}
