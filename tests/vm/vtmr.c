// SPDX-License-Identifier: GPL-2.0
/* Tests of protection domains and memory regions; test_mr.py runs them. */

#include "vt.h"

#include <sys/ipc.h>
#include <sys/shm.h>

static struct end c, s;

static void pd_in_use(void)
{
	struct ibv_context *ctx = open_device();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct buf b = new_buf(pd, 4096);

	FAILS(EBUSY, ibv_dealloc_pd(pd));
	OK(ibv_dereg_mr(b.mr));
	OK(ibv_dealloc_pd(pd));
}

/* All but those that ask for more than memory: paging on demand, persistence. */
static const int access_flags[] = {
	IBV_ACCESS_LOCAL_WRITE, IBV_ACCESS_REMOTE_WRITE, IBV_ACCESS_REMOTE_READ,
	IBV_ACCESS_REMOTE_ATOMIC, IBV_ACCESS_MW_BIND, IBV_ACCESS_ZERO_BASED,
	IBV_ACCESS_HUGETLB, IBV_ACCESS_RELAXED_ORDERING,
};

static void mr_access_flags(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	static uint8_t page[4096];

	for (unsigned int i = 0; i < 1U << ARRAY_SIZE(access_flags); i++) {
		struct ibv_mr *mr;
		int access = 0;
		bool writes;

		for (size_t bit = 0; bit < ARRAY_SIZE(access_flags); bit++)
			access |= i & 1U << bit ? access_flags[bit] : 0;
		mr = ibv_reg_mr(pd, page, sizeof(page), access);
		writes = access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC);

		if (writes && !(access & IBV_ACCESS_LOCAL_WRITE)) {
			if (mr)
				FAIL("access %#x is granted", access);
			EQ(errno, EINVAL);
		} else {
			if (!mr)
				FAIL("access %#x is refused", access);
			EQ(mr->length, sizeof(page));
			OK(ibv_dereg_mr(mr));
		}
	}
	NULLS(EOPNOTSUPP, ibv_reg_mr(pd, page, sizeof(page), IBV_ACCESS_ON_DEMAND));
}

static void mr_bad_memory(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	uint8_t *p = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct ibv_mr *mr;

	OK(munmap(p + 4096, 4096));
	NULLS(EFAULT, ibv_reg_mr(pd, p, 3 * 4096, ALL_ACCESS));
	mr = ibv_reg_mr(pd, p, 4096, ALL_ACCESS);
	CHECK(mr);
	OK(ibv_dereg_mr(mr));
	CHECK(!ibv_reg_mr(pd, (void *)-8192UL, 1 << 20, ALL_ACCESS));
}

static void mr_read_only_memory(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	int fd = open("/proc/self/exe", O_RDONLY);
	void *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	struct ibv_mr *mr;

	CHECK(p != MAP_FAILED);
	mr = ibv_reg_mr(pd, p, 4096, IBV_ACCESS_REMOTE_READ);
	CHECK(mr);
	NULLS(EFAULT, ibv_reg_mr(pd, p, 4096, IBV_ACCESS_LOCAL_WRITE));
	OK(ibv_dereg_mr(mr));
}

static void mr_keys_unguessable(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	static uint8_t page[4096];
	uint32_t keys[64];
	int near = 0;

	for (int i = 0; i < 64; i++) {
		/* Also when the number of the last one is free again. */
		struct ibv_mr *mr = ibv_reg_mr(pd, page, sizeof(page), ALL_ACCESS);

		CHECK(mr);
		keys[i] = mr->rkey;
		CHECK(keys[i] >> 8);
		if (i % 2)
			OK(ibv_dereg_mr(mr));
	}
	for (int i = 0; i < 64; i++) {
		for (int j = 0; j < i; j++) {
			int32_t d = (int32_t)(keys[i] >> 8) - (int32_t)(keys[j] >> 8);

			CHECK(keys[i] != keys[j]);
			near += d > -256 && d < 256;
		}
	}
	/* 2016 pairs of 24 bits: 0.06 are expected to be so near. */
	CHECK(near < 4);
}

static void mr_bounds(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	/* A region that neither begins nor ends at a page. */
	a = new_buf(c.pd, 16384);
	b = new_buf(s.pd, 16384);
	OK(ibv_dereg_mr(b.mr));
	memset(b.p, 0xee, b.len);
	b.mr = ibv_reg_mr(s.pd, b.p + 1001, 9000, ALL_ACCESS);
	CHECK(b.mr);
	fill(a.p, a.len, 1);
	rdma_buf(c.qp, 1, IBV_WR_RDMA_WRITE, &a, 9000, (uintptr_t)b.p + 1001, b.mr->rkey, SIGNALED);
	DONE(c.scq, 1);
	/* It is all there when a read after it is done. */
	rdma_buf(c.qp, 2, IBV_WR_RDMA_READ, &a, 9000, (uintptr_t)b.p + 1001, b.mr->rkey, SIGNALED);
	DONE(c.scq, 2);
	VERIFY(b.p + 1001, 9000, 1);
	UNTOUCHED(b.p, 1001, 0xee);
	UNTOUCHED(b.p + 10001, b.len - 10001, 0xee);
}

