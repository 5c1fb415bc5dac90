// SPDX-License-Identifier: GPL-2.0
/* Tests of errors, flush, and ends in the middle of work; test_errors.py runs them. */

#include "vt.h"

static struct end c, s;

/* Both ends are in error, and what is posted then is flushed. */
static void both_in_error(void)
{
	struct ibv_wc wc;
	struct buf a = new_buf(c.pd, 64);

	wait_state(c.qp, IBV_QPS_ERR);
	wait_state(s.qp, IBV_QPS_ERR);
	while (ibv_poll_cq(c.scq, 1, &wc) > 0)
		EQ(wc.status, IBV_WC_WR_FLUSH_ERR);
	send_buf(c.qp, 1234, &a, 64, SIGNALED);
	DONE_WITH(c.scq, 1234, WR_FLUSH_ERR);
	OK(try_recv(s.qp, 1235, NULL, 0));
	DONE_WITH(s.rcq, 1235, WR_FLUSH_ERR);
}

/* The request that the peer refuses. Over iWARP it may have completed when it was sent; over RoCE it has not. */
#define REFUSED(status) do { \
	if (is_roce(c.qp->context)) \
		DONE_WITH(c.scq, 1, status); \
} while (0)

/* A work request of `c` failed, and its peer has done nothing wrong: over RoCE nobody tells it. */
static void one_in_error(void)
{
	wait_state(c.qp, IBV_QPS_ERR);
	if (is_roce(c.qp->context)) {
		usleep(QUIET * 1000);
		EQ(state_of(s.qp), IBV_QPS_RTS);
	} else {
		wait_state(s.qp, IBV_QPS_ERR);
	}
}

enum { WRITE_, READ_ };

/*
 * An access that the peer must refuse. A READ completes in error; a WRITE of
 * iWARP is complete when it is sent, the answer to it is the end of the
 * connection.
 */
static void refused(int op, const struct buf *a, uint64_t remote, uint32_t rkey, size_t len)
{
	struct ibv_wc wc;

	rdma_buf(c.qp, 1, op == READ_ ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, a, len, remote, rkey,
		 SIGNALED);
	CHECK(poll_within(c.scq, &wc, SOON));
	EQ(wc.wr_id, 1);
	if (op == READ_ || is_roce(c.qp->context))
		EQ(wc.status, IBV_WC_REM_ACCESS_ERR);
	else
		CHECK(wc.status == IBV_WC_SUCCESS || wc.status == IBV_WC_REM_ACCESS_ERR);
	/* Who was attacked is told. */
	ASYNC(s.qp->context, QP_ACCESS_ERR, s.qp);
	both_in_error();
}

static struct buf victim(int access)
{
	struct buf b = new_buf_access(s.pd, 3 * 4096, access);

	memset(b.p, 0xee, b.len);
	return b;
}

static void remote_wrong_key(int op)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 4096);
	memset(a.p, 0xdd, a.len);
	b = victim(ALL_ACCESS);
	refused(op, &a, (uintptr_t)b.p, b.mr->rkey ^ 1, 4096);
	UNTOUCHED(b.p, b.len, 0xee);
	UNTOUCHED(a.p, a.len, 0xdd);
}

static void write_wrong_key(void) { remote_wrong_key(WRITE_); }
static void read_wrong_key(void) { remote_wrong_key(READ_); }

static void remote_bounds(int op)
{
	/* Begins before, ends behind, lies behind, wraps around. */
	static const int64_t offs[] = { -1, 4097, 4096, 1 << 30, INT64_MIN };

	for (size_t i = 0; i < ARRAY_SIZE(offs); i++) {
		struct buf a, b;

		connect_ends(&c, &s, NULL);
		a = new_buf(c.pd, 4096);
		memset(a.p, 0xdd, a.len);
		b = victim(ALL_ACCESS);
		OK(ibv_dereg_mr(b.mr));
		b.mr = ibv_reg_mr(s.pd, b.p + 4096, 4096, ALL_ACCESS);
		refused(op, &a, offs[i] == INT64_MIN ? -2048UL :
			(uintptr_t)b.p + 4096 + offs[i], b.mr->rkey, 4096);
		/* What of it is inside may have been placed, nothing beside it. */
		UNTOUCHED(b.p, 4096, 0xee);
		UNTOUCHED(b.p + 8192, 4096, 0xee);
		/* RoCE looks at all of the range before the first byte. */
		if (is_roce(c.qp->context))
			UNTOUCHED(b.p, b.len, 0xee);
		UNTOUCHED(a.p, a.len, 0xdd);
	}
}

