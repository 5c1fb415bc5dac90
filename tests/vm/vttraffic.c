// SPDX-License-Identifier: GPL-2.0
/*
 * Verified transfers between two processes; test_traffic.py runs them.
 *
 *     vttraffic server ADDRESS PORT QPS SIZE COUNT BOTH
 *     vttraffic client ADDRESS PORT QPS SIZE COUNT BOTH
 *
 * On each of QPS connections, COUNT times: WRITE of SIZE bytes into the peer's
 * memory, READ of them back, which must bring the same, then a SEND of them,
 * which the peer compares with what it must be. SIZE 0: lengths around those at
 * which messages are cut into segments. BOTH: both ends do that at once.
 */

#include "vt.h"

#define MAX_QPS 128

struct region {
	uint64_t addr;
	uint32_t rkey;
	uint32_t pad;
};

static struct peer {
	struct end e;
	/* Where the peer writes, what is sent, what was read, what was received. */
	struct buf target, from, back, msg[2];
	struct region remote;
	int sent, received;
} peers[MAX_QPS];

static int port, qps, count;
static size_t size;
static bool both;

static const size_t edges[] = {
	1, 2, 3, 4, 5, 15, 16, 17, 1280, 1364, 1400, 1407, 1408, 1409, 1423, 1424, 1425,
	1428, 1436, 1440, 1444, 1448, 1460, 1500, 2816, 2847, 2848, 2849, 4095, 4096, 4097,
	8900, 8908, 8920, 8940, 8948, 8960, 9000, 16383, 16384, 17855, 17856, 32767, 32768,
	65471, 65480, 65516, 65535, 65536, 65537, 131071, 131072, 131073,
};

static size_t len_of(int i)
{
	return size ?: edges[i % ARRAY_SIZE(edges)];
}

static size_t max_len(void)
{
	return size ?: 131073;
}

static uint32_t seed_of(int qp, int i, bool server)
{
	return (uint32_t)(qp * 1000003 + i * 2 + server);
}

static void read_args(void)
{
	port = atoi(args[0]);
	qps = atoi(args[1]);
	size = strtoull(args[2], NULL, 0);
	count = atoi(args[3]);
	both = atoi(args[4]);
	CHECK(qps > 0 && qps <= MAX_QPS);
	alarm(300);
}

static void prepare(struct peer *p, bool server)
{
	struct opt o = { .swr = 8, .rwr = 4, .cqe = 32 };

	make_qp(&p->e, &o, server);
	p->target = new_buf(p->e.pd, max_len());
	p->from = new_buf(p->e.pd, max_len());
	p->back = new_buf(p->e.pd, max_len());
	for (int i = 0; i < 2; i++) {
		p->msg[i] = new_buf(p->e.pd, max_len());
		recv_buf(p->e.qp, i, &p->msg[i], max_len());
	}
}

static struct rdma_conn_param give(const struct peer *p, struct region *r)
{
	*r = (struct region) { (uintptr_t)p->target.p, p->target.mr->rkey, 0 };
	return (struct rdma_conn_param) {
		.private_data = r, .private_data_len = sizeof(*r),
		.initiator_depth = 8, .responder_resources = 8, .retry_count = 7,
	};
}

static void take(struct peer *p, const struct rdma_cm_event *ev)
{
	/* ib_cm has a fixed length, and fills up. */
	CHECK(ev->param.conn.private_data_len >= sizeof(p->remote));
	memcpy(&p->remote, ev->param.conn.private_data, sizeof(p->remote));
}

/*
 * Takes what the peer has sent. Two receives are posted. An end sends its next
 * message when it has one of the peer in return for the last, which is an empty
 * one where only the client transfers; so there is always a receive.
 */
