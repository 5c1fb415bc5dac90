// SPDX-License-Identifier: GPL-2.0

//! Management datagrams, MADs (IBTA volume 1, section 13.4.2), and what of the performance management class
//! a port answers itself (section 16.1): what it can, and its counters.

#![forbid(unsafe_code)]

use core::mem::size_of;
use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes as _, IntoBytes as _};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a MAD.
pub const MAD_LEN: usize = 256;

/// The header of all MADs.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    base_version: u8,
    class: u8,
    class_version: u8,
    method: u8,
    status: U16,
    class_specific: U16,
    transaction: U64,
    attribute: U16,
    reserved: U16,
    modifier: U32,
}

/// A MAD of performance management (section 16.1.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Pma {
    header: Header,
    reserved: [u8; 40],
    data: [u8; 192],
}

/// `ClassPortInfo` (section 13.4.8.1), as far as there is no redirection and there are no traps.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ClassPortInfo {
    base_version: u8,
    class_version: u8,
    capabilities: U16,
    /// More capabilities in 27 bits, then the time in which an answer comes.
    response_time: U32,
    redirect_and_traps: [u8; 64],
}

/// `PortCounters` (section 16.1.3.5).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Counters32 {
    reserved: u8,
    port_select: u8,
    counter_select: U16,
    symbol_errors: U16,
    link_error_recoveries: u8,
    link_downed: u8,
    rcv_errors: U16,
    rcv_remote_physical_errors: U16,
    rcv_switch_relay_errors: U16,
    xmit_discards: U16,
    xmit_constraint_errors: u8,
    rcv_constraint_errors: u8,
    counter_select_2: u8,
    /// Local link integrity errors, excessive buffer overruns: 4 bits each.
    link_and_overrun_errors: u8,
    reserved_2: U16,
    vl15_dropped: U16,
    xmit_data: U32,
    rcv_data: U32,
    xmit_packets: U32,
    rcv_packets: U32,
    xmit_wait: U32,
}

/// `PortCountersExtended` (section 16.1.4.11).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Counters64 {
    reserved: u8,
    port_select: u8,
    counter_select: U16,
    reserved_2: U32,
    xmit_data: U64,
    rcv_data: U64,
    xmit_packets: U64,
    rcv_packets: U64,
    unicast_xmit_packets: U64,
    unicast_rcv_packets: U64,
    multicast_xmit_packets: U64,
    multicast_rcv_packets: U64,
}

const _: () = {
    assert!(size_of::<Header>() == 24);
    assert!(size_of::<Pma>() == MAD_LEN);
    assert!(size_of::<ClassPortInfo>() == 72);
    assert!(size_of::<Counters32>() == 44);
    assert!(size_of::<Counters64>() == 72);
};

/// Base version, and version of the class.
const VERSION: u8 = 1;
const CLASS_PERFORMANCE: u8 = 0x04;
const METHOD_GET: u8 = 0x01;
const METHOD_GET_RESPONSE: u8 = 0x81;
const ATTR_CLASS_PORT_INFO: u16 = 0x0001;
const ATTR_PORT_COUNTERS: u16 = 0x0012;
const ATTR_PORT_COUNTERS_EXTENDED: u16 = 0x001d;
/// One of the attribute's fields has a value that it cannot have (section 13.4.7).
const STATUS_INVALID_FIELD: u16 = 7 << 2;
/// `IsExtendedWidthSupported`: there is `PortCountersExtended`, all of it (section 16.1.3.1).
const CAP_EXTENDED_WIDTH: u16 = 1 << 9;
/// 4.096 µs times 2^18 is a second, within which whoever has a CPU left answers.
const RESPONSE_TIME: u32 = 18;
/// Data are counted in words of so many octets.
const WORD: u64 = 4;

/// What goes one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Octets of the packets.
    pub octets: u64,
    /// Packets, the multicast ones too.
    pub packets: u64,
    /// Those for a multicast group.
    pub multicast: u64,
}

/// What a port has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// What it sent.
    pub sent: Traffic,
    /// What it received.
    pub received: Traffic,
    /// Packets received that were damaged.
    pub receive_errors: u64,
    /// How often the link went down.
    pub link_downed: u64,
}

