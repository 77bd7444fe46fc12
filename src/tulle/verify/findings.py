"""What was found out about Services and names: rows that do not yet say where it is broken. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from tulle.verify.judge import Row
from tulle.verify.plan import Place
from tulle.verify.statements import STATEMENTS

AT_ONCE: Final = 0.9
"""Seconds. What is lost is sent again after one (RFC 6298): an answer until then is one to the first try."""


SERVICES: Final = "Services"
"""The group of all findings on reaching a Service."""


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


@dataclass(frozen=True)
class Finding:
    """Whether one sentence holds for one client.

    ``group`` is what is reached, or not, whatever it says: a Service, or a DNS server; ``about`` are the
    endpoints, or the addresses, that are the trouble.
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
            target=self.target,
            family=self.family,
            protocol=self.protocol,
            ok=self.ok,
            expected=self.expected,
            seen=self.seen,
            hop=hop,
        )


Who = Mapping[str, str]
"""How a Pod is called in rows, by its name."""
