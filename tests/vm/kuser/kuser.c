// SPDX-License-Identifier: GPL-2.0
/*
 * A user of verbs in the kernel, who posts everything that one may post to QPs of a device.
 *
 *     modprobe kuser device=NAME
 *
 * The two ends are QPs of that device: see roce.h and iwarp.h. Each thing that went as it should
 * is a line "kuser: ok WHAT" of the kernel log; the first that did not is "kuser: failed WHAT:
 * WHY", and there it ends. See tests/vm/test_kernel_user.py.
 */
#include <linux/module.h>
#include <rdma/ib_verbs.h>

#undef pr_fmt
#define pr_fmt(fmt) "kuser: " fmt

static char *device;
module_param(device, charp, 0);
MODULE_PARM_DESC(device, "whose QPs are used");

#define PAGES 4
#define LEN (PAGES * PAGE_SIZE)
#define IMM cpu_to_be32(0x12345678)
#define SOON (20 * HZ)

static struct ib_device *dev;
static struct ib_pd *pd;
/* The two ends: `a` asks, `b` answers. */
static struct ib_cq *acq, *bcq;
static struct ib_qp *a, *b;
/* Memory of each; b's is registered as `mr`, for a to use. */
static u8 *mine, *theirs;
static u64 mine_at, theirs_at;
static struct scatterlist mine_sg, theirs_sg;
static struct ib_mr *mr;
static struct ib_wc wc;

struct test {
	const char *name;
	int (*run)(void);
};

/* What differs. */
struct transport {
	/* What it needs of the device; `forget` also if that failed. */
	int (*prepare)(void);
	void (*forget)(void);
	/* Both ends anew, RC; b takes its receives from `srq`, if there is one. */
	int (*connect)(struct ib_srq *srq);
	void (*close)(void);
	/* What is tried behind that which both transports have. */
	const struct test *tests;
	size_t ntests;
};

static const struct transport *transport;

#define CHECK(what) do {							\
	if (!(what)) {								\
		pr_err("failed %s: line %d, %s\n", now, __LINE__, #what);	\
		return -EIO;							\
	}									\
} while (0)

#define OK(what) do {								\
	int ret_ = (what);							\
										\
	if (ret_) {								\
		pr_err("failed %s: line %d, %s is %d\n", now, __LINE__, #what, ret_);	\
		return -EIO;							\
	}									\
} while (0)

/* What is being tried. */
static const char *now;

static int came(struct ib_cq *cq)
{
	unsigned long end = jiffies + SOON;
	int n;

	do {
		n = ib_poll_cq(cq, 1, &wc);
		if (n)
			return n == 1 ? 0 : n;
		usleep_range(20, 100);
	} while (time_before(jiffies, end));
	return -ETIMEDOUT;
}

/* The next completion is a success of this kind, and of this request. */
static int done(struct ib_cq *cq, u64 id, enum ib_wc_opcode op)
{
	OK(came(cq));
	OK(wc.status);
	CHECK(wc.wr_id == id);
	CHECK(wc.opcode == op);
	return 0;
}

static void fill(u8 *p, size_t len, u8 seed)
{
	size_t i;

	for (i = 0; i < len; i++)
		p[i] = i * 7 + (i >> 8) + seed;
}

static bool is_filled(const u8 *p, size_t len, u8 seed)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i] != (u8)(i * 7 + (i >> 8) + seed))
			return false;
	return true;
}

/* --- QPs --- */

/* How often a QP heard that its peer has begun. */
static atomic_t begun;

static void on_event(struct ib_event *event, void *context)
{
	if (event->event == IB_EVENT_COMM_EST)
		atomic_inc(&begun);
}

static struct ib_qp_init_attr init_of(struct ib_cq *cq, enum ib_qp_type type, struct ib_srq *srq)
{
	return (struct ib_qp_init_attr) {
		.send_cq = cq, .recv_cq = cq, .srq = srq, .qp_type = type,
		.sq_sig_type = IB_SIGNAL_REQ_WR, .event_handler = on_event,
		.cap = { .max_send_wr = 16, .max_recv_wr = srq ? 0 : 16, .max_send_sge = 2,
			 .max_recv_sge = srq ? 0 : 2, .max_inline_data = 64 },
	};
}

