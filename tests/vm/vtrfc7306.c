// SPDX-License-Identifier: GPL-2.0
/* Tests of RFC 7306, immediate data and atomics over iWARP; test_rfc7306.py runs them. */

#include "vt.h"

#include <endian.h>
#include <pthread.h>

#define ATOMIC_ACCESS (ALL_ACCESS | IBV_ACCESS_REMOTE_ATOMIC)

static struct end c, s;

/* --- immediate data --- */

static int try_imm(struct ibv_qp *qp, uint64_t id, struct ibv_sge *sge, int n, uint64_t remote,
		   uint32_t rkey, uint32_t imm, unsigned int flags)
{
	struct ibv_send_wr *bad, wr = {
		.wr_id = id,
		.sg_list = sge,
		.num_sge = n,
		.opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
		.send_flags = flags,
		.imm_data = htobe32(imm),
		.wr.rdma = { .remote_addr = remote, .rkey = rkey },
	};

	return ibv_post_send(qp, &wr, &bad);
}

/* The first `len` bytes of `a` to `to`. */
static void write_imm_buf(struct ibv_qp *qp, uint64_t id, const struct buf *a, size_t len,
			  const void *to, uint32_t rkey, uint32_t imm, unsigned int flags)
{
	struct ibv_sge sge = sge_of(a, 0, len);

	OK(try_imm(qp, id, &sge, 1, (uintptr_t)to, rkey, imm, SIGNALED | flags));
}

/* The completion of a receive that immediate data took. */
static void imm_done_at(struct ibv_cq *cq, uint64_t id, uint32_t len, uint32_t imm, int line)
{
	struct ibv_wc wc = completion(cq, id, IBV_WC_SUCCESS, line);

	if (wc.opcode != IBV_WC_RECV_RDMA_WITH_IMM || wc.wc_flags != IBV_WC_WITH_IMM)
		fail("vt", line, "opcode %d, flags %#x", wc.opcode, wc.wc_flags);
	if (wc.byte_len != len || be32toh(wc.imm_data) != imm)
		fail("vt", line, "%u bytes, %#x; not %u, %#x", wc.byte_len, be32toh(wc.imm_data),
		     len, imm);
}

#define IMM_DONE(cq, id, len, imm) imm_done_at(cq, id, len, imm, __LINE__)

static void write_imm(void)
{
	static const size_t sizes[] = { 0, 1, 7, 64, 1460, 65537, 1 << 20 };
	struct buf a, b, r;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 1 << 20);
	b = new_buf(s.pd, (1 << 20) + 64);
	r = new_buf(s.pd, 64);
	memset(r.p, 0xcc, r.len);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t n = sizes[i];
		struct ibv_wc wc;

		memset(b.p, 0xee, b.len);
		fill(a.p, a.len, i);
		/* With a buffer, which stays as it is, and without. */
		if (i % 2)
			recv_buf(s.qp, 100 + i, &r, r.len);
		else
			OK(try_recv(s.qp, 100 + i, NULL, 0));
		write_imm_buf(c.qp, i, &a, n, b.p + 5, b.mr->rkey, 0x80000001 + i, 0);
		IMM_DONE(s.rcq, 100 + i, n, 0x80000001 + i);
		VERIFY(b.p + 5, n, i);
		UNTOUCHED(b.p, 5, 0xee);
		UNTOUCHED(b.p + 5 + n, b.len - 5 - n, 0xee);
		UNTOUCHED(r.p, r.len, 0xcc);
		wc = DONE(c.scq, i);
		EQ(wc.opcode, IBV_WC_RDMA_WRITE);
		EQ(wc.byte_len, n);
	}
	/* Of nothing at all: no SGE, no key. */
	OK(try_recv(s.qp, 1, NULL, 0));
	OK(try_imm(c.qp, 2, NULL, 0, 0, 0, 77, SIGNALED));
	IMM_DONE(s.rcq, 1, 0, 77);
	DONE(c.scq, 2);
	NOTHING(s.rcq);
}

static void write_imm_inline(void)
{
	struct opt o = { .inl = 512 };
	uint8_t text[512];
	struct buf b;

	connect_ends(&c, &s, &o);
	b = new_buf(s.pd, 512);
	for (size_t n = 0; n <= 512; n += 64) {
		struct ibv_sge sge = { .addr = (uintptr_t)text, .length = n };

		fill(text, n, n);
		OK(try_recv(s.qp, n, NULL, 0));
		OK(try_imm(c.qp, n, &sge, 1, (uintptr_t)b.p, b.mr->rkey, n, SIGNALED | IBV_SEND_INLINE));
		memset(text, 0, sizeof(text));
		IMM_DONE(s.rcq, n, n, n);
		VERIFY(b.p, n, n);
		DONE(c.scq, n);
	}
}

