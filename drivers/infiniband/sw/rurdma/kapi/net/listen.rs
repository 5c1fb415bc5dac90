// SPDX-License-Identifier: GPL-2.0

//! TCP sockets of the kernel that listen.

use crate::bindings;
use crate::kapi::net::errno::NetError;
use crate::kapi::net::netdev::NetNs;
use crate::kapi::net::socket::{bind, create, Callbacks, Control, Hook, Socket};
use core::net::SocketAddr;
use core::ptr::null_mut;
use kernel::error::to_result;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow, Mutex};

/// What a listening socket tells its owner: in softirq, do not sleep.
pub(crate) trait ListenEvents: Send + Sync + 'static {
    /// There may be a connection to accept.
    fn incoming(this: ArcBorrow<'_, Self>);
}

/// What a listening socket shall be like.
pub(crate) struct ListenOptions {
    /// Where.
    pub(crate) addr: SocketAddr,
    /// What comes in by that network device only; zero: by any.
    pub(crate) ifindex: i32,
    /// An IPv6 wildcard is not for IPv4.
    pub(crate) v6only: bool,
    /// The address need not be there yet.
    pub(crate) freebind: bool,
    /// Type of service of the connections.
    pub(crate) tos: Option<u8>,
    /// Connections that may wait to be accepted.
    pub(crate) backlog: u32,
}

/// A listening socket.
///
/// # Invariants
///
/// - `control.sock` is an owned `struct socket` that listens, or null after the release.
/// - `sk_user_data` is `control.hook`'s data; it changes with `sk_callback_lock` held for writing.
#[pin_data(PinnedDrop)]
pub(crate) struct ListenSocket {
    orig: Callbacks,
    #[pin]
    control: Mutex<Control>,
}

impl ListenSocket {
    /// A socket in `net` that listens, and tells `events` about it.
    pub(crate) fn new<E: ListenEvents>(
        net: &NetNs,
        options: &ListenOptions,
        events: Arc<E>,
    ) -> Result<Arc<Self>> {
        let sock = create(net, &options.addr)?;
        // SAFETY: Just created.
        let sk = unsafe { bindings::rurdma_sock_sk(sock) };
        // SAFETY: As above.
        let orig = unsafe { Callbacks::of(sk) };
        let this = Arc::pin_init(
            pin_init!(Self {
                orig,
                control <- new_mutex!(Control { sock, hook: None }, "rurdma_listen_socket"),
            }),
            GFP_KERNEL,
        );
        if this.is_err() {
            // SAFETY: Nobody else got it.
            unsafe { bindings::sock_release(sock) };
        }
        let this = this?;

        let mut control = this.control.lock();
        // SAFETY: The socket lives, and is not known to anyone yet.
        unsafe {
            bindings::rurdma_sk_setup(sk);
            bindings::sock_set_reuseaddr(sk);
            if options.v6only && options.addr.is_ipv6() {
                to_result(bindings::rurdma_sk_v6only(sk))?;
            }
            if options.ifindex != 0 {
                to_result(bindings::sock_bindtoindex(sk, options.ifindex, true))?;
            }
            if options.freebind {
                bindings::ip_sock_set_freebind(sk);
            }
            if let Some(tos) = options.tos {
                bindings::rurdma_sk_set_tos(sk, tos, options.addr.is_ipv6());
            }
            bind(sock, &options.addr)?;
        }
        let hook = Hook::new(events);
        let callbacks = Callbacks {
            data_ready: Some(incoming::<E>),
            ..orig
        };
        // SAFETY: The callback is the one for an `Arc<E>`.
        // INVARIANT: It takes the callback lock; the hook is kept here.
        unsafe { callbacks.install(sk, hook.data.cast_mut()) };
        control.hook = Some(hook);
        let backlog = options.backlog.min(i32::MAX as u32) as c_int;
        // SAFETY: The socket lives.
        to_result(unsafe { bindings::kernel_listen(sock, backlog) })?;
        drop(control);
        Ok(this)
    }

    /// Takes a connection, if there is one.
    pub(crate) fn accept(&self) -> Result<Arc<Socket>> {
        let control = self.control.lock();
        let mut new = null_mut();

        if control.sock.is_null() {
            return Err(NetError::NotConn.into());
        }
        // SAFETY: By the type invariant the socket lives.
        to_result(unsafe { bindings::rurdma_sock_accept(control.sock, &mut new) })?;
        drop(control);
        // SAFETY: The new socket is ours. It inherited our callback, which finds no user data
        // there, and what it had otherwise is what the listening one had before.
        unsafe { Socket::from_raw(new, self.orig) }
    }

    /// Stops to listen; connections that nobody took are reset. No callback is running when it
    /// returns, and none will.
    pub(crate) fn close(&self) {
        let mut control = self.control.lock();
        let hook = control.hook.take();
        let sock = core::mem::replace(&mut control.sock, null_mut());
        drop(control);
        if !sock.is_null() {
            // SAFETY: By the type invariant. The callback holds the callback lock while it uses
            // the user data, so it does not any more once they are gone.
            unsafe {
                self.orig
                    .install(bindings::rurdma_sock_sk(sock), null_mut());
                // INVARIANT: Nobody uses it any more, for `control.sock` is null.
                bindings::sock_release(sock);
            }
        }
        drop(hook);
    }
}

#[pinned_drop]
impl PinnedDrop for ListenSocket {
    fn drop(self: Pin<&mut Self>) {
        self.close();
    }
}

/// # Safety
///
/// The callback of a listening socket with an `E` hooked in, or of a connection that inherited it.
unsafe extern "C" fn incoming<E: ListenEvents>(sk: *mut bindings::sock) {
    // SAFETY: The socket lives.
    unsafe { bindings::rurdma_sk_callback_lock(sk) };
    // SAFETY: As above.
    let data = unsafe { bindings::rurdma_sk_user_data(sk) };
    if !data.is_null() {
        // SAFETY: By the invariant of `ListenSocket` it is an `Arc<E>`, which stays while we hold
        // the callback lock; connections do not inherit it.
        E::incoming(unsafe { ArcBorrow::from_raw(data.cast_const().cast::<E>()) });
    }
    // SAFETY: Taken above.
    unsafe { bindings::rurdma_sk_callback_unlock(sk) };
}
