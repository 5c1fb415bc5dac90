// SPDX-License-Identifier: GPL-2.0
/* Tests of the resize of completion queues; test_cq_resize.py runs them. */

#include "vt.h"
#include "vtcredit.h"

#include <rdma/ib_user_verbs.h>
#include <rdma/rurdma-abi.h>

static struct end c, s;

/* A completion of the client: a write of nothing. */
static void complete(uint64_t id)
{
	struct work w = { id, IBV_WR_RDMA_WRITE, SIGNALED, NULL, 0, 0, 0 };

	OK(try_post(c.qp, &w));
}

/* Waits until so many have completed, without polling: all is done in order, and this is behind it. */
static void settle(void)
{
	struct work w = { 0, IBV_WR_SEND, 0, NULL, 0, 0, 0 };

	OK(try_recv(s.qp, 0, NULL, 0));
	OK(try_post(c.qp, &w));
	DONE(s.rcq, 0);
	usleep(100000);
}

static void resize_from_to(int from, int to)
{
	struct opt o = { .cqe = from, .swr = 2048 };
	long kib;
	int before;

	connect_ends(&c, &s, &o);
	before = c.scq->cqe;
	CHECK(before >= from);
	kib = pinned();
	for (int round = 0; round < 3; round++) {
		OK(ibv_resize_cq(c.scq, to));
		CHECK(c.scq->cqe >= to);
		CHECK(to > from ? c.scq->cqe > before : c.scq->cqe < before);
		CHECK(to > from ? pinned() > kib : pinned() < kib);
		/* So many fit. */
		for (int i = 0; i < c.scq->cqe; i++)
			complete(i);
		settle();
		for (int i = 0; i < c.scq->cqe; i++)
			DONE(c.scq, i);
		/* And back: the same size costs the same. */
		OK(ibv_resize_cq(c.scq, from));
		EQ(c.scq->cqe, before);
		EQ(pinned(), kib);
		for (int i = 0; i < before; i++)
			complete(i);
		settle();
		for (int i = 0; i < before; i++)
			DONE(c.scq, i);
	}
	CHECK(!async_within(c.qp->context, IBV_EVENT_CQ_ERR, c.scq, 0));
	close_end(&c);
}

static void cq_resize_grow(void)
{
	resize_from_to(16, 1000);
}

static void cq_resize_shrink(void)
{
	resize_from_to(1000, 16);
}

static void cq_resize_outstanding(void)
{
	static const int sizes[] = { 64, 40, 500, 33, 1024, 32, 9, 8, 100, 16384, 10 };
	struct opt o = { .cqe = 16, .swr = 256 };
	uint64_t in = 0, out = 0;

	connect_ends(&c, &s, &o);
	while (in < 16)
		complete(in++);
	settle();
	/* Not at the beginning of the ring. */
	while (out < 5)
		DONE(c.scq, out++);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		while (in - out > (uint64_t)sizes[i])
			DONE(c.scq, out++);
		if (in - out == (uint64_t)sizes[i])
			FAILS(EINVAL, ibv_resize_cq(c.scq, sizes[i] - 1));
		OK(ibv_resize_cq(c.scq, sizes[i]));
		for (int k = 0; k < 7 && in - out < (uint64_t)c.scq->cqe; k++)
			complete(in++);
		settle();
		for (int k = 0; k < 3; k++)
			DONE(c.scq, out++);
	}
	while (out < in)
		DONE(c.scq, out++);
	NOTHING(c.scq);
}

static void cq_resize_errors(void)
{
	struct opt o = { .cqe = 64, .swr = 256 };
	struct ibv_device_attr dev;
	long kib;

	connect_ends(&c, &s, &o);
	OK(ibv_query_device(c.qp->context, &dev));
	for (int i = 0; i < 20; i++)
		complete(i);
	settle();
	kib = pinned();
	FAILS(EINVAL, ibv_resize_cq(c.scq, 19));
	FAILS(EINVAL, ibv_resize_cq(c.scq, 1));
	FAILS(EINVAL, ibv_resize_cq(c.scq, 0));
	FAILS(EINVAL, ibv_resize_cq(c.scq, -1));
	FAILS(EINVAL, ibv_resize_cq(c.scq, dev.max_cqe + 1));
	FAILS(EINVAL, ibv_resize_cq(c.scq, INT32_MAX));
	/* All of that changed nothing. */
	EQ(c.scq->cqe, 64);
	EQ(pinned(), kib);
	for (int i = 0; i < 20; i++)
		DONE(c.scq, i);
	OK(ibv_resize_cq(c.scq, dev.max_cqe));
	EQ(c.scq->cqe, dev.max_cqe);
	complete(1);
	DONE(c.scq, 1);
}

