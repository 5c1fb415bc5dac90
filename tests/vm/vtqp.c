// SPDX-License-Identifier: GPL-2.0
/* Tests of queue pairs and their states; test_qp.py runs them. */

#include "vtcm.h"

#include <netinet/in.h>
#include <sys/socket.h>

static void qp_limits(void)
{
	struct ibv_device_attr attr;
	struct ibv_qp *qp;
	struct ibv_qp_init_attr most = { .cap = { 64, 64, 32, 32, 512 } };
	struct ibv_qp_init_attr init;

	OK(ibv_query_device(open_device(), &attr));
	CHECK(attr.max_sge >= 32);
	CHECK(attr.max_sge_rd >= 32);
	init = most;
	qp = plain_qp(&init);
	CHECK(qp);
	CHECK(init.cap.max_send_wr >= 64 && init.cap.max_recv_wr >= 64);
	CHECK(init.cap.max_send_sge >= 32 && init.cap.max_recv_sge >= 32);
	CHECK(init.cap.max_inline_data >= 512);
	OK(ibv_destroy_qp(qp));

	init = most, init.cap.max_send_sge = attr.max_sge + 1;
	NULLS(EINVAL, plain_qp(&init));
	init = most, init.cap.max_recv_sge = attr.max_sge + 1;
	NULLS(EINVAL, plain_qp(&init));
	init = most, init.cap.max_inline_data = 1 << 20;
	NULLS(EINVAL, plain_qp(&init));
	init = most, init.cap.max_send_wr = attr.max_qp_wr + 1;
	NULLS(EINVAL, plain_qp(&init));
	init = most, init.cap.max_recv_wr = attr.max_qp_wr + 1;
	NULLS(EINVAL, plain_qp(&init));
	init = (struct ibv_qp_init_attr) { .cap = { attr.max_qp_wr, attr.max_qp_wr, 1, 1, 0 } };
	qp = plain_qp(&init);
	CHECK(qp);
	OK(ibv_destroy_qp(qp));
}

static void qp_type_refused(void)
{
	static const enum ibv_qp_type types[] = { IBV_QPT_UC, IBV_QPT_UD, IBV_QPT_RAW_PACKET };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		struct ibv_qp_init_attr init = { .qp_type = types[i], .cap = { 1, 1, 1, 1, 0 } };

		CHECK(!plain_qp(&init));
		CHECK(errno == EOPNOTSUPP || errno == EINVAL);
	}
}

static void qp_numbers_unguessable(void)
{
	uint32_t last = 0;
	int near = 0;

	for (int i = 0; i < 32; i++) {
		struct ibv_qp_init_attr init = { .cap = { 1, 1, 1, 1, 0 } };
		struct ibv_qp *qp = plain_qp(&init);

		CHECK(qp && qp->qp_num > 1);
		near += qp->qp_num - last < 1024;
		last = qp->qp_num;
	}
	CHECK(near < 3);
}

static void qp_query(void)
{
	struct opt o = { .swr = 17, .rwr = 19, .ssge = 3, .rsge = 5, .inl = 100 };
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;

	connect_ends(&c, &s, &o);
	OK(ibv_query_qp(c.qp, &attr, IBV_QP_STATE | IBV_QP_CAP | IBV_QP_ACCESS_FLAGS, &init));
	EQ(attr.qp_state, IBV_QPS_RTS);
	CHECK(attr.cap.max_send_wr >= 17 && attr.cap.max_recv_wr >= 19);
	CHECK(attr.cap.max_send_sge >= 3 && attr.cap.max_recv_sge >= 5);
	CHECK(attr.cap.max_inline_data >= 100);
	CHECK(attr.qp_access_flags & IBV_ACCESS_REMOTE_WRITE);
	CHECK(attr.qp_access_flags & IBV_ACCESS_REMOTE_READ);
	CHECK(init.send_cq == c.scq && init.recv_cq == c.rcq);
	EQ(init.qp_type, IBV_QPT_RC);
	OK(to_state(c.qp, IBV_QPS_ERR));
	OK(ibv_query_qp(c.qp, &attr, IBV_QP_STATE, &init));
	EQ(attr.qp_state, IBV_QPS_ERR);
}

