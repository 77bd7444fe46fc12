"""From BGPPeer objects to the sessions of one node, and what cannot be right about them. Pure.

Whatever comes out is safe to write into BIRD's configuration: addresses, numbers, and texts that have
been matched against what they may hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import NamedTuple
from zlib import crc32

from tulle.model.address import Address, to_bytes
from tulle.model.bgp import LOAD_BALANCERS, POD_CIDRS, BGPPeer, BGPPeerSpec

LARGEST_ASN = (1 << 32) - 1
LONGEST_PASSWORD = 80
"""Bytes: TCP_MD5SIG_MAXKEYLEN."""
EVERYTHING = (POD_CIDRS, LOAD_BALANCERS)
_PASSWORD = re.compile(r"[ !#-~]+")  # BIRD has no way to write a quotation mark in a text
_COMMUNITY = re.compile(r"\d{1,10}(:\d{1,10}){1,2}", re.ASCII)


class Problem(NamedTuple):
    """``field`` of a BGPPeer; what stands there, and what would be right."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Here:
    """This node. ``addresses``: InternalIPs of the Node object, by family. ``own``: all that the kernel has,
    16 bytes each.
    """

    node: str
    labels: Mapping[str, str]
    addresses: Mapping[int, Address]
    own: frozenset[bytes]

    @property
    def router_id(self) -> IPv4Address:
        """The node's IPv4 address; without one, a number that only depends on its name."""
        found = self.addresses.get(4)
        return found if isinstance(found, IPv4Address) else IPv4Address(crc32(self.node.encode()) or 1)


@dataclass(frozen=True, slots=True)
class Peer:
    """A session to configure. ``next_hops``: by family, what routes lead to; a family without one is not
    announced. Times in seconds, ``restart_time`` 0 without graceful restart. ``multihop`` 0: a neighbour.
    """

    name: str
    address: Address
    port: int
    asn: int
    local_asn: int
    source: Address
    next_hops: Mapping[int, Address]
    hold_time: int
    keepalive_time: int
    connect_retry: int
    restart_time: int
    multihop: int
    communities: tuple[tuple[int, ...], ...]
    announce: tuple[str, ...]

    @property
    def internal(self) -> bool:
        """IBGP."""
        return self.asn == self.local_asn


Judged = tuple[Peer | None, tuple[Problem, ...]]


def judge_all(objects: Iterable[BGPPeer], here: Here) -> dict[str, Judged]:
    """Those that are for this node, by name: each a session, or what must be mended.

    Of two with the same address the one that comes first by name has it.
    """
    found: dict[str, Judged] = {}
    holders: dict[Address, str] = {}
    for each in sorted(objects, key=lambda p: p.metadata.name):
        name, selector = each.metadata.name, each.spec.node_selector
        flaw = selector.flaw() if selector else ""
        if flaw:
            found[name] = None, (Problem("spec.nodeSelector", flaw),)
        elif selector is None or selector.matches(here.labels):
            found[name] = _without_double(judge(name, each.spec, here), holders)
    return found


def _without_double(judged: Judged, holders: dict[Address, str]) -> Judged:
    peer, problems = judged
    if peer is None:
        return judged
    holder = holders.setdefault(peer.address, peer.name)
    if holder == peer.name:
        return judged
    message = f"{peer.address} is BGPPeer {holder}'s on this node already; one session to a router is right"
    return None, (*problems, Problem("spec.peerAddress", message))


