// SPDX-License-Identifier: GPL-2.0

//! RC, one rule at a time: what answers say of themselves, and requests that come twice.

#![allow(missing_docs)]

use rurdma_host_tests::proto::ib::cut::Mtu;
use rurdma_host_tests::proto::ib::requester::{Effect, Kind, Limits, Request, Requester, Slot};
use rurdma_host_tests::proto::ib::responder::{Responder, Verdict};
use rurdma_host_tests::proto::ib::responses::Resource;
use rurdma_host_tests::proto::serial::Psn;
use rurdma_host_tests::proto::wire::ib::opcode::{Extra, Op, Opcode, Place, Service};
use rurdma_host_tests::proto::wire::ib::packet::{Packet, Received};

const MTU: Mtu = Mtu::MIN;
/// `IB_WC_BAD_RESP_ERR`.
const BAD: Effect = Effect::Failed(7);

/// A requester that has sent this.
fn asking(kind: Kind, length: u32) -> Requester<Vec<Slot>> {
    let mut r = Requester::new(vec![Slot::default(); 4]);
    r.begin(
        Limits {
            mtu: MTU,
            reads: 1,
            retries: 7,
            rnr_retries: 7,
            window: 256,
        },
        Psn::new(0),
    );
    r.push(Request {
        kind,
        length,
        ..Request::default()
    });
    send(&mut r);
    r
}

/// Sends what there is to send: its numbers.
fn send(r: &mut Requester<Vec<Slot>>) -> Vec<u32> {
    let mut sent = Vec::new();
    while let Ok(next) = r.next() {
        sent.push(next.psn.get());
        r.sent(&next);
    }
    sent
}

/// A read of so many packets, which was sent.
fn read_of(packets: u32) -> Requester<Vec<Slot>> {
    asking(Kind::Read, packets * MTU.bytes())
}

/// Packet `psn` of the answer to a read says that it is for this place.
fn answer_part(r: &mut Requester<Vec<Slot>>, psn: u32, place: Place) -> Effect {
    let effect = r.read_response(Psn::new(psn), place, MTU.bytes());
    if matches!(effect, Effect::Place { .. }) {
        r.placed(Psn::new(psn));
    }
    effect
}

/// FIRST, MIDDLE, LAST and ONLY of an answer stand where they belong, or it is none.
#[test]
fn places_of_an_answer() {
    const ALL: [Place; 4] = [Place::First, Place::Middle, Place::Last, Place::Only];
    for packets in 1..=4 {
        for at in 0..packets {
            for place in ALL {
                let mut r = read_of(packets);
                for before in 0..at {
                    let right = Place::of(before == 0, false);
                    let effect = answer_part(&mut r, before, right);
                    assert!(matches!(effect, Effect::Place { .. }));
                }
                let right = Place::of(at == 0, at + 1 == packets);
                let effect = answer_part(&mut r, at, place);
                assert_eq!(
                    effect == BAD,
                    place != right,
                    "{at} of {packets}: {place:?}"
                );
            }
        }
    }
    // The empty answer of an ATOMIC WRITE is the only packet of it.
    for place in ALL {
        let mut r = asking(Kind::Empty, 8);
        let effect = r.read_response(Psn::new(0), place, 0);
        assert_eq!(effect == BAD, place != Place::Only);
    }
}

/// What is asked for again in its middle begins there anew, or goes on; behind that it goes on.
#[test]
fn places_of_an_answer_that_begins_in_the_middle() {
    for (at_two, right) in [
        (Place::First, true),
        (Place::Middle, true),
        (Place::Last, false),
        (Place::Only, false),
    ] {
        let mut r = read_of(4);
        answer_part(&mut r, 0, Place::First);
        answer_part(&mut r, 1, Place::Middle);
        // The third is missing.
        assert_eq!(answer_part(&mut r, 3, Place::Last), Effect::Progress);
        assert_eq!(send(&mut r), [2]);
        let effect = answer_part(&mut r, 2, at_two);
        assert_eq!(matches!(effect, Effect::Place { .. }), right, "{at_two:?}");
        if right {
            let effect = answer_part(&mut r, 3, Place::Only);
            assert_eq!(effect, BAD, "it began before");
        }
    }
    // It is asked for again, and what was asked for before still answers it.
    let mut r = read_of(2);
    answer_part(&mut r, 0, Place::First);
    assert_eq!(r.timed_out(), Effect::Progress);
    assert_eq!(send(&mut r), [1]);
    let effect = answer_part(&mut r, 1, Place::Last);
    assert!(matches!(effect, Effect::Place { .. }));
    assert!(r.take_done().is_some());
}

