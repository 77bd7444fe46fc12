// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The hooks on the devices that lead to other nodes: the uplinks and the overlay. */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <bpf/bpf_helpers.h>

#include "lib/announce.h"
#include "lib/external.h"
#include "lib/forward.h"
#include "lib/handover.h"
#include "lib/packet.h"
#include "lib/verdict.h"

/* To the Pod `local` or, if that is NULL, into the cluster by this node, or into the node itself. */
static __always_inline struct verdict let_in(struct __sk_buff *skb, struct packet *p, const struct endpoint *local)
{
	struct verdict verdict = pass(REASON_STACK);

	if (!local)
		return enter(skb, p);
	deliver(skb, p, local, false, &verdict);
	return verdict;
}

/* What a node handed over, or handed back, out of its frame. */
static __always_inline struct verdict receive(struct __sk_buff *skb, struct packet *p,
					      const struct arrival *arrival)
{
	struct verdict verdict = drop(DROP_HANDOVER_SENDER);

	if (is_handed_over(p))
		take_over(skb, p, arrival, &verdict);
	else
		take_back(skb, p, &arrival->node, &verdict);
	return verdict;
}

/*
 * Makes `p`, the headers of an overlay's packet, those of what is in it. False where that is not IP, or from a host
 * that is not the node which it would have to be from, or sent to an address that we do not tell that node.
 */
__noinline int look_inside(struct __sk_buff *skb, struct packet *p, struct arrival *arrival)
{
	struct packet inner = {};
	struct remote *remote;
	struct way *way;
	bool handed;

	if (!p || !arrival || parse_at(skb, &inner, INNER_FRAME) != PARSED_IP)
		return false;
	handed = is_between_nodes(&inner);
	remote = find_remote(handed ? &p->flow.source : &inner.flow.source);
	if (!remote)
		return false;
	way = handed ? &remote->tunnel : &remote->way;
	if (!same_address(&way->node, &p->flow.source) || !same_address(&way->source, &p->flow.destination))
		return false;
	arrival->node = p->flow.source;
	*p = inner;
	return true;
}

/* Whatever is wrong with a frame is left to the VXLAN device and from_overlay, who drop it with a reason. */
static __always_inline struct verdict judge_vxlan(struct __sk_buff *skb, struct packet *p)
{
	struct verdict verdict = pass(REASON_STACK);
	struct arrival arrival = {};

	if (!look_inside(skb, p, &arrival))
		return verdict;
	if (!is_between_nodes(p)) {
		deliver(skb, p, bpf_map_lookup_elem(&endpoints, &p->flow.destination), true, &verdict);
		return verdict;
	}
	if (bpf_skb_load_bytes(skb, INNER_FRAME, &arrival.target, sizeof(arrival.target)) || !take_out(skb, p))
		return verdict;
	return receive(skb, p, &arrival);
}

/*
 * From another node or Pod of the cluster to a Pod here. What the outside sends to a Pod needs the host's stack, which
 * tracks connections that it masquerades in both directions.
 */
static __always_inline struct verdict judge_from_uplink(struct __sk_buff *skb, struct packet *p)
{
	enum parsed parsed = parse(skb, p);
	struct endpoint *local;

	if (answer_announced(skb, p, parsed))
		return (struct verdict){ TC_ACT_REDIRECT, REASON_ANNOUNCED };
	if (parsed != PARSED_IP)
		return pass(REASON_STACK);
	if (is_plain_vxlan(skb, p))
		return judge_vxlan(skb, p);
	if (is_link_local(&p->flow.destination))
		return pass(REASON_STACK);
	local = bpf_map_lookup_elem(&endpoints, &p->flow.destination);
	if (!local || find_remote(&p->flow.source))
		return let_in(skb, p, local);
	see_untranslated(p); /* the client may have come by a Service from the same port before */
	return pass(REASON_STACK);
}

SEC("tc")
int from_uplink(struct __sk_buff *skb)
{
	struct packet p = {};
	struct verdict verdict = judge_from_uplink(skb, &p);

	return finish(skb, &p, HOOK_FROM_UPLINK, verdict);
}

/* Which node sent what the VXLAN device opened; what it returns is a reason to drop it, or REASON_OVERLAY. */
__noinline int read_sender(struct __sk_buff *skb, struct address *sender)
{
	struct bpf_tunnel_key key = {};

	if (!sender)
		return DROP_OVERLAY_SENDER;
	if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0))
		*sender = ipv4_mapped(bpf_htonl(key.remote_ipv4));
	else if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6))
		__builtin_memcpy(sender, key.remote_ipv6, sizeof(*sender));
	else
		return DROP_OVERLAY_SENDER;
	return key.tunnel_id == overlay_vni ? REASON_OVERLAY : DROP_OVERLAY_VNI;
}

/* The frame's MAC says something else than a MAC, and the device took it for somebody else's. */
static __always_inline struct verdict receive_from_device(struct __sk_buff *skb, struct packet *p,
							  struct arrival *arrival)
{
	struct remote *remote = find_remote(&arrival->node);

	if (!remote || !same_address(&remote->tunnel.node, &arrival->node) ||
	    bpf_skb_load_bytes(skb, 0, &arrival->target, sizeof(arrival->target)))
		return drop(DROP_HANDOVER_SENDER);
	bpf_skb_change_type(skb, PACKET_HOST);
	return receive(skb, p, arrival);
}

/* Nobody but a node may speak for its Pods: the outer sender is checked against the inner source. */
static __always_inline struct verdict judge_from_overlay(struct __sk_buff *skb, struct packet *p)
{
	struct arrival arrival = {};
	enum parsed parsed = parse(skb, p);
	struct remote *remote;
	enum reason reason;

	if (parsed != PARSED_IP)
		return drop(parsed == PARSED_MALFORMED ? DROP_MALFORMED : DROP_NOT_IP);
	reason = read_sender(skb, &arrival.node);
	if (reason != REASON_OVERLAY)
		return drop(reason);
	if (is_between_nodes(p))
		return receive_from_device(skb, p, &arrival);
	remote = find_remote(&p->flow.source);
	if (!remote || !same_address(&remote->way.node, &arrival.node))
		return drop(DROP_OVERLAY_SENDER);
	return let_in(skb, p, bpf_map_lookup_elem(&endpoints, &p->flow.destination));
}

SEC("tc")
int from_overlay(struct __sk_buff *skb)
{
	struct packet p = {};
	struct verdict verdict = judge_from_overlay(skb, &p);

	return finish(skb, &p, HOOK_FROM_OVERLAY, verdict);
}

/*
 * What the host's stack sends out. This node itself may be a Service's backend, whose answers are translated. What
 * the stack sends from a Pod here to another node or its Pods is noted. A Service's address means nothing out there:
 * whoever sends to it on this node and has a socket is translated before (S-29).
 */
static __always_inline struct verdict see_off(struct __sk_buff *skb, struct packet *p)
{
	struct verdict verdict;
	struct known known;

	if (parse(skb, p) != PARSED_IP)
		return pass(REASON_DELIVERED);
	look_up(skb, p, &known);
	if (answer_known(skb, p, &known, &verdict))
		return verdict;
	if (is_translated(&known) && is_answer(known.state) && translate_known(skb, p, &known))
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
