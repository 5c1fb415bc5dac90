// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Completion queues: polling (both interfaces), arming, resizing, purging.
 *
 * `consumer` is ours, under the lock; the shared word only tells the module how
 * much room there is.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "rurdma.h"

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* The oldest CQE that is not purged, or NULL. Call with the lock held. */
static struct rurdma_cqe *next_cqe(struct rurdma_cq *cq, uint32_t producer)
{
	struct rurdma_cqe *cqe;

	while (cq->consumer != producer) {
		cqe = rurdma_ring_entry(&cq->ring, cq->consumer);
		if (likely(cqe->status != RURDMA_CQE_PURGED))
			return cqe;
		cq->consumer++;
	}

	return NULL;
}

/* Why is there nothing to poll? Zero if it is just empty. */
static int empty_reason(struct rurdma_cq *cq)
{
	if (unlikely(cq->broken ||
		     (rurdma_ring_flags(&cq->ring) & RURDMA_RING_OVERFLOW) ||
		     rurdma_doorbell_dead(&to_rctx(cq->vcq.cq.context)->db)))
		return EIO;

	return 0;
}

/*
 * A datagram's completion says over which network layer it came (annex A17, 17.4.5.1). struct ibv_wc
 * has no field for that; hardware tells it in place of the service level, which Ethernet has not: bit 3
 * for a UDP header, 1 for IPv6, 2 for IPv4. UCX reads the address in the GRH accordingly.
 */
static uint8_t service_level(const struct rurdma_cqe *cqe)
{
	enum { NETWORK_IPV4 = 2, NETWORK_IPV6 = 3 };	/* enum rdma_network_type of the kernel */

	switch (cqe->network_hdr_type) {
	case NETWORK_IPV4:
		return 0x8 | 0x2;
	case NETWORK_IPV6:
		return 0x8 | 0x1;
	default:
		return cqe->sl;
	}
}

static void fill_wc(struct ibv_wc *wc, const struct rurdma_cqe *cqe)
{
	wc->wr_id = cqe->wr_id;
	wc->status = cqe->status;
	wc->opcode = cqe->opcode;
	wc->vendor_err = cqe->vendor_err;
	wc->byte_len = cqe->byte_len;
	wc->invalidated_rkey = cqe->imm_inv;	/* or the immediate, as it came */
	wc->qp_num = cqe->qp_num;
	wc->src_qp = cqe->src_qp;
	wc->wc_flags = cqe->wc_flags;
	wc->pkey_index = cqe->pkey_index;
	wc->slid = 0;
	wc->sl = service_level(cqe);
	wc->dlid_path_bits = 0;
}

int rurdma_poll_cq(struct ibv_cq *ibcq, int num, struct ibv_wc *wc)
{
	struct rurdma_cq *cq = to_rcq(ibcq);
	struct rurdma_cqe *cqe;
	uint32_t producer, start;
	int n = 0;

	rurdma_lock(&cq->lock);

	start = cq->consumer;
	producer = rurdma_ring_producer(&cq->ring);
	while (n < num) {
		cqe = next_cqe(cq, producer);
		if (!cqe)
			break;
		fill_wc(&wc[n++], cqe);
		cq->consumer++;
	}

	if (cq->consumer != start)
		rurdma_ring_release(&cq->ring, cq->consumer);
	else if (num > 0)
		n = -empty_reason(cq);

	rurdma_unlock(&cq->lock);
	return n;
}

int rurdma_req_notify_cq(struct ibv_cq *ibcq, int solicited_only)
{
	struct rurdma_cq *cq = to_rcq(ibcq);
	int ret;

	/*
	 * A resize may take the ring away meanwhile. The lock is another than
	 * that of polling, which start_poll leaves locked.
	 */
	rurdma_lock(&cq->arm_lock);
	ret = empty_reason(cq);
	if (!ret)
		rurdma_ring_arm(&cq->ring, solicited_only ?
				RURDMA_ARM_SOLICITED : RURDMA_ARM_ANY);
	rurdma_unlock(&cq->arm_lock);

	return ret;
}

void rurdma_purge_cq(struct ibv_cq *ibcq, uint32_t qp_num)
{
	struct rurdma_cq *cq = to_rcq(ibcq);
	struct rurdma_cqe *cqe;
	uint32_t producer, i;

	rurdma_lock(&cq->lock);
	producer = rurdma_ring_producer(&cq->ring);
	for (i = cq->consumer; i != producer; i++) {
		cqe = rurdma_ring_entry(&cq->ring, i);
		if (cqe->qp_num == qp_num)
			cqe->status = RURDMA_CQE_PURGED;
	}
	rurdma_unlock(&cq->lock);
}

