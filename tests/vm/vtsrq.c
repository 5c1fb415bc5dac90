// SPDX-License-Identifier: GPL-2.0
/* Tests of shared receive queues; test_srq.py runs them. */

#include "vtcredit.h"
#include "vtsrq.h"

#include <rdma/ib_user_verbs.h>

static struct end c, s;

static void srq_of_two_qps(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	struct opt o = { .srq = new_srq(pd, 64, 4), .server_pd = pd };
	struct end c2 = {}, s2 = {};
	struct buf a, a2, b;

	connect_ends(&c, &s, &o);
	connect_ends(&c2, &s2, &o);
	a = new_buf(c.pd, 1024);
	a2 = new_buf(c2.pd, 1024);
	b = new_buf(pd, 65536);
	for (int i = 0; i < 40; i++) {
		struct end *from = i % 2 ? &c2 : &c, *to = i % 2 ? &s2 : &s;
		struct ibv_wc wc;

		OK(srq_recv(o.srq, i, &b, i * 1024, 1024));
		fill(i % 2 ? a2.p : a.p, 1024, i);
		send_buf(from->qp, i, i % 2 ? &a2 : &a, 1000 + i % 20, SIGNALED);
		wc = DONE(to->rcq, i);
		EQ(wc.qp_num, to->qp->qp_num);
		EQ(wc.byte_len, 1000 + i % 20);
		VERIFY(b.p + i * 1024, 1000 + i % 20, i);
		DONE(from->scq, i);
	}
	FAILS(EBUSY, ibv_destroy_srq(o.srq));
	close_end(&s);
	close_end(&s2);
	OK(ibv_destroy_srq(o.srq));
}

static void srq_limits(void)
{
	struct ibv_context *ctx = open_device();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct ibv_srq_init_attr init = {};
	struct ibv_device_attr attr;

	OK(ibv_query_device(ctx, &attr));
	CHECK(attr.max_srq > 0 && attr.max_srq_sge >= 32);
	init.attr = (struct ibv_srq_attr) { .max_wr = attr.max_srq_wr, .max_sge = 1 };
	OK(ibv_destroy_srq(ibv_create_srq(pd, &init)));
	init.attr = (struct ibv_srq_attr) { .max_wr = attr.max_srq_wr + 1, .max_sge = 1 };
	NULLS(EINVAL, ibv_create_srq(pd, &init));
	init.attr = (struct ibv_srq_attr) { .max_wr = 1, .max_sge = attr.max_srq_sge + 1 };
	NULLS(EINVAL, ibv_create_srq(pd, &init));
	init.attr = (struct ibv_srq_attr) { .max_wr = 0, .max_sge = 1 };
	NULLS(EINVAL, ibv_create_srq(pd, &init));
}

static void srq_query_modify(void)
{
	struct ibv_srq *srq = new_srq(ibv_alloc_pd(open_device()), 100, 5);
	struct ibv_srq_attr attr;

	OK(ibv_query_srq(srq, &attr));
	CHECK(attr.max_wr >= 100 && attr.max_sge >= 5);
	EQ(attr.srq_limit, 0);
	attr.srq_limit = 33;
	OK(ibv_modify_srq(srq, &attr, IBV_SRQ_LIMIT));
	OK(ibv_query_srq(srq, &attr));
	EQ(attr.srq_limit, 33);
	attr.srq_limit = attr.max_wr + 1;
	FAILS(EINVAL, ibv_modify_srq(srq, &attr, IBV_SRQ_LIMIT));
	OK(ibv_query_srq(srq, &attr));
	EQ(attr.srq_limit, 33);
}

static void srq_limit_event(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	struct opt o = { .srq = new_srq(pd, 64, 1), .server_pd = pd };
	struct ibv_srq_attr attr = { .srq_limit = 8 };
	struct buf a, b;

	connect_ends(&c, &s, &o);
	a = new_buf(c.pd, 64);
	b = new_buf(pd, 64);
	for (int i = 0; i < 10; i++)
		OK(srq_recv(o.srq, i, &b, 0, 64));
	OK(ibv_modify_srq(o.srq, &attr, IBV_SRQ_LIMIT));
	for (int i = 0; i < 2; i++) {
		send_buf(c.qp, i, &a, 64, SIGNALED);
		DONE(s.rcq, i);
	}
	/* 8 are left: not fewer than that. */
	CHECK(!async_within(pd->context, IBV_EVENT_SRQ_LIMIT_REACHED, o.srq, QUIET));
	send_buf(c.qp, 2, &a, 64, SIGNALED);
	DONE(s.rcq, 2);
	ASYNC(pd->context, SRQ_LIMIT_REACHED, o.srq);
	/* One arming, one event. */
	OK(ibv_query_srq(o.srq, &attr));
	EQ(attr.srq_limit, 0);
	send_buf(c.qp, 3, &a, 64, SIGNALED);
	DONE(s.rcq, 3);
	CHECK(!async_within(pd->context, IBV_EVENT_SRQ_LIMIT_REACHED, o.srq, QUIET));
}

