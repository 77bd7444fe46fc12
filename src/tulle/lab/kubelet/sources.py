"""The ConfigMaps and Secrets that a Pod names."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping

from tulle.errors import Forbidden, NotFound
from tulle.kube.client import Client
from tulle.kube.resources import CONFIGMAPS, SECRETS, Untyped
from tulle.lab.kubelet.environment import Data
from tulle.lab.kubelet.objects import Pod

_RESOURCES = {"ConfigMap": CONFIGMAPS, "Secret": SECRETS}


def references(pod: Pod) -> set[tuple[str, str]]:
    """(kind, name) of all that environments and volumes need."""
    return set(_of_environments(pod)) | set(_of_volumes(pod))


def _of_environments(pod: Pod) -> Iterator[tuple[str, str]]:
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        sources = [variable.value_from for variable in container.env if variable.value_from]
        pairs = [("ConfigMap", source.config_map_key_ref) for source in sources]
        pairs += [("Secret", source.secret_key_ref) for source in sources]
        yield from ((kind, ref.name) for kind, ref in pairs if ref)
        wholes = [("ConfigMap", source.config_map_ref) for source in container.env_from]
        wholes += [("Secret", source.secret_ref) for source in container.env_from]
        yield from ((kind, whole.name) for kind, whole in wholes if whole)


def _of_volumes(pod: Pod) -> Iterator[tuple[str, str]]:
    for volume in pod.spec.volumes:
        if volume.config_map:
            yield "ConfigMap", volume.config_map.name
        if volume.secret:
            yield "Secret", volume.secret.secret_name


async def fetch(client: Client, pod: Pod) -> Data:
    """What is there of them. Raises ``ApiError`` and ``ApiUnreachable``."""
    found: dict[tuple[str, str], Mapping[str, bytes]] = {}
    for kind, name in references(pod):
        try:
            body = await client.get(_RESOURCES[kind], name, pod.metadata.namespace)
        except (NotFound, Forbidden):
            continue
        found[kind, name] = _content(body)
    return lambda kind, name: found.get((kind, name))


def _content(body: Untyped) -> Mapping[str, bytes]:
    """A Secret's ``data`` and a ConfigMap's ``binaryData`` are base64, a ConfigMap's ``data`` is text."""
    encoded = body.get("data") if body.get("kind") == "Secret" else body.get("binaryData")
    plain = {} if body.get("kind") == "Secret" else body.get("data")
    content = {key: value.encode() for key, value in (plain or {}).items()}
    return content | {key: base64.b64decode(value) for key, value in (encoded or {}).items()}
