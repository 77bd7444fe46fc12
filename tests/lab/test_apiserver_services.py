"""Services as users make and change them, with the real kubectl: addresses, ports, families, conflicts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from apiserver_process import ApiServer, Kubectl

names = count()
OPTIONS = ("--service-cidr=10.96.0.0/16,fd00:10:96::/112", "--advertise-address=192.0.2.1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    running = ApiServer(tmp_path_factory.mktemp("apiserver"))
    running.start(*OPTIONS)
    yield running
    running.close()


@pytest.fixture(scope="module")
def kubectl(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return Kubectl(server, tmp_path_factory.mktemp("home"))


@pytest.fixture
def name() -> str:
    return f"s{next(names)}"


def spec(kubectl: Kubectl, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", "service", name, "-o", "json"))["spec"]
    return found


def row(kubectl: Kubectl, *what: str) -> list[str]:
    """The cells of the one object, without its age, which nobody knows."""
    return kubectl("get", *what, "--no-headers").split()


def patch(kubectl: Kubectl, name: str, change: dict[str, Any], **how: bool) -> str:
    return kubectl("patch", "service", name, "-p", json.dumps({"spec": change}), **how)


def test_the_api_itself(kubectl: Kubectl, server: ApiServer) -> None:
    port = server.url.rpartition(":")[2]
    assert row(kubectl, "service", "kubernetes")[:5] == [
        "kubernetes",
        "ClusterIP",
        "10.96.0.1",
        "<none>",
        "443/TCP",
    ]
    assert row(kubectl, "endpoints", "kubernetes")[1] == f"192.0.2.1:{port}"
    assert row(kubectl, "endpointslice", "kubernetes")[:4] == ["kubernetes", "IPv4", port, "192.0.2.1"]
    assert row(kubectl, "servicecidr", "kubernetes")[1] == "10.96.0.0/16,fd00:10:96::/112"
    assert row(kubectl, "ipaddress", "10.96.0.1") == ["10.96.0.1", "services/default/kubernetes"]
    kubectl("wait", "--for=condition=Ready", "servicecidr/kubernetes", "--timeout=90s")


def test_each_type_as_get_shows_it(kubectl: Kubectl, name: str) -> None:
    kubectl("create", "service", "clusterip", f"{name}-c", "--tcp=80", "--tcp=443:8443")
    kubectl("create", "service", "clusterip", f"{name}-h", "--clusterip=None")
    kubectl("create", "service", "nodeport", f"{name}-n", "--tcp=80", "--node-port=30080")
    kubectl("create", "service", "loadbalancer", f"{name}-l", "--tcp=80")
    kubectl("create", "service", "externalname", f"{name}-e", "--external-name=example.com")
    kind, address, external, ports = row(kubectl, "service", f"{name}-c")[1:5]
    assert (kind, external, ports) == ("ClusterIP", "<none>", "80/TCP,443/TCP") and address.startswith(
        "10.96."
    )
    assert row(kubectl, "service", f"{name}-h")[1:5] == ["ClusterIP", "None", "<none>", "<none>"]
    assert row(kubectl, "service", f"{name}-n")[3:5] == ["<none>", "80:30080/TCP"]
    node_port = spec(kubectl, f"{name}-l")["ports"][0]["nodePort"]
    assert row(kubectl, "service", f"{name}-l")[3:5] == ["<pending>", f"80:{node_port}/TCP"]
    assert row(kubectl, "service", f"{name}-e")[1:5] == ["ExternalName", "<none>", "example.com", "<none>"]
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.80"}, {"hostname": "lb.example"}]}}}
    kubectl("patch", "service", f"{name}-l", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    assert row(kubectl, "service", f"{name}-l")[3] == "192.0.2.80,lb.example"
    assert "IP Families:" in kubectl("describe", "service", f"{name}-l")
    kubectl("delete", "service", *(f"{name}-{each}" for each in "chnle"))


def test_expose_patch_and_delete(kubectl: Kubectl, name: str) -> None:
    kubectl("create", "deployment", name, "--image=nginx", "--port=80", "--replicas=0")
    kubectl("expose", "deployment", name, "--type=NodePort", "--session-affinity=ClientIP")
    first = spec(kubectl, name)
    assert first["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    patch(kubectl, name, {"type": "LoadBalancer", "externalTrafficPolicy": "Local"})
    second = spec(kubectl, name)
    assert second["ports"] == first["ports"] and second["healthCheckNodePort"] in range(30000, 32768)
    patch(kubectl, name, {"type": "ClusterIP"})
    third = spec(kubectl, name)
    assert third["clusterIPs"] == first["clusterIPs"] and "nodePort" not in third["ports"][0]
    patch(kubectl, name, {"type": "ExternalName", "externalName": "example.com"})
    assert "clusterIP" not in spec(kubectl, name)
    assert "NotFound" in kubectl("get", "ipaddress", first["clusterIP"], fails=True)
    kubectl("delete", "service,deployment", name)


def test_two_families(kubectl: Kubectl, name: str) -> None:
    kubectl("create", "service", "clusterip", name, "--tcp=80")
    one = spec(kubectl, name)["clusterIP"]
    patch(kubectl, name, {"ipFamilyPolicy": "RequireDualStack"})
    both = spec(kubectl, name)
    assert both["ipFamilies"] == ["IPv4", "IPv6"] and both["clusterIPs"][0] == one
    assert row(kubectl, "ipaddress", both["clusterIPs"][1])[1] == f"services/default/{name}"
    said = patch(kubectl, name, {"clusterIPs": [one]}, fails=True)
    assert "must be 'SingleStack' to release the secondary cluster IP" in said
    patch(kubectl, name, {"ipFamilyPolicy": "SingleStack"})
    assert spec(kubectl, name)["clusterIPs"] == [one]


def test_conflicts_say_what_is_taken(kubectl: Kubectl, name: str) -> None:
    kubectl("create", "service", "nodeport", name, "--tcp=80", "--node-port=30081")
    ip = spec(kubectl, name)["clusterIP"]
    other = ("create", "service")
    said = kubectl(*other, "nodeport", "other", "--tcp=80", "--node-port=30081", fails=True)
    assert "spec.ports[0].nodePort: Invalid value: 30081: provided port is already allocated" in said
    said = kubectl(*other, "clusterip", "other", "--tcp=80", f"--clusterip={ip}", fails=True)
    assert f"failed to allocate IP {ip}: provided IP is already allocated" in said
    kubectl(*other, "nodeport", "other", "--tcp=80", "--dry-run=server")
    kubectl("delete", "service", name)
    kubectl(*other, "nodeport", "other", "--tcp=80", "--node-port=30081")
    kubectl("delete", "service", "other")


def test_the_same_manifest_applied_twice(kubectl: Kubectl, name: str) -> None:
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81, "protocol": "UDP"}]
    manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "NodePort", "ports": ports},
    }
    assert "created" in kubectl("apply", "-f", "-", given=manifest)
    assert "unchanged" in kubectl("apply", "-f", "-", given=manifest)
    before = spec(kubectl, name)
    ports[1]["port"] = 82
    kubectl("apply", "-f", "-", given=manifest)
    after = spec(kubectl, name)
    assert [port["nodePort"] for port in after["ports"]] == [port["nodePort"] for port in before["ports"]]
    kubectl("replace", "-f", "-", given=manifest)
    assert "serverside-applied" in kubectl("apply", "--server-side", "-f", "-", given=manifest)
    assert spec(kubectl, name) == after


def test_more_addresses_at_run_time(kubectl: Kubectl, name: str) -> None:
    cidr = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": name},
        "spec": {"cidrs": ["10.98.0.0/24"]},
    }
    kubectl("create", "-f", "-", given=cidr)
    kubectl("wait", "--for=condition=Ready", f"servicecidr/{name}", "--timeout=90s")
    kubectl("create", "service", "clusterip", name, "--tcp=80", "--clusterip=10.98.0.7")
    kubectl("delete", "servicecidr", name, "--wait=false")
    kubectl("wait", "--for=condition=Ready=False", f"servicecidr/{name}", "--timeout=90s")
    kubectl("delete", "service", name)
    kubectl("wait", "--for=delete", f"servicecidr/{name}", "--timeout=90s")


def test_a_kill_keeps_what_was_given(tmp_path: Path) -> None:
    server = ApiServer(tmp_path)
    try:
        server.start(*OPTIONS)
        kubectl = Kubectl(server, tmp_path)
        kubectl("create", "service", "nodeport", "a", "--tcp=80", "--node-port=30082")
        before = spec(kubectl, "a")
        server.kill()
        server.start(*OPTIONS)
        assert spec(kubectl, "a") == before
        said = kubectl("create", "service", "nodeport", "b", "--tcp=80", "--node-port=30082", fails=True)
        assert "provided port is already allocated" in said
        kubectl("delete", "service", "a")
        kubectl("create", "service", "nodeport", "b", "--tcp=80", "--node-port=30082")
    finally:
        server.close()
