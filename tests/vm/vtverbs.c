// SPDX-License-Identifier: GPL-2.0
/* Tests of memory regions, queues and operations; test_verbs.py runs them. */

#include "vt.h"

#include <linux/capability.h>
#include <pthread.h>
#include <rdma/ib_user_verbs.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static struct end c, s;

/* ===== protection domains and memory regions ===== */

static void pd_in_use(void)
{
	struct ibv_context *ctx = open_device();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct buf b = new_buf(pd, 4096);

	FAILS(EBUSY, ibv_dealloc_pd(pd));
	OK(ibv_dereg_mr(b.mr));
	OK(ibv_dealloc_pd(pd));
}

static void mr_access_flags(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	static uint8_t page[4096];

	for (int access = 0; access < 16; access++) {
		struct ibv_mr *mr = ibv_reg_mr(pd, page, sizeof(page), access);
		bool writes = access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC);

		if (writes && !(access & IBV_ACCESS_LOCAL_WRITE)) {
			if (mr)
				FAIL("access %#x is granted", access);
			EQ(errno, EINVAL);
		} else {
			if (!mr)
				FAIL("access %#x is refused", access);
			EQ(mr->length, sizeof(page));
			OK(ibv_dereg_mr(mr));
		}
	}
}

static void mr_bad_memory(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	uint8_t *p = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct ibv_mr *mr;

	OK(munmap(p + 4096, 4096));
	NULLS(EFAULT, ibv_reg_mr(pd, p, 3 * 4096, ALL_ACCESS));
	mr = ibv_reg_mr(pd, p, 4096, ALL_ACCESS);
	CHECK(mr);
	OK(ibv_dereg_mr(mr));
	CHECK(!ibv_reg_mr(pd, (void *)-8192UL, 1 << 20, ALL_ACCESS));
}

static void mr_read_only_memory(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	int fd = open("/proc/self/exe", O_RDONLY);
	void *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	struct ibv_mr *mr;

	CHECK(p != MAP_FAILED);
	mr = ibv_reg_mr(pd, p, 4096, IBV_ACCESS_REMOTE_READ);
	CHECK(mr);
	NULLS(EFAULT, ibv_reg_mr(pd, p, 4096, IBV_ACCESS_LOCAL_WRITE));
	OK(ibv_dereg_mr(mr));
}

static void mr_keys_unguessable(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	static uint8_t page[4096];
	uint32_t keys[64];
	int near = 0;

	for (int i = 0; i < 64; i++) {
		/* Also when the number of the last one is free again. */
		struct ibv_mr *mr = ibv_reg_mr(pd, page, sizeof(page), ALL_ACCESS);

		CHECK(mr);
		keys[i] = mr->rkey;
		CHECK(keys[i] >> 8);
		if (i % 2)
			OK(ibv_dereg_mr(mr));
	}
	for (int i = 0; i < 64; i++) {
		for (int j = 0; j < i; j++) {
			int32_t d = (int32_t)(keys[i] >> 8) - (int32_t)(keys[j] >> 8);

			CHECK(keys[i] != keys[j]);
			near += d > -256 && d < 256;
		}
	}
	/* 2016 pairs of 24 bits: 0.06 are expected to be so near. */
	CHECK(near < 4);
}

static void mr_bounds(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	/* A region that neither begins nor ends at a page. */
	a = new_buf(c.pd, 16384);
	b = new_buf(s.pd, 16384);
	OK(ibv_dereg_mr(b.mr));
	memset(b.p, 0xee, b.len);
	b.mr = ibv_reg_mr(s.pd, b.p + 1001, 9000, ALL_ACCESS);
	CHECK(b.mr);
	fill(a.p, a.len, 1);
	rdma_buf(c.qp, 1, IBV_WR_RDMA_WRITE, &a, 9000, (uintptr_t)b.p + 1001, b.mr->rkey, SIGNALED);
	DONE(c.scq, 1);
	/* It is all there when a read after it is done. */
	rdma_buf(c.qp, 2, IBV_WR_RDMA_READ, &a, 9000, (uintptr_t)b.p + 1001, b.mr->rkey, SIGNALED);
	DONE(c.scq, 2);
	VERIFY(b.p + 1001, 9000, 1);
	UNTOUCHED(b.p, 1001, 0xee);
	UNTOUCHED(b.p + 10001, b.len - 10001, 0xee);
}

static void mr_iova(void)
{
	uint64_t iova = 0x123456789000ULL + 77;
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 8192);
	b = new_buf(s.pd, 8192);
	OK(ibv_dereg_mr(b.mr));
	b.mr = ibv_reg_mr_iova(s.pd, b.p + 77, 8000, iova, ALL_ACCESS);
	CHECK(b.mr);
	fill(a.p, a.len, 2);
	rdma_buf(c.qp, 1, IBV_WR_RDMA_WRITE, &a, 8000, iova, b.mr->rkey, SIGNALED);
	DONE(c.scq, 1);
	memset(a.p, 0, a.len);
	rdma_buf(c.qp, 2, IBV_WR_RDMA_READ, &a, 8000, iova, b.mr->rkey, SIGNALED);
	DONE(c.scq, 2);
	VERIFY(b.p + 77, 8000, 2);
	VERIFY(a.p, 8000, 2);
}

