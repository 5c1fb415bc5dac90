// SPDX-License-Identifier: GPL-2.0
/*
 * hostile: a process that writes whatever it likes into the pages it shares with the module.
 *
 *   hostile serve ADDRESS PORT          the other end: accepts, receives, answers every message
 *   hostile maps ADDRESS                what may be mapped how, one "ok NAME" or "bad NAME" a line
 *   hostile reasons ADDRESS PORT        one work request for each reason to refuse it
 *   hostile attack ADDRESS PORT SEED N  N mutations; the last line has the counts
 *   hostile flood ADDRESS PORT SECONDS  the same for a time, on one connection after the other
 *   hostile rate ADDRESS PORT SECONDS   harmless: small writes; prints messages per second
 *
 * The library maps the rings; the mmap() here sees where.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/rdma_cma.h>
#include <rdma/rdma_user_ioctl.h>
#include <rdma/rurdma-abi.h>

#define BUF (64 * 1024)
#define DEPTH 64
#define RECVS 32
#define MS 1000000ULL

struct map {
	void *at;
	size_t len;
	int prot, fd;
	off_t off;
};

static struct map maps[64];
static int n_maps;

/* Every shared mapping of a device is remembered. */
void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	void *at = (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, off);

	if (at != MAP_FAILED && fd >= 0 && (flags & MAP_SHARED)) {
		maps[n_maps % 64] = (struct map){ at, len, prot, fd, off };
		n_maps++;
	}
	return at;
}

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	return mmap64(addr, len, prot, flags, fd, off);
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static uint64_t seed = 1;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1dULL;
}

/* A number that has caught somebody before, or any. */
static uint64_t nasty(void)
{
	static const uint64_t n[] = { 0, 1, 2, 3, 7, 8, 9, 16, 31, 32, 33, 63, 64, 127, 128, 255, 256, 512, 513, 4095,
		4096, 0x7fff, 0x8000, 0xffff, 0x40000000, 0x40000001, 0x7fffffff, 0x80000000, 0xffffffff,
		0x7fffffffffffffff, 0x8000000000000000, 0xfffffffffffffff0, 0xffffffffffffffff, 0xffff888000000000 };
	return rnd() % 3 ? n[rnd() % (sizeof(n) / sizeof(*n))] : rnd();
}

struct peer {	/* private data of an accept */
	uint64_t addr;
	uint32_t rkey;
	uint32_t pad;
};

struct conn {
	struct rdma_cm_id *id;
	struct ibv_cq *cq;
	struct ibv_mr *mr;
	uint8_t *buf;
	struct peer peer;
	struct rurdma_ring_hdr *sq, *rq, *ring;	/* ring: of the CQ */
	size_t sq_len, rq_len, cq_len;
	uint32_t units;				/* of the SQ */
	uint32_t tail;				/* our producer of the SQ, in units */
	uint32_t rtail;
};

static struct rdma_event_channel *channel;
static void *status_page, *doorbells;
static size_t doorbells_len;
static struct ibv_context *device;

static void on_device(struct ibv_context *ctx)
{
	int i;

	if (device)
		return;
	device = ctx;
	fcntl(ctx->async_fd, F_SETFL, fcntl(ctx->async_fd, F_GETFL) | O_NONBLOCK);
	for (i = 0; i < n_maps; i++) {
		if (maps[i].fd != ctx->cmd_fd)
			continue;
		if (maps[i].prot == PROT_READ) {
			status_page = maps[i].at;
		} else if (!doorbells) {
			doorbells = maps[i].at;
			doorbells_len = maps[i].len;
		}
	}
	if (!status_page || !doorbells)
		die("the library did not map the doorbells");
}

static int kick(void)
{
	struct ib_uverbs_ioctl_hdr h = {
		.length = sizeof(h),
		.object_id = UVERBS_OBJECT_DEVICE,
		.method_id = RURDMA_METHOD_KICK,
		.driver_id = RURDMA_DRIVER_ID,
	};
	return ioctl(device->cmd_fd, RDMA_VERBS_IOCTL, &h);
}

