/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * VXLAN over IPv4 (RFC 7348) by hand, past the VXLAN device: the device looks up the outer route for
 * each packet that eBPF gives it, and allocates a descriptor for each that it receives. What is not plain
 * goes by the device all the same, in both directions: outer IPv6, which must have a checksum over the
 * whole packet; aggregated packets on their way in, which would keep the mark of a tunnel.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../config.h"
#include "../contract.h"
#include "checksum.h"
#include "packet.h"

#define OUTER_TTL 64
#define VXLAN_HAS_VNI bpf_htonl(0x08000000)
#define ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8) /* since Linux 6.3; newer than the headers of Debian 12 */

struct outer {
	struct iphdr ip;
	struct udphdr udp;
	__be32 flags;
	__be32 vni; /* in the upper 24 bits */
	struct ethhdr inner;
} __attribute__((packed));

#define INNER_FRAME (ETH_HLEN + offsetof(struct outer, inner))

static __always_inline __u16 header_checksum(const struct iphdr *ip)
{
	const __u16 *word = (const __u16 *)ip;
	__u32 sum = 0;

	for (unsigned int i = 0; i < sizeof(*ip) / sizeof(*word); i++)
		sum += word[i];
	return fold(sum);
}

/* The source port tells flows apart for the underlay's hashing (RFC 7348, section 4.1). */
static __always_inline void fill_outer(struct outer *outer, const struct packet *p,
				       const struct way *way, __u32 length, __u32 flow_hash)
{
	struct iphdr ip = {
		.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons(length),
		.id = bpf_get_prandom_u32(),
		.ttl = OUTER_TTL,
		.protocol = IPPROTO_UDP,
		.saddr = way->source.word[3],
		.daddr = way->node.word[3],
	};

	ip.check = header_checksum(&ip);
	outer->ip = ip;
	outer->udp = (struct udphdr){
		.source = bpf_htons(0x8000 | (flow_hash & 0x7fff)),
		.dest = bpf_htons(overlay_port),
		.len = bpf_htons(length - sizeof(ip)),
	};
	outer->flags = VXLAN_HAS_VNI;
	outer->vni = bpf_htonl(overlay_vni << 8);
	for (int i = 0; i < ETH_ALEN; i++) {
		outer->inner.h_dest[i] = gateway_mac[i]; /* the other node's overlay device has the same */
		outer->inner.h_source[i] = overlay_source_mac[i];
	}
	outer->inner.h_proto = p->v4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
}

/* Puts the outer headers on, without the Ethernet header before them; false, and no change, if it cannot. */
static __always_inline bool encapsulate(struct __sk_buff *skb, const struct packet *p,
					const struct way *way)
{
	__u32 length = skb->len - ETH_HLEN + sizeof(struct outer);
	__u32 flow_hash = bpf_get_hash_recalc(skb); /* while the flow's own headers are in front */
	struct outer *outer;

	if (length > 0xffff || bpf_skb_adjust_room(skb, sizeof(*outer), BPF_ADJ_ROOM_MAC,
						   BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 |
							   BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
							   BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) |
							   BPF_F_ADJ_ROOM_ENCAP_L2_ETH))
		return false;
	outer = at(skb, ETH_HLEN, sizeof(*outer));
	if (outer)
		fill_outer(outer, p, way, length, flow_hash);
	return true;
}

/* Whether the packet carries a frame of our overlay that can be taken out by hand. */
static __always_inline bool is_plain_vxlan(struct __sk_buff *skb, const struct packet *p)
{
	struct outer *outer;

	if (!p->v4 || p->fragment || p->flow.protocol != IPPROTO_UDP ||
	    p->flow.destination_port != bpf_htons(overlay_port) || skb->gso_size)
		return false;
	make_linear(skb, ETH_HLEN + sizeof(*outer));
	outer = at(skb, ETH_HLEN, sizeof(*outer));
	return outer && outer->ip.ihl == 5 && outer->flags == VXLAN_HAS_VNI &&
	       outer->vni == bpf_htonl(overlay_vni << 8);
}

/* Takes the outer headers off; false, and no change, if it cannot. `inner` is what is in them. */
static __always_inline bool decapsulate(struct __sk_buff *skb, const struct packet *inner)
{
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | (inner->v4 ? 0 : ADJ_ROOM_DECAP_L3_IPV6);
	struct ethhdr *eth;

	if (bpf_skb_adjust_room(skb, -(__s32)sizeof(struct outer), BPF_ADJ_ROOM_MAC, flags))
		return false;
	eth = at(skb, 0, sizeof(*eth));
	if (eth)
		eth->h_proto = inner->v4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	return true;
}
