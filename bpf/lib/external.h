/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * External to Service: what comes in from elsewhere and is for no Pod of this node by its destination. It goes to a
 * Pod here, or over to the node of its backend (handover.h).
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
#include "handover.h"
#include "packet.h"
#include "refuse.h"
#include "service.h"
#include "translate.h"
#include "verdict.h"
#include "ways.h"

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

#define SNAT_FIRST_PORT 61000 /* behind those that the kernel gives out by itself, and that masquerading uses */
#define SNAT_PORTS 4536

/* Gives the flow this node as its source, and a port that none of the backend's other flows has; false: all are taken. */
__noinline int take_source(const struct flow *flow, struct flow *becomes)
{
	struct flow_state *taken;
	struct flow key;

	if (!flow || !becomes)
		return false;
	becomes->source = own_address(is_ipv4_mapped(&flow->source));
	for (int i = 0; i < PORT_TRIES; i++) {
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

/*
 * What open_outside() says of a flow that it has only noted: enter() hands it over, as one that is known, where more of
 * the stack is left.
 */
static __always_inline struct verdict hand_over_next(void)
{
	return pass(REASON_HANDED_OVER);
}

static __always_inline bool is_handed_over_next(const struct verdict *verdict)
{
	return verdict->action == TC_ACT_UNSPEC && verdict->reason == REASON_HANDED_OVER;
}

/* A new flow from outside, and whom it goes to. */
static __always_inline struct verdict open_outside(struct __sk_buff *skb, struct packet *p,
						   const struct selection *selection)
{
	struct flow_state state = { .becomes = p->flow, .kind = FLOW_TRANSLATED };
	const struct address *backend = &selection->backend.address;
	bool elsewhere = !bpf_map_lookup_elem(&endpoints, backend) && find_remote(backend);

	lead_to(&state, selection);
	state.becomes.source = p->flow.source; /* a client outside that is its own backend is masqueraded */
	if (elsewhere && external_traffic != EXTERNAL_SNAT) {
		state.kind = FLOW_HANDED_OVER;
		note_flow(&p->flow, &state);
		return hand_over_next();
	}
	if (elsewhere && has_ports(p) && !take_source(&p->flow, &state.becomes))
		return drop(DROP_SERVICE_SNAT);
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
	if (enter_known(skb, p, &verdict))
		return verdict;
	enter_new(skb, p, &verdict);
	if (is_handed_over_next(&verdict) && !enter_known(skb, p, &verdict))
		return drop(DROP_SERVICE_FLOW);
	return verdict;
}
