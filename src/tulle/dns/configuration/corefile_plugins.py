"""What the plugins of a Corefile mean; each function puts one plugin's line into the draft of a scope.

https://coredns.io/plugins/ for each plugin's words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, get_args

from tulle.dns.configuration.config import (
    MOST_UPSTREAMS,
    CachePlan,
    Cluster,
    Endpoint,
    Forward,
    Pods,
    Policy,
    Prefetch,
    parse_endpoint,
)
from tulle.dns.configuration.corefile_draft import Draft
from tulle.dns.configuration.corefile_names import put_hosts, put_rewrite
from tulle.dns.configuration.corefile_syntax import Line
from tulle.dns.configuration.corefile_words import arguments, duration, encrypted, number, own_zones, zones

SYSTEM_FILE: Final = "/etc/resolv.conf"
_LONGEST_TTL: Final = 1 << 31


def _kubernetes(draft: Draft, line: Line) -> None:
    cluster = Cluster(own_zones(line, line.words[1:], draft.zones))
    for option in line.block:
        match option.words[0]:
            case "pods":
                (mode,) = arguments(option, 1, 1, "pods disabled|insecure|verified")
                cluster = replace(cluster, pods=_pods(option, mode))
            case "ttl":
                (text,) = arguments(option, 1, 1, "ttl SECONDS")
                cluster = replace(cluster, ttl=number(option, text, 0, 3600))
            case "fallthrough":
                cluster = replace(cluster, through=own_zones(option, option.words[1:], cluster.zones))
            case "endpoint_pod_names":
                cluster = replace(cluster, endpoint_pod_names=True)
            case _:
                draft.unknown(option, "kubernetes")
    draft.cluster = cluster


def _pods(line: Line, mode: str) -> Pods:
    for known in get_args(Pods):
        if mode == known:
            return known  # type: ignore[no-any-return]  # get_args knows no types
    raise line.bad(f"pods: {mode!r} cannot be right; give disabled, insecure or verified")


def _cache(draft: Draft, line: Line) -> None:
    words = list(line.words[1:])
    plan = CachePlan(success_ttl=3600, denial_ttl=1800, prefetch=Prefetch(0), stale=0.0)
    if words and words[0].isdigit():
        ttl = number(line, words.pop(0), 1, _LONGEST_TTL)
        plan = replace(plan, success_ttl=ttl, denial_ttl=ttl)
    plan = replace(plan, zones=own_zones(line, words, draft.zones))
    for option in line.block:
        match option.words[0]:
            case "success" | "denial" as kind:
                plan = _capacity(plan, option, kind)
            case "prefetch":
                plan = replace(plan, prefetch=_prefetch(option))
            case "serve_stale":
                plan = _stale(plan, option)
            case "disable":
                plan = _disable(draft, plan, option)
            case _:
                draft.unknown(option, "cache")
    draft.cache = plan


def _capacity(plan: CachePlan, line: Line, kind: str) -> CachePlan:
    given = arguments(line, 1, 3, f"{kind} CAPACITY [TTL] [MINTTL]")
    entries = number(line, given[0], 0, 1_000_000)
    most = number(line, given[1], 0, _LONGEST_TTL) if len(given) > 1 else None
    least = number(line, given[2], 0, _LONGEST_TTL) if len(given) > 2 else 0
    if most is not None and least > most:
        raise line.bad(f"{kind}: the least TTL {least} is above the TTL {most}")
    if kind == "success":
        ttl = plan.success_ttl if most is None else most
        return replace(plan, success_entries=entries, success_ttl=ttl, success_least=least)
    ttl = plan.denial_ttl if most is None else most
    return replace(plan, denial_entries=entries, denial_ttl=ttl, denial_least=least)


def _disable(draft: Draft, plan: CachePlan, line: Line) -> CachePlan:
    kind, *names = arguments(line, 1, None, "disable success|denial [ZONES...]")
    if kind not in ("success", "denial"):
        raise line.bad(f"disable: {kind!r} cannot be right; give success or denial")
    off = own_zones(line, names, draft.zones)
    if kind == "success":
        return replace(plan, success_off=plan.success_off + off)
    return replace(plan, denial_off=plan.denial_off + off)


def _prefetch(line: Line) -> Prefetch:
    given = arguments(line, 1, 3, "prefetch AMOUNT [DURATION] [PERCENTAGE%]")
    amount = number(line, given[0], 0, 1_000_000)
    window = duration(line, given[1]) if len(given) > 1 else 60.0
    percent = given[2] if len(given) > 2 else "10%"
    if not percent.endswith("%"):
        raise line.bad(f"prefetch: {percent!r} is no percentage; write it like 10%")
    return Prefetch(amount, window, number(line, percent[:-1], 10, 90) / 100)


def _stale(plan: CachePlan, line: Line) -> CachePlan:
    given = arguments(line, 0, 2, "serve_stale [DURATION] [immediate|verify]")
    seconds = duration(line, given[0]) if given else 3600.0
    mode = given[1] if len(given) > 1 else "immediate"
    if mode not in ("immediate", "verify"):
        raise line.bad(f"serve_stale: {mode!r} cannot be right; give immediate or verify")
    return replace(plan, stale=seconds, stale_first=mode == "immediate")


def _forward(draft: Draft, line: Line) -> None:
    zone, *to = arguments(line, 2, None, "forward FROM TO...")
    (wire, *more) = zones(line, [zone])
    if more:
        raise line.bad(f"{zone!r} is several zones; give one that ends at a dot of the reverse name")
    plan = Forward(_upstreams(draft, line, to), wire)
    for option in line.block:
        plan = _forward_option(draft, plan, option)
    draft.forwards.append(plan)


def _forward_option(draft: Draft, plan: Forward, line: Line) -> Forward:
    match line.words[0]:
        case "policy":
            (policy,) = arguments(line, 1, 1, "policy random|round_robin|sequential")
            return replace(plan, policy=_policy(line, policy))
        case "max_concurrent":
            (text,) = arguments(line, 1, 1, "max_concurrent MAX")
            return replace(plan, max_concurrent=number(line, text, 1, 100_000))
        case "max_fails":
            (text,) = arguments(line, 1, 1, "max_fails NUMBER")
            return replace(plan, max_fails=number(line, text, 0, 1000))
        case "except":
            given = arguments(line, 1, None, "except ZONES...")
            return replace(plan, excluded=plan.excluded + zones(line, given))
        case "expire":
            (text,) = arguments(line, 1, 1, "expire DURATION")
            return replace(plan, expire=duration(line, text))
        case "health_check":
            text, *_ = arguments(line, 1, None, "health_check DURATION")
            return replace(plan, health_interval=max(0.05, duration(line, text)))
        case "force_tcp":
            return replace(plan, force_tcp=True)
        case "prefer_udp":
            return plan
        case _:
            draft.unknown(line, "forward")
            return plan


def _policy(line: Line, text: str) -> Policy:
    for known in get_args(Policy):
        if text == known:
            return known  # type: ignore[no-any-return]  # get_args knows no types
    raise line.bad(f"policy: {text!r} cannot be right; give random, round_robin or sequential")


def _upstreams(draft: Draft, line: Line, texts: list[str]) -> tuple[Endpoint, ...]:
    """An upstream that wants encryption is never asked without it: it is left out, or nothing is used."""
    found: list[Endpoint] = []
    for text in texts:
        if encrypted(text):
            draft.problems.append(line.problem(f"forward: {text} wants encryption, not supported; left out"))
        elif text == SYSTEM_FILE:
            found += draft.system
        elif text.startswith("/"):
            raise line.bad(f"forward: only {SYSTEM_FILE} is read for upstreams, not {text}")
        else:
            found.append(_upstream(line, text.removeprefix("dns://")))
    if not found and SYSTEM_FILE not in texts:
        raise line.bad("forward: no upstream is left that can be asked; give one like 10.0.0.1")
    if len(texts) > MOST_UPSTREAMS:
        raise line.bad(f"forward: {len(texts)} upstreams are given, at most {MOST_UPSTREAMS} are taken")
    return tuple(dict.fromkeys(found))


def _upstream(line: Line, text: str) -> Endpoint:
    try:
        return parse_endpoint(text)
    except ValueError as error:
        raise line.bad(f"forward: {error}") from None


def _log(draft: Draft, line: Line) -> None:
    draft.log = True


def _loadbalance(draft: Draft, line: Line) -> None:
    draft.loadbalance = True


PLUGINS: Final[dict[str, Callable[[Draft, Line], None]]] = {
    "kubernetes": _kubernetes,
    "cache": _cache,
    "forward": _forward,
    "hosts": put_hosts,
    "rewrite": put_rewrite,
    "log": _log,
    "loadbalance": _loadbalance,
}
