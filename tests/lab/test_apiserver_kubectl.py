"""The real kubectl as a client of ``tulle apiserver``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from apiserver_process import NODE_TOKEN, READER_TOKEN, ApiServer, Kubectl

from tulle.errors import ConfigError

names = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    running = ApiServer(tmp_path_factory.mktemp("apiserver"))
    running.start()
    yield running
    running.close()


@pytest.fixture(scope="module")
def kubectl(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return Kubectl(server, tmp_path_factory.mktemp("home"))


@pytest.fixture
def name() -> str:
    return f"n{next(names)}"


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "busybox:1", "command": ["sleep", "infinity"]}
    metadata = {"name": name, "labels": {"app": name}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [container], **spec},
    }


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_get_in_every_form(kubectl: Kubectl, name: str) -> None:
    kubectl("create", "-f", "-", given=pod(name))
    table = kubectl("get", "pods", "-l", f"app={name}").splitlines()
    assert table[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert table[1].split()[:4] == [name, "0/1", "Pending", "0"]
    assert "NOMINATED NODE" in kubectl("get", "pod", name, "-o", "wide")
    assert kubectl("get", "pod", name, "-o", "name") == f"pod/{name}\n"
    assert kubectl("get", "pod", name, "-o", "jsonpath={.spec.containers[*].image}") == "busybox:1"
    assert json.loads(kubectl("get", "pod", name, "-o", "json"))["status"]["qosClass"] == "BestEffort"
    assert "restartPolicy: Always" in kubectl("get", "pod", name, "-o", "yaml")
    assert name in kubectl("get", "pods", "-A", "--show-labels", "--sort-by=.metadata.name")
    assert name in kubectl("get", "all", "--chunk-size=1")


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("app={0}", True),
        ("app!={0}", False),
        ("app in ({0},other)", True),
        ("app notin ({0})", False),
        ("app,!gone", True),
    ],
)
def test_label_selectors(kubectl: Kubectl, name: str, selector: str, found: bool) -> None:
    kubectl("create", "-f", "-", given=pod(name))
    assert (f"pod/{name}\n" in kubectl("get", "pods", "-o", "name", "-l", selector.format(name))) is found


def test_field_selectors(kubectl: Kubectl, name: str) -> None:
    kubectl("create", "-f", "-", given=pod(name, nodeName="elsewhere"))
    chosen = f"spec.nodeName=elsewhere,metadata.name={name},status.phase!=Running,spec.hostNetwork=false"
    assert kubectl("get", "pods", "-o", "name", "--field-selector", chosen) == f"pod/{name}\n"
    said = kubectl("get", "pods", "--field-selector", "spec.foo=1", fails=True)
    assert "field label not supported: spec.foo" in said


def test_watch_shows_each_change_once(kubectl: Kubectl, name: str) -> None:
    kubectl("create", "-f", "-", given=config_map(name))
    with kubectl.open(
        "get", "cm", "-w", "--output-watch-events", f"--field-selector=metadata.name={name}"
    ) as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline().split() == ["EVENT", "NAME", "DATA", "AGE"]
        assert watch.stdout.readline().split()[:3] == ["ADDED", name, "0"]
        kubectl("patch", "cm", name, "--type=merge", "-p", '{"data":{"a":"b"}}')
        assert watch.stdout.readline().split()[:3] == ["MODIFIED", name, "1"]
        kubectl("delete", "cm", name)
        assert watch.stdout.readline().split()[:2] == ["DELETED", name]
        watch.terminate()


@pytest.mark.parametrize(
    "command",
    [
        "namespace {0}",
        "deployment {0} --image=nginx --replicas=2 --port=80",
        "configmap {0} --from-literal=a=b",
        "secret generic {0} --from-literal=a=b",
        "serviceaccount {0}",
        "service clusterip {0} --tcp=80:8080",
        "ingress {0} --rule=foo.example/bar=svc:8080",
    ],
)
def test_create_commands(kubectl: Kubectl, name: str, command: str) -> None:
    kind = command.split()[0]
    assert "created (server dry run)" in kubectl("create", *command.format(name).split(), "--dry-run=server")
    assert "created" in kubectl("create", *command.format(name).split())
    assert name in kubectl("get", kind, name)
    assert f'"{name}" already exists' in kubectl("create", *command.format(name).split(), fails=True)
    assert kubectl("describe", kind, name)
    kubectl("delete", kind, name, "--wait=false")


def test_run_expose_and_events(kubectl: Kubectl, name: str) -> None:
    kubectl("run", name, "--image=nginx", "--port=80", "--env=A=B")
    kubectl("expose", "pod", name, "--port=8000", "--target-port=80")
    assert kubectl("get", "service", name, "-o", "jsonpath={.spec.ports[0].targetPort}") == "80"
    described = kubectl("describe", "pod", name)
    assert "QoS Class:" in described and "Pending" in described
    kubectl("delete", "pod,service", name, "--now")


def test_apply_merges_three_ways(kubectl: Kubectl, name: str) -> None:
    def deployment(*containers: str, **labels: str) -> dict[str, Any]:
        listed = [{"name": each, "image": f"{each}:1"} for each in containers]
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": listed}}
        spec = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template}
        metadata = {"name": name, "labels": labels}
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}

    assert "created" in kubectl("apply", "-f", "-", given=deployment("one", "two", a="b"))
    assert "unchanged" in kubectl("apply", "-f", "-", given=deployment("one", "two", a="b"))
    kubectl("label", "deployment", name, "by=hand")
    assert "configured" in kubectl("apply", "-f", "-", given=deployment("two"))
    images = "jsonpath={.spec.template.spec.containers[*].image} {.metadata.labels}"
    assert kubectl("get", "deployment", name, "-o", images) == 'two:1 {"by":"hand"}'
    assert kubectl("diff", "-f", "-", given=deployment("two")) == ""
    kubectl("delete", "deployment", name)


def test_apply_server_side(kubectl: Kubectl, name: str) -> None:
    assert "serverside-applied" in kubectl("apply", "--server-side", "-f", "-", given=config_map(name, a="1"))
    kubectl("patch", "cm", name, "--type=merge", "-p", '{"data":{"b":"2"}}')
    kubectl("apply", "--server-side", "-f", "-", given=config_map(name, a="3"))
    assert json.loads(kubectl("get", "cm", name, "-o", "jsonpath={.data}")) == {"a": "3", "b": "2"}


@pytest.mark.parametrize(
    ("how", "patch"),
    [
        ("json", '[{"op": "replace", "path": "/spec/containers/0/image", "value": "busybox:2"}]'),
        ("merge", '{"metadata": {"labels": {"new": "1"}}, "spec": {"terminationGracePeriodSeconds": 1}}'),
        ("strategic", '{"spec": {"containers": [{"name": "main", "image": "busybox:2"}]}}'),
    ],
)
def test_patch(kubectl: Kubectl, name: str, how: str, patch: str) -> None:
    kubectl("create", "-f", "-", given=pod(name))
    assert "patched" in kubectl("patch", "pod", name, f"--type={how}", "-p", patch)
    assert "(no change)" in kubectl("patch", "pod", name, f"--type={how}", "-p", patch)


def test_edit_label_annotate(kubectl: Kubectl, name: str) -> None:
    kubectl("create", "-f", "-", given=config_map(name, colour="red"))
    done = kubectl.run("edit", "cm", name, KUBE_EDITOR="sed -i s/red/blue/")
    assert "edited" in done.stdout, done.stderr
    kubectl("label", "cm", name, "a=b")
    kubectl("annotate", "cm", name, "note=a remark")
    assert "not overwritten" in done.stderr or kubectl("label", "cm", name, "a=c", fails=True)
    kubectl("label", "cm", name, "a-")
    found = json.loads(kubectl("get", "cm", name, "-o", "json"))
    assert found["data"] == {"colour": "blue"}
    assert found["metadata"]["annotations"] == {"note": "a remark"}
    assert "labels" not in found["metadata"] or found["metadata"]["labels"] == {}


def test_replace_with_a_stale_version_is_a_conflict(kubectl: Kubectl, name: str) -> None:
    kubectl("create", "-f", "-", given=config_map(name, a="1"))
    stale = json.loads(kubectl("get", "cm", name, "-o", "json"))
    kubectl("patch", "cm", name, "-p", '{"data":{"a":"2"}}')
    said = kubectl("replace", "-f", "-", given=stale, fails=True)
    assert "the object has been modified; please apply your changes to the latest version" in said


def test_scale_and_wait(kubectl: Kubectl, name: str) -> None:
    kubectl("create", "deployment", name, "--image=x", "--replicas=1")
    kubectl("scale", "deployment", name, "--replicas=0", "--current-replicas=1")
    kubectl("wait", f"deployment/{name}", "--for=jsonpath={.spec.replicas}=0", "--timeout=90s")
    assert "Expected replicas" in kubectl(
        "scale", "deployment", name, "--replicas=2", "--current-replicas=7", fails=True
    )
    kubectl("delete", "deployment", name, "--wait=false")
    kubectl("wait", f"deployment/{name}", "--for=delete", "--timeout=90s")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spec": {"containers": []}}, "spec.containers: Required value"),
        ({"spec": {"containers": [{"name": "A"}]}}, "spec.containers[0].name: Invalid value"),
        ({"spec": {"containers": [{"name": "a"}]}}, "spec.containers[0].image: Required value"),
        ({"spec": {"containers": "x"}}, "spec.containers in body must be of type array"),
        (
            {"spec": {"containers": [{"name": "a", "image": "x", "comand": []}]}},
            'unknown field "spec.containers[0].comand"',
        ),
        ({"metadata": {"name": "UPPER"}}, "a lowercase RFC 1123 subdomain must consist of"),
        (
            {"metadata": {"name": "ok", "labels": {"a": "b c"}}},
            "a valid label must be an empty string or consist of",
        ),
        ({"metadata": {"name": "ok", "namespace": "nowhere"}}, 'namespaces "nowhere" not found'),
        ({"kind": "Pot"}, 'no matches for kind "Pot"'),
    ],
)
def test_bad_objects_are_refused_with_the_field(
    kubectl: Kubectl, name: str, change: dict[str, Any], words: str
) -> None:
    said = kubectl("create", "-f", "-", given=pod(name) | change, fails=True)
    assert words in said


def test_what_may_not_change(kubectl: Kubectl, name: str) -> None:
    kubectl("create", "-f", "-", given=pod(name))
    said = kubectl("patch", "pod", name, "-p", '{"spec":{"restartPolicy":"Never"}}', fails=True)
    assert "Forbidden: pod updates may not change fields other than" in said
    kubectl("create", "deployment", name, "--image=x", "--replicas=0")
    patch = '{"spec":{"selector":{"matchLabels":{"app":"other"}}}}'
    said = kubectl("patch", "deployment", name, "--type=merge", "-p", patch, fails=True)
    assert "spec.selector: Invalid value: {...}: field is immutable" in said
    kubectl("delete", "deployment", name)


def test_discovery_and_explain(kubectl: Kubectl) -> None:
    listed = kubectl("api-resources", "--no-headers")
    for word in ("po ", "deploy ", "netpol ", "apiextensions.k8s.io/v1", "discovery.k8s.io/v1", "leases"):
        assert word in listed
    assert "coordination.k8s.io/v1" in kubectl("api-versions").split()
    assert "containerPort" in kubectl("explain", "pod.spec.containers.ports")
    assert "v1.36" in kubectl("version")
    assert "pods/eviction" in kubectl("get", "--raw", "/api/v1")


CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [wd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: {type: integer, minimum: 1, description: How big it is}
              colour: {type: string, enum: [red, blue], default: red}
              replicas: {type: integer}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""


def test_custom_resources(kubectl: Kubectl) -> None:
    def widget(**spec: Any) -> dict[str, Any]:
        return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}

    kubectl("apply", "-f", "-", given=CRD)
    kubectl("wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=90s")
    said = kubectl("apply", "-f", "-", given=widget(size=0, colour="green"), fails=True)
    assert "spec.size in body should be greater than or equal to 1" in said
    assert 'spec.colour: Unsupported value: "green": supported values: "red", "blue"' in said
    assert 'unknown field "spec.foo"' in kubectl("apply", "-f", "-", given=widget(size=1, foo=1), fails=True)
    kubectl("apply", "-f", "-", given=widget(size=3))
    assert [line.split() for line in kubectl("get", "wd").splitlines()] == [["NAME", "SIZE"], ["w", "3"]]
    kubectl("scale", "widget", "w", "--replicas=4")
    kubectl("patch", "wd", "w", "--subresource=status", "--type=merge", "-p", '{"status":{"a":1}}')
    found = json.loads(kubectl("get", "wd", "w", "-o", "json"))
    assert (found["spec"], found["status"]) == ({"size": 3, "colour": "red", "replicas": 4}, {"a": 1})
    assert "How big it is" in kubectl("explain", "widget.spec")
    kubectl("delete", "crd", "widgets.example.com", "--timeout=90s")
    assert "the server" in kubectl("get", "widgets", fails=True)


def test_rights(kubectl: Kubectl, server: ApiServer, name: str) -> None:
    assert "system:masters" in kubectl("auth", "whoami")
    assert kubectl("auth", "can-i", "create", "pods") == "yes\n"
    kubectl("create", "secret", "generic", name, "--from-literal=a=b")
    for token in (NODE_TOKEN, READER_TOKEN):
        refused = kubectl.as_user(token, "get", "secrets")
        assert 'cannot list resource "secrets" in API group "" in the namespace "default"' in refused.stderr
        assert kubectl.as_user(token, "get", "pods").returncode == 0
        assert "Forbidden" in kubectl.as_user(token, "delete", "ns", "default").stderr
        assert kubectl.as_user(token, "auth", "can-i", "get", "secrets").stdout.startswith("no")
    assert "Unauthorized" in kubectl.as_user("wrong", "get", "pods").stderr
    kubectl("create", "serviceaccount", name)
    token = kubectl("create", "token", name).strip()
    assert f"system:serviceaccount:default:{name}" in kubectl.as_user(token, "auth", "whoami").stdout


def test_a_node_writes_its_own_objects_only(kubectl: Kubectl, name: str) -> None:
    for node in ("node-a", "node-b"):
        kubectl("create", "-f", "-", given={"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
    assert kubectl.as_user(NODE_TOKEN, "label", "node", "node-a", "a=b").returncode == 0
    assert "Forbidden" in kubectl.as_user(NODE_TOKEN, "label", "node", "node-b", "a=b").stderr
    kubectl("create", "-f", "-", given=pod(f"{name}-a", nodeName="node-a"))
    kubectl("create", "-f", "-", given=pod(f"{name}-b", nodeName="node-b"))
    force = ("--grace-period=0", "--force", "--wait=false")
    assert kubectl.as_user(NODE_TOKEN, "delete", "pod", f"{name}-a", *force).returncode == 0
    assert "Forbidden" in kubectl.as_user(NODE_TOKEN, "delete", "pod", f"{name}-b", *force).stderr
    kubectl("delete", "node", "node-a", "node-b")


def test_graceful_deletion_waits_for_the_kubelet(kubectl: Kubectl, name: str) -> None:
    kubectl("create", "-f", "-", given=pod(name, nodeName="some-node"))
    kubectl("delete", "pod", name, "--wait=false")
    found = json.loads(kubectl("get", "pod", name, "-o", "json"))["metadata"]
    assert (found["deletionGracePeriodSeconds"], "deletionTimestamp" in found) == (30, True)
    assert "Terminating" in kubectl("get", "pod", name)
    kubectl("delete", "pod", name, "--grace-period=0", "--force")
    assert "not found" in kubectl("get", "pod", name, fails=True)


def test_finalizers_hold_back(kubectl: Kubectl, name: str) -> None:
    held = config_map(name) | {"metadata": {"name": name, "finalizers": ["example.com/hold"]}}
    kubectl("create", "-f", "-", given=held)
    kubectl("delete", "cm", name, "--wait=false")
    assert "deletionTimestamp" in kubectl("get", "cm", name, "-o", "yaml")
    kubectl("patch", "cm", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    kubectl("wait", f"cm/{name}", "--for=delete", "--timeout=90s")


def test_command_line_errors_are_one_line(tmp_path: Path) -> None:
    from tulle.cli.apiserver import _address

    with pytest.raises(ConfigError, match=r"--listen nonsense: must be HOST:PORT"):
        _address("nonsense")
    assert _address("[::1]:6443") == ("::1", 6443)
