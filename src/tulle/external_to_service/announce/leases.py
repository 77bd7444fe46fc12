"""The two kinds of Leases, by their names, and what is written to them.

========  ======================  ==============================  =======================================
kind      name                    ``spec.holderIdentity``         written
========  ======================  ==============================  =======================================
beat      ``tulle-l2-node-NODE``  the node's session, or nobody   by the node all the time while it holds an
                                                                  address; once by another, when it has ended
grant     ``tulle-l2-ip-IP``      the session that answers for    when another node takes the address
                                  the address, or nobody
========  ======================  ==============================  =======================================

A session is ``NODE_RANDOM``: what one run of a node's agent holds. A node's name has no underscore.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from tulle.model.address import Address
from tulle.model.announcing import Lease

NAMESPACE: Final = "kube-system"
LABEL: Final = "tulle.dev/l2"
"""On all of these Leases; ``node`` for a beat, ``ip`` for a grant."""
SECONDS: Final = 1.2
"""How long a node answers after it asked for a renewal that was granted."""
INTERVAL: Final = 0.4
"""Between two renewals. Two may be lost."""
MARGIN: Final = 0.2
"""For how much longer than ``SECONDS`` others wait: clocks of two nodes may differ that much in speed."""
_BEAT, _GRANT = "tulle-l2-node-", "tulle-l2-ip-"
_LONGEST_NAME = 253


@dataclass(frozen=True, slots=True)
class Record:
    """A Lease as it was read; ``version`` orders all states of all Leases (resourceVersion)."""

    name: str
    version: int
    holder: str
    transitions: int


def read(lease: Lease) -> Record | None:
    """None for what is no Lease of ours."""
    name, version = lease.metadata.name, lease.metadata.resource_version
    if not name.startswith((_BEAT, _GRANT)) or not version.isdecimal():
        return None
    return Record(name, int(version), lease.spec.holder_identity or "", lease.spec.lease_transitions or 0)


def beat_name(node: str) -> str:
    """A name that would be too long for a Lease ends in a digest instead."""
    name = _BEAT + node
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 17]}-{hashlib.sha256(node.encode()).hexdigest()[:16]}"


def grant_name(address: Address) -> str:
    """``tulle-l2-ip-192-0-2-7``, ``tulle-l2-ip-2001-db8-0-0-0-0-0-7``: all groups of IPv6, as ``::`` cannot
    be told from ``:`` then."""
    if address.version == 4:
        return _GRANT + str(address).replace(".", "-")
    return _GRANT + "-".join(f"{int(group, 16):x}" for group in address.exploded.split(":"))


def address_of(name: str) -> Address | None:
    """The inverse of ``grant_name``; None for a beat and for what cannot be read."""
    if not name.startswith(_GRANT):
        return None
    groups = name.removeprefix(_GRANT).split("-")
    try:
        return ip_address(("." if len(groups) == 4 else ":").join(groups))
    except ValueError:
        return None


def is_beat(name: str) -> bool:
    return name.startswith(_BEAT)


def node_of(session: str) -> str:
    """Whose session it is."""
    return session.rpartition("_")[0]


def creation(name: str, holder: str, transitions: int, now: str, node_uid: str = "") -> dict[str, Any]:
    """A Lease to create. ``now`` is an RFC 3339 time. A beat goes with its Node, if ``node_uid`` is given."""
    kind = "node" if is_beat(name) else "ip"
    metadata: dict[str, Any] = {"name": name, "namespace": NAMESPACE, "labels": {LABEL: kind}}
    if node_uid:
        owner = {"apiVersion": "v1", "kind": "Node", "name": node_of(holder), "uid": node_uid}
        metadata["ownerReferences"] = [owner]
    spec = _spec(holder, transitions, now)
    if kind == "node":
        spec["leaseDurationSeconds"] = math.ceil(SECONDS)  # for people: SECONDS is what counts
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def change(version: int, holder: str, transitions: int, now: str) -> dict[str, Any]:
    """A merge patch that fails (409) when the Lease is no longer as it was at ``version``."""
    return {"metadata": {"resourceVersion": str(version)}, "spec": _spec(holder, transitions, now)}


def _spec(holder: str, transitions: int, now: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"holderIdentity": holder, "leaseTransitions": transitions}
    return spec | {"acquireTime": now, "renewTime": now} if holder else spec


def renewal(session: str, now: str) -> list[dict[str, Any]]:
    """A JSON patch that fails (422) when the session is not the present one."""
    return [
        {"op": "test", "path": "/spec/holderIdentity", "value": session},
        {"op": "replace", "path": "/spec/renewTime", "value": now},
    ]


def ending(session: str) -> list[dict[str, Any]]:
    """The same, which ends the session."""
    return [
        {"op": "test", "path": "/spec/holderIdentity", "value": session},
        {"op": "replace", "path": "/spec/holderIdentity", "value": ""},
    ]
