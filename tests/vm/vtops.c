// SPDX-License-Identifier: GPL-2.0
/*
 * RC operations of RoCE that are answered: atomics, ATOMIC WRITE, FLUSH;
 * test_roce_ops.py and tests/interop/test_rxe.py run them. For the latter's
 * sake some have an argument that says which driver is A's.
 *
 *     vtops TEST ADDRESS NETNS-A DEVICE-A NETNS-B DEVICE-B [ARGUMENT...]
 */
#include "vtroce.h"

#include <pthread.h>

#define FADD IBV_WR_ATOMIC_FETCH_AND_ADD
#define CAS IBV_WR_ATOMIC_CMP_AND_SWP

/* --- work --- */

static uint64_t *word(const struct buf *b, size_t at)
{
	return (uint64_t *)(b->p + at);
}

/* What the peer put there, which the compiler knows nothing of. */
static uint64_t value(const struct buf *b, size_t at)
{
	return __atomic_load_n(word(b, at), __ATOMIC_ACQUIRE);
}

/* `x`: compare or add, `y`: swap. The result goes to `at` of `result`. */
static int try_atomic(struct ibv_qp *qp, uint64_t id, enum ibv_wr_opcode op,
		      const struct buf *result, size_t at, uint64_t remote, uint32_t rkey,
		      uint64_t x, uint64_t y, unsigned int flags)
{
	struct ibv_sge sge = sge_of(result, at, 8);
	struct ibv_send_wr *bad, wr = {
		.wr_id = id, .sg_list = &sge, .num_sge = 1, .opcode = op, .send_flags = flags,
		.wr.atomic = { remote, x, y, rkey },
	};

	return ibv_post_send(qp, &wr, &bad);
}

static void atomic(const struct conn *c, uint64_t id, enum ibv_wr_opcode op,
		   const struct buf *result, size_t at, const struct buf *target, size_t to,
		   uint64_t x, uint64_t y)
{
	OK(try_atomic(c->b, id, op, result, at, (uintptr_t)target->p + to, target->mr->rkey, x, y,
		      SIGNALED));
}

static void atomic_write(const struct conn *c, uint64_t id, uint64_t remote, uint32_t rkey,
			 uint64_t v)
{
	ibv_wr_start(c->bx);
	c->bx->wr_id = id;
	c->bx->wr_flags = SIGNALED;
	ibv_wr_atomic_write(c->bx, rkey, remote, &v);
	OK(ibv_wr_complete(c->bx));
}

static void flush(const struct conn *c, uint64_t id, uint64_t remote, uint32_t rkey, size_t len,
		  uint8_t type, enum ibv_selectivity_level level)
{
	ibv_wr_start(c->bx);
	c->bx->wr_id = id;
	c->bx->wr_flags = SIGNALED;
	ibv_wr_flush(c->bx, rkey, remote, len, type, level);
	OK(ibv_wr_complete(c->bx));
}

#define GLOBAL IBV_FLUSH_GLOBAL
#define PERSISTENT IBV_FLUSH_PERSISTENT

/* --- what they do --- */

static void device(void)
{
	struct ibv_device_attr_ex attr;

	OK(ibv_query_device_ex(A.ctx, NULL, &attr));
	EQ(attr.orig_attr.atomic_cap, IBV_ATOMIC_GLOB);
	/* IB_UVERBS_DEVICE_FLUSH_GLOBAL, _PERSISTENT and _ATOMIC_WRITE. */
	EQ(attr.device_cap_flags_ex >> 38 & 7, 7);
	CHECK(attr.orig_attr.max_qp_rd_atom >= 16 && attr.orig_attr.max_qp_init_rd_atom >= 16);
}

