// SPDX-License-Identifier: GPL-2.0

//! Work queue entries: what is accepted keeps the limits and survives being written again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rurdma_fuzz::proto::wqe::abi::{MAX_RECV_BYTES, MAX_SEND_BYTES, MAX_SGE};
use rurdma_fuzz::proto::wqe::recv::RecvWqe;
use rurdma_fuzz::proto::wqe::send::{Data, SendLimits, SendOp, SendWqe};
use rurdma_fuzz::proto::wqe::MAX_MSG;
use rurdma_fuzz::Input;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let flags = input.byte();
    let limits = SendLimits {
        ops: if flags & 1 != 0 {
            u32::MAX
        } else {
            input.long()
        },
        ud: flags & 2 != 0,
        max_sge: input.byte() % (MAX_SGE as u8 + 1),
        max_sge_rd: input.byte() % (MAX_SGE as u8 + 1),
        max_inline: input.word() % 513,
    };
    if let Ok(wqe) = SendWqe::parse(input.0, &limits) {
        assert!(wqe.length <= MAX_MSG);
        match wqe.data {
            Data::Sges(s) => {
                assert!(s.len() <= usize::from(limits.max_sge.max(limits.max_sge_rd).max(1)));
                assert_eq!(s.total(), u64::from(wqe.length));
            }
            Data::Inline(d) => assert!(d.len() <= usize::from(limits.max_inline)),
        }
        let mut buf = [0; MAX_SEND_BYTES];
        let units = wqe.encode(&mut buf).expect("it was in as many bytes");
        let again = SendWqe::parse(&buf[..usize::from(units) * 64], &limits).expect("still good");
        if wqe.op != SendOp::Nop {
            assert_eq!(again, wqe);
        }
    }
    if let Ok(wqe) = RecvWqe::parse(input.0, limits.max_sge) {
        assert!(wqe.sges.len() <= usize::from(limits.max_sge));
        let mut buf = [0; MAX_RECV_BYTES];
        let n = RecvWqe::encode(wqe.wr_id, wqe.sges, &mut buf).expect("it was in as many bytes");
        assert_eq!(RecvWqe::parse(&buf[..n], limits.max_sge), Ok(wqe));
    }
});
