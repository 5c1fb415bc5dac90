// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Posting of work by ibv_post_send() and friends, and what may be posted where.
 */
#include "sq.h"

enum op_flags {
	OP_REMOTE	= 1 << 0,	/* remote address and key */
	OP_EXT		= 1 << 1,	/* has an extension */
	OP_ATOMIC	= 1 << 2,	/* exactly one SGE for the old value */
	OP_NO_INLINE	= 1 << 3,
	OP_NO_DATA	= 1 << 4,
	OP_READ		= 1 << 5,
};

struct op_info {
	uint8_t opcode;		/* enum rurdma_send_opcode */
	uint8_t flags;
};

static const struct op_info op_table[] = {
	[IBV_WR_RDMA_WRITE] = { RURDMA_OP_WRITE, OP_REMOTE },
	[IBV_WR_RDMA_WRITE_WITH_IMM] = { RURDMA_OP_WRITE_IMM, OP_REMOTE },
	[IBV_WR_SEND] = { RURDMA_OP_SEND, 0 },
	[IBV_WR_SEND_WITH_IMM] = { RURDMA_OP_SEND_IMM, 0 },
	[IBV_WR_RDMA_READ] = { RURDMA_OP_READ,
			       OP_REMOTE | OP_NO_INLINE | OP_READ },
	[IBV_WR_ATOMIC_CMP_AND_SWP] = { RURDMA_OP_CMP_SWP,
					OP_EXT | OP_ATOMIC | OP_NO_INLINE },
	[IBV_WR_ATOMIC_FETCH_AND_ADD] = { RURDMA_OP_FETCH_ADD,
					  OP_EXT | OP_ATOMIC | OP_NO_INLINE },
	[IBV_WR_LOCAL_INV] = { RURDMA_OP_LOCAL_INV, OP_NO_DATA },
	[IBV_WR_BIND_MW] = { RURDMA_OP_BIND_MW, OP_EXT | OP_NO_DATA },
	[IBV_WR_SEND_WITH_INV] = { RURDMA_OP_SEND_INV, 0 },
	[IBV_WR_FLUSH] = { RURDMA_OP_FLUSH, OP_EXT | OP_NO_DATA },
	[IBV_WR_ATOMIC_WRITE] = { RURDMA_OP_ATOMIC_WRITE, OP_REMOTE },
};

#define OPS_UD (OP(SEND) | OP(SEND_WITH_IMM))
#define OPS_UC                                                                 \
	(OPS_UD | OP(RDMA_WRITE) | OP(RDMA_WRITE_WITH_IMM) | OP(LOCAL_INV) |   \
	 OP(BIND_MW))
#define OPS_RC                                                                 \
	(OPS_UC | OP(SEND_WITH_INV) | OP(RDMA_READ) |                          \
	 OP(ATOMIC_CMP_AND_SWP) | OP(ATOMIC_FETCH_AND_ADD))
#define OPS_IMM_ATOMIC                                                         \
	(OP(SEND_WITH_IMM) | OP(RDMA_WRITE_WITH_IMM) |                         \
	 OP(ATOMIC_CMP_AND_SWP) | OP(ATOMIC_FETCH_AND_ADD))

/* Bits of device_cap_flags_ex that libibverbs' headers do not name. */
#define DEVICE_FLUSH		(UINT64_C(3) << 38)
#define DEVICE_ATOMIC_WRITE	(UINT64_C(1) << 40)

/* Zero for types of QP that do not exist here. */
uint32_t rurdma_ops_of_type(const struct rurdma_context *ctx,
			    enum ibv_qp_type type)
{
	uint32_t ops;

	/*
	 * Immediate data is a message of its own on iWARP, with a receive of
	 * its own: it can follow a WRITE, but not be part of a SEND.
	 */
	if (ctx->iwarp) {
		if (type != IBV_QPT_RC)
			return 0;
		ops = OPS_RC & ~OP(SEND_WITH_IMM);
		if (!(ctx->caps & RURDMA_CAP_ATOMIC_IMM))
			ops &= ~OPS_IMM_ATOMIC;
		return ops;
	}

	switch (type) {
	case IBV_QPT_RC:
		ops = OPS_RC;
		if (ctx->device_caps & DEVICE_FLUSH)
			ops |= OP(FLUSH);
		if (ctx->device_caps & DEVICE_ATOMIC_WRITE)
			ops |= OP(ATOMIC_WRITE);
		return ops;
	case IBV_QPT_UC:
		return OPS_UC;
	case IBV_QPT_UD:
		return OPS_UD;
	default:
		return 0;
	}
}