def judge(name: str, spec: BGPPeerSpec, here: Here) -> Judged:
    """One object, as if it were the only one."""
    address, problems = _peer_address(spec, here)
    source, wrong = _source(spec, address, here)
    communities, others = _communities(spec.communities or ())
    problems = [*problems, *wrong, *others, *_numbers(spec), *_choices(spec)]
    if problems or address is None or source is None:
        return None, tuple(problems)
    peer = Peer(
        name=name,
        address=address,
        port=spec.peer_port,
        asn=spec.peer_asn,
        local_asn=spec.local_asn,
        source=source,
        next_hops={**here.addresses, source.version: source},
        hold_time=spec.hold_time,
        keepalive_time=spec.keepalive_time or max(1, spec.hold_time // 3),
        connect_retry=spec.connect_retry,
        restart_time=spec.restart_time if spec.graceful_restart else 0,
        multihop=spec.ebgp_multihop,
        communities=communities,
        announce=EVERYTHING if spec.announce is None else spec.announce,
    )
    return peer, ()


def judge_password(text: str) -> str:
    """What is wrong with it as a key of RFC 2385 in BIRD's configuration; empty if nothing is."""
    if not text:
        return "is empty; 1 to 80 characters are right"
    if text != text.rstrip("\r\n"):
        return "ends in a line break, as `echo` makes it; take it away (`echo -n`)"
    if not _PASSWORD.fullmatch(text):
        return "has a character that BIRD cannot read; printable ASCII without quotation marks is right"
    return "" if len(text) <= LONGEST_PASSWORD else f"is longer than {LONGEST_PASSWORD} characters"


def _peer_address(spec: BGPPeerSpec, here: Here) -> tuple[Address | None, list[Problem]]:
    address, wrong = _address(spec.peer_address)
    if address is not None and to_bytes(address) in here.own:
        wrong = f"{address} is an address of node {here.node} itself; a router's is right"
    return address, [Problem("spec.peerAddress", wrong)] if wrong else []


def _source(
    spec: BGPPeerSpec, address: Address | None, here: Here
) -> tuple[Address | None, Sequence[Problem]]:
    """Where the session starts; without an address that is right there is nothing to say of it."""
    field = "spec.sourceAddress"
    if spec.source_address:
        source, wrong = _address(spec.source_address)
        if source is None:
            return None, [Problem(field, wrong)]
        if address is not None and source.version != address.version:
            return None, [Problem(field, f"{source} is not of the family of {address}")]
        if to_bytes(source) not in here.own:
            return None, [
                Problem(field, f"{source} is no address of node {here.node}; one of its own is right")
            ]
        return source, ()
    if address is None:
        return None, ()
    found = here.addresses.get(address.version)
    if found is None:
        message = f"node {here.node} has no InternalIP of the family of {address}; give one of its addresses"
        return None, [Problem(field, message)]
    return found, ()


def _address(text: str) -> tuple[Address | None, str]:
    try:
        address = ip_address(text)
    except ValueError:
        return None, f"{text[:60]!r} is not an IP address"
    if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_loopback:
        return None, f"{address} means something else on each machine; a router's own address is right"
    return address, ""


def _numbers(spec: BGPPeerSpec) -> Iterable[Problem]:
    longest = spec.hold_time - 1
    bounds = [
        ("peerASN", spec.peer_asn, 1, LARGEST_ASN),
        ("localASN", spec.local_asn, 1, LARGEST_ASN),
        ("peerPort", spec.peer_port, 1, 65535),
        ("holdTime", spec.hold_time, 3, 65535),
        ("connectRetry", spec.connect_retry, 1, 3600),
        ("restartTime", spec.restart_time, 1, 4095),
        ("ebgpMultihop", spec.ebgp_multihop, 0, 255),
    ]
    if spec.keepalive_time is not None:
        bounds.append(("keepaliveTime", spec.keepalive_time, 1, longest))
    for field, value, least, most in bounds:
        if not least <= value <= most:
            yield Problem(f"spec.{field}", f"{value} is not {least} to {most}")


def _choices(spec: BGPPeerSpec) -> Iterable[Problem]:
    if spec.ebgp_multihop and spec.peer_asn == spec.local_asn:
        message = (
            f"peerASN and localASN are both {spec.peer_asn}, so this is iBGP, which needs none; 0 is right"
        )
        yield Problem("spec.ebgpMultihop", message)
    if spec.announce is not None:
        if not spec.announce:
            yield Problem("spec.announce", f"is empty; {' and '.join(EVERYTHING)} are right, or one of them")
        for each in spec.announce:
            if each not in EVERYTHING:
                yield Problem("spec.announce", f"{each[:60]!r} is not {' or '.join(EVERYTHING)}")


def _communities(texts: Sequence[str]) -> tuple[tuple[tuple[int, ...], ...], list[Problem]]:
    found: list[tuple[int, ...]] = []
    problems: list[Problem] = []
    for index, text in enumerate(texts):
        parts = tuple(map(int, text.split(":"))) if _COMMUNITY.fullmatch(text) else ()
        most = 65535 if len(parts) == 2 else LARGEST_ASN
        if parts and max(parts) <= most:
            found.append(parts)
        else:
            message = f"{text[:60]!r} is neither a community (65000:100) nor a large one (65000:1:2)"
            problems.append(Problem(f"spec.communities[{index}]", message))
    return tuple(dict.fromkeys(found)), problems
