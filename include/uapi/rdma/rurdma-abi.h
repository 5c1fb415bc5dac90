/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR Linux-OpenIB) */
/*
 * The contract between the rurdma kernel module and its rdma-core provider.
 *
 * This header is the only one of its kind: the provider includes it, the
 * module generates its Rust view of it with bindgen, and both sides assert
 * the sizes and offsets. See Documentation/infiniband/rurdma.rst.
 *
 * Byte order is the host's unless a field is named __be*. Every integer in a
 * mapped page is accessed with single atomic loads and stores of its own size.
 */
#ifndef RURDMA_ABI_H
#define RURDMA_ABI_H

#include <linux/types.h>
#include <linux/stddef.h>

#define RURDMA_ABI_VERSION	1

/* Private RDMA driver identifier, "rurd". Matches no in-tree driver. */
#define RURDMA_DRIVER_ID	0x72757264

/*
 * Capabilities. The provider says in rurdma_uctx_req.caps what it can use; the
 * module answers in rurdma_uctx_resp.caps with what is in force for the
 * context: the intersection. A bit that either side does not know is off.
 */
enum rurdma_caps {
	/* The kick is the ioctl method below, not the write() POST_SEND. */
	RURDMA_CAP_KICK_METHOD		= 1U << 0,
	/*
	 * CMP_SWP, FETCH_ADD and WRITE_IMM may be posted on iWARP (RFC 7306),
	 * which has no SEND_IMM. RoCE has them anyway.
	 */
	RURDMA_CAP_ATOMIC_IMM		= 1U << 1,
	/* CQEs carry a completion timestamp (ns, CLOCK_MONOTONIC_RAW). */
	RURDMA_CAP_TIMESTAMP		= 1U << 2,
	/* MODIFY_SRQ takes struct rurdma_modify_srq_req: SRQs can be resized. */
	RURDMA_CAP_SRQ_RESIZE		= 1U << 3,
	/* RESIZE_CQ answers with struct rurdma_create_cq_resp: CQs can be resized. */
	RURDMA_CAP_CQ_RESIZE		= 1U << 4,
};

/* Sizes that are part of the contract. */
#define RURDMA_WQE_UNIT		64U	/* bytes per send queue unit */
#define RURDMA_SEND_HDR		32U	/* bytes before SGEs or inline data */
#define RURDMA_SEND_EXT		32U	/* bytes of the operation's extension */
#define RURDMA_RECV_HDR		16U	/* bytes before the SGEs */
#define RURDMA_SGE_SIZE		16U
#define RURDMA_CQE_SIZE		64U
#define RURDMA_MAX_SGE		32U
#define RURDMA_MAX_INLINE	512U
#define RURDMA_MAX_SEND_UNITS	9U	/* 32 + 32 * 16 bytes, rounded up; 32 + 32 + 32 * 16 is 9 too */

/*
 * A ring: this header, then the entries at RURDMA_RING_ENTRIES. Indices run
 * freely over 32 bits and are masked on use; the number of entries (units of
 * RURDMA_WQE_UNIT in a send queue) is a power of two, so
 * producer - consumer (mod 2^32) is the number of entries in use.
 * Each word is written by one side only and has a cache line of its own.
 */
struct rurdma_ring_hdr {
	/* Written with release order by whoever fills entries. */
	__u32 producer;
	__u32 reserved0[15];
	/* Written with release order by whoever empties entries. */
	__u32 consumer;
	__u32 reserved1[15];
	/*
	 * CQ only, enum rurdma_arm, written by the user: store, full fence,
	 * poll again, then block. The module publishes a CQE, fences, reads
	 * this word, and resets it to RURDMA_ARM_NONE when it raises the event.
	 */
	__u32 arm;
	__u32 reserved2[15];
	/* enum rurdma_ring_flags, written by the module only. */
	__u32 flags;
	__u32 reserved3[15];
};

#define RURDMA_RING_ENTRIES	256U	/* offset of entry 0 in the mapping */

