// SPDX-License-Identifier: GPL-2.0
/*
 * puppet: one end of an RDMA connection that does what it is told.
 *
 * Reads commands from standard input, one a line, and answers each with a line
 * "ok ..." or "err ERRNO ...". Private data and memory are in hexadecimal, "-"
 * is nothing. Everything lies in one buffer of 1 MiB, named by offsets; region 0
 * has all rights.
 *
 *   listen PORT [ADDRESS] | request | accept IRD ORD PD | reject PD
 *   connect ADDRESS PORT IRD ORD PD
 *   event MS                 the next event of the connection manager
 *   region RIGHTS OFF LEN    registers, rights of l w r a (local/remote write, remote read, atomics)
 *                            and g p (FLUSH, for global visibility and for persistence)
 *   dereg N
 *   window OFF LEN           binds a window of type 2, with the right to write, to a region of its own
 *   recv OFF LEN [LKEY] | send OFF LEN [se] [inv=KEY] [inline] [lkey=KEY] | write OFF LEN ADDR KEY
 *   read OFF LEN ADDR KEY | writeimm OFF LEN ADDR KEY IMM [se]
 *   fadd OFF ADDR KEY ADD | cas OFF ADDR KEY COMPARE SWAP
 *                            work requests, signalled, numbered from 1 on
 *   poll MS                  the next completion
 *   fill OFF LEN SEED | sum OFF LEN | peek OFF LEN | poke OFF HEX
 *   state | disconnect | destroy | quit
 *
 * RoCE, without a connection manager:
 *
 *   qp rc|uc|ud MY-ADDRESS PEER-ADDRESS PEER-QPN RQ-PSN SQ-PSN [to=init|rtr|rts] [NAME=VALUE]...
 *                            a QP with a path MTU of 1024, in RTS unless `to` says otherwise, and zeros
 *                            in all memory; names are retry, rnr, timeout, rnrtimer (all as in struct ibv_qp_attr), ird, ord,
 *                            qkey, rights, flush (not 0: "flush" works)
 *   modify init|rtr|rts|sqd|err|reset [dest=QPN]
 *   send OFF LEN [qpn=QPN] [qkey=KEY] [imm=N]     UD: to PEER-QPN unless told otherwise
 *   flush TYPES range|mr ADDR LEN KEY             types are g p, as rights are
 *   async MS                 the next asynchronous event of the QP, as a number
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <rdma/rdma_cma.h>

#define SIZE (1024UL * 1024)
#define REGIONS 16
#define MAX_PD 512

static struct rdma_event_channel *channel;
static struct rdma_cm_id *listener, *id;
static struct ibv_pd *pd;
static struct ibv_cq *cq;
static struct ibv_mr *mr[REGIONS];
static struct ibv_mw *mw;
static uint8_t *buf;
static uint64_t serial;
static uint32_t depth = 64;

static int bad(const char *what)
{
	printf("err %d %s: %s\n", errno, what, strerror(errno));
	return -1;
}

static int ok(void)
{
	puts("ok");
	return 0;
}

static void hex(const void *data, size_t len)
{
	const uint8_t *p = data;

	if (!len)
		putchar('-');
	while (len--)
		printf("%02x", *p++);
}

static size_t unhex(const char *s, uint8_t *out, size_t max)
{
	size_t n = 0;
	unsigned int v;

	if (s && *s != '-')
		while (n < max && sscanf(s + 2 * n, "%2x", &v) == 1)
			out[n++] = v;
	return n;
}

static uint64_t arg(void)
{
	char *s = strtok(NULL, " ");

	return s ? strtoull(s, NULL, 0) : 0;
}

/* A range of the buffer. */
static uint8_t *range(uint64_t *off, uint64_t *len)
{
	*off = arg();
	*len = arg();
	if (*off > SIZE || *len > SIZE - *off) {
		errno = ERANGE;
		bad("range");
		return NULL;
	}
	return buf + *off;
}

static int make_region(int n, int access, uint8_t *p, size_t len)
{
	mr[n] = ibv_reg_mr(pd, p, len, access);
	if (!mr[n])
		return bad("reg_mr");
	printf("ok n=%d addr=%" PRIu64 " key=%u lkey=%u\n", n, (uint64_t)(uintptr_t)p, mr[n]->rkey,
	       mr[n]->lkey);
	return 0;
}