/* --- work --- */

static struct ib_sge local(u64 at, u32 len)
{
	return (struct ib_sge){ at, len, pd->local_dma_lkey };
}

static int post_recv(u64 id, size_t off, u32 len)
{
	struct ib_sge sge = local(theirs_at + off, len);
	struct ib_recv_wr wr = { .wr_id = id, .sg_list = &sge, .num_sge = 1 };

	return ib_post_recv(b, &wr, NULL);
}

/* SEND and its kinds; `word`: immediate data, or the key to invalidate. */
static int post_send(u64 id, enum ib_wr_opcode op, u32 len, __be32 word, u32 key)
{
	struct ib_sge sge = local(mine_at, len);
	struct ib_send_wr wr = {
		.wr_id = id, .sg_list = &sge, .num_sge = 1, .opcode = op,
		.send_flags = IB_SEND_SIGNALED, .ex.imm_data = word,
	};

	if (op == IB_WR_SEND_WITH_INV)
		wr.ex.invalidate_rkey = key;
	return ib_post_send(a, &wr, NULL);
}

/* WRITE, READ, ATOMIC WRITE, at `off` of the region. */
static int post_rdma(u64 id, enum ib_wr_opcode op, size_t off, u32 len)
{
	struct ib_sge sge = local(mine_at, len);
	struct ib_rdma_wr wr = {
		.wr = { .wr_id = id, .sg_list = &sge, .num_sge = 1, .opcode = op,
			.send_flags = IB_SEND_SIGNALED, .ex.imm_data = IMM },
		.remote_addr = mr->iova + off,
		.rkey = mr->rkey,
	};

	return ib_post_send(a, &wr.wr, NULL);
}

static int post_atomic(u64 id, enum ib_wr_opcode op, size_t off, u64 compare_add, u64 swap)
{
	struct ib_sge sge = local(mine_at, 8);
	struct ib_atomic_wr wr = {
		.wr = { .wr_id = id, .sg_list = &sge, .num_sge = 1, .opcode = op,
			.send_flags = IB_SEND_SIGNALED },
		.remote_addr = mr->iova + off,
		.rkey = mr->rkey,
		.compare_add = compare_add,
		.swap = swap,
	};

	return ib_post_send(a, &wr.wr, NULL);
}

/* Memory is registered under a key that is new. */
static int reg_by(struct ib_qp *qp, struct ib_cq *cq, struct ib_mr *region, struct scatterlist *sg,
		  int access)
{
	struct ib_reg_wr wr = {
		.wr = { .wr_id = 77, .opcode = IB_WR_REG_MR, .send_flags = IB_SEND_SIGNALED },
		.mr = region,
		.access = access,
	};

	ib_update_fast_reg_key(region, ib_inc_rkey(region->rkey));
	CHECK(ib_map_mr_sg(region, sg, 1, NULL, PAGE_SIZE) == 1);
	wr.key = region->rkey;
	OK(ib_post_send(qp, &wr.wr, NULL));
	return done(cq, 77, IB_WC_REG_MR);
}

/* That of b, for these accesses of a. */
static int reg_for(int access)
{
	return reg_by(b, bcq, mr, &theirs_sg, IB_ACCESS_LOCAL_WRITE | access);
}

static int reg_mr(void)
{
	return reg_for(IB_ACCESS_REMOTE_WRITE | IB_ACCESS_REMOTE_READ | IB_ACCESS_REMOTE_ATOMIC);
}

static int local_inv(void)
{
	struct ib_send_wr wr = {
		.wr_id = 78, .opcode = IB_WR_LOCAL_INV, .send_flags = IB_SEND_SIGNALED,
		.ex.invalidate_rkey = mr->rkey,
	};

	OK(ib_post_send(b, &wr, NULL));
	return done(bcq, 78, IB_WC_LOCAL_INV);
}

/* --- what is tried --- */

