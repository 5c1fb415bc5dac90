// SPDX-License-Identifier: GPL-2.0
/* Tests of parent and thread domains, and of contexts, PDs and MRs that are imported; test_shared.py runs them. */

#include "vt.h"

#include <signal.h>
#include <sys/wait.h>

/* Everything of a QP that needs no peer: rings, doorbell, completions, an event. */
static void use_qp(struct ibv_context *ctx, struct ibv_pd *pd, struct ibv_cq *cq, struct ibv_comp_channel *cc,
		   struct ibv_srq *srq)
{
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC, .send_cq = cq, .recv_cq = cq, .srq = srq,
		.cap = { 8, 8, 1, 1, 0 },
	};
	struct ibv_recv_wr *bad, wr = { .wr_id = 100 };
	struct ibv_qp *qp = ibv_create_qp(pd, &init);
	struct ibv_cq *got;
	void *context;

	CHECK(qp);
	CHECK(qp->context == ctx);
	into_init(qp);
	if (srq) {
		OK(ibv_post_srq_recv(srq, &wr, &bad));
		OK(to_state(qp, IBV_QPS_ERR));
		NOTHING(cq);
	} else {
		OK(try_recv(qp, 1, NULL, 0));
		OK(try_recv(qp, 2, NULL, 0));
		if (cc)
			OK(ibv_req_notify_cq(cq, 0));
		OK(to_state(qp, IBV_QPS_ERR));
		if (cc) {
			CHECK(readable(cc->fd, SOON));
			OK(ibv_get_cq_event(cc, &got, &context));
			CHECK(got == cq);
			ibv_ack_cq_events(cq, 1);
		}
		DONE_WITH(cq, 1, WR_FLUSH_ERR);
		DONE_WITH(cq, 2, WR_FLUSH_ERR);
		/* The doorbell of what is posted in ERROR reaches the module, too. */
		OK(try_recv(qp, 3, NULL, 0));
		DONE_WITH(cq, 3, WR_FLUSH_ERR);
	}
	OK(ibv_destroy_qp(qp));
}

static void *no_memory(struct ibv_pd *pd, void *context, size_t size, size_t alignment, uint64_t type)
{
	(void)pd, (void)context, (void)size, (void)alignment, (void)type;
	return IBV_ALLOCATOR_USE_DEFAULT;
}

static void no_free(struct ibv_pd *pd, void *context, void *p, uint64_t type)
{
	(void)pd, (void)context, (void)p, (void)type;
}

static void parent_domain(void)
{
	struct ibv_context *ctx = open_device();
	struct ibv_parent_domain_init_attr attr = {
		.alloc = no_memory, .free = no_free,
		.comp_mask = IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS |
			     IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT,
	};
	struct ibv_srq_init_attr srq_init = { .attr = { .max_wr = 4, .max_sge = 1 } };
	struct ibv_td_init_attr td_attr = {};
	struct ibv_comp_channel *cc = ibv_create_comp_channel(ctx);
	static uint8_t page[4096];

	for (int with_td = 0; with_td < 2; with_td++) {
		struct ibv_cq_init_attr_ex cq_attr = {
			.cqe = 16, .channel = cc, .comp_mask = IBV_CQ_INIT_ATTR_MASK_PD,
		};
		struct ibv_pd *pd = ibv_alloc_pd(ctx), *domain;
		struct ibv_td *td = with_td ? ibv_alloc_td(ctx, &td_attr) : NULL;
		struct ibv_cq_ex *cq;
		struct ibv_srq *srq;
		struct ibv_mr *mr;

		attr.pd = pd;
		attr.td = td;
		domain = ibv_alloc_parent_domain(ctx, &attr);
		CHECK(domain);
		/* A domain holds what it is made of. */
		FAILS(EBUSY, ibv_dealloc_pd(pd));
		if (td)
			FAILS(EBUSY, ibv_dealloc_td(td));
		cq_attr.parent_domain = pd;
		NULLS(EINVAL, ibv_create_cq_ex(ctx, &cq_attr));
		cq_attr.parent_domain = domain;
		cq = ibv_create_cq_ex(ctx, &cq_attr);
		CHECK(cq);
		srq = ibv_create_srq(domain, &srq_init);
		CHECK(srq);
		mr = ibv_reg_mr(domain, page, sizeof(page), ALL_ACCESS);
		CHECK(mr && mr->pd == domain);
		use_qp(ctx, domain, ibv_cq_ex_to_cq(cq), cc, NULL);
		use_qp(ctx, domain, ibv_cq_ex_to_cq(cq), NULL, srq);
		/* It is the PD, for the module: objects of both go together. */
		use_qp(ctx, pd, ibv_cq_ex_to_cq(cq), NULL, srq);
		OK(ibv_dereg_mr(mr));
		OK(ibv_destroy_srq(srq));
		OK(ibv_destroy_cq(ibv_cq_ex_to_cq(cq)));
		OK(ibv_dealloc_pd(domain));
		OK(ibv_dealloc_pd(pd));
		if (td)
			OK(ibv_dealloc_td(td));
	}
	NULLS(EINVAL, ibv_alloc_parent_domain(ctx, &(struct ibv_parent_domain_init_attr) {}));
	td_attr.comp_mask = 1;
	NULLS(EOPNOTSUPP, ibv_alloc_td(ctx, &td_attr));
	attr.comp_mask = 1u << 20;
	attr.pd = ibv_alloc_pd(ctx);
	attr.td = NULL;
	NULLS(EOPNOTSUPP, ibv_alloc_parent_domain(ctx, &attr));
}

