// SPDX-License-Identifier: GPL-2.0

//! Bounds and rights against a naive oracle; reads in flight.

use proptest::prelude::*;
use rurdma_host_tests::proto::access::{remote_status, Access, Denied, Region, Rights};
use rurdma_host_tests::proto::iwarp::orders::{Expect, Full, InboundReads, Order, OutboundReads};
use rurdma_host_tests::proto::wire::terminate::TermError;

const ALL: [Access; 5] = [
    Access::LocalRead,
    Access::LocalWrite,
    Access::RemoteRead,
    Access::RemoteWrite,
    Access::RemoteAtomic,
];

/// Numbers around the edges.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..64,
        (0u64..64).prop_map(|n| u64::MAX - n),
        (0u64..64).prop_map(|n| 0x1000 + n),
    ]
}

proptest! {
    #[test]
    fn bounds(base in number(), length in number(), addr in number(), len in number(), rights in 0u32..64, which in 0usize..5) {
        let access = ALL[which];
        let region = Region { base, length, rights: Rights(rights) };
        let got = region.check(access, addr, len);
        // The same in numbers that do not overflow.
        let (b, l, a, n) = (u128::from(base), u128::from(length), u128::from(addr), u128::from(len));
        let want = if len == 0 {
            Ok(0)
        } else if rights & access.needs().0 != access.needs().0 {
            Err(Denied::Rights)
        } else if access == Access::RemoteAtomic && addr % 8 != 0 {
            Err(Denied::Unaligned)
        } else if a + n > 1 << 64 {
            Err(Denied::Wrap)
        } else if a < b || a + n > b + l {
            Err(Denied::Bounds)
        } else {
            Ok(addr - base)
        };
        prop_assert_eq!(got, want);
    }
}

proptest! {
    /// A window is within its region, and grants nothing that the region's owner could not.
    #[test]
    fn windows(base in number(), length in number(), addr in number(), len in number(), region in 0u32..64, window in 0u32..128) {
        let got = Region { base, length, rights: Rights(region) }.bind(Rights(window), addr, len);
        let (b, l, a, n) = (u128::from(base), u128::from(length), u128::from(addr), u128::from(len));
        // Local write, remote write and read, atomics, binding, zero-based.
        let has = |rights: u32, bit: u32| rights >> bit & 1 != 0;
        let writes = has(window, 1) || has(window, 3);
        let want = if window >> 6 != 0 || has(window, 4) || !has(region, 4) || (writes && !has(region, 0)) {
            Err(Denied::Rights)
        } else if a + n.max(1) > 1 << 64 {
            Err(Denied::Wrap)
        } else if a < b || a + n > b + l {
            Err(Denied::Bounds)
        } else {
            Ok(addr - base)
        };
        prop_assert_eq!(got, want);
    }
}

/// What each right of a window takes.
#[test]
fn rights_of_windows() {
    let bind = |region, window| {
        Region {
            base: 0x1000,
            length: 0x1000,
            rights: region,
        }
        .bind(window, 0x1800, 0x800)
    };
    let (local, bindable) = (Rights::LOCAL_WRITE, Rights::MW_BIND);
    let (read, write, atomic) = (
        Rights::REMOTE_READ,
        Rights::REMOTE_WRITE,
        Rights::REMOTE_ATOMIC,
    );
    assert_eq!(bind(bindable, read), Ok(0x800));
    assert_eq!(bind(bindable, Rights(0)), Ok(0x800));
    assert_eq!(bind(bindable, read.with(Rights::ZERO_BASED)), Ok(0x800));
    assert_eq!(bind(local.with(read), read), Err(Denied::Rights));
    for w in [write, atomic, read.with(write)] {
        assert_eq!(bind(bindable.with(w), w), Err(Denied::Rights));
        assert_eq!(bind(bindable.with(local), w), Ok(0x800));
    }
    // A window is no region.
    assert_eq!(bind(bindable.with(local), bindable), Err(Denied::Rights));
}

