// SPDX-License-Identifier: GPL-2.0
/* The other end: accepts, receives, answers every message. */
#include "hostile.h"
#include <poll.h>

int serve(const char *host, const char *port)
{
	struct sockaddr_in a = address(host, port);
	struct rdma_cm_id *listener;
	struct ibv_comp_channel *cc = NULL;

	channel = rdma_create_event_channel();
	if (!channel || rdma_create_id(channel, &listener, NULL, RDMA_PS_TCP) ||
	    rdma_bind_addr(listener, (struct sockaddr *)&a) || rdma_listen(listener, 64))
		die("listen");
	puts("listening");
	fflush(stdout);
	for (;;) {
		struct pollfd p[2] = { { .fd = channel->fd, .events = POLLIN },
				       { .fd = cc ? cc->fd : -1, .events = POLLIN } };
		struct rdma_cm_event *e;
		struct ibv_async_event ae;

		poll(p, 2, -1);
		while (device && !ibv_get_async_event(device, &ae))
			ibv_ack_async_event(&ae);
		if (p[1].revents & POLLIN) {
			struct ibv_wc wc[16];
			struct ibv_cq *cq;
			void *context;
			int i, n;

			if (ibv_get_cq_event(cc, &cq, &context))
				die("ibv_get_cq_event");
			ibv_ack_cq_events(cq, 1);
			ibv_req_notify_cq(cq, 0);
			while ((n = ibv_poll_cq(cq, 16, wc)) > 0) {
				struct conn *c = context;

				for (i = 0; i < n; i++) {
					struct ibv_sge s = { (uintptr_t)c->buf, 8, c->mr->lkey };
					struct ibv_send_wr wr = { .sg_list = &s, .num_sge = 1, .opcode = IBV_WR_SEND,
						.send_flags = IBV_SEND_SIGNALED }, *bad;

					if (wc[i].status || !(wc[i].opcode & IBV_WC_RECV))
						continue;
					post_recv(c, wc[i].wr_id);
					ibv_post_send(c->id->qp, &wr, &bad);
				}
			}
		}
		if (!(p[0].revents & POLLIN))
			continue;
		if (rdma_get_cm_event(channel, &e))
			die("rdma_get_cm_event");
		if (e->event == RDMA_CM_EVENT_CONNECT_REQUEST) {
			struct conn *c = calloc(1, sizeof(*c));
			struct rdma_conn_param param = { .responder_resources = 16, .initiator_depth = 16,
				.retry_count = 7, .rnr_retry_count = 7 };
			struct peer me = {};
			int i;

			c->id = e->id;
			c->id->context = c;
			if (!cc)
				cc = ibv_create_comp_channel(c->id->verbs);
			make_qp(c, cc);
			for (i = 0; i < RECVS; i++)
				post_recv(c, i);
			ibv_req_notify_cq(c->cq, 0);
			me.addr = (uintptr_t)c->buf;
			me.rkey = c->mr->rkey;
			param.private_data = &me;
			param.private_data_len = sizeof(me);
			rdma_accept(c->id, &param);
			rdma_ack_cm_event(e);
		} else if (e->event == RDMA_CM_EVENT_DISCONNECTED || e->event == RDMA_CM_EVENT_CONNECT_ERROR ||
			   e->event == RDMA_CM_EVENT_UNREACHABLE || e->event == RDMA_CM_EVENT_REJECTED) {
			struct conn *c = e->id->context;

			rdma_ack_cm_event(e);
			rdma_disconnect(c->id);
			drop(c);
			free(c);
		} else {
			if (e->event == RDMA_CM_EVENT_DEVICE_REMOVAL)
				return 0;
			rdma_ack_cm_event(e);
		}
	}
}
