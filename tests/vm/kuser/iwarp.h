/* SPDX-License-Identifier: GPL-2.0 */
/* What iWARP has by itself: QPs that rdma_cm connects, a READ that ends a registration. A part of kuser.c. */
#ifndef KUSER_IWARP_H
#define KUSER_IWARP_H

#include <linux/inetdevice.h>
#include <rdma/rdma_cm.h>

#define RESOLVE_MS 5000

/* What rdma_cm said last of an id, and that it said something. */
struct cm_end {
	struct rdma_cm_id *id;
	struct completion said;
	enum rdma_cm_event_type event;
};

static struct net *net;
static struct cm_end listening, asking, accepting;
/* Where the listener is. */
static struct sockaddr_storage there;

static int on_cm(struct rdma_cm_id *id, struct rdma_cm_event *event)
{
	struct cm_end *e = id->context;

	if (event->event == RDMA_CM_EVENT_CONNECT_REQUEST) {
		id->context = &accepting;
		accepting.id = id;
	}
	e->event = event->event;
	complete(&e->said);
	return 0;
}

static int said(struct cm_end *e, enum rdma_cm_event_type event)
{
	CHECK(wait_for_completion_timeout(&e->said, SOON));
	CHECK(e->event == event);
	return 0;
}

static int new_id(struct cm_end *e)
{
	init_completion(&e->said);
	e->id = rdma_create_id(net, on_cm, e, RDMA_PS_TCP, IB_QPT_RC);
	if (IS_ERR(e->id)) {
		e->id = NULL;
		return -ENOMEM;
	}
	return 0;
}

/* At the device's own address. */
static int listen(void)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&there;
	struct net_device *netdev = ib_device_get_netdev(dev, 1);

	CHECK(netdev);
	net = dev_net(netdev);
	in->sin_family = AF_INET;
	in->sin_addr.s_addr = inet_select_addr(netdev, 0, RT_SCOPE_UNIVERSE);
	dev_put(netdev);
	CHECK(in->sin_addr.s_addr);
	OK(new_id(&listening));
	OK(rdma_bind_addr(listening.id, (struct sockaddr *)&there));
	CHECK(listening.id->device == dev);
	OK(rdma_listen(listening.id, 1));
	there = listening.id->route.addr.src_addr;
	return 0;
}

static void end(struct cm_end *e)
{
	if (!e->id)
		return;
	if (e->id->qp)
		rdma_destroy_qp(e->id);
	rdma_destroy_id(e->id);
	e->id = NULL;
}

static void end_listening(void)
{
	end(&listening);
}

static void close_connection(void)
{
	end(&asking);
	end(&accepting);
	a = b = NULL;
}

static int connect_by_cm(struct ib_srq *srq)
{
	struct ib_qp_init_attr a_init = init_of(acq, IB_QPT_RC, NULL);
	struct ib_qp_init_attr b_init = init_of(bcq, IB_QPT_RC, srq);
	struct rdma_conn_param param = { .initiator_depth = 4, .responder_resources = 4 };
	int ret;

	close_connection();
	OK(new_id(&asking));
	init_completion(&accepting.said);
	OK(rdma_resolve_addr(asking.id, NULL, (struct sockaddr *)&there, RESOLVE_MS));
	OK(said(&asking, RDMA_CM_EVENT_ADDR_RESOLVED));
	CHECK(asking.id->device == dev);
	OK(rdma_resolve_route(asking.id, RESOLVE_MS));
	OK(said(&asking, RDMA_CM_EVENT_ROUTE_RESOLVED));
	OK(rdma_create_qp(asking.id, pd, &a_init));
	OK(rdma_connect(asking.id, &param));
	OK(said(&listening, RDMA_CM_EVENT_CONNECT_REQUEST));
	OK(rdma_create_qp(accepting.id, pd, &b_init));
	rdma_lock_handler(accepting.id);
	ret = rdma_accept(accepting.id, &param);
	rdma_unlock_handler(accepting.id);
	OK(ret);
	OK(said(&accepting, RDMA_CM_EVENT_ESTABLISHED));
	OK(said(&asking, RDMA_CM_EVENT_ESTABLISHED));
	a = asking.id->qp;
	b = accepting.id->qp;
	return 0;
}

/* --- what is tried --- */

/* There is no such message (RFC 7306, section 6): the peer hears of none. */
static int sends_imm_refused(void)
{
	OK(post_recv(9, 0, 64));
	OK(post_send(1, IB_WR_SEND_WITH_IMM, 8, IMM, 0));
	OK(came(acq));
	CHECK(wc.wr_id == 1 && wc.status == IB_WC_LOC_QP_OP_ERR);
	OK(came(bcq));
	CHECK(wc.wr_id == 9 && wc.status == IB_WC_WR_FLUSH_ERR);
	return transport->connect(NULL);
}

