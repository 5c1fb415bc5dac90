// SPDX-License-Identifier: GPL-2.0

//! What the tests share: a CRC that is not ours, memory for rings, mutations.

#![allow(dead_code, unreachable_pub)]

use proptest::prelude::*;
use rurdma_host_tests::proto::ring::{doorbell_bytes, DoorbellMem, RingMem, StatusMem};
use rurdma_host_tests::proto::wire::crc::Crc32c;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// CRC32c of the crate of that name, in the convention of the kernel.
pub struct Crc;

impl Crc32c for Crc {
    fn crc32c(crc: u32, data: &[u8]) -> u32 {
        !crc32c::crc32c_append(!crc, data)
    }
}

/// Zeroed memory that is only accessed atomically, and never freed: a mapping.
fn mapping(bytes: usize) -> (NonNull<u8>, usize) {
    let words: Vec<AtomicU64> = (0..bytes.div_ceil(8)).map(|_| AtomicU64::new(0)).collect();
    let mem: &'static [AtomicU64] = Box::leak(words.into_boxed_slice());
    (NonNull::from(mem).cast(), mem.len() * 8)
}

/// A ring.
pub fn ring(depth: u32, stride: u32) -> RingMem {
    let (base, len) = mapping(RingMem::bytes(depth, stride));
    // SAFETY: A leaked allocation of that length, of atomics.
    unsafe { RingMem::new(base, len, depth, stride) }.expect("geometry")
}

/// A ring of a geometry that may be impossible, in memory of `len` bytes.
pub fn try_ring(len: usize, depth: u32, stride: u32) -> Option<RingMem> {
    let (base, len) = mapping(len);
    // SAFETY: As above.
    unsafe { RingMem::new(base, len, depth, stride) }
}

/// A doorbell region.
pub fn doorbells(slots: u32) -> DoorbellMem {
    let (base, len) = mapping(doorbell_bytes(slots));
    // SAFETY: As above.
    unsafe { DoorbellMem::new(base, len, slots) }.expect("geometry")
}

/// A status page.
pub fn status() -> StatusMem {
    let (base, len) = mapping(StatusMem::BYTES);
    // SAFETY: As above.
    unsafe { StatusMem::new(base, len) }.expect("geometry")
}

/// A change to bytes: overwrite, flip, cut, or insert.
#[derive(Clone, Debug)]
pub enum Mutation {
    Set(usize, u8),
    Flip(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
}

pub fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(a, b)| Mutation::Set(a, b)),
        (any::<usize>(), 0u8..8).prop_map(|(a, b)| Mutation::Flip(a, 1 << b)),
        any::<usize>().prop_map(Mutation::Cut),
        (any::<usize>(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(a, b)| Mutation::Insert(a, b)),
    ]
}

pub fn mutate(bytes: &mut Vec<u8>, changes: &[Mutation]) {
    for change in changes {
        if bytes.is_empty() {
            return;
        }
        let n = bytes.len();
        match change {
            Mutation::Set(at, v) => bytes[at % n] = *v,
            Mutation::Flip(at, v) => bytes[at % n] ^= v,
            Mutation::Cut(at) => bytes.truncate(at % n),
            Mutation::Insert(at, v) => {
                let at = at % n;
                bytes.splice(at..at, v.iter().copied());
            }
        }
    }
}
