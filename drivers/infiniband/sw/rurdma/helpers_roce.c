// SPDX-License-Identifier: GPL-2.0

#include <linux/igmp.h>
#include <linux/inetdevice.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/rtnetlink.h>
#include <linux/udp.h>
#include <net/addrconf.h>
#include <net/ip.h>
#include <net/ip6_checksum.h>
#include <net/ip6_route.h>
#include <net/ipv6.h>
#include <net/route.h>
#include <net/udp.h>
#include <net/udp_tunnel.h>
#include <rdma/ib_cache.h>
#include <rdma/ib_mad.h>

#include "helpers_roce.h"

int rurdma_read_av(const struct rdma_ah_attr *attr, struct rurdma_av *av)
{
	const struct ib_global_route *grh = rdma_ah_read_grh(attr);
	const struct ib_gid_attr *sgid = grh->sgid_attr;
	struct net_device *ndev;

	if (!(rdma_ah_get_ah_flags(attr) & IB_AH_GRH) || !sgid)
		return -EINVAL;
	memcpy(av->sgid, sgid->gid.raw, sizeof(av->sgid));
	memcpy(av->dgid, grh->dgid.raw, sizeof(av->dgid));
	av->flow_label = grh->flow_label;
	av->traffic_class = grh->traffic_class;
	av->hop_limit = grh->hop_limit;
	av->sgid_index = grh->sgid_index;
	av->sl = rdma_ah_get_sl(attr);
	av->udp_encap = sgid->gid_type == IB_GID_TYPE_ROCE_UDP_ENCAP;
	rcu_read_lock();
	ndev = rdma_read_gid_attr_ndev_rcu(sgid);
	av->ifindex = IS_ERR(ndev) ? 0 : ndev->ifindex;
	rcu_read_unlock();
	return av->ifindex ? 0 : -ENODEV;
}

void rurdma_write_av(const struct rurdma_av *av, struct rdma_ah_attr *attr)
{
	union ib_gid dgid;

	memcpy(dgid.raw, av->dgid, sizeof(dgid.raw));
	attr->type = RDMA_AH_ATTR_TYPE_ROCE;
	rdma_ah_set_grh(attr, &dgid, av->flow_label, av->sgid_index, av->hop_limit,
			av->traffic_class);
	rdma_ah_set_sl(attr, av->sl);
	rdma_ah_set_port_num(attr, 1);
}

u32 rurdma_core_port_roce(void)
{
	return RDMA_CORE_PORT_IBA_ROCE_UDP_ENCAP;
}

static const struct ib_gid_attr *own_gid(struct ib_device *dev, const u8 *gid)
{
	return rdma_find_gid_by_port(dev, (const union ib_gid *)gid, IB_GID_TYPE_ROCE_UDP_ENCAP, 1,
				     NULL);
}

bool rurdma_is_own_gid(struct ib_device *dev, const u8 *gid)
{
	const struct ib_gid_attr *attr = own_gid(dev, gid);

	if (IS_ERR(attr))
		return false;
	rdma_put_gid_attr(attr);
	return true;
}

/* As ib_init_ah_attr_from_wc() has it, which compares; 0xffff: none. */
u16 rurdma_vlan_of_gid(struct ib_device *dev, const u8 *gid)
{
	const struct ib_gid_attr *attr = own_gid(dev, gid);
	u16 vlan = 0xffff;

	if (IS_ERR(attr))
		return vlan;
	rdma_read_gid_l2_fields(attr, &vlan, NULL);
	rdma_put_gid_attr(attr);
	return vlan;
}

bool rurdma_modify_is_ok(enum ib_qp_state cur, enum ib_qp_state next, enum ib_qp_type type,
			 int mask)
{
	return ib_modify_qp_is_ok(cur, next, type, mask);
}

bool rurdma_has_ipv6(void)
{
	return ipv6_mod_enabled();
}