static void srq_full(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	struct ibv_srq *srq = new_srq(pd, 8, 1);
	struct buf b = new_buf(pd, 64);
	int n, r = 0;

	for (n = 0; n < 1000 && !r; n++)
		r = srq_recv(srq, n, &b, 0, 64);
	EQ(r, ENOMEM);
	CHECK(n > 8 && n < 1000);
	OK(ibv_destroy_srq(srq));
}

/* `n` messages through it: each takes the oldest request. */
static void srq_drain(const struct buf *a, const struct buf *b, uint64_t *taken, int n)
{
	for (int i = 0; i < n; i++, ++*taken) {
		fill(a->p, 64, *taken);
		send_buf(c.qp, *taken, a, 64, SIGNALED);
		DONE(s.rcq, *taken);
		DONE(c.scq, *taken);
		VERIFY(b->p + *taken % 64 * 64, 64, *taken);
	}
}

/* From one size to another, empty and with requests outstanding. */
static void resize_from_to(uint32_t from, uint32_t to)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	long kib, idle = pinned(), end = now_ms() + SOON;
	struct opt o = { .srq = new_srq(pd, from, 1), .server_pd = pd };
	uint64_t posted = 0, taken = 0;
	uint32_t before = srq_size(o.srq);
	struct buf a, b;

	connect_ends(&c, &s, &o);
	a = new_buf(c.pd, 64);
	b = new_buf(pd, 64 * 64);
	kib = pinned();
	OK(srq_resize(o.srq, to));
	CHECK(srq_size(o.srq) >= to);
	CHECK(to > from ? srq_size(o.srq) > before : srq_size(o.srq) < before);
	CHECK(to > from ? pinned() > kib : pinned() < kib);
	srq_fill(o.srq, &b, &posted, taken);
	srq_drain(&a, &b, &taken, posted);
	/* And back: the same size costs the same. */
	OK(srq_resize(o.srq, from));
	EQ(srq_size(o.srq), before);
	EQ(pinned(), kib);
	srq_fill(o.srq, &b, &posted, taken);
	srq_drain(&a, &b, &taken, posted - taken);
	close_end(&s);
	close_end(&c);
	OK(ibv_destroy_srq(o.srq));
	OK(ibv_dereg_mr(a.mr));
	OK(ibv_dereg_mr(b.mr));
	/* A QP that is destroyed is freed a little later, and its queues with it. */
	while (pinned() != idle) {
		if (now_ms() > end)
			FAIL("%ld KiB are pinned, not %ld", pinned(), idle);
		usleep(5000);
	}
}

static void srq_resize_grow(void)
{
	resize_from_to(16, 1000);
}

static void srq_resize_shrink(void)
{
	resize_from_to(1000, 16);
}

static void srq_resize_outstanding(void)
{
	static const uint32_t sizes[] = { 64, 40, 500, 33, 1024, 32, 9, 8, 100 };
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	struct opt o = { .srq = new_srq(pd, 16, 1), .server_pd = pd };
	uint64_t posted = 0, taken = 0;
	struct buf a, b;

	connect_ends(&c, &s, &o);
	a = new_buf(c.pd, 64);
	b = new_buf(pd, 64 * 64);
	srq_fill(o.srq, &b, &posted, taken);
	/* Not at the beginning of the ring. */
	srq_drain(&a, &b, &taken, 5);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		/* As many as are to be kept: all that fit, and a few. */
		while (posted - taken > sizes[i])
			srq_drain(&a, &b, &taken, 1);
		if (posted - taken == sizes[i])
			FAILS(EINVAL, srq_resize(o.srq, sizes[i] - 1));
		OK(srq_resize(o.srq, sizes[i]));
		for (int k = 0; k < 7 && posted - taken < srq_size(o.srq); k++) {
			OK(srq_recv(o.srq, posted, &b, posted % 64 * 64, 64));
			posted++;
		}
		srq_drain(&a, &b, &taken, 3);
	}
	srq_drain(&a, &b, &taken, posted - taken);
}

