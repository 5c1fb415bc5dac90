/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the verbs and connection tests in C are written with. A program is a
 * table of tests, each run by name in a process of its own:
 *
 *     PROGRAM TEST ADDRESS [ARGUMENT...]
 *
 * Both ends of a connection live in that process: it connects to an address of
 * its own host. The first check that fails ends it with a message and code 1,
 * a test that hangs is ended by SIGALRM.
 */
#ifndef VT_H
#define VT_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <linux/capability.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Milliseconds in which what must happen does; and in which nothing may. */
#define SOON 20000
#define QUIET 300

static char **args;
static const char *address;

static inline _Noreturn void fail(const char *file, int line, const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	fprintf(stderr, "%s:%d: ", file, line);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (errno %d, %s)\n", err, strerror(err));
	exit(1);
}

#define FAIL(...) fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(cond) do { if (!(cond)) FAIL("not so: %s", #cond); } while (0)
/* Equality of numbers. */
#define EQ(a, b) do { \
	long long a_ = (long long)(a), b_ = (long long)(b); \
	if (a_ != b_) \
		FAIL("%s is %lld, not %s = %lld", #a, a_, #b, b_); \
} while (0)
/* A call that returns 0, or an error number or -1 with errno. */
#define OK(call) do { \
	int r_ = (call); \
	if (r_) \
		FAIL("%s: %d", #call, r_); \
} while (0)
/* The same, which must fail with this error number. */
#define FAILS(err, call) do { \
	int r_ = (call); \
	if (r_ == -1) \
		r_ = errno; \
	if (r_ != (err)) \
		FAIL("%s: %d, not %s", #call, r_, #err); \
} while (0)
/* A call that returns a pointer, which must be NULL with this error number. */
#define NULLS(err, call) do { \
	errno = 0; \
	if ((call) != NULL) \
		FAIL("%s: succeeds", #call); \
	EQ(errno, err); \
} while (0)

static inline long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static inline bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

/* --- connections --- */

struct end {
	struct rdma_cm_id *id;
	struct rdma_event_channel *ch;
	struct ibv_pd *pd;
	struct ibv_comp_channel *cc;
	struct ibv_cq *scq, *rcq;
	struct ibv_qp *qp;
};

struct opt {
	/* 0: the default. */
	uint32_t swr, rwr, ssge, rsge, inl, cqe, depth;
	bool sig_all;
	int vector;
	/* Not 0: ibv_qp_init_attr_ex.send_ops_flags. */
	uint64_t send_ops;
	/* Of RoCE: how often the other end may have no receive; 7: any number of times. */
	uint8_t rnr_retries;
	/* Only of the server. */
	struct ibv_srq *srq;
	struct ibv_pd *server_pd;
	uint32_t server_cqe;
};

static inline struct rdma_event_channel *new_channel(void)
{
	struct rdma_event_channel *ch = rdma_create_event_channel();

	if (!ch)
		FAIL("rdma_create_event_channel");
	return ch;
}

/* The next event, which must be this one; to be acknowledged. */
static inline struct rdma_cm_event *cm_event(struct rdma_event_channel *ch,
				      enum rdma_cm_event_type type, int line)
{
	struct rdma_cm_event *ev;

	if (!readable(ch->fd, SOON))
		fail("vt", line, "no %s", rdma_event_str(type));
	OK(rdma_get_cm_event(ch, &ev));
	if (ev->event != type)
		fail("vt", line, "%s, status %d, not %s", rdma_event_str(ev->event),
		     ev->status, rdma_event_str(type));
	return ev;
}

#define CM_EVENT(ch, type) cm_event(ch, RDMA_CM_EVENT_##type, __LINE__)
#define CM_EXPECT(ch, type) OK(rdma_ack_cm_event(CM_EVENT(ch, type)))

/* This address, numeric and maybe with a scope, with this port. */
static inline struct sockaddr *addr_port(const char *a, uint16_t port)
{
	static struct sockaddr_storage ss;
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM };
	struct addrinfo *ai;
	char service[8];

	snprintf(service, sizeof(service), "%u", port);
	OK(getaddrinfo(a, service, &hints, &ai));
	memcpy(&ss, ai->ai_addr, ai->ai_addrlen);
	freeaddrinfo(ai);
	return (struct sockaddr *)&ss;
}

