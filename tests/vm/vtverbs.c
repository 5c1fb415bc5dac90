// SPDX-License-Identifier: GPL-2.0
/*
 * Which verbs a device has, and what may be posted to its QPs: it is asked.
 * test_verbs.py compares the answers with the tables of the documentation.
 */
#include "vt.h"

/* Bits of device_cap_flags_ex that libibverbs' headers do not name. */
#define DEVICE_FLUSH_GLOBAL (1ULL << 38)
#define DEVICE_FLUSH_PERSISTENT (1ULL << 39)
#define DEVICE_ATOMIC_WRITE (1ULL << 40)

static struct ibv_context *ctx;
static struct ibv_pd *pd;
static struct ibv_cq *cq;
static struct ibv_device_attr_ex dev;

/* Of a call that returns a pointer: whether it did, or there is no such thing. Nothing else is an answer. */
#define MADE(call) (errno = 0, answer((call) != NULL ? 0 : errno, #call))
/* Of one that returns an error number. */
#define WORKED(call) answer(call, #call)

static bool answer(int err, const char *what)
{
	if (err && err != EOPNOTSUPP)
		FAIL("%s: %d, %s", what, err, strerror(err));
	return !err;
}

static struct ibv_qp *qp_of(enum ibv_qp_type type, uint64_t ops)
{
	struct ibv_qp_init_attr_ex attr = {
		.qp_type = type,
		.send_cq = cq,
		.recv_cq = cq,
		.cap = { 1, 1, 1, 1, 0 },
		.comp_mask = IBV_QP_INIT_ATTR_PD | (ops ? IBV_QP_INIT_ATTR_SEND_OPS_FLAGS : 0),
		.send_ops_flags = ops,
		.pd = pd,
	};

	return ibv_create_qp_ex(ctx, &attr);
}

/* --- verbs, in the order of the table --- */

static bool qp_rc(void)
{
	return MADE(qp_of(IBV_QPT_RC, 0));
}

static bool qp_uc(void)
{
	return MADE(qp_of(IBV_QPT_UC, 0));
}

static bool qp_ud(void)
{
	return MADE(qp_of(IBV_QPT_UD, 0));
}

static bool qp_xrc(void)
{
	return MADE(qp_of(IBV_QPT_XRC_SEND, 0));
}

static bool qp_raw(void)
{
	return MADE(qp_of(IBV_QPT_RAW_PACKET, 0));
}

static struct ibv_srq *new_srq(void)
{
	struct ibv_srq_init_attr init = { .attr = { .max_wr = 16, .max_sge = 1 } };

	return ibv_create_srq(pd, &init);
}

static bool create_srq(void)
{
	return MADE(new_srq());
}

static bool create_srq_xrc(void)
{
	struct ibv_srq_init_attr_ex init = {
		.attr = { .max_wr = 16, .max_sge = 1 },
		.comp_mask = IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_PD,
		.srq_type = IBV_SRQT_XRC,
		.pd = pd,
	};

	return MADE(ibv_create_srq_ex(ctx, &init));
}

static bool modify_srq_max_wr(void)
{
	struct ibv_srq_attr attr = { .max_wr = 64 };

	return WORKED(ibv_modify_srq(new_srq(), &attr, IBV_SRQ_MAX_WR));
}

static bool modify_srq_limit(void)
{
	struct ibv_srq_attr attr = { .srq_limit = 4 };

	return WORKED(ibv_modify_srq(new_srq(), &attr, IBV_SRQ_LIMIT));
}

static bool query_srq(void)
{
	struct ibv_srq_attr attr;

	return WORKED(ibv_query_srq(new_srq(), &attr));
}

static bool create_cq_ex(void)
{
	struct ibv_cq_init_attr_ex attr = { .cqe = 16, .wc_flags = IBV_WC_STANDARD_FLAGS };

	return MADE(ibv_create_cq_ex(ctx, &attr));
}

static bool create_cq_timestamps(void)
{
	struct ibv_cq_init_attr_ex attr = {
		.cqe = 16,
		.wc_flags = IBV_WC_STANDARD_FLAGS | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP,
	};

	return MADE(ibv_create_cq_ex(ctx, &attr));
}

static bool query_rt_values(void)
{
	struct ibv_values_ex values = { .comp_mask = IBV_VALUES_MASK_RAW_CLOCK };

	return WORKED(ibv_query_rt_values_ex(ctx, &values));
}

static bool resize_cq(void)
{
	return WORKED(ibv_resize_cq(ibv_create_cq(ctx, 16, NULL, NULL, 0), 64));
}

static bool modify_cq(void)
{
	struct ibv_modify_cq_attr attr = {
		.attr_mask = IBV_CQ_ATTR_MODERATE,
		.moderate = { .cq_count = 4, .cq_period = 4 },
	};

	return WORKED(ibv_modify_cq(cq, &attr));
}

