"""Live changes: what becomes dirty, and what its plan is then (S-01, S-03, S-04, S-15, S-27, S-74)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from service_objects import HERE, endpoint, endpoint_slice, hints, raw, said, service
from tests.plans import inside

from tulle.kube.cache import WatchCache
from tulle.kube.resources import Item
from tulle.model.services import EndpointSlice, Service, ServiceLabels, ServicePort, SliceLabels
from tulle.pod_to_service.categorize import Location
from tulle.pod_to_service.plan import Frontend, PortPlan, ServicePlan
from tulle.pod_to_service.tracker import Tracker

WEB = ("default", "web")
ONE = endpoint_slice(endpoint("10.1.0.1"), name="one")
TWO = endpoint_slice(endpoint("10.1.0.2"), name="two")


class Node:
    """A tracker that hears of changes as from informers."""

    def __init__(self, *objects: Service | EndpointSlice) -> None:
        self.tracker = Tracker(HERE)
        self._services: WatchCache[Service] = WatchCache()
        self._slices: WatchCache[EndpointSlice] = WatchCache()
        self.put(*objects)

    def put(self, *objects: Service | EndpointSlice) -> None:
        for value in objects:
            key = (value.metadata.namespace, value.metadata.name)
            if isinstance(value, Service):
                if change := self._services.put(Item(key, "", value)):
                    self.tracker.service_changed(change)
            elif slice_change := self._slices.put(Item(key, "", value)):
                self.tracker.slice_changed(slice_change)

    def remove(self, value: Service | EndpointSlice) -> None:
        key = (value.metadata.namespace, value.metadata.name)
        if change := self._services.remove(key) if isinstance(value, Service) else None:
            self.tracker.service_changed(change)
        elif slice_change := self._slices.remove(key):
            self.tracker.slice_changed(slice_change)

    def dirty(self) -> list[str]:
        return [name for _, name in self.tracker.take_dirty()]

    def port(self) -> PortPlan:
        (port,) = self.tracker.plan(WEB).ports
        return port

    def backends(self) -> list[str]:
        return said(inside(self.port()).backends)


def relabelled(value: EndpointSlice, labels: SliceLabels | None) -> EndpointSlice:
    return msgspec.structs.replace(value, metadata=msgspec.structs.replace(value.metadata, labels=labels))


@pytest.mark.parametrize("order", [(service(), ONE, TWO), (TWO, ONE, service()), (ONE, service(), TWO)])
def test_whatever_comes_first(order: tuple[Service | EndpointSlice, ...]) -> None:
    node = Node(*order)
    assert node.dirty() == ["web"]
    assert node.backends() == ["10.1.0.1:8080", "10.1.0.2:8080"]


def test_dirty_once_and_the_longest_waiting_first() -> None:
    node = Node(service("10.96.0.2", name="b"), service("10.96.0.3", name="a"), service())
    node.put(service("10.96.0.2", name="b", internal_traffic_policy="Local"))
    assert node.dirty() == ["b", "a", "web"]
    assert node.dirty() == []


def test_a_slice_that_changes_and_goes() -> None:
    node = Node(service(), ONE, TWO)
    node.dirty()
    node.put(endpoint_slice(endpoint("10.1.0.9"), name="one"))
    assert node.dirty() == ["web"]
    assert node.backends() == ["10.1.0.2:8080", "10.1.0.9:8080"]
    node.remove(TWO)
    assert node.dirty() == ["web"]
    assert node.backends() == ["10.1.0.9:8080"]


def test_slices_of_nobody_we_know_make_nothing_dirty() -> None:
    """S-04."""
    node = Node(endpoint_slice(endpoint("10.1.0.1"), owner=None), endpoint_slice(owner="other", name="o"))
    assert node.dirty() == []


def test_a_slice_that_changes_hands() -> None:
    """S-04."""
    node = Node(service(), service("10.96.0.2", name="other"), ONE)
    node.dirty()
    node.put(relabelled(ONE, SliceLabels("other")))
    assert sorted(node.dirty()) == ["other", "web"]
    assert node.backends() == []
    assert said(inside(node.tracker.plan(("default", "other")).ports[0]).backends) == ["10.1.0.1:8080"]


@pytest.mark.parametrize(
    "labels",
    [None, SliceLabels("web", headless=""), SliceLabels("web", proxy_name="mesh"), SliceLabels("")],
)
def test_labels_that_take_a_slice_away_and_back(labels: SliceLabels | None) -> None:
    """S-03, S-04."""
    node = Node(service(), ONE, relabelled(TWO, labels))
    assert node.backends() == ["10.1.0.1:8080"]
    node.dirty()
    node.put(TWO)
    assert (node.dirty(), node.backends()) == (["web"], ["10.1.0.1:8080", "10.1.0.2:8080"])
    node.put(relabelled(TWO, labels))
    assert (node.dirty(), node.backends()) == (["web"], ["10.1.0.1:8080"])


@pytest.mark.parametrize("labels", [ServiceLabels(proxy_name="mesh"), ServiceLabels(headless="")])
def test_labels_that_take_a_service_away_and_back(labels: ServiceLabels) -> None:
    """S-01, S-03."""
    node = Node(service(), ONE)
    taken = msgspec.structs.replace(
        service(), metadata=msgspec.structs.replace(service().metadata, labels=labels)
    )
    node.dirty()
    node.put(taken)
    assert (node.dirty(), node.tracker.plan(WEB)) == (["web"], ServicePlan())
    node.put(service())
    assert (node.dirty(), node.backends()) == (["web"], ["10.1.0.1:8080"])


@pytest.mark.parametrize(
    ("spec", "changed"),
    [
        ({"internal_traffic_policy": "Local"}, {"leads", "cluster", "local"}),
        ({"session_affinity": "ClientIP"}, {"affinity"}),
        ({"ports": (ServicePort(81, "http"),)}, {"leads"}),
        ({"type": "NodePort", "ports": (ServicePort(80, "http", node_port=30080),)}, {"leads"}),
        ({"external_traffic_policy": "Local", "type": "LoadBalancer"}, set()),
        ({"load_balancer_source_ranges": ("10.0.0.0/8",)}, set()),
    ],
)
def test_what_a_live_change_of_the_spec_changes(spec: dict[str, Any], changed: set[str]) -> None:
    """S-27, S-48, S-74."""
    node = Node(service(), endpoint_slice(endpoint("10.1.0.1", node="here"), endpoint("10.1.0.2")))
    before = node.port()
    node.dirty()
    node.put(service(**spec))
    assert node.dirty() == ["web"]
    after = node.port()
    assert {f for f in PortPlan.__slots__ if getattr(before, f) != getattr(after, f)} == changed


def test_the_type_may_change_to_external_name_and_back() -> None:
    """S-27."""
    node = Node(service(), ONE)
    node.put(service(type="ExternalName", external_name="example.org"))
    assert node.tracker.plan(WEB) == ServicePlan()
    node.put(service("10.96.0.77"))
    assert node.port().frontends[0].address == raw("10.96.0.77")


def test_a_service_that_is_gone_has_no_plan() -> None:
    node = Node(service(), ONE)
    node.dirty()
    node.remove(service())
    assert (node.dirty(), node.tracker.plan(WEB)) == (["web"], ServicePlan())
    node.put(service())
    assert (node.dirty(), node.backends()) == (["web"], ["10.1.0.1:8080"])


def test_the_nodes_zone_makes_all_dirty() -> None:
    """S-15."""
    zoned = endpoint_slice(
        endpoint("10.1.0.1", hints=hints(("zone-a",))), endpoint("10.1.0.2", hints=hints(("zone-b",)))
    )
    node = Node(service(), service("10.96.0.2", name="other"), zoned)
    node.dirty()
    node.tracker.move(HERE)
    assert node.dirty() == []
    node.tracker.move(Location("here", "zone-b"))
    assert (node.dirty(), node.backends()) == (["web", "other"], ["10.1.0.2:8080"])


def test_an_address_that_two_services_have_belongs_to_the_first() -> None:
    node = Node(service(), service(name="late"), service(name="later"), ONE)
    late = node.tracker.plan(("default", "late"))
    assert late.ports == ()
    assert [(p.field, p.message) for p in late.problems] == [
        (
            "spec.clusterIPs",
            "10.96.0.1 is the address of Service default/web already; one that is free is right",
        )
    ]
    node.dirty()
    node.remove(service(name="late"))
    node.remove(service())
    assert node.dirty() == ["late", "web", "later"]
    assert len(node.tracker.plan(("default", "later")).ports) == 1


def test_an_heir_gets_only_the_address_that_became_free() -> None:
    node = Node(service("10.96.0.1", "fd00:10:96::1"), service("10.96.0.1", "fd00:10:96::1", name="late"))
    node.dirty()
    node.put(service("10.96.0.1"))
    assert node.dirty() == ["web", "late"]
    assert [p.family for p in node.tracker.plan(("default", "late")).ports] == [6]
    node.put(service("10.96.0.9"))
    assert [p.family for p in node.tracker.plan(("default", "late")).ports] == [4, 6]


def test_who_waits_for_an_address_may_stop_to() -> None:
    node = Node(service(), service(name="late"))
    node.put(service("10.96.0.2", name="late"))
    assert len(node.tracker.plan(WEB).ports) == len(node.tracker.plan(("default", "late")).ports) == 1
    node.dirty()
    node.remove(service())
    assert node.dirty() == ["web"]
    node.put(service())
    assert node.tracker.plan(WEB).problems == ()


OUTSIDE = {"external_ips": ("203.0.113.250",)}


def test_services_on_different_ports_share_an_address_outside() -> None:
    """S-23: only a whole frontend is one Service's."""
    other = service("10.96.0.2", name="other", ports=(ServicePort(81, "http"),), **OUTSIDE)
    node = Node(service(**OUTSIDE), other)
    assert [len(node.tracker.plan(("default", n)).problems) for n in ("web", "other")] == [0, 0]
    assert len(node.tracker.plan(("default", "other")).ports[0].leads) == 2


