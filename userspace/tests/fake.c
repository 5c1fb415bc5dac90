// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rdma/rdma_user_ioctl.h>

#include "fake.h"

#define PAGE 4096UL
#define MEM (64UL << 20)
#define SLOTS 256

struct fake_qp fake_qps[FAKE_QPS];
struct rurdma_db_status *fake_status;
unsigned int fake_kicks;
unsigned int fake_post_sends;
uint64_t fake_caps = RURDMA_CAP_KICK_METHOD | RURDMA_CAP_ATOMIC_IMM |
		     RURDMA_CAP_TIMESTAMP | RURDMA_CAP_SRQ_RESIZE |
		     RURDMA_CAP_CQ_RESIZE;
uint64_t fake_device_caps = 7ULL << 38;
int fake_kick_error;
int fake_query_context_error;
int fake_query_qp_error;
const struct verbs_context_ops *fake_ops;
const struct verbs_device_ops *fake_device_ops;
uint32_t fake_sq_units;
uint32_t fake_max_sge = 4;
uint32_t fake_max_inline = 128;
uint32_t fake_start_index;
uint64_t fake_cq_wc_flags;
uint64_t fake_resize_skew;
void (*fake_on_resize_cq)(struct ibv_cq *cq);
void (*fake_on_kick)(void);

static uint8_t *mem;
static uint64_t mem_used = 2 * PAGE;	/* status, doorbells */
static struct fake_cq cqs[64];
static struct fake_ring srqs[8];
static uint32_t next_cq = 1, next_srq = 1, next_handle = 100;

static void die(const char *what)
{
	fprintf(stderr, "fake module: %s\n", what);
	abort();
}

static int open_mem(void)
{
	int fd = memfd_create("rurdma", 0);

	if (fd < 0 || ftruncate(fd, MEM))
		die("memfd");
	mem = mmap(NULL, MEM, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED)
		die("mmap");
	fake_status = (void *)mem;
	return fd;
}

static struct fake_ring new_ring(uint32_t n, uint32_t stride)
{
	struct fake_ring r = {
		.off = mem_used,
		.len = (RURDMA_RING_ENTRIES + (uint64_t)n * stride + PAGE - 1) &
		       ~(PAGE - 1),
		.n = n,
		.stride = stride,
	};

	mem_used += r.len;
	if (mem_used > MEM)
		die("out of memory");
	r.hdr = (void *)(mem + r.off);
	r.entries = mem + r.off + RURDMA_RING_ENTRIES;
	r.hdr->producer = fake_start_index;
	r.hdr->consumer = fake_start_index;
	return r;
}

static uint32_t pow2(uint32_t n)
{
	uint32_t p = 1;

	while (p < n)
		p <<= 1;
	return p;
}

struct fake_qp *fake_qp_of(struct ibv_qp *qp)
{
	return &fake_qps[qp->handle];
}

struct fake_cq *fake_cq_of(struct ibv_cq *cq)
{
	return &cqs[cq->handle];
}

struct fake_ring *fake_srq_of(struct ibv_srq *srq)
{
	return &srqs[srq->handle];
}

/* The module's side of the rings. */

unsigned int fake_take_doorbells(void (*work)(struct fake_qp *qp))
{
	uint64_t *summary = (uint64_t *)(mem + PAGE);
	uint64_t *pending = (uint64_t *)(mem + PAGE + RURDMA_DB_PENDING);
	unsigned int n = 0;
	uint64_t s, p;
	int i, w, b;

	for (i = 0; i < (int)RURDMA_DB_SUMMARY_WORDS; i++) {
		s = __atomic_exchange_n(&summary[i], 0, __ATOMIC_SEQ_CST);
		for (w = 0; w < 64; w++) {
			if (!(s >> w & 1))
				continue;
			p = __atomic_exchange_n(&pending[i * 64 + w], 0,
						__ATOMIC_SEQ_CST);
			for (b = 0; b < 64; b++) {
				int q;

				if (!(p >> b & 1))
					continue;
				n++;
				for (q = 0; q < FAKE_QPS; q++)
					if (fake_qps[q].used &&
					    fake_qps[q].slot ==
						    (uint32_t)(i * 4096 + w * 64 + b))
						work(&fake_qps[q]);
			}
		}
	}
	return n;
}

