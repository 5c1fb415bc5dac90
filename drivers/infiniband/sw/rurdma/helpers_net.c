// SPDX-License-Identifier: GPL-2.0
#include <linux/if_vlan.h>
#include <linux/mm.h>
#include <linux/uio.h>
#include <net/ipv6.h>
#include <rdma/rdma_cm.h>
#include "helpers_net.h"

void rurdma_dev_hold(struct net_device *dev, netdevice_tracker *tracker)
{
	netdev_hold(dev, tracker, GFP_ATOMIC);
}

void rurdma_dev_put(struct net_device *dev, netdevice_tracker *tracker)
{
	netdev_put(dev, tracker);
}

struct net *rurdma_dev_get_net(struct net_device *dev)
{
	struct net *net;

	rcu_read_lock();
	net = maybe_get_net(dev_net_rcu(dev));
	rcu_read_unlock();
	return net;
}

bool rurdma_dev_in_net(const struct net_device *dev, const struct net *net)
{
	bool same;

	rcu_read_lock();
	same = net_eq(dev_net_rcu(dev), net);
	rcu_read_unlock();
	return same;
}

int rurdma_dev_ifindex(const struct net_device *dev)
{
	return READ_ONCE(dev->ifindex);
}

void rurdma_dev_name(const struct net_device *dev, char *name, size_t size)
{
	strscpy(name, dev->name, size);
}

size_t rurdma_dev_addr(const struct net_device *dev, u8 *addr, size_t size)
{
	size_t len = min_t(size_t, dev->addr_len, size);

	memcpy(addr, dev->dev_addr, len);
	return len;
}

bool rurdma_dev_is_vlan(const struct net_device *dev)
{
	return is_vlan_dev(dev);
}

bool rurdma_dev_has_lower(const struct net_device *dev)
{
	return !list_empty(&dev->adj_list.lower);
}

unsigned int rurdma_dev_mtu(const struct net_device *dev)
{
	return READ_ONCE(dev->mtu);
}

unsigned int rurdma_dev_type(const struct net_device *dev)
{
	return dev->type;
}

bool rurdma_dev_running(const struct net_device *dev)
{
	return netif_running(dev);
}

bool rurdma_dev_carrier_ok(const struct net_device *dev)
{
	return netif_carrier_ok(dev);
}

bool rurdma_dev_registered(const struct net_device *dev)
{
	return READ_ONCE(dev->reg_state) == NETREG_REGISTERED;
}

void rurdma_put_net(struct net *net)
{
	put_net(net);
}

int rurdma_sock_create(struct net *net, int family, struct socket **sock)
{
	return sock_create_kern(net, family, SOCK_STREAM, IPPROTO_TCP, sock);
}

int rurdma_sock_bind(struct socket *sock, void *addr, int len)
{
	return kernel_bind(sock, addr, len);
}

int rurdma_sock_connect(struct socket *sock, void *addr, int len)
{
	return kernel_connect(sock, addr, len, O_NONBLOCK);
}

int rurdma_sock_accept(struct socket *sock, struct socket **newsock)
{
	return kernel_accept(sock, newsock, O_NONBLOCK);
}

int rurdma_sock_getname(struct socket *sock, void *addr, int peer)
{
	return peer ? kernel_getpeername(sock, addr) : kernel_getsockname(sock, addr);
}

struct sock *rurdma_sock_sk(const struct socket *sock)
{
	return sock->sk;
}

void rurdma_sk_lock(struct sock *sk)
{
	lock_sock(sk);
}

void rurdma_sk_setup(struct sock *sk)
{
	sk->sk_allocation = GFP_ATOMIC;
	sk->sk_use_task_frag = false;
}

int rurdma_sk_v6only(struct sock *sk)
{
	return ip6_sock_set_v6only(sk);
}

void rurdma_sk_set_tos(struct sock *sk, u8 tos, bool v6)
{
	ip_sock_set_tos(sk, tos);
	if (v6)
		WRITE_ONCE(inet6_sk(sk)->tclass, tos);
}

