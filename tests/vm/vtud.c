// SPDX-License-Identifier: GPL-2.0
/*
 * Datagrams as RPC systems use them: a deep receive queue, filled by lists;
 * lists of sends, the short ones inline; all memory shared and of huge pages
 * (shmget(2)). And those that nobody takes. test_roce_ud.py runs them.
 *
 *     vtud TEST ADDRESS NETNS-A DEVICE-A NETNS-B DEVICE-B [ARGUMENT]
 */
#include "vtroce.h"

#include <sys/ipc.h>
#include <sys/shm.h>

#define DEPTH 4096
#define LIST 32
#define INLINE 60
/* For a message, or one that is received. Some lies in two huge pages. */
#define SLOT 600
#define MEMORY (4UL << 20)

struct party {
	struct ibv_qp *qp;
	struct ibv_cq *scq, *rcq;
	/* To the other one. */
	struct ibv_ah *ah;
	/* LIST slots of messages, then DEPTH of receives. */
	struct buf b;
	/* Receives, which are numbered, that were posted; and that were used. */
	uint64_t posted, used;
};

static void *shared_memory(void)
{
	int id = shmget(IPC_PRIVATE, MEMORY, IPC_CREAT | SHM_HUGETLB | 0600);
	void *p;

	if (id < 0)
		FAIL("no huge pages");
	p = shmat(id, NULL, 0);
	OK(shmctl(id, IPC_RMID, NULL));
	CHECK(p != (void *)-1);
	return p;
}

static struct party new_party(struct side *s, const struct side *other)
{
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_UD,
		.cap = { .max_send_wr = 2 * LIST, .max_recv_wr = DEPTH, .max_send_sge = 1,
			 .max_recv_sge = 1, .max_inline_data = INLINE },
	};
	struct party p = { .b = { .p = shared_memory(), .len = MEMORY } };

	CHECK((LIST + DEPTH) * SLOT <= MEMORY);
	p.b.mr = ibv_reg_mr(s->pd, p.b.p, p.b.len, IBV_ACCESS_LOCAL_WRITE);
	p.scq = ibv_create_cq(s->ctx, 2 * LIST, NULL, NULL, 0);
	p.rcq = ibv_create_cq(s->ctx, DEPTH, NULL, NULL, 0);
	CHECK(p.b.mr && p.scq && p.rcq);
	init.send_cq = p.scq;
	init.recv_cq = p.rcq;
	p.qp = ibv_create_qp(s->pd, &init);
	if (!p.qp)
		FAIL("ibv_create_qp");
	CHECK(init.cap.max_recv_wr >= DEPTH && init.cap.max_inline_data >= INLINE);
	to_rts_ud(p.qp, QKEY);
	p.ah = ah_of(s, other);
	return p;
}

static void gone(struct party *p)
{
	OK(ibv_destroy_qp(p->qp));
	OK(ibv_destroy_cq(p->scq));
	OK(ibv_destroy_cq(p->rcq));
	OK(ibv_destroy_ah(p->ah));
	OK(ibv_dereg_mr(p->b.mr));
	OK(shmdt(p->b.p));
}

/* Where a receive is: neighbours in the queue are none in memory. */
static size_t place(uint64_t number)
{
	return (LIST + number * 1031 % DEPTH) * SLOT;
}

/* So many receives, a multiple of LIST. */
static void post_receives(struct party *p, size_t n)
{
	for (; n; n -= LIST) {
		struct ibv_recv_wr wr[LIST], *bad;
		struct ibv_sge sge[LIST];

		for (size_t i = 0; i < LIST; i++) {
			size_t at = place(p->posted);

			memset(p->b.p + at, 0x5a, SLOT);
			sge[i] = sge_of(&p->b, at, SLOT);
			wr[i] = (struct ibv_recv_wr) {
				.wr_id = p->posted++,
				.next = i + 1 < LIST ? &wr[i + 1] : NULL,
				.sg_list = &sge[i],
				.num_sge = 1,
			};
		}
		OK(ibv_post_recv(p->qp, wr, &bad));
	}
}

/* One message in three is longer than what may be inline. */
static size_t length(uint32_t seed)
{
	return seed % 3 ? 1 + seed % INLINE : SLOT - GRH - seed % 97;
}

/* LIST messages at once. Of the last one it is told that it was sent. */
static void say(struct party *p, const struct party *to, const uint32_t *seeds)
{
	struct ibv_send_wr wr[LIST], *bad;
	struct ibv_sge sge[LIST];

	for (size_t i = 0; i < LIST; i++) {
		size_t len = length(seeds[i]);
		bool last = i + 1 == LIST;

		fill(p->b.p + i * SLOT, len, seeds[i]);
		sge[i] = sge_of(&p->b, i * SLOT, len);
		wr[i] = (struct ibv_send_wr) {
			.wr_id = seeds[i],
			.next = last ? NULL : &wr[i + 1],
			.sg_list = &sge[i],
			.num_sge = 1,
			.opcode = IBV_WR_SEND_WITH_IMM,
			.send_flags = (len <= INLINE ? IBV_SEND_INLINE : 0) | (last ? SIGNALED : 0),
			.imm_data = htonl(seeds[i]),
			.wr.ud = { .ah = p->ah, .remote_qpn = to->qp->qp_num, .remote_qkey = QKEY },
		};
	}
	OK(ibv_post_send(p->qp, wr, &bad));
	/* What is inline was taken when it was posted. */
	for (size_t i = 0; i < LIST; i++)
		if (wr[i].send_flags & IBV_SEND_INLINE)
			memset(p->b.p + i * SLOT, 0xee, SLOT);
	DONE(p->scq, seeds[LIST - 1]);
}

