"""get and list, with selectors and pages."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from itertools import islice

import msgspec

from tulle.apiserver import selectors, status
from tulle.apiserver.kinds import Kind
from tulle.apiserver.requests import Target, number
from tulle.apiserver.selectors import Predicate
from tulle.apiserver.store import Key, Record, Store
from tulle.apiserver.views import View


class Token(msgspec.Struct):
    """Where the next page of a list begins, and the version that the list began at."""

    version: int
    after: tuple[str, str]


def selection(kind: Kind, query: Mapping[str, str]) -> tuple[Predicate | None, str]:
    """The predicate of a request's selectors, and the single name that they ask for (or empty)."""
    by_field, name = selectors.fields(query.get("fieldSelector", ""), kind)
    return selectors.both(selectors.labels(query.get("labelSelector", "")), by_field), name


def get(store: Store, kind: Kind, asked: Target) -> Record:
    store.flush()
    if (record := store.get(kind.stored, asked.namespace, asked.name)) is None:
        raise status.not_found(kind, asked.name)
    return record


def matching(
    store: Store, kind: Kind, asked: Target, query: Mapping[str, str], after: Key | None = None
) -> Iterator[tuple[Key, Record]]:
    """Every committed object that a request's namespace and selectors choose, in order, behind ``after``."""
    store.flush()
    chosen, name = selection(kind, query)
    if name and (asked.namespace or not kind.namespaced):
        record = store.get(kind.stored, asked.namespace, name)
        found = iter([((asked.namespace, name), record)] if record else [])
    else:
        found = store.scan(kind.stored, asked.namespace, after)
    return found if chosen is None else ((key, record) for key, record in found if chosen(record.obj))


def list_(store: Store, kind: Kind, asked: Target, query: Mapping[str, str], view: View) -> bytes:
    """A collection, or a page of it.

    Pages are read from the current state, but all carry the version at which the first was read: a watch from
    there repeats every change made meanwhile, so a client ends up right.  (Kubernetes reads an old snapshot.)
    """
    store.flush()
    limit = number(query, "limit", 0)
    token = _token(store, query.get("continue", ""))
    if number(query, "resourceVersion", 0) > store.version:
        raise status.ahead(store.version, number(query, "resourceVersion", 0))
    found = matching(store, kind, asked, query, token.after if token else None)
    page = list(islice(found, limit or None))
    version = token.version if token else store.version
    meta = {"resourceVersion": str(version)}
    if next(found, None) is not None:
        following = msgspec.json.encode(Token(version, page[-1][0]))
        meta["continue"] = urlsafe_b64encode(following).decode()
    return view.many(kind, [record for _, record in page], meta)


def _token(store: Store, text: str) -> Token | None:
    if not text:
        return None
    try:
        token = msgspec.json.decode(urlsafe_b64decode(text), type=Token)
    except (ValueError, msgspec.MsgspecError) as error:
        raise status.bad_request("continue key is not valid: it must come from the list before") from error
    if not store.remembers(token.version):
        why = "The provided continue parameter is too old to display a consistent list result."
        raise status.expired(f"{why} You must start a new list without the continue parameter.")
    return token
