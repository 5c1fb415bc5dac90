/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The commands of rdma-core's kernel interface, with the module's part of each
 * request and response appended. The layouts themselves are in
 * include/uapi/rdma/rurdma-abi.h of the project, the only copy.
 */
#ifndef RURDMA_USER_ABI_H
#define RURDMA_USER_ABI_H

#include <infiniband/kern-abi.h>
#include <rdma/rurdma-abi.h>
#include <kernel-abi/rurdma-abi.h>

DECLARE_DRV_CMD(rurdma_cmd_get_context, IB_USER_VERBS_CMD_GET_CONTEXT,
		rurdma_uctx_req, rurdma_uctx_resp);
DECLARE_DRV_CMD(rurdma_cmd_create_cq, IB_USER_VERBS_CMD_CREATE_CQ,
		empty, rurdma_create_cq_resp);
DECLARE_DRV_CMD(rurdma_cmd_create_cq_ex, IB_USER_VERBS_EX_CMD_CREATE_CQ,
		empty, rurdma_create_cq_resp);
DECLARE_DRV_CMD(rurdma_cmd_resize_cq, IB_USER_VERBS_CMD_RESIZE_CQ,
		empty, rurdma_create_cq_resp);
DECLARE_DRV_CMD(rurdma_cmd_create_qp, IB_USER_VERBS_CMD_CREATE_QP,
		empty, rurdma_create_qp_resp);
DECLARE_DRV_CMD(rurdma_cmd_create_qp_ex, IB_USER_VERBS_EX_CMD_CREATE_QP,
		empty, rurdma_create_qp_resp);
DECLARE_DRV_CMD(rurdma_cmd_create_srq, IB_USER_VERBS_CMD_CREATE_SRQ,
		empty, rurdma_create_srq_resp);
DECLARE_DRV_CMD(rurdma_cmd_modify_srq, IB_USER_VERBS_CMD_MODIFY_SRQ,
		rurdma_modify_srq_req, empty);
DECLARE_DRV_CMD(rurdma_cmd_create_ah, IB_USER_VERBS_CMD_CREATE_AH,
		empty, rurdma_create_ah_resp);

#endif /* RURDMA_USER_ABI_H */
