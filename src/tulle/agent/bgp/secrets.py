"""Passwords of BGP sessions, from Secrets that the agent may get, but neither list nor watch."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode
from collections.abc import Callable, Iterable

from tulle.errors import ApiError, ApiUnreachable, Forbidden, NotFound
from tulle.external_to_service.bgp.peers import Problem, judge_password
from tulle.kube.client import Client
from tulle.kube.resources import SECRETS
from tulle.model.bgp import PasswordSecret

log = logging.getLogger(__name__)

NAMESPACE = "kube-system"
_ROUND = 30.0  # seconds until a Secret is looked at again


class Passwords:
    """``on_change`` is called when one is known, or another. An API that does not answer changes nothing."""

    def __init__(self, client: Client, on_change: Callable[[], None]) -> None:
        self._client = client
        self._on_change = on_change
        self._found: dict[PasswordSecret, str | Problem] = {}
        self._wanted: frozenset[PasswordSecret] = frozenset()
        self._new = asyncio.Event()

    def get(self, secret: PasswordSecret) -> str | Problem | None:
        """The password, or why there is none; None: not asked for yet, or no answer yet."""
        return self._found.get(secret)

    def want(self, secrets: Iterable[PasswordSecret]) -> None:
        """These and no others are read from now on."""
        self._wanted = frozenset(secrets)
        if self._wanted - self._found.keys():
            self._new.set()

    async def run(self) -> None:
        """Never returns."""
        while True:
            try:
                async with asyncio.timeout(_ROUND if self._wanted else None):
                    await self._new.wait()
            except TimeoutError:
                pass
            self._new.clear()
            await self._read_all()

    async def _read_all(self) -> None:
        known = {secret: found for secret, found in self._found.items() if secret in self._wanted}
        for secret in self._wanted:
            try:
                known[secret] = await self._read(secret)
            except (ApiError, ApiUnreachable) as error:
                log.debug("Secret %s/%s: %s", NAMESPACE, secret.name, error)
        if known != self._found:
            self._found = known
            self._on_change()

    async def _read(self, secret: PasswordSecret) -> str | Problem:
        field, where = "spec.passwordSecret", f"Secret {NAMESPACE}/{secret.name}"
        try:
            data = (await self._client.get(SECRETS, secret.name, NAMESPACE)).get("data") or {}
        except NotFound:
            return Problem(f"{field}.name", f"there is no {where}")
        except Forbidden:
            return Problem(f"{field}.name", f"the agent may not get {where}; its Role must name it")
        if secret.key not in data:
            return Problem(f"{field}.key", f"{where} has no {secret.key!r}")
        try:
            password = b64decode(data[secret.key]).decode()
        except ValueError:
            return Problem(f"{field}.key", f"{secret.key!r} of {where} is not text")
        wrong = judge_password(password)
        return Problem(f"{field}.key", f"{secret.key!r} of {where} {wrong}") if wrong else password
