// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The hooks on the devices that lead to other nodes: the uplinks and the overlay. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "lib/announce.h"
#include "lib/forward.h"
#include "lib/packet.h"
#include "lib/verdict.h"

/*
 * A frame of the overlay. Whatever is wrong with it is left to the VXLAN device and from_overlay, who
 * drop it with a reason.
 */
static __always_inline struct verdict judge_vxlan(struct __sk_buff *skb, struct packet *outer)
{
	struct packet inner = {};
	struct known known;
	enum reason reason;

	if (parse_at(skb, &inner, INNER_FRAME) != PARSED_IP)
		return pass(REASON_STACK);

	struct remote *remote = find_remote(&inner.flow.source);
	struct endpoint *local = bpf_map_lookup_elem(&endpoints, &inner.flow.destination);
	if (!remote || !local || !same_address(&remote->node, &outer->flow.source) ||
	    !same_address(&remote->source, &outer->flow.destination))
		return pass(REASON_STACK);
	look_up(skb, &inner, &known);
	if (needs_stack(&inner, &known, &reason))
		return pass(reason);
	if (!decapsulate(skb, &inner))
		return pass(REASON_STACK);
	move_up(&inner, INNER_FRAME);
	if (!translate_known(skb, &inner, &known) && inner.opens)
		forget_earlier(&inner);
	return hand_over(skb, &inner, local);
}

/* From another node or Pod of the cluster to a Pod here. All else needs the host's stack: masquerading
 * tracks the outside's connections in both directions. */
static __always_inline struct verdict judge_from_uplink(struct __sk_buff *skb, struct packet *p)
{
	enum parsed parsed = parse(skb, p);

	if (answer_announced(skb, p, parsed))
		return (struct verdict){ TC_ACT_REDIRECT, REASON_ANNOUNCED };
	if (parsed != PARSED_IP)
		return pass(REASON_STACK);
	if (is_plain_vxlan(skb, p))
		return judge_vxlan(skb, p);

	struct endpoint *local = bpf_map_lookup_elem(&endpoints, &p->flow.destination);
	if (!local || is_link_local(&p->flow.destination) || !find_remote(&p->flow.source))
		return pass(REASON_STACK);
	return deliver(skb, p, local);
}

SEC("tc")
int from_uplink(struct __sk_buff *skb)
{
	struct packet p = {};
	struct verdict verdict = judge_from_uplink(skb, &p);

	return finish(skb, &p, HOOK_FROM_UPLINK, verdict);
}

static __always_inline bool read_tunnel_key(struct __sk_buff *skb, struct bpf_tunnel_key *key,
					    struct address *sender)
{
	if (!bpf_skb_get_tunnel_key(skb, key, sizeof(*key), 0)) {
		*sender = ipv4_mapped(bpf_htonl(key->remote_ipv4));
		return true;
	}
	if (!bpf_skb_get_tunnel_key(skb, key, sizeof(*key), BPF_F_TUNINFO_IPV6)) {
		__builtin_memcpy(sender, key->remote_ipv6, sizeof(*sender));
		return true;
	}
	return false;
}

/* Nobody but a node may speak for its Pods: the outer sender is checked against the inner source. */
static __always_inline struct verdict judge_from_overlay(struct __sk_buff *skb, struct packet *p)
{
	struct bpf_tunnel_key key = {};
	struct address sender;
	enum parsed parsed = parse(skb, p);

	if (parsed != PARSED_IP)
		return drop(parsed == PARSED_MALFORMED ? DROP_MALFORMED : DROP_NOT_IP);
	if (!read_tunnel_key(skb, &key, &sender))
		return drop(DROP_OVERLAY_SENDER);
	if (key.tunnel_id != overlay_vni)
		return drop(DROP_OVERLAY_VNI);

	struct remote *remote = find_remote(&p->flow.source);
	if (!remote || !same_address(&remote->node, &sender))
		return drop(DROP_OVERLAY_SENDER);

	struct endpoint *local = bpf_map_lookup_elem(&endpoints, &p->flow.destination);
	return local ? deliver(skb, p, local) : pass(REASON_STACK);
}

SEC("tc")
int from_overlay(struct __sk_buff *skb)
{
	struct packet p = {};
	struct verdict verdict = judge_from_overlay(skb, &p);

	return finish(skb, &p, HOOK_FROM_OVERLAY, verdict);
}

/*
 * What the host's stack sends out. What it sends from a Pod here to another node or its Pods is noted. A
 * Service's address means nothing out there: whoever sends to it on this node and has a socket is translated
 * before (S-29).
 */
static __always_inline struct verdict see_off(struct __sk_buff *skb, struct packet *p)
{
	if (parse(skb, p) != PARSED_IP)
		return pass(REASON_DELIVERED);
	if (in_service_cidr(&p->flow.destination))
		return drop(DROP_SERVICE_HOST);
	if (bpf_map_lookup_elem(&endpoints, &p->flow.source) && find_remote(&p->flow.destination))
		remember_stack_flow(p);
	return pass(REASON_DELIVERED);
}

SEC("tc")
int to_uplink(struct __sk_buff *skb)
{
	struct verdict verdict = pass(REASON_DELIVERED);
	struct packet p = {};

	if (skb->mark == MARK_SHORT_CUT)
		skb->mark = 0;
	else
		verdict = see_off(skb, &p);
	return finish(skb, &p, HOOK_TO_UPLINK, verdict);
}

SEC("tc")
int to_overlay(struct __sk_buff *skb)
{
	struct verdict verdict = pass(REASON_DELIVERED);
	struct packet p = {};

	if (skb->mark == MARK_SHORT_CUT) {
		skb->mark = 0;
	} else {
		verdict = see_off(skb, &p);
		set_macs(skb, gateway_mac, overlay_source_mac);
	}
	return finish(skb, &p, HOOK_TO_OVERLAY, verdict);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