enum rurdma_arm {
	RURDMA_ARM_NONE		= 0,
	RURDMA_ARM_SOLICITED	= 1,
	RURDMA_ARM_ANY		= 2,
};

enum rurdma_ring_flags {
	/*
	 * SQ, RQ: the QP is in ERROR; whoever posts must set the
	 * pending bit and kick whatever the doorbell page says, so that the
	 * module flushes the new entries.
	 */
	RURDMA_RING_FLUSH	= 1U << 0,
	/* CQ: an overflow happened, the CQ is dead. */
	RURDMA_RING_OVERFLOW	= 1U << 1,
};

/*
 * The doorbell region of a context, two mappings.
 *
 * Read-only for the user: struct rurdma_db_status, one page.
 * Read-write: struct rurdma_db_summary, then the pending words. Doorbell slot s
 * (rurdma_create_qp_resp.db_slot) is bit s % 64 of pending word s / 64; pending
 * word w is covered by bit w % 64 of summary word w / 64.
 *
 * To post: write the entries; store-release the ring's producer; set the pending
 * bit, then the summary bit (each an atomic OR); full fence; read status.flags.
 * If RURDMA_DB_NEED_WAKEUP is set, kick. The module takes (atomic exchange with
 * zero) summary first, then pending, then acquires producer.
 */
struct rurdma_db_status {
	/* enum rurdma_db_flags */
	__u32 flags;
	/* Not zero once the device is gone: calls fail with EIO. */
	__u32 dead;
	__u32 reserved[14];
};

enum rurdma_db_flags {
	RURDMA_DB_NEED_WAKEUP	= 1U << 0,
};

#define RURDMA_DB_SUMMARY_WORDS	16U	/* 16 * 64 * 64 = 65536 slots at most */

struct rurdma_db_summary {
	__aligned_u64 word[RURDMA_DB_SUMMARY_WORDS];
};

#define RURDMA_DB_PENDING	128U	/* offset of pending word 0 in the mapping */

/*
 * Send work queue entry: a header, then, for the operations that need one, an
 * extension, then num_sge SGEs or the inline data. It takes `units` units of the
 * ring; it may wrap at the ring's end at any multiple of 16 bytes.
 */
enum rurdma_send_opcode {
	RURDMA_OP_NOP			= 0,	/* completes nothing, skipped */
	RURDMA_OP_SEND			= 1,
	RURDMA_OP_SEND_IMM		= 2,
	RURDMA_OP_SEND_INV		= 3,
	RURDMA_OP_WRITE			= 4,
	RURDMA_OP_WRITE_IMM		= 5,
	RURDMA_OP_READ			= 6,
	RURDMA_OP_READ_INV		= 7,	/* kernel users: invalidates the sink's STag */
	RURDMA_OP_CMP_SWP		= 8,	/* extension: atomic */
	RURDMA_OP_FETCH_ADD		= 9,	/* extension: atomic */
	RURDMA_OP_LOCAL_INV		= 10,	/* imm_inv: the key */
	RURDMA_OP_REG_MR		= 11,	/* kernel users only; imm_inv: key, ext: reg */
	RURDMA_OP_BIND_MW		= 12,	/* rkey: the window; extension: bind */
	RURDMA_OP_ATOMIC_WRITE		= 13,
	RURDMA_OP_FLUSH			= 14,	/* extension: flush */
};

enum rurdma_send_flags {
	RURDMA_SEND_SIGNALED	= 1U << 0,
	RURDMA_SEND_SOLICITED	= 1U << 1,
	RURDMA_SEND_FENCE	= 1U << 2,
	RURDMA_SEND_INLINE	= 1U << 3,
};

struct rurdma_send_wqe {
	__aligned_u64 wr_id;
	__u8 opcode;		/* enum rurdma_send_opcode */
	__u8 flags;		/* enum rurdma_send_flags */
	__u8 num_sge;		/* 0 with RURDMA_SEND_INLINE */
	__u8 units;		/* 1 to RURDMA_MAX_SEND_UNITS */
	/* Immediate data (as it goes on the wire) or the key to invalidate. */
	__u32 imm_inv;
	__aligned_u64 remote_addr;
	__u32 rkey;
	__u32 inline_len;	/* bytes, with RURDMA_SEND_INLINE */
};