/*
 * The extended interface holds the lock from start_poll to end_poll and reads
 * the current entry where it lies.
 */
static int take_cur(struct rurdma_cq *cq)
{
	struct rurdma_cqe *cqe;

	cqe = next_cqe(cq, rurdma_ring_producer(&cq->ring));
	cq->cur = cqe;
	if (!cqe)
		return empty_reason(cq) ?: ENOENT;

	cq->vcq.cq_ex.wr_id = cqe->wr_id;
	cq->vcq.cq_ex.status = cqe->status;
	return 0;
}

static int cq_start_poll(struct ibv_cq_ex *ibcq, struct ibv_poll_cq_attr *attr)
{
	struct rurdma_cq *cq = ex_to_rcq(ibcq);
	int ret;

	if (unlikely(attr->comp_mask))
		return EINVAL;

	rurdma_lock(&cq->lock);

	ret = take_cur(cq);
	if (ret) {
		rurdma_ring_release(&cq->ring, cq->consumer);
		rurdma_unlock(&cq->lock);
		return ret;
	}

	if (cq->wallclock)
		cq->wallclock_offset = clock_ns(CLOCK_REALTIME) -
				       clock_ns(CLOCK_MONOTONIC_RAW);
	return 0;
}

static int cq_next_poll(struct ibv_cq_ex *ibcq)
{
	struct rurdma_cq *cq = ex_to_rcq(ibcq);

	if (cq->cur)
		rurdma_ring_release(&cq->ring, ++cq->consumer);

	return take_cur(cq);
}

static void cq_end_poll(struct ibv_cq_ex *ibcq)
{
	struct rurdma_cq *cq = ex_to_rcq(ibcq);

	if (cq->cur)
		cq->consumer++;
	cq->cur = NULL;
	rurdma_ring_release(&cq->ring, cq->consumer);
	rurdma_unlock(&cq->lock);
}

static enum ibv_wc_opcode cq_read_opcode(struct ibv_cq_ex *cq)
{
	return ex_to_rcq(cq)->cur->opcode;
}

static uint32_t cq_read_vendor_err(struct ibv_cq_ex *cq)
{
	return ex_to_rcq(cq)->cur->vendor_err;
}

static uint32_t cq_read_byte_len(struct ibv_cq_ex *cq)
{
	return ex_to_rcq(cq)->cur->byte_len;
}

static __be32 cq_read_imm_data(struct ibv_cq_ex *cq)
{
	return (__force __be32)ex_to_rcq(cq)->cur->imm_inv;
}

static uint32_t cq_read_qp_num(struct ibv_cq_ex *cq)
{
	return ex_to_rcq(cq)->cur->qp_num;
}

static uint32_t cq_read_src_qp(struct ibv_cq_ex *cq)
{
	return ex_to_rcq(cq)->cur->src_qp;
}

static unsigned int cq_read_wc_flags(struct ibv_cq_ex *cq)
{
	return ex_to_rcq(cq)->cur->wc_flags;
}

static uint32_t cq_read_slid(struct ibv_cq_ex *cq)
{
	return 0;	/* there are no LIDs on Ethernet */
}

static uint8_t cq_read_sl(struct ibv_cq_ex *cq)
{
	return service_level(ex_to_rcq(cq)->cur);
}

static uint8_t cq_read_dlid_path_bits(struct ibv_cq_ex *cq)
{
	return 0;
}

static uint16_t cq_read_cvlan(struct ibv_cq_ex *cq)
{
	uint16_t vlan = ex_to_rcq(cq)->cur->vlan_id;

	return vlan == 0xffff ? 0 : vlan;
}

static uint64_t cq_read_completion_ts(struct ibv_cq_ex *cq)
{
	return ex_to_rcq(cq)->cur->timestamp;
}

static uint64_t cq_read_completion_wallclock_ns(struct ibv_cq_ex *ibcq)
{
	struct rurdma_cq *cq = ex_to_rcq(ibcq);

	return cq->cur->timestamp + cq->wallclock_offset;
}

