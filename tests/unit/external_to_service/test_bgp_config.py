"""BIRD's configuration: what is in it, and that nothing of an object can be more in it than a value."""

from __future__ import annotations

import re
import subprocess
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any

import pytest
from bgp_objects import HERE, peer, peer_object
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from tests.effort import effort

from tulle.external_to_service.bgp.config import name_of, render, symbol
from tulle.external_to_service.bgp.peers import Peer, judge_all, judge_password
from tulle.external_to_service.bgp.routes import Routes

ROUTES = Routes(
    pod_cidrs=(ip_network("10.244.1.0/24"), ip_network("fd00:10:244:1::/64")),
    load_balancers=(ip_network("198.51.100.7/32"), ip_network("2001:db8::7/128")),
)
_IP = r"[0-9a-f.:]+"
_SYMBOL = r"'(to\.)?(peer\.[a-z0-9.-]{1,50}|hash\.[0-9a-f]{40})'"
_NUMBER = r"\d+"
LINES = [
    r"# Written by tulle agent; changes are lost\.",
    r'log "state/bird\.log" 1048576 "state/bird\.log\.old" \{[a-z, ]+\};',
    r'timeformat protocol "%Y-%m-%dT%H:%M:%SZ";',
    rf"router id {_IP};",
    rf"graceful restart wait {_NUMBER};",
    r"protocol device \{",
    r"protocol static (pods|vips)[46] \{",
    r"  ipv[46];",
    rf"  route {_IP}/{_NUMBER} blackhole;",
    r"filter 'to\.(peer\.[a-z0-9.-]{1,50}|hash\.[0-9a-f]{40})' \{",
    r'  if ! \(proto = "(pods|vips)[46]"( \|\| proto = "(pods|vips)[46]")*\) then reject;',
    rf"  bgp_community\.add\(\({_NUMBER},{_NUMBER}\)\);",
    rf"  bgp_large_community\.add\(\({_NUMBER},{_NUMBER},{_NUMBER}\)\);",
    r"  accept;",
    rf"protocol bgp {_SYMBOL} \{{",
    rf"  local {_IP} port 179 as {_NUMBER};",
    rf"  neighbor {_IP} port {_NUMBER} as {_NUMBER};",
    rf"  (direct|multihop|multihop {_NUMBER});",
    r"  strict bind yes;",
    rf"  (hold|keepalive|connect delay|connect retry|error forget) time {_NUMBER};",
    rf"  error wait time {_NUMBER}, {_NUMBER};",
    rf"  graceful restart (on|off|time {_NUMBER});",
    r'  password "[ !#-~]{1,80}";',
    rf"  ipv[46] \{{ import none; export filter {_SYMBOL}; next hop address {_IP}; \}};",
    r"\}",
    r"",
]
GRAMMAR = re.compile("|".join(f"(?:{line})" for line in LINES))


def text_of(*peers: Peer, **passwords: str) -> str:
    return render(IPv4Address("172.30.1.11"), peers, passwords, ROUTES, "state/bird.log")


def accepted(text: str, tmp_path: Path) -> str:
    """What BIRD says against it."""
    file = tmp_path / "bird.conf"
    file.write_text(text)
    done = subprocess.run(
        ["/usr/sbin/bird", "-p", "-c", str(file)], capture_output=True, text=True, timeout=30
    )
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize(
    ("spec", "lines"),
    [
        ({}, ["  direct;", "  graceful restart time 120;", "  neighbor 172.30.1.1 port 179 as 64513;"]),
        ({"ebgpMultihop": 3}, ["  multihop 3;"]),
        ({"peerASN": 64512}, ["  multihop;"]),
        ({"gracefulRestart": False}, ["  graceful restart off;"]),
        ({"communities": ["65000:100"]}, ["  bgp_community.add((65000,100));"]),
        ({"communities": ["4200000000:1:2"]}, ["  bgp_large_community.add((4200000000,1,2));"]),
        ({"announce": ["PodCIDRs"]}, ['  if ! (proto = "pods4" || proto = "pods6") then reject;']),
        ({"peerAddress": "fd00::1"}, ["  local fd00:172:30:1::b port 179 as 64512;"]),
        ({"connectRetry": 5}, ["  error wait time 5, 20;"]),
    ],
)
def test_what_is_asked_for_is_in_it(spec: dict[str, Any], lines: list[str], tmp_path: Path) -> None:
    text = text_of(peer(**spec), router="right one")
    assert not set(lines) - set(text.splitlines()), text
    assert '  password "right one";' in text
    assert not accepted(text, tmp_path)


