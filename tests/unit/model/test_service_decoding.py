"""Services and slices as the API sends them, ``null`` included."""

from __future__ import annotations

import msgspec
import pytest

from tulle.kube.resources import (
    CONFIG_MAP,
    ENDPOINT_SLICE,
    NAMESPACE,
    POD,
    SERVICE,
    SERVICE_CIDR,
    Resource,
    decode_item,
)
from tulle.model.services import READY, Endpoint, EndpointSlice, SliceLabels

META = '"metadata": {"name": "web", "namespace": "default", "labels": null, "annotations": {"a": "b"}}'


def decode_slice(body: str) -> EndpointSlice:
    value = decode_item(ENDPOINT_SLICE, msgspec.Raw(body.encode())).value
    assert value is not None
    return value


@pytest.mark.parametrize(
    ("resource", "body"),
    [
        (ENDPOINT_SLICE, f'{{{META}, "addressType": "IPv4", "ports": null, "endpoints": null}}'),
        (ENDPOINT_SLICE, f'{{{META}, "endpoints": [{{"addresses": null, "conditions": {{}}}}]}}'),
        (ENDPOINT_SLICE, f'{{{META}, "ports": [{{"name": null, "port": null, "protocol": null}}]}}'),
        (ENDPOINT_SLICE, f'{{{META}, "endpoints": [{{"conditions": {{"ready": null, "serving": null}}}}]}}'),
        (ENDPOINT_SLICE, f'{{{META}, "endpoints": [{{"nodeName": null, "zone": null, "hints": null}}]}}'),
        (ENDPOINT_SLICE, f'{{{META}, "endpoints": [{{"hostname": null, "targetRef": null}}]}}'),
        (ENDPOINT_SLICE, f'{{{META}, "endpoints": [{{"hints": {{"forZones": null, "forNodes": null}}}}]}}'),
        (SERVICE, f"{{{META}}}"),
        (
            SERVICE,
            f'{{{META}, "spec": {{"ports": null, "clusterIPs": null, "sessionAffinityConfig": null}}}}',
        ),
        (
            SERVICE,
            f'{{{META}, "spec": {{"sessionAffinityConfig": {{"clientIP": {{"timeoutSeconds": null}}}}}}}}',
        ),
        (SERVICE, f'{{{META}, "spec": {{"internalTrafficPolicy": null, "externalIPs": null}}}}'),
        (
            SERVICE,
            f'{{{META}, "status": {{"loadBalancer": {{"ingress": [{{"ipMode": null}}]}}}}}}',
        ),
        (SERVICE_CIDR, '{"metadata": {"name": "kubernetes"}, "spec": {"cidrs": null}}'),
        (POD, '{"metadata": {"name": "p"}, "status": {"phase": "Pending", "podIPs": null}}'),
        (NAMESPACE, '{"metadata": {"name": "default"}, "spec": {"finalizers": ["kubernetes"]}}'),
        (CONFIG_MAP, '{"metadata": {"name": "c"}, "data": null}'),
    ],
)
def test_null_is_taken(resource: Resource[object], body: str) -> None:
    assert decode_item(resource, msgspec.Raw(body.encode())).value is not None


def test_the_labels_that_count() -> None:
    labels = '{"kubernetes.io/service-name": "web", "service.kubernetes.io/headless": "", "app": "web"}'
    found = decode_slice(f'{{"metadata": {{"name": "web-1", "labels": {labels}}}}}')
    assert found.metadata.labels == SliceLabels("web", headless="")


def test_a_name_that_many_endpoints_share_is_in_memory_once() -> None:
    one = (
        '{"addresses": ["10.0.0.1"], "nodeName": "node-1", "zone": "zone-a", '
        '"conditions": {"ready": true, "serving": true, "terminating": false}, '
        '"targetRef": {"kind": "Pod", "namespace": "default", "name": "web-1"}}'
    )
    found = decode_slice(f'{{"metadata": {{"name": "web-1"}}, "endpoints": [{one}, {one}]}}')
    first, second = found.endpoints or ()
    assert first.conditions is second.conditions is READY
    assert first.node_name is second.node_name
    assert first.zone is second.zone
    assert first.target_ref and second.target_ref
    assert first.target_ref.namespace is second.target_ref.namespace
    assert (first.node_name, first.zone, first.target_ref.name) == ("node-1", "zone-a", "web-1")


def test_conditions_that_differ_stay_as_they_are() -> None:
    found = decode_slice('{"metadata": {"name": "s"}, "endpoints": [{"conditions": {"ready": false}}, {}]}')
    assert [e.conditions.ready for e in found.endpoints or ()] == [False, None]
    assert Endpoint() == (found.endpoints or ())[1]


def test_what_a_pod_says() -> None:
    body = (
        '{"metadata": {"name": "p", "namespace": "d"}, "spec": {"nodeName": "n", "hostNetwork": true}, '
        '"status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}}'
    )
    pod = decode_item(POD, msgspec.Raw(body.encode())).value
    assert pod is not None
    assert (pod.spec.node_name, pod.spec.host_network, pod.status.phase) == ("n", True, "Running")
    assert [p.ip for p in pod.status.pod_ips or ()] == ["10.0.0.1", "fd00::1"]
