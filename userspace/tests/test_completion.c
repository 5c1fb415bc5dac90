// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* Completion queues: poll, purge, arm, resize. */
#include "test_provider.h"

static void complete(struct ibv_cq *cq, uint64_t wr_id, uint32_t qpn)
{
	struct rurdma_cqe cqe = { .wr_id = wr_id, .qp_num = qpn,
				  .opcode = IBV_WC_RECV, .byte_len = 7,
				  .imm_inv = 0x11223344, .wc_flags = IBV_WC_GRH,
				  .vlan_id = 0xffff, .sl = 3, .src_qp = 99,
				  .timestamp = 1000 };

	fake_complete(fake_cq_of(cq), &cqe);
}

void test_poll(void)
{
	struct ibv_cq *cq = new_cq(4);
	struct ibv_wc wc[8];
	int i;

	check(fake_ops->poll_cq(cq, 8, wc) == 0);
	for (i = 0; i < 100; i++) {
		complete(cq, i, 1);
		complete(cq, 1000 + i, 2);
		check(fake_ops->poll_cq(cq, 1, wc) == 1);
		check(wc[0].wr_id == (uint64_t)i && wc[0].qp_num == 1);
		check(wc[0].opcode == IBV_WC_RECV && wc[0].byte_len == 7);
		check(wc[0].imm_data == 0x11223344 && wc[0].sl == 3);
		check(wc[0].src_qp == 99 && wc[0].wc_flags == IBV_WC_GRH);
		check(fake_ops->poll_cq(cq, 8, wc) == 1);
		check(wc[0].wr_id == (uint64_t)1000 + i);
	}

	/* Opcodes and lengths are told as the module gives them. */
	for (i = IBV_WC_SEND; i <= IBV_WC_ATOMIC_WRITE; i++) {
		struct rurdma_cqe cqe = { .wr_id = i, .opcode = i, .byte_len = 8 };

		fake_complete(fake_cq_of(cq), &cqe);
		check(fake_ops->poll_cq(cq, 1, wc) == 1);
		check(wc[0].opcode == (enum ibv_wc_opcode)i && wc[0].byte_len == 8);
	}

	/* IPv4 and IPv6, in place of the service level. */
	for (i = 2; i <= 3; i++) {
		struct rurdma_cqe cqe = { .network_hdr_type = i, .sl = 3 };

		fake_complete(fake_cq_of(cq), &cqe);
		check(fake_ops->poll_cq(cq, 1, wc) == 1);
		check(wc[0].sl == (i == 2 ? 0xa : 0x9));
	}

	/* Overflow: what is there is there, then the error. */
	for (i = 0; i < 5; i++)
		complete(cq, i, 1);
	check(fake_ops->poll_cq(cq, 8, wc) == 4);
	check(fake_ops->poll_cq(cq, 8, wc) == -EIO);
	check(!fake_ops->destroy_cq(cq));
}

void test_purge(void)
{
	struct ibv_cq *cq = new_cq(8);
	struct ibv_qp *qp = new_qp(IBV_QPT_RC, cq, 1, 1);
	struct ibv_wc wc[8];

	complete(cq, 1, qp->qp_num);
	complete(cq, 2, 0x999);
	complete(cq, 3, qp->qp_num);
	set_state(qp, IBV_QPS_RESET);
	check(fake_ops->poll_cq(cq, 8, wc) == 1 && wc[0].wr_id == 2);
	complete(cq, 4, qp->qp_num);
	check(!fake_ops->destroy_qp(qp));
	check(fake_ops->poll_cq(cq, 8, wc) == 0);
	check(fake_cq_of(cq)->ring.hdr->consumer == 4);
	check(!fake_ops->destroy_cq(cq));
}

void test_poll_ex(void)
{
	struct ibv_cq_init_attr_ex attr = {
		.cqe = 8,
		.wc_flags = IBV_WC_STANDARD_FLAGS |
			    IBV_WC_EX_WITH_COMPLETION_TIMESTAMP |
			    IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK |
			    IBV_WC_EX_WITH_CVLAN,
	};
	struct ibv_poll_cq_attr pa = {};
	struct ibv_cq_ex *cq;
	struct timespec ts;
	uint64_t now;

	attr.wc_flags |= IBV_WC_EX_WITH_FLOW_TAG;
	check(!fake_ops->create_cq_ex(ctx, &attr) && errno == EOPNOTSUPP);
	attr.wc_flags &= ~IBV_WC_EX_WITH_FLOW_TAG;
	cq = fake_ops->create_cq_ex(ctx, &attr);
	check(cq);
	/* The module stamps only what was asked to be. */
	check(fake_cq_wc_flags & IBV_WC_EX_WITH_COMPLETION_TIMESTAMP);

	check(cq->start_poll(cq, &pa) == ENOENT);
	complete((struct ibv_cq *)cq, 1, 5);
	complete((struct ibv_cq *)cq, 2, 6);
	check(!cq->start_poll(cq, &pa));
	/* Arming while polling must not lock up. */
	check(!fake_ops->req_notify_cq((struct ibv_cq *)cq, 0));
	check(cq->wr_id == 1 && cq->status == IBV_WC_SUCCESS);
	check(cq->read_opcode(cq) == IBV_WC_RECV && cq->read_qp_num(cq) == 5);
	check(cq->read_byte_len(cq) == 7 && cq->read_src_qp(cq) == 99);
	check(cq->read_imm_data(cq) == 0x11223344 && cq->read_sl(cq) == 3);
	check(cq->read_wc_flags(cq) == IBV_WC_GRH);
	check(cq->read_cvlan(cq) == 0 && cq->read_slid(cq) == 0);
	check(cq->read_completion_ts(cq) == 1000);
	clock_gettime(CLOCK_REALTIME, &ts);
	now = ts.tv_sec * 1000000000ULL + ts.tv_nsec;
	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	now -= ts.tv_sec * 1000000000ULL + ts.tv_nsec;
	check(cq->read_completion_wallclock_ns(cq) - 1000 - now + 1000000000 <
	      2000000000);
	check(!cq->next_poll(cq));
	check(cq->wr_id == 2);
	check(cq->next_poll(cq) == ENOENT);
	cq->end_poll(cq);
	check(cq->start_poll(cq, &pa) == ENOENT);
	complete((struct ibv_cq *)cq, 3, 6);
	check(!cq->start_poll(cq, &pa));
	cq->end_poll(cq);
	check(cq->start_poll(cq, &pa) == ENOENT);
	check(fake_cq_of((struct ibv_cq *)cq)->ring.hdr->consumer == 3);
	check(!fake_ops->destroy_cq((struct ibv_cq *)cq));
}

