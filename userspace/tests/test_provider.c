// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The provider against a stand-in for the module (fake.c). Every test says its
 * name; the first failed check of a test ends the program with status 1.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fake.h"

#define check(cond)                                                            \
	do {                                                                   \
		if (!(cond)) {                                                 \
			fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__,   \
				__LINE__, __func__, #cond);                    \
			exit(1);                                               \
		}                                                              \
	} while (0)

static struct ibv_device device = {
	.node_type = IBV_NODE_CA,
	.transport_type = IBV_TRANSPORT_IB,
};
static struct ibv_context *ctx;
static struct ibv_pd *pd;

static void open_context(enum ibv_transport_type transport)
{
	struct verbs_context *vctx;
	int fd = ctx ? ctx->cmd_fd : -1;

	device.transport_type = transport;
	vctx = fake_device_ops->alloc_context(&device, fd, NULL);
	check(vctx);
	ctx = &vctx->context;
	pd = fake_ops->alloc_pd(ctx);
	check(pd);
}

static void set_state(struct ibv_qp *qp, enum ibv_qp_state state)
{
	struct ibv_qp_attr attr = { .qp_state = state };

	check(!fake_ops->modify_qp(qp, &attr, IBV_QP_STATE));
	qp->state = state;
}

static struct ibv_cq *new_cq(int n)
{
	struct ibv_cq *cq = fake_ops->create_cq(ctx, n, NULL, 0);

	check(cq);
	return cq;
}

static struct ibv_qp *new_qp(enum ibv_qp_type type, struct ibv_cq *cq,
			     uint32_t send_wr, uint32_t recv_wr)
{
	struct ibv_qp_init_attr attr = {
		.send_cq = cq,
		.recv_cq = cq,
		.cap = { .max_send_wr = send_wr, .max_recv_wr = recv_wr,
			 .max_send_sge = 1, .max_recv_sge = 1 },
		.qp_type = type,
	};
	struct ibv_qp *qp = fake_ops->create_qp(pd, &attr);

	check(qp);
	check(attr.cap.max_send_sge == fake_max_sge);
	return qp;
}

static struct ibv_qp *new_qp_ex(enum ibv_qp_type type, struct ibv_cq *cq,
				uint32_t send_wr, uint64_t ops)
{
	struct ibv_qp_init_attr_ex attr = {
		.send_cq = cq,
		.recv_cq = cq,
		.cap = { .max_send_wr = send_wr, .max_recv_wr = 1,
			 .max_send_sge = 1, .max_recv_sge = 1 },
		.qp_type = type,
		.comp_mask = IBV_QP_INIT_ATTR_PD |
			     IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.pd = pd,
		.send_ops_flags = ops,
	};

	return fake_ops->create_qp_ex(ctx, &attr);
}

static int post(struct ibv_qp *qp, struct ibv_send_wr *wr,
		struct ibv_send_wr **bad)
{
	*bad = NULL;
	return fake_ops->post_send(qp, wr, bad);
}

static void test_context(void)
{
	struct ibv_values_ex values = { .comp_mask = IBV_VALUES_MASK_RAW_CLOCK };
	struct ibv_parent_domain_init_attr pattr = {};
	struct ibv_td_init_attr tattr = {};
	struct ibv_pd *parent;

	check(!fake_ops->query_rt_values(ctx, &values));
	check(values.comp_mask == IBV_VALUES_MASK_RAW_CLOCK);

	pattr.pd = pd;
	pattr.td = fake_ops->alloc_td(ctx, &tattr);
	parent = fake_ops->alloc_parent_domain(ctx, &pattr);
	check(parent && parent->handle == pd->handle);
	check(fake_ops->dealloc_pd(pd) == EBUSY);
	check(fake_ops->dealloc_td(pattr.td) == EBUSY);
	check(!fake_ops->dealloc_pd(parent));
	check(!fake_ops->dealloc_td(pattr.td));
	check(!fake_device_ops->import_context(&device, 0));
}

