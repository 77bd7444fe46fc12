"""Upstreams that are dead, slow, wrong or hostile; the client always gets an answer, and soon (D-23)."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from typing import cast

import pytest
import upstream_messages as m
from upstreams import HASTY, IMPATIENT, PLAN, Asked, address, client, config, silence, upstream

from tulle.dns import wire
from tulle.dns.configuration.config import Config, Endpoint, Scope
from tulle.dns.names import to_wire


def _rcode(answer: bytes) -> int:
    return answer[3] & 0xF


async def test_a_good_upstream() -> None:
    async with upstream() as up, client(config(up)) as dns:
        answer = await dns.ask("Example.COM", ident=4711)
        assert answer == m.answer(b"\x07Example\x03COM\0\0\1\0\1", [m.a(ttl=30)], ident=4711), (
            "the client's id and spelling, and no longer than the cache keeps it (D-10)"
        )
        (asked,) = up.asked
        assert asked.question == m.question("example.com")
        assert asked.edns


@pytest.mark.parametrize("force_tcp", [False, True])
async def test_an_upstream_over_ipv6(force_tcp: bool) -> None:
    plan = replace(PLAN, force_tcp=force_tcp)
    async with upstream(host="::1") as up, client(config(up, plan=plan)) as dns:
        assert _rcode(await dns.ask("example.com")) == wire.NOERROR


async def test_an_edns_client_gets_an_opt_of_ours() -> None:
    async with upstream() as up, client(config(up)) as dns:
        answer = await dns.ask("example.com", edns=True)
        assert answer[11] == 1
        assert answer.endswith(b"\0" + wire.OPT.to_bytes(2) + wire.UDP_LIMIT.to_bytes(2) + bytes(6))


async def test_ports_and_ids_change_from_query_to_query() -> None:
    async with upstream() as up, client(config(up)) as dns:
        for number in range(40):
            await dns.ask(f"n{number}.example.com")
        assert len({asked.sender[1] for asked in up.asked}) > 8
        assert len({asked.ident for asked in up.asked}) > 30


@pytest.fixture
def nobody(closed_port: int) -> Endpoint:
    """Refuses every packet."""
    return Endpoint("127.0.0.1", closed_port)


async def test_a_closed_port_is_servfail_at_once(nobody: Endpoint) -> None:
    async with client(config(nobody)) as dns, asyncio.timeout(10):
        assert _rcode(await dns.ask("example.com")) == wire.SERVFAIL


async def test_no_upstream_is_servfail_at_once() -> None:
    async with client(config()) as dns:
        assert _rcode(dns.send("example.com").result()) == wire.SERVFAIL


async def test_the_next_upstream_is_asked_when_one_is_silent_or_closed(nobody: Endpoint) -> None:
    async with (
        upstream(silence) as dead,
        upstream() as up,
        client(config(nobody, dead, up, plan=IMPATIENT)) as dns,
    ):
        assert _rcode(await dns.ask("example.com")) == wire.NOERROR
        assert dead.asked


async def test_silence_is_servfail_at_the_deadline_d23() -> None:
    async with upstream(silence) as dead, client(config(dead, plan=HASTY)) as dns:
        assert _rcode(await dns.ask("example.com")) == wire.SERVFAIL


async def test_a_silent_upstream_is_asked_a_second_time() -> None:
    """The first query may have been lost."""
    async with upstream(silence) as dead, client(config(dead, plan=IMPATIENT)) as dns:
        waiting = dns.send("example.com")
        await dead.until_asked(2)
        assert not waiting.done()


async def test_a_silent_upstream_is_probed_before_the_deadline() -> None:
    async with upstream(silence) as dead, client(config(dead, plan=IMPATIENT)) as dns:
        waiting = dns.send("example.com")
        await dead.until_probed()
        assert not waiting.done()


async def test_a_dead_upstream_is_found_alive_again() -> None:
    fast = replace(PLAN, max_fails=1)
    with _reusable() as holder, _reusable() as revived:
        holder.bind(("127.0.0.1", 0))
        place = holder.getsockname()
        holder.connect(place)  # so that it takes nothing from others: they are refused
        async with client(config(Endpoint(*place), plan=fast)) as dns:
            while not dns.metric("coredns_forward_healthcheck_broken_total"):
                assert _rcode(await dns.ask("example.com")) == wire.SERVFAIL
            revived.bind(place)
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(lambda: _Revived(), sock=revived)
            try:
                while _rcode(await dns.ask("example.com")) != wire.NOERROR:
                    pass
            finally:
                transport.close()


def _reusable() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


class _Revived(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        self.transport.sendto(Asked(data, sender, tcp=False).reply(m.a()), sender)


async def test_an_answer_that_comes_after_the_next_was_asked_still_counts() -> None:
    async with (
        upstream(silence) as slow,
        upstream(silence) as dead,
        client(config(slow, dead, plan=IMPATIENT)) as dns,
    ):
        future = dns.send("example.com")
        await dead.until_asked(1)
        first = slow.asked[0]
        slow.transport.sendto(first.reply(m.a()), first.sender)
        assert _rcode(await future) == wire.NOERROR


def _wrong_id(asked: Asked) -> list[bytes]:
    return [asked.reply(m.a("192.0.2.66"), ident=asked.ident ^ 1), asked.reply(m.a())]


def _wrong_question(asked: Asked) -> list[bytes]:
    return [asked.reply(m.a("192.0.2.66"), asked=m.question("exampel.com")), asked.reply(m.a())]


def _garbage(asked: Asked) -> list[bytes]:
    return [b"", b"x", asked.data, asked.data[:2] + b"\xff" * 90, asked.reply(m.a())[:-1], asked.reply(m.a())]


def _other_capitals(asked: Asked) -> list[bytes]:
    return [asked.reply(m.a(), asked=asked.question.replace(b"example", b"eXaMpLe"))]


@pytest.mark.parametrize("behave", [_wrong_id, _wrong_question, _garbage, _other_capitals])
async def test_only_the_right_answer_counts(behave: object) -> None:
    async with upstream(behave) as up, client(config(up)) as dns:  # type: ignore[arg-type]
        answer = await dns.ask("example.com")
        assert answer.endswith(m.record(m.a(ttl=30)))


async def test_what_others_send_to_the_port_asked_from_does_not_count() -> None:
    async with upstream(silence) as up, client(config(up)) as dns:
        future = dns.send("example.com")
        await up.until_asked(1)
        asked = up.asked[0]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spoofer:
            spoofer.sendto(asked.reply(m.a("192.0.2.66")), asked.sender)
        up.transport.sendto(asked.reply(m.a()), asked.sender)
        assert (await future).endswith(m.record(m.a(ttl=30)))


async def test_a_truncated_answer_is_fetched_over_tcp() -> None:
    many = [m.a(f"192.0.2.{n}") for n in range(200)]

    def behave(asked: Asked) -> list[bytes]:
        return [asked.reply(*many) if asked.tcp else asked.reply(flags=wire.QR | wire.TC)]

    async with upstream(behave) as up, client(config(up)) as dns:
        answer = await dns.ask("example.com")
        assert int.from_bytes(answer[6:8]) == 200
        assert [asked.tcp for asked in up.asked] == [False, True]


@pytest.mark.parametrize(
    "reply",
    [
        lambda asked: None,
        lambda asked: [b"x"],
        lambda asked: [asked.reply(m.a(), ident=asked.ident ^ 1)],
        lambda asked: [asked.reply(m.a(), asked=m.question("exampel.com"))],
        lambda asked: [asked.reply(flags=wire.QR | wire.TC)],
    ],
)
async def test_nonsense_over_tcp_is_a_failure(reply: object) -> None:
    def behave(asked: Asked) -> list[bytes] | None:
        return reply(asked) if asked.tcp else [asked.reply(flags=wire.QR | wire.TC)]  # type: ignore[operator,no-any-return]

    async with upstream(behave) as up, client(config(up)) as dns:
        assert _rcode(await dns.ask("example.com")) == wire.SERVFAIL


async def test_force_tcp_never_asks_over_udp() -> None:
    async with upstream() as up, client(config(up, plan=replace(PLAN, force_tcp=True))) as dns:
        assert _rcode(await dns.ask("example.com")) == wire.NOERROR
        assert [asked.tcp for asked in up.asked] == [True]


@pytest.mark.parametrize("rcode", [wire.SERVFAIL, wire.REFUSED])
async def test_the_next_upstream_is_asked_when_one_cannot_tell(rcode: int) -> None:
    async with (
        upstream(lambda asked: [asked.reply(rcode=rcode)]) as broken,
        upstream() as up,
        client(config(broken, up)) as dns,
    ):
        assert _rcode(await dns.ask("example.com")) == wire.NOERROR
        assert len(broken.asked) == 1


async def test_what_all_upstreams_say_is_passed_on() -> None:
    async with upstream(lambda asked: [asked.reply(rcode=wire.REFUSED)]) as up, client(config(up)) as dns:
        assert _rcode(await dns.ask("example.com")) == wire.REFUSED
        assert len(up.asked) == 1


async def test_an_upstream_without_edns_is_asked_without() -> None:
    def behave(asked: Asked) -> list[bytes]:
        return [asked.reply(rcode=wire.FORMERR)] if asked.edns else [asked.reply(m.a())]

    async with upstream(behave) as up, client(config(up)) as dns:
        assert _rcode(await dns.ask("example.com")) == wire.NOERROR
        assert [asked.edns for asked in up.asked] == [True, False]


async def test_the_same_question_is_asked_once_for_all_who_wait() -> None:
    async with upstream(silence) as up, client(config(up)) as dns:
        futures = [dns.send(name, ident=n) for n, name in enumerate(["example.com", "EXAMPLE.com"] * 20)]
        other = dns.send("example.com", wire.AAAA)
        await up.until_asked(2)
        for asked in up.asked[:2]:
            up.transport.sendto(asked.reply(m.a()), asked.sender)
        answers = await asyncio.gather(*futures)
        assert [int.from_bytes(answer[:2]) for answer in answers] == list(range(40))
        assert {answer[12:24] for answer in answers} == {b"\x07example\x03com", b"\x07EXAMPLE\x03com"}
        await other


async def test_more_than_the_limit_is_refused_at_once_and_takes_no_memory() -> None:
    async with upstream(silence) as up, client(config(up, plan=replace(HASTY, max_concurrent=10))) as dns:
        waiting = [dns.send(f"n{n % 5}.example.com") for n in range(10)]
        shed = [dns.send(f"m{n}.example.com") for n in range(500)]
        assert {_rcode(future.result()) for future in shed} == {wire.SERVFAIL}
        assert not any(future.done() for future in waiting)
        assert dns.metric("coredns_forward_max_concurrent_rejects_total") == 500
        assert {_rcode(answer) for answer in await asyncio.gather(*waiting)} == {wire.SERVFAIL}
        up.behave = address
        while _rcode(await dns.ask("example.com")) != wire.NOERROR:
            assert dns.metric("coredns_forward_max_concurrent_rejects_total") == 500


@pytest.mark.parametrize(
    ("policy", "first"), [("sequential", {0}), ("round_robin", {0, 1}), ("random", {0, 1})]
)
async def test_policies(policy: str, first: set[int]) -> None:
    plan = replace(PLAN, policy=policy)  # type: ignore[arg-type]
    async with upstream() as one, upstream() as two, client(config(one, two, plan=plan)) as dns:
        for number in range(32):
            await dns.ask(f"n{number}.example.com")
        assert {n for n, up in enumerate((one, two)) if up.asked} == first
        if policy == "round_robin":
            assert len(one.asked) == len(two.asked) == 16


async def test_stub_domains_go_to_their_own_upstreams_d26() -> None:
    async with upstream() as one, upstream() as two:
        made = config(one).with_stubs({"acme.local": (two.endpoint,)})
        async with client(made) as dns:
            await dns.ask("a.acme.local")
            await dns.ask("a.example.com")
            assert [up.asked[0].question for up in (two, one)] == [
                m.question("a.acme.local"),
                m.question("a.example.com"),
            ]


@pytest.mark.parametrize("qtype", [251, 252])
async def test_zone_transfers_are_refused(qtype: int) -> None:
    async with upstream() as up, client(config(up)) as dns:
        assert _rcode(dns.send("example.com", qtype).result()) == wire.REFUSED


async def test_a_name_of_no_scope_is_refused() -> None:
    async with client(Config((Scope(to_wire("acme.local")),))) as dns:
        assert _rcode(dns.send("example.com").result()) == wire.REFUSED


async def test_a_new_configuration_counts_at_once_and_disturbs_no_query() -> None:
    async with upstream(silence) as old, upstream() as new, client(config(old)) as dns:
        waiting = dns.send("example.com")
        await old.until_asked(1)
        dns.forwarder.configure(config(new))
        assert _rcode(await dns.ask("example.org")) == wire.NOERROR
        asked = old.asked[0]
        old.transport.sendto(asked.reply(m.a("192.0.2.9")), asked.sender)
        assert (await waiting).endswith(bytes([192, 0, 2, 9]))
        assert (await dns.ask("example.com")).endswith(bytes([192, 0, 2, 1])), "of the new upstream"


async def test_who_waits_when_it_ends_gets_servfail() -> None:
    async with upstream(silence) as up:
        async with client(config(up)) as dns:
            just_sent = dns.send("example.org")
            waiting = dns.send("example.com")
            await up.until_asked(1)
        assert {_rcode(waiting.result()), _rcode(just_sent.result())} == {wire.SERVFAIL}


async def test_resolve_gives_the_records_of_an_external_name_d09() -> None:
    www = (m.POINTER, wire.CNAME, 100, b"\x03www\xc0\x0c")

    def behave(asked: Asked) -> list[bytes]:
        return [asked.reply(www, m.a(owner=b"\xc0\x29"))]

    async with upstream(behave) as up, client(config(up)) as dns:
        found = await dns.forwarder.resolve(to_wire("example.com"), wire.A)
        assert found.rcode == wire.NOERROR
        assert [(one.owner, one.type) for one in found.records] == [
            (to_wire("example.com"), wire.CNAME),
            (to_wire("www.example.com"), wire.A),
        ]
        assert found.records[0].data == to_wire("www.example.com")


async def test_resolve_says_when_there_is_nobody_to_ask() -> None:
    async with client(config()) as dns:
        assert await dns.forwarder.resolve(to_wire("example.com"), wire.A) == (wire.SERVFAIL, ())


async def test_what_is_counted_d30() -> None:
    async with upstream() as up, client(config(up)) as dns:
        await dns.ask("example.com")
        await dns.ask("example.com")
        to = up.endpoint
        assert dns.metric(f'coredns_forward_requests_total{{to="{to}"}}') == 1
        assert dns.metric(f'coredns_forward_responses_total{{rcode="NOERROR",to="{to}"}}') == 1
        assert dns.metric('coredns_cache_entries{type="success"}') == 1
        assert dns.metric('coredns_cache_hits_total{type="success"}') == 1
        assert dns.metric("coredns_cache_misses_total") == 1
