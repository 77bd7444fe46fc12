"""What operators must know, where they look for it: Events and conditions of the Node."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from tulle.errors import ApiError, ApiUnreachable
from tulle.kube.client import Client
from tulle.kube.events import stamp, tell
from tulle.kube.resources import NODES, Key
from tulle.model.objects import Node
from tulle.pod_to_pod.topology import Problem
from tulle.pod_to_service.plan import Problem as ObjectProblem

log = logging.getLogger(__name__)

MOST_EVENTS = 20
"""Of objects at once: a wrong template may have made thousands of them."""
REST = 5.0
"""Seconds until the next ones are told."""
_API_VERSIONS = {"Pod": "v1", "Service": "v1", "EndpointSlice": "discovery.k8s.io/v1"}


class Reporter:
    """Speaks to the API on behalf of one node; what cannot be said is logged, and nothing waits for it."""

    def __init__(self, client: Client, node_name: str) -> None:
        self._client = client
        self._node_name = node_name
        self._told: frozenset[Problem] = frozenset()
        self._told_of_objects: frozenset[ObjectProblem] = frozenset()
        self._told_of_checks: frozenset[tuple[Key, str]] = frozenset()

    async def problems(self, problems: Iterable[Problem]) -> None:
        """An Event for each problem that is new; one that went and comes back is told again."""
        found = frozenset(problems)
        for problem in found - self._told:
            log.error("Node %s: %s", problem.node, problem.message)
            node = {"apiVersion": "v1", "kind": "Node", "name": problem.node}
            await self._event(node, "NetworkMisconfigured", problem.message)
        self._told = found

    async def objects(self, problems: Iterable[ObjectProblem]) -> bool:
        """The same for what Services, EndpointSlices and Pods say wrong. Whether that was all; of very many,
        the caller tells the rest after ``REST`` seconds, as far as it is true by then.
        """
        found = frozenset(problems)
        news = sorted(found - self._told_of_objects)[:MOST_EVENTS]
        for problem in news:
            namespace, name = problem.key
            log.warning("%s %s/%s: %s: %s", problem.kind, namespace, name, problem.field, problem.message)
            about = {
                "apiVersion": _API_VERSIONS[problem.kind],
                "kind": problem.kind,
                "namespace": namespace,
                "name": name,
            } | ({"uid": problem.uid} if problem.uid else {})
            await self._event(about, "InvalidField", f"{problem.field}: {problem.message}")
        self._told_of_objects = self._told_of_objects & found | frozenset(news)
        return self._told_of_objects == found

    async def health_checks(self, failures: Mapping[Key, str]) -> None:
        """The same for Services whose health nobody can ask for here (S-62)."""
        found = frozenset(failures.items())
        for (namespace, name), message in sorted(found - self._told_of_checks):
            log.warning("Service %s/%s: %s", namespace, name, message)
            about = {"apiVersion": "v1", "kind": "Service", "namespace": namespace, "name": name}
            await self._event(about, "FailedToStartServiceHealthcheck", message)
        self._told_of_checks = found

    async def _event(self, about: dict[str, str], reason: str, message: str) -> None:
        await tell(self._client, about, reason, message, component="tulle-agent", host=self._node_name)

    async def network_available(self, node: Node) -> None:
        """Clears ``NetworkUnavailable`` where a cloud's controller set it (N-14)."""
        if not any(c.type == "NetworkUnavailable" and c.status == "True" for c in node.status.conditions):
            return
        condition = {
            "type": "NetworkUnavailable",
            "status": "False",
            "reason": "TulleIsUp",
            "message": "Tulle forwards for this node's Pods",
            "lastTransitionTime": stamp(),
        }
        patch = {"status": {"conditions": [condition]}}
        try:
            await self._client.patch(NODES, self._node_name, patch, subresource="status", kind="strategic")
        except (ApiError, ApiUnreachable) as error:
            log.warning("condition NetworkUnavailable stays: %s", error)
