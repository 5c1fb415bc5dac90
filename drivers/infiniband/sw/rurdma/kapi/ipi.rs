// SPDX-License-Identifier: GPL-2.0

//! Functions that run on another CPU, soon and without anybody waiting for them.

use crate::bindings;
use crate::kapi::sync::Gate;
use core::ops::Deref;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::container_of;
use kernel::cpu::CpuId;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::types::Opaque;

/// What can be called on another CPU.
pub(crate) trait OnCpu: Send + Sync + 'static {
    /// The function. Runs with interrupts off, as a rule in an interrupt; the value may be dropped
    /// there, too.
    fn run(&self);
}

/// A value with the means to call it on another CPU. Nothing is allocated for a call.
///
/// # Invariants
///
/// `csd` was initialised to call `run::<T>` with its own address. Each time that it is in a CPU's
/// queue it owns a reference to the value, which the call takes over, and is inside `sent`.
#[pin_data]
pub(crate) struct CpuCall<T> {
    #[pin]
    csd: Opaque<bindings::call_single_data_t>,
    /// Counts calls that have not returned; closed when there shall be no more.
    #[pin]
    sent: Gate,
    inner: T,
}

// SAFETY: Everyone changes `csd` by `smp_call_function_single_async()` only, which is made for that.
unsafe impl<T: Send> Send for CpuCall<T> {}
// SAFETY: As above.
unsafe impl<T: Sync> Sync for CpuCall<T> {}

impl<T> Deref for CpuCall<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: OnCpu> CpuCall<T> {
    /// Nothing is called yet.
    pub(crate) fn new(inner: T) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                // INVARIANT: So it is initialised.
                csd <- Opaque::ffi_init(|csd: *mut bindings::call_single_data_t| {
                    let value = bindings::call_single_data_t {
                        func: Some(run::<T>),
                        info: csd.cast(),
                        ..Default::default()
                    };
                    // SAFETY: `csd` is valid for a write.
                    unsafe { csd.write(value) };
                }),
                sent <- Gate::new(),
                inner,
            }),
            GFP_KERNEL,
        )
    }

    /// Has `cpu` call the function. If a call is on its way already and has not begun, that is the
    /// one: it sees what was written before this, if the last of that was a fully ordered
    /// read-modify-write and the function begins with one. Any context.
    ///
    /// False if there will be no call: the CPU is offline, is the one that we are on, or it is too
    /// late ([`Self::finish`]). On PREEMPT_RT always, as what is called there may not take locks.
    pub(crate) fn send(this: &Arc<Self>, cpu: u32) -> bool {
        if cfg!(CONFIG_PREEMPT_RT) || cpu == CpuId::current().as_u32() || !this.sent.enter() {
            return false;
        }
        let owned = Arc::into_raw(this.clone());
        // SAFETY: By the type invariant `csd` is initialised; it lives until it was called, as it
        // owns a reference from now on.
        let err = unsafe { bindings::smp_call_function_single_async(cpu as c_int, this.csd.get()) };
        if err == 0 {
            return true;
        }
        // SAFETY: The call was not queued, so the reference is still ours.
        drop(unsafe { Arc::from_raw(owned) });
        this.sent.leave();
        err == -(bindings::EBUSY as c_int)
    }

    /// Waits for the calls that are on their way; there will be no more. Process context.
    pub(crate) fn finish(&self) {
        self.sent.close_and_wait();
    }
}

/// Runs on the other CPU.
///
/// # Safety
///
/// `info` is the `csd` of a `CpuCall<T>` that was queued with a reference.
unsafe extern "C" fn run<T: OnCpu>(info: *mut c_void) {
    let csd = info.cast::<Opaque<bindings::call_single_data_t>>();
    // SAFETY: By the caller's promise; the reference is taken over.
    let this = unsafe { Arc::from_raw(container_of!(csd, CpuCall<T>, csd).cast_const()) };
    // lockdep takes an interrupt for one that stays an interrupt on PREEMPT_RT, where spinlocks
    // sleep. We are not called there.
    // SAFETY: We are in an interrupt, or run with interrupts off in the idle task: nobody else is
    // between the two calls.
    unsafe { bindings::rurdma_lockdep_threadable_enter() };
    this.inner.run();
    // Wakes who waits, so it belongs inside.
    this.sent.leave();
    drop(this);
    // SAFETY: As above.
    unsafe { bindings::rurdma_lockdep_threadable_exit() };
    // Who waited may unload the module now. That synchronises with RCU first, and we are a reader
    // until we have returned, as interrupts are off.
}
