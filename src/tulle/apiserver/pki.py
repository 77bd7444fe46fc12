"""The server's certificate authority and what it signs, kept in the state folder."""

from __future__ import annotations

import ipaddress
import ssl
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

YEARS = timedelta(days=3650)
RENEW_BEFORE = timedelta(days=30)
IN_CLUSTER = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
SERVED_NAMES = ("localhost", "127.0.0.1", "::1", *IN_CLUSTER, f"{IN_CLUSTER[-1]}.cluster.local")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        form = serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


class Pki:
    """Makes what is missing in ``folder`` (mode 0700): ``ca``, ``server``, ``admin``, each .crt and .key."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self.authority = _load(folder / "ca") or self._keep("ca", _authority())
        self.server = self._leaf("server", [], sorted({*SERVED_NAMES, *names}))
        self.admin = self._leaf("admin", ["system:masters"], [])

    def _leaf(self, name: str, groups: list[str], served: list[str]) -> Pair:
        """The certificate that is there, if it is still right; else a new one."""
        pair = _load(self._folder / name)
        if pair is not None and _still_right(pair, self.authority, served):
            return pair
        return self._keep(name, _signed(self.authority, f"tulle:{name}", groups, served))

    def _keep(self, name: str, pair: Pair) -> Pair:
        write_secret(self._folder / f"{name}.key", pair.key_pem)
        write_secret(self._folder / f"{name}.crt", pair.pem)
        return pair

    def context(self) -> ssl.SSLContext:
        """TLS for the server; a client may show a certificate of this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._folder / "server.crt", self._folder / "server.key")
        context.load_verify_locations(self._folder / "ca.crt")
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def client_context(self) -> ssl.SSLContext:
        """TLS towards kubelets: they show a certificate of this authority, and so do we."""
        context = ssl.create_default_context(cafile=str(self._folder / "ca.crt"))
        context.load_cert_chain(self._folder / "admin.crt", self._folder / "admin.key")
        return context

    def kubeconfig(self, server: str) -> bytes:
        """The administrator's kubeconfig for the API at ``server``."""
        cluster = {"server": server, "certificate-authority-data": _base64(self.authority.pem)}
        user = {
            "client-certificate-data": _base64(self.admin.pem),
            "client-key-data": _base64(self.admin.key_pem),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tulle", "cluster": cluster}],
            "users": [{"name": "tulle-admin", "user": user}],
            "contexts": [{"name": "tulle", "context": {"cluster": "tulle", "user": "tulle-admin"}}],
            "current-context": "tulle",
        }
        return msgspec.yaml.encode(config)


def write_secret(path: Path, content: bytes) -> None:
    """Writes a file with mode 0600, whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600, exist_ok=False)
    temporary.write_bytes(content)
    temporary.replace(path)


def _base64(content: bytes) -> str:
    return b64encode(content).decode()


def _load(stem: Path) -> Pair | None:
    try:
        certificate = x509.load_pem_x509_certificate(stem.with_suffix(".crt").read_bytes())
        key = serialization.load_pem_private_key(stem.with_suffix(".key").read_bytes(), None)
    except FileNotFoundError:
        return None
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Pair(certificate, key)


def _still_right(pair: Pair, authority: Pair, served: list[str]) -> bool:
    try:
        pair.certificate.verify_directly_issued_by(authority.certificate)
    except (InvalidSignature, ValueError):
        return False
    if pair.certificate.not_valid_after_utc - RENEW_BEFORE < datetime.now(UTC):
        return False
    if not served:
        return True
    found = pair.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(found) == {_general(name) for name in served}


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _authority() -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("tulle-ca", [])
    builder = _unsigned(name, name, key).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    builder = builder.add_extension(usage, critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return Pair(builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256()), key)


def _signed(authority: Pair, common: str, groups: list[str], served: list[str]) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _unsigned(_name(common, groups), authority.certificate.subject, key)
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if served else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    if served:
        names = x509.SubjectAlternativeName([_general(name) for name in served])
        builder = builder.add_extension(names, critical=False)
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    since = datetime.now(UTC) - timedelta(hours=1)
    return x509.CertificateBuilder(
        issuer, subject, key.public_key(), x509.random_serial_number(), since, since + YEARS
    )


def _name(common: str, groups: list[str]) -> x509.Name:
    organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, common)])