static void cq_resize_armed(void)
{
	static const int sizes[] = { 100, 10, 1000, 16 };
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 64);
	b = new_buf(s.pd, 64);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (int k = 0; k < 8; k++)
			recv_buf(s.qp, k, &b, 64);
		/* Not armed: nothing is. */
		OK(ibv_resize_cq(s.rcq, sizes[i]));
		send_buf(c.qp, 0, &a, 16, SIGNALED);
		DONE(s.rcq, 0);
		CHECK(!cq_event(&s, s.rcq, QUIET));
		/* Armed for any. */
		OK(ibv_req_notify_cq(s.rcq, 0));
		OK(ibv_resize_cq(s.rcq, sizes[i] * 3));
		CHECK(!cq_event(&s, s.rcq, QUIET));
		send_buf(c.qp, 1, &a, 16, SIGNALED);
		CHECK(cq_event(&s, s.rcq, SOON));
		DONE(s.rcq, 1);
		/* One arming, one event; and one that was raised is not raised again. */
		OK(ibv_req_notify_cq(s.rcq, 0));
		send_buf(c.qp, 2, &a, 16, SIGNALED);
		CHECK(readable(s.cc->fd, SOON));
		OK(ibv_resize_cq(s.rcq, sizes[i]));
		send_buf(c.qp, 3, &a, 16, SIGNALED);
		CHECK(cq_event(&s, s.rcq, SOON));
		DONE(s.rcq, 2);
		DONE(s.rcq, 3);
		CHECK(!cq_event(&s, s.rcq, QUIET));
		/* Armed for solicited ones. */
		OK(ibv_req_notify_cq(s.rcq, 1));
		OK(ibv_resize_cq(s.rcq, sizes[i] * 3));
		send_buf(c.qp, 4, &a, 16, SIGNALED);
		DONE(s.rcq, 4);
		CHECK(!cq_event(&s, s.rcq, QUIET));
		send_buf(c.qp, 5, &a, 16, SIGNALED | IBV_SEND_SOLICITED);
		CHECK(cq_event(&s, s.rcq, SOON));
		DONE(s.rcq, 5);
		send_buf(c.qp, 6, &a, 16, SIGNALED);
		DONE(s.rcq, 6);
		send_buf(c.qp, 7, &a, 16, SIGNALED);
		DONE(s.rcq, 7);
		for (int k = 0; k < 8; k++)
			DONE(c.scq, k);
	}
}

static void cq_resize_overflow(void)
{
	struct opt o = { .cqe = 4, .swr = 64 };

	connect_ends(&c, &s, &o);
	for (int i = 0; i <= c.scq->cqe; i++)
		complete(i);
	ASYNC(c.qp->context, CQ_ERR, c.scq);
	/* What was lost does not come back with room. */
	FAILS(EINVAL, ibv_resize_cq(c.scq, 100));
	close_end(&c);
}

static void cq_resize_extended(void)
{
	struct ibv_cq_init_attr_ex attr = {
		.cqe = 16,
		.wc_flags = IBV_WC_STANDARD_FLAGS | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP,
	};
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.cap = { 8, 64, 1, 1, 0 },
	};
	struct ibv_poll_cq_attr poll_attr = {};
	struct ibv_context *ctx = open_device();
	struct ibv_cq_ex *cq = ibv_create_cq_ex(ctx, &attr);
	uint64_t last = 0, ts;
	struct ibv_qp *qp;

	CHECK(cq);
	init.send_cq = init.recv_cq = ibv_cq_ex_to_cq(cq);
	qp = ibv_create_qp(ibv_alloc_pd(ctx), &init);
	CHECK(qp);
	into_init(qp);
	for (int i = 0; i < 12; i++)
		OK(try_recv(qp, i, NULL, 0));
	OK(to_state(qp, IBV_QPS_ERR));
	usleep(QUIET * 1000);
	EQ(ibv_start_poll(cq, &poll_attr), 0);
	EQ(cq->wr_id, 0);
	ibv_end_poll(cq);
	OK(ibv_resize_cq(ibv_cq_ex_to_cq(cq), 64));
	for (int i = 12; i < 60; i++)
		OK(try_recv(qp, i, NULL, 0));
	usleep(QUIET * 1000);
	EQ(ibv_start_poll(cq, &poll_attr), 0);
	for (int i = 1; i < 60; i++) {
		EQ(cq->wr_id, i);
		EQ(cq->status, IBV_WC_WR_FLUSH_ERR);
		ts = ibv_wc_read_completion_ts(cq);
		CHECK(ts >= last);
		last = ts;
		EQ(ibv_next_poll(cq), i < 59 ? 0 : ENOENT);
	}
	ibv_end_poll(cq);
}

