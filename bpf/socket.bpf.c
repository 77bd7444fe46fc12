// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Services at the socket: a process that connects to a Service is connected to a backend from the start, and
 * no packet needs to be touched. The process is shown what it asked for.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "lib/packet.h"
#include "lib/service.h"
#include "lib/verdict.h"

#define ECONNREFUSED 111
#define SOCK_STREAM 1
#define SOCK_DGRAM 2

enum { REFUSED = 0, ALLOWED = 1 };

/* Where a socket's call goes to, or comes from. */
struct end {
	struct address address;
	__be16 port;
	bool v4; /* the hook is that of IPv4; an IPv4-mapped IPv6 address is IPv4, too, but written as IPv6 */
};

static __always_inline struct end read_ipv4(const struct bpf_sock_addr *ctx)
{
	return (struct end){ ipv4_mapped(ctx->user_ip4), ctx->user_port, true };
}

static __always_inline struct end read_ipv6(const struct bpf_sock_addr *ctx)
{
	struct end end = { .port = ctx->user_port };

	end.address.word[0] = ctx->user_ip6[0];
	end.address.word[1] = ctx->user_ip6[1];
	end.address.word[2] = ctx->user_ip6[2];
	end.address.word[3] = ctx->user_ip6[3];
	return end;
}

static __always_inline void write(struct bpf_sock_addr *ctx, const struct end *end, const struct address *address,
				  __be16 port)
{
	ctx->user_port = port;
	if (end->v4) {
		ctx->user_ip4 = address->word[3];
		return;
	}
	ctx->user_ip6[0] = address->word[0];
	ctx->user_ip6[1] = address->word[1];
	ctx->user_ip6[2] = address->word[2];
	ctx->user_ip6[3] = address->word[3];
}

/* 0 where sockets of this kind are left to the packets' hooks. */
static __always_inline __u8 protocol_of(const struct bpf_sock_addr *ctx)
{
	if (ctx->type == SOCK_STREAM && (ctx->protocol == IPPROTO_TCP || ctx->protocol == IPPROTO_MPTCP))
		return IPPROTO_TCP;
	return ctx->type == SOCK_DGRAM && ctx->protocol == IPPROTO_UDP ? IPPROTO_UDP : 0;
}

/* Whose socket it is; NULL where it is to be left alone. */
static __always_inline struct client *find_client(struct bpf_sock_addr *ctx, __u64 *netns)
{
	struct client *client;

	*netns = bpf_get_netns_cookie(ctx);
	client = bpf_map_lookup_elem(&clients, netns);
	return client && client->kind != CLIENT_POD_PACKETS ? client : NULL;
}

static __always_inline const struct address *address_of(const struct client *client, const struct address *like)
{
	return is_ipv4_mapped(like) ? &client->v4 : &client->v6;
}

static __always_inline struct backend peer_of(const struct frontend *frontend)
{
	return (struct backend){ .address = frontend->address, .port = frontend->port };
}

static __always_inline int refuse(const struct client *client, const struct frontend *frontend,
				  enum reason reason)
{
	__u32 index = HOOK_SOCKET * REASON_COUNT + reason;
	struct counter *counter = bpf_map_lookup_elem(&counters, &index);
	struct drop_event *event;

	if (counter)
		counter->packets++;
	event = bpf_ringbuf_reserve(&drops, sizeof(*event), 0);
	if (event) {
		*event = (struct drop_event){
			.time = bpf_ktime_get_boot_ns(),
			.flow = {
				.source = *address_of(client, &frontend->address),
				.destination = frontend->address,
				.destination_port = frontend->port,
				.protocol = frontend->protocol,
			},
			.hook = HOOK_SOCKET,
			.reason = reason,
		};
		bpf_ringbuf_submit(event, 0);
	}
	bpf_set_retval(-ECONNREFUSED);
	return REFUSED;
}

/* A socket's datagrams to `frontend` go to `backend`; so the agent finds it, and so the choice holds. */
static __always_inline void note_sends(__u64 cookie, __u64 netns, const struct frontend *frontend,
				       const struct selection *selection)
{
	struct socket_flow_key key = { .cookie = cookie, .peer = peer_of(frontend), .direction = SOCKET_SENDS };
	struct socket_flow value = {
		.netns = netns,
		.peer = selection->backend,
		.service = selection->service,
		.set = selection->set,
	};

	bpf_map_update_elem(&socket_flows, &key, &value, BPF_ANY);
}

static __always_inline void note_receives(__u64 cookie, __u64 netns, const struct frontend *frontend,
					  const struct selection *selection)
{
	struct socket_flow_key key = { .cookie = cookie, .peer = selection->backend, .direction = SOCKET_RECEIVES };
	struct socket_flow value = { .netns = netns, .peer = peer_of(frontend) };

	bpf_map_update_elem(&socket_flows, &key, &value, BPF_ANY);
}

