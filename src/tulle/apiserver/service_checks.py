"""What is wrong with a Service beyond its schema, worded as Kubernetes words it (ValidateService)."""

from __future__ import annotations

import re
from typing import Any

from tulle.apiserver import addresses, checks, service_families
from tulle.apiserver.kinds import Object
from tulle.apiserver.services import is_external, needs_health_check
from tulle.apiserver.status import Cause, bad_value, duplicate, forbidden_change, required

TOPOLOGY, OLD_TOPOLOGY = (f"service.kubernetes.io/topology-{each}" for each in ("mode", "aware-hints"))
SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
LONGEST_AFFINITY = 86400
ONLY_BALANCED = "may only be used when `type` is 'LoadBalancer'"
IMMUTABLE = "may not change once set"
PORT_NUMBER = "must be between 1 and 65535, inclusive"
PORT_NAME_RULES = (
    (r".{0,15}", "must be no more than 15 characters"),
    (r"[-a-z0-9]*", "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"),
    (r".*[a-z].*", "must contain at least one letter (a-z)"),
    (r"(?!.*--).*", "must not contain consecutive hyphens"),
    (r"(?!-).*(?<!-)", "must not begin or end with a hyphen"),
)


def service(new: Object, old: Object | None) -> list[Cause]:
    spec, before = new["spec"], old["spec"] if old is not None else {}
    causes = [] if old is None else service_families.changes(spec, before) + _fixed(spec, before)
    causes += _by_type(spec) + _ports(spec) + checks.label_map(spec.get("selector"), "spec.selector")
    if spec["type"] != "ExternalName":
        causes += service_families.flaws(spec, before)
    causes += _affinity(spec) + _external_ips(spec, before)
    annotations, known = _annotations(new), _annotations(old)
    causes += _topology(annotations)
    causes += _source_ranges(spec, before, annotations.get(SOURCE_RANGES), known.get(SOURCE_RANGES))
    causes += _load_balancer(spec) + _policies(spec)
    return causes + _status(new.get("status") or {}, spec, (old or {}).get("status") or {})


def _annotations(obj: Object | None) -> Object:
    found: Object = obj["metadata"].get("annotations") or {} if obj else {}
    return found


def _topology(annotations: Object) -> list[Cause]:
    mode = annotations.get(TOPOLOGY)
    if mode is None or annotations.get(OLD_TOPOLOGY, mode) == mode:
        return []
    detail = f"must match annotations[{OLD_TOPOLOGY}] when both are specified"
    return [bad_value(f"metadata.annotations[{TOPOLOGY}]", mode, detail)]


def _fixed(spec: Object, before: Object) -> list[Cause]:
    causes: list[Cause] = []
    if spec["type"] == "LoadBalancer" == before["type"]:
        name, path = spec.get("loadBalancerClass"), "spec.loadBalancerClass"
        causes += [] if name == before.get("loadBalancerClass") else [bad_value(path, name, IMMUTABLE)]
    if needs_health_check(spec) and needs_health_check(before):
        path = "healthCheckNodePort"
        if path in before and spec.get(path) != before[path]:
            causes.append(forbidden_change(f"spec.{path}", "field is immutable"))
    return causes


