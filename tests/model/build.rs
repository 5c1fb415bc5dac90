// SPDX-License-Identifier: GPL-2.0

//! Switches the protocol core to the atomics of the model checker. A `--cfg` in RUSTFLAGS would
//! reach the dependencies too, and some of them mean something else by it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cfg=loom");
}
