"""Services as *world* reaches them: endpoints L on node-1 and R on node-2, clients of all kinds, routes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from livelab import PATIENCE, Cluster, Object, Pods, run
from loads import ENDS, MOUNT, ask, offer_ends, who
from tests import ends

from tulle.kube.client import Client
from tulle.kube.resources import SERVICES

HERE, THERE = "node-1", "node-2"
FAMILIES = ("IPv4", "IPv6")
MODES = ("socket", "packet")
WAYS = ("tcp", "udp", "udp-unconnected")
VIPS = {"IPv4": "198.51.100.7", "IPv6": "2001:db8:51::7"}
PORTS = [
    {"name": "tcp", "port": 80, "targetPort": 8080},
    {"name": "udp", "port": 80, "targetPort": 8080, "protocol": "UDP"},
    {"name": "lines", "port": 81, "targetPort": 8081},
]
SILENCE, REFUSED = {"TimeoutError"}, {"ConnectionRefusedError"}


def family_of(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


class Doors:
    """The Pods of one test, and what is asked of them from everywhere."""

    def __init__(self, lab: Cluster, pods: Pods, client: Client) -> None:
        self.lab = lab
        self.pods = pods
        self.client = client
        topology = lab.lab.topology
        hosts = {host.name: host for host in topology.hosts}
        self.at = {
            name: {f"IPv{a.version}": str(a.ip) for a in host.addresses} for name, host in hosts.items()
        }
        """Addresses by host and family."""

    async def set_up(self, clients: Iterable[str] = (HERE, THERE)) -> None:
        """Clients on each of these nodes: a Pod in each mode, and the node itself."""
        await offer_ends(self.client, self.pods.namespace)
        names = []
        for name, node in (("L", HERE), ("R", THERE)):
            names.append(f"server-{name.lower()}")
            await self.server(names[-1], name, node)
        for node in clients:
            for mode in MODES:
                choice = {"tulle.dev/socket-services": "true" if mode == "socket" else "false"}
                names.append(f"{mode}-{node}")
                await self._client(names[-1], nodeName=node, annotations=choice)
            names.append(f"host-{node}")
            await self._client(names[-1], nodeName=node, hostNetwork=True)
        for name in names:
            await self.pods.ready(name)

    async def server(self, pod: str, name: str, node: str, **more: Any) -> None:
        """Answers as ``name``: TCP and UDP at 8080, TCP line by line at 8081."""
        containers = [
            {"name": c, "image": "host", "command": [*ENDS, "serve", name, c, port], **_mounts()}
            for c, port in (("both", "8080"), ("tcp-lines", "8081"))
        ]
        for each in containers:
            port = int(each["command"][-1])
            each["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
        spec = {"containers": containers, "volumes": MOUNT["volumes"], "nodeName": node, **more}
        await self.pods.create(pod, labels={"role": "server", "name": name}, **spec)

    async def _client(self, pod: str, **more: Any) -> None:
        await self.pods.create(pod, "sleep", "infinity", **MOUNT, **more)

    async def service(self, name: str, status: Object | None = None, **spec: Any) -> Object:
        """A Service of type NodePort, if nothing else is said."""
        wanted = {
            "type": "NodePort",
            "ipFamilyPolicy": "PreferDualStack",
            "selector": {"role": "server"},
            "ports": PORTS,
            **spec,
        }
        body = {"metadata": {"name": name}, "spec": wanted}
        made = await self.client.create(SERVICES, body, self.pods.namespace)
        if status:
            made = await self.balance(name, status)
        return made

    async def balance(self, name: str, *ingress: Object) -> Object:
        """Writes what a load balancer would."""
        patch = {"status": {"loadBalancer": {"ingress": list(ingress)}}}
        return await self.client.patch(SERVICES, name, patch, self.pods.namespace, subresource="status")

    async def change(self, name: str, **spec: Any) -> None:
        await self.client.patch(SERVICES, name, {"spec": spec}, self.pods.namespace)

    async def inside(
        self, pod: str, how: str, address: str, port: int, times: int = 1, patience: float = ends.PATIENCE
    ) -> list[Any]:
        """What a Pod saw."""
        words = (*ENDS, "ask", how, address, *map(str, (port, times, 64, patience)))
        container = "both" if pod.startswith("server") else "main"
        lines = (await self.pods.run(pod, *words, container=container)).splitlines()
        return [json.loads(line) for line in lines]

    async def until(
        self, place: str, how: str, address: str, port: int, wanted: set[str], times: int = 20
    ) -> list[Any]:
        """Asks from ``world`` or a Pod until exactly ``wanted`` answer."""
        how_often = (1, ends.SILENCE) if wanted == SILENCE else (times, ends.PATIENCE)
        found: list[Any] = []
        try:
            async with asyncio.timeout(PATIENCE):
                while set(who(found)) != wanted:
                    found = await self.asked(place, how, address, port, *how_often)
        except TimeoutError:
            seen = set(who(found))
            raise AssertionError(f"{place} {how} {address} {port}: {wanted} wanted, found {seen}") from None
        return found

    async def addresses(self, place: str) -> dict[str, str]:
        """By family."""
        if place == "world":
            return self.at[place]
        status = (await self.pods.ready(place))["status"]
        return {family_of(each["ip"]): each["ip"] for each in status["podIPs"]}

    async def until_served(self, place: str, address: str, port: int) -> None:
        """Asks until either endpoint answers."""
        async with asyncio.timeout(PATIENCE):
            while not set(who(await self.asked(place, "tcp", address, port))) <= {"L", "R"}:
                pass

    async def asked(
        self, place: str, how: str, address: str, port: int, times: int = 1, patience: float = ends.PATIENCE
    ) -> list[Any]:
        if place == "world":
            return await ask(self.lab, how, address, port, times, patience=patience)
        return await self.inside(place, how, address, port, times, patience)


def _mounts() -> Object:
    return {"volumeMounts": MOUNT["volumeMounts"]}


def node_port(service: Object, name: str = "tcp") -> int:
    return next(int(p["nodePort"]) for p in service["spec"]["ports"] if p["name"] == name)


@contextmanager
def routed(lab: Cluster, prefix: str, via: str) -> Iterator[None]:
    """The underlay's router sends ``prefix`` to that address."""
    route(lab, "add", prefix, via)
    try:
        yield
    finally:
        underlay(lab, "ip", "route", "del", prefix)


