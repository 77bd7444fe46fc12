"""Follows what configures the server, files and ConfigMaps; applies it, and tells what cannot be used."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from tulle.dns.cluster.catalog import Catalog
from tulle.dns.cluster.zone import Zone
from tulle.dns.configuration.config import Config, Endpoint, Problem
from tulle.dns.configuration.sources import Sources, follow
from tulle.dns.outside.forward import Forwarder
from tulle.dns.resolver import Resolver
from tulle.dns.settings import Settings
from tulle.errors import ApiError, ApiUnreachable
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.resources import CONFIG_MAP, EVENTS, Key
from tulle.model.address import Address
from tulle.model.objects import ConfigMap
from tulle.telemetry.metrics import Registry

log = logging.getLogger(__name__)

NAMESPACE = "kube-system"
_TOLD_AT_MOST = 50
"""Events that wait to be written while the API is away."""


class Configuration:
    """``forwarder`` is always configured as the last good sources say."""

    def __init__(self, settings: Settings, client: Client, registry: Registry) -> None:
        own = frozenset(Endpoint(address, settings.port) for address in settings.listen)
        self._settings = settings
        self._client = client
        self._sources = Sources(own, settings.upstream_file)
        self.forwarder = Forwarder(self._sources.config, registry)
        self._reported: set[Problem] = set()
        self._to_tell: asyncio.Queue[Problem] = asyncio.Queue(_TOLD_AT_MOST)
        self._corefile = self._follow("coredns", self._set_corefile)
        self._kube_dns = self._follow("kube-dns", self._set_kube_dns)
        self._last_seen = Path(settings.state_dir) / "dns-config.json"

    def serve(self, resolver: Resolver, catalog: Catalog, own: tuple[Address, ...]) -> None:
        """To be called once before ``start``: what the configuration applies to."""
        self._resolver, self._catalog, self._own = resolver, catalog, own
        self._apply()
        known = _read(self._last_seen)
        self._kube_dns.preload({key: each for key, each in known.items() if key[1] == "kube-dns"})
        if not self._settings.corefile:
            self._corefile.preload({key: each for key, each in known.items() if key[1] == "coredns"})

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """All tasks go on for ever."""
        upstreams = Path(self._settings.upstream_file)
        tasks.create_task(follow(upstreams, self._set_resolv), name="follow the upstream file")
        tasks.create_task(self._kube_dns.run(), name="follow the ConfigMap kube-dns")
        if self._settings.corefile:
            path = Path(self._settings.corefile)
            tasks.create_task(follow(path, self._set_corefile_text), name="follow the Corefile")
        else:
            tasks.create_task(self._corefile.run(), name="follow the ConfigMap coredns")
        tasks.create_task(self._tell(), name="write Events")

    def _follow(self, name: str, handle: Callable[[Change[ConfigMap]], None]) -> Informer[ConfigMap]:
        informer = Informer(
            self._client, CONFIG_MAP, namespace=NAMESPACE, field_selector=f"metadata.name={name}"
        )
        informer.subscribe(handle)
        return informer

    def _set_resolv(self, text: str | None) -> None:
        self._sources.set_resolv(text)
        self._apply()

    def _set_corefile(self, change: Change[ConfigMap]) -> None:
        data = (change.new.data if change.new else None) or {}
        self._set_corefile_text(data.get("Corefile"))
        self._write()

    def _set_corefile_text(self, text: str | None) -> None:
        self._sources.set_corefile(text)
        self._apply()

    def _set_kube_dns(self, change: Change[ConfigMap]) -> None:
        self._sources.set_kube_dns(change.new.data if change.new else None)
        self._apply()
        self._write()

    def _write(self) -> None:
        """For a restart without the API. The files are small, and change when a person changes them."""
        maps = [*self._corefile.objects.values(), *self._kube_dns.objects.values()]
        try:
            partial = self._last_seen.with_suffix(".partial")
            partial.write_bytes(msgspec.json.encode(maps))
            partial.replace(self._last_seen)
        except OSError as error:
            log.warning("the configuration cannot be kept: %s", error)

    def _apply(self) -> None:
        config = self._sources.config
        self.forwarder.configure(config)
        self._resolver.steps_before = any(scope.rewrites or scope.hosts for scope in config.scopes)
        self._resolver.log_queries = self._settings.log_queries or any(s.log for s in config.scopes)
        self._apply_to_zone(config)
        self.forwarder.metrics.failed_reloads.value = self._sources.failures
        self._report(config)

    def _apply_to_zone(self, config: Config) -> None:
        """A Corefile says TTL and Pods' names; the zone itself is --zone."""
        before = self._catalog.zone.options
        options, cluster = before, config.cluster
        if cluster:
            options = replace(
                before,
                ttl=cluster.ttl,
                pods=cluster.pods != "disabled",
                pod_names=cluster.endpoint_pod_names,
            )
        if options != before:
            self._catalog.rebuild(Zone(options, self._own))
            self._resolver.zone = self._catalog.zone

    def _report(self, config: Config) -> None:
        """Each problem once: in the log, and as an Event on its ConfigMap."""
        for problem in config.problems:
            if problem not in self._reported:
                log.warning("configuration: %s", problem)
                if "ConfigMap" in problem.source and not self._to_tell.full():
                    self._to_tell.put_nowait(problem)
        self._reported = set(config.problems)

    async def _tell(self) -> None:
        while True:
            problem = await self._to_tell.get()
            name = "kube-dns" if "kube-dns" in problem.source else "coredns"
            try:
                await self._client.create(EVENTS, _event(name, problem, self._settings.node_name), NAMESPACE)
            except (ApiError, ApiUnreachable) as error:
                log.info("no Event could be written: %s", error)


def _read(path: Path) -> dict[Key, ConfigMap]:
    try:
        maps = msgspec.json.decode(path.read_bytes(), type=list[ConfigMap])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("%s cannot be read (%s); waiting for the API", path, error)
        return {}
    return {(each.metadata.namespace, each.metadata.name): each for each in maps}


def _event(name: str, problem: Problem, node: str) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{uuid.uuid4().hex[:16]}", "namespace": NAMESPACE},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": name,
            "namespace": NAMESPACE,
        },
        "type": "Warning",
        "reason": "DNSConfigurationNotUsed" if problem.fatal else "DNSConfigurationPartlyUsed",
        "message": str(problem)[:1024],
        "source": {"component": "tulle-dns", "host": node},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
