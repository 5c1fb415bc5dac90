// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Shared receive queues. */
#include "test_provider.h"

void test_srq(void)
{
	struct ibv_srq_init_attr attr = { .attr = { .max_wr = 6, .max_sge = 4 } };
	struct ibv_srq_attr change = { .max_wr = 8 };
	struct ibv_sge sge[4] = { { 5, 6, 7 } };
	struct ibv_recv_wr wr[8], *bad;
	struct ibv_qp_init_attr qattr = { .qp_type = IBV_QPT_RC,
					  .cap.max_send_wr = 1 };
	struct ibv_srq *srq = fake_ops->create_srq(pd, &attr);
	struct ibv_qp *qp;
	int i;

	check(srq);
	for (i = 0; i < 8; i++)
		wr[i] = (struct ibv_recv_wr){ .wr_id = i, .sg_list = sge,
					      .num_sge = 4,
					      .next = i < 7 ? &wr[i + 1] : NULL };
	check(fake_ops->post_srq_recv(srq, wr, &bad) == ENOMEM &&
	      bad == &wr[6]);
	/* The ring has room for this, so it stays. */
	check(!fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR));
	check(!fake_ops->post_srq_recv(srq, &wr[6], &bad));
	check(fake_ops->post_srq_recv(srq, &wr[7], &bad) == ENOMEM);

	qattr.srq = srq;
	qattr.send_cq = qattr.recv_cq = new_cq(4);
	qp = fake_ops->create_qp(pd, &qattr);
	check(qp);
	set_state(qp, IBV_QPS_RTS);
	check(fake_ops->post_recv(qp, wr, &bad) == EINVAL);
	check(!fake_ops->destroy_qp(qp));
	check(!fake_ops->destroy_srq(srq));
}

static int post_srq(struct ibv_srq *srq, uint64_t id)
{
	struct ibv_sge sge = { id, 16, 7 };
	struct ibv_recv_wr wr = { .wr_id = id, .sg_list = &sge, .num_sge = 1 };
	struct ibv_recv_wr *bad;

	return fake_ops->post_srq_recv(srq, &wr, &bad);
}

void test_srq_resize(void)
{
	static const uint32_t sizes[] = { 16, 5, 64, 1024, 8, 7, 4 };
	struct ibv_srq_init_attr attr = { .attr = { .max_wr = 4, .max_sge = 4 } };
	struct ibv_srq_attr change = {};
	struct rurdma_recv_wqe wqe;
	struct rurdma_sge sge[32];
	uint64_t posted = 0, taken = 0;
	struct ibv_srq *srq;
	uint32_t consumer;
	unsigned int i;

	fake_start_index = -3u;
	srq = fake_ops->create_srq(pd, &attr);
	check(srq);
	consumer = fake_start_index;
	for (i = 0; i < 4; i++)
		check(!post_srq(srq, posted++));
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		/* Four are outstanding. */
		change.max_wr = 3;
		check(fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR) == EINVAL);
		change.max_wr = sizes[i];
		check(!fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR));
		while (!post_srq(srq, posted))
			posted++;
		check(posted - taken >= sizes[i]);
		while (posted - taken > 4) {
			check(fake_next_recv(fake_srq_of(srq), &consumer, &wqe, sge));
			check(wqe.wr_id == taken && sge[0].addr == taken);
			taken++;
		}
	}
	/* The limit alone is the plain command. */
	check(!fake_ops->modify_srq(srq, &change, IBV_SRQ_LIMIT));
	change.max_wr = 0;
	check(fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR) == EINVAL);
	change.max_wr = FAKE_MAX_RECV_WR + 1;
	check(fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR) == EINVAL);
	/* A module of before. */
	to_rctx(ctx)->caps &= ~RURDMA_CAP_SRQ_RESIZE;
	change.max_wr = 4;
	check(fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR) == EOPNOTSUPP);
	to_rctx(ctx)->caps |= RURDMA_CAP_SRQ_RESIZE;
	/* The new ring cannot be mapped: nothing is posted into the void. */
	fake_resize_skew = 1;
	change.max_wr = 32;
	check(fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR) == EINVAL);
	fake_resize_skew = 0;
	check(post_srq(srq, 0) == EIO);
	check(fake_ops->modify_srq(srq, &change, IBV_SRQ_MAX_WR) == EIO);
	check(!fake_ops->destroy_srq(srq));
	fake_start_index = 0;
}
