"""The subset of a Corefile: what it means, what is reported, and what makes it unusable (D-20, D-26)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.dns.configuration import corefile
from tulle.dns.configuration.config import BadSource, Endpoint, Forward, Prefetch, Rewrite
from tulle.dns.names import ROOT, to_wire

SYSTEM = (Endpoint("192.0.2.53"), Endpoint("2001:db8::53"))

IN_TREE = """\
.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
        max_concurrent 1000
    }
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
"""


def test_the_corefile_of_kubeadm_is_understood_whole_d20() -> None:
    config = corefile.read(IN_TREE, SYSTEM)
    (scope,) = config.scopes
    assert config.problems == ()
    assert scope.zone == ROOT
    assert scope.forwards == (Forward(SYSTEM, max_concurrent=1000),)
    assert scope.cache is not None
    assert (scope.cache.success_ttl, scope.cache.denial_ttl) == (30, 30)
    assert not scope.cache.keeps(to_wire("a.cluster.local"), denial=True)
    assert scope.cache.keeps(to_wire("example.com"), denial=True)
    assert scope.loadbalance
    assert not scope.log
    cluster = config.cluster
    assert cluster is not None
    assert (cluster.pods, cluster.ttl, cluster.endpoint_pod_names) == ("insecure", 30, False)
    assert cluster.zones[0] == to_wire("cluster.local")
    assert cluster.through == (to_wire("in-addr.arpa"), to_wire("ip6.arpa"))


def test_the_stub_zone_that_the_e2e_test_writes_d26() -> None:
    text = IN_TREE + "acme.local:53 {\n    forward . 10.1.2.3\n}\n"
    config = corefile.read(text, SYSTEM)
    scope = config.scope(to_wire("widget.acme.local"))
    assert scope is not None
    assert scope.forwards == (Forward((Endpoint("10.1.2.3"),)),)
    other = config.scope(to_wire("acme.example"))
    assert other is not None
    assert other.zone == ROOT


FORWARDS = [
    ("forward . 10.0.0.1:5353", Forward((Endpoint("10.0.0.1", 5353),))),
    ("forward . dns://10.0.0.1", Forward((Endpoint("10.0.0.1"),))),
    ("forward . [fd00::1]:5353 fd00:0::2", Forward((Endpoint("fd00::1", 5353), Endpoint("fd00::2")))),
    ("forward . fe80::1%eth0", Forward((Endpoint("fe80::1%eth0"),))),
    ("forward Corp.Example. 10.0.0.1", Forward((Endpoint("10.0.0.1"),), to_wire("corp.example"))),
    (
        "forward . 10.0.0.1 {\n policy round_robin\n max_concurrent 5\n max_fails 3\n expire 1m30s\n"
        " except a.example b.example\n force_tcp\n health_check 500ms\n}",
        Forward(
            (Endpoint("10.0.0.1"),),
            excluded=(to_wire("a.example"), to_wire("b.example")),
            policy="round_robin",
            max_concurrent=5,
            expire=90.0,
            force_tcp=True,
            health_interval=0.5,
            max_fails=3,
        ),
    ),
    ("forward . 10.0.0.1 {\n prefer_udp\n}  # a comment", Forward((Endpoint("10.0.0.1"),))),
]


@pytest.mark.parametrize(("lines", "expected"), FORWARDS)
def test_forward(lines: str, expected: Forward) -> None:
    config = corefile.read(f". {{\n{lines}\n}}", SYSTEM)
    assert config.problems == ()
    assert config.scopes[0].forwards == (expected,)


def test_except_leaves_a_name_to_nobody() -> None:
    config = corefile.read(". {\nforward . 10.0.0.1 {\nexcept corp.example\n}\n}")
    assert config.scopes[0].forward(to_wire("a.corp.example")) is None
    assert config.scopes[0].forward(to_wire("a.example")) is not None


def test_cache_options() -> None:
    options = "success 100 50 5\ndenial 10 20\nprefetch 3 30s 20%\nserve_stale 10m verify"
    text = f". {{\ncache 60 example.com {{\n{options}\n}}\n}}"
    plan = corefile.read(text).scopes[0].cache
    assert plan is not None
    assert (plan.success_entries, plan.success_ttl, plan.success_least) == (100, 50, 5)
    assert (plan.denial_entries, plan.denial_ttl, plan.denial_least) == (10, 20, 0)
    assert plan.prefetch == Prefetch(3, 30.0, 0.2)
    assert (plan.stale, plan.stale_first) == (600.0, False)
    assert plan.zones == (to_wire("example.com"),)


def test_cache_without_numbers_has_the_limits_of_coredns() -> None:
    plan = corefile.read(". {\ncache {\nserve_stale\n}\n}").scopes[0].cache
    assert plan is not None
    assert (plan.success_ttl, plan.denial_ttl, plan.prefetch.amount) == (3600, 1800, 0)
    assert (plan.stale, plan.stale_first) == (3600.0, True)


def test_no_cache_is_no_cache() -> None:
    assert corefile.read(". {\nforward . 10.0.0.1\n}").scopes[0].cache is None


def test_hosts_and_rewrite() -> None:
    text = """. {
        hosts example.com {
            10.0.0.1 a.example.com b.example.com
            fd00::1 a.example.com
            ttl 60
            no_reverse
            fallthrough
        }
        rewrite name exact Old.example new.example.
        rewrite continue name suffix .corp.example .svc.cluster.local answer auto
        rewrite name short.example long.example
    }"""
    config = corefile.read(text)
    (scope,) = config.scopes
    assert config.problems == ()
    assert scope.hosts is not None
    assert scope.hosts.addresses[to_wire("a.example.com")] == (b"\x0a\0\0\1", b"\xfd" + bytes(14) + b"\1")
    assert (scope.hosts.ttl, scope.hosts.reverse) == (60, False)
    assert scope.hosts.through == (to_wire("example.com"),)
    assert scope.rewrites == (
        Rewrite("exact", "old.example", "new.example"),
        Rewrite("suffix", ".corp.example", ".svc.cluster.local", stop=False),
        Rewrite("exact", "short.example", "long.example"),
    )


ZONES = [
    ("10.0.0.0/8", ["10.in-addr.arpa"]),
    ("10.96.0.0/15", ["96.10.in-addr.arpa", "97.10.in-addr.arpa"]),
    ("fd00::/8", ["d.f.ip6.arpa"]),
    ("a.example,b.example:5353", ["a.example", "b.example"]),
    ("dns://c.example:53 :54", ["c.example", "."]),
]


@pytest.mark.parametrize(("words", "zones"), ZONES)
def test_zones_of_a_server_block(words: str, zones: list[str]) -> None:
    config = corefile.read(f"{words} {{\nforward . 10.0.0.1\n}}")
    assert [scope.zone for scope in config.scopes] == [to_wire(zone) for zone in zones]


REPORTED = [
    (". {\n\n  autopath @kubernetes\n}", 3, "plugin 'autopath' is not supported"),
    (". {\n template IN A {\n  match x\n  fallthrough\n }\n}", 2, "plugin 'template' is not supported"),
    (". {\n forward . tls://9.9.9.9 10.0.0.1\n}", 2, "wants encryption"),
    (". {\n forward . 10.0.0.1 {\n  tls_servername x\n }\n}", 3, "option 'tls_servername'"),
    (". {\n kubernetes cluster.local {\n  kubeconfig x\n }\n}", 3, "option 'kubeconfig'"),
    (". {\n cache {\n  keepttl\n }\n}", 3, "option 'keepttl'"),
    (". {\n hosts /etc/hosts {\n }\n}", 2, "the file /etc/hosts is not read"),
    (". {\n rewrite ttl exact a 5\n}", 2, "rewrite: 'ttl' is not supported"),
    (". {\n rewrite name regex (.*) {1}\n}", 2, "only 'name exact|suffix FROM TO'"),
    (". {\n}\ntls://. {\n}", 3, "only plain DNS is served"),
    (".:53 {\n}\n.:54 {\n}", 3, "a zone is served once"),
]


@pytest.mark.parametrize(("text", "line", "reason"), REPORTED)
def test_what_is_not_supported_is_reported_with_its_line(text: str, line: int, reason: str) -> None:
    (problem,) = corefile.read(text).problems
    assert (problem.source, problem.line, problem.fatal) == ("Corefile", line, False)
    assert reason in problem.reason
    assert f"line {line}" in str(problem)


BAD = [
    ("", 0, "no server block"),
    ("# nothing\n", 0, "no server block"),
    ("tls://. {\n}", 0, "no server block is left"),
    (". {\n errors\n", 1, "is not closed"),
    (". {\n health {\n errors\n}", 1, "is not closed"),
    (". {\n}\n}", 3, "closes nothing"),
    (".\nerrors", 1, "a server block is opened by"),
    (". {\n errors }\n}", 2, "on a line of its own"),
    (". {\n a {\n b {\n c {\n}\n}\n}\n}", 4, "nested deeper"),
    ('. {\n log "x\n}', 2, "quote is not closed"),
    ("{\n}", 1, "begins with its zones"),
    ("(snippet) {\n}", 1, "snippets are not supported"),
    (".:99999 {\n}", 1, "1 to 65535"),
    ("a..b {\n}", 1, "is no zone"),
    ("10.0.0.0/33 {\n}", 1, "is no zone"),
    ("x" * 64 + " {\n}", 1, "1 to 63"),
    (". {\n}\n. {\n}", 3, "served already, since line 1"),
    (". {\n cache\n cache\n}", 3, "cache stands twice"),
    (". {\n forward .\n}", 2, "forward has 1 arguments"),
    (". {\n forward . 10.0.0.300\n}", 2, "is no address"),
    (". {\n forward . 10.0.0.1:0\n}", 2, "the port"),
    (". {\n forward . [fd00::1\n}", 2, "is no address"),
    (". {\n forward . tls://9.9.9.9\n}", 2, "no upstream is left"),
    (". {\n forward . /etc/other.conf\n}", 2, "only /etc/resolv.conf"),
    (". {\n forward . " + " ".join(f"10.0.0.{n}" for n in range(16)) + "\n}", 2, "at most 15"),
    (". {\n forward . 10.0.0.1 {\n  policy best\n }\n}", 3, "random, round_robin or sequential"),
    (". {\n forward . 10.0.0.1 {\n  max_concurrent 0\n }\n}", 3, "a number from 1"),
    (". {\n forward . 10.0.0.1 {\n  expire soon\n }\n}", 3, "no duration"),
    (". {\n kubernetes cluster.local {\n  pods maybe\n }\n}", 3, "disabled, insecure or verified"),
    (". {\n kubernetes cluster.local {\n  ttl 3601\n }\n}", 3, "0 to 3600"),
    (". {\n cache {\n  success many\n }\n}", 3, "a number from 0"),
    (". {\n cache {\n  denial 10 5 6\n }\n}", 3, "above the TTL"),
    (". {\n cache {\n  prefetch 1 1m 10\n }\n}", 3, "no percentage"),
    (". {\n cache {\n  serve_stale 1h later\n }\n}", 3, "immediate or verify"),
    (". {\n cache {\n  disable all\n }\n}", 3, "success or denial"),
    (". {\n hosts {\n  10.0.0 a\n }\n}", 3, "hosts: "),
    (". {\n hosts {\n  10.0.0.1\n }\n}", 3, "ADDRESS NAME"),
    (". {\n rewrite name a\n}", 2, "rewrite: "),
    (". {\n rewrite name exact a..b c\n}", 2, "rewrite: "),
]


@pytest.mark.parametrize(("text", "line", "reason"), BAD)
def test_what_cannot_be_right_names_line_and_reason(text: str, line: int, reason: str) -> None:
    with pytest.raises(BadSource) as caught:
        corefile.read(text, SYSTEM)
    problem = caught.value.problem
    assert (problem.line, problem.fatal) == (line, True)
    assert reason in problem.reason


@given(st.text(alphabet='{}. \n"#:/a1%()cachefordw', max_size=200))
def test_any_text_is_read_or_refused_never_more(text: str) -> None:
    try:
        corefile.read(text, SYSTEM)
    except BadSource as error:
        assert error.problem.reason
