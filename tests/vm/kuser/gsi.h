/* SPDX-License-Identifier: GPL-2.0 */
/* The GSI, which is the core's: a part of kuser.c. */
#ifndef KUSER_GSI_H
#define KUSER_GSI_H

#include <linux/completion.h>
#include <rdma/ib_mad.h>

#define MADS 3
/* The first one of those that have no OUI. */
#define VENDOR_CLASS 9

/* What became of MADs, by number. */
static enum ib_wc_status mad_status[MADS];
static DECLARE_COMPLETION(mad_over);

static void mad_sent(struct ib_mad_agent *agent, struct ib_mad_send_wc *sent)
{
	mad_status[(uintptr_t)sent->send_buf->context[0]] = sent->status;
	ib_free_send_mad(sent->send_buf);
	complete(&mad_over);
}

/* Of a class that nobody has here, and of a method that is not answered. */
static int post_mad(struct ib_mad_agent *agent, struct ib_ah *ah, uintptr_t number)
{
	struct ib_mad_send_buf *buf = ib_create_send_mad(agent, 1, 0, 0, IB_MGMT_MAD_HDR,
							 IB_MGMT_MAD_DATA, GFP_KERNEL,
							 IB_MGMT_BASE_VERSION);
	struct ib_mad_hdr *hdr;
	int ret;

	CHECK(!IS_ERR(buf));
	hdr = buf->mad;
	hdr->base_version = IB_MGMT_BASE_VERSION;
	hdr->mgmt_class = VENDOR_CLASS;
	hdr->class_version = 1;
	hdr->method = IB_MGMT_METHOD_SEND;
	hdr->tid = cpu_to_be64((u64)agent->hi_tid << 32 | number);
	buf->ah = ah;
	buf->context[0] = (void *)number;
	ret = ib_post_send_mad(buf, NULL);
	if (ret)
		ib_free_send_mad(buf);
	return ret;
}

/*
 * The first of them cannot be sent, which puts the GSI into SQE. The core puts it back to RTS, and
 * sends again those that were flushed.
 */
static int mads(struct ib_mad_agent *agent, struct ib_ah *wrong, struct ib_ah *right)
{
	struct ib_qp_init_attr init;
	struct ib_qp_attr attr;
	int round, i;

	for (round = 0; round < 10; round++) {
		reinit_completion(&mad_over);
		for (i = 0; i < MADS; i++)
			OK(post_mad(agent, i ? right : wrong, i));
		for (i = 0; i < MADS; i++)
			CHECK(wait_for_completion_timeout(&mad_over, SOON));
		CHECK(mad_status[0] == IB_WC_LOC_QP_OP_ERR);
		for (i = 1; i < MADS; i++)
			OK(mad_status[i]);
		OK(ib_query_qp(agent->qp, &attr, IB_QP_STATE, &init));
		CHECK(attr.qp_state == IB_QPS_RTS);
	}
	return 0;
}

static int management(void)
{
	struct ib_mad_agent *agent = ib_register_mad_agent(dev, 1, IB_QPT_GSI, NULL, 0, mad_sent,
							   NULL, NULL, 0);
	struct ib_ah *wrong, *right;
	int ret = -ENOMEM;

	CHECK(!IS_ERR(agent));
	/* An address handle of another PD than the GSI's. */
	wrong = ah_of(pd);
	right = ah_of(agent->qp->pd);
	if (!IS_ERR(wrong) && !IS_ERR(right))
		ret = mads(agent, wrong, right);
	if (!IS_ERR(wrong))
		rdma_destroy_ah(wrong, RDMA_DESTROY_AH_SLEEPABLE);
	if (!IS_ERR(right))
		rdma_destroy_ah(right, RDMA_DESTROY_AH_SLEEPABLE);
	ib_unregister_mad_agent(agent);
	OK(ret);
	return 0;
}

#endif /* KUSER_GSI_H */
