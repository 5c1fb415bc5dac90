// SPDX-License-Identifier: GPL-2.0

//! What the core's connection manager is told of a connection.

use super::conn::{Conn, State};
use crate::kapi::net::addr::unmapped;
use crate::kapi::rdma::iwcm::{CmEvent, CmId};
use crate::proto::iwarp::cm_events::Upcall;
use kernel::pr_warn_once;
use kernel::prelude::*;

impl Conn {
    /// Tells the core what is due.
    pub(super) fn tell(&self, state: &mut State) {
        while let Some(upcall) = state.events.next() {
            let Some(id) = &state.cm_id else {
                break;
            };
            let (ird, ord) = (u32::from(state.depths.ord), u32::from(state.depths.ird));
            let told = match upcall {
                Upcall::Connected => self.reply(id, state, Ok(())),
                Upcall::ConnectFailed => self.reply(id, state, Err(state.failure)),
                Upcall::Established => id.event(&CmEvent::Established { ird, ord }),
                Upcall::Disconnect => id.event(&CmEvent::Disconnect),
                Upcall::Close => id.event(&CmEvent::Close),
            };
            if told.is_err() {
                // Cannot be: the core sets one aside for each event that may come.
                pr_warn_once!("rurdma: the core took no {upcall:?} event\n");
            }
            if matches!(upcall, Upcall::Connected | Upcall::ConnectFailed) {
                state.mpa = None;
            }
        }
        if state.events.is_over() {
            state.cm_id = None;
            state.mpa = None;
        }
    }

    /// Tells how the attempt ended. The one thing that the core may lack memory for is a copy of the
    /// private data.
    fn reply(&self, id: &CmId, state: &State, status: Result) -> Result {
        let private_data = state.mpa.as_ref().map_or(&[][..], |mpa| mpa.private_data());
        let reply = |private_data| {
            id.event(&CmEvent::ConnectReply {
                status,
                local: self.socket.local_addr().ok().map(unmapped),
                remote: self.socket.peer_addr().ok().map(unmapped),
                private_data,
                ird: u32::from(state.depths.ord),
                ord: u32::from(state.depths.ird),
            })
        };
        let cut = self.cut(private_data);
        match reply(cut) {
            Err(_) if !cut.is_empty() => reply(&[]),
            ret => ret,
        }
    }
}
