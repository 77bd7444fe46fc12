"""deploy/rbac.yaml allows what the code asks of the API, no less and no more: both are read here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import pytest

from tulle.controller.run import LEASE
from tulle.kube.resources import Resource

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src"
OBJECTS: list[dict[str, Any]] = [
    msgspec.yaml.decode(text) for text in (ROOT / "deploy" / "rbac.yaml").read_text().split("\n---\n")
]
PLACES = {"list": 1, "get": 2, "create": 2, "delete": 2, "replace": 3, "patch": 3}
"""The methods of ``Client``, and which of their arguments is the namespace; ``watch`` is for informers."""
VERBS = {"replace": "update"}
HELPERS = ("tulle.kube.events", "tulle.kube.leader")
"""They ask on behalf of whoever imports them. An ``Informer`` lists and watches what it is made with."""
OTHERS = ("cli", "lab", "verify", "apiserver", "kube")
"""Packages whose requests are a user's, a part of the lab, or somebody else's."""
SYSTEM = "kube-system"


class Right(NamedTuple):
    """``namespace``: empty for all of them, and for what has none."""

    verb: str
    group: str
    resource: str
    namespace: str = ""


class Module:
    """A module as it is written, beside what its names mean."""

    def __init__(self, path: Path) -> None:
        self.name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        self.tree = ast.parse(path.read_text())

    @cached_property
    def meaning(self) -> ModuleType:
        return import_module(self.name)

    @property
    def imports(self) -> set[str]:
        return {n.module for n in ast.walk(self.tree) if isinstance(n, ast.ImportFrom) and n.module}

    def rights(self) -> Iterator[Right]:
        """What its calls need."""
        for function in ast.walk(self.tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for call in (n for n in ast.walk(function) if isinstance(n, ast.Call)):
                    yield from self._of_call(call, function)

    def _of_call(self, call: ast.Call, function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Right]:
        named = {keyword.arg: keyword.value for keyword in call.keywords}
        if isinstance(call.func, ast.Name) and call.func.id == "Informer":
            verbs, what = ["list", "watch"], call.args[1]
            namespace = named.get("namespace")
        elif isinstance(call.func, ast.Attribute) and _is_client(call.func) and call.args:
            verbs, what = [VERBS.get(call.func.attr, call.func.attr)], call.args[0]
            namespace = dict(enumerate(call.args)).get(PLACES[call.func.attr], named.get("namespace"))
        else:
            return
        parts = self._values(named["subresource"], function) if "subresource" in named else [ast.Constant("")]
        for resource, part, verb in product(self._values(what, function), parts, verbs):
            assert isinstance(resource, ast.Name), ast.unparse(call)
            found = getattr(self.meaning, resource.id)
            assert isinstance(found, Resource) and isinstance(part, ast.Constant), ast.unparse(call)
            name = f"{found.plural}/{part.value}" if part.value else found.plural
            yield Right(verb, found.group, name, self._namespace(namespace))

    def _values(
        self, expression: ast.expr, function: ast.FunctionDef | ast.AsyncFunctionDef
    ) -> list[ast.expr]:
        """The expression itself or, if it is a parameter of its function, all that is passed for it."""
        parameters = [each.arg for each in function.args.args if each.arg != "self"]
        if not isinstance(expression, ast.Name) or expression.id not in parameters:
            return [expression]
        place = parameters.index(expression.id)
        calls = [
            n
            for n in ast.walk(self.tree)
            if isinstance(n, ast.Call) and ast.unparse(n.func) in (function.name, f"self.{function.name}")
        ]
        assert calls, f"{self.name}: nobody calls {function.name}"
        return [each.args[place] if place < len(each.args) else ast.Constant("") for each in calls]

    def _namespace(self, expression: ast.expr | None) -> str:
        """Ours is a constant; the elector is told of it by ``tulle controller``."""
        if isinstance(expression, ast.Name) and expression.id == "NAMESPACE":
            assert self.meaning.NAMESPACE == SYSTEM
            return SYSTEM
        return SYSTEM if expression and ast.unparse(expression) == "self._namespace" else ""


def _is_client(function: ast.Attribute) -> bool:
    return function.attr in PLACES and ast.unparse(function.value).endswith("client")


def modules(package: str) -> list[Module]:
    return [Module(path) for path in sorted((SOURCE / "tulle" / package).rglob("*.py"))]


def needed(package: str) -> set[Right]:
    found = modules(package)
    helpers = {name for each in found for name in each.imports if name in HELPERS}
    found += [Module(SOURCE.joinpath(*name.split(".")).with_suffix(".py")) for name in helpers]
    return {right for each in found for right in each.rights()}


def granted(name: str) -> set[Right]:
    return {
        Right(verb, group, resource, role["metadata"].get("namespace", ""))
        for role in OBJECTS
        if role["kind"] in ("Role", "ClusterRole") and role["metadata"]["name"] == name
        for rule in role["rules"]
        for verb, group, resource in product(rule["verbs"], rule["apiGroups"], rule["resources"])
    }


@pytest.mark.parametrize("package", ["agent", "dns", "controller"])
def test_rights_are_those_that_the_code_needs(package: str) -> None:
    asked, allowed = needed(package), granted(f"tulle-{package}")
    assert asked - allowed == set(), "missing"
    assert allowed - asked == set(), "needless"


def test_nobody_else_asks_the_api() -> None:
    """What the agent, the controller and DNS ask is asked in their own packages, where it is seen here."""
    packages = {path.name for path in (SOURCE / "tulle").iterdir() if path.is_dir()}
    for package in packages - {"agent", "dns", "controller", *OTHERS}:
        assert [right for each in modules(package) for right in each.rights()] == [], package


def test_each_role_is_bound_to_its_account() -> None:
    roles = [each for each in OBJECTS if each["kind"] in ("Role", "ClusterRole")]
    for role in roles:
        name, kind = role["metadata"]["name"], role["kind"]
        [binding] = [b for b in OBJECTS if b["kind"] == f"{kind}Binding" and b["metadata"]["name"] == name]
        assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": SYSTEM}]
        assert binding["metadata"].get("namespace", "") == role["metadata"].get("namespace", "")


def test_the_controllers_lease_is_the_one_that_is_named() -> None:
    roles = [each for each in OBJECTS if each["metadata"]["name"] == "tulle-controller"]
    rules = [rule for role in roles for rule in role.get("rules", ())]
    assert [rule["resourceNames"] for rule in rules if "resourceNames" in rule] == [[LEASE]]