/// Answers what is asked of `port`. False: that is for somebody else to answer, or nobody.
///
/// GET of `ClassPortInfo`, `PortCounters` and `PortCountersExtended`. Nothing can be set: the counters count from
/// the device's beginning.
pub fn answer(
    request: &[u8; MAD_LEN],
    port: u8,
    counters: impl FnOnce() -> PortCounters,
    response: &mut [u8; MAD_LEN],
) -> bool {
    let Ok(asked) = Pma::ref_from_bytes(request) else {
        return false;
    };
    let header = &asked.header;
    if header.base_version != VERSION
        || header.class != CLASS_PERFORMANCE
        || header.class_version != VERSION
        || header.method != METHOD_GET
    {
        return false;
    }
    let mut answer = Pma {
        header: Header {
            method: METHOD_GET_RESPONSE,
            status: U16::ZERO,
            ..*header
        },
        reserved: [0; 40],
        data: [0; 192],
    };
    let port_select = asked.data[1];
    let known = match header.attribute.get() {
        ATTR_CLASS_PORT_INFO => put(&mut answer.data, &ClassPortInfo::new()),
        // Without `AllPortSelect`: one port it must be.
        ATTR_PORT_COUNTERS | ATTR_PORT_COUNTERS_EXTENDED if port_select != port => {
            answer.data = asked.data;
            answer.header.status = STATUS_INVALID_FIELD.into();
            true
        }
        ATTR_PORT_COUNTERS => put(&mut answer.data, &Counters32::new(port, &counters())),
        ATTR_PORT_COUNTERS_EXTENDED => put(&mut answer.data, &Counters64::new(port, &counters())),
        _ => false,
    };
    if known {
        response.copy_from_slice(answer.as_bytes());
    }
    known
}

/// Writes an attribute where it begins.
fn put(data: &mut [u8; 192], attribute: &(impl zerocopy::IntoBytes + zerocopy::Immutable)) -> bool {
    attribute.write_to_prefix(data).is_ok()
}

impl ClassPortInfo {
    fn new() -> Self {
        Self {
            base_version: VERSION,
            class_version: VERSION,
            capabilities: CAP_EXTENDED_WIDTH.into(),
            response_time: RESPONSE_TIME.into(),
            redirect_and_traps: [0; 64],
        }
    }
}

/// Counters stop at all ones (section 16.1.3.5).
fn at_most_16(value: u64) -> U16 {
    u16::try_from(value).unwrap_or(u16::MAX).into()
}

fn at_most_32(value: u64) -> U32 {
    u32::try_from(value).unwrap_or(u32::MAX).into()
}

impl Counters32 {
    fn new(port: u8, c: &PortCounters) -> Self {
        Self {
            reserved: 0,
            port_select: port,
            counter_select: U16::ZERO,
            symbol_errors: U16::ZERO,
            link_error_recoveries: 0,
            link_downed: u8::try_from(c.link_downed).unwrap_or(u8::MAX),
            rcv_errors: at_most_16(c.receive_errors),
            rcv_remote_physical_errors: U16::ZERO,
            rcv_switch_relay_errors: U16::ZERO,
            xmit_discards: U16::ZERO,
            xmit_constraint_errors: 0,
            rcv_constraint_errors: 0,
            counter_select_2: 0,
            link_and_overrun_errors: 0,
            reserved_2: U16::ZERO,
            vl15_dropped: U16::ZERO,
            xmit_data: at_most_32(c.sent.octets / WORD),
            rcv_data: at_most_32(c.received.octets / WORD),
            xmit_packets: at_most_32(c.sent.packets),
            rcv_packets: at_most_32(c.received.packets),
            xmit_wait: U32::ZERO,
        }
    }
}

impl Counters64 {
    fn new(port: u8, c: &PortCounters) -> Self {
        // The two are not read at the same instant.
        let unicast = |t: &Traffic| t.packets.saturating_sub(t.multicast).into();
        Self {
            reserved: 0,
            port_select: port,
            counter_select: U16::ZERO,
            reserved_2: U32::ZERO,
            xmit_data: (c.sent.octets / WORD).into(),
            rcv_data: (c.received.octets / WORD).into(),
            xmit_packets: c.sent.packets.into(),
            rcv_packets: c.received.packets.into(),
            unicast_xmit_packets: unicast(&c.sent),
            unicast_rcv_packets: unicast(&c.received),
            multicast_xmit_packets: c.sent.multicast.into(),
            multicast_rcv_packets: c.received.multicast.into(),
        }
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_mad))]
mod tests {
    use super::*;

    /// Where the attribute begins.
    const DATA: usize = 64;

    fn request(method: u8, attribute: u8, port_select: u8) -> [u8; MAD_LEN] {
        let mut mad = [0; MAD_LEN];
        mad[..4].copy_from_slice(&[1, 4, 1, method]);
        mad[8..16].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        mad[17] = attribute;
        mad[DATA + 1] = port_select;
        mad
    }

    fn counters() -> PortCounters {
        PortCounters {
            sent: Traffic {
                octets: 4 * 0x0102_0304,
                packets: 0x1112_1314,
                multicast: 4,
            },
            received: Traffic {
                octets: 4 * 0x0506_0708,
                packets: 0x1516_1718,
                multicast: 8,
            },
            receive_errors: 0x2122,
            link_downed: 0x31,
        }
    }

