// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* How work requests are written, and what of them is refused. */
#include "test_provider.h"

/*
 * Random requests through both interfaces; what the module decodes must be what
 * was asked for, at every position in the ring.
 */
struct expect {
	uint64_t wr_id;
	enum ibv_wr_opcode opcode;
	unsigned int flags;
	uint32_t imm;
	uint64_t addr, a, b;
	uint32_t rkey, num_sge, inline_len;
	struct ibv_sge sge[RURDMA_MAX_SGE];
	uint8_t data[RURDMA_MAX_INLINE];
};

static const uint8_t opcodes[] = {
	[IBV_WR_RDMA_WRITE] = RURDMA_OP_WRITE,
	[IBV_WR_RDMA_WRITE_WITH_IMM] = RURDMA_OP_WRITE_IMM,
	[IBV_WR_SEND] = RURDMA_OP_SEND,
	[IBV_WR_SEND_WITH_IMM] = RURDMA_OP_SEND_IMM,
	[IBV_WR_RDMA_READ] = RURDMA_OP_READ,
	[IBV_WR_ATOMIC_CMP_AND_SWP] = RURDMA_OP_CMP_SWP,
	[IBV_WR_ATOMIC_FETCH_AND_ADD] = RURDMA_OP_FETCH_ADD,
	[IBV_WR_LOCAL_INV] = RURDMA_OP_LOCAL_INV,
	[IBV_WR_BIND_MW] = RURDMA_OP_BIND_MW,
	[IBV_WR_SEND_WITH_INV] = RURDMA_OP_SEND_INV,
	[IBV_WR_FLUSH] = RURDMA_OP_FLUSH,
	[IBV_WR_ATOMIC_WRITE] = RURDMA_OP_ATOMIC_WRITE,
};

static struct ibv_mw *mw2;
static struct ibv_mr *mr;
static struct ibv_ah *ah;

static void make_expect(struct expect *e, bool ud, bool ex)
{
	static const uint8_t rc_ops[] = {
		IBV_WR_RDMA_WRITE, IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_SEND,
		IBV_WR_SEND_WITH_IMM, IBV_WR_RDMA_READ,
		IBV_WR_ATOMIC_CMP_AND_SWP, IBV_WR_ATOMIC_FETCH_AND_ADD,
		IBV_WR_LOCAL_INV, IBV_WR_BIND_MW, IBV_WR_SEND_WITH_INV,
		IBV_WR_FLUSH, IBV_WR_ATOMIC_WRITE };
	static uint64_t id;
	uint32_t i;

	memset(e, 0, sizeof(*e));
	e->wr_id = ++id;
	e->opcode = ud ? (rnd(2) ? IBV_WR_SEND : IBV_WR_SEND_WITH_IMM) :
			 rc_ops[rnd(ex ? 12 : 10)];
	e->flags = rnd(8);
	e->imm = rnd(1U << 31);
	e->addr = rnd(1U << 31);
	e->a = rnd(1U << 31);
	e->b = rnd(1U << 31);
	e->rkey = rnd(1U << 31);

	switch (e->opcode) {
	case IBV_WR_LOCAL_INV:
	case IBV_WR_BIND_MW:
	case IBV_WR_FLUSH:
		return;
	case IBV_WR_ATOMIC_WRITE:
		e->inline_len = 8;
		break;
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		e->num_sge = 1;
		break;
	case IBV_WR_RDMA_READ:
		e->num_sge = rnd(3);
		break;
	default:
		if (rnd(2))
			e->inline_len = rnd(fake_max_inline + 1);
		else
			e->num_sge = rnd(fake_max_sge + 1);
	}
	for (i = 0; i < e->num_sge; i++)
		e->sge[i] = (struct ibv_sge){ .addr = rnd(1U << 31),
					      .length = rnd(1U << 31),
					      .lkey = rnd(1U << 31) };
	for (i = 0; i < e->inline_len; i++)
		e->data[i] = rnd(256);
}

