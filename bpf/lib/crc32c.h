/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * SCTP's checksum (RFC 9260, appendix A) after a change of ports. CRC32c is linear: it changes by the CRC of
 * the change itself, moved on over as many zero bytes as follow it. Moving on by a power of two is one
 * multiplication in GF(2)[x] modulo the polynomial, so the packet need not be read.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../contract.h"
#include "checksum.h"
#include "packet.h"

#define CRC32C_POLYNOMIAL 0x82f63b78 /* reflected: the lowest bit is the highest power */
#define SCTP_CHECKSUM_OFFSET 8
#define LENGTH_BITS 16
#define LITTLE_ENDIAN(word) __builtin_bswap32(bpf_ntohl(word)) /* to it, and back */

/* a * b, both reflected. Not static, so that the verifier looks at its loop once, not at every call: half of its work. */
__noinline __u32 crc32c_multiply(__u32 a, __u32 b)
{
	__u32 product = 0;

	for (int i = 0; i < 32; i++) {
		product ^= b & -(a >> 31);
		a <<= 1;
		b = b >> 1 ^ (CRC32C_POLYNOMIAL & -(b & 1));
	}
	return product;
}

/* The CRC of four bytes, given as they lie in memory on a little-endian machine, without inversions. */
static __always_inline __u32 crc32c_of_word(__u32 word)
{
	for (int i = 0; i < 32; i++)
		word = word >> 1 ^ (CRC32C_POLYNOMIAL & -(word & 1));
	return word;
}

/* The CRC moved on over `length` zero bytes. */
static __noinline __u32 crc32c_move(__u32 crc, __u32 length)
{
	__u32 power = 0x00800000; /* x^8: one byte */

	for (int i = 0; i < LENGTH_BITS; i++) {
		if (length >> i & 1)
			crc = crc32c_multiply(power, crc);
		power = crc32c_multiply(power, power);
	}
	return crc;
}

/*
 * Lets the checksum follow a change of ports from p->flow to `to`. Not where whoever sends the packet out is to fill it
 * in, who would count what stands there already; nor where zero says that there is none (RFC 9653).
 */
static __always_inline void replace_crc32c(struct __sk_buff *skb, const struct packet *p, const struct flow *to)
{
	__u32 transport = p->transport;
	struct ports change = { p->flow.source_port ^ to->source_port,
				p->flow.destination_port ^ to->destination_port };
	__u32 word, crc;

	__builtin_memcpy(&word, &change, sizeof(word));
	if (!word || ip_summed(skb) == CHECKSUM_PARTIAL ||
	    bpf_skb_load_bytes(skb, transport + SCTP_CHECKSUM_OFFSET, &crc, sizeof(crc)) || !crc)
		return;
	crc = LITTLE_ENDIAN(crc);
	crc ^= crc32c_move(crc32c_of_word(LITTLE_ENDIAN(word)), p->end - transport - sizeof(change));
	crc = LITTLE_ENDIAN(crc);
	bpf_skb_store_bytes(skb, transport + SCTP_CHECKSUM_OFFSET, &crc, sizeof(crc), BPF_F_RECOMPUTE_CSUM);
}
