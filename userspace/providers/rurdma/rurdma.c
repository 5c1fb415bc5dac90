// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Matching, the context, and what belongs to the device as a whole.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <rdma/rdma_user_ioctl.h>

#include "rurdma.h"

#define RURDMA_CAPS_KNOWN                                                      \
	(RURDMA_CAP_KICK_METHOD | RURDMA_CAP_ATOMIC_IMM |                      \
	 RURDMA_CAP_TIMESTAMP | RURDMA_CAP_SRQ_RESIZE |                        \
	 RURDMA_CAP_CQ_RESIZE)

static const struct verbs_match_ent match_table[] = {
	VERBS_DRIVER_ID(RURDMA_DRIVER_ID),
	{},
};

/*
 * Addresses for a ring of this many entries, of the length that the module will
 * give it. A resize gets them before the module leaves the old ring: what could
 * fail does so while there is a way back.
 */
void *rurdma_reserve_ring(uint32_t entries, uint32_t stride, size_t *len)
{
	size_t page = sysconf(_SC_PAGESIZE);
	void *place;

	*len = RURDMA_RING_ENTRIES +
	       (size_t)roundup_pow_of_two(entries) * stride;
	*len = (*len + page - 1) & ~(page - 1);
	place = mmap(NULL, *len, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return place == MAP_FAILED ? NULL : place;
}

/* `place` is NULL, or addresses of this length that are ours to map over. */
int rurdma_map_ring_at(struct rurdma_context *ctx, struct rurdma_ring *ring,
		       void *place, uint64_t off, uint64_t len,
		       uint32_t entries, uint32_t stride)
{
	int flags = MAP_SHARED | (place ? MAP_FIXED : 0);
	void *map;

	if (!rurdma_ring_sane(len, entries, stride)) {
		verbs_err(&ctx->vctx,
			  "ring of %u entries of %u bytes in a mapping of %" PRIu64 "\n",
			  entries, stride, len);
		return EPROTO;
	}

	map = mmap(place, len, PROT_READ | PROT_WRITE, flags,
		   ctx->vctx.context.cmd_fd, off);
	if (map == MAP_FAILED)
		return errno;

	rurdma_ring_init(ring, map, len, entries, stride);
	return 0;
}

int rurdma_map_ring(struct rurdma_context *ctx, struct rurdma_ring *ring,
		    uint64_t off, uint64_t len, uint32_t entries,
		    uint32_t stride)
{
	return rurdma_map_ring_at(ctx, ring, NULL, off, len, entries, stride);
}

void rurdma_unmap_ring(struct rurdma_ring *ring)
{
	if (ring->hdr)
		munmap(ring->hdr, ring->map_len);
	ring->hdr = NULL;
}

/*
 * Have the module run the pending doorbells of this context now. The header is
 * constant and the kernel only reads it, so all threads share one.
 */
int rurdma_kick(struct rurdma_context *ctx, struct ibv_qp *qp)
{
	struct ibv_send_wr *bad_wr;
	int ret;

	do {
		if (ctx->caps & RURDMA_CAP_KICK_METHOD)
			ret = ioctl(ctx->vctx.context.cmd_fd, RDMA_VERBS_IOCTL,
				    &ctx->kick) ? errno : 0;
		else
			ret = ibv_cmd_post_send(qp, NULL, &bad_wr);
	} while (ret == EINTR);

	return ret;
}

static int rurdma_query_device_ex(struct ibv_context *ctx,
				  const struct ibv_query_device_ex_input *input,
				  struct ibv_device_attr_ex *attr,
				  size_t attr_size)
{
	struct ib_uverbs_ex_query_device_resp resp;
	size_t resp_size = sizeof(resp);
	uint64_t fw_ver;
	int ret;

	ret = ibv_cmd_query_device_any(ctx, input, attr, attr_size, &resp,
				       &resp_size);
	if (ret)
		return ret;

	fw_ver = resp.base.fw_ver;
	snprintf(attr->orig_attr.fw_ver, sizeof(attr->orig_attr.fw_ver),
		 "%u.%u.%u", (unsigned int)(fw_ver >> 32) & 0xffff,
		 (unsigned int)(fw_ver >> 16) & 0xffff,
		 (unsigned int)fw_ver & 0xffff);
	return 0;
}

static int rurdma_query_port(struct ibv_context *ctx, uint8_t port,
			     struct ibv_port_attr *attr)
{
	struct ibv_query_port cmd;

	return ibv_cmd_query_port(ctx, port, attr, &cmd, sizeof(cmd));
}

/* The completion time stamps are nanoseconds of this clock. */
static int rurdma_query_rt_values(struct ibv_context *ctx,
				  struct ibv_values_ex *values)
{
	uint32_t mask = 0;

	if (values->comp_mask & IBV_VALUES_MASK_RAW_CLOCK) {
		if (!(to_rctx(ctx)->caps & RURDMA_CAP_TIMESTAMP))
			return EOPNOTSUPP;
		if (clock_gettime(CLOCK_MONOTONIC_RAW, &values->raw_clock))
			return errno;
		mask |= IBV_VALUES_MASK_RAW_CLOCK;
	}

	values->comp_mask = mask;
	return 0;
}

static void rurdma_unmap_context(struct rurdma_context *ctx)
{
	if (ctx->db_map)
		munmap(ctx->db_map, ctx->db_len);
	if (ctx->status_map)
		munmap(ctx->status_map, ctx->status_len);
}

static void rurdma_drop_context(struct rurdma_context *ctx)
{
	rurdma_unmap_context(ctx);
	verbs_uninit_context(&ctx->vctx);
	free(ctx);
}

static void rurdma_free_context(struct ibv_context *ibctx)
{
	rurdma_drop_context(to_rctx(ibctx));
}

static const struct verbs_context_ops rurdma_ops = {
	.alloc_mw = rurdma_alloc_mw,
	.alloc_parent_domain = rurdma_alloc_parent_domain,
	.alloc_pd = rurdma_alloc_pd,
	.alloc_td = rurdma_alloc_td,
	.async_event = rurdma_async_event,
	.attach_mcast = ibv_cmd_attach_mcast,
	.bind_mw = rurdma_bind_mw,
	.create_ah = rurdma_create_ah,
	.create_cq = rurdma_create_cq,
	.create_cq_ex = rurdma_create_cq_ex,
	.create_qp = rurdma_create_qp,
	.create_qp_ex = rurdma_create_qp_ex,
	.create_srq = rurdma_create_srq,
	.create_srq_ex = rurdma_create_srq_ex,
	.dealloc_mw = rurdma_dealloc_mw,
	.dealloc_pd = rurdma_dealloc_pd,
	.dealloc_td = rurdma_dealloc_td,
	.dereg_mr = rurdma_dereg_mr,
	.destroy_ah = rurdma_destroy_ah,
	.destroy_cq = rurdma_destroy_cq,
	.destroy_qp = rurdma_destroy_qp,
	.destroy_srq = rurdma_destroy_srq,
	.detach_mcast = ibv_cmd_detach_mcast,
	.free_context = rurdma_free_context,
	.import_mr = rurdma_import_mr,
	.import_pd = rurdma_import_pd,
	.modify_qp = rurdma_modify_qp,
	.modify_srq = rurdma_modify_srq,
	.poll_cq = rurdma_poll_cq,
	.post_recv = rurdma_post_recv,
	.post_send = rurdma_post_send,
	.post_srq_recv = rurdma_post_srq_recv,
	.query_device_ex = rurdma_query_device_ex,
	.query_port = rurdma_query_port,
	.query_qp = rurdma_query_qp,
	.query_rt_values = rurdma_query_rt_values,
	.query_srq = rurdma_query_srq,
	.reg_mr = rurdma_reg_mr,
	.req_notify_cq = rurdma_req_notify_cq,
	.rereg_mr = rurdma_rereg_mr,
	.resize_cq = rurdma_resize_cq,
	.unimport_mr = rurdma_unimport_mr,
	.unimport_pd = rurdma_unimport_pd,
};

static int rurdma_set_up_context(struct rurdma_context *ctx,
				 const struct rurdma_uctx_resp *resp)
{
	struct ibv_context *ibctx = &ctx->vctx.context;
	uint64_t pending = RURDMA_DB_PENDING + ((uint64_t)resp->db_slots + 63) / 64 * 8;
	struct ibv_device_attr_ex attr = {};
	const char *env;
	void *map;
	int ret;

	if (resp->status_len < sizeof(struct rurdma_db_status) ||
	    !resp->db_slots || resp->db_len < pending) {
		verbs_err(&ctx->vctx, "doorbell region of %u bytes for %u slots\n",
			  resp->db_len, resp->db_slots);
		return EPROTO;
	}

	map = mmap(NULL, resp->status_len, PROT_READ, MAP_SHARED, ibctx->cmd_fd,
		   resp->status_off);
	if (map == MAP_FAILED)
		return errno;
	ctx->status_map = map;
	ctx->status_len = resp->status_len;

	map = mmap(NULL, resp->db_len, PROT_READ | PROT_WRITE, MAP_SHARED,
		   ibctx->cmd_fd, resp->db_off);
	if (map == MAP_FAILED)
		return errno;
	ctx->db_map = map;
	ctx->db_len = resp->db_len;

	rurdma_doorbell_init(&ctx->db, ctx->status_map, ctx->db_map);
	ctx->db_slots = resp->db_slots;
	ctx->max_recv_wr = resp->max_recv_wr;
	ctx->caps = resp->caps & RURDMA_CAPS_KNOWN;
	ctx->kick = (struct ib_uverbs_ioctl_hdr){
		.length = sizeof(ctx->kick),
		.object_id = UVERBS_OBJECT_DEVICE,
		.method_id = RURDMA_METHOD_KICK,
		.driver_id = RURDMA_DRIVER_ID,
	};
	ctx->iwarp = ibctx->device->transport_type == IBV_TRANSPORT_IWARP;

	env = getenv("RURDMA_SINGLE_THREADED");
	ctx->single_threaded = env && !strcmp(env, "1");

	verbs_set_ops(&ctx->vctx, &rurdma_ops);

	ret = rurdma_query_device_ex(ibctx, NULL, &attr, sizeof(attr));
	if (ret)
		return ret;
	ctx->device_caps = attr.device_cap_flags_ex |
			   attr.orig_attr.device_cap_flags;
	ctx->max_sge_rd = attr.orig_attr.max_sge_rd;
	ctx->max_cqe = attr.orig_attr.max_cqe;
	return 0;
}

static struct verbs_context *rurdma_alloc_context(struct ibv_device *ibdev,
						  int cmd_fd,
						  void *private_data)
{
	struct rurdma_cmd_get_context_resp resp = {};
	struct rurdma_cmd_get_context cmd = {};
	struct rurdma_context *ctx;
	int ret;

	ctx = verbs_init_and_alloc_context(ibdev, cmd_fd, ctx, vctx,
					   RURDMA_DRIVER_ID);
	if (!ctx)
		return NULL;

	cmd.caps = RURDMA_CAPS_KNOWN;
#if IBVERBS_PABI_VERSION >= 65
	ret = ibv_cmd_get_context(&ctx->vctx, &cmd.ibv_cmd, sizeof(cmd), NULL,
				  &resp.ibv_resp, sizeof(resp));
#else
	ret = ibv_cmd_get_context(&ctx->vctx, &cmd.ibv_cmd, sizeof(cmd),
				  &resp.ibv_resp, sizeof(resp));
#endif
	if (!ret)
		ret = rurdma_set_up_context(ctx, &resp.drv_payload);
	if (ret) {
		rurdma_drop_context(ctx);
		errno = ret;
		return NULL;
	}

	return &ctx->vctx;
}

static struct verbs_context *rurdma_import_context(struct ibv_device *ibdev,
						   int cmd_fd)
{
	DECLARE_COMMAND_BUFFER_LINK(driver, UVERBS_OBJECT_DEVICE,
				    UVERBS_METHOD_QUERY_CONTEXT, 1, NULL);
	struct rurdma_uctx_resp resp = {};
	struct rurdma_context *ctx;
	int ret;

	ctx = verbs_init_and_alloc_context(ibdev, cmd_fd, ctx, vctx,
					   RURDMA_DRIVER_ID);
	if (!ctx)
		return NULL;

	fill_attr_out_ptr(driver, RURDMA_ATTR_QUERY_CONTEXT_RESP_UCTX, &resp);
	ret = ibv_cmd_query_context(&ctx->vctx.context, driver);
	if (!ret)
		ret = rurdma_set_up_context(ctx, &resp);
	if (ret) {
		rurdma_drop_context(ctx);
		errno = ret;
		return NULL;
	}

	return &ctx->vctx;
}

static struct verbs_device *rurdma_alloc_device(struct verbs_sysfs_dev *sysfs)
{
	struct rurdma_device *dev;

	dev = calloc(1, sizeof(*dev));
	return dev ? &dev->vdev : NULL;
}

static void rurdma_uninit_device(struct verbs_device *vdev)
{
	free(container_of(vdev, struct rurdma_device, vdev));
}

static const struct verbs_device_ops rurdma_dev_ops = {
	.name = "rurdma",
	.match_min_abi_version = RURDMA_ABI_VERSION,
	.match_max_abi_version = RURDMA_ABI_VERSION,
	.match_table = match_table,
	.alloc_device = rurdma_alloc_device,
	.uninit_device = rurdma_uninit_device,
	.alloc_context = rurdma_alloc_context,
	.import_context = rurdma_import_context,
};
PROVIDER_DRIVER(rurdma, rurdma_dev_ops);
