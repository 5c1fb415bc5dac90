// SPDX-License-Identifier: GPL-2.0

//! Network devices.

use crate::bindings;
use core::ptr::NonNull;
use kernel::fmt;
use kernel::str::CStr;

/// `ARPHRD_ETHER`.
pub(crate) const TYPE_ETHER: u32 = bindings::ARPHRD_ETHER;
/// `ARPHRD_LOOPBACK`.
pub(crate) const TYPE_LOOPBACK: u32 = bindings::ARPHRD_LOOPBACK;
/// `ARPHRD_NONE`: no link layer addresses (tunnels).
pub(crate) const TYPE_NONE: u32 = bindings::ARPHRD_NONE;

/// A network device, held by a tracked reference.
///
/// # Invariants
///
/// `dev` is a net_device to which we own the reference that `tracker` tracks.
pub(crate) struct NetDevice {
    dev: NonNull<bindings::net_device>,
    tracker: bindings::netdevice_tracker,
}

// SAFETY: A net_device may be read and released from any thread.
unsafe impl Send for NetDevice {}
// SAFETY: As above; what the methods read is read atomically, or copied.
unsafe impl Sync for NetDevice {}

/// The name of a network device at one moment.
#[derive(Clone, Copy)]
pub(crate) struct NetDevName([u8; Self::SIZE]);

impl NetDevName {
    const SIZE: usize = bindings::IFNAMSIZ as usize;

    /// As a C string.
    pub(crate) fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for NetDevName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_cstr(), f)
    }
}

/// A network namespace, held. Short-lived: while it lives, the namespace cannot go.
///
/// # Invariants
///
/// We own a reference to the namespace.
pub(crate) struct NetNs(NonNull<bindings::net>);

impl NetNs {
    pub(super) fn as_ptr(&self) -> *mut bindings::net {
        self.0.as_ptr()
    }

    /// Tells it from others, as long as something holds it.
    pub(crate) fn id(&self) -> usize {
        self.0.as_ptr().addr()
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_put_net(self.0.as_ptr()) };
    }
}

impl NetDevice {
    /// Takes a reference. Any context.
    ///
    /// # Safety
    ///
    /// `dev` is a net_device that cannot go during the call.
    pub(crate) unsafe fn hold(dev: *mut bindings::net_device) -> Self {
        let mut tracker = pin_init::zeroed();

        // SAFETY: By the caller's promise; `tracker` is ours.
        unsafe { bindings::rurdma_dev_hold(dev, &mut tracker) };
        Self {
            // SAFETY: By the caller's promise it is not null.
            dev: unsafe { NonNull::new_unchecked(dev) },
            // INVARIANT: The reference was taken above.
            tracker,
        }
    }

    /// The C object.
    pub(crate) fn as_ptr(&self) -> *mut bindings::net_device {
        self.dev.as_ptr()
    }

    /// The same device?
    pub(crate) fn is(&self, other: &NetDevice) -> bool {
        self.dev == other.dev
    }

    /// The namespace it is in now; `None` if that is going.
    pub(crate) fn net(&self) -> Option<NetNs> {
        // SAFETY: By the type invariant the device lives.
        let net = unsafe { bindings::rurdma_dev_get_net(self.as_ptr()) };
        // INVARIANT: The call above took a reference.
        NonNull::new(net).map(NetNs)
    }

    /// Is it in namespace `net` now?
    pub(in crate::kapi) fn is_in(&self, net: *const bindings::net) -> bool {
        // SAFETY: By the type invariant; `net` is only compared.
        unsafe { bindings::rurdma_dev_in_net(self.as_ptr(), net) }
    }

    /// Is it in the namespace with this [`NetNs::id`] now?
    pub(crate) fn is_in_ns(&self, id: usize) -> bool {
        self.is_in(core::ptr::without_provenance(id))
    }

    /// Its index.
    pub(crate) fn ifindex(&self) -> i32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_dev_ifindex(self.as_ptr()) }
    }

    /// Its name.
    pub(crate) fn name(&self) -> NetDevName {
        let mut name = [0; NetDevName::SIZE];

        // SAFETY: By the type invariant, and into an array of that size.
        unsafe { bindings::rurdma_dev_name(self.as_ptr(), name.as_mut_ptr().cast(), name.len()) };
        NetDevName(name)
    }

    /// The first bytes of its link layer address; missing ones are zero.
    pub(crate) fn address<const N: usize>(&self) -> [u8; N] {
        let mut addr = [0; N];

        // SAFETY: By the type invariant, and into an array of that size.
        unsafe { bindings::rurdma_dev_addr(self.as_ptr(), addr.as_mut_ptr(), N) };
        addr
    }

    /// Is it a VLAN of another one?
    pub(crate) fn is_vlan(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_dev_is_vlan(self.as_ptr()) }
    }

    /// Does it stand on another one, as a VLAN or a bridge does?
    pub(crate) fn has_lower(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_dev_has_lower(self.as_ptr()) }
    }

    /// Its MTU in bytes.
    pub(crate) fn mtu(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_dev_mtu(self.as_ptr()) }
    }

    /// Its hardware type, `ARPHRD_*`.
    pub(crate) fn kind(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_dev_type(self.as_ptr()) }
    }

    /// Is it administratively up?
    pub(crate) fn is_running(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_dev_running(self.as_ptr()) }
    }

    /// Can it pass packets: up, and with a carrier?
    ///
    /// As `ib_get_curr_port_state()` has it. The operational state is no part of it: it follows
    /// the carrier up to a second later (net/core/link_watch.c).
    pub(crate) fn is_operational(&self) -> bool {
        // SAFETY: By the type invariant.
        let carrier = unsafe { bindings::rurdma_dev_carrier_ok(self.as_ptr()) };
        carrier && self.is_running()
    }

    /// Is it registered? A `NETDEV_UNREGISTER` for a device that is means a move to another
    /// namespace.
    pub(crate) fn is_registered(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_dev_registered(self.as_ptr()) }
    }
}

impl Clone for NetDevice {
    fn clone(&self) -> Self {
        // SAFETY: Our own reference keeps it alive.
        unsafe { Self::hold(self.as_ptr()) }
    }
}

impl Drop for NetDevice {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::rurdma_dev_put(self.as_ptr(), &mut self.tracker) };
    }
}
