/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Messages with their number in them, from another process: the server gives
 * credits, so that no more than TRAFFIC_WINDOW are on their way and there is
 * always a receive.
 */
#ifndef VTCREDIT_H
#define VTCREDIT_H

#include "vt.h"

#define TRAFFIC_POSTED 48
#define TRAFFIC_WINDOW 40
#define TRAFFIC_CREDIT 8

static inline void credit_client(struct end *c, uint64_t count, uint16_t port)
{
	struct rdma_conn_param param = param_of(&defaults);
	uint64_t credits = 0, done = 0;
	struct ibv_wc wc;
	struct buf a;

	resolve(c, port);
	make_qp(c, &defaults, false);
	a = new_buf(c->pd, 64 * 64);
	for (int i = 0; i < 16; i++)
		OK(try_recv(c->qp, i, NULL, 0));
	OK(rdma_connect(c->id, &param));
	CM_EXPECT(c->ch, ESTABLISHED);
	for (uint64_t i = 0; i < count; i++) {
		struct ibv_sge sge = sge_of(&a, i % 64 * 64, 64);
		struct work w = { i, IBV_WR_SEND, SIGNALED, &sge, 1, 0, 0 };

		while (i - credits * TRAFFIC_CREDIT >= TRAFFIC_WINDOW || i - done >= TRAFFIC_WINDOW) {
			while (ibv_poll_cq(c->scq, 1, &wc) > 0) {
				EQ(wc.status, IBV_WC_SUCCESS);
				done++;
			}
			while (ibv_poll_cq(c->rcq, 1, &wc) > 0) {
				EQ(wc.status, IBV_WC_SUCCESS);
				OK(try_recv(c->qp, 0, NULL, 0));
				credits++;
			}
		}
		*(uint64_t *)(a.p + i % 64 * 64) = i;
		OK(try_post(c->qp, &w));
	}
	/* It is all received before the connection goes. */
	while (credits < count / TRAFFIC_CREDIT) {
		CHECK(poll_within(c->rcq, &wc, SOON));
		EQ(wc.status, IBV_WC_SUCCESS);
		credits++;
	}
	usleep(QUIET * 2000);
}

/* Takes completions of credits, and gives the next one after message `i` where one is due. */
static inline void give_credit(struct end *s, uint64_t i)
{
	struct work w = { i, IBV_WR_SEND, SIGNALED, NULL, 0, 0, 0 };
	struct ibv_wc wc;

	if (i % TRAFFIC_CREDIT != TRAFFIC_CREDIT - 1)
		return;
	while (ibv_poll_cq(s->scq, 1, &wc) > 0)
		EQ(wc.status, IBV_WC_SUCCESS);
	OK(try_post(s->qp, &w));
}

#endif
