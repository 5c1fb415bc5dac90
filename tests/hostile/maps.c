// SPDX-License-Identifier: GPL-2.0
/* What may be mapped how, one "ok NAME" or "bad NAME" a line. */
#include "hostile.h"
#include <signal.h>
#include <sys/wait.h>

static int bad_maps;

static void check(const char *name, bool ok)
{
	printf("%s %s (errno %d)\n", ok ? "ok" : "bad", name, errno);
	bad_maps += !ok;
}

static bool refused(const struct map *m, size_t len, int prot, int flags, off_t off, int want)
{
	void *at = (void *)syscall(SYS_mmap, NULL, len, prot, flags, m->fd, off);

	if (at == MAP_FAILED)
		return !want || errno == want;
	munmap(at, len);
	return false;
}

static void on_fault(int signal)
{
	_exit(signal == SIGSEGV ? 77 : 1);
}

/* Writing to `at` raises SIGSEGV. (Unhandled, it would be in the kernel log.) */
static bool faults(volatile uint32_t *at)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		signal(SIGSEGV, on_fault);
		*at = 1;
		_exit(0);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 77;
}

int try_maps(const char *host)
{
	struct sockaddr_in a = address(host, NULL);
	struct conn c = {};
	int i, n;

	channel = rdma_create_event_channel();
	if (!channel || rdma_create_id(channel, &c.id, NULL, RDMA_PS_TCP) ||
	    rdma_bind_addr(c.id, (struct sockaddr *)&a))
		die("rdma_bind_addr");
	if (!c.id->verbs)
		die("no device has this address");
	make_qp(&c, NULL);
	/* What has been mapped: status, doorbells, CQ, SQ, RQ. */
	n = n_maps;
	check("five mappings", n == 5);
	for (i = 0; i < n; i++) {
		const struct map *m = &maps[i];
		bool ro = m->prot == PROT_READ;

		printf("mapping %d: %zu bytes, %s\n", i, m->len, ro ? "read-only" : "read-write");
		check("private", refused(m, m->len, m->prot, MAP_PRIVATE, m->off, EINVAL));
		check("longer", refused(m, m->len + 4096, m->prot, MAP_SHARED, m->off, EINVAL));
		check("much longer", refused(m, m->len * 16 + (1 << 20), m->prot, MAP_SHARED, m->off, 0));
		if (m->len > 4096)
			check("shorter", refused(m, m->len - 4096, m->prot, MAP_SHARED, m->off, EINVAL));
		if (m->len > 4096)
			check("from the middle", refused(m, m->len - 4096, m->prot, MAP_SHARED, m->off + 4096, 0));
		check("executable", refused(m, m->len, m->prot | PROT_EXEC, MAP_SHARED, m->off, EPERM));
		check("made executable", mprotect(m->at, m->len, m->prot | PROT_EXEC) && errno == EACCES);
		check("grows", mremap(m->at, m->len, m->len * 2, MREMAP_MAYMOVE) == MAP_FAILED);
		if (ro) {
			check("writable", refused(m, m->len, PROT_READ | PROT_WRITE, MAP_SHARED, m->off, EPERM));
			check("only writable", refused(m, m->len, PROT_WRITE, MAP_SHARED, m->off, EPERM));
			check("made writable", mprotect(m->at, m->len, PROT_READ | PROT_WRITE) && errno == EACCES);
			check("faults on a write", faults(m->at));
		}
	}
	for (i = 0; i < 2000; i++) {
		off_t off = (off_t)(rnd() >> (1 + rnd() % 50)) & ~4095ULL;
		struct map any = { .fd = device->cmd_fd };
		bool known = false;
		int j;

		for (j = 0; j < n; j++)
			known |= maps[j].off == off;
		if (!known && !refused(&any, 4096, PROT_READ, MAP_SHARED, off, 0)) {
			check("an offset that nobody gave out", false);
			break;
		}
	}
	drop(&c);
	check("an offset of a QP that is gone", refused(&maps[3], maps[3].len, maps[3].prot, MAP_SHARED, maps[3].off, 0));
	return bad_maps != 0;
}