/* Extensions: RURDMA_SEND_EXT bytes behind the header. */
struct rurdma_ext_atomic {
	__aligned_u64 compare_add;
	__aligned_u64 swap;
	/* Not looked at: CMP_SWP and FETCH_ADD are about all 64 bits. */
	__aligned_u64 compare_add_mask;
	__aligned_u64 swap_mask;
};

/* Every operation of a UD or GSI QP. */
struct rurdma_ext_ud {
	__u32 ah_handle;	/* rurdma_create_ah_resp.handle */
	__u32 remote_qpn;
	__u32 remote_qkey;
	__u32 reserved[5];
};

/*
 * A window is named by the upper 24 bits of its key, old or new; the user chooses
 * the lower 8 of the new one. Length 0 (type 1 only) binds it to nothing.
 */
struct rurdma_ext_bind {
	__aligned_u64 addr;
	__aligned_u64 length;
	__u32 mr_lkey;
	__u32 access;		/* enum ib_access_flags */
	__u32 new_rkey;
	__u32 reserved;
};

struct rurdma_ext_reg {
	__u32 access;		/* enum ib_access_flags */
	__u32 reserved[7];
};

struct rurdma_ext_flush {
	__aligned_u64 length;
	__u8 type;		/* bit 0 global visibility, bit 1 persistence */
	__u8 level;		/* 0 range, 1 memory region */
	__u8 reserved[22];
};

struct rurdma_sge {
	__aligned_u64 addr;
	__u32 length;
	__u32 lkey;
};

/*
 * Receive queue entry (RQ and SRQ): the header, then num_sge SGEs. The stride is
 * fixed for a queue (rurdma_*_resp.rq_stride), a multiple of 16.
 */
struct rurdma_recv_wqe {
	__aligned_u64 wr_id;
	__u32 num_sge;
	__u32 reserved;
};

/* Completion queue entry. status, opcode and wc_flags are those of ibv_wc. */
struct rurdma_cqe {
	__aligned_u64 wr_id;
	__aligned_u64 timestamp;
	__u32 byte_len;
	__u32 qp_num;
	__u32 imm_inv;
	__u32 src_qp;
	__u32 vendor_err;
	__u16 wc_flags;
	__u16 vlan_id;		/* 0xffff: none */
	__u8 status;
	__u8 opcode;		/* enum ibv_wc_opcode, receive bit is 0x80 */
	__u8 network_hdr_type;
	__u8 sl;
	__u8 smac[6];
	__u16 pkey_index;
	__u8 reserved[12];
};

/*
 * rurdma_cqe.vendor_err of a work request that was refused before anything of it was
 * executed. An impossible producer index has no work request: the QP fails with an event.
 */
enum rurdma_vendor_err {
	RURDMA_VENDOR_ERR_NONE		= 0,
	RURDMA_VENDOR_ERR_TRUNCATED	= 1,	/* the entry is longer than any may be */
	RURDMA_VENDOR_ERR_OPCODE	= 2,	/* unknown, or not for this QP */
	RURDMA_VENDOR_ERR_FLAGS		= 3,	/* unknown flags */
	RURDMA_VENDOR_ERR_SGE_COUNT	= 4,	/* more SGEs than granted */
	RURDMA_VENDOR_ERR_INLINE	= 5,	/* too much inline data, or where none can be */
	RURDMA_VENDOR_ERR_UNITS		= 6,	/* the units do not hold what the entry has */
	RURDMA_VENDOR_ERR_LENGTH	= 7,	/* a length that the operation cannot have */
	RURDMA_VENDOR_ERR_FIELD		= 8,	/* an extension's field out of range */
	RURDMA_VENDOR_ERR_FRAME		= 9,	/* no units, or more than were posted */
};