/* Every doorbell that there is: the slots are small numbers. */
static void ring_all(void)
{
	uint64_t *pending = (uint64_t *)((char *)doorbells + RURDMA_DB_PENDING);

	__atomic_fetch_or(&pending[0], ~0ULL, __ATOMIC_SEQ_CST);
	__atomic_fetch_or((uint64_t *)doorbells, 1, __ATOMIC_SEQ_CST);
}

static struct rdma_cm_event *wait_event(enum rdma_cm_event_type want)
{
	struct rdma_cm_event *e;
	struct pollfd p = { .fd = channel->fd, .events = POLLIN };

	if (poll(&p, 1, 20000) != 1) {
		fprintf(stderr, "no %s within 20 s\n", rdma_event_str(want));
		return NULL;
	}
	if (rdma_get_cm_event(channel, &e))
		die("rdma_get_cm_event");
	if (e->event != want) {
		fprintf(stderr, "%s (%d) instead of %s\n", rdma_event_str(e->event), e->status, rdma_event_str(want));
		rdma_ack_cm_event(e);
		return NULL;
	}
	return e;
}

static bool step(enum rdma_cm_event_type want)
{
	struct rdma_cm_event *e = wait_event(want);

	if (e)
		rdma_ack_cm_event(e);
	return e;
}

static struct ibv_pd *shared_pd;
static struct ibv_mr *shared_mr;
static uint8_t *shared_buf;

static bool make_qp(struct conn *c, struct ibv_comp_channel *cc)
{
	struct ibv_qp_init_attr a = {
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = DEPTH, .max_recv_wr = DEPTH, .max_send_sge = 4, .max_recv_sge = 3 },
	};
	int before;

	on_device(c->id->verbs);
	if (!shared_pd) {
		shared_pd = ibv_alloc_pd(device);
		shared_buf = aligned_alloc(4096, BUF);
		if (!shared_pd || !shared_buf)
			die("ibv_alloc_pd");
		memset(shared_buf, 0, BUF);
		shared_mr = ibv_reg_mr(shared_pd, shared_buf, BUF,
				       IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ);
		if (!shared_mr)
			die("ibv_reg_mr");
	}
	c->mr = shared_mr;
	c->buf = shared_buf;
	before = n_maps;
	c->cq = ibv_create_cq(device, 512, c, cc, 0);
	if (!c->cq || n_maps != before + 1)
		die("ibv_create_cq");
	c->ring = maps[before % 64].at;
	c->cq_len = maps[before % 64].len;
	a.send_cq = a.recv_cq = c->cq;
	before = n_maps;
	if (rdma_create_qp(c->id, shared_pd, &a) || n_maps != before + 2)
		die("rdma_create_qp");
	c->sq = maps[before % 64].at;
	c->sq_len = maps[before % 64].len;
	c->rq = maps[(before + 1) % 64].at;
	c->rq_len = maps[(before + 1) % 64].len;
	for (c->units = 64; c->units * 2 <= (c->sq_len - RURDMA_RING_ENTRIES) / RURDMA_WQE_UNIT; c->units *= 2)
		;
	return true;
}

static void post_recv(struct conn *c, int i)
{
	struct ibv_sge s = { (uintptr_t)c->buf + BUF / 2 + i * 64, 64, c->mr->lkey };
	struct ibv_recv_wr wr = { .wr_id = i, .sg_list = &s, .num_sge = 1 }, *bad;

	ibv_post_recv(c->id->qp, &wr, &bad);
}

static struct sockaddr_in address(const char *host, const char *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port ? atoi(port) : 0) };

	if (inet_pton(AF_INET, host, &a.sin_addr) != 1)
		die(host);
	return a;
}

static void drop(struct conn *c)
{
	if (c->id->qp)
		rdma_destroy_qp(c->id);
	if (c->cq)
		ibv_destroy_cq(c->cq);
	rdma_destroy_id(c->id);
	memset(c, 0, sizeof(*c));
}

