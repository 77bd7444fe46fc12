"""What the server itself keeps for Services: ServiceCIDRs, lost IPAddresses, and its own Service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from tulle.apiserver import own_service, service_cidrs
from tulle.apiserver.kinds import Object
from tulle.apiserver.own_service import Advertised
from tulle.apiserver.service_allocation import SERVICES, address_of, ips_of
from tulle.apiserver.service_cidrs import CIDRS, FINALIZER, IPS, OWN, is_taken
from tulle.apiserver.store import Event, Record
from tulle.apiserver.times import stamp
from tulle.apiserver.writing import Options, Writer
from tulle.errors import ApiError

log = logging.getLogger(__name__)

REST_SECONDS = 0.02
READY = "Kubernetes Service CIDR is ready"
IN_USE = (
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
)


class ServiceUpkeep:
    """Looks after these objects when they change, and restores them when somebody takes them away."""

    def __init__(self, writer: Writer, cidrs: Sequence[str], advertised: Advertised) -> None:
        self._writer, self._store = writer, writer.objects
        self._kind = writer.registry.get("networking.k8s.io", "servicecidrs")
        self._cidrs, self._advertised = list(cidrs), advertised
        self._wake = asyncio.Event()
        self._lost = {ip: key for key, record in self._store.scan(SERVICES) for ip in ips_of(record.obj)}
        self._follow_settings()
        self._store.listen(CIDRS, lambda _: self._wake.set())
        self._store.listen(IPS, self._address_changed)
        for shelf in own_service.SHELVES:
            self._store.listen(shelf, self._own_changed)

    def _follow_settings(self) -> None:
        """A second CIDR may be added to the stored one; else these stay, since Services live by them."""
        record = self._own_cidr()
        stored = record.obj["spec"]["cidrs"] if record else self._cidrs
        if record and stored != self._cidrs and stored == self._cidrs[:1]:
            changed = record.copy()
            changed["spec"]["cidrs"] = self._cidrs
            self._writer.update(self._kind, "", OWN, changed, Options())
        elif stored != self._cidrs:
            asked, kept = ",".join(self._cidrs), ",".join(stored)
            log.warning("--service-cidr %s: ServiceCIDR %s has %s, which stays", asked, OWN, kept)

    def _own_cidr(self) -> Record | None:
        return self._store.get(CIDRS, "", OWN)

    def _address_changed(self, event: Event) -> None:
        if event.type == "DELETED":
            parent = event.record.obj["spec"]["parentRef"]
            self._lost[event.record.obj["metadata"]["name"]] = (parent.get("namespace", ""), parent["name"])
            self._wake.set()

    def _own_changed(self, event: Event) -> None:
        meta = event.record.obj["metadata"]
        if (meta["namespace"], meta["name"]) == (own_service.NAMESPACE, own_service.NAME):
            self._wake.set()

    async def run(self) -> None:
        """Never returns."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self.restore()
            await asyncio.sleep(REST_SECONDS)

    def restore(self) -> None:
        """Makes everything right that is not."""
        for step in (self._keep_cidr, self._judge_all, self._return_lost, self._keep_service):
            try:
                step()
            except ApiError as error:
                log.warning("the API's own objects for Services: %s", error)

    def _keep_cidr(self) -> None:
        if self._own_cidr() is None:
            given = {"metadata": {"name": OWN}, "spec": {"cidrs": self._cidrs}}
            self._writer.create(self._kind, "", given, Options())

    def _judge_all(self) -> None:
        for _, record in list(self._store.scan(CIDRS)):
            self._judge(record.copy())

    def _judge(self, obj: Object) -> None:
        """Ready, or leaving: then it goes as soon as each address that is taken is in another one, too."""
        meta = obj["metadata"]
        if "deletionTimestamp" not in meta:
            self._condition(obj, "True", "", READY)
        elif service_cidrs.orphans(self._store, obj):
            self._condition(obj, "False", "Terminating", IN_USE)
        elif FINALIZER in meta.get("finalizers", ()):
            meta["finalizers"].remove(FINALIZER)
            self._writer.update(self._kind, "", meta["name"], obj, Options())

    def _condition(self, obj: Object, verdict: str, reason: str, message: str) -> None:
        conditions = (obj.get("status") or {}).get("conditions") or []
        ready = {"type": "Ready", "status": verdict, "reason": reason, "message": message}
        if not any(ready.items() <= each.items() for each in conditions):
            others = [each for each in conditions if each["type"] != "Ready"]
            obj["status"] = {"conditions": [*others, ready | {"lastTransitionTime": stamp()}]}
            self._writer.update(self._kind, "", obj["metadata"]["name"], obj, Options(), "status")

    def _return_lost(self) -> None:
        """An IPAddress that was deleted without its Service comes back: else it would be given out twice."""
        lost, self._lost = self._lost, {}
        for ip, (namespace, name) in lost.items():
            record = self._store.get(SERVICES, namespace, name)
            if record is not None and ip in ips_of(record.obj) and not is_taken(self._store, ip):
                self._store.put(IPS, address_of(ip, record.obj))

    def _keep_service(self) -> None:
        record = self._own_cidr()
        for network in list(service_cidrs.networks([record.obj] if record else []))[:1]:
            own_service.keep(self._writer, network, self._advertised)