static void test_states_and_types(void)
{
	struct ibv_sge sge = { .addr = 1, .length = 1 };
	struct ibv_send_wr wr = { .opcode = IBV_WR_SEND, .sg_list = &sge,
				  .num_sge = 1 }, *bad;
	struct ibv_recv_wr rwr = { .sg_list = &sge, .num_sge = 1 }, *rbad;
	struct ibv_cq *cq = new_cq(8);
	struct ibv_qp *qp = new_qp(IBV_QPT_RC, cq, 4, 4);
	struct ibv_qp_init_attr attr = { .send_cq = cq, .recv_cq = cq };

	check(post(qp, &wr, &bad) == EINVAL && bad == &wr);
	check(fake_ops->post_recv(qp, &rwr, &rbad) == EINVAL && rbad == &rwr);
	set_state(qp, IBV_QPS_INIT);
	check(post(qp, &wr, &bad) == EINVAL);
	check(!fake_ops->post_recv(qp, &rwr, &rbad));
	set_state(qp, IBV_QPS_RTR);
	check(post(qp, &wr, &bad) == EINVAL);
	set_state(qp, IBV_QPS_RTS);
	check(!post(qp, &wr, &bad));

	wr.num_sge = fake_max_sge + 1;
	check(post(qp, &wr, &bad) == EINVAL);
	wr.num_sge = -1;
	check(post(qp, &wr, &bad) == EINVAL);
	wr.num_sge = 1;
	wr.opcode = IBV_WR_TSO;
	check(post(qp, &wr, &bad) == EINVAL);
	wr.opcode = 77;
	check(post(qp, &wr, &bad) == EINVAL);
	wr.opcode = IBV_WR_RDMA_READ;
	wr.num_sge = 3;
	check(post(qp, &wr, &bad) == EINVAL);	/* max_sge_rd */
	wr.num_sge = 1;
	wr.send_flags = IBV_SEND_INLINE;
	check(post(qp, &wr, &bad) == EINVAL);
	wr.opcode = IBV_WR_SEND;
	sge.length = fake_max_inline + 1;
	check(post(qp, &wr, &bad) == EINVAL);
	rwr.num_sge = fake_max_sge + 1;
	check(fake_ops->post_recv(qp, &rwr, &rbad) == EINVAL);
	check(!fake_ops->destroy_qp(qp));

	attr.qp_type = IBV_QPT_RAW_PACKET;
	check(!fake_ops->create_qp(pd, &attr) && errno == EOPNOTSUPP);
	attr.qp_type = IBV_QPT_DRIVER;
	check(!fake_ops->create_qp(pd, &attr) && errno == EOPNOTSUPP);
	check(!new_qp_ex(IBV_QPT_UD, cq, 1, IBV_QP_EX_WITH_RDMA_WRITE) &&
	      errno == EOPNOTSUPP);
	check(!new_qp_ex(IBV_QPT_RC, cq, 1, IBV_QP_EX_WITH_TSO) &&
	      errno == EOPNOTSUPP);

	fake_status->dead = 1;
	qp = new_qp(IBV_QPT_RC, cq, 4, 4);
	qp->state = IBV_QPS_RTS;
	check(post(qp, &wr, &bad) == EIO && bad == &wr);
	check(fake_ops->post_recv(qp, &rwr, &rbad) == EIO);
	fake_status->dead = 0;
	check(!fake_ops->destroy_qp(qp));
	check(!fake_ops->destroy_cq(cq));
}