int rurdma_udp_create(struct net *net, int family, struct socket **sock)
{
	int err = sock_create_kern(net, family, SOCK_DGRAM, IPPROTO_UDP, sock);

	if (err)
		return err;
	(*sock)->sk->sk_allocation = GFP_ATOMIC;
	WRITE_ONCE((*sock)->sk->sk_rcvbuf, 8 << 20);
	/* A reader that polls the device is not ours. */
#ifdef CONFIG_NET_RX_BUSY_POLL
	WRITE_ONCE((*sock)->sk->sk_ll_usec, 0);
#endif
	/*
	 * As UDP_GRO does: packets are put together for us, and are not taken apart. For a tunnel's socket
	 * (encap_rcv) they would be: udp_unexpected_gso() passes only tunnels' super-packets to it.
	 */
	udp_tunnel_encap_enable((*sock)->sk);
	udp_set_bit(GRO_ENABLED, (*sock)->sk);
	udp_set_bit(ACCEPT_L4, (*sock)->sk);
	/* Senders may leave it to the ICRC over IPv6 as well; rxe does. */
	udp_set_no_check6_rx((*sock)->sk, true);
	return 0;
}

struct sk_buff *rurdma_udp_receive(struct sock *sk)
{
	int off = 0, err;

	return __skb_recv_udp(sk, MSG_DONTWAIT, &off, &err);
}

void rurdma_skb_get(struct sk_buff *skb)
{
	skb_get(skb);
}

/* A function of its own only where there are tracepoints. */
void rurdma_skb_consume(struct sk_buff *skb)
{
	consume_skb(skb);
}