static bool create_ah(void)
{
	struct ibv_ah_attr attr = { .is_global = 1, .port_num = 1, .grh.hop_limit = 1 };
	struct ibv_gid_entry e;

	/* To itself; a RoCE device has an IPv4 address among its GIDs, an iWARP one has one GID. */
	for (uint32_t i = 0; i < 64; i++) {
		static const uint8_t v4[12] = { [10] = 0xff, [11] = 0xff };

		if (ibv_query_gid_ex(ctx, 1, i, &e, 0))
			continue;
		attr.grh.dgid = e.gid;
		attr.grh.sgid_index = (uint8_t)i;
		if (e.gid_type == IBV_GID_TYPE_ROCE_V2 && !memcmp(e.gid.raw, v4, sizeof(v4)))
			break;
	}
	return MADE(ibv_create_ah(pd, &attr));
}

static bool attach_mcast(void)
{
	/* 239.77.1.2 */
	union ibv_gid group = { .raw = { [10] = 0xff, 0xff, 239, 77, 1, 2 } };
	struct ibv_qp *qp = qp_of(IBV_QPT_UD, 0) ?: qp_of(IBV_QPT_RC, 0);

	CHECK(qp);
	return WORKED(ibv_attach_mcast(qp, &group, 0));
}

static bool rereg_mr(void)
{
	struct buf b = new_buf(pd, 4096);

	/* A negative number says which part of it failed, and errno why. */
	errno = 0;
	return answer(ibv_rereg_mr(b.mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0,
				   IBV_ACCESS_LOCAL_WRITE) ? errno : 0, "ibv_rereg_mr");
}

static bool reg_dmabuf_mr(void)
{
	return MADE(ibv_reg_dmabuf_mr(pd, 0, 4096, 0, -1, IBV_ACCESS_LOCAL_WRITE));
}

static bool advise_mr(void)
{
	struct buf b = new_buf(pd, 4096);
	struct ibv_sge sge = sge_of(&b, 0, 4096);

	return WORKED(ibv_advise_mr(pd, IBV_ADVISE_MR_ADVICE_PREFETCH, 0, &sge, 1));
}

static bool alloc_null_mr(void)
{
	return MADE(ibv_alloc_null_mr(pd));
}

static bool alloc_mw_1(void)
{
	return MADE(ibv_alloc_mw(pd, IBV_MW_TYPE_1));
}

static bool alloc_mw_2(void)
{
	return MADE(ibv_alloc_mw(pd, IBV_MW_TYPE_2));
}

static struct ibv_td *new_td(void)
{
	struct ibv_td_init_attr attr = {};

	return ibv_alloc_td(ctx, &attr);
}

static bool alloc_td(void)
{
	return MADE(new_td());
}

static bool alloc_parent_domain(void)
{
	struct ibv_parent_domain_init_attr attr = { .pd = pd };

	return MADE(ibv_alloc_parent_domain(ctx, &attr));
}

static bool import_device(void)
{
	return MADE(ibv_import_device(dup(ctx->cmd_fd)));
}

static bool open_xrcd(void)
{
	struct ibv_xrcd_init_attr attr = {
		.comp_mask = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS,
		.fd = -1,
		.oflags = O_CREAT,
	};

	return MADE(ibv_open_xrcd(ctx, &attr));
}

static bool alloc_dm(void)
{
	struct ibv_alloc_dm_attr attr = { .length = 64 };

	return MADE(ibv_alloc_dm(ctx, &attr));
}

static bool create_wq(void)
{
	struct ibv_wq_init_attr attr = {
		.wq_type = IBV_WQT_RQ, .max_wr = 1, .max_sge = 1, .pd = pd, .cq = cq,
	};

	return MADE(ibv_create_wq(ctx, &attr));
}

static bool create_flow(void)
{
	struct ibv_flow_attr attr = { .type = IBV_FLOW_ATTR_NORMAL, .size = sizeof(attr), .port = 1 };

	return MADE(ibv_create_flow(qp_of(IBV_QPT_RC, 0), &attr));
}

static bool create_counters(void)
{
	struct ibv_counters_init_attr attr = {};

	return MADE(ibv_create_counters(ctx, &attr));
}

static bool atomics(void)
{
	return dev.orig_attr.atomic_cap != IBV_ATOMIC_NONE;
}

static bool atomic_write(void)
{
	return dev.device_cap_flags_ex & DEVICE_ATOMIC_WRITE;
}

static bool flush_global(void)
{
	return dev.device_cap_flags_ex & DEVICE_FLUSH_GLOBAL;
}

