// SPDX-License-Identifier: GPL-2.0
/*
 * RC over RoCE in ERROR: what its consumer finds, and what the peer is told;
 * test_roce_ops.py runs it.
 *
 *     vtend TEST ADDRESS NETNS-A DEVICE-A NETNS-B DEVICE-B
 */
#include "vtroce.h"

#include <pthread.h>

/* As often as a thing has to be met in its midst, and is tried at most. */
#define MET 10
#define TRIED 300
#define LONG_MESSAGE (16UL << 20)
#define BURST 60
#define LEN 1024

/* Of A's QP, whose receives have a queue and completions of their own. */
static struct ibv_srq *srq;
static struct ibv_cq *rcq;

static struct conn connect_srq(void)
{
	struct ibv_srq_init_attr shared = { .attr = { .max_wr = BURST, .max_sge = 1 } };
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 16, .max_send_sge = 1 },
	};
	struct conn c = { 0 };

	srq = ibv_create_srq(A.pd, &shared);
	rcq = ibv_create_cq(A.ctx, 2 * BURST, NULL, NULL, 0);
	c.acq = ibv_create_cq(A.ctx, 16, NULL, NULL, 0);
	CHECK(srq && rcq && c.acq);
	init.srq = srq;
	init.send_cq = c.acq;
	init.recv_cq = rcq;
	c.a = ibv_create_qp(A.pd, &init);
	CHECK(c.a);
	c.b = one_qp(&B, IBV_QPT_RC, &c.bcq);
	to_init(c.a, RIGHTS);
	/* B grants nothing. */
	to_init(c.b, 0);
	to_rts(c.a, &A, &B, c.b, 1, 1);
	to_rts(c.b, &B, &A, c.a, 1, 1);
	return c;
}

static void gone(struct conn *c)
{
	disconnect(c);
	OK(ibv_destroy_srq(srq));
	OK(ibv_destroy_cq(rcq));
}

static void recv_shared(uint64_t id, const struct buf *b, size_t off, size_t len)
{
	struct ibv_sge sge = sge_of(b, off, len);
	struct ibv_recv_wr *bad, wr = { .wr_id = id, .sg_list = &sge, .num_sge = 1 };

	OK(ibv_post_srq_recv(srq, &wr, &bad));
}

/* Without a sleep, after which anything might have happened. */
static void spin_until_last_wqe(struct ibv_qp *qp)
{
	long end = now_ms() + SOON;
	struct ibv_async_event ev;
	bool found = false;

	while (!found) {
		if (ibv_get_async_event(A.ctx, &ev)) {
			EQ(errno, EAGAIN);
			CHECK(now_ms() < end);
			continue;
		}
		found = ev.event_type == IBV_EVENT_QP_LAST_WQE_REACHED && ev.element.qp == qp;
		ibv_ack_async_event(&ev);
	}
}

/*
 * A fails by itself while a message comes to it: B refuses what A asks. Who then hears that no
 * more is taken from the SRQ finds the receive of that message in the CQ already, and may destroy
 * what belongs to it.
 */
static void last_wqe(void)
{
	struct buf to = new_buf(A.pd, LONG_MESSAGE), from = new_buf(B.pd, LONG_MESSAGE);
	volatile uint8_t *first = to.p;
	int met = 0;

	memset(from.p, 1, LONG_MESSAGE);
	OK(fcntl(A.ctx->async_fd, F_SETFL, O_NONBLOCK));
	for (int i = 0; i < TRIED && met < MET; i++) {
		struct conn c = connect_srq();
		long end = now_ms() + SOON;
		struct ibv_wc wc;

		*first = 0;
		recv_shared(i, &to, 0, LONG_MESSAGE);
		send_buf(c.b, i, &from, LONG_MESSAGE, SIGNALED);
		while (!*first)
			CHECK(now_ms() < end);
		rdma_buf(c.a, 1, IBV_WR_RDMA_WRITE, &to, 8, 0, 0xdead00, SIGNALED);
		spin_until_last_wqe(c.a);
		EQ(ibv_poll_cq(rcq, 1, &wc), 1);
		EQ(wc.wr_id, i);
		/* Or the message was over before. */
		if (wc.status != IBV_WC_SUCCESS) {
			EQ(wc.status, IBV_WC_WR_FLUSH_ERR);
			met++;
		}
		EQ(ibv_poll_cq(rcq, 1, &wc), 0);
		CHECK(poll_within(c.acq, &wc, SOON));
		CHECK(wc.status != IBV_WC_SUCCESS);
		gone(&c);
	}
	EQ(met, MET);
}