def _by_type(spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    headless = service_families.is_headless(spec)
    if not spec.get("ports") and not headless and spec["type"] != "ExternalName":
        causes.append(required("spec.ports"))
    match spec["type"]:
        case "LoadBalancer" | "NodePort" as name if headless:
            detail = f"may not be set to 'None' for {name} services"
            causes.append(bad_value("spec.clusterIPs[0]", "None", detail))
        case "ExternalName":
            for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                if key in spec:
                    causes.append(forbidden_change(f"spec.{key}", "may not be set for ExternalName services"))
            causes += _external_name(spec.get("externalName", "").removesuffix("."))
    return causes


def _external_name(name: str) -> list[Cause]:
    if not name:
        return [required("spec.externalName")]
    pattern, words = checks.RULES["subdomain"]
    return [] if pattern.fullmatch(name) else [bad_value("spec.externalName", name, words)]


def _ports(spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    ports = spec.get("ports", [])
    seen: set[Any] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        causes += _port(port, path, named=len(ports) > 1)
        if spec["type"] == "ClusterIP" and "nodePort" in port:
            causes.append(forbidden_change(f"{path}.nodePort", "may not be used when `type` is 'ClusterIP'"))
        marks = {
            ("name", port.get("name")): duplicate(f"{path}.name", port.get("name")),
            ("nodePort", port["protocol"], port.get("nodePort")): duplicate(
                f"{path}.nodePort", port.get("nodePort")
            ),
            ("port", port["protocol"], port["port"]): duplicate(path, f"{port['port']}/{port['protocol']}"),
        }
        causes += [cause for mark, cause in marks.items() if mark in seen and mark[-1]]
        seen |= marks.keys()
    return causes


def _port(port: Object, path: str, *, named: bool) -> list[Cause]:
    name, target = port.get("name", ""), port["targetPort"]
    causes = [required(f"{path}.name")] if named and not name else []
    if name and not checks.LABEL.fullmatch(name):
        causes.append(bad_value(f"{path}.name", name, checks.RULES["label"][1]))
    if isinstance(target, str):
        wrong = [words for rule, words in PORT_NAME_RULES if not re.fullmatch(rule, target)]
        causes += [bad_value(f"{path}.targetPort", target, words) for words in wrong]
    elif not 1 <= target <= 65535:
        causes.append(bad_value(f"{path}.targetPort", target, PORT_NUMBER))
    if "appProtocol" in port:
        causes += checks.qualified(port["appProtocol"], f"{path}.appProtocol")
    return causes


def _affinity(spec: Object) -> list[Cause]:
    if spec["sessionAffinity"] != "ClientIP":
        return []
    seconds = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
    if 0 < seconds <= LONGEST_AFFINITY:
        return []
    detail = f"must be greater than 0 and less than {LONGEST_AFFINITY}"
    return [bad_value("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, detail)]


def _external_ips(spec: Object, before: Object) -> list[Cause]:
    causes: list[Cause] = []
    for index, ip in enumerate(spec.get("externalIPs", ())):
        path = f"spec.externalIPs[{index}]"
        causes += addresses.flaws(path, ip, before.get("externalIPs", ())) or addresses.special(path, ip)
    return causes


def _source_ranges(spec: Object, before: Object, annotated: str | None, known: str | None) -> list[Cause]:
    """The field, or the annotation from before there was one; blanks around a range are no matter (S-13)."""
    path = "spec.loadBalancerSourceRanges"
    ranges = spec.get("loadBalancerSourceRanges", [])
    listed = {f"{path}[{index}]": [each] for index, each in enumerate(ranges)}
    if not ranges:
        if annotated is None:
            return []
        path = f"metadata.annotations[{SOURCE_RANGES}]"
        listed = {path: annotated.split(",") if annotated.strip() and annotated != known else []}
    causes = [] if spec["type"] == "LoadBalancer" else [forbidden_change(path, ONLY_BALANCED)]
    stored = [each.strip() for each in before.get("loadBalancerSourceRanges", ())]
    for where, found in listed.items():
        causes += [cause for each in found for cause in addresses.network_flaws(where, each.strip(), stored)]
    return causes


def _load_balancer(spec: Object) -> list[Cause]:
    if spec["type"] != "LoadBalancer":
        keys = ("allocateLoadBalancerNodePorts", "loadBalancerClass")
        return [forbidden_change(f"spec.{key}", ONLY_BALANCED) for key in keys if key in spec]
    name = spec.get("loadBalancerClass")
    return checks.qualified(name, "spec.loadBalancerClass") if name else []


def _policies(spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    if not is_external(spec) and "externalTrafficPolicy" in spec:
        detail = "may only be set for externally-accessible services"
        causes.append(bad_value("spec.externalTrafficPolicy", spec["externalTrafficPolicy"], detail))
    path, number = "spec.healthCheckNodePort", spec.get("healthCheckNodePort", 0)
    if not needs_health_check(spec):
        detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        causes += [bad_value(path, number, detail)] if number else []
    elif not number:
        causes.append(required(path))
    elif not 1 <= number <= 65535:
        causes.append(bad_value(path, number, PORT_NUMBER))
    return causes


def _status(status: Object, spec: Object, before: Object) -> list[Cause]:
    path = "status.loadBalancer.ingress"
    points = status.get("loadBalancer", {}).get("ingress") or []
    known = [each.get("ip") for each in before.get("loadBalancer", {}).get("ingress") or []]
    if points and spec["type"] != "LoadBalancer":
        return [forbidden_change(path, "may only be used when `spec.type` is 'LoadBalancer'")]
    return [cause for i, point in enumerate(points) for cause in _point(point, f"{path}[{i}]", known)]


def _point(point: Object, path: str, known: list[Any]) -> list[Cause]:
    causes: list[Cause] = []
    ip, hostname = point.get("ip"), point.get("hostname")
    if ip:
        causes += addresses.flaws(f"{path}.ip", ip, known)
    elif "ipMode" in point:
        causes.append(forbidden_change(f"{path}.ipMode", "may not be specified when `ip` is not set"))
    if hostname and addresses.parse(hostname):
        detail = "must be a DNS name, not an IP address"
        causes.append(bad_value(f"{path}.hostname", hostname, detail))
    elif hostname and not checks.SUBDOMAIN.fullmatch(hostname):
        causes.append(bad_value(f"{path}.hostname", hostname, checks.RULES["subdomain"][1]))
    return causes
