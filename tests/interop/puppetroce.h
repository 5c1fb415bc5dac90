/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The part of the puppet that makes QPs of RoCE without a connection manager: one end is told of the
 * other by hand. In the midst of puppet.c, whose objects it makes.
 */
#ifndef PUPPETROCE_H
#define PUPPETROCE_H

/* Of a QP that "qp" made: its type, what it is modified with, and of UD where to. */
static enum ibv_qp_type type;
static struct ibv_qp_attr path;
static struct ibv_ah *ah;
static int flushes;

/* The GID that an IPv4 address is. */
static int gid_of(const char *address, union ibv_gid *gid)
{
	char text[64];

	snprintf(text, sizeof(text), "::ffff:%s", address ? address : "");
	errno = EINVAL;
	return inet_pton(AF_INET6, text, gid) == 1 ? 0 : -1;
}

/* Where it stands in the device's table. */
static int gid_index(const union ibv_gid *gid)
{
	struct ibv_gid_entry e;

	for (int i = 0; i < 64; i++)
		if (!ibv_query_gid_ex(id->verbs, 1, i, &e, 0) &&
		    e.gid_type == IBV_GID_TYPE_ROCE_V2 && !memcmp(&e.gid, gid, sizeof(*gid)))
			return i;
	errno = EADDRNOTAVAIL;
	return -1;
}

static const char *const states[] = {
	[IBV_QPS_RESET] = "reset", [IBV_QPS_INIT] = "init", [IBV_QPS_RTR] = "rtr",
	[IBV_QPS_RTS] = "rts", [IBV_QPS_SQD] = "sqd", [IBV_QPS_SQE] = "sqe", [IBV_QPS_ERR] = "err",
};

static enum ibv_qp_state state_of(const char *name)
{
	enum ibv_qp_state s = IBV_QPS_RESET;

	while (s < IBV_QPS_ERR && strcmp(name, states[s]))
		s++;
	return s;
}

static int modify(enum ibv_qp_state to)
{
	int mask = IBV_QP_STATE, rc = type == IBV_QPT_RC, ud = type == IBV_QPT_UD;

	path.qp_state = to;
	if (to == IBV_QPS_INIT)
		mask |= IBV_QP_PKEY_INDEX | IBV_QP_PORT | (ud ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS);
	if (to == IBV_QPS_RTR && !ud)
		mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
			(rc ? IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER : 0);
	if (to == IBV_QPS_RTS)
		mask |= IBV_QP_SQ_PSN | (rc ? IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
					      IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC : 0);
	errno = ibv_modify_qp(id->qp, &path, mask);
	return errno ? -1 : 0;
}

/* What "qp" may be told besides addresses and numbers. */
static int set_attr(const char *name, const char *value)
{
	unsigned long n = strtoul(value, NULL, 0);

	if (!strcmp(name, "retry"))
		path.retry_cnt = n;
	else if (!strcmp(name, "rnr"))
		path.rnr_retry = n;
	else if (!strcmp(name, "timeout"))
		path.timeout = n;
	else if (!strcmp(name, "rnrtimer"))
		path.min_rnr_timer = n;
	else if (!strcmp(name, "ird"))
		path.max_dest_rd_atomic = n;
	else if (!strcmp(name, "ord"))
		path.max_rd_atomic = n;
	else if (!strcmp(name, "qkey"))
		path.qkey = n;
	else if (!strcmp(name, "rights"))
		path.qp_access_flags = access_of(value);
	else if (!strcmp(name, "flush"))
		flushes = n;
	else
		return -1;
	return 0;
}

static int open_device(const char *address)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };

	errno = EINVAL;
	if (!address || !inet_aton(address, &sin.sin_addr) ||
	    rdma_create_id(channel, &id, NULL, RDMA_PS_TCP) ||
	    rdma_bind_addr(id, (struct sockaddr *)&sin))
		return -1;
	errno = ENODEV;
	return id->verbs ? 0 : -1;
}

/* One that may post a FLUSH, for which ibv_post_send() has no words. */
static struct ibv_qp *flushing_qp(const struct ibv_qp_init_attr *init)
{
	struct ibv_qp_init_attr_ex ex = {
		.qp_type = init->qp_type,
		.sq_sig_all = init->sq_sig_all,
		.cap = init->cap,
		.send_cq = init->send_cq,
		.recv_cq = init->recv_cq,
		.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.pd = pd,
		.send_ops_flags = IBV_QP_EX_WITH_FLUSH,
	};