static void write_out_of_bounds(void) { remote_bounds(WRITE_); }
static void read_out_of_bounds(void) { remote_bounds(READ_); }

static void remote_right(int op, int access)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 4096);
	memset(a.p, 0xdd, a.len);
	b = victim(access);
	refused(op, &a, (uintptr_t)b.p, b.mr->rkey, 4096);
	UNTOUCHED(b.p, b.len, 0xee);
	UNTOUCHED(a.p, a.len, 0xdd);
}

static void write_without_right(void)
{
	remote_right(WRITE_, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ);
}

static void read_without_right(void)
{
	remote_right(READ_, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
}

static void remote_other_pd(int op)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 4096);
	b = new_buf(ibv_alloc_pd(s.pd->context), 4096);
	memset(b.p, 0xee, b.len);
	refused(op, &a, (uintptr_t)b.p, b.mr->rkey, 4096);
	UNTOUCHED(b.p, b.len, 0xee);
}

static void write_other_pd(void) { remote_other_pd(WRITE_); }
static void read_other_pd(void) { remote_other_pd(READ_); }

static void remote_dead_key(int op)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 4096);
	b = victim(ALL_ACCESS);
	OK(ibv_dereg_mr(b.mr));
	refused(op, &a, (uintptr_t)b.p, b.mr->rkey, 4096);
	UNTOUCHED(b.p, b.len, 0xee);
}

static void write_dead_key(void) { remote_dead_key(WRITE_); }
static void read_dead_key(void) { remote_dead_key(READ_); }

static void send_inv_refused(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 64);
	b = new_buf(s.pd, 64);
	recv_buf(s.qp, 7, &b, 64);
	/* A region of a process is not the peer's to invalidate. */
	{
		struct ibv_sge sge = sge_of(&a, 0, 64);

		OK(try_post(c.qp, &(struct work) { 1, IBV_WR_SEND_WITH_INV, SIGNALED, &sge, 1, 0,
						   b.mr->rkey }));
	}
	REFUSED(REM_ACCESS_ERR);
	wait_state(c.qp, IBV_QPS_ERR);
	wait_state(s.qp, IBV_QPS_ERR);
	/* It is in force still. */
	close_end(&c);
	close_end(&s);
	OK(ibv_dereg_mr(b.mr));
}

/* RoCE: the peer says that it is not ready, and the requester tries again, as often as it may. */
static void no_receive_yet(void)
{
	struct opt o = { .rnr_retries = 7 };
	struct buf a, b;

	connect_ends(&c, &s, &o);
	a = new_buf(c.pd, 64);
	b = new_buf(s.pd, 64);
	fill(a.p, a.len, 1);
	send_buf(c.qp, 1, &a, 64, SIGNALED);
	NOTHING(c.scq);
	EQ(state_of(c.qp), IBV_QPS_RTS);
	recv_buf(s.qp, 2, &b, 64);
	EQ(DONE(s.rcq, 2).byte_len, 64);
	DONE(c.scq, 1);
	VERIFY(b.p, b.len, 1);
}

static void no_receive_posted(void)
{
	struct buf a;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 64);
	send_buf(c.qp, 1, &a, 64, 0);
	if (!is_roce(c.qp->context)) {
		both_in_error();
		return;
	}
	/* Nobody asked for a signal, but this is an error. */
	DONE_WITH(c.scq, 1, RNR_RETRY_EXC_ERR);
	one_in_error();
	/* What the peer posts now is there for nobody. */
	OK(try_recv(s.qp, 2, NULL, 0));
	NOTHING(s.rcq);
	no_receive_yet();
}

static void receive_too_small(void)
{
	/* The other one's first packet, of RoCE, has room. */
	static const size_t sizes[][2] = { { 1000, 1001 }, { 2000, 4096 } };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t room = sizes[i][0];
		struct buf a, b;

		connect_ends(&c, &s, NULL);
		a = new_buf(c.pd, 4096);
		b = new_buf(s.pd, 4096);
		memset(b.p, 0xee, b.len);
		recv_buf(s.qp, 5, &b, room);
		recv_buf(s.qp, 6, &b, room);
		send_buf(c.qp, 1, &a, sizes[i][1], 0);
		DONE_WITH(s.rcq, 5, LOC_LEN_ERR);
		DONE_WITH(s.rcq, 6, WR_FLUSH_ERR);
		REFUSED(REM_INV_REQ_ERR);
		UNTOUCHED(b.p + room, b.len - room, 0xee);
		both_in_error();
	}
}

