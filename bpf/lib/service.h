/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Pod to Service: which backend a new connection goes to. The same for sockets and for packets. */
#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../contract.h"
#include "../maps.h"

#define NS_PER_SECOND 1000000000ULL

/* Who was chosen, or why nobody was. */
enum choice {
	CHOICE_BACKEND,
	CHOICE_REFUSE, /* no endpoint anywhere */
	CHOICE_DROP,   /* none on this node */
};

struct selection {
	struct backend backend;
	__u32 service;
	__u32 set;
};

static __always_inline __u32 seconds(void)
{
	return bpf_ktime_get_coarse_ns() / NS_PER_SECOND;
}

/* 0, and not an age, for what another CPU wrote a tick ahead of us. */
static __always_inline __u32 seconds_since(__u32 then)
{
	__s32 age = seconds() - then;

	return age > 0 ? age : 0;
}

static __always_inline bool in_service_cidr(const struct address *address)
{
	struct prefix key = { .length = 128, .address = *address };

	return bpf_map_lookup_elem(&service_cidrs, &key);
}

static __always_inline struct lead *look_up_lead(const struct address *address, __be16 port, __u8 protocol,
						 enum frontend_scope scope)
{
	struct frontend key = { .address = *address, .port = port, .protocol = protocol, .scope = scope };

	return bpf_map_lookup_elem(&frontends, &key);
}

/* 0.0.0.0 or ::, as the frontends of node ports and host ports name it. */
static __always_inline struct address any_address_like(const struct address *address)
{
	struct address any = *address;

	any.word[3] = 0;
	if (any.word[0] || any.word[1] || any.word[2] != bpf_htonl(0xffff))
		any.word[0] = any.word[1] = any.word[2] = 0;
	return any;
}

/* Where node ports and host ports lead, for an address that this node has. A node port goes before a host port. */
static __always_inline struct lead *find_port_of_node(const struct frontend *asked)
{
	__u32 *own = bpf_map_lookup_elem(&own_addresses, &asked->address);
	struct address any = any_address_like(&asked->address);
	struct lead *lead = NULL;

	if (!own)
		return NULL;
	if (*own & OWN_NODE_PORTS)
		lead = look_up_lead(&any, asked->port, asked->protocol, SCOPE_NODE_PORT);
	return lead ? lead : look_up_lead(&any, asked->port, asked->protocol, SCOPE_HOST_PORT);
}

/* What `asked`, with SCOPE_ADDRESS, leads to; NULL where it is no frontend. */
static __always_inline struct lead *find_lead(const struct frontend *asked)
{
	struct lead *lead = bpf_map_lookup_elem(&frontends, asked);

	if (!lead)
		lead = find_port_of_node(asked);
	return lead ? lead : look_up_lead(&asked->address, 0, 0, SCOPE_ADDRESS);
}

/* Whether `client` may use a frontend with this guard (S-61). */
static __always_inline bool is_let_in(__u32 guard, const struct address *client)
{
	struct source_range key = { .length = 160, .guard = bpf_htonl(guard), .address = *client };

	return !guard || bpf_map_lookup_elem(&source_ranges, &key);
}

/* For whom is asked; see struct lead. */
enum side {
	SIDE_INSIDE,
	SIDE_OUTSIDE,
};

/* An index into `services`, or an enum service_index. */
static __always_inline __u32 find_service(const struct frontend *frontend, const struct address *client,
					  enum side side)
{
	struct lead *lead = find_lead(frontend);

	if (!lead)
		return in_service_cidr(&frontend->address) ? SERVICE_UNALLOCATED : SERVICE_NONE;
	if (!is_let_in(lead->guard, client))
		return SERVICE_CLOSED;
	return side == SIDE_OUTSIDE ? lead->outside : lead->inside;
}

/* Whether the number that a frontend leads to is an index into `services`. */
static __always_inline bool is_service(__u32 service)
{
	return service >= SERVICE_FIRST && service < SERVICE_CLOSED;
}

/* 0, which is no set, where there is no such service any more. */
static __always_inline __u32 present_set(__u32 service)
{
	__u32 *set = bpf_map_lookup_elem(&services, &service);

	return set ? *(volatile __u32 *)set : 0;
}

static __always_inline bool is_member(__u32 set, const struct backend *backend)
{
	struct member key = { .set = set, .backend = *backend };

	return bpf_map_lookup_elem(&members, &key);
}

/*
 * Whether datagrams that go to `backend` may go on to do so, although another set is present now: who still
 * serves keeps its flows, whatever policies and topology say of new ones (S-65).
 */
static __always_inline bool may_stay(__u32 set, const struct backend *backend)
{
	struct backend_set *present = bpf_map_lookup_elem(&sets, &set);

	return present && (!present->serving || is_member(present->serving, backend));
}

