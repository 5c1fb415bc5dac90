// SPDX-License-Identifier: GPL-2.0
/*
 * What costs no system call: polling, arming, posting receives; test_bypass.py runs it.
 *
 * For the time of one call the kernel hands every system call back as a signal
 * (PR_SET_SYSCALL_USER_DISPATCH), whichever library makes it. So nothing gets past
 * that is neither ioctl() nor write().
 */
#include "vt.h"

#include <signal.h>
#include <sys/prctl.h>
#include <ucontext.h>

#define ROUNDS 1000

static struct end c, s;
/* The kernel reads it. */
static volatile char dispatch = SYSCALL_DISPATCH_FILTER_ALLOW;
static volatile int trapped;

/* Makes the system call that was handed back; those after it are not looked at. */
static void trap(int sig, siginfo_t *info, void *context)
{
	greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
	long ret;

	(void)sig;
	dispatch = SYSCALL_DISPATCH_FILTER_ALLOW;
	trapped = 1;
	ret = syscall(info->si_syscall, r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8],
		      r[REG_R9]);
	r[REG_RAX] = ret == -1 ? -errno : ret;
}

static void watch(void)
{
	struct sigaction sa = { .sa_sigaction = trap, .sa_flags = SA_SIGINFO };

	OK(sigaction(SIGSYS, &sa, NULL));
	OK(prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &dispatch));
}

/* The value of the call, which goes into the kernel or does not. */
#define WATCHED(kernel, call) ({ \
	trapped = 0; \
	dispatch = SYSCALL_DISPATCH_FILTER_BLOCK; \
	int r_ = (call); \
	dispatch = SYSCALL_DISPATCH_FILTER_ALLOW; \
	if (trapped != (kernel)) \
		FAIL("%s: %s system call", #call, trapped ? "a" : "no"); \
	r_; \
})
#define BYPASS(call) WATCHED(0, call)

/* Both ends, with an SRQ or without. */
static struct ibv_srq *connect_watched(bool shared)
{
	struct ibv_srq_init_attr init = { .attr = { .max_wr = 64, .max_sge = 1 } };
	struct opt o = {};
	struct buf a, b;

	if (shared) {
		o.server_pd = ibv_alloc_pd(open_device());
		CHECK(o.server_pd);
		o.srq = ibv_create_srq(o.server_pd, &init);
		CHECK(o.srq);
	}
	connect_ends(&c, &s, &o);
	/* Before its first send the provider asks for the state. */
	a = new_buf(c.pd, 8);
	b = new_buf(s.pd, 8);
	rdma_buf(c.qp, 0, IBV_WR_RDMA_WRITE, &a, 8, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	DONE(c.scq, 0);
	watch();
	/* A system call is seen when there is one. */
	EQ(WATCHED(1, getppid()), getppid());
	return o.srq;
}

static void messages(bool shared)
{
	struct ibv_srq *srq = connect_watched(shared);
	struct buf a = new_buf(c.pd, 64), b = new_buf(s.pd, 64);
	struct ibv_sge from = sge_of(&a, 0, 64), to = sge_of(&b, 0, 64);

	for (int i = 0; i < ROUNDS; i++) {
		struct ibv_recv_wr *bad, recv = { .wr_id = i, .sg_list = &to, .num_sge = 1 };
		bool solicited = i % 2;
		struct work w = { i, IBV_WR_SEND, SIGNALED | (solicited ? IBV_SEND_SOLICITED : 0),
				  &from, 1, 0, 0 };
		long end = now_ms() + SOON;
		struct ibv_wc wc;
		int n;

		if (srq)
			OK(BYPASS(ibv_post_srq_recv(srq, &recv, &bad)));
		else
			OK(BYPASS(ibv_post_recv(s.qp, &recv, &bad)));
		OK(BYPASS(ibv_req_notify_cq(s.rcq, solicited)));
		/* There is nothing, and to find that out is free, too. */
		EQ(BYPASS(ibv_poll_cq(s.rcq, 1, &wc)), 0);
		fill(a.p, 64, i);
		/* The kick. */
		OK(WATCHED(1, try_post(c.qp, &w)));
		/* What was armed without the kernel's help is armed. */
		CHECK(cq_event(&s, s.rcq, SOON));
		EQ(BYPASS(ibv_poll_cq(s.rcq, 1, &wc)), 1);
		EQ(wc.wr_id, i);
		EQ(wc.status, IBV_WC_SUCCESS);
		VERIFY(b.p, 64, i);
		while (!(n = BYPASS(ibv_poll_cq(c.scq, 1, &wc))))
			CHECK(now_ms() < end);
		EQ(n, 1);
		EQ(wc.wr_id, i);
		EQ(wc.status, IBV_WC_SUCCESS);
	}
}

static void rq(void)
{
	messages(false);
}

static void srq(void)
{
	messages(true);
}

static const struct test tests[] = {
	T(rq), T(srq),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
