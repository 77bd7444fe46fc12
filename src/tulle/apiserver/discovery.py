"""What the server serves, in the forms that clients discover it by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tulle.apiserver.kinds import Kind, Object
from tulle.apiserver.registry import Registry

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
VERSION: Object = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0+tulle",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
PART_VERBS = {
    "binding": ["create"],
    "eviction": ["create"],
    "token": ["create"],
    "finalize": ["update"],
    "log": ["get"],
    "exec": ["create", "get"],
    "attach": ["create", "get"],
    "portforward": ["create", "get"],
}
PART_KINDS = {
    "scale": ("autoscaling", "v1", "Scale"),
    "binding": ("", "v1", "Binding"),
    "eviction": ("policy", "v1", "Eviction"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
}
REVIEWS = (
    ("authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews"),
    ("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
)


def core_versions() -> Object:
    """``/api``."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group(name: str, versions: list[str]) -> Object:
    """``/apis/GROUP``."""
    offered = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    shell = {"kind": "APIGroup", "apiVersion": "v1", "name": name}
    return shell | {"versions": offered, "preferredVersion": offered[0]}


def groups(registry: Registry) -> Object:
    """``/apis``."""
    found = [group(name, versions) for name, versions in versions_of(registry).items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def versions_of(registry: Registry) -> dict[str, list[str]]:
    return registry.groups() | {name: ["v1"] for name, _, _ in REVIEWS}


def resources(registry: Registry, name: str, version: str) -> Object | None:
    """``/apis/GROUP/VERSION``; None when there is no such version."""
    listed = [
        entry for kind in registry if (kind.group, kind.version) == (name, version) for entry in _legacy(kind)
    ]
    for review, kind_name, plural in REVIEWS:
        if (review, "v1") == (name, version):
            entry = {"name": plural, "singularName": kind_name.lower(), "namespaced": False}
            listed.append(entry | {"kind": kind_name, "verbs": ["create"]})
    if not listed:
        return None
    full = f"{name}/{version}" if name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": full, "resources": listed}


def _legacy(kind: Kind) -> Iterable[Object]:
    entry = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
    }
    entry |= {"verbs": list(kind.verbs)}
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    yield entry
    for part in kind.subresources:
        group, version, name = PART_KINDS.get(part, ("", "", kind.kind))
        shell = {
            "name": f"{kind.plural}/{part}",
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": name,
        }
        yield shell | ({"group": group, "version": version} if version else {}) | {"verbs": _part_verbs(part)}


def _part_verbs(part: str) -> list[str]:
    return PART_VERBS.get(part, ["get", "patch", "update"])


def aggregated_version(accept: str) -> str:
    """The version of aggregated discovery that a client asks for, empty when it does not."""
    versions = (
        version for version in ("v2", "v2beta1") if AGGREGATED.format(version) in accept.replace(" ", "")
    )
    return next(versions, "")


def aggregated(registry: Registry, version: str, *, core: bool) -> Object:
    """``/api`` or ``/apis`` as an APIGroupDiscoveryList."""
    items = [
        {
            "metadata": {"name": name} if name else {},
            "versions": [_version(registry, name, each) for each in versions],
        }
        for name, versions in versions_of(registry).items()
        if (not name) is core
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _version(registry: Registry, name: str, version: str) -> Object:
    listed = [_aggregated(kind) for kind in registry if (kind.group, kind.version) == (name, version)]
    for review, kind_name, plural in REVIEWS:
        if (review, "v1") == (name, version):
            listed.append(
                _discovered(plural, _named(review, "v1", kind_name), kind_name.lower(), "Cluster", ["create"])
            )
    return {"version": version, "resources": listed, "freshness": "Current"}


def _named(group: str, version: str, kind: str) -> Object:
    return {"group": group, "version": version, "kind": kind}


def _discovered(plural: str, kind: Object, singular: str, scope: str, verbs: Iterable[str]) -> Object:
    named = {"resource": plural, "responseKind": kind, "scope": scope, "singularResource": singular}
    return named | {"verbs": list(verbs)}


def _aggregated(kind: Kind) -> dict[str, Any]:
    own = _named(kind.group, kind.version, kind.kind)
    scope = "Namespaced" if kind.namespaced else "Cluster"
    entry = _discovered(kind.plural, own, kind.singular, scope, kind.verbs)
    entry |= {"shortNames": list(kind.short_names), "categories": list(kind.categories)}
    parts = [
        {
            "subresource": part,
            "responseKind": _named(*PART_KINDS[part]) if part in PART_KINDS else own,
            "verbs": _part_verbs(part),
        }
        for part in kind.subresources
    ]
    return entry | ({"subresources": parts} if parts else {})