static void qp_states_unconnected(void)
{
	struct ibv_qp_init_attr init = { .cap = { 4, 4, 1, 1, 0 } };
	struct ibv_qp *qp = plain_qp(&init);
	bool roce = is_roce(qp->context);

	if (roce) {
		static const enum ibv_qp_state others[] = {
			/* To INIT with a port and rights only. */
			IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS, IBV_QPS_SQD, IBV_QPS_SQE, IBV_QPS_ERR,
		};

		EQ(state_of(qp), IBV_QPS_RESET);
		for (size_t i = 0; i < ARRAY_SIZE(others); i++)
			FAILS(EINVAL, to_state(qp, others[i]));
		FAILS(EINVAL, try_recv(qp, 1, NULL, 0));
		EQ(state_of(qp), IBV_QPS_RESET);
		into_init(qp);
	}
	/* IDLE of RNIC verbs: receives may be posted at once. */
	EQ(state_of(qp), IBV_QPS_INIT);
	OK(try_recv(qp, 1, NULL, 0));
	OK(to_state(qp, IBV_QPS_INIT));
	FAILS(EINVAL, to_state(qp, IBV_QPS_RTS));
	FAILS(EINVAL, to_state(qp, IBV_QPS_SQD));
	EQ(state_of(qp), IBV_QPS_INIT);
	if (roce) {
		/* Not without a path. */
		FAILS(EINVAL, to_state(qp, IBV_QPS_RTR));
		EQ(state_of(qp), IBV_QPS_INIT);
	} else {
		OK(to_state(qp, IBV_QPS_RTR));
		/* Only a connection makes it ready to send. */
		FAILS(EINVAL, to_state(qp, IBV_QPS_RTS));
		EQ(state_of(qp), IBV_QPS_RTR);
	}
	OK(to_state(qp, IBV_QPS_ERR));
	EQ(state_of(qp), IBV_QPS_ERR);
	FAILS(EINVAL, to_state(qp, IBV_QPS_INIT));
	FAILS(EINVAL, to_state(qp, IBV_QPS_RTR));
	FAILS(EINVAL, to_state(qp, IBV_QPS_RTS));
	/* What disconnects drains first; nothing is left to drain. */
	if (!roce)
		OK(to_state(qp, IBV_QPS_SQD));
	EQ(state_of(qp), IBV_QPS_ERR);
	OK(to_state(qp, IBV_QPS_ERR));
	OK(to_state(qp, IBV_QPS_RESET));
	EQ(state_of(qp), roce ? IBV_QPS_RESET : IBV_QPS_INIT);
	FAILS(EINVAL, to_state(qp, IBV_QPS_RTS));
	into_init(qp);
	OK(ibv_destroy_qp(qp));
}

static void qp_states_connected(void)
{
	connect_ends(&c, &s, NULL);
	EQ(state_of(c.qp), IBV_QPS_RTS);
	EQ(state_of(s.qp), IBV_QPS_RTS);
	OK(to_state(c.qp, IBV_QPS_RTS));
	FAILS(EINVAL, to_state(c.qp, IBV_QPS_INIT));
	FAILS(EINVAL, to_state(c.qp, IBV_QPS_RTR));
	EQ(state_of(c.qp), IBV_QPS_RTS);
	OK(to_state(c.qp, IBV_QPS_ERR));
	if (is_roce(c.qp->context)) {
		/* Nothing goes over the wire for that. */
		usleep(QUIET * 1000);
		EQ(state_of(s.qp), IBV_QPS_RTS);
	} else {
		wait_state(s.qp, IBV_QPS_ERR);
	}
	FAILS(EINVAL, to_state(c.qp, IBV_QPS_RTS));
	OK(to_state(c.qp, IBV_QPS_RESET));
}

