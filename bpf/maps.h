/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Every map: who writes it, who reads it, what a missing entry means. All are pinned by name. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "contract.h"

/*
 * The Pods of this node.
 * Written by the agent before a Pod's link comes up. Read by all hooks.
 * Missing: the address is no Pod of this node.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct address);
	__type(value, struct endpoint);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} endpoints SEC(".maps");

/*
 * The other nodes: their Pod CIDRs and their own addresses.
 * Written by the agent from the Node objects. Read by all hooks.
 * Missing: outside the cluster, or this node; both are the host stack's.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, struct remote);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} remotes SEC(".maps");

/*
 * Answers that the host's stack waits for: connections that it sent on itself although there is a short
 * cut, most often because kube-proxy translated them. Its connection tracking must see both directions.
 * Written by the egress hooks, read by the ingress hooks, never by the agent.
 * Missing: the packet may take the short cut.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow);
	__type(value, __u8);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} stack_flows SEC(".maps");

/*
 * Packets and bytes by hook and reason, at index hook * REASON_COUNT + reason.
 * Written by every program's exit, read by user space.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOOK_COUNT * REASON_COUNT);
	__type(key, __u32);
	__type(value, struct counter);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} counters SEC(".maps");

/*
 * One struct drop_event for each dropped packet while there is room; `counters` has them all.
 * Written by every program's exit, read by the agent.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} drops SEC(".maps");
