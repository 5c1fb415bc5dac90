/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * A send queue, as ibv_post_send() (post.c) and ibv_wr_* (wr.c) fill it.
 *
 * Requests are encoded in the ring itself. sq->producer runs ahead while they
 * are built and is published once per call; what fails is simply not published.
 */
#ifndef RURDMA_SQ_H
#define RURDMA_SQ_H

#include <errno.h>

#include "rurdma.h"
#include "wqe.h"

/* Bit of a request in rurdma_qp.ops. */
#define OP(name) (1U << IBV_WR_##name)

/*
 * May requests be posted? On iWARP the connection manager in the kernel moves
 * the QP, and libibverbs' copy of the state stays behind: ask, until it is up.
 */
static inline int check_send_state(struct rurdma_context *ctx, struct ibv_qp *qp)
{
	struct ibv_qp_init_attr init_attr;
	struct ibv_query_qp cmd;
	struct ibv_qp_attr attr;
	int ret;

	if (unlikely(rurdma_doorbell_dead(&ctx->db)))
		return EIO;

	if (likely(qp->state >= IBV_QPS_RTS))
		return 0;

	if (!ctx->iwarp)
		return EINVAL;

	ret = ibv_cmd_query_qp(qp, &attr, IBV_QP_STATE, &init_attr, &cmd,
			       sizeof(cmd));
	if (ret)
		return ret;
	if (attr.qp_state < IBV_QPS_RTS)
		return EINVAL;

	qp->state = attr.qp_state;
	return 0;
}

/*
 * Room for one more request of `units`? max_wr requests fit whatever their
 * size, and both limits are given back as the module publishes its consumer.
 */
static inline bool sq_room_now(const struct rurdma_sq *sq, uint32_t units)
{
	return sq->ends_head - sq->ends_tail < sq->max_wr &&
	       units <= sq->ring.mask + 1 - (sq->producer - sq->consumer);
}

static inline bool sq_room(struct rurdma_sq *sq, uint32_t units)
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
static inline void sq_advance(struct rurdma_sq *sq, struct rurdma_send_wqe *wqe,
			      uint32_t units)
{
	wqe->units = units;
	sq->producer += units;
	sq->ends[sq->ends_head++ & sq->ends_mask] = sq->producer;
}

/* Publish what was built; true if the module must be kicked. */
static inline bool sq_ring(struct rurdma_context *ctx, struct rurdma_qp *qp)
{
	rurdma_ring_publish(&qp->sq.ring, qp->sq.producer);
	rurdma_doorbell_ring(&ctx->db, qp->db_slot);

	return rurdma_doorbell_asleep(&ctx->db) ||
	       (rurdma_ring_flags(&qp->sq.ring) & RURDMA_RING_FLUSH);
}

/* libibverbs' flags in our order; INLINE is set where the data is written. */
static inline uint8_t wqe_flags(const struct rurdma_qp *qp, unsigned int flags)
{
	return (qp->sig_all || (flags & IBV_SEND_SIGNALED) ?
		RURDMA_SEND_SIGNALED : 0) |
	       (flags & IBV_SEND_SOLICITED ? RURDMA_SEND_SOLICITED : 0) |
	       (flags & IBV_SEND_FENCE ? RURDMA_SEND_FENCE : 0);
}

static inline struct rurdma_send_wqe *wqe_begin(struct rurdma_qp *qp, uint64_t wr_id,
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

static inline void *wqe_ext(struct rurdma_send_wqe *wqe)
{
	return wqe + 1;
}

static inline void wqe_set_ud(struct rurdma_send_wqe *wqe, struct ibv_ah *ah,
			      uint32_t qpn, uint32_t qkey)
{
	struct rurdma_ext_ud *ext = wqe_ext(wqe);

	*ext = (struct rurdma_ext_ud){
		.ah_handle = to_rah(ah)->handle,
		.remote_qpn = qpn,
		.remote_qkey = qkey,
	};
}

static inline void wqe_set_atomic(struct rurdma_send_wqe *wqe, uint32_t rkey,
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
static inline int wqe_set_bind(const struct rurdma_qp *qp, struct rurdma_send_wqe *wqe,
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

#endif /* RURDMA_SQ_H */
