/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/* What the tests of the provider share: a context on the stand-in, and the list of tests. */
#ifndef TEST_PROVIDER_H
#define TEST_PROVIDER_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

#define check(cond)                                                            \
	do {                                                                   \
		if (!(cond)) {                                                 \
			fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__,   \
				__LINE__, __func__, #cond);                    \
			exit(1);                                               \
		}                                                              \
	} while (0)

extern struct ibv_context *ctx;
extern struct ibv_pd *pd;

uint32_t rnd(uint32_t n);
void open_context(enum ibv_transport_type transport);
void set_state(struct ibv_qp *qp, enum ibv_qp_state state);
struct ibv_cq *new_cq(int n);
struct ibv_qp *new_qp(enum ibv_qp_type type, struct ibv_cq *cq,
		uint32_t send_wr, uint32_t recv_wr);
struct ibv_qp *new_qp_ex(enum ibv_qp_type type, struct ibv_cq *cq,
		uint32_t send_wr, uint64_t ops);
int post(struct ibv_qp *qp, struct ibv_send_wr *wr,
		struct ibv_send_wr **bad);

void test_encoding(void);
void test_wr_errors(void);
void test_bind_mw(void);
void test_poll(void);
void test_purge(void);
void test_poll_ex(void);
void test_arm(void);
void test_resize(void);
void test_srq(void);
void test_srq_resize(void);
void test_domains(void);
void test_import(void);
void test_wakeups(void);

#endif