static void test_queue_limits(void)
{
	struct ibv_sge sge[4] = { { .addr = 1, .length = 1 } };
	struct ibv_send_wr wr[6], *bad;
	struct ibv_recv_wr rwr = { .sg_list = sge, .num_sge = 4 }, *rbad;
	struct rurdma_sge rsge[RURDMA_MAX_SGE];
	struct rurdma_recv_wqe rwqe;
	struct fake_wr fwr;
	struct ibv_cq *cq = new_cq(8);
	struct ibv_qp *qp = new_qp(IBV_QPT_RC, cq, 5, 3);
	struct fake_qp *f = fake_qp_of(qp);
	int i, round;

	set_state(qp, IBV_QPS_RTS);
	for (i = 0; i < 6; i++)
		wr[i] = (struct ibv_send_wr){
			.wr_id = i, .opcode = IBV_WR_SEND, .sg_list = sge,
			.num_sge = 4, .next = i < 5 ? &wr[i + 1] : NULL };

	/* What fits of a list is posted, the rest is reported. */
	check(post(qp, wr, &bad) == ENOMEM && bad == &wr[5]);
	check(post(qp, &wr[5], &bad) == ENOMEM && bad == &wr[5]);
	for (i = 0; i < 5; i++) {
		check(fake_next_send(f, &fwr) && fwr.wqe.wr_id == (uint64_t)i);
		check(fwr.wqe.num_sge == 4);
	}
	check(!fake_next_send(f, &fwr));
	/* Taken is not completed. */
	check(post(qp, &wr[5], &bad) == ENOMEM);
	fake_publish_sq(f);
	for (round = 0; round < 100; round++) {
		for (i = 0; i < 5; i++)
			check(!post(qp, &wr[5], &bad));
		check(post(qp, &wr[5], &bad) == ENOMEM);
		while (fake_next_send(f, &fwr))
			;
		fake_publish_sq(f);
	}

	for (round = 0; round < 10; round++) {
		for (i = 0; i < 3; i++) {
			rwr.wr_id = round * 3 + i;
			check(!fake_ops->post_recv(qp, &rwr, &rbad));
		}
		check(fake_ops->post_recv(qp, &rwr, &rbad) == ENOMEM);
		for (i = 0; i < 3; i++) {
			check(fake_next_recv(&f->rq, &f->rq_consumer, &rwqe,
					     rsge));
			check(rwqe.wr_id == (uint64_t)(round * 3 + i));
			check(rwqe.num_sge == 4 && rsge[0].addr == 1);
		}
	}

	/* RESET forgets it all, whatever the indices were. */
	check(!post(qp, &wr[5], &bad));
	check(!fake_ops->post_recv(qp, &rwr, &rbad));
	set_state(qp, IBV_QPS_RESET);
	check(f->sq.hdr->producer == 0 && f->rq.hdr->producer == 0);
	set_state(qp, IBV_QPS_RTS);
	for (i = 0; i < 5; i++)
		check(!post(qp, &wr[5], &bad));
	for (i = 0; i < 3; i++)
		check(!fake_ops->post_recv(qp, &rwr, &rbad));
	check(fake_ops->post_recv(qp, &rwr, &rbad) == ENOMEM);

	check(!fake_ops->destroy_qp(qp));
	check(!fake_ops->destroy_cq(cq));
}

static unsigned int rang;

static void count_ring(struct fake_qp *qp)
{
	struct fake_wr wr;

	while (fake_next_send(qp, &wr))
		rang++;
	fake_publish_sq(qp);
}

