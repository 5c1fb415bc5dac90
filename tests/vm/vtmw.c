// SPDX-License-Identifier: GPL-2.0
/* Tests of memory windows; test_mw.py runs them. */

#include "vtmw.h"

#define LEN 16384
static struct end c, s;
static struct buf sink, b;

static void connect_new(void)
{
	connect_ends(&c, &s, NULL);
	sink = new_buf(c.pd, LEN);
	b = new_buf_access(s.pd, LEN, BINDABLE);
	fill(b.p, LEN, 1);
}

static uint32_t bind_by(struct end *e, struct ibv_mw *mw, size_t off, size_t len, int access)
{
	return bind_to(e->qp, e->scq, mw, &b, off, len, access);
}

static uint32_t bind_mw(struct ibv_mw *mw, size_t off, size_t len, int access)
{
	return bind_by(&s, mw, off, len, access);
}

/* The peer of `e` reads `len` bytes at `off` of the region by this key, which it names from `base` on. */
static void reads_by(struct end *e, uint32_t rkey, uint64_t base, size_t off, size_t len)
{
	struct buf to = new_buf(e->pd, LEN);

	rdma_buf(e->qp, 5, IBV_WR_RDMA_READ, &to, len, base + off, rkey, SIGNALED);
	DONE(e->scq, 5);
	CHECK(!memcmp(to.p, b.p + off, len));
	OK(ibv_dereg_mr(to.mr));
}

static void reads(uint32_t rkey, size_t off, size_t len)
{
	reads_by(&c, rkey, (uintptr_t)b.p, off, len);
}

/* It may not; that is the end of the connection. */
static void is_denied_by(struct end *e, uint32_t rkey, uint64_t addr, size_t len)
{
	struct buf to = new_buf(e->pd, LEN);

	rdma_buf(e->qp, 6, IBV_WR_RDMA_READ, &to, len, addr, rkey, SIGNALED);
	DONE_WITH(e->scq, 6, REM_ACCESS_ERR);
	UNTOUCHED(to.p, LEN, 0);
	OK(ibv_dereg_mr(to.mr));
}

static void is_denied(uint32_t rkey, size_t off, size_t len)
{
	is_denied_by(&c, rkey, (uintptr_t)b.p + off, len);
}

static void writes(uint32_t rkey, size_t off, size_t len, uint32_t seed)
{
	fill(sink.p, len, seed);
	rdma_buf(c.qp, 7, IBV_WR_RDMA_WRITE, &sink, len, (uintptr_t)b.p + off, rkey, SIGNALED);
	DONE(c.scq, 7);
}

static void invalidate_by(struct end *e, uint32_t rkey)
{
	invalidate(e->qp, e->scq, rkey);
}

static void mw_alloc(void)
{
	struct ibv_context *ctx = open_device();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct ibv_device_attr attr;
	struct ibv_mw *mw[64];
	struct buf m;

	OK(ibv_query_device(ctx, &attr));
	CHECK(attr.max_mw > 1000);
	CHECK(attr.device_cap_flags & IBV_DEVICE_MEM_WINDOW);
	CHECK(attr.device_cap_flags & IBV_DEVICE_MEM_WINDOW_TYPE_2B);
	CHECK(!(attr.device_cap_flags & IBV_DEVICE_MEM_WINDOW_TYPE_2A));
	NULLS(EINVAL, ibv_alloc_mw(pd, 3));
	m = new_buf(pd, 64);
	for (int i = 0; i < 64; i++) {
		mw[i] = new_mw(pd, i % 2 ? IBV_MW_TYPE_1 : IBV_MW_TYPE_2);
		CHECK(mw[i]->rkey >> 8 && mw[i]->rkey >> 8 != m.mr->rkey >> 8);
		for (int j = 0; j < i; j++) {
			int32_t d = (int32_t)(mw[i]->rkey >> 8) - (int32_t)(mw[j]->rkey >> 8);

			CHECK(d);
			/* Keys say nothing of each other; by chance 2 in 2^24 are neighbours. */
			CHECK(d != 1 && d != -1);
		}
	}
	FAILS(EBUSY, ibv_dealloc_pd(pd));
	OK(ibv_dereg_mr(m.mr));
	for (int i = 0; i < 64; i++)
		OK(ibv_dealloc_mw(mw[i]));
	OK(ibv_dealloc_pd(pd));
}