static bool dial(struct conn *c, const char *host, const char *port)
{
	struct sockaddr_in a = address(host, port);
	struct rdma_conn_param p = { .responder_resources = 16, .initiator_depth = 16 };
	struct rdma_cm_event *e;
	int i;

	memset(c, 0, sizeof(*c));
	if (!channel)
		channel = rdma_create_event_channel();
	if (!channel || rdma_create_id(channel, &c->id, c, RDMA_PS_TCP))
		die("rdma_create_id");
	if (rdma_resolve_addr(c->id, NULL, (struct sockaddr *)&a, 5000) || !step(RDMA_CM_EVENT_ADDR_RESOLVED) ||
	    rdma_resolve_route(c->id, 5000) || !step(RDMA_CM_EVENT_ROUTE_RESOLVED) || !make_qp(c, NULL))
		goto fail;
	for (i = 0; i < RECVS; i++)
		post_recv(c, i);
	if (rdma_connect(c->id, &p))
		goto fail;
	e = wait_event(RDMA_CM_EVENT_ESTABLISHED);
	if (!e)
		goto fail;
	if (e->param.conn.private_data_len >= sizeof(c->peer))
		memcpy(&c->peer, e->param.conn.private_data, sizeof(c->peer));
	rdma_ack_cm_event(e);
	c->rtail = RECVS;
	return true;
fail:
	drop(c);
	return false;
}

/* Ends a connection whatever state it is in, and takes its events. */
static void hang_up(struct conn *c)
{
	struct ibv_async_event ae;
	struct rdma_cm_event *e;
	struct pollfd p = { .fd = channel->fd, .events = POLLIN };

	rdma_disconnect(c->id);
	if (poll(&p, 1, 3000) == 1 && !rdma_get_cm_event(channel, &e))
		rdma_ack_cm_event(e);
	while (!ibv_get_async_event(device, &ae))
		ibv_ack_async_event(&ae);
	drop(c);
}

static enum ibv_qp_state state(struct conn *c)
{
	struct ibv_qp_attr a;
	struct ibv_qp_init_attr i;

	return ibv_query_qp(c->id->qp, &a, IBV_QP_STATE, &i) ? IBV_QPS_UNKNOWN : a.qp_state;
}

/* --- the other end --- */

static int serve(const char *host, const char *port)
{
	struct sockaddr_in a = address(host, port);
	struct rdma_cm_id *listener;
	struct ibv_comp_channel *cc = NULL;

	channel = rdma_create_event_channel();
	if (!channel || rdma_create_id(channel, &listener, NULL, RDMA_PS_TCP) ||
	    rdma_bind_addr(listener, (struct sockaddr *)&a) || rdma_listen(listener, 64))
		die("listen");
	puts("listening");
	fflush(stdout);
	for (;;) {
		struct pollfd p[2] = { { .fd = channel->fd, .events = POLLIN },
				       { .fd = cc ? cc->fd : -1, .events = POLLIN } };
		struct rdma_cm_event *e;
		struct ibv_async_event ae;

		poll(p, 2, -1);
		while (device && !ibv_get_async_event(device, &ae))
			ibv_ack_async_event(&ae);
		if (p[1].revents & POLLIN) {
			struct ibv_wc wc[16];
			struct ibv_cq *cq;
			void *context;
			int i, n;

			if (ibv_get_cq_event(cc, &cq, &context))
				die("ibv_get_cq_event");
			ibv_ack_cq_events(cq, 1);
			ibv_req_notify_cq(cq, 0);
			while ((n = ibv_poll_cq(cq, 16, wc)) > 0) {
				struct conn *c = context;

				for (i = 0; i < n; i++) {
					struct ibv_sge s = { (uintptr_t)c->buf, 8, c->mr->lkey };
					struct ibv_send_wr wr = { .sg_list = &s, .num_sge = 1, .opcode = IBV_WR_SEND,
						.send_flags = IBV_SEND_SIGNALED }, *bad;

					if (wc[i].status || !(wc[i].opcode & IBV_WC_RECV))
						continue;
					post_recv(c, wc[i].wr_id);
					ibv_post_send(c->id->qp, &wr, &bad);
				}
			}
		}
		if (!(p[0].revents & POLLIN))
			continue;
		if (rdma_get_cm_event(channel, &e))
			die("rdma_get_cm_event");
		if (e->event == RDMA_CM_EVENT_CONNECT_REQUEST) {
			struct conn *c = calloc(1, sizeof(*c));
			struct rdma_conn_param param = { .responder_resources = 16, .initiator_depth = 16 };
			struct peer me = {};
			int i;

			c->id = e->id;
			c->id->context = c;
			if (!cc)
				cc = ibv_create_comp_channel(c->id->verbs);
			make_qp(c, cc);
			for (i = 0; i < RECVS; i++)
				post_recv(c, i);
			ibv_req_notify_cq(c->cq, 0);
			me.addr = (uintptr_t)c->buf;
			me.rkey = c->mr->rkey;
			param.private_data = &me;
			param.private_data_len = sizeof(me);
			rdma_accept(c->id, &param);
			rdma_ack_cm_event(e);
		} else if (e->event == RDMA_CM_EVENT_DISCONNECTED || e->event == RDMA_CM_EVENT_CONNECT_ERROR ||
			   e->event == RDMA_CM_EVENT_UNREACHABLE || e->event == RDMA_CM_EVENT_REJECTED) {
			struct conn *c = e->id->context;

			rdma_ack_cm_event(e);
			rdma_disconnect(c->id);
			drop(c);
			free(c);
		} else {
			if (e->event == RDMA_CM_EVENT_DEVICE_REMOVAL)
				return 0;
			rdma_ack_cm_event(e);
		}
	}
}

