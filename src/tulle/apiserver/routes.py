"""From a request to its answer: who asks, may they, what is asked, and who does it."""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

from aiohttp import web

from tulle.apiserver import (
    access,
    discovery,
    openapi,
    reading,
    requests,
    reviews,
    status,
    subresources,
    views,
)
from tulle.apiserver.access import Attempt, Authenticator, User
from tulle.apiserver.answers import respond
from tulle.apiserver.kinds import Kind
from tulle.apiserver.mutations import Mutations
from tulle.apiserver.proxy import Kubelets
from tulle.apiserver.requests import Target
from tulle.apiserver.watching import Watches
from tulle.apiserver.writing import Writer
from tulle.errors import ApiError

log = logging.getLogger(__name__)

PROBES = ("/readyz", "/livez", "/healthz")
PROXIED = ("log", "exec", "attach", "portforward")


class Api:
    """The request handler; its parts share one store and one registry."""

    def __init__(self, writer: Writer, who: Authenticator, kubelets: Kubelets) -> None:
        self._store = writer.objects
        self._registry = writer.registry
        self._who = who
        self._kubelets = kubelets
        self._mutations = Mutations(writer, who)
        self.watches = Watches(self._store)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers every request; what goes wrong becomes a Status object."""
        try:
            return await self._answer(request)
        except ApiError as error:
            return respond(status.body(error), error.code)
        except web.HTTPRequestEntityTooLarge:
            return respond(
                status.body(status.StatusError(413, "the request body is too large: at most 3 MiB")), 413
            )
        except sqlite3.Error as error:
            log.error("the database cannot be written: %s", error)
            return respond(status.body(status.StatusError(500, f"Internal error occurred: {error}")), 500)
        except ConnectionError:
            raise
        except Exception:
            log.exception("%s %s", request.method, request.path)
            return respond(
                status.body(status.StatusError(500, "Internal error occurred: see the server's log")), 500
            )

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if path in PROBES:
            return web.Response(text="ok")
        if path.rstrip("/") == "/version":
            return respond(discovery.VERSION)
        transport = request.transport
        peer = transport.get_extra_info("peercert") if transport else None
        user = self._who.identify(request.headers.get("Authorization", ""), peer)
        if user is None:
            raise status.unauthorized()
        asked = requests.target(path)
        if asked is None or not asked.plural:
            return self._describe(request, path.strip("/"), asked)
        return await self._resource(request, asked, user)

    def _describe(self, request: web.BaseRequest, path: str, asked: Target | None) -> web.Response:
        """Discovery and OpenAPI."""
        if request.method not in ("GET", "HEAD"):
            raise status.StatusError(405, f"the server does not allow the method {request.method} here")
        if path == "openapi/v2":
            return respond(openapi.V2_EMPTY, content_type=openapi.V2_MEDIA)
        if asked is not None:
            found = discovery.resources(self._registry, asked.group, asked.version)
        elif path in ("api", "apis"):
            if version := discovery.aggregated_version(request.headers.get("Accept", "")):
                listed = discovery.aggregated(self._registry, version, core=path == "api")
                return respond(listed, content_type=discovery.AGGREGATED.format(version))
            found = discovery.core_versions() if path == "api" else discovery.groups(self._registry)
        elif path.startswith("apis/"):
            versions = discovery.versions_of(self._registry).get(path[5:])
            found = discovery.group(path[5:], versions) if versions else None
        else:
            found = openapi.find(self._registry, path)
        if found is None:
            raise status.unknown_path()
        return respond(found)

    async def _resource(self, request: web.BaseRequest, asked: Target, user: User) -> web.StreamResponse:
        verb = requests.verb(request.method, asked, request.query)
        if asked.plural in (reviews.WHO, reviews.MAY):
            given = await self._given(request, verb)
            return respond(reviews.answer(asked.plural, user, given), 201)
        kind = self._registry.find(asked.group, asked.version, asked.plural)
        if kind is None or (asked.part and asked.part not in kind.subresources):
            raise status.unknown_path()
        if asked.part in PROXIED:
            self._authorise(user, kind, asked, verb, {})
            return await self._kubelets.serve(request, self._store, asked)
        given = await self._given(request, verb)
        self._authorise(user, kind, asked, verb, given)
        if verb == "watch":
            return await self.watches.serve(request, kind, asked, request.query, _view(request))
        if verb == "list":
            return respond(reading.list_(self._store, kind, asked, request.query, _view(request)))
        if verb == "get":
            return self._get(request, kind, asked)
        if kind.namespaced and not asked.namespace and verb != "deletecollection":
            raise status.method_not_allowed(kind, verb)
        return await self._mutations.answer(verb, kind, asked, request.query, request.content_type, given)

    def _get(self, request: web.BaseRequest, kind: Kind, asked: Target) -> web.Response:
        record = reading.get(self._store, kind, asked)
        if asked.part == "scale":
            return respond(subresources.scale_of(kind, record).raw)
        return respond(_view(request).one(kind, record))

    async def _given(self, request: web.BaseRequest, verb: str) -> Any:
        """The decoded body of a write; empty for reads."""
        body = await request.read() if request.can_read_body else b""
        if verb in ("get", "list", "watch") or (not body and verb in ("delete", "deletecollection")):
            return {}
        strict = request.query.get("fieldValidation") == "Strict" and verb != "patch"
        given = requests.decode(request.headers.get("Content-Type", ""), body, strict=strict)
        if not isinstance(given, dict) and verb != "patch":
            raise status.bad_request("the object provided is unrecognized: it must be an object")
        return given

    def _authorise(self, user: User, kind: Kind, asked: Target, verb: str, given: Any) -> None:
        name = asked.name
        if verb == "create" and not name:
            meta = given.get("metadata")
            name = str(meta.get("name", "")) if isinstance(meta, dict) else ""
        attempt = Attempt(
            verb, kind.group, kind.plural, asked.part, asked.namespace, name, self._node_of(kind, asked, name)
        )
        if not access.allowed(user, attempt):
            raise status.forbidden(kind, asked.name, access.refusal(user, attempt))

    def _node_of(self, kind: Kind, asked: Target, name: str) -> str:
        """The node that an object belongs to: itself, or the one where a Pod runs."""
        if kind.resource == "nodes":
            return name
        record = self._store.get(kind.stored, asked.namespace, name) if kind.resource == "pods" else None
        return str(record.obj["spec"].get("nodeName", "")) if record else ""


def _view(request: web.BaseRequest) -> views.View:
    return views.choose(request.headers.get("Accept", ""), request.query.get("includeObject", ""))
