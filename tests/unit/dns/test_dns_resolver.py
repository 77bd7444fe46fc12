"""From packet to answer: readiness, aliases, what fails, what is counted and logged (D-09, D-23, D-30)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from dns_cluster import answer, catalog, packet, service

from tulle.dns import wire
from tulle.dns.cluster.zone import Zone
from tulle.dns.configuration.config import Config
from tulle.dns.outside.forward import Forwarder, Resolved
from tulle.dns.outside.records import Record
from tulle.dns.resolver import Resolver, Transport
from tulle.dns.statistics import Statistics

UDP = Transport("udp", "1", wire.UDP_LIMIT)
CLIENT = ("10.244.1.5", 4242)
WEB = "web.default.svc.cluster.local"
OUT = "out.default.svc.cluster.local"
ZONE = catalog(service("default/web", "10.96.0.5"), service("default/out", external="www.example.com")).zone


class Upstream(Forwarder):
    """Resolves everything to ``result``, or fails with it."""

    result: Resolved | Exception

    async def resolve(self, name: bytes, qtype: int) -> Resolved:
        await asyncio.sleep(0)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def resolver(zone: Zone = ZONE, result: Resolved | Exception | None = None) -> Resolver:
    statistics = Statistics(53, zone.options.zone)
    upstream = Upstream(Config(()), statistics.registry)
    upstream.result = result or Resolved(wire.SERVFAIL, ())
    made = Resolver(zone, upstream, statistics)
    made.ready = True
    return made


async def asked(made: Resolver, data: bytes) -> list[bytes]:
    said: list[bytes] = []
    made.handle(data, UDP, CLIENT, said.append)
    for _ in range(10):
        await asyncio.sleep(0)
    assert made.open == 0
    return said


async def test_before_it_is_ready_the_zone_answers_servfail() -> None:
    made = resolver()
    made.ready = False
    [said] = await asked(made, packet(WEB, "A"))
    assert answer(said)[:2] == (wire.SERVFAIL, [])
    made.ready = True
    [said] = await asked(made, packet(WEB, "A"))
    assert answer(said)[:2] == (0, ["A 10.96.0.5"])


async def test_d23_without_upstreams_others_names_are_refused() -> None:
    [said] = await asked(resolver(), packet("www.example.com", "A"))
    assert said[3] & 0xF == wire.REFUSED


TARGET = wire.name("www.example.com")
FOUND = Resolved(0, (Record(0, TARGET, wire.A, 60, b"\xc0\0\2\1"),))


@pytest.mark.parametrize(
    ("result", "rcode", "answers"),
    [
        (FOUND, wire.NOERROR, ["A 192.0.2.1", "CNAME www.example.com."]),
        (Resolved(wire.NXDOMAIN, ()), wire.NXDOMAIN, ["CNAME www.example.com."]),
        (Resolved(wire.SERVFAIL, ()), wire.SERVFAIL, ["CNAME www.example.com."]),
        (RuntimeError("broken"), wire.SERVFAIL, ["CNAME www.example.com."]),
    ],
)
async def test_d09_an_alias_is_answered_whatever_its_target_does(
    result: Any, rcode: int, answers: list[str]
) -> None:
    [said] = await asked(resolver(result=result), packet(OUT, "A"))
    assert answer(said)[:2] == (rcode, answers)


async def test_packets_that_deserve_no_answer_get_none() -> None:
    made = resolver()
    assert not made.handle(b"short", UDP, CLIENT, lambda _: pytest.fail("it was answered"))
    assert not made.handle(packet(WEB, "A", flags=wire.QR), UDP, CLIENT, lambda _: pytest.fail("answered"))


async def test_d30_queries_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    made = resolver()
    made.log_queries = True
    with caplog.at_level(logging.INFO):
        await asked(made, packet(WEB, "A", size=1232))
        await asked(made, packet("no.cluster.local", 65280))
    text = made._statistics.registry.text()
    own = 'server="dns://:53",zone="cluster.local.",view=""'
    assert f'coredns_dns_requests_total{{{own},proto="udp",family="1",type="A"}} 1' in text
    assert f'coredns_dns_requests_total{{{own},proto="udp",family="1",type="other"}} 1' in text
    assert f'coredns_dns_responses_total{{{own},rcode="NXDOMAIN",plugin="kubernetes"}} 1' in text
    assert f"coredns_dns_request_duration_seconds_count{{{own}}} 2" in text
    assert caplog.messages[0].startswith(
        f'10.244.1.5:4242 - 7 "A IN {WEB}. udp 58 false 1232" NOERROR qr,aa,rd,ra 74 '
    )