/*
 * Whom this client stays with (S-60); false where it is free to choose. A hit counts as a use. The backend is
 * copied first and looked at then: an LRU map may give the entry to another client at any moment. One whose time
 * is over chooses at random, and not `alike`: the hash would lead it to the same backend for ever.
 */
static __always_inline bool stays(const struct affinity_key *key, const struct backend_set *set,
				  const struct flow **alike, struct selection *selection)
{
	struct affinity *known = bpf_map_lookup_elem(&affinities, key);
	bool over;

	if (!known)
		return false;
	selection->backend = known->backend;
	over = seconds_since(known->used) >= set->affinity;
	if (over || !is_member(selection->set, &selection->backend)) {
		if (over)
			*alike = NULL;
		bpf_map_delete_elem(&affinities, key);
		return false;
	}
	known->used = seconds();
	return true;
}

/* Of two first connections of a client at once, the second goes where the first went. */
static __always_inline void stay(const struct affinity_key *key, struct selection *selection)
{
	struct affinity value = { .backend = selection->backend, .used = seconds() };
	struct affinity *first;

	if (!bpf_map_update_elem(&affinities, key, &value, BPF_NOEXIST))
		return;
	first = bpf_map_lookup_elem(&affinities, key);
	if (!first)
		return;
	value.backend = first->backend;
	if (is_member(selection->set, &value.backend))
		selection->backend = value.backend;
}

/* One round of MurmurHash3 for 32 bits (Austin Appleby, public domain), and its end. */
static __always_inline __u32 mix(__u32 hash, __u32 word)
{
	word *= 0xcc9e2d51;
	word = word << 15 | word >> 17;
	hash ^= word * 0x1b873593;
	hash = hash << 13 | hash >> 19;
	return hash * 5 + 0xe6546b64;
}

static __always_inline __u32 finish_mix(__u32 hash)
{
	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	return hash ^ hash >> 16;
}

/* The same on every node: of the whole flow or, for a Service with affinity, of the client alone. */
static __always_inline __u32 hash_of(const struct flow *flow, bool client_alone)
{
	__u32 hash = 0;

	for (int i = 0; i < 4; i++)
		hash = mix(hash, flow->source.word[i]);
	if (client_alone)
		return finish_mix(hash);
	for (int i = 0; i < 4; i++)
		hash = mix(hash, flow->destination.word[i]);
	hash = mix(hash, (__u32)flow->source_port << 16 | flow->destination_port);
	return finish_mix(mix(hash, flow->protocol));
}

/* Which backend of the set a hash leads to: by the set's ring, so that few flows move when the set changes. */
static __always_inline __u32 index_by_hash(const struct backend_set *set, __u32 hash)
{
	__u32 slot = (__u64)hash * set->ring_size >> 32;
	__u32 entry = set->ring + slot / SLOTS_PER_ENTRY;
	struct ring_entry *found = set->ring_size ? bpf_map_lookup_elem(&rings, &entry) : NULL;

	return found ? found->backend[slot % SLOTS_PER_ENTRY] : (__u64)hash * set->count >> 32;
}

/* At random or, for a flow from outside, alike on every node that it may enter by. */
static __always_inline bool pick(const struct backend_set *set, const struct flow *alike,
				 struct selection *selection)
{
	struct slot slot = { .set = selection->set };
	struct backend *backend;

	if (alike)
		slot.index = index_by_hash(set, hash_of(alike, set->affinity));
	else
		slot.index = (__u64)bpf_get_prandom_u32() * set->count >> 32;
	backend = bpf_map_lookup_elem(&backends, &slot);
	if (backend)
		selection->backend = *backend;
	return backend;
}

static __always_inline void count_hit(__u32 service)
{
	__u64 *hits = bpf_map_lookup_elem(&service_hits, &service);

	if (hits)
		__sync_fetch_and_add(hits, 1);
}

/*
 * Chooses a backend of `service`, an index into `services`, for a new connection of `client`. `alike`: the flow, if
 * other nodes are to choose the same for it.
 */
static __always_inline enum choice choose(__u32 service, const struct address *client, const struct flow *alike,
					  struct selection *selection)
{
	struct affinity_key key = { .client = *client };
	struct backend_set *set;

	selection->service = service;
	selection->set = present_set(service);
	set = bpf_map_lookup_elem(&sets, &selection->set);
	if (!set)
		return CHOICE_REFUSE;
	if (!set->count)
		return set->on_empty == ON_EMPTY_DROP ? CHOICE_DROP : CHOICE_REFUSE;
	key.service = set->service;
	if (!set->affinity || !stays(&key, set, &alike, selection)) {
		if (!pick(set, alike, selection))
			return CHOICE_REFUSE;
		if (set->affinity)
			stay(&key, selection);
	}
	count_hit(service);
	return CHOICE_BACKEND;
}
