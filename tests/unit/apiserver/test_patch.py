"""Patches as tables: RFC 6902 and RFC 7386 (appendix A of each), examples of Kubernetes' documentation."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tulle.apiserver.patch import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_MERGE_PATCH,
    apply_patch,
    json_patch,
    merge_patch,
)
from tulle.errors import ApiError

JSON_PATCH_VECTORS: list[tuple[str, Any, list[dict[str, Any]], Any]] = [
    (
        "A.1 object member",
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux"}],
        {"foo": "bar", "baz": "qux"},
    ),
    (
        "A.2 array element",
        {"foo": ["bar", "baz"]},
        [{"op": "add", "path": "/foo/1", "value": "qux"}],
        {"foo": ["bar", "qux", "baz"]},
    ),
    ("A.3 remove member", {"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    (
        "A.4 remove element",
        {"foo": ["bar", "qux", "baz"]},
        [{"op": "remove", "path": "/foo/1"}],
        {"foo": ["bar", "baz"]},
    ),
    ("A.5 replace", {"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
    (
        "A.6 move",
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        "A.7 move element",
        {"foo": [1, 2, 3, 4]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": [1, 3, 4, 2]},
    ),
    (
        "A.8 test",
        {"a": [1, 2.0], "b": {"c": None}},
        [{"op": "test", "path": "", "value": {"b": {"c": None}, "a": [1.0, 2]}}],
        {"a": [1, 2.0], "b": {"c": None}},
    ),
    (
        "A.10 nested",
        {"foo": "bar"},
        [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
        {"foo": "bar", "child": {"grandchild": {}}},
    ),
    (
        "A.11 unknown member",
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
        {"foo": "bar", "baz": "qux"},
    ),
    ("A.14 escapes", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    (
        "A.16 append",
        {"foo": ["bar"]},
        [{"op": "add", "path": "/foo/-", "value": ["abc"]}],
        {"foo": ["bar", ["abc"]]},
    ),
    (
        "copy",
        {"a": {"b": 1}},
        [{"op": "copy", "from": "/a", "path": "/c"}, {"op": "add", "path": "/c/b", "value": 2}],
        {"a": {"b": 1}, "c": {"b": 2}},
    ),
    ("whole", {"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
]

JSON_PATCH_REFUSALS: list[tuple[Any, Any, int, str]] = [
    ({"a": 1}, {"op": "add"}, 400, "array"),
    ({"a": 1}, [{"op": "increase", "path": "/a"}], 400, "operation 0"),
    ({"a": 1}, [{"op": "test", "path": "/a", "value": True}], 422, "another"),
    ({"a": 1}, [{"op": "add", "path": "/b", "value": 1}, {"op": "remove", "path": "/c"}], 422, "operation 1"),
    ({"a": 1}, [{"op": "add", "path": "/b/c", "value": 1}], 422, "/b"),
    ({"a": 1}, [{"op": "add", "path": "b", "value": 1}], 422, "pointer"),
    ({"a": 1}, [{"op": "add", "path": "/~2", "value": 1}], 422, "pointer"),
    ({"a": 1}, [{"op": "add", "path": "/b"}], 422, "value is missing"),
    ({"a": [1]}, [{"op": "add", "path": "/a/2", "value": 1}], 422, "/a/2"),
    ({"a": [1]}, [{"op": "remove", "path": "/a/00"}], 422, "/a/00"),
    ({"a": {"b": 1}}, [{"op": "move", "from": "/a", "path": "/a/b"}], 422, "into itself"),
]

MERGE_PATCH_VECTORS: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(
    ("name", "before", "patch", "after"), JSON_PATCH_VECTORS, ids=[v[0] for v in JSON_PATCH_VECTORS]
)
def test_json_patch(name: str, before: Any, patch: Any, after: Any) -> None:
    untouched = copy.deepcopy((before, patch))
    assert apply_patch(JSON_PATCH, before, patch, "ConfigMap") == after
    assert (before, patch) == untouched


@pytest.mark.parametrize(("before", "patch", "code", "words"), JSON_PATCH_REFUSALS)
def test_json_patch_refuses(before: Any, patch: Any, code: int, words: str) -> None:
    with pytest.raises(ApiError, match=words) as refusal:
        json_patch(before, patch)
    assert refusal.value.code == code


@pytest.mark.parametrize(("before", "patch", "after"), MERGE_PATCH_VECTORS)
def test_merge_patch(before: Any, patch: Any, after: Any) -> None:
    assert merge_patch(before, patch) == after


def pod(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "spec": spec}


def named(*names: str) -> list[dict[str, str]]:
    return [{"name": name} for name in names]


NGINX = {"name": "nginx", "image": "nginx", "env": [{"name": "A", "value": "1"}], "args": ["x"]}

STRATEGIC_VECTORS: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        "merge key adds",
        {"containers": [NGINX]},
        {"containers": [{"name": "redis", "image": "r"}]},
        {"containers": [NGINX, {"name": "redis", "image": "r"}]},
    ),
    (
        "merge key merges",
        {"containers": [NGINX]},
        {
            "containers": [
                {"name": "nginx", "image": "n:2", "env": [{"name": "B", "value": "2"}], "args": ["y"]}
            ]
        },
        {
            "containers": [
                {
                    "name": "nginx",
                    "image": "n:2",
                    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                    "args": ["y"],
                }
            ]
        },
    ),
    (
        "element deleted",
        {"containers": named("a", "b")},
        {"containers": [{"name": "a", "$patch": "delete"}]},
        {"containers": named("b")},
    ),
    (
        "list replaced",
        {"containers": named("a", "b")},
        {"containers": [{"$patch": "replace"}, {"name": "c"}]},
        {"containers": named("c")},
    ),
    (
        "map replaced",
        {"nodeSelector": {"a": "1"}},
        {"nodeSelector": {"$patch": "replace", "b": "2"}},
        {"nodeSelector": {"b": "2"}},
    ),
    (
        "map emptied",
        {"nodeSelector": {"a": "1"}},
        {"nodeSelector": {"$patch": "delete"}},
        {"nodeSelector": {}},
    ),
    (
        "map merged",
        {"nodeSelector": {"a": "1"}},
        {"nodeSelector": {"$patch": "merge", "b": "2"}},
        {"nodeSelector": {"a": "1", "b": "2"}},
    ),
    (
        "null removes",
        {"nodeSelector": {"a": "1"}, "nodeName": "n"},
        {"nodeName": None, "nodeSelector": {"a": None}},
        {"nodeSelector": {}},
    ),
    (
        "atomic",
        {"tolerations": [{"key": "a"}]},
        {"tolerations": [{"key": "b"}]},
        {"tolerations": [{"key": "b"}]},
    ),
    (
        "retain keys",
        {"volumes": [{"name": "v", "emptyDir": {}}]},
        {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]},
        {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]},
    ),
    (
        "element order",
        {"containers": named("a", "x", "b")},
        {"$setElementOrder/containers": named("b", "c", "a"), "containers": named("c")},
        {"containers": named("x", "b", "c", "a")},
    ),
    (
        "ports by number and protocol",
        {"ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]},
        {"ports": [{"containerPort": 53, "protocol": "TCP", "name": "t"}]},
        {
            "ports": [
                {"containerPort": 53, "protocol": "UDP"},
                {"containerPort": 53, "protocol": "TCP", "name": "t"},
            ]
        },
    ),
]


@pytest.mark.parametrize(
    ("name", "before", "patch", "after"), STRATEGIC_VECTORS, ids=[v[0] for v in STRATEGIC_VECTORS]
)
def test_strategic_merge(name: str, before: Any, patch: Any, after: Any) -> None:
    current = pod(**before)
    untouched = copy.deepcopy((current, patch))
    assert apply_patch(STRATEGIC_MERGE_PATCH, current, {"spec": patch}, "Pod")["spec"] == after
    assert (current, patch) == untouched


def test_strategic_merge_of_primitive_sets() -> None:
    current = {"apiVersion": "v1", "metadata": {"finalizers": ["a", "b", "c"]}}
    patch = {"metadata": {"finalizers": ["d", "a"], "$deleteFromPrimitiveList/finalizers": ["b"]}}
    assert apply_patch(STRATEGIC_MERGE_PATCH, current, patch, "Pod")["metadata"] == {
        "finalizers": ["a", "c", "d"]
    }


def test_one_field_name_means_another_list_in_another_kind() -> None:
    service = {"apiVersion": "v1", "spec": {"ports": [{"port": 80}, {"port": 443}]}}
    merged = apply_patch(
        STRATEGIC_MERGE_PATCH, service, {"spec": {"ports": [{"port": 80, "nodePort": 1}]}}, "Service"
    )
    assert merged["spec"]["ports"] == [{"port": 80, "nodePort": 1}, {"port": 443}]
    part = {"apiVersion": "discovery.k8s.io/v1", "ports": [{"port": 80}]}
    assert apply_patch(STRATEGIC_MERGE_PATCH, part, {"ports": [{"port": 81}]}, "EndpointSlice")["ports"] == [
        {"port": 81}
    ]


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        ({"spec": {"$patch": "explode"}}, 400),
        ({"spec": {"containers": [{"image": "no name"}]}}, 422),
        ({"spec": {"$retainKeys": ["a"], "b": 1}}, 400),
        ({"spec": {"$setElementOrder/containers": "a"}}, 400),
        (["spec"], 400),
    ],
)
def test_strategic_merge_refuses(patch: Any, code: int) -> None:
    with pytest.raises(ApiError) as refusal:
        apply_patch(STRATEGIC_MERGE_PATCH, pod(containers=[NGINX]), patch, "Pod")
    assert refusal.value.code == code


def test_custom_resources_have_no_strategic_merge() -> None:
    gateway = {"apiVersion": "gateway.networking.k8s.io/v1", "spec": {"containers": named("a")}}
    with pytest.raises(ApiError) as refusal:
        apply_patch(STRATEGIC_MERGE_PATCH, gateway, {}, "Gateway")
    assert (refusal.value.code, refusal.value.reason) == (415, "UnsupportedMediaType")
    applied = apply_patch(APPLY_PATCH, gateway, {"spec": {"containers": named("b")}}, "Gateway")
    assert applied["spec"]["containers"] == named("b")


def test_apply_keeps_what_it_does_not_mention() -> None:
    applied = apply_patch(
        APPLY_PATCH,
        pod(containers=[NGINX], nodeName="n"),
        pod(containers=[{"name": "nginx", "image": "n:2"}], nodeName=None),
        "Pod",
    )
    assert applied["spec"] == {"containers": [{**NGINX, "image": "n:2"}]}
    assert apply_patch(APPLY_PATCH, {}, pod(containers=[NGINX]), "Pod") == pod(containers=[NGINX])


def test_unknown_content_types_and_results_that_are_no_object() -> None:
    with pytest.raises(ApiError, match=r"accepted media types.*strategic") as refusal:
        apply_patch("application/json", pod(), {}, "Pod")
    assert refusal.value.code == 415
    with pytest.raises(ApiError, match="an array"):
        apply_patch(JSON_PATCH, pod(), [{"op": "replace", "path": "", "value": []}], "Pod")
    assert apply_patch(f"{MERGE_PATCH}; charset=utf-8", pod(a=1), {"spec": {"a": 2}}, "Pod") == pod(a=2)
