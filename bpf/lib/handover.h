/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What nodes do for each other. A client's packet enters the cluster by some node. If the backend is a Pod of another
 * one, the packet is handed over to that node as it is, inside the overlay; that node translates it, and hands the
 * answers back. So the Pod sees the client's own address, and no node sends on the underlay what does not come from
 * itself.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../config.h"
#include "../contract.h"
#include "../maps.h"
#include "flow.h"
#include "forward.h"
#include "mss.h"
#include "packet.h"
#include "service.h"
#include "translate.h"
#include "verdict.h"
#include "vxlan.h"
#include "ways.h"

/*
 * Which backend a frame that is handed over is for. It stands in the place of the frame's destination MAC, which
 * nobody needs between two nodes.
 */
struct target {
	__be16 port;
	__be32 suffix; /* the last 32 bits of a Pod's address; 0: the node itself */
} __attribute__((packed));

_Static_assert(sizeof(struct target) == ETH_ALEN, "it takes a MAC's place");

/* What is in a frame from another node, and from whom. */
struct arrival {
	struct address node; /* the other node */
	struct target target;
	__u16 reserved;
};

static __always_inline bool same_as_setting(const __u8 *mac, const volatile __u8 *setting)
{
	for (int i = ETH_ALEN - 1; i >= 0; i--)
		if (mac[i] != setting[i])
			return false;
	return true;
}

static __always_inline bool is_handed_over(const struct packet *p)
{
	return same_as_setting(p->mac, handover_mac);
}

static __always_inline bool is_handed_back(const struct packet *p)
{
	return same_as_setting(p->mac, handback_mac);
}

/* Whether nodes exchange the packet on behalf of a client, which need not be in the cluster. */
static __always_inline bool is_between_nodes(const struct packet *p)
{
	return is_handed_over(p) || is_handed_back(p);
}

#define HEADERS_OF_IPV4_TCP 40
#define HEADERS_OF_IPV6_TCP 60

/* What fits into the overlay is what both ends may send at once; more would come in fragments, or not at all. */
static __always_inline void clamp_to_overlay(struct __sk_buff *skb, const struct packet *p,
					     const struct remote *remote)
{
	__u32 mtu = 0; /* in: nothing to add; out: the device's */

	if (is_syn(skb, p) && bpf_check_mtu(skb, remote->overlay, &mtu, 0, 0) >= 0)
		clamp_mss(skb, p, mtu - (p->v4 ? HEADERS_OF_IPV4_TCP : HEADERS_OF_IPV6_TCP));
}

/*
 * To another node inside the overlay, with these MACs in the frame. What is too big for that goes by the device,
 * which sends the outer packet in fragments, if that is IPv4: nothing in there may be split, and the sender, who
 * knows nothing of an overlay, could not be told.
 */
static __always_inline struct verdict send_frame(struct __sk_buff *skb, const struct packet *p,
						 const struct remote *remote, const __u8 *target,
						 const volatile __u8 *kind, enum reason reason)
{
	__u32 length = 0;

	if (!remote->overlay)
		return drop(DROP_SERVICE_NODE);
	clamp_to_overlay(skb, p, remote);
	decrement_hop_limit(skb, p);
	if (is_ipv4_mapped(&remote->tunnel.node) &&
	    !bpf_check_mtu(skb, remote->overlay, &length, 0, BPF_MTU_CHK_SEGS) && encapsulate(skb, p, &remote->tunnel)) {
		set_macs_at(skb, INNER_FRAME, target, kind);
		return (struct verdict){ to_uplink_of(skb, &remote->tunnel), reason };
	}
	if (!tell_device(skb, &remote->tunnel))
		return drop(DROP_SERVICE_NODE);
	set_macs(skb, target, kind);
	skb->mark = MARK_SHORT_CUT;
	return (struct verdict){ bpf_redirect(remote->overlay, 0), reason };
}

/* On the node of entry: to the node of the backend that `becomes` names. */
__noinline int hand_over(struct __sk_buff *skb, const struct packet *p, const struct flow *becomes,
			 struct verdict *verdict)
{
	struct target target = {};
	struct remote *remote;

	if (!p || !becomes || !verdict)
		return 0;
	remote = find_remote(&becomes->destination);
	if (!remote) {
		*verdict = drop(DROP_SERVICE_NODE);
		return 0;
	}
	target.port = becomes->destination_port;
	if (!remote->host)
		target.suffix = becomes->destination.word[3];
	*verdict = send_frame(skb, p, remote, (const __u8 *)&target, handover_mac, REASON_HANDED_OVER);
	return 0;
}

/* Whether an address is that of a Pod of this node, or of the node itself. */
static __always_inline bool is_here(const struct address *address)
{
	return is_own(address) || bpf_map_lookup_elem(&endpoints, address);
}

/*
 * On the backend's node: an answer that has been translated, to the `node` that handed its flow over. A client of this
 * node gets it that way, too, as what leaves the host's stack cannot turn back here.
 */
__noinline int hand_back(struct __sk_buff *skb, const struct packet *p, const struct address *node,
			 struct verdict *verdict)
{
	struct remote *remote;

	if (!p || !node || !verdict)
		return 0;
	if (external_traffic == EXTERNAL_DSR && !is_here(&p->flow.destination)) {
		*verdict = answer(skb, p);
		return 0;
	}
	remote = find_remote(node);
	if (remote)
		*verdict = send_frame(skb, p, remote, (const __u8 *)gateway_mac, handback_mac, REASON_HANDED_BACK);
	else
		*verdict = drop(DROP_SERVICE_NODE);
	return 0;
}

/*
 * A packet of a Pod, or of this node itself, that answers what another node handed over; false, and no change, where
 * it is none.
 */
