/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What is remembered of flows: those that are translated, and those that the host's stack waits for. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../contract.h"
#include "../maps.h"
#include "packet.h"
#include "service.h"
#include "translate.h"

#define FLOW_REFRESH 30 /* seconds after which a flow in use is noted anew, in both directions */
#define FLOW_IDLE 180   /* seconds for which answers of UDP may come: conntrack's timeout of a stream, too */

/* A packet's flow, if anything is known of it. */
struct known {
	struct flow_state *state; /* of the direction that the packet goes in; NULL: nothing */
	bool quotes;              /* the packet is an ICMP error: it belongs to the flow that it quotes */
};

/* Gives a fragment the ports of its packet; false where the first fragment has not been here. */
static __always_inline bool find_ports(struct __sk_buff *skb, struct packet *p)
{
	struct fragment key = {
		.source = p->flow.source,
		.destination = p->flow.destination,
		.id = p->id,
		.protocol = p->flow.protocol,
	};
	struct ports *known, ports;

	if (p->later) {
		known = bpf_map_lookup_elem(&fragments, &key);
		if (!known)
			return false;
		ports = *known;
	} else if (bpf_skb_load_bytes(skb, p->transport, &ports, sizeof(ports))) {
		return false;
	} else {
		bpf_map_update_elem(&fragments, &key, &ports, BPF_ANY);
	}
	p->flow.source_port = ports.source;
	p->flow.destination_port = ports.destination;
	return true;
}

static __always_inline bool is_icmp(const struct packet *p)
{
	return p->flow.protocol == IPPROTO_ICMP || p->flow.protocol == IPPROTO_ICMPV6;
}

/*
 * Whether the packet is an ICMP error; `answer` is then the flow that it belongs to: what it quotes, seen from
 * the other end. A function of its own, as those below: the verifier looks at it once.
 */
__noinline int read_answer(struct __sk_buff *skb, const struct packet *p, struct flow *answer)
{
	struct packet quoted = {};

	if (!p || !answer || !read_quoted(skb, p, &quoted))
		return false;
	*answer = answer_to(&quoted.flow);
	return true;
}

static __always_inline void look_up(struct __sk_buff *skb, struct packet *p, struct known *known)
{
	struct flow flow = {};

	known->state = NULL;
	known->quotes = is_icmp(p) && !p->later && read_answer(skb, p, &flow);
	if (known->quotes)
		known->state = bpf_map_lookup_elem(&flows, &flow);
	else if (!p->fragment || find_ports(skb, p))
		known->state = bpf_map_lookup_elem(&flows, &p->flow);
}

static __always_inline bool is_stack_flow(const struct known *known)
{
	return known->state && known->state->kind == FLOW_OF_STACK;
}

static __always_inline bool is_translated(const struct known *known)
{
	return known->state && known->state->kind == FLOW_TRANSLATED;
}

/* In the place of a set's number: another node has chosen. */
#define SET_OF_OTHER_NODE 0xffffffff

/* Translations towards a backend name a set; those of its answers do not. */
static __always_inline bool is_answer(const struct flow_state *state)
{
	return !state->set;
}

/* Whether `back` is the other direction of `flow`. */
static __always_inline bool is_back(const struct flow *back, const struct flow *flow)
{
	return same_address(&back->source, &flow->destination) && same_address(&back->destination, &flow->source) &&
	       back->source_port == flow->destination_port && back->destination_port == flow->source_port;
}

static __always_inline bool leads_alike(const struct flow_state *a, const struct flow_state *b)
{
	return a->kind == b->kind && a->service == b->service && a->set == b->set && same_address(&a->node, &b->node);
}

/*
 * The answers to `flow` come back from the backend as `state` says. Where that is known, from an earlier connection
 * with the same ends, nothing is written: that takes twice the time. A function of its own for its stack: older
 * kernels count each in steps of 32 bytes, and allow 512 in all.
 */
