// SPDX-License-Identifier: GPL-2.0

//! Which object answers which verb.

#![forbid(unsafe_code)]

use crate::ah::Ah;
use crate::cq::Cq;
use crate::device::Device;
use crate::kapi::abi;
use crate::kapi::rdma::attr::{DeviceAttr, PortAttr, PortImmutable};
use crate::kapi::rdma::av::Av;
use crate::kapi::rdma::cq::{CqHandle, CqInit, NotifyFlags, WcWriter};
use crate::kapi::rdma::memory::Registration;
use crate::kapi::rdma::mr::{MrInit, Rereg};
use crate::kapi::rdma::mw::MwType;
use crate::kapi::rdma::ops::Driver;
use crate::kapi::rdma::qp::{QpHandle, QpInit, RecvWrs, SendWrs};
use crate::kapi::rdma::qp_attr::{QpAttr, QpQuery};
use crate::kapi::rdma::srq::{SrqAttr, SrqHandle};
use crate::kapi::rdma::stats::{COUNTERS, PACKET_COUNTERS};
use crate::kapi::rdma::ucontext::Context;
use crate::kapi::rdma::udata::Udata;
use crate::mr::Mr;
use crate::mw::Mw;
use crate::pd::Pd;
use crate::proto::wire::mad::MAD_LEN;
use crate::qp::Qp;
use crate::srq::Srq;
use crate::transport::iwarp::cm::IwarpCm;
use crate::ucontext::Ucontext;
use kernel::prelude::*;
use kernel::sync::Arc;

/// The driver.
pub(crate) struct Rurdma;

impl Driver for Rurdma {
    type Device = Device;
    type Ucontext = Ucontext;
    type Pd = Pd;
    type Cq = Cq;
    type Qp = Qp;
    type Srq = Srq;
    type Mr = Mr;
    type Mw = Mw;
    type Ah = Ah;
    type IwCm = IwarpCm;

    const DRIVER_ID: u32 = abi::DRIVER_ID;
    const ABI_VERSION: u32 = abi::ABI_VERSION;

    fn query_device(dev: &Device) -> DeviceAttr {
        dev.attr()
    }

    fn query_port(dev: &Device) -> PortAttr {
        dev.port()
    }

    fn port_immutable(dev: &Device) -> PortImmutable {
        dev.port_immutable()
    }

    fn query_gid(dev: &Device, index: i32) -> Result<[u8; 16]> {
        dev.gid(index)
    }

    fn counters(dev: &Device) -> [u64; COUNTERS] {
        dev.counters.values()
    }

    fn packet_counters(dev: &Device) -> Option<[u64; PACKET_COUNTERS]> {
        dev.transport.counts_packets().then(|| dev.traffic.values())
    }

    fn process_mad(dev: &Device, request: &[u8; MAD_LEN], response: &mut [u8; MAD_LEN]) -> bool {
        dev.process_mad(request, response)
    }

    fn users_come(dev: &Arc<Device>) {
        dev.transport.users_come(dev);
    }

    fn users_go(dev: &Arc<Device>) {
        dev.transport.users_go(dev);
    }

    fn device_gone(dev: &Arc<Device>) {
        dev.poller.stop();
        dev.transport.device_goes(dev);
        crate::registry::leave(dev);
    }

    fn alloc_ucontext(
        dev: &Arc<Device>,
        context: &Context<'_>,
        udata: &Udata<'_>,
    ) -> Result<Arc<Ucontext>> {
        Ucontext::create(dev, context, udata)
    }

    fn dealloc_ucontext(context: &Ucontext) {
        context.destroy();
    }

    fn disassociate_ucontext(context: &Ucontext) {
        context.disassociate();
    }

    fn query_ucontext(context: &Ucontext) -> Result<abi::UctxResp> {
        context.query()
    }

    fn kick(context: &Arc<Ucontext>) -> Result {
        context.kick()
    }

    fn alloc_pd(dev: &Arc<Device>) -> Result<Arc<Pd>> {
        Pd::create(dev)
    }

    fn dealloc_pd(pd: &Pd) {
        pd.destroy();
    }

    fn create_ah(pd: &Arc<Pd>, av: Av, context: Option<Arc<Ucontext>>) -> Result<Arc<Ah>> {
        Ah::create(pd, av, context)
    }

    fn ah_handle(ah: &Ah) -> u32 {
        ah.handle
    }

    fn query_ah(ah: &Ah) -> Av {
        ah.av
    }

    fn destroy_ah(ah: &Ah) {
        ah.destroy();
    }

