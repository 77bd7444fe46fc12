"""Requests that change something: options, which write it is, and the answer once it is committed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tulle.apiserver import reading, status, subresources
from tulle.apiserver.access import Authenticator
from tulle.apiserver.answers import respond
from tulle.apiserver.kinds import Kind, Object
from tulle.apiserver.requests import Target
from tulle.apiserver.views import View
from tulle.apiserver.writing import Options, Outcome, Writer

Query = Mapping[str, str]


class Mutations:
    """Everything but reading."""

    def __init__(self, writer: Writer, who: Authenticator) -> None:
        self._store = writer.objects
        self._writer = writer
        self._who = who

    async def answer(
        self, verb: str, kind: Kind, asked: Target, query: Query, media: str, given: Any
    ) -> web.Response:
        """Does what ``verb`` says and answers once that is committed."""
        options = _options(query, given if verb.startswith("delete") else {})
        if asked.part in ("", "status", "finalize"):
            response = self._whole(verb, kind, asked, query, media, given, options)
        else:
            response = self._part(verb, kind, asked, media, given, options)
        await self._store.committed()
        return response

    def _whole(
        self, verb: str, kind: Kind, asked: Target, query: Query, media: str, given: Any, options: Options
    ) -> web.Response:
        where = (kind, asked.namespace, asked.name)
        match verb:
            case "create" if not asked.name:
                return _written(kind, self._writer.create(kind, asked.namespace, given, options))
            case "update":
                return _written(kind, self._writer.update(*where, given, options, asked.part))
            case "patch":
                return _written(kind, self._writer.patch(*where, media, given, options, asked.part))
            case "delete" if not asked.part:
                return _deleted(kind, self._writer.delete(*where, _delete_options(query, given), options))
            case "deletecollection":
                return self._sweep(kind, asked, query, _delete_options(query, given), options)
        raise status.method_not_allowed(kind, verb)

    def _sweep(
        self, kind: Kind, asked: Target, query: Query, wanted: Object, options: Options
    ) -> web.Response:
        found = [record for _, record in reading.matching(self._store, kind, asked, query)]
        for record in found:
            meta = record.obj["metadata"]
            self._writer.delete(kind, meta.get("namespace", ""), meta["name"], wanted, options)
        return respond(View().many(kind, found, {"resourceVersion": str(self._store.version)}))

    def _part(
        self, verb: str, kind: Kind, asked: Target, media: str, given: Any, options: Options
    ) -> web.Response:
        where = (self._writer, kind, asked.namespace, asked.name)
        match asked.part, verb:
            case "scale", "update":
                return respond(subresources.rescale(*where, given, options).raw)
            case "scale", "patch":
                return respond(subresources.repatch(*where, media, given, options).raw)
            case "binding", "create":
                subresources.bind(*where, given, options)
                return respond(_done(), 201)
            case "eviction", "create":
                subresources.evict(*where, given, options)
                return respond(_done(), 201)
            case "token", "create":
                account = self._writer.existing(kind, asked.namespace, asked.name)
                return respond(self._who.tokens.answer(account.obj, given), 201)
        raise status.method_not_allowed(kind, verb)


def _options(query: Query, given: Object) -> Options:
    dry_run = [query["dryRun"]] if "dryRun" in query else given.get("dryRun") or []
    if dry_run not in ([], ["All"]):
        raise status.bad_request(f'dryRun: Unsupported value: "{dry_run[0]}": supported values: "All"')
    return Options(bool(dry_run), query.get("fieldValidation") or "Warn")


def _delete_options(query: Query, given: Object) -> Object:
    """The body's DeleteOptions, to which the query may add."""
    wanted = dict(given)
    if policy := query.get("propagationPolicy"):
        wanted["propagationPolicy"] = policy
    if grace := query.get("gracePeriodSeconds"):
        wanted["gracePeriodSeconds"] = int(grace) if grace.lstrip("-").isdigit() else grace
    if not isinstance(wanted.get("gracePeriodSeconds", 0), int | None):
        raise status.bad_request("gracePeriodSeconds: Invalid value: must be a number of seconds")
    if wanted.get("propagationPolicy") not in (None, "Background", "Foreground", "Orphan"):
        supported = '"Foreground", "Background", "Orphan"'
        raise status.bad_request(f"propagationPolicy: Unsupported value: supported values: {supported}")
    return wanted


def _written(kind: Kind, outcome: Outcome) -> web.Response:
    code = 201 if outcome.created else 200
    return respond(View().one(kind, outcome.record), code, outcome.warnings)


def _deleted(kind: Kind, outcome: Outcome) -> web.Response:
    meta = outcome.record.obj["metadata"]
    if outcome.gone:
        return respond(status.success(kind, meta["name"], meta["uid"]))
    return respond(View().one(kind, outcome.record))


def _done() -> Object:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
