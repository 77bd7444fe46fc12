"""What a request asks for: its path, its query and its body, read into values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgspec
import yaml

from tulle.apiserver import protobuf, status

VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}
JSON_TYPES = ("", "application/json", "application/json-patch+json", "application/merge-patch+json")
YAML_TYPES = ("application/yaml", "application/apply-patch+yaml", "application/x-yaml")
STRATEGIC = "application/strategic-merge-patch+json"


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of ``/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL/NAME/PART``; empty where not given."""

    group: str
    version: str
    plural: str = ""
    namespace: str = ""
    name: str = ""
    part: str = ""


def target(path: str) -> Target | None:
    """Reads a path as it came (still percent-encoded); None when it is not one of the API's resources."""
    match [unquote(step) for step in path.strip("/").split("/")]:
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case _:
            return None
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3 or not all([group or version, *rest]):
        return None
    plural, name, part = [*rest, "", "", ""][:3]
    return Target(group, version, plural, namespace, name, part)


def verb(method: str, asked: Target, query: Mapping[str, str]) -> str:
    """The API's word for what a request does, as access rules name it."""
    if (found := VERBS.get(method)) is None:
        raise status.StatusError(405, f"the server does not allow the method {method}")
    if asked.name:
        return found
    if found == "get":
        return "watch" if flag(query, "watch") else "list"
    return "deletecollection" if found == "delete" else found


def flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "false").lower() in ("true", "1")


def number(query: Mapping[str, str], name: str, absent: int) -> int:
    text = query.get(name, "")
    if text and not text.isdigit():
        raise status.bad_request(f"{name}: Invalid value: {text!r}: must be a number, 0 or greater")
    return int(text or absent)


def decode(media: str, body: bytes, *, strict: bool = False) -> Any:
    """A body as values; ``strict`` refuses fields that are given twice."""
    media = media.partition(";")[0].strip().lower()
    if media == protobuf.MEDIA:
        return protobuf.decode(body)
    try:
        if media in YAML_TYPES:
            return yaml.load(body, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if media not in (*JSON_TYPES, STRATEGIC):
            accepted = ", ".join((*JSON_TYPES[1:], STRATEGIC, *YAML_TYPES, protobuf.MEDIA))
            words = "the body of the request was in an unknown format - accepted media types include:"
            raise status.StatusError(415, f"{words} {accepted}")
        return json.loads(body, object_pairs_hook=_once) if strict else msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise status.bad_request(f"the object provided is unrecognized: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise status.bad_request(f'strict decoding error: duplicate field "{key}"')
        found[key] = value
    return found