def test_both_families_with_a_next_hop_each() -> None:
    text = text_of(peer())
    assert "ipv4 { import none; export filter 'to.peer.router'; next hop address 172.30.1.11; };" in text
    assert "ipv6 { import none; export filter 'to.peer.router'; next hop address fd00:172:30:1::b; };" in text
    assert "route 198.51.100.7/32 blackhole;" in text and "route 2001:db8::7/128 blackhole;" in text
    assert "password" not in text and "kernel" not in text


def test_symbols_tell_names_apart() -> None:
    names = ["router", "a.b-c", "x" * 50, "x" * 51, "x" * 52, "Upper", "a'b", "a b", ""]
    assert len({symbol(name) for name in names}) == len(names)
    assert all(len(symbol(name)) <= 60 for name in names)
    assert name_of(symbol("a.b-c")) == "a.b-c"


NASTY = st.text(max_size=40) | st.sampled_from(
    [
        "1.2.3.4; }",
        '"; protocol kernel { ipv4 { export all; }; }',
        "'",
        "#",
        "a\nb",
        "1:2",
        "fe80::1%x",
        "١:٢",
    ]
)
NUMBERS = st.integers(1, 3000) | st.integers(-5, 1 << 33)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "peerAddress": NASTY | st.ip_addresses().map(str),
        "sourceAddress": NASTY,
        "communities": st.lists(NASTY | st.from_regex(r"\d{1,5}(:\d{1,5}){1,2}", fullmatch=True), max_size=3),
        "announce": st.lists(NASTY | st.sampled_from(["PodCIDRs", "LoadBalancers"]), max_size=2),
        "nodeSelector": st.fixed_dictionaries({"matchLabels": st.dictionaries(NASTY, NASTY, max_size=1)}),
        "gracefulRestart": st.booleans(),
        **dict.fromkeys(
            ("peerASN", "localASN", "peerPort", "holdTime", "keepaliveTime", "connectRetry"), NUMBERS
        ),
        **{n: NUMBERS | st.integers(0, 255) for n in ("restartTime", "ebgpMultihop")},
    },
)


@given(names=st.lists(NASTY, max_size=3, unique=True), specs=st.lists(SPECS, min_size=3), password=NASTY)
def test_no_text_of_an_object_becomes_syntax(names: list[str], specs: list[Any], password: str) -> None:
    objects = [peer_object(name, **spec) for name, spec in zip(names, specs, strict=False)]
    judged = judge_all(objects, HERE)
    peers = [found for found, _ in judged.values() if found]
    passwords = {} if judge_password(password) else dict.fromkeys(names, password)
    text = render(HERE.router_id, peers, passwords, ROUTES, "state/bird.log")
    for line in text.split("\n"):
        assert GRAMMAR.fullmatch(line), line


@given(
    name=NASTY,
    password=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=80),
    spec=SPECS.filter(lambda s: not {"peerAddress", "sourceAddress", "nodeSelector"} & s.keys()),
)
@effort(0.4, suppress_health_check=list(HealthCheck))
def test_bird_reads_whatever_is_rendered(name: str, password: str, spec: Any, tmp_path: Path) -> None:
    peers = [found for found, _ in judge_all([peer_object(name, **spec)], HERE).values() if found]
    passwords = {} if judge_password(password) else {name: password}
    text = render(HERE.router_id, peers, passwords, ROUTES, "state/bird.log")
    assert not accepted(text, tmp_path), text
