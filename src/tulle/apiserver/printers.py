"""Tables as ``kubectl get`` of Kubernetes 1.36 prints them: the columns of each kind, and an object's cells.

Custom resources bring their columns with them: see `custom_printers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from tulle.apiserver.custom_printers import custom_cells, custom_columns
from tulle.apiserver.pod_cells import pod_cells
from tulle.apiserver.times import age_of

__all__ = ["cells", "columns", "custom_cells", "custom_columns"]

Object = dict[str, Any]
Cells = list[Any]

NONE, UNSET, UNKNOWN = "<none>", "<unset>", "<unknown>"


def columns(kind: str) -> list[dict[str, Any]]:
    """The ``TableColumnDefinition`` objects of ``kind``; of an unknown kind its name and creation time."""
    spec = _PRINTERS.get(kind, _DEFAULT)[0]
    return [_column(each) for each in spec.split("|")]


def cells(kind: str, obj: Object, now: datetime) -> Cells:
    """One cell per column of ``kind``."""
    return _PRINTERS.get(kind, _DEFAULT)[1](obj, now)


def _column(spec: str) -> dict[str, Any]:
    """``spec``: ``NAME:type``, without the type for a string, after a ``+`` for ``-o wide`` alone."""
    name, _, cell_type = spec.lstrip("+").partition(":")
    return {
        "name": name,
        "type": cell_type or "string",
        "format": "name" if name == "Name" else "",
        "description": _DESCRIPTIONS.get(name, f"{name} of the object"),
        "priority": int(spec.startswith("+")),
    }


_DESCRIPTIONS = {
    "Name": "Name must be unique within a namespace.",
    "Age": "How long ago the object was created.",
    "Created At": "When the object was created.",
    "Ready": "How much of what is wanted is ready.",
    "Containers": "Names of each container in the template.",
    "Images": "Images referenced by each container in the template.",
}


def _at(obj: Object, path: str, default: Any = None) -> Any:
    value: Any = obj
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return default if value is None else value


def _up_to_three(values: Iterable[str], empty: str) -> str:
    values = list(values)
    more = f" + {len(values) - 3} more..." if len(values) > 3 else ""
    return ",".join(values[:3]) + more or empty


def _labels(labels: dict[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def _selector(selector: Object | None) -> str:
    selector = selector or {}
    terms = {key: f"{key}={value}" for key, value in selector.get("matchLabels", {}).items()}
    for expression in selector.get("matchExpressions", []):
        key, values = expression["key"], ",".join(sorted(expression.get("values") or []))
        forms = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "DoesNotExist": f"!{key}"}
        terms[key] = forms.get(expression["operator"], key)
    return ",".join(terms[key] for key in sorted(terms)) or NONE


def _workload(obj: Object) -> Cells:
    containers = _at(obj, "spec.template.spec.containers", [])
    return [
        ",".join(container["name"] for container in containers),
        ",".join(container.get("image", "") for container in containers),
        _selector(_at(obj, "spec.selector")),
    ]


def _deployment(obj: Object, now: datetime) -> Cells:
    status = obj.get("status", {})
    ready = f"{status.get('readyReplicas', 0)}/{_at(obj, 'spec.replicas', 1)}"
    counts = [status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    return [_name(obj), ready, *counts, age_of(obj, now), *_workload(obj)]


def _replicaset(obj: Object, now: datetime) -> Cells:
    status = obj.get("status", {})
    counts = [_at(obj, "spec.replicas", 1), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [_name(obj), *counts, age_of(obj, now), *_workload(obj)]


def _daemonset(obj: Object, now: datetime) -> Cells:
    status = obj.get("status", {})
    names = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled")
    counts = [status.get(name, 0) for name in (*names, "numberAvailable")]
    selector = _labels(_at(obj, "spec.template.spec.nodeSelector"))
    return [_name(obj), *counts, selector, age_of(obj, now), *_workload(obj)]


def _node(obj: Object, now: datetime) -> Cells:
    ready = next((c["status"] for c in _at(obj, "status.conditions", []) if c["type"] == "Ready"), None)
    status = "Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"
    status += ",SchedulingDisabled" if _at(obj, "spec.unschedulable") else ""
    labels, prefix = _at(obj, "metadata.labels", {}), "node-role.kubernetes.io/"
    roles = {key[len(prefix) :] for key in labels if key.startswith(prefix)} | {
        labels.get("kubernetes.io/role", "")
    }
    info = _at(obj, "status.nodeInfo", {})
    addresses: dict[str, str] = {}
    for address in _at(obj, "status.addresses", []):
        addresses.setdefault(address["type"], address["address"])
    wide = [addresses.get("InternalIP", NONE), addresses.get("ExternalIP", NONE)]
    wide += [info.get(name) or UNKNOWN for name in ("osImage", "kernelVersion", "containerRuntimeVersion")]
    shown_roles = ",".join(sorted(roles - {""})) or NONE
    return [_name(obj), status, shown_roles, age_of(obj, now), info.get("kubeletVersion", ""), *wide]


def _load_balancer(obj: Object) -> list[str]:
    ingress = _at(obj, "status.loadBalancer.ingress", [])
    return sorted({point.get("ip") or point.get("hostname") or "" for point in ingress} - {""})


def _service(obj: Object, now: datetime) -> Cells:
    spec = obj.get("spec", {})
    kind = spec.get("type", "ClusterIP")
    external = spec.get("externalIPs") or []
    if kind == "ExternalName":
        shown = spec.get("externalName", "")
    elif kind == "LoadBalancer":
        shown = ",".join([*_load_balancer(obj), *external]) or "<pending>"
    else:
        shown = ",".join(external) or NONE
    ports = ",".join(
        f"{port['port']}"
        + (f":{port['nodePort']}" if port.get("nodePort") else "")
        + f"/{port.get('protocol', 'TCP')}"
        for port in spec.get("ports") or []
    )
    address = spec.get("clusterIP") or NONE
    return [_name(obj), kind, address, shown, ports or NONE, age_of(obj, now), _labels(spec.get("selector"))]


def _endpoints(obj: Object, now: datetime) -> Cells:
    shown = [
        address["ip"] if port is None else _host_port(address["ip"], port["port"])
        for subset in obj.get("subsets") or []
        for port in subset.get("ports") or [None]
        for address in subset.get("addresses") or []
    ]
    return [_name(obj), _up_to_three(shown, NONE if not obj.get("subsets") else ""), age_of(obj, now)]


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _endpointslice(obj: Object, now: datetime) -> Cells:
    ports = [str(port.get("port") or port.get("name") or "*") for port in obj.get("ports") or []]
    addresses = [address for endpoint in obj.get("endpoints") or [] for address in endpoint["addresses"]]
    shown = [_up_to_three(ports, UNSET), _up_to_three(addresses, UNSET)]
    return [_name(obj), obj.get("addressType", ""), *shown, age_of(obj, now)]


def _event(obj: Object, now: datetime) -> Cells:
    first = age_of(obj, now, "firstTimestamp")
    first = age_of(obj, now, "eventTime") if first == UNKNOWN else first
    last = age_of(obj, now, "lastTimestamp")
    count = obj.get("count") or 1
    if series := obj.get("series"):
        last, count = age_of(series, now, "lastObservedTime"), series["count"]
    involved, source = obj.get("involvedObject", {}), obj.get("source", {})
    target = "/".join(filter(None, (involved.get("kind", "").lower(), involved.get("name"))))
    component = source.get("component") or obj.get("reportingComponent", "")
    host = source.get("host") or obj.get("reportingInstance", "")
    shown_source = f"{component}, {host}" if host else component
    head = [first if last == UNKNOWN else last, obj.get("type", ""), obj.get("reason", ""), target]
    message = obj.get("message", "").strip()
    return [*head, involved.get("fieldPath", ""), shown_source, message, first, count, _name(obj)]


def _ingress(obj: Object, now: datetime) -> Cells:
    spec = obj.get("spec", {})
    hosts = _up_to_three((rule["host"] for rule in spec.get("rules") or [] if rule.get("host")), "*")
    ports = "80, 443" if spec.get("tls") else "80"
    head = [_name(obj), spec.get("ingressClassName") or NONE, hosts]
    return [*head, ",".join(_load_balancer(obj)), ports, age_of(obj, now)]


def _ingressclass(obj: Object, now: datetime) -> Cells:
    parameters = _at(obj, "spec.parameters", {})
    group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") else ""
    shown = f"{parameters['kind']}{group}/{parameters['name']}" if parameters else NONE
    return [_name(obj), _at(obj, "spec.controller", ""), shown, age_of(obj, now)]


def _ipaddress(obj: Object, now: datetime) -> Cells:
    parent = _at(obj, "spec.parentRef", {})
    resource = ".".join(filter(None, (parent.get("resource"), parent.get("group")))).lower()
    shown = "/".join(filter(None, (resource, parent.get("namespace"), parent.get("name"))))
    return [_name(obj), shown or NONE]


def _fields(*paths: str) -> Callable[[Object, datetime], Cells]:
    """A printer of the name, the values at ``paths``, and the age; a list is joined, a map counted."""

    def shown(value: Any) -> Any:
        return ",".join(value) if isinstance(value, list) else value

    return lambda obj, now: [_name(obj), *(shown(_at(obj, path, "")) for path in paths), age_of(obj, now)]


def _configmap(obj: Object, now: datetime) -> Cells:
    return [_name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), age_of(obj, now)]


def _secret(obj: Object, now: datetime) -> Cells:
    return [_name(obj), obj.get("type", "Opaque"), len(obj.get("data") or {}), age_of(obj, now)]


def _networkpolicy(obj: Object, now: datetime) -> Cells:
    return [_name(obj), _selector(_at(obj, "spec.podSelector")), age_of(obj, now)]


def _default(obj: Object, now: datetime) -> Cells:
    return [_name(obj), _at(obj, "metadata.creationTimestamp", "")]


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


_WORKLOAD = "Age|+Containers|+Images|+Selector"
_DEFAULT: tuple[str, Callable[[Object, datetime], Cells]] = ("Name|Created At:date", _default)
_PRINTERS: dict[str, tuple[str, Callable[[Object, datetime], Cells]]] = {
    "Pod": ("Name|Ready|Status|Restarts|Age|+IP|+Node|+Nominated Node|+Readiness Gates", pod_cells),
    "Node": (
        "Name|Status|Roles|Age|Version|+Internal-IP|+External-IP|+OS-Image|+Kernel-Version|+Container-Runtime",
        _node,
    ),
    "Service": ("Name|Type|Cluster-IP|External-IP|Port(s)|Age|+Selector", _service),
    "Endpoints": ("Name|Endpoints|Age", _endpoints),
    "EndpointSlice": ("Name|AddressType|Ports|Endpoints|Age", _endpointslice),
    "Deployment": (f"Name|Ready|Up-to-date|Available|{_WORKLOAD}", _deployment),
    "ReplicaSet": (f"Name|Desired:integer|Current:integer|Ready:integer|{_WORKLOAD}", _replicaset),
    "DaemonSet": (
        "Name|Desired:integer|Current:integer|Ready:integer|Up-to-date:integer|Available:integer"
        f"|Node Selector|{_WORKLOAD}",
        _daemonset,
    ),
    "Namespace": ("Name|Status|Age", _fields("status.phase")),
    "ConfigMap": ("Name|Data|Age", _configmap),
    "Secret": ("Name|Type|Data|Age", _secret),
    "ServiceAccount": ("Name|Age", _fields()),
    "Event": (
        "Last Seen|Type|Reason|Object|+Subobject|+Source|Message|+First Seen|+Count:integer|+Name",
        _event,
    ),
    "Lease": ("Name|Holder|Age", _fields("spec.holderIdentity")),
    "NetworkPolicy": ("Name|Pod-Selector|Age", _networkpolicy),
    "Ingress": ("Name|Class|Hosts|Address|Ports|Age", _ingress),
    "IngressClass": ("Name|Controller|Parameters|Age", _ingressclass),
    "ServiceCIDR": ("Name|CIDRs|Age", _fields("spec.cidrs")),
    "IPAddress": ("Name|ParentRef", _ipaddress),
}