static void mr_relaxed_ordering(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf_access(c.pd, 65536, ALL_ACCESS | IBV_ACCESS_RELAXED_ORDERING);
	b = new_buf_access(s.pd, 65536, ALL_ACCESS | IBV_ACCESS_RELAXED_ORDERING);
	fill(a.p, a.len, 3);
	rdma_buf(c.qp, 1, IBV_WR_RDMA_WRITE, &a, a.len, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	DONE(c.scq, 1);
	memset(a.p, 0, a.len);
	rdma_buf(c.qp, 2, IBV_WR_RDMA_READ, &a, a.len, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	DONE(c.scq, 2);
	VERIFY(a.p, a.len, 3);
}

static void mr_huge_pages(void)
{
	size_t len = 4 << 20;
	struct buf a, b = { .len = len };

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, len);
	b.p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (b.p == MAP_FAILED)
		FAIL("no huge pages");
	b.mr = ibv_reg_mr(s.pd, b.p, len, ALL_ACCESS);
	CHECK(b.mr);
	fill(a.p, len, 4);
	rdma_buf(c.qp, 1, IBV_WR_RDMA_WRITE, &a, len, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	DONE(c.scq, 1);
	memset(a.p, 0, len);
	rdma_buf(c.qp, 2, IBV_WR_RDMA_READ, &a, len, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	DONE(c.scq, 2);
	VERIFY(b.p, len, 4);
	VERIFY(a.p, len, 4);
}

static void mr_rereg(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 4096);
	b = new_buf_access(s.pd, 4096, IBV_ACCESS_LOCAL_WRITE);
	fill(b.p, b.len, 5);
	OK(ibv_rereg_mr(b.mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0,
			IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ));
	rdma_buf(c.qp, 1, IBV_WR_RDMA_READ, &a, 4096, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	DONE(c.scq, 1);
	VERIFY(a.p, 4096, 5);
	/* Into another PD: it is none of this QP's any more. */
	OK(ibv_rereg_mr(b.mr, IBV_REREG_MR_CHANGE_PD, c.pd, NULL, 0, 0));
	rdma_buf(c.qp, 2, IBV_WR_RDMA_READ, &a, 4096, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	DONE_WITH(c.scq, 2, REM_ACCESS_ERR);
}

/* Without CAP_IPC_LOCK, and with this much that may be locked. */
static void limit_memlock(size_t bytes)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	struct rlimit lim = { bytes, bytes };

	OK(setrlimit(RLIMIT_MEMLOCK, &lim));
	OK(syscall(SYS_capget, &hdr, data));
	data[0].effective &= ~(1U << CAP_IPC_LOCK);
	OK(syscall(SYS_capset, &hdr, data));
}

static void memlock_mr(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	uint8_t *p = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct ibv_mr *mr;

	limit_memlock(2 << 20);
	for (int i = 0; i < 4; i++) {
		NULLS(ENOMEM, ibv_reg_mr(pd, p, 4 << 20, ALL_ACCESS));
		mr = ibv_reg_mr(pd, p, 1 << 20, ALL_ACCESS);
		CHECK(mr);
		NULLS(ENOMEM, ibv_reg_mr(pd, p + (1 << 20), 3 << 19, ALL_ACCESS));
		OK(ibv_dereg_mr(mr));
	}
}

static void memlock_rings(void)
{
	struct ibv_context *ctx = open_device();
	struct ibv_cq *cq;

	limit_memlock(1 << 20);
	/* 65536 entries of 64 bytes are 4 MiB. */
	for (int i = 0; i < 4; i++) {
		NULLS(ENOMEM, ibv_create_cq(ctx, 65536, NULL, NULL, 0));
		cq = ibv_create_cq(ctx, 4096, NULL, NULL, 0);
		CHECK(cq);
		OK(ibv_destroy_cq(cq));
	}
}

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

/* ===== completion queues ===== */

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

/* Takes an event from the channel; says whether there was one. */
static bool cq_event(struct end *e, struct ibv_cq *want, int ms)
{
	struct ibv_cq *cq;
	void *context;

	if (!readable(e->cc->fd, ms))
		return false;
	OK(ibv_get_cq_event(e->cc, &cq, &context));
	CHECK(cq == want);
	ibv_ack_cq_events(cq, 1);
	return true;
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
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 64);
	b = new_buf(s.pd, 64);
	for (int i = 0; i < 4; i++)
		recv_buf(s.qp, i, &b, 64);
	OK(ibv_req_notify_cq(s.rcq, 1));
	send_buf(c.qp, 10, &a, 16, SIGNALED);
	DONE(s.rcq, 0);
	CHECK(!cq_event(&s, s.rcq, QUIET));
	send_buf(c.qp, 11, &a, 16, SIGNALED | IBV_SEND_SOLICITED);
	CHECK(cq_event(&s, s.rcq, SOON));
	DONE(s.rcq, 1);
	/* A request that fails counts as solicited. */
	OK(ibv_req_notify_cq(s.rcq, 1));
	OK(to_state(s.qp, IBV_QPS_ERR));
	CHECK(cq_event(&s, s.rcq, SOON));
	DONE_WITH(s.rcq, 2, WR_FLUSH_ERR);
	DONE_WITH(s.rcq, 3, WR_FLUSH_ERR);
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

/* ===== queue pairs ===== */

static struct ibv_qp *plain_qp(struct ibv_qp_init_attr *init)
{
	static struct ibv_pd *pd;
	static struct ibv_cq *cq;

	if (!pd) {
		pd = ibv_alloc_pd(open_device());
		cq = ibv_create_cq(open_device(), 1024, NULL, NULL, 0);
		CHECK(pd && cq);
	}
	init->qp_type = init->qp_type ?: IBV_QPT_RC;
	init->send_cq = init->recv_cq = cq;
	errno = 0;
	return ibv_create_qp(pd, init);
}

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

/* ===== operations ===== */

static void send_recv(void)
{
	static const size_t sizes[] = { 1, 3, 4, 64, 1000, 65536, 1 << 20 };
	struct ibv_wc wc;
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 1 << 20);
	b = new_buf(s.pd, 1 << 20);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		memset(b.p, 0xee, b.len);
		fill(a.p, a.len, i);
		recv_buf(s.qp, 100 + i, &b, b.len);
		send_buf(c.qp, i, &a, sizes[i], SIGNALED);
		wc = DONE(s.rcq, 100 + i);
		EQ(wc.opcode, IBV_WC_RECV);
		EQ(wc.byte_len, sizes[i]);
		EQ(wc.qp_num, s.qp->qp_num);
		EQ(wc.wc_flags, 0);
		VERIFY(b.p, sizes[i], i);
		UNTOUCHED(b.p + sizes[i], b.len - sizes[i], 0xee);
		wc = DONE(c.scq, i);
		EQ(wc.opcode, IBV_WC_SEND);
	}
}

static void server_sends_first(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(s.pd, 4096);
	b = new_buf(c.pd, 4096);
	fill(a.p, a.len, 1);
	recv_buf(c.qp, 1, &b, b.len);
	send_buf(s.qp, 2, &a, a.len, SIGNALED);
	DONE(s.scq, 2);
	EQ(DONE(c.rcq, 1).byte_len, 4096);
	VERIFY(b.p, b.len, 1);
}

static void write_read(void)
{
	static const size_t sizes[] = { 1, 7, 64, 1460, 65537, 1 << 20 };
	struct buf a, b;
	struct ibv_wc wc;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 1 << 20);
	b = new_buf(s.pd, (1 << 20) + 64);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t n = sizes[i];

		memset(b.p, 0xee, b.len);
		fill(a.p, a.len, i);
		rdma_buf(c.qp, i, IBV_WR_RDMA_WRITE, &a, n, (uintptr_t)b.p + 5, b.mr->rkey, SIGNALED);
		wc = DONE(c.scq, i);
		EQ(wc.opcode, IBV_WC_RDMA_WRITE);
		memset(a.p, 0xdd, a.len);
		rdma_buf(c.qp, i, IBV_WR_RDMA_READ, &a, n, (uintptr_t)b.p + 5, b.mr->rkey, SIGNALED);
		wc = DONE(c.scq, i);
		EQ(wc.opcode, IBV_WC_RDMA_READ);
		EQ(wc.byte_len, n);
		VERIFY(b.p + 5, n, i);
		UNTOUCHED(b.p, 5, 0xee);
		UNTOUCHED(b.p + 5 + n, b.len - 5 - n, 0xee);
		VERIFY(a.p, n, i);
		UNTOUCHED(a.p + n, a.len - n, 0xdd);
	}
	NOTHING(s.rcq);
}

