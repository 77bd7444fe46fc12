"""What operators must know, where they look for it: Events and conditions of the Node."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime

from tulle.errors import ApiError, ApiUnreachable
from tulle.kube.client import Client
from tulle.kube.resources import EVENTS, NODES
from tulle.model.objects import Node
from tulle.pod_to_pod.topology import Problem
from tulle.pod_to_service.plan import Problem as ObjectProblem

log = logging.getLogger(__name__)

_MOST_EVENTS = 20  # at once: a wrong template may have made thousands of objects
_API_VERSIONS = {"Pod": "v1", "Service": "v1", "EndpointSlice": "discovery.k8s.io/v1"}


class Reporter:
    """Speaks to the API on behalf of one node; what cannot be said is logged, and nothing waits for it."""

    def __init__(self, client: Client, node_name: str) -> None:
        self._client = client
        self._node_name = node_name
        self._told: frozenset[Problem] = frozenset()
        self._told_of_objects: frozenset[ObjectProblem] = frozenset()

    async def problems(self, problems: Iterable[Problem]) -> None:
        """An Event for each problem that is new; one that went and comes back is told again."""
        found = frozenset(problems)
        for problem in found - self._told:
            log.error("Node %s: %s", problem.node, problem.message)
            node = {"apiVersion": "v1", "kind": "Node", "name": problem.node}
            await self._event(node, "NetworkMisconfigured", problem.message)
        self._told = found

    async def objects(self, problems: Iterable[ObjectProblem]) -> None:
        """The same for what Services, EndpointSlices and Pods say wrong; of very many, the rest later."""
        found = frozenset(problems)
        news = sorted(found - self._told_of_objects)[:_MOST_EVENTS]
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

    async def _event(self, about: dict[str, str], reason: str, message: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        namespace = about.get("namespace", "default")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{about['name']}.", "namespace": namespace},
            "involvedObject": about,
            "type": "Warning",
            "reason": reason,
            "message": message,
            "source": {"component": "tulle-agent", "host": self._node_name},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._client.create(EVENTS, event, namespace)
        except (ApiError, ApiUnreachable) as error:
            log.warning("no Event could be made: %s", error)

    async def network_available(self, node: Node) -> None:
        """Clears ``NetworkUnavailable`` where a cloud's controller set it (N-14)."""
        if not any(c.type == "NetworkUnavailable" and c.status == "True" for c in node.status.conditions):
            return
        condition = {
            "type": "NetworkUnavailable",
            "status": "False",
            "reason": "TulleIsUp",
            "message": "Tulle forwards for this node's Pods",
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        patch = {"status": {"conditions": [condition]}}
        try:
            await self._client.patch(NODES, self._node_name, patch, subresource="status", kind="strategic")
        except (ApiError, ApiUnreachable) as error:
            log.warning("condition NetworkUnavailable stays: %s", error)
