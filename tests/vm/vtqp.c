// SPDX-License-Identifier: GPL-2.0
/* Tests of queue pairs and their states; test_qp.py runs them. */

#include "vt.h"

static struct end c, s;

static void qp_limits(void)
{
	struct ibv_device_attr attr;
	struct ibv_qp *qp;
	struct ibv_qp_init_attr most = { .cap = { 64, 64, 32, 32, 512 } };
	struct ibv_qp_init_attr init;

	OK(ibv_query_device(open_device(), &attr));
	CHECK(attr.max_sge >= 32);
	CHECK(attr.max_sge_rd >= 32);
	init = most;
	qp = plain_qp(&init);
	CHECK(qp);
	CHECK(init.cap.max_send_wr >= 64 && init.cap.max_recv_wr >= 64);
	CHECK(init.cap.max_send_sge >= 32 && init.cap.max_recv_sge >= 32);
	CHECK(init.cap.max_inline_data >= 512);
	OK(ibv_destroy_qp(qp));

	init = most, init.cap.max_send_sge = attr.max_sge + 1;
	NULLS(EINVAL, plain_qp(&init));
	init = most, init.cap.max_recv_sge = attr.max_sge + 1;
	NULLS(EINVAL, plain_qp(&init));
	init = most, init.cap.max_inline_data = 1 << 20;
	NULLS(EINVAL, plain_qp(&init));
	init = most, init.cap.max_send_wr = attr.max_qp_wr + 1;
	NULLS(EINVAL, plain_qp(&init));
	init = most, init.cap.max_recv_wr = attr.max_qp_wr + 1;
	NULLS(EINVAL, plain_qp(&init));
	init = (struct ibv_qp_init_attr) { .cap = { attr.max_qp_wr, attr.max_qp_wr, 1, 1, 0 } };
	qp = plain_qp(&init);
	CHECK(qp);
	OK(ibv_destroy_qp(qp));
}

static void qp_type_refused(void)
{
	static const enum ibv_qp_type types[] = { IBV_QPT_UC, IBV_QPT_UD, IBV_QPT_RAW_PACKET };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		struct ibv_qp_init_attr init = { .qp_type = types[i], .cap = { 1, 1, 1, 1, 0 } };

		CHECK(!plain_qp(&init));
		CHECK(errno == EOPNOTSUPP || errno == EINVAL);
	}
}

static void qp_numbers_unguessable(void)
{
	uint32_t last = 0;
	int near = 0;

	for (int i = 0; i < 32; i++) {
		struct ibv_qp_init_attr init = { .cap = { 1, 1, 1, 1, 0 } };
		struct ibv_qp *qp = plain_qp(&init);

		CHECK(qp && qp->qp_num > 1);
		near += qp->qp_num - last < 1024;
		last = qp->qp_num;
	}
	CHECK(near < 3);
}

static void qp_query(void)
{
	struct opt o = { .swr = 17, .rwr = 19, .ssge = 3, .rsge = 5, .inl = 100 };
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;

	connect_ends(&c, &s, &o);
	OK(ibv_query_qp(c.qp, &attr, IBV_QP_STATE | IBV_QP_CAP | IBV_QP_ACCESS_FLAGS, &init));
	EQ(attr.qp_state, IBV_QPS_RTS);
	CHECK(attr.cap.max_send_wr >= 17 && attr.cap.max_recv_wr >= 19);
	CHECK(attr.cap.max_send_sge >= 3 && attr.cap.max_recv_sge >= 5);
	CHECK(attr.cap.max_inline_data >= 100);
	CHECK(attr.qp_access_flags & IBV_ACCESS_REMOTE_WRITE);
	CHECK(attr.qp_access_flags & IBV_ACCESS_REMOTE_READ);
	CHECK(init.send_cq == c.scq && init.recv_cq == c.rcq);
	EQ(init.qp_type, IBV_QPT_RC);
	OK(to_state(c.qp, IBV_QPS_ERR));
	OK(ibv_query_qp(c.qp, &attr, IBV_QP_STATE, &init));
	EQ(attr.qp_state, IBV_QPS_ERR);
}

static void qp_states_unconnected(void)
{
	struct ibv_qp_init_attr init = { .cap = { 4, 4, 1, 1, 0 } };
	struct ibv_qp *qp = plain_qp(&init);

	/* IDLE of RNIC verbs: receives may be posted at once. */
	EQ(state_of(qp), IBV_QPS_INIT);
	OK(try_recv(qp, 1, NULL, 0));
	OK(to_state(qp, IBV_QPS_INIT));
	FAILS(EINVAL, to_state(qp, IBV_QPS_RTS));
	FAILS(EINVAL, to_state(qp, IBV_QPS_SQD));
	EQ(state_of(qp), IBV_QPS_INIT);
	OK(to_state(qp, IBV_QPS_RTR));
	/* Only a connection makes it ready to send. */
	FAILS(EINVAL, to_state(qp, IBV_QPS_RTS));
	EQ(state_of(qp), IBV_QPS_RTR);
	OK(to_state(qp, IBV_QPS_ERR));
	EQ(state_of(qp), IBV_QPS_ERR);
	FAILS(EINVAL, to_state(qp, IBV_QPS_INIT));
	FAILS(EINVAL, to_state(qp, IBV_QPS_RTR));
	FAILS(EINVAL, to_state(qp, IBV_QPS_RTS));
	/* What disconnects drains first; nothing is left to drain. */
	OK(to_state(qp, IBV_QPS_SQD));
	EQ(state_of(qp), IBV_QPS_ERR);
	OK(to_state(qp, IBV_QPS_ERR));
	OK(to_state(qp, IBV_QPS_RESET));
	CHECK(state_of(qp) == IBV_QPS_RESET || state_of(qp) == IBV_QPS_INIT);
	FAILS(EINVAL, to_state(qp, IBV_QPS_RTS));
	OK(to_state(qp, IBV_QPS_INIT));
	OK(ibv_destroy_qp(qp));
}

