"""A certificate authority for tests, and what a test knows of a TLS server that it started."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PEM = serialization.Encoding.PEM


class Authority:
    """Issues certificates that are valid for an hour."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("test CA")
        self.certificate = self._build(self._name, self._key, is_ca=True, names=[])

    def issue(self, common_name: str, names: list[x509.GeneralName]) -> tuple[bytes, bytes]:
        """Certificate and key, both PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self._build(_name(common_name), key, is_ca=False, names=names), private

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, is_ca: bool, names: list[x509.GeneralName]
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(PEM)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass
class ApiServer:
    """A running server: its URL, and the authority that its certificate and its clients' come from."""

    url: str
    authority: Authority
    ca_file: Path


Serve = Callable[..., Awaitable[ApiServer]]
