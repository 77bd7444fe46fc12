"""Create, update, patch and delete: one path for every kind.

Everything here runs within one turn of the event loop, from reading the old object to storing the new one, so
no write comes in between; the caller then waits for ``Store.committed``.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tulle.apiserver import checks, patch, status
from tulle.apiserver.kinds import Keeper, Kind, Object
from tulle.apiserver.registry import Registry
from tulle.apiserver.store import Record, Store
from tulle.apiserver.times import stamp

SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
KEPT = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
CLUSTER_FINALIZERS = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}
APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class Options:
    """``validation`` is ``Strict``, ``Warn`` or ``Ignore``: about fields that the kind does not have."""

    dry_run: bool = False
    validation: str = "Warn"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a write left: the object, whether it is new or gone, and warnings for the client."""

    record: Record
    created: bool = False
    gone: bool = False
    warnings: list[str] = field(default_factory=list)


class Writer:
    """The rules of Kubernetes' generic registry over a store of ``objects``.

    ``keepers`` work beside the kinds whose objects the store has under their keys.
    """

    def __init__(
        self, objects: Store, registry: Registry, keepers: Mapping[str, Keeper] | None = None
    ) -> None:
        self.objects = objects
        self.registry = registry
        self._keepers = keepers or {}

    def existing(self, kind: Kind, namespace: str, name: str) -> Record:
        if (record := self.objects.get(kind.stored, namespace, name)) is None:
            raise status.not_found(kind, name)
        return record

    def create(self, kind: Kind, namespace: str, given: Object, options: Options) -> Outcome:
        meta = _metadata(given)
        if (meta.setdefault("namespace", namespace) or namespace) != namespace:
            raise status.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        meta.pop("namespace" if not namespace else "resourceVersion", None)
        self._name(kind, namespace, meta)
        if kind.namespaced:
            self._check_namespace(kind, namespace, meta["name"])
        if self.objects.get(kind.stored, namespace, meta["name"]) is not None:
            raise status.already_exists(kind, meta["name"])
        for key in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            meta.pop(key, None)
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": stamp()}
        if "status" in kind.subresources:
            meta["generation"] = 1
            if kind.resource != "nodes":
                given.pop("status", None)
        obj, warnings = self._admit(kind, given, None, options)
        return Outcome(self._put(kind, obj, options), created=True, warnings=warnings)

    def _name(self, kind: Kind, namespace: str, meta: Object) -> None:
        prefix = meta.get("generateName", "")
        if not meta.get("name") and prefix:
            meta.pop("name", None)
            while "name" not in meta or self.objects.get(kind.stored, namespace, meta["name"]):
                meta["name"] = prefix[:58] + "".join(random.choices(SUFFIX, k=5))
        if not meta.get("name"):
            cause = status.required("metadata.name", "name or generateName is required")
            raise status.invalid(kind, "", [cause])

    def _check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        spaces = self.registry.get("", "namespaces")
        space = self.existing(spaces, "", namespace).obj
        if "deletionTimestamp" in space["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = status.Cause(
                "NamespaceTerminating", "metadata.namespace", f"namespace {namespace} is being terminated"
            )
            raise status.forbidden(kind, name, why, [cause])

    def update(
        self, kind: Kind, namespace: str, name: str, given: Object, options: Options, part: str = ""
    ) -> Outcome:
        """Replaces an object, or its ``part`` (``status`` or ``finalize``)."""
        record = self.existing(kind, namespace, name)
        old, meta = record.obj, _metadata(given)
        if meta.setdefault("name", name) != name:
            detail = f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
            raise status.bad_request(detail)
        self._precondition(kind, name, meta, record)
        new = _with_part(kind, record, given, part)
        _carry(new["metadata"], old["metadata"])
        obj, warnings = self._admit(kind, new, old, options)
        if "generation" in old["metadata"] and _intent(obj) != _intent(old):
            obj["metadata"]["generation"] = old["metadata"]["generation"] + 1
        if obj == old:
            return Outcome(record, warnings=warnings)
        return self._settle(kind, obj, options, warnings)

    def _precondition(self, kind: Kind, name: str, wanted: Mapping[str, Any], record: Record) -> None:
        if (uid := wanted.get("uid")) and uid != record.obj["metadata"]["uid"]:
            ours = record.obj["metadata"]["uid"]
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {ours}"
            raise status.conflict(kind, name, why)
        if (version := wanted.get("resourceVersion")) and version != str(record.version):
            why = (
                "the object has been modified; please apply your changes to the latest version and try again"
            )
            raise status.conflict(kind, name, why)

    def patch(
        self, kind: Kind, namespace: str, name: str, how: str, body: Any, options: Options, part: str = ""
    ) -> Outcome:
        """Changes an object by a patch of media type ``how``; server-side apply creates what is missing."""
        record = self.objects.get(kind.stored, namespace, name)
        if record is None and how == APPLY and not part:
            given = patch.apply_patch(how, {}, body, kind.kind)
            _metadata(given).setdefault("name", name)
            return self.create(kind, namespace, given, options)
        current = self.existing(kind, namespace, name).copy()
        current = kind.present(current) if kind.present else current
        given = patch.apply_patch(how, current, body, kind.kind)
        return self.update(kind, namespace, name, given, options, part)

    def _admit(
        self, kind: Kind, given: Object, old: Object | None, options: Options
    ) -> tuple[Object, list[str]]:
        """Prunes, defaults and validates; returns the object as it is stored, and warnings."""
        given.setdefault("apiVersion", kind.api_version)
        given.setdefault("kind", kind.kind)
        _check_type(kind, given)
        found = kind.shape.settle(given)
        unreadable = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'
        if found.unknown and options.validation == "Strict":
            listed = ", ".join(f'unknown field "{path}"' for path in found.unknown)
            raise status.bad_request(f"{unreadable}: strict decoding error: {listed}")
        name = str(given["metadata"].get("name", ""))
        if found.mistyped and not kind.custom:
            raise status.bad_request(f"{unreadable}: {', '.join(map(str, found.mistyped))}")
        if causes := found.mistyped + found.causes:
            raise status.invalid(kind, name, causes)
        obj = kind.accept(given) if kind.accept else given
        if kind.prepare:
            kind.prepare(obj, old)
        if (keeper := self._keepers.get(kind.stored)) and (causes := keeper.complete(obj, old)):
            raise status.invalid(kind, name, causes)
        causes = (checks.name(kind, name) if old is None else []) + checks.metadata(obj["metadata"])
        if kind.check:
            causes += kind.check(obj, old)
        if causes:
            raise status.invalid(kind, name, causes)
        shown = found.unknown if options.validation == "Warn" else []
        return obj, [f'unknown field "{path}"' for path in shown]

    def _put(self, kind: Kind, obj: Object, options: Options) -> Record:
        if options.dry_run:
            return Record(self.objects.version, obj, msgspec.json.encode(obj))
        old = self._before(kind, obj)
        record = self.objects.put(kind.stored, obj)
        if keeper := self._keepers.get(kind.stored):
            keeper.follow(obj, old)
        return record

    def _remove(self, kind: Kind, obj: Object) -> Record:
        old = self._before(kind, obj)
        record = self.objects.remove(kind.stored, obj)
        if keeper := self._keepers.get(kind.stored):
            keeper.follow(None, old)
        return record

    def _before(self, kind: Kind, obj: Object) -> Object | None:
        meta = obj["metadata"]
        record = self.objects.get(kind.stored, meta.get("namespace", ""), meta["name"])
        return record.obj if record else None

    def store(self, kind: Kind, obj: Object, options: Options) -> Outcome:
        """Stores an object that is known to be right: for subresources that may do what an update may not."""
        return self._settle(kind, obj, options, [])

    def _settle(self, kind: Kind, obj: Object, options: Options, warnings: list[str]) -> Outcome:
        """Stores the object, or removes it when nothing holds back its deletion any more."""
        meta = obj["metadata"]
        held = meta.get("finalizers") or (kind.resource == "namespaces" and obj["spec"].get("finalizers"))
        if "deletionTimestamp" not in meta or held or meta.get("deletionGracePeriodSeconds"):
            return Outcome(self._put(kind, obj, options), warnings=warnings)
        if options.dry_run:
            return Outcome(self._put(kind, obj, options), gone=True, warnings=warnings)
        return Outcome(self._remove(kind, obj), gone=True, warnings=warnings)

    def delete(self, kind: Kind, namespace: str, name: str, wanted: Object, options: Options) -> Outcome:
        """Deletes as the DeleteOptions in ``wanted`` say."""
        record = self.existing(kind, namespace, name)
        self._precondition(kind, name, wanted.get("preconditions") or {}, record)
        obj = record.copy()
        meta = obj["metadata"]
        _propagate(meta, wanted)
        grace = _grace(kind, obj, wanted)
        if "deletionTimestamp" not in meta or grace < meta.get("deletionGracePeriodSeconds", 0):
            meta |= {"deletionTimestamp": stamp(grace), "deletionGracePeriodSeconds": grace}
            if kind.resource == "namespaces":
                obj["status"] = {**obj.get("status", {}), "phase": "Terminating"}
            if "generation" in meta:
                meta["generation"] += 1
        return Outcome(record) if obj == record.obj else self._settle(kind, obj, options, [])


