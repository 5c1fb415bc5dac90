// SPDX-License-Identifier: GPL-2.0
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
	return xa_insert_irq(xa, index, entry, gfp);
}

void *rurdma_xa_erase(struct xarray *xa, unsigned long index)
{
	return xa_erase_irq(xa, index);
}
