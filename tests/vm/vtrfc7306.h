/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of RFC 7306 post, and what it completes with. */
#ifndef VTRFC7306_H
#define VTRFC7306_H

#include "vt.h"

#include <endian.h>

#define ATOMIC_ACCESS (ALL_ACCESS | IBV_ACCESS_REMOTE_ATOMIC)

static struct end c, s;

/* --- immediate data --- */

static inline int try_imm(struct ibv_qp *qp, uint64_t id, struct ibv_sge *sge, int n,
			  uint64_t remote, uint32_t rkey, uint32_t imm, unsigned int flags)
{
	struct ibv_send_wr *bad, wr = {
		.wr_id = id,
		.sg_list = sge,
		.num_sge = n,
		.opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
		.send_flags = flags,
		.imm_data = htobe32(imm),
		.wr.rdma = { .remote_addr = remote, .rkey = rkey },
	};

	return ibv_post_send(qp, &wr, &bad);
}

/* The first `len` bytes of `a` to `to`. */
static inline void write_imm_buf(struct ibv_qp *qp, uint64_t id, const struct buf *a, size_t len,
				 const void *to, uint32_t rkey, uint32_t imm, unsigned int flags)
{
	struct ibv_sge sge = sge_of(a, 0, len);

	OK(try_imm(qp, id, &sge, 1, (uintptr_t)to, rkey, imm, SIGNALED | flags));
}

/* The completion of a receive that immediate data took. */
static inline void imm_done_at(struct ibv_cq *cq, uint64_t id, uint32_t len, uint32_t imm, int line)
{
	struct ibv_wc wc = completion(cq, id, IBV_WC_SUCCESS, line);

	if (wc.opcode != IBV_WC_RECV_RDMA_WITH_IMM || wc.wc_flags != IBV_WC_WITH_IMM)
		fail("vt", line, "opcode %d, flags %#x", wc.opcode, wc.wc_flags);
	if (wc.byte_len != len || be32toh(wc.imm_data) != imm)
		fail("vt", line, "%u bytes, %#x; not %u, %#x", wc.byte_len, be32toh(wc.imm_data),
		     len, imm);
}

#define IMM_DONE(cq, id, len, imm) imm_done_at(cq, id, len, imm, __LINE__)

/* --- atomics --- */

static inline int try_atomic(struct ibv_qp *qp, uint64_t id, enum ibv_wr_opcode op,
			     struct ibv_sge *sge, int n, uint64_t remote, uint32_t rkey,
			     uint64_t compare_add, uint64_t swap, unsigned int flags)
{
	struct ibv_send_wr *bad, wr = {
		.wr_id = id,
		.sg_list = sge,
		.num_sge = n,
		.opcode = op,
		.send_flags = flags,
		.wr.atomic = {
			.remote_addr = remote,
			.rkey = rkey,
			.compare_add = compare_add,
			.swap = swap,
		},
	};

	return ibv_post_send(qp, &wr, &bad);
}

#define FADD IBV_WR_ATOMIC_FETCH_AND_ADD
#define CAS IBV_WR_ATOMIC_CMP_AND_SWP

/* An atomic on the word at `remote`, whose old value goes to word `at` of `a`. */
static inline void atomic(struct ibv_qp *qp, uint64_t id, enum ibv_wr_opcode op,
			  const struct buf *a, size_t at, const void *remote, uint32_t rkey,
			  uint64_t compare_add, uint64_t swap, unsigned int flags)
{
	struct ibv_sge sge = sge_of(a, 8 * at, 8);

	OK(try_atomic(qp, id, op, &sge, 1, (uintptr_t)remote, rkey, compare_add, swap,
		      SIGNALED | flags));
}

static inline uint64_t *words(const struct buf *b)
{
	return (uint64_t *)(void *)b->p;
}

/* Both ends, a buffer for results, and memory that takes atomics. */
static inline void connect_atomic(const struct opt *o, struct buf *a, struct buf *b)
{
	connect_ends(&c, &s, o);
	*a = new_buf(c.pd, 65536);
	*b = new_buf_access(s.pd, 3 * 4096, ATOMIC_ACCESS);
}

#endif
