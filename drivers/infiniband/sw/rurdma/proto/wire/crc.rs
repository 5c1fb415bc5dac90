// SPDX-License-Identifier: GPL-2.0

//! CRC32c as MPA uses it (RFC 5044 section 4.4, as in iSCSI, RFC 7143 section 13.1).

#![forbid(unsafe_code)]

/// An implementation of CRC32c.
///
/// `crc32c` continues the remainder `crc` over `data`, without inverting anything before or after:
/// the convention of the kernel's `crc32c()`.
pub trait Crc32c {
    /// Continues `crc` over `data`.
    fn crc32c(crc: u32, data: &[u8]) -> u32;
}

/// The remainder that a calculation starts with.
pub const SEED: u32 = !0;

/// What is sent for the final remainder: inverted, least significant byte first.
pub const fn to_wire(crc: u32) -> [u8; 4] {
    (!crc).to_le_bytes()
}

/// CRC32c bit by bit. For tests, and where nothing better is at hand.
#[derive(Debug)]
pub struct Bitwise;

impl Crc32c for Bitwise {
    fn crc32c(crc: u32, data: &[u8]) -> u32 {
        data.iter().fold(crc, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |c, _| {
                if c & 1 == 1 {
                    (c >> 1) ^ 0x82f6_3b78
                } else {
                    c >> 1
                }
            })
        })
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(CONFIG_KUNIT = "y", ::kernel::macros::kunit_tests(rurdma_proto_crc))]
mod tests {
    use super::*;

    // RFC 3720 section B.4.
    #[test]
    fn iscsi_vectors() {
        assert_eq!(
            to_wire(Bitwise::crc32c(SEED, &[0; 32])),
            [0xaa, 0x36, 0x91, 0x8a]
        );
        assert_eq!(
            to_wire(Bitwise::crc32c(SEED, &[0xff; 32])),
            [0x43, 0xab, 0xa8, 0x62]
        );
    }

    #[test]
    fn continues() {
        let data = b"123456789";
        let (a, b) = data.split_at(4);
        let whole = Bitwise::crc32c(SEED, data);
        assert_eq!(Bitwise::crc32c(Bitwise::crc32c(SEED, a), b), whole);
        assert_eq!(!whole, 0xe306_9283);
    }
}
