/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Reading a packet's headers, and the small changes that forwarding makes to them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../contract.h"
#include "checksum.h"

#define IPV4_FRAGMENT_MASK bpf_htons(0x3fff) /* "more fragments" and the offset */
#define IPV4_OFFSET_MASK bpf_htons(0x1fff)
#define IPV6_OFFSET_MASK bpf_htons(0xfff8)

enum parsed {
	PARSED_IP,
	PARSED_ARP,
	PARSED_OTHER,     /* an ethertype that Kubernetes has no use for */
	PARSED_MALFORMED, /* cut off, or with a header that cannot be */
};

struct packet {
	struct flow flow;
	__u8 mac[ETH_ALEN]; /* the sender's */
	__u8 hop_limit;
	bool v4;
	bool fragment; /* flow has no ports, until find_ports() */
	bool later;    /* a fragment without the transport header */
	bool opens;    /* TCP's SYN without ACK, SCTP's INIT: the first of a connection */
	__u16 transport; /* where the transport header is, or would be, from the frame's start */
	__u32 end;       /* behind the packet's last byte, from the frame's start: what follows is padding */
	__u32 id;        /* that a packet's fragments have in common */
};

/* IPv6's fragment header (RFC 8200, section 4.5). */
struct ipv6_fragment {
	__u8 nexthdr;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

static __always_inline struct address ipv4_mapped(__be32 v4)
{
	return (struct address){ .word = { 0, 0, bpf_htonl(0xffff), v4 } };
}

static __always_inline bool is_ipv4_mapped(const struct address *a)
{
	return !a->word[0] && !a->word[1] && a->word[2] == bpf_htonl(0xffff);
}

/* 127.0.0.0/8 and ::1. */
static __always_inline bool is_loopback(const struct address *a)
{
	if (is_ipv4_mapped(a))
		return (a->word[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !(a->word[0] | a->word[1] | a->word[2]) && a->word[3] == bpf_htonl(1);
}

static __always_inline bool is_unspecified(const struct address *a)
{
	return !(a->word[0] | a->word[1] | a->word[2] | a->word[3]);
}

static __always_inline bool same_address(const struct address *a, const struct address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3];
}

static __always_inline struct flow answer_to(const struct flow *flow)
{
	return (struct flow){
		.source = flow->destination,
		.destination = flow->source,
		.source_port = flow->destination_port,
		.destination_port = flow->source_port,
		.protocol = flow->protocol,
	};
}

/* fe80::/10: never leaves its link. */
static __always_inline bool is_link_local(const struct address *a)
{
	return (a->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline bool is_multicast(const struct address *a)
{
	if (is_ipv4_mapped(a))
		return (a->word[3] & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) || a->word[3] == ~0U;
	return (a->word[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* `length` bytes at `offset`, or NULL where they are not in the packet's linear part. */
static __always_inline void *at(struct __sk_buff *skb, __u32 offset, __u32 length)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	return data + offset + length <= end ? data + offset : NULL;
}

/* Brings as much of the first `length` bytes into the linear part as there is. */
static __always_inline void make_linear(struct __sk_buff *skb, __u32 length)
{
	if (!at(skb, 0, length))
		bpf_skb_pull_data(skb, skb->len < length ? skb->len : length);
}

#define TCP_FLAGS_OFFSET 13
#define TCP_SYN_BIT 0x02
#define TCP_ACK_BIT 0x10

#define SCTP_CHUNK_OFFSET 12
#define SCTP_INIT 1

/* What tells is behind what make_linear() brings into the linear part, though nearly always there, too. */
static __always_inline bool is_opening(struct __sk_buff *skb, __u32 offset, __u8 protocol)
{
	__u8 copy = 0, *byte;

	offset += protocol == IPPROTO_SCTP ? SCTP_CHUNK_OFFSET : TCP_FLAGS_OFFSET;
	byte = at(skb, offset, sizeof(*byte));
	if (!byte) {
		bpf_skb_load_bytes(skb, offset, &copy, sizeof(copy));
		byte = &copy;
	}
	if (protocol == IPPROTO_SCTP)
		return *byte == SCTP_INIT;
	return (*byte & (TCP_SYN_BIT | TCP_ACK_BIT)) == TCP_SYN_BIT;
}

/*
 * Ports of TCP, UDP and SCTP; an ICMP echo's identifier stands for both, so that answers match. Each of
 * these headers is longer than the six bytes that are read.
 */
static __always_inline void read_ports(struct __sk_buff *skb, struct packet *p, __u32 offset)
{
	__be16 copy[3] = {}, *word = at(skb, offset, sizeof(copy));

	if (!word) {
		bpf_skb_load_bytes(skb, offset, copy, sizeof(copy));
		word = copy;
	}
	switch (p->flow.protocol) {
	case IPPROTO_TCP:
	case IPPROTO_SCTP:
		p->opens = is_opening(skb, offset, p->flow.protocol);
		/* fall through */
	case IPPROTO_UDP:
		p->flow.source_port = word[0];
		p->flow.destination_port = word[1];
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		p->flow.source_port = p->flow.destination_port = word[2];
		break;
	}
}

static __always_inline enum parsed parse_ipv4(struct __sk_buff *skb, struct packet *p, __u32 offset)
{
	struct iphdr *ip = at(skb, offset, sizeof(*ip));

	if (!ip || ip->ihl < 5)
		return PARSED_MALFORMED;
	p->v4 = true;
	p->flow.source = ipv4_mapped(ip->saddr);
	p->flow.destination = ipv4_mapped(ip->daddr);
	p->flow.protocol = ip->protocol;
	p->hop_limit = ip->ttl;
	p->fragment = ip->frag_off & IPV4_FRAGMENT_MASK;
	p->later = ip->frag_off & IPV4_OFFSET_MASK;
	p->id = ip->id;
	p->transport = offset + ip->ihl * 4;
	p->end = offset + bpf_ntohs(ip->tot_len);
	if (!p->fragment)
		read_ports(skb, p, p->transport);
	return PARSED_IP;
}

static __always_inline enum parsed parse_ipv6_fragment(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6_fragment *header = at(skb, p->transport, sizeof(*header));

	if (!header)
		return PARSED_MALFORMED;
	p->fragment = true;
	p->later = header->offset & IPV6_OFFSET_MASK;
	p->id = header->id;
	p->flow.protocol = header->nexthdr;
	p->transport += sizeof(*header);
	return PARSED_IP;
}

/* Other extension headers are not followed: such packets have the header's number and no ports. */
static __always_inline enum parsed parse_ipv6(struct __sk_buff *skb, struct packet *p, __u32 offset)
{
	struct ipv6hdr *ip = at(skb, offset, sizeof(*ip));

	if (!ip)
		return PARSED_MALFORMED;
	p->v4 = false;
	__builtin_memcpy(&p->flow.source, &ip->saddr, sizeof(p->flow.source));
	__builtin_memcpy(&p->flow.destination, &ip->daddr, sizeof(p->flow.destination));
	/* In our maps these are IPv4; in an IPv6 header they have no meaning, and the kernel refuses them. */
	if (is_ipv4_mapped(&p->flow.source) || is_ipv4_mapped(&p->flow.destination))
		return PARSED_MALFORMED;
	p->flow.protocol = ip->nexthdr;
	p->hop_limit = ip->hop_limit;
	p->transport = offset + sizeof(*ip);
	p->end = p->transport + bpf_ntohs(ip->payload_len);
	if (ip->nexthdr == IPPROTO_FRAGMENT)
		return parse_ipv6_fragment(skb, p);
	read_ports(skb, p, p->transport);
	return PARSED_IP;
}

#define HEADERS_LENGTH (ETH_HLEN + sizeof(struct ipv6hdr) + 8)

/* Reads the frame whose Ethernet header is at `offset`. */
static __always_inline enum parsed parse_at(struct __sk_buff *skb, struct packet *p, __u32 offset)
{
	struct ethhdr *eth;

	make_linear(skb, offset + HEADERS_LENGTH);
	eth = at(skb, offset, sizeof(*eth));
	if (!eth)
		return PARSED_MALFORMED;
	__builtin_memcpy(p->mac, eth->h_source, ETH_ALEN);
	switch (eth->h_proto) {
	case bpf_htons(ETH_P_IP):
		return parse_ipv4(skb, p, offset + ETH_HLEN);
	case bpf_htons(ETH_P_IPV6):
		return parse_ipv6(skb, p, offset + ETH_HLEN);
	case bpf_htons(ETH_P_ARP):
		return PARSED_ARP;
	default:
		return PARSED_OTHER;
	}
}

/* What was before the packet's frame has been taken out. */
static __always_inline void move_up(struct packet *p, __u32 length)
{
	p->transport -= length;
	p->end -= length;
}

/* A frame with a VLAN tag is not for us, though the device may have taken the tag out of it. */
static __always_inline enum parsed parse(struct __sk_buff *skb, struct packet *p)
{
	return skb->vlan_present ? PARSED_OTHER : parse_at(skb, p, 0);
}

/* RFC 792, RFC 4443: the two have the same header. linux/icmp.h needs a C library. */
struct icmp {
	__u8 type, code;
	__be16 checksum;
	__be32 rest;
};

#define ICMP_HEADER_LENGTH sizeof(struct icmp)
#define ICMP_UNREACHABLE 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_FIRST_INFORMATIONAL 128

/* RFC 792, RFC 4443: what speaks of another packet, and quotes the beginning of it. */
static __always_inline bool is_icmp_error(const struct packet *p, __u8 type)
{
	if (p->flow.protocol == IPPROTO_ICMPV6)
		return type < ICMPV6_FIRST_INFORMATIONAL;
	return p->flow.protocol == IPPROTO_ICMP &&
	       (type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM);
}

#define FARTHEST_TRANSPORT 255 /* inside VXLAN, too; the verifier wants a bound */

/* Reads what the ICMP error `p` quotes; false where it is none, or cannot be read. */
static __always_inline bool read_quoted(struct __sk_buff *skb, const struct packet *p, struct packet *quoted)
{
	__u32 offset = p->transport;
	__u8 type;

	if (offset > FARTHEST_TRANSPORT || bpf_skb_load_bytes(skb, offset, &type, sizeof(type)) ||
	    !is_icmp_error(p, type))
		return false;
	offset += ICMP_HEADER_LENGTH;
	make_linear(skb, offset + sizeof(struct ipv6hdr) + 8);
	return (p->v4 ? parse_ipv4(skb, quoted, offset) : parse_ipv6(skb, quoted, offset)) == PARSED_IP;
}

/*
 * The caller has seen that hop_limit is above 1. IPv6 has no header checksum that would balance the
 * change, so the sum that the device took of the whole packet (CHECKSUM_COMPLETE) must follow it.
 */
static __always_inline void decrement_hop_limit(struct __sk_buff *skb, const struct packet *p)
{
	__u8 now = p->hop_limit - 1, *byte;
	struct iphdr *ip;

	if (!p->v4) {
		byte = may_write(skb) ? at(skb, ETH_HLEN + offsetof(struct ipv6hdr, hop_limit), 1) : NULL;
		if (byte)
			*byte = now;
		else
			bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, hop_limit), &now, 1,
					    BPF_F_RECOMPUTE_CSUM);
		return;
	}
	ip = at(skb, ETH_HLEN, sizeof(*ip));
	if (ip) {
		/* TTL is the high byte of its 16-bit word, so the checksum grows by 0x0100 (RFC 1141). */
		__u32 sum = ip->check + bpf_htons(0x0100);

		ip->check = sum + (sum >= 0xffff);
		ip->ttl = now;
	}
}

/* Of the frame that begins at `offset`. */
static __always_inline void set_macs_at(struct __sk_buff *skb, __u32 offset, const volatile __u8 *destination,
					const volatile __u8 *source)
{
	struct ethhdr *eth = at(skb, offset, sizeof(*eth));

	if (!eth)
		return;
	for (int i = 0; i < ETH_ALEN; i++) {
		eth->h_dest[i] = destination[i];
		eth->h_source[i] = source[i];
	}
}

static __always_inline void set_macs(struct __sk_buff *skb, const volatile __u8 *destination,
				     const volatile __u8 *source)
{
	set_macs_at(skb, 0, destination, source);
}
