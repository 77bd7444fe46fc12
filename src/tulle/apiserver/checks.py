"""What is wrong with an object beyond its schema, worded as Kubernetes words it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any

from tulle.apiserver import addresses
from tulle.apiserver.host_port_checks import host_ports
from tulle.apiserver.kinds import Kind, Object
from tulle.apiserver.status import Cause, bad_value, duplicate, forbidden_change, required

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
QUALIFIED = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
PATH_SEGMENT = re.compile(r"(?!\.{1,2}$)[^/%]+")

ALNUM = "must consist of lower case alphanumeric characters"
RULES: Mapping[str, tuple[re.Pattern[str], str]] = {
    "subdomain": (
        SUBDOMAIN,
        f"a lowercase RFC 1123 subdomain {ALNUM}, '-' or '.', and must start and end with an alphanumeric "
        "character (e.g. 'example.com')",
    ),
    "label": (
        LABEL,
        f"a lowercase RFC 1123 label {ALNUM} or '-', and must start and end with an alphanumeric character "
        "(e.g. 'my-name', or '123-abc')",
    ),
    "segment": (PATH_SEGMENT, "may not be '.' or '..', and may not contain '/' or '%'"),
    "address": (
        PATH_SEGMENT,
        "must be a valid IP address in canonical form, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    ),
}
QUALIFIED_NAME = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName', or 'my.name', or '123-abc')"
)
VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue', or 'my_value', or '12345')"
)


def name(kind: Kind, value: str) -> list[Cause]:
    """The object's name, by its kind's rule."""
    pattern, words = RULES[kind.name_rule]
    ok = pattern.fullmatch(value) and (kind.name_rule != "address" or _is_canonical(value))
    return [] if ok else [bad_value("metadata.name", value, words)]


def _is_canonical(text: str) -> bool:
    address = addresses.parse(text)
    return address is not None and str(address) == text


def metadata(meta: Mapping[str, Any], path: str = "metadata") -> list[Cause]:
    """Labels, annotations, owners and finalizers."""
    causes = label_map(meta.get("labels"), f"{path}.labels")
    for key in meta.get("annotations") or {}:
        causes += qualified(key.lower(), f"{path}.annotations", key)
    for finalizer in meta.get("finalizers") or []:
        causes += qualified(finalizer, f"{path}.finalizers")
    controllers = [o["name"] for o in meta.get("ownerReferences") or [] if o.get("controller")]
    if len(controllers) > 1:
        detail = f"Only one reference can have Controller set to true. Found in {' and '.join(controllers)}"
        causes.append(bad_value(f"{path}.ownerReferences", "", detail))
    return causes


def label_map(found: Mapping[str, str] | None, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for key, value in (found or {}).items():
        causes += qualified(key, path)
        if not LABEL_VALUE.fullmatch(value):
            causes.append(bad_value(path, value, VALUE_RULE))
    return causes


def qualified(key: str, path: str, shown: str = "") -> list[Cause]:
    """A name with or without a domain in front, as in ``example.com/name``; ``shown`` is it as written."""
    shown = shown or key
    prefix, _, last = key.rpartition("/")
    if "/" in key and not SUBDOMAIN.fullmatch(prefix):
        return [bad_value(path, shown, f"prefix part {RULES['subdomain'][1]}")]
    return [] if QUALIFIED.fullmatch(last) else [bad_value(path, shown, QUALIFIED_NAME)]


def unchanged(new: Object, old: Object | None, *paths: str) -> list[Cause]:
    """``field is immutable`` for each of ``paths`` that differs."""
    if old is None:
        return []
    found = [(path, _at(new, path)) for path in paths if _at(new, path) != _at(old, path)]
    return [bad_value(path, value, "field is immutable") for path, value in found]


def _at(obj: Any, path: str) -> Any:
    for step in path.split("."):
        obj = obj.get(step) if isinstance(obj, dict) else None
    return obj


def pod(new: Object, old: Object | None) -> list[Cause]:
    """A Pod's spec, of which little may change (Kubernetes' ValidatePodUpdate)."""
    causes = pod_spec(new["spec"], "spec")
    if old is not None and _frozen(new["spec"]) != _frozen(old["spec"]):
        fields = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
        rest = (
            "`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds`"
        )
        causes.append(
            forbidden_change("spec", f"pod updates may not change fields other than {fields}{rest}")
        )
    return causes


def _frozen(spec: Object) -> Object:
    free = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates")
    rest = {key: value for key, value in spec.items() if key not in free}
    for group in ("containers", "initContainers"):
        if group in rest:
            rest[group] = [{k: v for k, v in c.items() if k != "image"} for c in rest[group]]
    return rest


def pod_spec(spec: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    volumes = {volume["name"] for volume in spec.get("volumes", ())}
    names: set[str] = set()
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group, ())):
            causes += _container(container, f"{path}.{group}[{index}]", volumes)
            if container["name"] in names:
                causes.append(duplicate(f"{path}.{group}[{index}].name", container["name"]))
            names.add(container["name"])
    if spec.get("hostNetwork") and spec.get("dnsPolicy") == "None" and not spec.get("dnsConfig"):
        causes.append(required(f"{path}.dnsConfig", "must provide `dnsConfig` when `dnsPolicy` is None"))
    return causes + host_ports(spec, path)


def _container(container: Object, path: str, volumes: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    if not LABEL.fullmatch(container["name"]):
        causes.append(bad_value(f"{path}.name", container["name"], RULES["label"][1]))
    if not container.get("image"):
        causes.append(required(f"{path}.image"))
    for index, mount in enumerate(container.get("volumeMounts", ())):
        if mount["name"] not in volumes:
            missing = f'Not found: "{mount["name"]}"'
            causes.append(Cause("FieldValueNotFound", f"{path}.volumeMounts[{index}].name", missing))
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        handlers = {"exec", "httpGet", "tcpSocket", "grpc"} & container.get(probe, {"exec": 0}).keys()
        if len(handlers) != 1:
            many = "may not specify more than 1 handler type"
            where = f"{path}.{probe}"
            causes.append(
                forbidden_change(where, many) if handlers else required(where, "must specify a handler type")
            )
    return causes


def workload(new: Object, old: Object | None) -> list[Cause]:
    """What Deployments, ReplicaSets and DaemonSets have in common."""
    spec, causes = new["spec"], unchanged(new, old, "spec.selector")
    wanted = spec["selector"].get("matchLabels", {})
    if not wanted and not spec["selector"].get("matchExpressions"):
        causes.append(bad_value("spec.selector", None, "empty selector is invalid for deployment"))
    template = spec.get("template", {})
    found = template.get("metadata", {}).get("labels", {})
    if not wanted.items() <= found.items():
        detail = "`selector` does not match template `labels`"
        causes.append(bad_value("spec.template.metadata.labels", found, detail))
    causes += metadata(template.get("metadata", {}), "spec.template.metadata")
    if "spec" not in template:
        return [*causes, required("spec.template.spec.containers")]
    if template["spec"].get("restartPolicy") != "Always":
        policy = template["spec"].get("restartPolicy")
        causes.append(bad_value("spec.template.spec.restartPolicy", policy, 'supported values: "Always"'))
    return causes + pod_spec(template["spec"], "spec.template.spec")


def node(new: Object, old: Object | None) -> list[Cause]:
    spec = new["spec"]
    causes = networks(spec.get("podCIDRs", ()), "spec.podCIDRs")
    if old is not None and old["spec"].get("podCIDRs") and old["spec"]["podCIDRs"] != spec.get("podCIDRs"):
        detail = 'node updates may not change podCIDR except from "" to valid'
        causes.append(forbidden_change("spec.podCIDRs", detail))
    return causes


def networks(found: Iterable[str], path: str) -> list[Cause]:
    """CIDRs, at most one of each family."""
    causes: list[Cause] = []
    families: set[int] = set()
    for index, cidr in enumerate(found):
        try:
            network = ip_network(cidr)
        except ValueError:
            detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            causes.append(bad_value(f"{path}[{index}]", cidr, detail))
            continue
        if network.version in families:
            causes.append(
                bad_value(path, ",".join(found), "may specify no more than one CIDR for each IP family")
            )
        families.add(network.version)
    return causes


def policy(new: Object, old: Object | None) -> list[Cause]:
    """NetworkPolicy: every peer says one thing, every block is a CIDR."""
    causes: list[Cause] = []
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(new["spec"].get(direction, ())):
            for j, peer in enumerate(rule.get(peers, ())):
                path = f"spec.{direction}[{i}].{peers}[{j}]"
                if not peer:
                    causes.append(required(path, "must specify a peer"))
                if "ipBlock" in peer:
                    causes += networks([peer["ipBlock"]["cidr"]], f"{path}.ipBlock.cidr")
                    if len(peer) > 1:
                        detail = "may not specify both ipBlock and another peer"
                        causes.append(forbidden_change(path, detail))
    return causes


def frozen_data(new: Object, old: Object | None) -> list[Cause]:
    """ConfigMaps and Secrets: keys that can be file names, and ``immutable``."""
    causes: list[Cause] = []
    if old is not None and old.get("immutable"):
        changed = [key for key in ("data", "binaryData") if new.get(key) != old.get(key)]
        causes += [forbidden_change(key, "field is immutable when `immutable` is set") for key in changed]
    for group in ("data", "binaryData"):
        for key in new.get(group, {}):
            if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key):
                detail = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
                causes.append(bad_value(f"{group}[{key}]", key, detail))
    return causes


def secret(new: Object, old: Object | None) -> list[Cause]:
    return frozen_data(new, old) + unchanged(new, old, "type")


def event(new: Object, old: Object | None) -> list[Cause]:
    there = new["involvedObject"].get("namespace", "") or "default"
    if there == new["metadata"]["namespace"]:
        return []
    return [bad_value("involvedObject.namespace", there, "does not match event.namespace")]
