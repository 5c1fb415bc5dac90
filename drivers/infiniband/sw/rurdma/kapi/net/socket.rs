// SPDX-License-Identifier: GPL-2.0

//! TCP sockets of the kernel.
//!
//! A [`Socket`] has a control side (connect, options, close), in process context, and a data side,
//! which sends and reads with the socket's lock held, a [`LockedSock`]. TCP's own callbacks hold
//! that lock, so what they get is one, too; they run in softirq, or in the process context of
//! whoever releases the lock.

use crate::bindings;
use crate::kapi::net::addr::{family, SockAddrStorage};
use crate::kapi::net::errno::NetError;
use crate::kapi::net::netdev::NetNs;
use crate::kapi::net::page::PageFrag;
use crate::kapi::net::skb::{Block, SkbChunk};
use crate::proto::iwarp::tx::SkbLimits;
use core::net::SocketAddr;
use core::ptr::{null_mut, NonNull};
use kernel::error::to_result;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow, Mutex};
use kernel::types::Opaque;

/// What a socket tells its owner. All of it with the socket's lock held, in softirq or process
/// context: neither sleep nor take the lock again.
pub(crate) trait SocketEvents: Send + Sync + 'static {
    /// There is something to read.
    fn data_ready(this: ArcBorrow<'_, Self>, sk: &LockedSock);
    /// There is room again after a send came up short. May be called from within a send.
    fn write_space(this: ArcBorrow<'_, Self>, sk: &LockedSock);
    /// Connected, closed by the peer, reset, broken: look at [`LockedSock::state`].
    fn state_change(this: ArcBorrow<'_, Self>, sk: &LockedSock);
}

/// The state of a TCP connection as far as it matters to its user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TcpState {
    /// Not there yet.
    Connecting,
    /// Open in both directions.
    Established,
    /// The peer will not send any more.
    PeerClosed,
    /// We will not send any more.
    LocalClosed,
    /// Over.
    Closed,
}

impl TcpState {
    fn from_raw(state: u8) -> Self {
        match state {
            1 => Self::Established,
            2 | 3 | 12 => Self::Connecting,
            // CLOSE_WAIT, LAST_ACK, CLOSING
            8 | 9 | 11 => Self::PeerClosed,
            // FIN_WAIT1, FIN_WAIT2
            4 | 5 => Self::LocalClosed,
            _ => Self::Closed,
        }
    }
}

/// A TCP connection whose lock is held by this context.
///
/// # Invariants
///
/// Exists only by reference, for as long as the lock is held.
#[repr(transparent)]
pub(crate) struct LockedSock(Opaque<bindings::sock>);

impl LockedSock {
    /// # Safety
    ///
    /// `sk` is a TCP socket that is not listening, and its lock is held for as long as the result
    /// is used.
    #[inline]
    unsafe fn from_raw<'a>(sk: *mut bindings::sock) -> &'a Self {
        // SAFETY: By the caller's promise; `Opaque` is transparent.
        unsafe { &*sk.cast() }
    }

    #[inline]
    fn as_ptr(&self) -> *mut bindings::sock {
        self.0.get()
    }

    /// Reads what has been received: `f` gets piece after piece and says how many bytes of it it
    /// has used up. With zero the reading ends, and what is left is there for the next call; it ends, too, with the piece
    /// that makes it `budget` bytes. Returns the number of bytes used up.
    #[inline]
    pub(crate) fn read<F: FnMut(&SkbChunk<'_>) -> usize>(
        &self,
        budget: usize,
        mut f: F,
    ) -> Result<usize> {
        // SAFETY: The lock is held; `f` lives throughout the call, and `read_actor::<F>` is what
        // knows its type.
        let ret = unsafe {
            bindings::rurdma_tcp_read(
                self.as_ptr(),
                budget,
                (&raw mut f).cast(),
                Some(read_actor::<F>),
            )
        };
        length(ret)
    }

    /// Bytes that can be read.
    #[inline]
    pub(crate) fn unread(&self) -> usize {
        // SAFETY: The lock is held.
        unsafe { bindings::rurdma_tcp_unread(self.as_ptr()) as usize }
    }

    /// Sends `frags` by reference, without waiting: returns how many bytes were taken, EAGAIN if
    /// none could be. `more`: further data follows at once.
    #[inline]
    pub(crate) fn splice(&self, frags: &[PageFrag], more: bool) -> Result<usize> {
        let len = frags.iter().map(PageFrag::len).sum();

        // SAFETY: The lock is held, and the fragments are an array of valid `bio_vec`s. TCP takes
        // references of its own.
        length(unsafe {
            bindings::rurdma_tcp_splice_locked(
                self.as_ptr(),
                PageFrag::as_bvecs(frags),
                frags.len(),
                len,
                more,
            )
        })
    }

    /// The connection's state.
    #[inline]
    pub(crate) fn state(&self) -> TcpState {
        // SAFETY: A socket.
        TcpState::from_raw(unsafe { bindings::rurdma_sk_state(self.as_ptr()) })
    }

    /// In [`SocketEvents::data_ready`]: is this data that came while somebody in process context had
    /// the lock, who gives it back now? TCP counts all of that as unread until the last of it is
    /// queued (`sk_backlog.len`): who reads before that offers the peer a window that is too small,
    /// zero in the end, and nothing opens it again but the peer's probes.
    #[inline]
    pub(crate) fn in_backlog(&self) -> bool {
        // SAFETY: A socket, whose lock is held.
        unsafe { bindings::rurdma_sk_owned(self.as_ptr()) }
    }

    /// What broke the connection, if something did.
    pub(crate) fn error(&self) -> Option<Error> {
        sock_error(self.as_ptr())
    }

    /// Will the peer send no more (FIN or RST seen)? What it sent before may still be unread.
    #[inline]
    pub(crate) fn peer_closed(&self) -> bool {
        // SAFETY: A socket.
        let shutdown = unsafe { bindings::rurdma_sk_shutdown(self.as_ptr()) };
        u32::from(shutdown) & bindings::RCV_SHUTDOWN != 0 || self.state() == TcpState::Closed
    }
}

/// A count of bytes, or an errno.
#[inline]
fn length(ret: c_int) -> Result<usize> {
    if ret < 0 {
        Err(Error::from_errno(ret))
    } else {
        Ok(ret as usize)
    }
}

fn sock_error(sk: *mut bindings::sock) -> Option<Error> {
    // SAFETY: The callers have a living socket.
    let err = unsafe { bindings::rurdma_sk_err(sk) };
    (err > 0).then(|| Error::from_errno(-err))
}

/// # Safety
///
/// Called by `tcp_read_sock()` with what [`LockedSock::read`] gave it.
unsafe extern "C" fn read_actor<F: FnMut(&SkbChunk<'_>) -> usize>(
    desc: *mut bindings::read_descriptor_t,
    skb: *mut bindings::sk_buff,
    offset: c_uint,
    len: usize,
) -> c_int {
    // SAFETY: By the caller's promise it is `f`, which nobody else uses meanwhile.
    let f = unsafe { &mut *(*desc).arg.data.cast::<F>() };
    // SAFETY: `tcp_read_sock()` gives a valid skb and a range of it.
    let chunk = unsafe { SkbChunk::new(skb, Block::head(skb), offset as usize, len) };

    let used = f(&chunk).min(len);
    // SAFETY: As above: it is nobody else's. With zero `tcp_read_sock()` ends.
    unsafe { (*desc).count = (*desc).count.saturating_sub(used) };
    // An skb has less than 2 GiB.
    used as c_int
}

/// The callbacks of a socket before we put ours there: functions of the TCP stack.
#[derive(Clone, Copy)]
pub(super) struct Callbacks {
    pub(super) data_ready: Option<unsafe extern "C" fn(*mut bindings::sock)>,
    pub(super) write_space: Option<unsafe extern "C" fn(*mut bindings::sock)>,
    pub(super) state_change: Option<unsafe extern "C" fn(*mut bindings::sock)>,
}

impl Callbacks {
    /// # Safety
    ///
    /// `sk` is a living socket.
    pub(super) unsafe fn of(sk: *mut bindings::sock) -> Self {
        let mut raw: bindings::rurdma_sk_callbacks = pin_init::zeroed();
        // SAFETY: By the caller's promise.
        unsafe { bindings::rurdma_sk_get_callbacks(sk, &mut raw) };
        Self {
            data_ready: raw.data_ready,
            write_space: raw.write_space,
            state_change: raw.state_change,
        }
    }

    /// # Safety
    ///
    /// `sk` is a living socket, and the callbacks can cope with `data`.
    pub(super) unsafe fn install(self, sk: *mut bindings::sock, data: *mut c_void) {
        let raw = bindings::rurdma_sk_callbacks {
            data_ready: self.data_ready,
            write_space: self.write_space,
            state_change: self.state_change,
        };
        // SAFETY: By the caller's promise.
        unsafe { bindings::rurdma_sk_set_callbacks(sk, &raw, data) };
    }
}

/// An `Arc<E>` that stands in `sk_user_data`, without its type.
pub(super) struct Hook {
    pub(super) data: *const c_void,
    /// Gives the `Arc` back.
    drop: unsafe fn(*const c_void),
}

// SAFETY: It is an `Arc<E>` of a `Send + Sync` type.
unsafe impl Send for Hook {}

impl Hook {
    pub(super) fn new<E: Send + Sync + 'static>(events: Arc<E>) -> Self {
        Self {
            data: Arc::into_raw(events).cast(),
            drop: |data| {
                // SAFETY: Called once only, with `data`.
                drop(unsafe { Arc::<E>::from_raw(data.cast()) })
            },
        }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        // SAFETY: `data` is from `Arc::into_raw` of the type that `drop` is for.
        unsafe { (self.drop)(self.data) };
    }
}