/* 32 pieces of odd lengths of `b`, each followed by a hole; what they hold. */
static size_t pieces(const struct buf *b, struct ibv_sge *sges)
{
	size_t off = 3, total = 0;

	for (int i = 0; i < 32; i++) {
		size_t len = i == 5 ? 0 : 1 + i * 37 % 301;

		sges[i] = sge_of(b, off, len);
		off += len + 1 + i % 3;
		total += len;
	}
	CHECK(off <= b->len);
	return total;
}

/* The pieces hold `total` bytes of the pattern; the rest is `value`. */
static void check_pieces(const struct buf *b, const struct ibv_sge *sges, uint32_t seed,
			 uint8_t value)
{
	size_t at = 0, n = 0;

	for (int i = 0; i < 32; i++) {
		size_t off = sges[i].addr - (uintptr_t)b->p;

		UNTOUCHED(b->p + at, off - at, value);
		for (size_t k = 0; k < sges[i].length; k++)
			if (b->p[off + k] != pattern(n + k, seed))
				FAIL("piece %d, byte %zu", i, k);
		n += sges[i].length;
		at = off + sges[i].length;
	}
	UNTOUCHED(b->p + at, b->len - at, value);
}

static void fill_pieces(const struct buf *b, const struct ibv_sge *sges, uint32_t seed)
{
	size_t n = 0;

	for (int i = 0; i < 32; i++)
		for (size_t k = 0; k < sges[i].length; k++)
			b->p[sges[i].addr - (uintptr_t)b->p + k] = pattern(n++, seed);
}

static const struct opt many_sges = { .ssge = 32, .rsge = 32, .inl = 512 };

static void send_32_sges(void)
{
	struct ibv_sge from[32], to[32];
	struct buf a, b;
	size_t n;

	connect_ends(&c, &s, &many_sges);
	a = new_buf(c.pd, 16384);
	b = new_buf(s.pd, 16384);
	n = pieces(&a, from);
	pieces(&b, to);
	fill_pieces(&a, from, 1);
	memset(b.p, 0xee, b.len);
	OK(try_recv(s.qp, 1, to, 32));
	OK(try_post(c.qp, &(struct work) { 2, IBV_WR_SEND, SIGNALED, from, 32, 0, 0 }));
	EQ(DONE(s.rcq, 1).byte_len, n);
	check_pieces(&b, to, 1, 0xee);
	FAILS(EINVAL, try_recv(s.qp, 1, to, 33));
	FAILS(EINVAL, try_post(c.qp, &(struct work) { 2, IBV_WR_SEND, SIGNALED, from, 33, 0, 0 }));
}

static void write_32_sges(void)
{
	struct ibv_sge from[32];
	struct buf a, b;
	size_t n;

	connect_ends(&c, &s, &many_sges);
	a = new_buf(c.pd, 16384);
	b = new_buf(s.pd, 16384);
	n = pieces(&a, from);
	fill_pieces(&a, from, 2);
	memset(b.p, 0xee, b.len);
	OK(try_post(c.qp, &(struct work) { 1, IBV_WR_RDMA_WRITE, SIGNALED, from, 32,
					   (uintptr_t)b.p, b.mr->rkey }));
	DONE(c.scq, 1);
	rdma_buf(c.qp, 2, IBV_WR_RDMA_READ, &a, 1, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	DONE(c.scq, 2);
	VERIFY(b.p, n, 2);
	UNTOUCHED(b.p + n, b.len - n, 0xee);
}

static void read_32_sges(void)
{
	struct ibv_sge to[32];
	struct buf a, b;
	size_t n;

	connect_ends(&c, &s, &many_sges);
	a = new_buf(c.pd, 16384);
	b = new_buf(s.pd, 16384);
	n = pieces(&a, to);
	memset(a.p, 0xee, a.len);
	fill(b.p, b.len, 3);
	OK(try_post(c.qp, &(struct work) { 1, IBV_WR_RDMA_READ, SIGNALED, to, 32,
					   (uintptr_t)b.p, b.mr->rkey }));
	EQ(DONE(c.scq, 1).byte_len, n);
	check_pieces(&a, to, 3, 0xee);
}

static void zero_length(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 64);
	b = new_buf(s.pd, 64);
	memset(a.p, 0xdd, 64);
	memset(b.p, 0xee, 64);
	/* With an SGE of length 0, and with none at all. */
	recv_buf(s.qp, 1, &b, 64);
	OK(try_recv(s.qp, 2, NULL, 0));
	send_buf(c.qp, 11, &a, 0, SIGNALED);
	OK(try_post(c.qp, &(struct work) { 12, IBV_WR_SEND, SIGNALED, NULL, 0, 0, 0 }));
	EQ(DONE(s.rcq, 1).byte_len, 0);
	EQ(DONE(s.rcq, 2).byte_len, 0);
	OK(try_post(c.qp, &(struct work) { 13, IBV_WR_RDMA_WRITE, SIGNALED, NULL, 0,
					   (uintptr_t)b.p, b.mr->rkey }));
	OK(try_post(c.qp, &(struct work) { 14, IBV_WR_RDMA_READ, SIGNALED, NULL, 0,
					   (uintptr_t)b.p, b.mr->rkey }));
	rdma_buf(c.qp, 15, IBV_WR_RDMA_WRITE, &a, 0, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	rdma_buf(c.qp, 16, IBV_WR_RDMA_READ, &a, 0, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	for (int i = 11; i <= 16; i++)
		DONE(c.scq, i);
	UNTOUCHED(a.p, 64, 0xdd);
	UNTOUCHED(b.p, 64, 0xee);
}

static void inline_data(void)
{
	uint8_t stack[512];
	struct ibv_sge sges[2];
	struct buf b;

	connect_ends(&c, &s, &many_sges);
	b = new_buf(s.pd, 1024);
	for (size_t n = 0; n <= 512; n += n < 48 ? 1 : 29) {
		size_t half = n / 3;

		memset(b.p, 0xee, b.len);
		recv_buf(s.qp, n, &b, 512);
		fill(stack, sizeof(stack), n);
		/* Memory that is not registered, and free again at once. */
		sges[0] = (struct ibv_sge) { (uintptr_t)stack, half, 1 };
		sges[1] = (struct ibv_sge) { (uintptr_t)stack + half, n - half, 2 };
		OK(try_post(c.qp, &(struct work) { n, IBV_WR_SEND, SIGNALED | IBV_SEND_INLINE,
						   sges, 2, 0, 0 }));
		OK(try_post(c.qp, &(struct work) { n, IBV_WR_RDMA_WRITE,
						   SIGNALED | IBV_SEND_INLINE, sges, 2,
						   (uintptr_t)b.p + 512, b.mr->rkey }));
		memset(stack, 0, sizeof(stack));
		DONE(c.scq, n);
		DONE(c.scq, n);
		EQ(DONE(s.rcq, n).byte_len, n);
		VERIFY(b.p, n, n);
		recv_buf(s.qp, 7, &b, 0);
		OK(try_post(c.qp, &(struct work) { 7, IBV_WR_SEND, SIGNALED, NULL, 0, 0, 0 }));
		DONE(s.rcq, 7);
		DONE(c.scq, 7);
		VERIFY(b.p + 512, n, n);
		UNTOUCHED(b.p + 512 + n, 512 - n, 0xee);
	}
}

static void inline_too_long(void)
{
	static uint8_t data[8192];
	struct ibv_sge sge = { (uintptr_t)data, sizeof(data), 0 };

	connect_ends(&c, &s, &many_sges);
	FAILS(EINVAL, try_post(c.qp, &(struct work) { 1, IBV_WR_SEND, SIGNALED | IBV_SEND_INLINE,
						      &sge, 1, 0, 0 }));
	NOTHING(c.scq);
	EQ(state_of(c.qp), IBV_QPS_RTS);
}

static void unsignalled(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 4096);
	b = new_buf(s.pd, 4096);
	/* Several times around the queue. */
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 31; i++)
			rdma_buf(c.qp, i, i % 5 ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ, &a, 64,
				 (uintptr_t)b.p, b.mr->rkey, 0);
		rdma_buf(c.qp, 99, IBV_WR_RDMA_WRITE, &a, 64, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
		DONE(c.scq, 99);
	}
	NOTHING(c.scq);
}