bool rurdma_udp_parse(struct sk_buff *skb, struct rurdma_datagram *d)
{
	const struct udphdr *udp = udp_hdr(skb);
	const struct skb_shared_info *info = skb_shinfo(skb);

	d->v6 = ip_hdr(skb)->version == 6;
	d->ip = skb_network_header(skb);
	d->ip_len = skb_network_header_len(skb);
	d->len = skb->len;
	d->chunk = skb_is_gso(skb) && info->gso_type & SKB_GSO_UDP_L4 ? info->gso_size : skb->len;
	d->src_port = ntohs(udp->source);
	d->dst_port = ntohs(udp->dest);
	d->ifindex = skb->skb_iif;
	return d->ip_len == (d->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
}

/* Room for headers: any link's and these; and for data behind them. */
struct sk_buff *rurdma_alloc_packet(unsigned int header, unsigned int room)
{
	struct sk_buff *skb = alloc_skb(LL_MAX_HEADER + header + room, GFP_ATOMIC | __GFP_NOWARN);

	if (skb)
		skb_reserve(skb, LL_MAX_HEADER + header);
	return skb;
}

/* Takes over the reference. */
void rurdma_skb_add_page(struct sk_buff *skb, const struct bio_vec *bv)
{
	skb_add_rx_frag(skb, skb_shinfo(skb)->nr_frags, bv->bv_page, bv->bv_offset, bv->bv_len,
			bv->bv_len);
}

void rurdma_skb_copy_in(struct sk_buff *skb, const u8 *from, size_t len)
{
	skb_put_data(skb, from, len);
}

void rurdma_skb_header(struct sk_buff *skb, const u8 *from, size_t len)
{
	memcpy(skb_push(skb, len), from, len);
}

struct dst_entry *rurdma_route4(struct net *net, int ifindex, const u8 *src, const u8 *dst, u8 tos)
{
	struct flowi4 fl = {
		.flowi4_oif = ifindex,
		.flowi4_proto = IPPROTO_UDP,
		.flowi4_dscp = inet_dsfield_to_dscp(tos),
	};
	struct rtable *rt;

	memcpy(&fl.saddr, src, sizeof(fl.saddr));
	memcpy(&fl.daddr, dst, sizeof(fl.daddr));
	rt = ip_route_output_key(net, &fl);
	return IS_ERR(rt) ? NULL : &rt->dst;
}

struct dst_entry *rurdma_route6(struct net *net, int ifindex, const u8 *src, const u8 *dst,
				u32 flowinfo)
{
	struct flowi6 fl = {
		.flowi6_oif = ifindex,
		.flowi6_proto = IPPROTO_UDP,
		.flowlabel = htonl(flowinfo),
	};
	struct dst_entry *rt;

	memcpy(&fl.saddr, src, sizeof(fl.saddr));
	memcpy(&fl.daddr, dst, sizeof(fl.daddr));
	rt = ip6_dst_lookup_flow(net, NULL, &fl, NULL);
	return IS_ERR(rt) ? NULL : rt;
}

void rurdma_dst_put(struct dst_entry *dst)
{
	dst_release(dst);
}

/* UDP GSO; the checksum of the whole is set already. */
static void cut_at(struct sk_buff *skb, unsigned int header, u16 chunk)
{
	struct skb_shared_info *info = skb_shinfo(skb);

	if (!chunk)
		return;
	info->gso_type = SKB_GSO_UDP_L4;
	info->gso_size = chunk;
	info->gso_segs = DIV_ROUND_UP(skb->len - header, chunk);
}

int rurdma_send4(struct net *net, struct sk_buff *skb, struct dst_entry *dst, u8 priority,
		 u16 chunk)
{
	const struct iphdr *ip = (const struct iphdr *)skb->data;

	skb_reset_network_header(skb);
	skb_set_transport_header(skb, sizeof(*ip));
	skb->protocol = htons(ETH_P_IP);
	skb->priority = priority;
	skb_dst_set(skb, dst_clone(dst));
	udp_set_csum(false, skb, ip->saddr, ip->daddr, skb->len - sizeof(*ip));
	cut_at(skb, sizeof(*ip) + sizeof(struct udphdr), chunk);
	return ip_local_out(net, NULL, skb);
}

int rurdma_send6(struct net *net, struct sk_buff *skb, struct dst_entry *dst, u8 priority,
		 u16 chunk)
{
	const struct ipv6hdr *ip = (const struct ipv6hdr *)skb->data;

	skb_reset_network_header(skb);
	skb_set_transport_header(skb, sizeof(*ip));
	skb->protocol = htons(ETH_P_IPV6);
	skb->priority = priority;
	skb_dst_set(skb, dst_clone(dst));
	udp6_set_csum(false, skb, &ip->saddr, &ip->daddr, skb->len - sizeof(*ip));
	cut_at(skb, sizeof(*ip) + sizeof(struct udphdr), chunk);
	return ip6_local_out(net, NULL, skb);
}

static const struct in6_addr *addr6_of(const u8 *gid)
{
	return (const struct in6_addr *)gid;
}

bool rurdma_mc_is_group(const u8 *gid)
{
	const struct in6_addr *addr = addr6_of(gid);

	return ipv6_addr_v4mapped(addr) ? ipv4_is_multicast(addr->s6_addr32[3]) :
					  ipv6_addr_is_multicast(addr);
}

/* Both with the RTNL held. */
int rurdma_mc_join(struct net_device *dev, const u8 *gid)
{
	const struct in6_addr *addr = addr6_of(gid);
	struct in_device *in_dev;

	if (!ipv6_addr_v4mapped(addr))
		return __in6_dev_get(dev) ? ipv6_dev_mc_inc(dev, addr) : -ENODEV;
	in_dev = __in_dev_get_rtnl(dev);
	if (!in_dev)
		return -ENODEV;
	ip_mc_inc_group(in_dev, addr->s6_addr32[3]);
	return 0;
}

void rurdma_mc_leave(struct net_device *dev, const u8 *gid)
{
	const struct in6_addr *addr = addr6_of(gid);
	struct in_device *in_dev;

	if (!ipv6_addr_v4mapped(addr)) {
		ipv6_dev_mc_dec(dev, addr);
	} else {
		in_dev = __in_dev_get_rtnl(dev);
		if (in_dev)
			ip_mc_dec_group(in_dev, addr->s6_addr32[3]);
	}
}
