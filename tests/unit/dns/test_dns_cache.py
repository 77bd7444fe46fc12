"""The cache on a fake clock: how long answers are kept, and what is given when they are over."""

from __future__ import annotations

from dataclasses import replace

import pytest
import upstream_messages as m
from upstreams import CACHE, PLAN, Asked, Client, address, client, config, silence, upstream

from tulle.dns import wire
from tulle.dns.configuration.config import CachePlan, Prefetch
from tulle.dns.names import to_wire
from tulle.dns.outside import cache as caching
from tulle.dns.outside.cache import Cache, make_entry
from tulle.dns.outside.response import read

FAST = replace(PLAN, patience=0.01, deadline=0.05)
LATER = replace(CACHE, stale_first=True)


def _ttl(answer: bytes) -> int:
    """Of the first record, which has the question's name."""
    end = 12 + answer.index(b"\0", 12) - 12 + 5
    return int.from_bytes(answer[end + 6 : end + 10])


def _denial(asked: Asked) -> list[bytes]:
    return [asked.reply(authority=[m.soa(ttl=600, minimum=20)], rcode=wire.NXDOMAIN)]


async def test_the_ttl_ages_and_ends() -> None:
    async with upstream(lambda asked: [asked.reply(m.a(ttl=10))]) as up, client(config(up)) as dns:
        ages = []
        for passed in (0, 0.5, 0.5, 8.9, 0.1):
            dns.clock.now += passed
            ages.append(_ttl(await dns.ask("example.com")))
        assert ages == [10, 10, 9, 1, 10]
        assert len(up.asked) == 2


LIVES = [
    ("capped", CachePlan(), m.a(ttl=300), 30),
    ("its own", CachePlan(success_ttl=3600), m.a(ttl=300), 300),
    ("at least", CachePlan(success_ttl=3600, success_least=400), m.a(ttl=300), 400),
    ("not to be kept", CachePlan(success_least=5), m.a(ttl=0), 0),
    ("no cache for the zone", CachePlan(zones=(to_wire("other.example"),)), m.a(), 0),
    ("switched off", CachePlan(success_off=(to_wire("com"),)), m.a(), 0),
    ("no cache", None, m.a(), 0),
]


@pytest.mark.parametrize(("name", "plan", "record", "life"), LIVES, ids=[row[0] for row in LIVES])
def test_how_long_an_answer_is_kept(name: str, plan: CachePlan | None, record: m.Record, life: int) -> None:
    asked = m.question("example.com")
    assert make_entry(asked, read(m.answer(asked, [record]), asked), plan, 0.0).life == life


async def test_an_answer_that_is_not_kept_has_its_own_ttls() -> None:
    async with upstream() as up, client(config(up, cache=None)) as dns:
        assert [_ttl(await dns.ask("example.com")) for _ in range(2)] == [300, 300]
        assert len(up.asked) == 2


async def test_denials_are_kept_by_the_minimum_of_the_soa() -> None:
    async with upstream(_denial) as up, client(config(up)) as dns:
        for passed, times in ((0, 1), (19, 1), (1, 2)):
            dns.clock.now += passed
            answer = await dns.ask("nothing.example.com")
            assert (answer[3] & 0xF, len(up.asked)) == (wire.NXDOMAIN, times)
        assert dns.metric('coredns_cache_hits_total{type="denial"}') == 1
        assert dns.metric('coredns_cache_entries{type="denial"}') == 1


async def test_a_failure_of_the_upstream_is_kept_for_seconds() -> None:
    async with upstream(lambda asked: [asked.reply(rcode=wire.SERVFAIL)]) as up, client(config(up)) as dns:
        for passed, times in ((0, 1), (4, 1), (1, 2)):
            dns.clock.now += passed
            assert (await dns.ask("example.com"))[3] & 0xF == wire.SERVFAIL
            assert len(up.asked) == times


async def test_types_are_kept_apart_and_spellings_together() -> None:
    async with upstream() as up, client(config(up)) as dns:
        for name, qtype in (("a.example", wire.A), ("A.EXAMPLE", wire.A), ("a.example", wire.AAAA)):
            answer = await dns.ask(name, qtype)
            assert answer[12 : 12 + len(name) + 6] == m.question(name, qtype)
        assert len(up.asked) == 2


async def test_what_is_over_is_given_when_no_upstream_answers() -> None:
    async with upstream() as up, client(config(up, plan=FAST)) as dns:
        while (await dns.ask("example.com"))[3] & 0xF != wire.NOERROR:
            pass
        up.behave = silence
        for passed, ttl in ((31, 30), (3000, 30)):
            dns.clock.now += passed
            answer = await dns.ask("example.com")
            assert (answer[3] & 0xF, _ttl(answer)) == (wire.NOERROR, ttl)
        assert dns.metric("coredns_cache_served_stale_total") == 2
        dns.clock.now += 1000
        assert (await dns.ask("example.com"))[3] & 0xF == wire.SERVFAIL, "over for longer than an hour"


