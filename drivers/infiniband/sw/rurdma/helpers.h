/* SPDX-License-Identifier: GPL-2.0 */
/* Wrappers for inlines and macros, for Rust. No logic here. */
#ifndef _RURDMA_HELPERS_H
#define _RURDMA_HELPERS_H

#include <linux/skbuff.h>
#include <linux/spinlock.h>
#include <linux/build_bug.h>
#include <linux/xarray.h>
#include <net/sock.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>
#include <rdma/rurdma-abi.h>
#include <rdma/uverbs_ioctl.h>

unsigned long rurdma_spin_lock_irqsave(spinlock_t *lock);
void rurdma_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags);
int rurdma_spin_trylock_irqsave(spinlock_t *lock, unsigned long *flags);

enum { RURDMA_XA_PRESENT = 8U };
static_assert((__force u32)XA_PRESENT == RURDMA_XA_PRESENT);
void rurdma_xa_init(struct xarray *xa);
int rurdma_xa_insert(struct xarray *xa, unsigned long index, void *entry, gfp_t gfp);
int rurdma_xa_store(struct xarray *xa, unsigned long index, void *entry, gfp_t gfp);
void *rurdma_xa_erase(struct xarray *xa, unsigned long index);

u32 rurdma_random_u32(void);
u64 rurdma_ktime_raw_ns(void);
int rurdma_cpu_count(void);
unsigned int rurdma_nth_cpu(unsigned int n);
void rurdma_lockdep_threadable_enter(void);
void rurdma_lockdep_threadable_exit(void);
struct net_device *rurdma_notifier_dev(void *info);
void *rurdma_memcpy(void *dst, const void *src, size_t len);

struct workqueue_struct *rurdma_alloc_workqueue(const char *name, bool reclaim, bool urgent);
struct workqueue_struct *rurdma_alloc_percpu_workqueue(const char *name);
bool rurdma_queue_work_on(unsigned int cpu, struct workqueue_struct *wq, struct work_struct *work);
void rurdma_flush_workqueue(struct workqueue_struct *wq);

/* Threads; the caller has a reference to what is run, until it is stopped. */
struct task_struct *rurdma_thread_run(int (*run)(void *data), void *data, const char *name);
int rurdma_thread_stop(struct task_struct *task);
bool rurdma_thread_should_stop(void);
void rurdma_thread_set_freezable(void);
bool rurdma_thread_freezing(void);
void rurdma_thread_freeze(void);
void rurdma_thread_going_to_sleep(void);
void rurdma_thread_awake(void);
bool rurdma_thread_is_due(void);
bool rurdma_others_wait(void);
void rurdma_thread_prefer(void);
void rurdma_thread_nap(unsigned int us);

/* The module's parameters that can be changed. */
bool rurdma_mpa_crc(void);
unsigned int rurdma_poll_us(void);

/* Locked-memory account of the calling process; NULL: over its limit. */
bool rurdma_in_process_context(void);
unsigned int rurdma_this_cpu(void);
int rurdma_other_cpu(void);
bool rurdma_is_killed(void);
void rurdma_cond_resched(void);
struct module *rurdma_this_module(void);
struct mm_struct *rurdma_account_pages(unsigned long pages);
void rurdma_unaccount_pages(struct mm_struct *mm, unsigned long pages);

struct ib_ucontext *rurdma_udata_ucontext(struct ib_udata *udata);
struct ib_udata *rurdma_bundle_udata(struct uverbs_attr_bundle *attrs);
int rurdma_no_udata_io(struct ib_udata *udata);
u64 rurdma_mmap_offset(struct rdma_user_mmap_entry *entry);
int rurdma_map_area(struct vm_area_struct *vma, void *area, bool writable);

struct ib_device *rurdma_alloc_device(size_t size, struct net_device *netdev);
void rurdma_prepare_device(struct ib_device *dev, struct net_device *netdev);
void rurdma_dispatch_port_event(struct ib_device *dev, enum ib_event_type type);
void rurdma_unregister_queued(struct ib_device *dev);
void rurdma_get_device(struct ib_device *dev);
void rurdma_put_device(struct ib_device *dev);
void rurdma_wait_for_gids(void);
enum ib_mtu rurdma_mtu_to_enum(int mtu);

struct ib_umem *rurdma_umem_get(struct ib_device *dev, unsigned long addr,
				size_t len, int access);
bool rurdma_umem_is_ours(struct ib_umem *umem);
size_t rurdma_umem_num_pages(struct ib_umem *umem);
int rurdma_umem_pages(struct ib_umem *umem, unsigned long *pages, size_t max,
		      size_t *persistent);
void rurdma_persist(void *at, size_t len);
int rurdma_sg_to_pages(struct ib_mr *mr, struct scatterlist *sg, int nents,
		       unsigned int *sg_offset, unsigned long *pages,
		       size_t max, size_t *used);

const struct uapi_definition *rurdma_uapi_definition(void);
void rurdma_set_kick(int (*kick)(struct ib_ucontext *context));
int rurdma_answer_query_context(struct uverbs_attr_bundle *attrs,
				const struct rurdma_uctx_resp *resp);

/* What `rdma statistic` shows; the names are in helpers.c. */
enum rurdma_counter {
	RURDMA_COUNT_CONNECTED,
	RURDMA_COUNT_ACCEPTED,
	RURDMA_COUNT_PRIVATE_DATA_CUT,
	RURDMA_COUNT_TERMINATE_SENT,
	RURDMA_COUNT_TERMINATE_RECEIVED,
	RURDMA_COUNT_CRC_ERRORS,
	RURDMA_COUNT_ACCESS_ERRORS,
	RURDMA_COUNT_RECEIVER_NOT_READY,
	RURDMA_COUNT_CQ_OVERFLOWS,
	RURDMA_COUNT_MULTICAST_DROPPED,
	RURDMA_COUNT_STREAMED,
	RURDMA_COUNT_STREAM_DROPPED,
	RURDMA_COUNT_LINK_DOWNED,
	RURDMA_COUNT_KICKS,
	RURDMA_COUNT_POLLED,
	RURDMA_COUNT_POLLER_WAKEUPS,
	RURDMA_COUNTERS,
	/* Where the transport has packets of its own. */
	RURDMA_COUNT_SENT_PACKETS = RURDMA_COUNTERS,
	RURDMA_COUNT_RECEIVED_PACKETS,
	RURDMA_COUNT_SENT_BYTES,
	RURDMA_COUNT_RECEIVED_BYTES,
	RURDMA_ALL_COUNTERS
};
struct rdma_hw_stats *rurdma_alloc_port_stats(int counters);

#endif