/* --- mappings --- */

static int bad_maps;

static void check(const char *name, bool ok)
{
	printf("%s %s (errno %d)\n", ok ? "ok" : "bad", name, errno);
	bad_maps += !ok;
}

static bool refused(const struct map *m, size_t len, int prot, int flags, off_t off, int want)
{
	void *at = (void *)syscall(SYS_mmap, NULL, len, prot, flags, m->fd, off);

	if (at == MAP_FAILED)
		return !want || errno == want;
	munmap(at, len);
	return false;
}

static void on_fault(int signal)
{
	_exit(signal == SIGSEGV ? 77 : 1);
}

/* Writing to `at` raises SIGSEGV. (Unhandled, it would be in the kernel log.) */
static bool faults(volatile uint32_t *at)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		signal(SIGSEGV, on_fault);
		*at = 1;
		_exit(0);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 77;
}

static int try_maps(const char *host)
{
	struct sockaddr_in a = address(host, NULL);
	struct conn c = {};
	int i, n;

	channel = rdma_create_event_channel();
	if (!channel || rdma_create_id(channel, &c.id, NULL, RDMA_PS_TCP) ||
	    rdma_bind_addr(c.id, (struct sockaddr *)&a))
		die("rdma_bind_addr");
	if (!c.id->verbs)
		die("no device has this address");
	make_qp(&c, NULL);
	/* What has been mapped: status, doorbells, CQ, SQ, RQ. */
	n = n_maps;
	check("five mappings", n == 5);
	for (i = 0; i < n; i++) {
		const struct map *m = &maps[i];
		bool ro = m->prot == PROT_READ;

		printf("mapping %d: %zu bytes, %s\n", i, m->len, ro ? "read-only" : "read-write");
		check("private", refused(m, m->len, m->prot, MAP_PRIVATE, m->off, EINVAL));
		check("longer", refused(m, m->len + 4096, m->prot, MAP_SHARED, m->off, EINVAL));
		check("much longer", refused(m, m->len * 16 + (1 << 20), m->prot, MAP_SHARED, m->off, 0));
		if (m->len > 4096)
			check("shorter", refused(m, m->len - 4096, m->prot, MAP_SHARED, m->off, EINVAL));
		if (m->len > 4096)
			check("from the middle", refused(m, m->len - 4096, m->prot, MAP_SHARED, m->off + 4096, 0));
		check("executable", refused(m, m->len, m->prot | PROT_EXEC, MAP_SHARED, m->off, 0));
		check("grows", mremap(m->at, m->len, m->len * 2, MREMAP_MAYMOVE) == MAP_FAILED);
		if (ro) {
			check("writable", refused(m, m->len, PROT_READ | PROT_WRITE, MAP_SHARED, m->off, EPERM));
			check("only writable", refused(m, m->len, PROT_WRITE, MAP_SHARED, m->off, EPERM));
			check("made writable", mprotect(m->at, m->len, PROT_READ | PROT_WRITE) && errno == EACCES);
			check("faults on a write", faults(m->at));
		}
	}
	for (i = 0; i < 2000; i++) {
		off_t off = (off_t)(rnd() >> (1 + rnd() % 50)) & ~4095ULL;
		struct map any = { .fd = device->cmd_fd };
		bool known = false;
		int j;

		for (j = 0; j < n; j++)
			known |= maps[j].off == off;
		if (!known && !refused(&any, 4096, PROT_READ, MAP_SHARED, off, 0)) {
			check("an offset that nobody gave out", false);
			break;
		}
	}
	drop(&c);
	check("an offset of a QP that is gone", refused(&maps[3], maps[3].len, maps[3].prot, MAP_SHARED, maps[3].off, 0));
	return bad_maps != 0;
}

