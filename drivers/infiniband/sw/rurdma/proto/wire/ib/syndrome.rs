// SPDX-License-Identifier: GPL-2.0

//! What an acknowledge says (IBTA volume 1, section 9.7.5.1.1 and following), and what its numbers mean.

#![forbid(unsafe_code)]

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nak {
    /// A packet is missing; or one came that was not expected.
    Sequence,
    /// The request makes no sense.
    InvalidRequest,
    /// The key, the bounds or the rights of the memory.
    RemoteAccess,
    /// The responder failed.
    RemoteOperation,
}

/// The syndrome of an AETH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syndrome {
    /// All up to this PSN has arrived.
    Ack,
    /// No receive is posted: try again after this timer code.
    Rnr(u8),
    /// Refused.
    Nak(Nak),
}

/// No end-to-end flow control: as many credits as there are (section 9.7.7.2).
const CREDITS_UNLIMITED: u8 = 0x1f;
const RNR: u8 = 0x20;
const NAK: u8 = 0x60;
const KIND: u8 = 0x60;
const VALUE: u8 = 0x1f;

impl Syndrome {
    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Syndrome::Ack => CREDITS_UNLIMITED,
            Syndrome::Rnr(timer) => RNR | (timer & VALUE),
            Syndrome::Nak(nak) => {
                NAK | match nak {
                    Nak::Sequence => 0,
                    Nak::InvalidRequest => 1,
                    Nak::RemoteAccess => 2,
                    Nak::RemoteOperation => 3,
                }
            }
        }
    }

    /// What a number says; `None` if it is reserved. Credits are not counted: we never wait for them, a
    /// responder without a receive says so.
    pub const fn from_number(number: u8) -> Option<Self> {
        if number & !(KIND | VALUE) != 0 {
            return None;
        }
        match (number & KIND, number & VALUE) {
            (0, _) => Some(Syndrome::Ack),
            (RNR, timer) => Some(Syndrome::Rnr(timer)),
            (NAK, 0) => Some(Syndrome::Nak(Nak::Sequence)),
            (NAK, 1) => Some(Syndrome::Nak(Nak::InvalidRequest)),
            (NAK, 2) => Some(Syndrome::Nak(Nak::RemoteAccess)),
            (NAK, 3) => Some(Syndrome::Nak(Nak::RemoteOperation)),
            _ => None,
        }
    }
}

/// Microseconds of an RNR timer code (section 9.7.5.2.8, table 45).
pub const fn rnr_timer_us(code: u8) -> u32 {
    const TABLE: [u32; 32] = [
        655_360, 10, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960, 1280, 1920, 2560, 3840,
        5120, 7680, 10_240, 15_360, 20_480, 30_720, 40_960, 61_440, 81_920, 122_880, 163_840,
        245_760, 327_680, 491_520,
    ];
    TABLE[(code & VALUE) as usize]
}

/// Nanoseconds of a local ack timeout code, 0 to 31; 0 stands for no timeout (section 9.7.6.1.3).
pub const fn ack_timeout_ns(code: u8) -> Option<u64> {
    match code & VALUE {
        0 => None,
        code => Some(4096 << code),
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    ::kernel::macros::kunit_tests(rurdma_proto_ib_syndrome)
)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_back() {
        for n in 0..=u8::MAX {
            match Syndrome::from_number(n) {
                // Whatever the credits.
                Some(Syndrome::Ack) => assert!(n < 0x20),
                Some(other) => assert_eq!(other.number(), n),
                None => assert!(n > 0x63 || (0x40..0x60).contains(&n)),
            }
        }
    }

    #[test]
    fn timers() {
        assert_eq!(rnr_timer_us(0), 655_360);
        assert_eq!(rnr_timer_us(1), 10);
        assert_eq!(rnr_timer_us(12), 640);
        assert_eq!(rnr_timer_us(31), 491_520);
        assert_eq!(ack_timeout_ns(0), None);
        assert_eq!(ack_timeout_ns(14), Some(67_108_864));
    }
}
