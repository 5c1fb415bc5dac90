// SPDX-License-Identifier: GPL-2.0

//! `ib_qp`.

use crate::bindings;
use crate::kapi::errno::not_supported;
use crate::kapi::rdma::ah;
use crate::kapi::rdma::object::{Handle, Object};
use crate::kapi::rdma::ops::{device_of, Driver};
use crate::kapi::rdma::qp_attr::QpAttr;
use crate::kapi::rdma::udata::Udata;
pub(crate) use crate::proto::verbs::QpKind;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::{ptr, slice};
use kernel::error::{from_result, to_result};
use kernel::prelude::*;
use kernel::sync::Arc;

/// The driver's way back to its `ib_qp`.
pub(crate) type QpHandle = Handle<bindings::ib_qp>;

/// `enum ib_qp_state`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub(crate) enum QpState {
    /// Nothing may be posted.
    Reset = 0,
    /// Receives may be posted.
    Init = 1,
    /// Receives are served.
    Rtr = 2,
    /// Sends too.
    Rts = 3,
    /// Sends drain.
    Sqd = 4,
    /// The send queue is in error.
    Sqe = 5,
    /// Everything is flushed.
    Error = 6,
}

impl QpState {
    /// From `enum ib_qp_state` (or a byte that holds one).
    pub(crate) fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            0 => Self::Reset,
            1 => Self::Init,
            2 => Self::Rtr,
            3 => Self::Rts,
            4 => Self::Sqd,
            5 => Self::Sqe,
            6 => Self::Error,
            _ => return None,
        })
    }
}

/// The largest `enum ib_mtu` of at most so many bytes.
pub(crate) fn mtu_to_enum(bytes: u32) -> u8 {
    // SAFETY: Pure function.
    unsafe { bindings::rurdma_mtu_to_enum(bytes as c_int) as u8 }
}

/// `enum ib_qp_type`.
impl QpKind {
    fn from_raw(raw: bindings::ib_qp_type) -> Option<Self> {
        Some(match raw {
            bindings::ib_qp_type_IB_QPT_RC => Self::Rc,
            bindings::ib_qp_type_IB_QPT_UC => Self::Uc,
            bindings::ib_qp_type_IB_QPT_UD => Self::Ud,
            bindings::ib_qp_type_IB_QPT_GSI => Self::Gsi,
            _ => return None,
        })
    }

    pub(super) fn as_raw(self) -> bindings::ib_qp_type {
        match self {
            Self::Rc => bindings::ib_qp_type_IB_QPT_RC,
            Self::Uc => bindings::ib_qp_type_IB_QPT_UC,
            Self::Ud => bindings::ib_qp_type_IB_QPT_UD,
            Self::Gsi => bindings::ib_qp_type_IB_QPT_GSI,
        }
    }
}

/// Capabilities of a QP, `ib_qp_cap`.
#[derive(Clone, Copy, Default)]
pub(crate) struct QpCap {
    /// Send work requests outstanding.
    pub(crate) max_send_wr: u32,
    /// Receive work requests outstanding.
    pub(crate) max_recv_wr: u32,
    /// SGEs of a send work request.
    pub(crate) max_send_sge: u32,
    /// SGEs of a receive work request.
    pub(crate) max_recv_sge: u32,
    /// Bytes of inline data.
    pub(crate) max_inline: u32,
}

/// What is asked of a new QP; `cap` becomes what is granted.
pub(crate) struct QpInit<D: Driver> {
    /// Its type.
    pub(crate) kind: QpKind,
    /// Its PD.
    pub(crate) pd: Arc<D::Pd>,
    /// Where sends complete.
    pub(crate) send_cq: Arc<D::Cq>,
    /// Where receives complete.
    pub(crate) recv_cq: Arc<D::Cq>,
    /// Where receives are taken from, rather than from an RQ.
    pub(crate) srq: Option<Arc<D::Srq>>,
    /// Sizes.
    pub(crate) cap: QpCap,
    /// Every send is signalled.
    pub(crate) sig_all: bool,
    /// `enum ib_qp_create_flags`.
    pub(crate) create_flags: u32,
}