/* RESIZE_CQ as a provider may not write it; `out` bytes of answer are asked for. */
static int raw_resize_cq(struct ibv_cq *cq, uint32_t cqe, void *resp, size_t out)
{
	struct {
		struct ib_uverbs_cmd_hdr hdr;
		struct ib_uverbs_resize_cq cmd;
	} w = {
		.cmd = { .response = (uintptr_t)resp, .cq_handle = cq->handle, .cqe = cqe },
	};

	w.hdr.command = IB_USER_VERBS_CMD_RESIZE_CQ;
	w.hdr.in_words = sizeof(w) / 4;
	w.hdr.out_words = out / 4;
	return write(cq->context->cmd_fd, &w, sizeof(w)) == (ssize_t)sizeof(w) ? 0 : errno;
}

struct resized {
	struct ib_uverbs_resize_cq_resp core;
	struct rurdma_create_cq_resp drv;
};

static void cq_resize_bad_request(void)
{
	void *ro = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct opt o = { .cqe = 64, .swr = 256 };
	struct resized resp = {};
	long kib;

	connect_ends(&c, &s, &o);
	for (int i = 0; i < 40; i++)
		complete(i);
	settle();
	kib = pinned();
	for (int i = 0; i < 50; i++) {
		/* No room for the answer; nowhere to write it. Nothing of what was made for it is left. */
		FAILS(EINVAL, raw_resize_cq(c.scq, 1000, &resp, sizeof(resp.core)));
		FAILS(EINVAL, raw_resize_cq(c.scq, 1000, &resp, sizeof(resp) - 8));
		FAILS(EFAULT, raw_resize_cq(c.scq, 1000, ro, sizeof(resp)));
		FAILS(EFAULT, raw_resize_cq(c.scq, 1000, NULL, sizeof(resp)));
		FAILS(EINVAL, raw_resize_cq(c.scq, 39, &resp, sizeof(resp)));
	}
	EQ(pinned(), kib);
	EQ(c.scq->cqe, 64);
	for (int i = 0; i < 40; i++)
		DONE(c.scq, i);
}