static int post_expect(struct ibv_qp *qp, struct expect *e)
{
	struct ibv_send_wr wr = {
		.wr_id = e->wr_id, .opcode = e->opcode,
		.send_flags = e->flags, .sg_list = e->sge,
		.num_sge = e->num_sge }, *bad;
	struct ibv_sge cut[3];
	uint32_t a, b;

	wr.invalidate_rkey = e->imm;
	if (e->inline_len) {
		/* In three pieces, to be gathered. */
		a = rnd(e->inline_len + 1);
		b = a + rnd(e->inline_len - a + 1);
		cut[0] = (struct ibv_sge){ (uintptr_t)e->data, a, 0 };
		cut[1] = (struct ibv_sge){ (uintptr_t)e->data + a, b - a, 0 };
		cut[2] = (struct ibv_sge){ (uintptr_t)e->data + b,
					   e->inline_len - b, 0 };
		wr.sg_list = cut;
		wr.num_sge = 3;
		wr.send_flags |= IBV_SEND_INLINE;
	}
	if (qp->qp_type == IBV_QPT_UD) {
		wr.wr.ud.ah = ah;
		wr.wr.ud.remote_qpn = e->a;
		wr.wr.ud.remote_qkey = e->b;
	} else if (e->opcode == IBV_WR_ATOMIC_CMP_AND_SWP ||
		   e->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = e->addr;
		wr.wr.atomic.rkey = e->rkey;
		wr.wr.atomic.compare_add = e->a;
		wr.wr.atomic.swap = e->b;
	} else if (e->opcode == IBV_WR_BIND_MW) {
		wr.bind_mw.mw = mw2;
		wr.bind_mw.rkey = e->rkey;
		wr.bind_mw.bind_info = (struct ibv_mw_bind_info){
			.mr = mr, .addr = e->a, .length = e->b,
			.mw_access_flags = 6 };
	} else {
		wr.wr.rdma.remote_addr = e->addr;
		wr.wr.rdma.rkey = e->rkey;
	}
	return post(qp, &wr, &bad);
}

static void build_ex(struct ibv_qp *ibqp, struct expect *e)
{
	struct ibv_qp_ex *qp = (struct ibv_qp_ex *)ibqp;
	struct ibv_mw_bind_info info = { .mr = mr, .addr = e->a,
					 .length = e->b, .mw_access_flags = 6 };
	struct ibv_data_buf buf[2];
	uint32_t a;

	qp->wr_id = e->wr_id;
	qp->wr_flags = e->flags;
	switch (e->opcode) {
	case IBV_WR_RDMA_WRITE:
		qp->wr_rdma_write(qp, e->rkey, e->addr);
		break;
	case IBV_WR_RDMA_WRITE_WITH_IMM:
		qp->wr_rdma_write_imm(qp, e->rkey, e->addr, e->imm);
		break;
	case IBV_WR_SEND:
		qp->wr_send(qp);
		break;
	case IBV_WR_SEND_WITH_IMM:
		qp->wr_send_imm(qp, e->imm);
		break;
	case IBV_WR_SEND_WITH_INV:
		qp->wr_send_inv(qp, e->imm);
		break;
	case IBV_WR_RDMA_READ:
		qp->wr_rdma_read(qp, e->rkey, e->addr);
		break;
	case IBV_WR_ATOMIC_CMP_AND_SWP:
		qp->wr_atomic_cmp_swp(qp, e->rkey, e->addr, e->a, e->b);
		break;
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		qp->wr_atomic_fetch_add(qp, e->rkey, e->addr, e->a);
		break;
	case IBV_WR_LOCAL_INV:
		qp->wr_local_inv(qp, e->imm);
		return;
	case IBV_WR_BIND_MW:
		qp->wr_bind_mw(qp, mw2, e->rkey, &info);
		return;
	case IBV_WR_FLUSH:
		qp->wr_flush(qp, e->rkey, e->addr, e->a, 3, 1);
		return;
	case IBV_WR_ATOMIC_WRITE:
		qp->wr_atomic_write(qp, e->rkey, e->addr, e->data);
		return;
	default:
		check(false);
	}
	if (ibqp->qp_type == IBV_QPT_UD)
		qp->wr_set_ud_addr(qp, ah, e->a, e->b);
	if (e->inline_len == 1) {
		qp->wr_set_inline_data(qp, e->data, 1);
	} else if (e->inline_len) {
		a = rnd(e->inline_len + 1);
		buf[0] = (struct ibv_data_buf){ e->data, a };
		buf[1] = (struct ibv_data_buf){ e->data + a,
						e->inline_len - a };
		qp->wr_set_inline_data_list(qp, 2, buf);
	} else if (e->num_sge == 1) {
		qp->wr_set_sge(qp, e->sge[0].lkey, e->sge[0].addr,
			       e->sge[0].length);
	} else {
		qp->wr_set_sge_list(qp, e->num_sge, e->sge);
	}
}