bool fake_next_send(struct fake_qp *qp, struct fake_wr *wr)
{
	uint32_t producer = __atomic_load_n(&qp->sq.hdr->producer,
					    __ATOMIC_ACQUIRE);
	uint32_t size = qp->sq.n * RURDMA_WQE_UNIT;
	uint8_t raw[RURDMA_MAX_SEND_UNITS * RURDMA_WQE_UNIT];
	uint32_t i, off, at, need;
	bool ud = qp->qp->qp_type == IBV_QPT_UD;

	if (qp->sq_consumer == producer)
		return false;

	memset(wr, 0, sizeof(*wr));
	at = (qp->sq_consumer % qp->sq.n) * RURDMA_WQE_UNIT;
	memcpy(&wr->wqe, qp->sq.entries + at, sizeof(wr->wqe));
	if (!wr->wqe.units || wr->wqe.units > RURDMA_MAX_SEND_UNITS ||
	    wr->wqe.units > producer - qp->sq_consumer)
		die("bad number of units");
	for (i = 0; i < wr->wqe.units * RURDMA_WQE_UNIT; i++)
		raw[i] = qp->sq.entries[(at + i) & (size - 1)];

	off = RURDMA_SEND_HDR;
	switch (wr->wqe.opcode) {
	case RURDMA_OP_CMP_SWP:
	case RURDMA_OP_FETCH_ADD:
	case RURDMA_OP_BIND_MW:
	case RURDMA_OP_FLUSH:
		memcpy(wr->ext, raw + off, RURDMA_SEND_EXT);
		off += RURDMA_SEND_EXT;
		break;
	default:
		if (ud) {
			memcpy(wr->ext, raw + off, RURDMA_SEND_EXT);
			off += RURDMA_SEND_EXT;
		}
	}

	if (wr->wqe.flags & RURDMA_SEND_INLINE) {
		if (wr->wqe.num_sge || wr->wqe.inline_len > RURDMA_MAX_INLINE)
			die("bad inline request");
		need = off + wr->wqe.inline_len;
		if (need <= sizeof(raw))
			memcpy(wr->data, raw + off, wr->wqe.inline_len);
	} else {
		if (wr->wqe.num_sge > RURDMA_MAX_SGE || wr->wqe.inline_len)
			die("bad number of SGEs");
		need = off + wr->wqe.num_sge * RURDMA_SGE_SIZE;
		if (need <= sizeof(raw))
			memcpy(wr->sge, raw + off,
			       wr->wqe.num_sge * RURDMA_SGE_SIZE);
	}
	if ((need + RURDMA_WQE_UNIT - 1) / RURDMA_WQE_UNIT != wr->wqe.units)
		die("units do not fit the contents");

	wr->qp_num = qp->qp->qp_num;
	qp->sq_consumer += wr->wqe.units;
	return true;
}

void fake_publish_sq(struct fake_qp *qp)
{
	__atomic_store_n(&qp->sq.hdr->consumer, qp->sq_consumer,
			 __ATOMIC_RELEASE);
}

bool fake_next_recv(struct fake_ring *rq, uint32_t *consumer,
		    struct rurdma_recv_wqe *wqe, struct rurdma_sge *sge)
{
	uint8_t *at = rq->entries + (size_t)(*consumer % rq->n) * rq->stride;

	if (*consumer == __atomic_load_n(&rq->hdr->producer, __ATOMIC_ACQUIRE))
		return false;
	memcpy(wqe, at, sizeof(*wqe));
	if (RURDMA_RECV_HDR + wqe->num_sge * RURDMA_SGE_SIZE > rq->stride)
		die("receive longer than its stride");
	memcpy(sge, at + RURDMA_RECV_HDR, wqe->num_sge * RURDMA_SGE_SIZE);
	++*consumer;
	__atomic_store_n(&rq->hdr->consumer, *consumer, __ATOMIC_RELEASE);
	return true;
}