static inline struct rdma_cm_id *listen_on(struct rdma_event_channel *ch, int backlog)
{
	struct rdma_cm_id *id;

	OK(rdma_create_id(ch, &id, NULL, RDMA_PS_TCP));
	OK(rdma_bind_addr(id, addr_port(address, 0)));
	OK(rdma_listen(id, backlog));
	return id;
}

/* An active end whose address and route are resolved. */
static inline void resolve(struct end *e, uint16_t port)
{
	if (!e->ch)
		e->ch = new_channel();
	OK(rdma_create_id(e->ch, &e->id, NULL, RDMA_PS_TCP));
	OK(rdma_resolve_addr(e->id, NULL, addr_port(address, port), 5000));
	CM_EXPECT(e->ch, ADDR_RESOLVED);
	/* RC of InfiniBand: 4 us times 2 to this power until a packet is sent again; of both ends. */
	if (getenv("VT_ACK_TIMEOUT")) {
		uint8_t t = (uint8_t)atoi(getenv("VT_ACK_TIMEOUT"));

		OK(rdma_set_option(e->id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &t,
				   sizeof(t)));
	}
	OK(rdma_resolve_route(e->id, 5000));
	CM_EXPECT(e->ch, ROUTE_RESOLVED);
}

static inline void make_qp(struct end *e, const struct opt *o, bool server)
{
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = o->sig_all,
		.cap = {
			.max_send_wr = o->swr ?: 64,
			.max_recv_wr = o->rwr ?: 64,
			.max_send_sge = o->ssge ?: 4,
			.max_recv_sge = o->rsge ?: 4,
			.max_inline_data = o->inl,
		},
	};
	uint32_t cqe = (server ? o->server_cqe : 0) ?: o->cqe ?: 256;
	struct ibv_context *ctx = e->id->verbs;

	e->pd = server && o->server_pd ? o->server_pd : ibv_alloc_pd(ctx);
	CHECK(e->pd);
	e->cc = ibv_create_comp_channel(ctx);
	CHECK(e->cc);
	e->scq = ibv_create_cq(ctx, cqe, NULL, e->cc, o->vector);
	CHECK(e->scq);
	e->rcq = ibv_create_cq(ctx, cqe, NULL, e->cc, o->vector);
	CHECK(e->rcq);
	init.send_cq = e->scq;
	init.recv_cq = e->rcq;
	if (server)
		init.srq = o->srq;
	if (o->send_ops) {
		struct ibv_qp_init_attr_ex ex = {
			.qp_type = IBV_QPT_RC,
			.cap = init.cap,
			.send_cq = init.send_cq,
			.recv_cq = init.recv_cq,
			.srq = init.srq,
			.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
			.pd = e->pd,
			.send_ops_flags = o->send_ops,
		};

		OK(rdma_create_qp_ex(e->id, &ex));
	} else {
		OK(rdma_create_qp(e->id, e->pd, &init));
	}
	e->qp = e->id->qp;
}

static inline struct rdma_conn_param param_of(const struct opt *o)
{
	return (struct rdma_conn_param) {
		.initiator_depth = o->depth ?: 16,
		.responder_resources = o->depth ?: 16,
		.retry_count = 7,
		.rnr_retry_count = o->rnr_retries,
	};
}

static const struct opt defaults;

/* Connects `c` to `s` through `listener`. */
static inline void connect_through(struct rdma_cm_id *listener, struct end *c, struct end *s,
				   const struct opt *o)
{
	struct rdma_conn_param param;
	struct rdma_cm_event *ev;

	o = o ?: &defaults;
	param = param_of(o);
	resolve(c, ntohs(rdma_get_src_port(listener)));
	make_qp(c, o, false);
	OK(rdma_connect(c->id, &param));
	ev = CM_EVENT(listener->channel, CONNECT_REQUEST);
	s->id = ev->id;
	OK(rdma_ack_cm_event(ev));
	s->ch = new_channel();
	OK(rdma_migrate_id(s->id, s->ch));
	make_qp(s, o, true);
	OK(rdma_accept(s->id, &param));
	/* Over RoCE it is librdmacm, when it gets this, that tells the other end. */
	CM_EXPECT(c->ch, ESTABLISHED);
	CM_EXPECT(s->ch, ESTABLISHED);
}

