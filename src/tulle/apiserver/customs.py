"""CustomResourceDefinitions: what is right about one, and the kinds that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tulle.apiserver import checks, schema
from tulle.apiserver.kinds import VERBS, Kind, Object
from tulle.apiserver.status import Cause, bad_value, required
from tulle.apiserver.times import stamp
from tulle.apiserver.types import PRIMITIVES, structure

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


def prepare(new: Object, old: Object | None) -> None:
    """Fills in names and, as there is nothing to wait for, the conditions at once."""
    names = new["spec"]["names"]
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", f"{names['kind']}List")
    if old is None:
        finalizers = new["metadata"].setdefault("finalizers", [])
        finalizers += [FINALIZER] if FINALIZER not in finalizers else []
    before = (old or {}).get("status", {})
    stored = [version["name"] for version in new["spec"]["versions"] if version["storage"]]
    new["status"] = {
        "conditions": before.get("conditions")
        or [
            _condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            _condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "acceptedNames": names,
        "storedVersions": sorted({*before.get("storedVersions", []), *stored}),
    }


def _condition(kind: str, reason: str, message: str) -> Object:
    condition = {"type": kind, "status": "True", "reason": reason, "message": message}
    return condition | {"lastTransitionTime": stamp()}


def check(new: Object, old: Object | None) -> list[Cause]:
    spec = new["spec"]
    causes = checks.unchanged(new, old, "spec.group", "spec.scope", "spec.names.plural", "spec.names.kind")
    name = f"{spec['names']['plural']}.{spec['group']}"
    if new["metadata"]["name"] != name:
        detail = f'must be spec.names.plural+"."+spec.group: {name}'
        causes.append(bad_value("metadata.name", new["metadata"]["name"], detail))
    if "." not in spec["group"]:
        causes.append(bad_value("spec.group", spec["group"], "should be a domain with at least one dot"))
    if sum(version["storage"] for version in spec["versions"]) != 1:
        detail = "must have exactly one version marked as storage version"
        causes.append(bad_value("spec.versions", None, detail))
    for index, version in enumerate(spec["versions"]):
        path = f"spec.versions[{index}].schema.openAPIV3Schema"
        found = version.get("schema", {}).get("openAPIV3Schema")
        causes += [required(path, "schemas are required")] if found is None else schema.flaws(found, path)
    return causes


def kinds(definition: Object) -> list[Kind]:
    """One kind for each version that is served."""
    versions = definition["spec"]["versions"]
    storage = next(version["name"] for version in versions if version["storage"])
    return [
        _kind(definition["spec"], version, storage, len(versions))
        for version in versions
        if version["served"]
    ]


def _kind(spec: Object, version: Object, storage: str, versions: int) -> Kind:
    group, names, parts = spec["group"], spec["names"], version.get("subresources", {})
    turns = (_turned(group, version["name"]), _turned(group, storage)) if versions > 1 else (None, None)
    return Kind(
        group=group,
        version=version["name"],
        kind=names["kind"],
        plural=names["plural"],
        singular=names["singular"],
        schema=_whole(version["schema"]["openAPIV3Schema"]),
        stored=f"{group}/{names['plural']}",
        short_names=tuple(names.get("shortNames", ())),
        categories=tuple(names.get("categories", ())),
        namespaced=spec["scope"] == "Namespaced",
        subresources=tuple(part for part in ("status", "scale") if part in parts),
        verbs=VERBS,
        fields={each["jsonPath"].strip("."): "" for each in version.get("selectableFields", ())},
        present=turns[0],
        accept=turns[1],
        custom=True,
        columns=version.get("additionalPrinterColumns"),
        scale_paths=parts.get("scale", {}),
    )


def _turned(group: str, version: str) -> Any:
    """Versions differ in their apiVersion only: conversion webhooks are not called."""
    return lambda obj: {**obj, "apiVersion": f"{group}/{version}"}


def _whole(given: Mapping[str, Any]) -> dict[str, Any]:
    text = PRIMITIVES["string"]
    common = {"apiVersion": text, "kind": text, "metadata": structure("ObjectMeta")}
    return {**given, "properties": given.get("properties", {}) | common}