void fake_complete(struct fake_cq *cq, const struct rurdma_cqe *cqe)
{
	uint32_t consumer = __atomic_load_n(&cq->ring.hdr->consumer,
					    __ATOMIC_ACQUIRE);
	uint32_t arm;

	if (cq->producer - consumer >= cq->ring.n) {
		cq->ring.hdr->flags |= RURDMA_RING_OVERFLOW;
		return;
	}
	memcpy(cq->ring.entries +
		       (size_t)(cq->producer % cq->ring.n) * RURDMA_CQE_SIZE,
	       cqe, sizeof(*cqe));
	__atomic_store_n(&cq->ring.hdr->producer, ++cq->producer,
			 __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	arm = __atomic_load_n(&cq->ring.hdr->arm, __ATOMIC_RELAXED);
	if (arm == RURDMA_ARM_ANY ||
	    (arm == RURDMA_ARM_SOLICITED && cqe->status)) {
		__atomic_store_n(&cq->ring.hdr->arm, RURDMA_ARM_NONE,
				 __ATOMIC_RELAXED);
		__atomic_fetch_add(&cq->events, 1, __ATOMIC_SEQ_CST);
	}
}

/* System calls. */

int ioctl(int fd, unsigned long request, ...)
{
	struct ib_uverbs_ioctl_hdr *hdr;
	va_list ap;

	va_start(ap, request);
	hdr = va_arg(ap, void *);
	va_end(ap);

	if (request != RDMA_VERBS_IOCTL || hdr->length != sizeof(*hdr) ||
	    hdr->num_attrs || hdr->reserved1 || hdr->reserved2 ||
	    hdr->method_id != RURDMA_METHOD_KICK ||
	    hdr->driver_id != RURDMA_DRIVER_ID)
		die("not a kick");
	__atomic_fetch_add(&fake_kicks, 1, __ATOMIC_SEQ_CST);
	if (fake_on_kick)
		fake_on_kick();
	if (fake_kick_error) {
		errno = fake_kick_error;
		return -1;
	}
	return 0;
}

int ibv_cmd_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr,
		      struct ibv_send_wr **bad_wr)
{
	if (wr)
		die("a kick posts nothing");
	fake_post_sends++;
	if (fake_on_kick)
		fake_on_kick();
	return 0;
}

/* libibverbs. */

void __verbs_log(struct verbs_context *ctx, uint32_t level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
}

void verbs_register_driver(const struct verbs_device_ops *ops)
{
	fake_device_ops = ops;
}

void *_verbs_init_and_alloc_context(struct ibv_device *device, int cmd_fd,
				    size_t size, struct verbs_context *offset,
				    uint32_t driver_id)
{
	uint8_t *ctx = calloc(1, size);
	struct verbs_context *vctx = (void *)(ctx + (uintptr_t)offset);

	if (driver_id != RURDMA_DRIVER_ID)
		die("driver id");
	vctx->context.device = device;
	vctx->context.cmd_fd = mem ? cmd_fd : open_mem();
	return ctx;
}

void verbs_uninit_context(struct verbs_context *ctx)
{
}

void verbs_set_ops(struct verbs_context *ctx,
		   const struct verbs_context_ops *ops)
{
	fake_ops = ops;
}

/* What the last context was told, for those that are imported. */
static struct rurdma_uctx_resp told;

int ibv_cmd_get_context(struct verbs_context *ctx, struct ibv_get_context *cmd,
			size_t cmd_size, struct ib_uverbs_get_context_resp *resp,
			size_t resp_size)
{
	struct rurdma_uctx_req *req = (void *)(cmd + 1);
	struct rurdma_uctx_resp *out = (void *)(resp + 1);

	*out = (struct rurdma_uctx_resp){
		.caps = req->caps & fake_caps,
		.status_off = 0,
		.db_off = PAGE,
		.status_len = PAGE,
		.db_len = PAGE,
		.db_slots = SLOTS,
		.max_recv_wr = FAKE_MAX_RECV_WR,
	};
	told = *out;
	return 0;
}

