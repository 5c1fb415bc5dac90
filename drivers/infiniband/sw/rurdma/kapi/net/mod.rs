// SPDX-License-Identifier: GPL-2.0

//! The network stack as a kernel user of TCP sees it.

pub(crate) mod netdev;
