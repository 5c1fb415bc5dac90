// SPDX-License-Identifier: GPL-2.0
/* Tests of connections; test_cm.py and test_link.py run them. */

#include "vtcm.h"

#include <netinet/in.h>
#include <sys/socket.h>

static void connects(void)
{
	connect_ends(&c, &s, NULL);
	EQ(state_of(c.qp), IBV_QPS_RTS);
	EQ(state_of(s.qp), IBV_QPS_RTS);
	talk();
	/* Both know who the other is. */
	CHECK(rdma_get_dst_port(c.id) == rdma_get_src_port(listener));
	CHECK(rdma_get_src_port(c.id) == rdma_get_dst_port(s.id));
}

/* Listens on a wildcard: of the address's family, of IPv6 for both, or of IPv6 alone. */
static void wildcard(void)
{
	bool v6only = args[0] && !strcmp(args[0], "v6only");
	const char *any = args[0] ? "::" : strchr(address, ':') ? "::" : "0.0.0.0";
	int on = 1;

	listen_ch = new_channel();
	OK(rdma_create_id(listen_ch, &listener, NULL, RDMA_PS_TCP));
	if (v6only)
		OK(rdma_set_option(listener, RDMA_OPTION_ID, RDMA_OPTION_ID_AFONLY, &on, sizeof(on)));
	OK(rdma_bind_addr(listener, addr_port(any, 0)));
	OK(rdma_listen(listener, 4));
	if (v6only && !strchr(address, ':')) {
		request(&c, &plain);
		CM_EXPECT(c.ch, REJECTED);
		return;
	}
	connect_ends(&c, &s, NULL);
	talk();
}

/* A wildcard for both families takes connections to each address that follows. */
static void wildcard_many(void)
{
	listen_ch = new_channel();
	OK(rdma_create_id(listen_ch, &listener, NULL, RDMA_PS_TCP));
	OK(rdma_bind_addr(listener, addr_port("::", 0)));
	OK(rdma_listen(listener, 4));
	for (char **a = args; *a; a++) {
		address = *a;
		connect_ends(&c, &s, NULL);
		talk();
		printf("%s: %s %s\n", address, ibv_get_device_name(c.id->verbs->device),
		       ibv_get_device_name(s.id->verbs->device));
	}
}

static void private_data(void)
{
	uint8_t out[255], back[255];

	start_listener();
	for (int n = 0; n <= 255; n += n < 5 || n > 250 ? 1 : 35) {
		struct rdma_conn_param param = plain;
		struct rdma_cm_event *ev;

		fill(out, 255, n);
		fill(back, 255, n + 1000);
		param.private_data = out;
		param.private_data_len = n;
		request(&c, &param);
		ev = incoming(&s);
		if (ev->param.conn.private_data_len != n)
			FAIL("%d of %d bytes arrive", ev->param.conn.private_data_len, n);
		VERIFY(ev->param.conn.private_data, n, n);
		OK(rdma_ack_cm_event(ev));
		param.private_data = back;
		/* The other way around another length. */
		param.private_data_len = 255 - n;
		accept_end(&s, &param);
		ev = CM_EVENT(c.ch, ESTABLISHED);
		if (ev->param.conn.private_data_len != 255 - n)
			FAIL("%d of %d bytes come back", ev->param.conn.private_data_len, 255 - n);
		VERIFY(ev->param.conn.private_data, 255 - n, n + 1000);
		OK(rdma_ack_cm_event(ev));
		CM_EXPECT(s.ch, ESTABLISHED);
		close_end(&c);
		close_end(&s);
	}
}

static void reject(void)
{
	static const int sizes[] = { 0, 1, 55, 148, 255 };
	uint8_t why[255];

	start_listener();
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct rdma_cm_event *ev;

		fill(why, sizeof(why), i);
		request(&c, &plain);
		ev = incoming(&s);
		OK(rdma_reject(s.id, why, sizes[i]));
		OK(rdma_ack_cm_event(ev));
		OK(rdma_destroy_id(s.id));
		ev = CM_EVENT(c.ch, REJECTED);
		EQ(ev->status, -ECONNREFUSED);
		EQ(ev->param.conn.private_data_len, sizes[i]);
		VERIFY(ev->param.conn.private_data, sizes[i], i);
		OK(rdma_ack_cm_event(ev));
		close_end(&c);
	}
}

