// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Receive queues, a QP's own and shared ones.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "rurdma.h"

int rurdma_rq_init(struct rurdma_context *ctx, struct rurdma_rq *rq,
		   uint64_t off, uint64_t len, uint32_t depth, uint32_t stride,
		   uint32_t max_wr, uint32_t max_sge, bool lock)
{
	int ret;

	if (max_wr > depth || max_sge > RURDMA_MAX_SGE ||
	    stride < RURDMA_RECV_HDR + max_sge * RURDMA_SGE_SIZE)
		return EPROTO;

	ret = rurdma_map_ring(ctx, &rq->ring, off, len, depth, stride);
	if (ret)
		return ret;

	rq->max_wr = max_wr;
	rq->max_sge = max_sge;
	rq->consumer = rurdma_ring_consumer(&rq->ring);
	rq->producer = rq->consumer;
	rurdma_lock_init(&rq->lock, lock);
	return 0;
}

void rurdma_rq_fini(struct rurdma_rq *rq)
{
	rurdma_unmap_ring(&rq->ring);
	rurdma_lock_destroy(&rq->lock);
}

/* Write one entry; the caller publishes it. Call with the lock held. */
int rurdma_rq_push(struct rurdma_rq *rq, const struct ibv_recv_wr *wr)
{
	struct rurdma_recv_wqe *wqe;
	struct rurdma_sge *sge;
	int i;

	if (unlikely(wr->num_sge < 0 || (uint32_t)wr->num_sge > rq->max_sge))
		return EINVAL;

	if (unlikely(rq->producer - rq->consumer >= rq->max_wr)) {
		rq->consumer = rurdma_ring_consumer(&rq->ring);
		if (rq->producer - rq->consumer >= rq->max_wr)
			return ENOMEM;
	}

	wqe = rurdma_ring_entry(&rq->ring, rq->producer);
	wqe->wr_id = wr->wr_id;
	wqe->num_sge = wr->num_sge;
	wqe->reserved = 0;

	sge = (struct rurdma_sge *)((uint8_t *)wqe + RURDMA_RECV_HDR);
	for (i = 0; i < wr->num_sge; i++) {
		sge[i].addr = wr->sg_list[i].addr;
		sge[i].length = wr->sg_list[i].length;
		sge[i].lkey = wr->sg_list[i].lkey;
	}

	rq->producer++;
	return 0;
}

struct ibv_srq *rurdma_create_srq(struct ibv_pd *pd,
				  struct ibv_srq_init_attr *attr)
{
	struct rurdma_context *ctx = to_rctx(pd->context);
	struct rurdma_cmd_create_srq_resp resp = {};
	struct ibv_create_srq cmd = {};
	struct rurdma_srq *srq;
	int ret;

	srq = calloc(1, sizeof(*srq));
	if (!srq)
		return NULL;

	ret = ibv_cmd_create_srq(pd, &srq->vsrq.srq, attr, &cmd, sizeof(cmd),
				 &resp.ibv_resp, sizeof(resp));
	if (ret)
		goto err_free;

	/* By name: the core's part of the response has the same members. */
	ret = rurdma_rq_init(ctx, &srq->rq, resp.drv_payload.ring_off,
			     resp.drv_payload.ring_len, resp.drv_payload.depth,
			     resp.drv_payload.stride, resp.drv_payload.max_wr,
			     resp.drv_payload.max_sge, rurdma_pd_needs_lock(pd));
	if (ret)
		goto err_destroy;

	srq->vsrq.srq_type = IBV_SRQT_BASIC;
	srq->vsrq.srq_num = resp.drv_payload.srqn;
	attr->attr.max_wr = srq->rq.max_wr;
	attr->attr.max_sge = srq->rq.max_sge;
	return &srq->vsrq.srq;

err_destroy:
	ibv_cmd_destroy_srq(&srq->vsrq.srq);
err_free:
	free(srq);
	errno = ret;
	return NULL;
}

struct ibv_srq *rurdma_create_srq_ex(struct ibv_context *ctx,
				     struct ibv_srq_init_attr_ex *attr)
{
	struct ibv_srq_init_attr basic = {
		.srq_context = attr->srq_context,
		.attr = attr->attr,
	};
	struct ibv_srq *srq;

	if (!check_comp_mask(attr->comp_mask, IBV_SRQ_INIT_ATTR_TYPE |
					      IBV_SRQ_INIT_ATTR_PD) ||
	    ((attr->comp_mask & IBV_SRQ_INIT_ATTR_TYPE) &&
	     attr->srq_type != IBV_SRQT_BASIC)) {
		errno = EOPNOTSUPP;
		return NULL;
	}