static void receive(struct peer *p, int qp, bool server)
{
	struct ibv_wc wc;

	/* Behind the last one: what the end of the connection flushes. */
	while (p->received < count && ibv_poll_cq(p->e.rcq, 1, &wc) == 1) {
		struct buf *msg = &p->msg[p->received % 2];

		if (wc.status != IBV_WC_SUCCESS)
			FAIL("message %d: %s", p->received, ibv_wc_status_str(wc.status));
		EQ(wc.wr_id, p->received);
		EQ(wc.byte_len, both || server ? len_of(p->received) : 0);
		VERIFY(msg->p, wc.byte_len, seed_of(qp, p->received, !server));
		recv_buf(p->e.qp, p->received + 2, msg, max_len());
		p->received++;
		if (!both && server) {
			send_buf(p->e.qp, 4, &p->from, 0, SIGNALED);
			DONE(p->e.scq, 4);
		}
	}
}

static void start(struct peer *p, int qp, bool server)
{
	size_t len = len_of(p->sent);

	fill(p->from.p, len, seed_of(qp, p->sent, server));
	memset(p->back.p, 0, len);
	rdma_buf(p->e.qp, 1, IBV_WR_RDMA_WRITE, &p->from, len, p->remote.addr, p->remote.rkey,
		 SIGNALED);
	rdma_buf(p->e.qp, 2, IBV_WR_RDMA_READ, &p->back, len, p->remote.addr, p->remote.rkey,
		 SIGNALED);
}

static void work(bool server)
{
	bool active = both || !server;

	for (int i = 0; i < count; i++) {
		for (int q = 0; q < qps && active; q++)
			start(&peers[q], q, server);
		for (int q = 0; q < qps && active; q++) {
			struct peer *p = &peers[q];

			DONE(p->e.scq, 1);
			DONE(p->e.scq, 2);
			VERIFY(p->back.p, len_of(i), seed_of(q, i, server));
			send_buf(p->e.qp, 3, &p->from, len_of(i), SIGNALED);
			DONE(p->e.scq, 3);
			p->sent++;
		}
		for (int q = 0; q < qps; q++) {
			struct peer *p = &peers[q];
			long end = now_ms() + 4 * SOON;

			while (p->received <= i) {
				receive(p, q, server);
				CHECK(now_ms() < end);
				usleep(100);
			}
		}
	}
}

/* The client ends the connections, and both ends are told; but with VT_NO_GOODBYE both just end. */
static void goodbye(bool server)
{
	if (getenv("VT_NO_GOODBYE"))
		return;
	for (int q = 0; q < qps && !server; q++)
		OK(rdma_disconnect(peers[q].e.id));
	for (int q = 0; q < qps; q++)
		CM_EXPECT(peers[q].e.ch, DISCONNECTED);
}

static void server(void)
{
	struct rdma_cm_event *ev;

	read_args();
	listen_ch = new_channel();
	OK(rdma_create_id(listen_ch, &listener, NULL, RDMA_PS_TCP));
	OK(rdma_bind_addr(listener, addr_port(address, port)));
	OK(rdma_listen(listener, qps));
	puts("listening");
	for (int q = 0; q < qps; q++) {
		struct peer *p = &peers[q];
		struct rdma_conn_param param;
		struct region r;

		ev = CM_EVENT(listen_ch, CONNECT_REQUEST);
		p->e.id = ev->id;
		p->e.ch = new_channel();
		take(p, ev);
		OK(rdma_ack_cm_event(ev));
		OK(rdma_migrate_id(p->e.id, p->e.ch));
		prepare(p, true);
		param = give(p, &r);
		OK(rdma_accept(p->e.id, &param));
		CM_EXPECT(p->e.ch, ESTABLISHED);
	}
	work(true);
	goodbye(true);
	puts("verified");
}

static void client(void)
{
	struct rdma_cm_event *ev;

	read_args();
	for (int q = 0; q < qps; q++) {
		struct peer *p = &peers[q];
		struct rdma_conn_param param;
		struct region r;

		resolve(&p->e, port);
		prepare(p, false);
		param = give(p, &r);
		OK(rdma_connect(p->e.id, &param));
		ev = CM_EVENT(p->e.ch, ESTABLISHED);
		take(p, ev);
		OK(rdma_ack_cm_event(ev));
	}
	work(false);
	goodbye(false);
	puts("verified");
}

static const struct test tests[] = { { "server", server }, { "client", client } };

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