/* What a QP needs, once its device is known. */
static int make_objects(struct ibv_qp_init_attr *attr)
{
	*attr = (struct ibv_qp_init_attr){
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
		.cap = { .max_send_wr = depth, .max_recv_wr = depth, .max_send_sge = 1,
			 .max_recv_sge = 1, .max_inline_data = 64 },
	};
	pd = ibv_alloc_pd(id->verbs);
	cq = ibv_create_cq(id->verbs, 2 * depth, NULL, NULL, 0);
	if (!pd || !cq)
		return -1;
	attr->send_cq = cq;
	attr->recv_cq = cq;
	mr[0] = ibv_reg_mr(pd, buf, SIZE, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
			   IBV_ACCESS_REMOTE_READ);
	return mr[0] ? 0 : -1;
}

static int access_of(const char *rights)
{
	return (strchr(rights, 'l') ? IBV_ACCESS_LOCAL_WRITE : 0) |
	       (strchr(rights, 'w') ? IBV_ACCESS_REMOTE_WRITE : 0) |
	       (strchr(rights, 'r') ? IBV_ACCESS_REMOTE_READ : 0) |
	       (strchr(rights, 'a') ? IBV_ACCESS_REMOTE_ATOMIC : 0) |
	       (strchr(rights, 'g') ? IBV_ACCESS_FLUSH_GLOBAL : 0) |
	       (strchr(rights, 'p') ? IBV_ACCESS_FLUSH_PERSISTENT : 0);
}

#include "puppetroce.h"

/* That of a connection. */
static int make_qp(void)
{
	struct ibv_qp_init_attr attr;

	return make_objects(&attr) || rdma_create_qp(id, pd, &attr);
}

static struct rdma_cm_event *next_event(int ms)
{
	struct pollfd p = { .fd = channel->fd, .events = POLLIN };
	struct rdma_cm_event *e;
	int n = poll(&p, 1, ms);

	if (n == 0)
		errno = ETIMEDOUT;
	return n == 1 && !rdma_get_cm_event(channel, &e) ? e : NULL;
}

static int expect(enum rdma_cm_event_type type)
{
	struct rdma_cm_event *e = next_event(10000);
	int good;

	if (!e)
		return -1;
	good = e->event == type;
	rdma_ack_cm_event(e);
	errno = EHOSTUNREACH;
	return good ? 0 : -1;
}

static void print_event(struct rdma_cm_event *e)
{
	struct rdma_conn_param *c = &e->param.conn;

	printf("ok event=%s status=%d ird=%u ord=%u pd=", rdma_event_str(e->event), e->status,
	       c->responder_resources, c->initiator_depth);
	hex(c->private_data, c->private_data ? c->private_data_len : 0);
	putchar('\n');
}

static int do_listen(void)
{
	uint16_t port = htons(arg());
	const char *address = strtok(NULL, " ");
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = port };
	struct sockaddr_in one = { .sin_family = AF_INET, .sin_port = port };
	struct sockaddr *to = (struct sockaddr *)&any;

	if (address && inet_aton(address, &one.sin_addr))
		to = (struct sockaddr *)&one;
	if (rdma_create_id(channel, &listener, NULL, RDMA_PS_TCP) || rdma_bind_addr(listener, to) ||
	    rdma_listen(listener, 8))
		return bad("listen");
	return ok();
}

static int do_request(void)
{
	uint64_t ms = arg();
	struct rdma_cm_event *e = next_event(ms ? ms : 20000);

	if (!e)
		return bad("request");
	if (e->event == RDMA_CM_EVENT_CONNECT_REQUEST) {
		id = e->id;
		if (make_qp()) {
			bad("qp");
			rdma_ack_cm_event(e);
			return -1;
		}
	}
	print_event(e);
	rdma_ack_cm_event(e);
	return 0;
}

static void conn_param(struct rdma_conn_param *c, uint8_t *data)
{
	memset(c, 0, sizeof(*c));
	c->responder_resources = arg();
	c->initiator_depth = arg();
	c->retry_count = 7;
	c->rnr_retry_count = 7;
	c->private_data_len = unhex(strtok(NULL, " "), data, MAX_PD);
	c->private_data = data;
}

static int do_accept(void)
{
	struct rdma_conn_param c;
	uint8_t data[MAX_PD];

	conn_param(&c, data);
	return rdma_accept(id, &c) ? bad("accept") : ok();
}

static int do_reject(void)
{
	uint8_t data[MAX_PD];
	size_t len = unhex(strtok(NULL, " "), data, sizeof(data));

	return rdma_reject(id, data, len) ? bad("reject") : ok();
}

