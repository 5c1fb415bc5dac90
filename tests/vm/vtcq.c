// SPDX-License-Identifier: GPL-2.0
/* Tests of completion queues; test_cq.py runs them. */

#include "vt.h"

#include <sched.h>

static struct end c, s;

static void cq_sizes(void)
{
	struct ibv_context *ctx = open_device();
	struct ibv_device_attr attr;
	struct ibv_cq *cq;

	OK(ibv_query_device(ctx, &attr));
	CHECK(attr.max_cqe >= 65535);
	NULLS(EINVAL, ibv_create_cq(ctx, attr.max_cqe + 1, NULL, NULL, 0));
	NULLS(EINVAL, ibv_create_cq(ctx, 0, NULL, NULL, 0));
	for (int n = 1; n < 70000; n = n * 3 + 1) {
		cq = ibv_create_cq(ctx, n, NULL, NULL, 0);
		CHECK(cq);
		CHECK(cq->cqe >= n);
		OK(ibv_destroy_cq(cq));
	}
}

static void cq_bad_vector(void)
{
	struct ibv_context *ctx = open_device();
	struct ibv_comp_channel *cc = ibv_create_comp_channel(ctx);

	CHECK(ctx->num_comp_vectors >= 1);
	for (int v = 0; v < ctx->num_comp_vectors; v++)
		OK(ibv_destroy_cq(ibv_create_cq(ctx, 16, NULL, cc, v)));
	NULLS(EINVAL, ibv_create_cq(ctx, 16, NULL, cc, ctx->num_comp_vectors));
	NULLS(EINVAL, ibv_create_cq(ctx, 16, NULL, cc, -1));
}

static void cq_in_use(void)
{
	connect_ends(&c, &s, NULL);
	FAILS(EBUSY, ibv_destroy_cq(c.scq));
	close_end(&c);
}

static void cq_event_any(void)
{
	struct buf b;

	connect_ends(&c, &s, NULL);
	b = new_buf(c.pd, 64);
	/* Not armed: no event. */
	rdma_buf(c.qp, 1, IBV_WR_RDMA_WRITE, &b, 0, 0, 0, SIGNALED);
	DONE(c.scq, 1);
	CHECK(!cq_event(&c, c.scq, QUIET));
	for (int i = 0; i < 20; i++) {
		OK(ibv_req_notify_cq(c.scq, 0));
		rdma_buf(c.qp, 2, IBV_WR_RDMA_WRITE, &b, 0, 0, 0, SIGNALED);
		CHECK(cq_event(&c, c.scq, SOON));
		DONE(c.scq, 2);
		/* One arming, one event. */
		rdma_buf(c.qp, 3, IBV_WR_RDMA_WRITE, &b, 0, 0, 0, SIGNALED);
		DONE(c.scq, 3);
	}
	CHECK(!cq_event(&c, c.scq, QUIET));
}

/* ARGS: CPU VECTOR EVENTS. Works on this CPU only; whoever started it looks where events come from. */
static void cq_vector_events(void)
{
	struct opt o = { .vector = atoi(args[1]) };
	cpu_set_t cpus;
	struct buf b;

	CPU_ZERO(&cpus);
	CPU_SET(atoi(args[0]), &cpus);
	OK(sched_setaffinity(0, sizeof(cpus), &cpus));
	connect_ends(&c, &s, &o);
	b = new_buf(c.pd, 64);
	for (int i = 0; i < atoi(args[2]); i++) {
		OK(ibv_req_notify_cq(c.scq, 0));
		rdma_buf(c.qp, i, IBV_WR_RDMA_WRITE, &b, 0, 0, 0, SIGNALED);
		CHECK(cq_event(&c, c.scq, SOON));
		DONE(c.scq, i);
	}
	CHECK(!cq_event(&c, c.scq, QUIET));
}

/* CQs that go while their events are on the way to another CPU. */
static void cq_vector_destroy(void)
{
	struct ibv_qp_init_attr init = { .qp_type = IBV_QPT_RC, .cap = { 8, 8, 1, 1, 0 } };
	struct ibv_context *ctx = open_device();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);

	for (int i = 0; i < 300; i++) {
		struct ibv_comp_channel *cc = ibv_create_comp_channel(ctx);
		struct ibv_cq *cq = ibv_create_cq(ctx, 16, NULL, cc, i % ctx->num_comp_vectors);
		struct ibv_cq *got;
		struct ibv_qp *qp;
		void *context;

		CHECK(cc && cq);
		init.send_cq = init.recv_cq = cq;
		qp = ibv_create_qp(pd, &init);
		CHECK(qp);
		into_init(qp);
		OK(try_recv(qp, i, NULL, 0));
		OK(ibv_req_notify_cq(cq, 0));
		OK(to_state(qp, IBV_QPS_ERR));
		OK(ibv_destroy_qp(qp));
		if (i % 3 == 0) {
			CHECK(readable(cc->fd, SOON));
			OK(ibv_get_cq_event(cc, &got, &context));
			CHECK(got == cq);
			ibv_ack_cq_events(cq, 1);
		}
		OK(ibv_destroy_cq(cq));
		OK(ibv_destroy_comp_channel(cc));
	}
}

