// SPDX-License-Identifier: GPL-2.0
/* Tests of ibv_rereg_mr(); test_rereg.py runs them. */

#include "vt.h"

#include <sys/wait.h>

#define LEN 8192
#define TRANS IBV_REREG_MR_CHANGE_TRANSLATION
#define PD IBV_REREG_MR_CHANGE_PD
#define ACCESS IBV_REREG_MR_CHANGE_ACCESS
#define LOCAL IBV_ACCESS_LOCAL_WRITE

static struct end c, s;
static struct buf sink;

static void *pages(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

static void connect_new(void)
{
	connect_ends(&c, &s, NULL);
	sink = new_buf(c.pd, 1 << 20);
}

/* The peer reads what was filled with `seed` at `addr`. */
static void reads(const struct ibv_mr *mr, const void *addr, uint32_t seed)
{
	memset(sink.p, 0, LEN);
	rdma_buf(c.qp, seed, IBV_WR_RDMA_READ, &sink, LEN, (uintptr_t)addr, mr->rkey, SIGNALED);
	DONE(c.scq, seed);
	VERIFY(sink.p, LEN, seed);
}

/* It may not; that is the end of the connection. */
static void is_denied(const struct ibv_mr *mr, const void *addr)
{
	rdma_buf(c.qp, 99, IBV_WR_RDMA_READ, &sink, LEN, (uintptr_t)addr, mr->rkey, SIGNALED);
	DONE_WITH(c.scq, 99, REM_ACCESS_ERR);
}

static void rereg_flags(void)
{
	for (int flags = 1; flags < 8; flags++) {
		int access = LOCAL | IBV_ACCESS_REMOTE_READ;
		uint8_t *old = pages(LEN), *new = pages(LEN), *at;
		struct ibv_pd *other;
		struct ibv_mr *mr;
		uint32_t lkey, rkey;
		long kib;

		connect_new();
		other = ibv_alloc_pd(s.qp->context);
		fill(old, LEN, 1);
		fill(new, LEN, 2);
		mr = ibv_reg_mr(flags & PD ? other : s.pd, old, LEN, flags & ACCESS ? LOCAL : access);
		CHECK(mr);
		lkey = mr->lkey;
		rkey = mr->rkey;
		kib = pinned();
		OK(ibv_rereg_mr(mr, flags, flags & PD ? s.pd : NULL, flags & TRANS ? new : NULL,
				flags & TRANS ? LEN : 0, flags & ACCESS ? access : 0));
		EQ(pinned(), kib);
		/* The key is what it was, as nobody asked for another one. */
		EQ(mr->lkey, lkey);
		EQ(mr->rkey, rkey);
		CHECK(mr->pd == s.pd);
		at = flags & TRANS ? new : old;
		CHECK(mr->addr == at);
		for (int i = 0; i < 3; i++)
			reads(mr, at, flags & TRANS ? 2 : 1);
		/* And what was before is over. */
		if (flags & TRANS) {
			is_denied(mr, old);
		} else if (flags & ACCESS) {
			OK(ibv_rereg_mr(mr, ACCESS, NULL, NULL, 0, LOCAL));
			is_denied(mr, at);
		} else {
			OK(ibv_rereg_mr(mr, PD, other, NULL, 0, 0));
			is_denied(mr, at);
		}
		if (flags == PD) {
			/* The PD that it left is free, the one that it is in is not. */
			FAILS(EBUSY, ibv_dealloc_pd(other));
			OK(ibv_dereg_mr(mr));
			OK(ibv_dealloc_pd(other));
		} else {
			OK(ibv_dealloc_pd(other));
			OK(ibv_dereg_mr(mr));
		}
		munmap(old, LEN);
		munmap(new, LEN);
	}
}

/* A receive that was posted names the old memory. */
static void rereg_receive(void)
{
	uint8_t *new = pages(LEN);
	struct buf a, b;

	connect_new();
	a = new_buf(c.pd, 64);
	b = new_buf(s.pd, LEN);
	recv_buf(s.qp, 1, &b, 64);
	OK(ibv_rereg_mr(b.mr, TRANS, NULL, new, LEN, 0));
	send_buf(c.qp, 1, &a, 64, SIGNALED);
	DONE_WITH(s.rcq, 1, LOC_PROT_ERR);
	UNTOUCHED(b.p, 64, 0);
	UNTOUCHED(new, 64, 0);
}

/* Pages that were pinned for reading are pinned again, for writing. */
static void rereg_more_rights(void)
{
	uint8_t *p = pages(LEN);
	struct ibv_mr *mr;
	int status;
	pid_t child;
	long kib;

	connect_new();
	/* Nothing is there yet but the zero page. */
	UNTOUCHED(p, LEN, 0);
	mr = ibv_reg_mr(s.pd, p, LEN, IBV_ACCESS_REMOTE_READ);
	CHECK(mr);
	kib = pinned();
	/* To another process these addresses are other memory: it cannot. */
	child = fork();
	if (!child)
		_exit(ibv_rereg_mr(mr, ACCESS, NULL, NULL, 0, ALL_ACCESS) != IBV_REREG_MR_ERR_CMD);
	EQ(waitpid(child, &status, 0), child);
	EQ(status, 0);
	OK(ibv_rereg_mr(mr, ACCESS, NULL, NULL, 0, ALL_ACCESS));
	EQ(pinned(), kib);
	fill(sink.p, LEN, 7);
	rdma_buf(c.qp, 1, IBV_WR_RDMA_WRITE, &sink, LEN, (uintptr_t)p, mr->rkey, SIGNALED);
	DONE(c.scq, 1);
	reads(mr, p, 7);
	VERIFY(p, LEN, 7);
	/* And back. */
	OK(ibv_rereg_mr(mr, ACCESS, NULL, NULL, 0, IBV_ACCESS_REMOTE_READ));
	reads(mr, p, 7);
	OK(ibv_dereg_mr(mr));
}

static void rereg_errors(void)
{
	struct ibv_pd *other;
	uint8_t *hole = pages(3 * 4096);
	struct buf b;
	long kib;

	connect_new();
	other = ibv_alloc_pd(s.qp->context);
	b = new_buf_access(s.pd, LEN, LOCAL | IBV_ACCESS_REMOTE_READ);
	fill(b.p, LEN, 3);
	OK(munmap(hole + 4096, 4096));
	kib = pinned();
	for (int i = 0; i < 5; i++) {
		/* What libibverbs sees by itself. */
		EQ(ibv_rereg_mr(b.mr, 8, NULL, NULL, 0, 0), IBV_REREG_MR_ERR_INPUT);
		EQ(ibv_rereg_mr(b.mr, TRANS, NULL, NULL, LEN, 0), IBV_REREG_MR_ERR_INPUT);
		EQ(ibv_rereg_mr(b.mr, TRANS, NULL, b.p, 0, 0), IBV_REREG_MR_ERR_INPUT);
		EQ(ibv_rereg_mr(b.mr, PD, other, NULL, 0, LOCAL), IBV_REREG_MR_ERR_INPUT);
		/* What the module says: no change; no memory, or not all; rights that make no sense. */
		EQ(ibv_rereg_mr(b.mr, 0, NULL, NULL, 0, 0), IBV_REREG_MR_ERR_CMD);
		EQ(ibv_rereg_mr(b.mr, TRANS, NULL, hole, 3 * 4096, 0), IBV_REREG_MR_ERR_CMD);
		EQ(ibv_rereg_mr(b.mr, TRANS | PD | ACCESS, other, hole + 4096, 64, ALL_ACCESS),
		   IBV_REREG_MR_ERR_CMD);
		EQ(ibv_rereg_mr(b.mr, TRANS, NULL, (void *)-8192UL, 1 << 20, 0), IBV_REREG_MR_ERR_CMD);
		EQ(ibv_rereg_mr(b.mr, ACCESS, NULL, NULL, 0, IBV_ACCESS_REMOTE_WRITE),
		   IBV_REREG_MR_ERR_CMD);
		EQ(ibv_rereg_mr(b.mr, ACCESS | PD, other, NULL, 0, LOCAL | IBV_ACCESS_ON_DEMAND),
		   IBV_REREG_MR_ERR_CMD);
		/* Nothing has changed by any of this. */
		EQ(pinned(), kib);
		CHECK(b.mr->pd == s.pd && b.mr->addr == b.p && b.mr->length == LEN);
		reads(b.mr, b.p, 3);
	}
	OK(ibv_dereg_mr(b.mr));
	OK(ibv_dealloc_pd(other));
}

/* Pins follow, and are given back at once; what is too much leaves what there was. */
static void memlock_rereg(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	uint8_t *p = pages(4 << 20);
	struct ibv_mr *mr = ibv_reg_mr(pd, p, 4096, ALL_ACCESS);
	long kib = pinned();

	CHECK(mr);
	limit_memlock((kib << 10) + (1 << 20));
	for (int i = 0; i < 10; i++) {
		EQ(ibv_rereg_mr(mr, TRANS, NULL, p, 2 << 20, 0), IBV_REREG_MR_ERR_CMD);
		EQ(pinned(), kib);
		OK(ibv_rereg_mr(mr, TRANS, NULL, p + 4096, 512 << 10, 0));
		EQ(pinned(), kib + 508);
		OK(ibv_rereg_mr(mr, TRANS | ACCESS, NULL, p, 4096, LOCAL));
		EQ(pinned(), kib);
	}
	OK(ibv_dereg_mr(mr));
	EQ(pinned(), kib - 4);
}

/* Writes are on their way when the region goes elsewhere: after the return the old memory is ours alone. */
static void rereg_waits(void)
{
	size_t len = 256 << 10;

	for (int round = 0; round < 12; round++) {
		uint8_t *old = pages(len), *new = pages(len);
		struct ibv_mr *mr;

		connect_new();
		memset(sink.p, 0xaa, len);
		mr = ibv_reg_mr(s.pd, old, len, ALL_ACCESS);
		CHECK(mr);
		for (int i = 0; i < 32; i++)
			rdma_buf(c.qp, i, IBV_WR_RDMA_WRITE, &sink, len, (uintptr_t)old, mr->rkey, 0);
		usleep(round * 300);
		OK(ibv_rereg_mr(mr, round % 3 ? TRANS : TRANS | ACCESS, NULL, new, len,
				round % 3 ? 0 : LOCAL));
		memset(old, 0x55, len);
		usleep(50000);
		UNTOUCHED(old, len, 0x55);
		UNTOUCHED(new, len, 0);
		close_end(&c);
		close_end(&s);
		OK(ibv_dereg_mr(mr));
		OK(ibv_dereg_mr(sink.mr));
		munmap(old, len);
		munmap(new, len);
	}
}

/* Changes that leave the peer its memory do not disturb it. */
static void rereg_under_traffic(void)
{
	static const int access[] = { ALL_ACCESS, LOCAL | IBV_ACCESS_REMOTE_READ, ALL_ACCESS | IBV_ACCESS_MW_BIND };
	uint8_t *p = pages(1 << 20);
	uint64_t done = 0, posted = 0;
	struct ibv_mr *mr;
	struct ibv_wc wc;
	long end;
	int i;

	connect_new();
	fill(p, LEN, 4);
	mr = ibv_reg_mr(s.pd, p, LEN, ALL_ACCESS);
	CHECK(mr);
	/* Under the debug kernel it is the clock that ends it. */
	end = now_ms() + 15000;
	for (i = 0; i < 2000 && now_ms() < end; i++) {
		while (posted - done < 16)
			rdma_buf(c.qp, posted++, IBV_WR_RDMA_READ, &sink, LEN, (uintptr_t)p, mr->rkey,
				 SIGNALED);
		if (i % 2)
			OK(ibv_rereg_mr(mr, TRANS, NULL, p, (size_t)LEN << i % 7, 0));
		else
			OK(ibv_rereg_mr(mr, ACCESS, NULL, NULL, 0, access[i / 2 % 3]));
		while (ibv_poll_cq(c.scq, 1, &wc) > 0) {
			EQ(wc.status, IBV_WC_SUCCESS);
			EQ(wc.wr_id, done++);
		}
	}
	while (done < posted) {
		DONE(c.scq, done);
		done++;
	}
	VERIFY(sink.p, LEN, 4);
	printf("%llu reads, %d changes\n", (unsigned long long)done, i);
}

static const struct test tests[] = {
	T(rereg_flags), T(rereg_receive), T(rereg_more_rights), T(rereg_errors), T(memlock_rereg),
	T(rereg_waits), T(rereg_under_traffic),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
