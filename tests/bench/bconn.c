// SPDX-License-Identifier: GPL-2.0
/*
 * bconn: how fast connections are made, one after the other, and what an idle one takes of memory.
 *
 *   bconn -p PORT -n N -b ADDRESS      server
 *   bconn -p PORT -n N ADDRESS         client
 *
 * A connection is all that a program does for one: address, route, QP (128 work requests each way), handshake. Memory
 * is what MemAvailable has lost between the second connection and the last, so that what comes with the first one
 * (modules, channels) is not counted; both ends are of this machine, and each has a QP.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <rdma/rdma_cma.h>

#define DEPTH 128

static struct rdma_event_channel *channel;
static struct ibv_pd *pd;
static struct ibv_cq *cq;

static void die(const char *what)
{
	fprintf(stderr, "bconn: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* KiB */
static long available(void)
{
	char line[128];
	long kib = -1;
	FILE *f = fopen("/proc/meminfo", "r");

	if (!f)
		die("/proc/meminfo");
	while (kib < 0 && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %ld", &kib) != 1)
			kib = -1;
	fclose(f);
	return kib;
}

/* The id that the next event is of, which must be this one. */
static struct rdma_cm_id *await(enum rdma_cm_event_type want)
{
	struct rdma_cm_event *ev;
	struct rdma_cm_id *id;

	if (rdma_get_cm_event(channel, &ev))
		die("rdma_get_cm_event");
	if (ev->event != want) {
		fprintf(stderr, "bconn: %s, status %d, instead of %s\n", rdma_event_str(ev->event), ev->status,
			rdma_event_str(want));
		exit(1);
	}
	id = ev->id;
	rdma_ack_cm_event(ev);
	return id;
}

static void make_qp(struct rdma_cm_id *id)
{
	struct ibv_qp_init_attr attr = {
		.qp_type = IBV_QPT_RC,
		.cap = {
			.max_send_wr = DEPTH,
			.max_recv_wr = DEPTH,
			.max_send_sge = 1,
			.max_recv_sge = 1,
		},
	};

	if (!pd) {
		pd = ibv_alloc_pd(id->verbs);
		cq = ibv_create_cq(id->verbs, 2 * DEPTH, NULL, NULL, 0);
		if (!pd || !cq)
			die("PD and CQ");
	}
	attr.send_cq = cq;
	attr.recv_cq = cq;
	if (rdma_create_qp(id, pd, &attr))
		die("rdma_create_qp");
}

static struct rdma_conn_param param = {
	.initiator_depth = 1,
	.responder_resources = 1,
	.retry_count = 7,
	.rnr_retry_count = 7,
};

static void serve(struct sockaddr *addr, int n)
{
	struct rdma_cm_event *ev;
	struct rdma_cm_id *listener;

	if (rdma_create_id(channel, &listener, NULL, RDMA_PS_TCP) || rdma_bind_addr(listener, addr) ||
	    rdma_listen(listener, 128))
		die("rdma_listen");
	puts("listening");
	fflush(stdout);
	/* In whatever order they come and go. */
	for (int gone = 0; gone < n;) {
		enum rdma_cm_event_type what;
		struct rdma_cm_id *id;

		if (rdma_get_cm_event(channel, &ev))
			die("rdma_get_cm_event");
		what = ev->event;
		id = ev->id;
		rdma_ack_cm_event(ev);
		switch (what) {
		case RDMA_CM_EVENT_CONNECT_REQUEST:
			make_qp(id);
			if (rdma_accept(id, &param))
				die("rdma_accept");
			break;
		case RDMA_CM_EVENT_DISCONNECTED:
			rdma_disconnect(id);
			rdma_destroy_qp(id);
			rdma_destroy_id(id);
			gone++;
			break;
		case RDMA_CM_EVENT_ESTABLISHED:
		case RDMA_CM_EVENT_TIMEWAIT_EXIT:
			break;
		default:
			fprintf(stderr, "bconn: %s\n", rdma_event_str(what));
			exit(1);
		}
	}
}

static struct rdma_cm_id *make_connection(struct sockaddr *addr)
{
	struct rdma_cm_id *id;

	if (rdma_create_id(channel, &id, NULL, RDMA_PS_TCP) || rdma_resolve_addr(id, NULL, addr, 5000))
		die("rdma_resolve_addr");
	await(RDMA_CM_EVENT_ADDR_RESOLVED);
	if (rdma_resolve_route(id, 5000))
		die("rdma_resolve_route");
	await(RDMA_CM_EVENT_ROUTE_RESOLVED);
	make_qp(id);
	if (rdma_connect(id, &param))
		die("rdma_connect");
	await(RDMA_CM_EVENT_ESTABLISHED);
	return id;
}

static void client(struct sockaddr *addr, int n)
{
	struct rdma_cm_id **ids = calloc(n, sizeof(*ids));
	double start = 0;
	long before = 0;

	if (!ids)
		die("memory");
	for (int i = 0; i < n; i++) {
		if (i == 2) {
			before = available();
			start = now();
		}
		ids[i] = make_connection(addr);
	}
	printf("%.3f connections/s\n", (n - 2) / (now() - start));
	printf("%.3f KiB/QP\n", (before - available()) / (2.0 * (n - 2)));
	fflush(stdout);
	for (int i = 0; i < n; i++)
		rdma_disconnect(ids[i]);
	/* What a connection says when it ends is of no interest here: the ids go with the process. */
}

int main(int argc, char **argv)
{
	struct rdma_addrinfo hints = { .ai_port_space = RDMA_PS_TCP }, *ai;
	const char *port = "18515", *here = NULL;
	int n = 100, o;

	while ((o = getopt(argc, argv, "p:n:b:")) != -1) {
		if (o == 'p')
			port = optarg;
		else if (o == 'n')
			n = atoi(optarg);
		else if (o == 'b')
			here = optarg;
		else
			return 2;
	}
	if (n < 3 || (!here && optind != argc - 1)) {
		fputs("usage: bconn [-p PORT] [-n N] -b ADDRESS|ADDRESS      (N: 3 or more)\n", stderr);
		return 2;
	}
	channel = rdma_create_event_channel();
	if (!channel)
		die("rdma_create_event_channel");
	if (here)
		hints.ai_flags = RAI_PASSIVE;
	if (rdma_getaddrinfo(here ? here : argv[optind], port, &hints, &ai))
		die("rdma_getaddrinfo");
	if (here)
		serve(ai->ai_src_addr, n);
	else
		client(ai->ai_dst_addr, n);
	return 0;
}
