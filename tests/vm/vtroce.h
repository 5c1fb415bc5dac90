/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Two ends of RoCE QPs in one process, each on the device of its own namespace,
 * with a wire between them. A program is started so, by the test's Python:
 *
 *     PROGRAM TEST ADDRESS NETNS-A DEVICE-A NETNS-B DEVICE-B [ARGUMENT...]
 *
 * NETNS "-" is the first namespace. QPs are connected by hand, so that rights
 * and depths are what a test wants them to be: B asks, A answers. ADDRESS is not
 * used.
 */
#ifndef VTROCE_H
#define VTROCE_H

#include "vt.h"

#include <sched.h>
#include <sys/mount.h>

#define FLUSH_GLOBAL IBV_ACCESS_FLUSH_GLOBAL
#define FLUSH_PERSISTENT IBV_ACCESS_FLUSH_PERSISTENT
#define RIGHTS (ALL_ACCESS | IBV_ACCESS_REMOTE_ATOMIC | FLUSH_GLOBAL)
#define OPS (IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_READ | IBV_QP_EX_WITH_SEND | \
	     IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP | IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD | \
	     IBV_QP_EX_WITH_FLUSH | IBV_QP_EX_WITH_ATOMIC_WRITE)

/* Of UD: what is in front of each datagram, and the Q_Key of ud_qp(). */
#define GRH 40
#define QKEY 0x11111111

static struct side {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	union ibv_gid gid;
	int gid_index;
} A, B;

/* The namespace's view of the devices is that of a sysfs mounted in it. */
static inline void open_side(struct side *s, const char *netns, const char *name)
{
	long end = now_ms() + SOON;
	struct ibv_device **list;
	struct ibv_gid_entry e;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	fd = open(strcmp(netns, "-") ? path : "/proc/1/ns/net", O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	OK(setns(fd, CLONE_NEWNET));
	close(fd);
	/* It is busy with the right one already where nothing is to change. */
	CHECK(!mount("sysfs", "/sys", "sysfs", 0, NULL) || errno == EBUSY);
	list = ibv_get_device_list(NULL);
	CHECK(list);
	for (int i = 0; list[i]; i++)
		if (!strcmp(ibv_get_device_name(list[i]), name))
			s->ctx = ibv_open_device(list[i]);
	if (!s->ctx)
		FAIL("no device %s in %s", name, netns);
	ibv_free_device_list(list);
	s->pd = ibv_alloc_pd(s->ctx);
	CHECK(s->pd);
	do {
		for (uint32_t i = 0; i < 64; i++) {
			static const uint8_t v4[12] = { [10] = 0xff, [11] = 0xff };

			if (ibv_query_gid_ex(s->ctx, 1, i, &e, 0) ||
			    e.gid_type != IBV_GID_TYPE_ROCE_V2 || memcmp(e.gid.raw, v4, 12))
				continue;
			s->gid = e.gid;
			s->gid_index = i;
			return;
		}
		usleep(20000);
	} while (now_ms() < end);
	FAIL("%s has no GID of RoCE v2", name);
}

static inline void open_sides(void)
{
	OK(unshare(CLONE_NEWNS));
	OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	open_side(&A, args[0], args[1]);
	open_side(&B, args[2], args[3]);
	args += 4;
}

/* --- QPs --- */

struct how {
	/* What A grants, and its responder resources. */
	int rights;
	uint8_t dest_rd_atomic;
	/* What B may have outstanding. */
	uint8_t rd_atomic;
};

static const struct how usual = { RIGHTS, 16, 16 };

struct conn {
	struct ibv_qp *a, *b;
	struct ibv_qp_ex *bx;
	struct ibv_cq *acq, *bcq;
};

/* `srq`: where it takes its receives from, if not from a queue of its own. */
static inline struct ibv_qp *qp_of_srq(struct side *s, enum ibv_qp_type type, struct ibv_cq **cq,
				       struct ibv_srq *srq)
{
	struct ibv_qp_init_attr_ex init = {
		.qp_type = type,
		.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.pd = s->pd,
		.srq = srq,
		.send_ops_flags = type == IBV_QPT_RC ? OPS : IBV_QP_EX_WITH_SEND,
		.cap = { 128, 16, 2, 2, 64 },
	};
	struct ibv_qp *qp;

	*cq = ibv_create_cq(s->ctx, 1024, NULL, NULL, 0);
	CHECK(*cq);
	init.send_cq = init.recv_cq = *cq;
	qp = ibv_create_qp_ex(s->ctx, &init);
	if (!qp)
		FAIL("ibv_create_qp_ex");
	return qp;
}

static inline struct ibv_qp *one_qp(struct side *s, enum ibv_qp_type type, struct ibv_cq **cq)
{
	return qp_of_srq(s, type, cq, NULL);
}

static inline void to_init(struct ibv_qp *qp, int rights)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qp_access_flags = rights,
	};

	OK(ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				    IBV_QP_ACCESS_FLAGS));
}

/* Of a QP's acknowledges, as IBTA counts it: 67 ms. */
static uint8_t ack_timeout = 14;

static inline void to_rts(struct ibv_qp *qp, const struct side *me, const struct side *peer,
		   struct ibv_qp *to, uint8_t rd_atomic, uint8_t dest_rd_atomic)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = to->qp_num,
		.rq_psn = 0xfffffe,
		.max_dest_rd_atomic = dest_rd_atomic,
		.min_rnr_timer = 1,
		.ah_attr = {
			.is_global = 1,
			.port_num = 1,
			.grh = {
				.dgid = peer->gid,
				.sgid_index = (uint8_t)me->gid_index,
				.hop_limit = 64,
			},
		},
	};

	OK(ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
				    IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
				    IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER));
	attr.qp_state = IBV_QPS_RTS;
	attr.timeout = ack_timeout;
	attr.retry_cnt = 7;
	attr.rnr_retry = 7;
	attr.sq_psn = 0xfffffe;
	attr.max_rd_atomic = rd_atomic;
	OK(ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
				    IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
				    IBV_QP_MAX_QP_RD_ATOMIC));
}

/* A UD QP has no peer: from RESET to RTS at once. */
static inline void to_rts_ud(struct ibv_qp *qp, uint32_t qkey)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT, .port_num = 1, .qkey = qkey };

	OK(ibv_modify_qp(qp, &attr,
			 IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY));
	attr.qp_state = IBV_QPS_RTR;
	OK(ibv_modify_qp(qp, &attr, IBV_QP_STATE));
	attr.qp_state = IBV_QPS_RTS;
	OK(ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN));
}

static inline struct conn connect_how(const struct how *h)
{
	struct conn c;

	c.a = one_qp(&A, IBV_QPT_RC, &c.acq);
	c.b = one_qp(&B, IBV_QPT_RC, &c.bcq);
	c.bx = ibv_qp_to_qp_ex(c.b);
	CHECK(c.bx);
	to_init(c.a, h->rights);
	to_init(c.b, 0);
	to_rts(c.a, &A, &B, c.b, 1, h->dest_rd_atomic);
	to_rts(c.b, &B, &A, c.a, h->rd_atomic, 1);
	return c;
}

static inline struct conn connect_usual(void)
{
	return connect_how(&usual);
}

static inline struct conn both_ways(void)
{
	struct conn c;

	c.a = one_qp(&A, IBV_QPT_RC, &c.acq);
	c.b = one_qp(&B, IBV_QPT_RC, &c.bcq);
	c.bx = NULL;
	to_init(c.a, RIGHTS);
	to_init(c.b, RIGHTS);
	return c;
}

static inline void disconnect(struct conn *c)
{
	OK(ibv_destroy_qp(c->a));
	OK(ibv_destroy_qp(c->b));
	OK(ibv_destroy_cq(c->acq));
	OK(ibv_destroy_cq(c->bcq));
}

static inline void to_rts_uc(struct ibv_qp *qp, const struct side *me, const struct side *peer,
			     struct ibv_qp *to)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = to->qp_num,
		.rq_psn = 0xfffffe,
		.sq_psn = 0xfffffe,
		.ah_attr = {
			.is_global = 1,
			.port_num = 1,
			.grh = {
				.dgid = peer->gid,
				.sgid_index = (uint8_t)me->gid_index,
				.hop_limit = 64,
			},
		},
	};

	to_init(qp, IBV_ACCESS_REMOTE_WRITE);
	OK(ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
				    IBV_QP_DEST_QPN | IBV_QP_RQ_PSN));
	attr.qp_state = IBV_QPS_RTS;
	OK(ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN));
}

static inline struct conn connect_uc(void)
{
	struct conn c = { 0 };

	c.a = one_qp(&A, IBV_QPT_UC, &c.acq);
	c.b = one_qp(&B, IBV_QPT_UC, &c.bcq);
	to_rts_uc(c.a, &A, &B, c.b);
	to_rts_uc(c.b, &B, &A, c.a);
	return c;
}

static inline struct ibv_ah *ah_of(const struct side *s, const struct side *to)
{
	struct ibv_ah_attr attr = {
		.is_global = 1,
		.port_num = 1,
		.grh = { .dgid = to->gid, .sgid_index = (uint8_t)s->gid_index, .hop_limit = 64 },
	};
	struct ibv_ah *ah = ibv_create_ah(s->pd, &attr);

	CHECK(ah);
	return ah;
}

/* In RTS. */
static inline struct ibv_qp *ud_qp(struct side *s, struct ibv_cq **cq)
{
	struct ibv_qp *qp = one_qp(s, IBV_QPT_UD, cq);

	to_rts_ud(qp, QKEY);
	return qp;
}

/* --- tests --- */

static const struct test *roce_tests;
static const char *wanted;

/* The sides are opened when there is a test to run. */
static void open_and_run(void)
{
	open_sides();
	while (strcmp(roce_tests->name, wanted))
		roce_tests++;
	roce_tests->run();
}

static inline int run_roce_test(const struct test *tests, size_t n, int argc, char **argv)
{
	struct test all[n];

	for (size_t i = 0; i < n; i++)
		all[i] = (struct test){ tests[i].name, open_and_run };
	roce_tests = tests;
	wanted = argc > 1 ? argv[1] : "";
	if (argc > 2 && argc < 7) {
		fprintf(stderr, "usage: %s TEST ADDRESS NETNS-A DEVICE-A NETNS-B DEVICE-B\n", argv[0]);
		return 2;
	}
	return run_test(all, n, argc, argv);
}

#endif /* VTROCE_H */
