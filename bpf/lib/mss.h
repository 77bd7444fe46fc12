/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* TCP's maximum segment size, lowered where a path is narrower than both ends know. */
#pragma once

#include <linux/bpf.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "packet.h"

#define OPTION_END 0
#define OPTION_NOTHING 1
#define OPTION_MSS 2
#define OPTION_MSS_LENGTH 4
#define OPTIONS_TRIED 16
#define TCP_DATA_OFFSET 12 /* where the header says its own length, in words, in the upper half of a byte */

struct tcp_option {
	__u8 kind, length;
	__be16 value;
};

/* The checksum is over words: a value that begins at an odd byte counts with its bytes exchanged. */
static __always_inline void lower_mss(struct __sk_buff *skb, __u32 tcp, __u32 option, __be16 old, __be16 new)
{
	bool odd = (option - tcp) & 1;

	bpf_skb_store_bytes(skb, option + offsetof(struct tcp_option, value), &new, sizeof(new), 0);
	bpf_l4_csum_replace(skb, tcp + offsetof(struct tcphdr, check), odd ? __builtin_bswap16(old) : old,
			    odd ? __builtin_bswap16(new) : new, sizeof(new));
}

/* Of a SYN, with or without ACK: the size that it announces becomes `most` if it is larger (RFC 9293, 3.7.1). */
__noinline int clamp_mss(struct __sk_buff *skb, const struct packet *p, __u32 most)
{
	struct tcp_option option = {};
	__u32 tcp, end, offset = sizeof(struct tcphdr);
	__u8 words = 0;

	if (!p || p->transport > FARTHEST_TRANSPORT)
		return 0;
	tcp = p->transport;
	bpf_skb_load_bytes(skb, tcp + TCP_DATA_OFFSET, &words, sizeof(words));
	end = (words >> 4) * 4;
	for (int i = 0; i < OPTIONS_TRIED && offset + OPTION_MSS_LENGTH <= end; i++) {
		if (bpf_skb_load_bytes(skb, tcp + offset, &option, sizeof(option)) || option.kind == OPTION_END)
			return 0;
		if (option.kind == OPTION_MSS && option.length == OPTION_MSS_LENGTH) {
			if (bpf_ntohs(option.value) > most)
				lower_mss(skb, tcp, tcp + offset, option.value, bpf_htons(most));
			return 0;
		}
		offset += option.kind == OPTION_NOTHING ? 1 : option.length ? option.length : end;
	}
	return 0;
}

/* Whether the packet may announce a segment size. */
static __always_inline bool is_syn(struct __sk_buff *skb, const struct packet *p)
{
	__u8 flags = 0;

	return p->flow.protocol == IPPROTO_TCP && !p->fragment &&
	       !bpf_skb_load_bytes(skb, p->transport + TCP_FLAGS_OFFSET, &flags, sizeof(flags)) &&
	       flags & TCP_SYN_BIT;
}
