"""Who we are: a fixed token, a token in a file that rotates, or a program that issues credentials."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tulle.errors import ApiUnreachable, ConfigError
from tulle.kube.tls import Identity, Pem, file_stamp

EXEC_API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
INTERACTIVE_MODES = ("Never", "IfAvailable", "Always")
EXEC_TIMEOUT = 60.0
"""Seconds that an exec plugin may take to issue credentials."""
EXPIRY_MARGIN = 30.0
"""Seconds before its expiry at which a credential is renewed."""


@dataclass(frozen=True)
class Credential:
    """What one request proves itself with."""

    token: str | None = field(default=None, repr=False)
    identity: Identity | None = None


class CredentialSource(Protocol):
    """Where credentials come from."""

    async def current(self) -> Credential:
        """The credential for the next request; raises :class:`ApiUnreachable` if none can be had now."""

    def invalidate(self) -> None:
        """The API answered 401: whatever is cached is not to be used again."""


class Fixed:
    """A credential that never changes."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    async def current(self) -> Credential:
        return self._credential

    def invalidate(self) -> None:
        """There is nothing newer to ask for."""


class TokenFile:
    """A token in a file, read again whenever the file has changed; the check costs one ``stat`` a request.

    While the file is unreadable (it is just being replaced) the last token is used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Hashable = None
        self._token = ""

    async def current(self) -> Credential:
        stamp = file_stamp(self._path)
        if stamp is None or stamp != self._stamp:
            with contextlib.suppress(OSError):
                self._token = self._path.read_text().strip() or self._token
                self._stamp = stamp
        if not self._token:
            raise ApiUnreachable(f"no token: {self._path} cannot be read or is empty")
        return Credential(token=self._token)

    def invalidate(self) -> None:
        self._stamp = None


class ExecEnv(msgspec.Struct, frozen=True):
    """One environment variable for an exec plugin."""

    name: str
    value: str


class ExecConfig(msgspec.Struct, frozen=True, rename="camel"):
    """``users[].user.exec`` of a kubeconfig (client.authentication.k8s.io)."""

    api_version: str
    command: str
    args: tuple[str, ...] | None = None
    env: tuple[ExecEnv, ...] | None = None
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = "IfAvailable"


class _Status(msgspec.Struct, rename="camel"):
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: datetime | None = None


class _ExecCredential(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    status: _Status | None = None


class ExecPlugin:
    """Runs an exec plugin, and keeps what it issued until shortly before it expires.

    ``cluster`` is what ``provideClusterInfo`` tells the plugin; ``wall_clock`` gives seconds since the epoch.
    """

    def __init__(
        self,
        config: ExecConfig,
        cluster: dict[str, Any],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._now = wall_clock
        self._lock = asyncio.Lock()
        self._issued: Credential | None = None
        self._expires: float | None = None

    async def current(self) -> Credential:
        async with self._lock:
            if self._issued is None or (self._expires and self._now() >= self._expires - EXPIRY_MARGIN):
                self._issued, self._expires = self._parse(await self._run())
            return self._issued

    def invalidate(self) -> None:
        self._issued = None

    async def _run(self) -> bytes:
        """The plugin's standard output; its standard error goes to ours."""
        interactive = self._config.interactive_mode != "Never" and sys.stdin.isatty()
        environment = os.environ | {item.name: item.value for item in self._config.env or ()}
        environment["KUBERNETES_EXEC_INFO"] = self._exec_info(interactive)
        try:
            process = await asyncio.create_subprocess_exec(
                self._config.command,
                *(self._config.args or ()),
                env=environment,
                stdin=None if interactive else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            hint = self._config.install_hint.strip() or "install it or correct users[].user.exec.command"
            raise ConfigError(f"exec plugin {self._config.command}: {error.strerror}; {hint}") from error
        try:
            output, _ = await asyncio.wait_for(process.communicate(), EXEC_TIMEOUT)
        except TimeoutError:
            raise self._failed(f"gave no answer within {EXEC_TIMEOUT:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise self._failed(f"ended with exit code {process.returncode}")
        return output

    def _exec_info(self, interactive: bool) -> str:
        spec: dict[str, Any] = {"interactive": interactive}
        if self._config.provide_cluster_info:
            spec["cluster"] = self._cluster
        return json.dumps({"apiVersion": self._config.api_version, "kind": "ExecCredential", "spec": spec})

    def _parse(self, output: bytes) -> tuple[Credential, float | None]:
        try:
            answer = msgspec.json.decode(output, type=_ExecCredential)
        except msgspec.MsgspecError as error:
            raise self._failed(f"printed no ExecCredential: {error}") from error
        if (answer.api_version, answer.kind) != (self._config.api_version, "ExecCredential"):
            wanted = f"{self._config.api_version} ExecCredential"
            raise self._failed(f"printed a {answer.api_version} {answer.kind}, not a {wanted}")
        status = answer.status or _Status()
        identity = None
        if status.client_certificate_data and status.client_key_data:
            origin = f"exec plugin {self._config.command}: status."
            identity = Identity(
                Pem(f"{origin}clientCertificateData", status.client_certificate_data.encode()),
                Pem(f"{origin}clientKeyData", status.client_key_data.encode()),
            )
        if not status.token and not identity:
            raise self._failed("issued neither a token nor a client certificate with its key")
        expires = status.expiration_timestamp
        return Credential(status.token, identity), expires.timestamp() if expires else None

    def _failed(self, what: str) -> ApiUnreachable:
        return ApiUnreachable(f"exec plugin {self._config.command} {what}")