static void srq_resize_errors(void)
{
	struct ibv_context *ctx = open_device();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct opt o = { .srq = new_srq(pd, 64, 1), .server_pd = pd };
	struct ibv_srq_attr attr = {};
	struct ibv_device_attr dev;
	uint64_t posted = 0, taken = 0;
	struct buf a, b;

	OK(ibv_query_device(ctx, &dev));
	CHECK(dev.device_cap_flags & IBV_DEVICE_SRQ_RESIZE);
	connect_ends(&c, &s, &o);
	a = new_buf(c.pd, 64);
	b = new_buf(pd, 64 * 64);
	for (; posted < 20; posted++)
		OK(srq_recv(o.srq, posted, &b, posted % 64 * 64, 64));
	FAILS(EINVAL, srq_resize(o.srq, 19));
	FAILS(EINVAL, srq_resize(o.srq, 1));
	FAILS(EINVAL, srq_resize(o.srq, 0));
	FAILS(EINVAL, srq_resize(o.srq, dev.max_srq_wr + 1));
	FAILS(EINVAL, srq_resize(o.srq, UINT32_MAX));
	/* The limit must fit, a new one and the one that is armed. */
	attr = (struct ibv_srq_attr) { .max_wr = 128, .srq_limit = 129 };
	FAILS(EINVAL, ibv_modify_srq(o.srq, &attr, IBV_SRQ_MAX_WR | IBV_SRQ_LIMIT));
	attr.srq_limit = 50;
	OK(ibv_modify_srq(o.srq, &attr, IBV_SRQ_LIMIT));
	FAILS(EINVAL, srq_resize(o.srq, 49));
	/* All of that changed nothing. */
	OK(ibv_query_srq(o.srq, &attr));
	EQ(attr.max_wr, 64);
	EQ(attr.srq_limit, 50);
	/* Both at once. */
	attr = (struct ibv_srq_attr) { .max_wr = 20, .srq_limit = 0 };
	OK(ibv_modify_srq(o.srq, &attr, IBV_SRQ_MAX_WR | IBV_SRQ_LIMIT));
	OK(ibv_query_srq(o.srq, &attr));
	CHECK(attr.max_wr >= 20 && attr.max_wr < 64);
	EQ(attr.srq_limit, 0);
	OK(srq_resize(o.srq, dev.max_srq_wr));
	EQ(srq_size(o.srq), dev.max_srq_wr);
	srq_drain(&a, &b, &taken, 20);
}

/* MODIFY_SRQ as a provider may not write it. */
static int raw_modify_srq(struct ibv_srq *srq, uint32_t max_wr, size_t driver_len, uint64_t resp)
{
	struct {
		struct ib_uverbs_cmd_hdr hdr;
		struct ib_uverbs_modify_srq cmd;
		uint64_t driver[2];
	} w = {
		.cmd = { .srq_handle = srq->handle, .attr_mask = IBV_SRQ_MAX_WR, .max_wr = max_wr },
		.driver = { resp, 1 },
	};
	size_t len = sizeof(w) - sizeof(w.driver) + driver_len;

	w.hdr.command = IB_USER_VERBS_CMD_MODIFY_SRQ;
	w.hdr.in_words = len / 4;
	return write(srq->context->cmd_fd, &w, len) == (ssize_t)len ? 0 : errno;
}