static void qp_wrong_current_state(void)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR, .cur_qp_state = IBV_QPS_RTR };

	connect_ends(&c, &s, NULL);
	FAILS(EINVAL, ibv_modify_qp(c.qp, &attr, IBV_QP_STATE | IBV_QP_CUR_STATE));
	EQ(state_of(c.qp), IBV_QPS_RTS);
	attr.cur_qp_state = IBV_QPS_RTS;
	/* InfiniBand has it on the way to RTS only. */
	if (is_roce(c.qp->context)) {
		FAILS(EINVAL, ibv_modify_qp(c.qp, &attr, IBV_QP_STATE | IBV_QP_CUR_STATE));
		EQ(state_of(c.qp), IBV_QPS_RTS);
		attr.qp_state = IBV_QPS_RTS;
	}
	OK(ibv_modify_qp(c.qp, &attr, IBV_QP_STATE | IBV_QP_CUR_STATE));
	EQ(state_of(c.qp), attr.qp_state);
}

static void drains(bool event)
{
	struct ibv_qp_attr sqd = { .qp_state = IBV_QPS_SQD, .en_sqd_async_notify = event };
	struct ibv_wc wc;
	struct buf a, b;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 1 << 20);
	b = new_buf(s.pd, 1 << 20);
	fill(a.p, a.len, 7);
	for (int i = 0; i < 16; i++) {
		struct ibv_sge sge = sge_of(&a, i << 16, 1 << 16);
		struct work w = { i, IBV_WR_RDMA_WRITE, SIGNALED, &sge, 1,
				  (uintptr_t)b.p + (i << 16), b.mr->rkey };

		OK(try_post(c.qp, &w));
	}
	OK(ibv_modify_qp(c.qp, &sqd, IBV_QP_STATE | IBV_QP_EN_SQD_ASYNC_NOTIFY));
	/* What was posted before is done, not flushed. */
	for (int i = 0; i < 16; i++) {
		CHECK(poll_within(c.scq, &wc, SOON));
		EQ(wc.wr_id, i);
		EQ(wc.status, IBV_WC_SUCCESS);
	}
	CM_EXPECT(s.ch, DISCONNECTED);
	wait_state(s.qp, IBV_QPS_ERR);
	VERIFY(b.p, b.len, 7);
	EQ(async_within(c.qp->context, IBV_EVENT_SQ_DRAINED, c.qp, event ? SOON : QUIET), event);
}

static void qp_sqd_drains(void)
{
	drains(false);
}

static void qp_sqd_event(void)
{
	drains(true);
}

static void qp_reset_forgets(void)
{
	struct ibv_qp_init_attr init = { .cap = { 8, 8, 1, 1, 0 } };
	struct ibv_qp *qp = plain_qp(&init);

	into_init(qp);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 8; i++)
			OK(try_recv(qp, i, NULL, 0));
		if (round)
			FAILS(ENOMEM, try_recv(qp, 9, NULL, 0));
		OK(to_state(qp, IBV_QPS_RESET));
		NOTHING(qp->recv_cq);
		into_init(qp);
	}
	/* It can be used again. */
	OK(try_recv(qp, 77, NULL, 0));
	OK(to_state(qp, IBV_QPS_ERR));
	DONE_WITH(qp->recv_cq, 77, WR_FLUSH_ERR);
}

static void qp_reset_connected(void)
{
	struct ibv_wc wc;
	struct buf b;

	connect_ends(&c, &s, NULL);
	b = new_buf(c.pd, 4096);
	for (int i = 0; i < 8; i++)
		recv_buf(c.qp, i, &b, b.len);
	OK(to_state(c.qp, IBV_QPS_RESET));
	into_init(c.qp);
	/* RESET goes through ERROR: what was flushed was so before the return. */
	while (ibv_poll_cq(c.rcq, 1, &wc) > 0)
		EQ(wc.status, IBV_WC_WR_FLUSH_ERR);
	recv_buf(c.qp, 77, &b, b.len);
	/* Of RoCE it is the peer that ends it: a QP is not known to the CM. */
	if (is_roce(c.qp->context))
		OK(rdma_disconnect(s.id));
	/* The end of the connection comes later, and is none of the QP's any more. */
	CM_EXPECT(c.ch, DISCONNECTED);
	NOTHING(c.rcq);
	EQ(state_of(c.qp), IBV_QPS_INIT);
	OK(to_state(c.qp, IBV_QPS_ERR));
	DONE_WITH(c.rcq, 77, WR_FLUSH_ERR);
}

