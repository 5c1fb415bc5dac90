// SPDX-License-Identifier: GPL-2.0

//! The iWARP connection manager (`drivers/infiniband/core/iwcm.c`).
//!
//! The core calls an implementation of [`IwCm`]; the implementation tells the core what happened
//! with [`CmId::event`]. Which event may follow which is a contract that the core enforces with
//! `BUG_ON()`: see `proto::iwarp::cm_events`.

use crate::bindings;
use crate::kapi::net::addr::SockAddrStorage;
use crate::kapi::net::netdev::NetDevice;
use crate::kapi::rdma::ops::{device_of, Driver};
use core::net::SocketAddr;
use core::ptr::{null_mut, NonNull};
use kernel::error::from_result;
use kernel::prelude::*;
use kernel::sync::Arc;

/// The longest private data that the core passes on, in either direction: its length is a `u8`.
pub(crate) const MAX_PRIVATE_DATA: usize = u8::MAX as usize;

/// An iWARP connection manager. All calls are from process context and should not block: the core
/// makes them one after the other, for all devices.
pub(crate) trait IwCm: Sized + 'static {
    /// The driver's part of an `ib_device`.
    type Device: Send + Sync;

    /// Begins to connect. Success promises exactly one [`CmEvent::ConnectReply`], an error
    /// promises no event at all.
    fn connect(dev: &Arc<Self::Device>, id: CmId, param: &ConnParam<'_>) -> Result;
    /// Accepts the request in `id`'s slot. Success promises [`CmEvent::Established`], an error
    /// promises no event at all.
    fn accept(dev: &Arc<Self::Device>, id: CmId, param: &ConnParam<'_>) -> Result;
    /// Rejects the request in `id`'s slot. No event follows.
    fn reject(dev: &Arc<Self::Device>, id: &CmId, private_data: &[u8]) -> Result;
    /// Listens.
    fn create_listen(dev: &Arc<Self::Device>, id: CmId, backlog: u32) -> Result;
    /// Stops to listen.
    fn destroy_listen(dev: &Arc<Self::Device>, id: &CmId) -> Result;
}

/// What stands in a cm_id's `provider_data`: a number that the owner looks up, never a pointer.
/// The core may drop an event with one in it, or come back with one whose owner is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slot {
    /// Nothing.
    Empty,
    /// A listener.
    Listener(u32),
    /// A connection, or the request for one.
    Conn(u32),
}

impl Slot {
    fn to_raw(self) -> *mut c_void {
        let raw = match self {
            Self::Empty => 0,
            Self::Listener(n) => (n as usize) << 2 | 1,
            Self::Conn(n) => (n as usize) << 2 | 2,
        };
        core::ptr::without_provenance_mut(raw)
    }

    fn from_raw(raw: *mut c_void) -> Self {
        let raw = raw.addr();
        // Nothing but what `to_raw` made comes here.
        let n = (raw >> 2) as u32;
        match raw & 3 {
            1 => Self::Listener(n),
            2 => Self::Conn(n),
            _ => Self::Empty,
        }
    }
}

/// What the core is told about a connection.
pub(crate) enum CmEvent<'a> {
    /// On the listener's cm_id: a peer wants to connect.
    ConnectRequest {
        /// Our address.
        local: SocketAddr,
        /// Its address.
        remote: SocketAddr,
        /// What it says; at most [`MAX_PRIVATE_DATA`].
        private_data: &'a [u8],
        /// READs that we may have outstanding.
        ird: u32,
        /// READs that the peer wants to have outstanding.
        ord: u32,
        /// What will stand in the new cm_id.
        slot: Slot,
    },
    /// The end of [`IwCm::connect`].
    ConnectReply {
        /// Success, `ECONNREFUSED` (rejected), `ETIMEDOUT`, or what else went wrong.
        status: Result,
        /// Our address.
        local: Option<SocketAddr>,
        /// The peer's address.
        remote: Option<SocketAddr>,
        /// What the peer says; at most [`MAX_PRIVATE_DATA`].
        private_data: &'a [u8],
        /// READs that we may have outstanding.
        ird: u32,
        /// READs that the peer may have outstanding.
        ord: u32,
    },
    /// The end of [`IwCm::accept`].
    Established {
        /// READs that we may have outstanding.
        ird: u32,
        /// READs that the peer may have outstanding.
        ord: u32,
    },
    /// The connection begins to close.
    Disconnect,
    /// The connection is closed; the core forgets the QP.
    Close,
}