int ibv_cmd_query_context(struct ibv_context *ctx, struct ibv_command_buffer *d)
{
	struct ib_uverbs_attr *attr = d->hdr.attrs;

	if (fake_query_context_error)
		return fake_query_context_error;
	if (attr->attr_id != RURDMA_ATTR_QUERY_CONTEXT_RESP_UCTX ||
	    attr->len != sizeof(told))
		return EPROTONOSUPPORT;
	memcpy((void *)(uintptr_t)attr->data, &told, sizeof(told));
	return 0;
}

unsigned int __ioctl_final_num_attrs(unsigned int num,
				     struct ibv_command_buffer *link)
{
	return num;
}

int ibv_cmd_query_device_any(struct ibv_context *ctx,
			     const struct ibv_query_device_ex_input *input,
			     struct ibv_device_attr_ex *attr, size_t size,
			     struct ib_uverbs_ex_query_device_resp *resp,
			     size_t *resp_size)
{
	memset(attr, 0, size);
	memset(resp, 0, sizeof(*resp));
	attr->device_cap_flags_ex = fake_device_caps;
	attr->orig_attr.max_sge_rd = 2;
	attr->orig_attr.max_cqe = FAKE_MAX_CQE;
	return 0;
}

int ibv_cmd_query_port(struct ibv_context *ctx, uint8_t port,
		       struct ibv_port_attr *attr, struct ibv_query_port *cmd,
		       size_t cmd_size)
{
	return 0;
}

int ibv_cmd_alloc_pd(struct ibv_context *ctx, struct ibv_pd *pd,
		     struct ibv_alloc_pd *cmd, size_t cmd_size,
		     struct ib_uverbs_alloc_pd_resp *resp, size_t resp_size)
{
	pd->context = ctx;
	pd->handle = next_handle++;
	return 0;
}

int ibv_cmd_dealloc_pd(struct ibv_pd *pd)
{
	return 0;
}

int ibv_cmd_reg_mr(struct ibv_pd *pd, void *addr, size_t length, uint64_t va,
		   int access, struct verbs_mr *vmr, struct ibv_reg_mr *cmd,
		   size_t cmd_size, struct ib_uverbs_reg_mr_resp *resp,
		   size_t resp_size)
{
	vmr->ibv_mr.context = pd->context;
	vmr->ibv_mr.pd = pd;
	vmr->ibv_mr.lkey = next_handle++;
	vmr->ibv_mr.rkey = vmr->ibv_mr.lkey;
	return 0;
}

int ibv_cmd_rereg_mr(struct verbs_mr *vmr, uint32_t flags, void *addr,
		     size_t length, uint64_t va, int access, struct ibv_pd *pd,
		     struct ibv_rereg_mr *cmd, size_t cmd_sz,
		     struct ib_uverbs_rereg_mr_resp *resp, size_t resp_sz)
{
	return 0;
}

int ibv_cmd_dereg_mr(struct verbs_mr *vmr)
{
	return 0;
}

int ibv_cmd_query_mr(struct ibv_pd *pd, struct verbs_mr *vmr, uint32_t handle)
{
	return 0;
}

int ibv_cmd_alloc_mw(struct ibv_pd *pd, enum ibv_mw_type type,
		     struct ibv_mw *mw, struct ibv_alloc_mw *cmd,
		     size_t cmd_size, struct ib_uverbs_alloc_mw_resp *resp,
		     size_t resp_size)
{
	mw->context = pd->context;
	mw->pd = pd;
	mw->type = type;
	mw->rkey = 0xabcd00;
	return 0;
}

int ibv_cmd_dealloc_mw(struct ibv_mw *mw)
{
	return 0;
}

int ibv_cmd_create_ah(struct ibv_pd *pd, struct ibv_ah *ah,
		      struct ibv_ah_attr *attr,
		      struct ib_uverbs_create_ah_resp *resp, size_t resp_size)
{
	struct rurdma_create_ah_resp *out = (void *)(resp + 1);