static void cq_event_solicited(void)
{
	/* Of one packet of RoCE, and of three. */
	static const size_t sizes[] = { 16, 3000 };
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 4096);
	b = new_buf(s.pd, 4096);
	for (int i = 0; i < 6; i++)
		recv_buf(s.qp, i, &b, 4096);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		OK(ibv_req_notify_cq(s.rcq, 1));
		send_buf(c.qp, 10, &a, sizes[i], SIGNALED);
		DONE(s.rcq, 2 * i);
		CHECK(!cq_event(&s, s.rcq, QUIET));
		send_buf(c.qp, 11, &a, sizes[i], SIGNALED | IBV_SEND_SOLICITED);
		CHECK(cq_event(&s, s.rcq, SOON));
		DONE(s.rcq, 2 * i + 1);
	}
	/* A request that fails counts as solicited. */
	OK(ibv_req_notify_cq(s.rcq, 1));
	OK(to_state(s.qp, IBV_QPS_ERR));
	CHECK(cq_event(&s, s.rcq, SOON));
	DONE_WITH(s.rcq, 4, WR_FLUSH_ERR);
	DONE_WITH(s.rcq, 5, WR_FLUSH_ERR);
}

static void cq_overflow(void)
{
	struct opt o = { .cqe = 4, .swr = 64 };
	struct buf b;
	int depth;

	connect_ends(&c, &s, &o);
	b = new_buf(c.pd, 64);
	depth = c.scq->cqe;
	CHECK(depth < 32);
	for (int i = 0; i < depth; i++)
		rdma_buf(c.qp, i, IBV_WR_RDMA_WRITE, &b, 0, 0, 0, SIGNALED);
	CHECK(!async_within(c.qp->context, IBV_EVENT_CQ_ERR, c.scq, QUIET));
	rdma_buf(c.qp, depth, IBV_WR_RDMA_WRITE, &b, 0, 0, 0, SIGNALED);
	ASYNC(c.qp->context, CQ_ERR, c.scq);
	/* Nothing of what it held before is overwritten; then it is dead. */
	for (int i = 0; i < depth; i++) {
		struct ibv_wc wc;
		int n = ibv_poll_cq(c.scq, 1, &wc);

		if (n < 0)
			break;
		EQ(n, 1);
		EQ(wc.wr_id, i);
	}
	close_end(&c);
}

/* Nothing comes out of the CQ any more, and it cannot be armed. */
static void dead_at(struct ibv_cq *cq, int line)
{
	struct ibv_wc wc;

	usleep(QUIET * 1000);
	for (int i = 0; i < 3; i++) {
		int n = ibv_poll_cq(cq, 1, &wc), armed = ibv_req_notify_cq(cq, i % 2);

		if (n != -EIO || armed != EIO)
			fail("vt", line, "ibv_poll_cq: %d, ibv_req_notify_cq: %d", n, armed);
	}
}

#define DEAD(cq) dead_at(cq, __LINE__)

/* The completions of before, which are all that there will be. */
static void polled_out(struct ibv_cq *cq, int n)
{
	for (int i = 0; i < n; i++)
		DONE(cq, i);
	DEAD(cq);
}

/* One end has failed. Over iWARP that is the end of the connection; over RoCE the consumer ends it. */
static void ends_disconnected(void)
{
	if (is_roce(c.qp->context)) {
		OK(rdma_disconnect(c.id));
		CM_EXPECT(s.ch, DISCONNECTED);
		OK(rdma_disconnect(s.id));
	} else {
		CM_EXPECT(s.ch, DISCONNECTED);
	}
	CM_EXPECT(c.ch, DISCONNECTED);
	EQ(state_of(c.qp), IBV_QPS_ERR);
	EQ(state_of(s.qp), IBV_QPS_ERR);
}

