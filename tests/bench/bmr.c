// SPDX-License-Identifier: GPL-2.0
/*
 * bmr: what it costs to register memory.
 *
 *   bmr [-s SECONDS] DEVICE SIZE...
 *
 * For each size, registers and takes back a buffer of touched pages for SECONDS (0.3), and prints size, microseconds
 * of an ibv_reg_mr(), microseconds of an ibv_dereg_mr().
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <infiniband/verbs.h>

static void die(const char *what)
{
	fprintf(stderr, "bmr: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static struct ibv_context *opened(const char *name)
{
	struct ibv_device **list = ibv_get_device_list(NULL);

	for (int i = 0; list && list[i]; i++)
		if (!strcmp(ibv_get_device_name(list[i]), name))
			return ibv_open_device(list[i]);
	return NULL;
}

static void measure(struct ibv_pd *pd, size_t size, double seconds)
{
	void *p = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
	double reg = 0, dereg = 0, t0, t1;
	long n = 0;

	if (!p)
		die("memory");
	memset(p, 1, size);
	do {
		struct ibv_mr *mr;

		t0 = now();
		mr = ibv_reg_mr(pd, p, size, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ);
		if (!mr)
			die("ibv_reg_mr");
		t1 = now();
		if (ibv_dereg_mr(mr))
			die("ibv_dereg_mr");
		/* The first one warms up. */
		if (n++) {
			reg += t1 - t0;
			dereg += now() - t1;
		}
	} while (reg + dereg < seconds);
	printf("%zu %.3f %.3f\n", size, reg / (n - 1) * 1e6, dereg / (n - 1) * 1e6);
	free(p);
}

int main(int argc, char **argv)
{
	double seconds = 0.3;
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	int o;

	while ((o = getopt(argc, argv, "s:")) != -1) {
		if (o != 's')
			return 2;
		seconds = atof(optarg);
	}
	if (optind + 2 > argc) {
		fputs("usage: bmr [-s SECONDS] DEVICE SIZE...\n", stderr);
		return 2;
	}
	ctx = opened(argv[optind]);
	pd = ctx ? ibv_alloc_pd(ctx) : NULL;
	if (!pd)
		die(argv[optind]);
	for (int i = optind + 1; i < argc; i++)
		measure(pd, strtoul(argv[i], NULL, 0), seconds);
	return 0;
}
