"""Service accounts' tokens: JSON Web Tokens that only this server has to understand, so signed with HMAC."""

from __future__ import annotations

import hashlib
import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import msgspec

from tulle.apiserver.kinds import Object

HEADER = {"alg": "HS256", "typ": "JWT"}
ISSUER = "https://kubernetes.default.svc"
LIFETIME_SECONDS = 3600


class TokenIssuer:
    """Signs with ``key``; a restarted server that has the same key still knows its tokens."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def answer(self, account: Object, asked: Object) -> Object:
        """A TokenRequest for a service account, with its status filled in."""
        spec = asked.get("spec") or {}
        seconds = spec.get("expirationSeconds") or LIFETIME_SECONDS
        expires = int(time.time()) + int(seconds)
        meta = account["metadata"]
        claims = {
            "iss": ISSUER,
            "aud": spec.get("audiences") or [ISSUER],
            "exp": expires,
            "sub": f"system:serviceaccount:{meta['namespace']}:{meta['name']}",
        }
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires))
        return asked | {"status": {"token": self._sign(claims), "expirationTimestamp": stamp}}

    def _sign(self, claims: dict[str, Any]) -> str:
        text = ".".join(_encode(msgspec.json.encode(part)) for part in (HEADER, claims))
        return f"{text}.{_encode(self._signature(text))}"

    def _signature(self, text: str) -> bytes:
        return hmac.digest(self._key, text.encode(), hashlib.sha256)

    def subject(self, token: str) -> str:
        """The service account user of a token, empty when it is not one of ours or has expired."""
        text, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), _encode(self._signature(text)).encode()):
            return ""
        claims = msgspec.json.decode(urlsafe_b64decode(text.partition(".")[2] + "=="))
        return str(claims["sub"]) if claims["exp"] > time.time() else ""


def _encode(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
