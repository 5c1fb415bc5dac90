// SPDX-License-Identifier: GPL-2.0

//! The table of work requests in the documentation, cell by cell.

#![allow(missing_docs)]

use rurdma_host_tests::proto::verbs::{Protocol, QpKind};
use rurdma_host_tests::proto::wqe::abi::opcode;

const TEXT: &str = include_str!("../../../Documentation/infiniband/rurdma.rst");

/// All that there are; NOP is for the provider's own use, and everywhere.
const OPCODES: [(&str, u8); 14] = [
    ("SEND", opcode::SEND),
    ("SEND_WITH_IMM", opcode::SEND_IMM),
    ("SEND_WITH_INV", opcode::SEND_INV),
    ("RDMA_WRITE", opcode::WRITE),
    ("RDMA_WRITE_WITH_IMM", opcode::WRITE_IMM),
    ("RDMA_READ", opcode::READ),
    ("RDMA_READ_WITH_INV", opcode::READ_INV),
    ("ATOMIC_CMP_AND_SWP", opcode::CMP_SWP),
    ("ATOMIC_FETCH_AND_ADD", opcode::FETCH_ADD),
    ("ATOMIC_WRITE", opcode::ATOMIC_WRITE),
    ("FLUSH", opcode::FLUSH),
    ("LOCAL_INV", opcode::LOCAL_INV),
    ("BIND_MW", opcode::BIND_MW),
    ("REG_MR", opcode::REG_MR),
];

const COLUMNS: [(&str, Protocol, QpKind); 4] = [
    ("iWARP RC", Protocol::Iwarp, QpKind::Rc),
    ("RoCEv2 RC", Protocol::Roce, QpKind::Rc),
    ("RoCEv2 UC", Protocol::Roce, QpKind::Uc),
    ("RoCEv2 UD", Protocol::Roce, QpKind::Ud),
];

fn cell(protocol: Protocol, kind: QpKind, op: u8) -> &'static str {
    let may = |user| protocol.send_ops(kind, user) >> op & 1 != 0;
    match (may(true), may(false)) {
        (true, true) => "yes",
        (false, true) => "kernel",
        (false, false) => "no",
        (true, false) => "process",
    }
}

/// The rows of the table whose first column is headed `head`, header first.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let mut lines = TEXT.lines();
    let header = lines.find(|l| l.starts_with(head)).expect("a table");
    let rule = lines.next().expect("a rule");
    let ends: Vec<_> = rule
        .split("  ")
        .filter(|c| !c.is_empty())
        .map(|c| {
            let at = c.as_ptr() as usize - rule.as_ptr() as usize;
            at..at + c.trim().len()
        })
        .collect();
    let cells = |line: &'static str| {
        ends.iter()
            .map(|r| {
                line.get(r.start..line.len().min(r.end))
                    .unwrap_or("")
                    .trim()
            })
            .collect()
    };
    std::iter::once(header)
        .chain(lines.take_while(|l| !l.starts_with("===")))
        .map(cells)
        .collect()
}

#[test]
fn the_table_of_work_requests_says_what_is_so() {
    let rows = table("work request ");
    let heads: Vec<_> = COLUMNS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(rows[0][1..], heads);
    let named: Vec<_> = rows[1..].iter().map(|r| r[0]).collect();
    let expected: Vec<_> = OPCODES.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, expected, "a row for each");
    for (row, (name, op)) in rows[1..].iter().zip(OPCODES) {
        for (i, (column, protocol, kind)) in COLUMNS.iter().enumerate() {
            assert_eq!(
                row[i + 1],
                cell(*protocol, *kind, op),
                "{name}, {column}: the table is wrong"
            );
        }
    }
}

/// No operation is without a row, and no QP without a column.
#[test]
fn the_table_of_work_requests_is_complete() {
    let mut known = 1 << opcode::NOP;
    for (_, op) in OPCODES {
        known |= 1u32 << op;
    }
    for protocol in [Protocol::Iwarp, Protocol::Roce] {
        for kind in [QpKind::Rc, QpKind::Uc, QpKind::Ud, QpKind::Gsi] {
            for user in [false, true] {
                let ops = protocol.send_ops(kind, user);
                assert_eq!(ops & !known, 0);
                assert_eq!(ops & 1 << opcode::NOP != 0, protocol.supports(kind));
                assert_eq!(ops == 0, !protocol.supports(kind));
                // Management has what UD has.
                if kind == QpKind::Gsi {
                    assert_eq!(ops, protocol.send_ops(QpKind::Ud, user));
                }
            }
            let column = COLUMNS.iter().any(|(_, p, k)| (*p, *k) == (protocol, kind));
            assert!(column || kind == QpKind::Gsi || !protocol.supports(kind));
        }
    }
}
