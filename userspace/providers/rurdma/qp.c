// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Queue pairs, all but the posting of work.
 */
#include <errno.h>
#include <stdlib.h>

#include "rurdma.h"
#include "wqe.h"

static int check_qp_attr(const struct rurdma_context *ctx,
			 const struct ibv_qp_init_attr_ex *attr)
{
	if (!check_comp_mask(attr->comp_mask,
			     IBV_QP_INIT_ATTR_PD |
			     IBV_QP_INIT_ATTR_CREATE_FLAGS |
			     IBV_QP_INIT_ATTR_SEND_OPS_FLAGS))
		return EOPNOTSUPP;

	if ((attr->comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS) &&
	    attr->create_flags)
		return EOPNOTSUPP;

	if (!rurdma_ops_of_type(ctx, attr->qp_type))
		return EOPNOTSUPP;

	if (!(attr->comp_mask & IBV_QP_INIT_ATTR_PD) || !attr->send_cq ||
	    !attr->recv_cq)
		return EINVAL;

	return 0;
}

static int sq_init(struct rurdma_context *ctx, struct rurdma_sq *sq,
		   const struct rurdma_create_qp_resp *resp, bool lock)
{
	uint32_t ends = 1;
	int ret;

	if (resp->max_send_sge > RURDMA_MAX_SGE ||
	    resp->max_inline > RURDMA_MAX_INLINE ||
	    resp->max_send_wr > resp->sq_units)
		return EPROTO;

	ret = rurdma_map_ring(ctx, &sq->ring, resp->sq_off, resp->sq_len,
			      resp->sq_units, RURDMA_WQE_UNIT);
	if (ret)
		return ret;

	while (ends < resp->max_send_wr)
		ends <<= 1;
	sq->ends = calloc(ends, sizeof(*sq->ends));
	if (!sq->ends) {
		rurdma_unmap_ring(&sq->ring);
		return ENOMEM;
	}

	sq->ends_mask = ends - 1;
	sq->max_wr = resp->max_send_wr;
	sq->max_sge = resp->max_send_sge;
	sq->max_inline = resp->max_inline;
	sq->consumer = rurdma_ring_consumer(&sq->ring);
	sq->producer = sq->consumer;
	rurdma_lock_init(&sq->lock, lock);
	return 0;
}

static void sq_fini(struct rurdma_sq *sq)
{
	rurdma_unmap_ring(&sq->ring);
	rurdma_lock_destroy(&sq->lock);
	free(sq->ends);
}

static int set_up_qp(struct rurdma_context *ctx, struct rurdma_qp *qp,
		     const struct rurdma_create_qp_resp *resp,
		     struct ibv_qp_init_attr_ex *attr)
{
	bool lock = rurdma_pd_needs_lock(attr->pd);
	int ret;

	if (resp->db_slot >= ctx->db_slots)
		return EPROTO;

	ret = sq_init(ctx, &qp->sq, resp, lock);
	if (ret)
		return ret;

	if (resp->rq_len) {
		ret = rurdma_rq_init(ctx, &qp->rq, resp->rq_off, resp->rq_len,
				     resp->rq_depth, resp->rq_stride,
				     resp->max_recv_wr, resp->max_recv_sge,
				     lock);
		if (ret) {
			sq_fini(&qp->sq);
			return ret;
		}
		qp->has_rq = true;
	}

	qp->db_slot = resp->db_slot;
	attr->cap.max_send_wr = resp->max_send_wr;
	attr->cap.max_send_sge = resp->max_send_sge;
	attr->cap.max_inline_data = resp->max_inline;
	if (qp->has_rq) {
		attr->cap.max_recv_wr = resp->max_recv_wr;
		attr->cap.max_recv_sge = resp->max_recv_sge;
	}
	return 0;
}

static struct rurdma_qp *alloc_qp(struct rurdma_context *ctx,
				  const struct ibv_qp_init_attr_ex *attr)
{
	struct rurdma_qp *qp;
	int ret;

	ret = check_qp_attr(ctx, attr);
	if (ret) {
		errno = ret;
		return NULL;
	}

	qp = calloc(1, sizeof(*qp));
	if (!qp)
		return NULL;

	qp->ud = attr->qp_type == IBV_QPT_UD;
	qp->sig_all = attr->sq_sig_all;
	qp->ops = rurdma_ops_of_type(ctx, attr->qp_type);
	return qp;
}

struct ibv_qp *rurdma_create_qp(struct ibv_pd *pd,
				struct ibv_qp_init_attr *attr)
{
	struct rurdma_context *ctx = to_rctx(pd->context);
	struct rurdma_cmd_create_qp_resp resp = {};
	struct ibv_qp_init_attr_ex attr_ex = {
		.qp_context = attr->qp_context,
		.send_cq = attr->send_cq,
		.recv_cq = attr->recv_cq,
		.srq = attr->srq,
		.cap = attr->cap,
		.qp_type = attr->qp_type,
		.sq_sig_all = attr->sq_sig_all,
		.comp_mask = IBV_QP_INIT_ATTR_PD,
		.pd = pd,
	};
	struct ibv_create_qp cmd = {};
	struct rurdma_qp *qp;
	int ret;

