/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * External to Service. A client's packet enters the cluster by some node. If the backend is a Pod of that node, it is
 * translated here. If not, the packet is handed over to the backend's node as it is, inside the overlay; that node
 * translates it, and hands the answers back. So the Pod sees the client's own address, and no node sends on the
 * underlay what does not come from itself.
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
#include "refuse.h"
#include "service.h"
#include "translate.h"
#include "verdict.h"

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

/* To the client of a Service, wherever it is. */
static __always_inline struct verdict answer(struct __sk_buff *skb, const struct packet *p)
{
	struct endpoint *local = bpf_map_lookup_elem(&endpoints, &p->flow.destination);
	struct remote *remote;

	if (local)
		return hand_in(skb, p, local);
	remote = find_remote(&p->flow.destination);
	if (remote)
		return send_to_node(skb, p, remote);
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
	struct endpoint *local = bpf_map_lookup_elem(&endpoints, &p->flow.destination);
	struct remote *remote;

	if (local)
		return hand_in(skb, p, local);
	remote = find_remote(&p->flow.destination);
	if (remote)
		return send_to_node(skb, p, remote);
	if (mark && !is_own(&p->flow.destination))
		skb->mark = mark;
	return pass(REASON_SERVICE);
}

/* Refuses a packet from outside, and sends the refusal where the packet came from. */
static __always_inline struct verdict refuse_outside(struct __sk_buff *skb, struct packet *p, enum reason reason)
{
	struct verdict verdict;

	if (!make_refusal(skb, p))
		return drop(reason);
	p->flow = answer_to(&p->flow);
	p->hop_limit = REFUSAL_HOP_LIMIT;
	verdict = answer(skb, p);
	return (struct verdict){ verdict.action == TC_ACT_UNSPEC ? TC_ACT_SHOT : verdict.action, reason };
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

/*
 * On the backend's node: the answer, whatever it is, once it has been translated. `state` is the one of the answers.
 */
__noinline int hand_back(struct __sk_buff *skb, const struct packet *p, const struct address *node,
			 struct verdict *verdict)
{
	struct remote *remote;

	if (!p || !node || !verdict)
		return 0;
	if (external_traffic == EXTERNAL_DSR) {
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

#define SNAT_FIRST_PORT 61000 /* behind those that the kernel gives out by itself, and that masquerading uses */
#define SNAT_PORTS 4536
#define SNAT_TRIES 16
#define SNAT_IDLE 7440 /* seconds: an idle TCP connection must be kept at least that long (RFC 5382, REQ-5) */

static __always_inline bool is_idle(const struct flow_state *state, __u8 protocol)
{
	return seconds_since(state->used) > (protocol == IPPROTO_UDP ? FLOW_IDLE : SNAT_IDLE);
}

/* Gives the flow this node as its source, and a port that none of the backend's other flows has; false: all are taken. */
__noinline int take_source(const struct flow *flow, struct flow *becomes)
{
	struct flow_state *taken;
	struct flow key;

	if (!flow || !becomes)
		return false;
	becomes->source = own_address(is_ipv4_mapped(&flow->source));
	for (int i = 0; i < SNAT_TRIES; i++) {
		becomes->source_port = bpf_htons(SNAT_FIRST_PORT + bpf_get_prandom_u32() % SNAT_PORTS);
		key = answer_to(becomes);
		taken = bpf_map_lookup_elem(&flows, &key);
		if (!taken || is_back(&taken->becomes, flow) || is_idle(taken, flow->protocol))
			return true;
	}
	return false;
}

/* The backend of a new flow; the same on every node. A function of its own for its stack. */
__noinline int choose_alike(__u32 service, const struct flow *flow, struct selection *selection)
{
	if (!flow || !selection)
		return CHOICE_DROP;
	return choose(service, &flow->source, flow, selection);
}

/* A new flow from outside, and whom it goes to. */
static __always_inline struct verdict open_outside(struct __sk_buff *skb, struct packet *p,
						   const struct selection *selection)
{
	struct flow_state state = { .becomes = p->flow, .kind = FLOW_TRANSLATED };
	const struct address *backend = &selection->backend.address;
	bool elsewhere = !bpf_map_lookup_elem(&endpoints, backend) && find_remote(backend);
	struct verdict verdict = drop(DROP_SERVICE_SNAT);

	lead_to(&state, selection);
	if (elsewhere && external_traffic != EXTERNAL_SNAT) {
		state.kind = FLOW_HANDED_OVER;
		note_flow(&p->flow, &state);
		hand_over(skb, p, &state.becomes, &verdict);
		return verdict;
	}
	if (elsewhere && has_ports(p) && !take_source(&p->flow, &state.becomes))
		return verdict;
	if (!elsewhere && has_ports(p))
		find_port(&p->flow, &state.becomes);
	note_flow(&p->flow, &state);
	translate(skb, p, &state.becomes);
	return ask(skb, p, MARK_MASQUERADE);
}

/* A packet to a frontend, of which nothing is known yet. `service`: what it leads to from outside. */
static __always_inline struct verdict judge_frontend(struct __sk_buff *skb, struct packet *p, __u32 service)
{
	struct selection selection = {};

	if (p->later && !p->flow.destination_port)
		return drop(DROP_SERVICE_FRAGMENT);
	if (service == SERVICE_NO_PORT)
		return refuse_outside(skb, p, DROP_SERVICE_PORT);
	switch (choose_alike(service, &p->flow, &selection)) {
	case CHOICE_REFUSE:
		return refuse_outside(skb, p, DROP_SERVICE_EMPTY);
	case CHOICE_DROP:
		return drop(DROP_SERVICE_LOCAL);
	default:
		return open_outside(skb, p, &selection);
	}
}

/* What a flow from outside is led to: an index into `services`, or an enum service_index. */
__noinline __u32 find_service_outside(const struct flow *flow)
{
	struct frontend frontend;

	if (!flow)
		return SERVICE_NONE;
	frontend = frontend_of(flow);
	return find_service(&frontend, &flow->source, SIDE_OUTSIDE);
}

/*
 * Amid a connection, only an address that may move from node to node is a Service's without doubt: to the node's own
 * addresses come the answers to what it asked itself, from whatever port.
 */
static __always_inline struct verdict judge_unknown(struct __sk_buff *skb, struct packet *p)
{
	__u32 service;

	if (is_loopback(&p->flow.destination) || is_multicast(&p->flow.destination) ||
	    (p->flow.protocol == IPPROTO_TCP && !p->opens && is_own(&p->flow.destination)))
		return pass(REASON_STACK);
	service = find_service_outside(&p->flow);
	if (service == SERVICE_NONE || service == SERVICE_OF_NODE)
		return pass(REASON_STACK);
	if (service == SERVICE_UNALLOCATED)
		return drop(DROP_SERVICE_UNALLOCATED);
	if (service == SERVICE_CLOSED)
		return drop(DROP_SERVICE_SOURCE);
	return judge_frontend(skb, p, service);
}

/* What another node had handed over before comes straight to us: the address has moved here. */
static __always_inline bool go_on_here(const struct packet *p, struct flow_state *state)
{
	if (p->opens || p->flow.protocol == IPPROTO_UDP)
		return false;
	state->kind = FLOW_TRANSLATED;
	note_answers(&p->flow, state);
	return true;
}

/* By what is known of its flow; false, and no change, where it has to be seen as a new one. */
static __always_inline bool judge_known(struct __sk_buff *skb, struct packet *p, struct known *known,
					struct verdict *verdict)
{
	struct flow_state *state = known->state;
	bool answers;

	if (!state)
		return false;
	if (state->kind == FLOW_HANDED_OVER) {
		if (!known->quotes && !goes_on(p, state))
			return false;
		if (!known->quotes)
			keep_fresh(p, state);
		hand_over(skb, p, &state->becomes, verdict);
		return true;
	}
	if (state->kind == FLOW_TAKEN_OVER && !known->quotes && !go_on_here(p, state))
		return false;
	answers = is_answer(state);
	if (!translate_known(skb, p, known))
		return false;
	*verdict = answers ? answer(skb, p) : ask(skb, p, MARK_MASQUERADE);
	return true;
}

/* What is known of a packet's flow says where it goes: whether that is so. An error's flow is known, or not ours. */
__noinline int enter_known(struct __sk_buff *skb, struct packet *p, struct verdict *verdict)
{
	struct known known;

	if (!p || !verdict)
		return true;
	look_up(skb, p, &known);
	return judge_known(skb, p, &known, verdict) || known.quotes;
}

/* A new flow, maybe to a Service. */
__noinline int enter_new(struct __sk_buff *skb, struct packet *p, struct verdict *verdict)
{
	if (p && verdict)
		*verdict = judge_unknown(skb, p);
	return 0;
}

/* A packet that comes in from elsewhere, and is for no Pod of this node by its destination. */
static __always_inline struct verdict enter(struct __sk_buff *skb, struct packet *p)
{
	struct verdict verdict = pass(REASON_STACK);

	if (p->hop_limit <= 1)
		return pass(REASON_HOP_LIMIT);
	if (!enter_known(skb, p, &verdict))
		enter_new(skb, p, &verdict);
	return verdict;
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