static void test_doorbell(void)
{
	struct ibv_send_wr wr[3] = {}, *bad;
	struct ibv_recv_wr rwr = {}, *rbad;
	struct ibv_cq *cq = new_cq(8);
	struct ibv_qp *qp = new_qp(IBV_QPT_RC, cq, 8, 8);
	unsigned int kicks = fake_kicks;
	int i;

	while (fake_take_doorbells(count_ring))
		;
	set_state(qp, IBV_QPS_RTS);
	for (i = 0; i < 3; i++)
		wr[i] = (struct ibv_send_wr){ .opcode = IBV_WR_SEND,
					      .next = i < 2 ? &wr[i + 1] : NULL };

	/* Awake: no system call. */
	rang = 0;
	check(!post(qp, wr, &bad));
	check(fake_kicks == kicks);
	check(fake_take_doorbells(count_ring) == 1 && rang == 3);

	/* Asleep: one per list. */
	fake_status->flags = RURDMA_DB_NEED_WAKEUP;
	check(!post(qp, wr, &bad));
	check(fake_kicks == ++kicks);
	check(fake_take_doorbells(count_ring) == 1 && rang == 6);
	check(!fake_ops->post_recv(qp, &rwr, &rbad));
	check(fake_kicks == kicks);

	/* A kick's failure is the caller's, nothing lost. */
	fake_kick_error = EIO;
	check(post(qp, wr, &bad) == EIO && bad == wr);
	fake_kick_error = 0;
	kicks++;
	fake_status->flags = 0;
	fake_take_doorbells(count_ring);

	/* In ERROR both queues kick. */
	set_state(qp, IBV_QPS_ERR);
	check(!post(qp, wr, &bad));
	check(fake_kicks == ++kicks);
	check(fake_take_doorbells(count_ring) == 1);
	check(!fake_ops->post_recv(qp, &rwr, &rbad));
	check(fake_kicks == ++kicks);
	check(fake_take_doorbells(count_ring) == 1);

	check(!fake_ops->destroy_qp(qp));
	check(!fake_ops->destroy_cq(cq));
}

/*
 * Random requests through both interfaces; what the module decodes must be what
 * was asked for, at every position in the ring.
 */
static uint64_t seed;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(seed >> 33) % n;
}

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

static void test_encoding(void)
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

static void test_wr_errors(void)
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

static void test_bind_mw(void)
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

static void complete(struct ibv_cq *cq, uint64_t wr_id, uint32_t qpn)
{
	struct rurdma_cqe cqe = { .wr_id = wr_id, .qp_num = qpn,
				  .opcode = IBV_WC_RECV, .byte_len = 7,
				  .imm_inv = 0x11223344, .wc_flags = IBV_WC_GRH,
				  .vlan_id = 0xffff, .sl = 3, .src_qp = 99,
				  .timestamp = 1000 };

	fake_complete(fake_cq_of(cq), &cqe);
}

static void test_poll(void)
{
	struct ibv_cq *cq = new_cq(4);
	struct ibv_wc wc[8];
	int i;

	check(fake_ops->poll_cq(cq, 8, wc) == 0);
	for (i = 0; i < 100; i++) {
		complete(cq, i, 1);
		complete(cq, 1000 + i, 2);
		check(fake_ops->poll_cq(cq, 1, wc) == 1);
		check(wc[0].wr_id == (uint64_t)i && wc[0].qp_num == 1);
		check(wc[0].opcode == IBV_WC_RECV && wc[0].byte_len == 7);
		check(wc[0].imm_data == 0x11223344 && wc[0].sl == 3);
		check(wc[0].src_qp == 99 && wc[0].wc_flags == IBV_WC_GRH);
		check(fake_ops->poll_cq(cq, 8, wc) == 1);
		check(wc[0].wr_id == (uint64_t)1000 + i);
	}

	/* Overflow: what is there is there, then the error. */
	for (i = 0; i < 5; i++)
		complete(cq, i, 1);
	check(fake_ops->poll_cq(cq, 8, wc) == 4);
	check(fake_ops->poll_cq(cq, 8, wc) == -EIO);
	check(!fake_ops->destroy_cq(cq));
}

static void test_purge(void)
{
	struct ibv_cq *cq = new_cq(8);
	struct ibv_qp *qp = new_qp(IBV_QPT_RC, cq, 1, 1);
	struct ibv_wc wc[8];

	complete(cq, 1, qp->qp_num);
	complete(cq, 2, 0x999);
	complete(cq, 3, qp->qp_num);
	set_state(qp, IBV_QPS_RESET);
	check(fake_ops->poll_cq(cq, 8, wc) == 1 && wc[0].wr_id == 2);
	complete(cq, 4, qp->qp_num);
	check(!fake_ops->destroy_qp(qp));
	check(fake_ops->poll_cq(cq, 8, wc) == 0);
	check(fake_cq_of(cq)->ring.hdr->consumer == 4);
	check(!fake_ops->destroy_cq(cq));
}