	out->handle = 0x4711;
	return 0;
}

int ibv_cmd_destroy_ah(struct ibv_ah *ah)
{
	return 0;
}

int ibv_cmd_attach_mcast(struct ibv_qp *qp, const union ibv_gid *gid,
			 uint16_t lid)
{
	return 0;
}

int ibv_cmd_detach_mcast(struct ibv_qp *qp, const union ibv_gid *gid,
			 uint16_t lid)
{
	return 0;
}

static void create_cq(struct ibv_context *ctx, struct ibv_cq *cq, int cqe,
		      struct rurdma_create_cq_resp *out)
{
	struct fake_cq *f = &cqs[next_cq];

	*f = (struct fake_cq){ .ring = new_ring(pow2(cqe), RURDMA_CQE_SIZE) };
	f->producer = f->ring.hdr->producer;
	cq->context = ctx;
	cq->cqe = cqe;
	cq->handle = next_cq++;
	*out = (struct rurdma_create_cq_resp){
		.ring_off = f->ring.off,
		.ring_len = f->ring.len,
		.depth = f->ring.n,
	};
}

int ibv_cmd_create_cq(struct ibv_context *ctx, int cqe,
		      struct ibv_comp_channel *channel, int vector,
		      struct ibv_cq *cq, struct ibv_create_cq *cmd,
		      size_t cmd_size, struct ib_uverbs_create_cq_resp *resp,
		      size_t resp_size)
{
	create_cq(ctx, cq, cqe, (void *)(resp + 1));
	return 0;
}

int ibv_cmd_create_cq_ex(struct ibv_context *ctx,
			 const struct ibv_cq_init_attr_ex *attr,
			 struct verbs_cq *cq, struct ibv_create_cq_ex *cmd,
			 size_t cmd_size,
			 struct ib_uverbs_ex_create_cq_resp *resp,
			 size_t resp_size, uint32_t cmd_flags)
{
	create_cq(ctx, &cq->cq, attr->cqe, (void *)(resp + 1));
	fake_cq_wc_flags = attr->wc_flags;
	return 0;
}

static void copy_cqes(struct fake_ring *to, const struct fake_ring *from,
		      uint32_t first, uint32_t end)
{
	for (; first != end; first++)
		memcpy(to->entries + (size_t)(first % to->n) * RURDMA_CQE_SIZE,
		       from->entries + (size_t)(first % from->n) * RURDMA_CQE_SIZE,
		       RURDMA_CQE_SIZE);
}

/* By the contract: the indices run on, and completions go on coming. */
int ibv_cmd_resize_cq(struct ibv_cq *cq, int cqe, struct ibv_resize_cq *cmd,
		      size_t cmd_size, struct ib_uverbs_resize_cq_resp *resp,
		      size_t resp_size)
{
	struct rurdma_create_cq_resp *out = (void *)(resp + 1);
	struct fake_cq *f = fake_cq_of(cq);
	uint32_t c = f->ring.hdr->consumer, p = f->producer;
	struct fake_ring new;

	if (resp_size != sizeof(*resp) + sizeof(*out))
		return EOPNOTSUPP;
	if (cqe > FAKE_MAX_CQE || p - c > (uint32_t)cqe)
		return EINVAL;
	if (pow2(cqe) == f->ring.n) {
		*out = (struct rurdma_create_cq_resp){ .depth = f->ring.n };
		cq->cqe = f->ring.n;
		return 0;
	}
	new = new_ring(pow2(cqe), RURDMA_CQE_SIZE);
	copy_cqes(&new, &f->ring, c, p);
	if (fake_on_resize_cq)
		fake_on_resize_cq(cq);
	if (f->ring.hdr->consumer != c)
		die("polled during a resize");
	copy_cqes(&new, &f->ring, p, f->producer);
	new.hdr->arm = f->ring.hdr->arm;
	new.hdr->flags = f->ring.hdr->flags;
	new.hdr->consumer = c;
	new.hdr->producer = f->producer;
	memset(f->ring.entries, 0xee, (size_t)f->ring.n * RURDMA_CQE_SIZE);
	f->ring = new;
	*out = (struct rurdma_create_cq_resp){
		.ring_off = new.off + fake_resize_skew,
		.ring_len = new.len,
		.depth = new.n,
	};
	cq->cqe = new.n;
	return 0;
}

