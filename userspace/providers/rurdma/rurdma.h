/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The provider's view of the verbs objects.
 */
#ifndef RURDMA_H
#define RURDMA_H

#include <config.h>

#include <pthread.h>
#include <stdatomic.h>

#include <ccan/array_size.h>
#include <infiniband/driver.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <util/util.h>

#include "ring.h"
#include "rurdma_abi.h"

struct rurdma_device {
	struct verbs_device vdev;
};

struct rurdma_context {
	struct verbs_context vctx;
	struct rurdma_doorbell db;
	void *status_map;
	void *db_map;
	size_t status_len;
	size_t db_len;
	uint64_t caps;			/* enum rurdma_caps, in force */
	uint32_t db_slots;
	uint32_t max_recv_wr;
	uint64_t device_caps;		/* device_cap_flags_ex */
	uint32_t max_sge_rd;
	uint32_t max_cqe;
	bool iwarp;
	bool single_threaded;
	struct ib_uverbs_ioctl_hdr kick; /* ends in an empty array */
};

struct rurdma_td {
	struct ibv_td td;
	atomic_int refs;
};

/* A protection domain, or a parent domain around one. */
struct rurdma_pd {
	struct ibv_pd pd;
	atomic_int refs;
	struct rurdma_pd *parent_of;	/* NULL: a plain PD */
	struct rurdma_td *td;
};

/* A lock that its owner may have promised not to need. */
struct rurdma_lock {
	pthread_spinlock_t lock;
	bool needed;
};

struct rurdma_cq {
	struct verbs_cq vcq;
	struct rurdma_lock lock;	/* polling */
	struct rurdma_lock arm_lock;	/* inside lock */
	struct rurdma_ring ring;
	uint32_t consumer;
	struct rurdma_cqe *cur;		/* the entry of the extended interface */
	uint64_t wallclock_offset;	/* realtime - raw clock, ns */
	bool wallclock;
	bool broken;			/* lost its ring in a resize */
};

/* The receive side of a QP or an SRQ. Under its lock. */
struct rurdma_rq {
	struct rurdma_lock lock;
	struct rurdma_ring ring;
	uint32_t producer;
	uint32_t consumer;		/* last seen */
	uint32_t max_wr;
	uint32_t max_sge;
};

struct rurdma_srq {
	struct verbs_srq vsrq;
	struct rurdma_rq rq;
	bool broken;			/* lost its ring in a resize */
};

/* The send side of a QP. Under its lock. */
struct rurdma_sq {
	struct rurdma_lock lock;
	struct rurdma_ring ring;
	uint32_t producer;		/* in units, written but perhaps not published */
	uint32_t consumer;		/* in units, last seen */
	uint32_t max_wr;
	uint32_t max_sge;
	uint32_t max_inline;
	/* The unit behind each outstanding work request, oldest first. */
	uint32_t *ends;
	uint32_t ends_mask;
	uint32_t ends_head;
	uint32_t ends_tail;
};

struct rurdma_qp {
	struct verbs_qp vqp;
	struct rurdma_sq sq;
	struct rurdma_rq rq;
	uint32_t db_slot;
	uint32_t ops;			/* bit per ibv_wr_opcode that may be posted */
	bool has_rq;
	bool ud;
	bool sig_all;

	/* Between ibv_wr_start() and ibv_wr_complete(), under sq.lock. */
	struct rurdma_send_wqe *wqe;	/* the request being built */
	uint32_t wqe_units;
	uint32_t start_producer;
	uint32_t start_head;
	int wr_err;
};

struct rurdma_ah {
	struct ibv_ah ah;
	uint32_t handle;
};

static inline struct rurdma_context *to_rctx(struct ibv_context *ctx)
{
	return container_of(ctx, struct rurdma_context, vctx.context);
}

static inline struct rurdma_pd *to_rpd(struct ibv_pd *pd)
{
	return container_of(pd, struct rurdma_pd, pd);
}

static inline struct rurdma_td *to_rtd(struct ibv_td *td)
{
	return container_of(td, struct rurdma_td, td);
}

static inline struct rurdma_cq *to_rcq(struct ibv_cq *cq)
{
	return container_of(cq, struct rurdma_cq, vcq.cq);
}

static inline struct rurdma_cq *ex_to_rcq(struct ibv_cq_ex *cq)
{
	return container_of(cq, struct rurdma_cq, vcq.cq_ex);
}

static inline struct rurdma_srq *to_rsrq(struct ibv_srq *srq)
{
	return container_of(srq, struct rurdma_srq, vsrq.srq);
}

static inline struct rurdma_qp *to_rqp(struct ibv_qp *qp)
{
	return container_of(qp, struct rurdma_qp, vqp.qp);
}

static inline struct rurdma_qp *ex_to_rqp(struct ibv_qp_ex *qp)
{
	return container_of(qp, struct rurdma_qp, vqp.qp_ex);
}

static inline struct rurdma_ah *to_rah(struct ibv_ah *ah)
{
	return container_of(ah, struct rurdma_ah, ah);
}

static inline void rurdma_lock_init(struct rurdma_lock *lock, bool needed)
{
	lock->needed = needed;
	pthread_spin_init(&lock->lock, PTHREAD_PROCESS_PRIVATE);
}

static inline void rurdma_lock_destroy(struct rurdma_lock *lock)
{
	pthread_spin_destroy(&lock->lock);
}

static inline void rurdma_lock(struct rurdma_lock *lock)
{
	if (lock->needed)
		pthread_spin_lock(&lock->lock);
}

