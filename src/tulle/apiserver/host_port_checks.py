"""What Kubernetes refuses of a Pod's ``hostPort`` fields, in its words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tulle.apiserver.kinds import Object
from tulle.apiserver.status import Cause, bad_value, duplicate

_Place = tuple[str, Object]  # path and container


def host_ports(spec: Object, path: str) -> list[Cause]:
    """Containers run side by side and must not ask for one port twice; init containers run one by one."""
    mains = _places(spec, path, "containers")
    groups = [mains, *([place] for place in _places(spec, path, "initContainers"))]
    causes = [cause for group in groups for cause in _repeated(group)]
    if spec.get("hostNetwork"):
        causes += _translated(mains)
    return causes


def _places(spec: Object, path: str, group: str) -> list[_Place]:
    return [(f"{path}.{group}[{i}]", container) for i, container in enumerate(spec.get(group, ()))]


def _ports(places: Iterable[_Place]) -> Iterator[_Place]:
    """Those that have a port of the node."""
    for path, container in places:
        for index, port in enumerate(container.get("ports", ())):
            if port.get("hostPort"):
                yield f"{path}.ports[{index}].hostPort", port


def _repeated(places: Iterable[_Place]) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for path, port in _ports(places):
        name = f"{port.get('protocol', 'TCP')}/{port.get('hostIP', '')}/{port['hostPort']}"
        if name in seen:
            causes.append(duplicate(path, name))
        seen.add(name)
    return causes


def _translated(places: Iterable[_Place]) -> list[Cause]:
    detail = "must match `containerPort` when `hostNetwork` is true"
    wrong = [(path, port) for path, port in _ports(places) if port["hostPort"] != port["containerPort"]]
    return [bad_value(path, port["hostPort"], detail) for path, port in wrong]
