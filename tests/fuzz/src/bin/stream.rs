// SPDX-License-Identifier: GPL-2.0

//! A stream of FPDUs of a peer that sends anything, read in pieces of any size.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rurdma_fuzz::proto::iwarp::orders::{Expect, InboundReads, Order, OutboundReads};
use rurdma_fuzz::proto::iwarp::rx::{Event, Message, Receiver, RxConfig, Target, Want};
use rurdma_fuzz::proto::wire::crc::Crc32c as _;
use rurdma_fuzz::proto::wire::rdmap::{AtomicRequest, Opcode};
use rurdma_fuzz::proto::wire::terminate::{TermError, Terminate};
use rurdma_fuzz::{Input, Sum};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let flags = input.byte();
    let config = RxConfig {
        crc: flags & 1 != 0,
        rfc7306: flags & 2 != 0,
    };
    let step = usize::from(input.byte()) + 1;
    let mut rx = Receiver::new(config);
    let mut reads = OutboundReads::new(vec![Order::EMPTY; 4], 4);
    // The read that is being answered.
    let mut answered = None;
    let mut inbound = InboundReads::new(2);
    for i in 0..u32::from(flags >> 4 & 7) {
        let expect = if i % 2 == 0 {
            Expect::Read {
                stag: 1,
                to: 0,
                size: input.byte().into(),
            }
        } else {
            Expect::Atomic { request_id: i }
        };
        let _ = reads.push(expect, 0);
    }
    let mut stream = input.0;
    let mut length = 0u64;
    // What the peer's last Write wrote, if that was its last operation.
    let mut wrote = 0u64;
    while !stream.is_empty() {
        let (n, event) = match rx.want() {
            Want::Control(buf) => {
                assert!(!buf.is_empty());
                let n = buf.len().min(step).min(stream.len());
                buf[..n].copy_from_slice(&stream[..n]);
                (n, rx.filled::<Sum>(n))
            }
            Want::Payload(p) => {
                assert!(p.remaining > 0 && p.placed + p.remaining == p.segment.len);
                let n = (p.remaining as usize).min(step).min(stream.len());
                rx.placed(n as u32, Sum::crc32c(rx.crc(), &stream[..n]));
                (n, Ok(Event::None))
            }
            Want::Nothing => {
                assert!(rx.is_closed());
                return;
            }
        };
        stream = &stream[n..];
        let verdict = match event {
            Ok(Event::None) => Ok(()),
            Ok(Event::Start(s)) => {
                assert!(s.len <= 65535 && (config.rfc7306 || !s.op.is_extension()));
                assert_eq!(s.op.is_tagged(), matches!(s.target, Target::Tagged { .. }));
                if s.first {
                    length = 0;
                }
                if let Target::Untagged { mo, .. } = s.target {
                    assert_eq!(u64::from(mo), length);
                }
                length += u64::from(s.len);
                match (s.op, s.target) {
                    (Opcode::ReadResponse, Target::Tagged { stag, to }) => {
                        match answered.or(reads.oldest().copied()) {
                            Some(mut order) => {
                                let off = order.response(stag, to, s.len, s.last);
                                answered = (!s.last).then_some(order);
                                off.map(|off| assert!(off + s.len <= 255))
                            }
                            None => Err(TermError::RDMAP_OPCODE),
                        }
                    }
                    _ => Ok(()),
                }
            }
            Ok(Event::End(s, m)) => {
                assert!(rx.has_started() && s.last == m.is_some());
                if let Some(Message::Immediate { written, .. }) = m {
                    assert_eq!(u64::from(written), wrote.min(u32::MAX.into()));
                }
                wrote = match m {
                    Some(Message::Write) => length,
                    None | Some(Message::ReadResponse | Message::AtomicResponse { .. }) => wrote,
                    _ => 0,
                };
                match m {
                    Some(Message::Send { length: l, .. }) => {
                        assert_eq!(u64::from(l), length);
                        Ok(())
                    }
                    Some(Message::ReadRequest { .. }) => inbound.admit(),
                    Some(Message::AtomicRequest { request, .. }) => {
                        // What was understood can be said again.
                        let hdr = request.to_hdr().expect("of the wire");
                        assert_eq!(AtomicRequest::from_hdr(&hdr), Some(request));
                        inbound.admit()
                    }
                    Some(Message::ReadResponse) => {
                        reads.complete().expect("it had a start");
                        Ok(())
                    }
                    Some(Message::AtomicResponse { request_id, .. }) => {
                        reads.atomic_response(request_id).map(|_| ())
                    }
                    Some(Message::Terminate(_)) => {
                        assert!(rx.is_closed());
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
            Err(e) => Err(e),
        };
        if let Err(e) = verdict {
            let body = rx.fail(e);
            assert_eq!(Terminate::parse(body.as_bytes()).map(|t| t.error), Some(e));
        }
    }
});