/// SGEs of a kernel user's work request.
#[derive(Clone, Copy)]
pub(crate) struct Sges<'a>(&'a [bindings::ib_sge]);

impl Sges<'_> {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Address, length and lkey of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u32, u32)> + '_ {
        self.0.iter().map(|s| (s.addr, s.length, s.lkey))
    }
}

/// # Safety
///
/// `list` has `n` elements that live for `'a`.
unsafe fn sges<'a>(list: *const bindings::ib_sge, n: c_int) -> Sges<'a> {
    match usize::try_from(n) {
        // SAFETY: By the caller's promise.
        Ok(n) if n > 0 && !list.is_null() => Sges(unsafe { slice::from_raw_parts(list, n) }),
        _ => Sges(&[]),
    }
}

/// Operations of a kernel user's send.
#[derive(Clone, Copy)]
pub(crate) enum SendKind {
    /// Send.
    Send,
    /// Send with immediate data (wire order).
    SendImm(u32),
    /// Send that invalidates the peer's key.
    SendInv(u32),
    /// RDMA write to address, key.
    Write(u64, u32),
    /// RDMA write with immediate data.
    WriteImm(u64, u32, u32),
    /// RDMA read from address, key.
    Read(u64, u32),
    /// RDMA read that invalidates the sink's key.
    ReadInv(u64, u32),
    /// Compare and swap at address, key: what is compared, what is swapped in.
    CmpSwp(u64, u32, u64, u64),
    /// Fetch and add at address, key: what is added.
    FetchAdd(u64, u32, u64),
    /// Atomic write to address, key.
    AtomicWrite(u64, u32),
    /// Invalidate a local key.
    LocalInv(u32),
    /// Fast registration: key and access rights.
    RegMr(u32, u32),
    /// Anything else.
    Unsupported,
}

/// A kernel user's send work request.
pub(crate) struct SendWr<'a> {
    /// Returned in the completion.
    pub(crate) wr_id: u64,
    /// What to do.
    pub(crate) kind: SendKind,
    /// Completes with a CQE.
    pub(crate) signaled: bool,
    /// Raises an event at the peer.
    pub(crate) solicited: bool,
    /// Waits for earlier reads.
    pub(crate) fence: bool,
    /// The data is copied at once, from kernel addresses.
    pub(crate) inline: bool,
    /// With which data.
    pub(crate) sges: Sges<'a>,
    /// To whom, of a datagram QP.
    pub(crate) ud: Option<UdWr>,
}

/// To whom a datagram goes.
#[derive(Clone, Copy)]
pub(crate) struct UdWr {
    /// Number of the address handle.
    pub(crate) ah: u32,
    /// The peer's QP.
    pub(crate) qpn: u32,
    /// Its Q_Key.
    pub(crate) qkey: u32,
}

impl SendWr<'_> {
    /// Copies inline data. EINVAL if it does not fit; gives its length.
    pub(crate) fn copy_inline(&self, buf: &mut [u8]) -> Result<usize> {
        let mut used = 0usize;
        for (addr, len, _) in self.sges.iter() {
            let len = len as usize;
            let dst = buf
                .get_mut(used..)
                .and_then(|b| b.get_mut(..len))
                .ok_or(EINVAL)?;
            // SAFETY: With `IB_SEND_INLINE` a kernel user's addresses are kernel addresses of
            // `len` readable bytes.
            unsafe {
                bindings::rurdma_memcpy(
                    dst.as_mut_ptr().cast(),
                    ptr::with_exposed_provenance::<u8>(addr as usize).cast(),
                    len,
                )
            };
            used += len;
        }
        Ok(used)
    }
}