static void verify(struct fake_wr *wr, struct expect *e, bool ud)
{
	struct rurdma_ext_atomic *at = (void *)wr->ext;
	struct rurdma_ext_bind *bind = (void *)wr->ext;
	struct rurdma_ext_flush *fl = (void *)wr->ext;
	struct rurdma_ext_ud *u = (void *)wr->ext;
	uint8_t flags = 0;
	uint32_t i;

	check(wr->wqe.wr_id == e->wr_id);
	check(wr->wqe.opcode == opcodes[e->opcode]);
	if (e->flags & IBV_SEND_SIGNALED)
		flags |= RURDMA_SEND_SIGNALED;
	if (e->flags & IBV_SEND_SOLICITED)
		flags |= RURDMA_SEND_SOLICITED;
	if (e->flags & IBV_SEND_FENCE)
		flags |= RURDMA_SEND_FENCE;
	check((wr->wqe.flags & ~RURDMA_SEND_INLINE) == flags);
	check(wr->wqe.num_sge == e->num_sge);
	check(wr->wqe.inline_len == e->inline_len);
	check(!memcmp(wr->data, e->data, e->inline_len));
	for (i = 0; i < e->num_sge; i++)
		check(wr->sge[i].addr == e->sge[i].addr &&
		      wr->sge[i].length == e->sge[i].length &&
		      wr->sge[i].lkey == e->sge[i].lkey);

	switch (e->opcode) {
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
	case IBV_WR_ATOMIC_CMP_AND_SWP:
		check(at->compare_add == e->a && !at->compare_add_mask);
		if (e->opcode == IBV_WR_ATOMIC_CMP_AND_SWP)
			check(at->swap == e->b);
		goto remote;
	case IBV_WR_FLUSH:
		check(fl->length == e->a && fl->type == 3 && fl->level == 1);
		goto remote;
	case IBV_WR_RDMA_WRITE_WITH_IMM:
		check(wr->wqe.imm_inv == e->imm);
		goto remote;
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_READ:
	case IBV_WR_ATOMIC_WRITE:
remote:
		check(wr->wqe.remote_addr == e->addr &&
		      wr->wqe.rkey == e->rkey);
		break;
	case IBV_WR_BIND_MW:
		check(wr->wqe.rkey == mw2->rkey && bind->new_rkey == e->rkey);
		check(bind->addr == e->a && bind->length == e->b &&
		      bind->access == 6 && bind->mr_lkey == mr->lkey);
		break;
	case IBV_WR_SEND_WITH_INV:
	case IBV_WR_LOCAL_INV:
	case IBV_WR_SEND_WITH_IMM:
		check(wr->wqe.imm_inv == e->imm);
		break;
	default:
		break;
	}
	if (ud)
		check(u->ah_handle == 0x4711 && u->remote_qpn == e->a &&
		      u->remote_qkey == e->b);
}

#define WINDOW 16

static void random_requests(enum ibv_qp_type type, bool ex, uint32_t rounds)
{
	static struct expect fifo[WINDOW];
	uint64_t ops = type == IBV_QPT_UD ?
		IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM :
		0x1fff & ~IBV_QP_EX_WITH_TSO;
	struct ibv_cq *cq = new_cq(8);
	struct ibv_qp *qp;
	struct ibv_qp_ex *qpx;
	struct fake_qp *f;
	struct fake_wr wr;
	uint32_t head = 0, tail = 0, full = 0, batch, first, i;
	int ret;

	qp = ex ? new_qp_ex(type, cq, WINDOW, ops) :
		  new_qp(type, cq, WINDOW, 1);
	check(qp);
	qpx = (struct ibv_qp_ex *)qp;
	f = fake_qp_of(qp);
	set_state(qp, IBV_QPS_RTS);

	while (rounds--) {
		batch = rnd(4);
		if (ex) {
			first = head;
			qpx->wr_start(qpx);
			for (i = 0; i < batch && head - tail < WINDOW; i++) {
				make_expect(&fifo[head % WINDOW],
					    type == IBV_QPT_UD, true);
				build_ex(qp, &fifo[head++ % WINDOW]);
			}
			if (rnd(8) == 0) {
				qpx->wr_abort(qpx);
				head = first;
			} else {
				ret = qpx->wr_complete(qpx);
				check(!ret || ret == ENOMEM);
				if (ret) {
					full++;
					head = first;
				}
			}
		} else {
			for (i = 0; i < batch && head - tail < WINDOW; i++) {
				make_expect(&fifo[head % WINDOW],
					    type == IBV_QPT_UD, false);
				ret = post_expect(qp, &fifo[head % WINDOW]);
				check(!ret || ret == ENOMEM);
				if (ret) {
					full++;
					break;
				}
				head++;
			}
		}

		for (i = rnd(4); i; i--) {
			if (!fake_next_send(f, &wr)) {
				check(head == tail);
				break;
			}
			verify(&wr, &fifo[tail++ % WINDOW],
			       type == IBV_QPT_UD);
		}
		fake_publish_sq(f);
	}
	/* A ring smaller than max_wr large requests must have been full. */
	check(!fake_sq_units || full);
	check(!fake_ops->destroy_qp(qp));
	check(!fake_ops->destroy_cq(cq));
}

