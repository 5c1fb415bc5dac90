// SPDX-License-Identifier: GPL-2.0

//! Completions of receives, told together.

use super::{Failure, Rx};
use crate::proto::wire::terminate::TermError;
use crate::proto::wqe::abi::Cqe;
use crate::qp::{Cause, Qp};
use kernel::prelude::*;

/// Completions that may wait for others.
const MAX: usize = 8;
/// Bytes of payload that may be placed meanwhile: what is complete is told soon.
const PATIENCE: usize = 8192;

/// Receives that are complete, in order, and whether their senders want an event.
///
/// Small messages come many in one piece of the stream. To tell each by itself costs a lock and a fence, and the
/// CPU that polls reads the line that is written each time.
pub(super) struct Told {
    list: [(Cqe, bool); MAX],
    len: usize,
    /// Bytes that were placed since the first one.
    placed: usize,
}

impl Told {
    pub(super) fn new() -> Self {
        Self {
            list: [(Cqe::default(), false); MAX],
            len: 0,
            placed: 0,
        }
    }

    /// `n` more bytes were placed. True if what waits has waited long enough.
    pub(super) fn waits(&mut self, n: usize) -> bool {
        if self.len == 0 {
            return false;
        }
        self.placed += n;
        self.placed > PATIENCE
    }
}

impl Rx {
    /// A receive is complete: it is told at the end of this piece of the stream, or earlier.
    pub(super) fn tell(&mut self, qp: &Qp, cqe: Cqe, solicited: bool) -> Result<(), Failure> {
        if self.told.len == MAX {
            self.tell_all(qp)?;
        }
        if let Some(place) = self.told.list.get_mut(self.told.len) {
            *place = (cqe, solicited);
            self.told.len += 1;
        }
        Ok(())
    }

    /// Tells what is complete. Before anything else of the QP's receives is told.
    pub(super) fn tell_all(&mut self, qp: &Qp) -> Result<(), Failure> {
        let told = &mut self.told;
        let len = core::mem::take(&mut told.len);
        told.placed = 0;
        let mut list = told.list.iter().take(len);
        qp.recv_cq
            .push_all(|| list.next().copied())
            .map_err(|_| Failure {
                error: TermError::RDMAP_CATASTROPHIC,
                cause: Cause::Fatal,
            })
    }
}