static void send_local_protection(void)
{
	for (int i = 0; i < 4; i++) {
		struct ibv_sge sge;
		struct buf a;

		connect_ends(&c, &s, NULL);
		a = i == 3 ? new_buf(ibv_alloc_pd(c.pd->context), 4096) : new_buf(c.pd, 4096);
		sge = sge_of(&a, 0, 64);
		if (i == 0)
			sge.lkey ^= 0x5500;
		if (i == 1)
			sge.addr += 4096 - 63;
		if (i == 2)
			sge.addr -= 1;
		OK(try_post(c.qp, &(struct work) { 1, IBV_WR_SEND, 0, &sge, 1, 0, 0 }));
		/* An error completes although nobody asked for a signal. */
		DONE_WITH(c.scq, 1, LOC_PROT_ERR);
		one_in_error();
	}
}

/* Of a list, what stands before a request that fails is done, and what stands behind it is flushed. */
static void list_fails_in_turn(void)
{
	enum { BEFORE = 3, ALL = 5 };
	struct ibv_send_wr wr[ALL] = {}, *bad;
	struct ibv_sge sge[ALL];
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, ALL * 4096);
	b = new_buf(s.pd, ALL * 4096);
	fill(a.p, a.len, 1);
	for (int i = 0; i < ALL; i++) {
		struct ibv_sge to = sge_of(&b, i * 4096, 4096);

		OK(try_recv(s.qp, i, &to, 1));
		sge[i] = sge_of(&a, i * 4096, 4096);
		wr[i] = (struct ibv_send_wr) {
			.wr_id = i, .next = i + 1 < ALL ? &wr[i + 1] : NULL, .sg_list = &sge[i],
			.num_sge = 1, .opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED,
		};
	}
	sge[BEFORE].lkey ^= 0x5500;
	OK(ibv_post_send(c.qp, wr, &bad));
	for (int i = 0; i < BEFORE; i++) {
		DONE(c.scq, i);
		EQ(DONE(s.rcq, i).byte_len, 4096);
	}
	DONE_WITH(c.scq, BEFORE, LOC_PROT_ERR);
	for (int i = BEFORE + 1; i < ALL; i++)
		DONE_WITH(c.scq, i, WR_FLUSH_ERR);
	VERIFY(b.p, BEFORE * 4096, 1);
	UNTOUCHED(b.p + BEFORE * 4096, (ALL - BEFORE) * 4096, 0);
	one_in_error();
}

static void recv_local_protection(void)
{
	for (int i = 0; i < 3; i++) {
		struct ibv_sge sge;
		struct buf a, b;

		connect_ends(&c, &s, NULL);
		a = new_buf(c.pd, 64);
		b = new_buf_access(s.pd, 64, i == 2 ? 0 : ALL_ACCESS);
		memset(b.p, 0xee, 64);
		sge = sge_of(&b, 0, 64);
		if (i == 0)
			sge.lkey ^= 0x5500;
		if (i == 1)
			sge.addr += 1;
		OK(try_recv(s.qp, 3, &sge, 1));
		send_buf(c.qp, 1, &a, 64, 0);
		DONE_WITH(s.rcq, 3, LOC_PROT_ERR);
		REFUSED(REM_OP_ERR);
		UNTOUCHED(b.p, 64, 0xee);
		both_in_error();
	}
}

