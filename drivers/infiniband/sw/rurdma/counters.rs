// SPDX-License-Identifier: GPL-2.0

//! What is counted of a device. Nothing on the path of a message that goes well.

#![forbid(unsafe_code)]

use crate::kapi::rdma::stats::{Counter, COUNTERS};
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::Atomic;

/// The counters of a device.
pub(crate) struct Counters([Atomic<u64>; COUNTERS]);

impl Counters {
    /// All zero.
    pub(crate) fn new() -> Self {
        Self([const { Atomic::new(0) }; COUNTERS])
    }

    /// Counts one more. Any context.
    pub(crate) fn count(&self, counter: Counter) {
        if let Some(value) = self.0.get(counter as usize) {
            value.fetch_add(1, Relaxed);
        }
    }

    /// The values, in the order of [`Counter`].
    pub(crate) fn values(&self) -> [u64; COUNTERS] {
        let mut values = [0; COUNTERS];
        for (to, from) in values.iter_mut().zip(&self.0) {
            *to = from.load(Relaxed);
        }
        values
    }
}