def _metadata(obj: Object) -> Object:
    """The object's metadata, made when it is missing; what is read before validation has the right type."""
    if not isinstance(obj, dict) or not isinstance(meta := obj.setdefault("metadata", {}), dict):
        raise status.bad_request("the request body is not a Kubernetes object: metadata must be an object")
    for key in ("name", "namespace", "generateName", "uid", "resourceVersion"):
        if not isinstance(meta.get(key), str | None):
            cause = status.wrong_type(f"metadata.{key}", meta[key], "must be a string")
            raise status.bad_request(f"the request body is not a Kubernetes object: {cause}")
        if meta.get(key, "") is None:
            del meta[key]
    return meta


def _check_type(kind: Kind, given: Object) -> None:
    if given["apiVersion"] != kind.api_version:
        got = f"the API version in the data ({given['apiVersion']})"
        raise status.bad_request(f"{got} does not match the expected API version ({kind.api_version})")
    if given["kind"] != kind.kind:
        raise status.bad_request(
            f"the kind in the data ({given['kind']}) does not match the expected kind ({kind.kind})"
        )


def _with_part(kind: Kind, record: Record, given: Object, part: str) -> Object:
    """The new object: the given one, of which ``part`` counts and without it everything but the status."""
    old = record.copy()
    old = kind.present(old) if kind.present else old
    if part == "status":
        meta = old["metadata"] if kind.custom else given["metadata"]
        return old | {"metadata": meta, "status": given.get("status") or {}}
    if part == "finalize":
        return old | {"spec": given.get("spec", {})}
    if "status" in kind.subresources:
        given.pop("status", None)
        given |= {"status": old["status"]} if "status" in old else {}
    return given


def _carry(new: Object, old: Object) -> None:
    """What a client cannot change about an object's metadata."""
    for key in (*KEPT, "generation", "resourceVersion"):
        new.pop(key, None)
        if key in old:
            new[key] = old[key]


def _intent(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def _propagate(meta: Object, wanted: Object) -> None:
    """Leaves word for the garbage collector, as a finalizer, how dependents are to be treated."""
    policy = wanted.get("propagationPolicy") or ("Orphan" if wanted.get("orphanDependents") else None)
    if policy is None:
        return
    others = [each for each in meta.get("finalizers", ()) if each not in CLUSTER_FINALIZERS.values()]
    added = [CLUSTER_FINALIZERS[policy]] if policy in CLUSTER_FINALIZERS else []
    meta.pop("finalizers", None)
    if others + added:
        meta["finalizers"] = others + added


def _grace(kind: Kind, obj: Object, wanted: Object) -> int:
    """Seconds that an object gets to end: only Pods that run somewhere get any."""
    if kind.resource != "pods" or not obj["spec"].get("nodeName"):
        return 0
    if obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    grace = wanted.get("gracePeriodSeconds")
    return int(obj["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else max(grace, 0))
