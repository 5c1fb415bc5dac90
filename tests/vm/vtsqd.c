// SPDX-License-Identifier: GPL-2.0
/*
 * SQD of RC over RoCE; test_roce_ops.py runs it.
 *
 *     vtsqd TEST ADDRESS NETNS-A DEVICE-A NETNS-B DEVICE-B
 */
#include "vtroce.h"

static void to_sqd(struct ibv_qp *qp, bool event)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_SQD, .en_sqd_async_notify = event };

	OK(ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_EN_SQD_ASYNC_NOTIFY));
}

static bool is_draining(struct ibv_qp *qp)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;

	OK(ibv_query_qp(qp, &attr, IBV_QP_STATE, &init));
	EQ(attr.qp_state, IBV_QPS_SQD);
	return attr.sq_draining;
}

/* The first READ is not answered before A is there; the second one is posted in SQD. */
static void waits(void)
{
	struct conn c = both_ways();
	struct buf t = new_buf(A.pd, 4096), r = new_buf(B.pd, 4096);

	/* 2 s, 8 times. */
	ack_timeout = 19;
	to_rts(c.b, &B, &A, c.a, 1, 1);
	rdma_buf(c.b, 1, IBV_WR_RDMA_READ, &r, 8, (uintptr_t)t.p, t.mr->rkey, SIGNALED);
	to_sqd(c.b, true);
	rdma_buf(c.b, 2, IBV_WR_RDMA_READ, &r, 8, (uintptr_t)t.p, t.mr->rkey, SIGNALED);
	NOTHING(c.bcq);
	CHECK(is_draining(c.b));
	CHECK(!async_within(B.ctx, IBV_EVENT_SQ_DRAINED, c.b, 0));
	to_rts(c.a, &A, &B, c.b, 1, 1);
	DONE(c.bcq, 1);
	ASYNC(B.ctx, SQ_DRAINED, c.b);
	CHECK(!is_draining(c.b));
	NOTHING(c.bcq);
	OK(to_state(c.b, IBV_QPS_RTS));
	DONE(c.bcq, 2);
	/* Who does not ask is not told. */
	to_sqd(c.b, false);
	rdma_buf(c.b, 3, IBV_WR_RDMA_READ, &r, 8, (uintptr_t)t.p, t.mr->rkey, SIGNALED);
	CHECK(!async_within(B.ctx, IBV_EVENT_SQ_DRAINED, c.b, QUIET));
	NOTHING(c.bcq);
	OK(to_state(c.b, IBV_QPS_RTS));
	DONE(c.bcq, 3);
	ack_timeout = 14;
	disconnect(&c);
}

/* What may be changed in SQD is in force from then on: 16 s and more become 2 s. */
static void changes(void)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_SQD, .retry_cnt = 0, .max_rd_atomic = 1 };
	struct buf t = new_buf(A.pd, 4096), r = new_buf(B.pd, 4096);
	struct ibv_qp_init_attr init;
	struct conn c = both_ways();
	struct ibv_wc wc;
	long begin;

	ack_timeout = 19;
	to_rts(c.a, &A, &B, c.b, 1, 1);
	to_rts(c.b, &B, &A, c.a, 1, 1);
	to_sqd(c.b, true);
	ASYNC(B.ctx, SQ_DRAINED, c.b);
	OK(ibv_modify_qp(c.b, &attr, IBV_QP_STATE | IBV_QP_RETRY_CNT | IBV_QP_MAX_QP_RD_ATOMIC));
	OK(ibv_query_qp(c.b, &attr, IBV_QP_RETRY_CNT, &init));
	EQ(attr.retry_cnt, 0);
	OK(to_state(c.b, IBV_QPS_RTS));
	rdma_buf(c.b, 1, IBV_WR_RDMA_READ, &r, 8, (uintptr_t)t.p, t.mr->rkey, SIGNALED);
	DONE(c.bcq, 1);
	/* Nobody answers. */
	OK(to_state(c.a, IBV_QPS_RESET));
	rdma_buf(c.b, 2, IBV_WR_RDMA_READ, &r, 8, (uintptr_t)t.p, t.mr->rkey, SIGNALED);
	begin = now_ms();
	CHECK(poll_within(c.bcq, &wc, SOON));
	EQ(wc.wr_id, 2);
	EQ(wc.status, IBV_WC_RETRY_EXC_ERR);
	CHECK(now_ms() - begin < 10000);
	ack_timeout = 14;
	disconnect(&c);
}

static const struct test tests[] = {
	T(waits), T(changes),
};

int main(int argc, char **argv)
{
	return run_roce_test(tests, ARRAY_SIZE(tests), argc, argv);
}
