"""A writer that keeps Services, as the server has it, for tests."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from tulle.apiserver.kinds import Object
from tulle.apiserver.own_service import Advertised
from tulle.apiserver.registry import Registry
from tulle.apiserver.service_allocation import NODE_PORTS, SERVICES, ServiceKeeper
from tulle.apiserver.service_upkeep import ServiceUpkeep
from tulle.apiserver.store import Store
from tulle.apiserver.writing import Options, Writer

SINGLE = ("10.96.0.0/16",)
DUAL = ("10.96.0.0/16", "fd00:10:96::/112")
SIX = ("fd00:10:96::/112",)
PLAIN = Options()


class Cluster:
    """Namespace ``default``, a ServiceCIDR of ``cidrs``, and node ports out of ``ports``."""

    def __init__(
        self,
        folder: Path,
        cidrs: tuple[str, ...] = DUAL,
        ports: range = NODE_PORTS,
        advertised: Advertised | None = None,
    ) -> None:
        self.store = Store(folder / "db")
        self.writer = Writer(self.store, Registry(), {SERVICES: ServiceKeeper(self.store, ports)})
        spaces = self.writer.registry.get("", "namespaces")
        if self.store.get(spaces.stored, "", "default") is None:
            self.writer.create(spaces, "", {"metadata": {"name": "default"}}, PLAIN)
        self.upkeep = ServiceUpkeep(self.writer, cidrs, advertised or Advertised(["192.0.2.1"], 6443))
        self.settle()

    def settle(self) -> None:
        """Commits, and lets the upkeep see it, until nothing changes any more."""
        version = -1
        while version != self.store.version:
            version = self.store.version
            self.store.flush()
            self.upkeep.restore()

    def create(self, name: str, options: Options = PLAIN, /, **spec: Any) -> Object:
        given = {"metadata": {"name": name}, "spec": deepcopy(spec)}
        kind = self.writer.registry.get("", "services")
        return self.writer.create(kind, "default", given, options).record.copy()

    def patch(self, name: str, options: Options = PLAIN, /, **spec: Any) -> Object:
        """A merge patch: what is None goes."""
        kind, how = self.writer.registry.get("", "services"), "application/merge-patch+json"
        return self.writer.patch(kind, "default", name, how, {"spec": spec}, options).record.copy()

    def replace(self, name: str, **spec: Any) -> Object:
        """As a client does that sends its manifest again."""
        kind, given = self.writer.registry.get("", "services"), {"metadata": {}, "spec": deepcopy(spec)}
        return self.writer.update(kind, "default", name, given, PLAIN).record.copy()

    def delete(self, plural: str, name: str, group: str = "") -> None:
        kind = self.writer.registry.get(group, plural)
        self.writer.delete(kind, "default" if kind.namespaced else "", name, {}, PLAIN)

    def make(self, plural: str, name: str, group: str = "networking.k8s.io", **fields: Any) -> Object:
        kind = self.writer.registry.get(group, plural)
        namespace = "default" if kind.namespaced else ""
        return self.writer.create(
            kind, namespace, {"metadata": {"name": name}, **deepcopy(fields)}, PLAIN
        ).record.copy()

    def find(self, plural: str, name: str, group: str = "networking.k8s.io") -> Object | None:
        kind = self.writer.registry.get(group, plural)
        record = self.store.get(kind.stored, "default" if kind.namespaced else "", name)
        return record.copy() if record else None

    def taken(self) -> set[str]:
        """Every IPAddress but that of the API itself."""
        found = {name for (_, name), _ in self.store.scan("networking.k8s.io/ipaddresses")}
        return found - {"10.96.0.1", "fd00:10:96::1"}
