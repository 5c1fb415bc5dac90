// SPDX-License-Identifier: GPL-2.0
/* Tests of work requests: SEND, WRITE, READ; test_work.py runs them. */

#include "vt.h"

static struct end c, s;

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
	static struct ibv_send_wr wr[1000];
	struct ibv_qp *qp = plain_qp(&init);
	struct ibv_send_wr *bad;
	struct ibv_sge sge;
	struct buf a, b;
	int n;

	into_init(qp);
	for (n = 0; n < 1000 && !try_recv(qp, n, NULL, 0); n++)
		;
	CHECK(n >= 8 && n < 1000);
	FAILS(ENOMEM, try_recv(qp, n, NULL, 0));

	connect_ends(&c, &s, &o);
	a = new_buf(c.pd, 1 << 20);
	b = new_buf(s.pd, 1 << 20);
	sge = sge_of(&a, 0, a.len);
	for (n = 0; n < 1000; n++)
		wr[n] = (struct ibv_send_wr) {
			.wr_id = n, .next = n < 999 ? &wr[n + 1] : NULL,
			.sg_list = &sge, .num_sge = 1,
			.opcode = IBV_WR_RDMA_READ, .send_flags = SIGNALED,
			.wr.rdma = { (uintptr_t)b.p, b.mr->rkey },
		};
	/* As one list: of one by one, a slow machine may complete each before the next comes. */
	FAILS(ENOMEM, ibv_post_send(c.qp, wr, &bad));
	n = bad - wr;
	CHECK(n >= 8 && n < 1000);
	/* Its place in the queue is free when it has completed. */
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
	const char *how = args[1];
	struct ibv_wc wc;

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
	alarm(240);
	if (!strcmp(how, "send")) {
		fill(a.p, chunk, 1);
		recv_buf(s.qp, 1, &b, len);
		send_buf(c.qp, 1, &a, len, SIGNALED);
		CHECK(poll_within(s.rcq, &wc, 200000));
		EQ(wc.status, IBV_WC_SUCCESS);
		EQ(wc.byte_len, len);
		DONE(c.scq, 1);
		VERIFY(b.p, chunk, 1);
		return;
	}
	if (!strcmp(how, "write")) {
		fill(a.p, chunk, 2);
		rdma_buf(c.qp, 1, IBV_WR_RDMA_WRITE, &a, len, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
		/* A READ comes back when all before it has been placed. */
		rdma_buf(c.qp, 2, IBV_WR_RDMA_READ, &a, 1, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
		CHECK(poll_within(c.scq, &wc, 200000));
		EQ(wc.status, IBV_WC_SUCCESS);
		EQ(wc.opcode, IBV_WC_RDMA_WRITE);
		CHECK(poll_within(c.scq, &wc, 200000));
		EQ(wc.status, IBV_WC_SUCCESS);
		EQ(wc.wr_id, 2);
		VERIFY(b.p, chunk, 2);
		return;
	}
	CHECK(!strcmp(how, "read"));
	fill(b.p, chunk, 3);
	rdma_buf(c.qp, 1, IBV_WR_RDMA_READ, &a, len, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	CHECK(poll_within(c.scq, &wc, 200000));
	EQ(wc.status, IBV_WC_SUCCESS);
	EQ(wc.opcode, IBV_WC_RDMA_READ);
	EQ(wc.byte_len, len);
	VERIFY(a.p, chunk, 3);
}

static void wr_interface(void)
{
	struct opt o = {
		.ssge = 8, .inl = 256,
		.send_ops = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_INV | IBV_QP_EX_WITH_RDMA_WRITE |
			    IBV_QP_EX_WITH_RDMA_READ,
	};
	struct ibv_mw_bind_info info;
	struct ibv_data_buf parts[3];
	struct ibv_sge list[4];
	uint8_t stack[200];
	struct ibv_qp_ex *qp;
	struct ibv_mw *mw;
	struct buf a, b;
	struct ibv_wc wc;

	connect_ends(&c, &s, &o);
	qp = ibv_qp_to_qp_ex(c.qp);
	CHECK(qp);
	a = new_buf(c.pd, 16384);
	b = new_buf_access(s.pd, 16384, ALL_ACCESS | IBV_ACCESS_MW_BIND);

	/* A window at the other end, for the one to be invalidated. */
	mw = ibv_alloc_mw(s.pd, IBV_MW_TYPE_2);
	CHECK(mw);
	info = (struct ibv_mw_bind_info) { b.mr, (uintptr_t)b.p, b.len, IBV_ACCESS_REMOTE_WRITE };
	{
		struct ibv_send_wr *bad, wr = {
			.wr_id = 50, .opcode = IBV_WR_BIND_MW, .send_flags = SIGNALED,
			.bind_mw = { mw, ibv_inc_rkey(mw->rkey), info },
		};

		OK(ibv_post_send(s.qp, &wr, &bad));
		DONE(s.scq, 50);
		mw->rkey = wr.bind_mw.rkey;
	}
	fill(a.p, a.len, 1);
	memset(b.p, 0xee, b.len);
	recv_buf(s.qp, 60, &b, 1000);
	{
		struct ibv_sge sge = sge_of(&b, 2000, 1000);

		OK(try_recv(s.qp, 61, &sge, 1));
		sge = sge_of(&b, 4000, 1000);
		OK(try_recv(s.qp, 62, &sge, 1));
	}

	/* All of one batch: one SGE, a list of them, inline data, a list of that. */
	ibv_wr_start(qp);
	qp->wr_flags = SIGNALED;
	qp->wr_id = 1;
	ibv_wr_send(qp);
	ibv_wr_set_sge(qp, a.mr->lkey, (uintptr_t)a.p, 1000);
	qp->wr_id = 2;
	ibv_wr_send(qp);
	fill(stack, sizeof(stack), 2);
	ibv_wr_set_inline_data(qp, stack, sizeof(stack));
	/* It was taken with the call. */
	memset(stack, 0, sizeof(stack));
	qp->wr_id = 3;
	ibv_wr_rdma_write(qp, mw->rkey, (uintptr_t)b.p + 8192);
	for (int i = 0; i < 4; i++)
		list[i] = sge_of(&a, i * 500, 500);
	ibv_wr_set_sge_list(qp, 4, list);
	qp->wr_id = 4;
	ibv_wr_rdma_write(qp, mw->rkey, (uintptr_t)b.p + 12288);
	fill(stack, sizeof(stack), 4);
	parts[0] = (struct ibv_data_buf) { stack, 7 };
	parts[1] = (struct ibv_data_buf) { stack + 7, 0 };
	parts[2] = (struct ibv_data_buf) { stack + 7, 193 };
	ibv_wr_set_inline_data_list(qp, 3, parts);
	qp->wr_id = 5;
	ibv_wr_send_inv(qp, mw->rkey);
	ibv_wr_set_sge(qp, a.mr->lkey, (uintptr_t)a.p + 100, 900);
	OK(ibv_wr_complete(qp));
	EQ(DONE(c.scq, 1).opcode, IBV_WC_SEND);
	EQ(DONE(c.scq, 2).opcode, IBV_WC_SEND);
	EQ(DONE(c.scq, 3).opcode, IBV_WC_RDMA_WRITE);
	EQ(DONE(c.scq, 4).opcode, IBV_WC_RDMA_WRITE);
	EQ(DONE(c.scq, 5).opcode, IBV_WC_SEND);
	EQ(DONE(s.rcq, 60).byte_len, 1000);
	EQ(DONE(s.rcq, 61).byte_len, sizeof(stack));
	wc = DONE(s.rcq, 62);
	EQ(wc.byte_len, 900);
	CHECK(wc.wc_flags & IBV_WC_WITH_INV);
	EQ(wc.invalidated_rkey, mw->rkey);
	VERIFY(b.p, 1000, 1);
	UNTOUCHED(b.p + 1000, 1000, 0xee);
	VERIFY(b.p + 2000, sizeof(stack), 2);
	UNTOUCHED(b.p + 2000 + sizeof(stack), 2000 - sizeof(stack), 0xee);
	CHECK(!memcmp(b.p + 4000, a.p + 100, 900));
	VERIFY(b.p + 8192, 2000, 1);
	UNTOUCHED(b.p + 8192 + 2000, 4096 - 2000, 0xee);
	VERIFY(b.p + 12288, sizeof(stack), 4);
	UNTOUCHED(b.p + 12288 + sizeof(stack), 4096 - sizeof(stack), 0xee);

	/* What was begun and given up leaves nothing behind. */
	ibv_wr_start(qp);
	qp->wr_id = 6;
	ibv_wr_rdma_write(qp, b.mr->rkey, (uintptr_t)b.p);
	ibv_wr_set_sge(qp, a.mr->lkey, (uintptr_t)a.p + 4000, 1000);
	ibv_wr_abort(qp);
	/* READ, to a list of SGEs. */
	fill(b.p, 4096, 7);
	memset(a.p, 0xdd, a.len);
	ibv_wr_start(qp);
	qp->wr_id = 7;
	ibv_wr_rdma_read(qp, b.mr->rkey, (uintptr_t)b.p);
	list[0] = sge_of(&a, 0, 1);
	list[1] = sge_of(&a, 1, 0);
	list[2] = sge_of(&a, 1, 2999);
	list[3] = sge_of(&a, 3000, 96);
	ibv_wr_set_sge_list(qp, 4, list);
	OK(ibv_wr_complete(qp));
	wc = DONE(c.scq, 7);
	EQ(wc.opcode, IBV_WC_RDMA_READ);
	EQ(wc.byte_len, 3096);
	VERIFY(a.p, 3096, 7);
	UNTOUCHED(a.p + 3096, a.len - 3096, 0xdd);
	NOTHING(c.scq);

	/* The window is gone indeed. */
	ibv_wr_start(qp);
	qp->wr_id = 8;
	ibv_wr_rdma_write(qp, mw->rkey, (uintptr_t)b.p);
	ibv_wr_set_sge(qp, a.mr->lkey, (uintptr_t)a.p, 8);
	OK(ibv_wr_complete(qp));
	/* A WRITE of iWARP may have completed when it was sent. */
	if (is_roce(c.qp->context))
		DONE_WITH(c.scq, 8, REM_ACCESS_ERR);
	wait_state(c.qp, IBV_QPS_ERR);
	VERIFY(b.p, 3096, 7);
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
	static const enum ibv_wr_opcode ops[] = { IBV_WR_SEND_WITH_IMM, IBV_WR_TSO, 77 };

	/* The first is foreign to iWARP only. */
	for (size_t i = is_roce(open_device()) ? 1 : 0; i < ARRAY_SIZE(ops); i++) {
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

static const struct test tests[] = {
	T(send_recv), T(server_sends_first), T(write_read), T(send_32_sges), T(write_32_sges),
	T(read_32_sges), T(zero_length), T(inline_data), T(inline_too_long), T(unsignalled),
	T(signal_all), T(fence), T(in_order), T(more_reads_than_depth), T(post_list),
	T(queues_full), T(message_of), T(message_too_long), T(foreign_operations_refused),
	T(wr_interface),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