/// A list of a kernel user's send work requests.
pub(crate) struct SendWrs<'a> {
    next: *const bindings::ib_send_wr,
    /// Of a datagram QP: tells the number of an address handle.
    ah_handle: Option<unsafe fn(*mut bindings::ib_ah) -> Result<u32>>,
    _scope: PhantomData<&'a ()>,
}

/// # Safety
///
/// `raw` is a living address handle of ours, or null.
unsafe fn handle_of<D: Driver>(raw: *mut bindings::ib_ah) -> Result<u32> {
    // SAFETY: By the caller's promise.
    unsafe { ah::of_raw::<D>(raw) }.map(|ah| D::ah_handle(ah))
}

impl<'a> SendWrs<'a> {
    /// The work request in front.
    pub(crate) fn peek(&self) -> Option<SendWr<'a>> {
        // SAFETY: The list is the caller's, valid for the call.
        let wr = unsafe { self.next.as_ref() }?;
        let flags = wr.send_flags;
        // SAFETY: All members of the union are 32 bits.
        let ex = unsafe { *wr.ex.invalidate_rkey };
        let rdma = || {
            // SAFETY: A work request with this opcode is embedded in an `ib_rdma_wr`.
            let rdma = unsafe { &*self.next.cast::<bindings::ib_rdma_wr>() };
            (rdma.remote_addr, rdma.rkey)
        };
        let atomic = || {
            // SAFETY: A work request with this opcode is embedded in an `ib_atomic_wr`.
            unsafe { &*self.next.cast::<bindings::ib_atomic_wr>() }
        };
        let kind = match wr.opcode {
            bindings::ib_wr_opcode_IB_WR_SEND => SendKind::Send,
            bindings::ib_wr_opcode_IB_WR_SEND_WITH_IMM => SendKind::SendImm(ex),
            bindings::ib_wr_opcode_IB_WR_SEND_WITH_INV => SendKind::SendInv(ex),
            bindings::ib_wr_opcode_IB_WR_RDMA_WRITE => {
                let (addr, key) = rdma();
                SendKind::Write(addr, key)
            }
            bindings::ib_wr_opcode_IB_WR_RDMA_WRITE_WITH_IMM => {
                let (addr, key) = rdma();
                SendKind::WriteImm(addr, key, ex)
            }
            bindings::ib_wr_opcode_IB_WR_RDMA_READ => {
                let (addr, key) = rdma();
                SendKind::Read(addr, key)
            }
            bindings::ib_wr_opcode_IB_WR_RDMA_READ_WITH_INV => {
                let (addr, key) = rdma();
                SendKind::ReadInv(addr, key)
            }
            bindings::ib_wr_opcode_IB_WR_ATOMIC_CMP_AND_SWP => {
                let wr = atomic();
                SendKind::CmpSwp(wr.remote_addr, wr.rkey, wr.compare_add, wr.swap)
            }
            bindings::ib_wr_opcode_IB_WR_ATOMIC_FETCH_AND_ADD => {
                let wr = atomic();
                SendKind::FetchAdd(wr.remote_addr, wr.rkey, wr.compare_add)
            }
            bindings::ib_wr_opcode_IB_WR_ATOMIC_WRITE => {
                let (addr, key) = rdma();
                SendKind::AtomicWrite(addr, key)
            }
            bindings::ib_wr_opcode_IB_WR_LOCAL_INV => SendKind::LocalInv(ex),
            bindings::ib_wr_opcode_IB_WR_REG_MR => {
                // SAFETY: A work request with this opcode is embedded in an `ib_reg_wr`.
                let reg = unsafe { &*self.next.cast::<bindings::ib_reg_wr>() };
                // The driver looks its MR up by the key it was made with: the last byte is the
                // consumer's, so the key in the work request finds it too.
                SendKind::RegMr(reg.key, reg.access as u32)
            }
            _ => SendKind::Unsupported,
        };
        let ud = self.ah_handle.map(|number| {
            // SAFETY: Work requests for a datagram QP are embedded in an `ib_ud_wr`, whose address
            // handle lives until the send completes.
            unsafe {
                let ud = &*self.next.cast::<bindings::ib_ud_wr>();
                UdWr {
                    // Handle 0 is nobody's: the send fails.
                    ah: number(ud.ah).unwrap_or(0),
                    qpn: ud.remote_qpn,
                    qkey: ud.remote_qkey,
                }
            }
        });
        // A fast registration has no SGEs.
        let sges = match kind {
            SendKind::RegMr(..) | SendKind::LocalInv(_) => Sges(&[]),
            // SAFETY: By the contract of `ib_post_send()`.
            _ => unsafe { sges(wr.sg_list, wr.num_sge) },
        };
        Some(SendWr {
            // SAFETY: Both members of the union are 64 bits.
            wr_id: unsafe { *wr.__bindgen_anon_1.wr_id },
            kind,
            signaled: flags & bindings::ib_send_flags_IB_SEND_SIGNALED != 0,
            solicited: flags & bindings::ib_send_flags_IB_SEND_SOLICITED != 0,
            fence: flags & bindings::ib_send_flags_IB_SEND_FENCE != 0,
            inline: flags & bindings::ib_send_flags_IB_SEND_INLINE != 0,
            sges,
            ud,
        })
    }

    /// Goes on to the next.
    pub(crate) fn advance(&mut self) {
        // SAFETY: The list is the caller's, valid for the call.
        if let Some(wr) = unsafe { self.next.as_ref() } {
            self.next = wr.next;
        }
    }
}

