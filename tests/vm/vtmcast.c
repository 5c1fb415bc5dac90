// SPDX-License-Identifier: GPL-2.0
/*
 * Multicast groups of UD QPs, joined by ibv_attach_mcast(3) alone;
 * test_roce.py runs them.
 *
 *     vtmcast TEST ADDRESS NETNS-A DEVICE-A NETNS-B DEVICE-B GROUP
 */
#include "vtroce.h"

#define LEN 300
#define N 16

static union ibv_gid group;

/* GROUP, and on each side a GID of its family. */
static void choose_gids(void)
{
	struct side *sides[] = { &A, &B };
	bool v6 = strchr(args[0], ':');

	if (v6) {
		EQ(inet_pton(AF_INET6, args[0], group.raw), 1);
	} else {
		group.raw[10] = group.raw[11] = 0xff;
		EQ(inet_pton(AF_INET, args[0], group.raw + 12), 1);
	}
	for (size_t i = 0; v6 && i < ARRAY_SIZE(sides); i++) {
		struct ibv_gid_entry e;
		uint32_t at = 0;

		/* A unique local address: fd00::/8. */
		while (ibv_query_gid_ex(sides[i]->ctx, 1, at, &e, 0) || e.gid.raw[0] != 0xfd ||
		       e.gid_type != IBV_GID_TYPE_ROCE_V2)
			CHECK(++at < 64);
		sides[i]->gid = e.gid;
		sides[i]->gid_index = (int)at;
	}
}

struct member {
	struct ibv_qp *qp;
	struct ibv_cq *cq;
	struct buf b;
};

static struct member new_member(struct side *s, uint32_t qkey)
{
	struct member m = { .b = new_buf(s->pd, N * 512) };

	m.qp = one_qp(s, IBV_QPT_UD, &m.cq);
	to_rts_ud(m.qp, qkey);
	for (size_t i = 0; i < N; i++) {
		struct ibv_sge sge = sge_of(&m.b, i * 512, 512);

		OK(try_recv(m.qp, i, &sge, 1));
	}
	return m;
}

static void gone(struct member *m)
{
	OK(ibv_destroy_qp(m->qp));
	OK(ibv_destroy_cq(m->cq));
	OK(ibv_dereg_mr(m->b.mr));
}

static struct ibv_ah *to_group(struct side *s)
{
	struct ibv_ah_attr attr = {
		.is_global = 1,
		.port_num = 1,
		.grh = { .dgid = group, .sgid_index = (uint8_t)s->gid_index, .hop_limit = 1 },
	};
	struct ibv_ah *ah = ibv_create_ah(s->pd, &attr);

	if (!ah)
		FAIL("ibv_create_ah");
	return ah;
}

static void say(struct side *s, struct member *from, struct ibv_ah *ah, uint32_t seed)
{
	struct buf b = new_buf(s->pd, LEN);
	struct ibv_sge sge = sge_of(&b, 0, LEN);
	struct ibv_send_wr *bad, wr = {
		.wr_id = seed, .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.ud = { .ah = ah, .remote_qpn = 0xffffff, .remote_qkey = QKEY },
	};

	for (size_t i = 0; i < LEN; i++)
		b.p[i] = pattern(i, seed);
	OK(ibv_post_send(from->qp, &wr, &bad));
	DONE(from->cq, seed);
	OK(ibv_dereg_mr(b.mr));
}

/* The next receive, `at`, holds what was said with this seed. */
static void hears(struct member *m, struct member *from, size_t at, uint32_t seed)
{
	struct ibv_wc wc = DONE(m->cq, at);

	EQ(wc.byte_len, GRH + LEN);
	EQ(wc.src_qp, from->qp->qp_num);
	CHECK(wc.wc_flags & IBV_WC_GRH);
	/* rxe tells none. */
	if (strncmp(ibv_get_device_name(m->qp->context->device), "rxe", 3))
		EQ(wc.sl, strchr(args[0], ':') ? 0x9 : 0xa);
	for (size_t i = 0; i < LEN; i++)
		EQ(m->b.p[at * 512 + GRH + i], pattern(i, seed));
}

static void hears_nothing(struct member *m)
{
	struct ibv_wc wc;

	CHECK(!poll_within(m->cq, &wc, QUIET));
}

/* Whoever is in the group hears what is said to it, once, and nobody else. */
static void members(void)
{
	struct member from, one, two, other_key, stranger;
	struct ibv_ah *ah;

	choose_gids();
	from = new_member(&B, QKEY);
	one = new_member(&A, QKEY);
	two = new_member(&A, QKEY);
	other_key = new_member(&A, QKEY + 1);
	stranger = new_member(&A, QKEY);
	ah = to_group(&B);
	say(&B, &from, ah, 1);
	OK(ibv_attach_mcast(one.qp, &group, 0));
	OK(ibv_attach_mcast(two.qp, &group, 0));
	OK(ibv_attach_mcast(other_key.qp, &group, 0));
	say(&B, &from, ah, 2);
	hears(&one, &from, 0, 2);
	hears(&two, &from, 0, 2);
	OK(ibv_detach_mcast(two.qp, &group, 0));
	say(&B, &from, ah, 3);
	hears(&one, &from, 1, 3);
	hears_nothing(&two);
	OK(ibv_detach_mcast(one.qp, &group, 0));
	OK(ibv_detach_mcast(other_key.qp, &group, 0));
	say(&B, &from, ah, 4);
	hears_nothing(&one);
	hears_nothing(&other_key);
	hears_nothing(&stranger);
	OK(ibv_destroy_ah(ah));
	gone(&from);
	gone(&one);
	gone(&two);
	gone(&other_key);
	gone(&stranger);
}