static void test_poll_ex(void)
{
	struct ibv_cq_init_attr_ex attr = {
		.cqe = 8,
		.wc_flags = IBV_WC_STANDARD_FLAGS |
			    IBV_WC_EX_WITH_COMPLETION_TIMESTAMP |
			    IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK |
			    IBV_WC_EX_WITH_CVLAN,
	};
	struct ibv_poll_cq_attr pa = {};
	struct ibv_cq_ex *cq;
	struct timespec ts;
	uint64_t now;

	attr.wc_flags |= IBV_WC_EX_WITH_FLOW_TAG;
	check(!fake_ops->create_cq_ex(ctx, &attr) && errno == EOPNOTSUPP);
	attr.wc_flags &= ~IBV_WC_EX_WITH_FLOW_TAG;
	cq = fake_ops->create_cq_ex(ctx, &attr);
	check(cq);
	/* The module stamps only what was asked to be. */
	check(fake_cq_wc_flags & IBV_WC_EX_WITH_COMPLETION_TIMESTAMP);

	check(cq->start_poll(cq, &pa) == ENOENT);
	complete((struct ibv_cq *)cq, 1, 5);
	complete((struct ibv_cq *)cq, 2, 6);
	check(!cq->start_poll(cq, &pa));
	/* Arming while polling must not lock up. */
	check(!fake_ops->req_notify_cq((struct ibv_cq *)cq, 0));
	check(cq->wr_id == 1 && cq->status == IBV_WC_SUCCESS);
	check(cq->read_opcode(cq) == IBV_WC_RECV && cq->read_qp_num(cq) == 5);
	check(cq->read_byte_len(cq) == 7 && cq->read_src_qp(cq) == 99);
	check(cq->read_imm_data(cq) == 0x11223344 && cq->read_sl(cq) == 3);
	check(cq->read_wc_flags(cq) == IBV_WC_GRH);
	check(cq->read_cvlan(cq) == 0 && cq->read_slid(cq) == 0);
	check(cq->read_completion_ts(cq) == 1000);
	clock_gettime(CLOCK_REALTIME, &ts);
	now = ts.tv_sec * 1000000000ULL + ts.tv_nsec;
	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	now -= ts.tv_sec * 1000000000ULL + ts.tv_nsec;
	check(cq->read_completion_wallclock_ns(cq) - 1000 - now + 1000000000 <
	      2000000000);
	check(!cq->next_poll(cq));
	check(cq->wr_id == 2);
	check(cq->next_poll(cq) == ENOENT);
	cq->end_poll(cq);
	check(cq->start_poll(cq, &pa) == ENOENT);
	complete((struct ibv_cq *)cq, 3, 6);
	check(!cq->start_poll(cq, &pa));
	cq->end_poll(cq);
	check(cq->start_poll(cq, &pa) == ENOENT);
	check(fake_cq_of((struct ibv_cq *)cq)->ring.hdr->consumer == 3);
	check(!fake_ops->destroy_cq((struct ibv_cq *)cq));
}

static void test_arm(void)
{
	struct ibv_cq *cq = new_cq(8);
	struct fake_cq *f = fake_cq_of(cq);

	complete(cq, 1, 1);
	check(f->events == 0);
	check(!fake_ops->req_notify_cq(cq, 1));
	complete(cq, 1, 1);
	check(f->events == 0);			/* not solicited */
	check(!fake_ops->req_notify_cq(cq, 0));
	check(!fake_ops->req_notify_cq(cq, 1));	/* does not weaken */
	complete(cq, 1, 1);
	check(f->events == 1);
	complete(cq, 1, 1);
	check(f->events == 1);
	check(!fake_ops->destroy_cq(cq));
}

