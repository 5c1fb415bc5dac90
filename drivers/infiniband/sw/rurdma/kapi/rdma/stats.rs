// SPDX-License-Identifier: GPL-2.0

//! Counters of a port, as `rdma statistic` shows them.

use crate::bindings;
use crate::kapi::rdma::ops::{device_of, Driver};
use core::ptr;
use kernel::error::from_result;
use kernel::prelude::*;

/// What is counted. The names stand beside the table in helpers.c, in this order.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Counter {
    /// Connections that this end asked for and got.
    Connected = bindings::rurdma_counter_RURDMA_COUNT_CONNECTED,
    /// Connections that this end accepted.
    Accepted = bindings::rurdma_counter_RURDMA_COUNT_ACCEPTED,
    /// Private data that were cut because the core takes no more than 255 bytes.
    PrivateDataCut = bindings::rurdma_counter_RURDMA_COUNT_PRIVATE_DATA_CUT,
    /// Terminate messages that were sent.
    TerminateSent = bindings::rurdma_counter_RURDMA_COUNT_TERMINATE_SENT,
    /// Terminate messages that were received.
    TerminateReceived = bindings::rurdma_counter_RURDMA_COUNT_TERMINATE_RECEIVED,
    /// FPDUs with a wrong CRC.
    CrcErrors = bindings::rurdma_counter_RURDMA_COUNT_CRC_ERRORS,
    /// Accesses of peers that were refused.
    AccessErrors = bindings::rurdma_counter_RURDMA_COUNT_ACCESS_ERRORS,
    /// Sends of peers that found no receive work request.
    ReceiverNotReady = bindings::rurdma_counter_RURDMA_COUNT_RECEIVER_NOT_READY,
    /// Completions that found no room in their CQ.
    CqOverflows = bindings::rurdma_counter_RURDMA_COUNT_CQ_OVERFLOWS,
    /// Multicast packets that found too many others waiting.
    MulticastDropped = bindings::rurdma_counter_RURDMA_COUNT_MULTICAST_DROPPED,
    /// Arrivals of streams that a worker has placed.
    Streamed = bindings::rurdma_counter_RURDMA_COUNT_STREAMED,
    /// Super-packets of streams that were dropped, as too many others waited.
    StreamDropped = bindings::rurdma_counter_RURDMA_COUNT_STREAM_DROPPED,
    /// How often the port went from active to down.
    LinkDowned = bindings::rurdma_counter_RURDMA_COUNT_LINK_DOWNED,
    /// Posts that came by a system call.
    Kicks = bindings::rurdma_counter_RURDMA_COUNT_KICKS,
    /// Doorbells that the poller found.
    Polled = bindings::rurdma_counter_RURDMA_COUNT_POLLED,
    /// How often the poller came to a process.
    PollerWakeups = bindings::rurdma_counter_RURDMA_COUNT_POLLER_WAKEUPS,
}

/// How many of them there are.
pub(crate) const COUNTERS: usize = bindings::rurdma_counter_RURDMA_COUNTERS as usize;
/// Of links whose transport has packets of its own, four more: packets sent and received, octets sent and received.
pub(crate) const PACKET_COUNTERS: usize = 4;

const _: () =
    assert!(bindings::rurdma_counter_RURDMA_ALL_COUNTERS as usize == COUNTERS + PACKET_COUNTERS);

/// # Safety
///
/// Called by the core with a device that is being registered. `_port` is 1.
pub(super) unsafe extern "C" fn alloc_hw_port_stats<D: Driver>(
    dev: *mut bindings::ib_device,
    _port: u32,
) -> *mut bindings::rdma_hw_stats {
    // SAFETY: By the caller's promise.
    let counters = match unsafe { device_of::<D>(dev) }.map(|dev| D::packet_counters(dev)) {
        Ok(Some(_)) => COUNTERS + PACKET_COUNTERS,
        _ => COUNTERS,
    };
    // SAFETY: The table is constant, and has so many.
    unsafe { bindings::rurdma_alloc_port_stats(counters as c_int) }
}

/// # Safety
///
/// Called by the core with a living device and what `alloc_hw_port_stats` gave it.
pub(super) unsafe extern "C" fn get_hw_stats<D: Driver>(
    dev: *mut bindings::ib_device,
    stats: *mut bindings::rdma_hw_stats,
    port: u32,
    _index: c_int,
) -> c_int {
    from_result(|| {
        if port == 0 {
            return Ok(0);
        }
        // SAFETY: By the caller's promise.
        let dev = unsafe { device_of::<D>(dev) }?;
        let values = D::counters(dev);
        // SAFETY: By the caller's promise there is room for all of them.
        let to = unsafe { &raw mut (*stats).value }.cast::<u64>();
        // SAFETY: As above.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), to, COUNTERS) };
        // SAFETY: By the caller's promise.
        let has_room = unsafe { (*stats).num_counters } as usize == COUNTERS + PACKET_COUNTERS;
        let Some(values) = D::packet_counters(dev).filter(|_| has_room) else {
            return Ok(COUNTERS as c_int);
        };
        // SAFETY: There is room for so many behind the others.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), to.add(COUNTERS), PACKET_COUNTERS) };
        Ok((COUNTERS + PACKET_COUNTERS) as c_int)
    })
}
