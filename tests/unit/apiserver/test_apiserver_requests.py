"""Paths, queries, selectors, bodies, rights: what a request says, read without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tulle.apiserver import access, discovery, openapi, selectors, views
from tulle.apiserver.access import Attempt
from tulle.apiserver.protobuf import decode as decode_protobuf
from tulle.apiserver.registry import Registry
from tulle.apiserver.requests import Target, decode, target, verb
from tulle.apiserver.reviews import answer
from tulle.apiserver.tokens import TokenIssuer
from tulle.errors import ApiError, ConfigError


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v1", Target("", "v1")),
        ("/api/v1/pods", Target("", "v1", "pods")),
        ("/api/v1/namespaces/a", Target("", "v1", "namespaces", "", "a")),
        ("/api/v1/namespaces/a/finalize", Target("", "v1", "namespaces", "", "a", "finalize")),
        ("/api/v1/namespaces/a/pods/b/log", Target("", "v1", "pods", "a", "b", "log")),
        ("/apis/apps/v1/namespaces/a/deployments/b", Target("apps", "v1", "deployments", "a", "b")),
        ("/api/v1/namespaces/a/configmaps/..%2Fb", Target("", "v1", "configmaps", "a", "../b")),
        ("/api/v1/namespaces/a/pods/b/log/more", None),
        ("/api/v1/namespaces/a//b", None),
        ("/metrics", None),
    ],
)
def test_paths(path: str, expected: Target | None) -> None:
    assert target(path) == expected


def test_verbs() -> None:
    many, one = Target("", "v1", "pods"), Target("", "v1", "pods", "a", "b")
    cases = [("GET", many, {}), ("GET", many, {"watch": "1"}), ("GET", one, {}), ("DELETE", many, {})]
    assert [verb(*case) for case in cases] == ["list", "watch", "get", "deletecollection"]
    with pytest.raises(ApiError, match="does not allow the method TRACE"):
        verb("TRACE", one, {})


def labelled(**labels: str) -> dict[str, Any]:
    return {"metadata": {"name": "x", "labels": labels}}


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("a=b", {"a": "b"}, True),
        ("a==b,c", {"a": "b"}, False),
        ("a!=b", {}, True),
        ("a in (b, c)", {"a": "c"}, True),
        ("a notin (b,c)", {"a": "b"}, False),
        ("a notin (b)", {}, True),
        ("!a", {"a": "b"}, False),
        ("a>1,a<3", {"a": "2"}, True),
        ("a>1", {"a": "x"}, False),
    ],
)
def test_label_selectors(text: str, labels: dict[str, str], matches: bool) -> None:
    chosen = selectors.labels(text)
    assert chosen is not None and chosen(labelled(**labels)) is matches


def test_selectors_that_are_none() -> None:
    assert selectors.labels("") is None
    for text in ("a b", "a in b", "=b"):
        with pytest.raises(ApiError, match="unable to parse requirement"):
            selectors.labels(text)


def test_field_selectors_know_what_is_absent() -> None:
    nodes = Registry().get("", "nodes")
    chosen, name = selectors.fields("spec.unschedulable=false,metadata.name=x", nodes)
    assert chosen is not None and name == "x"
    assert chosen({"metadata": {"name": "x"}, "spec": {}})
    assert not chosen({"metadata": {"name": "x"}, "spec": {"unschedulable": True}})
    with pytest.raises(ApiError, match="field label not supported"):
        selectors.fields("spec.podCIDR=x", nodes)


def test_a_selector_in_words() -> None:
    expressions = [
        {"key": "b", "operator": "In", "values": ["z", "y"]},
        {"key": "c", "operator": "DoesNotExist"},
    ]
    assert selectors.text({"matchLabels": {"a": "1"}, "matchExpressions": expressions}) == "a=1,b in (y,z),!c"


def test_bodies() -> None:
    assert decode("application/json", b'{"a": 1}') == decode("application/yaml; x=y", b"a: 1") == {"a": 1}
    for media, body in (("application/json", b"{"), ("application/yaml", b"a: [")):
        with pytest.raises(ApiError, match="the object provided is unrecognized"):
            decode(media, body)
    with pytest.raises(ApiError, match='duplicate field "a"'):
        decode("application/json", b'{"a": 1, "a": 2}', strict=True)
    with pytest.raises(ApiError, match="in an unknown format"):
        decode("text/plain", b"")


def field(number: int, content: bytes | str | int) -> bytes:
    """One field of a protobuf message."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    content = content.encode() if isinstance(content, str) else content
    return bytes([number << 3 | 2, len(content)]) + content


