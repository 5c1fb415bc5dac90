// SPDX-License-Identifier: GPL-2.0

//! The InfiniBand transport: what to do with the packets of [`wire::ib`](super::wire::ib).
//!
//! * [`backlog`]: multicast packets that are delivered later;
//! * [`burst`]: packets that leave as one;
//! * [`cut`]: a message in packets;
//! * [`requester`]: what is sent, and sent again (IBTA volume 1, sections 9.7.3 and 9.7.6);
//! * [`responder`]: what is done with requests (sections 9.7.4 and 9.7.5);
//! * [`responses`]: answers, in the order of their requests.

#![forbid(unsafe_code)]

pub mod backlog;
pub mod burst;
pub mod cut;
pub mod requester;
pub mod responder;
pub mod responses;