/// A response that refuses is none; what it would have been for may not matter any more.
#[test]
fn a_response_that_refuses() {
    let mut r = read_of(2);
    let told = |r: &mut Requester<Vec<Slot>>, psn| r.contradictory_response(Psn::new(psn));
    assert_eq!(told(&mut r, 7), Effect::None, "never sent");
    answer_part(&mut r, 0, Place::First);
    assert_eq!(told(&mut r, 0), Effect::None, "over");
    assert_eq!(told(&mut r, 1), BAD);
}

/// A request that the network doubles finds no receive once; one that comes again in its time does twice.
#[test]
fn a_request_without_receive_counts_once() {
    const CODE: u8 = 1; // 10 microseconds
    let at = |us: u64| us * 1000;
    let mut r = Responder::new(vec![Resource::EMPTY; 8]);
    r.begin(Service::Rc, MTU, Psn::new(0), 4);
    assert!(r.finds_no_receive(CODE, at(100)));
    assert!(!r.finds_no_receive(CODE, at(100)));
    assert!(!r.finds_no_receive(CODE, at(109)));
    assert!(r.finds_no_receive(CODE, at(110)));
    assert!(!r.finds_no_receive(CODE, at(111)));
    // The next one is another one.
    let opcode = Opcode {
        service: Service::Rc,
        op: Op::Send(Place::Only, Extra::None),
    };
    let send = Received {
        packet: Packet::new(opcode, 7, Psn::new(0)),
        payload_at: 0,
        payload_len: 0,
    };
    match r.receive(&send) {
        Verdict::Execute(step) => r.accept(&send, &step, 0).unwrap(),
        v => panic!("{v:?}"),
    }
    assert!(r.finds_no_receive(CODE, at(112)));
    // So is that of another life, whatever its number.
    r.begin(Service::Rc, MTU, Psn::new(1), 4);
    assert!(r.finds_no_receive(CODE, at(113)));
}

/// A request as it is received: one that has an answer of its own, of 8 bytes if it has any.
fn answered(op: Op, psn: u32) -> Received {
    let service = Service::Rc;
    let mut r = Received {
        packet: Packet::new(Opcode { service, op }, 7, Psn::new(psn)),
        payload_at: 0,
        payload_len: if op == Op::AtomicWrite { 8 } else { 0 },
    };
    r.packet.flush = 1;
    r.packet.remote.length = 8;
    r
}

/// What was done is answered again to the operation that it was, and to no other, be it one of the same kind.
#[test]
fn an_answer_is_repeated_to_its_own_request() {
    const OPS: [Op; 5] = [
        Op::CmpSwp,
        Op::FetchAdd,
        Op::AtomicWrite,
        Op::Flush,
        Op::ReadRequest,
    ];
    for had in OPS {
        for asks in OPS {
            let mut r = Responder::new(vec![Resource::EMPTY; 8]);
            r.begin(Service::Rc, MTU, Psn::new(0), 4);
            for (psn, op) in [had, Op::Flush].into_iter().enumerate() {
                let request = answered(op, psn as u32);
                match r.receive(&request) {
                    Verdict::Execute(step) => r.accept(&request, &step, 5).unwrap(),
                    v => panic!("{v:?}"),
                }
            }
            while r.responses.peek(MTU).is_some() {
                r.responses.sent();
            }
            let verdict = r.receive(&answered(asks, 0));
            let right = if asks == had {
                Verdict::Repeat
            } else {
                Verdict::Drop
            };
            assert_eq!(verdict, right, "{asks:?} after {had:?}");
            assert_eq!(r.responses.peek(MTU).is_some(), asks == had);
        }
    }
}

/// With what a connection begins: a request whose turn it is, and that makes sense; of UC with any message.
#[test]
fn what_is_due() {
    let send = |service, place, psn| {
        let op = Op::Send(place, Extra::None);
        Received {
            packet: Packet::new(Opcode { service, op }, 7, Psn::new(psn)),
            payload_at: 0,
            payload_len: if place.ends() { 5 } else { 256 },
        }
    };
    for service in [Service::Rc, Service::Uc] {
        let mut r = Responder::new(vec![Resource::EMPTY; 8]);
        r.begin(service, MTU, Psn::new(0xff_ffff), 4);
        for place in [Place::First, Place::Middle, Place::Last, Place::Only] {
            let begins = place.begins();
            assert_eq!(r.is_due(&send(service, place, 0xff_ffff)), begins);
            let ahead = r.is_due(&send(service, place, 3));
            assert_eq!(ahead, begins && service == Service::Uc, "{place:?}");
            assert!(!r.is_due(&send(Service::Ud, place, 0xff_ffff)));
        }
        let mut short = send(service, Place::First, 0xff_ffff);
        short.payload_len = 5;
        assert!(!r.is_due(&short));
        for op in [Op::Acknowledge, Op::ReadResponse(Place::Only)] {
            let mut answer = send(service, Place::Only, 0xff_ffff);
            answer.packet.opcode.op = op;
            assert!(!r.is_due(&answer));
        }
    }
}
