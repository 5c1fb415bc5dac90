// SPDX-License-Identifier: GPL-2.0
/*
 * Shared receive queues of UC and UD over RoCE; test_srq.py runs them.
 *
 *     vtsrqu TEST ADDRESS NETNS-A DEVICE-A NETNS-B DEVICE-B TYPE [ARGUMENT]
 *
 * The SRQ is A's. B sends.
 */
#include "vtcredit.h"
#include "vtroce.h"
#include "vtsrq.h"

/* Of a message or a receive; each receive has one of so many, in turn. */
#define SLOT 4096
#define SLOTS 64

/* A QP of A's that takes from the SRQ, and the one that sends to it. */
struct way {
	struct conn c;
	enum ibv_qp_type type;
};

static enum ibv_qp_type type;
static struct ibv_srq *srq;
static struct ibv_ah *ah;
static struct buf from, into;
/* Receives that were posted; and that were used. They are numbered. */
static uint64_t posted, taken;

static void open_srq(uint32_t size)
{
	type = !strcmp(args[0], "uc") ? IBV_QPT_UC : IBV_QPT_UD;
	srq = new_srq(A.pd, size, 1);
	ah = ah_of(&B, &A);
	from = new_buf(B.pd, SLOTS * SLOT);
	into = new_buf(A.pd, SLOTS * SLOT);
	memset(into.p, 0x5a, into.len);
}

static struct way open_way(enum ibv_qp_type type)
{
	struct way w = { .type = type };

	w.c.a = qp_of_srq(&A, type, &w.c.acq, srq);
	w.c.b = one_qp(&B, type, &w.c.bcq);
	switch (type) {
	case IBV_QPT_UD:
		to_rts_ud(w.c.a, QKEY);
		to_rts_ud(w.c.b, QKEY);
		break;
	case IBV_QPT_UC:
		to_rts_uc(w.c.a, &A, &B, w.c.b);
		to_rts_uc(w.c.b, &B, &A, w.c.a);
		break;
	default:
		to_init(w.c.a, 0);
		to_init(w.c.b, 0);
		to_rts(w.c.a, &A, &B, w.c.b, 1, 1);
		to_rts(w.c.b, &B, &A, w.c.a, 1, 1);
	}
	return w;
}

static void close_srq(void)
{
	OK(ibv_destroy_srq(srq));
	OK(ibv_destroy_ah(ah));
	OK(ibv_dereg_mr(from.mr));
	OK(ibv_dereg_mr(into.mr));
}

/* What stands in front of a message that has come this way. */
static size_t head(const struct way *w)
{
	return w->type == IBV_QPT_UD ? GRH : 0;
}

/* Of a message. But for datagrams some are longer than a packet. */
static size_t length(const struct way *w, uint32_t number)
{
	return 1 + number * 397u % (w->type == IBV_QPT_UD ? 1024 : 3600);
}

static int post_one(void)
{
	int ret = srq_recv(srq, posted, &into, posted % SLOTS * SLOT, SLOT);

	posted += !ret;
	return ret;
}

/* So many are posted. */
static void post_all(uint64_t n)
{
	while (posted - taken < n)
		OK(post_one());
}

static void say(const struct way *w, uint32_t number)
{
	struct ibv_sge sge = sge_of(&from, number % SLOTS * SLOT, length(w, number));
	struct ibv_send_wr *bad, wr = {
		.wr_id = number, .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND,
		.send_flags = SIGNALED,
	};

	if (w->type == IBV_QPT_UD) {
		wr.wr.ud.ah = ah;
		wr.wr.ud.remote_qpn = w->c.a->qp_num;
		wr.wr.ud.remote_qkey = QKEY;
	}
	fill((void *)(uintptr_t)sge.addr, sge.length, number);
	OK(ibv_post_send(w->c.b, &wr, &bad));
}

/* This message has come, by a receive that held nothing before. */
static void is_message(const struct way *w, const struct ibv_wc *wc, uint32_t number)
{
	uint8_t *at = into.p + wc->wr_id % SLOTS * SLOT;
	size_t len = length(w, number), end = head(w) + len;

	EQ(wc->status, IBV_WC_SUCCESS);
	EQ(wc->opcode, IBV_WC_RECV);
	EQ(wc->byte_len, end);
	EQ(wc->qp_num, w->c.a->qp_num);
	if (w->type == IBV_QPT_UD) {
		EQ(wc->src_qp, w->c.b->qp_num);
		CHECK(wc->wc_flags & IBV_WC_GRH);
	}
	VERIFY(at + head(w), len, number);
	UNTOUCHED(at + end, SLOT - end, 0x5a);
	memset(at, 0x5a, SLOT);
}

/* A message from one end to the other: it takes the oldest receive. */
static void pass(const struct way *w, uint32_t number)
{
	struct ibv_wc wc;

	say(w, number);
	DONE(w->c.bcq, number);
	wc = DONE(w->c.acq, taken++);
	is_message(w, &wc, number);
}