static void read_sink_protection(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf_access(c.pd, 64, 0);
	b = new_buf(s.pd, 64);
	fill(b.p, 64, 1);
	rdma_buf(c.qp, 1, IBV_WR_RDMA_READ, &a, 64, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	DONE_WITH(c.scq, 1, LOC_PROT_ERR);
	UNTOUCHED(a.p, 64, 0);
	one_in_error();
}

/* Collects what completes until all of `n` did; each exactly once. */
static void each_once(struct ibv_cq *cq, int n, int *flushed)
{
	bool seen[1024] = {};
	struct ibv_wc wc;

	for (int i = 0; i < n; i++) {
		if (!poll_within(cq, &wc, SOON))
			FAIL("%d of %d completions", i, n);
		CHECK(wc.wr_id < 1024 && (int)wc.wr_id < n);
		if (seen[wc.wr_id])
			FAIL("request %d completes twice", (int)wc.wr_id);
		seen[wc.wr_id] = true;
		EQ(wc.wr_id, i);
		if (wc.status == IBV_WC_WR_FLUSH_ERR)
			++*flushed;
		else if (wc.status != IBV_WC_SUCCESS)
			FAIL("request %d: %s", i, ibv_wc_status_str(wc.status));
		else if (*flushed)
			FAIL("request %d is done after others were flushed", i);
	}
	NOTHING(cq);
}

static void flush(int how)
{
	struct opt o = { .swr = 128, .rwr = 128 };

	for (int round = 0; round < 4; round++) {
		int recvs = 0, sends = 0;
		struct buf a, b;
		bool roce;

		connect_ends(&c, &s, &o);
		roce = is_roce(c.qp->context);
		a = new_buf(c.pd, 1 << 20);
		b = new_buf(s.pd, 1 << 20);
		for (int i = 0; i < 100; i++)
			recv_buf(c.qp, i, &a, 64);
		for (int i = 0; i < 100; i++)
			rdma_buf(c.qp, i, i % 2 ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, &a,
				 i < 30 ? 10000 : 100000, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
		usleep(round * 2000);
		if (how == 0)
			OK(to_state(c.qp, IBV_QPS_ERR));
		else if (how == 1)
			OK(rdma_disconnect(s.id));
		else
			OK(rdma_disconnect(c.id));
		if (roce && how)
			follow(how == 1 ? &c : &s);
		each_once(c.rcq, 100, &recvs);
		EQ(recvs, 100);
		each_once(c.scq, 100, &sends);
		/* Without the CM there is nobody that would tell the other end of RoCE. */
		if (roce && !how)
			EQ(state_of(s.qp), IBV_QPS_RTS);
		else
			wait_state(s.qp, IBV_QPS_ERR);
		if (round == 3) {
			/* Posted in error: flushed too. */
			for (int i = 0; i < 100; i++) {
				OK(try_recv(c.qp, i, NULL, 0));
				rdma_buf(c.qp, i, IBV_WR_RDMA_WRITE, &a, 64, 0, 0, 0);
			}
			recvs = sends = 0;
			each_once(c.rcq, 100, &recvs);
			each_once(c.scq, 100, &sends);
			EQ(recvs, 100);
			EQ(sends, 100);
		}
		close_end(&c);
		close_end(&s);
	}
}

static void flush_on_error(void) { flush(0); }
static void flush_on_peer_disconnect(void) { flush(1); }
static void flush_on_own_disconnect(void) { flush(2); }

static void destroy_busy(void)
{
	for (int i = 0; i < 8; i++) {
		struct opt o = { .swr = 64 };
		struct buf a, b;

		connect_ends(&c, &s, &o);
		a = new_buf(c.pd, 1 << 20);
		b = new_buf(s.pd, 1 << 20);
		for (int k = 0; k < 32; k++)
			rdma_buf(c.qp, k, k % 2 ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, &a, 1 << 20,
				 (uintptr_t)b.p, b.mr->rkey, SIGNALED);
		usleep(i * 1000);
		/* In the middle of it, memory first. */
		if (i % 2)
			OK(ibv_dereg_mr(b.mr));
		close_end(i % 4 < 2 ? &c : &s);
		close_end(i % 4 < 2 ? &s : &c);
	}
}

/* Exits at once with everything open and busy. */
static void exit_busy(void)
{
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 1 << 20);
	b = new_buf(s.pd, 1 << 20);
	for (int k = 0; k < 32; k++)
		rdma_buf(c.qp, k, k % 2 ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, &a, 1 << 20,
			 (uintptr_t)b.p, b.mr->rkey, SIGNALED);
	_exit(0);
}

static const struct test tests[] = {
	T(write_wrong_key), T(read_wrong_key), T(write_out_of_bounds), T(read_out_of_bounds),
	T(write_without_right), T(read_without_right), T(write_other_pd), T(read_other_pd),
	T(write_dead_key), T(read_dead_key), T(send_inv_refused), T(no_receive_posted),
	T(receive_too_small), T(send_local_protection), T(list_fails_in_turn),
	T(recv_local_protection), T(read_sink_protection), T(flush_on_error), T(flush_on_peer_disconnect),
	T(flush_on_own_disconnect), T(destroy_busy), T(exit_busy),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