/* --- work requests by hand --- */

static void *unit(struct conn *c, uint32_t i)
{
	return (uint8_t *)c->sq + RURDMA_RING_ENTRIES + (i % c->units) * RURDMA_WQE_UNIT;
}

static void publish(struct conn *c, uint32_t units)
{
	c->tail += units;
	__atomic_store_n(&c->sq->producer, c->tail, __ATOMIC_RELEASE);
}

/* A work request that is as it should be: one unit header and data of up to two SGEs. */
static uint32_t valid(struct conn *c, uint8_t *raw, uint8_t op)
{
	struct rurdma_send_wqe *w = (void *)raw;
	struct rurdma_sge *s = (void *)(raw + RURDMA_SEND_HDR);

	memset(raw, 0, 9 * RURDMA_WQE_UNIT);
	w->wr_id = 0x1234000000000000ULL + c->tail;
	w->opcode = op;
	w->flags = RURDMA_SEND_SIGNALED;
	w->units = 1;
	w->imm_inv = op == RURDMA_OP_SEND_INV ? c->peer.rkey : c->mr->lkey;
	w->remote_addr = c->peer.addr;
	w->rkey = c->peer.rkey;
	if (op == RURDMA_OP_NOP || op == RURDMA_OP_LOCAL_INV)
		return 1;
	w->num_sge = 2;
	s[0] = (struct rurdma_sge){ (uintptr_t)c->buf, 40, c->mr->lkey };
	s[1] = (struct rurdma_sge){ (uintptr_t)c->buf + 4096, 8, c->mr->lkey };
	return 1;
}

static void put(struct conn *c, const uint8_t *raw, uint32_t units)
{
	uint32_t i;

	for (i = 0; i < units; i++)
		memcpy(unit(c, c->tail + i), raw + i * RURDMA_WQE_UNIT, RURDMA_WQE_UNIT);
	publish(c, units);
}

/* The first completion that is neither a success nor flushed. */
static bool first_error(struct conn *c, struct ibv_wc *wc, unsigned int seconds)
{
	uint64_t end = now() + seconds * 1000 * MS;
	bool over;

	do {
		/* Whatever is to come has come with the state; leave it a moment all the same. */
		over = state(c) == IBV_QPS_ERR;
		usleep(over ? 50000 : 1000);
		while (ibv_poll_cq(c->cq, 1, wc) > 0)
			if (wc->status != IBV_WC_SUCCESS && wc->status != IBV_WC_WR_FLUSH_ERR)
				return true;
	} while (!over && now() < end);
	return false;
}

enum { N_REASONS = 17 };

static const char *const reason_names[N_REASONS] = {
	"none", "opcode-unknown", "opcode-not-ours", "opcode-imm", "flags", "sge-count", "inline-too-long",
	"inline-on-read", "inline-and-sges", "units-sges", "units-inline", "length", "frame-zero", "frame-too-long",
	"index", "recv-sge-count", "recv-index",
};

