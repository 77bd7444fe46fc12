// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The two hooks on the host's side of a Pod's veth. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "lib/forward.h"
#include "lib/handover.h"
#include "lib/packet.h"
#include "lib/refuse.h"
#include "lib/service.h"
#include "lib/verdict.h"
#include "lib/ways.h"

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

/* Translates the first packet of a flow to a Service. */
static __always_inline struct verdict open_service(struct __sk_buff *skb, struct packet *p, __u32 service)
{
	struct flow_state state = { .becomes = p->flow, .kind = FLOW_TRANSLATED };
	struct selection selection = {};

	switch (choose(service, &p->flow.source, NULL, &selection)) {
	case CHOICE_REFUSE:
		return refuse(skb, p, DROP_SERVICE_EMPTY);
	case CHOICE_DROP:
		return drop(DROP_SERVICE_LOCAL);
	default:
		break;
	}
	lead_to(&state, &selection);
	if (has_ports(p))
		find_port(&p->flow, &state.becomes);
	note_flow(&p->flow, &state);
	translate(skb, p, &state.becomes);
	return ask(skb, p, 0);
}

static __always_inline struct verdict judge_service(struct __sk_buff *skb, struct packet *p,
						    const struct known *known)
{
	struct frontend frontend = frontend_of(&p->flow);
	__u32 service = find_service(&frontend, &p->flow.source, SIDE_INSIDE);

	if (service == SERVICE_NONE || service == SERVICE_OF_NODE)
		return pass(REASON_STACK);
	if (service == SERVICE_UNALLOCATED)
		return drop(DROP_SERVICE_UNALLOCATED);
	if (service == SERVICE_CLOSED)
		return drop(DROP_SERVICE_SOURCE);
	if (p->hop_limit <= 1)
		return pass(REASON_HOP_LIMIT);
	if (known->quotes) /* an error is never answered with an error */
		return drop(DROP_SERVICE_FLOW);
	if (p->later && !p->flow.destination_port)
		return drop(DROP_SERVICE_FRAGMENT);
	if (service == SERVICE_NO_PORT)
		return refuse(skb, p, DROP_SERVICE_PORT);
	if (p->flow.protocol == IPPROTO_TCP && !p->opens)
		return is_own(&p->flow.destination) ? pass(REASON_STACK) : refuse(skb, p, DROP_SERVICE_FLOW);
	return open_service(skb, p, service);
}

/* To a Service, or from one, by what is known of the flow; false, and no change, where it has to be seen as new. */
static __always_inline bool go_known(struct __sk_buff *skb, struct packet *p, struct known *known,
				     struct verdict *verdict)
{
	bool answers = known->state && is_answer(known->state);

	if (answer_known(skb, p, known, verdict))
		return true;
	if (!translate_known(skb, p, known))
		return false;
	*verdict = answers ? answer(skb, p) : ask(skb, p, 0);
	return true;
}

/* Everything but the sender is beyond doubt: it may be a short cut, a Service, or the host stack's. */
static __always_inline struct verdict judge_sent(struct __sk_buff *skb, struct packet *p)
{
	const struct address *to = &p->flow.destination;
	struct endpoint *local;
	struct remote *remote;
	struct verdict verdict;
	struct known known;
	enum reason reason;

	look_up(skb, p, &known);
	if (p->hop_limit > 1 && go_known(skb, p, &known, &verdict))
		return verdict;
	local = bpf_map_lookup_elem(&endpoints, to);
	remote = local ? NULL : find_remote(to);
	if (!local && !remote)
		return judge_service(skb, p, &known);
	if (needs_stack(p, &known, &reason))
		return pass(reason);
	see_untranslated(p);
	return local ? hand_in(skb, p, local) : send_to_node(skb, p, remote);
}

static __always_inline struct verdict judge_ip(struct __sk_buff *skb, struct packet *p)
{
	const struct address *to = &p->flow.destination;
	enum reason reason;

	if (is_unnumbered(p))
		return pass(REASON_STACK);
	if (is_spoofed(skb, &p->flow.source, p->mac, &reason))
		return drop(reason);
	if (is_link_local(to) || is_link_local(&p->flow.source) || is_multicast(to) || is_loopback(to))
		return pass(REASON_STACK);
	return judge_sent(skb, p);
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
static __always_inline void see_to_pod(struct __sk_buff *skb, struct packet *p)
{
	struct known known;

	look_up(skb, p, &known);
	if (!translate_known(skb, p, &known) &&
	    (bpf_map_lookup_elem(&endpoints, &p->flow.source) || find_remote(&p->flow.source)))
		remember_stack_flow(p);
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	struct packet p = {};

	if (parse(skb, &p) == PARSED_IP)
		see_to_pod(skb, &p);
	return finish(skb, &p, HOOK_TO_POD, pass(REASON_DELIVERED));
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
