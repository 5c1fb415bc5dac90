// SPDX-License-Identifier: GPL-2.0
/*
 * Delays each rdma_put_gid_attr(), as a virtual machine does whose CPU the host takes away there: rdma_cm
 * has given up the device by then (cma_release_dev(), cma.c), and nothing waits for it any more.
 */

#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/module.h>

static int returned;
module_param(returned, int, 0444);
MODULE_PARM_DESC(returned, "calls whose delay is over");

static int delay(struct kprobe *probe, struct pt_regs *regs)
{
	mdelay(300);
	returned++;
	return 0;
}

static struct kprobe probe = {
	.symbol_name = "rdma_put_gid_attr",
	.pre_handler = delay,
};

static int __init slowgid_init(void)
{
	return register_kprobe(&probe);
}

static void __exit slowgid_exit(void)
{
	unregister_kprobe(&probe);
}

module_init(slowgid_init);
module_exit(slowgid_exit);

MODULE_DESCRIPTION("A test's: GIDs are given back late");
MODULE_LICENSE("GPL");