static void fetch_add(void)
{
	struct conn c = connect_usual();
	struct buf t = new_buf_access(A.pd, 4096, RIGHTS), r = new_buf(B.pd, 4096);
	struct ibv_wc wc;

	memset(t.p, 0x5a, t.len);
	*word(&t, 8) = 5;
	atomic(&c, 1, FADD, &r, 16, &t, 8, 7, 0);
	wc = DONE(c.bcq, 1);
	EQ(wc.opcode, IBV_WC_FETCH_ADD);
	EQ(wc.byte_len, 8);
	EQ(value(&r, 16), 5);
	EQ(value(&t, 8), 12);
	/* It wraps; and by the other interface. */
	ibv_wr_start(c.bx);
	c.bx->wr_id = 2;
	c.bx->wr_flags = SIGNALED;
	ibv_wr_atomic_fetch_add(c.bx, t.mr->rkey, (uintptr_t)t.p + 8, -13);
	ibv_wr_set_sge(c.bx, r.mr->lkey, (uintptr_t)r.p, 8);
	OK(ibv_wr_complete(c.bx));
	DONE(c.bcq, 2);
	EQ(value(&r, 0), 12);
	EQ(value(&t, 8), UINT64_MAX);
	/* The last word of the region; nothing beside any of them. */
	*word(&t, t.len - 8) = 1;
	atomic(&c, 3, FADD, &r, 0, &t, t.len - 8, 1, 0);
	DONE(c.bcq, 3);
	EQ(value(&t, t.len - 8), 2);
	UNTOUCHED(t.p, 8, 0x5a);
	UNTOUCHED(t.p + 16, t.len - 24, 0x5a);
	UNTOUCHED(r.p + 24, r.len - 24, 0);
	disconnect(&c);
}

static void cmp_swp(void)
{
	struct conn c = connect_usual();
	struct buf t = new_buf_access(A.pd, 64, RIGHTS), r = new_buf(B.pd, 64);
	const uint64_t big = 0x1122334455667788;
	struct ibv_wc wc;

	memset(t.p, 0x5a, t.len);
	*word(&t, 8) = big;
	atomic(&c, 1, CAS, &r, 0, &t, 8, big + 1, 9);
	wc = DONE(c.bcq, 1);
	EQ(wc.opcode, IBV_WC_COMP_SWAP);
	EQ(wc.byte_len, 8);
	EQ(value(&r, 0), big);
	EQ(value(&t, 8), big);
	atomic(&c, 2, CAS, &r, 8, &t, 8, big, ~big);
	DONE(c.bcq, 2);
	EQ(value(&r, 8), big);
	EQ(value(&t, 8), ~big);
	ibv_wr_start(c.bx);
	c.bx->wr_id = 3;
	c.bx->wr_flags = SIGNALED;
	ibv_wr_atomic_cmp_swp(c.bx, t.mr->rkey, (uintptr_t)t.p + 8, ~big, 0);
	ibv_wr_set_sge(c.bx, r.mr->lkey, (uintptr_t)r.p + 16, 8);
	OK(ibv_wr_complete(c.bx));
	DONE(c.bcq, 3);
	EQ(value(&r, 16), ~big);
	EQ(value(&t, 8), 0);
	UNTOUCHED(t.p, 8, 0x5a);
	UNTOUCHED(t.p + 16, t.len - 16, 0x5a);
	disconnect(&c);
}

static void atomic_writes(void)
{
	struct conn c = connect_usual();
	struct buf t = new_buf_access(A.pd, 64, RIGHTS), r = new_buf(B.pd, 64);
	struct ibv_sge sge = sge_of(&r, 8, 8);
	struct work w = { 2, IBV_WR_ATOMIC_WRITE, SIGNALED, &sge, 1, (uintptr_t)t.p + 8,
			  t.mr->rkey };
	struct ibv_wc wc;

	memset(t.p, 0x5a, t.len);
	atomic_write(&c, 1, (uintptr_t)t.p + 8, t.mr->rkey, 0x0102030405060708);
	wc = DONE(c.bcq, 1);
	EQ(wc.opcode, IBV_WC_ATOMIC_WRITE);
	EQ(value(&t, 8), 0x0102030405060708);
	/* From memory, and in the request, by ibv_post_send(), which rxe has no such thing for. */
	if (!strcmp(args[0] ?: "", "rurdma")) {
		disconnect(&c);
		return;
	}
	*word(&r, 8) = 77;
	OK(try_post(c.b, &w));
	DONE(c.bcq, 2);
	EQ(value(&t, 8), 77);
	w.wr_id = 3;
	w.flags |= IBV_SEND_INLINE;
	*word(&r, 8) = 78;
	OK(try_post(c.b, &w));
	DONE(c.bcq, 3);
	EQ(value(&t, 8), 78);
	UNTOUCHED(t.p, 8, 0x5a);
	UNTOUCHED(t.p + 16, t.len - 16, 0x5a);
	disconnect(&c);
}