/* Two QPs, in turn. */
static void of_two_qps(void)
{
	struct way w[2];

	open_srq(64);
	w[0] = open_way(type);
	w[1] = open_way(type);
	post_all(40);
	for (uint32_t i = 0; i < 100; i++) {
		pass(&w[i % 3 % 2], i);
		post_all(40 - i % 7);
	}
	FAILS(EBUSY, ibv_destroy_srq(srq));
	/* One of them goes; what is posted is there for the other one. */
	disconnect(&w[0].c);
	while (taken < posted)
		pass(&w[1], (uint32_t)taken);
	FAILS(EBUSY, ibv_destroy_srq(srq));
	disconnect(&w[1].c);
	close_srq();
}

/* A QP of each type takes from one SRQ. */
static void of_all_types(void)
{
	static const enum ibv_qp_type types[] = { IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD };
	struct way w[ARRAY_SIZE(types)];

	open_srq(16);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		w[i] = open_way(types[i]);
	for (uint32_t i = 0; i < 60; i++) {
		post_all(10);
		pass(&w[i % ARRAY_SIZE(types)], i);
	}
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		disconnect(&w[i].c);
	close_srq();
}

/* Both QPs at once: each receive is used once, and each QP's messages are in order. */
static void burst(void)
{
	enum { N = 16, ROUNDS = 20 };
	struct way w[2];

	open_srq(2 * N);
	w[0] = open_way(type);
	w[1] = open_way(type);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint64_t used = 0;

		post_all(2 * N);
		for (uint32_t i = 0; i < 2 * N; i++)
			say(&w[i % 2], round * 2 * N + i);
		for (size_t i = 0; i < 2; i++) {
			uint64_t last = 0;

			for (uint32_t k = 0; k < N; k++) {
				struct ibv_wc wc;

				if (!poll_within(w[i].c.acq, &wc, SOON))
					FAIL("message %u of %u is not there", k, N);
				CHECK(wc.wr_id >= taken && wc.wr_id < posted);
				CHECK(!k || wc.wr_id > last);
				CHECK(!(used >> (wc.wr_id - taken) & 1));
				used |= 1ULL << (wc.wr_id - taken);
				last = wc.wr_id;
				is_message(&w[i], &wc, round * 2 * N + 2 * k + (uint32_t)i);
				DONE(w[i].c.bcq, round * 2 * N + 2 * k + i);
			}
		}
		EQ(used, (1ULL << 2 * N) - 1);
		taken = posted;
	}
	disconnect(&w[0].c);
	disconnect(&w[1].c);
	close_srq();
}

static void limit_event(void)
{
	struct ibv_srq_attr attr = { .srq_limit = 8 };
	struct way w;

	open_srq(64);
	w = open_way(type);
	post_all(10);
	OK(ibv_modify_srq(srq, &attr, IBV_SRQ_LIMIT));
	pass(&w, 0);
	pass(&w, 1);
	/* 8 are left: not fewer than that. */
	CHECK(!async_within(A.ctx, IBV_EVENT_SRQ_LIMIT_REACHED, srq, QUIET));
	pass(&w, 2);
	ASYNC(A.ctx, SRQ_LIMIT_REACHED, srq);
	/* One arming, one event. */
	OK(ibv_query_srq(srq, &attr));
	EQ(attr.srq_limit, 0);
	pass(&w, 3);
	CHECK(!async_within(A.ctx, IBV_EVENT_SRQ_LIMIT_REACHED, srq, QUIET));
	/* And once more, with the last one of a queue of another size. */
	OK(srq_resize(srq, 200));
	attr.srq_limit = 1;
	OK(ibv_modify_srq(srq, &attr, IBV_SRQ_LIMIT));
	while (posted - taken > 1)
		pass(&w, (uint32_t)taken);
	CHECK(!async_within(A.ctx, IBV_EVENT_SRQ_LIMIT_REACHED, srq, QUIET));
	pass(&w, (uint32_t)taken);
	ASYNC(A.ctx, SRQ_LIMIT_REACHED, srq);
	disconnect(&w.c);
	close_srq();
}