static struct rdma_event_channel *listen_ch;
static struct rdma_cm_id *listener;

/* A connection of this host with itself. */
static inline void connect_ends(struct end *c, struct end *s, const struct opt *o)
{
	if (!listener) {
		listen_ch = new_channel();
		listener = listen_on(listen_ch, 16);
	}
	/* What they were before is left as it is. */
	memset(c, 0, sizeof(*c));
	memset(s, 0, sizeof(*s));
	connect_through(listener, c, s, o);
}

/* Where the transports differ: a device of RoCE, whose rules are InfiniBand's, rather than one of iWARP. */
static inline bool is_roce(const struct ibv_context *ctx)
{
	return ctx->device->transport_type == IBV_TRANSPORT_IB;
}

static inline struct ibv_context *open_device(void)
{
	static struct rdma_cm_id *id;

	if (!id) {
		OK(rdma_create_id(new_channel(), &id, NULL, RDMA_PS_TCP));
		OK(rdma_bind_addr(id, addr_port(address, 0)));
	}
	CHECK(id->verbs);
	return id->verbs;
}

/* A QP without a connection; its CQ and PD are of the program. */
static inline struct ibv_qp *plain_qp(struct ibv_qp_init_attr *init)
{
	static struct ibv_pd *pd;
	static struct ibv_cq *cq;

	if (!pd) {
		pd = ibv_alloc_pd(open_device());
		cq = ibv_create_cq(open_device(), 1024, NULL, NULL, 0);
		CHECK(pd && cq);
	}
	init->qp_type = init->qp_type ?: IBV_QPT_RC;
	init->send_cq = init->recv_cq = cq;
	errno = 0;
	return ibv_create_qp(pd, init);
}

static inline void close_end(struct end *e)
{
	rdma_destroy_qp(e->id);
	OK(ibv_destroy_cq(e->scq));
	OK(ibv_destroy_cq(e->rcq));
	OK(ibv_destroy_comp_channel(e->cc));
	OK(rdma_destroy_id(e->id));
	rdma_destroy_event_channel(e->ch);
	memset(e, 0, sizeof(*e));
}

static inline enum ibv_qp_state state_of(struct ibv_qp *qp)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;

	OK(ibv_query_qp(qp, &attr, IBV_QP_STATE, &init));
	return attr.qp_state;
}

static inline void wait_state(struct ibv_qp *qp, enum ibv_qp_state state)
{
	long end = now_ms() + SOON;

	while (state_of(qp) != state) {
		if (now_ms() > end)
			FAIL("QP is in state %d, not %d", state_of(qp), state);
		usleep(5000);
	}
}

static inline int to_state(struct ibv_qp *qp, enum ibv_qp_state state)
{
	struct ibv_qp_attr attr = { .qp_state = state };

	return ibv_modify_qp(qp, &attr, IBV_QP_STATE);
}

/* To where receives may be posted. A QP of iWARP begins there, one of RoCE in RESET. */
static inline void into_init(struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT, .port_num = 1 };
	int mask = IBV_QP_STATE;

	if (state_of(qp) == IBV_QPS_RESET)
		mask |= IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
	OK(ibv_modify_qp(qp, &attr, mask));
	EQ(state_of(qp), IBV_QPS_INIT);
}

/*
 * RoCE: the other end has disconnected, which the CM tells, and nobody else: it is for the
 * consumer to put the QP into ERROR, as rdma_disconnect() does.
 */
static inline void follow(struct end *e)
{
	CM_EXPECT(e->ch, DISCONNECTED);
	EQ(state_of(e->qp), IBV_QPS_RTS);
	OK(rdma_disconnect(e->id));
	EQ(state_of(e->qp), IBV_QPS_ERR);
}

/* --- events --- */

/* Takes an event from the channel; says whether there was one. */
static inline bool cq_event(struct end *e, struct ibv_cq *want, int ms)
{
	struct ibv_cq *cq;
	void *context;

	if (!readable(e->cc->fd, ms))
		return false;
	OK(ibv_get_cq_event(e->cc, &cq, &context));
	CHECK(cq == want);
	ibv_ack_cq_events(cq, 1);
	return true;
}