static void signal_all(void)
{
	struct opt o = { .sig_all = true };
	struct buf a, b;

	connect_ends(&c, &s, &o);
	a = new_buf(c.pd, 64);
	b = new_buf(s.pd, 64);
	for (int i = 0; i < 10; i++)
		rdma_buf(c.qp, i, IBV_WR_RDMA_WRITE, &a, 64, (uintptr_t)b.p, b.mr->rkey, 0);
	for (int i = 0; i < 10; i++)
		DONE(c.scq, i);
}

static void fence(void)
{
	struct buf a, b, r;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 65536);
	b = new_buf(s.pd, 65536);
	r = new_buf(s.pd, 65536);
	for (int i = 0; i < 30; i++) {
		/* The send takes what the read before it brings. */
		fill(b.p, b.len, i);
		memset(a.p, 0, a.len);
		recv_buf(s.qp, i, &r, r.len);
		rdma_buf(c.qp, 1, IBV_WR_RDMA_READ, &a, a.len, (uintptr_t)b.p, b.mr->rkey, 0);
		send_buf(c.qp, 2, &a, a.len, SIGNALED | IBV_SEND_FENCE);
		DONE(c.scq, 2);
		DONE(s.rcq, i);
		VERIFY(r.p, r.len, i);
	}
}

static void in_order(void)
{
	struct ibv_wc wc;
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 65536);
	b = new_buf(s.pd, 65536);
	/* Completions come in the order of the posting, whatever takes longer. */
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < 32; i++)
			rdma_buf(c.qp, i, i % 3 ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ, &a,
				 i % 3 ? 100 : 20000, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
		for (int i = 0; i < 32; i++) {
			wc = DONE(c.scq, i);
			EQ(wc.opcode, i % 3 ? IBV_WC_RDMA_WRITE : IBV_WC_RDMA_READ);
		}
	}
}

static void more_reads_than_depth(void)
{
	struct opt o = { .depth = 1, .swr = 128 };
	struct buf a, b;

	connect_ends(&c, &s, &o);
	a = new_buf(c.pd, 128 * 64);
	b = new_buf(s.pd, 128 * 64);
	fill(b.p, b.len, 9);
	for (int i = 0; i < 128; i++) {
		struct ibv_sge sge = sge_of(&a, i * 64, 64);

		OK(try_post(c.qp, &(struct work) { i, IBV_WR_RDMA_READ, SIGNALED, &sge, 1,
						   (uintptr_t)b.p + i * 64, b.mr->rkey }));
	}
	for (int i = 0; i < 128; i++)
		DONE(c.scq, i);
	VERIFY(a.p, a.len, 9);
}

static void post_list(void)
{
	struct ibv_send_wr wr[16] = {}, *bad = NULL;
	struct ibv_sge sge;
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 64);
	b = new_buf(s.pd, 64);
	sge = sge_of(&a, 0, 64);
	for (int i = 0; i < 16; i++)
		wr[i] = (struct ibv_send_wr) {
			.wr_id = i, .next = i < 15 ? &wr[i + 1] : NULL,
			.sg_list = &sge, .num_sge = i == 10 ? 99 : 1,
			.opcode = IBV_WR_RDMA_WRITE, .send_flags = SIGNALED,
			.wr.rdma = { (uintptr_t)b.p, b.mr->rkey },
		};
	/* Up to the one that is wrong, which is named. */
	FAILS(EINVAL, ibv_post_send(c.qp, wr, &bad));
	CHECK(bad == &wr[10]);
	for (int i = 0; i < 10; i++)
		DONE(c.scq, i);
	wr[10].num_sge = 1;
	OK(ibv_post_send(c.qp, &wr[10], &bad));
	for (int i = 10; i < 16; i++)
		DONE(c.scq, i);
	NOTHING(c.scq);
}

