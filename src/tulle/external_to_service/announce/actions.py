"""What an election wants done at the API, as values; whoever does it tells the election how it went."""

from __future__ import annotations

from dataclasses import dataclass

from tulle.model.address import Address


@dataclass(frozen=True, slots=True)
class Start:
    """Write our beat with a new session: create it, or change the one that is there at ``version``.

    ``at``: when that was asked for, which is what counts.
    """

    name: str
    session: str
    version: int | None
    transitions: int
    at: float


@dataclass(frozen=True, slots=True)
class Renew:
    """Renew our beat, while it has this session. ``at``: as of ``Start``."""

    name: str
    session: str
    at: float


@dataclass(frozen=True, slots=True)
class End:
    """End the session: what it holds is free."""

    name: str
    session: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete a Lease that nobody needs."""

    name: str


@dataclass(frozen=True, slots=True)
class Fence:
    """End another node's session that was silent for too long, if its beat is still that of ``version``."""

    name: str
    version: int
    transitions: int


@dataclass(frozen=True, slots=True)
class Take:
    """Write a grant with our session as holder: create it, or change the one that is there at ``version``."""

    name: str
    address: Address
    session: str
    version: int | None
    transitions: int


@dataclass(frozen=True, slots=True)
class Give:
    """Write that nobody holds the address any more. Before that, see to it that the kernel does not answer
    for it, also not by what an earlier agent wrote.
    """

    name: str
    address: Address
    version: int
    transitions: int


Action = Start | Renew | End | Remove | Fence | Take | Give
