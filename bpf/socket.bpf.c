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

/* A call that names an address, and whose it is. */
struct request {
	struct frontend frontend;
	struct client *client;
	__u64 netns;
	__u32 service; /* an index into `services` */
};

static __always_inline int refuse(const struct request *request, enum reason reason)
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
				.source = *address_of(request->client, &request->frontend.address),
				.destination = request->frontend.address,
				.destination_port = request->frontend.port,
				.protocol = request->frontend.protocol,
			},
			.hook = HOOK_SOCKET,
			.reason = reason,
		};
		bpf_ringbuf_submit(event, 0);
	}
	bpf_set_retval(-ECONNREFUSED);
	return REFUSED;
}

/* Whether the request is for a port of a Service; if not, `verdict` is what becomes of it. */
static __always_inline bool is_for_service(struct bpf_sock_addr *ctx, struct request *request, int *verdict)
{
	const struct address *address;

	*verdict = ALLOWED;
	if (!request->frontend.protocol)
		return false;
	request->client = find_client(ctx, &request->netns);
	if (!request->client)
		return false;
	if (request->client->kind != CLIENT_NODE && is_loopback(&request->frontend.address))
		return false; /* the Pod itself: host ports at 127.0.0.1 and ::1 are the node's */
	address = address_of(request->client, &request->frontend.address);
	request->service = find_service(&request->frontend, address, SIDE_INSIDE);
	if (request->service == SERVICE_NO_PORT)
		*verdict = refuse(request, DROP_SERVICE_PORT);
	return is_service(request->service);
}

/* Whether there is a backend for the request; if not, `verdict` is what becomes of it. */
static __always_inline bool find_backend(const struct request *request, struct selection *selection, int *verdict)
{
	const struct address *address = address_of(request->client, &request->frontend.address);

	switch (choose(request->service, address, NULL, selection)) {
	case CHOICE_BACKEND:
		return true;
	case CHOICE_DROP: /* from_pod and to_uplink drop it, and say why */
		*verdict = ALLOWED;
		return false;
	default:
		*verdict = refuse(request, DROP_SERVICE_EMPTY);
		return false;
	}
}

/* A socket's datagrams to `frontend` go to `backend`; so the agent finds it, and so the choice holds. */
static __always_inline void note_sends(__u64 cookie, const struct request *request,
				       const struct selection *selection)
{
	struct socket_flow_key key = {
		.cookie = cookie,
		.peer = peer_of(&request->frontend),
		.direction = SOCKET_SENDS,
	};
	struct socket_flow value = {
		.netns = request->netns,
		.peer = selection->backend,
		.service = selection->service,
		.set = selection->set,
	};

	bpf_map_update_elem(&socket_flows, &key, &value, BPF_ANY);
}

static __always_inline void note_receives(__u64 cookie, const struct request *request,
					  const struct selection *selection)
{
	struct socket_flow_key key = { .cookie = cookie, .peer = selection->backend, .direction = SOCKET_RECEIVES };
	struct socket_flow value = { .netns = request->netns, .peer = peer_of(&request->frontend) };

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
 * A Pod's socket that is connected to a Service without endpoints for datagrams: these are left to the packets'
 * hooks, which refuse them, and the socket need not be connected anew once there is an endpoint (S-66). The
 * node's own packets have no such hook.
 */
static __always_inline bool waits_for_endpoints(const struct request *request)
{
	__u32 number = present_set(request->service);
	struct backend_set *set;

	if (request->frontend.protocol != IPPROTO_UDP || request->client->kind != CLIENT_POD)
		return false;
	set = bpf_map_lookup_elem(&sets, &number);
	return set && !set->count;
}

static __always_inline int connect_to(struct bpf_sock_addr *ctx, const struct end *end)
{
	struct request request = { .frontend = { end->address, end->port, protocol_of(ctx), 0 } };
	struct selection selection = {};
	int verdict;

	if (!is_for_service(ctx, &request, &verdict))
		return verdict;
	if (waits_for_endpoints(&request))
		return ALLOWED;
	if (!find_backend(&request, &selection, &verdict))
		return verdict;
	if (request.frontend.protocol == IPPROTO_UDP)
		note_sends(bpf_get_socket_cookie(ctx), &request, &selection);
	note_peer(ctx, &request.frontend, &selection.backend);
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
static __always_inline bool goes_where_before(__u64 cookie, const struct request *request,
					      struct selection *selection)
{
	struct socket_flow_key key = {
		.cookie = cookie,
		.peer = peer_of(&request->frontend),
		.direction = SOCKET_SENDS,
	};
	struct socket_flow *known = bpf_map_lookup_elem(&socket_flows, &key);
	__u32 set = present_set(request->service);

	if (!known || (known->set != set && !may_stay(set, &known->peer)))
		return false;
	known->set = set;
	selection->backend = known->peer;
	return true;
}

static __always_inline int send_to(struct bpf_sock_addr *ctx, const struct end *end)
{
	struct request request = { .frontend = { end->address, end->port, IPPROTO_UDP, 0 } };
	struct selection selection = {};
	__u64 cookie;
	int verdict;

	if (!is_for_service(ctx, &request, &verdict))
		return verdict;
	cookie = bpf_get_socket_cookie(ctx);
	if (!goes_where_before(cookie, &request, &selection)) {
		if (!find_backend(&request, &selection, &verdict))
			return verdict;
		note_sends(cookie, &request, &selection);
		note_receives(cookie, &request, &selection);
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
