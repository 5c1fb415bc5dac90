// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Protection, thread and parent domains.
 */
#include <errno.h>
#include <stdlib.h>

#include "rurdma.h"

struct ibv_pd *rurdma_alloc_pd(struct ibv_context *ctx)
{
	struct ib_uverbs_alloc_pd_resp resp;
	struct ibv_alloc_pd cmd;
	struct rurdma_pd *pd;
	int ret;

	pd = calloc(1, sizeof(*pd));
	if (!pd)
		return NULL;

	ret = ibv_cmd_alloc_pd(ctx, &pd->pd, &cmd, sizeof(cmd), &resp,
			       sizeof(resp));
	if (ret) {
		free(pd);
		errno = ret;
		return NULL;
	}

	return &pd->pd;
}

static int rurdma_dealloc_parent_domain(struct rurdma_pd *pd)
{
	atomic_fetch_sub(&pd->parent_of->refs, 1);
	if (pd->td)
		atomic_fetch_sub(&pd->td->refs, 1);
	free(pd);
	return 0;
}

int rurdma_dealloc_pd(struct ibv_pd *ibpd)
{
	struct rurdma_pd *pd = to_rpd(ibpd);
	int ret;

	if (pd->parent_of)
		return rurdma_dealloc_parent_domain(pd);

	if (atomic_load(&pd->refs))
		return EBUSY;

	ret = ibv_cmd_dealloc_pd(ibpd);
	if (ret)
		return ret;

	free(pd);
	return 0;
}

struct ibv_td *rurdma_alloc_td(struct ibv_context *ctx,
			       struct ibv_td_init_attr *attr)
{
	struct rurdma_td *td;

	if (attr->comp_mask) {
		errno = EOPNOTSUPP;
		return NULL;
	}

	td = calloc(1, sizeof(*td));
	if (!td)
		return NULL;

	td->td.context = ctx;
	return &td->td;
}

int rurdma_dealloc_td(struct ibv_td *ibtd)
{
	struct rurdma_td *td = to_rtd(ibtd);

	if (atomic_load(&td->refs))
		return EBUSY;

	free(td);
	return 0;
}

/*
 * The allocators of the attributes are accepted and have nothing to do: all
 * queue memory is the kernel's.
 */
struct ibv_pd *
rurdma_alloc_parent_domain(struct ibv_context *ctx,
			   struct ibv_parent_domain_init_attr *attr)
{
	struct rurdma_pd *pd, *inner;

	if (ibv_check_alloc_parent_domain(attr))
		return NULL;

	if (!check_comp_mask(attr->comp_mask,
			     IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS |
			     IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT)) {
		errno = EOPNOTSUPP;
		return NULL;
	}

	inner = to_rpd(attr->pd);
	if (inner->parent_of) {
		errno = EINVAL;
		return NULL;
	}

	pd = calloc(1, sizeof(*pd));
	if (!pd)
		return NULL;

	if (attr->td) {
		pd->td = to_rtd(attr->td);
		atomic_fetch_add(&pd->td->refs, 1);
	}
	pd->parent_of = inner;
	atomic_fetch_add(&inner->refs, 1);
	ibv_initialize_parent_domain(&pd->pd, attr->pd);

	return &pd->pd;
}

struct ibv_pd *rurdma_import_pd(struct ibv_context *ctx, uint32_t handle)
{
	struct rurdma_pd *pd;

	pd = calloc(1, sizeof(*pd));
	if (!pd)
		return NULL;

	pd->pd.context = ctx;
	pd->pd.handle = handle;
	return &pd->pd;
}

void rurdma_unimport_pd(struct ibv_pd *pd)
{
	free(to_rpd(pd));
}
