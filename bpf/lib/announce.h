/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Answers to who asks for the MAC of an address that this node answers for: ARP (RFC 826), and neighbour discovery
 * (RFC 4861). The answer is made of the question, and an answer ends with the lease of the address, whether the
 * agent still runs or not.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../contract.h"
#include "../maps.h"
#include "forward.h"
#include "packet.h"
#include "refuse.h"
#include "verdict.h"

/* linux/if_arp.h needs a C library. */
#define ARPHRD_ETHER 1
#define ARPOP_REQUEST 1
#define ARPOP_REPLY 2

#define GROUP_BIT 0x01          /* in a MAC's first byte: for many */
#define NEIGHBOUR_HOP_LIMIT 255 /* of what has not passed a router (RFC 4861, section 7.1.1) */
#define NEIGHBOUR_SOLICITATION 135
#define NEIGHBOUR_ADVERTISEMENT 136
#define OPTION_SOURCE_MAC 1
#define OPTION_TARGET_MAC 2
#define OPTION_UNIT 8  /* bytes: what an option's length counts */
#define MOST_OPTIONS 4 /* an asker sends one or two: its MAC, a nonce (RFC 7527); with more it is not answered */
#define SOLICITED bpf_htonl(0x40000000)
#define OVERRIDE bpf_htonl(0x20000000)

/* Over Ethernet and for IPv4. */
struct arp {
	__be16 hardware, protocol;
	__u8 hardware_length, protocol_length;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender;
	__u8 target_mac[ETH_ALEN];
	__be32 target;
} __attribute__((packed));

struct neighbour_option {
	__u8 type, length;
	__u8 mac[ETH_ALEN];
};

struct solicitation {
	struct icmp icmp;
	struct address target;
	struct neighbour_option options[MOST_OPTIONS];
};

struct advertisement {
	struct icmp icmp; /* `rest` has the flags */
	struct address target;
	struct neighbour_option option;
};

_Static_assert(sizeof(struct arp) == 28, "as on the wire");
_Static_assert(sizeof(struct advertisement) == 32, "as on the wire");

#define BARE_SOLICITATION offsetof(struct solicitation, options)

static __always_inline struct announcement *find_announcement(const struct address *address, __u32 ifindex)
{
	struct announcement_key key = { .address = *address, .ifindex = ifindex };
	struct announcement *found = bpf_map_lookup_elem(&announcements, &key);

	return found && bpf_ktime_get_boot_ns() < found->until ? found : NULL;
}

/* Back by the device it came from. */
static __always_inline bool send_answer(struct __sk_buff *skb, const __u8 *to, const __u8 *from)
{
	set_macs(skb, to, from);
	skb->mark = MARK_SHORT_CUT;
	return bpf_redirect(skb->ifindex, 0) == TC_ACT_REDIRECT;
}

static __always_inline bool is_arp_request(const struct arp *arp)
{
	return arp->hardware == bpf_htons(ARPHRD_ETHER) && arp->protocol == bpf_htons(ETH_P_IP) &&
	       arp->hardware_length == ETH_ALEN && arp->protocol_length == sizeof(arp->target) &&
	       arp->operation == bpf_htons(ARPOP_REQUEST) && !(arp->sender_mac[0] & GROUP_BIT);
}

/*
 * Whether the question was one of ours, and the answer is on its way. Who probes for the address (sender 0.0.0.0)
 * or claims it (sender and target the same) is answered like anybody else: it learns that the address is taken
 * (RFC 5227, sections 2.1.1 and 2.4).
 */
__noinline int send_arp_reply(struct __sk_buff *skb)
{
	struct announcement *own;
	struct address target;
	struct arp arp;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &arp, sizeof(arp)) || !is_arp_request(&arp))
		return false;
	target = ipv4_mapped(arp.target);
	own = find_announcement(&target, skb->ifindex);
	if (!own)
		return false;
	arp.operation = bpf_htons(ARPOP_REPLY);
	arp.target = arp.sender;
	arp.sender = target.word[3];
	__builtin_memcpy(arp.target_mac, arp.sender_mac, ETH_ALEN);
	__builtin_memcpy(arp.sender_mac, own->mac, ETH_ALEN);
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &arp, sizeof(arp), BPF_F_RECOMPUTE_CSUM))
		return false;
	return send_answer(skb, arp.target_mac, own->mac);
}

static __always_inline bool is_solicitation(struct __sk_buff *skb, const struct packet *p)
{
	struct icmp *icmp;

	if (p->v4 || p->fragment || p->flow.protocol != IPPROTO_ICMPV6 || p->hop_limit != NEIGHBOUR_HOP_LIMIT)
		return false;
	icmp = at(skb, ETH_HLEN + sizeof(struct ipv6hdr), sizeof(*icmp));
	return icmp && icmp->type == NEIGHBOUR_SOLICITATION && !icmp->code;
}

