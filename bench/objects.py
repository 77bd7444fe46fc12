"""Services and EndpointSlices of a large cluster, as the API sends them: with all that nobody here reads."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from tulle.lab.spec import Family

CIDRS: dict[Family, str] = {"ipv4": "10.96.0.0/16", "ipv6": "fd00:10:96::/112"}
PORT = 80
Object = dict[str, Any]
_ADDRESSES: dict[Family, tuple[str, str]] = {
    "ipv4": ("10.96.0.0", "10.128.0.0"),
    "ipv6": ("fd00:10:96::", "fd00:10:128::"),
}
_FIRST = 256
_FIRST_NODE_PORT = 20_000
_NODES = 100


def cluster_ip(number: int, family: Family) -> str:
    """The address of a Service."""
    return str(ip_address(_ADDRESSES[family][0]) + _FIRST + number)


def pod_ip(number: int, family: Family) -> str:
    """The address of an endpoint somewhere in the cluster: no Pod is really there."""
    return str(ip_address(_ADDRESSES[family][1]) + _FIRST + number)


def node_port(number: int) -> int:
    """The node port of a Service: there are more Services than ports in Kubernetes' default range."""
    return _FIRST_NODE_PORT + number


def load_balanced(number: int, families: Sequence[Family], addresses: Sequence[str] = ()) -> Object:
    """A Service with a node port, and with ``addresses`` of a load balancer."""
    made = service(number, families)
    made["spec"] |= {"externalTrafficPolicy": "Cluster", "type": "LoadBalancer" if addresses else "NodePort"}
    made["spec"]["ports"][0]["nodePort"] = node_port(number)
    made["status"]["loadBalancer"] = {"ingress": [{"ip": each, "ipMode": "VIP"} for each in addresses]}
    return made


def service(number: int, families: Sequence[Family]) -> Object:
    """A Service with one port."""
    name, ips = f"web-{number}", [cluster_ip(number, family) for family in families]
    return {
        "metadata": _metadata(name, number, {"app": name, "tier": "web"}),
        "spec": {
            "clusterIP": ips[0],
            "clusterIPs": ips,
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": [{"ipv4": "IPv4", "ipv6": "IPv6"}[family] for family in families],
            "ipFamilyPolicy": "SingleStack" if len(families) == 1 else "PreferDualStack",
            "ports": [{"name": "http", "port": PORT, "protocol": "TCP", "targetPort": 8080}],
            "selector": {"app": name, "tier": "web"},
            "sessionAffinity": "None",
            "type": "ClusterIP",
        },
        "status": {"loadBalancer": {}},
    }


def endpoint_slice(
    number: int, family: Family, addresses: Sequence[str], port: int = 8080, version: str = "1000"
) -> Object:
    """The one slice of a Service for this family."""
    owner = f"web-{number}"
    labels = {
        "app": owner,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "kubernetes.io/service-name": owner,
        "tier": "web",
    }
    return {
        "addressType": {"ipv4": "IPv4", "ipv6": "IPv6"}[family],
        "endpoints": [_endpoint(number, each, address) for each, address in enumerate(addresses)],
        "metadata": _metadata(f"{owner}-{family}", number, labels)
        | {
            "resourceVersion": version,
            "generateName": f"{owner}-",
            "ownerReferences": [_owner(owner, number)],
        },
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }


def _endpoint(service: int, number: int, address: str) -> Object:
    return {
        "addresses": [address],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": f"node-{(service + number) % _NODES}",
        "targetRef": {
            "kind": "Pod",
            "name": f"web-{service}-7d9c5b8f6d-{number:05}",
            "namespace": _namespace(service),
            "uid": _uid(service * 100 + number),
        },
        "zone": f"zone-{'abc'[number % 3]}",
    }


def _metadata(name: str, number: int, labels: dict[str, str]) -> Object:
    return {
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "generation": 1,
        "labels": labels,
        "managedFields": [_managed()],
        "name": name,
        "namespace": _namespace(number),
        "resourceVersion": "1000",
        "uid": _uid(number),
    }


def _managed() -> Object:
    fields: Object = {
        "f:addressType": {},
        "f:endpoints": {},
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
        "manager": "kube-controller-manager",
        "operation": "Update",
        "time": "2026-01-01T00:00:00Z",
    }


def _owner(name: str, number: int) -> Object:
    return {
        "apiVersion": "v1",
        "blockOwnerDeletion": True,
        "controller": True,
        "kind": "Service",
        "name": name,
        "uid": _uid(number),
    }


def _namespace(number: int) -> str:
    return f"team-{number % 50}"


def _uid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"