/// The edges, one by one.
#[test]
fn bounds_at_the_edges() {
    let check = |base, length, addr, len| {
        Region {
            base,
            length,
            rights: Rights(0),
        }
        .check(Access::LocalRead, addr, len)
    };
    assert_eq!(check(0x1000, 64, 0x1000, 64), Ok(0));
    assert_eq!(check(0x1000, 64, 0x103f, 1), Ok(63));
    assert_eq!(check(0x1000, 64, 0x1040, 1), Err(Denied::Bounds));
    assert_eq!(check(0x1000, 64, 0x1000, 65), Err(Denied::Bounds));
    assert_eq!(check(0x1000, 64, 0xfff, 1), Err(Denied::Bounds));
    // A region that ends with the address space.
    assert_eq!(check(u64::MAX - 63, 64, u64::MAX - 63, 64), Ok(0));
    assert_eq!(check(u64::MAX - 63, 64, u64::MAX, 1), Ok(63));
    assert_eq!(check(u64::MAX - 63, 64, u64::MAX, 2), Err(Denied::Wrap));
    assert_eq!(check(0, u64::MAX, 1, u64::MAX), Err(Denied::Bounds));
    assert_eq!(check(0, u64::MAX, 0, u64::MAX), Ok(0));
}

/// Who may do what: each right opens one kind of access and no other.
#[test]
fn rights_are_separate() {
    for (i, right) in [
        Rights::LOCAL_WRITE,
        Rights::REMOTE_READ,
        Rights::REMOTE_WRITE,
        Rights::REMOTE_ATOMIC,
    ]
    .into_iter()
    .enumerate()
    {
        let region = Region {
            base: 0,
            length: 64,
            rights: right,
        };
        for (k, access) in ALL.into_iter().enumerate() {
            let granted = k == 0 || k == i + 1;
            assert_eq!(
                region.check(access, 8, 8).is_ok(),
                granted,
                "{right:?} {access:?}"
            );
        }
    }
    assert!(!Rights::REMOTE_WRITE.is_consistent());
    assert!(!Rights::REMOTE_ATOMIC.is_consistent());
    assert!(Rights::REMOTE_READ.is_consistent());
    assert!(Rights::REMOTE_WRITE
        .with(Rights::LOCAL_WRITE)
        .is_consistent());
}

/// What the peer is told (RFC 5041 section 7.2, RFC 5040 figure 9).
#[test]
fn answers() {
    for (denied, tagged, request) in [
        (
            Denied::Key,
            TermError::DDP_INVALID_STAG,
            TermError::RDMAP_INVALID_STAG,
        ),
        (
            Denied::Domain,
            TermError::DDP_STAG_STREAM,
            TermError::RDMAP_STAG_STREAM,
        ),
        (
            Denied::Rights,
            TermError::RDMAP_ACCESS,
            TermError::RDMAP_ACCESS,
        ),
        (
            Denied::Invalidate,
            TermError::RDMAP_CANNOT_INVALIDATE,
            TermError::RDMAP_CANNOT_INVALIDATE,
        ),
        (
            Denied::Bounds,
            TermError::DDP_BOUNDS,
            TermError::RDMAP_BOUNDS,
        ),
        (
            Denied::Wrap,
            TermError::DDP_TO_WRAP,
            TermError::RDMAP_TO_WRAP,
        ),
        (
            Denied::Unaligned,
            TermError::DDP_BOUNDS,
            TermError::RDMAP_STREAM,
        ),
    ] {
        assert_eq!((denied.tagged(), denied.request()), (tagged, request));
        assert_eq!(denied.local_status(), 4);
    }
    assert_eq!(remote_status(TermError::DDP_BOUNDS), 10);
    assert_eq!(remote_status(TermError::RDMAP_ACCESS), 10);
    assert_eq!(remote_status(TermError::DDP_NO_BUFFER), 9);
    assert_eq!(remote_status(TermError::MPA_CRC), 11);
}