static void flushes(void)
{
	struct conn c = connect_usual();
	struct buf t = new_buf_access(A.pd, 10000, RIGHTS), r = new_buf(B.pd, 10000);
	struct ibv_wc wc;

	for (int i = 0; i < 20; i++) {
		fill(r.p, r.len, i);
		rdma_buf(c.b, 1, IBV_WR_RDMA_WRITE, &r, r.len, (uintptr_t)t.p, t.mr->rkey, 0);
		flush(&c, 2, (uintptr_t)t.p + 3, t.mr->rkey, 9000, GLOBAL, IBV_FLUSH_RANGE);
		wc = DONE(c.bcq, 2);
		EQ(wc.opcode, IBV_WC_FLUSH);
		VERIFY(t.p, t.len, i);
	}
	/* Address and length of a whole region say nothing. */
	flush(&c, 3, 0, t.mr->rkey, 0, GLOBAL, IBV_FLUSH_MR);
	DONE(c.bcq, 3);
	/* Many at once, on a connection that counts them or does not. */
	for (int i = 0; i < 100; i++)
		flush(&c, 100 + i, (uintptr_t)t.p, t.mr->rkey, 8, GLOBAL, IBV_FLUSH_RANGE);
	for (int i = 0; i < 100; i++)
		DONE(c.bcq, 100 + i);
	disconnect(&c);
}

/* --- what they refuse --- */

enum op { WRITE_8, READ_8, OP_FADD, OP_CAS, ATOMIC_WRITE_8, FLUSH_RANGE, FLUSH_MR, FLUSH_PMEM, OPS_N };

static const char *const op_names[] = { "WRITE", "READ", "FETCH_ADD", "CMP_SWP", "ATOMIC_WRITE",
					"FLUSH range", "FLUSH region", "FLUSH persistent" };

static void post_op(const struct conn *c, enum op what, const struct buf *r, uint64_t remote,
		    uint32_t rkey)
{
	switch (what) {
	case WRITE_8:
	case READ_8:
		rdma_buf(c->b, 1, what == WRITE_8 ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ, r, 8, remote,
			 rkey, SIGNALED);
		break;
	case OP_FADD:
	case OP_CAS:
		OK(try_atomic(c->b, 1, what == OP_FADD ? FADD : CAS, r, 0, remote, rkey,
			      what == OP_FADD ? 1 : 0x5a5a5a5a5a5a5a5a, 3, SIGNALED));
		break;
	case ATOMIC_WRITE_8:
		atomic_write(c, 1, remote, rkey, 1);
		break;
	case FLUSH_RANGE:
	case FLUSH_MR:
		flush(c, 1, remote, rkey, 8, GLOBAL,
		      what == FLUSH_MR ? IBV_FLUSH_MR : IBV_FLUSH_RANGE);
		break;
	case FLUSH_PMEM:
		flush(c, 1, remote, rkey, 8, PERSISTENT, IBV_FLUSH_RANGE);
		break;
	default:
		FAIL("operation %d", what);
	}
}

/* The rights that the operation needs of QP and region. */
static int needs(enum op what)
{
	switch (what) {
	case READ_8:
		return IBV_ACCESS_REMOTE_READ;
	case OP_FADD:
	case OP_CAS:
		return IBV_ACCESS_REMOTE_ATOMIC;
	case FLUSH_RANGE:
	case FLUSH_MR:
		return FLUSH_GLOBAL;
	case FLUSH_PMEM:
		return FLUSH_PERSISTENT;
	default:
		return IBV_ACCESS_REMOTE_WRITE;
	}
}

