/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of connections (vtcm.c, vtlisten.c, vtqp.c) are written with. */
#ifndef VTCM_H
#define VTCM_H

#include "vt.h"

static struct end c, s;

static const struct rdma_conn_param plain = {
	.initiator_depth = 4,
	.responder_resources = 4,
	.retry_count = 7,
};

/* SEND in both directions. */
static inline void talk(void)
{
	struct buf a = new_buf(c.pd, 1000), b = new_buf(s.pd, 1000);

	recv_buf(s.qp, 1, &b, 1000);
	fill(a.p, 1000, 1);
	send_buf(c.qp, 2, &a, 1000, SIGNALED);
	DONE(s.rcq, 1);
	DONE(c.scq, 2);
	VERIFY(b.p, 1000, 1);
	recv_buf(c.qp, 3, &a, 1000);
	fill(b.p, 1000, 2);
	send_buf(s.qp, 4, &b, 1000, SIGNALED);
	DONE(c.rcq, 3);
	DONE(s.scq, 4);
	VERIFY(a.p, 1000, 2);
	OK(ibv_dereg_mr(a.mr));
	OK(ibv_dereg_mr(b.mr));
}

static inline void start_listener(void)
{
	listen_ch = new_channel();
	listener = listen_on(listen_ch, 16);
}

static inline uint16_t port(void)
{
	return ntohs(rdma_get_src_port(listener));
}

/* An active end with a QP whose request is on its way. */
static inline void request(struct end *e, const struct rdma_conn_param *param)
{
	memset(e, 0, sizeof(*e));
	resolve(e, port());
	make_qp(e, &defaults, false);
	OK(rdma_connect(e->id, (struct rdma_conn_param *)param));
}

/* The request, at the listener. */
static inline struct rdma_cm_event *incoming(struct end *e)
{
	struct rdma_cm_event *ev = CM_EVENT(listen_ch, CONNECT_REQUEST);

	memset(e, 0, sizeof(*e));
	e->id = ev->id;
	e->ch = new_channel();
	return ev;
}

static inline void accept_end(struct end *e, const struct rdma_conn_param *param)
{
	OK(rdma_migrate_id(e->id, e->ch));
	make_qp(e, &defaults, true);
	OK(rdma_accept(e->id, (struct rdma_conn_param *)param));
}

#endif /* VTCM_H */