/// The `struct socket` behind a [`Socket`] or a `ListenSocket`, until it is released.
pub(super) struct Control {
    pub(super) sock: *mut bindings::socket,
    pub(super) hook: Option<Hook>,
}

// SAFETY: A socket may be used from any thread.
unsafe impl Send for Control {}

/// A connection, or one that is going to be.
///
/// Whoever has the last `Arc` to one that is not closed drops it in process context.
///
/// # Invariants
///
/// - We own a reference to `sk`, a TCP socket that does not listen.
/// - `control.sock` is its owned `struct socket`, or null after the release.
/// - `sk_user_data` is `control.hook`'s data; it changes with the socket's lock held only.
#[pin_data(PinnedDrop)]
pub(crate) struct Socket {
    sk: NonNull<bindings::sock>,
    orig: Callbacks,
    #[pin]
    control: Mutex<Control>,
}

// SAFETY: The control side is behind a mutex, the data side behind the socket's own lock.
unsafe impl Send for Socket {}
// SAFETY: As above.
unsafe impl Sync for Socket {}

/// Creates a `struct socket`; not one byte of it was used yet.
pub(super) fn create(net: &NetNs, addr: &SocketAddr) -> Result<*mut bindings::socket> {
    let mut sock = null_mut();

    // SAFETY: The namespace is held; process context.
    to_result(unsafe {
        bindings::rurdma_sock_create(net.as_ptr(), c_int::from(family(addr)), &mut sock)
    })?;
    Ok(sock)
}

