// SPDX-License-Identifier: GPL-2.0
/* One work request for each reason to refuse it. */
#include "hostile.h"
#include <poll.h>

/* The first completion that is neither a success nor flushed. */
static bool first_error(struct conn *c, struct ibv_wc *wc, unsigned int seconds)
{
	uint64_t end = now() + seconds * 1000 * MS;
	bool over;

	do {
		/* Whatever is to come has come with the state; leave it a moment all the same. */
		over = state(c) == IBV_QPS_ERR;
		usleep(over ? 50000 : 1000);
		while (ibv_poll_cq(c->cq, 1, wc) > 0)
			if (wc->status != IBV_WC_SUCCESS && wc->status != IBV_WC_WR_FLUSH_ERR)
				return true;
	} while (!over && now() < end);
	if (!over && seconds > 3)
		printf("nothing within %u s: SQ %u of %u, RQ %u of %u, CQ %u of %u\n", seconds, c->sq->consumer,
		       c->sq->producer, c->rq->consumer, c->rq->producer, c->ring->consumer, c->ring->producer);
	return false;
}

enum { N_REASONS = 25 };

static const char *const reason_names[N_REASONS] = {
	"none", "opcode-unknown", "opcode-not-ours", "opcode-imm", "flags", "sge-count", "inline-too-long",
	"inline-on-read", "inline-and-sges", "units-sges", "units-inline", "length", "frame-zero", "frame-too-long",
	"index", "recv-sge-count", "recv-index", "bind-inline", "bind-sges", "bind-nothing", "bind-other-window",
	"bind-other-region", "flush-nothing", "flush-level", "flush-too-long",
};

/* A binding as it should be, of a window to a region; each in a PD of its own if it is to be. */
static void valid_bind(struct conn *c, uint8_t *raw, bool other_window, bool other_region)
{
	struct rurdma_ext_bind *ext = (void *)(raw + RURDMA_SEND_HDR);
	struct rurdma_send_wqe *w = (void *)raw;
	static struct ibv_pd *other;
	struct ibv_mw *mw;
	struct ibv_mr *mr;

	if (!other)
		other = ibv_alloc_pd(device);
	mw = ibv_alloc_mw(other_window ? other : c->mr->pd, IBV_MW_TYPE_1);
	mr = ibv_reg_mr(other_region ? other : c->mr->pd, c->buf, BUF, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND);
	if (!mw || !mr)
		die("ibv_alloc_mw");
	w->opcode = RURDMA_OP_BIND_MW;
	w->num_sge = 0;
	w->imm_inv = 0;
	w->rkey = mw->rkey;
	*ext = (struct rurdma_ext_bind) {
		.addr = (uintptr_t)c->buf, .length = 64, .mr_lkey = mr->lkey,
		.access = IBV_ACCESS_REMOTE_READ, .new_rkey = mw->rkey ^ 1,
	};
}

int reasons(const char *host, const char *port)
{
	int k;

	for (k = 0; k < N_REASONS; k++) {
		uint8_t raw[9 * RURDMA_WQE_UNIT];
		struct rurdma_send_wqe *w = (void *)raw;
		struct rurdma_sge *s = (void *)(raw + RURDMA_SEND_HDR);
		struct rurdma_ext_flush *f = (void *)s;
		struct ibv_async_event ae;
		struct pollfd wait = { .events = POLLIN };
		struct ibv_wc wc = {};
		struct conn c;
		int event = -1;
		bool error;

		if (!dial(&c, host, port))
			return 1;
		/* What one of the transports has is no reason for it. */
		if (!strncmp(reason_names[k], "flush", 5) ? !roce : k == 3 && roce) {
			hang_up(&c);
			continue;
		}
		valid(&c, raw, RURDMA_OP_WRITE);
		w->wr_id = 4711;
		switch (k) {
		case 1:
			w->opcode = 99;
			break;
		case 2:
			w->opcode = RURDMA_OP_REG_MR;
			break;
		case 3:
			w->opcode = RURDMA_OP_SEND_IMM;
			break;
		case 4:
			w->flags = 0x81;
			break;
		case 5:
			w->num_sge = 33;
			break;
		case 6:
			w->flags |= RURDMA_SEND_INLINE;
			w->num_sge = 0;
			w->units = 9;
			w->inline_len = 513;
			break;
		case 7:
			w->opcode = RURDMA_OP_READ;
			w->flags |= RURDMA_SEND_INLINE;
			w->num_sge = 0;
			break;
		case 8:
			w->flags |= RURDMA_SEND_INLINE;
			w->inline_len = 8;
			break;
		case 9:
			w->num_sge = 4;
			break;
		case 10:
			w->flags |= RURDMA_SEND_INLINE;
			w->num_sge = 0;
			w->inline_len = 40;
			break;
		case 11:
			s[0].length = s[1].length = 0x7fffffff;
			break;
		case 12:
			w->units = 0;
			break;
		case 13:
			w->units = 4;
			break;
		case 15:
		case 16:
			w->opcode = RURDMA_OP_SEND;
			break;
		case 17:
			valid_bind(&c, raw, false, false);
			w->flags |= RURDMA_SEND_INLINE;
			break;
		case 18:
			valid_bind(&c, raw, false, false);
			w->num_sge = 1;
			break;
		case 19:
			valid_bind(&c, raw, false, false);
			/* The key of a region is none of a window. */
			w->rkey = c.mr->rkey;
			break;
		case 20:
			valid_bind(&c, raw, true, true);
			break;
		case 21:
			valid_bind(&c, raw, false, true);
			break;
		case 22:
		case 23:
		case 24:
			valid(&c, raw, RURDMA_OP_FLUSH);
			w->wr_id = 4711;
			f->type = k == 22 ? 0 : 1;
			f->level = k == 23 ? 2 : 0;
			f->length = k == 24 ? 1ULL << 32 : 64;
			break;
		}
		put(&c, raw, k == 6 ? 9 : 1);
		if (k == 14)
			__atomic_store_n(&c.sq->producer, c.tail + c.units + 1, __ATOMIC_SEQ_CST);
		if (k == 15) {
			/* The answer to our message meets a receive that makes no sense. */
			struct rurdma_recv_wqe *r = (void *)((uint8_t *)c.rq + RURDMA_RING_ENTRIES);

			r->num_sge = 200;
		}
		if (k == 16)
			__atomic_store_n(&c.rq->producer, 0x12345678, __ATOMIC_SEQ_CST);
		ring_all();
		kick();
		/* The first one is valid: nothing is to come. */
		error = first_error(&c, &wc, k ? 20 : 3);
		/* iWARP tells it after the completion, RoCE only if there is none; the valid one has none. */
		wait.fd = device->async_fd;
		poll(&wait, 1, !k ? 0 : roce && error ? 100 : 2000);
		if (!ibv_get_async_event(device, &ae)) {
			event = ae.event_type;
			ibv_ack_async_event(&ae);
		}
		printf("reason %s state %d status %d vendor %u wr_id %llu event %d\n", reason_names[k], state(&c),
		       error ? (int)wc.status : -1, error ? wc.vendor_err : 0, (unsigned long long)wc.wr_id, event);
		hang_up(&c);
	}
	return 0;
}