	return ibv_create_qp_ex(id->verbs, &ex);
}

static int do_qp(void)
{
	const char *kind = strtok(NULL, " "), *mine = strtok(NULL, " ");
	enum ibv_qp_state to = IBV_QPS_RTS;
	struct ibv_qp_init_attr init;
	union ibv_gid my_gid;
	char *name, *value;
	int index;

	type = !strcmp(kind, "rc") ? IBV_QPT_RC : !strcmp(kind, "uc") ? IBV_QPT_UC : IBV_QPT_UD;
	path = (struct ibv_qp_attr){
		.port_num = 1, .path_mtu = IBV_MTU_1024, .qkey = 0x11111111, .timeout = 14,
		.retry_cnt = 7, .rnr_retry = 7, .min_rnr_timer = 12, .max_rd_atomic = 16,
		.max_dest_rd_atomic = 16, .qp_access_flags = access_of("wra"),
		.ah_attr = { .is_global = 1, .port_num = 1, .grh.hop_limit = 64 },
	};
	if (gid_of(mine, &my_gid) || gid_of(strtok(NULL, " "), &path.ah_attr.grh.dgid) ||
	    open_device(mine))
		return bad("address");
	path.dest_qp_num = arg();
	path.rq_psn = arg();
	path.sq_psn = arg();
	flushes = 0;
	while ((name = strtok(NULL, " "))) {
		value = strchr(name, '=');
		errno = EINVAL;
		if (!value)
			return bad(name);
		*value++ = 0;
		if (!strcmp(name, "to"))
			to = state_of(value);
		else if (set_attr(name, value))
			return bad(name);
	}
	index = gid_index(&my_gid);
	if (index < 0)
		return bad("gid");
	path.ah_attr.grh.sgid_index = index;
	if (make_objects(&init))
		return bad("objects");
	init.qp_type = type;
	memset(buf, 0, SIZE);
	id->qp = flushes ? flushing_qp(&init) : ibv_create_qp(pd, &init);
	if (!id->qp)
		return bad("create_qp");
	if (type == IBV_QPT_UD) {
		ah = ibv_create_ah(pd, &path.ah_attr);
		if (!ah)
			return bad("create_ah");
	}
	for (enum ibv_qp_state s = IBV_QPS_INIT; s <= to; s++)
		if (modify(s))
			return bad(states[s]);
	printf("ok qpn=%u\n", id->qp->qp_num);
	return 0;
}

static int do_modify(void)
{
	const char *to = strtok(NULL, " "), *dest = strtok(NULL, " ");

	if (dest && !strncmp(dest, "dest=", 5))
		path.dest_qp_num = strtoul(dest + 5, NULL, 0);
	return modify(state_of(to)) ? bad(to) : ok();
}

static int do_flush(void)
{
	const char *types = strtok(NULL, " "), *level = strtok(NULL, " ");
	struct ibv_qp_ex *qp = ibv_qp_to_qp_ex(id->qp);
	uint64_t addr = arg(), len = arg();
	uint32_t key = arg();

	errno = EOPNOTSUPP;
	if (!types || !level || !qp || !qp->wr_flush)
		return bad("flush");
	ibv_wr_start(qp);
	qp->wr_id = ++serial;
	qp->wr_flags = IBV_SEND_SIGNALED;
	ibv_wr_flush(qp, key, addr, len,
		     (strchr(types, 'g') ? IBV_FLUSH_GLOBAL : 0) |
		     (strchr(types, 'p') ? IBV_FLUSH_PERSISTENT : 0),
		     strcmp(level, "mr") ? IBV_FLUSH_RANGE : IBV_FLUSH_MR);
	errno = ibv_wr_complete(qp);
	return errno ? bad("flush") : ok();
}

static int do_async(void)
{
	struct pollfd p = { .fd = id->verbs->async_fd, .events = POLLIN };
	struct ibv_async_event e;
	int ms = arg(), mine;

	do {
		errno = ETIMEDOUT;
		if (poll(&p, 1, ms) != 1 || ibv_get_async_event(id->verbs, &e))
			return bad("async");
		mine = ((e.event_type >= IBV_EVENT_QP_FATAL &&
			 e.event_type <= IBV_EVENT_PATH_MIG_ERR) ||
			e.event_type == IBV_EVENT_QP_LAST_WQE_REACHED) && e.element.qp == id->qp;
		ibv_ack_async_event(&e);
	} while (!mine);
	printf("ok event=%d\n", e.event_type);
	return 0;
}

#endif /* PUPPETROCE_H */