/* The operation is refused with this status, A says so by this event, and its memory is as it was. */
static void refused(enum op what, const struct how *h, const struct buf *t, uint64_t remote,
		    uint32_t rkey, enum ibv_wc_status status)
{
	struct conn c = connect_how(h);
	struct buf r = new_buf(B.pd, 64);
	struct ibv_wc wc;

	memset(t->p, 0x5a, t->len);
	post_op(&c, what, &r, remote, rkey);
	CHECK(poll_within(c.bcq, &wc, SOON));
	if (wc.status != status)
		FAIL("%s: %s, not %s", op_names[what], ibv_wc_status_str(wc.status),
		     ibv_wc_status_str(status));
	if (status == IBV_WC_REM_INV_REQ_ERR)
		ASYNC(A.ctx, QP_REQ_ERR, c.a);
	else
		ASYNC(A.ctx, QP_ACCESS_ERR, c.a);
	wait_state(c.a, IBV_QPS_ERR);
	wait_state(c.b, IBV_QPS_ERR);
	UNTOUCHED(t->p, t->len, 0x5a);
	UNTOUCHED(r.p, r.len, 0);
	disconnect(&c);
	OK(ibv_dereg_mr(r.mr));
}

/* A right that the QP lacks: an invalid request; that the region lacks: a violation. */
static void rights(void)
{
	const int all = RIGHTS | FLUSH_PERSISTENT;

	for (enum op what = 0; what < OPS_N; what++) {
		const struct how without = { all & ~needs(what), 16, 16 }, with = { all, 16, 16 };
		struct buf full = new_buf_access(A.pd, 64, RIGHTS);
		struct buf poor = new_buf_access(A.pd, 64, RIGHTS & ~needs(what));

		refused(what, &without, &full, (uintptr_t)full.p, full.mr->rkey,
			IBV_WC_REM_INV_REQ_ERR);
		refused(what, &with, &poor, (uintptr_t)poor.p, poor.mr->rkey, IBV_WC_REM_ACCESS_ERR);
	}
}

static void misaligned(void)
{
	static const enum op ops[] = { OP_FADD, OP_CAS, ATOMIC_WRITE_8 };
	struct buf t = new_buf_access(A.pd, 64, RIGHTS);

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		for (int off = 1; off < 8; off += 3)
			refused(ops[i], &usual, &t, (uintptr_t)t.p + off, t.mr->rkey,
				IBV_WC_REM_INV_REQ_ERR);
}

static void bad_keys(void)
{
	struct ibv_pd *other = ibv_alloc_pd(A.ctx);
	struct buf t = new_buf_access(A.pd, 64, RIGHTS);
	struct buf foreign = new_buf_access(other, 64, RIGHTS);
	struct buf gone = new_buf_access(A.pd, 64, RIGHTS);
	uint32_t old = gone.mr->rkey;

	OK(ibv_dereg_mr(gone.mr));
	for (enum op what = 0; what < FLUSH_PMEM; what++) {
		const uint64_t at = (uintptr_t)t.p;

		refused(what, &usual, &t, at, t.mr->rkey ^ 0x100, IBV_WC_REM_ACCESS_ERR);
		refused(what, &usual, &t, at, t.mr->rkey ^ 1, IBV_WC_REM_ACCESS_ERR);
		refused(what, &usual, &gone, (uintptr_t)gone.p, old, IBV_WC_REM_ACCESS_ERR);
		refused(what, &usual, &foreign, (uintptr_t)foreign.p, foreign.mr->rkey,
			IBV_WC_REM_ACCESS_ERR);
		if (what == FLUSH_MR)
			continue;
		refused(what, &usual, &t, at + 64, t.mr->rkey, IBV_WC_REM_ACCESS_ERR);
		refused(what, &usual, &t, at - 8, t.mr->rkey, IBV_WC_REM_ACCESS_ERR);
		refused(what, &usual, &t, -8ULL, t.mr->rkey, IBV_WC_REM_ACCESS_ERR);
	}
}

