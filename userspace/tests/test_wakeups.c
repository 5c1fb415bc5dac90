// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* No wakeup is lost. */
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "test_provider.h"

/*
 * Two threads, the real protocol: the module's thread sleeps when there is
 * nothing to do and is woken by kicks only; the poster sleeps on CQ events only.
 * A lost wakeup shows as a time-out.
 */
static pthread_mutex_t wake_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake_cond = PTHREAD_COND_INITIALIZER;
static bool woken, stop;
static unsigned int sleeps;

static void wake(void)
{
	pthread_mutex_lock(&wake_lock);
	woken = true;
	pthread_cond_signal(&wake_cond);
	pthread_mutex_unlock(&wake_lock);
}

static void execute(struct fake_qp *qp)
{
	struct rurdma_cqe cqe = {};
	struct fake_wr wr;

	while (fake_next_send(qp, &wr)) {
		fake_publish_sq(qp);
		cqe.wr_id = wr.wqe.wr_id;
		cqe.qp_num = wr.qp_num;
		fake_complete(qp->send_cq, &cqe);
	}
}

static void *module_thread(void *arg)
{
	struct timespec ts;
	int ret;

	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		if (fake_take_doorbells(execute))
			continue;
		__atomic_store_n(&fake_status->flags, RURDMA_DB_NEED_WAKEUP,
				 __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (!fake_take_doorbells(execute)) {
			sleeps++;
			clock_gettime(CLOCK_REALTIME, &ts);
			ts.tv_sec += 10;
			pthread_mutex_lock(&wake_lock);
			ret = 0;
			while (!woken && !ret)
				ret = pthread_cond_timedwait(&wake_cond,
							     &wake_lock, &ts);
			woken = false;
			pthread_mutex_unlock(&wake_lock);
			check(!ret);	/* nobody kicked */
		}
		__atomic_store_n(&fake_status->flags, 0, __ATOMIC_RELAXED);
	}
	return NULL;
}

void test_wakeups(void)
{
	struct ibv_cq *cq = new_cq(16);
	struct ibv_qp *qp = new_qp(IBV_QPT_RC, cq, 16, 1);
	struct fake_cq *f = fake_cq_of(cq);
	struct ibv_send_wr wr = { .opcode = IBV_WR_SEND }, *bad;
	unsigned int posted = 0, done = 0, events = 0, waits = 0;
	struct timespec start, now;
	struct ibv_wc wc[16];
	pthread_t thread;
	int i, n;

	set_state(qp, IBV_QPS_RTS);
	fake_on_kick = wake;
	check(!pthread_create(&thread, NULL, module_thread, NULL));

	while (done < 100000) {
		n = 1 + rnd(4);
		while (n-- && posted - done < 16) {
			wr.wr_id = posted++;
			check(!post(qp, &wr, &bad));
		}
		while (done < posted) {
			n = fake_ops->poll_cq(cq, 16, wc);
			check(n >= 0);
			for (i = 0; i < n; i++)
				check(wc[i].wr_id == done++);
			if (n)
				break;
			events = __atomic_load_n(&f->events, __ATOMIC_SEQ_CST);
			check(!fake_ops->req_notify_cq(cq, 0));
			n = fake_ops->poll_cq(cq, 16, wc);
			for (i = 0; i < n; i++)
				check(wc[i].wr_id == done++);
			if (n)
				break;
			/* "Block" until the event. */
			waits++;
			clock_gettime(CLOCK_MONOTONIC, &start);
			while (__atomic_load_n(&f->events, __ATOMIC_SEQ_CST) ==
			       events) {
				clock_gettime(CLOCK_MONOTONIC, &now);
				check(now.tv_sec - start.tv_sec < 10);
			}
		}
	}

	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	wake();
	pthread_join(thread, NULL);
	fake_on_kick = NULL;
	fake_status->flags = 0;
	printf("   %u requests, module slept %u times, poller %u times\n", done,
	       sleeps, waits);
	check(!fake_ops->destroy_qp(qp));
	check(!fake_ops->destroy_cq(cq));
}
