/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the programs and user space share: every struct in a map or in the ring buffer, and every
 * number with a meaning. User space derives its side from the BTF of the compiled objects
 * (src/tulle/kernel/btf.py); nothing here is typed a second time.
 */
#pragma once

#include <linux/types.h>

/* The pin folder carries this number: raise it when a struct or a map changes its shape. */
enum contract { CONTRACT_VERSION = 3 };

/* What a packet is marked with, for hooks and rules that see it later on its way through this node. */
enum mark {
	MARK_SHORT_CUT = 0x74756c6c,  /* sent to a device by a short cut: the egress hook need not look at it */
	MARK_MASQUERADE = 0x74756c6d, /* to the outside: the host's stack is to give it the node's address */
};

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
	__u32 overlay;         /* the VXLAN device, for what is handed over; 0: there is none */
	__u16 transport;       /* enum transport */
	__u8 neighbour;        /* 1: the node is on the uplink's subnet; 0: the routes say what comes next */
	__u8 host;             /* 1: this is an address of the node itself, not of its Pods */
};

/* A connection in one direction, as its packets carry it. Ports are 0 where the protocol has none. */
struct flow {
	struct address source, destination;
	__be16 source_port, destination_port;
	__u8 protocol;
	__u8 reserved[3];
};

/* What is known of a flow, by what its packets carry. */
enum flow_kind {
	FLOW_OF_STACK = 1,   /* the host's stack translates it, or saw its beginning: all of it is left to it */
	FLOW_TRANSLATED = 2, /* between a client and a Service: its packets get other ends */
	FLOW_HANDED_OVER = 3, /* on the node that a client entered by: to the node of the backend, as it is */
	FLOW_TAKEN_OVER = 4,  /* on the backend's node: translated as the other node said */
	FLOW_HANDED_BACK = 5, /* the answers to it: translated, and back to that node */
};

struct flow_state {
	struct flow becomes; /* the ends that its packets get, here or on the backend's node */
	struct address node; /* of FLOW_TAKEN_OVER and FLOW_HANDED_BACK: which node handed it over */
	__u32 service;       /* the Service's index in `services`; 0 where another node has chosen */
	__u32 set;           /* on the way to the backend: the set under which that was chosen or kept */
	__u32 used;          /* seconds since boot: when a packet last went, within FLOW_REFRESH */
	__u32 kind;          /* enum flow_kind */
};

/* Whose ports the fragments of a packet have; only the first of them carries these. */
struct fragment {
	struct address source, destination;
	__u32 id;
	__u8 protocol;
	__u8 reserved[3];
};

struct ports {
	__be16 source, destination;
};

/* Which addresses a frontend stands for. */
enum frontend_scope {
	SCOPE_ADDRESS = 0,   /* the one that it names */
	SCOPE_NODE_PORT = 1, /* those of this node that have OWN_NODE_PORTS; it names 0.0.0.0 or :: */
	SCOPE_HOST_PORT = 2, /* all of this node; it names 0.0.0.0 or :: */
};

/* Where a Service is reached, as packets and connect() name it. Port and protocol 0: any other port of it. */
struct frontend {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 scope; /* enum frontend_scope */
};

/* What a frontend leads to: for each, an index into `services`, or an enum service_index. */
struct lead {
	__u32 inside;  /* for this node's Pods, and for the node itself (S-45, S-46) */
	__u32 outside; /* for what comes in from elsewhere, be it from a Pod of another node (S-47) */
	__u32 guard;   /* who may come: those in `source_ranges` under this number (S-61); 0: anybody */
};

/* Of an address that this node has. */
enum own_flags {
	OWN_NODE_PORTS = 1, /* node ports are reached here (S-21) */
};

/* Key of the longest-prefix match over the networks from which a Service may be reached. */
struct source_range {
	__u32 length; /* of 160 bits: the guard's 32, then the address's */
	__be32 guard;
	struct address address;
};

