// SPDX-License-Identifier: GPL-2.0
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/freezer.h>
#include <linux/ioport.h>
#include <linux/irq_work.h>
#include <linux/kthread.h>
#include <linux/libnvdimm.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/rcupdate.h>
#include <linux/sched/isolation.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include <uapi/linux/sched/types.h>
#include <rdma/iw_cm.h>
#include <rdma/rurdma-abi.h>
#define UVERBS_MODULE_NAME rurdma
#include <rdma/uverbs_named_ioctl.h>
#include "helpers.h"

unsigned long rurdma_spin_lock_irqsave(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}

void rurdma_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}

int rurdma_spin_trylock_irqsave(spinlock_t *lock, unsigned long *flags)
{
	return spin_trylock_irqsave(lock, *flags);
}

void rurdma_xa_init(struct xarray *xa)
{
	xa_init_flags(xa, XA_FLAGS_LOCK_IRQ);
}

int rurdma_xa_insert(struct xarray *xa, unsigned long index, void *entry, gfp_t gfp)
{
	unsigned long flags;
	int err;

	xa_lock_irqsave(xa, flags);
	err = __xa_insert(xa, index, entry, gfp);
	xa_unlock_irqrestore(xa, flags);
	return err;
}

int rurdma_xa_store(struct xarray *xa, unsigned long index, void *entry, gfp_t gfp)
{
	unsigned long flags;
	void *old;

	xa_lock_irqsave(xa, flags);
	old = __xa_store(xa, index, entry, gfp);
	xa_unlock_irqrestore(xa, flags);
	return xa_err(old);
}

void *rurdma_xa_erase(struct xarray *xa, unsigned long index)
{
	unsigned long flags;
	void *entry;

	xa_lock_irqsave(xa, flags);
	entry = __xa_erase(xa, index);
	xa_unlock_irqrestore(xa, flags);
	return entry;
}

void *rurdma_memcpy(void *dst, const void *src, size_t len)
{
	return memcpy(dst, src, len);
}

struct workqueue_struct *rurdma_alloc_workqueue(const char *name, bool reclaim, bool urgent)
{
	return alloc_workqueue("%s", (reclaim ? WQ_MEM_RECLAIM : 0) | (urgent ? WQ_HIGHPRI : 0) |
			       WQ_UNBOUND, 0, name);
}

struct workqueue_struct *rurdma_alloc_percpu_workqueue(const char *name)
{
	return alloc_workqueue("%s", WQ_MEM_RECLAIM | WQ_PERCPU | WQ_HIGHPRI | WQ_CPU_INTENSIVE, 0,
			       name);
}

bool rurdma_queue_work_on(unsigned int cpu, struct workqueue_struct *wq, struct work_struct *work)
{
	return queue_work_on(cpu, wq, work);
}

void rurdma_flush_workqueue(struct workqueue_struct *wq)
{
	flush_workqueue(wq);
}

/* The kernel crate names it differently in 7.2 and 7.3. */
struct module *rurdma_this_module(void)
{
	return THIS_MODULE;
}

bool rurdma_in_process_context(void)
{
	return !in_interrupt() && !irqs_disabled();
}

unsigned int rurdma_this_cpu(void)
{
	return raw_smp_processor_id();
}

int rurdma_other_cpu(void)
{
	unsigned int this = raw_smp_processor_id(), cpu;

	rcu_read_lock();
	cpu = cpumask_next_and_wrap(this, cpu_online_mask, housekeeping_cpumask(HK_TYPE_DOMAIN));
	rcu_read_unlock();
	return cpu < nr_cpu_ids && cpu != this ? cpu : -1;
}

bool rurdma_is_killed(void)
{
	return fatal_signal_pending(current);
}

void rurdma_cond_resched(void)
{
	cond_resched();
}

struct task_struct *rurdma_thread_run(int (*run)(void *data), void *data, const char *name)
{
	struct task_struct *task = kthread_create(run, data, "%s", name);

	if (!IS_ERR(task)) {
		get_task_struct(task);
		wake_up_process(task);
	}
	return task;
}

int rurdma_thread_stop(struct task_struct *task)
{
	return kthread_stop_put(task);
}

bool rurdma_thread_should_stop(void)
{
	return kthread_should_stop();
}

void rurdma_thread_set_freezable(void)
{
	set_freezable();
}

