// SPDX-License-Identifier: GPL-2.0

//! `ib_device`.

use crate::bindings;
use crate::kapi::net::netdev::NetDevice;
use crate::kapi::rdma::attr::{Event, Protocol};
use crate::kapi::rdma::kick;
use crate::kapi::rdma::linger::linger;
use crate::kapi::rdma::link::LinkOps;
use crate::kapi::rdma::object::{Handle, Object};
use crate::kapi::rdma::ops::{device_of, device_ops, Driver};
use core::mem::size_of;
use core::ptr::NonNull;
use kernel::error::{from_result, to_result};
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::Arc;

/// An `ib_device` with the driver's device behind it.
pub(super) type IbDevice<D> = Object<bindings::ib_device, <D as Driver>::Device>;

/// The driver's way back to its `ib_device`.
pub(crate) type DeviceHandle = Handle<bindings::ib_device>;

/// A device that is allocated and not yet registered.
///
/// # Invariants
///
/// The pointer is from `_ib_alloc_device()` and owned.
pub(crate) struct UnregisteredDevice<D: Driver> {
    raw: NonNull<bindings::ib_device>,
    _driver: core::marker::PhantomData<D>,
}

/// What the core must know before it registers a device.
pub(crate) struct DeviceInit {
    /// Node GUID, in wire order.
    pub(crate) node_guid: u64,
    /// The wire protocol.
    pub(crate) protocol: Protocol,
    /// Completion vectors.
    pub(crate) comp_vectors: c_int,
}

impl<D: Driver> UnregisteredDevice<D> {
    /// Allocates a device in the netdev's network namespace (in the RDMA subsystem's shared mode
    /// the core moves it into the initial one).
    pub(crate) fn new(netdev: &NetDevice) -> Result<Self> {
        // SAFETY: The size is that of `IbDevice<D>`, whose first field is the `ib_device`; the
        // netdev is held, and so is its namespace while we are called under the RTNL's reference.
        let raw =
            unsafe { bindings::rurdma_alloc_device(size_of::<IbDevice<D>>(), netdev.as_ptr()) };
        Ok(Self {
            raw: NonNull::new(raw).ok_or(ENOMEM)?,
            _driver: core::marker::PhantomData,
        })
    }

    fn object(&self) -> &IbDevice<D> {
        // SAFETY: By the type invariant.
        unsafe { Object::from_raw(self.raw.as_ptr()) }
    }

    /// The way back that the driver's device keeps.
    pub(crate) fn handle(&self) -> Result<Arc<DeviceHandle>> {
        // SAFETY: The device is being created.
        unsafe { self.object().make_handle(kernel::static_lock_class!()) }
    }

    /// Registers the device under `name`. After that it belongs to the core.
    pub(crate) fn register(
        self,
        name: &CStr,
        netdev: &NetDevice,
        init: &DeviceInit,
        inner: Arc<D::Device>,
        link_ops: &LinkOps,
    ) -> Result {
        // SAFETY: The device is being created.
        unsafe { self.object().set(inner) };
        let raw = self.raw.as_ptr();
        // SAFETY: The device is ours alone until it is registered.
        unsafe {
            (*raw).node_guid = init.node_guid;
            (*raw).node_type = match init.protocol {
                Protocol::Iwarp => bindings::RDMA_NODE_RNIC,
                Protocol::Roce => bindings::RDMA_NODE_IB_CA,
            } as u8;
            (*raw).phys_port_cnt = 1;
            (*raw).num_comp_vectors = init.comp_vectors;
            (*raw).local_dma_lkey = 0;
            (*raw).link_ops = link_ops.as_ptr();
            (*raw).driver_def = kick::uapi_definition();
            bindings::rurdma_prepare_device(raw, netdev.as_ptr());
            bindings::ib_set_device_ops(raw, &device_ops::<D>(init.protocol));
            kick::set_handler::<D>();
        }
        // SAFETY: The netdev is held; the core takes references of its own.
        to_result(unsafe { bindings::ib_device_set_netdev(raw, netdev.as_ptr(), 1) })?;
        // SAFETY: Everything the core needs is set. With `dealloc_driver` the device may be freed
        // by a parallel unregistration as soon as this returns success: it is not touched again.
        to_result(unsafe {
            bindings::ib_register_device(raw, name.as_char_ptr(), core::ptr::null_mut())
        })?;
        core::mem::forget(self);
        Ok(())
    }
}

impl<D: Driver> Drop for UnregisteredDevice<D> {
    fn drop(&mut self) {
        // Not by `dealloc_driver`, which the core does not know before it has the callbacks.
        // SAFETY: The creation fails.
        if let Some(dev) = unsafe { self.object().take() } {
            D::device_gone(&dev);
        }
        // SAFETY: By the type invariant.
        unsafe { bindings::ib_dealloc_device(self.raw.as_ptr()) };
    }
}

