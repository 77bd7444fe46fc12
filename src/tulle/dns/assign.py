"""Addresses that this machine lacks, put on ``lo``: the cluster's DNS address on every node.

As a program, ``python -m tulle.dns.assign ADDRESS...`` takes them away again; the supervisor becomes it at
its orderly end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from ipaddress import ip_address, ip_interface

from tulle.errors import KernelError
from tulle.kernel import rtnetlink
from tulle.kernel.netlink import Netlink
from tulle.model.address import Interface

_LOOPBACK = 1
"""The index of ``lo`` in every network namespace."""


def assign(addresses: Iterable[str]) -> None:
    """Each that no link has. Raises ``KernelError``."""
    with Netlink() as netlink:
        present = {str(address.ip) for _, address in rtnetlink.addresses(netlink)}
        for each in map(_host, addresses):
            if str(each.ip) not in present:
                netlink.send([rtnetlink.add_address(_LOOPBACK, each)])


def release(addresses: Iterable[str]) -> None:
    """Each that is on ``lo`` as a host address outside the loopback range: nobody but us puts it there."""
    with Netlink() as netlink:
        present = rtnetlink.addresses(netlink)
        for each in map(_host, addresses):
            if (_LOOPBACK, each) in present and not each.is_loopback:
                netlink.send([rtnetlink.delete_address(_LOOPBACK, each)])


def _host(address: str) -> Interface:
    return ip_interface(ip_address(address))


if __name__ == "__main__":
    try:
        release(sys.argv[1:])
    except KernelError as failure:
        sys.exit(f"tulle: {failure}")
