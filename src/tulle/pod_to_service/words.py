"""Frontends, endpoints and policies as people read them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tulle.model.address import Network, from_bytes
from tulle.pod_to_service.plan import PROTOCOLS, Backend, Frontend, OnEmpty, Scope

_NAMES = {number: name for name, number in PROTOCOLS.items()}


def say_backend(backend: Backend) -> str:
    """``10.244.1.5:8080``, ``[fd00::5]:8080``."""
    address = from_bytes(backend.address)
    return f"{address}:{backend.port}" if address.version == 4 else f"[{address}]:{backend.port}"


def say_frontend(frontend: Frontend) -> str:
    """``10.96.0.7:80/TCP``, ``0.0.0.0:30080/TCP (node port)``; only the address where the frontend stands for
    all other ports.
    """
    if not frontend.port:
        return str(from_bytes(frontend.address))
    if frontend.scope is not Scope.ADDRESS:
        return f"{say_frontend(frontend._replace(scope=Scope.ADDRESS))} ({frontend.scope.value})"
    return f"{say_backend(Backend(frontend.address, frontend.port))}/{say_protocol(frontend.protocol)}"


def say_protocol(number: int) -> str:
    """``TCP``; nothing for 0, which stands for all."""
    if not number:
        return ""
    return _NAMES.get(number, str(number))


def say_affinity(seconds: int) -> str:
    """``10800 s``, or ``none``."""
    return f"{seconds} s" if seconds else "none"


def say_empty(on_empty: OnEmpty) -> str:
    """To the client: told at once, or nothing."""
    return "drop" if on_empty is OnEmpty.DROP else "refuse"


def say_sources(sources: Iterable[Network] | None) -> str:
    """The networks, or ``all``, or ``nobody``."""
    if sources is None:
        return "all"
    return ", ".join(sorted(map(str, sources))) or "nobody"