static void mr_iova(void)
{
	uint64_t iova = 0x123456789000ULL + 77;
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 8192);
	b = new_buf(s.pd, 8192);
	OK(ibv_dereg_mr(b.mr));
	b.mr = ibv_reg_mr_iova(s.pd, b.p + 77, 8000, iova, ALL_ACCESS);
	CHECK(b.mr);
	fill(a.p, a.len, 2);
	rdma_buf(c.qp, 1, IBV_WR_RDMA_WRITE, &a, 8000, iova, b.mr->rkey, SIGNALED);
	DONE(c.scq, 1);
	memset(a.p, 0, a.len);
	rdma_buf(c.qp, 2, IBV_WR_RDMA_READ, &a, 8000, iova, b.mr->rkey, SIGNALED);
	DONE(c.scq, 2);
	VERIFY(b.p + 77, 8000, 2);
	VERIFY(a.p, 8000, 2);
}

static void mr_relaxed_ordering(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf_access(c.pd, 65536, ALL_ACCESS | IBV_ACCESS_RELAXED_ORDERING);
	b = new_buf_access(s.pd, 65536, ALL_ACCESS | IBV_ACCESS_RELAXED_ORDERING);
	fill(a.p, a.len, 3);
	rdma_buf(c.qp, 1, IBV_WR_RDMA_WRITE, &a, a.len, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	DONE(c.scq, 1);
	memset(a.p, 0, a.len);
	rdma_buf(c.qp, 2, IBV_WR_RDMA_READ, &a, a.len, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	DONE(c.scq, 2);
	VERIFY(a.p, a.len, 3);
}

/* Huge pages of its own, of a shared mapping, and of shared memory with a name, as RPC systems have them. */
static void *huge_pages(size_t len, int how)
{
	int shared = how ? MAP_SHARED : MAP_PRIVATE, id;
	void *p;

	if (how < 2) {
		p = mmap(NULL, len, PROT_READ | PROT_WRITE, shared | MAP_ANONYMOUS | MAP_HUGETLB,
			 -1, 0);
		return p == MAP_FAILED ? NULL : p;
	}
	id = shmget(IPC_PRIVATE, len, IPC_CREAT | SHM_HUGETLB | 0600);
	if (id < 0)
		return NULL;
	p = shmat(id, NULL, 0);
	OK(shmctl(id, IPC_RMID, NULL));
	return p == (void *)-1 ? NULL : p;
}

static void mr_huge_pages(void)
{
	size_t len = 4 << 20;
	struct buf a, b = { .len = len };

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, len);
	for (int how = 0; how < 3; how++) {
		b.p = huge_pages(len, how);
		if (!b.p)
			FAIL("no huge pages (%d)", how);
		b.mr = ibv_reg_mr(s.pd, b.p, len, ALL_ACCESS);
		CHECK(b.mr);
		fill(a.p, len, 4 + how);
		rdma_buf(c.qp, 1, IBV_WR_RDMA_WRITE, &a, len, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
		DONE(c.scq, 1);
		memset(a.p, 0, len);
		rdma_buf(c.qp, 2, IBV_WR_RDMA_READ, &a, len, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
		DONE(c.scq, 2);
		VERIFY(b.p, len, 4 + how);
		VERIFY(a.p, len, 4 + how);
		OK(ibv_dereg_mr(b.mr));
		OK(how < 2 ? munmap(b.p, len) : shmdt(b.p));
	}
}

static void mr_rereg(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 4096);
	b = new_buf_access(s.pd, 4096, IBV_ACCESS_LOCAL_WRITE);
	fill(b.p, b.len, 5);
	OK(ibv_rereg_mr(b.mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0,
			IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ));
	rdma_buf(c.qp, 1, IBV_WR_RDMA_READ, &a, 4096, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	DONE(c.scq, 1);
	VERIFY(a.p, 4096, 5);
	/* Into another PD: it is none of this QP's any more. */
	OK(ibv_rereg_mr(b.mr, IBV_REREG_MR_CHANGE_PD, c.pd, NULL, 0, 0));
	rdma_buf(c.qp, 2, IBV_WR_RDMA_READ, &a, 4096, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	DONE_WITH(c.scq, 2, REM_ACCESS_ERR);
}

static void memlock_mr(void)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_device());
	uint8_t *p = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct ibv_mr *mr;

	limit_memlock(2 << 20);
	for (int i = 0; i < 4; i++) {
		NULLS(ENOMEM, ibv_reg_mr(pd, p, 4 << 20, ALL_ACCESS));
		mr = ibv_reg_mr(pd, p, 1 << 20, ALL_ACCESS);
		CHECK(mr);
		NULLS(ENOMEM, ibv_reg_mr(pd, p + (1 << 20), 3 << 19, ALL_ACCESS));
		OK(ibv_dereg_mr(mr));
	}
}

static void memlock_rings(void)
{
	struct ibv_context *ctx = open_device();
	struct ibv_cq *cq;

	limit_memlock(1 << 20);
	/* 65536 entries of 64 bytes are 4 MiB. */
	for (int i = 0; i < 4; i++) {
		NULLS(ENOMEM, ibv_create_cq(ctx, 65536, NULL, NULL, 0));
		cq = ibv_create_cq(ctx, 4096, NULL, NULL, 0);
		CHECK(cq);
		OK(ibv_destroy_cq(cq));
	}
}

static const struct test tests[] = {
	T(pd_in_use), T(mr_access_flags), T(mr_bad_memory), T(mr_read_only_memory),
	T(mr_keys_unguessable), T(mr_bounds), T(mr_iova), T(mr_relaxed_ordering),
	T(mr_huge_pages), T(mr_rereg), T(memlock_mr), T(memlock_rings),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