def route(lab: Cluster, verb: str, prefix: str, via: str) -> None:
    underlay(lab, "ip", "route", verb, prefix, "via", via)


def underlay(lab: Cluster, *command: str) -> None:
    run(["nsenter", f"--net={lab.paths.netns('underlay')}", *command])


@contextmanager
def narrow(lab: Cluster, mtu: int) -> Iterator[None]:
    """The router has a smaller MTU towards *world*, of which *world* itself knows nothing."""
    underlay(lab, "ip", "link", "set", "outside", "mtu", str(mtu))
    try:
        yield
    finally:
        underlay(lab, "ip", "link", "set", "outside", "mtu", str(lab.lab.topology.mtu))


def too_big(lab: Cluster) -> dict[str, int]:
    """How many packets the router could not send on in one piece, by family."""
    enter = ["nsenter", f"--net={lab.paths.netns('underlay')}", "cat"]
    heads, values = [
        line.split() for line in run([*enter, "/proc/net/snmp"]).stdout.splitlines() if line.startswith("Ip:")
    ]
    six = dict(line.split() for line in run([*enter, "/proc/net/snmp6"]).stdout.splitlines())
    return {"IPv4": int(values[heads.index("FragFails")]), "IPv6": int(six["Ip6InTooBigErrors"])}


@contextmanager
def cut_off(lab: Cluster, node: str) -> Iterator[None]:
    """Its cable is out."""
    underlay(lab, "ip", "link", "set", node, "down")
    try:
        yield
    finally:
        underlay(lab, "ip", "link", "set", node, "up")