static void qp_states_connected(void)
{
	connect_ends(&c, &s, NULL);
	EQ(state_of(c.qp), IBV_QPS_RTS);
	EQ(state_of(s.qp), IBV_QPS_RTS);
	OK(to_state(c.qp, IBV_QPS_RTS));
	FAILS(EINVAL, to_state(c.qp, IBV_QPS_INIT));
	FAILS(EINVAL, to_state(c.qp, IBV_QPS_RTR));
	EQ(state_of(c.qp), IBV_QPS_RTS);
	OK(to_state(c.qp, IBV_QPS_ERR));
	wait_state(s.qp, IBV_QPS_ERR);
	FAILS(EINVAL, to_state(c.qp, IBV_QPS_RTS));
	OK(to_state(c.qp, IBV_QPS_RESET));
}

static void qp_wrong_current_state(void)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR, .cur_qp_state = IBV_QPS_RTR };

	connect_ends(&c, &s, NULL);
	FAILS(EINVAL, ibv_modify_qp(c.qp, &attr, IBV_QP_STATE | IBV_QP_CUR_STATE));
	EQ(state_of(c.qp), IBV_QPS_RTS);
	attr.cur_qp_state = IBV_QPS_RTS;
	OK(ibv_modify_qp(c.qp, &attr, IBV_QP_STATE | IBV_QP_CUR_STATE));
}

static void qp_sqd_drains(void)
{
	struct ibv_wc wc;
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 1 << 20);
	b = new_buf(s.pd, 1 << 20);
	fill(a.p, a.len, 7);
	for (int i = 0; i < 16; i++) {
		struct ibv_sge sge = sge_of(&a, i << 16, 1 << 16);
		struct work w = { i, IBV_WR_RDMA_WRITE, SIGNALED, &sge, 1,
				  (uintptr_t)b.p + (i << 16), b.mr->rkey };

		OK(try_post(c.qp, &w));
	}
	OK(to_state(c.qp, IBV_QPS_SQD));
	/* What was posted before is done, not flushed. */
	for (int i = 0; i < 16; i++) {
		CHECK(poll_within(c.scq, &wc, SOON));
		EQ(wc.wr_id, i);
		EQ(wc.status, IBV_WC_SUCCESS);
	}
	CM_EXPECT(s.ch, DISCONNECTED);
	wait_state(s.qp, IBV_QPS_ERR);
	VERIFY(b.p, b.len, 7);
}

static void qp_reset_forgets(void)
{
	struct ibv_qp_init_attr init = { .cap = { 8, 8, 1, 1, 0 } };
	struct ibv_qp *qp = plain_qp(&init);

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 8; i++)
			OK(try_recv(qp, i, NULL, 0));
		if (round)
			FAILS(ENOMEM, try_recv(qp, 9, NULL, 0));
		OK(to_state(qp, IBV_QPS_RESET));
		NOTHING(qp->recv_cq);
		OK(to_state(qp, IBV_QPS_INIT));
	}
	/* It can be used again. */
	OK(try_recv(qp, 77, NULL, 0));
	OK(to_state(qp, IBV_QPS_ERR));
	DONE_WITH(qp->recv_cq, 77, WR_FLUSH_ERR);
}

static void qp_reset_connected(void)
{
	struct ibv_wc wc;
	struct buf b;

	connect_ends(&c, &s, NULL);
	b = new_buf(c.pd, 4096);
	for (int i = 0; i < 8; i++)
		recv_buf(c.qp, i, &b, b.len);
	OK(to_state(c.qp, IBV_QPS_RESET));
	OK(to_state(c.qp, IBV_QPS_INIT));
	/* RESET goes through ERROR: what was flushed was so before the return. */
	while (ibv_poll_cq(c.rcq, 1, &wc) > 0)
		EQ(wc.status, IBV_WC_WR_FLUSH_ERR);
	recv_buf(c.qp, 77, &b, b.len);
	/* The end of the connection comes later, and is none of the QP's any more. */
	CM_EXPECT(c.ch, DISCONNECTED);
	NOTHING(c.rcq);
	EQ(state_of(c.qp), IBV_QPS_INIT);
	OK(to_state(c.qp, IBV_QPS_ERR));
	DONE_WITH(c.rcq, 77, WR_FLUSH_ERR);
}

static const struct test tests[] = {
	T(qp_limits), T(qp_type_refused), T(qp_numbers_unguessable), T(qp_query),
	T(qp_states_unconnected), T(qp_states_connected), T(qp_wrong_current_state),
	T(qp_sqd_drains), T(qp_reset_forgets), T(qp_reset_connected),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
