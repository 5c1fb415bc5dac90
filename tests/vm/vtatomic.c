// SPDX-License-Identifier: GPL-2.0
/* Tests of atomics over iWARP; test_atomic.py runs them. */

#include "vtrfc7306.h"

#include <pthread.h>

static void atomic_is_advertised(void)
{
	struct ibv_device_attr attr;

	OK(ibv_query_device(open_device(), &attr));
	EQ(attr.atomic_cap, IBV_ATOMIC_GLOB);
}

static void fetch_add(void)
{
	static const uint64_t adds[] = { 0, 1, 0x80000000, 1ULL << 63, UINT64_MAX, 0x123456789abcdef0 };
	uint64_t value = 0xfffffffffffffff0;
	struct buf a, b;

	connect_atomic(NULL, &a, &b);
	for (size_t i = 0; i < ARRAY_SIZE(adds); i++) {
		struct ibv_wc wc;

		/* The last word of a page, and the last one of the region. */
		size_t at = i % 2 ? 3 * 512 - 1 : 511;

		memset(b.p, 0xee, b.len);
		memset(a.p, 0xdd, a.len);
		words(&b)[at] = value;
		atomic(c.qp, i, FADD, &a, 3, &words(&b)[at], b.mr->rkey, adds[i], 0, 0);
		wc = DONE(c.scq, i);
		EQ(wc.opcode, IBV_WC_FETCH_ADD);
		EQ(wc.byte_len, 8);
		EQ(words(&a)[3], value);
		value += adds[i];
		EQ(words(&b)[at], value);
		UNTOUCHED(a.p, 24, 0xdd);
		UNTOUCHED(a.p + 32, a.len - 32, 0xdd);
		UNTOUCHED(b.p, 8 * at, 0xee);
		UNTOUCHED(b.p + 8 * at + 8, b.len - 8 * at - 8, 0xee);
	}
	/* A receiver hears nothing of it. */
	NOTHING(s.rcq);
}

static void cmp_swap(void)
{
	struct buf a, b;
	struct ibv_wc wc;

	connect_atomic(NULL, &a, &b);
	words(&b)[1] = 0x1122334455667788;
	/* One bit is another one, the highest or the lowest: it stays. */
	for (int bit = 0; bit < 64; bit += 63) {
		uint64_t wrong = 0x1122334455667788 ^ 1ULL << bit;

		atomic(c.qp, 1, CAS, &a, 0, &words(&b)[1], b.mr->rkey, wrong, 5, 0);
		wc = DONE(c.scq, 1);
		EQ(wc.opcode, IBV_WC_COMP_SWAP);
		EQ(wc.byte_len, 8);
		EQ(words(&a)[0], 0x1122334455667788);
		EQ(words(&b)[1], 0x1122334455667788);
	}
	atomic(c.qp, 2, CAS, &a, 0, &words(&b)[1], b.mr->rkey, 0x1122334455667788, UINT64_MAX, 0);
	DONE(c.scq, 2);
	EQ(words(&a)[0], 0x1122334455667788);
	EQ(words(&b)[1], UINT64_MAX);
	EQ(words(&b)[0], 0);
	EQ(words(&b)[2], 0);
}

/* The result goes wherever an SGE may point to. */
static void atomic_sink_at_odd_address(void)
{
	struct buf a, b;
	uint64_t got;

	connect_atomic(NULL, &a, &b);
	words(&b)[0] = 0x0102030405060708;
	memset(a.p, 0xdd, a.len);
	for (size_t off = 4091; off < 4099; off++) {
		struct ibv_sge sge = sge_of(&a, off, 8);

		OK(try_atomic(c.qp, off, FADD, &sge, 1, (uintptr_t)b.p, b.mr->rkey, 0, 0, SIGNALED));
		DONE(c.scq, off);
		memcpy(&got, a.p + off, 8);
		EQ(got, 0x0102030405060708);
		memset(a.p + off, 0xdd, 8);
		UNTOUCHED(a.p, a.len, 0xdd);
	}
}

/* Far more than may be in flight, in one list: each finds what the one before it left. */
static void more_atomics_than_depth(void)
{
	static const uint32_t depths[] = { 1, 2, 16, 100 };

	for (size_t d = 0; d < ARRAY_SIZE(depths); d++) {
		struct opt o = { .depth = depths[d], .swr = 512, .cqe = 512 };
		struct buf a, b;

		connect_atomic(&o, &a, &b);
		for (int i = 0; i < 300; i++)
			atomic(c.qp, i, FADD, &a, i, b.p, b.mr->rkey, 3, 0, 0);
		for (int i = 0; i < 300; i++) {
			DONE(c.scq, i);
			EQ(words(&a)[i], 3 * i);
		}
		EQ(words(&b)[0], 900);
	}
}