static void set_cq_ex_ops(struct rurdma_cq *cq, uint64_t wc_flags)
{
	struct ibv_cq_ex *ex = &cq->vcq.cq_ex;

	ex->start_poll = cq_start_poll;
	ex->next_poll = cq_next_poll;
	ex->end_poll = cq_end_poll;
	ex->read_opcode = cq_read_opcode;
	ex->read_vendor_err = cq_read_vendor_err;
	ex->read_wc_flags = cq_read_wc_flags;

	if (wc_flags & IBV_WC_EX_WITH_BYTE_LEN)
		ex->read_byte_len = cq_read_byte_len;
	if (wc_flags & IBV_WC_EX_WITH_IMM)
		ex->read_imm_data = cq_read_imm_data;
	if (wc_flags & IBV_WC_EX_WITH_QP_NUM)
		ex->read_qp_num = cq_read_qp_num;
	if (wc_flags & IBV_WC_EX_WITH_SRC_QP)
		ex->read_src_qp = cq_read_src_qp;
	if (wc_flags & IBV_WC_EX_WITH_SLID)
		ex->read_slid = cq_read_slid;
	if (wc_flags & IBV_WC_EX_WITH_SL)
		ex->read_sl = cq_read_sl;
	if (wc_flags & IBV_WC_EX_WITH_DLID_PATH_BITS)
		ex->read_dlid_path_bits = cq_read_dlid_path_bits;
	if (wc_flags & IBV_WC_EX_WITH_CVLAN)
		ex->read_cvlan = cq_read_cvlan;
	if (wc_flags & IBV_WC_EX_WITH_COMPLETION_TIMESTAMP)
		ex->read_completion_ts = cq_read_completion_ts;
	if (wc_flags & IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK) {
		ex->read_completion_wallclock_ns =
			cq_read_completion_wallclock_ns;
		cq->wallclock = true;
	}
}

static int set_up_cq(struct rurdma_context *ctx, struct rurdma_cq *cq,
		     const struct rurdma_create_cq_resp *resp, bool lock)
{
	int ret;

	ret = rurdma_map_ring(ctx, &cq->ring, resp->ring_off, resp->ring_len,
			      resp->depth, RURDMA_CQE_SIZE);
	if (ret)
		return ret;

	cq->consumer = rurdma_ring_consumer(&cq->ring);
	rurdma_lock_init(&cq->lock, lock);
	rurdma_lock_init(&cq->arm_lock, lock);
	return 0;
}

struct ibv_cq *rurdma_create_cq(struct ibv_context *ibctx, int cqe,
				struct ibv_comp_channel *channel, int vector)
{
	struct rurdma_context *ctx = to_rctx(ibctx);
	struct rurdma_cmd_create_cq_resp resp = {};
	struct rurdma_cq *cq;
	int ret;

	cq = calloc(1, sizeof(*cq));
	if (!cq)
		return NULL;

	ret = ibv_cmd_create_cq(ibctx, cqe, channel, vector, &cq->vcq.cq, NULL,
				0, &resp.ibv_resp, sizeof(resp));
	if (ret)
		goto err_free;

	ret = set_up_cq(ctx, cq, &resp.drv_payload, !ctx->single_threaded);
	if (ret)
		goto err_destroy;

	return &cq->vcq.cq;

err_destroy:
	ibv_cmd_destroy_cq(&cq->vcq.cq);
err_free:
	free(cq);
	errno = ret;
	return NULL;
}

#define RURDMA_TIMESTAMP_FLAGS                                                 \
	(IBV_WC_EX_WITH_COMPLETION_TIMESTAMP |                                 \
	 IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK)

struct ibv_cq_ex *rurdma_create_cq_ex(struct ibv_context *ibctx,
				      struct ibv_cq_init_attr_ex *attr)
{
	uint64_t wc_flags = IBV_WC_STANDARD_FLAGS | IBV_WC_EX_WITH_CVLAN;
	struct rurdma_context *ctx = to_rctx(ibctx);
	struct rurdma_cmd_create_cq_ex_resp resp = {};
	bool lock = !ctx->single_threaded;
	struct rurdma_cq *cq;
	int ret;

	if (ctx->caps & RURDMA_CAP_TIMESTAMP)
		wc_flags |= RURDMA_TIMESTAMP_FLAGS;

	if (!check_comp_mask(attr->comp_mask, IBV_CQ_INIT_ATTR_MASK_FLAGS |
					      IBV_CQ_INIT_ATTR_MASK_PD) ||
	    !check_comp_mask(attr->wc_flags, wc_flags)) {
		errno = EOPNOTSUPP;
		return NULL;
	}