def test_a_frontend_outside_that_two_services_have_belongs_to_the_first() -> None:
    """Of the other, all else is served; it gets the frontend once that is free."""
    node = Node(service(**OUTSIDE), service("10.96.0.2", name="late", **OUTSIDE), ONE)
    late = node.tracker.plan(("default", "late"))
    assert [(p.field, p.message) for p in late.problems] == [
        (
            "spec.externalIPs",
            "203.0.113.250:80/TCP belongs to Service default/web already; one that is free is right",
        )
    ]
    assert [f.address for f in late.ports[0].frontends] == [raw("10.96.0.2")]
    node.dirty()
    node.put(service())
    assert node.dirty() == ["web", "late"]
    assert len(node.tracker.plan(("default", "late")).ports[0].leads) == 2


def test_a_frontend_that_is_reserved_is_no_services_whoever_came_first() -> None:
    """N-10: a host port of a Pod; of the Service, all else is served."""
    node = Node(service(**OUTSIDE), ONE)
    node.dirty()
    frontend = Frontend(raw("203.0.113.250"), 80, 6)
    assert node.tracker.reserve({frontend: "Pod default/p"}) and node.dirty() == ["web"]
    assert not node.tracker.reserve({frontend: "Pod default/p"}), "nothing new"
    plan = node.tracker.plan(("default", "web"))
    assert [(p.field, p.message) for p in plan.problems] == [
        (
            "spec.externalIPs",
            "203.0.113.250:80/TCP belongs to Pod default/p already; one that is free is right",
        )
    ]
    assert [f.address for f in plan.ports[0].frontends] == [raw("10.96.0.1")]
    assert node.tracker.reserve({frontend._replace(port=81): "Pod default/p"}) and node.dirty() == ["web"]
    assert node.tracker.plan(("default", "web")).problems == ()