static int send_of(enum ib_wr_opcode op, u32 len)
{
	fill(mine, len, len);
	memset(theirs, 0, LEN);
	OK(post_recv(1, 8, LEN - 8));
	OK(post_send(2, op, len, IMM, 0));
	OK(done(acq, 2, IB_WC_SEND));
	OK(done(bcq, 1, IB_WC_RECV));
	CHECK(wc.byte_len == len);
	CHECK(is_filled(theirs + 8, len, len));
	CHECK(op != IB_WR_SEND_WITH_IMM || (wc.wc_flags & IB_WC_WITH_IMM && wc.ex.imm_data == IMM));
	CHECK(op == IB_WR_SEND_WITH_IMM || !(wc.wc_flags & IB_WC_WITH_IMM));
	return 0;
}

static int sends(void)
{
	OK(send_of(IB_WR_SEND, 0));
	OK(send_of(IB_WR_SEND, 5000));
	return 0;
}

/* The peer's SEND ends the registration: it may be made anew, and was not to be before. */
static int sends_inv(void)
{
	OK(reg_mr());
	OK(post_recv(1, 0, 64));
	OK(post_send(2, IB_WR_SEND_WITH_INV, 64, 0, mr->rkey));
	OK(done(acq, 2, IB_WC_SEND));
	OK(done(bcq, 1, IB_WC_RECV));
	CHECK(wc.wc_flags & IB_WC_WITH_INVALIDATE);
	CHECK(wc.ex.invalidate_rkey == mr->rkey);
	OK(reg_mr());
	return local_inv();
}

static int write_of(enum ib_wr_opcode op, u32 len)
{
	fill(mine, len, len + 1);
	memset(theirs, 0, LEN);
	OK(post_recv(1, 0, 0));
	OK(post_rdma(2, op, 100, len));
	OK(done(acq, 2, IB_WC_RDMA_WRITE));
	if (op == IB_WR_RDMA_WRITE) {
		/* It takes no receive: that is for what follows. */
		OK(post_rdma(3, IB_WR_RDMA_WRITE_WITH_IMM, 0, 0));
		OK(done(acq, 3, IB_WC_RDMA_WRITE));
		len = 0;
	}
	OK(done(bcq, 1, IB_WC_RECV_RDMA_WITH_IMM));
	CHECK(wc.wc_flags & IB_WC_WITH_IMM && wc.ex.imm_data == IMM);
	CHECK(wc.byte_len == len);
	return 0;
}

static int writes(void)
{
	OK(reg_mr());
	OK(write_of(IB_WR_RDMA_WRITE, 9000));
	CHECK(is_filled(theirs + 100, 9000, (u8)9001));
	CHECK(!theirs[99] && !theirs[9100]);
	return local_inv();
}

static int writes_imm(void)
{
	OK(reg_mr());
	OK(write_of(IB_WR_RDMA_WRITE_WITH_IMM, 7000));
	CHECK(is_filled(theirs + 100, 7000, (u8)7001));
	return local_inv();
}

static int reads(void)
{
	OK(reg_mr());
	memset(mine, 0, LEN);
	fill(theirs + 33, 8000, 5);
	OK(post_rdma(1, IB_WR_RDMA_READ, 33, 8000));
	OK(done(acq, 1, IB_WC_RDMA_READ));
	CHECK(is_filled(mine, 8000, 5));
	CHECK(!mine[8000]);
	return local_inv();
}

static int fetch_adds(void)
{
	u64 *word = (u64 *)theirs, *result = (u64 *)mine;

	OK(reg_mr());
	WRITE_ONCE(word[3], 0xffffffffffULL);
	OK(post_atomic(1, IB_WR_ATOMIC_FETCH_AND_ADD, 24, 2, 0));
	OK(done(acq, 1, IB_WC_FETCH_ADD));
	CHECK(READ_ONCE(*result) == 0xffffffffffULL);
	CHECK(READ_ONCE(word[3]) == 0x10000000001ULL);
	return local_inv();
}

static int cmp_swaps(void)
{
	u64 *word = (u64 *)theirs, *result = (u64 *)mine;

	OK(reg_mr());
	WRITE_ONCE(word[5], 42);
	OK(post_atomic(1, IB_WR_ATOMIC_CMP_AND_SWP, 40, 41, 1));
	OK(done(acq, 1, IB_WC_COMP_SWAP));
	CHECK(READ_ONCE(*result) == 42 && READ_ONCE(word[5]) == 42);
	OK(post_atomic(2, IB_WR_ATOMIC_CMP_AND_SWP, 40, 42, 7));
	OK(done(acq, 2, IB_WC_COMP_SWAP));
	CHECK(READ_ONCE(*result) == 42 && READ_ONCE(word[5]) == 7);
	return local_inv();
}

