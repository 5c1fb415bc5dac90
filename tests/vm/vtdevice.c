// SPDX-License-Identifier: GPL-2.0
/* Tests of what a device counts, shows and does when it goes; test_resources.py and test_link.py run them. */

#include "vt.h"

static struct end c, s;

/* Creates objects of a kind until that fails: says how many, and why. */
static void count_objects(void)
{
	struct ibv_context *ctx = open_device();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	static uint8_t page[4096];
	int n;

	for (n = 0; n < 100; n++) {
		errno = 0;
		if (!strcmp(args[0], "pd") ? !ibv_alloc_pd(ctx) :
		    !strcmp(args[0], "cq") ? !ibv_create_cq(ctx, 1, NULL, NULL, 0) :
		    !ibv_reg_mr(pd, page, sizeof(page), 0))
			break;
	}
	printf("%d %s\n", n, strerrorname_np(errno));
}

/* Holds objects until it is killed. */
static void hold(void)
{
	struct ibv_context *ctx = open_device();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);

	connect_ends(&c, &s, NULL);
	new_buf(pd, 12345);
	new_buf(c.pd, 4096);
	printf("ready: qpn %u %u\n", c.qp->qp_num, s.qp->qp_num);
	alarm(0);
	pause();
}

/* The device goes away under this: events, flush, and calls that fail. */
static void device_removed(void)
{
	struct ibv_context *ctx = open_device();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct ibv_wc wc;
	struct buf a;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 4096);
	puts("ready");
	ASYNC(ctx, DEVICE_FATAL, NULL);
	/* Whatever is called now: it ends. */
	FAILS(EIO, to_state(c.qp, IBV_QPS_ERR));
	CHECK(!ibv_reg_mr(pd, a.p, a.len, 0));
	CHECK(!ibv_alloc_pd(ctx));
	ibv_poll_cq(c.scq, 1, &wc);
	{
		struct ibv_sge sge = sge_of(&a, 0, 64);
		int r = try_post(c.qp, &(struct work) { 1, IBV_WR_SEND, SIGNALED, &sge, 1, 0, 0 });

		if (r != EIO && r != ENODEV)
			FAIL("a send is posted to a device that is gone: %d", r);
	}
	puts("done");
}

static const struct test tests[] = {
	T(count_objects), T(hold), T(device_removed),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