/*
 * A kernel socket does not hold its namespace, and TCP stops the timers of such
 * a socket when it is closed. One that is to flush and FIN after its release
 * needs what a socket of user space has.
 */
bool rurdma_sk_hold_net(struct sock *sk)
{
	struct net *net = maybe_get_net(sock_net(sk));

	if (!net)
		return false;
	sk_net_refcnt_upgrade(sk);
	put_net(net);
	return true;
}

void rurdma_sk_get_callbacks(struct sock *sk, struct rurdma_sk_callbacks *cb)
{
	read_lock_bh(&sk->sk_callback_lock);
	cb->data_ready = sk->sk_data_ready;
	cb->write_space = sk->sk_write_space;
	cb->state_change = sk->sk_state_change;
	read_unlock_bh(&sk->sk_callback_lock);
}

void rurdma_sk_set_callbacks(struct sock *sk, const struct rurdma_sk_callbacks *cb, void *data)
{
	write_lock_bh(&sk->sk_callback_lock);
	__rcu_assign_sk_user_data_with_flags(sk, data, data ? SK_USER_DATA_NOCOPY : 0);
	WRITE_ONCE(sk->sk_data_ready, cb->data_ready);
	WRITE_ONCE(sk->sk_write_space, cb->write_space);
	WRITE_ONCE(sk->sk_state_change, cb->state_change);
	write_unlock_bh(&sk->sk_callback_lock);
}

void *rurdma_sk_user_data(struct sock *sk)
{
	return (void *)((uintptr_t)rcu_dereference_raw(__sk_user_data(sk)) & SK_USER_DATA_PTRMASK);
}

void rurdma_sk_callback_lock(struct sock *sk)
{
	read_lock_bh(&sk->sk_callback_lock);
}

void rurdma_sk_callback_unlock(struct sock *sk)
{
	read_unlock_bh(&sk->sk_callback_lock);
}

void rurdma_sk_hold(struct sock *sk)
{
	sock_hold(sk);
}

void rurdma_sk_put(struct sock *sk)
{
	sock_put(sk);
}

u8 rurdma_sk_state(const struct sock *sk)
{
	/* Pairs with inet_sk_state_store(). */
	return smp_load_acquire(&sk->sk_state);
}

int rurdma_sk_err(const struct sock *sk)
{
	return READ_ONCE(sk->sk_err);
}

u8 rurdma_sk_shutdown(const struct sock *sk)
{
	return READ_ONCE(sk->sk_shutdown);
}

bool rurdma_sk_owned(const struct sock *sk)
{
	return sock_owned_by_user_nocheck(sk);
}

bool rurdma_sk_writeable(const struct sock *sk)
{
	return sk_stream_is_writeable(sk);
}

void rurdma_sk_clear_nospace(struct sock *sk)
{
	if (sk->sk_socket)
		clear_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
}

u32 rurdma_tcp_mss(const struct sock *sk)
{
	return READ_ONCE(tcp_sk(sk)->mss_cache);
}

/* What tcp_xmit_size_goal() goes by. */
void rurdma_tcp_skb_limits(const struct sock *sk, u32 *bytes, u32 *segs, u32 *window)
{
	*bytes = READ_ONCE(sk->sk_gso_max_size);
	*segs = READ_ONCE(sk->sk_gso_max_segs);
	*window = READ_ONCE(tcp_sk(sk)->max_window);
}

u32 rurdma_tcp_unread(struct sock *sk)
{
	return tcp_inq(sk);
}

int rurdma_tcp_read(struct sock *sk, size_t count, void *data, sk_read_actor_t actor)
{
	read_descriptor_t desc = { .arg.data = data, .count = count };

	return tcp_read_sock(sk, &desc, actor);
}

