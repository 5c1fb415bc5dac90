// SPDX-License-Identifier: GPL-2.0
/*
 * Memory windows of UC over RoCE: a peer that may not write hears of nothing,
 * and neither does anybody here. test_mw.py runs them.
 *
 *     vtmwuc TEST ADDRESS NETNS-A DEVICE-A NETNS-B DEVICE-B
 *
 * The windows are A's. B writes. At the end each tells how many writes were
 * dropped.
 */
#include "vtmw.h"
#include "vtroce.h"

/* Of the region, and of the part that a window is bound to. */
#define LEN 16384
#define OFF 1000
#define PART 5000

static struct conn c;
/* B's data, A's region, and what is to be in it. */
static struct buf from, b;
static uint8_t want[LEN];
static unsigned int seed, dropped;

static void new_region(void)
{
	b = new_buf_access(A.pd, LEN, BINDABLE);
	fill(b.p, LEN, 1);
	memcpy(want, b.p, LEN);
}

static void connect_new(void)
{
	c = connect_uc();
	if (!from.p)
		from = new_buf(B.pd, LEN);
	new_region();
}

static void end(void)
{
	disconnect(&c);
	OK(ibv_dereg_mr(b.mr));
}

static uint32_t bind_mw(struct ibv_mw *mw, size_t off, size_t len, int access)
{
	return bind_to(c.a, c.acq, mw, &b, off, len, access);
}

static void write_by(const struct conn *by, uint32_t rkey, uint64_t addr, size_t len)
{
	fill(from.p, len, ++seed);
	rdma_buf(by->b, 7, IBV_WR_RDMA_WRITE, &from, len, addr, rkey, SIGNALED);
	DONE(by->bcq, 7);
}

/* All that B has sent this way has come. */
static void all_came(const struct conn *by)
{
	OK(try_recv(by->a, 5, NULL, 0));
	send_buf(by->b, 6, &from, 0, SIGNALED);
	DONE(by->bcq, 6);
	DONE(by->acq, 5);
	CHECK(!memcmp(b.p, want, LEN));
	EQ(state_of(by->a), IBV_QPS_RTS);
	EQ(state_of(by->b), IBV_QPS_RTS);
}

static void writes_by(const struct conn *by, uint32_t rkey, size_t off, size_t len)
{
	write_by(by, rkey, (uintptr_t)b.p + off, len);
	fill(want + off, len, seed);
	all_came(by);
}

static void writes(uint32_t rkey, size_t off, size_t len)
{
	writes_by(&c, rkey, off, len);
}

/* Nobody is told, nothing is written, and it goes on. */
static void is_dropped_by(const struct conn *by, uint32_t rkey, size_t off, size_t len)
{
	write_by(by, rkey, (uintptr_t)b.p + off, len);
	dropped++;
	all_came(by);
}

static void is_dropped(uint32_t rkey, size_t off, size_t len)
{
	is_dropped_by(&c, rkey, off, len);
}

/* A window is what it is bound to, and nothing else. */
static void window_works(enum ibv_mw_type type)
{
	static const struct {
		size_t off, len;
	} outside[] = {
		{ OFF - 1, 1 }, { OFF - 1, PART }, { OFF + PART - 1, 2 }, { OFF + PART, 1 }, { 0, LEN },
		{ OFF, PART + 1 },
	};
	struct ibv_mw *mw;
	uint32_t rkey;

	connect_new();
	mw = new_mw(A.pd, type);
	/* Not bound. */
	is_dropped(mw->rkey, OFF, 1);
	rkey = bind_mw(mw, OFF, PART, WRITES);
	writes(rkey, OFF, PART);
	writes(rkey, OFF + 500, 300);
	writes(rkey, OFF + PART - 1, 1);
	for (size_t i = 0; i < ARRAY_SIZE(outside); i++) {
		is_dropped(rkey, outside[i].off, outside[i].len);
		writes(rkey, OFF + i * 100, 2000);
	}
	/* The region itself is closed to the peer. */
	is_dropped(b.mr->rkey, OFF, 1);
	writes(rkey, OFF, PART);
	FAILS(EBUSY, ibv_dereg_mr(b.mr));
	OK(ibv_dealloc_mw(mw));
	is_dropped(rkey, OFF, 1);
	is_dropped(rkey, OFF, PART);
	end();
}

static void type_1(void)
{
	window_works(IBV_MW_TYPE_1);
}

static void type_2(void)
{
	window_works(IBV_MW_TYPE_2);
}

