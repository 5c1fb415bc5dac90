// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Address handles: the module keeps the address, work requests name its handle.
 */
#include <errno.h>
#include <stdlib.h>

#include "rurdma.h"

struct ibv_ah *rurdma_create_ah(struct ibv_pd *pd, struct ibv_ah_attr *attr)
{
	struct rurdma_cmd_create_ah_resp resp = {};
	struct rurdma_ah *ah;
	int ret;

	if (to_rctx(pd->context)->iwarp) {
		errno = EOPNOTSUPP;
		return NULL;
	}

	ah = calloc(1, sizeof(*ah));
	if (!ah)
		return NULL;

	ret = ibv_cmd_create_ah(pd, &ah->ah, attr, &resp.ibv_resp,
				sizeof(resp));
	if (ret) {
		free(ah);
		errno = ret;
		return NULL;
	}

	ah->handle = resp.handle;
	return &ah->ah;
}

int rurdma_destroy_ah(struct ibv_ah *ibah)
{
	int ret;

	ret = ibv_cmd_destroy_ah(ibah);
	if (ret)
		return ret;

	free(to_rah(ibah));
	return 0;
}