/* Three in one go, of which one is signalled and one has its data with it. */
static int lists(void)
{
	struct ib_sge sge = local((uintptr_t)mine, 8), two[] = { local(mine_at, 10), local(mine_at + 10, 5) };
	struct ib_rdma_wr wr[3] = {
		{ .wr = { .wr_id = 1, .next = &wr[1].wr, .opcode = IB_WR_RDMA_WRITE, .sg_list = two,
			  .num_sge = 2 } },
		{ .wr = { .wr_id = 2, .next = &wr[2].wr, .opcode = IB_WR_RDMA_WRITE, .sg_list = &sge,
			  .num_sge = 1, .send_flags = IB_SEND_INLINE } },
		{ .wr = { .wr_id = 3, .opcode = IB_WR_RDMA_READ, .num_sge = 1,
			  .send_flags = IB_SEND_SIGNALED | IB_SEND_FENCE } },
	};
	struct ib_sge sink = local(mine_at + 100, 50);
	int i;

	OK(reg_mr());
	memset(theirs, 0, 100);
	fill(mine, 15, 3);
	for (i = 0; i < 3; i++) {
		wr[i].remote_addr = mr->iova + (i == 1 ? 20 : 0);
		wr[i].rkey = mr->rkey;
	}
	wr[2].wr.sg_list = &sink;
	OK(ib_post_send(a, &wr[0].wr, NULL));
	OK(done(acq, 3, IB_WC_RDMA_READ));
	CHECK(is_filled(mine + 100, 15, 3) && is_filled(mine + 120, 8, 3) && !mine[115]);
	CHECK(!ib_poll_cq(acq, 1, &wc));
	return local_inv();
}

static int shared_by(int (*use)(struct ib_srq *srq))
{
	struct ib_srq_init_attr init = {
		.srq_type = IB_SRQT_BASIC, .attr = { .max_wr = 16, .max_sge = 1 },
	};
	struct ib_srq *srq = ib_create_srq(pd, &init);
	int ret;

	CHECK(!IS_ERR(srq));
	ret = use(srq);
	transport->close();
	ib_destroy_srq(srq);
	return ret;
}

static int post_srq(struct ib_srq *srq)
{
	struct ib_sge sge = local(theirs_at, LEN);
	struct ib_recv_wr wr = { .wr_id = 2, .sg_list = &sge, .num_sge = 1 };

	return ib_post_srq_recv(srq, &wr, NULL);
}

/* The ends are connected. */
static int from_srq(struct ib_srq *srq)
{
	OK(post_srq(srq));
	fill(mine, 2000, 6);
	OK(post_send(1, IB_WR_SEND, 2000, 0, 0));
	OK(done(acq, 1, IB_WC_SEND));
	OK(done(bcq, 2, IB_WC_RECV));
	CHECK(wc.byte_len == 2000 && wc.qp == b);
	CHECK(is_filled(theirs, 2000, 6));
	return 0;
}

/* And with immediate data, which is a message of its own over iWARP. */
static int connected_from_srq(struct ib_srq *srq)
{
	OK(transport->connect(srq));
	OK(from_srq(srq));
	OK(reg_mr());
	OK(post_srq(srq));
	fill(mine, 3000, 8);
	OK(post_rdma(1, IB_WR_RDMA_WRITE_WITH_IMM, 50, 3000));
	OK(done(acq, 1, IB_WC_RDMA_WRITE));
	OK(done(bcq, 2, IB_WC_RECV_RDMA_WITH_IMM));
	CHECK(wc.wc_flags & IB_WC_WITH_IMM && wc.ex.imm_data == IMM);
	CHECK(wc.byte_len == 3000 && wc.qp == b);
	CHECK(is_filled(theirs + 50, 3000, 8));
	return local_inv();
}

static int shared_receives(void)
{
	OK(shared_by(connected_from_srq));
	return transport->connect(NULL);
}