/* READs and atomics have one queue, and are answered in order. */
static void atomics_between_reads(void)
{
	struct opt o = { .depth = 8, .swr = 256 };
	struct buf a, b;

	connect_atomic(&o, &a, &b);
	for (int round = 0; round < 20; round++) {
		words(&b)[0] = 0;
		for (int i = 0; i < 60; i++) {
			struct ibv_sge sge = sge_of(&a, 8 * i, 8);
			struct work w = { i, IBV_WR_RDMA_READ, SIGNALED, &sge, 1, (uintptr_t)b.p,
					  b.mr->rkey };

			if (i % 3 == 2)
				atomic(c.qp, i, FADD, &a, i, b.p, b.mr->rkey, 1, 0, 0);
			else
				OK(try_post(c.qp, &w));
		}
		for (int i = 0; i < 60; i++) {
			struct ibv_wc wc = DONE(c.scq, i);

			EQ(wc.opcode, i % 3 == 2 ? IBV_WC_FETCH_ADD : IBV_WC_RDMA_READ);
			EQ(words(&a)[i], i / 3);
		}
	}
}

/* A fenced SEND has the result of the atomic before it. */
static void atomic_fence(void)
{
	struct buf a, b;

	connect_atomic(NULL, &a, &b);
	for (uint64_t i = 0; i < 50; i++) {
		words(&a)[0] = ~0ULL;
		recv_buf(s.qp, 100 + i, &(struct buf) { b.p + 4096, 4096, b.mr }, 8);
		atomic(c.qp, i, FADD, &a, 0, b.p, b.mr->rkey, 1, 0, 0);
		send_buf(c.qp, 200 + i, &a, 8, SIGNALED | IBV_SEND_FENCE);
		DONE(s.rcq, 100 + i);
		EQ(words(&b)[512], i);
		DONE(c.scq, i);
		DONE(c.scq, 200 + i);
	}
}

static volatile bool stop;

static void *add_by_cpu(void *arg)
{
	uint64_t *word = arg, n = 0;

	while (!stop) {
		__atomic_fetch_add(word, 1ULL << 32, __ATOMIC_SEQ_CST);
		n++;
	}
	return (void *)(uintptr_t)n;
}

/* Four connections and a CPU on one word: nothing is lost. */
static void atomics_of_many(void)
{
	enum { CONNS = 4, EACH = 400 };
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	struct opt o = { .server_pd = pd, .swr = 32 };
	struct end cs[CONNS], ss[CONNS];
	struct buf a[CONNS], b = new_buf_access(pd, 4096, ATOMIC_ACCESS);
	int posted[CONNS] = {}, done[CONNS] = {}, left = CONNS * EACH;
	static bool seen[CONNS * EACH];
	pthread_t thread;
	void *n;

	for (int i = 0; i < CONNS; i++) {
		connect_ends(&cs[i], &ss[i], &o);
		a[i] = new_buf(cs[i].pd, 8 * EACH);
	}
	OK(pthread_create(&thread, NULL, add_by_cpu, words(&b)));
	while (left) {
		for (int i = 0; i < CONNS; i++) {
			struct ibv_wc wc;

			if (posted[i] < EACH && posted[i] - done[i] < 16) {
				atomic(cs[i].qp, posted[i], FADD, &a[i], posted[i], b.p, b.mr->rkey, 1, 0, 0);
				posted[i]++;
			}
			if (ibv_poll_cq(cs[i].scq, 1, &wc) == 1) {
				EQ(wc.status, IBV_WC_SUCCESS);
				EQ(wc.wr_id, done[i]);
				done[i]++;
				left--;
			}
		}
	}
	stop = true;
	OK(pthread_join(thread, &n));
	EQ(words(&b)[0] & 0xffffffff, CONNS * EACH);
	EQ(words(&b)[0] >> 32, (uintptr_t)n & 0xffffffff);
	/* Each value was found by one of them. */
	for (int i = 0; i < CONNS; i++) {
		for (int k = 0; k < EACH; k++) {
			uint32_t v = words(&a[i])[k];

			CHECK(v < CONNS * EACH && !seen[v]);
			seen[v] = true;
		}
	}
}

