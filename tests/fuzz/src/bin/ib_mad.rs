// SPDX-License-Identifier: GPL-2.0

//! Management datagrams of a peer that asks anything, and counters of any value.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rurdma_fuzz::proto::wire::mad::{answer, PortCounters, Traffic, MAD_LEN};
use rurdma_fuzz::Input;

/// Where the attribute begins.
const DATA: usize = 64;
const UNTOUCHED: [u8; MAD_LEN] = [0xee; MAD_LEN];
const PORT_COUNTERS: u16 = 0x12;
const PORT_COUNTERS_EXTENDED: u16 = 0x1d;

/// A counter: few bits or many.
fn counter(input: &mut Input<'_>) -> u64 {
    let (bits, value) = (input.byte() % 64, input.long());
    u64::from(value).rotate_left(u32::from(bits))
}

fn traffic(input: &mut Input<'_>) -> Traffic {
    Traffic {
        octets: counter(input),
        packets: counter(input),
        multicast: counter(input),
    }
}

fn be(of: &[u8]) -> u64 {
    of.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// A counter of so many octets, which stops at all ones.
fn stops(value: u64, octets: u32) -> u64 {
    value.min(u64::MAX >> (64 - 8 * octets))
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let (flags, port) = (input.byte(), input.byte());
    let counters = PortCounters {
        sent: traffic(&mut input),
        received: traffic(&mut input),
        receive_errors: counter(&mut input),
        link_downed: counter(&mut input),
    };
    let mut request = [0; MAD_LEN];
    // What is asked for most is not what is to be found out.
    if flags & 1 != 0 {
        request[..4].copy_from_slice(&[1, 4, 1, 1]);
        request[17] = [1, 0x12, 0x1d, 0x0d][usize::from(flags >> 1 & 3)];
        request[DATA + 1] = if flags & 8 != 0 { port } else { flags };
        let rest = input.take(MAD_LEN - DATA - 2);
        request[DATA + 2..DATA + 2 + rest.len()].copy_from_slice(rest);
    } else {
        let rest = input.take(MAD_LEN);
        request[..rest.len()].copy_from_slice(rest);
    }

    let mut response = UNTOUCHED;
    let mut asked = 0;
    let counted = || {
        asked += 1;
        counters
    };
    let answered = answer(&request, port, counted, &mut response);
    let attribute = u16::from_be_bytes([request[16], request[17]]);
    let known = matches!(attribute, 1 | PORT_COUNTERS | PORT_COUNTERS_EXTENDED);
    assert_eq!(answered, request[..4] == [1, 4, 1, 1] && known);
    if !answered {
        assert_eq!(response, UNTOUCHED);
        assert_eq!(asked, 0);
        return;
    }

    // It names its request, and is answered as one.
    assert_eq!(response[..3], request[..3]);
    assert_eq!(response[3], 0x81);
    assert_eq!(response[6..24], request[6..24]);
    assert_eq!(response[24..DATA], [0; DATA - 24]);
    assert!(!answer(&response, port, || unreachable!(), &mut request));
    let (status, data) = (be(&response[4..6]), &response[DATA..]);
    if attribute == 1 {
        assert_eq!((status, asked), (0, 0));
        return;
    }
    if request[DATA + 1] != port {
        assert_eq!((status, asked), (0x1c, 0));
        assert_eq!(data, &request[DATA..]);
        return;
    }
    assert_eq!((status, asked, data[1]), (0, 1, port));
    let (sent, received) = (&counters.sent, &counters.received);
    if attribute == PORT_COUNTERS {
        let small = [
            (7, 1, counters.link_downed),
            (8, 2, counters.receive_errors),
            (24, 4, sent.octets / 4),
            (28, 4, received.octets / 4),
            (32, 4, sent.packets),
            (36, 4, received.packets),
        ];
        let mut rest = [0; 192];
        rest[1] = port;
        for (at, octets, value) in small {
            let field = at..at + octets;
            assert_eq!(be(&data[field.clone()]), stops(value, octets as u32));
            rest[field.clone()].copy_from_slice(&data[field]);
        }
        assert_eq!(data, rest);
        return;
    }
    let unicast = |t: &Traffic| t.packets.saturating_sub(t.multicast);
    let large = [
        sent.octets / 4,
        received.octets / 4,
        sent.packets,
        received.packets,
        unicast(sent),
        unicast(received),
        sent.multicast,
        received.multicast,
    ];
    for (i, value) in large.into_iter().enumerate() {
        assert_eq!(be(&data[8 + 8 * i..16 + 8 * i]), value);
    }
    assert_eq!(data[72..], [0; 120]);
});
