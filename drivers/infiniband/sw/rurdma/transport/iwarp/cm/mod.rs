// SPDX-License-Identifier: GPL-2.0

//! Connections: the core's iWARP connection manager on one side, TCP and MPA on the other.
//!
//! [`Conn`] is the life of one connection, [`listen`] that of a listener. What may be told the core
//! when is `proto::iwarp::cm_events`', what is said on the wire `proto::iwarp::negotiate`'s.

mod conn;
mod handshake;
mod listen;
mod seam;
mod tell;

pub(crate) use conn::Conn;
pub(crate) use handshake::KNOBS;
pub(crate) use seam::{StreamEnd, StreamParams};

use crate::device::Device;
use crate::kapi::net::addr::any_port;
use crate::kapi::net::errno::NetError;
use crate::kapi::net::netdev::{NetDevice, NetNs};
use crate::kapi::net::socket::Socket;
use crate::kapi::rdma::iwcm::{CmId, ConnParam, IwCm, Slot};
use crate::kapi::slot;
use crate::kapi::task::WorkQueue;
use crate::qp::Qp;
use core::net::SocketAddr;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::sync::atomic::ordering::Relaxed;
use kernel::sync::atomic::Atomic;
use kernel::sync::{new_condvar, new_mutex, Arc, CondVar, Mutex};
use kernel::workqueue::Queue;
use listen::Listener;

static CM: slot::Slot<Cm> = slot::Slot::new();

/// What there is, by number.
struct Tables {
    conns: RBTree<u32, Arc<Conn>>,
    listeners: RBTree<u32, Arc<Listener>>,
}

/// All connections and listeners of all devices.
#[pin_data]
pub(crate) struct Cm {
    queue: WorkQueue,
    next: Atomic<u32>,
    #[pin]
    tables: Mutex<Tables>,
    #[pin]
    changed: CondVar,
}

impl Cm {
    fn queue(&self) -> &Queue {
        self.queue.queue()
    }

    fn new_number(&self) -> u32 {
        self.next.fetch_add(1, Relaxed)
    }

    fn enter_conn(&self, conn: &Arc<Conn>) -> Result {
        let mut tables = self.tables.lock();
        // After four billion connections a number may still be in use.
        if tables.conns.get(&conn.number).is_some() {
            return Err(EAGAIN);
        }
        tables
            .conns
            .try_create_and_insert(conn.number, conn.clone(), GFP_KERNEL)?;
        self.changed.notify_all();
        Ok(())
    }

    fn leave_conn(&self, number: u32) {
        let conn = self.tables.lock().conns.remove(&number);
        self.changed.notify_all();
        drop(conn);
    }

    fn conn(&self, slot: Slot) -> Result<Arc<Conn>> {
        let Slot::Conn(number) = slot else {
            return Err(EINVAL);
        };
        let tables = self.tables.lock();
        let conn = tables.conns.get(&number).cloned();
        // The peer went away before the consumer decided.
        conn.ok_or(NetError::ConnReset.into())
    }

    /// Listeners of a device, without a lock held.
    fn listeners_of(&self, dev: &Device, f: impl Fn(&Arc<Listener>)) {
        let mut next = None;
        loop {
            let listener = {
                let tables = self.tables.lock();
                let after = |n: &u32| next.is_none_or(|last| *n > last);
                let found = tables
                    .listeners
                    .iter()
                    .find(|(n, l)| after(n) && core::ptr::eq(&*l.dev, dev));
                let Some((number, listener)) = found else {
                    return;
                };
                next = Some(*number);
                listener.clone()
            };
            f(&listener);
        }
    }

    /// Ends all connections of a device, or of all devices, and waits for it.
    fn end_conns(&self, dev: Option<&Device>) {
        let mut tables = self.tables.lock();
        loop {
            let mut left = false;
            for conn in tables.conns.values() {
                if dev.is_none_or(|dev| core::ptr::eq(&*conn.dev, dev)) {
                    conn.kill();
                    left = true;
                }
            }
            if !left {
                return;
            }
            self.changed.wait(&mut tables);
        }
    }
}

/// At the module's init.
pub(crate) fn init() -> Result {
    CM.set(Arc::pin_init(
        try_pin_init!(Cm {
            queue: WorkQueue::new_reclaim(c"rurdma_cm")?,
            next: Atomic::new(1),
            tables <- new_mutex!(
                Tables {
                    conns: RBTree::new(),
                    listeners: RBTree::new(),
                },
                "Cm::tables"
            ),
            changed <- new_condvar!("Cm::changed"),
        }),
        GFP_KERNEL,
    )?)
}

/// At the module's exit, when there are no devices any more. Afterwards no code of this module runs
/// for a socket.
pub(crate) fn exit() {
    let Some(cm) = CM.take() else {
        return;
    };
    cm.end_conns(None);
    cm.queue.flush();
    crate::kapi::net::synchronize();
}