/* What B does wrong, A need not tell. */
static void local(void)
{
	struct buf t = new_buf_access(A.pd, 64, RIGHTS), r = new_buf(B.pd, 64);
	struct buf no = new_buf_access(B.pd, 64, 0);
	const uint64_t at = (uintptr_t)t.p;
	struct ibv_sge four = sge_of(&r, 0, 4);
	struct ibv_send_wr *bad, wr = {
		.wr_id = 1, .sg_list = &four, .num_sge = 1, .opcode = FADD,
		.send_flags = SIGNALED, .wr.atomic = { at, 1, 0, t.mr->rkey },
	};
	struct conn c = connect_usual();
	struct ibv_wc wc;

	/* The result goes where nothing may be written. */
	OK(try_atomic(c.b, 1, FADD, &no, 0, at, t.mr->rkey, 1, 0, SIGNALED));
	DONE_WITH(c.bcq, 1, LOC_PROT_ERR);
	EQ(state_of(c.b), IBV_QPS_ERR);
	UNTOUCHED(no.p, no.len, 0);
	disconnect(&c);

	c = connect_usual();
	OK(ibv_post_send(c.b, &wr, &bad));
	DONE_WITH(c.bcq, 1, LOC_LEN_ERR);
	disconnect(&c);

	/* Nothing may be outstanding: it is told rather than to wait for ever. */
	for (enum op what = READ_8; what <= FLUSH_RANGE; what++) {
		const struct how none = { RIGHTS, 16, 0 };

		c = connect_how(&none);
		*word(&t, 0) = 40;
		post_op(&c, what, &r, at, t.mr->rkey);
		CHECK(poll_within(c.bcq, &wc, SOON));
		if (wc.status != IBV_WC_LOC_QP_OP_ERR)
			FAIL("%s: %s", op_names[what], ibv_wc_status_str(wc.status));
		EQ(value(&t, 0), 40);
		disconnect(&c);
	}
}

/* No responder resources: refused, and not executed. */
static void no_resources(void)
{
	const struct how none = { RIGHTS, 0, 16 };
	struct buf t = new_buf_access(A.pd, 64, RIGHTS);

	for (enum op what = READ_8; what <= ATOMIC_WRITE_8; what++)
		refused(what, &none, &t, (uintptr_t)t.p, t.mr->rkey, IBV_WC_REM_INV_REQ_ERR);
}

/* Of the services only RC has them: neither the library takes them nor, if it did, the module. */
static void other_services(void)
{
	struct conn rc = connect_usual();
	struct buf t = new_buf(B.pd, 64);

	for (enum op what = READ_8; what <= FLUSH_MR; what++) {
		struct ibv_qp_attr attr = {
			.qp_state = IBV_QPS_RTR, .path_mtu = IBV_MTU_1024,
			.dest_qp_num = rc.a->qp_num,
			.ah_attr = { .is_global = 1, .port_num = 1, .grh = {
				.dgid = A.gid, .sgid_index = (uint8_t)B.gid_index,
				.hop_limit = 64 } },
		};
		struct conn uc;
		struct ibv_wc wc;

		uc.b = one_qp(&B, IBV_QPT_UC, &uc.bcq);
		to_init(uc.b, 0);
		OK(ibv_modify_qp(uc.b, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
					      IBV_QP_DEST_QPN | IBV_QP_RQ_PSN));
		attr.qp_state = IBV_QPS_RTS;
		OK(ibv_modify_qp(uc.b, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN));
		FAILS(EINVAL, try_atomic(uc.b, 1, FADD, &t, 0, 0, 0, 0, 0, SIGNALED));

		/* The functions of the other QP write whatever they are told to. */
		uc.bx = ibv_qp_to_qp_ex(uc.b);
		uc.bx->wr_rdma_read = rc.bx->wr_rdma_read;
		uc.bx->wr_atomic_fetch_add = rc.bx->wr_atomic_fetch_add;
		uc.bx->wr_atomic_cmp_swp = rc.bx->wr_atomic_cmp_swp;
		uc.bx->wr_atomic_write = rc.bx->wr_atomic_write;
		uc.bx->wr_flush = rc.bx->wr_flush;
		if (what == ATOMIC_WRITE_8 || what == FLUSH_RANGE || what == FLUSH_MR) {
			post_op(&uc, what, &t, 0, 0);
		} else {
			ibv_wr_start(uc.bx);
			uc.bx->wr_id = 1;
			uc.bx->wr_flags = SIGNALED;
			if (what == READ_8)
				ibv_wr_rdma_read(uc.bx, 0, 0);
			else if (what == OP_FADD)
				ibv_wr_atomic_fetch_add(uc.bx, 0, 0, 1);
			else
				ibv_wr_atomic_cmp_swp(uc.bx, 0, 0, 1, 2);
			ibv_wr_set_sge(uc.bx, t.mr->lkey, (uintptr_t)t.p, 8);
			OK(ibv_wr_complete(uc.bx));
		}
		wc = DONE_WITH(uc.bcq, 1, LOC_QP_OP_ERR);
		/* RURDMA_VENDOR_ERR_OPCODE. */
		EQ(wc.vendor_err, 2);
		OK(ibv_destroy_qp(uc.b));
		OK(ibv_destroy_cq(uc.bcq));
	}
	disconnect(&rc);
}

