/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Access to the pages shared with the kernel module. Every rule about memory
 * order that rurdma-abi.h states is kept here and nowhere else.
 *
 * This file knows nothing of rdma-core, so that tests can include it.
 */
#ifndef RURDMA_RING_H
#define RURDMA_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rdma/rurdma-abi.h>

struct rurdma_ring {
	struct rurdma_ring_hdr *hdr;
	uint8_t *entries;
	size_t map_len;
	uint32_t mask;		/* number of entries - 1 */
	uint32_t stride;	/* bytes per entry */
};

static inline void rurdma_ring_init(struct rurdma_ring *ring, void *map,
				    size_t map_len, uint32_t entries,
				    uint32_t stride)
{
	ring->hdr = map;
	ring->entries = (uint8_t *)map + RURDMA_RING_ENTRIES;
	ring->map_len = map_len;
	ring->mask = entries - 1;
	ring->stride = stride;
}

/* Does what the module answered describe a ring at all? */
static inline bool rurdma_ring_sane(uint64_t map_len, uint32_t entries,
				    uint32_t stride)
{
	return entries && !(entries & (entries - 1)) && stride &&
	       !(stride & 15) &&
	       map_len >= RURDMA_RING_ENTRIES + (uint64_t)entries * stride;
}

static inline void *rurdma_ring_entry(const struct rurdma_ring *ring,
				      uint32_t index)
{
	return ring->entries + (size_t)(index & ring->mask) * ring->stride;
}

/*
 * The module publishes `producer` of a CQ behind the entries, `consumer` of a
 * work queue behind its last look at them.
 */
static inline uint32_t rurdma_ring_producer(const struct rurdma_ring *ring)
{
	return __atomic_load_n(&ring->hdr->producer, __ATOMIC_ACQUIRE);
}

static inline uint32_t rurdma_ring_consumer(const struct rurdma_ring *ring)
{
	return __atomic_load_n(&ring->hdr->consumer, __ATOMIC_ACQUIRE);
}

static inline void rurdma_ring_publish(struct rurdma_ring *ring,
				       uint32_t producer)
{
	__atomic_store_n(&ring->hdr->producer, producer, __ATOMIC_RELEASE);
}

static inline void rurdma_ring_release(struct rurdma_ring *ring,
				       uint32_t consumer)
{
	__atomic_store_n(&ring->hdr->consumer, consumer, __ATOMIC_RELEASE);
}

static inline uint32_t rurdma_ring_flags(const struct rurdma_ring *ring)
{
	return __atomic_load_n(&ring->hdr->flags, __ATOMIC_RELAXED);
}

static inline void rurdma_full_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/*
 * Arm the CQ. The fence orders the store before the caller's next poll: either
 * that poll sees the module's CQE, or the module sees the arm word. A request
 * for any event is not weakened to one for solicited events.
 */
static inline void rurdma_ring_arm(struct rurdma_ring *ring, uint32_t arm)
{
	uint32_t *word = &ring->hdr->arm;

	if (arm != RURDMA_ARM_SOLICITED ||
	    __atomic_load_n(word, __ATOMIC_RELAXED) != RURDMA_ARM_ANY)
		__atomic_store_n(word, arm, __ATOMIC_RELAXED);

	rurdma_full_fence();
}

/*
 * The doorbell. Must follow rurdma_ring_publish(). The pending bit goes first:
 * the module takes the summary before the pending word.
 */
struct rurdma_doorbell {
	const struct rurdma_db_status *status;
	struct rurdma_db_summary *summary;
	uint64_t *pending;
};

static inline void rurdma_doorbell_init(struct rurdma_doorbell *db,
					const void *status, void *region)
{
	db->status = status;
	db->summary = region;
	db->pending = (uint64_t *)((uint8_t *)region + RURDMA_DB_PENDING);
}

static inline void rurdma_doorbell_ring(const struct rurdma_doorbell *db,
					uint32_t slot)
{
	uint32_t word = slot / 64;

	__atomic_fetch_or(&db->pending[word], UINT64_C(1) << (slot % 64),
			  __ATOMIC_SEQ_CST);
	__atomic_fetch_or(&db->summary->word[word / 64],
			  UINT64_C(1) << (word % 64), __ATOMIC_SEQ_CST);
	rurdma_full_fence();
}

static inline bool rurdma_doorbell_asleep(const struct rurdma_doorbell *db)
{
	return __atomic_load_n(&db->status->flags, __ATOMIC_RELAXED) &
	       RURDMA_DB_NEED_WAKEUP;
}

static inline bool rurdma_doorbell_dead(const struct rurdma_doorbell *db)
{
	return __atomic_load_n(&db->status->dead, __ATOMIC_RELAXED);
}

#endif /* RURDMA_RING_H */
