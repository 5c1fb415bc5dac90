// SPDX-License-Identifier: GPL-2.0
/* Mutations of work requests, indices and doorbells. */
#include "hostile.h"
#include <pthread.h>

/*
 * done: mutations, but for the gentle ones, which are counted apart. Of those, live: before the QP died; of
 * these, bad: work requests that may have been what killed it.
 */
static uint64_t done, gentle, live, bad, connections;

/* So many of the operations below, the last ones, iWARP does not have. */
#define ROCE_ONLY 3

static void mutate_send(struct conn *c)
{
	static const uint8_t ops[] = { RURDMA_OP_NOP, RURDMA_OP_SEND, RURDMA_OP_SEND, RURDMA_OP_SEND_INV, RURDMA_OP_WRITE,
		RURDMA_OP_WRITE, RURDMA_OP_READ, RURDMA_OP_READ, RURDMA_OP_LOCAL_INV, RURDMA_OP_WRITE_IMM,
		RURDMA_OP_CMP_SWP, RURDMA_OP_FETCH_ADD,
		/* RoCE only. */
		RURDMA_OP_SEND_IMM, RURDMA_OP_ATOMIC_WRITE, RURDMA_OP_FLUSH };
	uint8_t raw[9 * RURDMA_WQE_UNIT];
	struct rurdma_send_wqe *w = (void *)raw;
	struct rurdma_sge *s = (void *)(raw + RURDMA_SEND_HDR);
	uint32_t units = valid(c, raw, ops[rnd() % (sizeof(ops) - (roce ? 0 : ROCE_ONLY))]);
	uint64_t v = nasty();
	size_t i;

	if (!(rnd() % 4) && w->num_sge && w->opcode != RURDMA_OP_READ) {
		w->flags |= RURDMA_SEND_INLINE;
		w->num_sge = 0;
		w->inline_len = rnd() % 33;
	}
	switch (rnd() % 20) {
	case 0:
		w->wr_id = v;
		break;
	case 1:
		w->opcode = v;
		break;
	case 2:
		w->flags = v;
		break;
	case 3:
		w->num_sge = v;
		break;
	case 4:
		w->units = v;
		break;
	case 5:
		w->imm_inv = v;
		break;
	case 6:
		w->remote_addr = v;
		break;
	case 7:
		w->remote_addr += (int64_t)(v % 131072) - 65536;
		break;
	case 8:
		w->rkey = v;
		break;
	case 9:
		w->rkey ^= 1u << (v % 32);
		break;
	case 10:
		w->inline_len = v;
		break;
	case 11:
		s[rnd() % 2].addr = v;
		break;
	case 12:
		s[rnd() % 2].length = v;
		break;
	case 13:
		s[rnd() % 2].lkey = v;
		break;
	case 14:
		s[rnd() % 2].lkey ^= 1u << (v % 32);
		break;
	case 15:
		w->units = units = 1 + rnd() % 9;
		break;
	case 16:
		raw[rnd() % RURDMA_WQE_UNIT] ^= 1 << (v % 8);
		break;
	case 17:
		w->flags ^= 1 << (v % 8);
		break;
	case 18:
		w->opcode = rnd() % 16;
		w->units = units = 2;
		break;
	default:
		for (i = 0; i < sizeof(raw); i++)
			raw[i] = rnd();
		if (rnd() % 2)
			w->units = units = 1 + rnd() % 9;
	}
	put(c, raw, units);
}