static void refused(void)
{
	struct rdma_cm_event *ev;

	start_listener();
	/* Its port is free again. */
	resolve(&c, port());
	OK(rdma_destroy_id(listener));
	make_qp(&c, &defaults, false);
	OK(rdma_connect(c.id, (struct rdma_conn_param *)&plain));
	ev = CM_EVENT(c.ch, REJECTED);
	EQ(ev->status, -ECONNREFUSED);
	OK(rdma_ack_cm_event(ev));
	close_end(&c);
}

/* Both ends hear of it once, and are in error. */
static void ended(void)
{
	CM_EXPECT(c.ch, DISCONNECTED);
	CM_EXPECT(s.ch, DISCONNECTED);
	wait_state(c.qp, IBV_QPS_ERR);
	wait_state(s.qp, IBV_QPS_ERR);
	CHECK(!readable(c.ch->fd, QUIET));
	CHECK(!readable(s.ch->fd, 0));
}

static void disconnect_active(void)
{
	connect_ends(&c, &s, NULL);
	talk();
	OK(rdma_disconnect(c.id));
	ended();
}

static void disconnect_passive(void)
{
	connect_ends(&c, &s, NULL);
	talk();
	OK(rdma_disconnect(s.id));
	ended();
}

static void disconnect_both(void)
{
	connect_ends(&c, &s, NULL);
	OK(rdma_disconnect(c.id));
	OK(rdma_disconnect(s.id));
	ended();
}

static void destroyed_by_peer(void)
{
	for (int i = 0; i < 2; i++) {
		struct end *one = i ? &s : &c, *other = i ? &c : &s;

		connect_ends(&c, &s, NULL);
		close_end(one);
		CM_EXPECT(other->ch, DISCONNECTED);
		wait_state(other->qp, IBV_QPS_ERR);
		close_end(other);
	}
}

static void depths(void)
{
	struct rdma_conn_param param = plain;
	struct rdma_cm_event *ev;

	start_listener();
	param.initiator_depth = 3;
	param.responder_resources = 5;
	request(&c, &param);
	ev = incoming(&s);
	/* As the responder sees it: what it may initiate, what it must respond to. */
	EQ(ev->param.conn.initiator_depth, 5);
	EQ(ev->param.conn.responder_resources, 3);
	OK(rdma_ack_cm_event(ev));
	param.initiator_depth = 2;
	param.responder_resources = 3;
	accept_end(&s, &param);
	ev = CM_EVENT(c.ch, ESTABLISHED);
	/* The peer takes 3 at a time; of the 5 that we take it will use 2. */
	EQ(ev->param.conn.initiator_depth, 3);
	CHECK(ev->param.conn.responder_resources >= 2 && ev->param.conn.responder_resources <= 5);
	OK(rdma_ack_cm_event(ev));
	CM_EXPECT(s.ch, ESTABLISHED);
	talk();
}

static void address_in_use(void)
{
	struct rdma_cm_id *second;

	start_listener();
	OK(rdma_create_id(listen_ch, &second, NULL, RDMA_PS_TCP));
	FAILS(EADDRINUSE, rdma_bind_addr(second, addr_port(address, port())));
	OK(rdma_destroy_id(second));
}

static int tcp_socket(void)
{
	int fd = socket(strchr(address, ':') ? AF_INET6 : AF_INET, SOCK_STREAM, 0);

	CHECK(fd >= 0);
	return fd;
}