/// A kernel user's receive work request.
pub(crate) struct RecvWr<'a> {
    /// Returned in the completion.
    pub(crate) wr_id: u64,
    /// Where to.
    pub(crate) sges: Sges<'a>,
}

/// A list of a kernel user's receive work requests.
pub(crate) struct RecvWrs<'a> {
    next: *const bindings::ib_recv_wr,
    _scope: PhantomData<&'a ()>,
}

impl<'a> RecvWrs<'a> {
    /// # Safety
    ///
    /// `wr` is null or the head of a valid list for `'a`.
    pub(super) unsafe fn new(wr: *const bindings::ib_recv_wr) -> Self {
        Self {
            next: wr,
            _scope: PhantomData,
        }
    }

    pub(super) fn current(&self) -> *const bindings::ib_recv_wr {
        self.next
    }

    /// The work request in front.
    pub(crate) fn peek(&self) -> Option<RecvWr<'a>> {
        // SAFETY: By the promise to `new`.
        let wr = unsafe { self.next.as_ref() }?;
        Some(RecvWr {
            // SAFETY: Both members of the union are 64 bits.
            wr_id: unsafe { *wr.__bindgen_anon_1.wr_id },
            // SAFETY: By the promise to `new`.
            sges: unsafe { sges(wr.sg_list, wr.num_sge) },
        })
    }

    /// Goes on to the next.
    pub(crate) fn advance(&mut self) {
        // SAFETY: By the promise to `new`.
        if let Some(wr) = unsafe { self.next.as_ref() } {
            self.next = wr.next;
        }
    }
}

impl QpHandle {
    /// Raises an asynchronous event of the QP. Any context.
    fn event(&self, kind: bindings::ib_event_type) {
        self.with(|qp| {
            // SAFETY: `with` gives a living QP; zero is a valid event to fill in.
            unsafe {
                let Some(handler) = (*qp).event_handler else {
                    return;
                };
                let mut event: bindings::ib_event = core::mem::zeroed();
                event.device = (*qp).device;
                event.event = kind;
                event.element.qp = ManuallyDrop::new(qp);
                handler(&mut event, (*qp).qp_context);
            }
        });
    }

    /// `IB_EVENT_COMM_EST`: the peer has begun before the consumer was ready to send. As the handler of a kernel user
    /// may tell its connection manager at once, with no lock of the driver's held.
    pub(crate) fn established(&self) {
        self.event(bindings::ib_event_type_IB_EVENT_COMM_EST);
    }

