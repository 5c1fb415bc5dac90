// SPDX-License-Identifier: GPL-2.0
/*
 * SQE of UC and UD over RoCE: a send that cannot be executed stops the send
 * queue, and nothing else. test_roce_ops.py runs it.
 *
 *     vtsqe TEST ADDRESS NETNS-A DEVICE-A NETNS-B DEVICE-B
 */
#include "vtroce.h"

#define ROOM 8192
/* What is sent well, and what is sent of a region of one packet. */
#define LEN 300
#define LONG 3000

/* Of UD the address handles. Memory, of which B's receives have the second half. */
struct party {
	struct conn c;
	struct ibv_ah *to_a, *to_b;
	size_t head;
	struct buf a, b;
};

static struct party new_party(bool ud)
{
	struct party p = { .a = new_buf(A.pd, ROOM), .b = new_buf(B.pd, ROOM) };

	if (ud) {
		p.c.a = ud_qp(&A, &p.c.acq);
		p.c.b = ud_qp(&B, &p.c.bcq);
		p.to_a = ah_of(&B, &A);
		p.to_b = ah_of(&A, &B);
		p.head = GRH;
	} else {
		p.c = connect_uc();
	}
	return p;
}

static void gone(struct party *p)
{
	disconnect(&p->c);
	if (p->to_a) {
		OK(ibv_destroy_ah(p->to_a));
		OK(ibv_destroy_ah(p->to_b));
	}
	OK(ibv_dereg_mr(p->a.mr));
	OK(ibv_dereg_mr(p->b.mr));
}

static struct ibv_send_wr wr_of(const struct party *p, uint64_t id, struct ibv_sge *sge)
{
	struct ibv_send_wr wr = {
		.wr_id = id, .sg_list = sge, .num_sge = 1, .opcode = IBV_WR_SEND,
		.send_flags = SIGNALED,
	};

	if (p->to_a) {
		wr.wr.ud.ah = p->to_a;
		wr.wr.ud.remote_qpn = p->c.a->qp_num;
		wr.wr.ud.remote_qkey = QKEY;
	}
	return wr;
}

/* B sends this. */
static void post(const struct party *p, uint64_t id, struct ibv_sge sge)
{
	struct ibv_send_wr *bad, wr = wr_of(p, id, &sge);

	OK(ibv_post_send(p->c.b, &wr, &bad));
}

/* The message with this seed arrives in A's next receive, which is this one. */
static void arrives(const struct party *p, uint64_t id, uint32_t seed)
{
	EQ(DONE(p->c.acq, id).byte_len, p->head + LEN);
	VERIFY(p->a.p + p->head, LEN, seed);
	recv_buf(p->c.a, id + 1, &p->a, ROOM);
}

static int to_rts_from(struct ibv_qp *qp, enum ibv_qp_state from)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RTS, .cur_qp_state = from };

	return ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_CUR_STATE);
}

/* What is posted with a wrong key; the completion comes when the state is there. */
static void fails(const struct party *p, uint64_t id)
{
	struct ibv_sge wrong = sge_of(&p->b, 0, LEN);

	wrong.lkey ^= 0x5500;
	post(p, id, wrong);
	DONE_WITH(p->c.bcq, id, LOC_PROT_ERR);
	EQ(state_of(p->c.b), IBV_QPS_SQE);
}