impl DeviceHandle {
    /// Tells everyone who listens. Any context.
    pub(crate) fn dispatch(&self, event: Event) {
        self.with(|raw| {
            // SAFETY: `with` gives a living device; the core copies the event and defers.
            unsafe { bindings::rurdma_dispatch_port_event(raw, event.as_raw()) }
        });
    }

    /// Whether an address of the port's netdev is this GID of RoCEv2. Any context.
    pub(crate) fn has_gid(&self, gid: &[u8; 16]) -> bool {
        self.with(|raw| {
            // SAFETY: `with` gives a living device; a GID has 16 bytes.
            unsafe { bindings::rurdma_is_own_gid(raw, gid.as_ptr()) }
        })
        .unwrap_or(false)
    }

    /// The VLAN of the netdev that has the address which this GID of RoCEv2 is; 0xffff: none. Any context.
    pub(crate) fn vlan_of_gid(&self, gid: &[u8; 16]) -> u16 {
        self.with(|raw| {
            // SAFETY: `with` gives a living device; a GID has 16 bytes.
            unsafe { bindings::rurdma_vlan_of_gid(raw, gid.as_ptr()) }
        })
        .unwrap_or(0xffff)
    }

    /// Begins to unregister the device from a context that may not wait for it.
    pub(crate) fn unregister_queued(&self) {
        self.with(|raw| {
            // SAFETY: `with` gives a living device. The core takes its own reference.
            unsafe { bindings::rurdma_unregister_queued(raw) }
        });
    }
}

/// Unregisters every device of driver `D` and waits for it. Process context.
pub(crate) fn unregister_driver<D: Driver>() {
    // SAFETY: May be called from process context.
    unsafe { bindings::ib_unregister_driver(D::DRIVER_ID) };
}

/// # Safety
///
/// Called by the core for the last reference to a device of ours.
pub(super) unsafe extern "C" fn dealloc_driver<D: Driver>(raw: *mut bindings::ib_device) {
    // SAFETY: By the caller's promise the object is destroyed.
    if let Some(dev) = unsafe { IbDevice::<D>::from_raw(raw).take() } {
        D::device_gone(&dev);
    }
    if let Some(raw) = NonNull::new(raw) {
        // SAFETY: The core gives its reference back after this only.
        unsafe { linger(raw) };
    }
}

/// A limit as `ib_device_attr` has it: signed in 7.2, unsigned in 7.3. None is beyond `i32::MAX`.
fn count<T: TryFrom<u32> + Default>(n: u32) -> T {
    T::try_from(n).unwrap_or_default()
}

/// # Safety
///
/// Called by the core with a living device and an attribute to fill.
pub(super) unsafe extern "C" fn query_device<D: Driver>(
    raw: *mut bindings::ib_device,
    attr: *mut bindings::ib_device_attr,
    udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        to_result(unsafe { bindings::rurdma_no_udata_io(udata) })?;
        // SAFETY: By the caller's promise.
        let a = D::query_device(unsafe { device_of::<D>(raw) }?);
        // SAFETY: By the caller's promise.
        let out = unsafe { &mut *attr };
        out.sys_image_guid = a.sys_image_guid;
        out.max_mr_size = a.max_mr_size;
        out.page_size_cap = u64::MAX & !(kernel::page::PAGE_SIZE as u64 - 1);
        out.vendor_id = 0xff_ffff;
        out.hw_ver = 1;
        out.max_qp = count(a.max_qp);
        out.max_qp_wr = count(a.max_qp_wr);
        out.device_cap_flags = (bindings::ib_device_cap_flags_IB_DEVICE_MEM_MGT_EXTENSIONS
            | bindings::ib_device_cap_flags_IB_DEVICE_MEM_WINDOW
            | bindings::ib_device_cap_flags_IB_DEVICE_MEM_WINDOW_TYPE_2B
            | bindings::ib_device_cap_flags_IB_DEVICE_SRQ_RESIZE
            | bindings::ib_device_cap_flags_IB_DEVICE_PORT_ACTIVE_EVENT
            | bindings::ib_device_cap_flags_IB_DEVICE_SYS_IMAGE_GUID)
            as u64;
        if a.flush {
            out.device_cap_flags |= (bindings::ib_device_cap_flags_IB_DEVICE_FLUSH_GLOBAL
                | bindings::ib_device_cap_flags_IB_DEVICE_FLUSH_PERSISTENT)
                as u64;
        }
        if a.atomic_write {
            out.device_cap_flags |= bindings::ib_device_cap_flags_IB_DEVICE_ATOMIC_WRITE as u64;
        }
        out.atomic_cap = if a.atomics {
            bindings::ib_atomic_cap_IB_ATOMIC_GLOB
        } else {
            bindings::ib_atomic_cap_IB_ATOMIC_NONE
        };
        out.kernel_cap_flags = u64::from(
            bindings::ib_kernel_cap_flags_IBK_LOCAL_DMA_LKEY
                | bindings::ib_kernel_cap_flags_IBK_ALLOW_USER_UNREG,
        );
        out.max_send_sge = count(a.max_sge);
        out.max_recv_sge = count(a.max_sge);
        out.max_sge_rd = count(a.max_sge_rd);
        out.max_cq = count(a.max_cq);
        out.max_cqe = count(a.max_cqe);
        out.max_mr = count(a.max_mr);
        out.max_mw = count(a.max_mw);
        out.max_pd = count(a.max_pd);
        out.max_qp_rd_atom = count(a.max_rd_atom);
        out.max_qp_init_rd_atom = count(a.max_rd_atom);
        out.max_res_rd_atom = count(a.max_rd_atom.saturating_mul(a.max_qp).min(i32::MAX as u32));
        out.max_ah = count(a.max_ah);
        out.max_mcast_grp = count(a.max_mcast);
        out.max_mcast_qp_attach = count(a.max_mcast);
        out.max_total_mcast_qp_attach = count(a.max_mcast);
        out.max_srq = count(a.max_srq);
        out.max_srq_wr = count(a.max_srq_wr);
        out.max_srq_sge = count(a.max_srq_sge);
        out.max_fast_reg_page_list_len = a.max_fast_reg_pages;
        out.max_sgl_rd = a.max_sge_rd;
        out.max_pkeys = a.max_pkeys;
        out.timestamp_mask = u64::MAX;
        out.hca_core_clock = 1_000_000;
        Ok(0)
    })
}

