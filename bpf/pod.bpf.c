// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The two hooks on the host's side of a Pod's veth. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "lib/forward.h"
#include "lib/packet.h"
#include "lib/verdict.h"

/* The sender in an ARP packet, behind its header of eight bytes, for IPv4 over Ethernet (RFC 826). */
#define ARP_HEADER_LENGTH 8
struct arp_sender {
	__u8 mac[ETH_ALEN];
	__be32 address;
} __attribute__((packed));

static __always_inline bool same_mac(const __u8 *a, const __u8 *b)
{
	return !__builtin_memcmp(a, b, ETH_ALEN);
}

/* Whether the Pod behind this link may send as `source`; the reason stays untouched if it may. */
static __always_inline bool is_spoofed(struct __sk_buff *skb, const struct address *source, const __u8 *mac,
				       enum reason *reason)
{
	struct endpoint *self = bpf_map_lookup_elem(&endpoints, source);

	if (!self || self->ifindex != skb->ifindex)
		*reason = DROP_SPOOFED_SOURCE;
	else if (!same_mac(self->mac, mac))
		*reason = DROP_SPOOFED_MAC;
	else
		return false;
	return true;
}

static __always_inline struct verdict judge_arp(struct __sk_buff *skb, struct packet *p)
{
	struct arp_sender sender;
	enum reason reason;

	if (bpf_skb_load_bytes(skb, ETH_HLEN + ARP_HEADER_LENGTH, &sender, sizeof(sender)))
		return drop(DROP_MALFORMED);
	p->flow.source = ipv4_mapped(sender.address);
	if (is_spoofed(skb, &p->flow.source, sender.mac, &reason) ||
	    is_spoofed(skb, &p->flow.source, p->mac, &reason))
		return drop(reason);
	return pass(REASON_STACK);
}

/* Duplicate address detection and multicast listener reports: they stay on this link. */
static __always_inline bool is_unnumbered(const struct packet *p)
{
	return is_unspecified(&p->flow.source) && is_multicast(&p->flow.destination);
}

static __always_inline struct verdict judge_ip(struct __sk_buff *skb, const struct packet *p)
{
	const struct address *to = &p->flow.destination;
	enum reason reason;

	if (is_unnumbered(p))
		return pass(REASON_STACK);
	if (is_spoofed(skb, &p->flow.source, p->mac, &reason))
		return drop(reason);
	if (is_link_local(to) || is_link_local(&p->flow.source) || is_multicast(to))
		return pass(REASON_STACK);

	struct endpoint *local = bpf_map_lookup_elem(&endpoints, to);
	if (local)
		return deliver(skb, p, local);

	struct remote *remote = find_remote(to);
	return remote ? send_to_node(skb, p, remote) : pass(REASON_STACK);
}

static __always_inline struct verdict judge_from_pod(struct __sk_buff *skb, struct packet *p)
{
	switch (parse(skb, p)) {
	case PARSED_IP:
		return judge_ip(skb, p);
	case PARSED_ARP:
		return judge_arp(skb, p);
	case PARSED_OTHER:
		return drop(DROP_NOT_IP);
	default:
		return drop(DROP_MALFORMED);
	}
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	struct packet p = {};
	struct verdict verdict = judge_from_pod(skb, &p);

	return finish(skb, &p, HOOK_FROM_POD, verdict);
}

/* What the host's stack sends to a Pod; the short cuts do not pass here. */
SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	struct packet p = {};

	if (parse(skb, &p) == PARSED_IP &&
	    (bpf_map_lookup_elem(&endpoints, &p.flow.source) || find_remote(&p.flow.source)))
		remember_stack_flow(&p);
	return finish(skb, &p, HOOK_TO_POD, pass(REASON_DELIVERED));
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
