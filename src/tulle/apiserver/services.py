"""Services: values that follow from others, and what becomes of them when the type changes (S-27).

Pure: what only the rest of the cluster can tell, families and free numbers, stands in `service_allocation`.
"""

from __future__ import annotations

from tulle.apiserver.kinds import Object
from tulle.apiserver.service_families import OWN_ADDRESSES

AFFINITY_SECONDS = 10800
NODE_PORT_TYPES = ("NodePort", "LoadBalancer")


def prepare(new: Object, old: Object | None) -> None:
    """Defaults; on an update also what the client left to us and what the new type has no use for."""
    spec = new["spec"]
    _drop_empty(spec)
    _defaults(spec)
    if old is None:
        _couple(spec, {})
        new["status"] = {"loadBalancer": {}}
        return
    _keep_allocated(spec, old["spec"])
    _couple(spec, old["spec"])
    _drop_unused(spec, old["spec"])
    status = new.setdefault("status", {})
    if old["spec"]["type"] == "LoadBalancer" != spec["type"]:
        status["loadBalancer"] = {}
    for point in status.get("loadBalancer", {}).get("ingress", ()):
        if point.get("ip"):
            point.setdefault("ipMode", "VIP")


def _drop_empty(spec: Object) -> None:
    """Go clients do not tell zero from absent, so neither do we."""
    for key in [key for key, value in spec.items() if value in ("", 0, []) and value is not False]:
        del spec[key]
    for port in spec.get("ports", ()):
        for key in [key for key in ("name", "nodePort", "targetPort") if not port.get(key)]:
            port.pop(key, None)


def is_external(spec: Object) -> bool:
    """Whether the outside can reach it, apart from a load balancer's own addresses."""
    return spec["type"] in NODE_PORT_TYPES or (spec["type"] == "ClusterIP" and bool(spec.get("externalIPs")))


def needs_health_check(spec: Object) -> bool:
    return spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def node_ports(spec: Object) -> list[int]:
    return [port["nodePort"] for port in spec.get("ports", ()) if "nodePort" in port]


def _defaults(spec: Object) -> None:
    for port in spec.get("ports", ()):
        port.setdefault("targetPort", port["port"])
    if spec["sessionAffinity"] == "ClientIP":
        client = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client.setdefault("timeoutSeconds", AFFINITY_SECONDS)
    else:
        spec.pop("sessionAffinityConfig", None)
    if spec["type"] in OWN_ADDRESSES:
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if is_external(spec):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)


def _keep_allocated(spec: Object, before: Object) -> None:
    """An update that does not name what was given out keeps it: the same manifest can be applied twice."""
    if spec["type"] != "ExternalName" != before["type"]:
        for key in ("clusterIP", "clusterIPs"):
            if key in before:
                spec.setdefault(key, before[key])
    if spec["type"] in NODE_PORT_TYPES and before["type"] in NODE_PORT_TYPES:
        by_name = {port.get("name"): port.get("nodePort") for port in before.get("ports", ())}
        used = set(node_ports(spec))
        for port in spec.get("ports", ()):
            held = by_name.get(port.get("name"))
            if "nodePort" not in port and held and held not in used:
                port["nodePort"] = held
                used.add(held)
    if needs_health_check(spec) and needs_health_check(before) and "healthCheckNodePort" in before:
        spec.setdefault("healthCheckNodePort", before["healthCheckNodePort"])


def _couple(spec: Object, before: Object) -> None:
    """``clusterIPs`` follows ``clusterIP`` where a client that knows only the latter changed it."""
    first, ips = spec.get("clusterIP"), spec.get("clusterIPs")
    changed = first != before.get("clusterIP") and ips == before.get("clusterIPs")
    if first and (changed or not ips):
        spec["clusterIPs"] = [first]
    elif changed:
        spec.pop("clusterIPs", None)


def _drop_unused(spec: Object, before: Object) -> None:
    """Takes away what the new type does not have, unless the client changed it, which is for the checks."""

    def drop(*keys: str) -> None:
        for key in keys:
            if key in spec and spec[key] == before.get(key):
                del spec[key]

    if spec["type"] == "ExternalName" != before["type"]:
        drop("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")
    unused = before["type"] in NODE_PORT_TYPES and spec["type"] not in NODE_PORT_TYPES
    if unused and set(node_ports(spec)) <= set(node_ports(before)):
        for port in spec.get("ports", ()):
            port.pop("nodePort", None)
    if needs_health_check(before) and not needs_health_check(spec):
        drop("healthCheckNodePort")
    if before["type"] == "LoadBalancer" != spec["type"]:
        drop("allocateLoadBalancerNodePorts", "loadBalancerClass")
    if is_external(before) and not is_external(spec):
        drop("externalTrafficPolicy")
