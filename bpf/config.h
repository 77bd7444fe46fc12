/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Settings: the agent sets them when it loads the object, and the verifier treats them as constants. */
#pragma once

#include <linux/types.h>

#include "contract.h"

/* VXLAN network identifier of this cluster, 24 bits. */
const volatile __u32 overlay_vni = 84;

/* VXLAN's UDP port, in host order. */
const volatile __u16 overlay_port = 4789;

/* The host's side of every Pod's veth, and every overlay device: one locally administered MAC. */
const volatile __u8 gateway_mac[6] = { 0x02, 0x74, 0x75, 0x6c, 0x6c, 0x65 };

/* The source of every frame in the overlay: a VXLAN device takes its own MAC as source for a loop. */
const volatile __u8 overlay_source_mac[6] = { 0x02, 0x74, 0x75, 0x6c, 0x6c, 0x66 };

/* As `overlay_source_mac`, of frames that one node hands over to another, and of the answers to these. */
const volatile __u8 handover_mac[6] = { 0x02, 0x74, 0x75, 0x6c, 0x6c, 0x67 };
const volatile __u8 handback_mac[6] = { 0x02, 0x74, 0x75, 0x6c, 0x6c, 0x68 };

/* enum external_traffic: how this node's Pods answer, and what it does for Pods of other nodes. */
const volatile __u32 external_traffic = EXTERNAL_HANDOVER;

/* Never read. It brings the types into the BTF that no map speaks of. */
const volatile struct contract_types {
	struct drop_event drop_event;
	enum contract contract;
	enum mark mark;
	enum flow_kind flow_kind;
	enum service_index service_index;
	enum on_empty on_empty;
	enum client_kind client_kind;
	enum socket_direction socket_direction;
	enum frontend_scope frontend_scope;
	enum own_flags own_flags;
	enum external_traffic external_traffic;
	enum transport transport;
	enum hook hook;
	enum reason reason;
} contract_types = {};