/* A lock by compare and swap, of two connections: what it guards is never torn. */
static void cmp_swap_as_lock(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	struct opt o = { .server_pd = pd };
	struct buf a[2], b = new_buf_access(pd, 4096, ATOMIC_ACCESS);
	struct end cs[2], ss[2];
	int taken = 0;

	for (int i = 0; i < 2; i++) {
		connect_ends(&cs[i], &ss[i], &o);
		a[i] = new_buf(cs[i].pd, 4096);
	}
	for (int round = 0; round < 100; round++) {
		/* Both try at once: one of them gets it. */
		for (int i = 0; i < 2; i++)
			atomic(cs[i].qp, 1, CAS, &a[i], 0, b.p, b.mr->rkey, 0, i + 1, 0);
		for (int i = 0; i < 2; i++)
			DONE(cs[i].scq, 1);
		for (int i = 0; i < 2; i++) {
			if (words(&a[i])[0]) {
				EQ(words(&a[i])[0], 2 - i);
				continue;
			}
			taken++;
			EQ(words(&b)[0], i + 1);
			atomic(cs[i].qp, 2, CAS, &a[i], 1, b.p, b.mr->rkey, i + 1, 0, 0);
			DONE(cs[i].scq, 2);
			EQ(words(&a[i])[1], i + 1);
		}
		EQ(taken, round + 1);
	}
}

/* --- atomics that are refused --- */

/* The peer refuses: it is told, the request completes with `status`, what follows is flushed. */
static void refused(const struct buf *a, uint64_t remote, uint32_t rkey, enum ibv_wc_status status,
		    enum ibv_event_type event)
{
	struct ibv_sge sge = sge_of(a, 0, 8);

	memset(a->p, 0xdd, a->len);
	OK(try_atomic(c.qp, 1, FADD, &sge, 1, remote, rkey, 1, 0, SIGNALED));
	OK(try_atomic(c.qp, 2, CAS, &sge, 1, remote, rkey, 1, 0, SIGNALED));
	completion(c.scq, 1, status, __LINE__);
	DONE_WITH(c.scq, 2, WR_FLUSH_ERR);
	if (!async_within(s.qp->context, event, s.qp, SOON))
		FAIL("no event %s", ibv_event_type_str(event));
	wait_state(c.qp, IBV_QPS_ERR);
	wait_state(s.qp, IBV_QPS_ERR);
	UNTOUCHED(a->p, a->len, 0xdd);
}

#define REFUSED(a, remote, rkey) \
	refused(a, (uintptr_t)(remote), rkey, IBV_WC_REM_ACCESS_ERR, IBV_EVENT_QP_ACCESS_ERR)

static void atomic_without_right(void)
{
	struct buf a, b;

	connect_atomic(NULL, &a, &b);
	b = new_buf(s.pd, 4096);
	memset(b.p, 0xee, b.len);
	REFUSED(&a, b.p, b.mr->rkey);
	UNTOUCHED(b.p, b.len, 0xee);
}

/* The right to atomics is none to write or to read. */
static void right_to_atomics_only(void)
{
	for (int read = 0; read < 2; read++) {
		struct ibv_wc wc;
		struct buf a, b;

		connect_atomic(NULL, &a, &b);
		b = new_buf_access(s.pd, 4096, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_ATOMIC);
		atomic(c.qp, 1, FADD, &a, 0, b.p, b.mr->rkey, 1, 0, 0);
		DONE(c.scq, 1);
		rdma_buf(c.qp, 2, read ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, &a, 8, (uintptr_t)b.p,
			 b.mr->rkey, SIGNALED);
		CHECK(poll_within(c.scq, &wc, SOON));
		if (read)
			EQ(wc.status, IBV_WC_REM_ACCESS_ERR);
		ASYNC(s.qp->context, QP_ACCESS_ERR, s.qp);
		EQ(words(&b)[0], 1);
	}
}

static void atomic_wrong_key(void)
{
	struct buf a, b;

	connect_atomic(NULL, &a, &b);
	memset(b.p, 0xee, b.len);
	REFUSED(&a, b.p, b.mr->rkey ^ 1);
	UNTOUCHED(b.p, b.len, 0xee);
}

static void atomic_dead_key(void)
{
	struct buf a, b;

	connect_atomic(NULL, &a, &b);
	memset(b.p, 0xee, b.len);
	atomic(c.qp, 9, FADD, &a, 0, b.p, b.mr->rkey, 0, 0, 0);
	DONE(c.scq, 9);
	{
		uint32_t key = b.mr->rkey;

		OK(ibv_dereg_mr(b.mr));
		REFUSED(&a, b.p, key);
	}
	UNTOUCHED(b.p, b.len, 0xee);
}

static void atomic_other_pd(void)
{
	struct buf a, b;

	connect_atomic(NULL, &a, &b);
	b = new_buf_access(ibv_alloc_pd(s.pd->context), 4096, ATOMIC_ACCESS);
	memset(b.p, 0xee, b.len);
	REFUSED(&a, b.p, b.mr->rkey);
	UNTOUCHED(b.p, b.len, 0xee);
}

