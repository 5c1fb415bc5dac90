// SPDX-License-Identifier: GPL-2.0

//! RC operations with an answer of their own, one rule at a time: atomics, ATOMIC WRITE, FLUSH.

#![allow(missing_docs)]

use rurdma_host_tests::proto::ib::cut::Mtu;
use rurdma_host_tests::proto::ib::requester::{
    Effect, Idle, Kind, Limits, Next, Request, Requester, Slot, RETRY_EXC,
};
use rurdma_host_tests::proto::ib::responder::{Responder, Step, Verdict};
use rurdma_host_tests::proto::ib::responses::{Next as Answer, Resource};
use rurdma_host_tests::proto::serial::Psn;
use rurdma_host_tests::proto::wire::ib::flush::FlushKind;
use rurdma_host_tests::proto::wire::ib::opcode::{Extra, Op, Opcode, Place, Service};
use rurdma_host_tests::proto::wire::ib::packet::{Packet, Received, Remote};
use rurdma_host_tests::proto::wire::ib::syndrome::{Nak, Syndrome};

const MTU: Mtu = Mtu::MIN;

fn responder(depth: u32) -> Responder<Vec<Resource>> {
    let mut r = Responder::new(vec![Resource::EMPTY; 8]);
    r.begin(Service::Rc, MTU, Psn::new(0), depth);
    r
}

/// A request as it is received.
fn request(op: Op, psn: u32, change: impl FnOnce(&mut Received)) -> Received {
    let service = Service::Rc;
    let mut r = Received {
        packet: Packet::new(Opcode { service, op }, 7, Psn::new(psn)),
        payload_at: 0,
        payload_len: 0,
    };
    r.packet.flush = 1;
    r.packet.ack_request = true;
    change(&mut r);
    r
}

/// It is executed, with this result.
fn execute(responder: &mut Responder<Vec<Resource>>, r: &Received, result: u64) {
    match responder.receive(r) {
        Verdict::Execute(step) => responder.accept(r, &step, result).unwrap(),
        v => panic!("{v:?} for {:?}", r.packet),
    }
}

/// What the responder sends, to the last.
fn answers(responder: &mut Responder<Vec<Resource>>) -> Vec<Answer> {
    let mut all = Vec::new();
    while let Some(answer) = responder.responses.peek(MTU) {
        all.push(answer);
        responder.responses.sent();
    }
    all
}

fn is_nak(answer: &Answer, psn: u32, nak: Nak) -> bool {
    matches!(answer, Answer::Ack(a) if a.psn == Psn::new(psn) && a.syndrome == Syndrome::Nak(nak))
}

fn is_empty_read(answer: &Answer, number: u32) -> bool {
    matches!(answer, Answer::Read { piece, psn, .. }
        if *psn == Psn::new(number) && piece.len == 0 && piece.place == Place::Only)
}

