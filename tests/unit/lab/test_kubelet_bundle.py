"""Environments, command lines and OCI configurations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from tulle.errors import CniError, ConfigError
from tulle.lab.images import ImageConfig, normalised
from tulle.lab.kubelet import bundle
from tulle.lab.kubelet.bundle import Parts, arguments, configuration
from tulle.lab.kubelet.cni import version
from tulle.lab.kubelet.environment import environment, expand, fields
from tulle.lab.kubelet.images import Image
from tulle.lab.kubelet.objects import Container, Pod


def container(**body: object) -> Container:
    return msgspec.convert({"name": "c", **body}, Container)


def pod(**spec: object) -> Pod:
    metadata = {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "web"}}
    return msgspec.convert({"metadata": metadata, "spec": {"containers": [], **spec}}, Pod)


def nothing(kind: str, name: str) -> Mapping[str, bytes] | None:
    return None


KNOWN = fields(pod(), "node-1", ["172.30.1.11"], ["10.0.0.1", "fd00::1"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)b", "1b"), ("$$(A)", "$(A)"), ("$(NO)", "$(NO)"), ("$A", "$A"), ("$(A)$(A)", "11")],
)
def test_references(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


def test_environment_from_fields_maps_and_earlier_variables() -> None:
    data = {("ConfigMap", "m"): {"k": b"v"}}
    spec = container(
        envFrom=[{"prefix": "M_", "configMapRef": {"name": "m"}}],
        env=[
            {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
            {"name": "ALL", "value": "$(APP)-$(M_k)"},
        ],
    )
    found = environment(spec, pod(), KNOWN, lambda kind, name: data.get((kind, name)), {})
    assert found == {"M_k": "v", "IPS": "10.0.0.1,fd00::1", "APP": "web", "K": "v", "ALL": "web-v"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"fieldRef": {"fieldPath": "spec.magic"}}, "spec.magic"),
        ({"secretKeyRef": {"name": "s", "key": "k"}}, "Secret s"),
        ({"resourceFieldRef": {"resource": "limits.cpu"}}, "valueFrom"),
    ],
)
def test_a_variable_that_cannot_be_had_is_named(source: object, said: str) -> None:
    spec = container(env=[{"name": "X", "valueFrom": source}])
    with pytest.raises(ConfigError, match=said):
        environment(spec, pod(), KNOWN, nothing, {})


IMAGE = Image("i", (Path("/layer"),), ImageConfig(entrypoint=("/run",), command=("a", "b")))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, ["/run", "a", "b"]),
        ({"args": ["c"]}, ["/run", "c"]),
        ({"command": ["/x"]}, ["/x"]),
        ({"command": ["/x"], "args": ["$(V)"]}, ["/x", "1"]),
    ],
)
def test_command_and_args_against_the_image(body: dict[str, object], expected: list[str]) -> None:
    assert arguments(container(**body), IMAGE, {"V": "1"}) == expected


def parts(image: Image = IMAGE) -> Parts:
    return Parts(image, Path("/root"), (1000, 1000), {"A": "1"}, {"network": Path("/ns")}, [])


def test_a_user_other_than_root_has_no_effective_capability() -> None:
    process = bundle.process(pod(), container(), parts())
    assert process["user"]["uid"] == 1000
    assert process["capabilities"]["effective"] == []
    assert "CAP_NET_RAW" in process["capabilities"]["bounding"]


@pytest.mark.parametrize(
    ("capabilities", "present", "absent"),
    [
        ({}, "CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN"),
        ({"add": ["NET_ADMIN"]}, "CAP_NET_ADMIN", "CAP_SYS_ADMIN"),
        ({"drop": ["ALL"], "add": ["CHOWN"]}, "CAP_CHOWN", "CAP_NET_RAW"),
    ],
)
def test_capabilities(capabilities: object, present: str, absent: str) -> None:
    context = {"capabilities": capabilities, "runAsUser": 0}
    found = bundle.process(pod(), container(securityContext=context), parts())["capabilities"]["effective"]
    assert present in found
    assert absent not in found


def test_an_unknown_capability_is_named() -> None:
    context = {"capabilities": {"add": ["FLY"]}}
    with pytest.raises(ConfigError, match="FLY"):
        bundle.process(pod(), container(securityContext=context), parts())


def test_the_machine_as_image_hides_run_and_tmp() -> None:
    machine = Image("host", (Path("/"),), ImageConfig(command=("sh",)))
    for image, hidden in ((machine, True), (IMAGE, False)):
        mounts = configuration(pod(), container(), parts(image))["mounts"]
        targets = {mount["destination"] for mount in mounts}
        assert ({"/run", "/tmp"} <= targets) is hidden


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("library/x", "docker.io/library/x:latest"),
        ("registry.example:5000/x", "registry.example:5000/x:latest"),
        ("localhost/x:1", "localhost/x:1"),
        ("x@sha256:ab", "docker.io/library/x@sha256:ab"),
    ],
)
def test_image_names(reference: str, expected: str) -> None:
    assert normalised(reference) == expected


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ({"cniVersion": "1.0.0"}, "1.0.0"),
        ({"cniVersion": "0.4.0", "cniVersions": ["1.1.0", "0.4.0"]}, "1.1.0"),
        ({"cniVersion": "1.1.0", "cniVersions": ["2.0.0"]}, "1.1.0"),
    ],
)
def test_the_highest_common_cni_version(network: dict[str, object], expected: str) -> None:
    assert version(network) == expected


def test_no_common_cni_version() -> None:
    with pytest.raises(CniError) as refused:
        version({"name": "net", "cniVersion": "9.9.9"})
    assert refused.value.code == 1