/* A window is what it is bound to, and nothing else. */
static void window_works(enum ibv_mw_type type)
{
	static const struct {
		size_t off, len;
	} outside[] = { { 999, 1 }, { 999, 5000 }, { 5999, 2 }, { 6000, 1 }, { 0, LEN }, { 1000, 5001 } };
	struct ibv_mw *mw;
	uint32_t rkey;

	for (size_t i = 0; i < ARRAY_SIZE(outside); i++) {
		connect_new();
		mw = new_mw(s.pd, type);
		rkey = bind_mw(mw, 1000, 5000, READS | WRITES);
		reads(rkey, 1000, 5000);
		reads(rkey, 5999, 1);
		writes(rkey, 1500, 300, 9);
		/* It is there when a read behind it is done. */
		reads(rkey, 1000, 5000);
		VERIFY(b.p + 1500, 300, 9);
		/* The region itself is closed to the peer. */
		if (!i)
			is_denied(b.mr->rkey, 1000, 1);
		else
			is_denied(rkey, outside[i].off, outside[i].len);
		OK(ibv_dealloc_mw(mw));
		OK(ibv_dereg_mr(b.mr));
	}
}

static void mw_type_1(void)
{
	window_works(IBV_MW_TYPE_1);
}

static void mw_type_2(void)
{
	window_works(IBV_MW_TYPE_2);
}

static void mw_not_bound(void)
{
	for (int type = IBV_MW_TYPE_1; type <= IBV_MW_TYPE_2; type++) {
		struct ibv_mw *mw;

		connect_new();
		mw = new_mw(s.pd, type);
		is_denied(mw->rkey, 0, 1);
	}
}

/* Type 1: another binding takes the place of the one before, whose key is dead. */
static void mw_type_1_again(void)
{
	uint32_t first, second;
	struct ibv_mw *mw;

	connect_new();
	mw = new_mw(s.pd, IBV_MW_TYPE_1);
	first = bind_mw(mw, 0, 100, READS);
	reads(first, 0, 100);
	second = bind_mw(mw, 8000, 100, READS);
	CHECK(first != second);
	reads(second, 8000, 100);
	is_denied(first, 0, 100);
	connect_new();
	mw = new_mw(s.pd, IBV_MW_TYPE_1);
	bind_mw(mw, 0, 100, READS);
	second = bind_mw(mw, 8000, 100, READS);
	is_denied(second, 0, 100);
}

/* Type 1: length 0 ends the binding. */
static void mw_type_1_unbind(void)
{
	struct ibv_mw *mw;
	uint32_t rkey;

	connect_new();
	mw = new_mw(s.pd, IBV_MW_TYPE_1);
	/* Also of one that is not bound. */
	bind_mw(mw, 0, 0, 0);
	rkey = bind_mw(mw, 0, LEN, READS);
	reads(rkey, 0, LEN);
	FAILS(EBUSY, ibv_dereg_mr(b.mr));
	bind_mw(mw, 0, 0, 0);
	is_denied(rkey, 0, 1);
	OK(ibv_dereg_mr(b.mr));
	connect_new();
	mw = new_mw(s.pd, IBV_MW_TYPE_1);
	bind_mw(mw, 0, LEN, READS);
	rkey = bind_mw(mw, 0, 0, READS);
	is_denied(rkey, 0, 1);
}

static void mw_rights(void)
{
	for (int type = IBV_MW_TYPE_1; type <= IBV_MW_TYPE_2; type++) {
		struct ibv_mw *mw;
		uint32_t rkey;

		/* To write, not to read. */
		connect_new();
		mw = new_mw(s.pd, type);
		rkey = bind_mw(mw, 0, LEN, WRITES);
		writes(rkey, 0, LEN, 3);
		is_denied(rkey, 0, 1);
		VERIFY(b.p, LEN, 3);
		/* To read, not to write. */
		connect_new();
		mw = new_mw(s.pd, type);
		/* The right to write locally is no right of peers. */
		rkey = bind_mw(mw, 0, LEN, READS | IBV_ACCESS_LOCAL_WRITE);
		reads(rkey, 0, LEN);
		fill(sink.p, LEN, 4);
		rdma_buf(c.qp, 7, IBV_WR_RDMA_WRITE, &sink, LEN, (uintptr_t)b.p, rkey, 0);
		wait_state(s.qp, IBV_QPS_ERR);
		VERIFY(b.p, LEN, 1);
		/* Neither. */
		connect_new();
		mw = new_mw(s.pd, type);
		rkey = bind_mw(mw, 0, LEN, 0);
		is_denied(rkey, 0, 1);
	}
}