/* --- how they get on with others --- */

/* A fenced WRITE sends what the atomic before it has fetched. */
static void fence(void)
{
	struct conn c = connect_usual();
	struct buf t = new_buf_access(A.pd, 4096, RIGHTS), r = new_buf(B.pd, 4096);

	for (uint64_t i = 0; i < 200; i++) {
		OK(try_atomic(c.b, 1, FADD, &r, 0, (uintptr_t)t.p, t.mr->rkey, 3, 0, 0));
		rdma_buf(c.b, 2, IBV_WR_RDMA_WRITE, &r, 8, (uintptr_t)t.p + 8, t.mr->rkey,
			 IBV_SEND_FENCE | SIGNALED);
		DONE(c.bcq, 2);
		EQ(value(&t, 0), 3 * (i + 1));
		EQ(value(&t, 8), 3 * i);
	}
	disconnect(&c);
}

/* Whoever sees the word of an ATOMIC WRITE sees what was written and flushed before it. */
static void order(void)
{
	struct conn c = connect_usual();
	struct buf t = new_buf_access(A.pd, 3 * 4096, RIGHTS), r = new_buf(B.pd, 5000);

	for (uint64_t i = 1; i <= 200; i++) {
		long end = now_ms() + SOON;

		fill(r.p, r.len, (uint32_t)i);
		rdma_buf(c.b, 1, IBV_WR_RDMA_WRITE, &r, r.len, (uintptr_t)t.p + 8, t.mr->rkey, 0);
		flush(&c, 2, (uintptr_t)t.p, t.mr->rkey, t.len, GLOBAL, IBV_FLUSH_RANGE);
		atomic_write(&c, 3, (uintptr_t)t.p, t.mr->rkey, i);
		while (value(&t, 0) != i)
			CHECK(now_ms() < end);
		VERIFY(t.p + 8, r.len, (uint32_t)i);
		DONE(c.bcq, 2);
		DONE(c.bcq, 3);
	}
	disconnect(&c);
}

/* More are posted than may be outstanding: each is executed once, in order. */
static void depths(void)
{
	for (uint8_t depth = 1; depth <= 16; depth *= 4) {
		const struct how h = { RIGHTS, depth, depth };
		struct conn c = connect_how(&h);
		struct buf t = new_buf_access(A.pd, 4096, RIGHTS), r = new_buf(B.pd, 4096);

		for (size_t i = 0; i < 100; i++)
			atomic(&c, i, FADD, &r, 8 * i, &t, 0, 1, 0);
		for (size_t i = 0; i < 100; i++) {
			DONE(c.bcq, i);
			EQ(value(&r, 8 * i), i);
		}
		EQ(value(&t, 0), 100);
		disconnect(&c);
	}
}

static size_t adds;
static uint8_t *seen;
static struct buf counter;

/* Every number is fetched once, by whomever. */
static void note(uint64_t original)
{
	CHECK(original < 3 * adds);
	EQ(__atomic_exchange_n(&seen[original], 1, __ATOMIC_RELAXED), 0);
}

static void *add_remotely(void *arg)
{
	enum { WINDOW = 64 };
	struct conn *c = arg;
	struct buf r = new_buf(B.pd, 8 * WINDOW);
	size_t posted = 0;

	for (size_t done = 0; done < adds; done++) {
		for (; posted < adds && posted < done + WINDOW; posted++)
			atomic(c, posted, FADD, &r, 8 * (posted % WINDOW), &counter, 0, 1, 0);
		DONE(c->bcq, done);
		note(value(&r, 8 * (done % WINDOW)));
	}
	return NULL;
}

