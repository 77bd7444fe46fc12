"""What was found out about Services and names: rows that do not yet say where it is broken. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from tulle.verify.judge import Answer, Row
from tulle.verify.plan import Place
from tulle.verify.statements import STATEMENTS

AT_ONCE: Final = 0.9
"""Seconds. What is lost is sent again after one (RFC 6298): an answer until then is one to the first try."""


MOST_NAMED: Final = 3

SERVICES: Final = "Services"
"""The group of all findings on reaching a Service."""
NODE_PORTS: Final = "NodePorts"
HOST_PORTS: Final = "hostPorts"
BALANCERS: Final = "load balancers' addresses"
ANNOUNCED_ADDRESSES: Final = "announced addresses"
EXTERNAL_IPS: Final = "external IPs"
"""The groups of those on reaching it from outside."""


class Trouble(Enum):
    """In what way a sentence does not hold."""

    NONE = auto()
    NOT_ASKED = auto()
    UNREACHED = auto()
    """Nobody answers at the address of a Service."""
    MISSING = auto()
    FOREIGN = auto()
    """Somebody answers who should not."""
    SOURCE = auto()
    SHOWN = auto()
    SPLIT = auto()
    """Different endpoints answer a client that should stay with one."""
    NOT_REFUSED = auto()
    NO_ZONE = auto()
    SILENT = auto()
    """No answer from the DNS."""
    WRONG = auto()
    """The DNS says something else than the API."""
    LIBRARY = auto()
    OPEN = auto()
    """Somebody gets in whom ``loadBalancerSourceRanges`` do not name."""
    HEALTH = auto()
    """A health check tells something else than the API."""


@dataclass(frozen=True)
class Finding:
    """Whether one sentence holds for one client.

    ``group`` is what is reached, or not, whatever it says: a Service, or a DNS server; ``about`` are the
    endpoints, or the addresses, that are the trouble. ``entry`` is the node at whose address was asked, empty
    where that is no node's.
    """

    statement: str
    source: Place
    target: str
    family: str
    protocol: str
    group: str
    expected: str
    seen: str
    trouble: Trouble = Trouble.NONE
    about: tuple[str, ...] = ()
    entry: str = ""

    @property
    def ok(self) -> bool:
        return self.trouble is Trouble.NONE

    @property
    def reached(self) -> bool:
        return self.trouble not in (Trouble.UNREACHED, Trouble.SILENT)

    def row(self, hop: str) -> Row:
        return Row(
            id=self.statement,
            statement=STATEMENTS[self.statement],
            source=str(self.source),
            target=f"{self.target} at {self.entry}" if self.entry else self.target,
            family=self.family,
            protocol=self.protocol,
            ok=self.ok,
            expected=self.expected,
            seen=self.seen,
            hop=hop,
        )


Who = Mapping[str, str]
"""How a Pod is called in rows, by its name."""


def named(pods: Iterable[str], who: Who) -> str:
    """The first few of them, and how many more."""
    names = sorted(who.get(pod, pod) for pod in pods)
    rest = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "") or "(nobody)"


def shown(address: str, port: int, answer: Answer) -> tuple[str, str, Trouble, set[str]]:
    """Of a client that asked there: what it must be shown, what it is, the trouble, and about what."""
    wanted = f"{address} {port}"
    others = set(answer.shown) - {wanted}
    seen = ", ".join(sorted(others or {wanted})[:MOST_NAMED])
    return wanted, seen, Trouble.SHOWN if others else Trouble.NONE, others