/* ff02::1:ff00:0/104: who probes for an address asks there, and nowhere else. */
static __always_inline bool is_solicited_node(const struct address *a)
{
	return a->word[0] == bpf_htonl(0xff020000) && !a->word[1] && a->word[2] == bpf_htonl(1) &&
	       (a->word[3] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/*
 * Whether `length` bytes of a solicitation are valid (RFC 4861, section 7.1.1), the checksum among it: this is not
 * the host's stack, which would look. `mac` gets the asker's, if it says so.
 */
static __always_inline bool is_valid(const struct packet *p, const struct solicitation *asked, __u32 length,
				     __u8 *mac)
{
	const bool probe = is_unspecified(&p->flow.source);
	__u32 options = (length - BARE_SOLICITATION) / OPTION_UNIT;

	if (is_multicast(&asked->target) || (probe && !is_solicited_node(&p->flow.destination)) ||
	    fold(sum_of(asked, sizeof(*asked), pseudo_sum(&p->flow, length, IPPROTO_ICMPV6))))
		return false;
	for (__u32 i = 0; i < MOST_OPTIONS && i < options; i++) {
		const struct neighbour_option *option = &asked->options[i];

		if (option->length != 1) /* 0 is an error; nobody sends longer ones to ask */
			return false;
		if (option->type != OPTION_SOURCE_MAC)
			continue;
		if (probe || option->mac[0] & GROUP_BIT)
			return false;
		__builtin_memcpy(mac, option->mac, ETH_ALEN);
	}
	return true;
}

/* Whether the question is valid, and for an address of ours; `target` and `mac` of the asker are set then. */
static __noinline bool read_solicitation(struct __sk_buff *skb, const struct packet *p, struct address *target,
					 __u8 *mac)
{
	struct solicitation asked = {};
	__u32 length = p->end - p->transport;

	if (length < BARE_SOLICITATION || length > sizeof(asked) || length % OPTION_UNIT ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(struct ipv6hdr), &asked, length) ||
	    !is_valid(p, &asked, length, mac))
		return false;
	*target = asked.target;
	return true;
}

static __noinline bool write_advertisement(struct __sk_buff *skb, const struct flow *flow,
					   const struct announcement *own, bool solicited)
{
	struct advertisement told = {
		.icmp = { .type = NEIGHBOUR_ADVERTISEMENT, .rest = solicited ? SOLICITED | OVERRIDE : OVERRIDE },
		.target = flow->source,
		.option = { .type = OPTION_TARGET_MAC, .length = 1 },
	};
	struct ipv6hdr ip = {
		.version = 6,
		.payload_len = bpf_htons(sizeof(told)),
		.nexthdr = IPPROTO_ICMPV6,
		.hop_limit = NEIGHBOUR_HOP_LIMIT,
	};

	__builtin_memcpy(told.option.mac, own->mac, ETH_ALEN);
	__builtin_memcpy(&ip.saddr, &flow->source, sizeof(ip.saddr));
	__builtin_memcpy(&ip.daddr, &flow->destination, sizeof(ip.daddr));
	told.icmp.checksum =
		fold(sum_of(&told, sizeof(told), pseudo_sum(flow, sizeof(told), IPPROTO_ICMPV6)));
	return !bpf_skb_change_tail(skb, ETH_HLEN + sizeof(ip) + sizeof(told), 0) &&
	       !bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM) &&
	       !bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(ip), &told, sizeof(told), BPF_F_RECOMPUTE_CSUM);
}

/*
 * Whether the question was one of ours, and the answer is on its way. Who probes for the address (RFC 4862,
 * section 5.4.3) is told by all nodes' group that it is taken.
 */
__noinline int send_advertisement(struct __sk_buff *skb, const struct packet *p)
{
	__u8 all_nodes_mac[ETH_ALEN] = { 0x33, 0x33, 0, 0, 0, 1 }, mac[ETH_ALEN];
	struct announcement *own;
	struct flow flow = {};

	if (!p)
		return false;
	__builtin_memcpy(mac, p->mac, ETH_ALEN);
	if (!read_solicitation(skb, p, &flow.source, mac))
		return false;
	own = find_announcement(&flow.source, skb->ifindex);
	if (!own)
		return false;
	if (is_unspecified(&p->flow.source)) {
		flow.destination = (struct address){ .word = { bpf_htonl(0xff020000), 0, 0, bpf_htonl(1) } };
		return write_advertisement(skb, &flow, own, false) && send_answer(skb, all_nodes_mac, own->mac);
	}
	flow.destination = p->flow.source;
	return write_advertisement(skb, &flow, own, true) && send_answer(skb, mac, own->mac);
}

/*
 * Whether the packet asked for an address that this node answers for, and has become the answer. What is for another
 * MAC, and here only because the device takes everything, is not for us.
 */
static __always_inline bool answer_announced(struct __sk_buff *skb, const struct packet *p, enum parsed parsed)
{
	if (skb->pkt_type == PACKET_OTHERHOST)
		return false;
	if (parsed == PARSED_ARP)
		return send_arp_reply(skb);
	return parsed == PARSED_IP && is_solicitation(skb, p) && send_advertisement(skb, p);
}
