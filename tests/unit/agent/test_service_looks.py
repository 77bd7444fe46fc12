"""What `tulle status` says of both sides of a node's Services, once they have been read."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import msgspec
import pytest
from tests.plans import as_written

from tulle.agent.services.api import ApiSide, plan_all
from tulle.agent.services.describe import describe
from tulle.agent.services.look import confirmed, look_at
from tulle.agent.services.maps import KernelSide
from tulle.agent.services.shown import ServicesStatus, one_service
from tulle.agent.settings import Settings
from tulle.errors import TulleError
from tulle.model.address import Network, to_bytes
from tulle.model.services import EndpointSlice, Service
from tulle.pod_to_pod.programs import SOCKET_PROGRAMS
from tulle.pod_to_service.addresses import LOOPBACK
from tulle.pod_to_service.categorize import Location
from tulle.pod_to_service.plan import PortPlan

CIDR, OTHER = ip_network("10.96.0.0/16"), ip_network("10.97.0.0/16")
PROGRAMS = frozenset(SOCKET_PROGRAMS)


def service(name: str, address: str, **spec: object) -> Service:
    ports = [{"name": "http", "port": 80}]
    meta = {"name": name, "namespace": "default"}
    return msgspec.convert(
        {"metadata": meta, "spec": {"clusterIP": address, "ports": ports, **spec}}, Service
    )


def slice_of(name: str, *addresses: str) -> EndpointSlice:
    labels = {"kubernetes.io/service-name": name}
    meta = {"name": f"{name}-1", "namespace": "default", "labels": labels}
    endpoints = [{"addresses": [address]} for address in addresses]
    ports = [{"name": "http", "port": 8080}]
    body = {"metadata": meta, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}
    return msgspec.convert(body, EndpointSlice)


def api(*objects: Service | EndpointSlice, cidrs: frozenset[Network] | None = None) -> ApiSide:
    services = [each for each in objects if isinstance(each, Service)]
    slices = [each for each in objects if isinstance(each, EndpointSlice)]
    return plan_all(Location("here"), services, slices, cidrs, {})


def kernel(
    *plans: PortPlan, cidrs: frozenset[Network] = frozenset(), programs: frozenset[str] = PROGRAMS
) -> KernelSide:
    own = dict.fromkeys(LOOPBACK.values(), False) if programs else {}
    return KernelSide(as_written(*plans), frozenset(), cidrs, {}, {}, programs, own)


def as_asked(side: ApiSide) -> list[PortPlan]:
    return [port for plan in side.plans.values() for port in plan.ports]


OTHERS: dict[str, tuple[frozenset[Network] | None, frozenset[Network], frozenset[str], bool, list[str]]] = {
    "as it should be": (frozenset([CIDR]), frozenset([CIDR]), PROGRAMS, True, []),
    "S-16": (
        frozenset([CIDR]),
        frozenset([OTHER]),
        PROGRAMS,
        True,
        ["Service CIDR 10.96.0.0/16: missing in the kernel", "Service CIDR 10.97.0.0/16: only in the kernel"],
    ),
    "an API without ServiceCIDRs": (None, frozenset([OTHER]), PROGRAMS, True, []),
    "a program less": (
        None,
        frozenset(),
        PROGRAMS - {"connect6"},
        True,
        ["program at the sockets: connect6: missing in the kernel"],
    ),
    "kube-proxy's node": (frozenset([CIDR]), frozenset(), PROGRAMS, False, []),
    "kube-proxy's node, not quite": (
        frozenset([CIDR]),
        frozenset([CIDR]),
        PROGRAMS - {"connect4"},
        False,
        [
            "Service CIDR 10.96.0.0/16: only in the kernel",
            "program at the sockets: connect4: missing in the kernel",
        ],
    ),
}


@pytest.mark.parametrize(
    ("wanted", "there", "programs", "balanced", "differences"), OTHERS.values(), ids=OTHERS.keys()
)
def test_what_belongs_to_no_port(
    wanted: frozenset[Network] | None,
    there: frozenset[Network],
    programs: frozenset[str],
    balanced: bool,
    differences: list[str],
) -> None:
    look = look_at(api(cidrs=wanted), kernel(cidrs=there, programs=programs), Settings(services=balanced))
    found = describe(look, balanced)
    assert (list(found.differences), found.well) == (differences, not differences)
    mended = look_at(api(cidrs=wanted), kernel(cidrs=wanted or frozenset()), Settings())
    assert confirmed(mended, look).others == confirmed(look, mended).others == ()


def test_a_node_of_kube_proxy_needs_no_service() -> None:
    side = api(service("web", "10.96.0.7"))
    look = look_at(side, kernel(programs=frozenset()), Settings(services=False))
    assert describe(look, balanced=False).ports == ()


@pytest.fixture
def several() -> ServicesStatus:
    objects = [
        service("web", "10.96.0.7"),
        service("web-2", "10.96.0.70", sessionAffinity="Client"),
        service("six", "fd00::7"),
        service("nothing", "None"),
        slice_of("web", "10.1.0.1", "nowhere"),
    ]
    side = api(*objects)
    return describe(look_at(side, kernel(*as_asked(side)), Settings()), balanced=True)


@pytest.mark.parametrize(
    ("name", "services", "problems"),
    [
        ("default/web", ["default/web"], ["EndpointSlice default/web-1: endpoints[1].addresses: 'nowhere'"]),
        ("10.96.0.7", ["default/web"], ["EndpointSlice default/web-1: endpoints[1].addresses: 'nowhere'"]),
        ("default/web-2", ["default/web-2"], ["Service default/web-2: spec.sessionAffinity: 'Client'"]),
        ("fd00:0::7", ["default/six"], []),
    ],
)
def test_one_service(several: ServicesStatus, name: str, services: list[str], problems: list[str]) -> None:
    """By its name or its address, with what is wrong about it."""
    found = one_service(several, name)
    assert [port.service for port in found.ports] == services
    assert len(found.problems) == len(problems)
    assert all(f.message.startswith(p) for f, p in zip(found.problems, problems, strict=True))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("default/nothing", "needs nothing in the kernel (headless"),
        ("default/we", "there is none"),
        ("10.96.0.8", "there is none"),
        ("fd00::", "there is none"),
        ("web", "is neither NAMESPACE/NAME nor an IP address"),
    ],
)
def test_no_such_service(several: ServicesStatus, name: str, reason: str) -> None:
    with pytest.raises(TulleError) as raised:
        one_service(several, name)
    assert str(raised.value).startswith(f"--service {name}: {reason}")


def test_two_services_with_one_address() -> None:
    """The first in the API's list has it; of the other, the problem is told."""
    side = api(service("a", "10.96.0.7"), service("b", "10.96.0.7"))
    found = describe(look_at(side, kernel(*as_asked(side)), Settings()), balanced=True)
    assert [port.service for port in found.ports] == ["default/a"]
    assert [problem.service for problem in found.problems] == ["default/b"]
    assert to_bytes(ip_address("10.96.0.7")) in side.plans["default", "a"].ports[0].frontends[0]
