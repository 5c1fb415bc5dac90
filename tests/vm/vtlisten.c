// SPDX-License-Identifier: GPL-2.0
/* Tests of what a listener is told to be: backlog, type of service, device. test_cm.py and test_link.py run them. */

#include "vtcm.h"

#define ASKING 10

static struct end asking[ASKING];

/* Eight of the ten are refused, whichever; two wait. Of nobody a request was taken yet. */
static void all_but_two_refused(void)
{
	long end = now_ms() + SOON;
	int left = ASKING;

	while (left > 2) {
		for (int i = 0; i < ASKING; i++) {
			struct end *e = &asking[i];
			struct rdma_cm_event *ev;

			if (!e->id || !readable(e->ch->fd, 0))
				continue;
			ev = CM_EVENT(e->ch, REJECTED);
			/*
			 * rdma_ucm says no, which is a rejection; or iw_cm has no place for the request,
			 * and the driver closes the connection.
			 */
			if (ev->status != -ECONNREFUSED && ev->status != -ECONNRESET)
				FAIL("rejected with status %d", ev->status);
			OK(rdma_ack_cm_event(ev));
			wait_state(e->qp, IBV_QPS_ERR);
			close_end(e);
			left--;
		}
		if (now_ms() > end)
			FAIL("%d requests wait, with a backlog of 2", left);
		usleep(5000);
	}
	for (int i = 0; i < ASKING; i++)
		CHECK(!asking[i].id || !readable(asking[i].ch->fd, QUIET));
}

/* ARGS: what becomes of those who wait, "accept" or "reject". */
static void backlog_full(void)
{
	bool accept = !strcmp(args[0], "accept");
	struct end others[2];

	listen_ch = new_channel();
	listener = listen_on(listen_ch, 2);
	for (int i = 0; i < ASKING; i++)
		request(&asking[i], &plain);
	all_but_two_refused();
	for (int i = 0; i < 2; i++) {
		OK(rdma_ack_cm_event(incoming(&others[i])));
		if (accept) {
			accept_end(&others[i], &plain);
		} else {
			OK(rdma_reject(others[i].id, NULL, 0));
			OK(rdma_destroy_id(others[i].id));
		}
	}
	for (int i = 0; i < ASKING; i++) {
		if (!asking[i].id)
			continue;
		if (accept)
			CM_EXPECT(asking[i].ch, ESTABLISHED);
		else
			CM_EXPECT(asking[i].ch, REJECTED);
	}
	for (int i = 0; accept && i < 2; i++)
		CM_EXPECT(others[i].ch, ESTABLISHED);
	/* Of those who were refused nothing comes. */
	CHECK(!readable(listen_ch->fd, QUIET));
	/* As many as before may wait again. */
	for (int i = 0; i < 3; i++) {
		connect_ends(&c, &s, NULL);
		talk();
	}
}

static void set_tos(struct rdma_cm_id *id, uint8_t tos)
{
	OK(rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, &tos, sizeof(tos)));
}

/* ARGS: who asks for it, "active" or "passive"; TOS; where to listen. Whoever started it looks at the packets. */
static void tos(void)
{
	bool passive = !strcmp(args[0], "passive");
	uint8_t tos = (uint8_t)strtoul(args[1], NULL, 0);

	listen_ch = new_channel();
	OK(rdma_create_id(listen_ch, &listener, NULL, RDMA_PS_TCP));
	if (passive)
		set_tos(listener, tos);
	OK(rdma_bind_addr(listener, addr_port(args[2], 0)));
	OK(rdma_listen(listener, 4));
	resolve(&c, port());
	if (!passive)
		set_tos(c.id, tos);
	make_qp(&c, &defaults, false);
	OK(rdma_connect(c.id, (struct rdma_conn_param *)&plain));
	OK(rdma_ack_cm_event(incoming(&s)));
	accept_end(&s, &plain);
	CM_EXPECT(c.ch, ESTABLISHED);
	CM_EXPECT(s.ch, ESTABLISHED);
	talk();
	OK(rdma_disconnect(c.id));
	CM_EXPECT(c.ch, DISCONNECTED);
	CM_EXPECT(s.ch, DISCONNECTED);
	printf("port %u\n", port());
}

static void on_device(const struct rdma_cm_id *id, const char *name)
{
	CHECK(id->verbs);
	if (strcmp(ibv_get_device_name(id->verbs->device), name))
		FAIL("on %s, not on %s", ibv_get_device_name(id->verbs->device), name);
}

/* ARGS: the device of ADDRESS; another address, and its device. */
static void bound_to_device(void)
{
	const char *local = address;
	struct rdma_cm_event *ev;
	struct rdma_cm_id *id;

	start_listener();
	on_device(listener, args[0]);
	OK(rdma_create_id(listen_ch, &id, NULL, RDMA_PS_TCP));
	OK(rdma_bind_addr(id, addr_port(args[1], 0)));
	on_device(id, args[2]);
	OK(rdma_destroy_id(id));
	/* To be bound to no address is to be bound to no device. */
	OK(rdma_create_id(listen_ch, &id, NULL, RDMA_PS_TCP));
	OK(rdma_bind_addr(id, addr_port("0.0.0.0", 0)));
	CHECK(!id->verbs);
	OK(rdma_destroy_id(id));
	/* Nobody listens on the other link's address. */
	address = args[1];
	request(&c, &plain);
	on_device(c.id, args[2]);
	ev = CM_EVENT(c.ch, REJECTED);
	EQ(ev->status, -ECONNREFUSED);
	OK(rdma_ack_cm_event(ev));
	close_end(&c);
	CHECK(!readable(listen_ch->fd, QUIET));
	address = local;
	connect_ends(&c, &s, NULL);
	on_device(c.id, args[0]);
	on_device(s.id, args[0]);
	talk();
}

static const struct test tests[] = {
	T(backlog_full), T(tos), T(bound_to_device),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
