// SPDX-License-Identifier: GPL-2.0
/*
 * A provider that does not know the kick, on the module that is loaded: posts by the classic POST_SEND command.
 * test_work.py runs it.
 *
 * The library's system calls come through here. The capability is taken out of what the provider says that it
 * knows; what it then does to have its work run is counted.
 */
#include "vt.h"

#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_ioctl.h>
#include <rdma/rurdma-abi.h>
#include <sys/ioctl.h>

static struct end c, s;
/* Invocations of the kick; of POST_SEND as an ioctl, and as a write. */
static unsigned int kicks, ioctls, writes;
/* Capabilities that were taken out. */
static unsigned int hidden;
/* Commands are not to be wrapped into ioctls. */
static bool no_ioctls;

static struct ib_uverbs_attr *attr_of(struct ib_uverbs_ioctl_hdr *hdr, uint16_t id)
{
	for (unsigned int i = 0; i < hdr->num_attrs; i++)
		if (hdr->attrs[i].attr_id == id)
			return &hdr->attrs[i];
	return NULL;
}

int ioctl(int fd, unsigned long request, ...)
{
	struct ib_uverbs_ioctl_hdr *hdr;
	struct ib_uverbs_attr *attr;
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	hdr = arg;
	if (request != RDMA_VERBS_IOCTL || hdr->object_id != UVERBS_OBJECT_DEVICE)
		return (int)syscall(SYS_ioctl, fd, request, arg);
	switch (hdr->method_id) {
	case RURDMA_METHOD_KICK:
		kicks++;
		break;
	case UVERBS_METHOD_GET_CONTEXT:
		/* 8 bytes are in the attribute itself. */
		attr = attr_of(hdr, UVERBS_ATTR_UHW_IN);
		if (attr && attr->len == sizeof(struct rurdma_uctx_req) &&
		    attr->data & RURDMA_CAP_KICK_METHOD) {
			attr->data &= ~(uint64_t)RURDMA_CAP_KICK_METHOD;
			hidden++;
		}
		break;
	case UVERBS_METHOD_INVOKE_WRITE:
		/* As a kernel says that does not know it. */
		if (no_ioctls) {
			errno = EPROTONOSUPPORT;
			return -1;
		}
		attr = attr_of(hdr, UVERBS_ATTR_WRITE_CMD);
		ioctls += attr && attr->data == IB_USER_VERBS_CMD_POST_SEND;
		break;
	}
	return (int)syscall(SYS_ioctl, fd, request, arg);
}

ssize_t write(int fd, const void *data, size_t len)
{
	const struct ib_uverbs_cmd_hdr *hdr = data;

	if (c.id && c.id->verbs && fd == c.id->verbs->cmd_fd && len >= sizeof(*hdr))
		writes += hdr->command == IB_USER_VERBS_CMD_POST_SEND;
	return syscall(SYS_write, fd, data, len);
}

static void all_is_done(void)
{
	struct buf a, b, r;

	connect_ends(&c, &s, NULL);
	a = new_buf(c.pd, 65536);
	b = new_buf(s.pd, 65536);
	r = new_buf(s.pd, 65536);
	EQ(hidden, 1);
	for (int i = 0; i < 50; i++) {
		fill(a.p, a.len, i);
		recv_buf(s.qp, 1, &r, r.len);
		rdma_buf(c.qp, 2, IBV_WR_RDMA_WRITE, &a, a.len, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
		send_buf(c.qp, 3, &a, 30000, SIGNALED);
		DONE(c.scq, 2);
		DONE(c.scq, 3);
		DONE(s.rcq, 1);
		VERIFY(b.p, b.len, i);
		VERIFY(r.p, 30000, i);
		memset(a.p, 0, a.len);
		rdma_buf(c.qp, 4, IBV_WR_RDMA_READ, &a, a.len, (uintptr_t)b.p, b.mr->rkey, SIGNALED);
		DONE(c.scq, 4);
		VERIFY(a.p, a.len, i);
	}
	/* What is posted to a QP in ERROR is flushed, too. */
	OK(to_state(c.qp, IBV_QPS_ERR));
	send_buf(c.qp, 5, &a, 8, SIGNALED);
	DONE_WITH(c.scq, 5, WR_FLUSH_ERR);
	printf("kicks %u, ioctls %u, writes %u\n", kicks, ioctls, writes);
	EQ(kicks, 0);
}

static void by_ioctl(void)
{
	all_is_done();
	CHECK(ioctls >= 150);
	EQ(writes, 0);
}

static void by_write(void)
{
	no_ioctls = true;
	all_is_done();
	CHECK(writes >= 150);
	EQ(ioctls, 0);
}

static const struct test tests[] = {
	T(by_ioctl), T(by_write),
};

int main(int argc, char **argv)
{
	return run_test(tests, ARRAY_SIZE(tests), argc, argv);
}
