/* SPDX-License-Identifier: GPL-2.0 */
/* Wrappers for network inlines and macros, for Rust. No logic here. */
#ifndef _RURDMA_HELPERS_NET_H
#define _RURDMA_HELPERS_NET_H

#include <linux/bvec.h>
#include <linux/net.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <linux/socket.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <rdma/iw_cm.h>

/* What a struct sock calls; see rurdma_sk_set_callbacks(). */
struct rurdma_sk_callbacks {
	void (*data_ready)(struct sock *sk);
	void (*write_space)(struct sock *sk);
	void (*state_change)(struct sock *sk);
};

/* net_device */
void rurdma_dev_hold(struct net_device *dev, netdevice_tracker *tracker);
void rurdma_dev_put(struct net_device *dev, netdevice_tracker *tracker);
struct net *rurdma_dev_get_net(struct net_device *dev);
bool rurdma_dev_in_net(const struct net_device *dev, const struct net *net);
int rurdma_dev_ifindex(const struct net_device *dev);
void rurdma_dev_name(const struct net_device *dev, char *name, size_t size);
size_t rurdma_dev_addr(const struct net_device *dev, u8 *addr, size_t size);
bool rurdma_dev_is_vlan(const struct net_device *dev);
bool rurdma_dev_has_lower(const struct net_device *dev);
unsigned int rurdma_dev_mtu(const struct net_device *dev);
unsigned int rurdma_dev_type(const struct net_device *dev);
bool rurdma_dev_running(const struct net_device *dev);
bool rurdma_dev_carrier_ok(const struct net_device *dev);
bool rurdma_dev_registered(const struct net_device *dev);
void rurdma_put_net(struct net *net);

/* socket and sock */
int rurdma_sock_create(struct net *net, int family, struct socket **sock);
int rurdma_sock_bind(struct socket *sock, void *addr, int len);
int rurdma_sock_connect(struct socket *sock, void *addr, int len);
int rurdma_sock_accept(struct socket *sock, struct socket **newsock);
int rurdma_sock_getname(struct socket *sock, void *addr, int peer);
struct sock *rurdma_sock_sk(const struct socket *sock);
void rurdma_sk_lock(struct sock *sk);
void rurdma_sk_setup(struct sock *sk);
int rurdma_sk_v6only(struct sock *sk);
void rurdma_sk_set_tos(struct sock *sk, u8 tos, bool v6);
bool rurdma_sk_hold_net(struct sock *sk);
void rurdma_sk_get_callbacks(struct sock *sk, struct rurdma_sk_callbacks *cb);
void rurdma_sk_set_callbacks(struct sock *sk, const struct rurdma_sk_callbacks *cb, void *data);
void *rurdma_sk_user_data(struct sock *sk);
void rurdma_sk_callback_lock(struct sock *sk);
void rurdma_sk_callback_unlock(struct sock *sk);
void rurdma_sk_hold(struct sock *sk);
void rurdma_sk_put(struct sock *sk);
u8 rurdma_sk_state(const struct sock *sk);
int rurdma_sk_err(const struct sock *sk);
u8 rurdma_sk_shutdown(const struct sock *sk);
bool rurdma_sk_owned(const struct sock *sk);
bool rurdma_sk_writeable(const struct sock *sk);
void rurdma_sk_clear_nospace(struct sock *sk);
u32 rurdma_tcp_mss(const struct sock *sk);
void rurdma_tcp_skb_limits(const struct sock *sk, u32 *bytes, u32 *segs, u32 *window);
u32 rurdma_tcp_unread(struct sock *sk);
int rurdma_tcp_read(struct sock *sk, size_t count, void *data, sk_read_actor_t actor);
int rurdma_tcp_send(struct sock *sk, void *buf, size_t len);
int rurdma_tcp_splice(struct sock *sk, const struct bio_vec *bv, unsigned long n, size_t len,
		      bool more);
int rurdma_tcp_splice_locked(struct sock *sk, const struct bio_vec *bv, unsigned long n, size_t len,
			     bool more);
const void *rurdma_skb_head(const struct sk_buff *skb, u32 *len);
const void *rurdma_skb_frag(const struct sk_buff *skb, u32 i, u32 *len);
int rurdma_skb_copy_crc32c(const struct sk_buff *skb, int offset, void *to, int len, u32 *crc);

/* pages */
struct page *rurdma_alloc_pages(bool sleep, unsigned int order);
void rurdma_get_page(struct page *page);
void rurdma_put_page(struct page *page);
int rurdma_page_count(const struct page *page);
void *rurdma_page_address(const struct page *page);

/* works */
bool rurdma_cancel_delayed_work_sync(struct work_struct *work);
bool rurdma_mod_delayed_work(struct workqueue_struct *wq, struct work_struct *work,
			     unsigned int ms);

/* iw_cm */
const struct net *rurdma_iw_cm_net(const struct iw_cm_id *id);
bool rurdma_iw_cm_afonly(const struct iw_cm_id *id);
bool rurdma_iw_cm_tos_set(const struct iw_cm_id *id);

#endif