/* Two connections of one PD: a window of type 1 is open to both, one of type 2 to its own. */
static void mw_association(void)
{
	struct ibv_mw *one, *two;
	struct opt o = {};
	struct end c2, s2;
	uint32_t k1, k2;

	connect_new();
	o.server_pd = s.pd;
	connect_ends(&c2, &s2, &o);
	one = new_mw(s.pd, IBV_MW_TYPE_1);
	two = new_mw(s.pd, IBV_MW_TYPE_2);
	k1 = bind_mw(one, 0, LEN, READS);
	k2 = bind_mw(two, 0, LEN, READS);
	reads_by(&c2, k1, (uintptr_t)b.p, 0, LEN);
	reads(k1, 0, LEN);
	reads(k2, 0, LEN);
	is_denied_by(&c2, k2, (uintptr_t)b.p, 1);
	/* It goes on for those whom it concerns. */
	reads(k2, 0, LEN);
	/* And to a QP of another PD neither is open. */
	for (int i = 0; i < 2; i++) {
		connect_ends(&c2, &s2, NULL);
		is_denied_by(&c2, i ? k2 : k1, (uintptr_t)b.p, 1);
	}
	reads(k1, 0, LEN);
	reads(k2, 0, LEN);
}

/* A QP that is gone leaves its windows to nobody; any QP of the PD may take them back. */
static void mw_after_the_qp(void)
{
	struct ibv_mw *mw;
	struct opt o = {};
	struct end c2, s2;
	uint32_t rkey;

	connect_new();
	o.server_pd = s.pd;
	connect_ends(&c2, &s2, &o);
	mw = new_mw(s.pd, IBV_MW_TYPE_2);
	rkey = bind_mw(mw, 0, LEN, READS);
	reads(rkey, 0, LEN);
	rdma_destroy_qp(s.id);
	FAILS(EBUSY, ibv_dereg_mr(b.mr));
	invalidate_by(&s2, rkey);
	rkey = bind_by(&s2, mw, 0, LEN, READS);
	reads_by(&c2, rkey, (uintptr_t)b.p, 0, LEN);
	invalidate_by(&s2, rkey);
	OK(ibv_dereg_mr(b.mr));
	is_denied_by(&c2, rkey, (uintptr_t)b.p, 1);
}

static void mw_invalidate_local(void)
{
	struct ibv_mw *mw;
	uint32_t rkey, again;

	connect_new();
	mw = new_mw(s.pd, IBV_MW_TYPE_2);
	rkey = bind_mw(mw, 0, LEN, READS);
	reads(rkey, 0, LEN);
	invalidate_by(&s, rkey);
	/* Free again: for another piece, and another key. */
	mw->rkey = rkey;
	again = bind_mw(mw, 4096, 4096, READS);
	CHECK(again != rkey);
	reads(again, 4096, 4096);
	invalidate_by(&s, again);
	OK(ibv_dereg_mr(b.mr));
	is_denied(again, 4096, 1);
}

/* What cannot be invalidated: the request fails, and the QP with it. */
static void mw_invalidate_refused(void)
{
	for (int i = 0; i < 4; i++) {
		struct ibv_mw *one, *two;
		uint32_t keys[4];

		connect_new();
		one = new_mw(s.pd, IBV_MW_TYPE_1);
		two = new_mw(s.pd, IBV_MW_TYPE_2);
		/* A window of type 1; an old key; one that is not bound; a region. */
		keys[0] = bind_mw(one, 0, LEN, READS);
		keys[1] = two->rkey;
		bind_mw(two, 0, LEN, READS);
		keys[2] = new_mw(s.pd, IBV_MW_TYPE_2)->rkey;
		keys[3] = b.mr->rkey;
		OK(post_inv(s.qp, 9, keys[i]));
		DONE_WITH(s.scq, 9, MW_BIND_ERR);
		EQ(state_of(s.qp), IBV_QPS_ERR);
		FAILS(EBUSY, ibv_dereg_mr(b.mr));
	}
}

static void send_inv(struct end *from, uint32_t rkey)
{
	struct work w = { 10, IBV_WR_SEND_WITH_INV, SIGNALED, NULL, 0, 0, rkey };

	OK(try_post(from->qp, &w));
}

