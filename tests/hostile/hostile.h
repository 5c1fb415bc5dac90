/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of hostile share: a connection whose rings are known, and work requests by hand. */
#ifndef HOSTILE_H
#define HOSTILE_H

#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <rdma/rdma_cma.h>
#include <rdma/rurdma-abi.h>

#define BUF (64 * 1024)
#define DEPTH 64
#define RECVS 32
#define MS 1000000ULL

struct map {
	void *at;
	size_t len;
	int prot, fd;
	off_t off;
};

/* What the library has mapped, in this order. */
extern struct map maps[64];
extern int n_maps;

struct peer {	/* private data of an accept */
	uint64_t addr;
	uint32_t rkey;
	uint32_t pad;
};

struct conn {
	struct rdma_cm_id *id;
	struct ibv_cq *cq;
	struct ibv_mr *mr;
	uint8_t *buf;
	struct peer peer;
	struct rurdma_ring_hdr *sq, *rq, *ring;	/* ring: of the CQ */
	size_t sq_len, rq_len, cq_len;
	uint32_t units;				/* of the SQ */
	uint32_t tail;				/* our producer of the SQ, in units */
	uint32_t rtail;
};

extern struct rdma_event_channel *channel;
extern struct ibv_context *device;
extern void *doorbells;
extern size_t doorbells_len;
extern bool roce;	/* the device is RoCE, not iWARP */
extern uint64_t seed;

void die(const char *what);
uint64_t now(void);
uint64_t rnd(void);
uint64_t nasty(void);
int kick(void);
void ring_all(void);
bool make_qp(struct conn *c, struct ibv_comp_channel *cc);
void post_recv(struct conn *c, int i);
struct sockaddr_in address(const char *host, const char *port);
void drop(struct conn *c);
bool dial(struct conn *c, const char *host, const char *port);
void hang_up(struct conn *c);
enum ibv_qp_state state(struct conn *c);

uint32_t valid(struct conn *c, uint8_t *raw, uint8_t op);
void put(struct conn *c, const uint8_t *raw, uint32_t units);

int serve(const char *host, const char *port);
int try_maps(const char *host);
int reasons(const char *host, const char *port);
int attack(const char *host, const char *port, uint64_t n);
int keep_busy(const char *host, const char *port, uint64_t seconds, uint64_t posts);

#endif
