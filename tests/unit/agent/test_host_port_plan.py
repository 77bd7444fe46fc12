"""From a Pod's record to the Service table, to `tulle status`, and to Events: the pure part of host ports."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from tulle.agent.host_ports.plan import plan_host_ports, table_key, udp_ends
from tulle.agent.host_ports.problems import as_problems, find_faults, find_rivals
from tulle.agent.host_ports.status import describe, split
from tulle.cli.status.host_ports import HEADS, rows
from tulle.external_to_service.host_ports import Fault
from tulle.model.address import to_bytes
from tulle.model.host_ports import HostPort
from tulle.pod_to_pod.store import Attachment
from tulle.pod_to_service.entries import LeadsTo
from tulle.pod_to_service.observed import KernelPort, KernelTable
from tulle.pod_to_service.plan import Backend, Choice, Frontend, Kind, Problem, Scope, Traffic

V4, V6 = "10.244.1.2", "fd00:244:1::2"
PLACE = "spec.containers[0].ports[0]"


def raw(address: str) -> bytes:
    return to_bytes(ip_address(address))


def pod(*ports: HostPort, ips: tuple[str, ...] = (V4, V6), **more: Any) -> Attachment:
    named = {"namespace": "default", "pod": "web", "uid": "u1"} | more
    return Attachment("c1", "eth0", "/x", "tulx", "", ips, host_ports=ports, **named)


def test_one_plan_for_each_end_in_the_pod() -> None:
    web = pod(HostPort(8080, 80), HostPort(8081, 80, "TCP", "10.0.0.1"), HostPort(53, 53, "UDP", "::1"))
    v4, v6, dns = plan_host_ports(web)
    assert {each.service for each in (v4, v6, dns)} == {table_key(web)} == {("hostPort", "tulx")}
    assert v4.frontends == (
        Frontend(raw("0.0.0.0"), 8080, 6, Scope.HOST_PORT),
        Frontend(raw("10.0.0.1"), 8081, 6, Scope.ADDRESS),
    )
    assert v4.cluster == Choice((Backend(raw(V4), 80),))
    assert v6.frontends == (Frontend(raw("::"), 8080, 6, Scope.HOST_PORT),)
    assert dns.frontends == (Frontend(raw("::1"), 53, 17),)
    assert dns.cluster == Choice((Backend(raw(V6), 53),), (Backend(raw(V6), 53),))
    assert [(p.family, p.protocol, p.port, p.affinity, p.local) for p in (v4, v6, dns)] == [
        (4, 6, "80", 0, None),
        (6, 6, "80", 0, None),
        (6, 17, "53", 0, None),
    ]
    leads = [lead for plan in (v4, v6, dns) for lead in plan.leads]
    assert {(lead.kind, lead.inside, lead.outside, lead.sources) for lead in leads} == {
        (Kind.HOST_PORT, Traffic.CLUSTER, Traffic.CLUSTER, None)
    }
    assert udp_ends(web) == {Backend(raw(V6), 53)}


def test_a_pod_without_host_ports_needs_nothing() -> None:
    assert plan_host_ports(pod()) == ()


def test_what_is_told() -> None:
    own = frozenset({raw("10.0.0.1")})
    web = pod(
        HostPort(1, 1, "TCP", "10.0.0.1", "a"),
        HostPort(2, 2, "TCP", "10.0.0.2", "b"),
        HostPort(3, 3, "TCP", "::", "c"),
        HostPort(4, 4, "TCP", "127.0.0.1", "d"),
        HostPort(5, 5, "TCP", "0.0.0.0", "e"),
        HostPort(6, 6),
        ips=(V4,),
    )
    foreign, lacking = find_faults(web, own)
    assert foreign == Fault(
        "b.hostIP", "10.0.0.2 is no address of this node: until it is, nobody comes by 10.0.0.2:2/TCP"
    )
    assert lacking.field == "c.hostIP" and "no address of the family of ::" in lacking.message
    assert [fault.field for fault in find_faults(web, frozenset())] == ["c.hostIP"]
    told = list(as_problems(web, None, [foreign]))
    assert told == [Problem("Pod", ("default", "web"), "b.hostIP", foreign.message, "u1")]
    assert list(as_problems(pod(pod="", namespace=""), None, [foreign])) == []


def test_rivals_are_told_of() -> None:
    """Which goes first, by the order in which the kernel looks."""
    web = pod(HostPort(30080, 1, "TCP", "", "a"), HostPort(30080, 2, "TCP", "10.0.0.1", "b"), HostPort(5, 5))
    owners = {(30080, "TCP"): ("default", "api"), (30080, "UDP"): ("default", "dns")}
    everywhere, single = find_rivals(web, lambda *port: owners.get(port))
    assert everywhere.field == "a.hostPort" and single.field == "b.hostPort"
    node_port = "node port 30080/TCP of Service default/api"
    assert everywhere.message.startswith(f"{node_port} goes before *:30080/TCP;")
    assert single.message.startswith(f"10.0.0.1:30080/TCP goes before {node_port};")


def kernel(index: int, *frontends: Frontend, backend: Backend, hits: int = 0) -> KernelTable:
    port = KernelPort(index, frontends, Choice((backend,)), hits=hits)
    return KernelTable({index: port}, dict.fromkeys(frontends, LeadsTo(index, index)))


def merged(*tables: KernelTable) -> KernelTable:
    ports = {index: port for table in tables for index, port in table.ports.items()}
    leads = {frontend: to for table in tables for frontend, to in table.leads.items()}
    return KernelTable(ports, leads, refusing=frozenset({raw("10.96.0.7")}))


def test_status_tells_host_ports_and_services_apart() -> None:
    """Those on one address by the records; those on all addresses in any case."""
    web = pod(HostPort(8080, 80, "TCP", "10.0.0.1"), ips=(V4,))
    plans = plan_host_ports(web)
    service = kernel(2, Frontend(raw("10.96.0.7"), 80, 6), backend=Backend(raw("10.244.1.9"), 1))
    there = kernel(3, *plans[0].frontends, backend=Backend(raw(V4), 80), hits=7)
    stray = kernel(4, Frontend(raw("::"), 9, 17, Scope.HOST_PORT), backend=Backend(raw(V6), 9))
    services, ports = split(merged(service, there, stray), plans)
    assert (services.ports, services.leads) == (service.ports, service.leads)
    assert services.refusing == {raw("10.96.0.7")}
    unknown, known = describe(plans, ports, {table_key(web): "default/web"})
    assert (known.host_ports, known.pod, known.leads_to) == (
        ("10.0.0.1:8080/TCP",),
        "default/web",
        (f"{V4}:80",),
    )
    assert (known.hits, known.differences) == (7, ())
    assert unknown.pod == "" and unknown.differences == ("[::]:9/UDP (host port): only in the kernel",)
    assert all(len(row) == len(HEADS) for row in rows([known, unknown]))


def test_status_tells_what_is_missing() -> None:
    plans = plan_host_ports(pod(HostPort(8080, 80), ips=(V4,)))
    [found] = describe(plans, KernelTable({}, {}), {("hostPort", "tulx"): "default/web"})
    assert found.differences[0] == "0.0.0.0:8080/TCP (host port): missing in the kernel"
    assert rows([found])[0][1:3] == ("default/web", "nowhere")