    fn asked(request: &[u8; MAD_LEN], counters: PortCounters) -> Option<[u8; MAD_LEN]> {
        let mut response = [0xee; MAD_LEN];
        let answered = answer(request, 1, || counters, &mut response);
        // What is not answered is not touched.
        assert!(answered || response == [0xee; MAD_LEN]);
        answered.then_some(response)
    }

    #[test]
    fn an_answer_names_its_request() {
        for attribute in [0x01, 0x12, 0x1d] {
            let r = asked(&request(1, attribute, 1), counters()).unwrap();
            assert_eq!(r[..4], [1, 4, 1, 0x81]);
            assert_eq!(r[4..8], [0; 4]);
            assert_eq!(r[8..16], [1, 2, 3, 4, 5, 6, 7, 8]);
            assert_eq!(r[16..18], [0, attribute]);
            assert_eq!(r[18..DATA], [0; DATA - 18]);
        }
    }

    #[test]
    fn class_port_info_tells_of_the_extended_counters() {
        let r = asked(&request(1, 0x01, 0), counters()).unwrap();
        assert_eq!(r[DATA..DATA + 8], [1, 1, 2, 0, 0, 0, 0, 18]);
        assert_eq!(r[DATA + 8..], [0; 184]);
    }

    #[test]
    fn port_counters_stand_where_ibta_has_them() {
        let r = asked(&request(1, 0x12, 1), counters()).unwrap();
        let mut want = [0; 192];
        want[1] = 1;
        want[7] = 0x31;
        want[8..10].copy_from_slice(&[0x21, 0x22]);
        want[24..28].copy_from_slice(&[1, 2, 3, 4]);
        want[28..32].copy_from_slice(&[5, 6, 7, 8]);
        want[32..36].copy_from_slice(&[0x11, 0x12, 0x13, 0x14]);
        want[36..40].copy_from_slice(&[0x15, 0x16, 0x17, 0x18]);
        assert_eq!(r[DATA..], want);
    }

    #[test]
    fn extended_counters_stand_where_ibta_has_them() {
        let mut c = counters();
        c.sent.octets += 4 << 32;
        let r = asked(&request(1, 0x1d, 1), c).unwrap();
        let mut want = [0; 192];
        want[1] = 1;
        let words: [u64; 8] = [
            0x1_0102_0304,
            0x0506_0708,
            0x1112_1314,
            0x1516_1718,
            0x1112_1310,
            0x1516_1710,
            4,
            8,
        ];
        for (to, word) in want[8..].chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        assert_eq!(r[DATA..], want);
    }

    #[test]
    fn small_counters_stop_at_all_ones() {
        for (more, full) in [(0, false), (1, true), (u64::MAX >> 1, true)] {
            let octets = (u64::from(u32::MAX) - 1 + more.min(1 << 32)) * 4;
            let packets = u64::from(u32::MAX) - 1 + more;
            let t = Traffic {
                octets,
                packets,
                multicast: 0,
            };
            let c = PortCounters {
                sent: t,
                received: t,
                receive_errors: u64::from(u16::MAX) - 1 + more,
                link_downed: u64::from(u8::MAX) - 1 + more,
            };
            let r = asked(&request(1, 0x12, 1), c).unwrap();
            let last = if full { 0xff } else { 0xfe };
            assert_eq!(r[DATA + 7], last);
            assert_eq!(r[DATA + 8..DATA + 10], [0xff, last]);
            for at in [24, 28, 32, 36] {
                let word = &r[DATA + at..DATA + at + 4];
                assert_eq!(word, [0xff, 0xff, 0xff, last]);
            }
        }
    }

    #[test]
    fn another_port_is_an_invalid_field() {
        for attribute in [0x12, 0x1d] {
            for port in [0, 2, 0xff] {
                let r = asked(&request(1, attribute, port), counters()).unwrap();
                assert_eq!(r[3..6], [0x81, 0, 0x1c]);
                assert_eq!(r[DATA + 1], port);
                assert_eq!(r[DATA + 2..], [0; 190]);
            }
        }
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        // SET, and answers; other attributes; other classes and versions.
        for method in [0, 2, 3, 5, 0x81, 0xff] {
            assert_eq!(asked(&request(method, 0x12, 1), counters()), None);
        }
        for attribute in [0, 2, 0x10, 0x11, 0x13, 0x1e, 0xff] {
            assert_eq!(asked(&request(1, attribute, 1), counters()), None);
        }
        let known = request(1, 0x12, 1);
        for (at, other) in [(0, 2), (1, 3), (1, 7), (2, 2), (16, 1)] {
            let mut mad = known;
            mad[at] = other;
            assert_eq!(asked(&mad, counters()), None);
        }
        assert!(asked(&known, counters()).is_some());
    }
}