/* A provider of before: it does not name the capability, and is told that there is no such thing. */
static void cq_resize_old_provider(void)
{
	struct {
		struct ib_uverbs_cmd_hdr hdr;
		struct ib_uverbs_get_context cmd;
		struct rurdma_uctx_req drv;
	} ctx = {};
	struct {
		struct ib_uverbs_get_context_resp core;
		struct rurdma_uctx_resp drv;
	} ctx_resp = {};
	struct {
		struct ib_uverbs_cmd_hdr hdr;
		struct ib_uverbs_create_cq cmd;
	} cq = {};
	struct {
		struct ib_uverbs_create_cq_resp core;
		struct rurdma_create_cq_resp drv;
	} cq_resp = {};
	struct ibv_context fake = {};
	struct ibv_cq old = { .context = &fake };
	struct resized resp = {};
	char path[300];

	snprintf(path, sizeof(path), "/dev/infiniband/%s", open_device()->device->dev_name);
	for (int with = 0; with < 2; with++) {
		fake.cmd_fd = open(path, O_RDWR | O_CLOEXEC);
		CHECK(fake.cmd_fd >= 0);
		ctx.hdr.command = IB_USER_VERBS_CMD_GET_CONTEXT;
		ctx.hdr.in_words = sizeof(ctx) / 4;
		ctx.hdr.out_words = sizeof(ctx_resp) / 4;
		ctx.cmd.response = (uintptr_t)&ctx_resp;
		ctx.drv.caps = RURDMA_CAP_SRQ_RESIZE | (with ? RURDMA_CAP_CQ_RESIZE : 0);
		EQ(write(fake.cmd_fd, &ctx, sizeof(ctx)), sizeof(ctx));
		EQ(ctx_resp.drv.caps, ctx.drv.caps);
		cq.hdr.command = IB_USER_VERBS_CMD_CREATE_CQ;
		cq.hdr.in_words = sizeof(cq) / 4;
		cq.hdr.out_words = sizeof(cq_resp) / 4;
		cq.cmd = (struct ib_uverbs_create_cq) {
			.response = (uintptr_t)&cq_resp, .cqe = 16, .comp_channel = -1,
		};
		EQ(write(fake.cmd_fd, &cq, sizeof(cq)), sizeof(cq));
		old.handle = cq_resp.core.cq_handle;
		EQ(raw_resize_cq(&old, 100, &resp, sizeof(resp)), with ? 0 : EOPNOTSUPP);
		/* The same size is none that would need a new ring; but it is said alike. */
		EQ(raw_resize_cq(&old, with ? 100 : 16, &resp, sizeof(resp)), with ? 0 : EOPNOTSUPP);
		if (with) {
			EQ(resp.core.cqe, 128);
			EQ(resp.drv.ring_len, 0);
		}
		OK(close(fake.cmd_fd));
	}
}

static void memlock_cq_resize(void)
{
	struct ibv_cq *cq = ibv_create_cq(open_device(), 64, NULL, NULL, 0);
	long kib;

	CHECK(cq);
	kib = pinned();
	limit_memlock((kib << 10) + (1 << 20));
	for (int i = 0; i < 10; i++) {
		/* 32768 completions are 2 MiB; 8192 are 512 KiB. */
		FAILS(ENOMEM, ibv_resize_cq(cq, 32768));
		EQ(cq->cqe, 64);
		EQ(pinned(), kib);
		OK(ibv_resize_cq(cq, 8192));
		FAILS(ENOMEM, ibv_resize_cq(cq, 16384));
		OK(ibv_resize_cq(cq, 64));
		EQ(pinned(), kib);
	}
}

/* The next completion, waited for as a program does that sleeps: an event that is lost is never made up for. */
static struct ibv_wc wait_completion(struct end *e, struct ibv_cq *cq, int solicited)
{
	struct ibv_wc wc;
	int n;

	while (!(n = ibv_poll_cq(cq, 1, &wc))) {
		OK(ibv_req_notify_cq(cq, solicited));
		n = ibv_poll_cq(cq, 1, &wc);
		if (n)
			break;
		if (!cq_event(e, cq, SOON))
			FAIL("the event is lost");
	}
	EQ(n, 1);
	return wc;
}

static void awaited(struct end *e, uint64_t id)
{
	struct ibv_wc wc = wait_completion(e, e->rcq, 0);

	EQ(wc.status, IBV_WC_SUCCESS);
	EQ(wc.wr_id, id);
}

static void *recv_cq(struct end *e)
{
	return e->rcq;
}

static int resize_cq(void *cq, uint32_t cqe)
{
	return ibv_resize_cq(cq, cqe);
}

static int recv_part(struct end *e, uint64_t id, const struct buf *b, size_t off, size_t len)
{
	struct ibv_sge sge = sge_of(b, off, len);

	return try_recv(e->qp, id, &sge, 1);
}

static void cq_resize_traffic(void)
{
	static const uint32_t sizes[] = { 64, 1000, 49, 4000, 300, 8192 };
	struct traffic t = {
		.o = &defaults, .queue = recv_cq, .resize = resize_cq,
		.sizes = sizes, .nsizes = ARRAY_SIZE(sizes),
		.recv = recv_part, .received = awaited,
	};

	credit_traffic(&c, &s, &t);
}

static const struct test tests[] = {
	T(cq_resize_grow), T(cq_resize_shrink), T(cq_resize_outstanding), T(cq_resize_errors),
	T(cq_resize_armed), T(cq_resize_overflow), T(cq_resize_extended), T(cq_resize_bad_request),
	T(cq_resize_old_provider), T(memlock_cq_resize), T(cq_resize_traffic),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
