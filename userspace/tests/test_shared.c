// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Parent and thread domains, and contexts that another process opened. */
#include "test_provider.h"

void test_domains(void)
{
	struct ibv_cq_init_attr_ex cattr = { .cqe = 4,
					     .comp_mask = IBV_CQ_INIT_ATTR_MASK_PD };
	struct ibv_qp_init_attr qattr = { .qp_type = IBV_QPT_RC,
					  .cap.max_send_wr = 1 };
	struct ibv_parent_domain_init_attr attr = {};
	struct ibv_td_init_attr tattr = {};
	struct ibv_pd *inner = fake_ops->alloc_pd(ctx), *plain, *single;
	struct ibv_cq_ex *cq;
	struct ibv_qp *qp;
	struct ibv_td *td;

	check(!fake_ops->alloc_parent_domain(ctx, &attr) && errno == EINVAL);
	attr.pd = inner;
	attr.comp_mask = 1u << 31;
	check(!fake_ops->alloc_parent_domain(ctx, &attr) && errno == EOPNOTSUPP);
	tattr.comp_mask = 1;
	check(!fake_ops->alloc_td(ctx, &tattr) && errno == EOPNOTSUPP);

	/* Allocators are accepted, and have nothing to allocate. */
	attr.comp_mask = IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS |
			 IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT;
	plain = fake_ops->alloc_parent_domain(ctx, &attr);
	check(plain && plain->handle == inner->handle);
	check(fake_ops->dealloc_pd(inner) == EBUSY);
	tattr.comp_mask = 0;
	td = fake_ops->alloc_td(ctx, &tattr);
	attr.td = td;
	single = fake_ops->alloc_parent_domain(ctx, &attr);
	check(td && single);
	check(fake_ops->dealloc_td(td) == EBUSY);
	/* There is no domain of a domain. */
	attr.pd = single;
	check(!fake_ops->alloc_parent_domain(ctx, &attr) && errno == EINVAL);

	/* Who promises that one thread uses it gets no locks. */
	cattr.parent_domain = inner;
	check(!fake_ops->create_cq_ex(ctx, &cattr) && errno == EINVAL);
	cattr.parent_domain = plain;
	cq = fake_ops->create_cq_ex(ctx, &cattr);
	check(cq && ex_to_rcq(cq)->lock.needed);
	check(!fake_ops->destroy_cq((struct ibv_cq *)cq));
	cattr.parent_domain = single;
	cq = fake_ops->create_cq_ex(ctx, &cattr);
	check(cq && !ex_to_rcq(cq)->lock.needed && !ex_to_rcq(cq)->arm_lock.needed);
	qattr.send_cq = qattr.recv_cq = (struct ibv_cq *)cq;
	qp = fake_ops->create_qp(single, &qattr);
	check(qp && !to_rqp(qp)->sq.lock.needed && !to_rqp(qp)->rq.lock.needed);
	check(!fake_ops->destroy_qp(qp));
	qp = fake_ops->create_qp(plain, &qattr);
	check(qp && to_rqp(qp)->sq.lock.needed && to_rqp(qp)->rq.lock.needed);
	check(!fake_ops->destroy_qp(qp));
	check(!fake_ops->destroy_cq((struct ibv_cq *)cq));

	check(!fake_ops->dealloc_pd(single));
	check(!fake_ops->dealloc_td(td));
	check(fake_ops->dealloc_pd(inner) == EBUSY);
	check(!fake_ops->dealloc_pd(plain));
	check(!fake_ops->dealloc_pd(inner));
}

static struct fake_qp *rang;

static void note_doorbell(struct fake_qp *qp)
{
	rang = qp;
}

void test_import(void)
{
	struct verbs_context *vctx;
	struct ibv_context *mine = ctx;
	struct ibv_pd *before = pd;
	struct ibv_send_wr wr = { .opcode = IBV_WR_RDMA_WRITE }, *bad;
	struct fake_wr seen;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_mr *mr;

	fake_query_context_error = EPROTONOSUPPORT;
	check(!fake_device_ops->import_context(ctx->device, ctx->cmd_fd));
	check(errno == EPROTONOSUPPORT);
	fake_query_context_error = 0;

	vctx = fake_device_ops->import_context(ctx->device, ctx->cmd_fd);
	check(vctx);
	ctx = &vctx->context;
	check(to_rctx(ctx)->caps == to_rctx(mine)->caps);
	check(to_rctx(ctx)->db_slots == to_rctx(mine)->db_slots);
	check(to_rctx(ctx)->max_recv_wr == FAKE_MAX_RECV_WR);
	check(to_rctx(ctx)->db_map != to_rctx(mine)->db_map);
	pd = fake_ops->import_pd(ctx, before->handle);
	check(pd && pd->handle == before->handle && pd->context == ctx);
	mr = fake_ops->import_mr(pd, 17);
	check(mr);

	/* Its objects ring the doorbells of the one who opened it. */
	cq = new_cq(4);
	qp = new_qp(IBV_QPT_RC, cq, 1, 1);
	set_state(qp, IBV_QPS_RTS);
	fake_take_doorbells(note_doorbell);
	rang = NULL;
	check(!post(qp, &wr, &bad));
	fake_take_doorbells(note_doorbell);
	check(rang == fake_qp_of(qp));
	check(fake_next_send(fake_qp_of(qp), &seen));
	check(!fake_ops->destroy_qp(qp));
	check(!fake_ops->destroy_cq(cq));

	fake_ops->unimport_mr(mr);
	fake_ops->unimport_pd(pd);
	fake_ops->free_context(ctx);
	ctx = mine;
	pd = before;
}