static void resize_outstanding(void)
{
	static const uint32_t sizes[] = { 64, 40, 300, 33, 512, 32, 9, 8, 100 };
	struct way w[2];

	open_srq(16);
	w[0] = open_way(type);
	w[1] = open_way(type);
	srq_fill(srq, &into, &posted, taken);
	/* Not at the beginning of the ring. */
	while (taken < 5)
		pass(&w[taken % 2], (uint32_t)taken);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		/* As many as are to be kept: all that fit, and a few. */
		while (posted - taken > sizes[i])
			pass(&w[taken % 2], (uint32_t)taken);
		if (posted - taken == sizes[i])
			FAILS(EINVAL, srq_resize(srq, sizes[i] - 1));
		OK(srq_resize(srq, sizes[i]));
		CHECK(srq_size(srq) >= sizes[i]);
		for (int k = 0; k < 7 && posted - taken < srq_size(srq); k++)
			OK(post_one());
		for (int k = 0; k < 3; k++)
			pass(&w[taken % 2], (uint32_t)taken);
	}
	srq_fill(srq, &into, &posted, taken);
	while (taken < posted)
		pass(&w[taken % 2], (uint32_t)taken);
	disconnect(&w[0].c);
	disconnect(&w[1].c);
	close_srq();
}

static int resize_any(void *queue, uint32_t size)
{
	return srq_resize(queue, size);
}

/* ARGUMENT: how many messages. All are received, for there are more receives than are on their way. */
static void resize_traffic(void)
{
	static const uint32_t sizes[] = { 64, 1000, 48, 4000, 300, 8192 };
	struct traffic t = { .resize = resize_any, .sizes = sizes, .nsizes = ARRAY_SIZE(sizes) };
	uint64_t n = strtoull(args[1], NULL, 10), sent = 0, done = 0;
	struct resizer r = { .t = &t };
	pthread_t thread;
	struct way w;

	/* Many take their time; the caller has a limit for it. */
	alarm(0);
	open_srq(64);
	w = open_way(type);
	r.queue = srq;
	OK(pthread_create(&thread, NULL, keep_resizing, &r));
	while (taken < n) {
		struct ibv_wc wc;

		post_all(TRAFFIC_POSTED);
		while (sent < n && sent - taken < TRAFFIC_POSTED / 2 && sent - done < SLOTS)
			say(&w, (uint32_t)sent++);
		while (ibv_poll_cq(w.c.bcq, 1, &wc) > 0)
			EQ(wc.wr_id, done++);
		wc = DONE(w.c.acq, taken);
		is_message(&w, &wc, (uint32_t)taken++);
	}
	NOTHING(w.c.acq);
	__atomic_store_n(&r.over, true, __ATOMIC_RELAXED);
	OK(pthread_join(thread, NULL));
	printf("%lu resizes\n", r.resizes);
	/* What is still posted is what is left in the queue. */
	FAILS(EINVAL, srq_resize(srq, (uint32_t)(posted - taken) - 1));
	OK(srq_resize(srq, (uint32_t)(posted - taken)));
	disconnect(&w.c);
	close_srq();
}

/* ARGUMENT: how many messages find no receive. They are lost, and nothing else. */
static void empty(void)
{
	uint32_t n = (uint32_t)atoi(args[1]);
	struct way w[2];

	open_srq(16);
	w[0] = open_way(type);
	w[1] = open_way(type);
	post_all(3);
	while (taken < posted)
		pass(&w[taken % 2], (uint32_t)taken);
	for (uint32_t i = 0; i < n; i++) {
		say(&w[i % 2], 1000 + i);
		DONE(w[i % 2].c.bcq, 1000 + i);
	}
	NOTHING(w[0].c.acq);
	NOTHING(w[1].c.acq);
	UNTOUCHED(into.p, into.len, 0x5a);
	for (size_t i = 0; i < 2; i++) {
		EQ(state_of(w[i].c.a), IBV_QPS_RTS);
		EQ(state_of(w[i].c.b), IBV_QPS_RTS);
	}
	post_all(8);
	/* None of them has waited for a receive. */
	NOTHING(w[0].c.acq);
	NOTHING(w[1].c.acq);
	while (taken < posted)
		pass(&w[taken % 2], (uint32_t)taken);
	disconnect(&w[0].c);
	disconnect(&w[1].c);
	close_srq();
}

/* A QP in ERROR says so, and leaves the receives to the other one. */
static void last_wqe_event(void)
{
	struct way w[2];

	open_srq(16);
	w[0] = open_way(type);
	w[1] = open_way(type);
	post_all(10);
	pass(&w[0], 0);
	OK(to_state(w[0].c.a, IBV_QPS_ERR));
	ASYNC(A.ctx, QP_LAST_WQE_REACHED, w[0].c.a);
	NOTHING(w[0].c.acq);
	say(&w[0], 1);
	DONE(w[0].c.bcq, 1);
	NOTHING(w[0].c.acq);
	while (taken < posted)
		pass(&w[1], (uint32_t)taken);
	disconnect(&w[0].c);
	disconnect(&w[1].c);
	close_srq();
}

static const struct test tests[] = {
	T(of_two_qps), T(of_all_types), T(burst), T(limit_event), T(resize_outstanding),
	T(resize_traffic), T(empty), T(last_wqe_event),
};

int main(int argc, char **argv)
{
	return run_roce_test(tests, ARRAY_SIZE(tests), argc, argv);
}