void test_encoding(void)
{
	struct ibv_ah_attr attr = {};

	mw2 = fake_ops->alloc_mw(pd, IBV_MW_TYPE_2);
	mr = fake_ops->reg_mr(pd, NULL, 1, 0, 0);
	ah = fake_ops->create_ah(pd, &attr);
	check(mw2 && mr && ah);

	random_requests(IBV_QPT_RC, false, 5000);
	random_requests(IBV_QPT_RC, true, 5000);
	random_requests(IBV_QPT_UD, false, 2000);
	random_requests(IBV_QPT_UD, true, 2000);

	/* The largest requests, in a ring that holds few, over the 2^32 wrap. */
	fake_max_sge = RURDMA_MAX_SGE;
	fake_max_inline = RURDMA_MAX_INLINE;
	fake_sq_units = 32;
	fake_start_index = -50u;
	random_requests(IBV_QPT_RC, false, 20000);
	random_requests(IBV_QPT_RC, true, 20000);
	random_requests(IBV_QPT_UD, false, 5000);
	random_requests(IBV_QPT_UD, true, 5000);
	fake_max_sge = 4;
	fake_max_inline = 128;
	fake_sq_units = 0;
	fake_start_index = 0;
}

void test_wr_errors(void)
{
	struct ibv_cq *cq = new_cq(8);
	struct ibv_qp *qp = new_qp_ex(IBV_QPT_RC, cq, 2, IBV_QP_EX_WITH_SEND |
				      IBV_QP_EX_WITH_RDMA_READ);
	struct ibv_qp_ex *x = (struct ibv_qp_ex *)qp;
	struct ibv_sge sge[8] = {};
	uint8_t big[256] = {};
	struct fake_wr wr;

	check(qp);
	x->wr_start(x);
	x->wr_send(x);
	check(x->wr_complete(x) == EINVAL);	/* RESET */
	set_state(qp, IBV_QPS_RTS);
	x->wr_start(x);
	check(!x->wr_complete(x));		/* nothing is fine */
	x->wr_start(x);
	x->wr_send(x);
	x->wr_send(x);
	x->wr_send(x);
	check(x->wr_complete(x) == ENOMEM);
	x->wr_start(x);
	x->wr_send(x);
	x->wr_set_sge_list(x, 5, sge);
	check(x->wr_complete(x) == EINVAL);
	x->wr_start(x);
	x->wr_send(x);
	x->wr_set_inline_data(x, big, fake_max_inline + 1);
	check(x->wr_complete(x) == EINVAL);
	x->wr_start(x);
	x->wr_rdma_read(x, 1, 1);
	x->wr_set_inline_data(x, big, 1);
	check(x->wr_complete(x) == EINVAL);
	check(!fake_next_send(fake_qp_of(qp), &wr));	/* all rolled back */
	x->wr_start(x);
	x->wr_send(x);
	x->wr_send(x);
	check(!x->wr_complete(x));
	check(fake_next_send(fake_qp_of(qp), &wr));
	check(fake_next_send(fake_qp_of(qp), &wr));
	check(!fake_next_send(fake_qp_of(qp), &wr));
	check(!fake_ops->destroy_qp(qp));
	check(!fake_ops->destroy_cq(cq));
}

void test_bind_mw(void)
{
	struct ibv_cq *cq = new_cq(8);
	struct ibv_qp *qp = new_qp(IBV_QPT_RC, cq, 1, 1);
	struct ibv_mw *mw = fake_ops->alloc_mw(pd, IBV_MW_TYPE_1);
	struct ibv_mw_bind bind = { .wr_id = 5, .send_flags = IBV_SEND_SIGNALED };
	struct ibv_send_wr wr = { .opcode = IBV_WR_BIND_MW, .bind_mw.mw = mw },
			   *bad;
	struct ibv_pd *other = fake_ops->alloc_pd(ctx);
	uint32_t rkey = mw->rkey;
	struct fake_wr fwr;

	set_state(qp, IBV_QPS_RTS);
	check(post(qp, &wr, &bad) == EINVAL);	/* not for type 1 */
	bind.bind_info.mr = fake_ops->reg_mr(other, NULL, 1, 0, 0);
	check(fake_ops->bind_mw(qp, mw, &bind) == EPERM);
	check(mw->rkey == rkey);
	bind.bind_info.mr = mr;
	bind.bind_info.length = 10;
	check(!fake_ops->bind_mw(qp, mw, &bind));
	check(mw->rkey != rkey && mw->rkey >> 8 == rkey >> 8);
	check(fake_next_send(fake_qp_of(qp), &fwr));
	check(fwr.wqe.rkey == rkey && fwr.wqe.wr_id == 5);
	check(((struct rurdma_ext_bind *)fwr.ext)->new_rkey == mw->rkey);
	rkey = mw->rkey;
	check(fake_ops->bind_mw(qp, mw, &bind) == ENOMEM);
	check(mw->rkey == rkey);
	check(!fake_ops->destroy_qp(qp));
	check(!fake_ops->destroy_cq(cq));
}
