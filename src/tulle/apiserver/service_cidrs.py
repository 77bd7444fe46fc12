"""ServiceCIDRs and IPAddresses: the addresses that Services may have, and those that they have.

The objects are all the state there is: an address is taken when an IPAddress of its name is stored, so it is
given out in the very write that stores its Service, and a restart finds everything as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from tulle.apiserver import addresses, checks
from tulle.apiserver.addresses import Network
from tulle.apiserver.kinds import Object
from tulle.apiserver.status import Cause, bad_value, required
from tulle.apiserver.store import Store

CIDRS: Final = "networking.k8s.io/servicecidrs"
IPS: Final = "networking.k8s.io/ipaddresses"
OWN: Final = "kubernetes"
"""The name of the cluster's own ServiceCIDR, and of the Service that leads to the API."""

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
IMMUTABLE = "field is immutable"
TWO_OF_A_FAMILY = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"


def prepare(new: Object, old: Object | None) -> None:
    """A ServiceCIDR is kept until no Service needs it any more."""
    if old is None:
        finalizers = new["metadata"].setdefault("finalizers", [])
        finalizers += [] if FINALIZER in finalizers else [FINALIZER]


def check(new: Object, old: Object | None) -> list[Cause]:
    """One CIDR, or one of each family; the second may be added later (KEP-5311)."""
    path, cidrs = "spec.cidrs", new["spec"].get("cidrs", [])
    if not cidrs:
        return [required(path, "at least one CIDR required")]
    if len(cidrs) > 2:
        return [bad_value(path, cidrs, "may only hold up to 2 values")]
    before = old["spec"]["cidrs"] if old is not None else []
    if cidrs[: len(before)] != before:
        return [bad_value(path, cidrs, IMMUTABLE)]
    causes = [c for i, cidr in enumerate(cidrs) for c in _flaws(f"{path}[{i}]", cidr, before)]
    if not causes and len({addresses.family(cidr) for cidr in cidrs}) < len(cidrs):
        causes.append(bad_value(path, cidrs, TWO_OF_A_FAMILY))
    return causes


def _flaws(path: str, cidr: str, before: list[str]) -> list[Cause]:
    causes = addresses.network_flaws(path, cidr, before)
    network = addresses.parse_network(cidr)
    if not causes and network is not None and str(network) != cidr and cidr not in before:
        causes.append(bad_value(path, cidr, f'must be in canonical form ("{network}")'))
    return causes


def check_address(new: Object, old: Object | None) -> list[Cause]:
    """An IPAddress: whose it is does not change."""
    causes = checks.unchanged(new, old, "spec.parentRef")
    parent = new["spec"]["parentRef"]
    if (group := parent.get("group")) and not checks.SUBDOMAIN.fullmatch(group):
        causes.append(bad_value("spec.parentRef.group", group, checks.RULES["subdomain"][1]))
    for key in ("resource", "namespace", "name"):
        value, path = parent.get(key, ""), f"spec.parentRef.{key}"
        if not value and key != "namespace":
            causes.append(required(path))
        elif value and not checks.PATH_SEGMENT.fullmatch(value):
            causes.append(bad_value(path, value, checks.RULES["segment"][1]))
    return causes


def is_ready(obj: Object) -> bool:
    """Whether addresses may be taken from it; one that nobody has judged yet counts as ready."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    verdicts = [each["status"] == "True" for each in conditions if each["type"] == "Ready"]
    return "deletionTimestamp" not in obj["metadata"] and all(verdicts)


def networks(objects: Iterable[Object]) -> Iterator[Network]:
    """The CIDRs of ServiceCIDRs."""
    for obj in objects:
        for cidr in obj["spec"].get("cidrs", ()):
            if (network := addresses.parse_network(cidr)) is not None:
                yield network


def offered(store: Store) -> list[Network]:
    """Where addresses may be taken from, the cluster's own CIDRs first."""
    found = [record.obj for _, record in store.scan(CIDRS)]
    found.sort(key=lambda obj: obj["metadata"]["name"] != OWN)
    return list(networks(filter(is_ready, found)))


def orphans(store: Store, leaving: Object) -> bool:
    """Whether some address would be in no ServiceCIDR without the one that is ``leaving``."""
    going = list(networks([leaving]))
    others = [r.obj for _, r in store.scan(CIDRS) if r.obj["metadata"]["name"] != leaving["metadata"]["name"]]
    staying = list(networks(obj for obj in others if "deletionTimestamp" not in obj["metadata"]))
    for (_, name), _ in store.scan(IPS):
        ip = addresses.parse(name)
        if ip and any(ip in net for net in going) and not any(ip in net for net in staying):
            return True
    return False


def is_taken(store: Store, ip: str) -> bool:
    return store.get(IPS, "", ip) is not None
