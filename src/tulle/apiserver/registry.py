"""The table of kinds: everything that differs between them, apart from their fields in ``builtin.types``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tulle.apiserver import checks, customs, events, prepare
from tulle.apiserver.kinds import Kind
from tulle.apiserver.types import whole

ALL: Final = ("all",)
PLAIN: Final = ()
SCALED: Final = ("status", "scale")
SCALE_PATHS: Final = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}
EVENT_FIELDS: Final = dict.fromkeys(
    (
        *("reason", "type", "source", "reportingComponent"),
        *(
            f"involvedObject.{each}"
            for each in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath")
        ),
    ),
    "",
)
POD_FIELDS: Final = {
    "spec.nodeName": "",
    "spec.restartPolicy": "",
    "spec.schedulerName": "",
    "spec.serviceAccountName": "",
    "spec.hostNetwork": "false",
    "status.phase": "",
    "status.podIP": "",
    "status.nominatedNodeName": "",
}
POD_PARTS: Final = ("status", "binding", "eviction", "log", "exec", "attach", "portforward")


def _kind(group: str, name: str, plural: str, short: str = "", **more: Any) -> Kind:
    more.setdefault("schema", whole(name))
    return Kind(
        group=group,
        version="v1",
        kind=name,
        plural=plural,
        singular=name.lower(),
        stored=more.pop("stored", f"{group}/{plural}"),
        short_names=tuple(short.split()),
        **more,
    )


def builtin() -> Iterator[Kind]:
    """Every built-in kind."""
    yield from _core()
    yield from _workloads()
    yield from _network()
    yield _kind("coordination.k8s.io", "Lease", "leases", subresources=PLAIN)
    yield _kind(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        "crd crds",
        namespaced=False,
        categories=("api-extensions",),
        prepare=customs.prepare,
        check=customs.check,
    )


def _core() -> Iterator[Kind]:
    yield _kind(
        "",
        "Namespace",
        "namespaces",
        "ns",
        namespaced=False,
        name_rule="label",
        subresources=("status", "finalize"),
        fields={"status.phase": ""},
        prepare=prepare.namespace,
    )
    yield _kind(
        "",
        "Node",
        "nodes",
        "no",
        namespaced=False,
        fields={"spec.unschedulable": "false"},
        prepare=prepare.node,
        check=checks.node,
    )
    yield _kind(
        "",
        "Pod",
        "pods",
        "po",
        categories=ALL,
        subresources=POD_PARTS,
        fields=POD_FIELDS,
        prepare=prepare.pod,
        check=checks.pod,
    )
    yield _kind(
        "",
        "Service",
        "services",
        "svc",
        categories=ALL,
        name_rule="label1035",
        fields={"spec.clusterIP": "", "spec.type": ""},
        prepare=prepare.service,
    )
    yield _kind("", "Endpoints", "endpoints", "ep", subresources=PLAIN)
    yield _kind("", "ConfigMap", "configmaps", "cm", subresources=PLAIN, check=checks.frozen_data)
    yield _kind(
        "",
        "Secret",
        "secrets",
        subresources=PLAIN,
        fields={"type": ""},
        prepare=prepare.secret,
        check=checks.secret,
    )
    yield _kind("", "ServiceAccount", "serviceaccounts", "sa", subresources=("token",))
    event = _kind("", "Event", "events", "ev", subresources=PLAIN, fields=EVENT_FIELDS, check=checks.event)
    yield event
    yield _kind(
        "events.k8s.io",
        "Event",
        "events",
        "ev",
        subresources=PLAIN,
        fields=EVENT_FIELDS,
        check=checks.event,
        stored=event.stored,
        schema=events.schema(dict(event.schema)),
        present=events.present,
        accept=events.accept,
    )


def _workloads() -> Iterator[Kind]:
    common: dict[str, Any] = {"categories": ALL, "check": checks.workload}
    scaled = common | {"subresources": SCALED, "scale_paths": SCALE_PATHS}
    yield _kind("apps", "Deployment", "deployments", "deploy", prepare=prepare.deployment, **scaled)
    fields = {"status.replicas": "0"}
    yield _kind(
        "apps", "ReplicaSet", "replicasets", "rs", prepare=prepare.replica_set, fields=fields, **scaled
    )
    yield _kind("apps", "DaemonSet", "daemonsets", "ds", prepare=prepare.daemon_set, **common)


def _network() -> Iterator[Kind]:
    group = "networking.k8s.io"
    yield _kind(
        "discovery.k8s.io", "EndpointSlice", "endpointslices", subresources=PLAIN, check=checks.endpoint_slice
    )
    yield _kind(
        group,
        "NetworkPolicy",
        "networkpolicies",
        "netpol",
        subresources=PLAIN,
        prepare=prepare.policy,
        check=checks.policy,
    )
    yield _kind(group, "Ingress", "ingresses", "ing")
    yield _kind(group, "IngressClass", "ingressclasses", namespaced=False, subresources=PLAIN)
    yield _kind(group, "ServiceCIDR", "servicecidrs", namespaced=False, check=checks.service_cidr)
    yield _kind(
        group,
        "IPAddress",
        "ipaddresses",
        "ip",
        namespaced=False,
        subresources=PLAIN,
        name_rule="address",
        fields={"spec.parentRef.resource": "", "spec.parentRef.namespace": "", "spec.parentRef.name": ""},
    )


class Registry:
    """The kinds that are served: the built-in ones, and those that CustomResourceDefinitions add."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str], Kind] = {}
        for kind in builtin():
            self.add(kind)

    def add(self, kind: Kind) -> None:
        self._kinds[kind.group, kind.version, kind.plural] = kind

    def drop_custom(self, group: str, plural: str) -> None:
        """Stops serving a custom kind, all its versions."""
        for key, kind in list(self._kinds.items()):
            if kind.custom and (kind.group, kind.plural) == (group, plural):
                del self._kinds[key]

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        return self._kinds.get((group, version, plural))

    def get(self, group: str, plural: str) -> Kind:
        """A built-in kind."""
        return self._kinds[group, "v1", plural]

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds.values())

    def groups(self) -> dict[str, list[str]]:
        """Each group's versions, the core group (named empty) first."""
        found: dict[str, list[str]] = {}
        for kind in self._kinds.values():
            versions = found.setdefault(kind.group, [])
            if kind.version not in versions:
                versions.append(kind.version)
        return found