def test_protobuf() -> None:
    container = field(1, "c") + field(2, "img") + field(6, field(3, 80) + field(4, ""))
    label = field(11, field(1, "app") + field(2, "x"))
    template = field(1, label) + field(2, field(2, container) + field(3, "") + field(11, 0))
    spec = field(1, 0) + field(3, template) + field(7, 5)
    raw = field(1, field(1, "d") + field(3, "") + field(8, b"")) + field(2, spec)
    envelope = b"k8s\x00" + field(1, field(1, "apps/v1") + field(2, "Deployment")) + field(2, raw)
    ports = [{"containerPort": 80}]
    assert decode_protobuf(envelope) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 0,
            "template": {
                "metadata": {"labels": {"app": "x"}},
                "spec": {"containers": [{"name": "c", "image": "img", "ports": ports}]},
            },
            "paused": True,
        },
    }


@pytest.mark.parametrize("body", [b"", b"k8s\x00\x0a", b"k8s\x00\x0a\xff\xff", b"k8s\x00" + bytes(9)])
def test_protobuf_that_is_none(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        decode_protobuf(body)
    assert caught.value.code in (400, 415)


def test_what_an_opaque_message_holds_is_asked_for_as_json() -> None:
    spec = field(2, field(14, field(1, field(1, "x"))))
    envelope = b"k8s\x00" + field(1, field(1, "v1") + field(2, "Pod")) + field(2, spec)
    with pytest.raises(ApiError, match="securityContext is read as JSON only"):
        decode_protobuf(envelope)


NODE, READER, ADMIN = (
    access.user("system:node:a", "system:nodes"),
    access.user("reader"),
    access.user("admin", "system:masters"),
)


@pytest.mark.parametrize(
    ("user", "attempt", "may"),
    [
        (ADMIN, Attempt("delete", "", "secrets"), True),
        (NODE, Attempt("list", "", "pods"), True),
        (NODE, Attempt("get", "", "secrets", namespace="x", name="y"), False),
        (NODE, Attempt("watch", "", "secrets"), False),
        (NODE, Attempt("get", "", "secrets", namespace="kube-system", name="tulle-bgp"), True),
        (NODE, Attempt("get", "", "secrets", namespace="default", name="tulle-bgp"), False),
        (NODE, Attempt("watch", "", "secrets", namespace="kube-system", name="tulle-bgp"), False),
        (READER, Attempt("get", "", "secrets", namespace="kube-system", name="tulle-bgp"), False),
        (NODE, Attempt("patch", "tulle.dev", "bgppeers", "status", name="rack-1"), True),
        (NODE, Attempt("patch", "tulle.dev", "bgppeers", name="rack-1"), False),
        (NODE, Attempt("patch", "", "nodes", "status", name="a", node="a"), True),
        (NODE, Attempt("patch", "", "nodes", "status", name="b", node="b"), False),
        (NODE, Attempt("patch", "", "pods", "status", "x", "y", "a"), True),
        (NODE, Attempt("delete", "", "pods", "", "x", "y", "b"), False),
        (NODE, Attempt("delete", "", "pods", "", "x", "y", ""), False),
        (NODE, Attempt("create", "", "events"), True),
        (NODE, Attempt("watch", "", "services"), True),
        (NODE, Attempt("watch", "", "namespaces"), True),
        (NODE, Attempt("watch", "discovery.k8s.io", "endpointslices"), True),
        (NODE, Attempt("watch", "networking.k8s.io", "servicecidrs"), True),
        (NODE, Attempt("watch", "", "configmaps", namespace="kube-system"), True),
        (NODE, Attempt("update", "", "services"), False),
        (NODE, Attempt("update", "coordination.k8s.io", "leases"), True),
        (NODE, Attempt("create", "", "pods"), False),
        (READER, Attempt("list", "apps", "deployments"), True),
        (READER, Attempt("get", "", "pods", "log"), True),
        (READER, Attempt("get", "", "pods", "exec"), False),
        (READER, Attempt("create", "", "configmaps"), False),
        (READER, Attempt("get", "", "secrets"), False),
    ],
)
def test_rights(user: access.User, attempt: Attempt, may: bool) -> None:
    assert access.allowed(user, attempt) is may


def test_reviews() -> None:
    spec = {"resourceAttributes": {"verb": "get", "resource": "secrets"}}
    found = answer("selfsubjectaccessreviews", NODE, {"spec": spec})
    assert found["status"]["allowed"] is False
    assert 'cannot get resource "secrets"' in found["status"]["reason"]
    assert answer("selfsubjectreviews", NODE, {})["status"]["userInfo"]["username"] == "system:node:a"


def test_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("# comment\n\nabc,me,one|two\nxyz,you\n")
    issuer = TokenIssuer(b"key")
    who = access.Authenticator(access.read_tokens(path), issuer)
    found = who.identify("Bearer abc", None)
    assert found is not None
    assert (found.name, found.groups) == ("me", {"one", "two", "system:authenticated"})
    assert (
        who.identify("Bearer ab", None) is who.identify("Basic abc", None) is who.identify("", None) is None
    )
    account = {"metadata": {"namespace": "ns", "name": "sa"}}
    token = issuer.answer(account, {})["status"]["token"]
    signed = who.identify(f"bearer {token}", None)
    assert signed is not None and signed.name == "system:serviceaccount:ns:sa"
    assert TokenIssuer(b"other").subject(token) == ""
    assert (
        issuer.subject(issuer.answer(account, {"spec": {"expirationSeconds": -1}})["status"]["token"]) == ""
    )
    path.write_text("abc\n")
    with pytest.raises(ConfigError, match="line 1: must be token,user"):
        access.read_tokens(path)


def test_a_client_certificate_names_user_and_groups() -> None:
    who = access.Authenticator({}, TokenIssuer(b""))
    subject = ((("organizationName", "g1"),), (("organizationName", "g2"),), (("commonName", "me"),))
    found = who.identify("", {"subject": subject})
    assert found is not None and (found.name, found.groups) == ("me", {"g1", "g2", "system:authenticated"})


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "Object"),
        ("application/json", "Object"),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "Table"),
        ("application/vnd.kubernetes.protobuf,application/json", "Object"),
        ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "Metadata"),
        ("*/*", "Object"),
    ],
)
def test_forms(accept: str, form: str) -> None:
    assert views.choose(accept, "").form == form


