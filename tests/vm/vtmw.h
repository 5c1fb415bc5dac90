/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of memory windows (vtmw.c, vtmwuc.c) are written with. */
#ifndef VTMW_H
#define VTMW_H

#include "vt.h"

#define READS IBV_ACCESS_REMOTE_READ
#define WRITES IBV_ACCESS_REMOTE_WRITE
/* What a region needs that windows are bound to; peers have no right to it by itself. */
#define BINDABLE (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND)

static inline struct ibv_mw *new_mw(struct ibv_pd *pd, enum ibv_mw_type type)
{
	struct ibv_mw *mw = ibv_alloc_mw(pd, type);

	if (!mw)
		FAIL("ibv_alloc_mw of type %d", type);
	EQ(mw->type, type);
	return mw;
}

/* Binds to `len` bytes at `addr` of a region; gives the new key. */
static inline int try_bind(struct ibv_qp *qp, uint64_t id, struct ibv_mw *mw, struct ibv_mr *mr,
			   uint64_t addr, uint64_t len, int access, uint32_t *rkey)
{
	struct ibv_mw_bind_info info = {
		.mr = mr, .addr = addr, .length = len, .mw_access_flags = access,
	};
	struct ibv_mw_bind one = { .wr_id = id, .send_flags = SIGNALED, .bind_info = info };
	struct ibv_send_wr *bad, two = {
		.wr_id = id, .opcode = IBV_WR_BIND_MW, .send_flags = SIGNALED,
		.bind_mw = { .mw = mw, .rkey = *rkey, .bind_info = info },
	};
	int ret;

	if (mw->type == IBV_MW_TYPE_2)
		return ibv_post_send(qp, &two, &bad);
	ret = ibv_bind_mw(qp, mw, &one);
	*rkey = mw->rkey;
	return ret;
}

/* Binds to a part of `b`, and gives the new key. */
static inline uint32_t bind_to(struct ibv_qp *qp, struct ibv_cq *cq, struct ibv_mw *mw,
			       const struct buf *b, size_t off, size_t len, int access)
{
	uint32_t before = mw->rkey, rkey = ibv_inc_rkey(mw->rkey);
	struct ibv_wc wc;

	OK(try_bind(qp, 77, mw, b->mr, (uintptr_t)b->p + off, len, access, &rkey));
	wc = DONE(cq, 77);
	EQ(wc.opcode, IBV_WC_BIND_MW);
	CHECK(rkey != before && rkey >> 8 == before >> 8);
	return rkey;
}

static inline int post_inv(struct ibv_qp *qp, uint64_t id, uint32_t rkey)
{
	struct ibv_send_wr *bad, wr = {
		.wr_id = id, .opcode = IBV_WR_LOCAL_INV, .send_flags = SIGNALED, .invalidate_rkey = rkey,
	};

	return ibv_post_send(qp, &wr, &bad);
}

static inline void invalidate(struct ibv_qp *qp, struct ibv_cq *cq, uint32_t rkey)
{
	struct ibv_wc wc;

	OK(post_inv(qp, 8, rkey));
	wc = DONE(cq, 8);
	EQ(wc.opcode, IBV_WC_LOCAL_INV);
}

#endif /* VTMW_H */
