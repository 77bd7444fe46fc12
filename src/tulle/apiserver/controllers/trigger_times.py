"""When what led to a change of endpoints happened, for readers that measure how long they took (S-71)."""

from __future__ import annotations

from dataclasses import dataclass, field

from tulle.apiserver.controllers.objects import Object, condition, key_of
from tulle.kube.resources import Key


@dataclass
class TriggerTimes:
    """Remembers, for each Service, when each of its Pods last became ready or stopped being so."""

    _seen: dict[Key, dict[str, str]] = field(default_factory=dict)

    def since(self, service: Object, pods: list[Object]) -> str | None:
        """The earliest time of what is new since ``settle``; None if nothing is that has a time.

        For a Service that has not been settled it is the Service's own.
        """
        seen = self._seen.get(key_of(service))
        if seen is None:
            return str(service["metadata"]["creationTimestamp"])
        times = _times(pods)
        return min((time for uid, time in times.items() if time > seen.get(uid, "")), default=None)

    def settle(self, service: Object, pods: list[Object]) -> None:
        """The endpoints of ``service`` now show ``pods``."""
        self._seen[key_of(service)] = _times(pods)

    def forget(self, key: Key) -> None:
        self._seen.pop(key, None)


def _times(pods: list[Object]) -> dict[str, str]:
    found = ((pod["metadata"]["uid"], condition(pod, "Ready") or {}) for pod in pods)
    return {uid: ready["lastTransitionTime"] for uid, ready in found if ready.get("lastTransitionTime")}