static void queues_full(void)
{
	struct ibv_qp_init_attr init = { .cap = { 8, 8, 1, 1, 0 } };
	struct opt o = { .swr = 8, .rwr = 8, .rsge = 1, .ssge = 1, .cqe = 1024, .depth = 1 };
	struct ibv_qp *qp = plain_qp(&init);
	struct buf a, b;
	int n;

	for (n = 0; n < 1000 && !try_recv(qp, n, NULL, 0); n++)
		;
	CHECK(n >= 8 && n < 1000);
	FAILS(ENOMEM, try_recv(qp, n, NULL, 0));

	connect_ends(&c, &s, &o);
	a = new_buf(c.pd, 1 << 20);
	b = new_buf(s.pd, 1 << 20);
	for (n = 0; n < 1000; n++) {
		struct ibv_sge sge = sge_of(&a, 0, a.len);
		struct work w = { n, IBV_WR_RDMA_READ, SIGNALED, &sge, 1, (uintptr_t)b.p,
				  b.mr->rkey };
		int r = try_post(c.qp, &w);

		if (r) {
			EQ(r, ENOMEM);
			break;
		}
	}
	/* Its place in the queue is free when it has completed. */
	CHECK(n >= 8 && n < 1000);
	for (int i = 0; i < n; i++)
		DONE(c.scq, i);
	rdma_buf(c.qp, 5, IBV_WR_RDMA_READ, &a, 1, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	DONE(c.scq, 5);
}

static void message_of(void)
{
	/* The same few MiB again and again: it is about the length. */
	size_t len = strtoull(args[0], NULL, 0) << 20, chunk = 4 << 20;
	struct buf a = { .len = len }, b = { .len = len };
	struct buf *bufs[] = { &a, &b };

	connect_ends(&c, &s, NULL);
	for (int i = 0; i < 2; i++) {
		int fd = memfd_create("vt", 0);

		OK(ftruncate(fd, chunk));
		bufs[i]->p = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(bufs[i]->p != MAP_FAILED);
		for (size_t off = 0; off < len; off += chunk)
			CHECK(mmap(bufs[i]->p + off, chunk, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED);
		bufs[i]->mr = ibv_reg_mr(i ? s.pd : c.pd, bufs[i]->p, len, ALL_ACCESS);
		if (!bufs[i]->mr)
			FAIL("ibv_reg_mr of %zu bytes", len);
	}
	fill(a.p, chunk, 1);
	alarm(240);
	recv_buf(s.qp, 1, &b, len);
	send_buf(c.qp, 1, &a, len, SIGNALED);
	{
		struct ibv_wc wc;

		CHECK(poll_within(s.rcq, &wc, 200000));
		EQ(wc.status, IBV_WC_SUCCESS);
		EQ(wc.byte_len, len);
		DONE(c.scq, 1);
	}
	VERIFY(b.p, chunk, 1);
}

static void message_too_long(void)
{
	size_t len = 1UL << 30, chunk = 4 << 20;
	struct buf a = { .len = len };
	int fd = memfd_create("vt", 0);
	struct ibv_sge sges[2];

	connect_ends(&c, &s, NULL);
	OK(ftruncate(fd, chunk));
	a.p = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t off = 0; off < len; off += chunk)
		CHECK(mmap(a.p + off, chunk, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
		      MAP_FAILED);
	a.mr = ibv_reg_mr(c.pd, a.p, len, ALL_ACCESS);
	CHECK(a.mr);
	sges[0] = sge_of(&a, 0, len);
	sges[1] = sge_of(&a, 0, 1);
	{
		struct work w = { 1, IBV_WR_SEND, SIGNALED, sges, 2, 0, 0 };
		int r = try_post(c.qp, &w);
		struct ibv_wc wc;

		if (r) {
			EQ(r, EINVAL);
			return;
		}
		CHECK(poll_within(c.scq, &wc, SOON));
		CHECK(wc.status == IBV_WC_LOC_LEN_ERR || wc.status == IBV_WC_LOC_QP_OP_ERR);
		wait_state(c.qp, IBV_QPS_ERR);
	}
}

static void foreign_operations_refused(void)
{
	static const enum ibv_wr_opcode ops[] = {
		IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_SEND_WITH_IMM,
		IBV_WR_ATOMIC_CMP_AND_SWP, IBV_WR_ATOMIC_FETCH_AND_ADD, 77,
	};

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct ibv_sge sge;
		struct ibv_wc wc;
		struct buf a;
		int r;

		connect_ends(&c, &s, NULL);
		a = new_buf(c.pd, 8);
		sge = sge_of(&a, 0, 8);
		r = try_post(c.qp, &(struct work) { 1, ops[i], SIGNALED, &sge, 1, 0, 0 });
		if (r) {
			CHECK(r == EINVAL || r == EOPNOTSUPP);
			EQ(state_of(c.qp), IBV_QPS_RTS);
		} else {
			CHECK(poll_within(c.scq, &wc, SOON));
			EQ(wc.status, IBV_WC_LOC_QP_OP_ERR);
		}
	}
}

/* ===== shared receive queues ===== */

static struct ibv_srq *new_srq(struct ibv_pd *pd, uint32_t wr, uint32_t sge)
{
	struct ibv_srq_init_attr init = { .attr = { .max_wr = wr, .max_sge = sge } };
	struct ibv_srq *srq = ibv_create_srq(pd, &init);

	CHECK(srq);
	CHECK(init.attr.max_wr >= wr && init.attr.max_sge >= sge);
	return srq;
}

static int srq_recv(struct ibv_srq *srq, uint64_t id, const struct buf *b, size_t off, size_t len)
{
	struct ibv_sge sge = sge_of(b, off, len);
	struct ibv_recv_wr *bad, wr = { .wr_id = id, .sg_list = &sge, .num_sge = 1 };

	return ibv_post_srq_recv(srq, &wr, &bad);
}

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

static uint32_t srq_size(struct ibv_srq *srq)
{
	struct ibv_srq_attr attr;

	OK(ibv_query_srq(srq, &attr));
	return attr.max_wr;
}

static int srq_resize(struct ibv_srq *srq, uint32_t max_wr)
{
	struct ibv_srq_attr attr = { .max_wr = max_wr };

	return ibv_modify_srq(srq, &attr, IBV_SRQ_MAX_WR);
}

/* Memory of ours that is pinned, in KiB. */
static long pinned(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long kib = -1;

	CHECK(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "VmPin: %ld", &kib);
	fclose(f);
	CHECK(kib >= 0);
	return kib;
}

/* Posts until it is full: as many as it says. */
static void srq_fill(struct ibv_srq *srq, const struct buf *b, uint64_t *posted, uint64_t taken)
{
	while (*posted - taken < srq_size(srq)) {
		OK(srq_recv(srq, *posted, b, *posted % 64 * 64, 64));
		++*posted;
	}
	FAILS(ENOMEM, srq_recv(srq, *posted, b, 0, 64));
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

#define TRAFFIC_POSTED 48
#define TRAFFIC_WINDOW 40
#define TRAFFIC_CREDIT 8

static _Atomic bool traffic_over;

static void *keep_resizing(void *srq)
{
	static const uint32_t sizes[] = { 64, 1000, 48, 4000, 300, 8192 };
	uintptr_t n = 0;

	while (!traffic_over) {
		OK(srq_resize(srq, sizes[n++ % ARRAY_SIZE(sizes)]));
		usleep(n % 4 * 100);
	}
	return (void *)n;
}

/*
 * Every message carries its number. There are always TRAFFIC_POSTED requests in
 * the SRQ, more than messages may be on their way, and they are taken in order.
 */
static void srq_traffic_server(uint64_t count)
{
	struct rdma_conn_param param = param_of(&defaults);
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	struct opt o = { .srq = new_srq(pd, 64, 1), .server_pd = pd };
	struct buf b = new_buf(pd, 64 * 64);
	struct rdma_cm_event *ev;
	struct ibv_wc wc;
	pthread_t thread;
	uint64_t i;
	void *n;

	listen_ch = new_channel();
	listener = listen_on(listen_ch, 1);
	printf("port %u\n", ntohs(rdma_get_src_port(listener)));
	ev = CM_EVENT(listen_ch, CONNECT_REQUEST);
	s.id = ev->id;
	OK(rdma_ack_cm_event(ev));
	make_qp(&s, &o, true);
	for (i = 0; i < TRAFFIC_POSTED; i++)
		OK(srq_recv(o.srq, i, &b, i % 64 * 64, 64));
	OK(rdma_accept(s.id, &param));
	CM_EXPECT(listen_ch, ESTABLISHED);
	OK(pthread_create(&thread, NULL, keep_resizing, o.srq));
	for (i = 0; i < count; i++) {
		DONE(s.rcq, i);
		EQ(*(uint64_t *)(b.p + i % 64 * 64), i);
		OK(srq_recv(o.srq, i + TRAFFIC_POSTED, &b, (i + TRAFFIC_POSTED) % 64 * 64, 64));
		if (i % TRAFFIC_CREDIT == TRAFFIC_CREDIT - 1) {
			struct work w = { i, IBV_WR_SEND, SIGNALED, NULL, 0, 0, 0 };

			while (ibv_poll_cq(s.scq, 1, &wc) > 0)
				EQ(wc.status, IBV_WC_SUCCESS);
			OK(try_post(s.qp, &w));
		}
	}
	NOTHING(s.rcq);
	traffic_over = true;
	OK(pthread_join(thread, &n));
	/* What is still posted is what is left in the queue. */
	FAILS(EINVAL, srq_resize(o.srq, TRAFFIC_POSTED - 1));
	OK(srq_resize(o.srq, TRAFFIC_POSTED));
	printf("%lu resizes\n", (unsigned long)(uintptr_t)n);
}

static void srq_traffic_client(uint64_t count, uint16_t port)
{
	struct rdma_conn_param param = param_of(&defaults);
	uint64_t credits = 0, done = 0;
	struct ibv_wc wc;
	struct buf a;

	resolve(&c, port);
	make_qp(&c, &defaults, false);
	a = new_buf(c.pd, 64 * 64);
	for (int i = 0; i < 16; i++)
		OK(try_recv(c.qp, i, NULL, 0));
	OK(rdma_connect(c.id, &param));
	CM_EXPECT(c.ch, ESTABLISHED);
	for (uint64_t i = 0; i < count; i++) {
		struct ibv_sge sge = sge_of(&a, i % 64 * 64, 64);
		struct work w = { i, IBV_WR_SEND, SIGNALED, &sge, 1, 0, 0 };

		while (i - credits * TRAFFIC_CREDIT >= TRAFFIC_WINDOW || i - done >= TRAFFIC_WINDOW) {
			while (ibv_poll_cq(c.scq, 1, &wc) > 0) {
				EQ(wc.status, IBV_WC_SUCCESS);
				done++;
			}
			while (ibv_poll_cq(c.rcq, 1, &wc) > 0) {
				EQ(wc.status, IBV_WC_SUCCESS);
				OK(try_recv(c.qp, 0, NULL, 0));
				credits++;
			}
		}
		*(uint64_t *)(a.p + i % 64 * 64) = i;
		OK(try_post(c.qp, &w));
	}
	/* It is all received before the connection goes. */
	while (credits < count / TRAFFIC_CREDIT) {
		CHECK(poll_within(c.rcq, &wc, SOON));
		EQ(wc.status, IBV_WC_SUCCESS);
		credits++;
	}
	usleep(QUIET * 2000);
}

/* ARGS: COUNT, and of the client the server's PORT. */
static void srq_resize_traffic(void)
{
	if (args[1])
		srq_traffic_client(atoi(args[0]), (uint16_t)atoi(args[1]));
	else
		srq_traffic_server(atoi(args[0]));
}

static void srq_last_wqe_event(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	struct opt o = { .srq = new_srq(pd, 8, 1), .server_pd = pd };
	struct buf b = new_buf(pd, 64);

	connect_ends(&c, &s, &o);
	OK(srq_recv(o.srq, 1, &b, 0, 64));
	OK(rdma_disconnect(c.id));
	ASYNC(pd->context, QP_LAST_WQE_REACHED, s.qp);
	/* The SRQ's requests are not the QP's: none is flushed. */
	NOTHING(s.rcq);
}

/* ===== errors ===== */

/* Both ends are in error, and what is posted then is flushed. */
static void both_in_error(void)
{
	struct ibv_wc wc;
	struct buf a = new_buf(c.pd, 64);

	wait_state(c.qp, IBV_QPS_ERR);
	wait_state(s.qp, IBV_QPS_ERR);
	while (ibv_poll_cq(c.scq, 1, &wc) > 0)
		EQ(wc.status, IBV_WC_WR_FLUSH_ERR);
	send_buf(c.qp, 1234, &a, 64, SIGNALED);
	DONE_WITH(c.scq, 1234, WR_FLUSH_ERR);
	OK(try_recv(s.qp, 1235, NULL, 0));
	DONE_WITH(s.rcq, 1235, WR_FLUSH_ERR);
}

enum { WRITE_, READ_ };

/*
 * An access that the peer must refuse. A READ completes in error; a WRITE is
 * complete when it is sent, the answer to it is the end of the connection.
 */
static void refused(int op, const struct buf *a, uint64_t remote, uint32_t rkey, size_t len)
{
	struct ibv_wc wc;

	rdma_buf(c.qp, 1, op == READ_ ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, a, len, remote, rkey,
		 SIGNALED);
	CHECK(poll_within(c.scq, &wc, SOON));
	EQ(wc.wr_id, 1);
	if (op == READ_)
		EQ(wc.status, IBV_WC_REM_ACCESS_ERR);
	else
		CHECK(wc.status == IBV_WC_SUCCESS || wc.status == IBV_WC_REM_ACCESS_ERR);
	/* Who was attacked is told. */
	ASYNC(s.qp->context, QP_ACCESS_ERR, s.qp);
	both_in_error();
}

static struct buf victim(int access)
{
	struct buf b = new_buf_access(s.pd, 3 * 4096, access);

	memset(b.p, 0xee, b.len);
	return b;
}

static void remote_wrong_key(int op)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 4096);
	memset(a.p, 0xdd, a.len);
	b = victim(ALL_ACCESS);
	refused(op, &a, (uintptr_t)b.p, b.mr->rkey ^ 1, 4096);
	UNTOUCHED(b.p, b.len, 0xee);
	UNTOUCHED(a.p, a.len, 0xdd);
}