static void atomic_out_of_bounds(void)
{
	/* Before, behind, far behind, at the end of the address space. */
	static const int64_t offs[] = { -8, 4096, 1 << 30, INT64_MIN };

	for (size_t i = 0; i < ARRAY_SIZE(offs); i++) {
		struct buf a, b;

		connect_atomic(NULL, &a, &b);
		memset(b.p, 0xee, b.len);
		OK(ibv_dereg_mr(b.mr));
		b.mr = ibv_reg_mr(s.pd, b.p + 4096, 4096, ATOMIC_ACCESS);
		REFUSED(&a, offs[i] == INT64_MIN ? -8UL : (uintptr_t)b.p + 4096 + offs[i], b.mr->rkey);
		UNTOUCHED(b.p, b.len, 0xee);
	}
}

/* RFC 7306 section 8.2: an error of the operation, not of access. */
static void atomic_unaligned(void)
{
	for (int off = 1; off < 8; off++) {
		struct buf a, b;

		connect_atomic(NULL, &a, &b);
		memset(b.p, 0xee, b.len);
		refused(&a, (uintptr_t)b.p + 64 + off, b.mr->rkey, IBV_WC_REM_OP_ERR,
			IBV_EVENT_QP_REQ_ERR);
		UNTOUCHED(b.p, b.len, 0xee);
	}
}

/* The atomics in front of one that is refused are done, and told. */
static void atomics_before_a_refused_one(void)
{
	struct buf a, b;

	connect_atomic(NULL, &a, &b);
	for (int i = 0; i < 5; i++)
		atomic(c.qp, i, FADD, &a, i, b.p, b.mr->rkey, 1, 0, 0);
	atomic(c.qp, 5, FADD, &a, 5, b.p, b.mr->rkey ^ 1, 1, 0, 0);
	for (int i = 0; i < 5; i++) {
		DONE(c.scq, i);
		EQ(words(&a)[i], i);
	}
	DONE_WITH(c.scq, 5, REM_ACCESS_ERR);
	EQ(words(&b)[0], 5);
}

/* --- atomics that are refused at home --- */

static void atomic_bad_sink(void)
{
	for (int what = 0; what < 3; what++) {
		enum ibv_wc_status status = IBV_WC_LOC_PROT_ERR;
		struct ibv_sge sge;
		struct buf a, b;

		connect_atomic(NULL, &a, &b);
		if (what == 0)
			a = new_buf_access(c.pd, 64, IBV_ACCESS_REMOTE_READ);
		sge = sge_of(&a, 0, 8);
		if (what == 1)
			sge.lkey ^= 1;
		if (what == 2) {
			sge.length = 4;
			status = IBV_WC_LOC_LEN_ERR;
		}
		OK(try_atomic(c.qp, 1, FADD, &sge, 1, (uintptr_t)b.p, b.mr->rkey, 1, 0, SIGNALED));
		completion(c.scq, 1, status, __LINE__);
		wait_state(c.qp, IBV_QPS_ERR);
		EQ(words(&b)[0], 0);
	}
}

static void atomic_bad_request(void)
{
	struct opt o = { .inl = 64 };
	struct ibv_sge two[2];
	struct buf a, b;

	connect_atomic(&o, &a, &b);
	two[0] = sge_of(&a, 0, 4);
	two[1] = sge_of(&a, 4, 4);
	FAILS(EINVAL, try_atomic(c.qp, 1, FADD, two, 2, (uintptr_t)b.p, b.mr->rkey, 1, 0, SIGNALED));
	FAILS(EINVAL, try_atomic(c.qp, 1, FADD, NULL, 0, (uintptr_t)b.p, b.mr->rkey, 1, 0, SIGNALED));
	two[0] = sge_of(&a, 0, 8);
	FAILS(EINVAL, try_atomic(c.qp, 1, FADD, two, 1, (uintptr_t)b.p, b.mr->rkey, 1, 0,
				 SIGNALED | IBV_SEND_INLINE));
	atomic(c.qp, 2, FADD, &a, 0, b.p, b.mr->rkey, 1, 0, 0);
	DONE(c.scq, 2);
	EQ(words(&b)[0], 1);
}

static const struct test tests[] = {
	T(atomic_is_advertised), T(fetch_add), T(cmp_swap), T(atomic_sink_at_odd_address),
	T(more_atomics_than_depth), T(atomics_between_reads), T(atomic_fence),
	T(atomics_of_many), T(cmp_swap_as_lock), T(atomic_without_right),
	T(right_to_atomics_only), T(atomic_wrong_key), T(atomic_dead_key), T(atomic_other_pd),
	T(atomic_out_of_bounds), T(atomic_unaligned), T(atomics_before_a_refused_one),
	T(atomic_bad_sink), T(atomic_bad_request),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
