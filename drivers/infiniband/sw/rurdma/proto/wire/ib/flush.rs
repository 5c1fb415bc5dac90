// SPDX-License-Identifier: GPL-2.0

//! What a FLUSH asks for: the FETH (IBTA volume 1, annex A19).

#![forbid(unsafe_code)]

/// What of the data that has arrived is to become how safe. At least one of the types is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushKind {
    /// Visible to everybody on the machine.
    pub global: bool,
    /// There after a loss of power.
    pub persistent: bool,
    /// All of the region, rather than a range of it.
    pub whole: bool,
}

const GLOBAL: u32 = 1 << 0;
const PERSISTENT: u32 = 1 << 1;
const TYPES: u32 = 0xf;
const LEVEL_SHIFT: u32 = 4;
const LEVEL: u32 = 3;
const LEVEL_RANGE: u32 = 0;
const LEVEL_REGION: u32 = 1;

impl FlushKind {
    /// What the word says; `None` if that has no meaning. The upper bits have none and are not looked at.
    pub const fn from_word(word: u32) -> Option<Self> {
        let types = word & TYPES;
        if types == 0 || types & !(GLOBAL | PERSISTENT) != 0 {
            return None;
        }
        let whole = match word >> LEVEL_SHIFT & LEVEL {
            LEVEL_RANGE => false,
            LEVEL_REGION => true,
            _ => return None,
        };
        Some(FlushKind {
            global: types & GLOBAL != 0,
            persistent: types & PERSISTENT != 0,
            whole,
        })
    }

    /// The word.
    pub const fn word(self) -> u32 {
        (if self.global { GLOBAL } else { 0 })
            | (if self.persistent { PERSISTENT } else { 0 })
            | (if self.whole {
                LEVEL_REGION
            } else {
                LEVEL_RANGE
            }) << LEVEL_SHIFT
    }
}

#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(
    CONFIG_KUNIT = "y",
    ::kernel::macros::kunit_tests(rurdma_proto_ib_flush)
)]
mod tests {
    use super::*;

    #[test]
    fn words_and_back() {
        let mut known = 0;
        for word in 0..64 {
            if let Some(kind) = FlushKind::from_word(word) {
                assert_eq!(kind.word(), word);
                assert_eq!(FlushKind::from_word(word | 0xffff_ffc0), Some(kind));
                known += 1;
            }
        }
        // Three combinations of types, two levels.
        assert_eq!(known, 6);
    }
}