/* The sink's registration ends with the READ: it may be made anew, and was not to be before. */
static int reads_inv_into(struct ib_mr *sink)
{
	struct ib_sge sge = { .length = 8000 };
	struct ib_rdma_wr wr = {
		.wr = { .wr_id = 1, .opcode = IB_WR_RDMA_READ_WITH_INV, .sg_list = &sge,
			.num_sge = 1, .send_flags = IB_SEND_SIGNALED },
	};
	int i;

	OK(reg_mr());
	for (i = 0; i < 3; i++) {
		memset(mine, 0, LEN);
		fill(theirs + 33, 8000, i);
		OK(reg_by(a, acq, sink, &mine_sg, IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE));
		sge.addr = sink->iova + 5;
		sge.lkey = sink->lkey;
		wr.wr.ex.invalidate_rkey = sink->rkey;
		wr.remote_addr = mr->iova + 33;
		wr.rkey = mr->rkey;
		OK(ib_post_send(a, &wr.wr, NULL));
		OK(done(acq, 1, IB_WC_RDMA_READ));
		CHECK(is_filled(mine + 5, 8000, i));
		CHECK(!mine[4] && !mine[8005]);
	}
	return local_inv();
}

static int reads_inv(void)
{
	struct ib_mr *sink = ib_alloc_mr(pd, IB_MR_TYPE_MEM_REG, PAGES);
	int ret;

	CHECK(!IS_ERR(sink));
	ret = reads_inv_into(sink);
	ib_dereg_mr(sink);
	return ret;
}

/*
 * More of them than may wait for an answer, among others; and immediate data behind them, which
 * comes when all of it is done.
 */
static int many_atomics(void)
{
	u64 *word = (u64 *)theirs, *result = (u64 *)mine;
	int i;

	OK(reg_mr());
	OK(post_recv(9, 1024, 64));
	WRITE_ONCE(word[7], 100);
	for (i = 0; i < 12; i++) {
		if (i % 2)
			OK(post_atomic(i, IB_WR_ATOMIC_CMP_AND_SWP, 56, 100 + i, 101 + i));
		else
			OK(post_atomic(i, IB_WR_ATOMIC_FETCH_AND_ADD, 56, 1, 0));
	}
	OK(post_rdma(12, IB_WR_RDMA_WRITE_WITH_IMM, 4096, 5000));
	for (i = 0; i < 12; i++)
		OK(done(acq, i, i % 2 ? IB_WC_COMP_SWAP : IB_WC_FETCH_ADD));
	OK(done(acq, 12, IB_WC_RDMA_WRITE));
	OK(done(bcq, 9, IB_WC_RECV_RDMA_WITH_IMM));
	CHECK(wc.byte_len == 5000 && wc.ex.imm_data == IMM);
	CHECK(READ_ONCE(word[7]) == 112 && READ_ONCE(*result) == 111);
	return local_inv();
}

/* It fails with this; what is behind it is flushed, and so are the peer's receives. */
static int refused(int posted)
{
	struct ib_sge sge = local(mine_at, 8);
	struct ib_send_wr behind = {
		.wr_id = 2, .sg_list = &sge, .num_sge = 1, .opcode = IB_WR_SEND,
		.send_flags = IB_SEND_SIGNALED | IB_SEND_FENCE,
	};

	OK(posted);
	OK(ib_post_send(a, &behind, NULL));
	OK(came(acq));
	CHECK(wc.wr_id == 1 && wc.status == IB_WC_REM_ACCESS_ERR);
	OK(came(acq));
	CHECK(wc.wr_id == 2 && wc.status == IB_WC_WR_FLUSH_ERR);
	OK(came(bcq));
	CHECK(wc.wr_id == 9 && wc.status == IB_WC_WR_FLUSH_ERR);
	return transport->connect(NULL);
}

static int errors_of_iwarp(void)
{
	u64 *word = (u64 *)theirs;

	/* A key that is not valid any more. */
	OK(reg_mr());
	OK(local_inv());
	OK(post_recv(9, 0, 64));
	OK(refused(post_rdma(1, IB_WR_RDMA_READ, 0, 8)));
	OK(post_recv(9, 0, 64));
	OK(refused(post_atomic(1, IB_WR_ATOMIC_FETCH_AND_ADD, 0, 1, 0)));
	/* Atomics have a right of their own. */
	OK(reg_for(IB_ACCESS_REMOTE_WRITE | IB_ACCESS_REMOTE_READ));
	WRITE_ONCE(word[0], 5);
	OK(post_recv(9, 64, 64));
	OK(refused(post_atomic(1, IB_WR_ATOMIC_CMP_AND_SWP, 0, 5, 6)));
	CHECK(READ_ONCE(word[0]) == 5);
	return local_inv();
}

static const struct test iwarp_tests[] = {
	{ "SEND_WITH_IMM_refused", sends_imm_refused }, { "RDMA_READ_WITH_INV", reads_inv },
	{ "atomics", many_atomics }, { "errors_of_iWARP", errors_of_iwarp },
};

static const struct transport iwarp = {
	.prepare = listen, .forget = end_listening, .connect = connect_by_cm,
	.close = close_connection, .tests = iwarp_tests, .ntests = ARRAY_SIZE(iwarp_tests),
};

#endif /* KUSER_IWARP_H */