/* Works with what somebody else has opened, by its number alone. */
static void work_imported(int fd, uint32_t pd_handle, uint32_t mr_handle, uint32_t lkey, size_t len)
{
	struct ibv_context *ctx = ibv_import_device(fd);
	static uint8_t page[4096];
	struct ibv_comp_channel *cc;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_mr *mr, *own;

	if (!ctx)
		FAIL("ibv_import_device");
	CHECK(ctx->num_comp_vectors > 0);
	pd = ibv_import_pd(ctx, pd_handle);
	CHECK(pd);
	mr = ibv_import_mr(pd, mr_handle);
	CHECK(mr);
	EQ(mr->lkey, lkey);
	EQ(mr->rkey, lkey);
	EQ(mr->length, len);
	NULLS(ENOENT, ibv_import_mr(pd, mr_handle + 1000));
	cc = ibv_create_comp_channel(ctx);
	CHECK(cc);
	cq = ibv_create_cq(ctx, 16, NULL, cc, 0);
	CHECK(cq);
	for (int i = 0; i < 5; i++)
		use_qp(ctx, pd, cq, cc, NULL);
	OK(ibv_resize_cq(cq, 100));
	use_qp(ctx, pd, cq, cc, NULL);
	own = ibv_reg_mr(pd, page, sizeof(page), ALL_ACCESS);
	CHECK(own);
	OK(ibv_dereg_mr(own));
	OK(ibv_destroy_cq(cq));
	OK(ibv_destroy_comp_channel(cc));
	/* Nobody but its owner ends what was imported. */
	ibv_unimport_mr(mr);
	ibv_unimport_pd(pd);
	OK(ibv_close_device(ctx));
}

static void shared_import(void)
{
	struct ibv_context *ctx = open_device();
	struct ibv_comp_channel *cc = ibv_create_comp_channel(ctx);
	struct ibv_cq *cq = ibv_create_cq(ctx, 16, NULL, cc, 0);
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct buf b = new_buf(pd, 12345);
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC, .send_cq = cq, .recv_cq = cq, .cap = { 8, 8, 1, 1, 0 },
	};
	struct ibv_qp *qp = ibv_create_qp(pd, &init);
	int status;

	CHECK(cq && qp);
	into_init(qp);
	OK(try_recv(qp, 1, NULL, 0));
	/* In this process. */
	work_imported(dup(ctx->cmd_fd), pd->handle, b.mr->handle, b.mr->lkey, b.len);
	/* In another one, with a QP here that goes on all the while. */
	for (int i = 0; i < 3; i++) {
		pid_t child = fork();

		if (!child) {
			work_imported(dup(ctx->cmd_fd), pd->handle, b.mr->handle, b.mr->lkey, b.len);
			_exit(0);
		}
		CHECK(child > 0);
		EQ(waitpid(child, &status, 0), child);
		EQ(status, 0);
	}
	OK(to_state(qp, IBV_QPS_ERR));
	DONE_WITH(cq, 1, WR_FLUSH_ERR);
	use_qp(ctx, pd, cq, cc, NULL);
	/* A file that is no device. */
	CHECK(!ibv_import_device(open("/dev/null", O_RDWR)));
	OK(ibv_destroy_qp(qp));
	OK(ibv_dereg_mr(b.mr));
	OK(ibv_dealloc_pd(pd));
}

/* Killed in the middle of it, a process that imported takes nothing with it. */
static void shared_import_killed(void)
{
	struct ibv_context *ctx = open_device();
	struct ibv_cq *cq = ibv_create_cq(ctx, 16, NULL, NULL, 0);
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct buf b = new_buf(pd, 4096);
	int status;

	for (int i = 0; i < 10; i++) {
		pid_t child = fork();

		if (!child)
			for (;;)
				work_imported(dup(ctx->cmd_fd), pd->handle, b.mr->handle, b.mr->lkey, b.len);
		usleep(20000 + i * 7000);
		OK(kill(child, SIGKILL));
		EQ(waitpid(child, &status, 0), child);
		CHECK(WIFSIGNALED(status));
		use_qp(ctx, pd, cq, NULL, NULL);
	}
	OK(ibv_dereg_mr(b.mr));
}

static const struct test tests[] = {
	T(parent_domain), T(shared_import), T(shared_import_killed),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