async def test_what_is_over_is_not_replaced_by_a_failure() -> None:
    async with upstream() as up, client(config(up)) as dns:
        await dns.ask("example.com")
        dns.clock.now += 31
        up.behave = lambda asked: [asked.reply(rcode=wire.SERVFAIL)]
        assert (await dns.ask("example.com"))[3] & 0xF == wire.NOERROR
        up.behave = _denial
        assert (await dns.ask("example.com"))[3] & 0xF == wire.NXDOMAIN, "a denial is an answer"


async def test_with_immediate_what_is_over_is_given_first() -> None:
    async with upstream() as up, client(config(up, cache=LATER)) as dns:
        await dns.ask("example.com")
        dns.clock.now += 31
        assert _ttl(dns.send("example.com").result()) == 30
        await up.until_asked(2)


async def test_a_popular_name_is_fetched_again_before_it_is_over() -> None:
    async with upstream() as up, client(config(up)) as dns:
        await dns.ask("example.com")
        await dns.ask("example.com")
        dns.clock.now += 28
        assert _ttl(await dns.ask("example.com")) == 2
        await up.until_asked(2)
        while _ttl(await dns.ask("example.com")) != 30:
            pass
        assert dns.metric("coredns_cache_prefetch_total") == 1
        assert dns.metric("coredns_cache_misses_total") == 1


async def test_a_popular_name_stays_popular_when_it_is_renewed() -> None:
    plan = replace(CACHE, prefetch=Prefetch(3))
    async with upstream() as up, client(config(up, cache=plan)) as dns:
        for passed in (0, 0, 28):
            dns.clock.now += passed
            await dns.ask("example.com")
        await dns.ask("example.com")
        await up.until_asked(2)
        while _ttl(dns.send("example.com", ident=1).result()) != 30:
            await dns.ask("example.com")
        dns.clock.now += 28
        await dns.ask("example.com")
        await up.until_asked(3)


UNPOPULAR = [
    ("asked once", Prefetch(), [28.0]),
    ("never", Prefetch(0), [0.0, 0.0, 28.0]),
    ("not near the end", Prefetch(), [0.0, 20.0]),
    ("asked with a gap", Prefetch(2, 10.0), [0.0, 28.0]),
]


@pytest.mark.parametrize(("name", "prefetch", "waits"), UNPOPULAR, ids=[row[0] for row in UNPOPULAR])
async def test_other_names_are_not_fetched_again(name: str, prefetch: Prefetch, waits: list[float]) -> None:
    plan = replace(CACHE, prefetch=prefetch)
    async with upstream() as up, client(config(up, cache=plan)) as dns:
        await dns.ask("example.com")
        for passed in waits:
            dns.clock.now += passed
            await dns.ask("example.com")
        await dns.ask("other.example.com")
        assert len(up.asked) == 2
        assert dns.metric("coredns_cache_prefetch_total") == 0


async def _fill(dns: Client, names: int) -> None:
    for number in range(names):
        await dns.ask(f"n{number}.example.com")


async def test_the_cache_is_bounded_and_denials_push_out_no_answer() -> None:
    plan = replace(CACHE, success_entries=3, denial_entries=2)
    async with upstream() as up, client(config(up, cache=plan)) as dns:
        await _fill(dns, 3)
        await dns.ask("n0.example.com")
        await dns.ask("n3.example.com")
        up.behave = _denial
        for number in range(5):
            await dns.ask(f"x{number}.example.com")
        assert dns.metric('coredns_cache_entries{type="success"}') == 3
        assert dns.metric('coredns_cache_entries{type="denial"}') == 2
        up.behave = address
        before = len(up.asked)
        for number in (0, 2, 3):
            await dns.ask(f"n{number}.example.com")
        assert len(up.asked) == before, "the name asked for longest ago went, n1"


def test_the_cache_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "MOST_BYTES", 20_000)
    kept = Cache(lambda: 0.0)
    for number in range(50):
        asked = m.question(f"n{number}.example.com", wire.TXT)
        text = (m.POINTER, wire.TXT, 60, bytes(5000))
        entry = make_entry(asked, read(m.answer(asked, [text]), asked), CachePlan(), 0.0)
        kept.put((asked[:-4], wire.TXT, False, 0), entry)
    assert len(kept) == 3


def test_an_answer_too_large_to_keep_is_passed_on() -> None:
    asked = m.question("example.com", wire.TXT)
    text = (m.POINTER, wire.TXT, 60, bytes(40_000))
    assert make_entry(asked, read(m.answer(asked, [text]), asked), CachePlan(), 0.0).life == 0