#[test]
fn inbound_depth() {
    let mut q = InboundReads::new(2);
    assert_eq!(q.admit(), Ok(()));
    assert_eq!(q.admit(), Ok(()));
    assert_eq!(q.admit(), Err(TermError::DDP_NO_BUFFER));
    q.retire();
    assert_eq!(q.in_flight(), 1);
    assert_eq!(q.admit(), Ok(()));
    assert_eq!(InboundReads::new(0).admit(), Err(TermError::DDP_NO_BUFFER));
    q.retire();
    q.retire();
    q.retire();
    assert_eq!(q.in_flight(), 0);
}

fn read(size: u32) -> Expect {
    Expect::Read {
        stag: 5,
        to: 1000,
        size,
    }
}

/// The request that is answered next.
fn oldest(q: &OutboundReads<Vec<Order>>) -> Order {
    *q.oldest().unwrap()
}

#[test]
fn responses_come_in_order() {
    let mut q = OutboundReads::new(vec![Order::EMPTY; 4], 2);
    assert!(q.oldest().is_none());
    for round in 0..5u64 {
        assert_eq!(q.push(read(100), round), Ok(()));
        assert_eq!(q.push(read(0), round + 100), Ok(()));
        assert_eq!(q.push(read(1), 0), Err(Full));
        let mut order = oldest(&q);
        assert_eq!(order.response(5, 1000, 60, false), Ok(0));
        assert_eq!(order.response(5, 1060, 40, true), Ok(60));
        assert_eq!(q.complete().unwrap().cookie, round);
        // An empty response addresses nothing.
        assert_eq!(oldest(&q).response(77, 9, 0, true), Ok(0));
        assert_eq!(q.complete().unwrap().cookie, round + 100);
        assert!(q.is_empty() && q.complete().is_none());
    }
}

#[test]
fn responses_that_lie() {
    let mut q = OutboundReads::new(vec![Order::EMPTY; 1], 9);
    q.push(read(100), 1).unwrap();
    let start = || {
        let mut order = oldest(&q);
        order.response(5, 1000, 10, false).unwrap();
        order
    };
    for (stag, to, len, last, error) in [
        (6, 1010, 10, false, TermError::DDP_INVALID_STAG),
        (5, 1000, 10, false, TermError::DDP_BOUNDS),
        (5, 1011, 10, false, TermError::DDP_BOUNDS),
        (5, 1010, 91, true, TermError::DDP_BOUNDS),
        (5, 1010, u32::MAX, true, TermError::DDP_BOUNDS),
        (5, 1010, 89, true, TermError::RDMAP_STREAM),
        (5, 1010, 0, true, TermError::RDMAP_STREAM),
    ] {
        assert_eq!(
            start().response(stag, to, len, last),
            Err(error),
            "{to} {len}"
        );
    }
    assert_eq!(start().response(5, 1010, 90, true), Ok(10));
    assert_eq!(q.atomic_response(1), Err(TermError::RDMAP_OPCODE));
}

#[test]
fn atomics_share_the_queue() {
    let mut q = OutboundReads::new(vec![Order::EMPTY; 3], 3);
    q.push(Expect::Atomic { request_id: 7 }, 70).unwrap();
    q.push(read(1), 71).unwrap();
    assert_eq!(
        oldest(&q).response(5, 1000, 1, true),
        Err(TermError::RDMAP_OPCODE)
    );
    assert_eq!(q.atomic_response(8), Err(TermError::RDMAP_OPERATION));
    assert_eq!(q.atomic_response(7).unwrap().cookie, 70);
    assert_eq!(oldest(&q).response(5, 1000, 1, true), Ok(0));
    assert_eq!(q.len(), 1);
    assert!(!OutboundReads::new(vec![Order::EMPTY; 3], 0).has_room());
}