/// What the core wants of a connection.
pub(crate) struct ConnParam<'a> {
    /// For the peer.
    pub(crate) private_data: &'a [u8],
    /// READs that we want to have outstanding.
    pub(crate) ord: u32,
    /// READs that the peer may have outstanding.
    pub(crate) ird: u32,
    /// The QP.
    pub(crate) qpn: u32,
}

/// A reference to a `struct iw_cm_id`.
///
/// # Invariants
///
/// We own a reference to the cm_id, whose consumer is rdma_cm.
pub(crate) struct CmId(NonNull<bindings::iw_cm_id>);

// SAFETY: A cm_id may be used and released from any thread.
unsafe impl Send for CmId {}
// SAFETY: As above: events are taken under its lock, what is read does not change.
unsafe impl Sync for CmId {}

impl CmId {
    /// # Safety
    ///
    /// `raw` is a cm_id that cannot go during the call.
    unsafe fn hold(raw: *mut bindings::iw_cm_id) -> Self {
        // SAFETY: By the caller's promise; the core sets `add_ref` in every cm_id.
        unsafe {
            if let Some(add_ref) = (*raw).add_ref {
                add_ref(raw);
            }
            // INVARIANT: The reference was taken above. Users of iw_cm other than rdma_cm do not
            // exist.
            Self(NonNull::new_unchecked(raw))
        }
    }

    fn as_ptr(&self) -> *mut bindings::iw_cm_id {
        self.0.as_ptr()
    }

    /// Where to listen, or to connect from.
    pub(crate) fn local_addr(&self) -> Result<SocketAddr> {
        // SAFETY: By the type invariant; it is set before we get the cm_id.
        storage(unsafe { &(*self.as_ptr()).local_addr }).decode()
    }

    /// Where to connect to.
    pub(crate) fn remote_addr(&self) -> Result<SocketAddr> {
        // SAFETY: As above. It is the port mapper's view, who does not map for us.
        storage(unsafe { &(*self.as_ptr()).m_remote_addr }).decode()
    }