/* Waits for this event; others are taken away. `element`: NULL is any. */
static inline bool async_within(struct ibv_context *ctx, enum ibv_event_type type, void *element,
				int ms)
{
	long end = now_ms() + ms;
	struct ibv_async_event ev;

	while (readable(ctx->async_fd, (int)(end - now_ms() > 0 ? end - now_ms() : 0))) {
		bool found;

		OK(ibv_get_async_event(ctx, &ev));
		found = ev.event_type == type && (!element || element == ev.element.qp);
		ibv_ack_async_event(&ev);
		if (found)
			return true;
	}
	return false;
}

#define ASYNC(ctx, type, element) do { \
	if (!async_within(ctx, IBV_EVENT_##type, element, SOON)) \
		FAIL("no event %s", ibv_event_type_str(IBV_EVENT_##type)); \
} while (0)

/* --- memory --- */

struct buf {
	uint8_t *p;
	size_t len;
	struct ibv_mr *mr;
};

#define ALL_ACCESS (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ)

static inline struct buf new_buf_access(struct ibv_pd *pd, size_t len, int access)
{
	struct buf b = { .len = len };

	b.p = mmap(NULL, len ?: 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(b.p != MAP_FAILED);
	b.mr = ibv_reg_mr(pd, b.p, len, access);
	if (!b.mr)
		FAIL("ibv_reg_mr of %zu bytes", len);
	return b;
}

static inline struct buf new_buf(struct ibv_pd *pd, size_t len)
{
	return new_buf_access(pd, len, ALL_ACCESS);
}

/* What byte `i` of a buffer holds that was filled with `seed`. */
static inline uint8_t pattern(size_t i, uint32_t seed)
{
	uint32_t x = (uint32_t)(i >> 2) * 2654435761u + seed * 40503u + 12345u;

	x ^= x >> 15;
	return (uint8_t)(x >> 8 * (i & 3));
}

static inline void fill(void *p, size_t len, uint32_t seed)
{
	uint8_t *b = p;

	for (size_t i = 0; i < len; i++)
		b[i] = pattern(i, seed);
}

static inline void verify_at(const void *p, size_t len, uint32_t seed, int line)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < len; i++)
		if (b[i] != pattern(i, seed))
			fail("vt", line, "byte %zu of %zu is %02x, not %02x", i, len, b[i],
			     pattern(i, seed));
}

#define VERIFY(p, len, seed) verify_at(p, len, seed, __LINE__)

static inline void untouched_at(const void *p, size_t len, uint8_t value, int line)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < len; i++)
		if (b[i] != value)
			fail("vt", line, "byte %zu of %zu was written: %02x", i, len, b[i]);
}

#define UNTOUCHED(p, len, value) untouched_at(p, len, value, __LINE__)

/* Memory of ours that is pinned, in KiB. */
static inline long pinned(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long kib = -1;

	CHECK(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "VmPin: %ld", &kib);
	fclose(f);
	CHECK(kib >= 0);
	return kib;
}

/* Without CAP_IPC_LOCK, and with this much that may be locked. */
static inline void limit_memlock(size_t bytes)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	struct rlimit lim = { bytes, bytes };

	OK(setrlimit(RLIMIT_MEMLOCK, &lim));
	OK(syscall(SYS_capget, &hdr, data));
	data[0].effective &= ~(1U << CAP_IPC_LOCK);
	OK(syscall(SYS_capset, &hdr, data));
}

/* --- work --- */

struct work {
	uint64_t wr_id;
	enum ibv_wr_opcode op;
	unsigned int flags;
	struct ibv_sge *sges;
	int n;
	uint64_t remote;
	uint32_t rkey;
};

static inline int try_post(struct ibv_qp *qp, const struct work *w)
{
	struct ibv_send_wr *bad, wr = {
		.wr_id = w->wr_id,
		.sg_list = w->sges,
		.num_sge = w->n,
		.opcode = w->op,
		.send_flags = w->flags,
	};

	if (w->op == IBV_WR_SEND_WITH_INV) {
		wr.invalidate_rkey = w->rkey;
	} else {
		wr.wr.rdma.remote_addr = w->remote;
		wr.wr.rdma.rkey = w->rkey;
	}
	return ibv_post_send(qp, &wr, &bad);
}

