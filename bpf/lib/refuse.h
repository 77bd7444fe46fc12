/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Answers on behalf of a Service that nobody serves, so that its client need not wait (S-29, S-40). */
#pragma once

#include <linux/bpf.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../config.h"
#include "../contract.h"
#include "checksum.h"
#include "packet.h"
#include "verdict.h"

#define REFUSAL_HOP_LIMIT 64
#define ICMP_CODE_PORT_UNREACHABLE 3
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_CODE_PORT_UNREACHABLE 4
#define QUOTED_TRANSPORT 8 /* bytes of it behind the quoted IP header, at least (RFC 792) */
#define QUOTED_MORE 20     /* what SCTP asks for: up to an INIT's tag (RFC 9260, section 10, ICMP6) */

struct ipv4_reset {
	struct iphdr ip;
	struct tcphdr tcp;
};

struct ipv6_reset {
	struct ipv6hdr ip;
	struct tcphdr tcp;
};

struct ipv4_unreachable {
	struct iphdr ip;
	struct icmp icmp;
	__u8 quoted[sizeof(struct iphdr) + QUOTED_MORE];
};

struct ipv6_unreachable {
	struct ipv6hdr ip;
	struct icmp icmp;
	__u8 quoted[sizeof(struct ipv6hdr) + QUOTED_MORE];
};

/* The header of an answer to a packet of `flow`. */
static __always_inline struct iphdr ipv4_header(const struct flow *flow, __u32 length, __u8 protocol)
{
	struct iphdr ip = {
		.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons(length),
		.frag_off = bpf_htons(0x4000), /* don't fragment */
		.ttl = REFUSAL_HOP_LIMIT,
		.protocol = protocol,
		.saddr = flow->destination.word[3],
		.daddr = flow->source.word[3],
	};

	ip.check = fold(sum_of(&ip, sizeof(ip), 0));
	return ip;
}

static __always_inline struct ipv6hdr ipv6_header(const struct flow *flow, __u32 length, __u8 protocol)
{
	struct ipv6hdr ip = {
		.version = 6,
		.payload_len = bpf_htons(length),
		.nexthdr = protocol,
		.hop_limit = REFUSAL_HOP_LIMIT,
	};

	__builtin_memcpy(&ip.saddr, &flow->destination, sizeof(ip.saddr));
	__builtin_memcpy(&ip.daddr, &flow->source, sizeof(ip.daddr));
	return ip;
}

/* Puts `length` bytes in the place of the packet behind the Ethernet header. */
static __always_inline bool replace(struct __sk_buff *skb, const void *packet, __u32 length)
{
	return !bpf_skb_change_tail(skb, ETH_HLEN + length, 0) &&
	       !bpf_skb_store_bytes(skb, ETH_HLEN, packet, length, BPF_F_RECOMPUTE_CSUM);
}

/* A reset that the sender of `theirs` believes (RFC 9293, section 3.5.2). */
static __always_inline struct tcphdr reset_for(const struct tcphdr *theirs, __u32 payload)
{
	struct tcphdr reset = {
		.source = theirs->dest,
		.dest = theirs->source,
		.doff = sizeof(reset) / 4,
		.rst = 1,
	};

	if (theirs->ack) {
		reset.seq = theirs->ack_seq;
	} else {
		reset.ack = 1;
		reset.ack_seq = bpf_htonl(bpf_ntohl(theirs->seq) + payload + theirs->syn + theirs->fin);
	}
	return reset;
}

static __always_inline __u16 reset_check(const struct tcphdr *reset, const struct flow *flow, bool incomplete)
{
	__s64 sum = pseudo_sum(flow, sizeof(*reset), IPPROTO_TCP);

	return incomplete ? ~fold(sum) : fold(sum_of(reset, sizeof(*reset), sum));
}

static __noinline bool reset_ipv4(struct __sk_buff *skb, const struct packet *p, const struct tcphdr *reset,
				bool incomplete)
{
	struct ipv4_reset packet = {
		.ip = ipv4_header(&p->flow, sizeof(packet), IPPROTO_TCP),
		.tcp = *reset,
	};

	packet.tcp.check = reset_check(&packet.tcp, &p->flow, incomplete);
	return replace(skb, &packet, sizeof(packet));
}

