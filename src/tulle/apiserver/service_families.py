"""IP families of a Service: which it gets, what its cluster IPs must be, and how both may change.

Pure: the families that the cluster has are given, in order, the cluster's own first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tulle.apiserver import addresses
from tulle.apiserver.kinds import Object
from tulle.apiserver.status import Cause, bad_value, duplicate, required

NONE = "None"
SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
FAMILIES = ("IPv4", "IPv6")
OWN_ADDRESSES = ("ClusterIP", "NodePort", "LoadBalancer")
POLICY = "spec.ipFamilyPolicy"
SET = "may not change once set"


def is_headless(spec: Object) -> bool:
    return bool(spec.get("clusterIPs") == [NONE])


def takes_addresses(spec: Object) -> bool:
    """Whether a Service has cluster IPs of its own."""
    return spec["type"] != "ExternalName" and not is_headless(spec)


def settle(spec: Object, before: Object | None, offered: Sequence[str]) -> list[Cause]:
    """Fills in ``ipFamilyPolicy`` and ``ipFamilies``, or returns why they cannot be.

    ``before`` is the spec of the object that is updated. A Service that prefers two families and was given
    one keeps it, also when the cluster gets a second: only a change of the Service changes its families.
    """
    if spec["type"] == "ExternalName" or (before is not None and _prefers_the_same(spec, before)):
        return []
    spec.setdefault("ipFamilyPolicy", _policy(spec, before or {}))
    if causes := flaws(spec, before):
        return causes
    causes = _shrink(spec, before) if before is not None else []
    causes += _too_many(spec) + _infer(spec, offered)
    if not causes and not _headless_by_hand(spec):
        causes = _not_offered(spec, before or {}, offered)
    if not causes:
        _complete(spec, FAMILIES if _headless_by_hand(spec) else offered, offered)
    return causes


def _prefers_the_same(spec: Object, before: Object) -> bool:
    same = all(key in spec and spec[key] == before.get(key) for key in ("type", "clusterIPs", "ipFamilies"))
    return same and spec.get("ipFamilyPolicy") == PREFER == before.get("ipFamilyPolicy")


def _headless_by_hand(spec: Object) -> bool:
    """Headless without a selector: whoever makes the endpoints decides on their families."""
    return is_headless(spec) and not spec.get("selector")


def _policy(spec: Object, before: Object) -> str:
    default = REQUIRE if _headless_by_hand(spec) else SINGLE
    return str(before.get("ipFamilyPolicy", default))


def flaws(spec: Object, before: Object | None) -> list[Cause]:
    """What is wrong with cluster IPs and families, whatever the cluster offers."""
    ips, families = spec.get("clusterIPs", []), spec.get("ipFamilies", [])
    path, causes = "spec.clusterIPs", []
    if (first := spec.get("clusterIP")) and not ips:
        causes.append(required(path))
    elif ips and not first:
        causes.append(bad_value(path, ips, "must be empty when `clusterIP` is not specified"))
    elif ips and ips[0] != first:
        causes.append(bad_value(path, ips, "first value must match `clusterIP`"))
    for index, family in enumerate(families):
        if family in families[:index]:
            causes.append(duplicate(f"spec.ipFamilies[{index}]", family))
    if len(ips) > 2:
        causes.append(bad_value(path, ips, "may only hold up to 2 values"))
    if ips[:1] == [NONE]:
        alone = "'None' must be the first and only value"
        return causes + ([bad_value(path, ips, alone)] if len(ips) > 1 else [])
    known = (before or {}).get("clusterIPs", ())
    wrong = [c for i, ip in enumerate(ips) for c in addresses.flaws(f"{path}[{i}]", ip, known)]
    return causes + (wrong or _mixed(ips, families))


def _mixed(ips: list[str], families: list[str]) -> list[Cause]:
    path, found = "spec.clusterIPs", [addresses.family(ip) for ip in ips]
    causes: list[Cause] = []
    if len(ips) > 1 and len(set(found)) == 1:
        causes.append(bad_value(path, ips, "may specify no more than one IP for each IP family"))
    for index, (ip, is_of, wanted) in enumerate(zip(ips, found, families, strict=False)):
        if is_of != wanted:
            detail = f"expected an {wanted} value as indicated by `ipFamilies[{index}]`"
            causes.append(bad_value(f"{path}[{index}]", ip, detail))
    return causes


def _shrink(spec: Object, before: Object) -> list[Cause]:
    """SingleStack gives the second of each back where nobody touched them; any other policy keeps both."""
    fields = {"clusterIPs": "cluster IP", "ipFamilies": "IP family"}
    if spec["ipFamilyPolicy"] == SINGLE:
        for key in fields:
            if len(spec.get(key, ())) > 1 and spec[key] == before.get(key):
                spec[key] = spec[key][:1]
        return []
    reduced = [words for key, words in fields.items() if 0 < _count(spec, key) < _count(before, key)]
    policy = spec["ipFamilyPolicy"]
    return [bad_value(POLICY, policy, f"must be 'SingleStack' to release the secondary {w}") for w in reduced]


def _count(spec: Object, key: str) -> int:
    return len(spec.get(key, ()))


def _too_many(spec: Object) -> list[Cause]:
    if spec["ipFamilyPolicy"] != SINGLE:
        return []
    words = {"clusterIPs": "cluster IPs", "ipFamilies": "IP families"}
    must = "must be 'RequireDualStack' or 'PreferDualStack' when multiple"
    return [
        bad_value(POLICY, SINGLE, f"{must} {name} are specified")
        for key, name in words.items()
        if _count(spec, key) == 2
    ]


def _infer(spec: Object, offered: Sequence[str]) -> list[Cause]:
    """Families of the cluster IPs that were asked for without saying a family."""
    causes: list[Cause] = []
    ips = [] if is_headless(spec) else spec.get("clusterIPs", [])
    for index, ip in enumerate(ips[_count(spec, "ipFamilies") :], _count(spec, "ipFamilies")):
        family = addresses.family(ip)
        if family in offered:
            spec.setdefault("ipFamilies", []).append(family)
        else:
            detail = f"{family} is not configured on this cluster"
            causes.append(bad_value(f"spec.clusterIPs[{index}]", ips, detail))
    return causes


def _not_offered(spec: Object, before: Object, offered: Sequence[str]) -> list[Cause]:
    """Families that the cluster does not have; those that the Service has already are no matter."""
    causes: list[Cause] = []
    held = before.get("ipFamilies", ())
    if spec["ipFamilyPolicy"] == REQUIRE and max(len(offered), len(held)) < 2:
        causes.append(bad_value(POLICY, REQUIRE, "this cluster is not configured for dual-stack services"))
    for index, family in enumerate(spec.get("ipFamilies", ())):
        if family not in offered and family not in held:
            causes.append(bad_value(f"spec.ipFamilies[{index}]", family, "not configured on this cluster"))
    return causes


def _complete(spec: Object, possible: Sequence[str], offered: Sequence[str]) -> None:
    """The cluster's own family where none was named, and the other one where two are wanted and possible."""
    families = spec.setdefault("ipFamilies", [])
    if not families:
        families += offered[:1]
    if spec["ipFamilyPolicy"] != SINGLE and len(families) == 1:
        families += [each for each in possible if each not in families]


def changes(spec: Object, before: Object) -> list[Cause]:
    """What an update may not do: the first cluster IP and family stay; a second one may come and go."""
    if "ExternalName" in (spec["type"], before["type"]) or (is_headless(spec) and is_headless(before)):
        return []
    causes = _changed(spec, before, "clusterIPs", "clusterIP")
    if not is_headless(spec) and not is_headless(before):
        causes += _changed(spec, before, "ipFamilies", "ipFamily")
    return causes


def _changed(spec: Object, before: Object, key: str, words: str) -> list[Cause]:
    new: list[Any] = spec.get(key, [])
    old: list[Any] = before.get(key, [])
    path = f"spec.{key}"
    if old and not new:
        return [bad_value(f"{path}[0]", new, f"primary {words} can not be unset")]
    changed = [i for i, (was, now) in enumerate(zip(old, new, strict=False)) if was != now]
    causes = [bad_value(f"{path}[{index}]", new, SET) for index in changed]
    if len(new) == 1 < len(old) and spec.get("ipFamilyPolicy") != SINGLE:
        detail = f"must be set to 'SingleStack' when releasing the secondary {words}"
        causes.append(bad_value(POLICY, spec.get("ipFamilyPolicy"), detail))
    return causes