__noinline int note_answers(const struct flow *flow, const struct flow_state *state)
{
	struct flow_state answers = { .used = seconds(), .kind = FLOW_TRANSLATED }, *known;
	struct flow key;

	if (!flow || !state)
		return 0;
	answers.service = state->service;
	if (state->kind == FLOW_TAKEN_OVER) {
		answers.kind = FLOW_HANDED_BACK;
		answers.node = state->node;
	}
	key = answer_to(&state->becomes);
	known = bpf_map_lookup_elem(&flows, &key);
	if (known && is_back(&known->becomes, flow) && leads_alike(known, &answers)) {
		known->used = answers.used;
		return 0;
	}
	answers.becomes = answer_to(flow);
	bpf_map_update_elem(&flows, &key, &answers, BPF_ANY);
	return 0;
}

/* From now on `flow` goes to the backend as `state` says, and its answers come back. */
static __always_inline void note_flow(const struct flow *flow, const struct flow_state *state)
{
	if (state->kind != FLOW_HANDED_OVER) /* the backend's node sees to these */
		note_answers(flow, state);
	bpf_map_update_elem(&flows, flow, state, BPF_ANY);
}

/*
 * Whom the flow goes to, and who has chosen. A Pod that is its own backend would take its own address as source
 * for a forgery, so there the Service itself speaks to it (N-09, S-52).
 */
static __always_inline void lead_to(struct flow_state *state, const struct selection *selection)
{
	if (same_address(&selection->backend.address, &state->becomes.source))
		state->becomes.source = state->becomes.destination;
	state->becomes.destination = selection->backend.address;
	state->becomes.destination_port = selection->backend.port;
	state->service = selection->service;
	state->set = selection->set;
	state->used = seconds();
}

#define CONNECTION_IDLE 7440 /* seconds: an idle TCP connection must be kept at least that long (RFC 5382, REQ-5) */

static __always_inline bool is_idle(const struct flow_state *state, __u8 protocol)
{
	return seconds_since(state->used) > (protocol == IPPROTO_UDP ? FLOW_IDLE : CONNECTION_IDLE);
}

#define PORT_TRIES 16
#define FIRST_PORT 1024
#define PORTS 64512 /* all that need no privilege: a client has used up its own ephemeral ones soon */

/*
 * From one port a client may reach one backend by two Services at once, and the backend could not tell the two
 * flows apart. The later one gets another port then, as connection tracking does (S-53). Where it finds none,
 * it takes the answers. A port that an earlier connection had is better left alone: the backend may remember it for
 * a minute, and take the new one's SYN for an old packet (PAWS, RFC 7323).
 */
__noinline int find_port(const struct flow *flow, struct flow *becomes)
{
	struct flow_state *taken;
	struct flow key;

	if (!flow || !becomes)
		return 0;
	for (int i = 0; i < PORT_TRIES; i++) {
		key = answer_to(becomes);
		taken = bpf_map_lookup_elem(&flows, &key);
		if (!taken || taken->kind == FLOW_OF_STACK || is_back(&taken->becomes, flow) ||
		    is_idle(taken, flow->protocol))
			return 0;
		becomes->source_port = bpf_htons(FIRST_PORT + bpf_get_prandom_u32() % PORTS);
	}
	return 0;
}

static __always_inline struct backend backend_of(const struct flow *becomes)
{
	return (struct backend){ .address = becomes->destination, .port = becomes->destination_port };
}

static __always_inline struct frontend frontend_of(const struct flow *flow)
{
	return (struct frontend){
		.address = flow->destination,
		.port = flow->destination_port,
		.protocol = flow->protocol,
	};
}

/*
 * Whether a packet may go on to the backend that was chosen for its flow. Connections keep theirs to the end;
 * a new one, which may have the ends of an older one, keeps it while the set is the same, so that a repeated
 * SYN does not lead to another one. Of UDP see may_stay(). An index in `services` may be another Service's by
 * now: what the flow's frontend leads to decides.
 */
static __always_inline bool goes_on(const struct packet *p, struct flow_state *state)
{
	struct frontend frontend = frontend_of(&p->flow);
	struct backend backend;
	struct lead *lead;
	__u32 set;

	if (p->flow.protocol != IPPROTO_UDP && !p->opens)
		return true;
	set = present_set(state->service);
	if (set == state->set && !p->opens)
		return true;
	lead = find_lead(&frontend);
	if (!lead || (lead->inside != state->service && lead->outside != state->service) ||
	    (p->opens && !is_let_in(lead->guard, &p->flow.source)))
		return false;
	if (set == state->set)
		return true;
	backend = backend_of(&state->becomes);
	if (p->opens || !may_stay(set, &backend))
		return false;
	state->set = set;
	return true;
}

