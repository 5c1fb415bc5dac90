// SPDX-License-Identifier: GPL-2.0

//! What a process is charged for the rings that it shares with us (`RLIMIT_MEMLOCK`).

use crate::bindings;
use crate::kapi::slot::Slot;
use crate::kapi::task::{in_process_context, WorkQueue};
use core::ptr::NonNull;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::prelude::*;
use kernel::workqueue::{impl_has_work, new_work, Work, WorkItem};

/// Where charges end that cannot end where they are: see [`Charge`]. Full from the module's init
/// to its exit, which waits for the work.
pub(crate) static LATE: Slot<WorkQueue> = Slot::new();

/// Pages charged to a process, until dropped.
///
/// # Invariants
///
/// `mm` holds a reference (`mmgrab()`) and counts `pages` as pinned.
#[pin_data(PinnedDrop)]
struct Pages {
    mm: NonNull<bindings::mm_struct>,
    pages: usize,
    #[pin]
    work: Work<Self>,
}

// SAFETY: The counter is atomic, and a reference to an mm may be given back by any thread.
unsafe impl Send for Pages {}
// SAFETY: As above.
unsafe impl Sync for Pages {}

impl_has_work! {
    impl HasWork<Self> for Pages { self.work }
}

impl WorkItem for Pages {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Pin<KBox<Self>>) {
        drop(this);
    }
}

#[pinned_drop]
impl PinnedDrop for Pages {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants; `Charge` sees to the context.
        unsafe { bindings::rurdma_unaccount_pages(self.mm.as_ptr(), self.pages) };
    }
}

/// Pages charged to the process that made this.
///
/// May be dropped in any context, as the object that owns it may: the last reference to an mm frees
/// page tables under locks that softirq must not take, so then a worker gives it back.
pub(super) struct Charge(Option<Pin<KBox<Pages>>>);

impl Charge {
    /// Charges the calling process. ENOMEM if that is beyond its limit. Process context.
    pub(super) fn new(pages: usize) -> Result<Self> {
        // SAFETY: A process asks, so `current` has an mm.
        let mm = unsafe { bindings::rurdma_account_pages(pages) };
        let mm = NonNull::new(mm).ok_or(ENOMEM)?;
        let made = KBox::pin_init(
            // INVARIANT: As accounted above.
            pin_init!(Pages {
                mm,
                pages,
                work <- new_work!("Charge"),
            }),
            GFP_KERNEL,
        );
        if made.is_err() {
            // SAFETY: As accounted above.
            unsafe { bindings::rurdma_unaccount_pages(mm.as_ptr(), pages) };
        }
        Ok(Self(Some(made?)))
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Some(pages) = self.0.take() else {
            return;
        };
        match LATE.get() {
            Some(queue) if !in_process_context() => queue.queue().enqueue(pages),
            _ => drop(pages),
        }
    }
}
