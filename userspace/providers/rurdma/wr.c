// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Posting of work by the ibv_wr_* interface.
 */
#include "sq.h"

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