/* Whether the answers to a flow are led back. A function of its own for its stack. */
__noinline int has_answers(const struct flow_state *state)
{
	struct flow key;

	if (!state)
		return false;
	key = answer_to(&state->becomes);
	return bpf_map_lookup_elem(&flows, &key) != NULL;
}

/*
 * Packets of either direction keep a flow alive; those to the backend see to its answers, too. A connection with
 * the ends of an earlier one does so at once: another one to the same backend may have had them in between. So does
 * a datagram: see forget_answers().
 */
static __always_inline void keep_fresh(const struct packet *p, struct flow_state *state)
{
	bool lost = p->flow.protocol == IPPROTO_UDP && !is_answer(state) && state->kind != FLOW_HANDED_OVER &&
		    !has_answers(state);

	if (!p->opens && !lost && seconds_since(state->used) < FLOW_REFRESH)
		return;
	state->used = seconds();
	if (!is_answer(state) && state->kind != FLOW_HANDED_OVER)
		note_answers(&p->flow, state);
}

/* Datagrams with the ends of a flow that has not been used for long are of another one. */
static __always_inline bool is_outdated(const struct packet *p, const struct flow_state *state)
{
	return p->opens || (p->flow.protocol == IPPROTO_UDP && seconds_since(state->used) > FLOW_IDLE);
}

/*
 * Translates the packet as is known of its flow; false, and no change, where it has to be seen as a new one.
 */
static __always_inline bool translate_known(struct __sk_buff *skb, struct packet *p, struct known *known)
{
	struct flow_state *state = known->state;
	struct flow becomes;

	if (!is_translated(known))
		return false;
	becomes = state->becomes;
	if (known->quotes) {
		translate_error(skb, p, &becomes);
		return true;
	}
	if (is_answer(state) ? is_outdated(p, state) : !goes_on(p, state))
		return false;
	keep_fresh(p, state);
	translate(skb, p, &becomes);
	return true;
}

static __always_inline void forget(const struct flow *flow)
{
	if (bpf_map_lookup_elem(&flows, flow))
		bpf_map_delete_elem(&flows, flow);
}

/*
 * A connection that begins as it is: what is remembered of an earlier one with the same ends would send its
 * answers to the host's stack, which never saw the beginning, or would translate them.
 */
static __always_inline void forget_earlier(const struct packet *p)
{
	struct flow answer = answer_to(&p->flow);

	forget(&p->flow);
	forget(&answer);
}

/*
 * A datagram that goes to a Pod as it is, from a port that was used for a Service of this Pod, too: the Pod cannot
 * tell the two flows apart, and the answers are now this one's. The other one's next datagram takes them back.
 */
static __always_inline void forget_answers(const struct packet *p)
{
	struct flow answer = answer_to(&p->flow);
	struct flow_state *state = bpf_map_lookup_elem(&flows, &answer);

	if (state && state->kind != FLOW_OF_STACK && is_answer(state))
		bpf_map_delete_elem(&flows, &answer);
}

/* A packet that goes to a Pod as it is. */
static __always_inline void see_untranslated(const struct packet *p)
{
	if (p->opens)
		forget_earlier(p);
	else if (p->flow.protocol == IPPROTO_UDP)
		forget_answers(p);
}

/*
 * The host's stack sends a packet on from a Pod, or to one: it is to see the answers, too. Only what
 * could come back by a short cut matters: between Pods, or between a Pod and another node.
 */
static __always_inline void remember_stack_flow(const struct packet *p)
{
	struct flow answer = answer_to(&p->flow);
	struct flow_state state = { .kind = FLOW_OF_STACK };

	if (!p->fragment && !bpf_map_lookup_elem(&flows, &answer))
		bpf_map_update_elem(&flows, &answer, &state, BPF_ANY);
}
