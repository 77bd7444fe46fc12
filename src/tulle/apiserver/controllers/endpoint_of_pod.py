"""What a Pod is to a Service: whether it is an endpoint, at which addresses, ports and with which conditions.

Pure. The rules are those of Kubernetes 1.36 (concepts/services-networking/endpoint-slices, KEP-1672 for
terminating endpoints, KEP-3015 and KEP-4444 for hints).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address

from tulle.apiserver.controllers.objects import Object, is_deleting, is_finished, is_ready

HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"

API_SERVICE = ("default", "kubernetes")
"""The Service of the API server, which keeps its endpoints itself: no controller touches them."""

_ZONAL = ("PreferClose", "PreferSameZone", "PreferSameNode")


def is_headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


def families_of(service: Object, pods: Sequence[Object]) -> list[str]:
    """``IPv4`` or ``IPv6``, the primary one first.

    The API gives every Service its ``ipFamilies``. Where it did not, the cluster IP tells, or else the first
    Pod that has an address.
    """
    if families := service["spec"].get("ipFamilies"):
        return list(families)
    given = [service["spec"].get("clusterIP") or "", *(each for pod in pods for each in _given(pod))]
    return [next((family for family, _ in map(_parsed, given) if family), "IPv4")]


def is_endpoint(pod: Object, *, terminating: bool) -> bool:
    """Not so for a Pod that has ended (evicted, failed or succeeded, N-24), or has no address yet.

    One that is being deleted has containers that run: it counts where ``terminating`` ones do.
    """
    return not is_finished(pod) and bool(_given(pod)) and (terminating or not is_deleting(pod))


def addresses_of(pod: Object, family: str) -> list[str]:
    """A Pod on the host's network has the addresses of its node (S-37)."""
    return [address for found, address in map(_parsed, _given(pod)) if found == family]


def ports_of(service: Object, pod: Object) -> list[Object]:
    """The ports of ``service`` as they are at ``pod``; one whose name the Pod does not have is left out."""
    found = []
    for port in service["spec"].get("ports") or []:
        protocol = port.get("protocol", "TCP")
        if number := _number(port.get("targetPort") or port["port"], protocol, pod):
            extra = {"appProtocol": port["appProtocol"]} if "appProtocol" in port else {}
            found.append({"name": port.get("name", ""), "protocol": protocol, "port": number, **extra})
    return found


def hostname_of(pod: Object, service: Object) -> str:
    """The name that DNS gives the Pod within the Service (D-06), if it asks for one."""
    spec = pod["spec"]
    same = spec.get("subdomain") == service["metadata"]["name"]
    return spec.get("hostname") or "" if same else ""


def target_of(pod: Object) -> Object:
    """An ObjectReference without the version, which would change with everything about the Pod."""
    metadata = pod["metadata"]
    return {"kind": "Pod", **{key: metadata[key] for key in ("namespace", "name", "uid")}}


def endpoint_of(pod: Object, service: Object, family: str, zones: Mapping[str, str]) -> Object | None:
    """An element of EndpointSlice.endpoints; None if the Pod has no address of ``family``.

    A Pod on a node that does not exist is none either, unless even Pods that are not ready are asked for.
    """
    node = pod["spec"].get("nodeName") or ""
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    addresses = addresses_of(pod, family)
    if not addresses or not (publish or node in zones):
        return None
    serving, terminating = is_ready(pod), is_deleting(pod)
    ready = publish or (serving and not terminating)
    optional = {"hostname": hostname_of(pod, service), "nodeName": node, "zone": zones.get(node)}
    hints = _hints(service["spec"].get("trafficDistribution"), node, zones.get(node)) if ready else {}
    return {
        "addresses": addresses,
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": target_of(pod),
        **{key: value for key, value in optional.items() if value},
        **({"hints": hints} if hints else {}),
    }


def _hints(distribution: str | None, node: str, zone: str | None) -> Object:
    """Each ready endpoint gets what it can; that one without any disables them is for readers (S-32).

    The annotation ``service.kubernetes.io/topology-mode`` is not looked at.
    """
    hints = {}
    if zone and distribution in _ZONAL:
        hints["forZones"] = [{"name": zone}]
    if node and distribution == "PreferSameNode":
        hints["forNodes"] = [{"name": node}]
    return hints


def _number(target: int | str, protocol: str, pod: Object) -> int | None:
    if isinstance(target, int):
        return target
    ports = (port for each in _lasting(pod) for port in each.get("ports") or [])
    numbers = (
        port["containerPort"]
        for port in ports
        if (port.get("name"), port.get("protocol", "TCP")) == (target, protocol)
    )
    return next(numbers, None)


def _lasting(pod: Object) -> Iterator[Object]:
    """Containers that run as long as the Pod, sidecars included (N-25)."""
    yield from pod["spec"].get("containers") or []
    yield from (c for c in pod["spec"].get("initContainers") or [] if c.get("restartPolicy") == "Always")


def _given(pod: Object) -> list[str]:
    status = pod.get("status", {})
    several = [each["ip"] for each in status.get("podIPs") or [] if each.get("ip")]
    return several or list(filter(None, [status.get("podIP")]))


def _parsed(text: str) -> tuple[str, str]:
    """Family and canonical form; both are empty for what is no address."""
    try:
        address = ip_address(text)
    except ValueError:
        return "", ""
    return f"IPv{address.version}", str(address)