    /// The type of service that was asked for.
    pub(crate) fn tos(&self) -> Option<u8> {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_iw_cm_tos_set(self.as_ptr()).then(|| (*self.as_ptr()).tos) }
    }

    /// An IPv6 wildcard listener is not for IPv4.
    pub(crate) fn afonly(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_iw_cm_afonly(self.as_ptr()) }
    }

    /// Is its user in the network namespace that the device is in now? Only while the core is in
    /// one of [`IwCm`]'s functions with it, or before it destroys a listener.
    pub(crate) fn is_in_net_of(&self, netdev: &NetDevice) -> bool {
        // SAFETY: By the type invariant; its consumer, rdma_cm, destroys it before its own id.
        netdev.is_in(unsafe { bindings::rurdma_iw_cm_net(self.as_ptr()) })
    }

    /// What stands in its slot.
    pub(crate) fn slot(&self) -> Slot {
        // SAFETY: By the type invariant; written in `set_slot`, or before we get the cm_id.
        Slot::from_raw(unsafe { (*self.as_ptr()).provider_data })
    }

    /// Puts something into its slot. Only while the core is in one of [`IwCm`]'s functions with it.
    pub(crate) fn set_slot(&self, slot: Slot) {
        // SAFETY: By the type invariant; the core does not use the field meanwhile.
        unsafe { (*self.as_ptr()).provider_data = slot.to_raw() };
    }

    /// Tells the core. Any context but with locks of the core held; the core copies it and works
    /// later. ENOMEM: the event did not happen.
    pub(crate) fn event(&self, event: &CmEvent<'_>) -> Result {
        let mut raw: bindings::iw_cm_event = pin_init::zeroed();

        match event {
            CmEvent::ConnectRequest {
                local,
                remote,
                private_data,
                ird,
                ord,
                slot,
            } => {
                raw.event = bindings::iw_cm_event_type_IW_CM_EVENT_CONNECT_REQUEST;
                raw.set_addrs(Some(*local), Some(*remote));
                raw.set_private_data(private_data);
                raw.set_reads(*ird, *ord);
                raw.provider_data = slot.to_raw();
            }
            CmEvent::ConnectReply {
                status,
                local,
                remote,
                private_data,
                ird,
                ord,
            } => {
                raw.event = bindings::iw_cm_event_type_IW_CM_EVENT_CONNECT_REPLY;
                raw.status = status.err().map_or(0, |err| err.to_errno());
                raw.set_addrs(*local, *remote);
                raw.set_private_data(private_data);
                raw.set_reads(*ird, *ord);
            }
            CmEvent::Established { ird, ord } => {
                raw.event = bindings::iw_cm_event_type_IW_CM_EVENT_ESTABLISHED;
                raw.set_reads(*ird, *ord);
            }
            CmEvent::Disconnect => {
                raw.event = bindings::iw_cm_event_type_IW_CM_EVENT_DISCONNECT;
            }
            CmEvent::Close => raw.event = bindings::iw_cm_event_type_IW_CM_EVENT_CLOSE,
        }
        // SAFETY: By the type invariant; the core sets the handler in every cm_id, and copies the
        // event and its private data.
        let ret = unsafe {
            match (*self.as_ptr()).event_handler {
                Some(handler) => handler(self.as_ptr(), &mut raw),
                None => EINVAL.to_errno(),
            }
        };
        kernel::error::to_result(ret)
    }
}

impl Clone for CmId {
    fn clone(&self) -> Self {
        // SAFETY: Our own reference keeps it alive.
        unsafe { Self::hold(self.as_ptr()) }
    }
}

impl Drop for CmId {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; the core sets `rem_ref` in every cm_id.
        unsafe {
            if let Some(rem_ref) = (*self.as_ptr()).rem_ref {
                rem_ref(self.as_ptr());
            }
        }
    }
}

fn storage(raw: &bindings::__kernel_sockaddr_storage) -> SockAddrStorage {
    // SAFETY: Both are 128 bytes of plain data, and the C one is at least as aligned.
    unsafe { *core::ptr::from_ref(raw).cast() }
}

const _: () = assert!(
    size_of::<SockAddrStorage>() == size_of::<bindings::__kernel_sockaddr_storage>()
        && align_of::<SockAddrStorage>() <= align_of::<bindings::__kernel_sockaddr_storage>()
);

impl bindings::iw_cm_event {
    fn set_addrs(&mut self, local: Option<SocketAddr>, remote: Option<SocketAddr>) {
        for (to, from) in [
            (&mut self.local_addr, local),
            (&mut self.remote_addr, remote),
        ] {
            if let Some(addr) = from {
                // SAFETY: See `storage`.
                unsafe { *core::ptr::from_mut(to).cast() = SockAddrStorage::from(addr) };
            }
        }
    }

    fn set_private_data(&mut self, data: &[u8]) {
        let len = data.len().min(MAX_PRIVATE_DATA);

        // The core only reads it.
        self.private_data = match len {
            0 => null_mut(),
            _ => data.as_ptr().cast_mut().cast(),
        };
        self.private_data_len = len as u8;
    }

    fn set_reads(&mut self, ird: u32, ord: u32) {
        self.ird = ird.min(u32::from(u8::MAX)) as u8;
        self.ord = ord.min(u32::from(u8::MAX)) as u8;
    }
}

