/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The one way out of every program: what happens to the packet, why, and the record of it. */
#pragma once

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "../contract.h"
#include "../maps.h"
#include "packet.h"

struct verdict {
	int action; /* TC_ACT_UNSPEC: the next program, whoever attached it, then the host's stack */
	enum reason reason;
};

static __always_inline struct verdict pass(enum reason reason)
{
	return (struct verdict){ TC_ACT_UNSPEC, reason };
}

static __always_inline struct verdict drop(enum reason reason)
{
	return (struct verdict){ TC_ACT_SHOT, reason };
}

static __always_inline void report_drop(struct __sk_buff *skb, const struct packet *p, enum hook hook,
					enum reason reason)
{
	struct drop_event *event = bpf_ringbuf_reserve(&drops, sizeof(*event), 0);

	if (!event)
		return;
	event->time = bpf_ktime_get_boot_ns();
	event->flow = p->flow;
	event->ifindex = skb->ifindex;
	event->hook = hook;
	event->reason = reason;
	bpf_ringbuf_submit(event, 0);
}

static __always_inline int finish(struct __sk_buff *skb, const struct packet *p, enum hook hook,
				  struct verdict verdict)
{
	__u32 index = hook * REASON_COUNT + verdict.reason;
	struct counter *counter = bpf_map_lookup_elem(&counters, &index);

	if (counter) {
		counter->packets++;
		counter->bytes += skb->len;
	}
	if (verdict.reason >= DROP_FIRST)
		report_drop(skb, p, hook, verdict.reason);
	return verdict.action;
}