static int do_connect(void)
{
	struct rdma_addrinfo hints = { .ai_port_space = RDMA_PS_TCP }, *info = NULL;
	const char *host = strtok(NULL, " "), *port = strtok(NULL, " ");
	struct rdma_conn_param c;
	uint8_t data[MAX_PD];

	conn_param(&c, data);
	if (rdma_getaddrinfo(host, port, &hints, &info) || rdma_create_id(channel, &id, NULL, RDMA_PS_TCP))
		return bad("getaddrinfo");
	if (rdma_resolve_addr(id, NULL, info->ai_dst_addr, 5000) || expect(RDMA_CM_EVENT_ADDR_RESOLVED))
		return bad("resolve_addr");
	rdma_freeaddrinfo(info);
	if (rdma_resolve_route(id, 5000) || expect(RDMA_CM_EVENT_ROUTE_RESOLVED))
		return bad("resolve_route");
	if (make_qp())
		return bad("qp");
	return rdma_connect(id, &c) ? bad("connect") : ok();
}

static int do_event(void)
{
	struct rdma_cm_event *e = next_event(arg());

	if (!e)
		return bad("event");
	print_event(e);
	rdma_ack_cm_event(e);
	return 0;
}

static int do_region(void)
{
	const char *rights = strtok(NULL, " ");
	uint64_t off, len;
	uint8_t *p = range(&off, &len);
	int access, n;

	if (!p)
		return -1;
	access = access_of(rights);
	if (strchr(rights, '0')) {
		/* The one that is there. */
		printf("ok n=0 addr=%" PRIu64 " key=%u lkey=%u\n", (uint64_t)(uintptr_t)p, mr[0]->rkey,
		       mr[0]->lkey);
		return 0;
	}
	if (strchr(rights, 'x')) {
		/* In a protection domain of its own. */
		struct ibv_pd *mine = pd;
		int ret;

		pd = ibv_alloc_pd(id->verbs);
		ret = pd ? make_region(REGIONS - 1, access, p, len) : bad("pd");
		pd = mine;
		return ret;
	}
	for (n = 1; n < REGIONS - 1 && mr[n]; n++)
		;
	return make_region(n, access, p, len);
}

static int do_dereg(void)
{
	uint64_t n = arg();

	if (n >= REGIONS || !mr[n] || ibv_dereg_mr(mr[n]))
		return bad("dereg");
	mr[n] = NULL;
	return ok();
}

/* The completion of the binding is the next one. */
static int do_window(void)
{
	struct ibv_send_wr *worst, wr = { .wr_id = ++serial, .opcode = IBV_WR_BIND_MW };
	uint64_t off, len;
	uint8_t *p = range(&off, &len);
	int n;

	if (!p)
		return -1;
	for (n = 1; n < REGIONS - 1 && mr[n]; n++)
		;
	mr[n] = ibv_reg_mr(pd, p, len, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND);
	if (!mw)
		mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	if (!mr[n] || !mw)
		return bad("window");
	wr.bind_mw.mw = mw;
	wr.bind_mw.rkey = ibv_inc_rkey(mw->rkey);
	wr.bind_mw.bind_info = (struct ibv_mw_bind_info) {
		.mr = mr[n], .addr = (uintptr_t)p, .length = len,
		.mw_access_flags = IBV_ACCESS_REMOTE_WRITE,
	};
	errno = ibv_post_send(id->qp, &wr, &worst);
	if (errno)
		return bad("bind");
	printf("ok n=%d addr=%" PRIu64 " key=%u\n", n, (uint64_t)(uintptr_t)p, wr.bind_mw.rkey);
	return 0;
}

static int do_recv(void)
{
	struct ibv_recv_wr *worst, wr = { .wr_id = ++serial, .num_sge = 1 };
	struct ibv_sge sge;
	uint64_t off, len;
	uint8_t *p = range(&off, &len);

	if (!p)
		return -1;
	sge.addr = (uintptr_t)p;
	sge.length = len;
	sge.lkey = arg() ?: mr[0]->lkey;
	wr.sg_list = &sge;
	errno = ibv_post_recv(id->qp, &wr, &worst);
	return errno ? bad("recv") : ok();
}