/// Puts the callbacks of a connection manager into a device's table.
pub(super) fn fill_ops<C: IwCm<Device = D::Device>, D: Driver>(ops: &mut bindings::ib_device_ops) {
    ops.iw_connect = Some(connect::<C, D>);
    ops.iw_accept = Some(accept::<C, D>);
    ops.iw_reject = Some(reject::<C, D>);
    ops.iw_create_listen = Some(create_listen::<C, D>);
    ops.iw_destroy_listen = Some(destroy_listen::<C, D>);
}

/// # Safety
///
/// `id` is a living cm_id of a living device of driver `D`, for the call.
unsafe fn with_id<D: Driver>(
    id: *mut bindings::iw_cm_id,
    f: impl FnOnce(&Arc<D::Device>, CmId) -> Result,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let (dev, id) = unsafe { (device_of::<D>((*id).device)?, CmId::hold(id)) };
        f(dev, id)?;
        Ok(0)
    })
}

/// # Safety
///
/// `param` is valid for `'a`.
unsafe fn conn_param<'a>(param: *const bindings::iw_cm_conn_param) -> ConnParam<'a> {
    // SAFETY: By the caller's promise.
    unsafe {
        ConnParam {
            private_data: bytes(
                (*param).private_data,
                usize::from((*param).private_data_len),
            ),
            ord: (*param).ord,
            ird: (*param).ird,
            qpn: (*param).qpn,
        }
    }
}

/// # Safety
///
/// `data` is valid for `'a` for `len` bytes, or null.
unsafe fn bytes<'a>(data: *const c_void, len: usize) -> &'a [u8] {
    if data.is_null() {
        return &[];
    }
    // SAFETY: By the caller's promise.
    unsafe { core::slice::from_raw_parts(data.cast(), len) }
}

/// # Safety
///
/// Called by the core with a living cm_id and parameters.
unsafe extern "C" fn connect<C: IwCm<Device = D::Device>, D: Driver>(
    id: *mut bindings::iw_cm_id,
    param: *mut bindings::iw_cm_conn_param,
) -> c_int {
    // SAFETY: By the caller's promise.
    unsafe { with_id::<D>(id, |dev, id| C::connect(dev, id, &conn_param(param))) }
}

/// # Safety
///
/// Called by the core with a living cm_id and parameters.
unsafe extern "C" fn accept<C: IwCm<Device = D::Device>, D: Driver>(
    id: *mut bindings::iw_cm_id,
    param: *mut bindings::iw_cm_conn_param,
) -> c_int {
    // SAFETY: By the caller's promise.
    unsafe { with_id::<D>(id, |dev, id| C::accept(dev, id, &conn_param(param))) }
}

/// # Safety
///
/// Called by the core with a living cm_id and private data.
unsafe extern "C" fn reject<C: IwCm<Device = D::Device>, D: Driver>(
    id: *mut bindings::iw_cm_id,
    data: *const c_void,
    len: u8,
) -> c_int {
    // SAFETY: By the caller's promise.
    unsafe {
        with_id::<D>(id, |dev, id| {
            C::reject(dev, &id, bytes(data, usize::from(len)))
        })
    }
}

/// # Safety
///
/// Called by the core with a living cm_id.
unsafe extern "C" fn create_listen<C: IwCm<Device = D::Device>, D: Driver>(
    id: *mut bindings::iw_cm_id,
    backlog: c_int,
) -> c_int {
    // SAFETY: By the caller's promise.
    unsafe {
        with_id::<D>(id, |dev, id| {
            C::create_listen(dev, id, backlog.max(0) as u32)
        })
    }
}

/// # Safety
///
/// Called by the core with a living cm_id that listens.
unsafe extern "C" fn destroy_listen<C: IwCm<Device = D::Device>, D: Driver>(
    id: *mut bindings::iw_cm_id,
) -> c_int {
    // SAFETY: By the caller's promise.
    unsafe { with_id::<D>(id, |dev, id| C::destroy_listen(dev, &id)) }
}