static void mw_invalidate_remote(void)
{
	struct ibv_mw *mw;
	struct ibv_wc wc;
	uint32_t rkey;

	connect_new();
	mw = new_mw(s.pd, IBV_MW_TYPE_2);
	for (int i = 0; i < 3; i++) {
		rkey = bind_mw(mw, 0, LEN, READS);
		mw->rkey = rkey;
		reads(rkey, 0, LEN);
		OK(try_recv(s.qp, 1, NULL, 0));
		send_inv(&c, rkey);
		wc = DONE(s.rcq, 1);
		CHECK(wc.wc_flags & IBV_WC_WITH_INV);
		EQ(wc.invalidated_rkey, rkey);
		DONE(c.scq, 10);
	}
	OK(ibv_dereg_mr(b.mr));
	is_denied(rkey, 0, 1);
}

/* What a peer may not invalidate: the connection ends, and the window stays. */
static void mw_invalidate_remote_refused(void)
{
	for (int i = 0; i < 4; i++) {
		struct ibv_mw *one, *two;
		struct opt o = {};
		struct end c2, s2;
		uint32_t k1, k2;

		connect_new();
		/* The fourth: a QP of another PD. */
		o.server_pd = i == 3 ? NULL : s.pd;
		connect_ends(&c2, &s2, &o);
		one = new_mw(s.pd, IBV_MW_TYPE_1);
		two = new_mw(s.pd, IBV_MW_TYPE_2);
		k1 = bind_mw(one, 0, LEN, READS);
		k2 = bind_mw(two, 0, LEN, READS);
		OK(try_recv(s2.qp, 1, NULL, 0));
		/* One of type 1; one that is not bound; one of another QP, twice. */
		send_inv(&c2, i == 0 ? k1 : i == 1 ? new_mw(s.pd, IBV_MW_TYPE_2)->rkey : k2);
		DONE_WITH(s2.rcq, 1, WR_FLUSH_ERR);
		wait_state(s2.qp, IBV_QPS_ERR);
		reads(k1, 0, LEN);
		reads(k2, 0, LEN);
	}
}

static void mw_dealloc(void)
{
	for (int type = IBV_MW_TYPE_1; type <= IBV_MW_TYPE_2; type++) {
		struct ibv_mw *mw;
		uint32_t rkey;

		connect_new();
		mw = new_mw(s.pd, type);
		rkey = bind_mw(mw, 0, LEN, READS);
		reads(rkey, 0, LEN);
		OK(ibv_dealloc_mw(mw));
		is_denied(rkey, 0, 1);
		OK(ibv_dereg_mr(b.mr));
	}
}

/* A region with a window is busy. */
static void mw_busy(void)
{
	uint8_t *other = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct ibv_mw *one, *two;
	uint32_t k1, k2;
	long kib;

	connect_new();
	one = new_mw(s.pd, IBV_MW_TYPE_1);
	two = new_mw(s.pd, IBV_MW_TYPE_2);
	k1 = bind_mw(one, 0, 100, READS);
	k2 = bind_mw(two, 50, 100, READS);
	kib = pinned();
	for (int i = 0; i < 3; i++) {
		FAILS(EBUSY, ibv_dereg_mr(b.mr));
		EQ(ibv_rereg_mr(b.mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, other, LEN, 0),
		   IBV_REREG_MR_ERR_CMD);
		EQ(ibv_rereg_mr(b.mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, BINDABLE | READS),
		   IBV_REREG_MR_ERR_CMD);
		EQ(ibv_rereg_mr(b.mr, IBV_REREG_MR_CHANGE_PD, ibv_alloc_pd(s.qp->context), NULL, 0, 0),
		   IBV_REREG_MR_ERR_CMD);
	}
	EQ(pinned(), kib);
	reads(k1, 0, 100);
	reads(k2, 50, 100);
	OK(ibv_dealloc_mw(one));
	FAILS(EBUSY, ibv_dereg_mr(b.mr));
	invalidate_by(&s, k2);
	OK(ibv_dereg_mr(b.mr));
	CHECK(pinned() < kib);
}

static void mw_zero_based(void)
{
	struct ibv_mw *mw;
	uint32_t rkey;

	connect_new();
	mw = new_mw(s.pd, IBV_MW_TYPE_2);
	rkey = bind_mw(mw, 1000, 500, READS | IBV_ACCESS_ZERO_BASED);
	reads_by(&c, rkey, (uint64_t)-1000, 1000, 500);
	reads_by(&c, rkey, (uint64_t)-1000, 1499, 1);
	is_denied_by(&c, rkey, 500, 1);
}