/* SEND, WRITE and WRITE with immediate data, mixed: each receive is taken in its turn. */
static void write_imm_in_order(void)
{
	struct buf a, b;
	int expected = 0;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 4096);
	b = new_buf(s.pd, 64 * 4096);
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < 30; i++)
			recv_buf(s.qp, i, &b, 4096);
		for (int i = 0; i < 45; i++) {
			uint8_t *to = b.p + (1 + i) * 4096;

			if (i % 3 == 0)
				send_buf(c.qp, i, &a, 100 + i, SIGNALED);
			else if (i % 3 == 1)
				rdma_buf(c.qp, i, IBV_WR_RDMA_WRITE, &a, 200 + i, (uintptr_t)to,
					 b.mr->rkey, SIGNALED);
			else
				write_imm_buf(c.qp, i, &a, 2000 + i, to, b.mr->rkey, 1000 + i, 0);
		}
		for (int i = 0; i < 45; i++)
			DONE(c.scq, i);
		expected = 0;
		for (int i = 0; i < 45; i++) {
			if (i % 3 == 0) {
				struct ibv_wc wc = DONE(s.rcq, expected++);

				EQ(wc.opcode, IBV_WC_RECV);
				EQ(wc.wc_flags, 0);
				EQ(wc.byte_len, 100 + i);
			} else if (i % 3 == 2) {
				IMM_DONE(s.rcq, expected++, 2000 + i, 1000 + i);
			}
		}
		EQ(expected, 30);
	}
}

/* What was written is there when its immediate data is told. */
static void write_imm_comes_last(void)
{
	const size_t n = 40000;
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, n);
	b = new_buf(s.pd, n);
	for (uint32_t i = 0; i < 200; i++) {
		fill(a.p, n, i);
		OK(try_recv(s.qp, i, NULL, 0));
		write_imm_buf(c.qp, i, &a, n, b.p, b.mr->rkey, i, 0);
		IMM_DONE(s.rcq, i, n, i);
		VERIFY(b.p, n, i);
		DONE(c.scq, i);
	}
}

static void write_imm_srq(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	struct ibv_srq_init_attr init = { .attr = { .max_wr = 16, .max_sge = 1 } };
	struct opt o = { .srq = ibv_create_srq(pd, &init), .server_pd = pd };
	struct buf a, b;

	CHECK(o.srq);
	connect_ends(&c, &s, &o);
	a = new_buf(c.pd, 4096);
	b = new_buf(pd, 4096);
	for (int i = 0; i < 40; i++) {
		struct ibv_recv_wr *bad, wr = { .wr_id = i };

		OK(ibv_post_srq_recv(o.srq, &wr, &bad));
		fill(a.p, a.len, i);
		write_imm_buf(c.qp, i, &a, a.len, b.p, b.mr->rkey, i, 0);
		IMM_DONE(s.rcq, i, a.len, i);
		VERIFY(b.p, b.len, i);
		DONE(c.scq, i);
	}
	close_end(&s);
	OK(ibv_destroy_srq(o.srq));
}

static bool event_within(struct end *e, int ms)
{
	struct ibv_cq *cq;
	void *context;

	if (!readable(e->cc->fd, ms))
		return false;
	OK(ibv_get_cq_event(e->cc, &cq, &context));
	ibv_ack_cq_events(cq, 1);
	return true;
}

static void write_imm_solicited(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 64);
	b = new_buf(s.pd, 64);
	for (int i = 0; i < 2; i++)
		OK(try_recv(s.qp, i, NULL, 0));
	OK(ibv_req_notify_cq(s.rcq, 1));
	write_imm_buf(c.qp, 0, &a, 64, b.p, b.mr->rkey, 5, 0);
	IMM_DONE(s.rcq, 0, 64, 5);
	CHECK(!event_within(&s, QUIET));
	write_imm_buf(c.qp, 1, &a, 64, b.p, b.mr->rkey, 6, IBV_SEND_SOLICITED);
	CHECK(event_within(&s, SOON));
	IMM_DONE(s.rcq, 1, 64, 6);
}

/* The Write is placed, its immediate data finds no receive: the connection ends. */
static void write_imm_no_receive(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 64);
	b = new_buf(s.pd, 64);
	write_imm_buf(c.qp, 1, &a, 64, b.p, b.mr->rkey, 5, 0);
	ASYNC(s.qp->context, QP_REQ_ERR, s.qp);
	wait_state(c.qp, IBV_QPS_ERR);
	wait_state(s.qp, IBV_QPS_ERR);
	NOTHING(s.rcq);
}

