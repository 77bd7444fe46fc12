"""Which node ports Services have: a host port with the same number competes with them."""

from __future__ import annotations

from collections.abc import Callable

from tulle.kube.cache import Change
from tulle.kube.informer import Informer
from tulle.kube.resources import Key
from tulle.model.services import Service

_NodePort = tuple[int, str]  # number and protocol


class NodePorts:
    """Follows Services; ``on_change()`` is called when there are other node ports now."""

    def __init__(self, services: Informer[Service], on_change: Callable[[], None]) -> None:
        self._owners: dict[_NodePort, Key] = {}
        self._on_change = on_change
        services.subscribe(self._service_changed)

    def owner(self, number: int, protocol: str) -> Key | None:
        """The Service (namespace, name) that has it."""
        return self._owners.get((number, protocol))

    def _service_changed(self, change: Change[Service]) -> None:
        before, now = _node_ports(change.old), _node_ports(change.new)
        if before == now:
            return
        for gone in before - now:
            if self._owners.get(gone) == change.key:
                del self._owners[gone]
        self._owners |= dict.fromkeys(now, change.key)
        self._on_change()


def _node_ports(service: Service | None) -> frozenset[_NodePort]:
    ports = service.spec.ports or () if service else ()
    return frozenset((port.node_port, port.protocol) for port in ports if port.node_port)