static int reasons(const char *host, const char *port)
{
	int k;

	for (k = 0; k < N_REASONS; k++) {
		uint8_t raw[9 * RURDMA_WQE_UNIT];
		struct rurdma_send_wqe *w = (void *)raw;
		struct rurdma_sge *s = (void *)(raw + RURDMA_SEND_HDR);
		struct ibv_async_event ae;
		struct ibv_wc wc = {};
		struct conn c;
		int event = -1;
		bool error;

		if (!dial(&c, host, port))
			return 1;
		valid(&c, raw, RURDMA_OP_WRITE);
		w->wr_id = 4711;
		switch (k) {
		case 1:
			w->opcode = 99;
			break;
		case 2:
			w->opcode = RURDMA_OP_REG_MR;
			break;
		case 3:
			w->opcode = RURDMA_OP_SEND_IMM;
			break;
		case 4:
			w->flags = 0x81;
			break;
		case 5:
			w->num_sge = 33;
			break;
		case 6:
			w->flags |= RURDMA_SEND_INLINE;
			w->num_sge = 0;
			w->units = 9;
			w->inline_len = 513;
			break;
		case 7:
			w->opcode = RURDMA_OP_READ;
			w->flags |= RURDMA_SEND_INLINE;
			w->num_sge = 0;
			break;
		case 8:
			w->flags |= RURDMA_SEND_INLINE;
			w->inline_len = 8;
			break;
		case 9:
			w->num_sge = 4;
			break;
		case 10:
			w->flags |= RURDMA_SEND_INLINE;
			w->num_sge = 0;
			w->inline_len = 40;
			break;
		case 11:
			s[0].length = s[1].length = 0x7fffffff;
			break;
		case 12:
			w->units = 0;
			break;
		case 13:
			w->units = 4;
			break;
		case 15:
		case 16:
			w->opcode = RURDMA_OP_SEND;
			break;
		}
		put(&c, raw, k == 6 ? 9 : 1);
		if (k == 14)
			__atomic_store_n(&c.sq->producer, c.tail + c.units + 1, __ATOMIC_SEQ_CST);
		if (k == 15) {
			/* The answer to our message meets a receive that makes no sense. */
			struct rurdma_recv_wqe *r = (void *)((uint8_t *)c.rq + RURDMA_RING_ENTRIES);

			r->num_sge = 200;
		}
		if (k == 16)
			__atomic_store_n(&c.rq->producer, 0x12345678, __ATOMIC_SEQ_CST);
		ring_all();
		kick();
		/* The first one is valid: nothing is to come. */
		error = first_error(&c, &wc, k ? 20 : 3);
		if (!ibv_get_async_event(device, &ae)) {
			event = ae.event_type;
			ibv_ack_async_event(&ae);
		}
		printf("reason %s state %d status %d vendor %u wr_id %llu event %d\n", reason_names[k], state(&c),
		       error ? (int)wc.status : -1, error ? wc.vendor_err : 0, (unsigned long long)wc.wr_id, event);
		hang_up(&c);
	}
	return 0;
}

/* --- mutations --- */

static uint64_t done, live, connections;

static void mutate_send(struct conn *c)
{
	static const uint8_t ops[] = { RURDMA_OP_NOP, RURDMA_OP_SEND, RURDMA_OP_SEND, RURDMA_OP_SEND_INV, RURDMA_OP_WRITE,
		RURDMA_OP_WRITE, RURDMA_OP_READ, RURDMA_OP_READ, RURDMA_OP_LOCAL_INV };
	uint8_t raw[9 * RURDMA_WQE_UNIT];
	struct rurdma_send_wqe *w = (void *)raw;
	struct rurdma_sge *s = (void *)(raw + RURDMA_SEND_HDR);
	uint32_t units = valid(c, raw, ops[rnd() % sizeof(ops)]);
	uint64_t v = nasty();
	size_t i;

	if (!(rnd() % 4) && w->num_sge && w->opcode != RURDMA_OP_READ) {
		w->flags |= RURDMA_SEND_INLINE;
		w->num_sge = 0;
		w->inline_len = rnd() % 33;
	}
	switch (rnd() % 20) {
	case 0:
		w->wr_id = v;
		break;
	case 1:
		w->opcode = v;
		break;
	case 2:
		w->flags = v;
		break;
	case 3:
		w->num_sge = v;
		break;
	case 4:
		w->units = v;
		break;
	case 5:
		w->imm_inv = v;
		break;
	case 6:
		w->remote_addr = v;
		break;
	case 7:
		w->remote_addr += (int64_t)(v % 131072) - 65536;
		break;
	case 8:
		w->rkey = v;
		break;
	case 9:
		w->rkey ^= 1u << (v % 32);
		break;
	case 10:
		w->inline_len = v;
		break;
	case 11:
		s[rnd() % 2].addr = v;
		break;
	case 12:
		s[rnd() % 2].length = v;
		break;
	case 13:
		s[rnd() % 2].lkey = v;
		break;
	case 14:
		s[rnd() % 2].lkey ^= 1u << (v % 32);
		break;
	case 15:
		w->units = units = 1 + rnd() % 9;
		break;
	case 16:
		raw[rnd() % RURDMA_WQE_UNIT] ^= 1 << (v % 8);
		break;
	case 17:
		w->flags ^= 1 << (v % 8);
		break;
	case 18:
		w->opcode = rnd() % 16;
		w->units = units = 2;
		break;
	default:
		for (i = 0; i < sizeof(raw); i++)
			raw[i] = rnd();
		if (rnd() % 2)
			w->units = units = 1 + rnd() % 9;
	}
	put(c, raw, units);
}