	qp = alloc_qp(ctx, &attr_ex);
	if (!qp)
		return NULL;

	ret = ibv_cmd_create_qp(pd, &qp->vqp.qp, attr, &cmd, sizeof(cmd),
				&resp.ibv_resp, sizeof(resp));
	if (ret)
		goto err_free;

	attr_ex.cap = attr->cap;
	ret = set_up_qp(ctx, qp, &resp.drv_payload, &attr_ex);
	if (ret)
		goto err_destroy;

	attr->cap = attr_ex.cap;
	return &qp->vqp.qp;

err_destroy:
	ibv_cmd_destroy_qp(&qp->vqp.qp);
err_free:
	free(qp);
	errno = ret;
	return NULL;
}

struct ibv_qp *rurdma_create_qp_ex(struct ibv_context *ibctx,
				   struct ibv_qp_init_attr_ex *attr)
{
	struct rurdma_context *ctx = to_rctx(ibctx);
	struct rurdma_cmd_create_qp_ex_resp resp = {};
	struct ibv_qp_init_attr_ex cmd_attr = *attr;
	struct ibv_create_qp_ex cmd = {};
	struct rurdma_qp *qp;
	int ret;

	qp = alloc_qp(ctx, attr);
	if (!qp)
		return NULL;

	if (attr->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) {
		ret = rurdma_set_wr_ops(qp, attr->send_ops_flags);
		if (ret)
			goto err_free;
	}

	cmd_attr.comp_mask = IBV_QP_INIT_ATTR_PD;
#if IBVERBS_PABI_VERSION >= 65
	ret = ibv_cmd_create_qp_ex2(ibctx, &qp->vqp, &cmd_attr, &cmd,
				    sizeof(cmd), &resp.ibv_resp, sizeof(resp),
				    NULL);
#else
	ret = ibv_cmd_create_qp_ex2(ibctx, &qp->vqp, &cmd_attr, &cmd,
				    sizeof(cmd), &resp.ibv_resp, sizeof(resp));
#endif
	if (ret)
		goto err_free;

	if (attr->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS)
		qp->vqp.comp_mask |= VERBS_QP_EX;

	ret = set_up_qp(ctx, qp, &resp.drv_payload, &cmd_attr);
	if (ret)
		goto err_destroy;

	attr->cap = cmd_attr.cap;
	return &qp->vqp.qp;

err_destroy:
	ibv_cmd_destroy_qp(&qp->vqp.qp);
err_free:
	free(qp);
	errno = ret;
	return NULL;
}

static void purge_qp(struct ibv_qp *qp)
{
	rurdma_purge_cq(qp->send_cq, qp->qp_num);
	if (qp->recv_cq != qp->send_cq)
		rurdma_purge_cq(qp->recv_cq, qp->qp_num);
}

/*
 * The module has forgotten everything that was posted and published where it
 * will read next. Start from there.
 */
static void reset_rings(struct rurdma_qp *qp)
{
	struct rurdma_sq *sq = &qp->sq;
	struct rurdma_rq *rq = &qp->rq;

	rurdma_lock(&sq->lock);
	sq->consumer = rurdma_ring_consumer(&sq->ring);
	sq->producer = sq->consumer;
	sq->ends_head = 0;
	sq->ends_tail = 0;
	rurdma_ring_publish(&sq->ring, sq->producer);
	rurdma_unlock(&sq->lock);

	if (!qp->has_rq)
		return;

	rurdma_lock(&rq->lock);
	rq->consumer = rurdma_ring_consumer(&rq->ring);
	rq->producer = rq->consumer;
	rurdma_ring_publish(&rq->ring, rq->producer);
	rurdma_unlock(&rq->lock);
}

int rurdma_modify_qp(struct ibv_qp *ibqp, struct ibv_qp_attr *attr, int mask)
{
	struct ibv_modify_qp cmd = {};
	int ret;

	ret = ibv_cmd_modify_qp(ibqp, attr, mask, &cmd, sizeof(cmd));
	if (ret)
		return ret;

	if ((mask & IBV_QP_STATE) && attr->qp_state == IBV_QPS_RESET) {
		purge_qp(ibqp);
		reset_rings(to_rqp(ibqp));
	}
	return 0;
}

int rurdma_query_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask,
		    struct ibv_qp_init_attr *init_attr)
{
	struct ibv_query_qp cmd;

	return ibv_cmd_query_qp(qp, attr, mask, init_attr, &cmd, sizeof(cmd));
}

int rurdma_destroy_qp(struct ibv_qp *ibqp)
{
	struct rurdma_qp *qp = to_rqp(ibqp);
	int ret;

	ret = ibv_cmd_destroy_qp(ibqp);
	if (ret)
		return ret;

	purge_qp(ibqp);
	sq_fini(&qp->sq);
	if (qp->has_rq)
		rurdma_rq_fini(&qp->rq);
	free(qp);
	return 0;
}

/* The module moved a QP: keep the state that libibverbs remembers true. */
void rurdma_async_event(struct ibv_context *ctx, struct ibv_async_event *event)
{
	switch (event->event_type) {
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
		event->element.qp->state = IBV_QPS_ERR;
		break;
	default:
		break;
	}
}