static volatile bool watching;

/* A's consumer ends the QP when it has the first message. */
static void *end_at_the_first(void *arg)
{
	long end = now_ms() + SOON;
	struct ibv_wc wc;

	watching = true;
	while (!ibv_poll_cq(rcq, 1, &wc))
		CHECK(now_ms() < end);
	EQ(wc.status, IBV_WC_SUCCESS);
	OK(to_state(arg, IBV_QPS_ERR));
	return NULL;
}

/* BURST messages at once, of the size of a packet. */
static void post_burst(struct ibv_qp *qp, const struct buf *b)
{
	struct ibv_send_wr wr[BURST], *bad;
	struct ibv_sge sge = sge_of(b, 0, LEN);

	for (int i = 0; i < BURST; i++)
		wr[i] = (struct ibv_send_wr) {
			.wr_id = (uint64_t)i, .next = i + 1 < BURST ? &wr[i + 1] : NULL,
			.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND, .send_flags = SIGNALED,
		};
	OK(ibv_post_send(qp, wr, &bad));
}

/*
 * Messages that A's consumer was told of are acknowledged, although it puts its QP into ERROR
 * before that: of the burst, B is told of each that was executed, and of no other.
 */
static void acknowledged(void)
{
	struct buf to = new_buf(A.pd, BURST * LEN), from = new_buf(B.pd, LEN);
	int met = 0;

	/* 134 ms, 8 times, until B gives up. */
	ack_timeout = 15;
	for (int i = 0; i < TRIED && met < MET / 2; i++) {
		struct conn c = connect_srq();
		int executed = 1, told = 0;
		pthread_t watcher;
		struct ibv_wc wc;

		for (int j = 0; j < BURST; j++)
			recv_shared(j, &to, j * LEN, LEN);
		watching = false;
		OK(pthread_create(&watcher, NULL, end_at_the_first, c.a));
		while (!watching)
			usleep(100);
		post_burst(c.b, &from);
		OK(pthread_join(watcher, NULL));
		ASYNC(A.ctx, QP_LAST_WQE_REACHED, c.a);
		while (ibv_poll_cq(rcq, 1, &wc) == 1)
			executed += wc.status == IBV_WC_SUCCESS;
		for (int j = 0; j < BURST; j++) {
			CHECK(poll_within(c.bcq, &wc, SOON));
			EQ(wc.wr_id, j);
			told += wc.status == IBV_WC_SUCCESS;
		}
		EQ(told, executed);
		/* Or it was over before A's consumer had the first. */
		met += executed < BURST;
		gone(&c);
	}
	ack_timeout = 14;
	EQ(met, MET / 2);
}

/* From ERROR no way leads but to RESET. */
static void error_is_left_by_reset(void)
{
	static const enum ibv_qp_state others[] = {
		IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS, IBV_QPS_SQD,
	};
	struct conn c = connect_usual();

	OK(to_state(c.b, IBV_QPS_ERR));
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		FAILS(EINVAL, to_state(c.b, others[i]));
		EQ(state_of(c.b), IBV_QPS_ERR);
	}
	OK(to_state(c.b, IBV_QPS_RESET));
	EQ(state_of(c.b), IBV_QPS_RESET);
	disconnect(&c);
}

static const struct test tests[] = {
	T(last_wqe), T(acknowledged), T(error_is_left_by_reset),
};

int main(int argc, char **argv)
{
	return run_roce_test(tests, ARRAY_SIZE(tests), argc, argv);
}