/* Odd, and to be obeyed: the QP lives, and what else is mutated meets one that works. */
static void mutate_gently(struct conn *c)
{
	static const uint8_t ops[] = { RURDMA_OP_NOP, RURDMA_OP_SEND, RURDMA_OP_WRITE, RURDMA_OP_WRITE, RURDMA_OP_WRITE_IMM,
		RURDMA_OP_READ, RURDMA_OP_READ, RURDMA_OP_CMP_SWP, RURDMA_OP_FETCH_ADD, RURDMA_OP_NOP,
		RURDMA_OP_SEND_IMM, RURDMA_OP_ATOMIC_WRITE, RURDMA_OP_FLUSH };
	uint8_t raw[9 * RURDMA_WQE_UNIT];
	struct rurdma_send_wqe *w = (void *)raw;
	struct rurdma_sge *s = (void *)(raw + RURDMA_SEND_HDR);
	uint32_t units = valid(c, raw, ops[rnd() % (sizeof(ops) - (roce ? 0 : ROCE_ONLY))]);
	bool atomic = w->opcode == RURDMA_OP_CMP_SWP || w->opcode == RURDMA_OP_FETCH_ADD;

	w->flags = rnd() & (RURDMA_SEND_SIGNALED | RURDMA_SEND_SOLICITED | RURDMA_SEND_FENCE);
	w->wr_id = nasty();
	/* Of the operations above none looks at it, but for one that passes it on. */
	w->imm_inv = nasty();
	if (w->opcode == RURDMA_OP_SEND || w->opcode == RURDMA_OP_SEND_IMM) {
		w->remote_addr = nasty();
		w->rkey = nasty();
	} else {
		w->remote_addr += rnd() % (BUF - 64);
	}
	if (atomic) {
		struct rurdma_ext_atomic *ext = (void *)s;

		w->remote_addr &= ~7ULL;
		ext->compare_add = nasty();
		ext->swap = nasty();
		ext->compare_add_mask = nasty();
		ext->swap_mask = nasty();
	} else if (w->opcode == RURDMA_OP_ATOMIC_WRITE) {
		w->remote_addr &= ~7ULL;
	} else if (w->opcode == RURDMA_OP_FLUSH) {
		struct rurdma_ext_flush *ext = (void *)s;

		ext->level = rnd() % 2;
		ext->length = ext->level ? nasty() : rnd() % 64;
	} else if (w->num_sge) {
		/* In all no more than a receive of the other end takes. */
		s[0].addr += rnd() % (BUF / 4);
		s[0].length = rnd() % 41;
		s[1].addr += rnd() % (BUF / 4);
		s[1].length = rnd() % 24;
		w->num_sge = rnd() % 3;
		if (w->opcode != RURDMA_OP_READ && !(rnd() % 4)) {
			w->flags |= RURDMA_SEND_INLINE;
			w->num_sge = 0;
			w->inline_len = rnd() % 33;
		}
	}
	put(c, raw, units);
}

static void mutate_recv(struct conn *c)
{
	struct rurdma_recv_wqe *r = (void *)((uint8_t *)c->rq + RURDMA_RING_ENTRIES + (rnd() % DEPTH) * 64);
	struct rurdma_sge *s = (void *)(r + 1);

	switch (rnd() % 6) {
	case 0:
		r->num_sge = nasty();
		break;
	case 1:
		s[rnd() % 3].addr = nasty();
		break;
	case 2:
		s[rnd() % 3].length = nasty();
		break;
	case 3:
		s[rnd() % 3].lkey = nasty();
		break;
	case 4:
		r->wr_id = nasty();
		break;
	default:
		r->reserved = nasty();
	}
	if (rnd() % 2)
		__atomic_store_n(&c->rq->producer, ++c->rtail, __ATOMIC_RELEASE);
}

