// SPDX-License-Identifier: GPL-2.0
/*
 * Every packet that RC, UC and UD have, many times over, with verified content;
 * tests/interop/test_roce_wire.py captures them.
 *
 *     vtopcodes TEST ADDRESS NETNS-A DEVICE-A NETNS-B DEVICE-B ROUNDS
 */
#include "vtroce.h"

#define ROOM 4096
#define IMM 0xfeedface
#define BIND_ID 7777

/* One packet; and a first, middles and a last one, at a path MTU of 1024. */
static const size_t sizes[] = { 100, 3 * 1024 + 101 };

static int rounds(void)
{
	int n = args[0] ? atoi(args[0]) : 0;

	CHECK(n > 0);
	return n;
}

struct request {
	enum ibv_wr_opcode op;
	size_t len;
	uint64_t remote;
	uint32_t rkey;
	struct ibv_ah *ah;
	uint32_t qpn;
};

static void post(struct ibv_qp *qp, uint64_t id, const struct buf *b, const struct request *r)
{
	struct ibv_sge sge = sge_of(b, 0, r->len);
	struct ibv_send_wr *bad, wr = {
		.wr_id = id, .sg_list = &sge, .num_sge = 1, .opcode = r->op, .send_flags = SIGNALED,
		.imm_data = htonl(IMM),
	};

	if (r->op == IBV_WR_SEND_WITH_INV)
		wr.invalidate_rkey = r->rkey;
	if (r->ah) {
		wr.wr.ud.ah = r->ah;
		wr.wr.ud.remote_qpn = r->qpn;
		wr.wr.ud.remote_qkey = QKEY;
	} else if (r->op == IBV_WR_ATOMIC_CMP_AND_SWP || r->op == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = r->remote;
		wr.wr.atomic.rkey = r->rkey;
		wr.wr.atomic.compare_add = 1;
		wr.wr.atomic.swap = 2;
	} else {
		wr.wr.rdma.remote_addr = r->remote;
		wr.wr.rdma.rkey = r->rkey;
	}
	OK(ibv_post_send(qp, &wr, &bad));
}

static bool takes_receive(enum ibv_wr_opcode op)
{
	return op == IBV_WR_SEND || op == IBV_WR_SEND_WITH_IMM || op == IBV_WR_SEND_WITH_INV ||
	       op == IBV_WR_RDMA_WRITE_WITH_IMM;
}

/* A window of A's QP, for B to invalidate. */
static uint32_t bind_window(const struct conn *c, struct ibv_mw *mw, const struct buf *to)
{
	struct ibv_send_wr *bad, wr = {
		.wr_id = BIND_ID, .opcode = IBV_WR_BIND_MW, .send_flags = SIGNALED,
		.bind_mw = {
			.mw = mw,
			.rkey = ibv_inc_rkey(mw->rkey),
			.bind_info = {
				.mr = to->mr, .addr = (uintptr_t)to->p, .length = ROOM,
				.mw_access_flags = IBV_ACCESS_REMOTE_WRITE,
			},
		},
	};

	OK(ibv_post_send(c->a, &wr, &bad));
	DONE(c->acq, BIND_ID);
	mw->rkey = wr.bind_mw.rkey;
	return mw->rkey;
}

/* B sends, writes, reads; what arrived is what was meant. */
static void move(const struct conn *c, const enum ibv_wr_opcode *ops, size_t n, struct ibv_mw *mw)
{
	struct buf a = new_buf_access(A.pd, ROOM, RIGHTS | IBV_ACCESS_MW_BIND);
	struct buf b = new_buf(B.pd, ROOM);
	uint32_t seed = 0;

	for (int i = rounds(); i; i--) {
		for (size_t j = 0; j < n * ARRAY_SIZE(sizes); j++) {
			struct request r = {
				.op = ops[j % n], .len = sizes[j / n],
				.remote = (uintptr_t)a.p, .rkey = a.mr->rkey,
			};
			bool receive = takes_receive(r.op), read = r.op == IBV_WR_RDMA_READ;
			struct ibv_wc wc;

			fill(read ? a.p : b.p, r.len, ++seed);
			memset(read ? b.p : a.p, 0x5a, ROOM);
			if (r.op == IBV_WR_SEND_WITH_INV)
				r.rkey = bind_window(c, mw, &a);
			if (receive)
				recv_buf(c->a, seed, &a, ROOM);
			post(c->b, seed, &b, &r);
			DONE(c->bcq, seed);
			if (receive) {
				wc = DONE(c->acq, seed);
				EQ(wc.byte_len, r.len);
				if (r.op == IBV_WR_SEND_WITH_IMM ||
				    r.op == IBV_WR_RDMA_WRITE_WITH_IMM)
					EQ(ntohl(wc.imm_data), IMM);
				if (r.op == IBV_WR_SEND_WITH_INV)
					EQ(wc.invalidated_rkey, r.rkey);
			}
			/* An unreliable WRITE is on its way when it is done. */
			for (long end = now_ms() + SOON; now_ms() < end && memcmp(a.p, b.p, r.len);)
				usleep(100);
			VERIFY(read ? b.p : a.p, r.len, seed);
			UNTOUCHED((read ? b.p : a.p) + r.len, ROOM - r.len, 0x5a);
		}
	}
}

