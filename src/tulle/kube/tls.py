"""The TLS side of a connection: certificates from memory or from files that may be replaced at any time."""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tulle.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pem:
    """PEM text, either inline or in a file; ``origin`` names the file and field that it was given in."""

    origin: str
    inline: bytes | None = field(default=None, repr=False)
    path: Path | None = None

    def read(self) -> bytes:
        """The text; raises :class:`ConfigError` if the file cannot be read."""
        if self.path is None:
            return self.inline or b""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{self.origin}: {self.path} cannot be read ({error.strerror}); give a readable PEM file"
            ) from error

    def stamp(self) -> Hashable:
        """Changes when the content may have changed."""
        return file_stamp(self.path) if self.path else None


def file_stamp(path: Path) -> Hashable:
    """Identity of a file's content, through symlinks: a projected volume is replaced by swapping a link."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


@dataclass(frozen=True)
class Identity:
    """A client certificate with its key, both PEM."""

    certificate: Pem
    key: Pem


class TlsContexts:
    """Gives the SSLContext for the next connection; built anew only when a certificate has changed.

    A replacement that cannot be used (half-written, say) is logged once, and the last good context stays.
    """

    def __init__(self, ca: Pem | None, verify: bool) -> None:
        self._ca = ca
        self._verify = verify
        self._stamp: Hashable = None
        self._context: ssl.SSLContext | None = None

    def current(self, identity: Identity | None) -> ssl.SSLContext:
        """Raises :class:`ConfigError` if no usable context has ever been built."""
        sources = [self._ca, *([identity.certificate, identity.key] if identity else [])]
        stamp = tuple((pem, pem.stamp()) for pem in sources if pem)
        if self._context is None or stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context = make_context(self._ca, identity, self._verify)
            except ConfigError as error:
                if self._context is None:
                    raise
                log.warning("keeping the previous certificates: %s", error)
        return self._context


def make_context(ca: Pem | None, identity: Identity | None, verify: bool) -> ssl.SSLContext:
    """A client context; without ``ca`` the system's authorities are trusted."""
    context = ssl.create_default_context()
    # Python 3.13 turned strict RFC 5280 checks on; authorities made by older cluster tools fail them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _load_authorities(context, ca)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        _load_identity(context, identity)
    return context


def _load_authorities(context: ssl.SSLContext, ca: Pem) -> None:
    try:
        context.load_verify_locations(cadata=ca.read().decode("ascii", "replace"))
    except ssl.SSLError as error:
        raise ConfigError(f"{ca.origin}: not a PEM certificate; give that of the API server's CA") from error


def _load_identity(context: ssl.SSLContext, identity: Identity) -> None:
    """Through a memory file, as OpenSSL's interface here takes only paths and a key belongs on no disk."""
    chain = identity.certificate.read() + b"\n" + identity.key.read()
    try:
        with _memory_file(chain) as path:
            context.load_cert_chain(path, password=_refuse_password)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"{identity.certificate.origin}: the certificate and {identity.key.origin} do not make a pair "
            "of PEM certificate and unencrypted PEM key"
        ) from error


def _refuse_password() -> str:
    raise ValueError("the key is encrypted")


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("identity")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