    /// `IB_EVENT_QP_FATAL`: a local error ended the connection.
    pub(crate) fn fatal(&self) {
        self.event(bindings::ib_event_type_IB_EVENT_QP_FATAL);
    }

    /// `IB_EVENT_QP_REQ_ERR`: the peer's Terminate, or its invalid request.
    pub(crate) fn request_error(&self) {
        self.event(bindings::ib_event_type_IB_EVENT_QP_REQ_ERR);
    }

    /// `IB_EVENT_QP_ACCESS_ERR`: the peer violated an access right.
    pub(crate) fn access_error(&self) {
        self.event(bindings::ib_event_type_IB_EVENT_QP_ACCESS_ERR);
    }

    /// `IB_EVENT_QP_LAST_WQE_REACHED`: no more receives are taken from the SRQ.
    pub(crate) fn last_wqe_reached(&self) {
        self.event(bindings::ib_event_type_IB_EVENT_QP_LAST_WQE_REACHED);
    }

    /// `IB_EVENT_SQ_DRAINED`.
    pub(crate) fn sq_drained(&self) {
        self.event(bindings::ib_event_type_IB_EVENT_SQ_DRAINED);
    }
}

/// Opcode of the completion of a fast registration.
pub(crate) const WC_REG_MR: u8 = bindings::ib_wc_opcode_IB_WC_REG_MR as u8;

/// # Safety
///
/// Called by the core to create a QP.
pub(super) unsafe extern "C" fn create_qp<D: Driver>(
    qp: *mut bindings::ib_qp,
    init: *mut bindings::ib_qp_init_attr,
    udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise the objects live.
        let (raw, object, dev) = unsafe {
            (
                &mut *init,
                Object::<_, D::Qp>::from_raw(qp),
                device_of::<D>((*qp).device)?,
            )
        };
        let Some(kind) = QpKind::from_raw(raw.qp_type).filter(|_| raw.rwq_ind_tbl.is_null()) else {
            return Err(not_supported());
        };
        // SAFETY: By the caller's promise.
        let pd = unsafe { (*qp).pd };
        if raw.send_cq.is_null() || raw.recv_cq.is_null() || pd.is_null() {
            return Err(EINVAL);
        }
        // SAFETY: By the caller's promise.
        let mut q = unsafe {
            QpInit::<D> {
                kind,
                pd: Object::<_, D::Pd>::get(pd)?.clone(),
                send_cq: Object::<_, D::Cq>::get(raw.send_cq)?.clone(),
                recv_cq: Object::<_, D::Cq>::get(raw.recv_cq)?.clone(),
                srq: if raw.srq.is_null() {
                    None
                } else {
                    Some(Object::<_, D::Srq>::get(raw.srq)?.clone())
                },
                cap: QpCap {
                    max_send_wr: raw.cap.max_send_wr,
                    max_recv_wr: raw.cap.max_recv_wr,
                    max_send_sge: raw.cap.max_send_sge,
                    max_recv_sge: raw.cap.max_recv_sge,
                    max_inline: raw.cap.max_inline_data,
                },
                sig_all: raw.sq_sig_type == bindings::ib_sig_type_IB_SIGNAL_ALL_WR,
                create_flags: raw.create_flags,
            }
        };
        // SAFETY: The object is being created.
        let handle = unsafe { object.make_handle(kernel::static_lock_class!()) }?;
        // SAFETY: By the caller's promise.
        let udata = unsafe { Udata::from_raw(udata) };
        match D::create_qp(dev, &mut q, handle, &udata) {
            Ok(inner) => {
                raw.cap.max_send_wr = q.cap.max_send_wr;
                raw.cap.max_recv_wr = q.cap.max_recv_wr;
                raw.cap.max_send_sge = q.cap.max_send_sge;
                raw.cap.max_recv_sge = q.cap.max_recv_sge;
                raw.cap.max_inline_data = q.cap.max_inline;
                // SAFETY: The object is being created.
                unsafe {
                    (*qp).qp_num = D::qp_number(&inner);
                    object.set(inner);
                }
                Ok(0)
            }
            Err(e) => {
                // SAFETY: The creation fails.
                drop(unsafe { object.take() });
                Err(e)
            }
        }
    })
}