static __always_inline bool answer_known(struct __sk_buff *skb, struct packet *p, const struct known *known,
					 struct verdict *verdict)
{
	struct flow_state *state = known->state;
	struct address node;
	struct flow becomes;

	if (!state || state->kind != FLOW_HANDED_BACK || (!known->quotes && is_outdated(p, state)))
		return false;
	becomes = state->becomes;
	node = state->node;
	if (known->quotes) {
		translate_error(skb, p, &becomes);
	} else {
		keep_fresh(p, state);
		translate(skb, p, &becomes);
	}
	hand_back(skb, p, &node, verdict);
	return true;
}

/* The backend that a frame is for; false where it is not here. */
static __always_inline bool find_target(const struct packet *p, const struct target *target,
					struct address *backend)
{
	struct address *pod;
	__be32 suffix = target->suffix;

	if (!suffix) {
		*backend = own_address(p->v4);
		return true;
	}
	if (p->v4) {
		*backend = ipv4_mapped(suffix);
	} else {
		pod = bpf_map_lookup_elem(&suffixes, &suffix);
		if (!pod)
			return false;
		*backend = *pod;
	}
	return bpf_map_lookup_elem(&endpoints, backend);
}

/* Whether a packet goes on to the backend that its flow had before, although another node may say otherwise now. */
static __always_inline bool keeps_backend(const struct packet *p, const struct flow_state *state,
					  const struct selection *told)
{
	if (p->flow.protocol != IPPROTO_UDP && !p->opens)
		return true;
	return same_address(&state->becomes.destination, &told->backend.address) &&
	       state->becomes.destination_port == told->backend.port;
}

/*
 * A client of this node, a Pod or the node itself, came by another node to this node's own network. The host's stack
 * would take its packets for forged, and would answer it without the way back: so the Service itself speaks to the
 * stack (S-37, S-43).
 */
static __always_inline bool comes_round(const struct flow *flow, const struct selection *told)
{
	return is_own(&told->backend.address) && is_here(&flow->source);
}

/* On the backend's node: notes the flow as it is told, or goes on as before; `becomes` is what its packets get. */
static __always_inline void take_flow(struct packet *p, struct known *known, const struct address *node,
				      const struct selection *told, struct flow *becomes)
{
	struct flow_state state = { .becomes = p->flow, .node = *node, .kind = FLOW_TAKEN_OVER };
	struct flow_state *before = known->state;

	if (before && !is_answer(before) && keeps_backend(p, before, told)) {
		*becomes = before->becomes;
		if (!p->opens && before->kind == FLOW_TAKEN_OVER && same_address(&before->node, node)) {
			keep_fresh(p, before);
			return;
		}
		lead_to(&state, told);
		state.becomes = *becomes;
	} else {
		if (comes_round(&p->flow, told))
			state.becomes.source = p->flow.destination;
		lead_to(&state, told);
		if (has_ports(p))
			find_port(&p->flow, &state.becomes);
		*becomes = state.becomes;
	}
	note_flow(&p->flow, &state);
}

/* On the backend's node: a packet that another node handed over, out of its frame. */
__noinline int take_over(struct __sk_buff *skb, struct packet *p, const struct arrival *arrival,
			 struct verdict *verdict)
{
	struct selection told = { .set = SET_OF_OTHER_NODE };
	struct flow becomes;
	struct known known;

	if (!p || !arrival || !verdict)
		return 0;
	look_up(skb, p, &known);
	if (known.quotes) {
		if (!known.state || known.state->kind != FLOW_TAKEN_OVER) {
			*verdict = drop(DROP_HANDOVER_POD);
			return 0;
		}
		becomes = known.state->becomes;
		translate_error(skb, p, &becomes);
		*verdict = ask(skb, p, MARK_MASQUERADE);
		return 0;
	}
	told.backend.port = arrival->target.port;
	if (p->hop_limit <= 1 || !find_target(p, &arrival->target, &told.backend.address)) {
		*verdict = drop(DROP_HANDOVER_POD);
		return 0;
	}
	if (p->later && !p->flow.destination_port) {
		*verdict = drop(DROP_SERVICE_FRAGMENT);
		return 0;
	}
	take_flow(p, &known, &arrival->node, &told, &becomes);
	translate(skb, p, &becomes);
	*verdict = ask(skb, p, MARK_MASQUERADE);
	return 0;
}

/* The node of entry's side of a flow, by a packet that the backend's node handed back. */
static __always_inline struct flow_state *find_handed_over(struct __sk_buff *skb, struct packet *p)
{
	struct flow asked, flow = {};

	if (is_icmp(p) && !p->later && read_answer(skb, p, &flow)) {
		asked = answer_to(&flow);
	} else {
		if (p->fragment && !find_ports(skb, p))
			return NULL;
		asked = answer_to(&p->flow);
	}
	return bpf_map_lookup_elem(&flows, &asked);
}

/* On the node of entry: an answer that the backend's node handed back goes out, if that is the flow's node. */
__noinline int take_back(struct __sk_buff *skb, struct packet *p, const struct address *node,
			 struct verdict *verdict)
{
	struct flow_state *state;
	struct remote *remote;

	if (!p || !node || !verdict)
		return 0;
	*verdict = drop(DROP_HANDOVER_SENDER);
	state = find_handed_over(skb, p);
	if (!state || state->kind != FLOW_HANDED_OVER)
		return 0;
	remote = find_remote(&state->becomes.destination);
	if (!remote || !same_address(&remote->tunnel.node, node))
		return 0;
	if (seconds_since(state->used) >= FLOW_REFRESH)
		state->used = seconds();
	*verdict = answer(skb, p);
	return 0;
}
