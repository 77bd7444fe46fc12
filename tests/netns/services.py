"""Services for the tests of this folder: the table is written as an agent writes it, straight from plans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from nodes import Node, Pod
from tests.plans import plan_at

from tulle.agent.services.sockets import end_stale, find_stale
from tulle.kernel import libc, netns
from tulle.model.address import Address, to_bytes
from tulle.pod_to_service.plan import PROTOCOLS, Backend, Frontend, OnEmpty, PortPlan
from tulle.pod_to_service.table import Table

CIDRS: tuple[IPv4Network | IPv6Network, ...] = (ip_network("10.96.0.0/16"), ip_network("fd00:10:96::/112"))
ADDRESSES = {4: "10.96.0.7", 6: "fd00:10:96::7"}
UNALLOCATED = {4: "10.96.9.9", 6: "fd00:10:96::999"}
KEY = ("default", "web")


class Services:
    """The Service table of a node, and whose sockets are given Services."""

    def __init__(self, node: Node) -> None:
        self._datapath = node.datapath
        self.table = Table(self._datapath.maps, self._datapath.contract)
        self.table.set_cidrs(CIDRS)

    def close(self) -> None:
        """Takes the Service out again."""
        self.apply()

    def set_mode(self, pod: Pod, mode: str) -> None:
        """``socket`` or ``packet``."""
        kind = "POD" if mode == "socket" else "POD_PACKETS"
        addresses = [ip_address(ip) for ip in pod.ips]
        self._datapath.set_client(netns.cookie(pod.path), kind, addresses)

    def apply(self, *plans: PortPlan) -> None:
        """From now on the Service has these ports, and what was taken out is freed."""
        self.table.apply({KEY: plans})
        garbage = self.table.take_garbage()
        libc.await_readers()
        self.table.free(garbage)

    def end_stale_sockets(self, pod: Pod, *plans: PortPlan) -> Counter[int]:
        """Applies the plans, and ends the Pod's sockets that they leave without a backend; how many, by IP
        version.
        """
        changed = self.table.apply({KEY: plans})
        maps, contract = self._datapath.maps, self._datapath.contract
        stale = find_stale(maps["socket_flows"], contract, self.table.serving(changed))
        return end_stale(stale, {netns.cookie(pod.path): pod.path})


def plan(
    family: int,
    backends: Sequence[tuple[str, int]],
    protocol: str = "TCP",
    port: int = 80,
    affinity: int = 0,
    on_empty: OnEmpty = OnEmpty.REJECT,
    address: str = "",
) -> PortPlan:
    found = tuple(sorted(Backend(to_bytes(ip_address(a)), p) for a, p in backends))
    front: Address = ip_address(address or ADDRESSES[family])
    return plan_at(
        Frontend(to_bytes(front), port, PROTOCOLS[protocol]),
        service=KEY,
        port=f"{protocol}-{port}".lower(),
        backends=found,
        serving=found if protocol == "UDP" else (),
        affinity=affinity,
        on_empty=on_empty,
    )


def ip_of(place: Pod | Node, family: int) -> str:
    return next(ip for ip in place.ips if ip_address(ip).version == family)