def test_a_node_port_that_two_services_have() -> None:
    """S-26: and the choice that nothing leads to any more is not made."""
    taken = (ServicePort(80, "http", node_port=30080),)
    local = {"ports": taken, "external_traffic_policy": "Local"}
    node = Node(service(**local), service("10.96.0.2", name="late", **local))
    late = node.tracker.plan(("default", "late"))
    [problem] = late.problems
    assert problem.field == "spec.ports[].nodePort"
    assert problem.message.startswith("0.0.0.0:30080/TCP (node port) belongs to Service default/web already")
    assert late.ports[0].local is None and node.port().local is not None


def test_an_address_outside_that_is_another_services_inside() -> None:
    """Its own ports stay its own."""
    node = Node(service(), service("10.96.0.2", name="late", external_ips=("10.96.0.1",)))
    late = node.tracker.plan(("default", "late"))
    assert [p.field for p in late.problems] == ["spec.externalIPs"]
    assert [f.address for f in late.ports[0].frontends] == [raw("10.96.0.2")]
    assert len(node.port().frontends) == 1


def test_an_address_that_the_node_gets_makes_its_services_dirty() -> None:
    node = Node(
        service(**OUTSIDE), service("10.96.0.2", name="other", **OUTSIDE), service("10.96.0.3", name="x")
    )
    node.dirty()
    node.tracker.touch([raw("203.0.113.250")])
    assert node.dirty() == ["web", "other"]
