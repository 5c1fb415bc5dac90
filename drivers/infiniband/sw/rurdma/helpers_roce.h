/* SPDX-License-Identifier: GPL-2.0 */
/* Wrappers for what RoCE needs, for Rust. No logic here. */
#ifndef _RURDMA_HELPERS_ROCE_H
#define _RURDMA_HELPERS_ROCE_H

#include <linux/bvec.h>
#include <linux/skbuff.h>
#include <net/dst.h>
#include <net/net_namespace.h>
#include <net/sock.h>
#include <rdma/ib_verbs.h>

/* What of an address vector a packet is made from. */
struct rurdma_av {
	u8 sgid[16];
	u8 dgid[16];
	int ifindex;
	u32 flow_label;
	u8 traffic_class;
	u8 hop_limit;
	u8 sl;
	u8 sgid_index;
	bool udp_encap;
};

/* What of the headers before the BTH matters. */
struct rurdma_datagram {
	const u8 *ip;		/* the IP header */
	u32 ip_len;
	u32 len;		/* of the payload */
	u32 chunk;		/* of each of the datagrams that it is made of, but the last */
	u16 src_port;
	u16 dst_port;
	int ifindex;		/* where it came in */
	bool v6;
};

bool rurdma_mc_is_group(const u8 *gid);
int rurdma_mc_join(struct net_device *dev, const u8 *gid);
void rurdma_mc_leave(struct net_device *dev, const u8 *gid);

u32 rurdma_core_port_roce(void);
int rurdma_read_av(const struct rdma_ah_attr *attr, struct rurdma_av *av);
void rurdma_write_av(const struct rurdma_av *av, struct rdma_ah_attr *attr);
u16 rurdma_vlan_of_gid(struct ib_device *dev, const u8 *gid);
bool rurdma_is_own_gid(struct ib_device *dev, const u8 *gid);
bool rurdma_modify_is_ok(enum ib_qp_state cur, enum ib_qp_state next, enum ib_qp_type type,
			 int mask);

bool rurdma_has_ipv6(void);
int rurdma_udp_create(struct net *net, int family, struct socket **sock);
struct sk_buff *rurdma_udp_receive(struct sock *sk);
void rurdma_skb_get(struct sk_buff *skb);
void rurdma_skb_consume(struct sk_buff *skb);
bool rurdma_udp_parse(struct sk_buff *skb, struct rurdma_datagram *d);

struct sk_buff *rurdma_alloc_packet(unsigned int header, unsigned int room);
void rurdma_skb_add_page(struct sk_buff *skb, const struct bio_vec *bv);
void rurdma_skb_copy_in(struct sk_buff *skb, const u8 *from, size_t len);
void rurdma_skb_header(struct sk_buff *skb, const u8 *from, size_t len);
struct dst_entry *rurdma_route4(struct net *net, int ifindex, const u8 *src, const u8 *dst, u8 tos);
struct dst_entry *rurdma_route6(struct net *net, int ifindex, const u8 *src, const u8 *dst,
				u32 flowinfo);
void rurdma_dst_put(struct dst_entry *dst);
int rurdma_send4(struct net *net, struct sk_buff *skb, struct dst_entry *dst, u8 priority,
		 u16 chunk);
int rurdma_send6(struct net *net, struct sk_buff *skb, struct dst_entry *dst, u8 priority,
		 u16 chunk);

#endif