static void rights(void)
{
	for (int type = IBV_MW_TYPE_1; type <= IBV_MW_TYPE_2; type++) {
		struct ibv_mw *mw;
		uint32_t rkey;

		connect_new();
		mw = new_mw(A.pd, type);
		/* The right to write locally is no right of peers. */
		rkey = bind_mw(mw, OFF, PART, READS | IBV_ACCESS_LOCAL_WRITE);
		is_dropped(rkey, OFF, PART);
		OK(ibv_dealloc_mw(mw));
		mw = new_mw(A.pd, type);
		rkey = bind_mw(mw, OFF, PART, 0);
		is_dropped(rkey, OFF, 1);
		OK(ibv_dealloc_mw(mw));
		end();
	}
}

/* Type 1: another binding takes the place of the one before; length 0 ends it. */
static void type_1_again(void)
{
	uint32_t first, second;
	struct ibv_mw *mw;

	connect_new();
	mw = new_mw(A.pd, IBV_MW_TYPE_1);
	first = bind_mw(mw, OFF, PART, WRITES);
	writes(first, OFF, PART);
	second = bind_mw(mw, 8000, 2000, WRITES);
	CHECK(first != second);
	is_dropped(first, OFF, 1);
	is_dropped(first, 8000, 1);
	is_dropped(second, OFF, 1);
	writes(second, 8000, 2000);
	FAILS(EBUSY, ibv_dereg_mr(b.mr));
	first = bind_mw(mw, 0, 0, 0);
	is_dropped(second, 8000, 2000);
	is_dropped(first, 8000, 1);
	end();
	OK(ibv_dealloc_mw(mw));
}

/* Type 2: LOCAL_INV ends a binding; then there may be another one. */
static void type_2_invalidated(void)
{
	uint32_t first, second;
	struct ibv_mw *mw;

	connect_new();
	mw = new_mw(A.pd, IBV_MW_TYPE_2);
	first = bind_mw(mw, OFF, PART, WRITES);
	writes(first, OFF, PART);
	FAILS(EBUSY, ibv_dereg_mr(b.mr));
	invalidate(c.a, c.acq, first);
	is_dropped(first, OFF, PART);
	is_dropped(first, OFF, 1);
	mw->rkey = first;
	second = bind_mw(mw, 8000, 4000, WRITES);
	CHECK(first != second);
	is_dropped(first, 8000, 1);
	writes(second, 8000, 4000);
	invalidate(c.a, c.acq, second);
	is_dropped(second, 8000, 4000);
	end();
	OK(ibv_dealloc_mw(mw));
}

/* Type 1 is open to every QP of the PD, type 2 to the one that bound it. */
static void association(void)
{
	struct ibv_mw *one, *two;
	struct conn other;
	uint32_t k1, k2;

	connect_new();
	other = connect_uc();
	one = new_mw(A.pd, IBV_MW_TYPE_1);
	two = new_mw(A.pd, IBV_MW_TYPE_2);
	k1 = bind_mw(one, OFF, PART, WRITES);
	k2 = bind_mw(two, OFF, PART, WRITES);
	writes(k1, OFF, PART);
	writes_by(&other, k1, OFF, PART);
	writes(k2, OFF, PART);
	is_dropped_by(&other, k2, OFF, PART);
	writes_by(&other, k1, OFF, 1);
	writes(k2, OFF, 1);
	disconnect(&other);
	OK(ibv_dealloc_mw(one));
	OK(ibv_dealloc_mw(two));
	end();
}

/* Type 2: the peer's addresses may count from the window's beginning. */
static void zero_based(void)
{
	struct ibv_mw *mw;
	uint32_t rkey;

	connect_new();
	mw = new_mw(A.pd, IBV_MW_TYPE_2);
	rkey = bind_mw(mw, OFF, PART, WRITES | IBV_ACCESS_ZERO_BASED);
	write_by(&c, rkey, 100, PART - 100);
	fill(want + OFF + 100, PART - 100, seed);
	all_came(&c);
	is_dropped(rkey, OFF, 1);
	write_by(&c, rkey, 100, PART - 99);
	dropped++;
	all_came(&c);
	OK(ibv_dealloc_mw(mw));
	end();
}

static void write_imm(uint32_t rkey, size_t len, uint32_t imm)
{
	struct ibv_sge sge = sge_of(&from, 0, len);
	struct ibv_send_wr *bad, wr = {
		.wr_id = 9, .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
		.send_flags = SIGNALED, .imm_data = htonl(imm),
		.wr.rdma = { .remote_addr = (uintptr_t)b.p + OFF, .rkey = rkey },
	};

	fill(from.p, len, ++seed);
	OK(ibv_post_send(c.b, &wr, &bad));
	DONE(c.bcq, 9);
}

static void has_come(uint64_t id, size_t len, uint32_t imm)
{
	struct ibv_wc wc = DONE(c.acq, id);

	EQ(wc.opcode, IBV_WC_RECV_RDMA_WITH_IMM);
	EQ(wc.byte_len, len);
	EQ(ntohl(wc.imm_data), imm);
	fill(want + OFF, len, seed);
	CHECK(!memcmp(b.p, want, LEN));
}

