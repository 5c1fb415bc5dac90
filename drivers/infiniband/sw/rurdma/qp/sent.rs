// SPDX-License-Identifier: GPL-2.0

//! Sends between their start and their completion.
//!
//! Work requests complete in the order in which they were posted, while reads are done when the peer
//! has answered, and everything else when the transport has taken it.

use super::Qp;
use crate::cq::{status, Cq};
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
    done: bool,
    status: u8,
}

/// Sends that were started and have not completed, in order.
pub(crate) struct Sent {
    records: KVVec<Record>,
    /// Number of the oldest.
    head: u32,
    /// Number of the next.
    tail: u32,
    /// Ring index up to which entries were given back.
    units: u32,
}

impl Sent {
    /// Room for `max` sends.
    pub(super) fn new(max: u32) -> Result<Self> {
        let depth = max.max(1).next_power_of_two();
        Ok(Self {
            records: KVVec::from_elem(Record::default(), depth as usize, GFP_KERNEL)?,
            head: 0,
            tail: 0,
            units: 0,
        })
    }

    fn slot(&mut self, number: u32) -> Option<&mut Record> {
        let mask = self.records.len().wrapping_sub(1);
        self.records.get_mut(number as usize & mask)
    }

    /// Whether another send may be started.
    pub(crate) fn has_room(&self) -> bool {
        (self.tail.wrapping_sub(self.head) as usize) < self.records.len()
    }

    /// Starts a send; gives its number. The caller made sure of the room.
    pub(crate) fn start(&mut self, record: Record) -> u32 {
        let number = self.tail;
        if let Some(slot) = self.slot(number) {
            *slot = record;
            self.tail = number.wrapping_add(1);
        }
        number
    }

    /// The transport has taken everything below `number`.
    pub(crate) fn taken(&mut self, from: u32, to: u32) {
        let mut number = from;
        while number != to {
            if let Some(record) = self.slot(number) {
                if !record.awaits_peer {
                    record.done = true;
                }
            }
            number = number.wrapping_add(1);
        }
    }

    /// A send is done, with this status. Later numbers may still be on their way.
    pub(crate) fn done(&mut self, number: u32, status: u8) {
        if number.wrapping_sub(self.head) >= self.tail.wrapping_sub(self.head) {
            return;
        }
        if let Some(record) = self.slot(number) {
            if !record.done {
                record.done = true;
                record.status = status;
            }
        }
    }

    /// The oldest one that waits for the peer.
    pub(crate) fn oldest_awaiting_peer(&mut self) -> Option<u32> {
        let mut number = self.head;
        while number != self.tail {
            if self.slot(number).is_some_and(|r| r.awaits_peer && !r.done) {
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
            self.done(number, status::WR_FLUSH_ERR);
            number = number.wrapping_add(1);
        }
    }

    /// Counts ring entries that complete without a record (NOPs, flushed ones).
    pub(super) fn skip_units(&mut self, units: u32) {
        self.units = self.units.wrapping_add(units);
    }

    /// Forgets everything (→ RESET).
    pub(super) fn reset(&mut self) {
        self.head = 0;
        self.tail = 0;
        self.units = 0;
    }
}

impl Qp {
    /// Completes, in order, what is done, and gives the ring's entries back. True if the CQ is lost.
    /// Any context. Called with `sent` locked, so that completions keep their order.
    pub(crate) fn complete_sent(&self, sent: &mut Sent) -> bool {
        let mut lost = false;
        let before = sent.units;
        while sent.head != sent.tail {
            let Some(record) = sent.slot(sent.head).copied() else {
                break;
            };
            if !record.done {
                break;
            }
            sent.head = sent.head.wrapping_add(1);
            sent.units = sent.units.wrapping_add(u32::from(record.units));
            // The provider may reuse the entry as soon as it polls the completion.
            if record.signaled || self.sig_all || record.status != status::SUCCESS {
                self.publish_sq(sent.units);
                lost |= self.push_send(&self.send_cq, &record);
            }
        }
        if sent.units != before {
            self.publish_sq(sent.units);
        }
        lost
    }

    fn publish_sq(&self, units: u32) {
        use crate::proto::sync::Word as _;
        self.sq.consumer().store_release(units);
    }

    fn push_send(&self, cq: &Cq, record: &Record) -> bool {
        let cqe = Cqe {
            wr_id: record.wr_id,
            byte_len: record.byte_len,
            qp_num: self.number,
            status: record.status,
            opcode: record.opcode,
            vlan_id: 0xffff,
            ..Cqe::default()
        };
        cq.push(&cqe, record.status != status::SUCCESS).is_err()
    }
}