/* The Write is refused: nobody hears of the immediate data. */
static void write_imm_refused(void)
{
	struct ibv_wc wc;
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 64);
	b = new_buf(s.pd, 64);
	memset(b.p, 0xee, b.len);
	OK(try_recv(s.qp, 7, NULL, 0));
	write_imm_buf(c.qp, 1, &a, 64, b.p, b.mr->rkey ^ 0x100, 5, 0);
	CHECK(poll_within(c.scq, &wc, SOON));
	ASYNC(s.qp->context, QP_ACCESS_ERR, s.qp);
	DONE_WITH(s.rcq, 7, WR_FLUSH_ERR);
	UNTOUCHED(b.p, b.len, 0xee);
}

/* Immediate data of a SEND would need a second receive: there is none, and the QP lives on. */
static void send_imm_refused(void)
{
	struct ibv_qp_init_attr_ex attr = {
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1 },
		.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.send_ops_flags = IBV_QP_EX_WITH_SEND_WITH_IMM,
	};
	struct ibv_send_wr *bad, wr = { .num_sge = 1, .opcode = IBV_WR_SEND_WITH_IMM };
	struct ibv_sge sge;
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 64);
	b = new_buf(s.pd, 64);
	sge = sge_of(&a, 0, 64);
	wr.sg_list = &sge;
	FAILS(EOPNOTSUPP, ibv_post_send(c.qp, &wr, &bad));
	CHECK(bad == &wr);
	attr.send_cq = attr.recv_cq = c.scq;
	attr.pd = c.pd;
	NULLS(EOPNOTSUPP, ibv_create_qp_ex(c.qp->context, &attr));
	recv_buf(s.qp, 1, &b, 64);
	send_buf(c.qp, 2, &a, 64, SIGNALED);
	DONE(s.rcq, 1);
	DONE(c.scq, 2);
}

/* --- atomics --- */

static int try_atomic(struct ibv_qp *qp, uint64_t id, enum ibv_wr_opcode op, struct ibv_sge *sge, int n,
		      uint64_t remote, uint32_t rkey, uint64_t compare_add, uint64_t swap,
		      unsigned int flags)
{
	struct ibv_send_wr *bad, wr = {
		.wr_id = id,
		.sg_list = sge,
		.num_sge = n,
		.opcode = op,
		.send_flags = flags,
		.wr.atomic = {
			.remote_addr = remote,
			.rkey = rkey,
			.compare_add = compare_add,
			.swap = swap,
		},
	};

	return ibv_post_send(qp, &wr, &bad);
}

#define FADD IBV_WR_ATOMIC_FETCH_AND_ADD
#define CAS IBV_WR_ATOMIC_CMP_AND_SWP

/* An atomic on the word at `remote`, whose old value goes to word `at` of `a`. */
static void atomic(struct ibv_qp *qp, uint64_t id, enum ibv_wr_opcode op, const struct buf *a,
		   size_t at, const void *remote, uint32_t rkey, uint64_t compare_add, uint64_t swap,
		   unsigned int flags)
{
	struct ibv_sge sge = sge_of(a, 8 * at, 8);

	OK(try_atomic(qp, id, op, &sge, 1, (uintptr_t)remote, rkey, compare_add, swap,
		      SIGNALED | flags));
}

static uint64_t *words(const struct buf *b)
{
	return (uint64_t *)(void *)b->p;
}

/* Both ends, a buffer for results, and memory that takes atomics. */
static void connect_atomic(const struct opt *o, struct buf *a, struct buf *b)
{
	connect_ends(&c, &s, o);
	*a = new_buf(c.pd, 65536);
	*b = new_buf_access(s.pd, 3 * 4096, ATOMIC_ACCESS);
}

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

/* --- the other interface, and everything at once --- */

static void wr_interface(void)
{
	struct opt o = { .send_ops = IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM |
				     IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD |
				     IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP };
	struct ibv_qp_ex *qp;
	struct buf a, b;

	connect_atomic(&o, &a, &b);
	qp = ibv_qp_to_qp_ex(c.qp);
	CHECK(qp);
	OK(try_recv(s.qp, 9, NULL, 0));
	fill(a.p, 4096, 1);
	ibv_wr_start(qp);
	qp->wr_flags = SIGNALED;
	qp->wr_id = 1;
	ibv_wr_rdma_write_imm(qp, b.mr->rkey, (uintptr_t)b.p + 4096, htobe32(0xabcdef01));
	ibv_wr_set_sge(qp, a.mr->lkey, (uintptr_t)a.p, 4096);
	qp->wr_id = 2;
	ibv_wr_atomic_fetch_add(qp, b.mr->rkey, (uintptr_t)b.p, 7);
	ibv_wr_set_sge(qp, a.mr->lkey, (uintptr_t)a.p + 8192, 8);
	qp->wr_id = 3;
	ibv_wr_atomic_cmp_swp(qp, b.mr->rkey, (uintptr_t)b.p, 7, 9);
	ibv_wr_set_sge(qp, a.mr->lkey, (uintptr_t)a.p + 8200, 8);
	OK(ibv_wr_complete(qp));
	EQ(DONE(c.scq, 1).opcode, IBV_WC_RDMA_WRITE);
	EQ(DONE(c.scq, 2).opcode, IBV_WC_FETCH_ADD);
	EQ(DONE(c.scq, 3).opcode, IBV_WC_COMP_SWAP);
	IMM_DONE(s.rcq, 9, 4096, 0xabcdef01);
	VERIFY(b.p + 4096, 4096, 1);
	EQ(words(&a)[1024], 0);
	EQ(words(&a)[1025], 7);
	EQ(words(&b)[0], 9);
}

