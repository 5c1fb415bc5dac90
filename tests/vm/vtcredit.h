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
	/* The server has seen that nothing else comes. */
	CHECK(poll_within(c->rcq, &wc, SOON));
	EQ(wc.status, IBV_WC_SUCCESS);
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

/* What is resized under traffic, and where receives are posted and completed. */
struct traffic {
	/* Made with these, the QP is in `s`. */
	const struct opt *o;
	/* After the QP was made: what is to be resized. */
	void *(*queue)(struct end *s);
	int (*resize)(void *queue, uint32_t size);
	const uint32_t *sizes;
	size_t nsizes;
	int (*recv)(struct end *s, uint64_t id, const struct buf *b, size_t off, size_t len);
	/* The completion of receive `id`. */
	void (*received)(struct end *s, uint64_t id);
};

struct resizer {
	const struct traffic *t;
	void *queue;
	unsigned long resizes;
	bool over;
};

static inline void *keep_resizing(void *arg)
{
	struct resizer *r = arg;
	unsigned long n = 0;

	while (!__atomic_load_n(&r->over, __ATOMIC_RELAXED)) {
		OK(r->t->resize(r->queue, r->t->sizes[n++ % r->t->nsizes]));
		usleep(n % 4 * 100);
	}
	r->resizes = n;
	return NULL;
}

/*
 * Every message carries its number. There are always TRAFFIC_POSTED receives,
 * more than messages may be on their way, and they are taken in order. Returns
 * the queue.
 */
static inline void *credit_server(struct end *s, uint64_t count, const struct traffic *t)
{
	struct rdma_conn_param param = param_of(&defaults);
	struct resizer r = { .t = t };
	struct work over = { count, IBV_WR_SEND, SIGNALED, NULL, 0, 0, 0 };
	struct rdma_cm_event *ev;
	pthread_t thread;
	struct ibv_wc wc;
	struct buf b;

	listen_ch = new_channel();
	listener = listen_on(listen_ch, 1);
	printf("port %u\n", ntohs(rdma_get_src_port(listener)));
	ev = CM_EVENT(listen_ch, CONNECT_REQUEST);
	s->id = ev->id;
	OK(rdma_ack_cm_event(ev));
	make_qp(s, t->o, true);
	b = new_buf(s->pd, 64 * 64);
	for (uint64_t i = 0; i < TRAFFIC_POSTED; i++)
		OK(t->recv(s, i, &b, i % 64 * 64, 64));
	OK(rdma_accept(s->id, &param));
	CM_EXPECT(listen_ch, ESTABLISHED);
	r.queue = t->queue(s);
	OK(pthread_create(&thread, NULL, keep_resizing, &r));
	for (uint64_t i = 0; i < count; i++) {
		uint64_t next = i + TRAFFIC_POSTED;

		t->received(s, i);
		EQ(*(uint64_t *)(b.p + i % 64 * 64), i);
		OK(t->recv(s, next, &b, next % 64 * 64, 64));
		give_credit(s, i);
	}
	NOTHING(s->rcq);
	OK(try_post(s->qp, &over));
	do
		CHECK(poll_within(s->scq, &wc, SOON));
	while (wc.wr_id != count);
	EQ(wc.status, IBV_WC_SUCCESS);
	__atomic_store_n(&r.over, true, __ATOMIC_RELAXED);
	OK(pthread_join(thread, NULL));
	printf("%lu resizes\n", r.resizes);
	return r.queue;
}

/* ARGS: COUNT, and of the client the server's PORT. Of the server: the queue. */
static inline void *credit_traffic(struct end *c, struct end *s, const struct traffic *t)
{
	/* Many take their time; the caller has a limit for it. */
	alarm(0);
	if (!args[1])
		return credit_server(s, atoi(args[0]), t);
	credit_client(c, atoi(args[0]), (uint16_t)atoi(args[1]));
	return NULL;
}

#endif
