// SPDX-License-Identifier: GPL-2.0
/*
 * bulk: moves many bytes with RDMA WRITE and proves that they arrived.
 *
 * The client fills blocks with words that depend on their place in the whole
 * transfer, writes each into a slot of the server's buffer and announces it
 * with a SEND; the server digests what lies in its memory and answers with the
 * digest, which must be that of what the client wrote. A block that is early,
 * late, twice, elsewhere or altered has another digest.
 *
 *   bulk [-p PORT] [-m MIB] [-b ADDRESS]   server, at all addresses or at that
 *   bulk [-p PORT] [-m MIB] ADDRESS        client
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>

#define BLOCK (1024UL * 1024)
#define SLOTS 8

/* Either direction: where to write, what lies there, what was found there. */
struct note {
	uint64_t addr;
	uint64_t block;
	uint64_t digest;
	uint32_t rkey;
	uint32_t pad;
};

static struct rdma_cm_id *id;
static struct ibv_mr *data_mr, *note_mr;
static uint64_t *data;
static struct note *rx, *tx;

static void die(const char *what)
{
	fprintf(stderr, "bulk: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t rotl(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

/* Four lanes: one multiplication need not wait for the last. */
static uint64_t digest(const uint64_t *p, uint64_t seed)
{
	uint64_t a = seed, b = ~seed, c = rotl(seed, 17), d = rotl(seed, 41);

	for (size_t i = 0; i < BLOCK / 8; i += 4) {
		a = rotl((a ^ p[i]) * 0x9e3779b97f4a7c15ULL, 29);
		b = rotl((b ^ p[i + 1]) * 0xbf58476d1ce4e5b9ULL, 31);
		c = rotl((c ^ p[i + 2]) * 0x94d049bb133111ebULL, 33);
		d = rotl((d ^ p[i + 3]) * 0xd6e8feb86659fd93ULL, 35);
	}
	return (a ^ rotl(b, 16) ^ rotl(c, 32) ^ rotl(d, 48)) * 0x9e3779b97f4a7c15ULL;
}

static void fill(uint64_t *p, uint64_t block)
{
	uint64_t x = (block + 1) * 0x9e3779b97f4a7c15ULL;

	for (size_t i = 0; i < BLOCK / 8; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = x;
	}
}

static uint64_t *slot(uint64_t block)
{
	return data + block % SLOTS * (BLOCK / 8);
}

static void post_recv(unsigned int n)
{
	if (rdma_post_recv(id, (void *)(uintptr_t)n, &rx[n], sizeof(*rx), note_mr))
		die("post receive");
}

static void send_note(unsigned int n, const struct note *note)
{
	struct ibv_wc wc;

	tx[n] = *note;
	if (rdma_post_send(id, NULL, &tx[n], sizeof(*tx), note_mr, IBV_SEND_SIGNALED))
		die("post send");
	/* The completions of WRITEs before it are not asked for. */
	if (rdma_get_send_comp(id, &wc) != 1 || wc.status != IBV_WC_SUCCESS) {
		fprintf(stderr, "bulk: send: %s\n", ibv_wc_status_str(wc.status));
		exit(1);
	}
}

static struct note next_note(void)
{
	struct ibv_wc wc;
	struct note n;

	if (rdma_get_recv_comp(id, &wc) != 1)
		die("receive");
	if (wc.status != IBV_WC_SUCCESS) {
		fprintf(stderr, "bulk: receive: %s\n", ibv_wc_status_str(wc.status));
		exit(1);
	}
	n = rx[wc.wr_id];
	post_recv(wc.wr_id);
	return n;
}

static void set_up(void)
{
	if (posix_memalign((void **)&data, 4096, SLOTS * BLOCK) ||
	    posix_memalign((void **)&rx, 4096, 2 * SLOTS * sizeof(*rx)))
		die("memory");
	tx = rx + SLOTS;
	data_mr = ibv_reg_mr(id->pd, data, SLOTS * BLOCK,
			     IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	note_mr = ibv_reg_mr(id->pd, rx, 2 * SLOTS * sizeof(*rx), IBV_ACCESS_LOCAL_WRITE);
	if (!data_mr || !note_mr)
		die("register memory");
	for (unsigned int n = 0; n < SLOTS; n++)
		post_recv(n);
}

static void server(uint64_t blocks, uint64_t *total)
{
	struct note n = {
		.addr = (uintptr_t)data,
		.rkey = data_mr->rkey,
		.block = UINT64_MAX,
	};

	send_note(0, &n);
	for (uint64_t i = 0; i < blocks; i++) {
		n = next_note();
		if (n.block != i) {
			fprintf(stderr, "bulk: block %" PRIu64 " instead of %" PRIu64 "\n",
				n.block, i);
			exit(1);
		}
		n.digest = digest(slot(i), i);
		*total = rotl(*total, 7) ^ n.digest;
		send_note(i % SLOTS, &n);
	}
}

static void client(uint64_t blocks, uint64_t *total)
{
	uint64_t want[SLOTS];
	struct note at = next_note(), n;

	for (uint64_t i = 0; i < blocks + SLOTS; i++) {
		/* A slot is free when its last block has been checked. */
		if (i >= SLOTS) {
			n = next_note();
			if (n.block != i - SLOTS || n.digest != want[i % SLOTS]) {
				fprintf(stderr, "bulk: block %" PRIu64 " arrived altered\n",
					i - SLOTS);
				exit(1);
			}
			*total = rotl(*total, 7) ^ n.digest;
		}
		if (i >= blocks)
			continue;
		fill(slot(i), i);
		want[i % SLOTS] = digest(slot(i), i);
		if (rdma_post_write(id, NULL, slot(i), BLOCK, data_mr, 0,
				    at.addr + i % SLOTS * BLOCK, at.rkey))
			die("post write");
		n = (struct note){ .block = i };
		send_note(i % SLOTS, &n);
	}
}

int main(int argc, char **argv)
{
	struct rdma_addrinfo hints = { .ai_port_space = RDMA_PS_TCP }, *ai;
	struct ibv_qp_init_attr attr = {
		.qp_type = IBV_QPT_RC,
		.cap = {
			.max_send_wr = 2 * SLOTS,
			.max_recv_wr = SLOTS,
			.max_send_sge = 1,
			.max_recv_sge = 1,
		},
	};
	struct timespec t0, t1;
	const char *port = "7777", *host, *at = NULL;
	uint64_t blocks = 1024, total = 0;
	double s;
	int o;

	while ((o = getopt(argc, argv, "p:m:b:")) != -1) {
		if (o == 'p')
			port = optarg;
		else if (o == 'b')
			at = optarg;
		else if (o == 'm')
			blocks = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	host = optind < argc ? argv[optind] : NULL;
	if (!host)
		hints.ai_flags = RAI_PASSIVE;
	if (blocks < SLOTS)
		blocks = SLOTS;
	if (rdma_getaddrinfo(host ? host : at, port, &hints, &ai))
		die("address");
	if (host) {
		if (rdma_create_ep(&id, ai, NULL, &attr))
			die("endpoint");
		set_up();
		if (rdma_connect(id, NULL))
			die("connect");
	} else {
		struct rdma_cm_id *listener;

		if (rdma_create_ep(&listener, ai, NULL, &attr) || rdma_listen(listener, 1))
			die("listen");
		puts("listening");
		fflush(stdout);
		if (rdma_get_request(listener, &id))
			die("get request");
		set_up();
		if (rdma_accept(id, NULL))
			die("accept");
	}
	clock_gettime(CLOCK_MONOTONIC, &t0);
	if (host)
		client(blocks, &total);
	else
		server(blocks, &total);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	s = t1.tv_sec - t0.tv_sec + (t1.tv_nsec - t0.tv_nsec) / 1e9;
	printf("%" PRIu64 " MiB in %.1f s, %.1f MiB/s, digest %016" PRIx64 "\n",
	       blocks, s, blocks / s, total);
	rdma_disconnect(id);
	rdma_destroy_ep(id);
	return 0;
}
