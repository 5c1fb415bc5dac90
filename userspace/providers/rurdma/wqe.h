/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Encoding of work queue entries straight into the ring.
 *
 * This file knows nothing of rdma-core, so that tests can include it.
 */
#ifndef RURDMA_WQE_H
#define RURDMA_WQE_H

#include <string.h>

#include "ring.h"

/*
 * A place inside a send queue: bytes behind the start of a unit. The size of
 * the ring in bytes is a power of two, a unit never straddles its end, and all
 * pieces but inline data are 16 bytes at multiples of 16.
 */
static inline void *rurdma_wqe_at(const struct rurdma_ring *sq, uint32_t unit,
				  uint32_t off)
{
	uint32_t byte = (unit & sq->mask) * RURDMA_WQE_UNIT + off;

	return sq->entries + (byte & (sq->mask * RURDMA_WQE_UNIT +
				      RURDMA_WQE_UNIT - 1));
}

static inline uint32_t rurdma_wqe_units(uint32_t bytes)
{
	return (bytes + RURDMA_WQE_UNIT - 1) / RURDMA_WQE_UNIT;
}

static inline void rurdma_wqe_sge(const struct rurdma_ring *sq, uint32_t unit,
				  uint32_t off, uint64_t addr, uint32_t length,
				  uint32_t lkey)
{
	struct rurdma_sge *sge = rurdma_wqe_at(sq, unit, off);

	sge->addr = addr;
	sge->length = length;
	sge->lkey = lkey;
}

/* Copy `length` bytes to `off` bytes behind the start of the unit. */
static inline void rurdma_wqe_copy(const struct rurdma_ring *sq, uint32_t unit,
				   uint32_t off, const void *data,
				   uint32_t length)
{
	uint32_t size = (sq->mask + 1) * RURDMA_WQE_UNIT;
	uint32_t byte = ((unit & sq->mask) * RURDMA_WQE_UNIT + off) &
			(size - 1);
	uint32_t first = size - byte;

	if (first > length)
		first = length;

	memcpy(sq->entries + byte, data, first);
	if (length > first)
		memcpy(sq->entries, (const uint8_t *)data + first,
		       length - first);
}

#endif /* RURDMA_WQE_H */