/// The QP goes: what is still trying to connect it gives up. Process context.
pub(super) fn qp_goes(qp: &Arc<Qp>) {
    let Some(cm) = CM.get() else {
        return;
    };
    let tables = cm.tables.lock();
    for conn in tables.conns.values() {
        conn.qp_goes(qp);
    }
}

/// The device goes: the core has no cm_id of it any more. Waits until its sockets are closed.
pub(crate) fn device_goes(dev: &Device) {
    if let Some(cm) = CM.get() {
        cm.end_conns(Some(dev));
    }
}

/// The netdev leaves its namespace: closes all sockets there and waits for it. Listeners stay, and
/// listen again where [`netdev_arrives`] says so.
pub(crate) fn netdev_leaves(dev: &Device) {
    if let Some(cm) = CM.get() {
        cm.listeners_of(dev, |listener| listener.close(false));
        cm.end_conns(Some(dev));
    }
}

/// The netdev is in a namespace again: those listen who belong there.
pub(crate) fn netdev_arrives(dev: &Device) {
    if let Some(cm) = CM.get() {
        cm.listeners_of(dev, |listener| {
            if let Err(err) = listener.open(true) {
                pr_warn!("{}: cannot listen again: {err:?}\n", dev.netdev.name());
            }
        });
    }
}

/// A link-local address needs its link.
fn set_scope(addr: &mut SocketAddr, netdev: &NetDevice) {
    if let SocketAddr::V6(v6) = addr {
        if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 {
            v6.set_scope_id(netdev.ifindex() as u32);
        }
    }
}

/// A socket that is connecting.
fn open(
    net: &NetNs,
    local: &SocketAddr,
    remote: &SocketAddr,
    tos: Option<u8>,
) -> Result<Arc<Socket>> {
    let socket = Socket::new(net, remote)?;
    if let Some(tos) = tos {
        socket.set_tos(tos, remote);
    }
    socket.bind(local, true)?;
    socket.connect(remote)?;
    Ok(socket)
}

/// rurdma's connection manager.
pub(crate) struct IwarpCm;

impl IwCm for IwarpCm {
    type Device = Device;

    fn connect(dev: &Arc<Device>, id: CmId, param: &ConnParam<'_>) -> Result {
        let cm = CM.get().ok_or(ENODEV)?;
        let qp = dev.qp_by_number(param.qpn).ok_or(EINVAL)?;
        let net = dev.netdev.net().ok_or(NetError::NetDown)?;
        let (mut local, mut remote) = (id.local_addr()?, id.remote_addr()?);
        set_scope(&mut local, &dev.netdev);
        set_scope(&mut remote, &dev.netdev);
        let tos = id.tos();
        let busy = |err: &Error| {
            *err == NetError::AddrInUse.into() || *err == NetError::AddrNotAvail.into()
        };
        let socket = match open(&net, &local, &remote, tos) {
            // The core gave out a port that TCP has in use. The peer may see any other one.
            Err(err) if busy(&err) && local.port() != 0 => {
                open(&net, &any_port(local), &remote, tos)?
            }
            other => other?,
        };
        drop(net);
        Conn::connect(&cm, dev, socket, id, qp, param)
    }

    fn accept(_dev: &Arc<Device>, id: CmId, param: &ConnParam<'_>) -> Result {
        let cm = CM.get().ok_or(ENODEV)?;
        cm.conn(id.slot())?.accept(id, param)
    }

    fn reject(_dev: &Arc<Device>, id: &CmId, private_data: &[u8]) -> Result {
        let cm = CM.get().ok_or(ENODEV)?;
        match cm.conn(id.slot()) {
            Ok(conn) => conn.reject(private_data),
            // The peer has gone away meanwhile.
            Err(_) => Ok(()),
        }
    }

    fn create_listen(dev: &Arc<Device>, id: CmId, backlog: u32) -> Result {
        let cm = CM.get().ok_or(ENODEV)?;
        let listener = Listener::new(&cm, dev, id.clone(), backlog)?;
        let entered = {
            let mut tables = cm.tables.lock();
            tables
                .listeners
                .try_create_and_insert(listener.number, listener.clone(), GFP_KERNEL)
        };
        if let Err(err) = entered {
            listener.close(true);
            return Err(err);
        }
        id.set_slot(Slot::Listener(listener.number));
        Ok(())
    }

    fn destroy_listen(_dev: &Arc<Device>, id: &CmId) -> Result {
        let cm = CM.get().ok_or(ENODEV)?;
        let Slot::Listener(number) = id.slot() else {
            return Err(EINVAL);
        };
        let listener = cm.tables.lock().listeners.remove(&number).ok_or(EINVAL)?;
        id.set_slot(Slot::Empty);
        listener.close(true);
        Ok(())
    }
}
