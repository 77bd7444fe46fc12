"""``hosts`` and ``rewrite``: names that the configuration answers itself, or as others."""

from __future__ import annotations

import pytest
import upstream_messages as m

from tulle.dns import wire
from tulle.dns.configuration.config import Config, Hosts, Rewrite, Scope
from tulle.dns.names import ROOT, to_wire
from tulle.dns.outside.forward import Forwarder
from tulle.dns.outside.local import HostsTable, rewrite
from tulle.dns.outside.records import expand
from tulle.telemetry.metrics import Registry

ADDRESSES = {
    to_wire("a.example"): (bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])),
    to_wire("b.example"): (bytes(16),),
}
HOSTS = Hosts(
    ADDRESSES, zones=(to_wire("example"), to_wire("in-addr.arpa")), through=(to_wire("in-addr.arpa"),)
)

ANSWERS = [
    ("a.example", wire.A, (wire.NOERROR, [bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])])),
    ("A.Example", wire.A, (wire.NOERROR, [bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])])),
    ("b.example", wire.AAAA, (wire.NOERROR, [bytes(16)])),
    ("a.example", wire.AAAA, (wire.NOERROR, [])),
    ("c.example", wire.A, (wire.NXDOMAIN, [])),
    ("1.0.0.10.in-addr.arpa", wire.PTR, (wire.NOERROR, [to_wire("a.example")])),
    ("9.0.0.10.in-addr.arpa", wire.PTR, None),
    ("a.elsewhere", wire.A, None),
]


@pytest.mark.parametrize(("name", "qtype", "expected"), ANSWERS)
def test_hosts(name: str, qtype: int, expected: tuple[int, list[bytes]] | None) -> None:
    answer = HostsTable(HOSTS).answer(m.parsed(name, qtype)[0])
    if expected is None:
        assert answer is None
    else:
        assert answer is not None
        assert (answer[3] & 0xF, [one.data for one in expand(answer)]) == expected


RULES = (
    Rewrite("exact", "old.example", "new.example"),
    Rewrite("suffix", ".corp.example", ".default.svc.cluster.local"),
    Rewrite("exact", "one.example", "two.example", stop=False),
    Rewrite("exact", "two.example", "three.example"),
)

REWRITES = [
    ("Old.Example", "new.example"),
    ("x.old.example", None),
    ("web.Corp.example", "web.default.svc.cluster.local"),
    ("one.example", "three.example"),
    ("other.example", None),
    ("x" * 60 + "." + ("y" * 60 + ".") * 2 + "z" * 50 + ".corp.example", None),
]


@pytest.mark.parametrize(("name", "expected"), REWRITES)
def test_rewrite(name: str, expected: str | None) -> None:
    query, raw = m.parsed(name, wire.AAAA, ident=9, edns=True)
    changed = rewrite(RULES, query, raw)
    if expected is None:
        assert changed is None
        return
    assert changed is not None
    assert changed.raw == m.query(expected, wire.AAAA, ident=9, edns=True)
    reread = wire.parse_query(changed.raw, wire.UDP_LIMIT)
    assert (changed.query.name, changed.query.question_length) == (reread.name, reread.question_length)


def test_the_answer_is_one_to_what_was_asked() -> None:
    query, raw = m.parsed("Web.corp.example")
    changed = rewrite(RULES, query, raw)
    assert changed is not None
    inner = "web.default.svc.cluster.local"
    cname = (m.POINTER, wire.CNAME, 5, b"\x01x\xc0\x10")
    tail = (b"\x01x\xc0\x10", wire.A, 5, bytes(4))
    whole = changed.restore(m.answer(m.question(inner), [cname, tail], [m.soa(owner=b"\xc0\x10")], ident=7))
    assert whole[12 : 12 + query.question_length] == m.question("Web.corp.example")
    first, second, soa = expand(whole)
    assert first.owner.lower() == to_wire("web.corp.example")
    assert first.data == second.owner == to_wire("x.default.svc.cluster.local")
    assert (soa.section, soa.owner) == (1, to_wire("default.svc.cluster.local"))
    assert whole[:2] == raw[:2]


async def test_the_forwarder_offers_both_by_the_scope_of_the_name() -> None:
    corp = Scope(to_wire("corp.example"), rewrites=RULES)
    forwarder = Forwarder(Config((Scope(ROOT, hosts=HOSTS), corp)), Registry())
    try:
        assert forwarder.rewrite(*m.parsed("web.corp.example")) is not None
        assert forwarder.rewrite(*m.parsed("old.example")) is None, "the rule stands in another scope"
        assert forwarder.hosts(m.parsed("a.example")[0]) is not None
        assert forwarder.hosts(m.parsed("a.corp.example")[0]) is None
        answers: list[bytes] = []
        forwarder.answer(*m.parsed("a.example"), answers.append)
        assert [one[7] for one in answers] == [2]
    finally:
        await forwarder.close()