	if (!(attr->comp_mask & IBV_SRQ_INIT_ATTR_PD)) {
		errno = EINVAL;
		return NULL;
	}

	srq = rurdma_create_srq(attr->pd, &basic);
	if (srq)
		attr->attr = basic.attr;
	return srq;
}

/*
 * The module moves the queue to a new ring, with the requests that are
 * outstanding and with both indices, and takes from that from then on. Nobody
 * may post meanwhile, hence the lock around the command.
 *
 * By the time the module tells where the new ring is, it has left the old one.
 * So the addresses are reserved first: what could fail does so before that.
 */
static int resize_srq(struct rurdma_srq *srq, struct ibv_srq_attr *attr,
		      int mask)
{
	struct rurdma_context *ctx = to_rctx(srq->vsrq.srq.context);
	struct rurdma_modify_srq_resp resp = {};
	struct rurdma_cmd_modify_srq cmd = {};
	struct rurdma_rq *rq = &srq->rq;
	struct rurdma_ring ring;
	size_t len;
	void *place;
	int ret;

	place = rurdma_reserve_ring(attr->max_wr, rq->ring.stride, &len);
	if (!place)
		return errno;

	cmd.resp = (uintptr_t)&resp;
	ret = ibv_cmd_modify_srq(&srq->vsrq.srq, attr, mask, &cmd.ibv_cmd,
				 sizeof(cmd));
	if (ret)
		goto err_unreserve;

	if (!resp.ring_len) {
		munmap(place, len);
		rq->max_wr = resp.max_wr;
		return 0;
	}

	ret = resp.ring_len == len && resp.max_wr <= resp.depth ?
		rurdma_map_ring_at(ctx, &ring, place, resp.ring_off, len,
				   resp.depth, rq->ring.stride) : EPROTO;
	if (ret) {
		srq->broken = true;
		goto err_unreserve;
	}

	rurdma_unmap_ring(&rq->ring);
	rq->ring = ring;
	rq->consumer = rurdma_ring_consumer(&rq->ring);
	rq->max_wr = resp.max_wr;
	return 0;

err_unreserve:
	munmap(place, len);
	return ret;
}

int rurdma_modify_srq(struct ibv_srq *ibsrq, struct ibv_srq_attr *attr, int mask)
{
	struct rurdma_context *ctx = to_rctx(ibsrq->context);
	struct rurdma_srq *srq = to_rsrq(ibsrq);
	struct ibv_modify_srq cmd;
	int ret;

	if (!(mask & IBV_SRQ_MAX_WR))
		return ibv_cmd_modify_srq(ibsrq, attr, mask, &cmd, sizeof(cmd));

	if (!(ctx->caps & RURDMA_CAP_SRQ_RESIZE))
		return EOPNOTSUPP;
	if (!attr->max_wr || attr->max_wr > ctx->max_recv_wr)
		return EINVAL;

	rurdma_lock(&srq->rq.lock);
	ret = srq->broken ? EIO : resize_srq(srq, attr, mask);
	rurdma_unlock(&srq->rq.lock);

	return ret;
}

int rurdma_query_srq(struct ibv_srq *srq, struct ibv_srq_attr *attr)
{
	struct ibv_query_srq cmd;

	return ibv_cmd_query_srq(srq, attr, &cmd, sizeof(cmd));
}

int rurdma_destroy_srq(struct ibv_srq *ibsrq)
{
	struct rurdma_srq *srq = to_rsrq(ibsrq);
	int ret;

	ret = ibv_cmd_destroy_srq(ibsrq);
	if (ret)
		return ret;

	rurdma_rq_fini(&srq->rq);
	free(srq);
	return 0;
}

int rurdma_post_srq_recv(struct ibv_srq *ibsrq, struct ibv_recv_wr *wr,
			 struct ibv_recv_wr **bad_wr)
{
	struct rurdma_rq *rq = &to_rsrq(ibsrq)->rq;
	int ret = 0;

	if (unlikely(rurdma_doorbell_dead(&to_rctx(ibsrq->context)->db))) {
		*bad_wr = wr;
		return EIO;
	}

	rurdma_lock(&rq->lock);
	if (unlikely(to_rsrq(ibsrq)->broken)) {
		rurdma_unlock(&rq->lock);
		*bad_wr = wr;
		return EIO;
	}
	for (; wr; wr = wr->next) {
		ret = rurdma_rq_push(rq, wr);
		if (unlikely(ret)) {
			*bad_wr = wr;
			break;
		}
	}
	rurdma_ring_publish(&rq->ring, rq->producer);
	rurdma_unlock(&rq->lock);

	return ret;
}
