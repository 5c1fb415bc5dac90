// SPDX-License-Identifier: GPL-2.0

//! The opcodes of the BTH (IBTA volume 1, section 9.2.1, table 38; annex A19 for the memory placement
//! extensions).

#![forbid(unsafe_code)]

/// Which service a packet belongs to: the upper three bits of the opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Reliable connection.
    Rc,
    /// Unreliable connection.
    Uc,
    /// Unreliable datagram.
    Ud,
}

/// Where in its message a packet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first of several.
    First,
    /// Neither the first nor the last.
    Middle,
    /// The last of several.
    Last,
    /// The only one.
    Only,
}

impl Place {
    /// Whether a message begins here.
    pub const fn begins(self) -> bool {
        matches!(self, Place::First | Place::Only)
    }

    /// Whether a message ends here.
    pub const fn ends(self) -> bool {
        matches!(self, Place::Last | Place::Only)
    }

    /// The place of a packet that begins or does not, and ends or does not.
    pub const fn of(begins: bool, ends: bool) -> Self {
        match (begins, ends) {
            (true, true) => Place::Only,
            (true, false) => Place::First,
            (false, true) => Place::Last,
            (false, false) => Place::Middle,
        }
    }
}

/// What the last packet of a message carries besides its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Nothing.
    None,
    /// Immediate data.
    Imm,
    /// A key to invalidate.
    Inv,
}

/// What a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Data for a receive.
    Send(Place, Extra),
    /// Data for the peer's memory. Never with [`Extra::Inv`].
    Write(Place, Extra),
    /// Asks for memory.
    ReadRequest,
    /// Memory that was asked for.
    ReadResponse(Place),
    /// Acknowledge, positive or not.
    Acknowledge,
    /// The result of an atomic.
    AtomicAcknowledge,
    /// Compare and swap.
    CmpSwp,
    /// Fetch and add.
    FetchAdd,
    /// Flush.
    Flush,
    /// Atomic write.
    AtomicWrite,
    /// A number of RC that stands for nothing: whoever sends it is told so (section 9.7.4.1.4).
    Reserved(u8),
}

/// An opcode that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opcode {
    /// The service.
    pub service: Service,
    /// The operation.
    pub op: Op,
}

/// The operations in the order of their numbers.
const OPS: [(u8, Op); 25] = {
    use self::Extra::{Imm, Inv, None};
    use self::Place::{First, Last, Middle, Only};
    [
        (0x00, Op::Send(First, None)),
        (0x01, Op::Send(Middle, None)),
        (0x02, Op::Send(Last, None)),
        (0x03, Op::Send(Last, Imm)),
        (0x04, Op::Send(Only, None)),
        (0x05, Op::Send(Only, Imm)),
        (0x06, Op::Write(First, None)),
        (0x07, Op::Write(Middle, None)),
        (0x08, Op::Write(Last, None)),
        (0x09, Op::Write(Last, Imm)),
        (0x0a, Op::Write(Only, None)),
        (0x0b, Op::Write(Only, Imm)),
        (0x0c, Op::ReadRequest),
        (0x0d, Op::ReadResponse(First)),
        (0x0e, Op::ReadResponse(Middle)),
        (0x0f, Op::ReadResponse(Last)),
        (0x10, Op::ReadResponse(Only)),
        (0x11, Op::Acknowledge),
        (0x12, Op::AtomicAcknowledge),
        (0x13, Op::CmpSwp),
        (0x14, Op::FetchAdd),
        (0x16, Op::Send(Last, Inv)),
        (0x17, Op::Send(Only, Inv)),
        (0x1c, Op::Flush),
        (0x1d, Op::AtomicWrite),
    ]
};

/// The bits of an opcode that are not the service.
const OPERATION: u8 = 0x1f;

/// [`OPS`] by number.
const BY_NUMBER: [Option<Op>; 32] = {
    let mut table = [None; 32];
    let mut i = 0;
    while i < OPS.len() {
        let (number, op) = OPS[i];
        table[number as usize] = Some(op);
        i += 1;
    }
    table
};

impl Service {
    const fn bits(self) -> u8 {
        match self {
            Service::Rc => 0x00,
            Service::Uc => 0x20,
            Service::Ud => 0x60,
        }
    }

    /// Whether the service has this operation.
    const fn has(self, op: Op) -> bool {
        match self {
            Service::Rc => true,
            // SEND and WRITE, and nothing that has an answer.
            Service::Uc => matches!(op, Op::Send(_, Extra::None | Extra::Imm) | Op::Write(_, _)),
            // Messages are one packet.
            Service::Ud => matches!(op, Op::Send(Place::Only, Extra::None | Extra::Imm)),
        }
    }
}

impl Opcode {
    /// What the number of a BTH says; `None` if there is no such opcode.
    pub fn from_number(number: u8) -> Option<Self> {
        let service = [Service::Rc, Service::Uc, Service::Ud]
            .into_iter()
            .find(|s| s.bits() == number & !OPERATION)?;
        let operation = number & OPERATION;
        let op = (*BY_NUMBER.get(usize::from(operation))?).unwrap_or(Op::Reserved(operation));
        service.has(op).then_some(Opcode { service, op })
    }

    /// The number; `None` if the service has no such operation.
    pub fn number(self) -> Option<u8> {
        let number = match self.op {
            Op::Reserved(number) => number,
            known => OPS.iter().find(|(_, op)| *op == known)?.0,
        };
        self.service
            .has(self.op)
            .then_some(number | self.service.bits())
    }

    /// Whether a requester sends it; the others are a responder's.
    pub const fn is_request(self) -> bool {
        !matches!(
            self.op,
            Op::ReadResponse(_) | Op::Acknowledge | Op::AtomicAcknowledge
        )
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    ::kernel::macros::kunit_tests(rurdma_proto_ib_opcode)
)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_back() {
        let mut known = 0;
        for n in 0..=u8::MAX {
            if let Some(op) = Opcode::from_number(n) {
                assert_eq!(op.number(), Some(n));
                known += 1;
            }
        }
        // 32 of RC, of which 7 are reserved, 12 of UC, 2 of UD.
        assert_eq!(known, 46);
    }
}