static uint32_t inline_bytes(size_t num, const struct ibv_sge *sge)
{
	uint64_t total = 0;

	while (num--)
		total += sge++->length;
	return total > UINT32_MAX ? UINT32_MAX : total;
}

/* Encode one request at sq->producer. */
static int build_wr(const struct rurdma_context *ctx, struct rurdma_qp *qp,
		    const struct ibv_send_wr *wr)
{
	bool inl = wr->send_flags & IBV_SEND_INLINE;
	struct rurdma_sq *sq = &qp->sq;
	const struct op_info *op;
	struct rurdma_send_wqe *wqe;
	uint32_t bytes, length = 0, units, off;
	int i, ret;

	if (unlikely((unsigned int)wr->opcode >= ARRAY_SIZE(op_table) ||
		     !(qp->ops & (1U << wr->opcode)))) {
		if ((unsigned int)wr->opcode < ARRAY_SIZE(op_table) &&
		    ctx->iwarp && (OPS_IMM_ATOMIC & (1U << wr->opcode)))
			return EOPNOTSUPP;
		return EINVAL;
	}
	op = &op_table[wr->opcode];

	if (unlikely(wr->num_sge < 0 || (uint32_t)wr->num_sge > sq->max_sge ||
		     wr->send_flags & ~(IBV_SEND_FENCE | IBV_SEND_SIGNALED |
					IBV_SEND_SOLICITED | IBV_SEND_INLINE)))
		return EINVAL;

	if (unlikely(op->flags)) {
		if (inl && (op->flags & OP_NO_INLINE))
			return EINVAL;
		if ((op->flags & OP_ATOMIC) && wr->num_sge != 1)
			return EINVAL;
		if ((op->flags & OP_READ) && ctx->max_sge_rd &&
		    (uint32_t)wr->num_sge > ctx->max_sge_rd)
			return EINVAL;
		/* There is no member of ibv_send_wr to describe a flush. */
		if (op->opcode == RURDMA_OP_FLUSH)
			return EOPNOTSUPP;
	}

	off = RURDMA_SEND_HDR;
	if (qp->ud || (op->flags & OP_EXT))
		off += RURDMA_SEND_EXT;

	if (op->flags & OP_NO_DATA) {
		bytes = 0;
	} else if (inl) {
		length = inline_bytes(wr->num_sge, wr->sg_list);
		if (unlikely(length > sq->max_inline))
			return EINVAL;
		bytes = length;
	} else {
		bytes = wr->num_sge * RURDMA_SGE_SIZE;
	}
	units = rurdma_wqe_units(off + bytes);

	if (unlikely(!sq_room(sq, units)))
		return ENOMEM;

	wqe = wqe_begin(qp, wr->wr_id, op->opcode, wr->send_flags);

	switch (wr->opcode) {
	case IBV_WR_SEND_WITH_IMM:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
	case IBV_WR_SEND_WITH_INV:
	case IBV_WR_LOCAL_INV:
		wqe->imm_inv = wr->invalidate_rkey;
		break;
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		wqe_set_atomic(wqe, wr->wr.atomic.rkey,
			       wr->wr.atomic.remote_addr,
			       wr->wr.atomic.compare_add, wr->wr.atomic.swap);
		break;
	case IBV_WR_BIND_MW:
		if (wr->bind_mw.mw->type != IBV_MW_TYPE_2)
			return EINVAL;
		ret = wqe_set_bind(qp, wqe, wr->bind_mw.mw, wr->bind_mw.rkey,
				   &wr->bind_mw.bind_info);
		if (ret)
			return ret;
		break;
	default:
		break;
	}

	if (op->flags & OP_REMOTE) {
		wqe->remote_addr = wr->wr.rdma.remote_addr;
		wqe->rkey = wr->wr.rdma.rkey;
	}

	if (qp->ud) {
		if (unlikely(!wr->wr.ud.ah))
			return EINVAL;
		wqe_set_ud(wqe, wr->wr.ud.ah, wr->wr.ud.remote_qpn,
			   wr->wr.ud.remote_qkey);
	}

	if (op->flags & OP_NO_DATA) {
		/* nothing follows */
	} else if (inl) {
		wqe->flags |= RURDMA_SEND_INLINE;
		wqe->inline_len = length;
		for (i = 0; i < wr->num_sge; i++) {
			rurdma_wqe_copy(&sq->ring, sq->producer, off,
					(void *)(uintptr_t)wr->sg_list[i].addr,
					wr->sg_list[i].length);
			off += wr->sg_list[i].length;
		}
	} else {
		wqe->num_sge = wr->num_sge;
		for (i = 0; i < wr->num_sge; i++) {
			rurdma_wqe_sge(&sq->ring, sq->producer, off,
				       wr->sg_list[i].addr,
				       wr->sg_list[i].length,
				       wr->sg_list[i].lkey);
			off += RURDMA_SGE_SIZE;
		}
	}

	sq_advance(sq, wqe, units);
	return 0;
}

