// SPDX-License-Identifier: GPL-2.0

//! What a driver implements, and the table of callbacks that the core gets for it.

use crate::bindings;
use crate::kapi::abi::UctxResp;
use crate::kapi::rdma::attr::{DeviceAttr, PortAttr, PortImmutable, Protocol};
use crate::kapi::rdma::av::Av;
use crate::kapi::rdma::cq::{CqHandle, CqInit, NotifyFlags, WcWriter};
use crate::kapi::rdma::device::{self, IbDevice};
use crate::kapi::rdma::iwcm;
use crate::kapi::rdma::memory::Registration;
use crate::kapi::rdma::mr::{self, MrInit, Rereg};
use crate::kapi::rdma::mw::{self, MwType};
use crate::kapi::rdma::object::Object;
use crate::kapi::rdma::qp::{QpHandle, QpInit, RecvWrs, SendWrs};
use crate::kapi::rdma::qp_attr::{QpAttr, QpQuery};
use crate::kapi::rdma::srq::{SrqAttr, SrqHandle};
use crate::kapi::rdma::stats::{self, COUNTERS, PACKET_COUNTERS};
use crate::kapi::rdma::ucontext::Context;
use crate::kapi::rdma::udata::Udata;
use crate::kapi::rdma::{ah, cq, mad, mcast, mmap, pd, qp, srq, ucontext};
use crate::proto::wire::mad::MAD_LEN;
use core::mem::size_of;
use kernel::prelude::*;
use kernel::sync::Arc;