	if (attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_FLAGS) {
		if (attr->flags & ~IBV_CREATE_CQ_ATTR_SINGLE_THREADED) {
			errno = EOPNOTSUPP;
			return NULL;
		}
		if (attr->flags & IBV_CREATE_CQ_ATTR_SINGLE_THREADED)
			lock = false;
	}

	if (attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_PD) {
		if (!to_rpd(attr->parent_domain)->parent_of) {
			errno = EINVAL;
			return NULL;
		}
		lock = lock && rurdma_pd_needs_lock(attr->parent_domain);
	}

	cq = calloc(1, sizeof(*cq));
	if (!cq)
		return NULL;

#if IBVERBS_PABI_VERSION >= 65
	ret = ibv_cmd_create_cq_ex(ibctx, attr, NULL, &cq->vcq, NULL, 0,
				   &resp.ibv_resp, sizeof(resp), 0);
#else
	ret = ibv_cmd_create_cq_ex(ibctx, attr, &cq->vcq, NULL, 0,
				   &resp.ibv_resp, sizeof(resp), 0);
#endif
	if (ret)
		goto err_free;

	ret = set_up_cq(ctx, cq, &resp.drv_payload, lock);
	if (ret)
		goto err_destroy;

	set_cq_ex_ops(cq, attr->wc_flags);
	return &cq->vcq.cq_ex;

err_destroy:
	ibv_cmd_destroy_cq(&cq->vcq.cq);
err_free:
	free(cq);
	errno = ret;
	return NULL;
}

/*
 * The module moves what was not polled, and what is armed, to a new ring, and
 * from then on fills that only. The indices run on. Nobody may poll or arm
 * meanwhile, hence the locks around the command.
 */
static int resize_cq(struct rurdma_cq *cq, uint32_t cqe)
{
	struct rurdma_context *ctx = to_rctx(cq->vcq.cq.context);
	struct rurdma_cmd_resize_cq_resp resp = {};
	struct ibv_resize_cq cmd = {};
	struct rurdma_ring ring;
	size_t len;
	void *place;
	int ret;

	place = rurdma_reserve_ring(cqe, RURDMA_CQE_SIZE, &len);
	if (!place)
		return errno;

	/* What was purged in front is not outstanding. */
	next_cqe(cq, rurdma_ring_producer(&cq->ring));
	rurdma_ring_release(&cq->ring, cq->consumer);
	ret = ibv_cmd_resize_cq(&cq->vcq.cq, cqe, &cmd, sizeof(cmd),
				&resp.ibv_resp, sizeof(resp));
	/* No ring in the answer: it is the one that we have. */
	if (ret || !resp.ring_len)
		goto unreserve;

	ret = resp.ring_len == len ?
		rurdma_map_ring_at(ctx, &ring, place, resp.ring_off, len,
				   resp.depth, RURDMA_CQE_SIZE) : EPROTO;
	if (ret) {
		/* The module has left the old ring, and there is no way back. */
		cq->broken = true;
		goto unreserve;
	}

	rurdma_unmap_ring(&cq->ring);
	cq->ring = ring;
	cq->consumer = rurdma_ring_consumer(&cq->ring);
	return 0;

unreserve:
	munmap(place, len);
	return ret;
}

int rurdma_resize_cq(struct ibv_cq *ibcq, int cqe)
{
	struct rurdma_context *ctx = to_rctx(ibcq->context);
	struct rurdma_cq *cq = to_rcq(ibcq);
	int ret;

	if (!(ctx->caps & RURDMA_CAP_CQ_RESIZE))
		return EOPNOTSUPP;
	if (cqe <= 0 || (uint32_t)cqe > ctx->max_cqe)
		return EINVAL;

	rurdma_lock(&cq->lock);
	rurdma_lock(&cq->arm_lock);
	ret = cq->broken ? EIO : resize_cq(cq, cqe);
	rurdma_unlock(&cq->arm_lock);
	rurdma_unlock(&cq->lock);

	return ret;
}

int rurdma_destroy_cq(struct ibv_cq *ibcq)
{
	struct rurdma_cq *cq = to_rcq(ibcq);
	int ret;

	ret = ibv_cmd_destroy_cq(ibcq);
	if (ret)
		return ret;

	rurdma_unmap_ring(&cq->ring);
	rurdma_lock_destroy(&cq->arm_lock);
	rurdma_lock_destroy(&cq->lock);
	free(cq);
	return 0;
}
