"""Which processes of this node have Services at the socket: the node's own, and those of which Pods."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.resources import NAMESPACE, POD, Key
from tulle.model.objects import Namespace, ObjectMeta, Pod

log = logging.getLogger(__name__)

ANNOTATION = "tulle.dev/socket-services"
"""``"true"`` or ``"false"`` on a Pod, or on a Namespace for all Pods in it; the Pod's counts first."""
_CHOICES = {"true": True, "false": False}


class SocketChoice:
    """Whether a Pod's sockets are to be given Services, or be left to the hooks on its packets.

    ``on_change(namespace, pod)`` is called when that may be another answer now, with ``pod`` empty for all
    Pods of the namespace.
    """

    def __init__(
        self, client: Client, node: str, default: bool, on_change: Callable[[str, str], None]
    ) -> None:
        self._default = default
        self._on_change = on_change
        self.pods: Informer[Pod] = Informer(client, POD, field_selector=f"spec.nodeName={node}")
        self.namespaces: Informer[Namespace] = Informer(client, NAMESPACE)
        self.pods.subscribe(self._pod_changed)
        self.namespaces.subscribe(self._namespace_changed)

    def at_sockets(self, namespace: str, pod: str) -> bool:
        """A Pod that is not known yet is asked about again when it is."""
        for found in (self.pods.objects.get((namespace, pod)), self.namespaces.objects.get(("", namespace))):
            if found is not None and (choice := _choice(found.metadata)) is not None:
                return choice
        return self._default

    def _pod_changed(self, change: Change[Pod]) -> None:
        if _said(change.old) != _said(change.new):
            _warn("Pod", change.key, change.new)
            self._on_change(*change.key)

    def _namespace_changed(self, change: Change[Namespace]) -> None:
        if _said(change.old) != _said(change.new):
            _warn("Namespace", change.key, change.new)
            self._on_change(change.key[1], "")


def _said(found: Pod | Namespace | None) -> str | None:
    return found.metadata.annotations.get(ANNOTATION) if found else None


def _choice(meta: ObjectMeta) -> bool | None:
    return _CHOICES.get(meta.annotations.get(ANNOTATION, ""))


def _warn(kind: str, key: Key, found: Pod | Namespace | None) -> None:
    said = _said(found)
    if said is not None and said not in _CHOICES:
        name = "/".join(filter(None, key))
        log.warning('%s %s: annotation %s: %r is neither "true" nor "false"', kind, name, ANNOTATION, said)