/// # Safety
///
/// `sock` is a living socket.
pub(super) unsafe fn bind(sock: *mut bindings::socket, addr: &SocketAddr) -> Result {
    let mut raw = SockAddrStorage::from(*addr);
    let len = raw.len() as c_int;

    // SAFETY: By the caller's promise; an address of that length.
    to_result(unsafe { bindings::rurdma_sock_bind(sock, raw.as_mut_ptr(), len) })
}

/// # Safety
///
/// `sock` is a living socket.
unsafe fn getname(sock: *mut bindings::socket, peer: bool) -> Result<SocketAddr> {
    let mut raw = SockAddrStorage::zeroed();

    // SAFETY: By the caller's promise; room for any address.
    let ret = unsafe { bindings::rurdma_sock_getname(sock, raw.as_mut_ptr(), c_int::from(peer)) };
    if ret < 0 {
        return Err(Error::from_errno(ret));
    }
    raw.decode()
}

impl Socket {
    /// A new socket in `net` for the family of `addr`, bound to nothing.
    pub(crate) fn new(net: &NetNs, addr: &SocketAddr) -> Result<Arc<Self>> {
        let sock = create(net, addr)?;
        // SAFETY: Just created, so it is ours and its callbacks are the stack's.
        unsafe {
            let orig = Callbacks::of(bindings::rurdma_sock_sk(sock));
            Self::from_raw(sock, orig)
        }
    }

