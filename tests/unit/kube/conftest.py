"""A TLS API server on loopback, with a certificate authority of its own."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from tls_server import ApiServer, Authority, Handler, Serve


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def serve(authority: Authority, tmp_path: Path) -> AsyncIterator[Serve]:
    """``await serve(handler, names=…)`` answers every request with ``handler``."""
    started: list[TestServer] = []

    async def start(handler: Handler, names: list[x509.GeneralName] | None = None) -> ApiServer:
        loopback = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate, key = authority.issue("server", names or loopback)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        chain = tmp_path / "server.pem"
        chain.write_bytes(certificate + key)
        context.load_cert_chain(chain)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=authority.certificate.decode())
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app, scheme="https")
        await server.start_server(ssl=context)
        started.append(server)
        ca_file = tmp_path / "ca.pem"
        ca_file.write_bytes(authority.certificate)
        return ApiServer(f"https://127.0.0.1:{server.port}", authority, ca_file)

    yield start
    for server in started:
        await server.close()
