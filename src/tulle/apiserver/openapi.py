"""OpenAPI documents, as much of them as kubectl reads.

From version 3 kubectl learns that fields are validated here (``fieldValidation``) and what ``explain`` shows.
Strategic merge is deliberately not among the PATCH bodies: kubectl then computes such patches from its own
types, which know the merge keys.  Version 2 is asked for, in protobuf, about kinds that version 3 does not
have; an empty document lets kubectl go on to its own, better error.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from tulle.apiserver.kinds import Kind, Object
from tulle.apiserver.registry import Registry

INFO = {"title": "Kubernetes", "version": "v1.36.0"}
GVK = "x-kubernetes-group-version-kind"
V2_MEDIA = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
V2_EMPTY = b"\x0a\x032.0\x12\x15\x0a\x0aKubernetes\x12\x07v1.36.0\x42\x00"
"""An openapi.v2.Document: swagger (field 1), info with title and version (2), no paths (8)."""


def find(registry: Registry, path: str) -> Object | None:
    """The document at a path; None when there is none."""
    match path.split("/"):
        case ["openapi", "v3"]:
            return index(registry)
        case ["openapi", "v3", "api", version]:
            return document(registry, "", version)
        case ["openapi", "v3", "apis", group, version]:
            return document(registry, group, version)
    return None


def index(registry: Registry) -> Object:
    """``/openapi/v3``: the documents, each address with a hash of its content."""
    paths = {}
    for group, versions in registry.groups().items():
        for version in versions:
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            digest = hashlib.sha256(msgspec.json.encode(document(registry, group, version))).hexdigest()[:32]
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest.upper()}"}
    return {"paths": paths}


def document(registry: Registry, group: str, version: str) -> Object | None:
    """``/openapi/v3/apis/GROUP/VERSION``; None when there is no such version."""
    kinds = [kind for kind in registry if (kind.group, kind.version) == (group, version)]
    if not kinds:
        return None
    paths: Object = {}
    for kind in kinds:
        paths |= _paths(kind)
    schemas = {_name(kind): {**_shown(kind.schema), GVK: [_gvk(kind)]} for kind in kinds}
    return {"openapi": "3.0.0", "info": INFO, "paths": paths, "components": {"schemas": schemas}}


def _paths(kind: Kind) -> Object:
    parameter = {"name": "fieldValidation", "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    prefix = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    collection = (
        f"{prefix}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{prefix}/{kind.plural}"
    )

    def operation(action: str) -> Object:
        shell = {"parameters": [parameter], "responses": {"200": {"description": "OK"}}}
        return shell | {"x-kubernetes-action": action, GVK: _gvk(kind)}

    reference = {"$ref": f"#/components/schemas/{_name(kind)}"}
    got = operation("get") | {"responses": {"200": {"description": "OK", "content": _content(reference)}}}
    item = {"get": got, "put": operation("put"), "patch": operation("patch"), "delete": operation("delete")}
    whole = {"get": operation("list"), "post": operation("post")}
    return {collection: whole, f"{collection}/{{name}}": item}


def _content(schema: Object) -> Object:
    return {"application/json": {"schema": schema}}


def _gvk(kind: Kind) -> Object:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _name(kind: Kind) -> str:
    """``io.k8s.api.core.v1.Pod``, or the group turned round."""
    if kind.custom:
        return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])
    return f"io.k8s.api.{(kind.group or 'core').split('.')[0]}.{kind.version}.{kind.kind}"


def _shown(schema: Any) -> Any:
    """A schema without ``x-kubernetes-int-or-string``'s missing type, which kubectl cannot show."""
    if isinstance(schema, list):
        return [_shown(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": "string", "format": "int-or-string"}
    return {key: _shown(value) for key, value in schema.items()}