/*
 * The next LIST messages, whose seeds these are, in whatever order; `heard` is
 * that. Receives are used in the order in which they were posted.
 */
static void hear(struct party *p, const struct party *from, const uint32_t *seeds, uint32_t *heard)
{
	bool seen[LIST] = { false };

	for (size_t i = 0; i < LIST; i++) {
		struct ibv_wc wc = DONE(p->rcq, p->used);
		const uint8_t *at = p->b.p + place(p->used++);
		size_t len, which = 0;

		CHECK(wc.wc_flags & IBV_WC_WITH_IMM);
		heard[i] = ntohl(wc.imm_data);
		while (which < LIST && seeds[which] != heard[i])
			which++;
		if (which == LIST || seen[which])
			FAIL("message %u, not one of %u and those behind it, each once", heard[i],
			     seeds[0]);
		seen[which] = true;
		len = length(heard[i]);
		EQ(wc.opcode, IBV_WC_RECV);
		EQ(wc.byte_len, GRH + len);
		EQ(wc.src_qp, from->qp->qp_num);
		CHECK(wc.wc_flags & IBV_WC_GRH);
		VERIFY(at + GRH, len, heard[i]);
		UNTOUCHED(at + GRH + len, SLOT - GRH - len, 0x5a);
	}
}

/* LIST requests of B's, each of which A answers. */
static void call(struct party *a, struct party *b, uint32_t number)
{
	uint32_t requests[LIST], responses[LIST], heard[LIST];

	for (uint32_t i = 0; i < LIST; i++)
		requests[i] = 2 * (number * LIST + i);
	say(b, a, requests);
	hear(a, b, requests, heard);
	for (size_t i = 0; i < LIST; i++)
		responses[i] = heard[i] + 1;
	say(a, b, responses);
	hear(b, a, responses, heard);
}

static void rpc(void)
{
	struct party a = new_party(&A, &B), b = new_party(&B, &A);
	uint32_t lost[LIST], n = 0;

	post_receives(&a, DEPTH);
	post_receives(&b, DEPTH);
	while (n < DEPTH / LIST)
		call(&a, &b, n++);
	/* No receive is left, and none waits for one. */
	for (uint32_t i = 0; i < LIST; i++)
		lost[i] = 0x80000000 + i;
	say(&b, &a, lost);
	NOTHING(a.rcq);
	post_receives(&a, DEPTH);
	post_receives(&b, DEPTH);
	NOTHING(a.rcq);
	/* From now on what was used is posted again. */
	while (n < 2 * DEPTH / LIST + 3) {
		call(&a, &b, n++);
		post_receives(&a, LIST);
		post_receives(&b, LIST);
	}
	EQ(a.used, n * LIST);
	EQ(b.used, n * LIST);
	gone(&a);
	gone(&b);
}

/* One datagram of B's, of this many bytes. */
static void say_one(struct ibv_qp *qp, struct ibv_ah *ah, const struct ibv_qp *to, uint32_t qkey,
		    uint64_t id, const struct buf *from, size_t len)
{
	struct ibv_sge sge = sge_of(from, 0, len);
	struct ibv_send_wr *bad, wr = {
		.wr_id = id, .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND,
		.send_flags = SIGNALED,
		.wr.ud = { .ah = ah, .remote_qpn = to->qp_num, .remote_qkey = qkey },
	};

	fill(from->p, len, (uint32_t)id);
	OK(ibv_post_send(qp, &wr, &bad));
}

/*
 * ARGUMENT: how many datagrams find no receive. Others are dropped, too, but not for that: one
 * that is too long for its receive, one with a wrong Q_Key.
 */
static void no_receive(void)
{
	struct ibv_ah *ah = ah_of(&B, &A);
	struct buf a = new_buf(A.pd, SLOT), b = new_buf(B.pd, SLOT);
	int n = atoi(args[0]);
	struct conn c;

	CHECK(n > 0);
	c.a = ud_qp(&A, &c.acq);
	c.b = ud_qp(&B, &c.bcq);
	for (int i = 0; i < n; i++) {
		say_one(c.b, ah, c.a, QKEY, i, &b, 100);
		DONE(c.bcq, i);
	}
	NOTHING(c.acq);
	recv_buf(c.a, 1, &a, GRH + 100);
	say_one(c.b, ah, c.a, QKEY, 1000, &b, 101);
	DONE(c.bcq, 1000);
	say_one(c.b, ah, c.a, QKEY + 1, 1001, &b, 100);
	DONE(c.bcq, 1001);
	NOTHING(c.acq);
	/* None of them has changed anything. */
	say_one(c.b, ah, c.a, QKEY, 1002, &b, 100);
	DONE(c.bcq, 1002);
	EQ(DONE(c.acq, 1).byte_len, GRH + 100);
	VERIFY(a.p + GRH, 100, 1002);
	EQ(state_of(c.a), IBV_QPS_RTS);
	disconnect(&c);
	OK(ibv_destroy_ah(ah));
	OK(ibv_dereg_mr(a.mr));
	OK(ibv_dereg_mr(b.mr));
}

static const struct test tests[] = { T(rpc), T(no_receive) };

int main(int argc, char **argv)
{
	return run_roce_test(tests, ARRAY_SIZE(tests), argc, argv);
}
