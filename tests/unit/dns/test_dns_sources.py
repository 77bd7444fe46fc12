"""resolv.conf, the ConfigMap kube-dns, and how they come together with a Corefile (D-23, D-26)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tulle.dns.configuration import kubedns, resolv
from tulle.dns.configuration.config import BadSource, Endpoint, Forward, parse_endpoint
from tulle.dns.configuration.sources import Sources, follow
from tulle.dns.names import to_wire

COREFILE = "ConfigMap kube-system/coredns, Corefile"


def test_nameservers_of_resolv_conf_in_their_order_each_once() -> None:
    text = "# x\nsearch a\nnameserver 10.0.0.2\nnameserver  fd00::1 \nnameserver 10.0.0.2\noptions ndots:5\n"
    assert resolv.parse(text) == ((Endpoint("10.0.0.2"), Endpoint("fd00::1")), ())


RESOLV_PROBLEMS = [
    ("nameserver 10.96.0.10\nnameserver 10.0.0.1", 1, "is this server itself"),
    ("nameserver 10.0.0.1\nnameserver nonsense", 2, "is no address"),
    ("nameserver 10.0.0.1\n\nnameserver 10.0.0.1:53", 3, "without ports"),
]


@pytest.mark.parametrize(("text", "line", "reason"), RESOLV_PROBLEMS)
def test_a_nameserver_that_cannot_be_asked_is_left_out(text: str, line: int, reason: str) -> None:
    found, (problem,) = resolv.parse(text, own=frozenset({Endpoint("10.96.0.10")}))
    assert found == (Endpoint("10.0.0.1"),)
    assert problem.line == line
    assert reason in problem.reason


ENDPOINTS = [
    ("10.0.0.1", Endpoint("10.0.0.1", 53)),
    ("10.0.0.1:5353", Endpoint("10.0.0.1", 5353)),
    ("fd00:0:0::1", Endpoint("fd00::1", 53)),
    ("[fd00::1]", Endpoint("fd00::1", 53)),
    ("[fd00::1]:5353", Endpoint("fd00::1", 5353)),
]


@pytest.mark.parametrize(("text", "endpoint"), ENDPOINTS)
def test_upstream_addresses(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text", ["", "a.example", "10.0.0.1:", "10.0.0.1:x", "[fd00::1]53", "1.2.3.4:65536", "::1:"]
)
def test_upstream_addresses_that_cannot_be_right(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no address|cannot be right"):
        parse_endpoint(text)


def test_stub_domains_and_upstreams_of_kube_dns_d26() -> None:
    found = kubedns.parse(
        {
            "stubDomains": '{"Acme.local.": ["1.2.3.4", "[fd00::1]:5353"]}',
            "upstreamNameservers": '["8.8.8.8", "8.8.4.4:54"]',
            "federations": "whatever",
        }
    )
    assert found.stubs == {"acme.local": (Endpoint("1.2.3.4"), Endpoint("fd00::1", 5353))}
    assert found.upstreams == (Endpoint("8.8.8.8"), Endpoint("8.8.4.4", 54))


@pytest.mark.parametrize("data", [{}, {"stubDomains": ""}, {"upstreamNameservers": " \n"}])
def test_nothing_in_kube_dns_is_nothing(data: dict[str, str]) -> None:
    assert kubedns.parse(data) == kubedns.KubeDns()


KUBE_DNS_BAD = [
    ("stubDomains", "{", 1, "no valid JSON"),
    ("stubDomains", '{\n "a": ["1.2.3.4"],\n "b" ["1.2.3.4"]\n}', 3, "no valid JSON"),
    ("stubDomains", "[]", 1, "Expected `object`"),
    ("stubDomains", '{"a": "1.2.3.4"}', 1, "Expected `array`"),
    ("stubDomains", '{"a": []}', 1, "a: the list is empty"),
    ("stubDomains", '{"a": ["nonsense"]}', 1, "a: 'nonsense' is no address"),
    ("stubDomains", '{"a..b": ["1.2.3.4"]}', 1, "1 to 63"),
    ("stubDomains", '{"": ["1.2.3.4"]}', 1, "an empty name"),
    ("upstreamNameservers", '"8.8.8.8"', 1, "Expected `array`"),
    ("upstreamNameservers", "[8]", 1, "Expected `str`"),
    ("upstreamNameservers", '["8.8.8.8:0"]', 1, "the port"),
    ("upstreamNameservers", '["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4"]', 1, "at most 3"),
]


@pytest.mark.parametrize(("key", "value", "line", "reason"), KUBE_DNS_BAD)
def test_kube_dns_values_that_cannot_be_right(key: str, value: str, line: int, reason: str) -> None:
    with pytest.raises(BadSource) as caught:
        kubedns.parse({key: value})
    problem = caught.value.problem
    assert key in problem.source
    assert (problem.line, problem.fatal) == (line, True)
    assert reason in problem.reason


def _upstreams(sources: Sources, name: str) -> tuple[str, ...]:
    scope = sources.config.scope(to_wire(name))
    assert scope is not None
    forward = scope.forward(to_wire(name))
    assert forward is not None
    return tuple(upstream.address for upstream in forward.upstreams)


def test_without_configmaps_all_goes_to_the_nameservers_of_the_node() -> None:
    sources = Sources()
    sources.set_resolv("nameserver 10.0.0.1")
    assert _upstreams(sources, "example.com") == ("10.0.0.1",)
    sources.set_resolv("nameserver 10.0.0.2")
    assert _upstreams(sources, "example.com") == ("10.0.0.2",)


def test_kube_dns_is_put_on_a_corefile_and_taken_off_again() -> None:
    sources = Sources()
    sources.set_resolv("nameserver 10.0.0.1")
    sources.set_corefile(". {\n forward . /etc/resolv.conf\n}\ncorp.example {\n forward . 10.0.0.2\n}")
    sources.set_kube_dns(
        {"stubDomains": '{"acme.local": ["10.0.0.3"]}', "upstreamNameservers": '["10.0.0.4"]'}
    )
    names = ("example.com", "a.corp.example", "a.acme.local")
    assert [_upstreams(sources, name) for name in names] == [("10.0.0.4",), ("10.0.0.2",), ("10.0.0.3",)]
    sources.set_kube_dns(None)
    assert [_upstreams(sources, name) for name in names] == [("10.0.0.1",), ("10.0.0.2",), ("10.0.0.1",)]


def test_the_last_good_of_each_source_goes_on_counting() -> None:
    sources = Sources()
    sources.set_resolv("nameserver 10.0.0.1")
    sources.set_corefile(". {\n forward . 10.0.0.2\n bogus\n}")
    assert [(p.source, p.line) for p in sources.config.problems] == [(COREFILE, 3)]
    sources.set_corefile(". {\n forward . nonsense\n}")
    assert _upstreams(sources, "example.com") == ("10.0.0.2",)
    assert [(p.source, p.line, p.fatal) for p in sources.config.problems] == [(COREFILE, 2, True)]
    sources.set_kube_dns({"upstreamNameservers": "nonsense"})
    sources.set_resolv(None)
    assert _upstreams(sources, "example.com") == ("10.0.0.2",)
    assert len(sources.config.problems) == sources.failures == 3
    sources.set_corefile(None)
    sources.set_kube_dns(None)
    sources.set_resolv("nameserver 10.0.0.5")
    assert sources.config.problems == ()
    assert _upstreams(sources, "example.com") == ("10.0.0.5",)


def test_no_configmap_makes_the_server_ask_itself() -> None:
    sources = Sources(own=frozenset({Endpoint("10.96.0.10")}))
    sources.set_resolv("nameserver 10.0.0.1")
    sources.set_corefile(". {\n forward . 10.96.0.10 10.0.0.2 10.96.0.10:54\n}")
    assert _upstreams(sources, "example.com") == ("10.0.0.2", "10.96.0.10")
    assert ["10.96.0.10:53 is this server itself" in p.reason for p in sources.config.problems] == [True]
    sources.set_corefile(None)
    sources.set_kube_dns({"stubDomains": '{"acme.local": ["10.96.0.10"]}'})
    assert _upstreams(sources, "a.acme.local") == ()
    assert len(sources.config.problems) == 1


def test_no_nameserver_is_a_problem_but_no_failure() -> None:
    sources = Sources(own=frozenset({Endpoint("10.96.0.10")}))
    sources.set_resolv("nameserver 10.96.0.10")
    assert [problem.fatal for problem in sources.config.problems] == [False, False]
    assert sources.config.scopes[0].forwards == (Forward(()),)


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    seen: asyncio.Queue[str | None] = asyncio.Queue()
    task = asyncio.create_task(follow(path, seen.put_nowait, interval=0.005))
    try:
        assert await seen.get() is None
        path.write_text("nameserver 10.0.0.1\n")
        while (text := await seen.get()) != "nameserver 10.0.0.1\n":
            assert text == ""
        path.unlink()
        assert await seen.get() is None
    finally:
        task.cancel()
