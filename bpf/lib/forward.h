/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Pod to Pod: the short cuts into a Pod of this node and to another node. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../config.h"
#include "../contract.h"
#include "../maps.h"
#include "flow.h"
#include "packet.h"
#include "verdict.h"
#include "vxlan.h"

#define AF_INET 2
#define AF_INET6 10

static __always_inline struct remote *find_remote(const struct address *address)
{
	struct prefix key = { .length = 128, .address = *address };

	return bpf_map_lookup_elem(&remotes, &key);
}

/* Into the Pod's network namespace without passing the host's stack or the queue of its veth. */
static __always_inline struct verdict hand_in(struct __sk_buff *skb, const struct packet *p,
						const struct endpoint *endpoint)
{
	decrement_hop_limit(skb, p);
	set_macs(skb, endpoint->mac, gateway_mac);
	return (struct verdict){ bpf_redirect_peer(endpoint->ifindex, 0), REASON_LOCAL_POD };
}

static __always_inline int to_uplink_of(struct __sk_buff *skb, const struct way *way)
{
	struct bpf_redir_neigh next_hop = { .nh_family = AF_INET6 };

	skb->mark = MARK_SHORT_CUT;
	if (!way->neighbour)
		return bpf_redirect_neigh(way->uplink, NULL, 0, 0);
	if (is_ipv4_mapped(&way->node)) {
		next_hop.nh_family = AF_INET;
		next_hop.ipv4_nh = way->node.word[3];
	} else {
		__builtin_memcpy(next_hop.ipv6_nh, &way->node, sizeof(way->node));
	}
	return bpf_redirect_neigh(way->uplink, &next_hop, sizeof(next_hop), 0);
}

/*
 * By the VXLAN device, which makes the outer headers from what it is told here; false, if it cannot. The MACs of the
 * frame are the caller's to set.
 */
static __always_inline bool tell_device(struct __sk_buff *skb, const struct way *way)
{
	struct bpf_tunnel_key key = { .tunnel_id = overlay_vni, .tunnel_ttl = OUTER_TTL };
	__u64 flags = BPF_F_ZERO_CSUM_TX;

	if (is_ipv4_mapped(&way->node)) {
		key.remote_ipv4 = bpf_ntohl(way->node.word[3]);
		key.local_ipv4 = bpf_ntohl(way->source.word[3]);
	} else {
		__builtin_memcpy(key.remote_ipv6, &way->node, sizeof(way->node));
		__builtin_memcpy(key.local_ipv6, &way->source, sizeof(way->source));
		flags = BPF_F_TUNINFO_IPV6; /* with a checksum: RFC 6935 has conditions for leaving it out */
	}
	return !bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags);
}

static __always_inline struct verdict send_by_device(struct __sk_buff *skb, const struct remote *remote)
{
	if (!tell_device(skb, &remote->way))
		return pass(REASON_STACK);
	set_macs(skb, gateway_mac, overlay_source_mac);
	skb->mark = MARK_SHORT_CUT;
	return (struct verdict){ bpf_redirect(remote->ifindex, 0), REASON_OVERLAY };
}

static __always_inline struct verdict send_overlay(struct __sk_buff *skb, const struct packet *p,
						   const struct remote *remote)
{
	if (!is_ipv4_mapped(&remote->way.node) || !encapsulate(skb, p, &remote->way))
		return send_by_device(skb, remote);
	return (struct verdict){ to_uplink_of(skb, &remote->way), REASON_OVERLAY };
}

static __always_inline struct verdict send_to_node(struct __sk_buff *skb, const struct packet *p,
						   const struct remote *remote)
{
	__u32 length = 0; /* of the packet as it is */

	if (bpf_check_mtu(skb, remote->ifindex, &length, 0, BPF_MTU_CHK_SEGS))
		return pass(REASON_TOO_BIG);
	decrement_hop_limit(skb, p);
	if (remote->transport == TRANSPORT_OVERLAY)
		return send_overlay(skb, p, remote);
	return (struct verdict){ to_uplink_of(skb, &remote->way), REASON_NATIVE };
}

/*
 * Whether the packet needs the host's stack although a short cut may be there; `reason` says why. A SYN
 * begins a connection anew, whatever an earlier one with the same ends was.
 */
static __always_inline bool needs_stack(const struct packet *p, const struct known *known, enum reason *reason)
{
	if (p->hop_limit <= 1)
		*reason = REASON_HOP_LIMIT;
	else if (!p->opens && is_stack_flow(known))
		*reason = REASON_STACK_FLOW;
	else if (p->fragment && !is_translated(known))
		*reason = REASON_FRAGMENT;
	else
		return false;
	return true;
}

/* Takes the overlay's headers off a frame; false, and no change, if it cannot. */
static __always_inline bool take_out(struct __sk_buff *skb, struct packet *p)
{
	if (!decapsulate(skb, p))
		return false;
	move_up(p, INNER_FRAME);
	return true;
}

/*
 * To a Pod of this node, `local` (NULL: it is none), from where nothing but a Pod of ours could be meant. `framed`: it
 * is still inside the overlay's headers, and stays there, with no change, if it is not for the short cut.
 */
__noinline int deliver(struct __sk_buff *skb, struct packet *p, const struct endpoint *local, bool framed,
		       struct verdict *verdict)
{
	struct known known;
	enum reason reason;

	if (!p || !local || !verdict)
		return 0;
	look_up(skb, p, &known);
	if (needs_stack(p, &known, &reason)) {
		*verdict = pass(reason);
		return 0;
	}
	if (framed && !take_out(skb, p))
		return 0;
	if (!translate_known(skb, p, &known))
		see_untranslated(p);
	*verdict = hand_in(skb, p, local);
	return 0;
}