void test_arm(void)
{
	struct ibv_cq *cq = new_cq(8);
	struct fake_cq *f = fake_cq_of(cq);

	complete(cq, 1, 1);
	check(f->events == 0);
	check(!fake_ops->req_notify_cq(cq, 1));
	complete(cq, 1, 1);
	check(f->events == 0);			/* not solicited */
	check(!fake_ops->req_notify_cq(cq, 0));
	check(!fake_ops->req_notify_cq(cq, 1));	/* does not weaken */
	complete(cq, 1, 1);
	check(f->events == 1);
	complete(cq, 1, 1);
	check(f->events == 1);
	check(!fake_ops->destroy_cq(cq));
}

static void complete_two(struct ibv_cq *cq)
{
	complete(cq, 7001, 1);
	complete(cq, 7002, 1);
}

void test_resize(void)
{
	static const int sizes[] = { 16, 9, 5, 64, 4096, 6 };
	struct ibv_cq *cq;
	struct ibv_wc wc[64];
	unsigned int i, k, events = 0;

	fake_start_index = -9u;
	cq = new_cq(4);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		/* Three are outstanding, and not at the beginning of the ring. */
		for (k = 0; k < 4; k++)
			complete(cq, i * 10 + k, 1);
		check(fake_ops->poll_cq(cq, 1, wc) == 1);
		check(fake_ops->resize_cq(cq, 2) == EINVAL);
		check(fake_ops->resize_cq(cq, 0) == EINVAL);
		check(fake_ops->resize_cq(cq, -1) == EINVAL);
		check(fake_ops->resize_cq(cq, FAKE_MAX_CQE + 1) == EINVAL);
		check(!fake_ops->req_notify_cq(cq, 1));
		/* Not the first time: there is no room in the old ring. */
		fake_on_resize_cq = i ? complete_two : NULL;
		check(!fake_ops->resize_cq(cq, sizes[i]));
		fake_on_resize_cq = NULL;
		check(cq->cqe >= sizes[i]);
		/* What was armed is armed still, for what it was. */
		check(fake_cq_of(cq)->events == events);
		check(!fake_ops->req_notify_cq(cq, 0));
		complete(cq, 8000, 1);
		check(fake_cq_of(cq)->events == ++events);
		check(fake_ops->poll_cq(cq, 3, wc) == 3);
		for (k = 0; k < 3; k++)
			check(wc[k].wr_id == i * 10 + k + 1);
		/* From 16 to 9 it is the same ring, and nothing is copied. */
		if (i >= 2) {
			check(fake_ops->poll_cq(cq, 2, wc) == 2);
			check(wc[0].wr_id == 7001 && wc[1].wr_id == 7002);
		}
		check(fake_ops->poll_cq(cq, 64, wc) >= 1);
		check(fake_ops->poll_cq(cq, 1, wc) == 0);
	}

	/* What is purged in front is not outstanding. */
	for (k = 0; k < 5; k++)
		complete(cq, k, k < 4 ? 77 : 78);
	rurdma_purge_cq(cq, 77);
	check(!fake_ops->resize_cq(cq, 1));
	check(fake_ops->poll_cq(cq, 8, wc) == 1 && wc[0].wr_id == 4);

	/* A module of before. */
	to_rctx(ctx)->caps &= ~RURDMA_CAP_CQ_RESIZE;
	check(fake_ops->resize_cq(cq, 16) == EOPNOTSUPP);
	to_rctx(ctx)->caps |= RURDMA_CAP_CQ_RESIZE;

	/* The new ring cannot be mapped: nobody waits for what goes there. */
	fake_resize_skew = 1;
	check(fake_ops->resize_cq(cq, 32) == EINVAL);
	fake_resize_skew = 0;
	check(fake_ops->poll_cq(cq, 1, wc) == -EIO);
	check(fake_ops->req_notify_cq(cq, 0) == EIO);
	check(fake_ops->resize_cq(cq, 64) == EIO);
	check(!fake_ops->destroy_cq(cq));
	fake_start_index = 0;
}