/* A binding that cannot be: the request fails, and the QP with it; nothing is bound. */
static void mw_bind_errors(void)
{
	enum {
		NO_RIGHT_TO_BIND, NO_LOCAL_WRITE, ATOMIC_NO_LOCAL_WRITE, BELOW, ABOVE, TOO_LONG, WRAP,
		DEAD_REGION, UNKNOWN_RIGHT, ONE_ZERO_BASED, TWO_TWICE, TWO_EMPTY, TWO_WRONG_KEY, CASES
	};

	for (int i = 0; i < CASES; i++) {
		for (int type = IBV_MW_TYPE_1; type <= IBV_MW_TYPE_2; type++) {
			struct ibv_mr *mr, stale = {};
			struct ibv_mw *mw;
			uint64_t addr, len = 100;
			int access = READS;
			uint32_t rkey;

			if ((i == ONE_ZERO_BASED && type != IBV_MW_TYPE_1) ||
			    (i >= TWO_TWICE && type != IBV_MW_TYPE_2))
				continue;
			connect_new();
			addr = (uintptr_t)b.p;
			mr = b.mr;
			mw = new_mw(s.pd, type);
			rkey = ibv_inc_rkey(mw->rkey);
			switch (i) {
			case NO_RIGHT_TO_BIND:
				mr = ibv_reg_mr(s.pd, b.p, LEN, ALL_ACCESS);
				break;
			case NO_LOCAL_WRITE:
			case ATOMIC_NO_LOCAL_WRITE:
				mr = ibv_reg_mr(s.pd, b.p, LEN, READS | IBV_ACCESS_MW_BIND);
				access = i == NO_LOCAL_WRITE ? WRITES : IBV_ACCESS_REMOTE_ATOMIC;
				break;
			case BELOW:
				addr--;
				break;
			case ABOVE:
				addr += LEN;
				break;
			case TOO_LONG:
				len = LEN + 1;
				break;
			case WRAP:
				len = (uint64_t)-addr + 1;
				break;
			case DEAD_REGION:
				stale = *mr;
				OK(ibv_dereg_mr(mr));
				mr = &stale;
				break;
			case UNKNOWN_RIGHT:
				access = READS | IBV_ACCESS_MW_BIND;
				break;
			case ONE_ZERO_BASED:
				access = READS | IBV_ACCESS_ZERO_BASED;
				break;
			case TWO_TWICE:
				rkey = ibv_inc_rkey(bind_mw(mw, 0, 100, READS));
				break;
			case TWO_EMPTY:
				len = 0;
				break;
			case TWO_WRONG_KEY:
				rkey += 0x100;
				break;
			}
			CHECK(mr);
			OK(try_bind(s.qp, 11, mw, mr, addr, len, access, &rkey));
			DONE_WITH(s.scq, 11, MW_BIND_ERR);
			EQ(state_of(s.qp), IBV_QPS_ERR);
			OK(ibv_dealloc_mw(mw));
			if (i != DEAD_REGION)
				OK(ibv_dereg_mr(mr));
		}
	}
}

/* What the provider sees by itself: an error number, and the connection goes on. */
static void mw_post_errors(void)
{
	struct ibv_mw *one, *two, *other;
	uint32_t rkey = 0, k;
	struct ibv_pd *pd;
	struct buf m;
	struct ibv_send_wr *bad, wr = { .opcode = IBV_WR_BIND_MW, .send_flags = SIGNALED };

	connect_new();
	pd = ibv_alloc_pd(s.qp->context);
	one = new_mw(s.pd, IBV_MW_TYPE_1);
	two = new_mw(s.pd, IBV_MW_TYPE_2);
	other = new_mw(pd, IBV_MW_TYPE_2);
	m = new_buf_access(pd, LEN, BINDABLE);
	/* Each type has its own call. */
	wr.bind_mw.mw = one;
	FAILS(EINVAL, ibv_post_send(s.qp, &wr, &bad));
	FAILS(EINVAL, ibv_bind_mw(s.qp, two, &(struct ibv_mw_bind) { .bind_info.mr = b.mr }));
	/* Window, region and QP are of one PD. */
	FAILS(EPERM, try_bind(s.qp, 1, other, m.mr, (uintptr_t)m.p, 10, READS, &rkey));
	FAILS(EPERM, try_bind(s.qp, 1, two, m.mr, (uintptr_t)m.p, 10, READS, &rkey));
	FAILS(EPERM, try_bind(s.qp, 1, one, m.mr, (uintptr_t)m.p, 10, READS, &rkey));
	NOTHING(s.scq);
	k = bind_mw(two, 0, LEN, READS);
	reads(k, 0, LEN);
}

