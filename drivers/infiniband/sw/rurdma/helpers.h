/* SPDX-License-Identifier: GPL-2.0 */
/* Wrappers for inlines and macros, for Rust. No logic here. */
#ifndef _RURDMA_HELPERS_H
#define _RURDMA_HELPERS_H

#include <linux/skbuff.h>
#include <linux/spinlock.h>
#include <linux/xarray.h>
#include <net/sock.h>
#include <rdma/ib_verbs.h>

unsigned long rurdma_spin_lock_irqsave(spinlock_t *lock);
void rurdma_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags);
int rurdma_spin_trylock_irqsave(spinlock_t *lock, unsigned long *flags);

void rurdma_xa_init(struct xarray *xa);
int rurdma_xa_insert(struct xarray *xa, unsigned long index, void *entry, gfp_t gfp);
void *rurdma_xa_erase(struct xarray *xa, unsigned long index);

#endif