/// # Safety
///
/// Called by the core with a living QP.
pub(super) unsafe extern "C" fn modify_qp<D: Driver>(
    qp: *mut bindings::ib_qp,
    attr: *mut bindings::ib_qp_attr,
    mask: c_int,
    udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        to_result(unsafe { bindings::rurdma_no_udata_io(udata) })?;
        if mask as u32 & !bindings::ib_qp_attr_mask_IB_QP_ATTR_STANDARD_BITS != 0 {
            return Err(not_supported());
        }
        // SAFETY: By the caller's promise.
        let (inner, raw) = unsafe { (Object::<_, D::Qp>::get(qp)?, &*attr) };
        D::modify_qp(inner, &QpAttr::new(raw, mask as u32))?;
        Ok(0)
    })
}

/// # Safety
///
/// Called by the core with a living QP and attributes to fill.
pub(super) unsafe extern "C" fn query_qp<D: Driver>(
    qp: *mut bindings::ib_qp,
    attr: *mut bindings::ib_qp_attr,
    _mask: c_int,
    init: *mut bindings::ib_qp_init_attr,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let (q, attr, init, raw) = unsafe {
            (
                D::query_qp(Object::<_, D::Qp>::get(qp)?),
                &mut *attr,
                &mut *init,
                &*qp,
            )
        };
        attr.qp_state = q.state as u32;
        attr.cur_qp_state = q.state as u32;
        attr.sq_draining = u8::from(q.sq_draining);
        attr.path_mtu = u32::from(q.path_mtu);
        if let Some(av) = q.av {
            av.write(&mut attr.ah_attr);
        }
        attr.rq_psn = q.path.rq_psn;
        attr.sq_psn = q.path.sq_psn;
        attr.dest_qp_num = q.path.dest_qpn;
        attr.qkey = q.path.qkey;
        attr.timeout = q.path.timeout;
        attr.retry_cnt = q.path.retry_count;
        attr.rnr_retry = q.path.rnr_retry;
        attr.min_rnr_timer = q.path.min_rnr_timer;
        attr.qp_access_flags = q.access as c_int;
        attr.max_rd_atomic = q.max_rd_atomic;
        attr.max_dest_rd_atomic = q.max_dest_rd_atomic;
        attr.port_num = 1;
        attr.cap.max_send_wr = q.cap.max_send_wr;
        attr.cap.max_recv_wr = q.cap.max_recv_wr;
        attr.cap.max_send_sge = q.cap.max_send_sge;
        attr.cap.max_recv_sge = q.cap.max_recv_sge;
        attr.cap.max_inline_data = q.cap.max_inline;
        init.cap.max_send_wr = q.cap.max_send_wr;
        init.cap.max_recv_wr = q.cap.max_recv_wr;
        init.cap.max_send_sge = q.cap.max_send_sge;
        init.cap.max_recv_sge = q.cap.max_recv_sge;
        init.cap.max_inline_data = q.cap.max_inline;
        init.send_cq = raw.send_cq;
        init.recv_cq = raw.recv_cq;
        init.srq = raw.srq;
        init.qp_type = raw.qp_type;
        init.event_handler = raw.event_handler;
        init.qp_context = raw.qp_context;
        init.sq_sig_type = if q.sig_all {
            bindings::ib_sig_type_IB_SIGNAL_ALL_WR
        } else {
            bindings::ib_sig_type_IB_SIGNAL_REQ_WR
        };
        Ok(0)
    })
}

