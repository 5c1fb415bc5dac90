// SPDX-License-Identifier: GPL-2.0
/* Mutations of work requests, indices and doorbells. */
#include "hostile.h"
#include <pthread.h>

static uint64_t done, live, connections;

static void mutate_send(struct conn *c)
{
	static const uint8_t ops[] = { RURDMA_OP_NOP, RURDMA_OP_SEND, RURDMA_OP_SEND, RURDMA_OP_SEND_INV, RURDMA_OP_WRITE,
		RURDMA_OP_WRITE, RURDMA_OP_READ, RURDMA_OP_READ, RURDMA_OP_LOCAL_INV };
	uint8_t raw[9 * RURDMA_WQE_UNIT];
	struct rurdma_send_wqe *w = (void *)raw;
	struct rurdma_sge *s = (void *)(raw + RURDMA_SEND_HDR);
	uint32_t units = valid(c, raw, ops[rnd() % sizeof(ops)]);
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

static bool one_connection(const char *host, const char *port, uint64_t max, uint64_t until)
{
	struct ibv_wc wc[16];
	struct conn c;
	uint64_t i, after = 0;
	bool up = true;

	if (!dial(&c, host, port))
		return false;
	connections++;
	pthread_mutex_lock(&target_lock);
	target = &c;
	pthread_mutex_unlock(&target_lock);
	for (i = 0; i < max && after < 200 && (!until || now() < until); i++) {
		uint64_t kind = rnd() % 16;

		if (kind < 10)
			mutate_send(&c);
		else if (kind < 13)
			mutate_recv(&c);
		else if (kind < 15)
			mutate_words(&c);
		else
			__atomic_store_n(&c.ring->arm, (uint32_t)rnd(), __ATOMIC_RELAXED);
		done++;
		live += up;
		ring_all();
		if (kick() && errno != EIO) {
			perror("kick");
			return false;
		}
		if (!(i % 8) && up)
			ibv_poll_cq(c.cq, 16, wc);
		if (up && !(i % 4) && state(&c) == IBV_QPS_ERR)
			up = false;
		after += !up;
	}
	pthread_mutex_lock(&target_lock);
	target = NULL;
	pthread_mutex_unlock(&target_lock);
	hang_up(&c);
	return true;
}

int attack(const char *host, const char *port, uint64_t n)
{
	pthread_t t;
	int bad = 0;

	pthread_create(&t, NULL, scribbler, NULL);
	while (done < n && bad < 20)
		bad = one_connection(host, port, 1000, 0) ? 0 : bad + 1;
	printf("mutations %llu live %llu connections %llu\n", (unsigned long long)done, (unsigned long long)live,
	       (unsigned long long)connections);
	fflush(stdout);
	_exit(done < n);
}

int flood(const char *host, const char *port, uint64_t seconds)
{
	uint64_t end = now() + seconds * 1000 * MS;

	while (now() < end && one_connection(host, port, 1 << 20, end))
		;
	printf("mutations %llu\n", (unsigned long long)done);
	return 0;
}