/* What a connected socket asked for, to be shown by getpeername and recvmsg. */
static __always_inline void note_peer(struct bpf_sock_addr *ctx, const struct frontend *frontend,
				      const struct backend *backend)
{
	struct socket_peer *peer =
		bpf_sk_storage_get(&socket_peers, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (!peer)
		return;
	peer->frontend = *frontend;
	peer->backend = *backend;
}

/*
 * A Pod's datagrams to a Service without endpoints are left to the packets' hooks: they refuse them, and the
 * socket need not be connected anew once there is one (S-66). The node's own have no such hook.
 */
static __always_inline bool is_left_to_packets(const struct client *client, const struct frontend *frontend)
{
	return frontend->protocol == IPPROTO_UDP && client->kind == CLIENT_POD;
}

static __always_inline int connect_to(struct bpf_sock_addr *ctx, const struct end *end)
{
	struct frontend frontend = { end->address, end->port, protocol_of(ctx), 0 };
	struct selection selection = {};
	struct client *client;
	__u32 service;
	__u64 netns;

	if (!frontend.protocol || !(client = find_client(ctx, &netns)))
		return ALLOWED;
	service = find_service(&frontend);
	if (service == SERVICE_NO_PORT)
		return refuse(client, &frontend, DROP_SERVICE_PORT);
	if (service == SERVICE_OF_NODE || service == SERVICE_NONE || service == SERVICE_UNALLOCATED)
		return ALLOWED;
	switch (choose(service, address_of(client, &end->address), &selection)) {
	case CHOICE_REFUSE:
		return is_left_to_packets(client, &frontend) ? ALLOWED :
							       refuse(client, &frontend, DROP_SERVICE_EMPTY);
	case CHOICE_DROP: /* from_pod and to_uplink drop it, and say why */
		return ALLOWED;
	default:
		break;
	}
	if (frontend.protocol == IPPROTO_UDP)
		note_sends(bpf_get_socket_cookie(ctx), netns, &frontend, &selection);
	note_peer(ctx, &frontend, &selection.backend);
	write(ctx, end, &selection.backend.address, selection.backend.port);
	return ALLOWED;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct end end = read_ipv4(ctx);

	return connect_to(ctx, &end);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct end end = read_ipv6(ctx);

	return connect_to(ctx, &end);
}

/* Whom this socket's datagrams to `frontend` went to before, as long as that is right. */
static __always_inline bool goes_where_before(__u64 cookie, const struct frontend *frontend, __u32 service,
					      struct selection *selection)
{
	struct socket_flow_key key = { .cookie = cookie, .peer = peer_of(frontend), .direction = SOCKET_SENDS };
	struct socket_flow *known = bpf_map_lookup_elem(&socket_flows, &key);
	__u32 set = present_set(service);

	if (!known || (known->set != set && !may_stay(set, &known->peer)))
		return false;
	known->set = set;
	selection->backend = known->peer;
	return true;
}

static __always_inline int send_to(struct bpf_sock_addr *ctx, const struct end *end)
{
	struct frontend frontend = { end->address, end->port, IPPROTO_UDP, 0 };
	struct selection selection = {};
	struct client *client;
	__u64 netns, cookie;
	__u32 service;

	if (!(client = find_client(ctx, &netns)))
		return ALLOWED;
	service = find_service(&frontend);
	if (service == SERVICE_NO_PORT)
		return refuse(client, &frontend, DROP_SERVICE_PORT);
	if (service == SERVICE_OF_NODE || service == SERVICE_NONE || service == SERVICE_UNALLOCATED)
		return ALLOWED;
	cookie = bpf_get_socket_cookie(ctx);
	if (!goes_where_before(cookie, &frontend, service, &selection)) {
		switch (choose(service, address_of(client, &end->address), &selection)) {
		case CHOICE_REFUSE:
			return refuse(client, &frontend, DROP_SERVICE_EMPTY);
		case CHOICE_DROP:
			return ALLOWED;
		default:
			break;
		}
		note_sends(cookie, netns, &frontend, &selection);
		note_receives(cookie, netns, &frontend, &selection);
	}
	write(ctx, end, &selection.backend.address, selection.backend.port);
	return ALLOWED;
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	struct end end = read_ipv4(ctx);

	return send_to(ctx, &end);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	struct end end = read_ipv6(ctx);

	return send_to(ctx, &end);
}

static __always_inline bool is_end(const struct backend *backend, const struct end *end)
{
	return backend->port == end->port && same_address(&backend->address, &end->address);
}

/* Shows the Service where a connected socket would show the backend. */
static __always_inline bool show_connected(struct bpf_sock_addr *ctx, const struct end *end)
{
	struct socket_peer *peer = bpf_sk_storage_get(&socket_peers, ctx->sk, NULL, 0);

	if (!peer || !is_end(&peer->backend, end))
		return false;
	write(ctx, end, &peer->frontend.address, peer->frontend.port);
	return true;
}

static __always_inline int receive_from(struct bpf_sock_addr *ctx, const struct end *end)
{
	struct socket_flow_key key = {
		.peer = { .address = end->address, .port = end->port },
		.direction = SOCKET_RECEIVES,
	};
	struct socket_flow *known;

	if (show_connected(ctx, end))
		return ALLOWED;
	key.cookie = bpf_get_socket_cookie(ctx);
	known = bpf_map_lookup_elem(&socket_flows, &key);
	if (known)
		write(ctx, end, &known->peer.address, known->peer.port);
	return ALLOWED;
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	struct end end = read_ipv4(ctx);

	return receive_from(ctx, &end);
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	struct end end = read_ipv6(ctx);

	return receive_from(ctx, &end);
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	struct end end = read_ipv4(ctx);

	show_connected(ctx, &end);
	return ALLOWED;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	struct end end = read_ipv6(ctx);

	show_connected(ctx, &end);
	return ALLOWED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