/* Ends with windows that are bound, made before their region and after it. */
static void mw_exit(void)
{
	struct ibv_mw *before[2], *after[2];

	connect_new();
	OK(ibv_dereg_mr(b.mr));
	for (int i = 0; i < 2; i++)
		before[i] = new_mw(s.pd, i ? IBV_MW_TYPE_2 : IBV_MW_TYPE_1);
	b.mr = ibv_reg_mr(s.pd, b.p, LEN, BINDABLE);
	CHECK(b.mr);
	for (int i = 0; i < 2; i++) {
		after[i] = new_mw(s.pd, i ? IBV_MW_TYPE_2 : IBV_MW_TYPE_1);
		reads(bind_mw(before[i], 0, LEN, READS), 0, LEN);
		reads(bind_mw(after[i], 0, LEN, READS), 0, LEN);
	}
	printf("bound\n");
	if (args[0]) {
		alarm(0);
		pause();
	}
}

/* Writes are on their way when the window closes: when that is done, the memory is ours alone. */
static void mw_closing_waits(void)
{
	size_t len = 256 << 10;

	for (int round = 0; round < 18; round++) {
		enum ibv_mw_type type = round % 3 == 1 ? IBV_MW_TYPE_1 : IBV_MW_TYPE_2;
		struct ibv_mw *mw;
		struct ibv_wc wc;
		struct buf from;
		uint32_t rkey;

		connect_ends(&c, &s, NULL);
		from = new_buf(c.pd, len);
		memset(from.p, 0xaa, len);
		b = new_buf_access(s.pd, len, BINDABLE);
		mw = new_mw(s.pd, type);
		rkey = bind_mw(mw, 0, len, WRITES);
		for (int i = 0; i < 32; i++)
			rdma_buf(c.qp, i, IBV_WR_RDMA_WRITE, &from, len, (uintptr_t)b.p, rkey, 0);
		usleep(round * 200);
		switch (round % 3) {
		case 0:
			OK(ibv_dealloc_mw(mw));
			break;
		case 1:
			OK(try_bind(s.qp, 77, mw, b.mr, (uintptr_t)b.p, 0, 0, &rkey));
			break;
		case 2:
			OK(post_inv(s.qp, 77, rkey));
			break;
		}
		/* The next write may end the connection before this is told. */
		if (round % 3) {
			CHECK(poll_within(s.scq, &wc, SOON));
			EQ(wc.wr_id, 77);
			CHECK(wc.status == IBV_WC_SUCCESS || wc.status == IBV_WC_WR_FLUSH_ERR);
		}
		memset(b.p, 0x55, len);
		usleep(50000);
		UNTOUCHED(b.p, len, 0x55);
		/* Nothing is bound to it. */
		OK(ibv_dereg_mr(b.mr));
		munmap(b.p, len);
	}
}

/* A binding that the CQ does not take is the end of the QP, as any other work request is. */
static void mw_cq_lost(void)
{
	struct opt o = { .server_cqe = 4 };
	struct ibv_mw *mw;
	uint32_t rkey;
	int depth;

	connect_ends(&c, &s, &o);
	b = new_buf_access(s.pd, LEN, BINDABLE);
	mw = new_mw(s.pd, IBV_MW_TYPE_1);
	depth = s.scq->cqe;
	CHECK(depth < 32);
	rkey = mw->rkey;
	for (int i = 0; i <= depth; i++)
		OK(try_bind(s.qp, i, mw, b.mr, (uintptr_t)b.p, LEN, READS, &rkey));
	ASYNC(s.qp->context, CQ_ERR, s.scq);
	ASYNC(s.qp->context, QP_FATAL, s.qp);
	EQ(state_of(s.qp), IBV_QPS_ERR);
	for (int i = 0; i < depth; i++)
		EQ(DONE(s.scq, i).opcode, IBV_WC_BIND_MW);
}

static const struct test tests[] = {
	T(mw_alloc), T(mw_type_1), T(mw_type_2), T(mw_not_bound), T(mw_type_1_again),
	T(mw_type_1_unbind), T(mw_rights), T(mw_association), T(mw_after_the_qp),
	T(mw_invalidate_local), T(mw_invalidate_refused), T(mw_invalidate_remote),
	T(mw_invalidate_remote_refused), T(mw_dealloc), T(mw_busy), T(mw_zero_based),
	T(mw_bind_errors), T(mw_post_errors), T(mw_exit), T(mw_closing_waits),
	T(mw_cq_lost),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
