"""A Pod's ``/etc/resolv.conf`` by ``dnsPolicy`` and ``dnsConfig``, as kubelet has it. No I/O.

Rows D-22, D-23 and D-27.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tulle.lab.kubelet.objects import Pod

MOST_SERVERS: Final = 3
MOST_SEARCHES: Final = 32
MOST_CHARACTERS: Final = 2048
LONGEST_SEARCH: Final = 253
"""Of one search path: glibc 2.28 aborts at longer ones."""

_CLUSTER_OPTIONS: Final = ("ndots:5",)


@dataclass(frozen=True, slots=True)
class Resolvers:
    """What such a file says. An option is ``name`` or ``name:value``."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def text(self) -> str:
        """In the order that containerd writes; what is empty has no line."""
        lines = [f"search {' '.join(self.searches)}"] if self.searches else []
        lines += [f"nameserver {server}" for server in self.servers]
        lines += [f"options {' '.join(self.options)}"] if self.options else []
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the cluster's names are answered, and the zone that they are in (without a dot at its end)."""

    servers: tuple[str, ...]
    zone: str


def parse(text: str) -> Resolvers:
    """A node's own file. The last ``search`` line counts, all ``options`` do, the later value of each.

    Unlike in ``dnsConfig``, a search path ``.`` is left out here, as kubelet does.
    """
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        match line.split():
            case ["nameserver", server, *_]:
                servers.append(server)
            case ["search", *paths]:
                searches = [path.removesuffix(".") for path in paths if path != "."]
            case ["options", *words]:
                options += words
    return Resolvers(_once(servers), _once(searches), _merged(options))


def of_pod(pod: Pod, cluster: Cluster, node: Resolvers) -> Resolvers:
    """Without limits yet. ``ClusterFirst`` on the node's network means ``Default``."""
    spec, config = pod.spec, pod.spec.dns_config
    policy = spec.dns_policy
    if policy == "ClusterFirst" and spec.host_network:
        policy = "Default"
    base = node
    if policy == "None":
        base = Resolvers()
    elif policy != "Default":
        paths = (f"{pod.metadata.namespace}.svc.{cluster.zone}", f"svc.{cluster.zone}", cluster.zone)
        base = Resolvers(cluster.servers, (*paths, *node.searches), _CLUSTER_OPTIONS)
    own = [f"{option.name}:{option.value}" if option.value else option.name for option in config.options]
    return Resolvers(
        _once((*base.servers, *config.nameservers)),
        _once((*base.searches, *config.searches)),
        _merged((*base.options, *own)),
    )


def _once(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _merged(options: Iterable[str]) -> tuple[str, ...]:
    """The last of each name, at the place of the first."""
    return tuple({option.partition(":")[0]: option for option in options}.values())


def limited(wanted: Resolvers) -> tuple[Resolvers, list[str]]:
    """What of it a resolver can bear, and a sentence for each kind of thing that was cut (D-22)."""
    servers, searches = wanted.servers[:MOST_SERVERS], _bearable(wanted.searches)
    said = []
    if servers != wanted.servers:
        said.append(_cut("Nameserver limits", "nameservers", "nameserver", servers))
    if searches != wanted.searches:
        said.append(_cut("Search Line limits", "search paths", "search", searches))
    return replace(wanted, servers=servers, searches=searches), said


def _bearable(searches: Sequence[str]) -> tuple[str, ...]:
    kept = [path for path in searches[:MOST_SEARCHES] if len(path) <= LONGEST_SEARCH]
    while len(" ".join(kept)) > MOST_CHARACTERS:
        kept.pop()
    return tuple(kept)


def _cut(limits: str, what: str, line: str, left: Sequence[str]) -> str:
    """In kubelet's words, which people and their alerts know."""
    return (
        f"{limits} were exceeded, some {what} have been omitted, the applied {line} line is: {' '.join(left)}"
    )