static socklen_t addr_len(void)
{
	return strchr(address, ':') ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

/* The port is TCP's, and TCP knows it. */
static void port_is_tcp(void)
{
	struct rdma_cm_id *id;
	struct sockaddr *sa;
	int on = 1, fd;

	start_listener();
	fd = tcp_socket();
	FAILS(EADDRINUSE, bind(fd, addr_port(address, port()), addr_len()));
	sa = addr_port(address, port());
	OK(rdma_destroy_id(listener));
	OK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	OK(bind(fd, sa, addr_len()));
	OK(listen(fd, 1));
	/* And the other way around. */
	OK(rdma_create_id(listen_ch, &id, NULL, RDMA_PS_TCP));
	if (!rdma_bind_addr(id, sa))
		FAILS(EADDRINUSE, rdma_listen(id, 1));
	else
		EQ(errno, EADDRINUSE);
	OK(rdma_destroy_id(id));
}

static void backlog(void)
{
	struct end ends[8], others[8];

	start_listener();
	for (int i = 0; i < 8; i++)
		request(&ends[i], &plain);
	usleep(300000);
	for (int i = 0; i < 8; i++) {
		OK(rdma_ack_cm_event(incoming(&others[i])));
		accept_end(&others[i], &plain);
	}
	for (int i = 0; i < 8; i++) {
		CM_EXPECT(ends[i].ch, ESTABLISHED);
		CM_EXPECT(others[i].ch, ESTABLISHED);
	}
}

static void request_destroyed(void)
{
	start_listener();
	request(&c, &plain);
	OK(rdma_ack_cm_event(incoming(&s)));
	OK(rdma_destroy_id(s.id));
	CM_EXPECT(c.ch, REJECTED);
	wait_state(c.qp, IBV_QPS_ERR);
	close_end(&c);
}

static void listener_destroyed(void)
{
	struct end ends[4];

	start_listener();
	for (int i = 0; i < 4; i++)
		request(&ends[i], &plain);
	/* One is known to its consumer, the others are on their way somewhere. */
	OK(rdma_ack_cm_event(incoming(&s)));
	OK(rdma_destroy_id(listener));
	OK(rdma_destroy_id(s.id));
	for (int i = 0; i < 4; i++) {
		struct rdma_cm_event *ev;

		/*
		 * Requests that iw_cm has in its queue when the listener goes it drops without a word to anybody
		 * (IWCM_F_DROP_EVENTS): who made them gives up by itself.
		 */
		if (!readable(ends[i].ch->fd, 2 * SOON))
			FAIL("end %d was told nothing", i);
		OK(rdma_get_cm_event(ends[i].ch, &ev));
		if (ev->event != RDMA_CM_EVENT_REJECTED &&
		    (ev->event != RDMA_CM_EVENT_UNREACHABLE || ev->status != -ETIMEDOUT))
			FAIL("end %d: %s, status %d", i, rdma_event_str(ev->event), ev->status);
		OK(rdma_ack_cm_event(ev));
		close_end(&ends[i]);
	}
}

static void initiator_gives_up(void)
{
	start_listener();
	for (int i = 0; i < 8; i++) {
		request(&c, &plain);
		usleep(i * 3000);
		close_end(&c);
	}
	/* What arrived of them can be answered; the answer fails or comes to nothing. */
	while (readable(listen_ch->fd, QUIET)) {
		struct rdma_cm_event *ev;

		OK(rdma_get_cm_event(listen_ch, &ev));
		memset(&s, 0, sizeof(s));
		s.id = ev->id;
		if (ev->event == RDMA_CM_EVENT_CONNECT_REQUEST) {
			OK(rdma_ack_cm_event(ev));
			make_qp(&s, &defaults, true);
			rdma_accept(s.id, (struct rdma_conn_param *)&plain);
		} else {
			OK(rdma_ack_cm_event(ev));
		}
	}
	connect_ends(&c, &s, NULL);
	talk();
}

static void connect_twice(void)
{
	connect_ends(&c, &s, NULL);
	CHECK(rdma_connect(c.id, (struct rdma_conn_param *)&plain));
	CHECK(rdma_accept(s.id, (struct rdma_conn_param *)&plain));
	CHECK(rdma_listen(c.id, 1));
	talk();
}

/* One QP for two connections: the second is refused, the first lives. */
static void qp_of_another(void)
{
	struct rdma_conn_param param = plain;
	struct end c2 = {};

	connect_ends(&c, &s, NULL);
	resolve(&c2, port());
	param.qp_num = c.qp->qp_num;
	if (!rdma_connect(c2.id, &param)) {
		struct rdma_cm_event *ev;

		if (readable(listen_ch->fd, 2000)) {
			OK(rdma_get_cm_event(listen_ch, &ev));
			rdma_reject(ev->id, NULL, 0);
			OK(rdma_ack_cm_event(ev));
		}
		CHECK(readable(c2.ch->fd, SOON));
		OK(rdma_get_cm_event(c2.ch, &ev));
		CHECK(ev->event != RDMA_CM_EVENT_ESTABLISHED);
		OK(rdma_ack_cm_event(ev));
	}
	OK(rdma_destroy_id(c2.id));
	talk();
}

static void unknown_qp(void)
{
	struct rdma_conn_param param = plain;

	start_listener();
	resolve(&c, port());
	param.qp_num = 0x123456;
	FAILS(EINVAL, rdma_connect(c.id, &param));
}

static void many(void)
{
	int n = args[0] ? atoi(args[0]) : 50;

	for (int i = 0; i < n; i++) {
		connect_ends(&c, &s, NULL);
		if (i % 10 == 0)
			talk();
		close_end(i % 2 ? &c : &s);
		close_end(i % 2 ? &s : &c);
	}
}

/* A TCP connection to the listener. */
static int stranger(void)
{
	int fd = tcp_socket();

	OK(connect(fd, addr_port(address, port()), addr_len()));
	return fd;
}

/* The stranger is shown the door: end of file or reset. */
static void shown_out(int fd, int ms)
{
	long end = now_ms() + ms;
	char data[512];
	ssize_t n;

	do {
		if (!readable(fd, (int)(end - now_ms())))
			FAIL("the connection of a stranger stays");
		n = read(fd, data, sizeof(data));
	} while (n > 0);
	close(fd);
}

static void say(int fd, const void *data, size_t len)
{
	/* It may be closed already. */
	send(fd, data, len, MSG_NOSIGNAL);
}

/* Nobody was told, and the next one is served. */
static void served_still(void)
{
	CHECK(!readable(listen_ch->fd, 0));
	connect_ends(&c, &s, NULL);
	talk();
}

static void stranger_garbage(void)
{
	uint8_t data[4096];

	start_listener();
	for (int i = 0; i < 20; i++) {
		int fd = stranger();

		fill(data, sizeof(data), i);
		say(fd, data, 20 + i * 200);
		shown_out(fd, 3000);
	}
	served_still();
}

static void stranger_http(void)
{
	static const char get[] = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";
	int fd;

	start_listener();
	fd = stranger();
	say(fd, get, sizeof(get) - 1);
	shown_out(fd, 3000);
	served_still();
}

static void stranger_closes(void)
{
	struct linger now = { 1, 0 };

	start_listener();
	for (int i = 0; i < 20; i++) {
		int fd = stranger();

		if (i % 4 == 1)
			say(fd, "MPA ID Req", 10);
		if (i % 4 == 2)
			OK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
		close(fd);
	}
	served_still();
}

static void stranger_silent(void)
{
	int fd;

	start_listener();
	fd = stranger();
	served_still();
	/* It may not stay for ever. */
	shown_out(fd, 15000);
}

static void strangers_many(void)
{
	static int fds[400];

	listen_ch = new_channel();
	listener = listen_on(listen_ch, 1024);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = stranger();
	/* They hold up who comes now until they are shown out, no longer. */
	served_still();
}

/* A valid request with more private data than the core takes. */
static void stranger_long_private_data(void)
{
	uint8_t frame[20 + 512] = "MPA ID Req Frame";
	struct rdma_cm_event *ev;
	int fd;

	start_listener();
	fd = stranger();
	frame[16] = 0x40;
	frame[17] = 1;
	frame[18] = 512 >> 8;
	frame[19] = 512 & 0xff;
	fill(frame + 20, 512, 1);
	say(fd, frame, sizeof(frame));
	ev = incoming(&s);
	EQ(ev->param.conn.private_data_len, 255);
	VERIFY(ev->param.conn.private_data, 255, 1);
	OK(rdma_ack_cm_event(ev));
	OK(rdma_reject(s.id, NULL, 0));
	OK(rdma_destroy_id(s.id));
	shown_out(fd, 10000);
}

/* To an address that never answers. */
static void timeout(void)
{
	const char *local = address;
	struct rdma_cm_event *ev;
	long t;

	address = args[0];
	resolve(&c, 4711);
	make_qp(&c, &defaults, false);
	t = now_ms();
	OK(rdma_connect(c.id, (struct rdma_conn_param *)&plain));
	/* Another connection does not wait for this one. */
	address = local;
	start_listener();
	{
		struct end c2, s2;

		connect_ends(&c2, &s2, NULL);
	}
	CHECK(!readable(c.ch->fd, 0));
	CHECK(now_ms() - t < 10000);
	alarm(60);
	CHECK(readable(c.ch->fd, 40000));
	OK(rdma_get_cm_event(c.ch, &ev));
	EQ(ev->event, RDMA_CM_EVENT_UNREACHABLE);
	EQ(ev->status, -ETIMEDOUT);
	OK(rdma_ack_cm_event(ev));
	close_end(&c);
}

static void timeout_destroyed(void)
{
	long t;

	address = args[0];
	resolve(&c, 4711);
	make_qp(&c, &defaults, false);
	OK(rdma_connect(c.id, (struct rdma_conn_param *)&plain));
	usleep(200000);
	t = now_ms();
	close_end(&c);
	CHECK(now_ms() - t < 3000);
}

static void timeout_exit(void)
{
	address = args[0];
	resolve(&c, 4711);
	make_qp(&c, &defaults, false);
	OK(rdma_connect(c.id, (struct rdma_conn_param *)&plain));
	_exit(0);
}

/* Connects to `args[0]`, is silent from "ready" on, and ends when told by a signal. */
static void silent_client(void)
{
	resolve(&c, atoi(args[0]));
	make_qp(&c, &defaults, false);
	OK(rdma_connect(c.id, (struct rdma_conn_param *)&plain));
	CM_EXPECT(c.ch, ESTABLISHED);
	puts("ready");
	alarm(0);
	/* Until the standard input says so. */
	while (access(args[1], F_OK))
		usleep(50000);
	{
		long t = now_ms();
		struct buf a = new_buf(c.pd, 65536);

		for (int i = 0; i < 32; i++)
			send_buf(c.qp, i, &a, a.len, SIGNALED);
		close_end(&c);
		CHECK(now_ms() - t < 5000);
	}
	puts("done");
}

static void silent_server(void)
{
	listen_ch = new_channel();
	OK(rdma_create_id(listen_ch, &listener, NULL, RDMA_PS_TCP));
	OK(rdma_bind_addr(listener, addr_port(address, atoi(args[0]))));
	OK(rdma_listen(listener, 4));
	puts("listening");
	alarm(0);
	OK(rdma_ack_cm_event(incoming(&s)));
	accept_end(&s, &plain);
	CM_EXPECT(s.ch, ESTABLISHED);
	puts("ready");
	pause();
}

static const struct test tests[] = {
	T(connects), T(wildcard), T(wildcard_many), T(private_data), T(reject), T(refused),
	T(disconnect_active), T(disconnect_passive), T(disconnect_both), T(destroyed_by_peer),
	T(depths), T(address_in_use), T(port_is_tcp), T(backlog), T(request_destroyed),
	T(listener_destroyed), T(initiator_gives_up), T(connect_twice), T(qp_of_another),
	T(unknown_qp), T(many), T(stranger_garbage), T(stranger_http), T(stranger_closes),
	T(stranger_silent), T(strangers_many), T(stranger_long_private_data), T(timeout),
	T(timeout_destroyed), T(timeout_exit), T(silent_client), T(silent_server),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