    fn create_cq(
        dev: &Arc<Device>,
        init: &CqInit,
        handle: Arc<CqHandle>,
        udata: &Udata<'_>,
    ) -> Result<(Arc<Cq>, u32)> {
        Cq::create(dev, init, handle, udata)
    }

    fn resize_cq(cq: &Cq, cqe: u32, udata: &Udata<'_>) -> Result<u32> {
        cq.resize(cqe, udata)
    }

    fn destroy_cq(cq: &Cq) {
        cq.destroy();
    }

    fn poll_cq(cq: &Cq, wcs: &mut WcWriter<'_>) {
        cq.poll(wcs);
    }

    fn req_notify_cq(cq: &Cq, flags: NotifyFlags) -> bool {
        cq.req_notify(flags)
    }

    fn create_qp(
        dev: &Arc<Device>,
        init: &mut QpInit<Self>,
        handle: Arc<QpHandle>,
        udata: &Udata<'_>,
    ) -> Result<Arc<Qp>> {
        Qp::create(dev, init, handle, udata)
    }

    fn qp_number(qp: &Qp) -> u32 {
        qp.number
    }

    fn modify_qp(qp: &Arc<Qp>, attr: &QpAttr<'_>) -> Result {
        qp.modify(attr)
    }

    fn query_qp(qp: &Qp) -> QpQuery {
        qp.query()
    }

    fn destroy_qp(qp: &Arc<Qp>) {
        qp.destroy();
    }

    fn post_send(qp: &Arc<Qp>, wrs: &mut SendWrs<'_>) -> Result {
        qp.post_send(wrs)
    }

    fn post_recv(qp: &Arc<Qp>, wrs: &mut RecvWrs<'_>) -> Result {
        qp.post_recv(wrs)
    }

    fn attach_mcast(qp: &Arc<Qp>, gid: [u8; 16]) -> Result {
        qp.dev.groups.attach(&qp.dev.netdev, gid, qp.number)
    }

    fn detach_mcast(qp: &Arc<Qp>, gid: [u8; 16]) -> Result {
        qp.dev.groups.detach(&qp.dev.netdev, gid, qp.number)
    }

    fn kick_qp(qp: &Arc<Qp>) -> Result {
        qp.dev.counters.kicked();
        qp.kick();
        Ok(())
    }

    fn qp_by_number(dev: &Device, number: u32) -> Option<Arc<Qp>> {
        dev.qp_by_number(number)
    }

    fn iw_add_ref(qp: &Qp) {
        qp.iw_refs.enter();
    }

    fn iw_rem_ref(qp: &Qp) {
        qp.iw_refs.leave();
    }

    fn qp_handle(qp: &Qp) -> &Arc<QpHandle> {
        &qp.handle
    }

    fn create_srq(
        pd: &Arc<Pd>,
        attr: &mut SrqAttr,
        handle: Arc<SrqHandle>,
        udata: &Udata<'_>,
    ) -> Result<Arc<Srq>> {
        Srq::create(pd, attr, handle, udata)
    }

    fn modify_srq(srq: &Srq, max_wr: Option<u32>, limit: Option<u32>, udata: &Udata<'_>) -> Result {
        srq.modify(max_wr, limit, udata)
    }

    fn query_srq(srq: &Srq) -> SrqAttr {
        srq.query()
    }

    fn destroy_srq(srq: &Srq) {
        srq.destroy();
    }

    fn post_srq_recv(srq: &Srq, wrs: &mut RecvWrs<'_>) -> Result {
        srq.post(wrs)
    }

    fn create_mr(pd: &Arc<Pd>, init: MrInit) -> Result<Arc<Mr>> {
        Mr::create(pd, init)
    }

    fn mr_key(mr: &Mr) -> u32 {
        mr.key()
    }

    fn rereg_mr(mr: &Mr, change: &Rereg<'_, Self>) -> Result {
        mr.rereg(change)
    }

    fn map_mr_sg(mr: &Mr, registration: Registration<'_>) -> Result<c_int> {
        mr.map_sg(registration)
    }

    fn dereg_mr(mr: &Mr) -> Result {
        mr.destroy()
    }

    fn alloc_mw(pd: &Arc<Pd>, kind: MwType) -> Result<Arc<Mw>> {
        Mw::create(pd, kind)
    }

    fn mw_key(mw: &Mw) -> u32 {
        mw.key()
    }

    fn dealloc_mw(mw: &Mw) {
        mw.destroy();
    }
}