static void srq_resize_bad_request(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	struct opt o = { .srq = new_srq(pd, 64, 1), .server_pd = pd };
	void *ro = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t posted = 0, taken = 0, resp[3] = {};
	struct buf a, b;
	long kib;

	connect_ends(&c, &s, &o);
	a = new_buf(c.pd, 64);
	b = new_buf(pd, 64 * 64);
	srq_fill(o.srq, &b, &posted, taken);
	kib = pinned();
	for (int i = 0; i < 50; i++) {
		/* Of before there was a resize; cut short; with a field that is not known. */
		FAILS(EOPNOTSUPP, raw_modify_srq(o.srq, 1000, 0, 0));
		FAILS(EINVAL, raw_modify_srq(o.srq, 1000, 4, 0));
		FAILS(EOPNOTSUPP, raw_modify_srq(o.srq, 1000, 16, (uintptr_t)resp));
		/* The answer goes nowhere: nothing of what was made for it is left. */
		FAILS(EFAULT, raw_modify_srq(o.srq, 1000, 8, 0));
		FAILS(EFAULT, raw_modify_srq(o.srq, 1000, 8, (uintptr_t)ro));
		FAILS(EFAULT, raw_modify_srq(o.srq, 1000, 8, -8ULL));
		FAILS(EFAULT, raw_modify_srq(o.srq, 64, 8, 0));
	}
	EQ(pinned(), kib);
	EQ(srq_size(o.srq), 64);
	srq_drain(&a, &b, &taken, 64);
}

static void memlock_srq_resize(void)
{
	struct ibv_srq *srq = new_srq(ibv_alloc_pd(open_device()), 64, 4);
	long kib = pinned();

	limit_memlock((kib << 10) + (1 << 20));
	for (int i = 0; i < 10; i++) {
		/* 32768 requests of 80 bytes are 2.5 MiB; 8192 are 640 KiB. */
		FAILS(ENOMEM, srq_resize(srq, 32768));
		EQ(srq_size(srq), 64);
		EQ(pinned(), kib);
		OK(srq_resize(srq, 8192));
		FAILS(ENOMEM, srq_resize(srq, 16384));
		OK(srq_resize(srq, 64));
		EQ(pinned(), kib);
	}
}

static void *qp_srq(struct end *e)
{
	return e->qp->srq;
}

static int resize_srq(void *srq, uint32_t max_wr)
{
	return srq_resize(srq, max_wr);
}

static int recv_part(struct end *e, uint64_t id, const struct buf *b, size_t off, size_t len)
{
	return srq_recv(e->qp->srq, id, b, off, len);
}

static void polled(struct end *e, uint64_t id)
{
	DONE(e->rcq, id);
}

static void srq_resize_traffic(void)
{
	static const uint32_t sizes[] = { 64, 1000, 48, 4000, 300, 8192 };
	struct ibv_srq *srq;
	struct opt o = {};
	struct traffic t = {
		.o = &o, .queue = qp_srq, .resize = resize_srq,
		.sizes = sizes, .nsizes = ARRAY_SIZE(sizes),
		.recv = recv_part, .received = polled,
	};

	/* Of the server. */
	if (!args[1]) {
		o.server_pd = ibv_alloc_pd(open_device());
		o.srq = new_srq(o.server_pd, 64, 1);
	}
	srq = credit_traffic(&c, &s, &t);
	if (!srq)
		return;
	/* What is still posted is what is left in the queue. */
	FAILS(EINVAL, srq_resize(srq, TRAFFIC_POSTED - 1));
	OK(srq_resize(srq, TRAFFIC_POSTED));
}

static void srq_last_wqe_event(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	struct opt o = { .srq = new_srq(pd, 8, 1), .server_pd = pd };
	struct buf b = new_buf(pd, 64);

	connect_ends(&c, &s, &o);
	OK(srq_recv(o.srq, 1, &b, 0, 64));
	OK(rdma_disconnect(c.id));
	if (is_roce(pd->context)) {
		/* This end is not in error because the other one is. */
		CHECK(!async_within(pd->context, IBV_EVENT_QP_LAST_WQE_REACHED, s.qp, QUIET));
		follow(&s);
	}
	ASYNC(pd->context, QP_LAST_WQE_REACHED, s.qp);
	/* The SRQ's requests are not the QP's: none is flushed. */
	NOTHING(s.rcq);
	/* Told to whoever ends it himself, too. */
	connect_ends(&c, &s, &o);
	OK(to_state(s.qp, IBV_QPS_ERR));
	ASYNC(pd->context, QP_LAST_WQE_REACHED, s.qp);
}

static const struct test tests[] = {
	T(memlock_srq_resize), T(srq_of_two_qps), T(srq_limits), T(srq_query_modify),
	T(srq_limit_event), T(srq_full), T(srq_last_wqe_event), T(srq_resize_grow),
	T(srq_resize_shrink), T(srq_resize_outstanding), T(srq_resize_errors),
	T(srq_resize_bad_request), T(srq_resize_traffic),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
