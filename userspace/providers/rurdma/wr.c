// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Posting of work: ibv_post_send() and friends, and the ibv_wr_* interface.
 *
 * Requests are encoded in the ring itself. sq->producer runs ahead while they
 * are built and is published once per call; what fails is simply not published.
 */
#include <errno.h>
#include <stdlib.h>

#include "rurdma.h"
#include "wqe.h"

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

#define OP(name) (1U << IBV_WR_##name)

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

/*
 * May requests be posted? On iWARP the connection manager in the kernel moves
 * the QP, and libibverbs' copy of the state stays behind: ask, until it is up.
 */
static int check_send_state(struct rurdma_context *ctx, struct ibv_qp *qp)
{
	struct ibv_qp_init_attr init_attr;
	struct ibv_query_qp cmd;
	struct ibv_qp_attr attr;

	if (unlikely(rurdma_doorbell_dead(&ctx->db)))
		return EIO;

	if (likely(qp->state >= IBV_QPS_RTS))
		return 0;

	if (!ctx->iwarp ||
	    ibv_cmd_query_qp(qp, &attr, IBV_QP_STATE, &init_attr, &cmd,
			     sizeof(cmd)) ||
	    attr.qp_state < IBV_QPS_RTS)
		return EINVAL;

	qp->state = attr.qp_state;
	return 0;
}

/*
 * Room for one more request of `units`? max_wr requests fit whatever their
 * size, and both limits are given back as the module publishes its consumer.
 */
static bool sq_room_now(const struct rurdma_sq *sq, uint32_t units)
{
	return sq->ends_head - sq->ends_tail < sq->max_wr &&
	       units <= sq->ring.mask + 1 - (sq->producer - sq->consumer);
}

static bool sq_room(struct rurdma_sq *sq, uint32_t units)
{
	if (likely(sq_room_now(sq, units)))
		return true;

	sq->consumer = rurdma_ring_consumer(&sq->ring);
	while (sq->ends_tail != sq->ends_head &&
	       (int32_t)(sq->consumer -
			 sq->ends[sq->ends_tail & sq->ends_mask]) >= 0)
		sq->ends_tail++;

	return sq_room_now(sq, units);
}

/* Close the request at sq->producer. */
static void sq_advance(struct rurdma_sq *sq, struct rurdma_send_wqe *wqe,
		       uint32_t units)
{
	wqe->units = units;
	sq->producer += units;
	sq->ends[sq->ends_head++ & sq->ends_mask] = sq->producer;
}

/* Publish what was built; true if the module must be kicked. */
static bool sq_ring(struct rurdma_context *ctx, struct rurdma_qp *qp)
{
	rurdma_ring_publish(&qp->sq.ring, qp->sq.producer);
	rurdma_doorbell_ring(&ctx->db, qp->db_slot);

	return rurdma_doorbell_asleep(&ctx->db) ||
	       (rurdma_ring_flags(&qp->sq.ring) & RURDMA_RING_FLUSH);
}

/* libibverbs' flags in our order; INLINE is set where the data is written. */
static uint8_t wqe_flags(const struct rurdma_qp *qp, unsigned int flags)
{
	return (qp->sig_all || (flags & IBV_SEND_SIGNALED) ?
		RURDMA_SEND_SIGNALED : 0) |
	       (flags & IBV_SEND_SOLICITED ? RURDMA_SEND_SOLICITED : 0) |
	       (flags & IBV_SEND_FENCE ? RURDMA_SEND_FENCE : 0);
}

static struct rurdma_send_wqe *wqe_begin(struct rurdma_qp *qp, uint64_t wr_id,
					 uint8_t opcode, unsigned int flags)
{
	struct rurdma_sq *sq = &qp->sq;
	struct rurdma_send_wqe *wqe;

	wqe = rurdma_wqe_at(&sq->ring, sq->producer, 0);
	wqe->wr_id = wr_id;
	wqe->opcode = opcode;
	wqe->flags = wqe_flags(qp, flags);
	wqe->num_sge = 0;
	wqe->units = 1;
	wqe->imm_inv = 0;
	wqe->remote_addr = 0;
	wqe->rkey = 0;
	wqe->inline_len = 0;
	return wqe;
}