static bool flush_persistent(void)
{
	return dev.device_cap_flags_ex & DEVICE_FLUSH_PERSISTENT;
}

static bool on_demand_paging(void)
{
	return dev.odp_caps.general_caps & IBV_ODP_SUPPORT;
}

static bool tag_matching(void)
{
	return dev.tm_caps.max_num_tags || dev.tm_caps.flags;
}

static const struct verb {
	const char *name;
	bool (*has)(void);
} verbs[] = {
	{ "QP: RC", qp_rc },
	{ "QP: UC", qp_uc },
	{ "QP: UD", qp_ud },
	{ "QP: XRC", qp_xrc },
	{ "QP: RAW_PACKET", qp_raw },
	{ "ibv_create_srq", create_srq },
	{ "ibv_create_srq_ex: XRC", create_srq_xrc },
	{ "ibv_modify_srq: MAX_WR", modify_srq_max_wr },
	{ "ibv_modify_srq: LIMIT", modify_srq_limit },
	{ "ibv_query_srq", query_srq },
	{ "ibv_create_cq_ex", create_cq_ex },
	{ "ibv_create_cq_ex: timestamps", create_cq_timestamps },
	{ "ibv_query_rt_values_ex", query_rt_values },
	{ "ibv_resize_cq", resize_cq },
	{ "ibv_modify_cq", modify_cq },
	{ "ibv_create_ah", create_ah },
	{ "ibv_attach_mcast", attach_mcast },
	{ "ibv_rereg_mr", rereg_mr },
	{ "ibv_reg_dmabuf_mr", reg_dmabuf_mr },
	{ "ibv_advise_mr", advise_mr },
	{ "ibv_alloc_null_mr", alloc_null_mr },
	{ "ibv_alloc_mw: type 1", alloc_mw_1 },
	{ "ibv_alloc_mw: type 2", alloc_mw_2 },
	{ "ibv_alloc_td", alloc_td },
	{ "ibv_alloc_parent_domain", alloc_parent_domain },
	{ "ibv_import_device", import_device },
	{ "ibv_open_xrcd", open_xrcd },
	{ "ibv_alloc_dm", alloc_dm },
	{ "ibv_create_wq", create_wq },
	{ "ibv_create_flow", create_flow },
	{ "ibv_create_counters", create_counters },
	{ "capability: atomics", atomics },
	{ "capability: ATOMIC_WRITE", atomic_write },
	{ "capability: FLUSH, global", flush_global },
	{ "capability: FLUSH, persistent", flush_persistent },
	{ "capability: on-demand paging", on_demand_paging },
	{ "capability: tag matching", tag_matching },
};

static void ask_device(void)
{
	ctx = open_device();
	pd = ibv_alloc_pd(ctx);
	cq = ibv_create_cq(ctx, 64, NULL, NULL, 0);
	CHECK(pd && cq);
	OK(ibv_query_device_ex(ctx, NULL, &dev));
}

static void verbs_there_are(void)
{
	ask_device();
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		printf("%s = %s\n", verbs[i].name, verbs[i].has() ? "yes" : "no");
}

/* --- work requests --- */

static const struct {
	const char *name;
	uint64_t flag;
} requests[] = {
	{ "SEND", IBV_QP_EX_WITH_SEND },
	{ "SEND_WITH_IMM", IBV_QP_EX_WITH_SEND_WITH_IMM },
	{ "SEND_WITH_INV", IBV_QP_EX_WITH_SEND_WITH_INV },
	{ "RDMA_WRITE", IBV_QP_EX_WITH_RDMA_WRITE },
	{ "RDMA_WRITE_WITH_IMM", IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM },
	{ "RDMA_READ", IBV_QP_EX_WITH_RDMA_READ },
	{ "ATOMIC_CMP_AND_SWP", IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP },
	{ "ATOMIC_FETCH_AND_ADD", IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD },
	{ "ATOMIC_WRITE", IBV_QP_EX_WITH_ATOMIC_WRITE },
	{ "FLUSH", IBV_QP_EX_WITH_FLUSH },
	{ "LOCAL_INV", IBV_QP_EX_WITH_LOCAL_INV },
	{ "BIND_MW", IBV_QP_EX_WITH_BIND_MW },
};

static void requests_there_are(void)
{
	static const struct {
		const char *name;
		enum ibv_qp_type type;
	} types[] = { { "RC", IBV_QPT_RC }, { "UC", IBV_QPT_UC }, { "UD", IBV_QPT_UD } };

	ask_device();
	for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
		for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
			bool has = MADE(qp_of(types[t].type, requests[i].flag));

			printf("%s %s = %s\n", types[t].name, requests[i].name, has ? "yes" : "no");
		}
	}
}

static const struct test tests[] = { T(verbs_there_are), T(requests_there_are) };

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