/// An RDMA device driver.
///
/// Every object is the driver's own; the core's memory holds a reference to it from the `create`
/// to the `destroy` call. All calls are from process context unless said otherwise.
pub(crate) trait Driver: Sized + Send + Sync + 'static {
    /// The driver's part of an `ib_device`.
    type Device: Send + Sync;
    /// Of an `ib_ucontext`.
    type Ucontext: Send + Sync;
    /// Of an `ib_pd`.
    type Pd: Send + Sync;
    /// Of an `ib_cq`.
    type Cq: Send + Sync;
    /// Of an `ib_qp`.
    type Qp: Send + Sync;
    /// Of an `ib_srq`.
    type Srq: Send + Sync;
    /// Of an `ib_mr`.
    type Mr: Send + Sync;
    /// Of an `ib_mw`.
    type Mw: Send + Sync;
    /// Of an `ib_ah`.
    type Ah: Send + Sync;
    /// The iWARP connection manager.
    type IwCm: iwcm::IwCm<Device = Self::Device>;

    /// Driver id, see `enum rdma_driver_id`.
    const DRIVER_ID: u32;
    /// Version of the contract with the provider.
    const ABI_VERSION: u32;

    /// `ibv_query_device(3)`.
    fn query_device(dev: &Self::Device) -> DeviceAttr;
    /// `ibv_query_port(3)`.
    fn query_port(dev: &Self::Device) -> PortAttr;
    /// Properties of the port that never change; called while the device is registered.
    fn port_immutable(dev: &Self::Device) -> PortImmutable;
    /// Entry `index` of the GID table.
    fn query_gid(dev: &Self::Device, index: i32) -> Result<[u8; 16]>;

    /// What `rdma statistic` shows.
    fn counters(dev: &Self::Device) -> [u64; COUNTERS];
    /// And of the packets; always or never.
    fn packet_counters(dev: &Self::Device) -> Option<[u64; PACKET_COUNTERS]>;
    /// Answers a management datagram. False: that is for somebody else.
    fn process_mad(
        dev: &Self::Device,
        request: &[u8; MAD_LEN],
        response: &mut [u8; MAD_LEN],
    ) -> bool;
    /// The core has given the device to its MAD services, and to all others who were there before the module.
    fn users_come(dev: &Arc<Self::Device>);
    /// The core is about to take it from them. They come again if the device only changes its namespace.
    fn users_go(dev: &Arc<Self::Device>);
    /// The core has let go of the device; what remains of it is the driver's.
    fn device_gone(dev: &Arc<Self::Device>);

    /// A process opens the device.
    fn alloc_ucontext(
        dev: &Arc<Self::Device>,
        context: &Context<'_>,
        udata: &Udata<'_>,
    ) -> Result<Arc<Self::Ucontext>>;
    /// The last object of the context is gone.
    fn dealloc_ucontext(context: &Self::Ucontext);
    /// The device goes, the context stays open.
    fn disassociate_ucontext(context: &Self::Ucontext);
    /// What [`Self::alloc_ucontext`] answered, for a process that was handed the context.
    fn query_ucontext(context: &Self::Ucontext) -> Result<UctxResp>;
    /// The process kicks: it posted work and the doorbell page asks for a call.
    fn kick(context: &Arc<Self::Ucontext>) -> Result;

    /// `ibv_alloc_pd(3)`.
    fn alloc_pd(dev: &Arc<Self::Device>) -> Result<Arc<Self::Pd>>;
    /// `ibv_dealloc_pd(3)`.
    fn dealloc_pd(pd: &Self::Pd);

    /// `ibv_create_ah(3)`, of a process with its context; any context.
    fn create_ah(
        pd: &Arc<Self::Pd>,
        av: Av,
        context: Option<Arc<Self::Ucontext>>,
    ) -> Result<Arc<Self::Ah>>;
    /// The number by which work requests name it.
    fn ah_handle(ah: &Self::Ah) -> u32;
    /// Where it leads; any context.
    fn query_ah(ah: &Self::Ah) -> Av;
    /// `ibv_destroy_ah(3)`; any context, but process context if it is a process's.
    fn destroy_ah(ah: &Self::Ah);

    /// `ibv_create_cq(3)`; also tells the number of entries granted.
    fn create_cq(
        dev: &Arc<Self::Device>,
        init: &CqInit,
        handle: Arc<CqHandle>,
        udata: &Udata<'_>,
    ) -> Result<(Arc<Self::Cq>, u32)>;
    /// `ibv_resize_cq(3)`: tells the number of entries granted.
    fn resize_cq(cq: &Self::Cq, cqe: u32, udata: &Udata<'_>) -> Result<u32>;
    /// `ibv_destroy_cq(3)`.
    fn destroy_cq(cq: &Self::Cq);
    /// `ib_poll_cq()`: a kernel user's; any context.
    fn poll_cq(cq: &Self::Cq, wcs: &mut WcWriter<'_>);
    /// `ib_req_notify_cq()`: a kernel user's; any context. True: there are completions.
    fn req_notify_cq(cq: &Self::Cq, flags: NotifyFlags) -> bool;

    /// `ibv_create_qp(3)`.
    fn create_qp(
        dev: &Arc<Self::Device>,
        init: &mut QpInit<Self>,
        handle: Arc<QpHandle>,
        udata: &Udata<'_>,
    ) -> Result<Arc<Self::Qp>>;
    /// The QP's number.
    fn qp_number(qp: &Self::Qp) -> u32;
    /// `ibv_modify_qp(3)`.
    fn modify_qp(qp: &Arc<Self::Qp>, attr: &QpAttr<'_>) -> Result;
    /// `ibv_query_qp(3)`.
    fn query_qp(qp: &Self::Qp) -> QpQuery;
    /// `ibv_destroy_qp(3)`.
    fn destroy_qp(qp: &Arc<Self::Qp>);
    /// `ibv_attach_mcast(3)`.
    fn attach_mcast(qp: &Arc<Self::Qp>, gid: [u8; 16]) -> Result;
    /// `ibv_detach_mcast(3)`.
    fn detach_mcast(qp: &Arc<Self::Qp>, gid: [u8; 16]) -> Result;
    /// `ib_post_send()`: a kernel user's; any context. EINVAL and ENOMEM as `ibv_post_send(3)`.
    fn post_send(qp: &Arc<Self::Qp>, wrs: &mut SendWrs<'_>) -> Result;
    /// `ib_post_recv()`: a kernel user's; any context.
    fn post_recv(qp: &Arc<Self::Qp>, wrs: &mut RecvWrs<'_>) -> Result;
    /// A process's classic post: like a kick, for this QP.
    fn kick_qp(qp: &Arc<Self::Qp>) -> Result;
    /// The QP with this number, for the connection manager; any context.
    fn qp_by_number(dev: &Self::Device, number: u32) -> Option<Arc<Self::Qp>>;
    /// iw_cm takes a reference to the QP: its destruction waits for that.
    fn iw_add_ref(qp: &Self::Qp);
    /// iw_cm gives a reference back; any context.
    fn iw_rem_ref(qp: &Self::Qp);
    /// The QP's handle.
    fn qp_handle(qp: &Self::Qp) -> &Arc<QpHandle>;

    /// `ibv_create_srq(3)`; `attr` becomes what is granted.
    fn create_srq(
        pd: &Arc<Self::Pd>,
        attr: &mut SrqAttr,
        handle: Arc<SrqHandle>,
        udata: &Udata<'_>,
    ) -> Result<Arc<Self::Srq>>;
    /// `ibv_modify_srq(3)`; `None`: not to change.
    fn modify_srq(
        srq: &Self::Srq,
        max_wr: Option<u32>,
        limit: Option<u32>,
        udata: &Udata<'_>,
    ) -> Result;
    /// `ibv_query_srq(3)`.
    fn query_srq(srq: &Self::Srq) -> SrqAttr;
    /// `ibv_destroy_srq(3)`.
    fn destroy_srq(srq: &Self::Srq);
    /// `ib_post_srq_recv()`: a kernel user's; any context.
    fn post_srq_recv(srq: &Self::Srq, wrs: &mut RecvWrs<'_>) -> Result;

    /// Makes an MR: of a process's pages, all of the kernel's memory, or for fast registration.
    fn create_mr(pd: &Arc<Self::Pd>, init: MrInit) -> Result<Arc<Self::Mr>>;
    /// The MR's key, both lkey and rkey.
    fn mr_key(mr: &Self::Mr) -> u32;
    /// `ibv_rereg_mr(3)`: no access as it was before after the return. One at a time.
    fn rereg_mr(mr: &Self::Mr, change: &Rereg<'_, Self>) -> Result;
    /// Takes a new page list for the next fast registration.
    fn map_mr_sg(mr: &Self::Mr, registration: Registration<'_>) -> Result<c_int>;
    /// `ibv_dereg_mr(3)`: no access after the return. EBUSY while a window is bound to it.
    fn dereg_mr(mr: &Self::Mr) -> Result;

    /// `ibv_alloc_mw(3)`.
    fn alloc_mw(pd: &Arc<Self::Pd>, kind: MwType) -> Result<Arc<Self::Mw>>;
    /// The window's present rkey.
    fn mw_key(mw: &Self::Mw) -> u32;
    /// `ibv_dealloc_mw(3)`: no access by way of it after the return.
    fn dealloc_mw(mw: &Self::Mw);
}

/// The callbacks for driver `D`.
pub(super) fn device_ops<D: Driver>(protocol: Protocol) -> bindings::ib_device_ops {
    let mut ops: bindings::ib_device_ops = pin_init::zeroed();

    // SAFETY: Pure function.
    ops.owner = unsafe { bindings::rurdma_this_module() };
    ops.driver_id = D::DRIVER_ID;
    ops.uverbs_abi_ver = D::ABI_VERSION;
    ops.set_uverbs_robust_udata(1);

    ops.query_device = Some(device::query_device::<D>);
    ops.query_port = Some(device::query_port::<D>);
    ops.get_port_immutable = Some(device::get_port_immutable::<D>);
    ops.dealloc_driver = Some(device::dealloc_driver::<D>);

    ops.alloc_hw_port_stats = Some(stats::alloc_hw_port_stats::<D>);
    ops.get_hw_stats = Some(stats::get_hw_stats::<D>);

    ops.alloc_ucontext = Some(ucontext::alloc_ucontext::<D>);
    ops.dealloc_ucontext = Some(ucontext::dealloc_ucontext::<D>);
    ops.disassociate_ucontext = Some(ucontext::disassociate_ucontext::<D>);
    ops.query_ucontext = Some(ucontext::query_ucontext::<D>);
    ops.mmap = Some(mmap::mmap);
    ops.mmap_free = Some(mmap::mmap_free);

    ops.alloc_pd = Some(pd::alloc_pd::<D>);
    ops.dealloc_pd = Some(pd::dealloc_pd::<D>);

    ops.create_cq = Some(cq::create_cq::<D>);
    ops.resize_user_cq = Some(cq::resize_cq::<D>);
    ops.pre_destroy_cq = Some(cq::pre_destroy_cq::<D>);
    ops.destroy_cq = Some(cq::destroy_cq::<D>);
    ops.poll_cq = Some(cq::poll_cq::<D>);
    ops.req_notify_cq = Some(cq::req_notify_cq::<D>);

    ops.create_qp = Some(qp::create_qp::<D>);
    ops.modify_qp = Some(qp::modify_qp::<D>);
    ops.query_qp = Some(qp::query_qp::<D>);
    ops.destroy_qp = Some(qp::destroy_qp::<D>);
    ops.post_send = Some(qp::post_send::<D>);
    ops.post_recv = Some(qp::post_recv::<D>);

    ops.create_srq = Some(srq::create_srq::<D>);
    ops.modify_srq = Some(srq::modify_srq::<D>);
    ops.query_srq = Some(srq::query_srq::<D>);
    ops.destroy_srq = Some(srq::destroy_srq::<D>);
    ops.post_srq_recv = Some(srq::post_srq_recv::<D>);

    ops.get_dma_mr = Some(mr::get_dma_mr::<D>);
    ops.reg_user_mr = Some(mr::reg_user_mr::<D>);
    ops.rereg_user_mr = Some(mr::rereg_user_mr::<D>);
    ops.dereg_mr = Some(mr::dereg_mr::<D>);
    ops.alloc_mr = Some(mr::alloc_mr::<D>);
    ops.map_mr_sg = Some(mr::map_mr_sg::<D>);

    ops.alloc_mw = Some(mw::alloc_mw::<D>);
    ops.dealloc_mw = Some(mw::dealloc_mw::<D>);

    match protocol {
        Protocol::Iwarp => {
            ops.query_gid = Some(device::query_gid::<D>);
            ops.iw_add_ref = Some(qp::iw_add_ref::<D>);
            ops.iw_rem_ref = Some(qp::iw_rem_ref::<D>);
            ops.iw_get_qp = Some(qp::iw_get_qp::<D>);
            iwcm::fill_ops::<D::IwCm, D>(&mut ops);
        }
        Protocol::Roce => {
            ops.process_mad = Some(mad::process_mad::<D>);
            ops.query_pkey = Some(ah::query_pkey);
            ops.get_link_layer = Some(ah::get_link_layer);
            ops.create_ah = Some(ah::create_ah::<D>);
            ops.create_user_ah = Some(ah::create_user_ah::<D>);
            ops.query_ah = Some(ah::query_ah::<D>);
            ops.destroy_ah = Some(ah::destroy_ah::<D>);
            ops.attach_mcast = Some(mcast::attach_mcast::<D>);
            ops.detach_mcast = Some(mcast::detach_mcast::<D>);
            ops.size_ib_ah = size_of::<Object<bindings::ib_ah, D::Ah>>();
        }
    }

    ops.size_ib_ucontext = size_of::<Object<bindings::ib_ucontext, D::Ucontext>>();
    ops.size_ib_pd = size_of::<Object<bindings::ib_pd, D::Pd>>();
    ops.size_ib_cq = size_of::<Object<bindings::ib_cq, D::Cq>>();
    ops.size_ib_qp = size_of::<Object<bindings::ib_qp, D::Qp>>();
    ops.size_ib_mw = size_of::<Object<bindings::ib_mw, D::Mw>>();
    ops.size_ib_srq = size_of::<Object<bindings::ib_srq, D::Srq>>();
    ops
}

/// The driver's device of an `ib_device`.
///
/// # Safety
///
/// `raw` is a living device of driver `D`.
pub(super) unsafe fn device_of<'a, D: Driver>(
    raw: *mut bindings::ib_device,
) -> Result<&'a Arc<D::Device>> {
    // SAFETY: By the caller's promise.
    unsafe { IbDevice::<D>::get(raw) }
}
