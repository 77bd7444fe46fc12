"""Puts ``/etc/resolv.conf`` and the two ConfigMaps together to one :class:`~.config.Config`.

Each source that cannot be used is reported, and what it said last goes on counting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Final

from tulle.dns.configuration import corefile, kubedns, resolv
from tulle.dns.configuration.config import BadSource, Config, Endpoint, Forward, Problem, Scope
from tulle.dns.configuration.kubedns import KubeDns

_LOOK: Final = 2.0  # seconds; what changes the file writes it anew or moves another one there, or mounts it


class Sources:
    """Give it what is there; ``config`` is what follows. ``None`` for a ConfigMap: there is none.

    The Corefile is the ground, and without one ``.`` is forwarded to the nameservers of the file. On it the
    upstreams and stub domains of ``kube-dns`` are put, which are the more special wish.

    ``own`` are the addresses that this server listens on; ``corefile_source`` is how problems of the Corefile
    call it.
    """

    def __init__(
        self,
        own: Set[Endpoint] = frozenset(),
        upstream_file: str = "/etc/resolv.conf",
        corefile_source: str = "ConfigMap kube-system/coredns, Corefile",
    ) -> None:
        self._corefile_source = corefile_source
        self._own = own
        self._upstream_file = upstream_file
        self._system: tuple[Endpoint, ...] = ()
        self._corefile: str | None = None
        self._kube_dns = KubeDns()
        self._problems: dict[str, tuple[Problem, ...]] = {}
        self.failures = 0
        self.config = self._put_together()

    def set_resolv(self, text: str | None) -> None:
        """The text of the upstream file; None if it cannot be read."""
        if text is None:
            self._report("resolv", Problem(self._upstream_file, 0, "it cannot be read", fatal=True))
        else:
            found, problems = resolv.parse(text, self._own, self._upstream_file)
            if not found:
                problems += (Problem(self._upstream_file, 0, "it names no nameserver that can be asked"),)
            self._system = found
            self._problems["resolv"] = problems
        self.config = self._put_together()

    def set_corefile(self, text: str | None) -> None:
        """The key ``Corefile`` of the ConfigMap ``coredns``."""
        try:
            if text is not None:
                corefile.read(text, self._system)
            self._corefile = text
            self._problems.pop("corefile", None)
        except BadSource as error:
            self._report("corefile", replace(error.problem, source=self._corefile_source))
        self.config = self._put_together()

    def set_kube_dns(self, data: Mapping[str, str] | None) -> None:
        """The data of the ConfigMap ``kube-dns``."""
        try:
            self._kube_dns = kubedns.parse(data or {})
            self._problems.pop("kube-dns", None)
        except BadSource as error:
            self._report("kube-dns", error.problem)
        self.config = self._put_together()

    def _report(self, source: str, problem: Problem) -> None:
        self.failures += 1
        self._problems[source] = (problem,)

    def _put_together(self) -> Config:
        config = Config((Scope(forwards=(Forward(self._system),)),))
        if self._corefile is not None:
            config = corefile.read(self._corefile, self._system)
            problems = tuple(replace(one, source=self._corefile_source) for one in config.problems)
            config = replace(config, problems=problems)
        if self._kube_dns.upstreams:
            config = config.with_upstreams(self._kube_dns.upstreams)
        if self._kube_dns.stubs:
            config = config.with_stubs(self._kube_dns.stubs)
        config = config.without(self._own)
        problems = () if "corefile" in self._problems else config.problems  # lines of another text
        return Config(config.scopes, problems + tuple(p for found in self._problems.values() for p in found))


async def follow(path: Path, changed: Callable[[str | None], None], interval: float = _LOOK) -> None:
    """Calls ``changed`` with the text of the file, first now and then whenever it is another; never ends."""
    last: object = follow  # nothing that a file could say
    while True:
        text = _read(path)
        if text != last:
            changed(text)
        last = text
        await asyncio.sleep(interval)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None