static int do_send(enum ibv_wr_opcode opcode)
{
	struct ibv_send_wr *worst, wr = { .wr_id = ++serial, .num_sge = 1, .opcode = opcode };
	struct ibv_sge sge = { .lkey = mr[0]->lkey };
	uint64_t off, len;
	uint8_t *p = range(&off, &len);
	const char *s;

	if (!p)
		return -1;
	sge.addr = (uintptr_t)p;
	sge.length = len;
	wr.sg_list = &sge;
	if (ah) {
		wr.wr.ud.ah = ah;
		wr.wr.ud.remote_qpn = path.dest_qp_num;
		wr.wr.ud.remote_qkey = path.qkey;
	}
	if (opcode != IBV_WR_SEND) {
		wr.wr.rdma.remote_addr = arg();
		wr.wr.rdma.rkey = arg();
		if (opcode == IBV_WR_RDMA_WRITE_WITH_IMM) {
			wr.imm_data = htobe32(arg());
			if (strtok(NULL, " "))
				wr.send_flags |= IBV_SEND_SOLICITED;
		}
	} else {
		while ((s = strtok(NULL, " "))) {
			if (!strcmp(s, "se"))
				wr.send_flags |= IBV_SEND_SOLICITED;
			if (!strcmp(s, "inline"))
				wr.send_flags |= IBV_SEND_INLINE;
			if (!strncmp(s, "qpn=", 4))
				wr.wr.ud.remote_qpn = strtoul(s + 4, NULL, 0);
			if (!strncmp(s, "qkey=", 5))
				wr.wr.ud.remote_qkey = strtoul(s + 5, NULL, 0);
			if (!strncmp(s, "lkey=", 5))
				sge.lkey = strtoul(s + 5, NULL, 0);
			if (!strncmp(s, "imm=", 4)) {
				wr.opcode = IBV_WR_SEND_WITH_IMM;
				wr.imm_data = htobe32(strtoul(s + 4, NULL, 0));
			}
			if (!strncmp(s, "inv=", 4)) {
				wr.opcode = IBV_WR_SEND_WITH_INV;
				wr.invalidate_rkey = strtoul(s + 4, NULL, 0);
				/* Where siw's provider takes it from. */
				wr.wr.rdma.rkey = wr.invalidate_rkey;
			}
		}
	}
	errno = ibv_post_send(id->qp, &wr, &worst);
	return errno ? bad("send") : ok();
}

static int do_atomic(enum ibv_wr_opcode opcode)
{
	struct ibv_send_wr *worst, wr = { .wr_id = ++serial, .num_sge = 1, .opcode = opcode };
	uint64_t off = arg();
	struct ibv_sge sge = { .addr = (uintptr_t)buf + off, .length = 8, .lkey = mr[0]->lkey };

	if (off > SIZE - 8) {
		errno = ERANGE;
		return bad("range");
	}
	wr.sg_list = &sge;
	wr.wr.atomic.remote_addr = arg();
	wr.wr.atomic.rkey = arg();
	wr.wr.atomic.compare_add = arg();
	wr.wr.atomic.swap = arg();
	errno = ibv_post_send(id->qp, &wr, &worst);
	return errno ? bad("atomic") : ok();
}

static int do_poll(void)
{
	uint64_t ms = arg();
	struct timespec t;
	struct ibv_wc wc;
	int64_t end;

	clock_gettime(CLOCK_MONOTONIC, &t);
	end = t.tv_sec * 1000 + t.tv_nsec / 1000000 + ms;
	for (;;) {
		int n = ibv_poll_cq(cq, 1, &wc);

		if (n == 1)
			break;
		clock_gettime(CLOCK_MONOTONIC, &t);
		if (n < 0 || t.tv_sec * 1000 + t.tv_nsec / 1000000 >= end) {
			errno = n < 0 ? EIO : ETIMEDOUT;
			return bad("poll");
		}
		usleep(200);
	}
	printf("ok wr=%" PRIu64 " status=%d opcode=%d len=%u flags=%u inv=%u imm=%u src=%u\n", wc.wr_id,
	       wc.status, wc.status ? -1 : (int)wc.opcode, wc.byte_len, wc.wc_flags,
	       wc.invalidated_rkey, be32toh(wc.imm_data), wc.src_qp);
	return 0;
}

static int do_fill(void)
{
	uint64_t off, len, i;
	uint8_t *p = range(&off, &len);
	uint32_t x;

	if (!p)
		return -1;
	x = arg() * 2654435761u + 1;
	for (i = 0; i < len; i++) {
		x = x * 1664525u + 1013904223u;
		p[i] = x >> 24;
	}
	return ok();
}

static int do_sum(void)
{
	uint64_t off, len, i, h = 14695981039346656037ULL;
	uint8_t *p = range(&off, &len);

	if (!p)
		return -1;
	for (i = 0; i < len; i++)
		h = (h ^ p[i]) * 1099511628211ULL;
	printf("ok sum=%" PRIx64 "\n", h);
	return 0;
}

static int do_peek(void)
{
	uint64_t off, len;
	uint8_t *p = range(&off, &len);

	if (!p)
		return -1;
	printf("ok data=");
	hex(p, len);
	putchar('\n');
	return 0;
}