    /// # Safety
    ///
    /// Gives away `sock`, whose callbacks were `orig`, and which has no user data.
    pub(super) unsafe fn from_raw(
        sock: *mut bindings::socket,
        orig: Callbacks,
    ) -> Result<Arc<Self>> {
        // SAFETY: By the caller's promise the socket lives.
        let sk = unsafe { bindings::rurdma_sock_sk(sock) };
        let Some(nn) = NonNull::new(sk) else {
            // SAFETY: By the caller's promise it is ours.
            unsafe { bindings::sock_release(sock) };
            return Err(NetError::NotConn.into());
        };
        // SAFETY: As above; the reference becomes the `Socket`'s.
        unsafe {
            orig.install(sk, null_mut());
            bindings::rurdma_sk_setup(sk);
            bindings::rurdma_sk_hold(sk);
        }
        let this = Arc::pin_init(
            pin_init!(Self {
                sk: nn,
                orig,
                control <- new_mutex!(Control { sock, hook: None }, "rurdma_socket"),
            }),
            GFP_KERNEL,
        );
        if this.is_err() {
            // SAFETY: Nobody else got them.
            unsafe {
                bindings::rurdma_sk_put(sk);
                bindings::sock_release(sock);
            }
        }
        this
    }

    #[inline]
    fn sk(&self) -> *mut bindings::sock {
        self.sk.as_ptr()
    }

    /// Runs `f` with the living `struct socket`; ENOTCONN after the release.
    fn with_sock<R>(&self, f: impl FnOnce(*mut bindings::socket) -> Result<R>) -> Result<R> {
        let control = self.control.lock();
        if control.sock.is_null() {
            return Err(NetError::NotConn.into());
        }
        f(control.sock)
    }

    /// Runs `f` with the socket's lock held. Process context. `f` must not sleep for long: meanwhile
    /// what arrives is queued.
    #[inline]
    pub(crate) fn with_lock<R>(&self, f: impl FnOnce(&LockedSock) -> R) -> R {
        // SAFETY: By the type invariant; process context, and the lock is not held by us (TCP's
        // callbacks do not get a `Socket`).
        unsafe { bindings::rurdma_sk_lock(self.sk()) };
        // SAFETY: The lock is held until `f` is back.
        let ret = f(unsafe { LockedSock::from_raw(self.sk()) });
        // SAFETY: Taken above.
        unsafe { bindings::release_sock(self.sk()) };
        ret
    }

    /// [`LockedSock::splice`] from process context; takes the socket's lock.
    #[inline]
    pub(crate) fn splice(&self, frags: &[PageFrag], more: bool) -> Result<usize> {
        let len = frags.iter().map(PageFrag::len).sum();

        // SAFETY: By the type invariant; the fragments are an array of valid `bio_vec`s. TCP takes
        // references of its own.
        length(unsafe {
            bindings::rurdma_tcp_splice(
                self.sk(),
                PageFrag::as_bvecs(frags),
                frags.len(),
                len,
                more,
            )
        })
    }

    /// Sends a copy of `bytes`, without waiting: as many as there is room for.
    pub(crate) fn send_bytes(&self, bytes: &[u8]) -> Result<usize> {
        // SAFETY: By the type invariant; the bytes are only read.
        length(unsafe {
            bindings::rurdma_tcp_send(self.sk(), bytes.as_ptr().cast_mut().cast(), bytes.len())
        })
    }