static void write_wrong_key(void) { remote_wrong_key(WRITE_); }
static void read_wrong_key(void) { remote_wrong_key(READ_); }

static void remote_bounds(int op)
{
	/* Begins before, ends behind, lies behind, wraps around. */
	static const int64_t offs[] = { -1, 4097, 4096, 1 << 30, INT64_MIN };

	for (size_t i = 0; i < ARRAY_SIZE(offs); i++) {
		struct buf a, b;

		connect_ends(&c, &s, NULL);
		a = new_buf(c.pd, 4096);
		memset(a.p, 0xdd, a.len);
		b = victim(ALL_ACCESS);
		OK(ibv_dereg_mr(b.mr));
		b.mr = ibv_reg_mr(s.pd, b.p + 4096, 4096, ALL_ACCESS);
		refused(op, &a, offs[i] == INT64_MIN ? -2048UL :
			(uintptr_t)b.p + 4096 + offs[i], b.mr->rkey, 4096);
		/* What of it is inside may have been placed, nothing beside it. */
		UNTOUCHED(b.p, 4096, 0xee);
		UNTOUCHED(b.p + 8192, 4096, 0xee);
		UNTOUCHED(a.p, a.len, 0xdd);
	}
}

static void write_out_of_bounds(void) { remote_bounds(WRITE_); }
static void read_out_of_bounds(void) { remote_bounds(READ_); }

