"""Service ``default/kubernetes``: the way of Pods to the API (N-16), and the endpoints behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tulle.apiserver import addresses
from tulle.apiserver.addresses import Network
from tulle.apiserver.kinds import Object
from tulle.apiserver.service_allocation import SERVICES, ips_of
from tulle.apiserver.store import Store
from tulle.apiserver.writing import Options, Writer

NAMESPACE: Final = "default"
NAME: Final = "kubernetes"
SHELVES: Final = (SERVICES, "/endpoints", "discovery.k8s.io/endpointslices")
OWN: Final = {"component": "apiserver", "provider": "kubernetes"}


@dataclass(frozen=True, slots=True)
class Advertised:
    """Where Pods reach the API; without addresses nowhere."""

    addresses: Sequence[str]
    port: int


def keep(writer: Writer, network: Network, advertised: Advertised) -> None:
    """Makes the three objects what they should be; ``network`` is the first CIDR of the cluster's own."""
    here = [ip for ip in advertised.addresses if addresses.family(ip) == f"IPv{network.version}"]
    for (group, plural), wanted in objects(here, f"IPv{network.version}", advertised.port).items():
        kind = writer.registry.get(group, plural)
        record = writer.objects.get(kind.stored, NAMESPACE, NAME)
        if record is not None and record.obj.get("addressType") != wanted.get("addressType"):
            writer.delete(kind, NAMESPACE, NAME, {}, Options())
            record = None
        if record is None:
            if "spec" in wanted:
                wanted["spec"]["clusterIP"] = addresses.first_of(network)
            writer.create(kind, NAMESPACE, wanted, Options())
        elif not _covers(record.obj, wanted):
            writer.update(kind, NAMESPACE, NAME, _merged(record.copy(), wanted), Options())


def objects(here: Sequence[str], family: str, port: int) -> dict[tuple[str, str], Object]:
    """The Service without its cluster IP, Endpoints and EndpointSlice, by group and plural."""
    ports = [{"name": "https", "port": port, "protocol": "TCP"}]
    front = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}
    subset = {"addresses": [{"ip": ip} for ip in here], "ports": ports}
    return {
        ("", "services"): _named(OWN, spec={"type": "ClusterIP", "ports": [front]}),
        ("", "endpoints"): _named(
            {"endpointslice.kubernetes.io/skip-mirror": "true"}, subsets=[subset] if here else []
        ),
        ("discovery.k8s.io", "endpointslices"): _named(
            {"kubernetes.io/service-name": NAME},
            addressType=family,
            ports=ports,
            endpoints=[{"addresses": [ip], "conditions": {"ready": True}} for ip in here],
        ),
    }


def _named(labels: dict[str, str], **fields: Any) -> Object:
    return {"metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels}, **fields}


def _covers(found: Any, wanted: Any) -> bool:
    """Whether everything that is wanted is there; more fields are no matter, more elements are."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_covers(found.get(key), wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        found = found or []
        return len(found) == len(wanted) and all(map(_covers, found, wanted))
    return bool(found == wanted)


def _merged(found: Object, wanted: Object) -> Object:
    for key, value in wanted.items():
        found[key] = _merged(found.get(key) or {}, value) if isinstance(value, dict) else value
    return found


def cluster_ips(store: Store) -> list[str]:
    """The Service's addresses, by which Pods know the API."""
    record = store.get(SERVICES, NAMESPACE, NAME)
    return ips_of(record.obj) if record else []
