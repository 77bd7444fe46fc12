"""The upstreams of one ``forward``: which is asked first, and who is asked when it stays silent."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from tulle.dns import wire
from tulle.dns.configuration.config import Forward
from tulle.dns.outside.response import Response
from tulle.dns.outside.upstream import Question, Unanswered, Upstream

_ROUNDS: Final = 2
_MOST_ATTEMPTS: Final = 6
_FINAL: Final = (wire.NOERROR, wire.NXDOMAIN)

Observe = Callable[[str, Response | None, float], None]
"""Called with the upstream, its answer if one came, and the seconds it took."""


class Group:
    """Each silent upstream costs ``patience``, then the next is asked too, and the first good answer counts.

    The earlier ones are still listened to, for a name that is slow to resolve. ``in_flight`` is the caller's
    count of clients that wait here.
    """

    def __init__(self, plan: Forward, observe: Observe) -> None:
        self.plan = plan
        self.in_flight = 0
        self._observe = observe
        self._upstreams = [Upstream(endpoint, plan) for endpoint in plan.upstreams]
        self._turn = 0

    @property
    def down(self) -> bool:
        """Whether none can be asked at present: an answer would not come."""
        return all(upstream.down for upstream in self._upstreams)

    def close(self) -> None:
        """Queries in flight end with ``Unanswered``."""
        for upstream in self._upstreams:
            upstream.close()

    async def ask(self, question: Question) -> Response:
        """The first answer that settles the question, else the last other one (SERVFAIL, REFUSED).

        Raises ``Unanswered`` at the deadline, and at once when every upstream is down (D-23).
        """
        race = _Race(question, self._observe)
        try:
            async with asyncio.timeout(self.plan.deadline):
                return await race.run(self._attempts(race), self.plan.patience)
        except TimeoutError:
            if race.unsettled is not None:
                return race.unsettled
            raise Unanswered("no upstream answered in time") from None
        finally:
            race.stop()

    def _attempts(self, race: _Race) -> Iterator[Upstream]:
        order = self._order()
        repeated = (upstream for _ in range(_ROUNDS) for upstream in order)
        return islice((one for one in repeated if not one.down and one not in race.heard), _MOST_ATTEMPTS)

    def _order(self) -> list[Upstream]:
        healthy = [upstream for upstream in self._upstreams if not upstream.down]
        if not healthy:
            raise Unanswered("every upstream is down" if self._upstreams else "there is no upstream")
        if self.plan.policy == "random":
            random.shuffle(healthy)
        elif self.plan.policy == "round_robin":
            self._turn = (self._turn + 1) % len(healthy)
            healthy = healthy[self._turn :] + healthy[: self._turn]
        return healthy


class _Race:
    """One question on its way to one or several upstreams."""

    def __init__(self, question: Question, observe: Observe) -> None:
        self.heard: set[Upstream] = set()
        self.unsettled: Response | None = None
        self._question = question
        self._observe = observe
        self._running: set[asyncio.Task[Response]] = set()
        self._reason = "no upstream was left to ask"

    async def run(self, attempts: Iterator[Upstream], patience: float) -> Response:
        for upstream in attempts:
            name = f"ask upstream {upstream.name}"
            self._running.add(asyncio.create_task(self._ask(upstream), name=name))
            settled = await self._wait(patience)
            if settled is not None:
                return settled
            if upstream not in self.heard:
                upstream.suspect()
        while self._running:
            settled = await self._wait(None)
            if settled is not None:
                return settled
        if self.unsettled is not None:
            return self.unsettled
        raise Unanswered(self._reason)

    def stop(self) -> None:
        """Who has not answered by now is not listened to any longer."""
        for task in self._running:
            task.cancel()
            task.add_done_callback(_forget)

    async def _wait(self, patience: float | None) -> Response | None:
        """Until an attempt ends, or for ``patience`` seconds. The answer if it settles the question."""
        done, self._running = await asyncio.wait(
            self._running, timeout=patience, return_when=asyncio.FIRST_COMPLETED
        )
        settled = None
        for task in done:
            error = task.exception()
            if isinstance(error, Unanswered):
                self._reason = str(error)
            elif task.result().rcode in _FINAL:
                settled = task.result()
            else:
                self.unsettled = task.result()
        return settled

    async def _ask(self, upstream: Upstream) -> Response:
        clock = asyncio.get_running_loop().time
        start = clock()
        answer: Response | None = None
        try:
            answer = await upstream.ask(self._question)
            self.heard.add(upstream)
            return answer
        finally:
            self._observe(upstream.name, answer, clock() - start)


def _forget(task: asyncio.Task[Response]) -> None:
    """asyncio complains of an error that nobody looked at."""
    if not task.cancelled():
        task.exception()