static void remote_right(int op, int access)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 4096);
	memset(a.p, 0xdd, a.len);
	b = victim(access);
	refused(op, &a, (uintptr_t)b.p, b.mr->rkey, 4096);
	UNTOUCHED(b.p, b.len, 0xee);
	UNTOUCHED(a.p, a.len, 0xdd);
}

static void write_without_right(void)
{
	remote_right(WRITE_, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ);
}

static void read_without_right(void)
{
	remote_right(READ_, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
}

static void remote_other_pd(int op)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 4096);
	b = new_buf(ibv_alloc_pd(s.pd->context), 4096);
	memset(b.p, 0xee, b.len);
	refused(op, &a, (uintptr_t)b.p, b.mr->rkey, 4096);
	UNTOUCHED(b.p, b.len, 0xee);
}

static void write_other_pd(void) { remote_other_pd(WRITE_); }
static void read_other_pd(void) { remote_other_pd(READ_); }

static void remote_dead_key(int op)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 4096);
	b = victim(ALL_ACCESS);
	OK(ibv_dereg_mr(b.mr));
	refused(op, &a, (uintptr_t)b.p, b.mr->rkey, 4096);
	UNTOUCHED(b.p, b.len, 0xee);
}

static void write_dead_key(void) { remote_dead_key(WRITE_); }
static void read_dead_key(void) { remote_dead_key(READ_); }

static void send_inv_refused(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 64);
	b = new_buf(s.pd, 64);
	recv_buf(s.qp, 7, &b, 64);
	/* A region of a process is not the peer's to invalidate. */
	{
		struct ibv_sge sge = sge_of(&a, 0, 64);

		OK(try_post(c.qp, &(struct work) { 1, IBV_WR_SEND_WITH_INV, SIGNALED, &sge, 1, 0,
						   b.mr->rkey }));
	}
	wait_state(c.qp, IBV_QPS_ERR);
	wait_state(s.qp, IBV_QPS_ERR);
	/* It is in force still. */
	close_end(&c);
	close_end(&s);
	OK(ibv_dereg_mr(b.mr));
}

static void no_receive_posted(void)
{
	struct buf a;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 64);
	send_buf(c.qp, 1, &a, 64, 0);
	both_in_error();
}

static void receive_too_small(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 4096);
	b = new_buf(s.pd, 4096);
	memset(b.p, 0xee, b.len);
	recv_buf(s.qp, 5, &b, 1000);
	recv_buf(s.qp, 6, &b, 1000);
	send_buf(c.qp, 1, &a, 1001, 0);
	DONE_WITH(s.rcq, 5, LOC_LEN_ERR);
	DONE_WITH(s.rcq, 6, WR_FLUSH_ERR);
	UNTOUCHED(b.p + 1000, 3096, 0xee);
	both_in_error();
}

static void send_local_protection(void)
{
	for (int i = 0; i < 4; i++) {
		struct ibv_sge sge;
		struct buf a;

		connect_ends(&c, &s, NULL);
		a = i == 3 ? new_buf(ibv_alloc_pd(c.pd->context), 4096) : new_buf(c.pd, 4096);
		sge = sge_of(&a, 0, 64);
		if (i == 0)
			sge.lkey ^= 0x5500;
		if (i == 1)
			sge.addr += 4096 - 63;
		if (i == 2)
			sge.addr -= 1;
		OK(try_post(c.qp, &(struct work) { 1, IBV_WR_SEND, 0, &sge, 1, 0, 0 }));
		/* An error completes although nobody asked for a signal. */
		DONE_WITH(c.scq, 1, LOC_PROT_ERR);
		wait_state(c.qp, IBV_QPS_ERR);
		wait_state(s.qp, IBV_QPS_ERR);
	}
}

static void recv_local_protection(void)
{
	for (int i = 0; i < 3; i++) {
		struct ibv_sge sge;
		struct buf a, b;

		connect_ends(&c, &s, NULL);
		a = new_buf(c.pd, 64);
		b = new_buf_access(s.pd, 64, i == 2 ? 0 : ALL_ACCESS);
		memset(b.p, 0xee, 64);
		sge = sge_of(&b, 0, 64);
		if (i == 0)
			sge.lkey ^= 0x5500;
		if (i == 1)
			sge.addr += 1;
		OK(try_recv(s.qp, 3, &sge, 1));
		send_buf(c.qp, 1, &a, 64, 0);
		DONE_WITH(s.rcq, 3, LOC_PROT_ERR);
		UNTOUCHED(b.p, 64, 0xee);
		both_in_error();
	}
}

