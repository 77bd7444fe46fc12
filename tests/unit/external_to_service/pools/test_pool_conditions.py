"""What the API is told of Services and pools, and when an Event is due."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import msgspec
from pool_objects import judged, pool, service

from tulle.external_to_service.pools import conditions
from tulle.external_to_service.pools.conditions import FINALIZER, MOST_COUNTED, OURS, SERVICE_CONDITION
from tulle.external_to_service.pools.outcome import Outcome
from tulle.model.balancing import BalancedService, FullCondition, LoadBalancerPool, PoolObjectStatus

NOW, BEFORE = "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"
GIVEN = Outcome((ip_address("203.0.113.1"),), "Assigned", "203.0.113.1 given")
NONE = Outcome((), "NoPool", "there is no LoadBalancerPool")
SAID = FullCondition(SERVICE_CONDITION, "True", "Assigned", "203.0.113.1 given", BEFORE)


def told(service: BalancedService, *said: FullCondition) -> BalancedService:
    return msgspec.structs.replace(service, status=msgspec.structs.replace(service.status, conditions=said))


def held(**meta: Any) -> BalancedService:
    return msgspec.structs.replace(
        service(), metadata=msgspec.structs.replace(service().metadata, uid="u", **meta)
    )


def test_an_address_is_written_with_its_condition_and_told() -> None:
    found = conditions.service_status(service(), GIVEN, NOW)
    assert found.patch == {
        "metadata": {"resourceVersion": "7"},
        "status": {
            "loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "VIP"}]},
            "conditions": [
                {
                    "type": SERVICE_CONDITION,
                    "status": "True",
                    "reason": "Assigned",
                    "message": "203.0.113.1 given",
                    "lastTransitionTime": NOW,
                }
            ],
        },
    }
    assert (found.kind, found.reason, found.message) == ("Normal", "Assigned", "203.0.113.1 given")


def test_what_is_said_already_is_not_said_again() -> None:
    known = told(service("a", "203.0.113.1"), SAID)
    assert conditions.service_status(known, GIVEN, NOW) == conditions.Told(None)


def test_a_status_that_somebody_changed_is_mended_without_an_event() -> None:
    found = conditions.service_status(told(service("a", "192.0.2.1"), SAID), GIVEN, NOW)
    assert found.patch and not found.kind
    assert found.patch["status"]["conditions"][0]["lastTransitionTime"] == BEFORE


def test_no_address_is_a_warning() -> None:
    found = conditions.service_status(told(service("a", "203.0.113.1"), SAID), NONE, NOW)
    assert found.patch is not None
    assert found.patch["status"]["loadBalancer"] == {"ingress": None}
    assert found.patch["status"]["conditions"][0] | {"message": ""} == {
        "type": SERVICE_CONDITION,
        "status": "False",
        "reason": "NoPool",
        "message": "",
        "lastTransitionTime": NOW,
    }
    assert found.kind == "Warning"


def test_a_kept_address_is_there_and_still_a_warning() -> None:
    found = conditions.service_status(service(), GIVEN._replace(reason="AddressKept"), NOW)
    assert found.patch is not None
    assert (found.patch["status"]["conditions"][0]["status"], found.kind) == ("True", "Warning")


def test_what_has_just_happened_is_told_in_the_event_alone() -> None:
    found = conditions.service_status(service(), GIVEN._replace(notes=("192.0.2.1 was left",)), NOW)
    assert found.patch is not None
    assert found.patch["status"]["conditions"][0]["message"] == "203.0.113.1 given"
    assert (found.kind, found.message) == ("Warning", "203.0.113.1 given; 192.0.2.1 was left")


def test_the_finalizer_comes_and_goes_with_the_mark_that_it_is_ours() -> None:
    fresh = held(finalizers=("other",))
    assert conditions.with_finalizer(fresh) == {
        "metadata": {
            "resourceVersion": "7",
            "finalizers": ["other", FINALIZER],
            "annotations": {OURS: "true"},
        }
    }
    marked = held(finalizers=("other", FINALIZER), annotations={OURS: "true"})
    assert conditions.with_finalizer(marked) is None
    assert conditions.without_finalizer(marked) == {
        "metadata": {"resourceVersion": "7", "finalizers": ["other"], "annotations": {OURS: None}}
    }


def test_the_finalizer_of_another_implementation_stays() -> None:
    foreign = held(finalizers=(FINALIZER,))
    assert conditions.without_finalizer(foreign) is None and not conditions.touched(foreign)


def test_what_is_cleared_is_only_ours() -> None:
    both = told(service("a", "203.0.113.1", "192.0.2.1"), SAID)
    found = conditions.cleared_status(both, frozenset({"203.0.113.1"}))
    assert found is not None
    assert found["status"] == {
        "loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]},
        "conditions": [{"$patch": "delete", "type": SERVICE_CONDITION}],
    }
    assert conditions.cleared_status(service("a", "192.0.2.1"), frozenset({"203.0.113.1"})) is None


def looked_at(obj: LoadBalancerPool, patch: dict[str, Any]) -> LoadBalancerPool:
    """As the API has it after the patch."""
    status = msgspec.convert(patch["status"], PoolObjectStatus)
    return msgspec.structs.replace(obj, status=status)


def test_a_pool_is_told_once_and_counted_when_counts_change() -> None:
    obj = pool("p", "203.0.113.0/30", "2001:db8::/32")
    (judgement,) = judged(obj)
    first = conditions.pool_status(obj, judgement, {4: 0, 6: 0}, BEFORE)
    assert first.patch is not None and not first.kind
    assert first.patch["status"]["ipv4"] == {"total": 4, "assigned": 0}
    assert first.patch["status"]["ipv6"] == {"total": MOST_COUNTED, "assigned": 0}
    obj = looked_at(obj, first.patch)
    assert conditions.pool_status(obj, judgement, {4: 0, 6: 0}, NOW).patch is None
    second = conditions.pool_status(obj, judgement, {4: 1, 6: 0}, NOW)
    assert second.patch is not None and not second.kind
    assert second.patch["status"]["conditions"][0]["lastTransitionTime"] == BEFORE


def test_a_pool_that_comes_to_be_unusable_is_a_warning_once() -> None:
    obj = pool("p", "x")
    (judgement,) = judged(obj)
    found = conditions.pool_status(obj, judgement, {4: 0, 6: 0}, NOW)
    assert (found.kind, found.reason) == ("Warning", "InvalidAddresses") and found.patch is not None
    again = conditions.pool_status(looked_at(obj, found.patch), judgement, {4: 1, 6: 0}, NOW)
    assert again.patch and not again.kind