/* Of a write that is dropped the immediate data are, too; the receive is for the next one. */
static void immediate_data(void)
{
	for (int type = IBV_MW_TYPE_1; type <= IBV_MW_TYPE_2; type++) {
		struct ibv_mw *mw;
		uint32_t rkey, dead;

		connect_new();
		mw = new_mw(A.pd, type);
		dead = mw->rkey;
		rkey = bind_mw(mw, OFF, PART, WRITES);
		OK(try_recv(c.a, 1, NULL, 0));
		OK(try_recv(c.a, 2, NULL, 0));
		write_imm(rkey, PART, 0x11223344);
		has_come(1, PART, 0x11223344);
		/* A packet, and more than one. */
		write_imm(dead, 8, 0x55667788);
		write_imm(dead, PART, 0x55667788);
		dropped += 2;
		NOTHING(c.acq);
		write_imm(rkey, 700, 0x99aabbcc);
		has_come(2, 700, 0x99aabbcc);
		OK(ibv_dealloc_mw(mw));
		all_came(&c);
		end();
	}
}

/* A binding that cannot be stops the send queue, and nothing else: what peers write goes on. */
static void bind_errors(void)
{
	for (int type = IBV_MW_TYPE_1; type <= IBV_MW_TYPE_2; type++) {
		struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RTS, .cur_qp_state = IBV_QPS_SQE };
		struct ibv_mw *open, *mw;
		uint32_t rkey, failed;

		connect_new();
		open = new_mw(A.pd, IBV_MW_TYPE_1);
		mw = new_mw(A.pd, type);
		rkey = bind_mw(open, 0, LEN, WRITES);
		failed = ibv_inc_rkey(mw->rkey);
		OK(try_bind(c.a, 1, mw, b.mr, (uintptr_t)b.p, LEN + 1, WRITES, &failed));
		DONE_WITH(c.acq, 1, MW_BIND_ERR);
		EQ(state_of(c.a), IBV_QPS_SQE);
		write_by(&c, failed, (uintptr_t)b.p, 8);
		dropped++;
		write_by(&c, rkey, (uintptr_t)b.p + OFF, PART);
		fill(want + OFF, PART, seed);
		OK(ibv_modify_qp(c.a, &attr, IBV_QP_STATE | IBV_QP_CUR_STATE));
		all_came(&c);
		/* It may be bound still. */
		writes(bind_mw(mw, OFF, PART, WRITES), OFF, PART);
		OK(ibv_dealloc_mw(mw));
		OK(ibv_dealloc_mw(open));
		end();
	}
}

/* Writes are on their way when the window closes: when that is done, the memory is ours alone. */
static void closing_waits(void)
{
	size_t len = 256 << 10;
	struct buf data = new_buf(B.pd, len);

	memset(data.p, 0xaa, len);
	for (int round = 0; round < 18; round++) {
		enum ibv_mw_type type = round % 3 == 1 ? IBV_MW_TYPE_1 : IBV_MW_TYPE_2;
		struct ibv_mw *mw;
		uint32_t rkey;

		c = connect_uc();
		b = new_buf_access(A.pd, len, BINDABLE);
		mw = new_mw(A.pd, type);
		rkey = bind_mw(mw, 0, len, WRITES);
		for (int i = 0; i < 32; i++)
			rdma_buf(c.b, i, IBV_WR_RDMA_WRITE, &data, len, (uintptr_t)b.p, rkey, 0);
		usleep(round * 200);
		switch (round % 3) {
		case 0:
			OK(ibv_dealloc_mw(mw));
			break;
		case 1:
			OK(try_bind(c.a, 77, mw, b.mr, (uintptr_t)b.p, 0, 0, &rkey));
			DONE(c.acq, 77);
			break;
		case 2:
			invalidate(c.a, c.acq, rkey);
			break;
		}
		memset(b.p, 0x55, len);
		usleep(50000);
		UNTOUCHED(b.p, len, 0x55);
		/* Nothing is bound to it. */
		OK(ibv_dereg_mr(b.mr));
		munmap(b.p, len);
		EQ(state_of(c.a), IBV_QPS_RTS);
		disconnect(&c);
	}
}

static const struct test tests[] = {
	T(type_1), T(type_2), T(rights), T(type_1_again), T(type_2_invalidated), T(association),
	T(zero_based), T(immediate_data), T(bind_errors), T(closing_waits),
};

static void tell(void)
{
	printf("%u dropped\n", dropped);
}

int main(int argc, char **argv)
{
	atexit(tell);
	return run_roce_test(tests, ARRAY_SIZE(tests), argc, argv);
}
