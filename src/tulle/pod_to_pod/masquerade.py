"""Pods to the outside: the one place where the host's stack translates an address (N-08).

The outside has no route to a Pod, so what leaves the cluster carries the node's address. What stays
inside never does: not to Pods, not to nodes, nor to the destinations that the setting
``masquerade_except`` lists.

The source ports come from the range that the kernel gives out by itself, never from that of node ports:
an answer must not look like a packet to one.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import collapse_addresses, ip_network
from typing import Final

from tulle.model.address import Network

TABLE = "tulle"
PORTS: Final = "32768-60999"
"""Linux' default of ``net.ipv4.ip_local_port_range``; node ports are 30000 to 32767 by default."""
MULTICAST: Final[tuple[Network, ...]] = (ip_network("224.0.0.0/4"), ip_network("ff00::/8"))


def ruleset(pods: Iterable[Network], kept: Iterable[Network], mark: int) -> str:
    """The nftables table, in the form that replaces the former one in one transaction.

    ``pods``: this node's Pod CIDRs, whose Pods are masqueraded. ``kept``: destinations that see the Pod.
    ``mark``: on packets that are to be masqueraded whoever sent them.
    """
    kept = list(kept)
    lines = [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    rules = [f"    meta mark {mark:#x} goto out"]
    for cidr in pods:
        family = "ip" if cidr.version == 4 else "ip6"
        lines += _set(cidr.version, kept)
        rules.append(f"    {family} saddr {cidr} {family} daddr != @kept{cidr.version} goto out")
    lines += ["  chain out {"]
    lines += [f"    meta l4proto {{ tcp, udp }} counter masquerade to :{PORTS} fully-random"]
    lines += ["    counter masquerade fully-random", "  }"]
    lines += ["  chain postrouting {", "    type nat hook postrouting priority srcnat; policy accept;"]
    return "\n".join([*lines, *rules, "  }", "}", ""])


def _set(version: int, kept: Iterable[Network]) -> list[str]:
    """A named set, to which nftables has a fast lookup; overlapping prefixes become one."""
    elements = [n for n in (*MULTICAST, *kept) if n.version == version]
    text = ", ".join(map(str, collapse_addresses(elements)))  # type: ignore[type-var]
    return [
        f"  set kept{version} {{",
        f"    type ipv{version}_addr; flags interval",
        f"    elements = {{ {text} }}",
        "  }",
    ]


def removal() -> str:
    """Takes the table away; nothing happens when there is none."""
    return f"table inet {TABLE}\ndelete table inet {TABLE}\n"