static void test_resize(void)
{
	struct ibv_cq *cq;
	struct ibv_wc wc[16];
	int i, round;

	fake_start_index = -2u;
	cq = new_cq(4);
	for (round = 0; round < 4; round++) {
		for (i = 0; i < 4; i++)
			complete(cq, round * 10 + i, 1);
		check(fake_ops->poll_cq(cq, 1, wc) == 1);
		check(fake_ops->resize_cq(cq, 2) == EINVAL);
		check(fake_ops->resize_cq(cq, 0) == EINVAL);
		check(!fake_ops->req_notify_cq(cq, 0));
		check(!fake_ops->resize_cq(cq, 16 >> (round & 1)));
		complete(cq, round * 10 + 4, 1);
		check(fake_cq_of(cq)->events == (unsigned int)round + 1);
		check(fake_ops->poll_cq(cq, 16, wc) == 4);
		for (i = 0; i < 4; i++)
			check(wc[i].wr_id == (uint64_t)(round * 10 + i + 1));
	}
	check(!fake_ops->destroy_cq(cq));
	fake_start_index = 0;
}

static void test_srq(void)
{
	struct ibv_srq_init_attr attr = { .attr = { .max_wr = 6, .max_sge = 4 } };
	struct ibv_srq_attr change = { .max_wr = 8 };
	struct ibv_sge sge[4] = { { 5, 6, 7 } };
	struct ibv_recv_wr wr[8], *bad;
	struct ibv_qp_init_attr qattr = { .qp_type = IBV_QPT_RC,
					  .cap.max_send_wr = 1 };
	struct ibv_srq *srq = fake_ops->create_srq(pd, &attr);
	struct ibv_qp *qp;
	int i;

	check(srq);
	for (i = 0; i < 8; i++)
		wr[i] = (struct ibv_recv_wr){ .wr_id = i, .sg_list = sge,
					      .num_sge = 4,
					      .next = i < 7 ? &wr[i + 1] : NULL };
	check(fake_ops->post_srq_recv(srq, wr, &bad) == ENOMEM &&
	      bad == &wr[6]);
	/* The ring has room for this, so it stays. */
	check(!fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR));
	check(!fake_ops->post_srq_recv(srq, &wr[6], &bad));
	check(fake_ops->post_srq_recv(srq, &wr[7], &bad) == ENOMEM);

	qattr.srq = srq;
	qattr.send_cq = qattr.recv_cq = new_cq(4);
	qp = fake_ops->create_qp(pd, &qattr);
	check(qp);
	set_state(qp, IBV_QPS_RTS);
	check(fake_ops->post_recv(qp, wr, &bad) == EINVAL);
	check(!fake_ops->destroy_qp(qp));
	check(!fake_ops->destroy_srq(srq));
}

static int post_srq(struct ibv_srq *srq, uint64_t id)
{
	struct ibv_sge sge = { id, 16, 7 };
	struct ibv_recv_wr wr = { .wr_id = id, .sg_list = &sge, .num_sge = 1 };
	struct ibv_recv_wr *bad;

	return fake_ops->post_srq_recv(srq, &wr, &bad);
}

