// SPDX-License-Identifier: GPL-2.0
/* Posting that has the poller come and go; test_poller.py runs this. */

#include "vt.h"

#include <sched.h>

/* Messages under way, and how many a burst has. */
#define DEPTH 64
#define BURST 64

static struct end c, s;
static struct buf from, to;
static size_t size;
static uint64_t posted, sent, received;

static void begin(size_t message)
{
	struct opt o = { .swr = DEPTH, .rwr = DEPTH, .cqe = 2 * DEPTH };

	size = message;
	connect_ends(&c, &s, &o);
	from = new_buf(c.pd, DEPTH * size);
	to = new_buf(s.pd, DEPTH * size);
	for (uint64_t i = 0; i < DEPTH; i++) {
		struct ibv_sge sge = sge_of(&to, i * size, size);

		OK(try_recv(s.qp, i, &sge, 1));
	}
}

static int post(void)
{
	size_t at = posted % DEPTH * size;
	struct ibv_sge sge = sge_of(&from, at, size);
	struct work w = { posted, IBV_WR_SEND, SIGNALED, &sge, 1, 0, 0 };
	int ret;

	fill(from.p + at, size, (uint32_t)posted);
	ret = try_post(c.qp, &w);
	if (!ret)
		posted++;
	return ret;
}

/* Takes the next completion of either end, and verifies what came. False: there is none. */
static bool progress(void)
{
	struct ibv_wc wc;
	bool any = false;

	if (ibv_poll_cq(c.scq, 1, &wc) == 1) {
		if (wc.status != IBV_WC_SUCCESS)
			FAIL("send %llu: %s", (unsigned long long)sent, ibv_wc_status_str(wc.status));
		EQ(wc.wr_id, sent);
		sent++;
		any = true;
	}
	if (ibv_poll_cq(s.rcq, 1, &wc) == 1) {
		size_t at = received % DEPTH * size;
		struct ibv_sge sge = sge_of(&to, at, size);

		if (wc.status != IBV_WC_SUCCESS)
			FAIL("receive %llu: %s", (unsigned long long)received,
			     ibv_wc_status_str(wc.status));
		EQ(wc.wr_id, received % DEPTH);
		EQ(wc.byte_len, size);
		VERIFY(to.p + at, size, (uint32_t)received);
		OK(try_recv(s.qp, received % DEPTH, &sge, 1));
		received++;
		any = true;
	}
	return any;
}

/* Posts up to that many in all, and waits until all have come. */
static void stream_to(uint64_t total)
{
	long end = now_ms() + SOON;

	while (received < total || sent < total) {
		while (posted < total && posted - received < DEPTH && posted - sent < DEPTH)
			OK(post());
		if (progress())
			end = now_ms() + SOON;
		else if (now_ms() > end)
			FAIL("posted %llu, sent %llu, received %llu", (unsigned long long)posted,
			     (unsigned long long)sent, (unsigned long long)received);
	}
}

/* COUNT SIZE */
static void stream(void)
{
	uint64_t count = strtoull(args[0], NULL, 0);

	begin(strtoull(args[1], NULL, 0));
	stream_to(count);
	printf("verified %llu\n", (unsigned long long)count);
}

/* SIZE: until it is killed, or the device goes. */
static void endless(void)
{
	begin(strtoull(args[0], NULL, 0));
	alarm(0);
	puts("streaming");
	for (;;) {
		struct ibv_wc wc;

		if (posted - received < DEPTH && posted - sent < DEPTH && post())
			break;
		if (ibv_poll_cq(c.scq, 1, &wc) == 1) {
			if (wc.status != IBV_WC_SUCCESS)
				break;
			sent++;
		}
		if (ibv_poll_cq(s.rcq, 1, &wc) == 1) {
			struct ibv_sge sge = sge_of(&to, received % DEPTH * size, size);

			if (wc.status != IBV_WC_SUCCESS || try_recv(s.qp, received % DEPTH, &sge, 1))
				break;
			received++;
		}
	}
	puts("ended");
	pause();
}

/* COUNT: a burst each time that a line is read. */
static void bursts(void)
{
	uint64_t count = strtoull(args[0], NULL, 0);
	char line[16];

	begin(64);
	alarm(0);
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		stream_to(posted + count);
		printf("verified %llu\n", (unsigned long long)posted);
	}
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/*
 * One message, whose completions are awaited by event, as those do it who sleep: arm, look once more, wait. Nothing
 * follows that would make up for an event which is lost. An event of an earlier arming has it look again.
 */
static uint64_t one_by_event(void)
{
	uint64_t events = 0;

	OK(post());
	while (received < posted || sent < posted) {
		struct end *e = received < posted ? &s : &c;
		struct ibv_cq *cq = received < posted ? s.rcq : c.scq;

		OK(ibv_req_notify_cq(cq, 0));
		if (progress())
			continue;
		if (!cq_event(e, cq, SOON))
			FAIL("no event: posted %llu, sent %llu, received %llu",
			     (unsigned long long)posted, (unsigned long long)sent,
			     (unsigned long long)received);
		events++;
	}
	return events;
}

/*
 * COUNT LIMIT SEED: one message by itself, which nothing that follows would make up for, polled for or awaited by
 * event, then a burst that has the poller come, then a pause of up to twice LIMIT us: the poller goes, or is about
 * to, or is still there.
 */
static void pauses(void)
{
	uint64_t count = strtoull(args[0], NULL, 0), worst = 0, events = 0;
	unsigned int limit = (unsigned int)atoi(args[1]), seed = (unsigned int)atoi(args[2]);

	begin(64);
	alarm(0);
	for (uint64_t i = 0; i < count; i++) {
		unsigned int how = (unsigned int)rand_r(&seed);
		uint64_t start = now_us(), pause;

		if (how & 32)
			events += one_by_event();
		else
			stream_to(posted + 1);
		if (now_us() - start > worst)
			worst = now_us() - start;
		stream_to(posted + BURST);
		pause = (unsigned int)rand_r(&seed) % (2 * limit);
		start = now_us();
		/* With the CPU, and without. */
		if (how & 16)
			usleep((useconds_t)pause);
		while (now_us() - start < pause)
			;
	}
	printf("transitions %llu, slowest %llu us, events %llu\n", (unsigned long long)count,
	       (unsigned long long)worst, (unsigned long long)events);
}

static const struct test tests[] = { T(stream), T(endless), T(bursts), T(pauses) };

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
