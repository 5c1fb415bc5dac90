// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The provider against a stand-in for the module (fake.c). Every test says its
 * name; the first failed check of a test ends the program with status 1.
 */
#include <time.h>

#include "test_provider.h"

static struct ibv_device device = {
	.node_type = IBV_NODE_CA,
	.transport_type = IBV_TRANSPORT_IB,
};
struct ibv_context *ctx;
struct ibv_pd *pd;

static uint64_t seed;

uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(seed >> 33) % n;
}

void open_context(enum ibv_transport_type transport)
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

void set_state(struct ibv_qp *qp, enum ibv_qp_state state)
{
	struct ibv_qp_attr attr = { .qp_state = state };

	check(!fake_ops->modify_qp(qp, &attr, IBV_QP_STATE));
	qp->state = state;
}

struct ibv_cq *new_cq(int n)
{
	struct ibv_cq *cq = fake_ops->create_cq(ctx, n, NULL, 0);

	check(cq);
	return cq;
}

struct ibv_qp *new_qp(enum ibv_qp_type type, struct ibv_cq *cq,
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

struct ibv_qp *new_qp_ex(enum ibv_qp_type type, struct ibv_cq *cq,
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

int post(struct ibv_qp *qp, struct ibv_send_wr *wr,
		struct ibv_send_wr **bad)
{
	*bad = NULL;
	return fake_ops->post_send(qp, wr, bad);
}

static void test_context(void)
{
	struct ibv_values_ex values = { .comp_mask = IBV_VALUES_MASK_RAW_CLOCK };

	check(!fake_ops->query_rt_values(ctx, &values));
	check(values.comp_mask == IBV_VALUES_MASK_RAW_CLOCK);
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

/* FLUSH and ATOMIC WRITE are offered as the device has them, by either interface. */
static void test_device_caps(void)
{
	static const struct {
		uint64_t caps, op;
		enum ibv_wr_opcode opcode;
	} ops[] = {
		{ 1ULL << 38, IBV_QP_EX_WITH_FLUSH, IBV_WR_FLUSH },
		{ 1ULL << 40, IBV_QP_EX_WITH_ATOMIC_WRITE, IBV_WR_ATOMIC_WRITE },
	};
	uint64_t all = fake_device_caps;
	struct ibv_send_wr wr = {}, *bad;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	size_t i;

	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		fake_device_caps = ops[i].caps;
		open_context(IBV_TRANSPORT_IB);
		cq = new_cq(8);
		qp = new_qp_ex(IBV_QPT_RC, cq, 2, ops[i].op);
		check(qp);
		check(!new_qp_ex(IBV_QPT_RC, cq, 2, ops[!i].op) && errno == EOPNOTSUPP);
		check(!new_qp_ex(IBV_QPT_UC, cq, 2, ops[i].op) && errno == EOPNOTSUPP);
		set_state(qp, IBV_QPS_RTS);
		wr.opcode = ops[!i].opcode;
		check(post(qp, &wr, &bad) == EINVAL);
		/* ibv_send_wr has no words for a flush. */
		wr.opcode = ops[i].opcode;
		check(post(qp, &wr, &bad) == (wr.opcode == IBV_WR_FLUSH ? EOPNOTSUPP : 0));
		check(!fake_ops->destroy_qp(qp));
		check(!fake_ops->destroy_cq(cq));
	}
	fake_device_caps = all;
	open_context(IBV_TRANSPORT_IB);
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
	/* The device is going, and its page does not say so yet. */
	fake_query_qp_error = EIO;
	check(post(qp, &wr, &bad) == EIO && bad == &wr);
	fake_query_qp_error = 0;
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

/* With RFC 7306: immediate data can follow a WRITE and nothing else. */
static void test_iwarp_extensions(void)
{
	struct ibv_sge sge = { .length = 8 };
	struct ibv_send_wr wr = { .sg_list = &sge, .num_sge = 1 }, *bad;
	const uint64_t ops = IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM |
			     IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |
			     IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD;
	struct rurdma_ext_atomic *ext;
	struct ibv_qp_ex *qpx;
	struct fake_wr got;
	struct ibv_cq *cq;
	struct ibv_qp *qp;

	fake_caps = RURDMA_CAP_KICK_METHOD | RURDMA_CAP_ATOMIC_IMM;
	open_context(IBV_TRANSPORT_IWARP);
	cq = new_cq(8);
	errno = 0;
	check(!new_qp_ex(IBV_QPT_RC, cq, 4,
			 ops | IBV_QP_EX_WITH_SEND_WITH_IMM));
	check(errno == EOPNOTSUPP);
	qp = new_qp_ex(IBV_QPT_RC, cq, 4, ops);
	check(qp);
	qpx = (struct ibv_qp_ex *)qp;
	fake_qp_of(qp)->state = IBV_QPS_RTS;

	wr.opcode = IBV_WR_SEND_WITH_IMM;
	check(post(qp, &wr, &bad) == EOPNOTSUPP && bad == &wr);
	wr.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
	wr.imm_data = htobe32(0x11223344);
	check(!post(qp, &wr, &bad));
	check(fake_next_send(fake_qp_of(qp), &got));
	check(got.wqe.opcode == RURDMA_OP_WRITE_IMM);
	check(got.wqe.imm_inv == htobe32(0x11223344));

	wr.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD;
	wr.wr.atomic.compare_add = 5;
	check(!post(qp, &wr, &bad));
	check(fake_next_send(fake_qp_of(qp), &got));
	ext = (void *)got.ext;
	check(got.wqe.opcode == RURDMA_OP_FETCH_ADD && ext->compare_add == 5);

	qpx->wr_start(qpx);
	qpx->wr_atomic_cmp_swp(qpx, 1, 8, 6, 7);
	qpx->wr_set_sge(qpx, 2, 16, 8);
	check(!qpx->wr_complete(qpx));
	check(fake_next_send(fake_qp_of(qp), &got));
	ext = (void *)got.ext;
	check(got.wqe.opcode == RURDMA_OP_CMP_SWP);
	check(ext->compare_add == 6 && ext->swap == 7);

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
		{ "domains", test_domains },
		{ "import", test_import },
		{ "wakeups", test_wakeups },
		{ "device_caps", test_device_caps },
		{ "iwarp", test_iwarp },
		{ "iwarp_extensions", test_iwarp_extensions },
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