static void test_srq_resize(void)
{
	static const uint32_t sizes[] = { 16, 5, 64, 1024, 8, 7, 4 };
	struct ibv_srq_init_attr attr = { .attr = { .max_wr = 4, .max_sge = 4 } };
	struct ibv_srq_attr change = {};
	struct rurdma_recv_wqe wqe;
	struct rurdma_sge sge[32];
	uint64_t posted = 0, taken = 0;
	struct ibv_srq *srq;
	uint32_t consumer;
	unsigned int i;

	fake_start_index = -3u;
	srq = fake_ops->create_srq(pd, &attr);
	check(srq);
	consumer = fake_start_index;
	for (i = 0; i < 4; i++)
		check(!post_srq(srq, posted++));
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		/* Four are outstanding. */
		change.max_wr = 3;
		check(fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR) == EINVAL);
		change.max_wr = sizes[i];
		check(!fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR));
		while (!post_srq(srq, posted))
			posted++;
		check(posted - taken >= sizes[i]);
		while (posted - taken > 4) {
			check(fake_next_recv(fake_srq_of(srq), &consumer, &wqe, sge));
			check(wqe.wr_id == taken && sge[0].addr == taken);
			taken++;
		}
	}
	/* The limit alone is the plain command. */
	check(!fake_ops->modify_srq(srq, &change, IBV_SRQ_LIMIT));
	change.max_wr = 0;
	check(fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR) == EINVAL);
	change.max_wr = FAKE_MAX_RECV_WR + 1;
	check(fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR) == EINVAL);
	/* A module of before. */
	to_rctx(ctx)->caps &= ~RURDMA_CAP_SRQ_RESIZE;
	change.max_wr = 4;
	check(fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR) == EOPNOTSUPP);
	to_rctx(ctx)->caps |= RURDMA_CAP_SRQ_RESIZE;
	/* The new ring cannot be mapped: nothing is posted into the void. */
	fake_srq_resize_skew = 1;
	change.max_wr = 32;
	check(fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR) == EINVAL);
	fake_srq_resize_skew = 0;
	check(post_srq(srq, 0) == EIO);
	check(fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR) == EIO);
	check(!fake_ops->destroy_srq(srq));
	fake_start_index = 0;
}

/*
 * Two threads, the real protocol: the module's thread sleeps when there is
 * nothing to do and is woken by kicks only; the poster sleeps on CQ events only.
 * A lost wakeup shows as a time-out.
 */
static pthread_mutex_t wake_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake_cond = PTHREAD_COND_INITIALIZER;
static bool woken, stop;
static unsigned int sleeps;

static void wake(void)
{
	pthread_mutex_lock(&wake_lock);
	woken = true;
	pthread_cond_signal(&wake_cond);
	pthread_mutex_unlock(&wake_lock);
}

static void execute(struct fake_qp *qp)
{
	struct rurdma_cqe cqe = {};
	struct fake_wr wr;

	while (fake_next_send(qp, &wr)) {
		fake_publish_sq(qp);
		cqe.wr_id = wr.wqe.wr_id;
		cqe.qp_num = wr.qp_num;
		fake_complete(qp->send_cq, &cqe);
	}
}