static __noinline bool reset_ipv6(struct __sk_buff *skb, const struct packet *p, const struct tcphdr *reset,
				bool incomplete)
{
	struct ipv6_reset packet = {
		.ip = ipv6_header(&p->flow, sizeof(packet.tcp), IPPROTO_TCP),
		.tcp = *reset,
	};

	packet.tcp.check = reset_check(&packet.tcp, &p->flow, incomplete);
	return replace(skb, &packet, sizeof(packet));
}

/* Nothing answers a reset: RFC 9293 says so. */
static __noinline bool refuse_tcp(struct __sk_buff *skb, const struct packet *p, bool incomplete)
{
	struct tcphdr theirs, reset;

	if (bpf_skb_load_bytes(skb, p->transport, &theirs, sizeof(theirs)) || theirs.rst)
		return false;
	reset = reset_for(&theirs, p->end - p->transport - theirs.doff * 4);
	return p->v4 ? reset_ipv4(skb, p, &reset, incomplete) : reset_ipv6(skb, p, &reset, incomplete);
}

/* How many bytes of a packet to quote whose IP header, without options, has `header` bytes. */
static __always_inline __u32 quoted_length(const struct packet *p, __u32 header)
{
	return header + (p->end >= ETH_HLEN + header + QUOTED_MORE ? QUOTED_MORE : QUOTED_TRANSPORT);
}

static __noinline bool unreachable_ipv4(struct __sk_buff *skb, const struct packet *p)
{
	const __u32 quoted = quoted_length(p, sizeof(struct iphdr));
	const __u32 length = sizeof(struct icmp) + quoted;
	struct ipv4_unreachable packet = {
		.ip = ipv4_header(&p->flow, sizeof(packet.ip) + length, IPPROTO_ICMP),
		.icmp = { .type = ICMP_UNREACHABLE, .code = ICMP_CODE_PORT_UNREACHABLE },
	};

	/* With options the quotation would have to be longer; nobody sends them to a Service. */
	if (p->transport != ETH_HLEN + sizeof(struct iphdr) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN, packet.quoted, quoted))
		return false;
	packet.icmp.checksum = fold(sum_of(&packet.icmp, length, 0));
	return replace(skb, &packet, sizeof(packet.ip) + length);
}

static __noinline bool unreachable_ipv6(struct __sk_buff *skb, const struct packet *p, bool incomplete)
{
	const __u32 quoted = quoted_length(p, sizeof(struct ipv6hdr));
	const __u32 length = sizeof(struct icmp) + quoted;
	struct ipv6_unreachable packet = {
		.ip = ipv6_header(&p->flow, length, IPPROTO_ICMPV6),
		.icmp = { .type = ICMPV6_UNREACHABLE, .code = ICMPV6_CODE_PORT_UNREACHABLE },
	};
	__s64 sum;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, packet.quoted, quoted))
		return false;
	sum = pseudo_sum(&p->flow, length, IPPROTO_ICMPV6);
	if (incomplete)
		packet.icmp.rest = bpf_htonl(bpf_ntohs((__u16)~fold(sum)));
	else
		packet.icmp.checksum = fold(sum_of(&packet.icmp, length, sum));
	return replace(skb, &packet, sizeof(packet.ip) + length);
}

/*
 * Makes the refusal out of the packet; false where there is none to make. Of a packet in fragments only the first is
 * answered (RFC 1122, 3.2.2). Where the packet's checksum was still to be completed, the refusal's will be, in the
 * same place, and needs the pseudo header's sum there.
 */
__noinline int make_refusal(struct __sk_buff *skb, const struct packet *p)
{
	bool incomplete;

	if (!p || p->later)
		return false;
	incomplete = ip_summed(skb) == CHECKSUM_PARTIAL;
	if (p->flow.protocol == IPPROTO_TCP)
		return refuse_tcp(skb, p, incomplete);
	return p->v4 ? unreachable_ipv4(skb, p) : unreachable_ipv6(skb, p, incomplete);
}

/* Refuses a packet that a Pod sent, which is counted as dropped for `reason`. */
static __always_inline struct verdict refuse(struct __sk_buff *skb, const struct packet *p, enum reason reason)
{
	if (!make_refusal(skb, p))
		return drop(reason);
	set_macs(skb, p->mac, gateway_mac);
	return (struct verdict){ bpf_redirect_peer(skb->ifindex, 0), reason };
}