/* Has `c.qp` connect by a cm_id that is not the one it was made with; a new `s` accepts. The cm_id's events. */
static struct rdma_event_channel *connect_qp(void)
{
	struct rdma_conn_param param = param_of(&defaults);
	struct rdma_cm_event *ev;
	struct end again = {};

	if (!listener) {
		listen_ch = new_channel();
		listener = listen_on(listen_ch, 16);
	}
	resolve(&again, ntohs(rdma_get_src_port(listener)));
	param.qp_num = c.qp->qp_num;
	OK(rdma_connect(again.id, &param));
	ev = CM_EVENT(listen_ch, CONNECT_REQUEST);
	memset(&s, 0, sizeof(s));
	s.id = ev->id;
	OK(rdma_ack_cm_event(ev));
	s.ch = new_channel();
	OK(rdma_migrate_id(s.id, s.ch));
	make_qp(&s, &defaults, true);
	OK(rdma_accept(s.id, &param));
	return again.ch;
}

static void is_connected(struct rdma_event_channel *ch)
{
	CM_EXPECT(ch, ESTABLISHED);
	CM_EXPECT(s.ch, ESTABLISHED);
	EQ(state_of(c.qp), IBV_QPS_RTS);
	talk();
}

static void qp_rtr(void)
{
	struct ibv_qp_init_attr init = { .cap = { 8, 8, 4, 4, 0 } };
	struct ibv_qp *qp = plain_qp(&init);

	OK(to_state(qp, IBV_QPS_RTR));
	OK(try_recv(qp, 1, NULL, 0));
	OK(to_state(qp, IBV_QPS_RESET));
	/* RESET is where a QP begins, which is INIT here. */
	EQ(state_of(qp), IBV_QPS_INIT);
	NOTHING(qp->recv_cq);
	/* To be connected is as good from RTR as from INIT. */
	OK(to_state(qp, IBV_QPS_RTR));
	c = (struct end) { .qp = qp, .pd = qp->pd, .scq = qp->send_cq, .rcq = qp->recv_cq };
	is_connected(connect_qp());
	FAILS(EINVAL, to_state(qp, IBV_QPS_RTR));
}

static void qp_connected_again(void)
{
	struct rdma_event_channel *ch;
	struct rdma_cm_event *ev;

	connect_ends(&c, &s, NULL);
	ch = c.ch;
	for (int i = 0; i < 3; i++) {
		talk();
		OK(to_state(c.qp, IBV_QPS_ERR));
		CM_EXPECT(ch, DISCONNECTED);
		CM_EXPECT(s.ch, DISCONNECTED);
		EQ(state_of(s.qp), IBV_QPS_ERR);
		/* What has failed is not connected: the attempt ends, and the peer's end with it. */
		ch = connect_qp();
		ev = CM_EVENT(ch, CONNECT_ERROR);
		CHECK(ev->status < 0);
		OK(rdma_ack_cm_event(ev));
		CM_EXPECT(s.ch, ESTABLISHED);
		CM_EXPECT(s.ch, DISCONNECTED);
		EQ(state_of(c.qp), IBV_QPS_ERR);
		OK(to_state(c.qp, IBV_QPS_RESET));
		EQ(state_of(c.qp), IBV_QPS_INIT);
		ch = connect_qp();
		is_connected(ch);
	}
}

/*
 * Connects `c` to a peer that takes what comes and answers nothing: what waits for
 * an answer waits for ever. Its socket.
 */
static int connect_to_mute(void)
{
	/* Revision 2: with CRCs, 16 READs each way; the initiator begins with a WRITE of nothing. */
	static const uint8_t reply[24] = "MPA ID Rep Frame\x50\x02\x00\x04\x80\x10\x80\x10";
	struct rdma_conn_param param = param_of(&defaults);
	struct sockaddr_in at;
	socklen_t len = sizeof(at);
	uint8_t request[24];
	int fd, peer;

	fd = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(fd >= 0);
	OK(bind(fd, addr_port(address, 0), sizeof(at)));
	OK(listen(fd, 1));
	OK(getsockname(fd, (struct sockaddr *)&at, &len));
	memset(&c, 0, sizeof(c));
	resolve(&c, ntohs(at.sin_port));
	make_qp(&c, &defaults, false);
	OK(rdma_connect(c.id, &param));
	peer = accept(fd, NULL, NULL);
	CHECK(peer >= 0);
	EQ(recv(peer, request, sizeof(request), MSG_WAITALL), sizeof(request));
	CHECK(!memcmp(request, "MPA ID Req Frame", 16));
	EQ(send(peer, reply, sizeof(reply), 0), sizeof(reply));
	CM_EXPECT(c.ch, ESTABLISHED);
	close(fd);
	return peer;
}