int rurdma_post_send(struct ibv_qp *ibqp, struct ibv_send_wr *wr,
		     struct ibv_send_wr **bad_wr)
{
	struct rurdma_context *ctx = to_rctx(ibqp->context);
	struct rurdma_qp *qp = to_rqp(ibqp);
	struct ibv_send_wr *first = wr;
	struct rurdma_sq *sq = &qp->sq;
	bool kick = false;
	uint32_t start;
	int ret, err;

	rurdma_lock(&sq->lock);

	start = sq->producer;
	ret = check_send_state(ctx, ibqp);
	if (unlikely(ret)) {
		*bad_wr = wr;
	} else {
		for (; wr; wr = wr->next) {
			ret = build_wr(ctx, qp, wr);
			if (unlikely(ret)) {
				*bad_wr = wr;
				break;
			}
		}
	}

	if (sq->producer != start)
		kick = sq_ring(ctx, qp);

	rurdma_unlock(&sq->lock);

	if (kick) {
		err = rurdma_kick(ctx, ibqp);
		if (unlikely(err && !ret)) {
			*bad_wr = first;
			ret = err;
		}
	}
	return ret;
}

int rurdma_post_recv(struct ibv_qp *ibqp, struct ibv_recv_wr *wr,
		     struct ibv_recv_wr **bad_wr)
{
	struct rurdma_context *ctx = to_rctx(ibqp->context);
	struct rurdma_qp *qp = to_rqp(ibqp);
	struct ibv_recv_wr *first = wr;
	struct rurdma_rq *rq = &qp->rq;
	bool kick = false;
	uint32_t start;
	int ret = 0, err;

	if (unlikely(rurdma_doorbell_dead(&ctx->db))) {
		*bad_wr = wr;
		return EIO;
	}

	/* An iWARP QP is born in INIT, whatever libibverbs remembers. */
	if (unlikely(!qp->has_rq ||
		     (ibqp->state == IBV_QPS_RESET && !ctx->iwarp))) {
		*bad_wr = wr;
		return EINVAL;
	}

	rurdma_lock(&rq->lock);

	start = rq->producer;
	for (; wr; wr = wr->next) {
		ret = rurdma_rq_push(rq, wr);
		if (unlikely(ret)) {
			*bad_wr = wr;
			break;
		}
	}

	if (rq->producer != start) {
		rurdma_ring_publish(&rq->ring, rq->producer);
		/* Either we see the flag, or the module's flush sees these. */
		rurdma_full_fence();
		if (unlikely(rurdma_ring_flags(&rq->ring) &
			     RURDMA_RING_FLUSH)) {
			rurdma_doorbell_ring(&ctx->db, qp->db_slot);
			kick = true;
		}
	}

	rurdma_unlock(&rq->lock);

	if (kick) {
		err = rurdma_kick(ctx, ibqp);
		if (unlikely(err && !ret)) {
			*bad_wr = first;
			ret = err;
		}
	}
	return ret;
}

/* Type 1 windows: the new key is made here, and is the window's on success. */
int rurdma_bind_mw(struct ibv_qp *ibqp, struct ibv_mw *mw,
		   struct ibv_mw_bind *bind)
{
	struct rurdma_context *ctx = to_rctx(ibqp->context);
	uint32_t new_rkey = ibv_inc_rkey(mw->rkey);
	struct rurdma_qp *qp = to_rqp(ibqp);
	struct rurdma_sq *sq = &qp->sq;
	struct rurdma_send_wqe *wqe;
	bool kick = false;
	int ret;

	if (!(qp->ops & OP(BIND_MW)))
		return EINVAL;
	if (bind->send_flags & IBV_SEND_INLINE)
		return EINVAL;

	rurdma_lock(&sq->lock);

	ret = check_send_state(ctx, ibqp);
	if (ret)
		goto out;
	if (!sq_room(sq, 1)) {
		ret = ENOMEM;
		goto out;
	}

	wqe = wqe_begin(qp, bind->wr_id, RURDMA_OP_BIND_MW, bind->send_flags);
	ret = wqe_set_bind(qp, wqe, mw, new_rkey, &bind->bind_info);
	if (ret)
		goto out;

	sq_advance(sq, wqe, 1);
	mw->rkey = new_rkey;
	kick = sq_ring(ctx, qp);
out:
	rurdma_unlock(&sq->lock);

	return kick ? rurdma_kick(ctx, ibqp) : ret;
}
