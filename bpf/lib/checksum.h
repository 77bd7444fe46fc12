/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The Internet checksum (RFC 1071), how it follows a change (RFC 1624), and who completes a packet's. */
#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../contract.h"

/* Of the values of skb->ip_summed (linux/skbuff.h), those that make a difference here. */
#define CHECKSUM_COMPLETE 2 /* the device took the sum of the whole packet, and skb->csum holds it */
#define CHECKSUM_PARTIAL 3  /* whoever sends the packet out sums it: in its place is the pseudo header's sum */

/* What is read of the kernel's own description of a packet; where it is, libbpf finds out when it loads us. */
struct sk_buff {
	__u8 ip_summed : 2;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym;

static __always_inline int ip_summed(struct __sk_buff *skb)
{
	struct sk_buff *kernel = bpf_cast_to_kern_ctx(skb);

	return BPF_CORE_READ_BITFIELD(kernel, ip_summed);
}

/*
 * Whether a change may be written into the packet without a helper. Twice as fast; but the sum of the whole packet
 * would not follow it.
 */
static __always_inline bool may_write(struct __sk_buff *skb)
{
	return ip_summed(skb) != CHECKSUM_COMPLETE;
}

/* Of many words' sum in 64 bits, the sum in 32 that helpers take. */
static __always_inline __u32 fold_words(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return sum + (sum >> 32);
}

/* Of a sum, the 16 bits of it that stand in a header. */
static __always_inline __u16 fold(__u64 sum)
{
	sum = fold_words(sum);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

/* A header's checksum once what it covers has changed by `difference`. */
static __always_inline __u16 follow(__u16 checksum, __u64 difference)
{
	return fold((__u16)~checksum + difference);
}

/* By how much a sum changes with a word of it. */
static __always_inline __u64 word_difference(__u32 from, __u32 to)
{
	return (__u64)(__u32)~from + to;
}

/* By how much the sum over both addresses changes. That of IPv4's is the same with and without ::ffff:. */
static __always_inline __u64 ends_difference(const struct flow *from, const struct flow *to)
{
	__u64 sum = 0;

#pragma clang loop unroll(disable) /* for the stack */
	for (int i = 0; i < 4; i++) {
		sum += word_difference(from->source.word[i], to->source.word[i]);
		sum += word_difference(from->destination.word[i], to->destination.word[i]);
	}
	return sum;
}

/* By how much the sum over both ports changes. */
static __always_inline __u64 ports_difference(const struct flow *from, const struct flow *to)
{
	return word_difference(from->source_port, to->source_port) +
	       word_difference(from->destination_port, to->destination_port);
}

static __always_inline __s64 sum_of(const void *data, __u32 length, __s64 sum)
{
	return bpf_csum_diff(NULL, 0, (__be32 *)data, length, sum);
}

/*
 * Of what transport checksums cover besides the transport (RFC 8200, section 8.1). IPv4's is the same, as ::ffff:
 * adds nothing.
 */
static __always_inline __s64 pseudo_sum(const struct flow *flow, __u32 length, __u8 protocol)
{
	return sum_of(&flow->source, 2 * sizeof(struct address), bpf_htonl(length + protocol));
}