static void cq_dead(void)
{
	struct opt o = { .cqe = 4, .swr = 64 };
	struct ibv_qp_init_attr init = { .qp_type = IBV_QPT_RC, .cap = { 8, 8, 1, 1, 0 } };
	struct ibv_qp *other;
	struct buf b;
	int depth;

	connect_ends(&c, &s, &o);
	b = new_buf(c.pd, 64);
	depth = c.scq->cqe;
	recv_buf(c.qp, 100, &b, 64);
	for (int i = 0; i < depth; i++)
		rdma_buf(c.qp, i, IBV_WR_RDMA_WRITE, &b, 0, 0, 0, SIGNALED);
	OK(ibv_req_notify_cq(c.scq, 0));
	rdma_buf(c.qp, depth, IBV_WR_RDMA_WRITE, &b, 0, 0, 0, SIGNALED);
	ASYNC(c.qp->context, CQ_ERR, c.scq);
	/* The QP cannot tell what it does any more. */
	ASYNC(c.qp->context, QP_FATAL, c.qp);
	EQ(state_of(c.qp), IBV_QPS_ERR);
	/* It was the requester's doing, of which RoCE does not tell the peer. */
	if (is_roce(c.qp->context))
		EQ(state_of(s.qp), IBV_QPS_RTS);
	ends_disconnected();
	/* No completion was added, so no event of one. */
	CHECK(!cq_event(&c, c.scq, QUIET));
	polled_out(c.scq, depth);
	/* Its other CQ lives. */
	DONE_WITH(c.rcq, 100, WR_FLUSH_ERR);
	recv_buf(c.qp, 101, &b, 64);
	DONE_WITH(c.rcq, 101, WR_FLUSH_ERR);
	/* Room does not bring the CQ back, neither for this QP nor for another one. */
	send_buf(c.qp, 102, &b, 64, SIGNALED);
	DEAD(c.scq);
	init.send_cq = init.recv_cq = c.scq;
	other = ibv_create_qp(c.pd, &init);
	CHECK(other);
	into_init(other);
	OK(try_recv(other, 103, NULL, 0));
	OK(to_state(other, IBV_QPS_ERR));
	DEAD(c.scq);
	/* It says so once. */
	CHECK(!async_within(c.qp->context, IBV_EVENT_CQ_ERR, NULL, QUIET));
	FAILS(EBUSY, ibv_destroy_cq(c.scq));
	OK(ibv_destroy_qp(other));
	close_end(&c);
	close_end(&s);
	connect_ends(&c, &s, NULL);
	b = new_buf(c.pd, 64);
	rdma_buf(c.qp, 1, IBV_WR_RDMA_WRITE, &b, 0, 0, 0, SIGNALED);
	DONE(c.scq, 1);
}

static void cq_dead_recv(void)
{
	struct opt o = { .server_cqe = 4 };
	struct buf a, b;
	int depth;

	connect_ends(&c, &s, &o);
	a = new_buf(c.pd, 64);
	b = new_buf(s.pd, 64 * 64);
	depth = s.rcq->cqe;
	CHECK(depth < 32);
	for (int i = 0; i < depth + 3; i++) {
		struct ibv_sge sge = sge_of(&b, i * 64, 64);

		OK(try_recv(s.qp, i, &sge, 1));
	}
	for (int i = 0; i < depth; i++) {
		fill(a.p, 64, i);
		send_buf(c.qp, i, &a, 64, SIGNALED);
		DONE(c.scq, i);
	}
	CHECK(!async_within(s.qp->context, IBV_EVENT_CQ_ERR, s.rcq, QUIET));
	send_buf(c.qp, depth, &a, 64, SIGNALED);
	if (!is_roce(c.qp->context))
		DONE(c.scq, depth);
	ASYNC(s.qp->context, CQ_ERR, s.rcq);
	ASYNC(s.qp->context, QP_FATAL, s.qp);
	/* The peer is told: by a Terminate, or by the NAK that the message gets. */
	if (is_roce(c.qp->context)) {
		DONE_WITH(c.scq, depth, REM_OP_ERR);
		EQ(state_of(c.qp), IBV_QPS_ERR);
		EQ(state_of(s.qp), IBV_QPS_ERR);
	} else {
		ASYNC(s.qp->context, QP_REQ_ERR, c.qp);
	}
	ends_disconnected();
	polled_out(s.rcq, depth);
	for (int i = 0; i < depth; i++)
		VERIFY(b.p + i * 64, 64, i);
	close_end(&s);
	close_end(&c);
}