/// # Safety
///
/// Called by the core to destroy a QP.
pub(super) unsafe extern "C" fn destroy_qp<D: Driver>(
    qp: *mut bindings::ib_qp,
    udata: *mut bindings::ib_udata,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        to_result(unsafe { bindings::rurdma_no_udata_io(udata) })?;
        // SAFETY: By the caller's promise the object lives still: iw_cm drops its references to it
        // while the driver waits for them.
        D::destroy_qp(unsafe { Object::<_, D::Qp>::get(qp) }?);
        // SAFETY: The object is being destroyed.
        drop(unsafe { Object::<_, D::Qp>::from_raw(qp).take() });
        Ok(0)
    })
}

/// # Safety
///
/// Called by a kernel user, or for a process with an empty list, with a living QP.
pub(super) unsafe extern "C" fn post_send<D: Driver>(
    qp: *mut bindings::ib_qp,
    wr: *const bindings::ib_send_wr,
    bad: *mut *const bindings::ib_send_wr,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let (inner, user) = unsafe { (Object::<_, D::Qp>::get(qp)?, !(*qp).uobject.is_null()) };
        if user {
            // What a process wants to post is in its ring; nothing else is taken from it.
            if !wr.is_null() {
                // SAFETY: The core always passes somewhere to write.
                unsafe { *bad = wr };
                return Err(EINVAL);
            }
            return D::kick_qp(inner).map(|()| 0);
        }
        // SAFETY: By the caller's promise.
        let kind = QpKind::from_raw(unsafe { (*qp).qp_type });
        let datagram = kind.is_some_and(QpKind::is_datagram);
        let mut wrs = SendWrs {
            next: wr,
            ah_handle: datagram.then_some(handle_of::<D> as unsafe fn(_) -> _),
            _scope: PhantomData,
        };
        let ret = D::post_send(inner, &mut wrs);
        // SAFETY: As above.
        unsafe { *bad = wrs.next };
        ret.map(|()| 0)
    })
}

/// # Safety
///
/// Called by a kernel user with a living QP.
pub(super) unsafe extern "C" fn post_recv<D: Driver>(
    qp: *mut bindings::ib_qp,
    wr: *const bindings::ib_recv_wr,
    bad: *mut *const bindings::ib_recv_wr,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's promise.
        let (inner, user) = unsafe { (Object::<_, D::Qp>::get(qp)?, !(*qp).uobject.is_null()) };
        // SAFETY: By the caller's promise.
        let mut wrs = unsafe { RecvWrs::new(wr) };
        let ret = if user {
            Err(EINVAL)
        } else {
            D::post_recv(inner, &mut wrs)
        };
        // SAFETY: The core always passes somewhere to write.
        unsafe { *bad = wrs.current() };
        ret.map(|()| 0)
    })
}

/// # Safety
///
/// Called by iw_cm with a living device; the result is used under iw_cm's own rules: it takes a
/// reference with [`iw_add_ref`] before anything else.
pub(super) unsafe extern "C" fn iw_get_qp<D: Driver>(
    dev: *mut bindings::ib_device,
    qpn: c_int,
) -> *mut bindings::ib_qp {
    // SAFETY: By the caller's promise.
    unsafe { device_of::<D>(dev) }
        .ok()
        .and_then(|dev| D::qp_by_number(dev, qpn as u32))
        .and_then(|qp| D::qp_handle(&qp).with(|raw| raw))
        .unwrap_or(ptr::null_mut())
}

/// # Safety
///
/// Called by iw_cm with a living QP.
pub(super) unsafe extern "C" fn iw_add_ref<D: Driver>(qp: *mut bindings::ib_qp) {
    // SAFETY: By the caller's promise.
    if let Ok(inner) = unsafe { Object::<_, D::Qp>::get(qp) } {
        D::iw_add_ref(inner);
    }
}

/// # Safety
///
/// Called by iw_cm with a QP that it has a reference to.
pub(super) unsafe extern "C" fn iw_rem_ref<D: Driver>(qp: *mut bindings::ib_qp) {
    // SAFETY: By the caller's promise: `destroy_qp` waits for the reference.
    if let Ok(inner) = unsafe { Object::<_, D::Qp>::get(qp) } {
        D::iw_rem_ref(inner);
    }
}
