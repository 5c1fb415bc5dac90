// SPDX-License-Identifier: GPL-2.0

//! Who reads a socket: the softirq that brings the data, or a worker.
//!
//! An exchange is read where it arrives, in softirq: on the CPU of the card's queue, or that of the sender, where both
//! ends are on one machine. A stream is placed by a worker, for which there is another CPU, while that one is free
//! for TCP and for whoever sends (see [`crate::proto::bulk`]), as with a program that reads a socket. The queue
//! between them is the socket's: whoever reads, reads in order.

use super::Answer;
use crate::kapi::net::socket::{LockedSock, Socket};
use crate::kapi::rdma::stats::Counter;
use crate::kapi::sync::Turn;
use crate::kapi::task::{cond_resched, Cpu};
use crate::proto::bulk::Bulk;
use crate::transport::iwarp::stream::{Context, StreamQp};
use kernel::sync::atomic::ordering::{Full, Relaxed};

/// Bytes that are read before the peer is told that there is room again.
const READ: usize = 256 << 10;
/// How often, before others of the workqueue have their turn.
const READS: u32 = 4;

impl StreamQp<'_> {
    /// The socket has data. With the socket's lock held, any context.
    pub(in crate::transport::iwarp) fn stream_data_ready(&self, sk: &LockedSock) {
        if !self.gate.enter() {
            return;
        }
        match self.streamed_to(sk) {
            Some(cpu) => self.queue_reader_on(cpu),
            None => self.read_now(sk),
        }
        self.gate.leave();
    }

    /// The same, but it is read before this returns: there will be no more.
    pub(in crate::transport::iwarp) fn stream_last_data(&self, sk: &LockedSock) {
        if !self.gate.enter() {
            return;
        }
        self.read_now(sk);
        self.gate.leave();
    }

    /// The socket has data that came while its lock was held in process context (see
    /// [`LockedSock::in_backlog`]). A stream is the reader's, even so; anything else is read by whoever sends, as it is
    /// mostly he who had the lock.
    pub(in crate::transport::iwarp) fn stream_data_waits(&self, sk: &LockedSock) {
        if !self.gate.enter() {
            return;
        }
        if let Some(cpu) = self.streamed_to(sk) {
            self.queue_reader_on(cpu);
        } else {
            self.stream().unread.store(true, Relaxed);
            if self.stream().tx.run(|_| Turn::More) == Turn::More {
                self.queue_work();
            }
        }
        self.gate.leave();
    }

    /// Reads what [`Self::stream_data_waits`] left to whoever sends. Process context.
    pub(in crate::transport::iwarp) fn read_waiting(&self, socket: &Socket) {
        let unread = &self.stream().unread;
        if unread.load(Relaxed) && unread.xchg(false, Full) {
            // What there is to answer is sent by whoever called this.
            socket.with_lock(|sk| self.receive(sk, usize::MAX));
        }
    }

    /// The reader: reads as much as the budget allows, and comes again if that is not all. Process context.
    pub(in crate::transport::iwarp) fn stream_read(&self) {
        let socket = {
            let shared = self.stream().shared.lock();
            shared.conn.as_ref().map(|conn| conn.socket())
        };
        let Some(socket) = socket else {
            return;
        };
        for _ in 0..READS {
            let (answer, left) = socket.with_lock(|sk| {
                let before = sk.unread();
                let answer = self.receive(sk, READ);
                let left = sk.unread();
                // Whoever has the receiving side, if it is not us, wants no more of the stream.
                (answer, (1..before).contains(&left))
            });
            self.send(answer, Context::Process);
            if !left {
                return;
            }
            cond_resched();
        }
        self.queue_reader_on(Cpu::this());
    }

    /// Something has arrived: if it belongs to a stream, the CPU that reads it. There may be none.
    fn streamed_to(&self, sk: &LockedSock) -> Option<Cpu> {
        let arrivals = &self.stream().arrivals;
        let old = arrivals.load(Relaxed);
        let mut bulk = Bulk::from_bits(old);
        bulk.arrived(sk.unread());
        if bulk.to_bits() != old {
            arrivals.store(bulk.to_bits(), Relaxed);
        }
        let cpu = Cpu::other().filter(|_| bulk.is_stream())?;
        self.dev.counters.count(Counter::Streamed);
        Some(cpu)
    }

    fn read_now(&self, sk: &LockedSock) {
        let answer = self.receive(sk, usize::MAX);
        self.send(answer, Context::Callback(sk));
    }

    fn send(&self, answer: Answer, context: Context<'_>) {
        match answer {
            Answer::Nothing => {}
            Answer::Something => self.transmit(context),
            Answer::Stream => self.transmit_elsewhere(context),
        }
    }
}
