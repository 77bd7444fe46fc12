"""The Services that verify has made to be reached from outside, and what the API then says of them. Pure."""

from __future__ import annotations

import ipaddress
import itertools
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tulle.verify.manifests import POD, ROLE
from tulle.verify.plan import Place, family_of
from tulle.verify.service_plan import Transport
from tulle.verify.services import SELECTED, service
from tulle.verify.statements import Family

OPEN: Final = "open"
ONE: Final = "one"
CLOSED: Final = "closed"
STAY: Final = "stay"
GUARDED: Final = "guarded"
BY_IP: Final = "by-ip"
ANNOUNCED: Final = "announced"
OPENED: Final = (OPEN, STAY, GUARDED, BY_IP)
"""Those to which all Pods belong, in every cluster."""

_CLASS: Final = "tulle.dev/verify"
"""Of load balancers that nobody makes: their addresses are verify's own, out of documentation's networks."""
_OWN_NETWORKS: Final = tuple(map(ipaddress.ip_network, ("198.51.100.0/24", "2001:db8:5e1f::/112")))


def manifests(outside: bool) -> list[dict[str, Any]]:
    """``ANNOUNCED`` is one whose address the cluster itself has to give: only a client outside needs that."""
    nobody, everybody = {ROLE: "nobody"}, SELECTED
    balanced = {"type": "LoadBalancer", "loadBalancerClass": _CLASS}
    affinity = {"clientIP": {"timeoutSeconds": 600}}
    made = [
        service(OPEN, selector=everybody, **balanced),
        service(CLOSED, selector=nobody, type="NodePort"),
        service(
            STAY,
            selector=everybody,
            type="NodePort",
            sessionAffinity="ClientIP",
            sessionAffinityConfig=affinity,
        ),
        service(BY_IP, selector=everybody, externalIPs=own_addresses()),
    ]
    return [*made, service(ANNOUNCED, selector=everybody, type="LoadBalancer")] if outside else made


def manifests_about(first: Place, ranges: Sequence[str]) -> list[dict[str, Any]]:
    """Those that need to know a Pod: ``ONE`` leads to it alone, ``GUARDED`` lets ``ranges`` in."""
    balanced = {"type": "LoadBalancer", "loadBalancerClass": _CLASS}
    return [
        service(ONE, selector={POD: first.pod}, externalTrafficPolicy="Local", **balanced),
        service(GUARDED, selector=SELECTED, loadBalancerSourceRanges=list(ranges), **balanced),
    ]


_NUMBERS = itertools.count(secrets.randbelow(1 << 32))


def own_addresses() -> list[str]:
    """One of each family, others at each call. By chance at first: two verifications at a time should not
    have the same.
    """
    number = next(_NUMBERS)
    return [str(network[number % (network.num_addresses - 2) + 1]) for network in _OWN_NETWORKS]


def single(address: str) -> str:
    """The network that consists of it."""
    return str(ipaddress.ip_network(address))


def balanced_at(service: dict[str, Any]) -> dict[str, Any]:
    """A patch of the status: what a load balancer would write there, in the families of the Service."""
    families = service["spec"].get("ipFamilies") or ()
    addresses = [address for address in own_addresses() if family_of(address) in families]
    return {"status": {"loadBalancer": {"ingress": [{"ip": address} for address in addresses]}}}


def is_balanced_by_us(service: dict[str, Any]) -> bool:
    """Its status is for verify to write."""
    return bool(service["spec"].get("loadBalancerClass") == _CLASS)


@dataclass(frozen=True)
class Gate:
    """One Service as it is reached from outside: its ports of nodes, its addresses, its health checks' port.

    ``vips`` are those of load balancers, and external IPs. An absent port is one that it does not have.
    """

    families: frozenset[Family] = frozenset()
    node_ports: Mapping[Transport, int] = field(default_factory=dict)
    vips: Mapping[Family, str] = field(default_factory=dict)
    health: int = 0


def gates(services: Iterable[dict[str, Any]]) -> dict[str, Gate]:
    """By name."""
    return {each["metadata"]["name"]: _gate(each) for each in services}


def _gate(service: dict[str, Any]) -> Gate:
    spec = service["spec"]
    ingress = (service.get("status") or {}).get("loadBalancer", {}).get("ingress") or ()
    addresses = [each["ip"] for each in ingress if each.get("ip") and each.get("ipMode", "VIP") == "VIP"]
    addresses += spec.get("externalIPs") or ()
    names: dict[str, Transport] = {"TCP": "tcp", "UDP": "udp"}
    return Gate(
        families=frozenset(spec.get("ipFamilies") or ()),
        node_ports={
            names[port["protocol"]]: port["nodePort"]
            for port in spec.get("ports") or ()
            if port.get("nodePort")
        },
        vips={family_of(address): address for address in addresses},
        health=spec.get("healthCheckNodePort", 0),
    )
