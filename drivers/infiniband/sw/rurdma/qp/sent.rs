// SPDX-License-Identifier: GPL-2.0

//! Sends between their start and their completion.
//!
//! Work requests complete in the order in which they were posted, while reads are done when the peer
//! has answered, and everything else when the transport has taken it.

use super::Qp;
use crate::cq::status::{SUCCESS, WR_FLUSH_ERR};
use crate::proto::wqe::abi::Cqe;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;

/// A send that was started.
#[derive(Clone, Copy, Default)]
pub(crate) struct Record {
    /// Returned in the completion.
    pub(crate) wr_id: u64,
    /// Length of the message.
    pub(crate) byte_len: u32,
    /// Units of the ring that it takes.
    pub(crate) units: u8,
    /// `enum ib_wc_opcode`.
    pub(crate) opcode: u8,
    /// A success is told, too.
    pub(crate) signaled: bool,
    /// Waits for the peer's answer, not only for the transport.
    pub(crate) awaits_peer: bool,
    /// Never told.
    pub(crate) silent: bool,
    /// `enum rurdma_vendor_err`: why it was refused.
    pub(crate) vendor_err: u32,
}

/// A record, and what has become of it.
#[derive(Clone, Copy, Default)]
struct Entry {
    record: Record,
    done: bool,
    status: u8,
}

/// Sends that were started and have not completed, in order.
pub(crate) struct Sent {
    records: KVVec<Entry>,
    /// Number of the oldest.
    head: u32,
    /// Number of the next.
    tail: u32,
    /// Length of all that were started; it wraps.
    bytes: u32,
    /// Ring index up to which entries were given back.
    units: u32,
    /// One completed in error: all behind it are flushed, even what the transport has taken.
    failed: bool,
}

/// How far the sends of a QP are.
pub(crate) struct Progress {
    /// How many were started ever, and their length; both wrap.
    pub(crate) begun: u32,
    pub(crate) bytes: u32,
    /// Some are not complete.
    pub(crate) behind: bool,
}

impl Sent {
    /// Room for `max` sends.
    pub(super) fn new(max: u32) -> Result<Self> {
        let depth = max.max(1).next_power_of_two();
        Ok(Self {
            records: KVVec::from_elem(Entry::default(), depth as usize, GFP_KERNEL)?,
            head: 0,
            tail: 0,
            bytes: 0,
            units: 0,
            failed: false,
        })
    }

    fn slot(&mut self, number: u32) -> Option<&mut Entry> {
        let mask = self.records.len().wrapping_sub(1);
        self.records.get_mut(number as usize & mask)
    }

    /// Whether all are complete.
    pub(crate) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// How many more sends may be started. It becomes less by those that are started, and by nothing else.
    pub(crate) fn room(&self) -> usize {
        let used = self.tail.wrapping_sub(self.head) as usize;
        self.records.len().saturating_sub(used)
    }

    /// Whether another send may be started.
    pub(crate) fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            begun: self.tail,
            bytes: self.bytes,
            behind: !self.is_empty(),
        }
    }

    /// Starts a send; gives its number. The caller made sure of the room.
    pub(crate) fn start(&mut self, record: Record) -> u32 {
        let number = self.tail;
        self.bytes = self.bytes.wrapping_add(record.byte_len);
        if let Some(slot) = self.slot(number) {
            *slot = Entry {
                record,
                ..Entry::default()
            };
            self.tail = number.wrapping_add(1);
        }
        number
    }

    /// The transport has taken everything below `number`.
    pub(crate) fn taken(&mut self, from: u32, to: u32) {
        let mut number = from;
        while number != to {
            if let Some(entry) = self.slot(number) {
                entry.done |= !entry.record.awaits_peer;
            }
            number = number.wrapping_add(1);
        }
    }

    /// A send is done, with this status. Later numbers may still be on their way.
    pub(crate) fn done(&mut self, number: u32, status: u8) {
        if number.wrapping_sub(self.head) >= self.tail.wrapping_sub(self.head) {
            return;
        }
        if let Some(entry) = self.slot(number).filter(|e| !e.done) {
            entry.done = true;
            entry.status = status;
        }
    }

    /// The oldest one that waits for the peer.
    pub(crate) fn oldest_awaiting_peer(&mut self) -> Option<u32> {
        let mut number = self.head;
        while number != self.tail {
            if self
                .slot(number)
                .is_some_and(|e| e.record.awaits_peer && !e.done)
            {
                return Some(number);
            }
            number = number.wrapping_add(1);
        }
        None
    }

    /// Everything that is not done is done now: flushed.
    pub(super) fn flush(&mut self) {
        let mut number = self.head;
        while number != self.tail {
            self.done(number, WR_FLUSH_ERR);
            number = number.wrapping_add(1);
        }
    }

    /// Starts and ends a NOP: it gives its units back in its turn, and nobody hears of it.
    pub(crate) fn nop(&mut self, units: u32) {
        let number = self.start(Record {
            units: units as u8,
            silent: true,
            ..Record::default()
        });
        self.done(number, SUCCESS);
    }

    /// SQE → RTS: what comes now is not flushed.
    pub(super) fn resume(&mut self) {
        self.failed = false;
    }

    /// Forgets everything (→ RESET).
    pub(super) fn reset(&mut self) {
        self.head = 0;
        self.tail = 0;
        self.units = 0;
        self.failed = false;
    }
}

impl Sent {
    /// A work request that makes no sense is over when it begins.
    pub(crate) fn refuse(&mut self, wr_id: u64, units: u8, status: u8, vendor_err: u32) {
        let number = self.start(Record {
            wr_id,
            units,
            vendor_err,
            ..Record::default()
        });
        self.done(number, status);
    }
}

impl Qp {
    /// Completes, in order, what is done, and gives the ring's entries back. True if the CQ is lost.
    /// Any context. Called with `sent` locked, so that completions keep their order.
    pub(crate) fn complete_sent(&self, sent: &mut Sent) -> bool {
        let before = sent.units;
        let lost = self.send_cq.push_all(|| self.next_told(sent)).is_err();
        if sent.units != before {
            self.publish_sq(sent.units);
        }
        lost
    }

    /// Completes what is done, up to the first that is to be told, and gives that: its completion, and whether it
    /// failed.
    fn next_told(&self, sent: &mut Sent) -> Option<(Cqe, bool)> {
        while sent.head != sent.tail {
            let entry = sent.slot(sent.head).filter(|e| e.done).copied()?;
            let record = &entry.record;
            sent.head = sent.head.wrapping_add(1);
            sent.units = sent.units.wrapping_add(u32::from(record.units));
            let status = match entry.status {
                SUCCESS if sent.failed => WR_FLUSH_ERR,
                status => status,
            };
            sent.failed |= status != SUCCESS;
            let tell = record.signaled || self.sig_all || status != SUCCESS;
            if tell && !record.silent {
                // The provider may reuse the entry as soon as it polls the completion.
                self.publish_sq(sent.units);
                return Some((self.completion(record, status), status != SUCCESS));
            }
        }
        None
    }

    fn publish_sq(&self, units: u32) {
        use crate::proto::sync::Word as _;
        self.sq.consumer().store_release(units);
    }

    fn completion(&self, record: &Record, status: u8) -> Cqe {
        Cqe {
            wr_id: record.wr_id,
            byte_len: record.byte_len,
            qp_num: self.number,
            // One that is flushed was never looked at, as far as anybody is told.
            vendor_err: if status == WR_FLUSH_ERR {
                0
            } else {
                record.vendor_err
            },
            status,
            opcode: record.opcode,
            vlan_id: 0xffff,
            ..Cqe::default()
        }
    }
}
