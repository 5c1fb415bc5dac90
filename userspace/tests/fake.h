/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * A stand-in for libibverbs' command functions and for the kernel module behind
 * them, in the same process: rings are pages of a memfd, and the "module" side
 * reads them by the rules of rurdma-abi.h, not by the provider's helpers.
 */
#ifndef FAKE_H
#define FAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "rurdma.h"

struct fake_ring {
	struct rurdma_ring_hdr *hdr;
	uint8_t *entries;
	uint64_t off;
	uint64_t len;
	uint32_t n;
	uint32_t stride;
};

struct fake_cq {
	struct fake_ring ring;
	uint32_t producer;
	unsigned int events;
};

struct fake_qp {
	struct ibv_qp *qp;
	struct fake_ring sq;
	struct fake_ring rq;
	uint32_t sq_consumer;
	uint32_t rq_consumer;
	uint32_t slot;
	struct fake_cq *send_cq;
	struct fake_cq *recv_cq;
	enum ibv_qp_state state;
	bool used;
};

/* What the module saw of one request, with its data made contiguous. */
struct fake_wr {
	struct rurdma_send_wqe wqe;
	uint8_t ext[RURDMA_SEND_EXT];
	struct rurdma_sge sge[RURDMA_MAX_SGE];
	uint8_t data[RURDMA_MAX_INLINE];
	uint32_t qp_num;
};

#define FAKE_QPS 64
#define FAKE_MAX_RECV_WR 1024
#define FAKE_MAX_CQE 4096

extern struct fake_qp fake_qps[FAKE_QPS];
extern struct rurdma_db_status *fake_status;
extern unsigned int fake_kicks;		/* by the ioctl method */
extern unsigned int fake_post_sends;	/* by the write command */
extern uint64_t fake_caps;
extern uint64_t fake_device_caps;
extern int fake_kick_error;
extern int fake_query_context_error;
extern int fake_query_qp_error;
extern const struct verbs_context_ops *fake_ops;
extern const struct verbs_device_ops *fake_device_ops;
/* Overrides for the next QPs. */
extern uint32_t fake_sq_units;
extern uint32_t fake_max_sge;
extern uint32_t fake_max_inline;
extern uint32_t fake_start_index;
/* What the last extended CQ was asked for. */
extern uint64_t fake_cq_wc_flags;
/* Added to the offset of a resized queue's ring, so that it cannot be mapped. */
extern uint64_t fake_resize_skew;
/* Run in the middle of a resize of a CQ, when half of it is copied. */
extern void (*fake_on_resize_cq)(struct ibv_cq *cq);
/* Run by a kick, on the caller's thread. */
extern void (*fake_on_kick)(void);

struct fake_qp *fake_qp_of(struct ibv_qp *qp);
struct fake_cq *fake_cq_of(struct ibv_cq *cq);
struct fake_ring *fake_srq_of(struct ibv_srq *srq);

/* Take the doorbells; calls `work` for each QP that rang. */
unsigned int fake_take_doorbells(void (*work)(struct fake_qp *qp));
/* The next request of the send queue, or false. Does not publish `consumer`. */
bool fake_next_send(struct fake_qp *qp, struct fake_wr *wr);
void fake_publish_sq(struct fake_qp *qp);
/* The next receive; publishes `consumer`. */
bool fake_next_recv(struct fake_ring *rq, uint32_t *consumer,
		    struct rurdma_recv_wqe *wqe, struct rurdma_sge *sge);
void fake_complete(struct fake_cq *cq, const struct rurdma_cqe *cqe);

#endif /* FAKE_H */
