"""What the server knows about one kind of object; the table of them is ``registry``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tulle.apiserver.schema import Shape
from tulle.apiserver.status import Cause

Object = dict[str, Any]
Prepare = Callable[[Object, Object | None], None]
Check = Callable[[Object, Object | None], list[Cause]]

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


class Keeper(Protocol):
    """What objects of a kind have beyond their own fields, out of what the whole store can tell."""

    def complete(self, new: Object, old: Object | None) -> list[Cause]:
        """Fills in ``new``, before it is checked and in the turn that stores it; changes nothing else."""

    def follow(self, new: Object | None, old: Object | None) -> None:
        """Writes what belongs to an object that was stored just now, or (None) removed."""


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One row of the registry.

    ``stored`` is the key of the objects in the store: two kinds with the same key are two versions of the
    same objects, and then ``present`` turns a stored object into this version and ``accept`` back.
    ``prepare(new, old)`` fills in what depends on other fields, ``check(new, old)`` returns what is wrong
    beyond the schema; ``old`` is None when the object is created.  ``fields`` are the selectable fields
    besides name and namespace, each with what it counts as where it is absent.  ``columns`` are the
    additionalPrinterColumns of a custom kind.  ``shape`` is the schema, ready for use.
    """

    group: str
    version: str
    kind: str
    plural: str
    schema: Mapping[str, Any]
    stored: str
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    subresources: tuple[str, ...] = ("status",)
    verbs: tuple[str, ...] = VERBS
    fields: Mapping[str, str] = field(default_factory=dict)
    name_rule: str = "subdomain"
    prepare: Prepare | None = None
    check: Check | None = None
    present: Callable[[Object], Object] | None = None
    accept: Callable[[Object], Object] | None = None
    custom: bool = False
    columns: list[Object] | None = None
    scale_paths: Mapping[str, str] = field(default_factory=dict)
    shape: Shape = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", Shape(self.schema))

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As messages name it: ``pods``, ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural
