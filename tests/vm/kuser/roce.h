/* SPDX-License-Identifier: GPL-2.0 */
/* What RoCE has by itself: QPs connected by hand, UC and UD, the GSI. A part of kuser.c. */
#ifndef KUSER_ROCE_H
#define KUSER_ROCE_H

#include <rdma/ib_cache.h>

#define QKEY 0x11111111
#define GRH 40

static const struct ib_gid_attr *gid;

static int find_gid(void)
{
	const struct ib_gid_attr *g;
	int i;

	for (i = 0; i < dev->port_data[1].immutable.gid_tbl_len; i++) {
		g = rdma_get_gid_attr(dev, 1, i);
		if (IS_ERR(g))
			continue;
		if (g->gid_type == IB_GID_TYPE_ROCE_UDP_ENCAP &&
		    ipv6_addr_v4mapped((struct in6_addr *)&g->gid)) {
			gid = g;
			return 0;
		}
		rdma_put_gid_attr(g);
	}
	return -ENODEV;
}

static void put_gid(void)
{
	if (gid)
		rdma_put_gid_attr(gid);
}

/* --- QPs --- */

/* The attributes of all states, for a QP that is connected to this one. */
static struct ib_qp_attr attr_of(struct ib_qp *qp, struct ib_qp *to)
{
	bool rc = qp->qp_type == IB_QPT_RC;
	struct ib_qp_attr attr = {
		.port_num = 1,
		.qkey = QKEY,
		.qp_access_flags = IB_ACCESS_REMOTE_WRITE,
		.path_mtu = IB_MTU_1024,
		.rq_psn = 0xfffffe,
		.sq_psn = 0xfffffe,
		.max_rd_atomic = 4,
		.max_dest_rd_atomic = 4,
		.min_rnr_timer = 12,
		.timeout = 14,
		.retry_cnt = 7,
		.rnr_retry = 7,
	};
	union ib_gid dgid = gid->gid;

	if (rc)
		attr.qp_access_flags |= IB_ACCESS_REMOTE_READ | IB_ACCESS_REMOTE_ATOMIC;
	attr.dest_qp_num = to->qp_num;
	attr.ah_attr.type = rdma_ah_find_type(dev, 1);
	rdma_ah_set_port_num(&attr.ah_attr, 1);
	rdma_ah_set_grh(&attr.ah_attr, &dgid, 0, gid->index, 64, 0);
	return attr;
}

static int to_rtr(struct ib_qp *qp, struct ib_qp *to)
{
	bool rc = qp->qp_type == IB_QPT_RC, ud = qp->qp_type == IB_QPT_UD;
	struct ib_qp_attr attr = attr_of(qp, to);

	attr.qp_state = IB_QPS_INIT;
	OK(ib_modify_qp(qp, &attr, IB_QP_STATE | IB_QP_PKEY_INDEX | IB_QP_PORT |
				   (ud ? IB_QP_QKEY : IB_QP_ACCESS_FLAGS)));
	attr.qp_state = IB_QPS_RTR;
	OK(ib_modify_qp(qp, &attr, IB_QP_STATE | (ud ? 0 : IB_QP_AV | IB_QP_PATH_MTU |
							   IB_QP_DEST_QPN | IB_QP_RQ_PSN) |
				   (rc ? IB_QP_MAX_DEST_RD_ATOMIC | IB_QP_MIN_RNR_TIMER : 0)));
	return 0;
}

static int rtr_to_rts(struct ib_qp *qp, struct ib_qp *to)
{
	bool rc = qp->qp_type == IB_QPT_RC;
	struct ib_qp_attr attr = attr_of(qp, to);

	attr.qp_state = IB_QPS_RTS;
	OK(ib_modify_qp(qp, &attr, IB_QP_STATE | IB_QP_SQ_PSN |
				   (rc ? IB_QP_TIMEOUT | IB_QP_RETRY_CNT | IB_QP_RNR_RETRY |
					 IB_QP_MAX_QP_RD_ATOMIC : 0)));
	return 0;
}

static int to_rts(struct ib_qp *qp, struct ib_qp *to)
{
	OK(to_rtr(qp, to));
	return rtr_to_rts(qp, to);
}

static struct ib_qp *new_qp(struct ib_cq *cq, enum ib_qp_type type, struct ib_srq *srq)
{
	struct ib_qp_init_attr init = init_of(cq, type, srq);
	struct ib_qp *qp = ib_create_qp(pd, &init);

	return IS_ERR(qp) ? NULL : qp;
}

static void close_qps(void)
{
	if (a)
		ib_destroy_qp(a);
	if (b)
		ib_destroy_qp(b);
	a = b = NULL;
}

/* Both ends anew, still in RESET; b takes its receives from there. */
static int new_qps(enum ib_qp_type type, struct ib_srq *srq)
{
	close_qps();
	a = new_qp(acq, type, NULL);
	CHECK(a);
	b = new_qp(bcq, type, srq);
	CHECK(b);
	return 0;
}

static int open_qps(enum ib_qp_type type, struct ib_srq *srq)
{
	OK(new_qps(type, srq));
	OK(to_rts(a, b));
	OK(to_rts(b, a));
	return 0;
}

static int connect_rc(struct ib_srq *srq)
{
	return open_qps(IB_QPT_RC, srq);
}

/* --- what is tried --- */

static int sends_imm(void)
{
	return send_of(IB_WR_SEND_WITH_IMM, 3000);
}

static int atomic_writes(void)
{
	u64 *word = (u64 *)theirs;

	OK(reg_mr());
	memset(theirs, 0, 64);
	fill(mine, 8, 9);
	OK(post_rdma(1, IB_WR_ATOMIC_WRITE, 16, 8));
	OK(done(acq, 1, IB_WC_ATOMIC_WRITE));
	CHECK(is_filled(theirs + 16, 8, 9));
	CHECK(!word[1] && !word[3]);
	return local_inv();
}

/* A key that is not valid any more: the status of each, and the flush behind it. */
static int errors(void)
{
	OK(reg_mr());
	OK(local_inv());
	OK(post_recv(9, 0, 64));
	OK(post_rdma(1, IB_WR_RDMA_WRITE, 0, 8));
	OK(post_send(2, IB_WR_SEND, 8, 0, 0));
	OK(came(acq));
	CHECK(wc.wr_id == 1 && wc.status == IB_WC_REM_ACCESS_ERR);
	OK(came(acq));
	CHECK(wc.wr_id == 2 && wc.status == IB_WC_WR_FLUSH_ERR);
	OK(came(bcq));
	CHECK(wc.wr_id == 9 && wc.status == IB_WC_WR_FLUSH_ERR);
	return 0;
}

static int unreliable(void)
{
	OK(open_qps(IB_QPT_UC, NULL));
	OK(send_of(IB_WR_SEND, 5000));
	OK(send_of(IB_WR_SEND_WITH_IMM, 10));
	OK(reg_mr());
	OK(write_of(IB_WR_RDMA_WRITE, 3000));
	OK(write_of(IB_WR_RDMA_WRITE_WITH_IMM, 3000));
	CHECK(is_filled(theirs + 100, 3000, (u8)3001));
	return local_inv();
}

static int datagram(struct ib_ah *ah, u32 len)
{
	struct ib_sge sge = local(mine_at, len);
	struct ib_ud_wr wr = {
		.wr = { .wr_id = 1, .sg_list = &sge, .num_sge = 1, .opcode = IB_WR_SEND_WITH_IMM,
			.send_flags = IB_SEND_SIGNALED, .ex.imm_data = IMM },
		.ah = ah,
		.remote_qpn = b->qp_num,
		.remote_qkey = QKEY,
	};

	fill(mine, len, 11);
	OK(ib_post_send(a, &wr.wr, NULL));
	OK(done(acq, 1, IB_WC_SEND));
	OK(done(bcq, 2, IB_WC_RECV));
	CHECK(wc.byte_len == GRH + len && wc.src_qp == a->qp_num);
	CHECK(wc.wc_flags & IB_WC_GRH);
	CHECK(wc.wc_flags & IB_WC_WITH_IMM && wc.ex.imm_data == IMM);
	CHECK(is_filled(theirs + GRH, len, 11));
	return 0;
}

/* To this very device. */
static struct ib_ah *ah_of(struct ib_pd *owner)
{
	union ib_gid dgid = gid->gid;
	struct rdma_ah_attr attr = { .type = rdma_ah_find_type(dev, 1) };

	rdma_ah_set_port_num(&attr, 1);
	rdma_ah_set_grh(&attr, &dgid, 0, gid->index, 64, 0);
	return rdma_create_ah(owner, &attr, RDMA_CREATE_AH_SLEEPABLE);
}

static int datagrams_to_b(void)
{
	struct ib_ah *ah = ah_of(pd);
	int ret;

	CHECK(!IS_ERR(ah));
	ret = datagram(ah, 1000);
	rdma_destroy_ah(ah, RDMA_DESTROY_AH_SLEEPABLE);
	return ret;
}

static int datagrams(void)
{
	OK(open_qps(IB_QPT_UD, NULL));
	OK(post_recv(2, 0, LEN));
	return datagrams_to_b();
}

static int unconnected_from_srq(struct ib_srq *srq)
{
	OK(open_qps(IB_QPT_UC, srq));
	OK(from_srq(srq));
	OK(open_qps(IB_QPT_UD, srq));
	OK(post_srq(srq));
	return datagrams_to_b();
}

static int unconnected_shared_receives(void)
{
	return shared_by(unconnected_from_srq);
}

/* The first message of a peer that is faster; and only that. */
static int ahead(enum ib_qp_type type)
{
	OK(new_qps(type, NULL));
	OK(to_rts(a, b));
	OK(to_rtr(b, a));
	atomic_set(&begun, 0);
	OK(send_of(IB_WR_SEND, 3000));
	CHECK(atomic_read(&begun) == 1);
	OK(send_of(IB_WR_SEND, 10));
	CHECK(atomic_read(&begun) == 1);
	OK(rtr_to_rts(b, a));
	return send_of(IB_WR_SEND, 10);
}

static int established(void)
{
	OK(ahead(IB_QPT_RC));
	OK(ahead(IB_QPT_UC));
	/* Who is ready hears of nothing. */
	OK(open_qps(IB_QPT_RC, NULL));
	OK(send_of(IB_WR_SEND, 10));
	CHECK(atomic_read(&begun) == 1);
	return 0;
}

#include "gsi.h"

static const struct test roce_tests[] = {
	{ "SEND_WITH_IMM", sends_imm }, { "ATOMIC_WRITE", atomic_writes }, { "errors", errors },
	{ "UC", unreliable }, { "UD", datagrams }, { "SRQ_of_UC_and_UD", unconnected_shared_receives },
	{ "COMM_EST", established }, { "GSI", management },
};

static const struct transport roce = {
	.prepare = find_gid, .forget = put_gid, .connect = connect_rc, .close = close_qps,
	.tests = roce_tests, .ntests = ARRAY_SIZE(roce_tests),
};

#endif /* KUSER_ROCE_H */
