// SPDX-License-Identifier: GPL-2.0
/*
 * hostile: a process that writes whatever it likes into the pages it shares with the module.
 *
 *   hostile serve ADDRESS PORT          the other end: accepts, receives, answers every message
 *   hostile maps ADDRESS                what may be mapped how, one "ok NAME" or "bad NAME" a line
 *   hostile reasons ADDRESS PORT        one work request for each reason to refuse it
 *   hostile attack ADDRESS PORT SEED N  N mutations; the last line has the counts
 *   hostile flood ADDRESS PORT SECONDS  as many mutations as go; each line has the counts
 *   hostile busy ADDRESS PORT SECONDS N harmless: as many connections with N work requests each as go
 *   hostile rate ADDRESS PORT SECONDS   harmless: small writes; prints messages per second
 */
#include "hostile.h"

static int rate(const char *host, const char *port, uint64_t seconds)
{
	struct ibv_wc wc[16];
	uint64_t begin, end, n = 0;
	struct conn c;
	int open = 0;

	if (!dial(&c, host, port))
		return 1;
	begin = now();
	end = begin + seconds * 1000 * MS;
	while (now() < end) {
		struct ibv_sge s = { (uintptr_t)c.buf, 64, c.mr->lkey };
		struct ibv_send_wr wr = { .sg_list = &s, .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE,
			.send_flags = IBV_SEND_SIGNALED, .wr.rdma = { c.peer.addr, c.peer.rkey } }, *bad;
		int got;

		while (open < 16) {
			if (ibv_post_send(c.id->qp, &wr, &bad))
				die("ibv_post_send");
			open++;
		}
		got = ibv_poll_cq(c.cq, 16, wc);
		if (got < 0 || (got > 0 && wc[0].status)) {
			fprintf(stderr, "completion: %d\n", got < 0 ? got : (int)wc[0].status);
			return 1;
		}
		open -= got;
		n += got;
	}
	printf("rate %llu\n", (unsigned long long)(n * 1000 * MS / (now() - begin)));
	hang_up(&c);
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && !strcmp(argv[1], "serve"))
		return serve(argv[2], argv[3]);
	if (argc == 3 && !strcmp(argv[1], "maps"))
		return try_maps(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "reasons"))
		return reasons(argv[2], argv[3]);
	if (argc == 6 && !strcmp(argv[1], "attack")) {
		seed = strtoull(argv[4], NULL, 0) * 2 + 1;
		return attack(argv[2], argv[3], strtoull(argv[5], NULL, 0));
	}
	if (argc == 5 && !strcmp(argv[1], "flood"))
		return keep_busy(argv[2], argv[3], strtoull(argv[4], NULL, 0), 0);
	if (argc == 6 && !strcmp(argv[1], "busy"))
		return keep_busy(argv[2], argv[3], strtoull(argv[4], NULL, 0), strtoull(argv[5], NULL, 0));
	if (argc == 5 && !strcmp(argv[1], "rate"))
		return rate(argv[2], argv[3], strtoull(argv[4], NULL, 0));
	fprintf(stderr, "usage: see the head of hostile.c\n");
	return 2;
}
