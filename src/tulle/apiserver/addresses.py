"""IP addresses and CIDRs in API objects: how they are read, what is wrong with one, a free one of many."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import chain

from tulle.apiserver.status import Cause, bad_value

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LEADING_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")
BAD_ADDRESS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
BAD_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
ZEROS = "must not have leading 0s"
MAPPED = "must not be an IPv4-mapped IPv6 address"


def parse(text: str) -> Address | None:
    """An address as Kubernetes reads a stored one (S-13): 010.0.0.5 and ::ffff:10.0.0.5 are 10.0.0.5."""
    try:
        address = ip_address(_plain(text))
    except ValueError:
        return None
    if "%" in text:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def parse_network(text: str) -> Network | None:
    """A CIDR, read as leniently; bits behind the prefix do not count."""
    try:
        return ip_network(_plain(text), strict=False) if "/" in text and "%" not in text else None
    except ValueError:
        return None


def _plain(text: str) -> str:
    """``text`` without leading zeros in its decimal part."""
    head, colon, tail = text.rpartition(":")
    return head + colon + LEADING_ZEROS.sub("", tail) if "." in tail else text


def family(text: str) -> str:
    """``IPv4`` or ``IPv6``, or nothing for what is no address or CIDR."""
    found = parse_network(text) if "/" in text else parse(text)
    return f"IPv{found.version}" if found else ""


def flaws(path: str, text: str, before: Collection[str] = ()) -> list[Cause]:
    """What is wrong with an address; what stood there ``before`` may stay, however it is written."""
    if text in before:
        return []
    if parse(text) is None:
        return [bad_value(path, text, BAD_ADDRESS)]
    return _sloppy(path, text)


def network_flaws(path: str, text: str, before: Collection[str] = ()) -> list[Cause]:
    """The same for a CIDR, which must also have no bits behind its prefix."""
    if text in before:
        return []
    network = parse_network(text)
    if network is None or not text.rpartition("/")[2].isdecimal():
        return [bad_value(path, text, BAD_CIDR)]
    causes = _sloppy(path, text)
    if not causes and parse(text.partition("/")[0]) != network.network_address:
        causes.append(bad_value(path, text, "must not have bits set beyond the prefix length"))
    return causes


def _sloppy(path: str, text: str) -> list[Cause]:
    if text != _plain(text):
        return [bad_value(path, text, ZEROS)]
    mapped = text.lower().startswith("::ffff:") and "." in text
    return [bad_value(path, text, MAPPED)] if mapped else []


def special(path: str, text: str) -> list[Cause]:
    """What an endpoint or an external address must not be: unspecified, loopback, link-local."""
    address = parse(text)
    if address is None:
        return []
    multicast = ip_network("224.0.0.0/24" if address.version == 4 else "ff02::/16")
    verdicts = {
        f"may not be unspecified ({text})": address.is_unspecified,
        "may not be in the loopback range (127.0.0.0/8, ::1/128)": address.is_loopback,
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)": address.is_link_local,
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)": address in multicast,
    }
    return [bad_value(path, text, detail) for detail, so in verdicts.items() if so]


def usable(network: Network) -> tuple[int, int]:
    """The first and the last address that a Service may have: not the network's own, nor IPv4's broadcast."""
    first, last = int(network.network_address) + 1, int(network.broadcast_address)
    return first, last - (network.version == 4)


def first_of(network: Network) -> str:
    """The address of Service ``default/kubernetes``."""
    return str(type(network.network_address)(usable(network)[0]))


def holds(network: Network, address: Address) -> bool:
    """Whether a Service may have ``address`` out of ``network``."""
    first, last = usable(network)
    return address.version == network.version and first <= int(address) <= last


def draw_address(network: Network, taken: Callable[[str], bool]) -> str | None:
    """A free address of ``network``, None when it is full."""
    first, last = usable(network)
    size, kind = last - first + 1, type(network.network_address)
    reserved = 0 if size <= 16 else min(max(16, size // 16), 256)
    found = draw(first, last, reserved, lambda number: taken(str(kind(number))))
    return None if found is None else str(kind(found))


def draw(first: int, last: int, reserved: int, taken: Callable[[int], bool]) -> int | None:
    """A number that is free, None if there is none.

    By chance, so that one that was freed comes back as late as can be, and from the first ``reserved`` only
    once all others are taken: those are for people to choose (KEP-3070, KEP-3668).
    """
    for low, high in ((first + reserved, last), (first, first + reserved - 1)):
        if low <= high:
            start = random.randrange(low, high + 1)
            for number in chain(range(start, high + 1), range(low, start)):
                if not taken(number):
                    return number
    return None