/* One who serves: an endpoint's address and port. */
struct backend {
	struct address address;
	__be16 port;
	__u16 reserved;
};

/* What a frontend leads to, when it is no index into `services`. */
enum service_index {
	SERVICE_NO_PORT = 0, /* the address is a Service's, but it has no such port */
	SERVICE_OF_NODE = 1, /* this node itself has the address: no concern of ours */
	SERVICE_FIRST = 2,
	SERVICE_NONE = 0xffffffff,        /* never in a map: not a Service's address */
	SERVICE_UNALLOCATED = 0xfffffffe, /* never in a map: in a Service CIDR, but no Service has it */
	SERVICE_CLOSED = 0xfffffffd,      /* never in a map: not for this client (S-61) */
};

enum on_empty {
	ON_EMPTY_REFUSE = 0, /* no endpoint anywhere: RST, ICMP port-unreachable, ECONNREFUSED */
	ON_EMPTY_DROP = 1,   /* some elsewhere, but none on this node, as the policy wants it (S-41, S-42) */
};

/* The backends of a port of a Service at one moment. Never changed: a change is a set with another number. */
struct backend_set {
	__u32 service;  /* index in `services`; clients with affinity are known by it */
	__u32 count;    /* of backends: their indices in the set are 0 to count - 1 */
	__u32 affinity; /* seconds for which a client stays with its backend; 0: each connection is for itself */
	__u32 serving;  /* the set of those that may keep old flows (UDP), in `members`; 0: all may */
	__u32 on_empty; /* enum on_empty */
	__u32 ring;     /* where in `rings` its ring begins, which leads a flow to a backend on every node alike */
	__u32 ring_size; /* in slots; 0: it has none */
};

/* Part of a ring: the indices in the set of four slots' backends. */
#define SLOTS_PER_ENTRY 4
struct ring_entry {
	__u16 backend[SLOTS_PER_ENTRY];
};

struct slot {
	__u32 set;
	__u32 index;
};

struct member {
	__u32 set;
	struct backend backend;
};

/* A client of a Service with session affinity, and whom it stays with. */
struct affinity_key {
	struct address client;
	__u32 service;
};

struct affinity {
	struct backend backend;
	__u32 used; /* seconds since boot */
};

/* Whose processes a network namespace holds. An address is 0 where the family is missing. */
struct client {
	struct address v4, v6; /* what the node, or the Pod, speaks with */
	__u32 kind;            /* enum client_kind */
};

enum client_kind {
	CLIENT_NODE = 1,
	CLIENT_POD = 2,         /* its packets pass from_pod */
	CLIENT_POD_PACKETS = 3, /* as above, and its sockets are left alone */
};

/* A connected socket: what it asked for, and what it got. */
struct socket_peer {
	struct frontend frontend;
	struct backend backend;
};

/* A UDP socket and whom it exchanges datagrams with. */
enum socket_direction {
	SOCKET_SENDS = 1,    /* key.peer is the frontend, the value's the backend */
	SOCKET_RECEIVES = 2, /* the reverse */
};

struct socket_flow_key {
	__u64 cookie; /* the socket's */
	struct backend peer;
	__u32 direction; /* enum socket_direction */
};

struct socket_flow {
	__u64 netns; /* cookie of the network namespace */
	struct backend peer;
	__u32 service;
	__u32 set; /* as in struct flow_state */
	__u32 reserved;
};

/* How the answers of a Pod reach a client that entered the cluster by another node. */
enum external_traffic {
	EXTERNAL_HANDOVER = 0, /* back through that node: nothing on the underlay has a foreign source */
	EXTERNAL_DSR = 1,      /* straight from the Pod's node, with the Service's address as source */
	EXTERNAL_SNAT = 2,     /* back through that node, whose address the Pod sees as the client's */
};

/* An address that this node answers for on a link, by ARP or neighbour discovery. */
struct announcement_key {
	struct address address;
	__u32 ifindex;
};

struct announcement {
	__u64 until; /* ns since boot: the end of the lease, and of the answers */
	__u8 mac[6];
	__u16 reserved;
};