bool rurdma_thread_freezing(void)
{
	return freezing(current);
}

void rurdma_thread_freeze(void)
{
	try_to_freeze();
}

void rurdma_thread_going_to_sleep(void)
{
	set_current_state(TASK_IDLE | TASK_FREEZABLE);
}

void rurdma_thread_awake(void)
{
	__set_current_state(TASK_RUNNING);
}

bool rurdma_thread_is_due(void)
{
	return need_resched() || test_thread_flag(TIF_NEED_RESCHED_LAZY);
}

bool rurdma_others_wait(void)
{
	return rurdma_thread_is_due() || !single_task_running();
}

void rurdma_thread_prefer(void)
{
	/* Of a thread without a class of its own the runtime is the slice (sched(7)); 100 us is the shortest. */
	struct sched_attr attr = {
		.size = sizeof(attr),
		.sched_policy = SCHED_NORMAL,
		.sched_nice = -20,
		.sched_runtime = 100 * NSEC_PER_USEC,
	};

	sched_setattr_nocheck(current, &attr);
}

void rurdma_thread_nap(unsigned int us)
{
	usleep_range_state(us, 2 * us, TASK_IDLE);
}

/* Those of the module! macro cannot be written to. */
static bool mpa_crc = true;
module_param(mpa_crc, bool, 0644);
MODULE_PARM_DESC(mpa_crc, "iWARP: ask for CRCs (0: only if the peer asks); for connections from then on");

bool rurdma_mpa_crc(void)
{
	return READ_ONCE(mpa_crc);
}

static unsigned int poll_us = 1000;
module_param(poll_us, uint, 0644);
MODULE_PARM_DESC(poll_us, "longest that a poller looks for doorbells without finding one, in us (0: no polling)");

unsigned int rurdma_poll_us(void)
{
	return READ_ONCE(poll_us);
}

struct mm_struct *rurdma_account_pages(unsigned long pages)
{
	struct mm_struct *mm = current->mm;
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;

	if (atomic64_add_return(pages, &mm->pinned_vm) > limit && !capable(CAP_IPC_LOCK)) {
		atomic64_sub(pages, &mm->pinned_vm);
		return NULL;
	}
	mmgrab(mm);
	return mm;
}

void rurdma_unaccount_pages(struct mm_struct *mm, unsigned long pages)
{
	atomic64_sub(pages, &mm->pinned_vm);
	mmdrop(mm);
}

struct ib_ucontext *rurdma_udata_ucontext(struct ib_udata *udata)
{
	return rdma_udata_to_uverbs_attr_bundle(udata)->context;
}

struct ib_udata *rurdma_bundle_udata(struct uverbs_attr_bundle *attrs)
{
	return attrs ? &attrs->driver_udata : NULL;
}

int rurdma_no_udata_io(struct ib_udata *udata)
{
	return udata ? ib_no_udata_io(udata) : 0;
}

u64 rurdma_mmap_offset(struct rdma_user_mmap_entry *entry)
{
	return rdma_user_mmap_get_offset(entry);
}

int rurdma_map_area(struct vm_area_struct *vma, void *area, bool writable)
{
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_flags & (writable ? VM_EXEC : VM_EXEC | VM_WRITE))
		return -EPERM;
	vm_flags_clear(vma, writable ? VM_MAYEXEC : VM_MAYEXEC | VM_MAYWRITE);
	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
	return remap_vmalloc_range(vma, area, 0);
}

struct ib_device *rurdma_alloc_device(size_t size, struct net_device *netdev)
{
	return _ib_alloc_device(size, dev_net(netdev));
}

void rurdma_prepare_device(struct ib_device *dev, struct net_device *netdev)
{
	dev->uverbs_cmd_mask |= BIT_ULL(IB_USER_VERBS_CMD_POST_SEND);
	dev->iw_driver_flags = IW_F_NO_PORT_MAP;
	strscpy(dev->iw_ifname, netdev->name, sizeof(dev->iw_ifname));
	ib_mark_name_assigned_by_user(dev);
}

void rurdma_dispatch_port_event(struct ib_device *dev, enum ib_event_type type)
{
	struct ib_event event = { .device = dev, .event = type, .element.port_num = 1 };

	if (ib_device_try_get(dev)) {
		ib_dispatch_event(&event);
		ib_device_put(dev);
	}
}