int ibv_cmd_destroy_cq(struct ibv_cq *cq)
{
	return 0;
}

int ibv_cmd_create_srq(struct ibv_pd *pd, struct ibv_srq *srq,
		       struct ibv_srq_init_attr *attr,
		       struct ibv_create_srq *cmd, size_t cmd_size,
		       struct ib_uverbs_create_srq_resp *resp, size_t resp_size)
{
	struct rurdma_create_srq_resp *out = (void *)(resp + 1);
	struct fake_ring r = new_ring(pow2(attr->attr.max_wr), 16 + 16 * 4);

	srq->context = pd->context;
	srq->handle = next_srq;
	srqs[next_srq++] = r;
	*out = (struct rurdma_create_srq_resp){
		.ring_off = r.off,
		.ring_len = r.len,
		.depth = r.n,
		.stride = r.stride,
		.max_wr = attr->attr.max_wr,
		.max_sge = 4,
		.srqn = 9,
	};
	return 0;
}

/* By the contract: the indices run on, what is outstanding is in the new ring. */
int ibv_cmd_modify_srq(struct ibv_srq *srq, struct ibv_srq_attr *attr, int mask,
		       struct ibv_modify_srq *cmd, size_t cmd_size)
{
	struct rurdma_modify_srq_req *req = (void *)(cmd + 1);
	struct fake_ring *r = &srqs[srq->handle];
	struct rurdma_modify_srq_resp *out;
	struct fake_ring new;
	uint32_t i, c, p;

	if (!(mask & IBV_SRQ_MAX_WR))
		return cmd_size == sizeof(*cmd) ? 0 : EOPNOTSUPP;
	if (cmd_size != sizeof(*cmd) + sizeof(*req))
		return EOPNOTSUPP;

	out = (void *)(uintptr_t)req->resp;
	c = r->hdr->consumer;
	p = r->hdr->producer;
	if (attr->max_wr > FAKE_MAX_RECV_WR || p - c > attr->max_wr)
		return EINVAL;
	if (pow2(attr->max_wr) == r->n) {
		*out = (struct rurdma_modify_srq_resp){ .depth = r->n,
							.max_wr = r->n };
		return 0;
	}
	new = new_ring(pow2(attr->max_wr), r->stride);
	for (i = c; i != p; i++)
		memcpy(new.entries + (size_t)(i % new.n) * r->stride,
		       r->entries + (size_t)(i % r->n) * r->stride, r->stride);
	new.hdr->producer = p;
	new.hdr->consumer = c;
	memset(r->entries, 0xee, (size_t)r->n * r->stride);
	*r = new;
	*out = (struct rurdma_modify_srq_resp){
		.ring_off = new.off + fake_resize_skew,
		.ring_len = new.len,
		.depth = new.n,
		.max_wr = new.n,
	};
	return 0;
}

int ibv_cmd_query_srq(struct ibv_srq *srq, struct ibv_srq_attr *attr,
		      struct ibv_query_srq *cmd, size_t cmd_size)
{
	return 0;
}

int ibv_cmd_destroy_srq(struct ibv_srq *srq)
{
	return 0;
}

static int create_qp(struct ibv_context *ctx, struct ibv_qp *qp,
		     struct ibv_qp_init_attr_ex *attr,
		     struct rurdma_create_qp_resp *out)
{
	uint32_t units, handle;
	struct fake_qp *f;

	for (handle = 0; handle < FAKE_QPS && fake_qps[handle].used; handle++)
		;
	if (handle == FAKE_QPS)
		die("too many QPs");
	f = &fake_qps[handle];

