/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Pod to Pod: the short cuts into a Pod of this node and to another node. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../config.h"
#include "../contract.h"
#include "../maps.h"
#include "packet.h"
#include "verdict.h"
#include "vxlan.h"

#define AF_INET 2
#define AF_INET6 10

/* On a packet that a short cut sends to a device: the egress hook there need not look at it. */
#define MARK_SHORT_CUT 0x74756c6c

static __always_inline struct remote *find_remote(const struct address *address)
{
	struct prefix key = { .length = 128, .address = *address };

	return bpf_map_lookup_elem(&remotes, &key);
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

/*
 * A connection that begins on the short cut: what is remembered of an earlier one with the same ends would
 * send its answers to the host's stack, whose connection tracking never saw the beginning.
 */
static __always_inline void forget_stack_flow(const struct packet *p)
{
	struct flow answer = answer_to(&p->flow);

	bpf_map_delete_elem(&stack_flows, &p->flow);
	bpf_map_delete_elem(&stack_flows, &answer);
}

/* Whether the host's stack waits for the packet. An ICMP error counts as an answer to what it quotes. */
static __always_inline bool is_awaited(struct __sk_buff *skb, const struct packet *p, __u32 frame)
{
	struct packet quoted = {};
	struct flow answer;

	if (!read_quoted(skb, p, frame, &quoted))
		return bpf_map_lookup_elem(&stack_flows, &p->flow);
	answer = answer_to(&quoted.flow);
	return bpf_map_lookup_elem(&stack_flows, &answer);
}

/*
 * Whether the packet, in the frame at `frame`, needs the host's stack although a short cut is there;
 * `reason` says why.
 */
static __always_inline bool needs_stack(struct __sk_buff *skb, const struct packet *p, __u32 frame,
					enum reason *reason)
{
	if (p->fragment)
		*reason = REASON_FRAGMENT;
	else if (p->hop_limit <= 1)
		*reason = REASON_HOP_LIMIT;
	else if (!p->opens && is_awaited(skb, p, frame))
		*reason = REASON_STACK_FLOW;
	else
		return false;
	return true;
}

/* Into the Pod's network namespace without passing the host's stack or the queue of its veth. */
static __always_inline struct verdict hand_over(struct __sk_buff *skb, const struct packet *p,
						const struct endpoint *endpoint)
{
	if (p->opens)
		forget_stack_flow(p);
	decrement_hop_limit(skb, p);
	set_macs(skb, endpoint->mac, gateway_mac);
	return (struct verdict){ bpf_redirect_peer(endpoint->ifindex, 0), REASON_LOCAL_POD };
}

static __always_inline struct verdict deliver(struct __sk_buff *skb, const struct packet *p,
					      const struct endpoint *endpoint)
{
	enum reason reason;

	return needs_stack(skb, p, 0, &reason) ? pass(reason) : hand_over(skb, p, endpoint);
}

static __always_inline int to_uplink_of(struct __sk_buff *skb, const struct remote *remote)
{
	struct bpf_redir_neigh next_hop = { .nh_family = AF_INET6 };

	skb->mark = MARK_SHORT_CUT;
	if (!remote->neighbour)
		return bpf_redirect_neigh(remote->uplink, NULL, 0, 0);
	if (is_ipv4_mapped(&remote->node)) {
		next_hop.nh_family = AF_INET;
		next_hop.ipv4_nh = remote->node.word[3];
	} else {
		__builtin_memcpy(next_hop.ipv6_nh, &remote->node, sizeof(remote->node));
	}
	return bpf_redirect_neigh(remote->uplink, &next_hop, sizeof(next_hop), 0);
}

/* By the VXLAN device, which makes the outer headers from what it is told here. */
static __always_inline struct verdict send_by_device(struct __sk_buff *skb, const struct remote *remote)
{
	struct bpf_tunnel_key key = { .tunnel_id = overlay_vni, .tunnel_ttl = OUTER_TTL };
	__u64 flags = BPF_F_ZERO_CSUM_TX;

	if (is_ipv4_mapped(&remote->node)) {
		key.remote_ipv4 = bpf_ntohl(remote->node.word[3]);
		key.local_ipv4 = bpf_ntohl(remote->source.word[3]);
	} else {
		__builtin_memcpy(key.remote_ipv6, &remote->node, sizeof(remote->node));
		__builtin_memcpy(key.local_ipv6, &remote->source, sizeof(remote->source));
		flags = BPF_F_TUNINFO_IPV6; /* with a checksum: RFC 6935 has conditions for leaving it out */
	}
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags))
		return pass(REASON_STACK);
	set_macs(skb, gateway_mac, overlay_source_mac);
	skb->mark = MARK_SHORT_CUT;
	return (struct verdict){ bpf_redirect(remote->ifindex, 0), REASON_OVERLAY };
}

static __always_inline struct verdict send_overlay(struct __sk_buff *skb, const struct packet *p,
						   const struct remote *remote)
{
	if (!is_ipv4_mapped(&remote->node) || !encapsulate(skb, p, remote))
		return send_by_device(skb, remote);
	return (struct verdict){ to_uplink_of(skb, remote), REASON_OVERLAY };
}

static __always_inline struct verdict send_to_node(struct __sk_buff *skb, const struct packet *p,
						   const struct remote *remote)
{
	enum reason reason;
	__u32 length = 0; /* of the packet as it is */

	if (needs_stack(skb, p, 0, &reason))
		return pass(reason);
	if (bpf_check_mtu(skb, remote->ifindex, &length, 0, BPF_MTU_CHK_SEGS))
		return pass(REASON_TOO_BIG);
	if (p->opens)
		forget_stack_flow(p);
	decrement_hop_limit(skb, p);
	if (remote->transport == TRANSPORT_OVERLAY)
		return send_overlay(skb, p, remote);
	return (struct verdict){ to_uplink_of(skb, remote), REASON_NATIVE };
}

/*
 * The host's stack sends a packet on from a Pod, or to one: it is to see the answers, too. Only what
 * could come back by a short cut matters: between Pods, or between a Pod and another node.
 */
static __always_inline void remember_stack_flow(const struct packet *p)
{
	struct flow answer = answer_to(&p->flow);
	__u8 present = 1;

	if (!p->fragment && !bpf_map_lookup_elem(&stack_flows, &answer))
		bpf_map_update_elem(&stack_flows, &answer, &present, BPF_ANY);
}
