"""When a container that ended is started again. No I/O."""

from __future__ import annotations

from typing import Final, Literal

from tulle.lab.kubelet.status import Role

Policy = Literal["Always", "OnFailure", "Never"]

_FIRST: Final = 10.0
_LONGEST: Final = 300.0
_FORGIVEN_AFTER: Final = 600.0


def again(policy: Policy, role: Role, exit_code: int) -> bool:
    """Init containers under ``Always`` run until they succeed; sidecars always run again."""
    if role == "sidecar":
        return True
    if policy == "Always" and role == "main":
        return True
    return policy != "Never" and exit_code != 0


class CrashBackoff:
    """How long to wait before the next start, in seconds: 0, 10, 20, … 300; anew after ten good minutes."""

    def __init__(self) -> None:
        self._next = 0.0

    def next(self, ran_for: float) -> float:
        if ran_for >= _FORGIVEN_AFTER:
            self._next = 0.0
        delay = self._next
        self._next = min(_LONGEST, max(_FIRST, 2 * delay))
        return delay
