// SPDX-License-Identifier: GPL-2.0

//! Listeners.

use super::conn::Conn;
use super::Cm;
use crate::device::Device;
use crate::kapi::net::errno::NetError;
use crate::kapi::net::listen::{ListenEvents, ListenOptions, ListenSocket};
use crate::kapi::rdma::iwcm::{CmEvent, CmId};
use core::net::SocketAddr;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::sync::atomic::ordering::{Full, Relaxed};
use kernel::sync::atomic::Atomic;
use kernel::sync::{new_mutex, Arc, ArcBorrow, Mutex};
use kernel::workqueue::{impl_has_work, new_work, Work, WorkItem};

/// Connections that may be waited for to send their request; the others wait with TCP.
const MAX_HALF_OPEN: u32 = 256;
/// Connections that are accepted in one go.
const BUDGET: u32 = 64;

/// The socket of a listener.
struct Place {
    /// None: closed, or in another namespace than its user.
    socket: Option<Arc<ListenSocket>>,
    /// The core destroyed the listener.
    closed: bool,
}

/// A listener.
#[pin_data]
pub(crate) struct Listener {
    /// Its number, in its cm_id's slot.
    pub(super) number: u32,
    /// Its device.
    pub(super) dev: Arc<Device>,
    cm: Arc<Cm>,
    id: CmId,
    addr: SocketAddr,
    backlog: u32,
    half_open: Atomic<u32>,
    #[pin]
    place: Mutex<Place>,
    #[pin]
    work: Work<Listener>,
}

impl_has_work! {
    impl HasWork<Listener> for Listener { self.work }
}

impl WorkItem for Listener {
    type Pointer = Arc<Listener>;

    fn run(this: Arc<Listener>) {
        this.accept();
    }
}

impl ListenEvents for Listener {
    fn incoming(this: ArcBorrow<'_, Self>) {
        Arc::from(this).queue();
    }
}

/// A connection that has not sent its request yet, as its listener counts it.
pub(super) struct HalfOpen(Arc<Listener>);

impl HalfOpen {
    /// Tells the listener's user.
    pub(super) fn event(&self, event: &CmEvent<'_>) -> Result {
        if self.0.place.lock().closed {
            return Err(NetError::ConnRefused.into());
        }
        self.0.id.event(event)
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        if self.0.half_open.fetch_sub(1, Full) >= MAX_HALF_OPEN {
            // There is room for another one again.
            self.0.queue();
        }
    }
}

impl Listener {
    /// Listens.
    pub(super) fn new(
        cm: &Arc<Cm>,
        dev: &Arc<Device>,
        id: CmId,
        backlog: u32,
    ) -> Result<Arc<Self>> {
        let this = Arc::pin_init(
            try_pin_init!(Self {
                number: cm.new_number(),
                dev: dev.clone(),
                cm: cm.clone(),
                addr: id.local_addr()?,
                id,
                backlog,
                half_open: Atomic::new(0),
                place <- new_mutex!(
                    Place {
                        socket: None,
                        closed: false,
                    },
                    "Listener::place"
                ),
                work <- new_work!("Listener::work"),
            }),
            GFP_KERNEL,
        )?;
        this.open(false)?;
        Ok(this)
    }

    /// Opens the socket, if its user is where the netdev is: the core offers a wildcard listener to
    /// every device, whatever its namespace. `again`: the netdev has arrived, its addresses follow.
    pub(super) fn open(self: &Arc<Self>, again: bool) -> Result {
        let mut place = self.place.lock();
        if place.closed || place.socket.is_some() {
            return Ok(());
        }
        let netdev = &self.dev.netdev;
        let wildcard = self.addr.ip().is_unspecified();
        if !self.id.is_in_net_of(netdev) {
            return if wildcard || again {
                Ok(())
            } else {
                Err(NetError::AddrNotAvail.into())
            };
        }
        let net = netdev.net().ok_or(NetError::NetDown)?;
        let mut addr = self.addr;
        super::set_scope(&mut addr, netdev);
        place.socket = Some(ListenSocket::new(
            &net,
            &ListenOptions {
                addr,
                // Each link has a listener of its own on the port. Connections from this host to an
                // address of the netdev count as coming in by it.
                ifindex: if wildcard { netdev.ifindex() } else { 0 },
                v6only: self.id.afonly(),
                freebind: again,
                tos: self.id.tos(),
                backlog: self.backlog,
            },
            self.clone(),
        )?);
        Ok(())
    }

    /// Closes the socket; `for_good`: the listener, too.
    pub(super) fn close(&self, for_good: bool) {
        let socket = {
            let mut place = self.place.lock();
            place.closed |= for_good;
            place.socket.take()
        };
        if let Some(socket) = socket {
            socket.close();
        }
    }

    fn queue(self: &Arc<Self>) {
        // Queued already: it will see what there is.
        let _ = self.cm.queue().enqueue(self.clone());
    }

    fn accept(self: &Arc<Self>) {
        let Some(socket) = self.place.lock().socket.clone() else {
            return;
        };
        for _ in 0..BUDGET {
            if self.half_open.load(Relaxed) >= MAX_HALF_OPEN {
                // The next one that is done with comes back here.
                return;
            }
            self.half_open.fetch_add(1, Relaxed);
            let half_open = HalfOpen(self.clone());
            let Ok(new) = socket.accept() else {
                return;
            };
            // A peer that cannot be served finds its connection reset.
            let _ = Conn::incoming(&self.cm, &self.dev, new, half_open);
        }
        self.queue();
    }
}
