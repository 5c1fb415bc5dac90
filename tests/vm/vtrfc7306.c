// SPDX-License-Identifier: GPL-2.0
/* Tests of immediate data over iWARP, and of it beside atomics; test_rfc7306.py runs them. */

#include "vtrfc7306.h"

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
	T(write_imm_srq), T(write_imm_solicited), T(write_imm_no_receive),
	T(write_imm_refused), T(send_imm_refused), T(wr_interface), T(both_ways),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
