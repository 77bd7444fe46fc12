"""HTTP answers: JSON, with Kubernetes' warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from aiohttp import web


def respond(
    content: Mapping[str, Any] | bytes,
    code: int = 200,
    warnings: Iterable[str] = (),
    content_type: str = "application/json",
) -> web.Response:
    """An answer; bytes are encoded already."""
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    response = web.Response(body=body, status=code, headers={"Content-Type": content_type})
    for warning in warnings:
        quoted = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response
