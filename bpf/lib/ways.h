/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* To a Service's client and to its backend, wherever they are, once a packet has the right ends. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../contract.h"
#include "../maps.h"
#include "forward.h"
#include "packet.h"
#include "verdict.h"

static __always_inline bool is_own(const struct address *address)
{
	return bpf_map_lookup_elem(&own_addresses, address);
}

static __always_inline struct address own_address(bool v4)
{
	__u32 index = v4 ? 0 : 1;
	struct address *found = bpf_map_lookup_elem(&self, &index);

	return found ? *found : (struct address){};
}

/*
 * Out of the cluster, by the routes of this node. The host's stack would not send on what names one of the node's own
 * addresses as source.
 */
__noinline int send_out(struct __sk_buff *skb, const struct packet *p)
{
	struct bpf_fib_lookup way = { .ifindex = skb->ifindex };
	struct bpf_redir_neigh next_hop = {};

	if (!p)
		return TC_ACT_SHOT;
	if (p->v4) {
		way.family = AF_INET;
		way.ipv4_src = p->flow.source.word[3];
		way.ipv4_dst = p->flow.destination.word[3];
	} else {
		way.family = AF_INET6;
		__builtin_memcpy(way.ipv6_src, &p->flow.source, sizeof(p->flow.source));
		__builtin_memcpy(way.ipv6_dst, &p->flow.destination, sizeof(p->flow.destination));
	}
	switch (bpf_fib_lookup(skb, &way, sizeof(way), 0)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		decrement_hop_limit(skb, p);
		set_macs(skb, way.dmac, way.smac);
		skb->mark = MARK_SHORT_CUT;
		return bpf_redirect(way.ifindex, 0);
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		decrement_hop_limit(skb, p);
		next_hop.nh_family = way.family;
		__builtin_memcpy(next_hop.ipv6_nh, way.ipv6_dst, sizeof(next_hop.ipv6_nh));
		skb->mark = MARK_SHORT_CUT;
		return bpf_redirect_neigh(way.ifindex, &next_hop, sizeof(next_hop), 0);
	default:
		return TC_ACT_UNSPEC;
	}
}

/* To a Pod, or another node: whether the destination is one of these. */
static __always_inline bool send_inside(struct __sk_buff *skb, const struct packet *p, struct verdict *verdict)
{
	struct endpoint *local = bpf_map_lookup_elem(&endpoints, &p->flow.destination);
	struct remote *remote = local ? NULL : find_remote(&p->flow.destination);

	if (local)
		*verdict = hand_in(skb, p, local);
	else if (remote)
		*verdict = send_to_node(skb, p, remote);
	return local || remote;
}

/* To the client of a Service, wherever it is. */
static __always_inline struct verdict answer(struct __sk_buff *skb, const struct packet *p)
{
	struct verdict verdict;

	if (send_inside(skb, p, &verdict))
		return verdict;
	if (is_own(&p->flow.destination))
		return pass(REASON_SERVICE);
	return (struct verdict){ send_out(skb, p), REASON_ANSWERED };
}

/*
 * To the backend, after the packet has been translated. One outside the cluster does not know the client's way back:
 * `mark`, if it is not 0, goes onto what it gets.
 */
static __always_inline struct verdict ask(struct __sk_buff *skb, const struct packet *p, __u32 mark)
{
	struct verdict verdict;

	if (send_inside(skb, p, &verdict))
		return verdict;
	if (mark && !is_own(&p->flow.destination))
		skb->mark = mark;
	return pass(REASON_SERVICE);
}
