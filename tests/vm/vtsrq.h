/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of shared receive queues (vtsrq.c, vtsrqu.c) are written with. */
#ifndef VTSRQ_H
#define VTSRQ_H

#include "vt.h"

static inline struct ibv_srq *new_srq(struct ibv_pd *pd, uint32_t wr, uint32_t sge)
{
	struct ibv_srq_init_attr init = { .attr = { .max_wr = wr, .max_sge = sge } };
	struct ibv_srq *srq = ibv_create_srq(pd, &init);

	CHECK(srq);
	CHECK(init.attr.max_wr >= wr && init.attr.max_sge >= sge);
	return srq;
}

static inline int srq_recv(struct ibv_srq *srq, uint64_t id, const struct buf *b, size_t off,
			   size_t len)
{
	struct ibv_sge sge = sge_of(b, off, len);
	struct ibv_recv_wr *bad, wr = { .wr_id = id, .sg_list = &sge, .num_sge = 1 };

	return ibv_post_srq_recv(srq, &wr, &bad);
}

static inline uint32_t srq_size(struct ibv_srq *srq)
{
	struct ibv_srq_attr attr;

	OK(ibv_query_srq(srq, &attr));
	return attr.max_wr;
}

static inline int srq_resize(struct ibv_srq *srq, uint32_t max_wr)
{
	struct ibv_srq_attr attr = { .max_wr = max_wr };

	return ibv_modify_srq(srq, &attr, IBV_SRQ_MAX_WR);
}

/* Posts until it is full: as many as it says. Each has one of 64 parts of the buffer, in turn. */
static inline void srq_fill(struct ibv_srq *srq, const struct buf *b, uint64_t *posted,
			    uint64_t taken)
{
	size_t part = b->len / 64;

	while (*posted - taken < srq_size(srq)) {
		OK(srq_recv(srq, *posted, b, *posted % 64 * part, part));
		++*posted;
	}
	FAILS(ENOMEM, srq_recv(srq, *posted, b, 0, part));
}

#endif /* VTSRQ_H */
