// SPDX-License-Identifier: GPL-2.0
/* A connection whose rings and doorbells are known: the library maps them, the mmap() here sees where. */
#include "hostile.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <time.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/rdma_user_ioctl.h>

struct map maps[64];
int n_maps;

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

void die(const char *what)
{
	perror(what);
	exit(1);
}

uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

uint64_t seed = 1;

uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1dULL;
}

/* A number that has caught somebody before, or any. */
uint64_t nasty(void)
{
	static const uint64_t n[] = { 0, 1, 2, 3, 7, 8, 9, 16, 31, 32, 33, 63, 64, 127, 128, 255, 256, 512, 513, 4095,
		4096, 0x7fff, 0x8000, 0xffff, 0x40000000, 0x40000001, 0x7fffffff, 0x80000000, 0xffffffff,
		0x7fffffffffffffff, 0x8000000000000000, 0xfffffffffffffff0, 0xffffffffffffffff, 0xffff888000000000 };
	return rnd() % 3 ? n[rnd() % (sizeof(n) / sizeof(*n))] : rnd();
}

struct rdma_event_channel *channel;
static void *status_page;
void *doorbells;
size_t doorbells_len;
struct ibv_context *device;
bool roce;

static void on_device(struct ibv_context *ctx)
{
	int i;

	if (device)
		return;
	device = ctx;
	roce = ctx->device->transport_type == IBV_TRANSPORT_IB;
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

int kick(void)
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
void ring_all(void)
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

bool make_qp(struct conn *c, struct ibv_comp_channel *cc)
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
				       IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
				       IBV_ACCESS_REMOTE_ATOMIC | (roce ? IBV_ACCESS_FLUSH_GLOBAL : 0));
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

void post_recv(struct conn *c, int i)
{
	struct ibv_sge s = { (uintptr_t)c->buf + BUF / 2 + i * 64, 64, c->mr->lkey };
	struct ibv_recv_wr wr = { .wr_id = i, .sg_list = &s, .num_sge = 1 }, *bad;

	ibv_post_recv(c->id->qp, &wr, &bad);
}

struct sockaddr_in address(const char *host, const char *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port ? atoi(port) : 0) };

	if (inet_pton(AF_INET, host, &a.sin_addr) != 1)
		die(host);
	return a;
}

void drop(struct conn *c)
{
	if (c->id->qp)
		rdma_destroy_qp(c->id);
	if (c->cq)
		ibv_destroy_cq(c->cq);
	rdma_destroy_id(c->id);
	memset(c, 0, sizeof(*c));
}

bool dial(struct conn *c, const char *host, const char *port)
{
	struct sockaddr_in a = address(host, port);
	struct rdma_conn_param p = { .responder_resources = 16, .initiator_depth = 16,
		.retry_count = 7, .rnr_retry_count = 7 };
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
void hang_up(struct conn *c)
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

enum ibv_qp_state state(struct conn *c)
{
	struct ibv_qp_attr a;
	struct ibv_qp_init_attr i;

	return ibv_query_qp(c->id->qp, &a, IBV_QP_STATE, &i) ? IBV_QPS_UNKNOWN : a.qp_state;
}
