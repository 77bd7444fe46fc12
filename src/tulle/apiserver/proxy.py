"""pods/log and pods/exec, passed on to the kubelet of the Pod's node."""

from __future__ import annotations

from aiohttp import web

from tulle.apiserver import status
from tulle.apiserver.requests import Target


class Kubelets:
    async def serve(self, request: web.BaseRequest, asked: Target) -> web.StreamResponse:
        raise status.StatusError(501, f"{asked.part} is not served")
