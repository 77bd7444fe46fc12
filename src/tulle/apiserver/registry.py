"""The table of kinds: everything that differs between them, apart from their fields in ``builtin.types``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tulle.apiserver import (
    checks,
    customs,
    endpoint_checks,
    events,
    prepare,
    service_checks,
    service_cidrs,
    services,
)
from tulle.apiserver.kinds import Kind
from tulle.apiserver.types import whole

NAMES: Final = """
group                plural                     kind                      short     scope       categories
-                    namespaces                 Namespace                 ns        cluster     -
-                    nodes                      Node                      no        cluster     -
-                    pods                       Pod                       po        namespaced  all
-                    services                   Service                   svc       namespaced  all
-                    endpoints                  Endpoints                 ep        namespaced  -
-                    configmaps                 ConfigMap                 cm        namespaced  -
-                    secrets                    Secret                    -         namespaced  -
-                    serviceaccounts            ServiceAccount            sa        namespaced  -
-                    events                     Event                     ev        namespaced  -
events.k8s.io        events                     Event                     ev        namespaced  -
apps                 deployments                Deployment                deploy    namespaced  all
apps                 replicasets                ReplicaSet                rs        namespaced  all
apps                 daemonsets                 DaemonSet                 ds        namespaced  all
discovery.k8s.io     endpointslices             EndpointSlice             -         namespaced  -
networking.k8s.io    networkpolicies            NetworkPolicy             netpol    namespaced  -
networking.k8s.io    ingresses                  Ingress                   ing       namespaced  -
networking.k8s.io    ingressclasses             IngressClass              -         cluster     -
networking.k8s.io    servicecidrs               ServiceCIDR               -         cluster     -
networking.k8s.io    ipaddresses                IPAddress                 ip        cluster     -
coordination.k8s.io  leases                     Lease                     -         namespaced  -
apiextensions.k8s.io customresourcedefinitions  CustomResourceDefinition  crd,crds  cluster     api-extensions
"""
PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "namespaces": ("status", "finalize"),
    "nodes": ("status",),
    "pods": ("status", "binding", "eviction", "log", "exec", "attach", "portforward"),
    "services": ("status",),
    "serviceaccounts": ("token",),
    "deployments": ("status", "scale"),
    "replicasets": ("status", "scale"),
    "daemonsets": ("status",),
    "ingresses": ("status",),
    "servicecidrs": ("status",),
    "customresourcedefinitions": ("status",),
}
"""Subresources, by plural."""

INVOLVED: Final = ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath")
FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "namespaces": {"status.phase": ""},
    "nodes": {"spec.unschedulable": "false"},
    "pods": {
        "spec.hostNetwork": "false",
        **dict.fromkeys(("spec.nodeName", "spec.restartPolicy", "spec.schedulerName"), ""),
        **dict.fromkeys(("spec.serviceAccountName", "status.nominatedNodeName"), ""),
        **dict.fromkeys(("status.phase", "status.podIP"), ""),
    },
    "services": {"spec.clusterIP": "", "spec.type": ""},
    "secrets": {"type": ""},
    "events": {
        **dict.fromkeys(("reason", "type", "reportingComponent"), ""),
        **{f"involvedObject.{each}": "" for each in INVOLVED},
    },
    "replicasets": {"status.replicas": "0"},
    "ipaddresses": {f"spec.parentRef.{each}": "" for each in ("resource", "namespace", "name")},
}
"""Selectable fields, by plural, and what they count as where they are absent."""

RULES: Final[Mapping[str, Mapping[str, Any]]] = {
    "namespaces": {"name_rule": "label", "prepare": prepare.namespace},
    "nodes": {"prepare": prepare.node, "check": checks.node},
    "pods": {"prepare": prepare.pod, "check": checks.pod},
    "services": {"name_rule": "label", "prepare": services.prepare, "check": service_checks.service},
    "endpoints": {"check": endpoint_checks.endpoints},
    "configmaps": {"check": checks.frozen_data},
    "secrets": {"prepare": prepare.secret, "check": checks.secret},
    "events": {"check": checks.event},
    "deployments": {"prepare": prepare.deployment, "check": checks.workload},
    "replicasets": {"prepare": prepare.replica_set, "check": checks.workload},
    "daemonsets": {"prepare": prepare.daemon_set, "check": checks.workload},
    "endpointslices": {"check": endpoint_checks.endpoint_slice},
    "networkpolicies": {"prepare": prepare.policy, "check": checks.policy},
    "servicecidrs": {"prepare": service_cidrs.prepare, "check": service_cidrs.check},
    "ipaddresses": {"name_rule": "address", "check": service_cidrs.check_address},
    "customresourcedefinitions": {"prepare": customs.prepare, "check": customs.check},
}
"""What a kind asks of its objects beyond its schema, by plural."""

SCALE_PATHS: Final = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}


def builtin() -> Iterator[Kind]:
    """Every built-in kind."""
    for line in NAMES.strip().splitlines()[1:]:
        yield _kind(*("" if word == "-" else word for word in line.split()))


def _kind(group: str, plural: str, name: str, short: str, scope: str, categories: str) -> Kind:
    renamed: dict[str, Any] = {"schema": whole(name)}
    if group == "events.k8s.io":
        renamed = {"schema": events.schema(whole(name)), "present": events.present, "accept": events.accept}
    return Kind(
        group=group,
        version="v1",
        kind=name,
        plural=plural,
        singular=name.lower(),
        stored="/events" if plural == "events" else f"{group}/{plural}",
        short_names=tuple(filter(None, short.split(","))),
        categories=tuple(filter(None, categories.split(","))),
        namespaced=scope == "namespaced",
        subresources=PARTS.get(plural, ()),
        fields=FIELDS.get(plural, {}),
        scale_paths=SCALE_PATHS,
        **renamed,
        **RULES.get(plural, {}),
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