fn atomic_of(answer: &Answer) -> (u32, u64) {
    match answer {
        Answer::Atomic { original, psn, .. } => (psn.get(), *original),
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_keep_the_order_of_requests() {
    let mut r = responder(4);
    execute(&mut r, &request(Op::FetchAdd, 0, |_| ()), 11);
    execute(&mut r, &request(Op::Flush, 1, |_| ()), 0);
    execute(
        &mut r,
        &request(Op::AtomicWrite, 2, |r| {
            r.payload_len = 8;
            r.packet.remote.length = 8;
        }),
        0,
    );
    execute(
        &mut r,
        &request(Op::Send(Place::Only, Extra::None), 3, |_| ()),
        0,
    );
    execute(&mut r, &request(Op::CmpSwp, 4, |_| ()), 12);
    let all = answers(&mut r);
    assert_eq!(all.len(), 4, "an answer says what an acknowledge would");
    assert_eq!(atomic_of(&all[0]), (0, 11));
    assert!(is_empty_read(&all[1], 1) && is_empty_read(&all[2], 2));
    assert_eq!(atomic_of(&all[3]), (4, 12));
}

/// What is asked again is answered as before, whatever was executed since.
#[test]
fn an_atomic_is_executed_once() {
    let mut r = responder(4);
    for (psn, result) in [(0, 100), (1, 101), (2, 102)] {
        execute(&mut r, &request(Op::FetchAdd, psn, |_| ()), result);
    }
    assert_eq!(answers(&mut r).len(), 3);
    assert_eq!(
        r.receive(&request(Op::FetchAdd, 1, |_| ())),
        Verdict::Repeat
    );
    let all = answers(&mut r);
    assert_eq!(all.len(), 1);
    assert_eq!(atomic_of(&all[0]), (1, 101));
    // Another operation had that number: this is not a repetition.
    assert_eq!(
        r.receive(&request(Op::ReadRequest, 1, |_| ())),
        Verdict::Drop
    );
    assert!(answers(&mut r).is_empty());
}

/// More than was agreed upon is refused before it has an effect, FLUSH excepted: nothing is kept for it.
#[test]
fn responder_resources() {
    let mut r = responder(0);
    for op in [Op::FetchAdd, Op::CmpSwp, Op::ReadRequest] {
        assert_eq!(r.receive(&request(op, 0, |_| ())), Verdict::Invalid);
        let all = answers(&mut r);
        assert!(is_nak(&all[0], 0, Nak::InvalidRequest));
    }

    let mut r = responder(1);
    for psn in 0..4 {
        execute(&mut r, &request(Op::Flush, psn, |_| ()), 0);
    }
    execute(&mut r, &request(Op::FetchAdd, 4, |_| ()), 5);
    execute(&mut r, &request(Op::Flush, 5, |_| ()), 0);
    assert_eq!(
        r.receive(&request(Op::FetchAdd, 6, |_| ())),
        Verdict::Invalid
    );
    assert!(r.responses.ends());
    let all = answers(&mut r);
    assert_eq!(all.len(), 7, "what came before the refusal, then that");
    assert_eq!(atomic_of(&all[4]), (4, 5));
    assert!(is_nak(&all[6], 6, Nak::InvalidRequest));
    assert!(!r.responses.ends());

    // As many as there are places; more only when one is free.
    let mut r = responder(1);
    for psn in 0..8 {
        execute(&mut r, &request(Op::Flush, psn, |_| ()), 0);
    }
    let ninth = request(Op::Flush, 8, |_| ());
    assert_eq!(r.receive(&ninth), Verdict::Invalid);
    assert_eq!(answers(&mut r).len(), 9);
    execute(&mut r, &ninth, 0);
}

/// A QP that is used again does not take the answers of before for its own.
#[test]
fn nothing_is_left_of_a_former_life() {
    let mut r = responder(4);
    for psn in 0..4 {
        execute(&mut r, &request(Op::FetchAdd, psn, |_| ()), 1);
    }
    answers(&mut r);
    r.begin(Service::Rc, MTU, Psn::new(0), 0);
    assert_eq!(
        r.receive(&request(Op::FetchAdd, 0, |_| ())),
        Verdict::Invalid
    );
    r.begin(Service::Rc, MTU, Psn::new(4), 4);
    assert_eq!(r.receive(&request(Op::FetchAdd, 0, |_| ())), Verdict::Drop);
}

#[test]
fn requests_that_make_no_sense() {
    let bad: [(Op, fn(&mut Received)); 8] = [
        (Op::Reserved(0x15), |_| ()),
        (Op::FetchAdd, |r| r.payload_len = 8),
        (Op::CmpSwp, |r| r.payload_len = 4),
        (Op::Flush, |r| r.payload_len = 4),
        // No type; one that does not exist; a level that does not.
        (Op::Flush, |r| r.packet.flush = 0),
        (Op::Flush, |r| r.packet.flush = 5),
        (Op::Flush, |r| r.packet.flush = 0x21),
        (Op::AtomicWrite, |r| {
            r.payload_len = 8;
            r.packet.remote.length = 16;
        }),
    ];
    for (op, change) in bad {
        let mut r = responder(4);
        assert_eq!(r.receive(&request(op, 0, change)), Verdict::Invalid);
        assert!(is_nak(&answers(&mut r)[0], 0, Nak::InvalidRequest));
    }
    for len in [0, 4, 7, 9, 16] {
        let mut r = responder(4);
        let request = request(Op::AtomicWrite, 0, |r| {
            r.payload_len = len;
            r.packet.remote.length = 8;
        });
        assert_eq!(r.receive(&request), Verdict::Invalid);
    }
}

/// The FETH says what, and the RETH where.
#[test]
fn what_a_flush_says() {
    let mut r = responder(1);
    let remote = Remote {
        va: 0x1000,
        rkey: 9,
        length: 64,
    };
    let kind = FlushKind {
        global: false,
        persistent: true,
        whole: true,
    };
    let flush = request(Op::Flush, 0, |r| {
        r.packet.flush = kind.word();
        r.packet.remote = remote;
    });
    assert_eq!(
        r.receive(&flush),
        Verdict::Execute(Step::Flush(kind, remote))
    );
}

fn requester(reads: u32, retries: u8) -> Requester<Vec<Slot>> {
    let mut r = Requester::new(vec![Slot::default(); 8]);
    let limits = Limits {
        mtu: MTU,
        reads,
        retries,
        rnr_retries: 0,
        window: 64,
    };
    r.begin(limits, Psn::new(0));
    r
}

fn push(r: &mut Requester<Vec<Slot>>, kind: Kind, fence: bool, cookie: u32) {
    r.push(Request {
        kind,
        length: 8,
        fence,
        cookie,
    });
}

/// Sends what may be sent; gives the cookies.
fn send(r: &mut Requester<Vec<Slot>>) -> Vec<u32> {
    let mut sent = Vec::new();
    while let Ok(next) = r.next() {
        let Next { request, .. } = next;
        sent.push(request.cookie);
        r.sent(&next);
    }
    sent
}

fn done(r: &mut Requester<Vec<Slot>>) -> Vec<u32> {
    std::iter::from_fn(|| r.take_done())
        .map(|request| request.cookie)
        .collect()
}

/// Atomics, ATOMIC WRITE and FLUSH count as reads do: no more are on their way than were agreed upon.
#[test]
fn outstanding_requests() {
    let mut r = requester(2, 7);
    for (i, kind) in [Kind::Atomic, Kind::Empty, Kind::Read, Kind::Atomic]
        .into_iter()
        .enumerate()
    {
        push(&mut r, kind, false, i as u32);
    }
    assert_eq!(send(&mut r), [0, 1]);
    assert_eq!(r.next(), Err(Idle::Wait));
    let place = Effect::Place {
        cookie: 0,
        offset: 0,
    };
    assert_eq!(r.atomic_response(Psn::new(0)), place);
    r.placed(Psn::new(0));
    assert_eq!(send(&mut r), [2]);
    assert_eq!(
        r.read_response(Psn::new(1), Place::Only, 0),
        Effect::Progress
    );
    assert_eq!(send(&mut r), [3]);
    assert_eq!(done(&mut r), [0, 1]);
    assert!(r.may_ask());
    assert!(!requester(0, 7).may_ask());
}

/// What is fenced waits for the result of the atomic before it; what is not does not.
#[test]
fn fence() {
    let mut r = requester(4, 7);
    push(&mut r, Kind::Atomic, false, 0);
    push(&mut r, Kind::Plain, false, 1);
    push(&mut r, Kind::Plain, true, 2);
    assert_eq!(send(&mut r), [0, 1]);
    // The result is lost; the acknowledge behind it says so, and does not let the fence down.
    assert_eq!(r.acknowledged(Psn::new(1), Syndrome::Ack), Effect::Progress);
    assert_eq!(done(&mut r), []);
    assert_eq!(send(&mut r), [0, 1]);
    let place = Effect::Place {
        cookie: 0,
        offset: 0,
    };
    assert_eq!(r.atomic_response(Psn::new(0)), place);
    r.placed(Psn::new(0));
    assert_eq!(send(&mut r), [2]);
    // It comes twice: once is enough.
    assert_eq!(r.atomic_response(Psn::new(0)), Effect::None);
}

/// LOCAL_INV and its like, which are not sent, are done when everything before them was: depth and window
/// may keep that, and so may what is sent again. Answers are not waited for.
#[test]
fn what_is_not_sent_yet_is_known() {
    let mut r = requester(1, 7);
    assert!(r.all_sent());
    push(&mut r, Kind::Atomic, false, 0);
    push(&mut r, Kind::Atomic, false, 1);
    assert_eq!(send(&mut r), [0]);
    assert!(!r.all_sent());
    let place = Effect::Place {
        cookie: 0,
        offset: 0,
    };
    assert_eq!(r.atomic_response(Psn::new(0)), place);
    r.placed(Psn::new(0));
    assert_eq!(send(&mut r), [1]);
    assert!(r.all_sent());
    assert_eq!(r.timed_out(), Effect::Progress);
    assert!(!r.all_sent());
    assert_eq!(send(&mut r), [1]);
    assert!(r.all_sent());

    let mut r = requester(1, 7);
    r.push(Request {
        length: 65 * MTU.bytes(),
        ..Request::default()
    });
    assert_eq!(send(&mut r).len(), 64);
    assert!(!r.all_sent());
    assert_eq!(r.acknowledged(Psn::new(9), Syndrome::Ack), Effect::Progress);
    assert_eq!(send(&mut r).len(), 1);
    assert!(r.all_sent());
}

#[test]
fn retries_are_counted() {
    let mut r = requester(1, 2);
    push(&mut r, Kind::Atomic, false, 0);
    for _ in 0..2 {
        assert_eq!(send(&mut r), [0]);
        assert_eq!(r.timed_out(), Effect::Progress);
    }
    assert_eq!(send(&mut r), [0]);
    assert_eq!(r.timed_out(), Effect::Failed(RETRY_EXC));
}

/// The result of the atomic with this number comes.
fn answer(r: &mut Requester<Vec<Slot>>, psn: u32) {
    let effect = r.atomic_response(Psn::new(psn));
    assert!(matches!(effect, Effect::Place { .. }), "{effect:?}");
    r.placed(Psn::new(psn));
}

const LOC_PROT: u8 = 4;

/// Which fails now, and with what.
fn failed(r: &Requester<Vec<Slot>>) -> Option<(u32, u8)> {
    r.failed().map(|(request, status)| (request.cookie, status))
}

/// What cannot be executed fails in its turn (section 9.9.2): those before it are acknowledged first, sent again if
/// they have to be; nothing of it or behind it is sent.
#[test]
fn refused_in_its_turn() {
    let mut r = requester(1, 7);
    for cookie in 0..4 {
        push(&mut r, Kind::Plain, false, cookie);
    }
    for _ in 0..2 {
        let next = r.next().unwrap();
        r.sent(&next);
    }
    assert_eq!(r.next().map(|n| n.request.cookie), Ok(2));
    r.refuse(LOC_PROT);
    assert!(!r.has_room());
    assert_eq!((r.next(), failed(&r)), (Err(Idle::Wait), None));
    assert!(r.awaits_answer() && !r.all_sent());
    assert_eq!(r.timed_out(), Effect::Progress);
    assert_eq!(send(&mut r), [0, 1]);
    assert_eq!(r.acknowledged(Psn::new(0), Syndrome::Ack), Effect::Progress);
    assert_eq!((done(&mut r), failed(&r)), (vec![0], None));
    let missing = Syndrome::Nak(Nak::Sequence);
    assert_eq!(r.acknowledged(Psn::new(1), missing), Effect::Progress);
    assert_eq!(send(&mut r), [1]);
    assert_eq!(r.acknowledged(Psn::new(1), Syndrome::Ack), Effect::Progress);
    assert_eq!(done(&mut r), [1]);
    assert_eq!(failed(&r), Some((2, LOC_PROT)));
    r.reset();
    assert!(r.has_room() && r.failed().is_none());
}

/// The same of what makes no sense and is never sent; and of one before it that cannot be sent.
#[test]
fn nonsense_in_its_turn() {
    for first in [false, true] {
        let mut r = requester(2, 7);
        push(&mut r, Kind::Atomic, false, 0);
        push(&mut r, Kind::Plain, false, 1);
        r.push_refused(2, LOC_PROT);
        assert!(!r.has_room());
        if first {
            let next = r.next().unwrap();
            r.sent(&next);
            r.refuse(1);
            assert_eq!(r.next(), Err(Idle::Wait));
            answer(&mut r, 0);
            assert_eq!((done(&mut r), failed(&r)), (vec![0], Some((1, 1))));
            continue;
        }
        assert_eq!((send(&mut r), failed(&r)), (vec![0, 1], None));
        answer(&mut r, 0);
        assert_eq!((done(&mut r), failed(&r)), (vec![0], None));
        assert_eq!(r.acknowledged(Psn::new(1), Syndrome::Ack), Effect::Progress);
        assert_eq!((done(&mut r), failed(&r)), (vec![1], Some((2, LOC_PROT))));
    }
    // Nothing is before it.
    let mut r = requester(1, 7);
    r.push_refused(5, LOC_PROT);
    assert_eq!((done(&mut r), failed(&r)), (vec![], Some((5, LOC_PROT))));
    assert!(!r.awaits_answer());
}

/// Another one's failure comes first: what cannot be executed is flushed then, by whoever owns it.
#[test]
fn failure_before_what_is_refused() {
    let mut r = requester(1, 0);
    push(&mut r, Kind::Plain, false, 0);
    r.push_refused(1, LOC_PROT);
    assert_eq!(send(&mut r), [0]);
    assert_eq!(r.timed_out(), Effect::Failed(RETRY_EXC));
    assert_eq!((done(&mut r), failed(&r)), (vec![], None));
    assert_eq!(r.oldest().map(|r| r.cookie), Some(0));
}

/// In the middle of a message that was sent before: if all of it is acknowledged after all, it is done.
#[test]
fn refused_when_it_is_sent_again() {
    for (psn, all) in [(2, false), (3, true)] {
        let mut r = requester(1, 7);
        push(&mut r, Kind::Plain, false, 0);
        r.push(Request {
            length: 3 * MTU.bytes(),
            cookie: 1,
            ..Request::default()
        });
        push(&mut r, Kind::Plain, false, 2);
        assert_eq!(send(&mut r), [0, 1, 1, 1, 2]);
        assert_eq!(r.timed_out(), Effect::Progress);
        for _ in 0..2 {
            let next = r.next().unwrap();
            r.sent(&next);
        }
        r.refuse(LOC_PROT);
        assert_eq!((r.next(), failed(&r)), (Err(Idle::Wait), None));
        let effect = r.acknowledged(Psn::new(psn), Syndrome::Ack);
        assert_eq!(effect, Effect::Progress);
        if all {
            assert_eq!((done(&mut r), failed(&r)), (vec![0, 1], None));
            assert!(r.has_room());
            assert_eq!(send(&mut r), [2]);
        } else {
            assert_eq!((done(&mut r), failed(&r)), (vec![0], Some((1, LOC_PROT))));
            assert_eq!(r.next(), Err(Idle::Wait));
        }
    }
}

/// UC, whose send queue goes on after SQE: what was put in is forgotten, and numbers go on behind what was sent.
#[test]
fn given_up() {
    let mut r = requester(0, 0);
    for cookie in 0..2 {
        r.push(Request {
            length: 3 * MTU.bytes(),
            cookie,
            ..Request::default()
        });
    }
    for psn in 0..2 {
        let next = r.next().unwrap();
        assert_eq!(next.psn, Psn::new(psn));
        r.sent(&next);
        r.all_arrived();
    }
    r.refuse(LOC_PROT);
    assert_eq!((done(&mut r), failed(&r)), (vec![], Some((0, LOC_PROT))));
    r.give_up();
    assert!(r.oldest().is_none() && r.failed().is_none() && r.has_room());
    assert_eq!(r.next(), Err(Idle::Empty));
    push(&mut r, Kind::Plain, false, 2);
    assert_eq!(
        r.next().map(|n| (n.request.cookie, n.psn)),
        Ok((2, Psn::new(2)))
    );
    assert_eq!(send(&mut r), [2]);
    r.all_arrived();
    assert_eq!(done(&mut r), [2]);
}

/// What may be unanswered is another number from then on: of what is begun, and of what is sent again.
#[test]
fn other_depths_in_sqd() {
    let mut r = requester(4, 7);
    for i in 0..8 {
        push(&mut r, Kind::Atomic, false, i);
    }
    assert_eq!(send(&mut r), [0, 1, 2, 3]);
    r.adjust(2, 7, 7);
    for psn in [0, 1] {
        answer(&mut r, psn);
        assert_eq!(r.next(), Err(Idle::Wait));
    }
    answer(&mut r, 2);
    assert_eq!(send(&mut r), [4]);
    r.adjust(1, 7, 7);
    assert_eq!(r.timed_out(), Effect::Progress);
    assert_eq!(send(&mut r), [3]);
    r.adjust(4, 7, 7);
    assert_eq!(send(&mut r), [4, 5, 6]);
}

/// No more are granted. What was put in before has its turn all the same, one by one: nobody would wake it.
#[test]
fn no_depth_in_sqd() {
    let mut r = requester(2, 7);
    for i in 0..4 {
        push(&mut r, Kind::Atomic, false, i);
    }
    assert_eq!(send(&mut r), [0, 1]);
    r.adjust(0, 7, 7);
    assert!(!r.may_ask());
    answer(&mut r, 0);
    assert_eq!(r.next(), Err(Idle::Wait));
    for psn in [1, 2] {
        answer(&mut r, psn);
        assert_eq!(send(&mut r), [psn + 1]);
    }
    answer(&mut r, 3);
    assert_eq!(done(&mut r), [0, 1, 2, 3]);
}

/// What was tried before does not count, and progress brings back what is granted now.
#[test]
fn other_retries_in_sqd() {
    for (before, now) in [(7, 1), (1, 3), (2, 0)] {
        let mut r = requester(1, before);
        push(&mut r, Kind::Atomic, false, 0);
        push(&mut r, Kind::Atomic, false, 1);
        send(&mut r);
        assert_eq!(r.timed_out(), Effect::Progress);
        send(&mut r);
        r.adjust(1, now, 0);
        for psn in [0, 1] {
            for _ in 0..now {
                assert_eq!(r.timed_out(), Effect::Progress);
                assert_eq!(send(&mut r), [psn]);
            }
            if psn == 0 {
                answer(&mut r, 0);
                assert_eq!(done(&mut r), [0]);
                send(&mut r);
            }
        }
        assert_eq!(r.timed_out(), Effect::Failed(RETRY_EXC));
        assert_eq!(r.oldest().map(|r| r.cookie), Some(1));
    }
}

#[test]
fn other_rnr_retries_in_sqd() {
    const RNR_RETRY_EXC: u8 = 13;
    for (before, now) in [(7, 1), (2, 4), (3, 0), (3, 7)] {
        let mut r = requester(1, 7);
        r.adjust(1, 7, before);
        push(&mut r, Kind::Plain, false, 0);
        let not_ready = |r: &mut Requester<Vec<Slot>>| {
            assert_eq!(send(r), [0]);
            let effect = r.acknowledged(Psn::new(0), Syndrome::Rnr(3));
            assert_eq!(r.next(), Err(Idle::Wait));
            r.rnr_over();
            effect
        };
        assert_eq!(not_ready(&mut r), Effect::Rnr(3));
        r.adjust(1, 7, now);
        // 7 stands for any number.
        for _ in 0..if now == 7 { 20 } else { now } {
            assert_eq!(not_ready(&mut r), Effect::Rnr(3));
        }
        if now != 7 {
            send(&mut r);
            let effect = r.acknowledged(Psn::new(0), Syndrome::Rnr(3));
            assert_eq!(effect, Effect::Failed(RNR_RETRY_EXC));
        }
    }
}

/// The network doubles a "not ready", or an old sequence error comes behind it: that is one try, and the time that
/// was asked for is kept.
#[test]
fn not_ready_is_counted_once() {
    const RNR_RETRY_EXC: u8 = 13;
    let mut r = requester(1, 7);
    r.adjust(1, 7, 1);
    for cookie in 0..3 {
        push(&mut r, Kind::Plain, false, cookie);
    }
    let not_ready = Syndrome::Rnr(3);
    let missing = Syndrome::Nak(Nak::Sequence);
    assert_eq!(send(&mut r), [0, 1, 2]);
    assert_eq!(r.acknowledged(Psn::new(1), not_ready), Effect::Rnr(3));
    for syndrome in [not_ready, missing, not_ready] {
        assert_eq!(r.acknowledged(Psn::new(1), syndrome), Effect::None);
        assert_eq!(r.next(), Err(Idle::Wait));
        assert_eq!(r.timed_out(), Effect::None);
    }
    assert_eq!(done(&mut r), [0]);
    // Another packet's is another one, for what is before that has arrived.
    assert_eq!(r.acknowledged(Psn::new(2), not_ready), Effect::Rnr(3));
    assert_eq!(r.acknowledged(Psn::new(2), not_ready), Effect::None);
    assert_eq!(done(&mut r), [1]);
    // Once it has been sent again, it is the answer to that.
    r.rnr_over();
    assert_eq!(send(&mut r), [2]);
    let effect = r.acknowledged(Psn::new(2), not_ready);
    assert_eq!(effect, Effect::Failed(RNR_RETRY_EXC));
}

/// The responder's part of it: what is remembered stays, and so do the places.
#[test]
fn other_resources_in_sqd() {
    let add = |psn| request(Op::FetchAdd, psn, |_| ());
    let mut r = responder(1);
    execute(&mut r, &add(0), 10);
    r.responses.set_depth(3);
    execute(&mut r, &add(1), 11);
    execute(&mut r, &add(2), 12);
    assert_eq!(r.receive(&add(3)), Verdict::Invalid);
    assert_eq!(answers(&mut r).len(), 4);
    r.responses.set_depth(1);
    execute(&mut r, &add(3), 13);
    assert_eq!(r.receive(&add(4)), Verdict::Invalid);
    assert_eq!(answers(&mut r).len(), 2);
    // What is only repeated takes none of them.
    for (psn, result) in [(0, 10), (2, 12)] {
        assert_eq!(r.receive(&add(psn)), Verdict::Repeat);
        let all = answers(&mut r);
        assert_eq!(all.len(), 1);
        assert_eq!(atomic_of(&all[0]), (psn, result));
    }
    assert_eq!(r.receive(&add(1)), Verdict::Repeat);
    execute(&mut r, &add(4), 14);
    assert_eq!(r.receive(&add(5)), Verdict::Invalid);
    answers(&mut r);
    r.responses.set_depth(0);
    execute(&mut r, &request(Op::Flush, 5, |_| ()), 0);
    assert_eq!(r.receive(&add(6)), Verdict::Invalid);
    answers(&mut r);
    r.responses.set_depth(100);
    for psn in 6..14 {
        execute(&mut r, &add(psn), 0);
    }
    assert_eq!(r.receive(&add(14)), Verdict::Invalid);
}

/// Which answer to which request, and which refusal is which status (`enum ib_wc_status`).
#[test]
fn wrong_answers() {
    const BAD_RESP: u8 = 7;
    for kind in [Kind::Atomic, Kind::Empty, Kind::Read, Kind::Plain] {
        for (nak, status) in [
            (Nak::InvalidRequest, 9),
            (Nak::RemoteAccess, 10),
            (Nak::RemoteOperation, 11),
        ] {
            let mut r = requester(1, 7);
            push(&mut r, kind, false, 0);
            send(&mut r);
            let effect = r.acknowledged(Psn::new(0), Syndrome::Nak(nak));
            assert_eq!(effect, Effect::Failed(status));
        }
    }
    let mut r = requester(1, 7);
    push(&mut r, Kind::Empty, false, 0);
    send(&mut r);
    let data = |r: &mut Requester<Vec<Slot>>| r.read_response(Psn::new(0), Place::Only, 8);
    assert_eq!(data(&mut r), Effect::Failed(BAD_RESP));
    assert_eq!(r.atomic_response(Psn::new(0)), Effect::Failed(BAD_RESP));
    let mut r = requester(1, 7);
    push(&mut r, Kind::Atomic, false, 0);
    send(&mut r);
    assert_eq!(data(&mut r), Effect::Failed(BAD_RESP));
}

/// What was missing has come meanwhile: nobody is told that it is, or asked to come again.
#[test]
fn a_refusal_that_is_not_so_any_more_is_not_sent() {
    let send = |psn| {
        request(Op::Send(Place::Only, Extra::None), psn, |r| {
            r.packet.ack_request = false;
        })
    };
    for not_ready in [false, true] {
        let mut r = responder(4);
        if not_ready {
            assert!(matches!(r.receive(&send(0)), Verdict::Execute(_)));
            r.not_ready(7);
        } else {
            assert_eq!(r.receive(&send(1)), Verdict::Repeat);
        }
        execute(&mut r, &send(0), 0);
        let all = answers(&mut r);
        assert_eq!(all.len(), 1);
        assert!(
            matches!(all[0], Answer::Ack(a) if a.psn == Psn::new(0) && a.syndrome == Syndrome::Ack),
            "{all:?}"
        );
    }
}

/// Messages of 2^22 packets: however far ahead an answer is, it is none to a read before it.
#[test]
fn a_long_read_is_not_done_by_a_far_answer() {
    const PACKETS: u32 = 1 << 22;
    let mut r = Requester::new(vec![Slot::default(); 8]);
    r.begin(
        Limits {
            mtu: MTU,
            reads: 4,
            retries: 7,
            rnr_retries: 7,
            window: 256,
        },
        Psn::new(0),
    );
    let read = |cookie| Request {
        kind: Kind::Read,
        length: PACKETS * MTU.bytes(),
        fence: false,
        cookie,
    };
    r.push(read(1));
    let next = r.next().unwrap();
    r.sent(&next);
    for psn in 0..PACKETS - 1 {
        let place = Place::of(psn == 0, false);
        let effect = r.read_response(Psn::new(psn), place, MTU.bytes());
        assert!(matches!(effect, Effect::Place { cookie: 1, .. }));
        r.placed(Psn::new(psn));
    }
    // Whatever else there is room for.
    let plain = Request {
        kind: Kind::Plain,
        length: 2 * MTU.bytes(),
        ..Request::default()
    };
    for request in [plain, read(2)] {
        if r.has_room() {
            r.push(request);
        }
    }
    while let Ok(next) = r.next() {
        r.sent(&next);
    }
    r.read_response(Psn::new(2 * PACKETS), Place::Middle, MTU.bytes());
    assert_eq!(r.take_done(), None, "its last packet has not come");
    let last = Psn::new(PACKETS - 1);
    assert!(matches!(
        r.read_response(last, Place::Last, MTU.bytes()),
        Effect::Place { cookie: 1, .. }
    ));
    r.placed(last);
    assert_eq!(r.take_done(), Some(read(1)));
}