/// # Safety
///
/// Called by the core with a living device and a zeroed attribute to fill.
pub(super) unsafe extern "C" fn query_port<D: Driver>(
    raw: *mut bindings::ib_device,
    _port: u32,
    attr: *mut bindings::ib_port_attr,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let dev = unsafe { device_of::<D>(raw) }?;
        let a = D::query_port(dev);
        let (mut speed, mut width) = (0, 0);
        // SAFETY: The device lives. Called without the RTNL held, which this function takes.
        unsafe { bindings::ib_get_eth_speed(raw, 1, &mut speed, &mut width) };
        // SAFETY: By the caller's promise.
        let out = unsafe { &mut *attr };
        out.state = if a.active {
            bindings::ib_port_state_IB_PORT_ACTIVE
        } else {
            bindings::ib_port_state_IB_PORT_DOWN
        };
        out.phys_state = if a.active {
            bindings::ib_port_phys_state_IB_PORT_PHYS_STATE_LINK_UP
        } else if a.enabled {
            bindings::ib_port_phys_state_IB_PORT_PHYS_STATE_POLLING
        } else {
            bindings::ib_port_phys_state_IB_PORT_PHYS_STATE_DISABLED
        } as u8;
        out.max_mtu = bindings::ib_mtu_IB_MTU_4096;
        out.active_mtu = u32::from(a.path_mtu);
        out.phys_mtu = a.mtu;
        out.gid_tbl_len = a.gid_table_len;
        out.pkey_tbl_len = a.pkey_table_len;
        out.max_msg_sz = a.max_msg;
        out.active_speed = speed;
        out.active_width = width;
        out.max_vl_num = 1;
        if a.cm_sup {
            out.port_cap_flags = bindings::ib_port_capability_mask_bits_IB_PORT_CM_SUP;
        } else {
            out.port_cap_flags = bindings::ib_port_capability_mask_bits_IB_PORT_CM_SUP
                | bindings::ib_port_capability_mask_bits_IB_PORT_DEVICE_MGMT_SUP;
        }
        Ok(0)
    })
}

/// # Safety
///
/// Called by the core with a device that is being registered and an attribute to fill.
pub(super) unsafe extern "C" fn get_port_immutable<D: Driver>(
    raw: *mut bindings::ib_device,
    _port: u32,
    immutable: *mut bindings::ib_port_immutable,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let a = D::port_immutable(unsafe { device_of::<D>(raw) }?);
        // SAFETY: By the caller's promise.
        let out = unsafe { &mut *immutable };
        out.gid_tbl_len = a.gid_table_len;
        out.pkey_tbl_len = a.pkey_table_len;
        out.core_cap_flags = match a.protocol {
            Protocol::Iwarp => bindings::RDMA_CORE_PORT_IWARP,
            Protocol::Roce => {
                out.max_mad_size = bindings::IB_MGMT_MAD_SIZE;
                // SAFETY: Pure function.
                unsafe { bindings::rurdma_core_port_roce() }
            }
        };
        Ok(0)
    })
}

/// # Safety
///
/// Called by the core with a living device and a GID to fill.
pub(super) unsafe extern "C" fn query_gid<D: Driver>(
    raw: *mut bindings::ib_device,
    _port: u32,
    index: c_int,
    gid: *mut bindings::ib_gid,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let value = D::query_gid(unsafe { device_of::<D>(raw) }?, index)?;
        // SAFETY: By the caller's promise; any bytes are a GID.
        unsafe { *gid.cast::<[u8; 16]>() = value };
        Ok(0)
    })
}