static void mutate_recv(struct conn *c)
{
	struct rurdma_recv_wqe *r = (void *)((uint8_t *)c->rq + RURDMA_RING_ENTRIES + (rnd() % DEPTH) * 64);
	struct rurdma_sge *s = (void *)(r + 1);

	switch (rnd() % 6) {
	case 0:
		r->num_sge = nasty();
		break;
	case 1:
		s[rnd() % 3].addr = nasty();
		break;
	case 2:
		s[rnd() % 3].length = nasty();
		break;
	case 3:
		s[rnd() % 3].lkey = nasty();
		break;
	case 4:
		r->wr_id = nasty();
		break;
	default:
		r->reserved = nasty();
	}
	if (rnd() % 2)
		__atomic_store_n(&c->rq->producer, ++c->rtail, __ATOMIC_RELEASE);
}

static void mutate_words(struct conn *c)
{
	struct rurdma_ring_hdr *rings[] = { c->sq, c->rq, c->ring };
	uint64_t *words = doorbells;
	size_t len[] = { c->sq_len, c->rq_len, c->cq_len };
	int which = rnd() % 3;
	struct rurdma_ring_hdr *r = rings[which];
	uint32_t *word, was, is;

	switch (rnd() % 8) {
	case 0:
		r->arm = nasty();
		break;
	case 1:
		c->ring->arm = rnd() % 4;
		break;
	case 2:
		r->consumer = nasty();
		break;
	case 3:
		r->flags = nasty();
		break;
	case 4:
		words[rnd() % (doorbells_len / 8)] = nasty();
		break;
	case 5:
		words[rnd() % (RURDMA_DB_SUMMARY_WORDS + 2)] = nasty();
		break;
	case 6:
		word = (uint32_t *)r + rnd() % (len[which] / 4);
		if (word == &c->ring->producer)
			break;
		*word = nasty();
		break;
	default:
		is = r == c->sq ? c->tail + (int32_t)(nasty() % 512) - 64 : nasty();
		was = __atomic_exchange_n(&r->producer, is, __ATOMIC_SEQ_CST);
		if (r != c->ring)
			break;
		/* Our own library believes this one: it must not meet it. */
		ring_all();
		kick();
		__atomic_compare_exchange_n(&r->producer, &is, was, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
}

static struct conn *volatile target;
static pthread_mutex_t target_lock = PTHREAD_MUTEX_INITIALIZER;

/* Changes entries and indices while the module reads them. */
static void *scribbler(void *unused)
{
	uint64_t x = 88172645463325252ULL;

	(void)unused;
	for (;;) {
		int i;

		pthread_mutex_lock(&target_lock);
		for (i = 0; target && i < 200; i++) {
			uint32_t *sq = (uint32_t *)((uint8_t *)target->sq + RURDMA_RING_ENTRIES);

			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			sq[(x >> 8) % (target->units * 16)] ^= x >> 32;
		}
		pthread_mutex_unlock(&target_lock);
		usleep(500);
	}
	return NULL;
}

static bool one_connection(const char *host, const char *port, uint64_t max, uint64_t until)
{
	struct ibv_wc wc[16];
	struct conn c;
	uint64_t i, after = 0;
	bool up = true;

	if (!dial(&c, host, port))
		return false;
	connections++;
	pthread_mutex_lock(&target_lock);
	target = &c;
	pthread_mutex_unlock(&target_lock);
	for (i = 0; i < max && after < 200 && (!until || now() < until); i++) {
		uint64_t kind = rnd() % 16;

		if (kind < 10)
			mutate_send(&c);
		else if (kind < 13)
			mutate_recv(&c);
		else if (kind < 15)
			mutate_words(&c);
		else
			__atomic_store_n(&c.ring->arm, (uint32_t)rnd(), __ATOMIC_RELAXED);
		done++;
		live += up;
		ring_all();
		if (kick() && errno != EIO) {
			perror("kick");
			return false;
		}
		if (!(i % 8) && up)
			ibv_poll_cq(c.cq, 16, wc);
		if (up && !(i % 4) && state(&c) == IBV_QPS_ERR)
			up = false;
		after += !up;
	}
	pthread_mutex_lock(&target_lock);
	target = NULL;
	pthread_mutex_unlock(&target_lock);
	hang_up(&c);
	return true;
}

static int attack(const char *host, const char *port, uint64_t n)
{
	pthread_t t;
	int bad = 0;

	pthread_create(&t, NULL, scribbler, NULL);
	while (done < n && bad < 20)
		bad = one_connection(host, port, 1000, 0) ? 0 : bad + 1;
	printf("mutations %llu live %llu connections %llu\n", (unsigned long long)done, (unsigned long long)live,
	       (unsigned long long)connections);
	fflush(stdout);
	_exit(done < n);
}

static int flood(const char *host, const char *port, uint64_t seconds)
{
	uint64_t end = now() + seconds * 1000 * MS;

	while (now() < end && one_connection(host, port, 1 << 20, end))
		;
	printf("mutations %llu\n", (unsigned long long)done);
	return 0;
}

static int rate(const char *host, const char *port, uint64_t seconds)
{
	struct ibv_wc wc[16];
	uint64_t begin, end, n = 0;
	struct conn c;
	int open = 0;

	if (!dial(&c, host, port))
		return 1;
	begin = now();
	end = begin + seconds * 1000 * MS;
	while (now() < end) {
		struct ibv_sge s = { (uintptr_t)c.buf, 64, c.mr->lkey };
		struct ibv_send_wr wr = { .sg_list = &s, .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE,
			.send_flags = IBV_SEND_SIGNALED, .wr.rdma = { c.peer.addr, c.peer.rkey } }, *bad;
		int got;

		while (open < 16) {
			if (ibv_post_send(c.id->qp, &wr, &bad))
				die("ibv_post_send");
			open++;
		}
		got = ibv_poll_cq(c.cq, 16, wc);
		if (got < 0 || (got > 0 && wc[0].status)) {
			fprintf(stderr, "completion: %d\n", got < 0 ? got : (int)wc[0].status);
			return 1;
		}
		open -= got;
		n += got;
	}
	printf("rate %llu\n", (unsigned long long)(n * 1000 * MS / (now() - begin)));
	hang_up(&c);
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && !strcmp(argv[1], "serve"))
		return serve(argv[2], argv[3]);
	if (argc == 3 && !strcmp(argv[1], "maps"))
		return try_maps(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "reasons"))
		return reasons(argv[2], argv[3]);
	if (argc == 6 && !strcmp(argv[1], "attack")) {
		seed = strtoull(argv[4], NULL, 0) * 2 + 1;
		return attack(argv[2], argv[3], strtoull(argv[5], NULL, 0));
	}
	if (argc == 5 && !strcmp(argv[1], "flood"))
		return flood(argv[2], argv[3], strtoull(argv[4], NULL, 0));
	if (argc == 5 && !strcmp(argv[1], "rate"))
		return rate(argv[2], argv[3], strtoull(argv[4], NULL, 0));
	fprintf(stderr, "usage: see the head of hostile.c\n");
	return 2;
}