void rurdma_unregister_queued(struct ib_device *dev)
{
	if (ib_device_try_get(dev)) {
		ib_unregister_device_queued(dev);
		ib_device_put(dev);
	}
}

void rurdma_get_device(struct ib_device *dev)
{
	get_device(&dev->dev);
}

void rurdma_put_device(struct ib_device *dev)
{
	put_device(&dev->dev);
}

/* Who is between two steps that do not sleep has left them, and what he queued has run. */
void rurdma_wait_for_gids(void)
{
	synchronize_rcu_tasks();
	flush_workqueue(ib_wq);
}

enum ib_mtu rurdma_mtu_to_enum(int mtu)
{
	return ib_mtu_int_to_enum(mtu);
}

struct ib_umem *rurdma_umem_get(struct ib_device *dev, unsigned long addr,
				size_t len, int access)
{
	return ib_umem_get_va(dev, addr, len, access);
}

bool rurdma_umem_is_ours(struct ib_umem *umem)
{
	return umem->owning_mm == current->mm;
}

size_t rurdma_umem_num_pages(struct ib_umem *umem)
{
	return PAGE_ALIGN(ib_umem_offset(umem) + umem->length) >> PAGE_SHIFT;
}

static bool rurdma_page_is(struct page *page, unsigned long desc)
{
	return region_intersects(page_to_phys(page), PAGE_SIZE, IORESOURCE_MEM,
				 desc) == REGION_INTERSECTS;
}

/*
 * Pages of persistent memory are all of ZONE_DEVICE: for others nothing is looked up. Legacy is
 * what the e820 table has as type 12, or memmap=nn!ss says.
 */
static bool rurdma_page_is_persistent(struct page *page)
{
	return is_zone_device_page(page) &&
	       (rurdma_page_is(page, IORES_DESC_PERSISTENT_MEMORY) ||
		rurdma_page_is(page, IORES_DESC_PERSISTENT_MEMORY_LEGACY));
}

int rurdma_umem_pages(struct ib_umem *umem, unsigned long *pages, size_t max,
		      size_t *persistent)
{
	struct sg_page_iter iter;
	struct page *page;
	size_t n = 0;

	*persistent = 0;
	for_each_sgtable_page(&umem->sgt_append.sgt, &iter, 0) {
		if (n == max)
			return -EFAULT;
		page = sg_page_iter_page(&iter);
		*persistent += rurdma_page_is_persistent(page);
		pages[n++] = (unsigned long)page_address(page);
	}
	return n == max ? 0 : -EFAULT;
}

void rurdma_persist(void *at, size_t len)
{
	arch_wb_cache_pmem(at, len);
	/* On this CPU, whose caches were written back. */
	pmem_wmb();
}

/* ib_sg_to_pages() has no argument for its callback: the MR is embedded here. */
struct rurdma_page_list {
	struct ib_mr mr;
	unsigned long *pages;
	size_t max;
	size_t used;
};

static int rurdma_add_page(struct ib_mr *mr, u64 addr)
{
	struct rurdma_page_list *list = container_of(mr, struct rurdma_page_list, mr);

	if (list->used == list->max)
		return -ENOMEM;
	list->pages[list->used++] = (unsigned long)ib_virt_dma_to_ptr(addr);
	return 0;
}

int rurdma_sg_to_pages(struct ib_mr *mr, struct scatterlist *sg, int nents,
		       unsigned int *sg_offset, unsigned long *pages,
		       size_t max, size_t *used)
{
	struct rurdma_page_list list = {
		.mr.page_size = mr->page_size, .pages = pages, .max = max,
	};
	int ret = ib_sg_to_pages(&list.mr, sg, nents, sg_offset, rurdma_add_page);

	mr->iova = list.mr.iova;
	mr->length = list.mr.length;
	*used = list.used;
	return ret;
}

static int (*rurdma_kick)(struct ib_ucontext *context);

void rurdma_set_kick(int (*kick)(struct ib_ucontext *context))
{
	WRITE_ONCE(rurdma_kick, kick);
}

static int UVERBS_HANDLER(RURDMA_METHOD_KICK)(struct uverbs_attr_bundle *attrs)
{
	struct ib_ucontext *context = ib_uverbs_get_ucontext(attrs);

	if (IS_ERR(context))
		return PTR_ERR(context);
	return READ_ONCE(rurdma_kick)(context);
}

