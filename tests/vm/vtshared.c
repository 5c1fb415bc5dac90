// SPDX-License-Identifier: GPL-2.0
/* Tests of parent and thread domains, and of contexts, PDs and MRs that are imported; test_shared.py runs them. */

#include "vt.h"

#include <signal.h>
#include <sys/prctl.h>
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

/* --- traffic --- */

/* Of each kind of transfer; memory has four such parts. */
#define PART 12345

/* What is handed on: memory that both processes see. */
static struct ibv_context *ctx;
static struct buf b;
/* The owner's other end, and its memory. */
static struct end s;
static struct buf m;

static void share_memory(void)
{
	struct ibv_pd *pd;

	ctx = open_device();
	pd = ibv_alloc_pd(ctx);
	CHECK(pd);
	b.len = 4 * PART;
	b.p = mmap(NULL, b.len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(b.p != MAP_FAILED);
	b.mr = ibv_reg_mr(pd, b.p, b.len, ALL_ACCESS);
	CHECK(b.mr);
	m = new_buf(ibv_alloc_pd(ctx), 4 * PART);
}

/* A QP of the importer's, of which rdma_cm knows no more than the number. */
struct importer {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_mr *mr;
	/* Of sends, and of receives: a peer's answer may complete before the request that it answers. */
	struct ibv_cq *scq, *rcq;
	struct ibv_qp *qp;
	struct end e;
	struct rdma_conn_param param;
};

static void to(struct importer *x, enum ibv_qp_state state)
{
	struct ibv_qp_attr attr = { .qp_state = state };
	int mask;

	OK(rdma_init_qp_attr(x->e.id, &attr, &mask));
	OK(ibv_modify_qp(x->qp, &attr, mask));
}

/* As librdmacm does it: with what the peer said its rights may be others, so INIT comes again. */
static void to_connected(struct importer *x)
{
	to(x, IBV_QPS_INIT);
	to(x, IBV_QPS_RTR);
	to(x, IBV_QPS_RTS);
}

static int recv_imported(struct importer *x, uint64_t id, int part)
{
	struct ibv_sge sge = { (uintptr_t)b.p + part * PART, PART, x->mr->lkey };

	return try_recv(x->qp, id, &sge, 1);
}

/* Of the QP's PD: `e.id` is there. */
static void make_imported(struct importer *x)
{
	struct ibv_qp_init_attr init = { .qp_type = IBV_QPT_RC, .cap = { 8, 8, 1, 1, 0 } };

	x->ctx = ibv_import_device(dup(ctx->cmd_fd));
	CHECK(x->ctx);
	x->pd = ibv_import_pd(x->ctx, b.mr->pd->handle);
	CHECK(x->pd);
	x->mr = ibv_import_mr(x->pd, b.mr->handle);
	CHECK(x->mr);
	x->scq = ibv_create_cq(x->ctx, 64, NULL, NULL, 0);
	CHECK(x->scq);
	x->rcq = ibv_create_cq(x->ctx, 64, NULL, NULL, 0);
	CHECK(x->rcq);
	init.send_cq = x->scq;
	init.recv_cq = x->rcq;
	x->qp = ibv_create_qp(x->pd, &init);
	CHECK(x->qp);
	to(x, IBV_QPS_INIT);
	OK(recv_imported(x, 1, 1));
	x->param = param_of(&defaults);
	x->param.qp_num = x->qp->qp_num;
}

static void import_and_connect(struct importer *x, uint16_t port)
{
	resolve(&x->e, port);
	make_imported(x);
	OK(rdma_connect(x->e.id, &x->param));
	if (is_roce(ctx)) {
		CM_EXPECT(x->e.ch, CONNECT_RESPONSE);
		to_connected(x);
		OK(rdma_establish(x->e.id));
	} else {
		CM_EXPECT(x->e.ch, ESTABLISHED);
	}
}

/* Says on `fd` where it listens. */
static void import_and_accept(struct importer *x, int fd)
{
	struct rdma_event_channel *ch = new_channel();
	uint16_t port = ntohs(rdma_get_src_port(listen_on(ch, 1)));
	struct rdma_cm_event *ev;

	EQ(write(fd, &port, sizeof(port)), sizeof(port));
	ev = CM_EVENT(ch, CONNECT_REQUEST);
	x->e.id = ev->id;
	OK(rdma_ack_cm_event(ev));
	make_imported(x);
	to_connected(x);
	OK(rdma_accept(x->e.id, &x->param));
	CM_EXPECT(ch, ESTABLISHED);
}

/* The owner's end, whose PD is that of `m`. */
static void make_other(void)
{
	struct opt o = { .server_pd = m.mr->pd };
	struct ibv_sge sge = sge_of(&m, 0, PART);

	make_qp(&s, &o, true);
	OK(try_recv(s.qp, 1, &sge, 1));
	OK(try_recv(s.qp, 2, NULL, 0));
}

static void accept_importer(void)
{
	struct rdma_conn_param param = param_of(&defaults);
	struct rdma_cm_event *ev = CM_EVENT(listen_ch, CONNECT_REQUEST);

	s.id = ev->id;
	OK(rdma_ack_cm_event(ev));
	s.ch = new_channel();
	OK(rdma_migrate_id(s.id, s.ch));
	make_other();
	OK(rdma_accept(s.id, &param));
	CM_EXPECT(s.ch, ESTABLISHED);
}

static void connect_to_importer(int fd)
{
	struct rdma_conn_param param = param_of(&defaults);
	uint16_t port;

	EQ(read(fd, &port, sizeof(port)), sizeof(port));
	resolve(&s, port);
	make_other();
	OK(rdma_connect(s.id, &param));
	CM_EXPECT(s.ch, ESTABLISHED);
}

/* What the importer does with a part of its memory, by the key of the imported MR. */
static void post_imported(struct importer *x, uint64_t id, enum ibv_wr_opcode op, int part,
			  int remote, size_t len)
{
	struct ibv_sge sge = { (uintptr_t)b.p + part * PART, len, x->mr->lkey };
	struct work w = {
		id, op, SIGNALED, &sge, 1, (uintptr_t)m.p + remote * PART, m.mr->rkey,
	};

	OK(try_post(x->qp, &w));
}

/* All kinds of transfer with the owner, each way; of both this is the importer's part. */
static void importer_talks(struct importer *x, uint32_t seed)
{
	fill(b.p, PART, seed);
	post_imported(x, 10, IBV_WR_SEND, 0, 0, PART);
	DONE(x->scq, 10);
	EQ(DONE(x->rcq, 1).byte_len, PART);
	VERIFY(b.p + PART, PART, seed + 1);
	fill(b.p, PART, seed + 2);
	post_imported(x, 11, IBV_WR_RDMA_WRITE, 0, 1, PART);
	DONE(x->scq, 11);
	post_imported(x, 12, IBV_WR_RDMA_READ, 2, 2, PART);
	DONE(x->scq, 12);
	VERIFY(b.p + 2 * PART, PART, seed + 1);
	OK(recv_imported(x, 2, 1));
	post_imported(x, 13, IBV_WR_SEND, 0, 0, 0);
	DONE(x->scq, 13);
	EQ(DONE(x->rcq, 2).byte_len, 0);
	VERIFY(b.p + 3 * PART, PART, seed + 3);
}

static void owner_talks(uint32_t seed)
{
	struct ibv_sge sge = sge_of(&m, 2 * PART, PART);
	struct work w = { 20, IBV_WR_SEND, SIGNALED, &sge, 1, 0, 0 };

	EQ(DONE(s.rcq, 1).byte_len, PART);
	VERIFY(m.p, PART, seed);
	fill(m.p + 2 * PART, PART, seed + 1);
	OK(try_post(s.qp, &w));
	DONE(s.scq, 20);
	DONE(s.rcq, 2);
	VERIFY(m.p + PART, PART, seed + 2);
	/* To the MR of before the import, by the importer's QP. */
	w = (struct work){ 21, IBV_WR_RDMA_READ, SIGNALED, &sge, 1, (uintptr_t)b.p, b.mr->rkey };
	OK(try_post(s.qp, &w));
	DONE(s.scq, 21);
	VERIFY(m.p + 2 * PART, PART, seed + 2);
	fill(m.p + 2 * PART, PART, seed + 3);
	w = (struct work){ 22, IBV_WR_RDMA_WRITE, SIGNALED, &sge, 1,
			   (uintptr_t)b.p + 3 * PART, b.mr->rkey };
	OK(try_post(s.qp, &w));
	w = (struct work){ 23, IBV_WR_SEND, SIGNALED, NULL, 0, 0, 0 };
	OK(try_post(s.qp, &w));
	DONE(s.scq, 22);
	DONE(s.scq, 23);
	VERIFY(b.p + 3 * PART, PART, seed + 3);
}

static void close_imported(struct importer *x)
{
	OK(ibv_destroy_qp(x->qp));
	OK(ibv_destroy_cq(x->scq));
	OK(ibv_destroy_cq(x->rcq));
	ibv_unimport_mr(x->mr);
	ibv_unimport_pd(x->pd);
	OK(ibv_close_device(x->ctx));
}

/* Another process carries traffic by the PD and the MR that it imports. */
static void shared_import_traffic(void)
{
	struct ibv_pd *pd;
	int status;

	share_memory();
	listen_ch = new_channel();
	listener = listen_on(listen_ch, 1);
	for (uint32_t i = 0; i < 4; i++) {
		bool active = i % 2;
		int port[2];
		pid_t child;

		memset(b.p, 0, b.len);
		memset(m.p, 0, m.len);
		memset(&s, 0, sizeof(s));
		OK(pipe(port));
		child = fork();
		if (!child) {
			struct importer x = {};

			OK(prctl(PR_SET_PDEATHSIG, SIGKILL));
			if (active)
				import_and_connect(&x, ntohs(rdma_get_src_port(listener)));
			else
				import_and_accept(&x, port[1]);
			importer_talks(&x, 10 * i);
			close_imported(&x);
			_exit(0);
		}
		CHECK(child > 0);
		if (active)
			accept_importer();
		else
			connect_to_importer(port[0]);
		owner_talks(10 * i);
		EQ(waitpid(child, &status, 0), child);
		EQ(status, 0);
		close_end(&s);
		OK(close(port[0]));
		OK(close(port[1]));
	}
	/* Nothing of the importers' is left that would hold them. */
	pd = b.mr->pd;
	OK(ibv_dereg_mr(b.mr));
	OK(ibv_dealloc_pd(pd));
}

/* It is killed while its memory is written: that ends, and the owner has it back. */
static void shared_import_killed_traffic(void)
{
	int status;

	share_memory();
	listen_ch = new_channel();
	listener = listen_on(listen_ch, 1);
	for (uint32_t i = 0; i < 5; i++) {
		struct ibv_sge sge = sge_of(&m, 0, m.len);
		struct work w = {
			i, IBV_WR_RDMA_WRITE, SIGNALED, &sge, 1, (uintptr_t)b.p, b.mr->rkey,
		};
		long end = now_ms() + SOON, dies = now_ms() + 20 + i * 7;
		struct ibv_wc wc = {};
		pid_t child;

		memset(&s, 0, sizeof(s));
		child = fork();
		if (!child) {
			struct importer x = {};

			OK(prctl(PR_SET_PDEATHSIG, SIGKILL));
			import_and_connect(&x, ntohs(rdma_get_src_port(listener)));
			for (;;)
				pause();
		}
		CHECK(child > 0);
		accept_importer();
		OK(try_post(s.qp, &w));
		DONE(s.scq, i);
		OK(try_post(s.qp, &w));
		while (now_ms() < end && wc.status == IBV_WC_SUCCESS) {
			if (ibv_poll_cq(s.scq, 1, &wc) > 0 && wc.status == IBV_WC_SUCCESS)
				OK(try_post(s.qp, &w));
			if (dies && now_ms() > dies) {
				OK(kill(child, SIGKILL));
				dies = 0;
			}
			/* Of RoCE the QP is the context's and goes on, and the CM alone says so. */
			if (!dies && is_roce(ctx) && readable(s.ch->fd, 0)) {
				follow(&s);
				break;
			}
		}
		CHECK(!dies && now_ms() < end);
		wait_state(s.qp, IBV_QPS_ERR);
		EQ(waitpid(child, &status, 0), child);
		CHECK(WIFSIGNALED(status));
		close_end(&s);
	}
	memset(b.p, 0x5a, b.len);
	usleep(QUIET * 1000);
	UNTOUCHED(b.p, b.len, 0x5a);
	OK(ibv_dereg_mr(b.mr));
}

static const struct test tests[] = {
	T(parent_domain), T(shared_import), T(shared_import_killed), T(shared_import_traffic),
	T(shared_import_killed_traffic),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
