// SPDX-License-Identifier: GPL-2.0

//! Raw FFI: the kernel crate's own bindings, and over them ours for what those lack.
//!
//! Only `kapi/` names this module. An item generated here shadows the kernel crate's one of the
//! same name; types that crate has in full (`sk_buff`, `socket`) are the same type in both.

#![allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unknown_lints,
    unnecessary_transmutes,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]
#![allow(
    clippy::as_underscore,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr
)]

pub use kernel::bindings::*;
use kernel::ffi;
use pin_init::{MaybeZeroable, Zeroable};

type __kernel_size_t = usize;
type __kernel_ssize_t = isize;
type __kernel_ptrdiff_t = isize;

// SAFETY: `__BindgenBitfieldUnit` is a newtype around `Storage`.
unsafe impl<Storage> Zeroable for __BindgenBitfieldUnit<Storage> where Storage: Zeroable {}

include!(concat!(
    env!("RURDMA_OBJ"),
    "/bindings/bindings_generated.rs"
));

// A zero-sized `net_device` would mean that the kernel crate's forward declaration won.
const _: () = assert!(core::mem::size_of::<net_device>() > 1000);
