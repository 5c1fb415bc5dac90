// SPDX-License-Identifier: GPL-2.0

//! iWARP: what to do with the formats of [`wire`](super::wire).

#![forbid(unsafe_code)]