/* More than a softirq delivers to: they hear it later, all of it, in order; and so do those who are left. */
static void many(void)
{
	struct member from, m[40];
	struct ibv_ah *ah;

	choose_gids();
	from = new_member(&B, QKEY);
	ah = to_group(&B);
	for (size_t i = 0; i < ARRAY_SIZE(m); i++) {
		m[i] = new_member(&A, QKEY);
		OK(ibv_attach_mcast(m[i].qp, &group, 0));
	}
	for (uint32_t seed = 0; seed < N / 2; seed++)
		say(&B, &from, ah, seed);
	for (size_t i = 0; i < 20; i++)
		OK(ibv_detach_mcast(m[i].qp, &group, 0));
	for (uint32_t seed = N / 2; seed < N; seed++)
		say(&B, &from, ah, seed);
	for (size_t i = 20; i < ARRAY_SIZE(m); i++) {
		for (uint32_t seed = 0; seed < N; seed++)
			hears(&m[i], &from, seed, seed);
		OK(ibv_detach_mcast(m[i].qp, &group, 0));
	}
	OK(ibv_destroy_ah(ah));
	gone(&from);
	for (size_t i = 0; i < ARRAY_SIZE(m); i++)
		gone(&m[i]);
}

/* The sender's own host has members, too. */
static void same_host(void)
{
	struct member from, one;
	struct ibv_ah *ah;

	choose_gids();
	from = new_member(&A, QKEY);
	one = new_member(&A, QKEY);
	ah = to_group(&A);
	OK(ibv_attach_mcast(one.qp, &group, 0));
	say(&A, &from, ah, 7);
	hears(&one, &from, 0, 7);
	OK(ibv_detach_mcast(one.qp, &group, 0));
	OK(ibv_destroy_ah(ah));
	gone(&from);
	gone(&one);
}

static void errors(void)
{
	struct ibv_cq *cq;
	struct ibv_qp *rc;
	struct member m;
	union ibv_gid no_group = A.gid;

	choose_gids();
	m = new_member(&A, QKEY);
	rc = one_qp(&A, IBV_QPT_RC, &cq);
	FAILS(EINVAL, ibv_attach_mcast(rc, &group, 0));
	FAILS(EINVAL, ibv_attach_mcast(m.qp, &no_group, 0));
	FAILS(EINVAL, ibv_detach_mcast(m.qp, &group, 0));
	OK(ibv_attach_mcast(m.qp, &group, 0));
	OK(ibv_attach_mcast(m.qp, &group, 0));
	FAILS(EBUSY, ibv_destroy_qp(m.qp));
	OK(ibv_detach_mcast(m.qp, &group, 0));
	FAILS(EINVAL, ibv_detach_mcast(m.qp, &group, 0));
	gone(&m);
	OK(ibv_destroy_qp(rc));
	OK(ibv_destroy_cq(cq));
}

/* The process ends as a member. */
static void left_behind(void)
{
	struct member m;

	choose_gids();
	m = new_member(&A, QKEY);
	OK(ibv_attach_mcast(m.qp, &group, 0));
}

/* A's netdev goes from one namespace to the other. */
static void move(const char *from, const char *to)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "nsenter --net=/run/netns/%s ip link set v%s netns %s", from, args[-4], to);
	EQ(system(cmd), 0);
}

/* Whether it is in the group. */
static bool joined(void)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "nsenter --net=/run/netns/%s ip maddr show dev v%s | grep -qwF %s", args[-4], args[-4],
		 args[0]);
	return !system(cmd);
}

/*
 * A's netdev goes to B's namespace and comes back: it is in no group any more, and a membership of
 * before that ends is none of those of after.
 */
static void moved(void)
{
	struct member before, after;

	choose_gids();
	before = new_member(&A, QKEY);
	after = new_member(&A, QKEY);
	OK(ibv_attach_mcast(before.qp, &group, 0));
	CHECK(joined());
	move(args[-4], args[-2]);
	move(args[-2], args[-4]);
	CHECK(!joined());
	OK(ibv_attach_mcast(after.qp, &group, 0));
	CHECK(joined());
	OK(ibv_detach_mcast(before.qp, &group, 0));
	CHECK(joined());
	OK(ibv_attach_mcast(before.qp, &group, 0));
	OK(ibv_detach_mcast(after.qp, &group, 0));
	CHECK(joined());
	OK(ibv_detach_mcast(before.qp, &group, 0));
	CHECK(!joined());
	gone(&before);
	gone(&after);
}

static const struct test tests[] = {
	T(members), T(many), T(same_host), T(errors), T(left_behind), T(moved),
};

int main(int argc, char **argv)
{
	return run_roce_test(tests, ARRAY_SIZE(tests), argc, argv);
}