static void read_sink_protection(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf_access(c.pd, 64, 0);
	b = new_buf(s.pd, 64);
	fill(b.p, 64, 1);
	rdma_buf(c.qp, 1, IBV_WR_RDMA_READ, &a, 64, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	DONE_WITH(c.scq, 1, LOC_PROT_ERR);
	UNTOUCHED(a.p, 64, 0);
	wait_state(c.qp, IBV_QPS_ERR);
	wait_state(s.qp, IBV_QPS_ERR);
}

/* Collects what completes until all of `n` did; each exactly once. */
static void each_once(struct ibv_cq *cq, int n, int *flushed)
{
	bool seen[1024] = {};
	struct ibv_wc wc;

	for (int i = 0; i < n; i++) {
		if (!poll_within(cq, &wc, SOON))
			FAIL("%d of %d completions", i, n);
		CHECK(wc.wr_id < 1024 && (int)wc.wr_id < n);
		if (seen[wc.wr_id])
			FAIL("request %d completes twice", (int)wc.wr_id);
		seen[wc.wr_id] = true;
		EQ(wc.wr_id, i);
		if (wc.status == IBV_WC_WR_FLUSH_ERR)
			++*flushed;
		else if (wc.status != IBV_WC_SUCCESS)
			FAIL("request %d: %s", i, ibv_wc_status_str(wc.status));
		else if (*flushed)
			FAIL("request %d is done after others were flushed", i);
	}
	NOTHING(cq);
}

static void flush(int how)
{
	struct opt o = { .swr = 128, .rwr = 128 };

	for (int round = 0; round < 4; round++) {
		int recvs = 0, sends = 0;
		struct buf a, b;

		connect_ends(&c, &s, &o);
		a = new_buf(c.pd, 1 << 20);
		b = new_buf(s.pd, 1 << 20);
		for (int i = 0; i < 100; i++)
			recv_buf(c.qp, i, &a, 64);
		for (int i = 0; i < 100; i++)
			rdma_buf(c.qp, i, i % 2 ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, &a,
				 i < 30 ? 10000 : 100000, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
		usleep(round * 2000);
		if (how == 0)
			OK(to_state(c.qp, IBV_QPS_ERR));
		else if (how == 1)
			OK(rdma_disconnect(s.id));
		else
			OK(rdma_disconnect(c.id));
		each_once(c.rcq, 100, &recvs);
		EQ(recvs, 100);
		each_once(c.scq, 100, &sends);
		wait_state(s.qp, IBV_QPS_ERR);
		if (round == 3) {
			/* Posted in error: flushed too. */
			for (int i = 0; i < 100; i++) {
				OK(try_recv(c.qp, i, NULL, 0));
				rdma_buf(c.qp, i, IBV_WR_RDMA_WRITE, &a, 64, 0, 0, 0);
			}
			recvs = sends = 0;
			each_once(c.rcq, 100, &recvs);
			each_once(c.scq, 100, &sends);
			EQ(recvs, 100);
			EQ(sends, 100);
		}
		close_end(&c);
		close_end(&s);
	}
}

static void flush_on_error(void) { flush(0); }
static void flush_on_peer_disconnect(void) { flush(1); }
static void flush_on_own_disconnect(void) { flush(2); }

static void destroy_busy(void)
{
	for (int i = 0; i < 8; i++) {
		struct opt o = { .swr = 64 };
		struct buf a, b;

		connect_ends(&c, &s, &o);
		a = new_buf(c.pd, 1 << 20);
		b = new_buf(s.pd, 1 << 20);
		for (int k = 0; k < 32; k++)
			rdma_buf(c.qp, k, k % 2 ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, &a, 1 << 20,
				 (uintptr_t)b.p, b.mr->rkey, SIGNALED);
		usleep(i * 1000);
		/* In the middle of it, memory first. */
		if (i % 2)
			OK(ibv_dereg_mr(b.mr));
		close_end(i % 4 < 2 ? &c : &s);
		close_end(i % 4 < 2 ? &s : &c);
	}
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

/* Exits at once with everything open and busy. */
static void exit_busy(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 1 << 20);
	b = new_buf(s.pd, 1 << 20);
	for (int k = 0; k < 32; k++)
		rdma_buf(c.qp, k, k % 2 ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, &a, 1 << 20,
			 (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	_exit(0);
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

#define T(name) { #name, name }

static const struct test tests[] = {
	T(pd_in_use), T(mr_access_flags), T(mr_bad_memory), T(mr_read_only_memory),
	T(mr_keys_unguessable), T(mr_bounds), T(mr_iova), T(mr_relaxed_ordering),
	T(mr_huge_pages), T(mr_rereg), T(memlock_mr), T(memlock_rings),
	T(memlock_srq_resize), T(count_objects),
	T(cq_sizes), T(cq_bad_vector), T(cq_in_use), T(cq_event_any), T(cq_event_solicited),
	T(cq_overflow), T(cq_timestamp), T(cq_vector_events), T(cq_vector_destroy),
	T(qp_limits), T(qp_type_refused), T(qp_numbers_unguessable), T(qp_query),
	T(qp_states_unconnected), T(qp_states_connected), T(qp_wrong_current_state),
	T(qp_sqd_drains), T(qp_reset_forgets),
	T(send_recv), T(server_sends_first), T(write_read), T(send_32_sges), T(write_32_sges),
	T(read_32_sges), T(zero_length), T(inline_data), T(inline_too_long), T(unsignalled),
	T(signal_all), T(fence), T(in_order), T(more_reads_than_depth), T(post_list),
	T(queues_full), T(message_of), T(message_too_long), T(foreign_operations_refused),
	T(srq_of_two_qps), T(srq_limits), T(srq_query_modify), T(srq_limit_event), T(srq_full),
	T(srq_last_wqe_event), T(srq_resize_grow), T(srq_resize_shrink),
	T(srq_resize_outstanding), T(srq_resize_errors), T(srq_resize_bad_request),
	T(srq_resize_traffic),
	T(write_wrong_key), T(read_wrong_key), T(write_out_of_bounds), T(read_out_of_bounds),
	T(write_without_right), T(read_without_right), T(write_other_pd), T(read_other_pd),
	T(write_dead_key), T(read_dead_key), T(send_inv_refused), T(no_receive_posted),
	T(receive_too_small), T(send_local_protection), T(recv_local_protection),
	T(read_sink_protection), T(flush_on_error), T(flush_on_peer_disconnect),
	T(flush_on_own_disconnect), T(destroy_busy), T(hold), T(exit_busy), T(device_removed),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