DECLARE_UVERBS_NAMED_METHOD(RURDMA_METHOD_KICK);

ADD_UVERBS_METHODS(rurdma_device_methods, UVERBS_OBJECT_DEVICE,
		   &UVERBS_METHOD(RURDMA_METHOD_KICK));

ADD_UVERBS_ATTRIBUTES_SIMPLE(rurdma_query_context, UVERBS_OBJECT_DEVICE,
			     UVERBS_METHOD_QUERY_CONTEXT,
			     UVERBS_ATTR_PTR_OUT(RURDMA_ATTR_QUERY_CONTEXT_RESP_UCTX,
						 UVERBS_ATTR_STRUCT(struct rurdma_uctx_resp, max_inline),
						 UA_MANDATORY));

int rurdma_answer_query_context(struct uverbs_attr_bundle *attrs,
				const struct rurdma_uctx_resp *resp)
{
	return uverbs_copy_to_struct_or_zero(attrs, RURDMA_ATTR_QUERY_CONTEXT_RESP_UCTX, resp,
					     sizeof(*resp));
}

static const struct uapi_definition rurdma_uapi_defs[] = {
	UAPI_DEF_CHAIN_OBJ_TREE(UVERBS_OBJECT_DEVICE, &rurdma_device_methods),
	UAPI_DEF_CHAIN_OBJ_TREE(UVERBS_OBJECT_DEVICE, &rurdma_query_context),
	{},
};

const struct uapi_definition *rurdma_uapi_definition(void)
{
	return rurdma_uapi_defs;
}

u32 rurdma_random_u32(void)
{
	return get_random_u32();
}

u64 rurdma_ktime_raw_ns(void)
{
	return ktime_get_raw_ns();
}

int rurdma_cpu_count(void)
{
	return num_possible_cpus();
}

unsigned int rurdma_nth_cpu(unsigned int n)
{
	return cpumask_nth(n, cpu_possible_mask);
}

/* The interrupt is one that PREEMPT_RT would run in a thread. */
void rurdma_lockdep_threadable_enter(void)
{
	lockdep_irq_work_enter(0);
}

void rurdma_lockdep_threadable_exit(void)
{
	lockdep_irq_work_exit(0);
}

struct net_device *rurdma_notifier_dev(void *info)
{
	return netdev_notifier_info_to_dev(info);
}

static const struct rdma_stat_desc rurdma_counters[RURDMA_ALL_COUNTERS] = {
	[RURDMA_COUNT_CONNECTED].name = "connected",
	[RURDMA_COUNT_ACCEPTED].name = "accepted",
	[RURDMA_COUNT_PRIVATE_DATA_CUT].name = "private_data_cut",
	[RURDMA_COUNT_TERMINATE_SENT].name = "terminate_sent",
	[RURDMA_COUNT_TERMINATE_RECEIVED].name = "terminate_received",
	[RURDMA_COUNT_CRC_ERRORS].name = "crc_errors",
	[RURDMA_COUNT_ACCESS_ERRORS].name = "access_errors",
	[RURDMA_COUNT_RECEIVER_NOT_READY].name = "receiver_not_ready",
	[RURDMA_COUNT_CQ_OVERFLOWS].name = "cq_overflows",
	[RURDMA_COUNT_MULTICAST_DROPPED].name = "multicast_dropped",
	[RURDMA_COUNT_STREAMED].name = "streamed",
	[RURDMA_COUNT_STREAM_DROPPED].name = "stream_dropped",
	[RURDMA_COUNT_LINK_DOWNED].name = "link_downed",
	[RURDMA_COUNT_KICKS].name = "kicks",
	[RURDMA_COUNT_POLLED].name = "polled",
	[RURDMA_COUNT_POLLER_WAKEUPS].name = "poller_wakeups",
	[RURDMA_COUNT_SENT_PACKETS].name = "sent_pkts",
	[RURDMA_COUNT_RECEIVED_PACKETS].name = "rcvd_pkts",
	[RURDMA_COUNT_SENT_BYTES].name = "sent_bytes",
	[RURDMA_COUNT_RECEIVED_BYTES].name = "rcvd_bytes",
};

struct rdma_hw_stats *rurdma_alloc_port_stats(int counters)
{
	return rdma_alloc_hw_stats_struct(rurdma_counters, counters,
					  RDMA_HW_STATS_DEFAULT_LIFESPAN);
}