int rurdma_tcp_send(struct sock *sk, void *buf, size_t len)
{
	struct msghdr msg = { .msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL };
	struct kvec kv = { .iov_base = buf, .iov_len = len };

	iov_iter_kvec(&msg.msg_iter, ITER_SOURCE, &kv, 1, len);
	return tcp_sendmsg(sk, &msg, len);
}

/* The pages do not change once they are handed over: no shared frags. */
#define SPLICE_FLAGS (MSG_SPLICE_PAGES | MSG_NO_SHARED_FRAGS | MSG_DONTWAIT | MSG_NOSIGNAL)

int rurdma_tcp_splice(struct sock *sk, const struct bio_vec *bv, unsigned long n, size_t len,
		      bool more)
{
	struct msghdr msg = { .msg_flags = SPLICE_FLAGS | (more ? MSG_MORE : 0) };

	iov_iter_bvec(&msg.msg_iter, ITER_SOURCE, bv, n, len);
	return tcp_sendmsg(sk, &msg, len);
}

int rurdma_tcp_splice_locked(struct sock *sk, const struct bio_vec *bv, unsigned long n, size_t len,
			     bool more)
{
	struct msghdr msg = { .msg_flags = SPLICE_FLAGS | (more ? MSG_MORE : 0) };

	iov_iter_bvec(&msg.msg_iter, ITER_SOURCE, bv, n, len);
	return tcp_sendmsg_locked(sk, &msg, len);
}

/* What of an skb lies in one piece: its head, then each of its frags. All pages are mapped. */
const void *rurdma_skb_head(const struct sk_buff *skb, u32 *len)
{
	*len = skb_headlen(skb);
	return skb->data;
}

const void *rurdma_skb_frag(const struct sk_buff *skb, u32 i, u32 *len)
{
	const skb_frag_t *frag;

	BUILD_BUG_ON(IS_ENABLED(CONFIG_HIGHMEM));
	if (i >= skb_shinfo(skb)->nr_frags || !skb_frags_readable(skb))
		return NULL;
	frag = &skb_shinfo(skb)->frags[i];
	*len = skb_frag_size(frag);
	return skb_frag_address(frag);
}

int rurdma_skb_copy_crc32c(const struct sk_buff *skb, int offset, void *to, int len, u32 *crc)
{
	struct kvec kv = { .iov_base = to, .iov_len = len };
	struct iov_iter iter;

	iov_iter_kvec(&iter, ITER_DEST, &kv, 1, len);
	return skb_copy_and_crc32c_datagram_iter(skb, offset, &iter, len, crc);
}

struct page *rurdma_alloc_pages(bool sleep, unsigned int order)
{
	return alloc_pages((sleep ? GFP_NOIO : GFP_ATOMIC) | (order ? __GFP_NORETRY : 0) |
			   __GFP_COMP | __GFP_NOWARN, order);
}

void rurdma_get_page(struct page *page)
{
	get_page(page);
}

void rurdma_put_page(struct page *page)
{
	put_page(page);
}

int rurdma_page_count(const struct page *page)
{
	return page_count(page);
}

void *rurdma_page_address(const struct page *page)
{
	return page_address(page);
}

bool rurdma_cancel_delayed_work_sync(struct work_struct *work)
{
	return cancel_delayed_work_sync(to_delayed_work(work));
}

bool rurdma_mod_delayed_work(struct workqueue_struct *wq, struct work_struct *work,
			     unsigned int ms)
{
	return mod_delayed_work(wq, to_delayed_work(work), msecs_to_jiffies(ms));
}

/* Every user of the iw_cm is rdma_cm, whose own id is its cm_ids' context. */
const struct net *rurdma_iw_cm_net(const struct iw_cm_id *id)
{
	const struct rdma_cm_id *cm_id = id->context;

	return cm_id->route.addr.dev_addr.net;
}

bool rurdma_iw_cm_afonly(const struct iw_cm_id *id)
{
	return id->afonly;
}

bool rurdma_iw_cm_tos_set(const struct iw_cm_id *id)
{
	return id->tos_set;
}
