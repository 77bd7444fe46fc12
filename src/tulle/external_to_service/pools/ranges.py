"""Ranges of addresses, as a pool names them: ``203.0.113.0/28``, ``203.0.113.200-203.0.113.220``, or one."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from tulle.model.address import Address, Network

_SPECIAL = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"),
            *("::/127", "::ffff:0:0/96", "fe80::/10", "ff00::/8"),
        ),
    )
)
_EXAMPLE = "a CIDR such as 203.0.113.0/28 or a range such as 203.0.113.200-203.0.113.220"


@dataclass(frozen=True, slots=True)
class Range:
    """From ``first`` to ``last``, both included, of one family."""

    first: Address
    last: Address

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.first.version

    @property
    def size(self) -> int:
        """How many addresses it has."""
        return int(self.last) - int(self.first) + 1

    def __contains__(self, address: Address) -> bool:
        return address.version == self.version and int(self.first) <= int(address) <= int(self.last)

    def overlaps(self, other: Range) -> bool:
        """Whether there is an address that both have."""
        same = self.version == other.version
        return same and int(self.first) <= int(other.last) and int(other.first) <= int(self.last)

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def of_network(network: Network) -> Range:
    """All of its addresses; also the first and the last, which are as good as any for a Service."""
    return Range(network[0], network[-1])


def parse(text: str) -> Range:
    """Raises ``ValueError`` with a sentence that says what is wrong and what would be right."""
    if "%" in text:
        raise ValueError(f"{text!r} has a zone, which means nothing outside of one machine")
    found = _parse_pair(text) if "-" in text else _parse_network(text)
    for special in _SPECIAL:
        if found.overlaps(of_network(special)):
            raise ValueError(f"{text!r} has addresses of {special}, which lead to no one machine")
    return found


def _parse_pair(text: str) -> Range:
    try:
        first, last = (ip_address(part.strip()) for part in text.split("-"))
    except ValueError as error:
        raise ValueError(f"{text!r} cannot be read; {_EXAMPLE} is needed") from error
    if first.version != last.version:
        raise ValueError(f"{text!r} begins with IPv{first.version} and ends with IPv{last.version}")
    if int(first) > int(last):
        raise ValueError(f"{text!r} ends before it begins; {last}-{first} may be meant")
    return Range(first, last)


def _parse_network(text: str) -> Range:
    try:
        network = ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise ValueError(f"{text!r} cannot be read; {_EXAMPLE} is needed") from error
    if str(network.network_address) != str(ip_address(text.strip().split("/")[0])):
        raise ValueError(f"{text!r} is within a network, not one; {network} may be meant")
    return of_network(network)