static void mutate_words(struct conn *c)
{
	struct rurdma_ring_hdr *rings[] = { c->sq, c->rq, c->ring };
	uint64_t *words = doorbells;
	size_t len[] = { c->sq_len, c->rq_len, c->cq_len };
	int which = rnd() % 3;
	struct rurdma_ring_hdr *r = rings[which];
	uint32_t *word, was, is;

	switch (rnd() % 8) {
	case 0:
		r->arm = nasty();
		break;
	case 1:
		c->ring->arm = rnd() % 4;
		break;
	case 2:
		r->consumer = nasty();
		break;
	case 3:
		r->flags = nasty();
		break;
	case 4:
		words[rnd() % (doorbells_len / 8)] = nasty();
		break;
	case 5:
		words[rnd() % (RURDMA_DB_SUMMARY_WORDS + 2)] = nasty();
		break;
	case 6:
		word = (uint32_t *)r + rnd() % (len[which] / 4);
		if (word == &c->ring->producer)
			break;
		*word = nasty();
		break;
	default:
		is = r == c->sq ? c->tail + (int32_t)(nasty() % 512) - 64 : nasty();
		was = __atomic_exchange_n(&r->producer, is, __ATOMIC_SEQ_CST);
		if (r != c->ring)
			break;
		/* Our own library believes this one: it must not meet it. */
		ring_all();
		kick();
		__atomic_compare_exchange_n(&r->producer, &is, was, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
}

static struct conn *volatile target;
static pthread_mutex_t target_lock = PTHREAD_MUTEX_INITIALIZER;

/* Changes entries and indices while the module reads them. */
static void *scribbler(void *unused)
{
	uint64_t x = 88172645463325252ULL;

	(void)unused;
	for (;;) {
		int i;

		pthread_mutex_lock(&target_lock);
		for (i = 0; target && i < 200; i++) {
			uint32_t *sq = (uint32_t *)((uint8_t *)target->sq + RURDMA_RING_ENTRIES);

			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			sq[(x >> 8) % (target->units * 16)] ^= x >> 32;
		}
		pthread_mutex_unlock(&target_lock);
		usleep(500);
	}
	return NULL;
}

/* A good receive, in the place of one that is done: the other end answers each message. */
static void put_recv(struct conn *c)
{
	struct rurdma_recv_wqe *r = (void *)((uint8_t *)c->rq + RURDMA_RING_ENTRIES + (c->rtail % DEPTH) * 64);
	struct rurdma_sge *s = (void *)(r + 1);

	*r = (struct rurdma_recv_wqe){ .wr_id = c->rtail, .num_sge = 1 };
	s[0] = (struct rurdma_sge){ (uintptr_t)c->buf + BUF / 2 + (c->rtail % DEPTH) * 64, 64, c->mr->lkey };
	__atomic_store_n(&c->rq->producer, ++c->rtail, __ATOMIC_RELEASE);
}

static void reap(struct conn *c)
{
	struct ibv_wc wc[16];
	int i, n = ibv_poll_cq(c->cq, 16, wc);

	for (i = 0; i < n; i++)
		if (!wc[i].status && wc[i].opcode & IBV_WC_RECV)
			put_recv(c);
}

/* Posting more than fits kills a QP, which is for mutate_words() to do. The word may be a lie: not for long. */
static void wait_for_room(struct conn *c, bool busily)
{
	int i;

	for (i = 0; i < (busily ? 20000 : 20); i++) {
		uint32_t used = c->tail - __atomic_load_n(&c->sq->consumer, __ATOMIC_ACQUIRE);

		if (used <= c->units - 2 * RURDMA_MAX_SEND_UNITS)
			return;
		reap(c);
		if (!busily)
			usleep(100);
	}
}

struct plan {
	uint64_t max;		/* mutations */
	uint64_t after;		/* of these on a dead QP */
	uint64_t until;		/* 0, or when to stop */
	bool harmless;		/* none of them, but what is to be obeyed */
	bool busily;		/* without a pause where the queue is full */
};

static bool one_connection(const char *host, const char *port, const struct plan *plan)
{
	struct conn c;
	uint64_t i, after = 0;
	bool up = true;

	if (!dial(&c, host, port))
		return false;
	connections++;
	pthread_mutex_lock(&target_lock);
	target = &c;
	pthread_mutex_unlock(&target_lock);
	for (i = 0; i < plan->max && after < plan->after && (!plan->until || now() < plan->until); i++) {
		uint64_t kind = rnd() % 16;
		bool meant = true;

		if (up)
			up = state(&c) != IBV_QPS_ERR;
		if (up)
			wait_for_room(&c, plan->busily);
		if (plan->harmless || (kind < 10 && rnd() % 4)) {
			mutate_gently(&c);
			meant = false;
		} else if (kind < 10) {
			mutate_send(&c);
			bad += up;
		} else if (kind < 13) {
			mutate_recv(&c);
		} else if (kind < 15) {
			mutate_words(&c);
		} else {
			__atomic_store_n(&c.ring->arm, (uint32_t)rnd(), __ATOMIC_RELAXED);
		}
		done += meant;
		gentle += !meant;
		live += meant && up;
		ring_all();
		if (kick() && errno != EIO) {
			perror("kick");
			return false;
		}
		if (!(i % 8) && up)
			reap(&c);
		after += !up;
	}
	pthread_mutex_lock(&target_lock);
	target = NULL;
	pthread_mutex_unlock(&target_lock);
	hang_up(&c);
	return true;
}

/*
 * A thousand, most of them such that the QP lives on. What is done to a dead one meets little code: enough of it
 * for the flush, then the next one.
 */
#define ATTACK .max = 1000, .after = 4

int attack(const char *host, const char *port, uint64_t n)
{
	const struct plan plan = { ATTACK };
	pthread_t t;
	int failed = 0;

	pthread_create(&t, NULL, scribbler, NULL);
	while (done < n && failed < 20)
		failed = one_connection(host, port, &plan) ? 0 : failed + 1;
	printf("mutations %llu live %llu bad %llu gentle %llu connections %llu\n", (unsigned long long)done,
	       (unsigned long long)live, (unsigned long long)bad, (unsigned long long)gentle,
	       (unsigned long long)connections);
	fflush(stdout);
	_exit(done < n);
}

/* `posts`: of a connection, before the next one; 0: until mutations have killed its QP. */
int keep_busy(const char *host, const char *port, uint64_t seconds, uint64_t posts)
{
	uint64_t said = now(), end = said + seconds * 1000 * MS;
	const struct plan hostile = { ATTACK, .until = end, .busily = true };
	const struct plan harmless = { .max = posts, .after = 1, .until = end, .harmless = true, .busily = true };

	while (now() < end && one_connection(host, port, posts ? &harmless : &hostile)) {
		if (now() - said < 100 * MS)
			continue;
		said = now();
		printf("posts %llu connections %llu\n", (unsigned long long)(done + gentle),
		       (unsigned long long)connections);
	}
	return now() < end;
}