static void sqe(bool ud)
{
	static const enum ibv_qp_state no[] = {
		IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_SQD, IBV_QPS_SQE,
	};
	struct party p = new_party(ud);
	struct buf small = new_buf(B.pd, 1024);
	struct ibv_sge sges[4], good = sge_of(&p.b, 0, LEN);
	struct ibv_send_wr wrs[4], *bad;
	struct ibv_wc wc;

	recv_buf(p.c.a, 101, &p.a, ROOM);
	fill(p.b.p, LEN, 1);
	/* Of a list the second one fails. */
	for (size_t i = 0; i < 4; i++) {
		sges[i] = good;
		wrs[i] = wr_of(&p, i + 1, &sges[i]);
		wrs[i].next = i < 3 ? &wrs[i + 1] : NULL;
	}
	sges[1].lkey ^= 0x5500;
	OK(ibv_post_send(p.c.b, wrs, &bad));
	DONE(p.c.bcq, 1);
	DONE_WITH(p.c.bcq, 2, LOC_PROT_ERR);
	EQ(state_of(p.c.b), IBV_QPS_SQE);
	DONE_WITH(p.c.bcq, 3, WR_FLUSH_ERR);
	DONE_WITH(p.c.bcq, 4, WR_FLUSH_ERR);
	arrives(&p, 101, 1);
	/* What is posted now is flushed, too. */
	post(&p, 5, good);
	DONE_WITH(p.c.bcq, 5, WR_FLUSH_ERR);
	NOTHING(p.c.acq);
	/* It goes on receiving. */
	{
		struct ibv_sge to = sge_of(&p.b, ROOM / 2, ROOM / 2), from = sge_of(&p.a, 0, LEN);
		struct ibv_send_wr wr = wr_of(&p, 6, &from);

		OK(try_recv(p.c.b, 201, &to, 1));
		if (ud) {
			wr.wr.ud.ah = p.to_b;
			wr.wr.ud.remote_qpn = p.c.b->qp_num;
		}
		fill(p.a.p, LEN, 2);
		OK(ibv_post_send(p.c.a, &wr, &bad));
		DONE(p.c.acq, 6);
		EQ(DONE(p.c.bcq, 201).byte_len, p.head + LEN);
		VERIFY(p.b.p + ROOM / 2 + p.head, LEN, 2);
	}
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		FAILS(EINVAL, to_state(p.c.b, no[i]));
	FAILS(EINVAL, to_rts_from(p.c.b, IBV_QPS_RTS));
	EQ(state_of(p.c.b), IBV_QPS_SQE);
	OK(to_rts_from(p.c.b, IBV_QPS_SQE));
	EQ(state_of(p.c.b), IBV_QPS_RTS);
	fill(p.b.p, LEN, 3);
	post(&p, 7, good);
	DONE(p.c.bcq, 7);
	arrives(&p, 102, 3);

	/* Again: of UC the first packet has left, of UD it is longer than a packet may be. */
	post(&p, 8, (struct ibv_sge) { (uintptr_t)small.p, LONG, small.mr->lkey });
	CHECK(poll_within(p.c.bcq, &wc, SOON));
	EQ(wc.wr_id, 8);
	EQ(wc.status, ud ? IBV_WC_LOC_LEN_ERR : IBV_WC_LOC_PROT_ERR);
	EQ(state_of(p.c.b), IBV_QPS_SQE);
	OK(to_state(p.c.b, IBV_QPS_RTS));
	/* The receive that the message had begun with is the next one's. */
	fill(p.b.p, LEN, 4);
	post(&p, 9, good);
	DONE(p.c.bcq, 9);
	arrives(&p, 103, 4);

	/* Whoever polls the failure may act upon it at once, many times. */
	for (uint64_t id = 10; id < 210; id++) {
		fails(&p, id);
		OK(to_state(p.c.b, IBV_QPS_RTS));
	}
	fill(p.b.p, LEN, 5);
	post(&p, 210, good);
	DONE(p.c.bcq, 210);
	arrives(&p, 104, 5);

	/* To ERROR, which flushes the receives as well; and to RESET. */
	recv_buf(p.c.b, 202, &p.b, ROOM);
	fails(&p, 211);
	OK(to_state(p.c.b, IBV_QPS_ERR));
	DONE_WITH(p.c.bcq, 202, WR_FLUSH_ERR);
	FAILS(EINVAL, to_state(p.c.b, IBV_QPS_RTS));
	/* Completions have told all there is to tell. */
	CHECK(!async_within(B.ctx, IBV_EVENT_QP_FATAL, p.c.b, 0));
	gone(&p);

	p = new_party(ud);
	fails(&p, 1);
	OK(to_state(p.c.b, IBV_QPS_RESET));
	EQ(state_of(p.c.b), IBV_QPS_RESET);
	gone(&p);
	OK(ibv_dereg_mr(small.mr));
}

static void uc(void) { sqe(false); }
static void ud(void) { sqe(true); }

/* A CQ that takes no more of what is flushed is the end of the QP: it cannot tell what becomes of its sends. */
static void lost(void)
{
	struct ibv_qp_init_attr init = { .qp_type = IBV_QPT_UD, .cap = { 64, 1, 1, 1, 0 } };
	struct party p = new_party(true);
	struct ibv_cq *cq = ibv_create_cq(B.ctx, 4, NULL, NULL, 0);
	struct ibv_send_wr wrs[32], *bad;
	struct ibv_sge sges[32];
	struct ibv_qp *qp;
	int depth;

	CHECK(cq);
	depth = cq->cqe;
	CHECK(depth < 32);
	init.send_cq = init.recv_cq = cq;
	qp = ibv_create_qp(B.pd, &init);
	CHECK(qp);
	to_rts_ud(qp, QKEY);
	for (int i = 0; i <= depth; i++) {
		sges[i] = sge_of(&p.b, 0, LEN);
		wrs[i] = wr_of(&p, i, &sges[i]);
		wrs[i].next = i < depth ? &wrs[i + 1] : NULL;
	}
	sges[0].lkey ^= 0x5500;
	OK(ibv_post_send(qp, wrs, &bad));
	ASYNC(B.ctx, CQ_ERR, cq);
	ASYNC(B.ctx, QP_FATAL, qp);
	EQ(state_of(qp), IBV_QPS_ERR);
	DONE_WITH(cq, 0, LOC_PROT_ERR);
	for (int i = 1; i < depth; i++)
		DONE_WITH(cq, i, WR_FLUSH_ERR);
	OK(ibv_destroy_qp(qp));
	OK(ibv_destroy_cq(cq));
	gone(&p);
}

static const struct test tests[] = {
	T(uc), T(ud), T(lost),
};

int main(int argc, char **argv)
{
	return run_roce_test(tests, ARRAY_SIZE(tests), argc, argv);
}