    /// The largest segment that leaves as one packet. Any context.
    #[inline]
    pub(crate) fn mss(&self) -> usize {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_tcp_mss(self.sk()) as usize }
    }

    /// What TCP goes by when it fills an skb. Any context; it may have changed already.
    #[inline]
    pub(crate) fn skb_limits(&self) -> SkbLimits {
        let (mut bytes, mut segments, mut window) = (0, 0, 0);
        // SAFETY: By the type invariant.
        unsafe {
            bindings::rurdma_tcp_skb_limits(self.sk(), &mut bytes, &mut segments, &mut window)
        };
        SkbLimits {
            bytes,
            segments,
            window,
        }
    }

    /// Is there room to send? Any context; it may have changed already.
    pub(crate) fn is_writeable(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_sk_writeable(self.sk()) }
    }

    /// See [`LockedSock::state`]. Any context; it may have changed already.
    pub(crate) fn state(&self) -> TcpState {
        // SAFETY: By the type invariant.
        TcpState::from_raw(unsafe { bindings::rurdma_sk_state(self.sk()) })
    }

    /// See [`LockedSock::error`].
    pub(crate) fn error(&self) -> Option<Error> {
        sock_error(self.sk())
    }

    /// Installs `E`'s callbacks. Look at the state afterwards: what happened before is not told.
    pub(crate) fn hook<E: SocketEvents>(&self, events: Arc<E>) -> Result {
        let mut control = self.control.lock();
        if control.sock.is_null() {
            return Err(NetError::NotConn.into());
        }
        if control.hook.is_some() {
            return Err(EBUSY);
        }
        let hook = Hook::new(events);
        let callbacks = Callbacks {
            data_ready: Some(data_ready::<E>),
            write_space: Some(write_space::<E>),
            state_change: Some(state_change::<E>),
        };
        self.with_lock(|sk| {
            // SAFETY: The socket lives, and the callbacks are those for an `Arc<E>`.
            // INVARIANT: The lock is held; the hook is kept below.
            unsafe { callbacks.install(sk.as_ptr(), hook.data.cast_mut()) }
        });
        control.hook = Some(hook);
        Ok(())
    }

    /// TCP calls back with the socket's lock held, so that it is in none of the callbacks while
    /// this has it, and what it calls later are its own functions again.
    fn unhook_locked(&self, control: &mut Control) -> Option<Hook> {
        let hook = control.hook.take()?;
        self.with_lock(|sk| {
            // SAFETY: The stack's own callbacks need no data.
            // INVARIANT: The lock is held, and there is no hook any more.
            unsafe { self.orig.install(sk.as_ptr(), null_mut()) }
        });
        Some(hook)
    }

    /// Binds it to an address. `reuse`: even if an old connection has not died down there.
    pub(crate) fn bind(&self, addr: &SocketAddr, reuse: bool) -> Result {
        self.with_sock(|sock| {
            if reuse {
                // SAFETY: By the type invariant.
                unsafe { bindings::sock_set_reuseaddr(self.sk()) };
            }
            // SAFETY: `with_sock` gives a living socket.
            unsafe { bind(sock, addr) }
        })
    }

    /// Begins to connect, without waiting: true if it is connected already.
    pub(crate) fn connect(&self, addr: &SocketAddr) -> Result<bool> {
        let mut raw = SockAddrStorage::from(*addr);
        let len = raw.len() as c_int;

        self.with_sock(|sock| {
            // SAFETY: `with_sock` gives a living socket; an address of that length.
            match unsafe { bindings::rurdma_sock_connect(sock, raw.as_mut_ptr(), len) } {
                0 => Ok(true),
                err if err == NetError::InProgress.to_errno() => Ok(false),
                err => Err(Error::from_errno(err)),
            }
        })
    }

    /// Our address.
    pub(crate) fn local_addr(&self) -> Result<SocketAddr> {
        // SAFETY: `with_sock` gives a living socket.
        self.with_sock(|sock| unsafe { getname(sock, false) })
    }

    /// The peer's address.
    pub(crate) fn peer_addr(&self) -> Result<SocketAddr> {
        // SAFETY: `with_sock` gives a living socket.
        self.with_sock(|sock| unsafe { getname(sock, true) })
    }

    /// Small messages leave at once.
    pub(crate) fn set_nodelay(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::tcp_sock_set_nodelay(self.sk()) };
    }

    /// Type of service, or traffic class.
    pub(crate) fn set_tos(&self, tos: u8, addr: &SocketAddr) {
        // SAFETY: By the type invariant; the socket is of the address's family.
        unsafe { bindings::rurdma_sk_set_tos(self.sk(), tos, addr.is_ipv6()) };
    }

    /// A peer that is gone is noticed: after `idle` seconds of silence it is asked every `interval`
    /// seconds, and given up after `count` questions, or when what we sent has not been
    /// acknowledged for that long.
    pub(crate) fn set_keepalive(&self, idle: u32, interval: u32, count: u32) -> Result {
        let timeout = idle.saturating_add(interval.saturating_mul(count));

        // SAFETY: By the type invariant; each takes the lock.
        unsafe {
            to_result(bindings::tcp_sock_set_keepidle(self.sk(), idle as c_int))?;
            to_result(bindings::tcp_sock_set_keepintvl(
                self.sk(),
                interval as c_int,
            ))?;
            to_result(bindings::tcp_sock_set_keepcnt(self.sk(), count as c_int))?;
            to_result(bindings::tcp_sock_set_user_timeout(
                self.sk(),
                timeout.saturating_mul(1000).min(i32::MAX as u32) as c_int,
            ))?;
            bindings::sock_set_keepalive(self.sk());
        }
        Ok(())
    }

    /// Nothing more will be sent: a FIN follows what is queued.
    pub(crate) fn shutdown_send(&self) {
        // A connection that is over already is as good.
        let _ = self.with_sock(|sock| {
            // SAFETY: `with_sock` gives a living socket.
            unsafe { bindings::kernel_sock_shutdown(sock, bindings::sock_shutdown_cmd_SHUT_WR) };
            Ok(())
        });
    }

    /// Closes it in good order: what is queued is still sent, then a FIN. Callbacks are taken back.
    /// Later sends fail with EPIPE, later reads find nothing. Process context.
    pub(crate) fn close(&self) {
        self.release(false);
    }

    /// Closes it with a RST; what is queued is lost. Otherwise like [`Self::close`].
    pub(crate) fn abort(&self) {
        self.release(true);
    }

    fn release(&self, reset: bool) {
        let mut control = self.control.lock();
        let hook = self.unhook_locked(&mut control);
        let sock = core::mem::replace(&mut control.sock, null_mut());
        drop(control);
        if !sock.is_null() {
            // SAFETY: By the type invariant. A socket without its namespace cannot outlive its
            // release, and is reset.
            unsafe {
                if reset || !bindings::rurdma_sk_hold_net(self.sk()) {
                    bindings::sock_no_linger(self.sk());
                }
                // INVARIANT: Nobody uses it any more, for `control.sock` is null.
                bindings::sock_release(sock);
            }
        }
        drop(hook);
    }
}

