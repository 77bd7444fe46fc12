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

/* This node's own address of each family: IPv4's at 0, IPv6's at 1. Written by the agent. Zero: it has none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct address);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} self SEC(".maps");

/*
 * This node's Pods that have an IPv6 address, by its last 32 bits: that much of it, or a whole IPv4 address, fits
 * into the frame by which another node hands a client's packet over.
 * Written by the agent with `endpoints`, read by the hooks of the underlay. Missing: no Pod of this node.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __be32);
	__type(value, struct address);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} suffixes SEC(".maps");

/*
 * The addresses that this node has, with enum own_flags.
 * Written by the agent as the kernel has them; read by all that look for Services. Missing: not this node's.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct address);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} own_addresses SEC(".maps");

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
 * Flows whose packets are not simply forwarded, each direction for itself: translated ones, and answers that
 * the host's stack waits for because it sent the other direction on although there is a short cut.
 * Written and read by the hooks on packets, never by the agent.
 * Missing: the packet goes as it is, by the short cut.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1048576);
	__type(key, struct flow);
	__type(value, struct flow_state);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} flows SEC(".maps");

/*
 * Ports of packets that come in fragments.
 * Written by the first fragment, read by the others. Missing: the first one has not been here.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct fragment);
	__type(value, struct ports);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} fragments SEC(".maps");

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

/*
 * The Service table. A reader goes frontends -> services -> sets -> backends. The one word in `services` is
 * what makes a change atomic: it names a set that was written before, and is never changed after. The agent
 * frees what it took out only when no program that could have seen it still runs.
 *
 * Where Services are reached, and what each frontend leads to.
 * Written by the agent, read by all that look for Services. Missing: see `service_cidrs`.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct frontend);
	__type(value, struct lead);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} frontends SEC(".maps");

/*
 * The present set of each port of a Service, by index. Written by the agent. 0: the index is free. No index is below
 * SERVICE_FIRST; at 0 the agent keeps the last number that it gave a set, for the next agent.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 131072);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} services SEC(".maps");

/* Sets of backends, by number. Written by the agent. Missing: never, for a number that `services` holds. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct backend_set);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} sets SEC(".maps");

/* The backends of each set. Written by the agent. Missing: the index is not below the set's count. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 524288);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct slot);
	__type(value, struct backend);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} backends SEC(".maps");

/*
 * Maglev's rings: from a flow's hash to a backend, for sets that clients outside are led by. Each set's is in a
 * part of its own, which its header names. The same endpoints make the same ring on every node.
 * Written by the agent. An array: nothing is missing.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2097152);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct ring_entry);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} rings SEC(".maps");

/*
 * From where a Service with loadBalancerSourceRanges may be reached, by the guard of its frontends.
 * Written by the agent before a frontend names the guard. Missing: from there it may not.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct source_range);
	__type(value, __u8);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} source_ranges SEC(".maps");

/*
 * For which addresses this node answers ARP and neighbour discovery, and until when.
 * Written by the agent while it holds the address's lease. Missing: whoever has the address answers.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct announcement_key);
	__type(value, struct announcement);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} announcements SEC(".maps");

/*
 * Which backends are in a set, for the sets of which this is asked: those of Services with affinity, and those
 * that say who may keep old UDP flows. Written by the agent. Missing: the backend is not in the set.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct member);
	__type(value, __u8);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} members SEC(".maps");

/*
 * Where Services' addresses are taken from.
 * Written by the agent from the ServiceCIDR objects. Missing: whoever is no frontend is no Service.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u8);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} service_cidrs SEC(".maps");

/*
 * Whom the clients of Services with session affinity stay with, the same for all that choose.
 * Written and read by whoever chooses a backend. Missing: a new client.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct affinity_key);
	__type(value, struct affinity);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} affinities SEC(".maps");

/*
 * How often a backend was chosen, by index in `services`. Written by whoever chooses, read by user space. Not per CPU:
 * that would take a MB for each, and a connection opens once.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 131072);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} service_hits SEC(".maps");

/*
 * Network namespaces by their cookie: this node's, and those of its Pods.
 * Written by the agent. Missing: nested in a Pod, or another node's; its sockets are left alone.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct client);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} clients SEC(".maps");

/*
 * What a connected socket asked for; it goes with the socket.
 * Written at connect, read for getpeername and recvmsg. Missing: the peer is what the socket says.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct socket_peer);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} socket_peers SEC(".maps");

/*
 * Whom UDP sockets exchange datagrams with by way of Services.
 * Written at connect and sendmsg, read at sendmsg and recvmsg, and by the agent, who ends sockets that are
 * connected to a backend that is no more. Missing: nothing was sent to that Service yet.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct socket_flow_key);
	__type(value, struct socket_flow);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} socket_flows SEC(".maps");