	units = (64 + (fake_max_inline > fake_max_sge * 16 ?
		       fake_max_inline : fake_max_sge * 16) + 63) / 64;
	units = fake_sq_units ? : pow2(attr->cap.max_send_wr * units);

	memset(f, 0, sizeof(*f));
	f->qp = qp;
	f->sq = new_ring(units, 64);
	if (!attr->srq)
		f->rq = new_ring(pow2(attr->cap.max_recv_wr),
				 16 + 16 * fake_max_sge);
	f->sq_consumer = f->sq.hdr->consumer;
	f->rq_consumer = attr->srq ? 0 : f->rq.hdr->consumer;
	f->slot = handle * 3 + 1;
	f->send_cq = fake_cq_of(attr->send_cq);
	f->recv_cq = fake_cq_of(attr->recv_cq);
	f->used = true;

	qp->context = ctx;
	qp->handle = handle;
	qp->qp_num = 0x100 + handle;
	qp->qp_type = attr->qp_type;
	qp->pd = attr->pd;
	qp->send_cq = attr->send_cq;
	qp->recv_cq = attr->recv_cq;
	qp->srq = attr->srq;
	qp->state = IBV_QPS_RESET;

	*out = (struct rurdma_create_qp_resp){
		.sq_off = f->sq.off,
		.sq_len = f->sq.len,
		.rq_off = f->rq.off,
		.rq_len = f->rq.len,
		.sq_units = f->sq.n,
		.rq_depth = f->rq.n,
		.rq_stride = f->rq.stride,
		.db_slot = f->slot,
		.max_send_wr = attr->cap.max_send_wr,
		.max_recv_wr = attr->cap.max_recv_wr,
		.max_send_sge = fake_max_sge,
		.max_recv_sge = fake_max_sge,
		.max_inline = fake_max_inline,
	};
	return 0;
}

int ibv_cmd_create_qp(struct ibv_pd *pd, struct ibv_qp *qp,
		      struct ibv_qp_init_attr *attr, struct ibv_create_qp *cmd,
		      size_t cmd_size, struct ib_uverbs_create_qp_resp *resp,
		      size_t resp_size)
{
	struct ibv_qp_init_attr_ex ex = {};

	memcpy(&ex, attr, sizeof(*attr));
	ex.pd = pd;
	return create_qp(pd->context, qp, &ex, (void *)(resp + 1));
}

int ibv_cmd_create_qp_ex2(struct ibv_context *ctx, struct verbs_qp *qp,
			  struct ibv_qp_init_attr_ex *attr,
			  struct ibv_create_qp_ex *cmd, size_t cmd_size,
			  struct ib_uverbs_ex_create_qp_resp *resp,
			  size_t resp_size)
{
	return create_qp(ctx, &qp->qp, attr, (void *)(resp + 1));
}

int ibv_cmd_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask,
		      struct ibv_modify_qp *cmd, size_t cmd_size)
{
	struct fake_qp *f = fake_qp_of(qp);

	if (!(mask & IBV_QP_STATE))
		return 0;
	f->state = attr->qp_state;
	f->sq.hdr->flags = f->state == IBV_QPS_ERR ? RURDMA_RING_FLUSH : 0;
	if (f->rq.hdr)
		f->rq.hdr->flags = f->sq.hdr->flags;
	if (f->state == IBV_QPS_RESET) {
		f->sq_consumer = 0;
		f->rq_consumer = 0;
		f->sq.hdr->consumer = 0;
		if (f->rq.hdr)
			f->rq.hdr->consumer = 0;
	}
	return 0;
}

int ibv_cmd_query_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask,
		     struct ibv_qp_init_attr *init, struct ibv_query_qp *cmd,
		     size_t cmd_size)
{
	if (fake_query_qp_error)
		return fake_query_qp_error;
	attr->qp_state = fake_qp_of(qp)->state;
	return 0;
}

int ibv_cmd_destroy_qp(struct ibv_qp *qp)
{
	fake_qp_of(qp)->used = false;
	return 0;
}