static void *module_thread(void *arg)
{
	struct timespec ts;
	int ret;

	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		if (fake_take_doorbells(execute))
			continue;
		__atomic_store_n(&fake_status->flags, RURDMA_DB_NEED_WAKEUP,
				 __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (!fake_take_doorbells(execute)) {
			sleeps++;
			clock_gettime(CLOCK_REALTIME, &ts);
			ts.tv_sec += 10;
			pthread_mutex_lock(&wake_lock);
			ret = 0;
			while (!woken && !ret)
				ret = pthread_cond_timedwait(&wake_cond,
							     &wake_lock, &ts);
			woken = false;
			pthread_mutex_unlock(&wake_lock);
			check(!ret);	/* nobody kicked */
		}
		__atomic_store_n(&fake_status->flags, 0, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_wakeups(void)
{
	struct ibv_cq *cq = new_cq(16);
	struct ibv_qp *qp = new_qp(IBV_QPT_RC, cq, 16, 1);
	struct fake_cq *f = fake_cq_of(cq);
	struct ibv_send_wr wr = { .opcode = IBV_WR_SEND }, *bad;
	unsigned int posted = 0, done = 0, events = 0, waits = 0;
	struct timespec start, now;
	struct ibv_wc wc[16];
	pthread_t thread;
	int i, n;

	set_state(qp, IBV_QPS_RTS);
	fake_on_kick = wake;
	check(!pthread_create(&thread, NULL, module_thread, NULL));

	while (done < 100000) {
		n = 1 + rnd(4);
		while (n-- && posted - done < 16) {
			wr.wr_id = posted++;
			check(!post(qp, &wr, &bad));
		}
		while (done < posted) {
			n = fake_ops->poll_cq(cq, 16, wc);
			check(n >= 0);
			for (i = 0; i < n; i++)
				check(wc[i].wr_id == done++);
			if (n)
				break;
			events = __atomic_load_n(&f->events, __ATOMIC_SEQ_CST);
			check(!fake_ops->req_notify_cq(cq, 0));
			n = fake_ops->poll_cq(cq, 16, wc);
			for (i = 0; i < n; i++)
				check(wc[i].wr_id == done++);
			if (n)
				break;
			/* "Block" until the event. */
			waits++;
			clock_gettime(CLOCK_MONOTONIC, &start);
			while (__atomic_load_n(&f->events, __ATOMIC_SEQ_CST) ==
			       events) {
				clock_gettime(CLOCK_MONOTONIC, &now);
				check(now.tv_sec - start.tv_sec < 10);
			}
		}
	}

	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	wake();
	pthread_join(thread, NULL);
	fake_on_kick = NULL;
	fake_status->flags = 0;
	printf("   %u requests, module slept %u times, poller %u times\n", done,
	       sleeps, waits);
	check(!fake_ops->destroy_qp(qp));
	check(!fake_ops->destroy_cq(cq));
}

static void test_iwarp(void)
{
	struct ibv_send_wr wr = { .opcode = IBV_WR_SEND }, *bad;
	struct ibv_recv_wr rwr = {}, *rbad;
	struct ibv_qp_init_attr attr = { .qp_type = IBV_QPT_UD };
	struct ibv_ah_attr ah_attr = {};
	unsigned int posts = fake_post_sends;
	struct ibv_cq *cq;
	struct ibv_qp *qp;

	/* Also the old way to kick, with a module that grants nothing. */
	fake_caps = 0;
	open_context(IBV_TRANSPORT_IWARP);
	cq = new_cq(8);
	attr.send_cq = cq;
	attr.recv_cq = cq;
	check(!fake_ops->create_qp(pd, &attr) && errno == EOPNOTSUPP);
	check(!fake_ops->create_ah(pd, &ah_attr) && errno == EOPNOTSUPP);

	/* The CM in the kernel moves the QP, libibverbs does not see it. */
	qp = new_qp(IBV_QPT_RC, cq, 4, 4);
	check(!fake_ops->post_recv(qp, &rwr, &rbad));
	check(post(qp, &wr, &bad) == EINVAL);
	fake_qp_of(qp)->state = IBV_QPS_RTS;
	check(!post(qp, &wr, &bad) && qp->state == IBV_QPS_RTS);
	check(fake_post_sends == posts);
	fake_status->flags = RURDMA_DB_NEED_WAKEUP;
	check(!post(qp, &wr, &bad));
	check(fake_post_sends == posts + 1);
	fake_status->flags = 0;

	wr.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
	check(post(qp, &wr, &bad) == EOPNOTSUPP);
	wr.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD;
	check(post(qp, &wr, &bad) == EOPNOTSUPP);
	wr.opcode = IBV_WR_FLUSH;
	check(post(qp, &wr, &bad) == EINVAL);
	check(!fake_ops->destroy_qp(qp));
	check(!fake_ops->destroy_cq(cq));
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} tests[] = {
		{ "context", test_context },
		{ "states_and_types", test_states_and_types },
		{ "queue_limits", test_queue_limits },
		{ "doorbell", test_doorbell },
		{ "encoding", test_encoding },
		{ "wr_errors", test_wr_errors },
		{ "bind_mw", test_bind_mw },
		{ "poll", test_poll },
		{ "purge", test_purge },
		{ "poll_ex", test_poll_ex },
		{ "arm", test_arm },
		{ "resize", test_resize },
		{ "srq", test_srq },
		{ "srq_resize", test_srq_resize },
		{ "wakeups", test_wakeups },
		{ "iwarp", test_iwarp },
	};
	size_t i;

	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL);
	printf("seed %llu\n", (unsigned long long)seed);
	open_context(IBV_TRANSPORT_IB);
	for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		printf("%s\n", tests[i].name);
		fflush(stdout);
		tests[i].run();
	}
	printf("%zu passed, 0 failed, 0 skipped\n", i);
	return 0;
}