static void *add_locally(void *arg)
{
	for (size_t i = 0; i < adds; i++)
		note(__atomic_fetch_add((uint64_t *)counter.p, 1, __ATOMIC_SEQ_CST));
	return arg;
}

/* Two QPs and the CPU count together. The CPU, where the device's atomics are the CPU's. */
static void sums(void)
{
	bool cpu = strcmp(args[1] ?: "", "rxe");
	pthread_t threads[3];
	struct conn c[2];

	alarm(300);
	/* 0.5 s, 8 times: the threads leave a slow machine's CPUs to nobody else for long. */
	ack_timeout = 17;
	for (int i = 0; i < 2; i++)
		c[i] = connect_usual();
	adds = strtoull(args[0], NULL, 0);
	seen = calloc(3, adds);
	counter = new_buf_access(A.pd, 8, RIGHTS);
	for (int i = 0; i < 2; i++)
		OK(pthread_create(&threads[i], NULL, add_remotely, &c[i]));
	if (cpu)
		OK(pthread_create(&threads[2], NULL, add_locally, NULL));
	for (int i = 0; i < 2 + cpu; i++)
		OK(pthread_join(threads[i], NULL));
	EQ(value(&counter, 0), (2 + cpu) * adds);
	for (int i = 0; i < 2; i++)
		disconnect(&c[i]);
}

/* --- persistence --- */

/* What is not persistent cannot be made so. */
static void not_persistent(void)
{
	struct buf t = new_buf_access(A.pd, 4096, RIGHTS);

	NULLS(EINVAL, ibv_reg_mr(A.pd, t.p, 4096, RIGHTS | FLUSH_PERSISTENT));
	CHECK(ibv_rereg_mr(t.mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0,
			   RIGHTS | FLUSH_PERSISTENT) != 0);
}