/* What one end of `both_ways` does and has done. */
struct party {
	struct end *e;
	struct buf mine, theirs;
	int posted, done, heard;
};

/* Each end writes with immediate data, adds and reads, all at the same time. */
static void both_ways(void)
{
	enum { TOTAL = 600 };
	struct opt o = { .depth = 4 };
	struct party p[2];

	connect_ends(&c, &s, &o);
	p[0] = (struct party) { .e = &c };
	p[1] = (struct party) { .e = &s };
	for (int i = 0; i < 2; i++) {
		p[i].mine = new_buf_access(p[i].e->pd, 65536, ATOMIC_ACCESS);
		for (int k = 0; k < 64; k++)
			OK(try_recv(p[i].e->qp, k, NULL, 0));
	}
	for (int i = 0; i < 2; i++)
		p[i].theirs = p[!i].mine;
	while (p[0].done < TOTAL || p[1].done < TOTAL || p[0].heard < TOTAL / 3 || p[1].heard < TOTAL / 3) {
		for (int i = 0; i < 2; i++) {
			struct party *x = &p[i];
			const uint8_t *to = x->theirs.p;
			int n = x->posted;
			struct ibv_wc wc;

			/* No more than the other end has receives for. */
			if (n < TOTAL && n - x->done < 32 && n / 3 - p[!i].heard < 30) {
				if (n % 3 == 0)
					write_imm_buf(x->e->qp, n, &x->mine, 3000, to + 8192,
						      x->theirs.mr->rkey, n, 0);
				else if (n % 3 == 1)
					atomic(x->e->qp, n, FADD, &x->mine, 4096, to, x->theirs.mr->rkey,
					       1, 0, 0);
				else
					rdma_buf(x->e->qp, n, IBV_WR_RDMA_READ,
						 &(struct buf) { x->mine.p + 40000, 5000, x->mine.mr }, 5000,
						 (uintptr_t)to + 16384, x->theirs.mr->rkey, SIGNALED);
				x->posted++;
			}
			if (ibv_poll_cq(x->e->scq, 1, &wc) == 1) {
				EQ(wc.status, IBV_WC_SUCCESS);
				EQ(wc.wr_id, x->done);
				/* The fetch and add before this one saw one less. */
				if (x->done % 3 == 1)
					CHECK(words(&x->mine)[4096] >= (uint64_t)x->done / 3);
				x->done++;
			}
			if (ibv_poll_cq(x->e->rcq, 1, &wc) == 1) {
				EQ(wc.status, IBV_WC_SUCCESS);
				EQ(wc.opcode, IBV_WC_RECV_RDMA_WITH_IMM);
				EQ(be32toh(wc.imm_data), 3 * x->heard);
				EQ(wc.byte_len, 3000);
				x->heard++;
				OK(try_recv(x->e->qp, x->heard, NULL, 0));
			}
		}
	}
	EQ(words(&p[0].mine)[0], TOTAL / 3);
	EQ(words(&p[1].mine)[0], TOTAL / 3);
}

static const struct test tests[] = {
	T(write_imm), T(write_imm_inline), T(write_imm_in_order), T(write_imm_comes_last),
	T(write_imm_srq), T(write_imm_solicited), T(write_imm_no_receive), T(write_imm_refused),
	T(send_imm_refused), T(atomic_is_advertised), T(fetch_add), T(cmp_swap),
	T(atomic_sink_at_odd_address), T(more_atomics_than_depth), T(atomics_between_reads),
	T(atomic_fence), T(atomics_of_many), T(cmp_swap_as_lock), T(atomic_without_right),
	T(right_to_atomics_only), T(atomic_wrong_key), T(atomic_dead_key), T(atomic_other_pd),
	T(atomic_out_of_bounds), T(atomic_unaligned), T(atomics_before_a_refused_one),
	T(atomic_bad_sink), T(atomic_bad_request), T(wr_interface), T(both_ways),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