/* What both transports have. */
static const struct test tests[] = {
	{ "SEND", sends }, { "SEND_WITH_INV", sends_inv }, { "RDMA_WRITE", writes },
	{ "RDMA_WRITE_WITH_IMM", writes_imm }, { "RDMA_READ", reads },
	{ "ATOMIC_FETCH_ADD", fetch_adds }, { "ATOMIC_CMP_AND_SWP", cmp_swaps },
	{ "lists", lists }, { "SRQ", shared_receives },
};

#include "roce.h"
#include "iwarp.h"

/* --- what is there for it --- */

static u64 mapped(u8 *p)
{
	u64 at = ib_dma_map_single(dev, p, LEN, DMA_BIDIRECTIONAL);

	return ib_dma_mapping_error(dev, at) ? 0 : at;
}

static int open_all(void)
{
	int order = get_order(LEN);

	OK(transport->prepare());
	pd = ib_alloc_pd(dev, 0);
	CHECK(!IS_ERR(pd));
	acq = ib_alloc_cq(dev, NULL, 64, 0, IB_POLL_DIRECT);
	CHECK(!IS_ERR(acq));
	bcq = ib_alloc_cq(dev, NULL, 64, 0, IB_POLL_DIRECT);
	CHECK(!IS_ERR(bcq));
	mine = (u8 *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, order);
	theirs = (u8 *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, order);
	CHECK(mine && theirs);
	mine_at = mapped(mine);
	theirs_at = mapped(theirs);
	CHECK(mine_at && theirs_at);
	sg_init_one(&mine_sg, mine, LEN);
	sg_init_one(&theirs_sg, theirs, LEN);
	CHECK(ib_dma_map_sg(dev, &mine_sg, 1, DMA_BIDIRECTIONAL) == 1);
	CHECK(ib_dma_map_sg(dev, &theirs_sg, 1, DMA_BIDIRECTIONAL) == 1);
	mr = ib_alloc_mr(pd, IB_MR_TYPE_MEM_REG, PAGES);
	CHECK(!IS_ERR(mr));
	return transport->connect(NULL);
}

static void close_all(void)
{
	int order = get_order(LEN);

	transport->close();
	if (!IS_ERR_OR_NULL(mr))
		ib_dereg_mr(mr);
	if (mine_at)
		ib_dma_unmap_single(dev, mine_at, LEN, DMA_BIDIRECTIONAL);
	if (theirs_at)
		ib_dma_unmap_single(dev, theirs_at, LEN, DMA_BIDIRECTIONAL);
	free_pages((unsigned long)mine, order);
	free_pages((unsigned long)theirs, order);
	if (!IS_ERR_OR_NULL(bcq))
		ib_free_cq(bcq);
	if (!IS_ERR_OR_NULL(acq))
		ib_free_cq(acq);
	if (!IS_ERR_OR_NULL(pd))
		ib_dealloc_pd(pd);
	transport->forget();
}

static int run(const struct test *list, size_t n)
{
	int ret = 0;
	size_t i;

	for (i = 0; !ret && i < n; i++) {
		now = list[i].name;
		ret = list[i].run();
		if (!ret)
			pr_info("ok %s\n", now);
	}
	return ret;
}

static int on_device(struct ib_device *found)
{
	int ret;

	if (dev || !device || strcmp(dev_name(&found->dev), device))
		return -EOPNOTSUPP;
	dev = found;
	now = "beginning";
	transport = rdma_protocol_iwarp(dev, 1) ? &iwarp : &roce;
	ret = open_all();
	if (!ret)
		ret = run(tests, ARRAY_SIZE(tests));
	if (!ret)
		run(transport->tests, transport->ntests);
	close_all();
	/* Nothing of the device is kept. */
	return -EOPNOTSUPP;
}

static struct ib_client client = {
	.name = "kuser",
	.add = on_device,
};

static int __init kuser_init(void)
{
	return ib_register_client(&client);
}

static void __exit kuser_exit(void)
{
	ib_unregister_client(&client);
}

module_init(kuser_init);
module_exit(kuser_exit);

MODULE_DESCRIPTION("Test of RDMA devices: posts what a user in the kernel may post");
MODULE_LICENSE("GPL");
