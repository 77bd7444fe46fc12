"""Cells of `kubectl get` as tables: what stands in an object, what a person reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tulle.apiserver.printers import cells, columns, custom_cells, custom_columns
from tulle.apiserver.times import humanised

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
CREATED = {"name": "x", "creationTimestamp": "2026-05-01T11:55:00Z"}
RUNNING = {"running": {"startedAt": "2026-05-01T11:55:01Z"}}


def obj(**fields: Any) -> dict[str, Any]:
    return {"metadata": CREATED, **fields}


def container(name: str, state: dict[str, Any], restarts: int = 0, **more: Any) -> dict[str, Any]:
    ready = more.pop("ready", "running" in state)
    return {"name": name, "state": state, "ready": ready, "restartCount": restarts, **more}


def waiting(reason: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason}}


def ended(code: int, reason: str = "", **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, **more}}


def pod(
    *statuses: dict[str, Any],
    init: list[dict[str, Any]] | None = None,
    init_spec: list[dict[str, Any]] | None = None,
    metadata: dict[str, Any] | None = None,
    **status: Any,
) -> dict[str, Any]:
    spec = {"containers": [{"name": s["name"]} for s in statuses] or [{"name": "c"}], "nodeName": "n1"}
    spec["initContainers"] = init_spec or [{"name": s["name"]} for s in init or []]
    whole = {
        "phase": "Running",
        "containerStatuses": list(statuses),
        "initContainerStatuses": init or [],
        **status,
    }
    return {"metadata": {**CREATED, **(metadata or {})}, "spec": spec, "status": whole}


FAILED_AT = {"lastState": {"terminated": {"finishedAt": "2026-05-01T11:57:00Z"}}}
DELETED = {"deletionTimestamp": "2026-05-01T11:59:00Z"}
SIDECAR = {"name": "s", "restartPolicy": "Always"}
READY = [{"type": "Ready", "status": "True"}]
INITIALIZED = [{"type": "Initialized", "status": "True"}]

PODS: list[tuple[str, dict[str, Any], tuple[str, str, str]]] = [
    ("pending", pod(phase="Pending"), ("0/1", "Pending", "0")),
    ("running", pod(container("a", RUNNING), container("b", RUNNING)), ("2/2", "Running", "0")),
    ("not ready", pod(container("a", RUNNING, ready=False)), ("0/1", "Running", "0")),
    (
        "creating",
        pod(container("a", waiting("ContainerCreating")), phase="Pending"),
        ("0/1", "ContainerCreating", "0"),
    ),
    (
        "crashing",
        pod(container("a", waiting("CrashLoopBackOff"), 4, **FAILED_AT)),
        ("0/1", "CrashLoopBackOff", "4 (3m ago)"),
    ),
    ("restarted", pod(container("a", RUNNING, 1)), ("1/1", "Running", "1")),
    ("no image", pod(container("a", waiting("ErrImageNeverPull"))), ("0/1", "ErrImageNeverPull", "0")),
    ("done", pod(container("a", ended(0, "Completed")), phase="Succeeded"), ("0/1", "Completed", "0")),
    ("failed", pod(container("a", ended(1, "Error")), phase="Failed"), ("0/1", "Error", "0")),
    ("exit code", pod(container("a", ended(3)), phase="Failed"), ("0/1", "ExitCode:3", "0")),
    ("signal", pod(container("a", ended(0, signal=9)), phase="Failed"), ("0/1", "Signal:9", "0")),
    (
        "half done",
        pod(container("a", ended(0, "Completed")), container("b", RUNNING)),
        ("1/2", "NotReady", "0"),
    ),
    (
        "half done, ready",
        pod(container("a", ended(0, "Completed")), container("b", RUNNING), conditions=READY),
        ("1/2", "Running", "0"),
    ),
    ("evicted", pod(phase="Failed", reason="Evicted"), ("0/1", "Evicted", "0")),
    ("terminating", pod(container("a", RUNNING), metadata=DELETED), ("1/1", "Terminating", "0")),
    (
        "deleted when done",
        pod(container("a", ended(0, "Completed")), phase="Succeeded", metadata=DELETED),
        ("0/1", "Completed", "0"),
    ),
    ("node lost", pod(container("a", RUNNING), metadata=DELETED, reason="NodeLost"), ("1/1", "Unknown", "0")),
    (
        "first init",
        pod(container("a", waiting("PodInitializing")), init=[container("i", RUNNING)], phase="Pending"),
        ("0/1", "Init:0/1", "0"),
    ),
    (
        "second init",
        pod(
            container("a", waiting("PodInitializing")),
            init=[container("i", ended(0)), container("j", waiting("PodInitializing"))],
        ),
        ("0/1", "Init:1/2", "0"),
    ),
    (
        "init done",
        pod(container("a", waiting("PodInitializing")), init=[container("i", ended(0))]),
        ("0/1", "PodInitializing", "0"),
    ),
    (
        "init crashing",
        pod(
            container("a", waiting("PodInitializing")),
            init=[container("i", waiting("CrashLoopBackOff"), 2, **FAILED_AT)],
        ),
        ("0/1", "Init:CrashLoopBackOff", "2 (3m ago)"),
    ),
    (
        "init failed",
        pod(container("a", waiting("PodInitializing")), init=[container("i", ended(2))]),
        ("0/1", "Init:ExitCode:2", "0"),
    ),
    (
        "sidecar",
        pod(container("a", RUNNING), init=[container("s", RUNNING, 1, started=True)], init_spec=[SIDECAR]),
        ("2/2", "Running", "1"),
    ),
    (
        "sidecar again",
        pod(
            container("a", RUNNING),
            init=[container("s", waiting("X"))],
            init_spec=[SIDECAR],
            conditions=INITIALIZED,
        ),
        ("1/2", "Init:X", "0"),
    ),
    (
        "gated",
        pod(
            phase="Pending",
            conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}],
        ),
        ("0/1", "SchedulingGated", "0"),
    ),
]


@pytest.mark.parametrize(("name", "pod", "expected"), PODS, ids=[row[0] for row in PODS])
def test_pods(name: str, pod: dict[str, Any], expected: tuple[str, str, str]) -> None:
    row = cells("Pod", pod, NOW)
    assert tuple(row[1:4]) == expected
    assert row[4:] == ["5m", "<none>", "n1", "<none>", "<none>"]


def test_wide_pod() -> None:
    conditions = [{"type": "a", "status": "True"}, {"type": "b", "status": "False"}]
    wide = pod(
        conditions=conditions, podIPs=[{"ip": "10.244.1.2"}, {"ip": "fd00::2"}], nominatedNodeName="n2"
    )
    wide["spec"]["readinessGates"] = [{"conditionType": "a"}, {"conditionType": "b"}]
    assert cells("Pod", wide, NOW)[5:] == ["10.244.1.2", "n1", "n2", "1/2"]


TEMPLATE = {"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}}
SELECTOR = {
    "matchLabels": {"b": "1", "a": "2"},
    "matchExpressions": [{"key": "c", "operator": "In", "values": ["y", "x"]}],
}
WIDE = ["a,b", "i,j", "a=2,b=1,c in (x,y)"]

ROWS: list[tuple[str, dict[str, Any], list[Any]]] = [
    (
        "Deployment",
        obj(
            spec={"replicas": 3, "template": TEMPLATE, "selector": SELECTOR},
            status={"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1},
        ),
        ["x", "2/3", 3, 1, "5m", *WIDE],
    ),
    (
        "ReplicaSet",
        obj(spec={"replicas": 0, "template": TEMPLATE, "selector": SELECTOR}),
        ["x", 0, 0, 0, "5m", *WIDE],
    ),
    (
        "DaemonSet",
        obj(
            spec={"template": TEMPLATE, "selector": SELECTOR},
            status={"desiredNumberScheduled": 3, "numberReady": 2},
        ),
        ["x", 3, 0, 2, 0, 0, "<none>", "5m", *WIDE],
    ),
    (
        "Service",
        obj(
            spec={"type": "ClusterIP", "clusterIP": "10.96.0.1", "ports": [{"port": 443, "protocol": "TCP"}]}
        ),
        ["x", "ClusterIP", "10.96.0.1", "<none>", "443/TCP", "5m", "<none>"],
    ),
    (
        "Service",
        obj(
            spec={
                "type": "LoadBalancer",
                "clusterIP": "10.96.0.2",
                "selector": {"a": "1"},
                "ports": [{"port": 53, "nodePort": 30053, "protocol": "UDP"}],
            }
        ),
        ["x", "LoadBalancer", "10.96.0.2", "<pending>", "53:30053/UDP", "5m", "a=1"],
    ),
    (
        "Service",
        obj(
            spec={"type": "LoadBalancer", "clusterIP": "None", "externalIPs": ["1.2.3.4"]},
            status={"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}]}},
        ),
        ["x", "LoadBalancer", "None", "5.6.7.8,1.2.3.4", "<none>", "5m", "<none>"],
    ),
    (
        "Service",
        obj(
            spec={
                "type": "LoadBalancer",
                "clusterIP": "10.96.0.3",
                "ports": [
                    {"port": 80, "nodePort": 30080, "protocol": "TCP"},
                    {"port": 53, "protocol": "UDP"},
                ],
            },
            status={"loadBalancer": {"ingress": [{"hostname": "b.example"}, {"ip": "5.6.7.8"}]}},
        ),
        ["x", "LoadBalancer", "10.96.0.3", "5.6.7.8,b.example", "80:30080/TCP,53/UDP", "5m", "<none>"],
    ),
    (
        "Service",
        obj(
            spec={
                "type": "NodePort",
                "clusterIP": "fd00::3",
                "externalIPs": ["1.2.3.4", "2001:db8::1"],
                "ports": [{"port": 7, "nodePort": 30007, "protocol": "SCTP"}],
            }
        ),
        ["x", "NodePort", "fd00::3", "1.2.3.4,2001:db8::1", "7:30007/SCTP", "5m", "<none>"],
    ),
    (
        "Service",
        obj(spec={"type": "ExternalName", "externalName": "example.com"}),
        ["x", "ExternalName", "<none>", "example.com", "<none>", "5m", "<none>"],
    ),
    ("Endpoints", obj(), ["x", "<none>", "5m"]),
    (
        "Endpoints",
        obj(subsets=[{"addresses": [{"ip": f"10.0.0.{n}"} for n in range(4)], "ports": [{"port": 80}]}]),
        ["x", "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 1 more...", "5m"],
    ),
    (
        "Endpoints",
        obj(
            subsets=[
                {"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]},
                {"addresses": [{"ip": "10.0.0.1"}]},
            ]
        ),
        ["x", "[fd00::1]:80,10.0.0.1", "5m"],
    ),
    (
        "EndpointSlice",
        obj(addressType="IPv4", ports=[{"port": 80}, {}], endpoints=[{"addresses": ["10.0.0.1"]}]),
        ["x", "IPv4", "80,*", "10.0.0.1", "5m"],
    ),
    (
        "EndpointSlice",
        obj(addressType="IPv6", ports=None, endpoints=[]),
        ["x", "IPv6", "<unset>", "<unset>", "5m"],
    ),
    ("Namespace", obj(status={"phase": "Active"}), ["x", "Active", "5m"]),
    ("ConfigMap", obj(data={"a": "1"}, binaryData={"b": "MQ=="}), ["x", 2, "5m"]),
    ("Secret", obj(type="Opaque", data={"a": "MQ=="}), ["x", "Opaque", 1, "5m"]),
    ("ServiceAccount", obj(), ["x", "5m"]),
    ("Lease", obj(spec={"holderIdentity": "n1"}), ["x", "n1", "5m"]),
    ("NetworkPolicy", obj(spec={"podSelector": {}}), ["x", "<none>", "5m"]),
    (
        "Ingress",
        obj(
            spec={"ingressClassName": "e", "rules": [{"host": "a.b"}], "tls": [{}]},
            status={"loadBalancer": {"ingress": [{"hostname": "h"}]}},
        ),
        ["x", "e", "a.b", "h", "80, 443", "5m"],
    ),
    ("Ingress", obj(spec={}), ["x", "<none>", "*", "", "80", "5m"]),
    (
        "IngressClass",
        obj(spec={"controller": "e/c", "parameters": {"apiGroup": "k.example", "kind": "P", "name": "p"}}),
        ["x", "e/c", "P.k.example/p", "5m"],
    ),
    (
        "ServiceCIDR",
        obj(spec={"cidrs": ["10.96.0.0/16", "fd96::/108"]}),
        ["x", "10.96.0.0/16,fd96::/108", "5m"],
    ),
    (
        "IPAddress",
        obj(spec={"parentRef": {"resource": "services", "namespace": "default", "name": "kubernetes"}}),
        ["x", "services/default/kubernetes"],
    ),
    ("CustomResourceDefinition", obj(), ["x", "2026-05-01T11:55:00Z"]),
    (
        "Event",
        obj(
            lastTimestamp="2026-05-01T11:59:00Z",
            firstTimestamp="2026-05-01T11:00:00Z",
            type="Warning",
            reason="Failed",
            message=" no \n",
            count=3,
            involvedObject={"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"},
            source={"component": "kubelet", "host": "n1"},
        ),
        ["60s", "Warning", "Failed", "pod/p", "spec.containers{c}", "kubelet, n1", "no", "60m", 3, "x"],
    ),
    (
        "Event",
        obj(
            eventTime="2026-05-01T11:59:50.5Z",
            type="Normal",
            reason="Bound",
            involvedObject={"kind": "Node"},
            reportingComponent="s",
        ),
        ["9s", "Normal", "Bound", "node", "", "s", "", "9s", 1, "x"],
    ),
    (
        "Node",
        obj(),
        ["x", "Unknown", "<none>", "5m", "", "<none>", "<none>", "<unknown>", "<unknown>", "<unknown>"],
    ),
]


@pytest.mark.parametrize(("kind", "thing", "expected"), ROWS)
def test_rows(kind: str, thing: dict[str, Any], expected: list[Any]) -> None:
    assert cells(kind, thing, NOW) == expected
    assert len(columns(kind)) == len(expected)


def test_node() -> None:
    node = obj(
        spec={"unschedulable": True},
        status={
            "conditions": [{"type": "Ready", "status": "Unknown"}],
            "addresses": [
                {"type": "InternalIP", "address": "10.0.0.1"},
                {"type": "InternalIP", "address": "fd00::1"},
            ],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian", "kernelVersion": "6.18"},
        },
    )
    node["metadata"] = {
        **CREATED,
        "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "agent"},
    }
    row = ["x", "NotReady,SchedulingDisabled", "agent,worker", "5m", "v1.36.0", "10.0.0.1", "<none>"]
    assert cells("Node", node, NOW) == [*row, "Debian", "6.18", "<unknown>"]


def test_columns() -> None:
    names = [(column["name"], column["priority"]) for column in columns("Pod")]
    assert names[:5] == [("Name", 0), ("Ready", 0), ("Status", 0), ("Restarts", 0), ("Age", 0)]
    assert names[5:] == [("IP", 1), ("Node", 1), ("Nominated Node", 1), ("Readiness Gates", 1)]
    assert columns("Widget") == columns("CustomResourceDefinition")
    assert columns("Widget")[0]["format"] == "name"
    assert columns("Widget")[1]["type"] == "date"


MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-3, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (2 * MINUTE, "2m"),
        (9 * MINUTE + 59, "9m59s"),
        (10 * MINUTE + 30, "10m"),
        (179 * MINUTE, "179m"),
        (3 * HOUR, "3h"),
        (7 * HOUR + 59 * MINUTE, "7h59m"),
        (8 * HOUR + 59 * MINUTE, "8h"),
        (47 * HOUR, "47h"),
        (2 * DAY, "2d"),
        (7 * DAY + 23 * HOUR, "7d23h"),
        (8 * DAY + HOUR, "8d"),
        (729 * DAY, "729d"),
        (730 * DAY, "2y"),
        (731 * DAY, "2y1d"),
        (9 * 365 * DAY + DAY, "9y"),
    ],
)
def test_ages(seconds: int, expected: str) -> None:
    assert humanised(timedelta(seconds=seconds)) == expected


CUSTOM = {
    "metadata": {**CREATED, "labels": {"example.com/team": "net"}},
    "spec": {"count": 3, "ratio": 0.5, "on": True, "list": ["a", "b"], "ports": [{"port": 80}, {"port": 81}]},
    "status": {
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}],
        "at": "2026-05-01T11:00:00Z",
    },
}


@pytest.mark.parametrize(
    ("path", "cell_type", "expected"),
    [
        (".spec.count", "integer", 3),
        (".spec.count", "string", "3"),
        (".spec.ratio", "number", 0.5),
        (".spec.on", "boolean", True),
        (".spec.on", "integer", None),
        (".spec.list", "string", '["a","b"]'),
        (".spec.list[1]", "string", "b"),
        (".spec.list[7]", "string", None),
        (".spec.ports[*].port", "integer", 80),
        (r".metadata.labels.example\.com/team", "string", "net"),
        (".metadata.labels['example.com/team']", "string", "net"),
        ('.status.conditions[?(@.type=="Other")].status', "string", "False"),
        (".status.conditions[?(@.type == 'None')].status", "string", None),
        (".status.at", "date", "60m"),
        (".spec.list[0]", "date", "<invalid>"),
        (".spec.missing.deep", "string", None),
    ],
)
def test_custom_columns(path: str, cell_type: str, expected: Any) -> None:
    additional = [{"name": "Thing", "type": cell_type, "jsonPath": path, "priority": 1}]
    assert custom_cells(additional, CUSTOM, NOW) == ["x", expected]
    assert [(c["name"], c["priority"]) for c in custom_columns(additional)] == [("Name", 0), ("Thing", 1)]


def test_custom_resources_show_their_age_by_default() -> None:
    assert [column["name"] for column in custom_columns(None)] == ["Name", "Age"]
    assert custom_cells([], CUSTOM, NOW) == ["x", "5m"]