static void rc(void)
{
	static const enum ibv_wr_opcode ops[] = {
		IBV_WR_SEND, IBV_WR_SEND_WITH_IMM, IBV_WR_SEND_WITH_INV, IBV_WR_RDMA_WRITE,
		IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_RDMA_READ,
	};
	struct conn c = connect_usual();
	struct ibv_mw *mw = ibv_alloc_mw(A.pd, IBV_MW_TYPE_2);

	CHECK(mw);
	move(&c, ops, ARRAY_SIZE(ops), mw);
	OK(ibv_dealloc_mw(mw));
	disconnect(&c);
}

static void atomics(void)
{
	struct conn c = connect_usual();
	struct buf t = new_buf_access(A.pd, 64, RIGHTS), b = new_buf(B.pd, 64);
	struct request r = { .len = 8, .remote = (uintptr_t)t.p, .rkey = t.mr->rkey };
	uint64_t *got = (uint64_t *)b.p, n = (uint64_t)rounds();

	for (uint64_t i = 0; i < n; i++) {
		r.op = IBV_WR_ATOMIC_FETCH_AND_ADD;
		post(c.b, i, &b, &r);
		DONE(c.bcq, i);
		/* 0, and then 2 from the swap below, to which 1 was added. */
		EQ(*got, i ? 2 : 0);
		if (i) {
			r.op = IBV_WR_ATOMIC_WRITE;
			*got = 1;
			ibv_wr_start(c.bx);
			c.bx->wr_id = i;
			c.bx->wr_flags = SIGNALED;
			ibv_wr_atomic_write(c.bx, r.rkey, r.remote, got);
			OK(ibv_wr_complete(c.bx));
			DONE(c.bcq, i);
		}
		r.op = IBV_WR_ATOMIC_CMP_AND_SWP;
		post(c.b, i, &b, &r);
		DONE(c.bcq, i);
		EQ(*got, 1);
	}
	disconnect(&c);
}

static void uc(void)
{
	static const enum ibv_wr_opcode ops[] = {
		IBV_WR_SEND, IBV_WR_SEND_WITH_IMM, IBV_WR_RDMA_WRITE, IBV_WR_RDMA_WRITE_WITH_IMM,
	};
	struct conn c = connect_uc();

	move(&c, ops, ARRAY_SIZE(ops), NULL);
	disconnect(&c);
}

static void ud(void)
{
	struct ibv_ah_attr to_a = {
		.is_global = 1,
		.port_num = 1,
		.grh = { .dgid = A.gid, .sgid_index = (uint8_t)B.gid_index, .hop_limit = 64 },
	};
	struct conn c = { .a = ud_qp(&A, &c.acq), .b = ud_qp(&B, &c.bcq) };
	struct buf a = new_buf(A.pd, ROOM), b = new_buf(B.pd, ROOM);
	struct ibv_ah *ah = ibv_create_ah(B.pd, &to_a);
	uint32_t seed = 0;

	CHECK(ah);
	for (int i = 2 * rounds(); i; i--) {
		bool imm = i & 1;
		struct request r = {
			.op = imm ? IBV_WR_SEND_WITH_IMM : IBV_WR_SEND, .len = 301,
			.ah = ah, .qpn = c.a->qp_num,
		};
		struct ibv_wc wc;

		fill(b.p, r.len, ++seed);
		recv_buf(c.a, seed, &a, ROOM);
		post(c.b, seed, &b, &r);
		DONE(c.bcq, seed);
		wc = DONE(c.acq, seed);
		EQ(wc.byte_len, GRH + r.len);
		EQ(wc.src_qp, c.b->qp_num);
		if (imm)
			EQ(ntohl(wc.imm_data), IMM);
		VERIFY(a.p + GRH, r.len, seed);
	}
	OK(ibv_destroy_ah(ah));
	disconnect(&c);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = { T(rc), T(atomics), T(uc), T(ud) };

	return run_roce_test(tests, ARRAY_SIZE(tests), argc, argv);
}