/* A CQE that the provider purged: polled over in silence. */
#define RURDMA_CQE_PURGED	0xff	/* in status */

/*
 * Requests and responses. They grow at the end only; a shorter one is filled
 * with zeros by whoever reads it. All mmap offsets are for the uverbs fd;
 * mappings are MAP_SHARED and have exactly the given length.
 */
struct rurdma_uctx_req {
	__aligned_u64 caps;
};

struct rurdma_uctx_resp {
	__aligned_u64 caps;
	__aligned_u64 status_off;	/* read-only mapping */
	__aligned_u64 db_off;		/* read-write mapping */
	__u32 status_len;
	__u32 db_len;
	__u32 db_slots;
	__u32 max_send_wr;
	__u32 max_recv_wr;
	__u32 max_sge;
	__u32 max_inline;
	__u32 reserved;
};

/*
 * Follows struct ib_uverbs_create_cq_resp and resize_cq's; there ring_len 0 says
 * that the ring is the one before.
 *
 * The user neither polls nor arms the CQ between the beginning of a RESIZE_CQ and
 * its return. The indices run on in the new ring; completions that were not
 * polled and the arm word are in it. On failure the CQ is as it was.
 */
struct rurdma_create_cq_resp {
	__aligned_u64 ring_off;
	__aligned_u64 ring_len;
	__u32 depth;			/* entries, a power of two */
	__u32 cqn;
};

struct rurdma_create_qp_resp {
	__aligned_u64 sq_off;
	__aligned_u64 sq_len;
	__aligned_u64 rq_off;		/* rq_len 0: the QP has an SRQ */
	__aligned_u64 rq_len;
	__u32 sq_units;			/* a power of two */
	__u32 rq_depth;			/* a power of two */
	__u32 rq_stride;
	__u32 db_slot;
	__u32 max_send_wr;		/* what is granted, at least what was asked */
	__u32 max_recv_wr;
	__u32 max_send_sge;
	__u32 max_recv_sge;
	__u32 max_inline;
	__u32 reserved;
};

struct rurdma_create_srq_resp {
	__aligned_u64 ring_off;
	__aligned_u64 ring_len;
	__u32 depth;			/* a power of two */
	__u32 stride;
	__u32 max_wr;
	__u32 max_sge;
	__u32 srqn;
	__u32 reserved;
};

/*
 * Follows struct ib_uverbs_modify_srq with IB_SRQ_MAX_WR. The command has no
 * response of its own, so the request says where the module's goes; it is
 * written before the queue changes, and means something only if the command
 * succeeds.
 *
 * The user posts nothing between the command's beginning and its return. The
 * indices run on in the new ring; requests that were outstanding are in it. On
 * failure the queue is as it was.
 */
struct rurdma_modify_srq_req {
	__aligned_u64 resp;		/* address of a struct rurdma_modify_srq_resp */
};

struct rurdma_modify_srq_resp {
	__aligned_u64 ring_off;
	__aligned_u64 ring_len;		/* 0: the ring is the one before */
	__u32 depth;			/* a power of two */
	__u32 max_wr;			/* what is granted, at least what was asked */
};

struct rurdma_create_ah_resp {
	__u32 handle;
	__u32 reserved;
};

/*
 * The kick: a method without attributes on UVERBS_OBJECT_DEVICE, of the driver's
 * own namespace (UVERBS_ID_DRIVER_NS). It runs the work of every pending doorbell
 * of the context. Errors: EIO, the device is gone.
 */
enum rurdma_device_methods {
	RURDMA_METHOD_KICK = (1U << 12),	/* UVERBS_ID_DRIVER_NS */
};

/*
 * UVERBS_METHOD_QUERY_CONTEXT, with which a process that was handed the file
 * descriptor learns what GET_CONTEXT said: what is in force, and what it may map.
 */
enum rurdma_query_context_attrs {
	RURDMA_ATTR_QUERY_CONTEXT_RESP_UCTX = (1U << 12), /* struct rurdma_uctx_resp */
};

#endif /* RURDMA_ABI_H */