static void cq_timestamp(void)
{
	struct ibv_cq_init_attr_ex attr = {
		.cqe = 16,
		.wc_flags = IBV_WC_STANDARD_FLAGS | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP,
	};
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.cap = { 8, 8, 1, 1, 0 },
	};
	struct ibv_poll_cq_attr poll_attr = {};
	struct ibv_context *ctx = open_device();
	struct ibv_cq_ex *cq = ibv_create_cq_ex(ctx, &attr);
	struct timespec t;
	struct ibv_qp *qp;
	uint64_t before, after, last = 0;

	CHECK(cq);
	init.send_cq = init.recv_cq = ibv_cq_ex_to_cq(cq);
	qp = ibv_create_qp(ibv_alloc_pd(ctx), &init);
	CHECK(qp);
	into_init(qp);
	for (int i = 0; i < 4; i++)
		OK(try_recv(qp, i, NULL, 0));
	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	before = t.tv_sec * 1000000000ULL + t.tv_nsec;
	OK(to_state(qp, IBV_QPS_ERR));
	for (int i = 0; i < 4; i++) {
		long end = now_ms() + SOON;
		int r;

		while ((r = i ? ibv_next_poll(cq) : ibv_start_poll(cq, &poll_attr)) == ENOENT) {
			CHECK(now_ms() < end);
			CHECK(!i);
		}
		EQ(r, 0);
		clock_gettime(CLOCK_MONOTONIC_RAW, &t);
		after = t.tv_sec * 1000000000ULL + t.tv_nsec;
		EQ(cq->wr_id, i);
		EQ(cq->status, IBV_WC_WR_FLUSH_ERR);
		last = ibv_wc_read_completion_ts(cq);
		CHECK(last >= before && last <= after);
		before = last;
	}
	ibv_end_poll(cq);
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* What the stamps mean: clock, unit, mask; and in the time of the wall. */
static void cq_timestamp_clock(void)
{
	struct ibv_cq_init_attr_ex attr = {
		.cqe = 64,
		.wc_flags = IBV_WC_STANDARD_FLAGS | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP |
			    IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK,
	};
	struct ibv_qp_init_attr init = { .qp_type = IBV_QPT_RC, .cap = { 8, 64, 1, 1, 0 } };
	struct ibv_values_ex now = { .comp_mask = IBV_VALUES_MASK_RAW_CLOCK };
	struct ibv_poll_cq_attr poll_attr = {};
	struct ibv_context *ctx = open_device();
	struct ibv_device_attr_ex dev = {};
	struct ibv_cq_ex *cq;
	uint64_t before, after, wall_before, ts, wall, last = 0, first_wall = 0, first = 0;
	struct ibv_qp *qp;

	OK(ibv_query_device_ex(ctx, NULL, &dev));
	/* Nanoseconds: so many thousands a second. */
	EQ(dev.hca_core_clock, 1000000);
	EQ(dev.completion_timestamp_mask, UINT64_MAX);
	before = clock_ns(CLOCK_MONOTONIC_RAW);
	OK(ibv_query_rt_values_ex(ctx, &now));
	after = clock_ns(CLOCK_MONOTONIC_RAW);
	CHECK(now.comp_mask & IBV_VALUES_MASK_RAW_CLOCK);
	ts = now.raw_clock.tv_sec * 1000000000ULL + now.raw_clock.tv_nsec;
	CHECK(ts >= before && ts <= after);

	/* Only what there is: flow tags are not. */
	attr.wc_flags |= IBV_WC_EX_WITH_FLOW_TAG;
	NULLS(EOPNOTSUPP, ibv_create_cq_ex(ctx, &attr));
	attr.wc_flags &= ~(uint64_t)IBV_WC_EX_WITH_FLOW_TAG;
	cq = ibv_create_cq_ex(ctx, &attr);
	CHECK(cq);
	init.send_cq = init.recv_cq = ibv_cq_ex_to_cq(cq);
	qp = ibv_create_qp(ibv_alloc_pd(ctx), &init);
	CHECK(qp);
	into_init(qp);
	wall_before = clock_ns(CLOCK_REALTIME);
	OK(to_state(qp, IBV_QPS_ERR));
	for (int i = 0; i < 30; i++) {
		OK(try_recv(qp, i, NULL, 0));
		usleep(2000);
	}
	usleep(QUIET * 1000);
	EQ(ibv_start_poll(cq, &poll_attr), 0);
	for (int i = 0; i < 30; i++) {
		EQ(cq->wr_id, i);
		ts = ibv_wc_read_completion_ts(cq);
		wall = ibv_wc_read_completion_wallclock_ns(cq);
		/* When it completed, not when it is polled. */
		CHECK(ts > last && ts < clock_ns(CLOCK_MONOTONIC_RAW) - 100000000);
		if (last)
			CHECK(ts - last >= 2000000);
		/* Clocks may be corrected meanwhile, but not by so much. */
		CHECK(wall + 20000000 >= wall_before && wall <= clock_ns(CLOCK_REALTIME) - 80000000);
		if (!i) {
			first = ts;
			first_wall = wall;
		}
		EQ(wall - first_wall, ts - first);
		last = ts;
		EQ(ibv_next_poll(cq), i < 29 ? 0 : ENOENT);
	}
	ibv_end_poll(cq);
}

static const struct test tests[] = {
	T(cq_sizes), T(cq_bad_vector), T(cq_in_use), T(cq_event_any), T(cq_event_solicited),
	T(cq_overflow), T(cq_dead), T(cq_dead_recv), T(cq_timestamp), T(cq_timestamp_clock),
	T(cq_vector_events), T(cq_vector_destroy),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