static int do_poke(void)
{
	uint64_t off = arg();

	if (off > SIZE)
		return bad("range");
	unhex(strtok(NULL, " "), buf + off, SIZE - off);
	return ok();
}

static int do_state(void)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;

	errno = ibv_query_qp(id->qp, &attr, IBV_QP_STATE, &init);
	if (errno)
		return bad("query_qp");
	printf("ok state=%d ird=%u ord=%u\n", attr.qp_state, attr.max_dest_rd_atomic, attr.max_rd_atomic);
	return 0;
}

static int do_destroy(void)
{
	struct ibv_pd *other = mr[REGIONS - 1] ? mr[REGIONS - 1]->pd : NULL;
	int n, failed = 0;

	if (!id)
		return ok();
	if (id->qp)
		rdma_destroy_qp(id);
	if (ah)
		failed |= ibv_destroy_ah(ah);
	ah = NULL;
	if (mw)
		failed |= ibv_dealloc_mw(mw);
	mw = NULL;
	for (n = 0; n < REGIONS; n++) {
		if (mr[n])
			failed |= ibv_dereg_mr(mr[n]);
		mr[n] = NULL;
	}
	if (cq)
		failed |= ibv_destroy_cq(cq);
	if (other)
		failed |= ibv_dealloc_pd(other);
	if (pd)
		failed |= ibv_dealloc_pd(pd);
	failed |= rdma_destroy_id(id);
	id = NULL;
	pd = NULL;
	cq = NULL;
	serial = 0;
	errno = EBUSY;
	return failed ? bad("destroy") : ok();
}

static int obey(char *line)
{
	const char *cmd = strtok(line, " ");

	if (!cmd)
		return ok();
	if (!strcmp(cmd, "listen"))
		return do_listen();
	if (!strcmp(cmd, "request"))
		return do_request();
	if (!strcmp(cmd, "connect"))
		return do_connect();
	if (!strcmp(cmd, "qp"))
		return do_qp();
	if (!strcmp(cmd, "event"))
		return do_event();
	if (!strcmp(cmd, "destroy"))
		return do_destroy();
	if (!id || !id->qp || !mr[0]) {
		errno = ENOTCONN;
		return bad(cmd);
	}
	if (!strcmp(cmd, "accept"))
		return do_accept();
	if (!strcmp(cmd, "reject"))
		return do_reject();
	if (!strcmp(cmd, "modify"))
		return do_modify();
	if (!strcmp(cmd, "async"))
		return do_async();
	if (!strcmp(cmd, "region"))
		return do_region();
	if (!strcmp(cmd, "dereg"))
		return do_dereg();
	if (!strcmp(cmd, "window"))
		return do_window();
	if (!strcmp(cmd, "recv"))
		return do_recv();
	if (!strcmp(cmd, "send"))
		return do_send(IBV_WR_SEND);
	if (!strcmp(cmd, "write"))
		return do_send(IBV_WR_RDMA_WRITE);
	if (!strcmp(cmd, "read"))
		return do_send(IBV_WR_RDMA_READ);
	if (!strcmp(cmd, "writeimm"))
		return do_send(IBV_WR_RDMA_WRITE_WITH_IMM);
	if (!strcmp(cmd, "fadd"))
		return do_atomic(IBV_WR_ATOMIC_FETCH_AND_ADD);
	if (!strcmp(cmd, "cas"))
		return do_atomic(IBV_WR_ATOMIC_CMP_AND_SWP);
	if (!strcmp(cmd, "flush"))
		return do_flush();
	if (!strcmp(cmd, "poll"))
		return do_poll();
	if (!strcmp(cmd, "fill"))
		return do_fill();
	if (!strcmp(cmd, "sum"))
		return do_sum();
	if (!strcmp(cmd, "peek"))
		return do_peek();
	if (!strcmp(cmd, "poke"))
		return do_poke();
	if (!strcmp(cmd, "state"))
		return do_state();
	if (!strcmp(cmd, "disconnect"))
		return rdma_disconnect(id) ? bad("disconnect") : ok();
	errno = EOPNOTSUPP;
	return bad(cmd);
}

int main(void)
{
	static char line[2 * SIZE];

	buf = aligned_alloc(4096, SIZE);
	channel = rdma_create_event_channel();
	if (!buf || !channel)
		return bad("start");
	memset(buf, 0, SIZE);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		if (!strcmp(line, "quit"))
			break;
		obey(line);
		fflush(stdout);
	}
	return 0;
}
