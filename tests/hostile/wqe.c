// SPDX-License-Identifier: GPL-2.0
/* Work requests by hand. */
#include "hostile.h"

static void *unit(struct conn *c, uint32_t i)
{
	return (uint8_t *)c->sq + RURDMA_RING_ENTRIES + (i % c->units) * RURDMA_WQE_UNIT;
}

static void publish(struct conn *c, uint32_t units)
{
	c->tail += units;
	__atomic_store_n(&c->sq->producer, c->tail, __ATOMIC_RELEASE);
}

/* A work request that is as it should be; the units that it takes. */
uint32_t valid(struct conn *c, uint8_t *raw, uint8_t op)
{
	struct rurdma_send_wqe *w = (void *)raw;
	struct rurdma_sge *s = (void *)(raw + RURDMA_SEND_HDR);

	memset(raw, 0, 9 * RURDMA_WQE_UNIT);
	w->wr_id = 0x1234000000000000ULL + c->tail;
	w->opcode = op;
	w->flags = RURDMA_SEND_SIGNALED;
	w->units = 1;
	w->imm_inv = op == RURDMA_OP_SEND_INV ? c->peer.rkey : c->mr->lkey;
	w->remote_addr = c->peer.addr;
	w->rkey = c->peer.rkey;
	if (op == RURDMA_OP_NOP || op == RURDMA_OP_LOCAL_INV)
		return 1;
	if (op == RURDMA_OP_FLUSH) {
		struct rurdma_ext_flush *ext = (void *)s;

		*ext = (struct rurdma_ext_flush){ .length = 4096, .type = 1 };
		return 1;
	}
	if (op == RURDMA_OP_ATOMIC_WRITE) {
		s[0] = (struct rurdma_sge){ (uintptr_t)c->buf, 8, c->mr->lkey };
		w->num_sge = 1;
		return 1;
	}
	if (op == RURDMA_OP_CMP_SWP || op == RURDMA_OP_FETCH_ADD) {
		/* Behind the extension, with what was there before. */
		s = (void *)(raw + RURDMA_SEND_HDR + RURDMA_SEND_EXT);
		s[0] = (struct rurdma_sge){ (uintptr_t)c->buf, 8, c->mr->lkey };
		w->num_sge = 1;
		w->units = 2;
		return 2;
	}
	w->num_sge = 2;
	s[0] = (struct rurdma_sge){ (uintptr_t)c->buf, 40, c->mr->lkey };
	s[1] = (struct rurdma_sge){ (uintptr_t)c->buf + 4096, 8, c->mr->lkey };
	return 1;
}

void put(struct conn *c, const uint8_t *raw, uint32_t units)
{
	uint32_t i;

	for (i = 0; i < units; i++)
		memcpy(unit(c, c->tail + i), raw + i * RURDMA_WQE_UNIT, RURDMA_WQE_UNIT);
	publish(c, units);
}