#[pinned_drop]
impl PinnedDrop for Socket {
    fn drop(self: Pin<&mut Self>) {
        self.abort();
        // SAFETY: By the type invariant. Nobody uses the callbacks, which `abort` took back.
        unsafe { bindings::rurdma_sk_put(self.sk()) };
    }
}

/// # Safety
///
/// A callback of a socket with an `E` hooked in: TCP calls it with the socket's lock held.
unsafe extern "C" fn data_ready<E: SocketEvents>(sk: *mut bindings::sock) {
    // SAFETY: By the caller's promise.
    unsafe { call::<E>(sk, E::data_ready) }
}

/// # Safety
///
/// As [`data_ready`].
unsafe extern "C" fn write_space<E: SocketEvents>(sk: *mut bindings::sock) {
    // SAFETY: By the caller's promise.
    unsafe {
        if bindings::rurdma_sk_writeable(sk) {
            bindings::rurdma_sk_clear_nospace(sk);
            call::<E>(sk, E::write_space)
        }
    }
}

/// # Safety
///
/// As [`data_ready`].
unsafe extern "C" fn state_change<E: SocketEvents>(sk: *mut bindings::sock) {
    // SAFETY: By the caller's promise.
    unsafe { call::<E>(sk, E::state_change) }
}

/// # Safety
///
/// `sk` is a socket that had an `E` hooked in when TCP decided to call, and its lock is held.
#[inline]
unsafe fn call<E: SocketEvents>(
    sk: *mut bindings::sock,
    f: impl FnOnce(ArcBorrow<'_, E>, &LockedSock),
) {
    // SAFETY: The socket lives.
    let data = unsafe { bindings::rurdma_sk_user_data(sk) };
    if data.is_null() {
        return;
    }
    // SAFETY: By the invariant of `Socket` it is an `Arc<E>`, and it stays, for it changes with the
    // lock held only, which our caller has.
    let (events, sk) = unsafe {
        (
            ArcBorrow::from_raw(data.cast_const().cast::<E>()),
            LockedSock::from_raw(sk),
        )
    };
    f(events, sk);
}
