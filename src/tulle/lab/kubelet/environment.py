"""Environment variables and command lines, with Kubernetes' ``$(NAME)`` references. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from tulle.errors import ConfigError
from tulle.lab.kubelet.objects import Container, EnvVar, Pod

_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z_.-][A-Za-z0-9_.-]*)\))")
_LABEL = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class Data(Protocol):
    """The content of the ConfigMaps and Secrets that a Pod names; None for one that does not exist."""

    def __call__(self, kind: str, name: str) -> Mapping[str, bytes] | None: ...


def expand(text: str, variables: Mapping[str, str]) -> str:
    """``$(NAME)`` becomes the variable, ``$$`` a dollar sign; what is not known stays as it is."""

    def replace(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return variables.get(match[2], match[0])

    return _REFERENCE.sub(replace, text)


def fields(pod: Pod, node: str, host_ips: Sequence[str], pod_ips: Sequence[str]) -> dict[str, str]:
    """What ``fieldRef`` can name, apart from single labels and annotations."""
    meta = pod.metadata
    return {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "spec.nodeName": node,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.hostIP": host_ips[0],
        "status.hostIPs": ",".join(host_ips),
        "status.podIP": pod_ips[0] if pod_ips else "",
        "status.podIPs": ",".join(pod_ips),
    }


def field(pod: Pod, known: Mapping[str, str], path: str) -> str:
    """The value at ``path``. Raises ``ConfigError``."""
    if single := _LABEL.fullmatch(path):
        source: dict[str, str] = getattr(pod.metadata, single[1])
        return source.get(single[2], "")
    if path not in known:
        raise ConfigError(f"fieldPath {path!r} is not supported; give one of {', '.join(known)}")
    return known[path]


def environment(
    container: Container, pod: Pod, known: Mapping[str, str], data: Data, links: Mapping[str, str]
) -> dict[str, str]:
    """A container's variables: those of Services (``links``), ``envFrom`` in order, then ``env``.

    The later one wins, and may refer to those before it. Raises ``ConfigError``.
    """
    result = dict(links)
    for source in container.env_from:
        for kind, ref in (("ConfigMap", source.config_map_ref), ("Secret", source.secret_ref)):
            if ref:
                values = _whole(data, kind, ref.name, ref.optional)
                result |= {source.prefix + name: value.decode() for name, value in values.items()}
    for variable in container.env:
        value = _value(variable, pod, known, data)
        if value is not None:
            result[variable.name] = value if variable.value_from else expand(value, result)
    return result


def _value(variable: EnvVar, pod: Pod, known: Mapping[str, str], data: Data) -> str | None:
    source = variable.value_from
    if source is None:
        return variable.value
    if source.field_ref:
        return field(pod, known, source.field_ref.field_path)
    for kind, ref in (("ConfigMap", source.config_map_key_ref), ("Secret", source.secret_key_ref)):
        if ref:
            value = _whole(data, kind, ref.name, ref.optional).get(ref.key)
            if value is None and not ref.optional:
                raise ConfigError(f"env {variable.name}: {kind} {ref.name} has no key {ref.key}")
            return None if value is None else value.decode()
    raise ConfigError(
        f"env {variable.name}: valueFrom must be fieldRef, configMapKeyRef or secretKeyRef here"
    )


def _whole(data: Data, kind: str, name: str, optional: bool) -> Mapping[str, bytes]:
    values = data(kind, name)
    if values is None and not optional:
        raise ConfigError(f"{kind} {name} does not exist, or this node may not read it")
    return values or {}