static inline void rurdma_unlock(struct rurdma_lock *lock)
{
	if (lock->needed)
		pthread_spin_unlock(&lock->lock);
}

/* Does an object that belongs to this PD need locks? */
static inline bool rurdma_pd_needs_lock(struct ibv_pd *pd)
{
	return !to_rctx(pd->context)->single_threaded && !to_rpd(pd)->td;
}

/* rurdma.c */
int rurdma_map_ring(struct rurdma_context *ctx, struct rurdma_ring *ring,
		    uint64_t off, uint64_t len, uint32_t entries,
		    uint32_t stride);
int rurdma_map_ring_at(struct rurdma_context *ctx, struct rurdma_ring *ring,
		       void *place, uint64_t off, uint64_t len,
		       uint32_t entries, uint32_t stride);
void *rurdma_reserve_ring(uint32_t entries, uint32_t stride, size_t *len);
void rurdma_unmap_ring(struct rurdma_ring *ring);
int rurdma_kick(struct rurdma_context *ctx, struct ibv_qp *qp);

/* pd.c */
struct ibv_pd *rurdma_alloc_pd(struct ibv_context *ctx);
int rurdma_dealloc_pd(struct ibv_pd *pd);
struct ibv_td *rurdma_alloc_td(struct ibv_context *ctx,
			       struct ibv_td_init_attr *attr);
int rurdma_dealloc_td(struct ibv_td *td);
struct ibv_pd *
rurdma_alloc_parent_domain(struct ibv_context *ctx,
			   struct ibv_parent_domain_init_attr *attr);
struct ibv_pd *rurdma_import_pd(struct ibv_context *ctx, uint32_t handle);
void rurdma_unimport_pd(struct ibv_pd *pd);

/* mr.c */
struct ibv_mr *rurdma_reg_mr(struct ibv_pd *pd, void *addr, size_t length,
			     uint64_t hca_va, int access);
int rurdma_rereg_mr(struct verbs_mr *vmr, int flags, struct ibv_pd *pd,
		    void *addr, size_t length, int access);
int rurdma_dereg_mr(struct verbs_mr *vmr);
struct ibv_mr *rurdma_import_mr(struct ibv_pd *pd, uint32_t handle);
void rurdma_unimport_mr(struct ibv_mr *mr);
struct ibv_mw *rurdma_alloc_mw(struct ibv_pd *pd, enum ibv_mw_type type);
int rurdma_dealloc_mw(struct ibv_mw *mw);

/* ah.c */
struct ibv_ah *rurdma_create_ah(struct ibv_pd *pd, struct ibv_ah_attr *attr);
int rurdma_destroy_ah(struct ibv_ah *ah);

/* cq.c */
struct ibv_cq *rurdma_create_cq(struct ibv_context *ctx, int cqe,
				struct ibv_comp_channel *channel, int vector);
struct ibv_cq_ex *rurdma_create_cq_ex(struct ibv_context *ctx,
				      struct ibv_cq_init_attr_ex *attr);
int rurdma_resize_cq(struct ibv_cq *cq, int cqe);
int rurdma_destroy_cq(struct ibv_cq *cq);
int rurdma_poll_cq(struct ibv_cq *cq, int num, struct ibv_wc *wc);
int rurdma_req_notify_cq(struct ibv_cq *cq, int solicited_only);
void rurdma_purge_cq(struct ibv_cq *cq, uint32_t qp_num);

/* srq.c */
int rurdma_rq_init(struct rurdma_context *ctx, struct rurdma_rq *rq,
		   uint64_t off, uint64_t len, uint32_t depth, uint32_t stride,
		   uint32_t max_wr, uint32_t max_sge, bool lock);
void rurdma_rq_fini(struct rurdma_rq *rq);
int rurdma_rq_push(struct rurdma_rq *rq, const struct ibv_recv_wr *wr);
struct ibv_srq *rurdma_create_srq(struct ibv_pd *pd,
				  struct ibv_srq_init_attr *attr);
struct ibv_srq *rurdma_create_srq_ex(struct ibv_context *ctx,
				     struct ibv_srq_init_attr_ex *attr);
int rurdma_modify_srq(struct ibv_srq *srq, struct ibv_srq_attr *attr, int mask);
int rurdma_query_srq(struct ibv_srq *srq, struct ibv_srq_attr *attr);
int rurdma_destroy_srq(struct ibv_srq *srq);
int rurdma_post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr,
			 struct ibv_recv_wr **bad_wr);

/* qp.c */
struct ibv_qp *rurdma_create_qp(struct ibv_pd *pd,
				struct ibv_qp_init_attr *attr);
struct ibv_qp *rurdma_create_qp_ex(struct ibv_context *ctx,
				   struct ibv_qp_init_attr_ex *attr);
int rurdma_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask);
int rurdma_query_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask,
		    struct ibv_qp_init_attr *init_attr);
int rurdma_destroy_qp(struct ibv_qp *qp);
void rurdma_async_event(struct ibv_context *ctx, struct ibv_async_event *event);

/* post.c, wr.c */
uint32_t rurdma_ops_of_type(const struct rurdma_context *ctx,
			    enum ibv_qp_type type);
int rurdma_set_wr_ops(struct rurdma_qp *qp, uint64_t send_ops);
int rurdma_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr,
		     struct ibv_send_wr **bad_wr);
int rurdma_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr,
		     struct ibv_recv_wr **bad_wr);
int rurdma_bind_mw(struct ibv_qp *qp, struct ibv_mw *mw,
		   struct ibv_mw_bind *bind);

#endif /* RURDMA_H */