#define SIGNALED IBV_SEND_SIGNALED

/* One SGE: `len` bytes at `off` of `b`. */
static inline struct ibv_sge sge_of(const struct buf *b, size_t off, size_t len)
{
	return (struct ibv_sge) {
		.addr = (uintptr_t)b->p + off,
		.length = (uint32_t)len,
		.lkey = b->mr->lkey,
	};
}

static inline void send_buf(struct ibv_qp *qp, uint64_t id, const struct buf *b, size_t len,
			    unsigned int flags)
{
	struct ibv_sge sge = sge_of(b, 0, len);
	struct work w = { id, IBV_WR_SEND, flags, &sge, 1, 0, 0 };

	OK(try_post(qp, &w));
}

/* WRITE or READ of the first `len` bytes. */
static inline void rdma_buf(struct ibv_qp *qp, uint64_t id, enum ibv_wr_opcode op,
			    const struct buf *b, size_t len, uint64_t remote, uint32_t rkey,
			    unsigned int flags)
{
	struct ibv_sge sge = sge_of(b, 0, len);
	struct work w = { id, op, flags, &sge, 1, remote, rkey };

	OK(try_post(qp, &w));
}

static inline int try_recv(struct ibv_qp *qp, uint64_t id, struct ibv_sge *sges, int n)
{
	struct ibv_recv_wr *bad, wr = { .wr_id = id, .sg_list = sges, .num_sge = n };

	return ibv_post_recv(qp, &wr, &bad);
}

static inline void recv_buf(struct ibv_qp *qp, uint64_t id, const struct buf *b, size_t len)
{
	struct ibv_sge sge = sge_of(b, 0, len);

	OK(try_recv(qp, id, &sge, 1));
}

static inline bool poll_within(struct ibv_cq *cq, struct ibv_wc *wc, int ms)
{
	long end = now_ms() + ms;

	for (;;) {
		int n = ibv_poll_cq(cq, 1, wc);

		if (n < 0)
			FAIL("ibv_poll_cq: %d", n);
		if (n)
			return true;
		if (now_ms() > end)
			return false;
		usleep(200);
	}
}

/* The next completion; it must be of this request and have this status. */
static inline struct ibv_wc completion(struct ibv_cq *cq, uint64_t id, enum ibv_wc_status status,
				       int line)
{
	struct ibv_wc wc;

	if (!poll_within(cq, &wc, SOON))
		fail("vt", line, "no completion of request %llu", (unsigned long long)id);
	if (wc.wr_id != id || wc.status != status)
		fail("vt", line, "completion of request %llu: %s; not of %llu: %s",
		     (unsigned long long)wc.wr_id, ibv_wc_status_str(wc.status),
		     (unsigned long long)id, ibv_wc_status_str(status));
	return wc;
}

#define DONE(cq, id) completion(cq, id, IBV_WC_SUCCESS, __LINE__)
#define DONE_WITH(cq, id, status) completion(cq, id, IBV_WC_##status, __LINE__)

/* Nothing completes for a while. */
#define NOTHING(cq) do { \
	struct ibv_wc wc_; \
	if (poll_within(cq, &wc_, QUIET)) \
		FAIL("completion of request %llu: %s", (unsigned long long)wc_.wr_id, \
		     ibv_wc_status_str(wc_.status)); \
} while (0)

/* --- the table --- */

#define T(name) { #name, name }

struct test {
	const char *name;
	void (*run)(void);
};

static inline int run_test(const struct test *tests, size_t n, int argc, char **argv)
{
	const char *limit = getenv("RURDMA_TIMEOUT");

	if (argc == 2 && !strcmp(argv[1], "--list")) {
		for (size_t i = 0; i < n; i++)
			puts(tests[i].name);
		return 0;
	}
	if (argc < 3) {
		fprintf(stderr, "usage: %s TEST ADDRESS [ARGUMENT...]\n", argv[0]);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	address = argv[2];
	args = argv + 3;
	alarm(limit ? (unsigned int)atoi(limit) * 3 / 4 : 45);
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(tests[i].name, argv[1])) {
			tests[i].run();
			return 0;
		}
	}
	fprintf(stderr, "%s: no test '%s'\n", argv[0], argv[1]);
	return 2;
}

#endif /* VT_H */
