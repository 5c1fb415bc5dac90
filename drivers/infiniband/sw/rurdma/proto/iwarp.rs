// SPDX-License-Identifier: GPL-2.0

//! iWARP: what to do with the formats of [`wire`](super::wire).
//!
//! * [`cm_events`]: which event the core's CM may be told when;
//! * [`mpa_rx`]: request and reply frames out of a byte stream;
//! * [`negotiate`]: MPA connection establishment (RFC 5044 section 7.1, RFC 6581);
//! * [`tx`]: messages into segments into FPDUs;
//! * [`rx`]: a byte stream into segments into messages, with all checks that need no memory;
//! * [`orders`]: read and atomic requests in flight, in both directions.

#![forbid(unsafe_code)]

pub mod cm_events;
pub mod mpa_rx;
pub mod negotiate;
pub mod orders;
pub mod rx;
pub mod tx;