static void *wqe_ext(struct rurdma_send_wqe *wqe)
{
	return wqe + 1;
}

static void wqe_set_ud(struct rurdma_send_wqe *wqe, struct ibv_ah *ah,
		       uint32_t qpn, uint32_t qkey)
{
	struct rurdma_ext_ud *ext = wqe_ext(wqe);

	*ext = (struct rurdma_ext_ud){
		.ah_handle = to_rah(ah)->handle,
		.remote_qpn = qpn,
		.remote_qkey = qkey,
	};
}

static void wqe_set_atomic(struct rurdma_send_wqe *wqe, uint32_t rkey,
			   uint64_t remote_addr, uint64_t compare_add,
			   uint64_t swap)
{
	struct rurdma_ext_atomic *ext = wqe_ext(wqe);

	wqe->remote_addr = remote_addr;
	wqe->rkey = rkey;
	*ext = (struct rurdma_ext_atomic){
		.compare_add = compare_add,
		.swap = swap,
	};
}

/* The window's present key goes where a remote key would. */
static int wqe_set_bind(const struct rurdma_qp *qp, struct rurdma_send_wqe *wqe,
			const struct ibv_mw *mw, uint32_t new_rkey,
			const struct ibv_mw_bind_info *info)
{
	struct rurdma_ext_bind *ext = wqe_ext(wqe);

	if (info->length && !info->mr)
		return EINVAL;
	/* A parent domain has the handle of the PD that it was made from. */
	if (mw->pd->handle != qp->vqp.qp.pd->handle ||
	    (info->mr && info->mr->pd->handle != mw->pd->handle))
		return EPERM;

	wqe->rkey = mw->rkey;
	*ext = (struct rurdma_ext_bind){
		.addr = info->addr,
		.length = info->length,
		.mr_lkey = info->mr ? info->mr->lkey : 0,
		.access = info->mw_access_flags,
		.new_rkey = new_rkey,
	};
	return 0;
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

/*
 * ibv_wr_*: builders start a request and close the one before, setters fill it
 * in. The lock is held from wr_start to wr_complete or wr_abort. After the
 * first error all is ignored until wr_complete reports it.
 */
static void wr_start(struct ibv_qp_ex *ibqp)
{
	struct rurdma_qp *qp = ex_to_rqp(ibqp);

	rurdma_lock(&qp->sq.lock);
	qp->start_producer = qp->sq.producer;
	qp->start_head = qp->sq.ends_head;
	qp->wqe = NULL;
	qp->wr_err = check_send_state(to_rctx(ibqp->qp_base.context),
				      &ibqp->qp_base);
}

static void wr_close(struct rurdma_qp *qp)
{
	if (qp->wqe)
		sq_advance(&qp->sq, qp->wqe, qp->wqe_units);
	qp->wqe = NULL;
}

static void wr_rollback(struct rurdma_qp *qp)
{
	qp->sq.producer = qp->start_producer;
	qp->sq.ends_head = qp->start_head;
	qp->wqe = NULL;
}

static void wr_abort(struct ibv_qp_ex *ibqp)
{
	struct rurdma_qp *qp = ex_to_rqp(ibqp);

	wr_rollback(qp);
	rurdma_unlock(&qp->sq.lock);
}

static int wr_complete(struct ibv_qp_ex *ibqp)
{
	struct rurdma_context *ctx = to_rctx(ibqp->qp_base.context);
	struct rurdma_qp *qp = ex_to_rqp(ibqp);
	bool kick = false;
	int ret;

	ret = qp->wr_err;
	if (unlikely(ret)) {
		wr_rollback(qp);
	} else {
		wr_close(qp);
		if (qp->sq.producer != qp->start_producer)
			kick = sq_ring(ctx, qp);
	}
	rurdma_unlock(&qp->sq.lock);

	return kick ? rurdma_kick(ctx, &qp->vqp.qp) : ret;
}

static struct rurdma_send_wqe *wr_begin(struct ibv_qp_ex *ibqp, uint8_t opcode)
{
	struct rurdma_qp *qp = ex_to_rqp(ibqp);

	if (unlikely(qp->wr_err))
		return NULL;

	wr_close(qp);

	/* Setters that need more units ask again. */
	if (unlikely(!sq_room(&qp->sq, 1))) {
		qp->wr_err = ENOMEM;
		return NULL;
	}

	qp->wqe_units = 1;
	qp->wqe = wqe_begin(qp, ibqp->wr_id, opcode, ibqp->wr_flags);
	return qp->wqe;
}

static void wr_send(struct ibv_qp_ex *qp)
{
	wr_begin(qp, RURDMA_OP_SEND);
}

static void wr_send_imm(struct ibv_qp_ex *qp, __be32 imm)
{
	struct rurdma_send_wqe *wqe = wr_begin(qp, RURDMA_OP_SEND_IMM);

	if (wqe)
		wqe->imm_inv = (__force uint32_t)imm;
}

static void wr_send_inv(struct ibv_qp_ex *qp, uint32_t rkey)
{
	struct rurdma_send_wqe *wqe = wr_begin(qp, RURDMA_OP_SEND_INV);

	if (wqe)
		wqe->imm_inv = rkey;
}

static struct rurdma_send_wqe *wr_remote(struct ibv_qp_ex *qp, uint8_t opcode,
					 uint32_t rkey, uint64_t addr)
{
	struct rurdma_send_wqe *wqe = wr_begin(qp, opcode);

	if (wqe) {
		wqe->remote_addr = addr;
		wqe->rkey = rkey;
	}
	return wqe;
}

static void wr_rdma_write(struct ibv_qp_ex *qp, uint32_t rkey, uint64_t addr)
{
	wr_remote(qp, RURDMA_OP_WRITE, rkey, addr);
}

static void wr_rdma_write_imm(struct ibv_qp_ex *qp, uint32_t rkey,
			      uint64_t addr, __be32 imm)
{
	struct rurdma_send_wqe *wqe;

	wqe = wr_remote(qp, RURDMA_OP_WRITE_IMM, rkey, addr);
	if (wqe)
		wqe->imm_inv = (__force uint32_t)imm;
}

static void wr_rdma_read(struct ibv_qp_ex *qp, uint32_t rkey, uint64_t addr)
{
	wr_remote(qp, RURDMA_OP_READ, rkey, addr);
}

static void wr_atomic_cmp_swp(struct ibv_qp_ex *qp, uint32_t rkey,
			      uint64_t addr, uint64_t compare, uint64_t swap)
{
	struct rurdma_send_wqe *wqe = wr_begin(qp, RURDMA_OP_CMP_SWP);

	if (wqe)
		wqe_set_atomic(wqe, rkey, addr, compare, swap);
}

static void wr_atomic_fetch_add(struct ibv_qp_ex *qp, uint32_t rkey,
				uint64_t addr, uint64_t add)
{
	struct rurdma_send_wqe *wqe = wr_begin(qp, RURDMA_OP_FETCH_ADD);

	if (wqe)
		wqe_set_atomic(wqe, rkey, addr, add, 0);
}

static void wr_local_inv(struct ibv_qp_ex *qp, uint32_t rkey)
{
	struct rurdma_send_wqe *wqe = wr_begin(qp, RURDMA_OP_LOCAL_INV);

	if (wqe)
		wqe->imm_inv = rkey;
}

static void wr_bind_mw(struct ibv_qp_ex *ibqp, struct ibv_mw *mw, uint32_t rkey,
		       const struct ibv_mw_bind_info *info)
{
	struct rurdma_send_wqe *wqe = wr_begin(ibqp, RURDMA_OP_BIND_MW);
	struct rurdma_qp *qp = ex_to_rqp(ibqp);

	if (!wqe)
		return;
	if (mw->type != IBV_MW_TYPE_2)
		qp->wr_err = EINVAL;
	else
		qp->wr_err = wqe_set_bind(qp, wqe, mw, rkey, info);
}

static void wr_atomic_write(struct ibv_qp_ex *ibqp, uint32_t rkey,
			    uint64_t addr, const void *data)
{
	struct rurdma_qp *qp = ex_to_rqp(ibqp);
	struct rurdma_send_wqe *wqe;

	wqe = wr_remote(ibqp, RURDMA_OP_ATOMIC_WRITE, rkey, addr);
	if (!wqe)
		return;
	wqe->flags |= RURDMA_SEND_INLINE;
	wqe->inline_len = sizeof(uint64_t);
	rurdma_wqe_copy(&qp->sq.ring, qp->sq.producer, RURDMA_SEND_HDR, data,
			sizeof(uint64_t));
}

static void wr_flush(struct ibv_qp_ex *qp, uint32_t rkey, uint64_t addr,
		     size_t length, uint8_t type, uint8_t level)
{
	struct rurdma_send_wqe *wqe;
	struct rurdma_ext_flush *ext;

	wqe = wr_remote(qp, RURDMA_OP_FLUSH, rkey, addr);
	if (!wqe)
		return;
	ext = wqe_ext(wqe);
	*ext = (struct rurdma_ext_flush){
		.length = length,
		.type = type,
		.level = level,
	};
}

static void wr_set_ud_addr(struct ibv_qp_ex *ibqp, struct ibv_ah *ah,
			   uint32_t qpn, uint32_t qkey)
{
	struct rurdma_qp *qp = ex_to_rqp(ibqp);

	if (likely(qp->wqe && !qp->wr_err))
		wqe_set_ud(qp->wqe, ah, qpn, qkey);
}

/*
 * Where the data of the current request begins, or 0 if it cannot have `bytes`
 * of it.
 */
static uint32_t wr_data(struct rurdma_qp *qp, uint32_t bytes, bool inl)
{
	struct rurdma_send_wqe *wqe = qp->wqe;
	uint32_t off = RURDMA_SEND_HDR;

	if (unlikely(!wqe || qp->wr_err))
		return 0;

	switch (wqe->opcode) {
	case RURDMA_OP_CMP_SWP:
	case RURDMA_OP_FETCH_ADD:
		off += RURDMA_SEND_EXT;
		SWITCH_FALLTHROUGH;
	case RURDMA_OP_READ:
		if (inl)
			goto invalid;
		break;
	case RURDMA_OP_LOCAL_INV:
	case RURDMA_OP_BIND_MW:
	case RURDMA_OP_FLUSH:
	case RURDMA_OP_ATOMIC_WRITE:
		goto invalid;
	default:
		if (qp->ud)
			off += RURDMA_SEND_EXT;
		break;
	}

	qp->wqe_units = rurdma_wqe_units(off + bytes);
	if (unlikely(!sq_room(&qp->sq, qp->wqe_units))) {
		qp->wr_err = ENOMEM;
		return 0;
	}
	return off;

invalid:
	qp->wr_err = EINVAL;
	return 0;
}

static void wr_set_sge_list(struct ibv_qp_ex *ibqp, size_t num,
			    const struct ibv_sge *list)
{
	struct rurdma_qp *qp = ex_to_rqp(ibqp);
	uint32_t off;
	size_t i;

	if (unlikely(num > qp->sq.max_sge)) {
		if (!qp->wr_err)
			qp->wr_err = EINVAL;
		return;
	}

	off = wr_data(qp, num * RURDMA_SGE_SIZE, false);
	if (!off)
		return;

	qp->wqe->num_sge = num;
	for (i = 0; i < num; i++)
		rurdma_wqe_sge(&qp->sq.ring, qp->sq.producer,
			       off + i * RURDMA_SGE_SIZE, list[i].addr,
			       list[i].length, list[i].lkey);
}

static void wr_set_sge(struct ibv_qp_ex *qp, uint32_t lkey, uint64_t addr,
		       uint32_t length)
{
	struct ibv_sge sge = {
		.addr = addr,
		.length = length,
		.lkey = lkey,
	};

	wr_set_sge_list(qp, 1, &sge);
}

static void wr_set_inline_data_list(struct ibv_qp_ex *ibqp, size_t num,
				    const struct ibv_data_buf *list)
{
	struct rurdma_qp *qp = ex_to_rqp(ibqp);
	uint32_t max = qp->sq.max_inline;
	uint32_t off, total = 0;
	size_t i;

	for (i = 0; i < num; i++) {
		if (unlikely(list[i].length > max - total)) {
			if (!qp->wr_err)
				qp->wr_err = EINVAL;
			return;
		}
		total += list[i].length;
	}

	off = wr_data(qp, total, true);
	if (!off)
		return;

	qp->wqe->flags |= RURDMA_SEND_INLINE;
	qp->wqe->inline_len = total;
	for (i = 0; i < num; i++) {
		rurdma_wqe_copy(&qp->sq.ring, qp->sq.producer, off,
				list[i].addr, list[i].length);
		off += list[i].length;
	}
}

static void wr_set_inline_data(struct ibv_qp_ex *qp, void *addr, size_t length)
{
	struct ibv_data_buf buf = {
		.addr = addr,
		.length = length,
	};

	wr_set_inline_data_list(qp, 1, &buf);
}

/* Which request each flag of ibv_qp_init_attr_ex.send_ops_flags stands for. */
static const struct {
	uint64_t flag;
	uint32_t op;
} wr_ops[] = {
	{ IBV_QP_EX_WITH_RDMA_WRITE, OP(RDMA_WRITE) },
	{ IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM, OP(RDMA_WRITE_WITH_IMM) },
	{ IBV_QP_EX_WITH_SEND, OP(SEND) },
	{ IBV_QP_EX_WITH_SEND_WITH_IMM, OP(SEND_WITH_IMM) },
	{ IBV_QP_EX_WITH_RDMA_READ, OP(RDMA_READ) },
	{ IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP, OP(ATOMIC_CMP_AND_SWP) },
	{ IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD, OP(ATOMIC_FETCH_AND_ADD) },
	{ IBV_QP_EX_WITH_LOCAL_INV, OP(LOCAL_INV) },
	{ IBV_QP_EX_WITH_BIND_MW, OP(BIND_MW) },
	{ IBV_QP_EX_WITH_SEND_WITH_INV, OP(SEND_WITH_INV) },
	{ IBV_QP_EX_WITH_FLUSH, OP(FLUSH) },
	{ IBV_QP_EX_WITH_ATOMIC_WRITE, OP(ATOMIC_WRITE) },
};

/* EOPNOTSUPP if a flag names what this QP cannot do. */
int rurdma_set_wr_ops(struct rurdma_qp *qp, uint64_t send_ops)
{
	struct ibv_qp_ex *ex = &qp->vqp.qp_ex;
	uint64_t supported = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(wr_ops); i++)
		if (qp->ops & wr_ops[i].op)
			supported |= wr_ops[i].flag;

	if (send_ops & ~supported)
		return EOPNOTSUPP;

	ex->wr_start = wr_start;
	ex->wr_complete = wr_complete;
	ex->wr_abort = wr_abort;
	ex->wr_set_sge = wr_set_sge;
	ex->wr_set_sge_list = wr_set_sge_list;
	ex->wr_set_inline_data = wr_set_inline_data;
	ex->wr_set_inline_data_list = wr_set_inline_data_list;
	if (qp->ud)
		ex->wr_set_ud_addr = wr_set_ud_addr;

	if (send_ops & IBV_QP_EX_WITH_RDMA_WRITE)
		ex->wr_rdma_write = wr_rdma_write;
	if (send_ops & IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM)
		ex->wr_rdma_write_imm = wr_rdma_write_imm;
	if (send_ops & IBV_QP_EX_WITH_SEND)
		ex->wr_send = wr_send;
	if (send_ops & IBV_QP_EX_WITH_SEND_WITH_IMM)
		ex->wr_send_imm = wr_send_imm;
	if (send_ops & IBV_QP_EX_WITH_RDMA_READ)
		ex->wr_rdma_read = wr_rdma_read;
	if (send_ops & IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP)
		ex->wr_atomic_cmp_swp = wr_atomic_cmp_swp;
	if (send_ops & IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD)
		ex->wr_atomic_fetch_add = wr_atomic_fetch_add;
	if (send_ops & IBV_QP_EX_WITH_LOCAL_INV)
		ex->wr_local_inv = wr_local_inv;
	if (send_ops & IBV_QP_EX_WITH_BIND_MW)
		ex->wr_bind_mw = wr_bind_mw;
	if (send_ops & IBV_QP_EX_WITH_SEND_WITH_INV)
		ex->wr_send_inv = wr_send_inv;
	if (send_ops & IBV_QP_EX_WITH_FLUSH)
		ex->wr_flush = wr_flush;
	if (send_ops & IBV_QP_EX_WITH_ATOMIC_WRITE)
		ex->wr_atomic_write = wr_atomic_write;

	return 0;
}