enum hook {
	HOOK_FROM_POD,
	HOOK_TO_POD,
	HOOK_FROM_UPLINK,
	HOOK_TO_UPLINK,
	HOOK_FROM_OVERLAY,
	HOOK_TO_OVERLAY,
	HOOK_SOCKET,
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
	REASON_DELIVERED,    /* out of the host's stack */
	REASON_SERVICE,      /* translated: to a backend that the host's stack leads to */
	REASON_HANDED_OVER,  /* from outside, to a Service's backend on another node */
	REASON_HANDED_BACK,  /* the answer to that, to the node that the client entered by */
	REASON_ANSWERED,     /* a Service's answer, out of the cluster */
	REASON_ANNOUNCED,    /* asked for an address that this node answers for: told */
	DROP_MALFORMED,      /* headers are cut off, or cannot be */
	DROP_NOT_IP,         /* neither IPv4 nor IPv6 nor ARP */
	DROP_SPOOFED_SOURCE, /* a Pod used a source address that is not its own */
	DROP_SPOOFED_MAC,    /* a Pod used a source MAC that is not its own */
	DROP_OVERLAY_SENDER, /* VXLAN from a host that is not the node of the inner source */
	DROP_OVERLAY_VNI,    /* VXLAN of another network */
	DROP_SERVICE_EMPTY,       /* a Service without endpoints: refused */
	DROP_SERVICE_PORT,        /* a Service's address, but no port of it: refused */
	DROP_SERVICE_LOCAL,       /* internal- or externalTrafficPolicy Local, and no endpoint on this node */
	DROP_SERVICE_UNALLOCATED, /* in a Service CIDR, but no Service has the address */
	DROP_SERVICE_FLOW,        /* amid a connection to a Service that nothing is known of: refused */
	DROP_SERVICE_FRAGMENT,    /* to a Service, and its first fragment did not pass here before */
	DROP_SERVICE_HOST,        /* a Service's packet left the host's stack untranslated */
	DROP_SERVICE_SOURCE,      /* from outside loadBalancerSourceRanges */
	DROP_SERVICE_NODE,        /* there is no way to the backend's node, or no overlay to hand over by */
	DROP_SERVICE_SNAT,        /* externalTraffic snat: no free port is left for this backend */
	DROP_HANDOVER_SENDER,     /* handed over or back by a host that is no node of the cluster, or unasked */
	DROP_HANDOVER_POD,        /* handed over for a Pod that is not here */
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
_Static_assert(sizeof(struct remote) == 48, "no padding");
_Static_assert(sizeof(struct flow) == 40, "no padding");
_Static_assert(sizeof(struct drop_event) == 56, "no padding");
_Static_assert(sizeof(struct flow_state) == 72, "no padding");
_Static_assert(sizeof(struct fragment) == 40, "no padding");
_Static_assert(sizeof(struct frontend) == 20, "no padding");
_Static_assert(sizeof(struct backend) == 20, "no padding");
_Static_assert(sizeof(struct backend_set) == 28, "no padding");
_Static_assert(sizeof(struct member) == 24, "no padding");
_Static_assert(sizeof(struct affinity_key) == 20, "no padding");
_Static_assert(sizeof(struct affinity) == 24, "no padding");
_Static_assert(sizeof(struct client) == 36, "no padding");
_Static_assert(sizeof(struct socket_peer) == 40, "no padding");
_Static_assert(sizeof(struct socket_flow_key) == 32, "no padding");
_Static_assert(sizeof(struct socket_flow) == 40, "no padding");
_Static_assert(sizeof(struct lead) == 12, "no padding");
_Static_assert(sizeof(struct source_range) == 24, "no padding");
_Static_assert(sizeof(struct ring_entry) == 8, "no padding");
_Static_assert(sizeof(struct announcement_key) == 20, "no padding");
_Static_assert(sizeof(struct announcement) == 16, "no padding");
