/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the programs and user space share: every struct in a map or in the ring buffer, and every
 * number with a meaning. User space derives its side from the BTF of the compiled objects
 * (src/tulle/kernel/btf.py); nothing here is typed a second time.
 */
#pragma once

#include <linux/types.h>

/* The pin folder carries this number: raise it when a struct or a map changes its shape. */
enum contract { CONTRACT_VERSION = 1 };

/* An IPv6 address, or an IPv4 address as ::ffff:a.b.c.d. */
struct address {
	__be32 word[4];
};

/* A Pod of this node, by its address. */
struct endpoint {
	__u32 ifindex; /* the host's side of its veth */
	__u8 mac[6];   /* the Pod's side */
	__u16 reserved;
};

/* How another node's addresses are reached. */
enum transport {
	TRANSPORT_NATIVE = 1,  /* by the uplink, as it is */
	TRANSPORT_OVERLAY = 2, /* inside VXLAN */
};

/* Key of the longest-prefix match over the other nodes' Pod CIDRs and own addresses. */
struct prefix {
	__u32 length; /* of 128 bits: an IPv4 /24 counts as 120 */
	struct address address;
};

struct remote {
	struct address node;   /* the other node: outer destination, and next hop if it is a neighbour */
	struct address source; /* this node, as the outer header names it */
	__u32 ifindex;         /* the device that must be able to carry the packet: uplink or overlay */
	__u32 uplink;          /* the device that it leaves by in the end */
	__u16 transport;       /* enum transport */
	__u16 neighbour;       /* 1: the node is on the uplink's subnet; 0: the routes say what comes next */
};

/* A connection in one direction, as its packets carry it. Ports are 0 where the protocol has none. */
struct flow {
	struct address source, destination;
	__be16 source_port, destination_port;
	__u8 protocol;
	__u8 reserved[3];
};

enum hook {
	HOOK_FROM_POD,
	HOOK_TO_POD,
	HOOK_FROM_UPLINK,
	HOOK_TO_UPLINK,
	HOOK_FROM_OVERLAY,
	HOOK_TO_OVERLAY,
	HOOK_COUNT,
};

/* Why a packet went where it went. User space shows the names, in lower case, as they stand here. */
enum reason {
	REASON_LOCAL_POD,    /* straight into a Pod of this node */
	REASON_NATIVE,       /* to another node, over the uplink */
	REASON_OVERLAY,      /* to another node, inside VXLAN */
	REASON_STACK,        /* the host's own: its processes, the outside, what eBPF has no short cut for */
	REASON_STACK_FLOW,   /* the host translates this connection (kube-proxy): all of it is left to it */
	REASON_FRAGMENT,     /* without ports in each packet: the host's stack knows better */
	REASON_HOP_LIMIT,    /* ends here: the host's stack answers with "time exceeded" */
	REASON_TOO_BIG,      /* for the device it leaves by: the host's stack fragments or answers */
	REASON_DELIVERED,    /* out of the host's stack, as it is */
	DROP_MALFORMED,      /* headers are cut off, or cannot be */
	DROP_NOT_IP,         /* neither IPv4 nor IPv6 nor ARP */
	DROP_SPOOFED_SOURCE, /* a Pod used a source address that is not its own */
	DROP_SPOOFED_MAC,    /* a Pod used a source MAC that is not its own */
	DROP_OVERLAY_SENDER, /* VXLAN from a host that is not the node of the inner source */
	DROP_OVERLAY_VNI,    /* VXLAN of another network */
	REASON_COUNT,
};
#define DROP_FIRST DROP_MALFORMED

struct counter {
	__u64 packets;
	__u64 bytes; /* as the packets left the program */
};

/* A dropped packet, as the ring buffer tells of it. */
struct drop_event {
	__u64 time; /* ns since boot */
	struct flow flow;
	__u32 ifindex;
	__u16 hook;   /* enum hook */
	__u16 reason; /* enum reason */
};

_Static_assert(sizeof(struct address) == 16, "keys are compared byte by byte: no padding");
_Static_assert(sizeof(struct endpoint) == 12, "no padding");
_Static_assert(sizeof(struct prefix) == 20, "no padding");
_Static_assert(sizeof(struct remote) == 44, "no padding");
_Static_assert(sizeof(struct flow) == 40, "no padding");
_Static_assert(sizeof(struct drop_event) == 56, "no padding");