def test_no_form_that_is_served() -> None:
    with pytest.raises(ApiError, match="only the following media types are accepted") as caught:
        views.choose("application/vnd.kubernetes.protobuf", "")
    assert caught.value.code == 406


def test_discovery_says_the_same_in_both_forms() -> None:
    registry = Registry()
    found: set[tuple[str, str, str]] = set()
    for core in (True, False):
        for group in discovery.aggregated(registry, "v2", core=core)["items"]:
            for version in group["versions"]:
                name = group["metadata"].get("name", "")
                for each in version["resources"]:
                    found.add((name, version["version"], each["resource"]))
                    parts = [part["subresource"] for part in each.get("subresources", ())]
                    found |= {(name, version["version"], f"{each['resource']}/{part}") for part in parts}
    legacy: set[tuple[str, str, str]] = set()
    for name, versions in discovery.versions_of(registry).items():
        for version in versions:
            listed = discovery.resources(registry, name, version)
            assert listed is not None
            legacy |= {(name, version, each["name"]) for each in listed["resources"]}
    assert found == legacy
    assert ("apps", "v1", "deployments/scale") in found


def test_openapi_says_that_fields_are_validated_here() -> None:
    registry = Registry()
    paths = openapi.index(registry)["paths"]
    assert paths["apis/apps/v1"]["serverRelativeURL"].startswith("/openapi/v3/apis/apps/v1?hash=")
    found = openapi.find(registry, "openapi/v3/apis/apps/v1")
    assert found is not None
    patch = found["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert [each["name"] for each in patch["parameters"]] == ["fieldValidation"]
    assert patch["x-kubernetes-group-version-kind"]["kind"] == "Deployment"
    assert "requestBody" not in patch
    assert openapi.find(registry, "openapi/v3/apis/nothing/v1") is None