/* A QP in SQD, which stays there: its READ is not answered. The peer's socket. */
static int into_sqd(void)
{
	int peer = connect_to_mute();
	struct buf a = new_buf(c.pd, 64);

	rdma_buf(c.qp, 1, IBV_WR_RDMA_READ, &a, 64, 0x1000, 1, SIGNALED);
	send_buf(c.qp, 2, &a, 64, SIGNALED);
	OK(to_state(c.qp, IBV_QPS_SQD));
	NOTHING(c.scq);
	EQ(state_of(c.qp), IBV_QPS_SQD);
	return peer;
}

/*
 * The peer of above got all that was posted, in whole FPDUs, and then the end of the
 * stream: an empty WRITE, the Read Request, the SEND.
 */
static void all_was_delivered(int peer)
{
	size_t total = 0;
	uint8_t data[512];
	ssize_t n;

	do {
		CHECK(readable(peer, SOON));
		n = recv(peer, data, sizeof(data), 0);
		CHECK(n >= 0);
		total += n;
	} while (n);
	EQ(total, 20 + 52 + 88);
	close(peer);
}

static void qp_sqd_stays(void)
{
	into_sqd();
	OK(to_state(c.qp, IBV_QPS_SQD));
	/* It closes the connection, so that there is no way back: the CLOSING of RNIC verbs. */
	FAILS(EINVAL, to_state(c.qp, IBV_QPS_RTS));
	FAILS(EINVAL, to_state(c.qp, IBV_QPS_INIT));
	FAILS(EINVAL, to_state(c.qp, IBV_QPS_RTR));
	NOTHING(c.scq);
	EQ(state_of(c.qp), IBV_QPS_SQD);
	CHECK(!readable(c.ch->fd, 0));
	CHECK(!async_within(c.qp->context, IBV_EVENT_SQ_DRAINED, c.qp, 0));
}

static void qp_sqd_error(void)
{
	struct buf b;
	int peer = into_sqd();

	b = new_buf(c.pd, 64);
	recv_buf(c.qp, 3, &b, 64);
	OK(to_state(c.qp, IBV_QPS_ERR));
	EQ(state_of(c.qp), IBV_QPS_ERR);
	DONE_WITH(c.scq, 1, WR_FLUSH_ERR);
	/* It was sent; but it is behind one that failed. */
	DONE_WITH(c.scq, 2, WR_FLUSH_ERR);
	DONE_WITH(c.rcq, 3, WR_FLUSH_ERR);
	CM_EXPECT(c.ch, DISCONNECTED);
	all_was_delivered(peer);
	NOTHING(c.scq);
	FAILS(EINVAL, to_state(c.qp, IBV_QPS_RTS));
}

static void qp_sqd_reset(void)
{
	int peer = into_sqd();

	OK(to_state(c.qp, IBV_QPS_RESET));
	EQ(state_of(c.qp), IBV_QPS_INIT);
	CM_EXPECT(c.ch, DISCONNECTED);
	all_was_delivered(peer);
	/* Nothing of before completes. */
	NOTHING(c.scq);
	is_connected(connect_qp());
}

static const struct test tests[] = {
	T(qp_limits), T(qp_type_refused), T(qp_numbers_unguessable), T(qp_query),
	T(qp_states_unconnected), T(qp_states_connected), T(qp_wrong_current_state),
	T(qp_sqd_drains), T(qp_sqd_event), T(qp_sqd_stays), T(qp_sqd_error), T(qp_sqd_reset), T(qp_reset_forgets),
	T(qp_reset_connected), T(qp_rtr), T(qp_connected_again),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