/* args[0] is a device whose memory is; and half of one is not enough. */
static void persistent(void)
{
	const size_t len = 2 << 20;
	const struct how h = { RIGHTS | FLUSH_PERSISTENT, 16, 16 };
	struct conn c = connect_how(&h);
	struct buf t = { .len = len }, r = new_buf(B.pd, 10000);
	int fd = open(args[0], O_RDWR);
	uint8_t *two;

	CHECK(fd >= 0);
	/* Ordinary memory right behind it. */
	two = mmap(NULL, 4 * len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(two != MAP_FAILED);
	two = (uint8_t *)(((uintptr_t)two + len - 1) & -len);
	t.p = mmap(two, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	if (t.p != two)
		FAIL("mmap of %s", args[0]);
	CHECK(mmap(two + len, 4096, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == two + len);
	NULLS(EINVAL, ibv_reg_mr(A.pd, t.p, len + 4096, RIGHTS | FLUSH_PERSISTENT));
	t.mr = ibv_reg_mr(A.pd, t.p, len, RIGHTS | FLUSH_PERSISTENT);
	if (!t.mr)
		FAIL("ibv_reg_mr of %s", args[0]);
	for (int i = 0; i < 20; i++) {
		fill(r.p, r.len, i);
		rdma_buf(c.b, 1, IBV_WR_RDMA_WRITE, &r, r.len, (uintptr_t)t.p + 4000, t.mr->rkey, 0);
		flush(&c, 2, (uintptr_t)t.p, t.mr->rkey, len, PERSISTENT | (i & 1 ? GLOBAL : 0),
		      i & 2 ? IBV_FLUSH_MR : IBV_FLUSH_RANGE);
		atomic_write(&c, 3, (uintptr_t)t.p, t.mr->rkey, i);
		DONE(c.bcq, 2);
		DONE(c.bcq, 3);
		VERIFY(t.p + 4000, r.len, i);
		EQ(value(&t, 0), i);
	}
	disconnect(&c);
	/* The pages are the device's again. */
	OK(ibv_dereg_mr(t.mr));
}

static uint32_t bind_by(struct ibv_qp *qp, uint64_t id, struct ibv_mw *mw, const struct buf *b,
			size_t len)
{
	struct ibv_mw_bind_info info = {
		.mr = b->mr, .addr = (uintptr_t)b->p, .length = len,
		.mw_access_flags = len ? IBV_ACCESS_REMOTE_READ : 0,
	};
	struct ibv_mw_bind one = { .wr_id = id, .send_flags = SIGNALED, .bind_info = info };
	struct ibv_send_wr *bad, two = {
		.wr_id = id, .opcode = IBV_WR_BIND_MW, .send_flags = SIGNALED,
		.bind_mw = { .mw = mw, .rkey = ibv_inc_rkey(mw->rkey), .bind_info = info },
	};

	if (mw->type == IBV_MW_TYPE_2) {
		OK(ibv_post_send(qp, &two, &bad));
		return two.bind_mw.rkey;
	}
	OK(ibv_bind_mw(qp, mw, &one));
	return mw->rkey;
}

/*
 * What B does by itself waits for its turn: before it a READ waits for one that A, who is not there
 * yet, does not answer. Meanwhile A looks through the window over another connection.
 */
static void closes_in_order(enum ibv_mw_type type)
{
	struct conn ask = both_ways(), look = both_ways();
	struct buf t = new_buf(A.pd, 4096), r = new_buf(B.pd, 4096);
	struct buf behind = new_buf_access(B.pd, 4096, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND);
	struct ibv_mw *mw = ibv_alloc_mw(B.pd, type);
	struct ibv_send_wr *bad, inv = {
		.wr_id = 3, .opcode = IBV_WR_LOCAL_INV, .send_flags = SIGNALED,
	};
	uint32_t rkey;

	CHECK(mw);
	to_rts(look.a, &A, &B, look.b, 1, 1);
	to_rts(look.b, &B, &A, look.a, 1, 1);
	rkey = bind_by(look.b, 9, mw, &behind, behind.len);
	DONE(look.bcq, 9);
	/* 2 s, 8 times. */
	ack_timeout = 19;
	to_rts(ask.b, &B, &A, ask.a, 1, 1);
	rdma_buf(ask.b, 1, IBV_WR_RDMA_READ, &r, 8, (uintptr_t)t.p, t.mr->rkey, SIGNALED);
	rdma_buf(ask.b, 2, IBV_WR_RDMA_READ, &r, 8, (uintptr_t)t.p, t.mr->rkey, SIGNALED);
	inv.invalidate_rkey = rkey;
	if (type == IBV_MW_TYPE_2)
		OK(ibv_post_send(ask.b, &inv, &bad));
	else
		bind_by(ask.b, 3, mw, &behind, 0);
	NOTHING(ask.bcq);
	rdma_buf(look.a, 4, IBV_WR_RDMA_READ, &t, 8, (uintptr_t)behind.p, rkey, SIGNALED);
	DONE(look.acq, 4);
	to_rts(ask.a, &A, &B, ask.b, 1, 1);
	DONE(ask.bcq, 1);
	DONE(ask.bcq, 2);
	DONE(ask.bcq, 3);
	rdma_buf(look.a, 5, IBV_WR_RDMA_READ, &t, 8, (uintptr_t)behind.p, rkey, SIGNALED);
	DONE_WITH(look.acq, 5, REM_ACCESS_ERR);
	ack_timeout = 14;
	OK(ibv_dealloc_mw(mw));
	disconnect(&ask);
	disconnect(&look);
}

static void local_in_order(void)
{
	closes_in_order(IBV_MW_TYPE_1);
	closes_in_order(IBV_MW_TYPE_2);
}

static const struct test tests[] = {
	T(device), T(fetch_add), T(cmp_swp), T(atomic_writes), T(flushes), T(rights),
	T(misaligned), T(bad_keys), T(local), T(no_resources), T(other_services), T(fence),
	T(order), T(depths), T(sums), T(not_persistent), T(persistent), T(local_in_order),
};

int main(int argc, char **argv)
{
	return run_roce_test(tests, ARRAY_SIZE(tests), argc, argv);
}
