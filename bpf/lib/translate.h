/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Gives packets other ends: addresses, ports, and every checksum that covers them. */
#pragma once

#include <linux/bpf.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>

#include "../contract.h"
#include "checksum.h"
#include "crc32c.h"
#include "packet.h"

#define ENDS_LENGTH (2 * sizeof(struct address))

/* Both addresses as they stand in an IPv4 header. */
struct ipv4_ends {
	__be32 source, destination;
};

static __always_inline bool has_ports(const struct packet *p)
{
	return !p->later && (p->flow.protocol == IPPROTO_TCP || p->flow.protocol == IPPROTO_UDP ||
			     p->flow.protocol == IPPROTO_SCTP);
}

static __always_inline bool write_ipv4_in_place(struct __sk_buff *skb, const struct ipv4_ends *ends,
						__u64 difference)
{
	struct iphdr *ip = at(skb, ETH_HLEN, sizeof(*ip));

	if (!ip)
		return false;
	ip->saddr = ends->source;
	ip->daddr = ends->destination;
	ip->check = follow(ip->check, difference);
	return true;
}

static __always_inline bool write_ipv6_in_place(struct __sk_buff *skb, const struct flow *to)
{
	struct ipv6hdr *ip = at(skb, ETH_HLEN, sizeof(*ip));

	if (!ip)
		return false;
	__builtin_memcpy(&ip->saddr, &to->source, ENDS_LENGTH);
	return true;
}

/*
 * The addresses in the IP header at `offset`. IPv4's header checksum balances the change; IPv6 has none, so
 * the sum that a device took of the whole packet must follow where `whole` says so.
 */
static __always_inline void write_addresses(struct __sk_buff *skb, const struct packet *p, __u32 offset,
					    const struct flow *to, __u64 difference, bool whole)
{
	struct ipv4_ends ends = { to->source.word[3], to->destination.word[3] };

	if (!p->v4) {
		if (offset == ETH_HLEN && may_write(skb) && write_ipv6_in_place(skb, to))
			return;
		bpf_skb_store_bytes(skb, offset + offsetof(struct ipv6hdr, saddr), &to->source, ENDS_LENGTH,
				    whole ? BPF_F_RECOMPUTE_CSUM : 0);
		return;
	}
	if (offset == ETH_HLEN && write_ipv4_in_place(skb, &ends, difference))
		return;
	bpf_skb_store_bytes(skb, offset + offsetof(struct iphdr, saddr), &ends, sizeof(ends), 0);
	bpf_l3_csum_replace(skb, offset + offsetof(struct iphdr, check), 0, fold_words(difference), 0);
}

/*
 * The transport checksum at `offset` follows a change of addresses and ports. `optional`: zero says that there is none
 * (RFC 768). What is still to be summed has only the addresses in it.
 */
static __always_inline void replace_checksum(struct __sk_buff *skb, __u32 offset, bool optional, __u64 addresses,
					     __u64 ports)
{
	bool partial = ip_summed(skb) == CHECKSUM_PARTIAL;
	__u64 flags = optional ? BPF_F_MARK_MANGLED_0 : 0;
	__u16 *check = NULL;

	if (may_write(skb) && offset <= FARTHEST_TRANSPORT)
		check = at(skb, offset, sizeof(*check));
	if (!check) {
		bpf_l4_csum_replace(skb, offset, 0, fold_words(addresses), BPF_F_PSEUDO_HDR | flags);
		bpf_l4_csum_replace(skb, offset, 0, fold_words(ports), flags);
	} else if (*check || !optional) {
		*check = partial ? ~follow(~*check, addresses) : follow(*check, addresses + ports);
		if (optional && !*check)
			*check = 0xffff;
	}
}

static __always_inline void write_ports(struct __sk_buff *skb, __u32 offset, const struct flow *to)
{
	struct ports ports = { to->source_port, to->destination_port };
	struct ports *there = offset <= FARTHEST_TRANSPORT ? at(skb, offset, sizeof(ports)) : NULL;

	if (there)
		*there = ports;
	else
		bpf_skb_store_bytes(skb, offset, &ports, sizeof(ports), 0);
}

/* Gives the packet the ends of `to`; `p` follows. A later fragment has no ports and no checksum of its own. */
__noinline int translate(struct __sk_buff *skb, struct packet *p, const struct flow *to)
{
	__u64 addresses, ports;

	if (!p || !to)
		return 0;
	addresses = ends_difference(&p->flow, to);
	ports = ports_difference(&p->flow, to);
	if (has_ports(p)) {
		if (p->flow.protocol == IPPROTO_TCP)
			replace_checksum(skb, p->transport + offsetof(struct tcphdr, check), false, addresses, ports);
		else if (p->flow.protocol == IPPROTO_UDP)
			replace_checksum(skb, p->transport + offsetof(struct udphdr, check), true, addresses, ports);
		else
			replace_crc32c(skb, p, to);
		write_ports(skb, p->transport, to);
	}
	write_addresses(skb, p, ETH_HLEN, to, addresses, true);
	p->flow = *to;
	return 0;
}

/*
 * Gives what an ICMP error quotes the ends of `to` (RFC 5508, section 4.2). The sum over the error's body
 * changes by the ports, and in IPv6 by the addresses: an IPv4 header's own checksum balances these. Checksums
 * of the quoted transport header stay: nobody checks them, and TCP's is often not quoted at all.
 */
static __always_inline void translate_quoted(struct __sk_buff *skb, const struct packet *error,
					     const struct packet *quoted, const struct flow *to)
{
	__u32 header = error->transport + ICMP_HEADER_LENGTH;
	__u32 checksum = error->transport + offsetof(struct icmp, checksum);
	__u32 difference = fold_words(ends_difference(&quoted->flow, to));

	write_addresses(skb, error, header, to, difference, false);
	if (!error->v4)
		bpf_l4_csum_replace(skb, checksum, 0, difference, 0);
	if (!has_ports(quoted))
		return;
	write_ports(skb, quoted->transport, to);
	bpf_l4_csum_replace(skb, checksum, 0, fold_words(ports_difference(&quoted->flow, to)), 0);
}

/* An ICMP error comes from, and goes to, the ends that `becomes` gives the flow that it belongs to. */
__noinline int translate_error(struct __sk_buff *skb, struct packet *error, const struct flow *becomes)
{
	struct packet quoted = {};
	struct flow to;
	__u32 difference;

	if (!error || !becomes || !read_quoted(skb, error, &quoted))
		return 0;
	to = answer_to(becomes);
	translate_quoted(skb, error, &quoted, &to);
	to = error->flow;
	if (same_address(&to.source, &quoted.flow.destination))
		to.source = becomes->source;
	to.destination = becomes->destination;
	difference = fold_words(ends_difference(&error->flow, &to));
	if (!error->v4) /* ICMPv6's checksum covers the addresses, ICMP's does not */
		bpf_l4_csum_replace(skb, error->transport + offsetof(struct icmp, checksum), 0, difference,
				    BPF_F_PSEUDO_HDR);
	write_addresses(skb, error, ETH_HLEN, &to, difference, true);
	error->flow = to;
	return 0;
}
