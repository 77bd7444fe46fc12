"""Events on objects that cannot be right: each is told once, and very many not at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace

import pytest
from aiohttp import web

from tulle.agent.bgp.report import BgpReport
from tulle.agent.report import MOST_EVENTS, Reporter
from tulle.kube.client import Client
from tulle.kube.config import ClusterConfig
from tulle.kube.informer import Informer
from tulle.kube.resources import BGP_PEER, NODE, Key
from tulle.model.bgp import BGPPeer
from tulle.model.objects import ObjectMeta
from tulle.pod_to_service.plan import Problem as ObjectProblem


@pytest.fixture
async def told(unused_tcp_port: int) -> AsyncIterator[list[str]]:
    """The names of objects that Events were made on, by an API that takes all of them."""
    names: list[str] = []

    async def take(request: web.Request) -> web.Response:
        event = await request.json()
        names.append(event["involvedObject"]["name"])
        return web.json_response(event)

    app = web.Application()
    app.router.add_post("/api/v1/namespaces/{namespace}/events", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    yield names
    await runner.cleanup()


@pytest.fixture
async def client(unused_tcp_port: int) -> AsyncIterator[Client]:
    async with Client(ClusterConfig(f"http://127.0.0.1:{unused_tcp_port}")) as opened:
        yield opened


async def test_of_very_many_the_rest_comes_later(told: list[str], client: Client) -> None:
    reporter = Reporter(client, "n1")
    names = [f"s{number:03}" for number in range(MOST_EVENTS + 1)]
    problems = [ObjectProblem("Service", ("default", name), "spec", "is wrong") for name in names]
    assert not await reporter.objects(problems)
    assert told == names[:-1]
    assert await reporter.objects(problems)
    assert told == names
    assert await reporter.objects(problems[1:])
    assert await reporter.objects([])
    assert told == names


async def test_a_bgp_peer_that_comes_again_may_take_its_time(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A session that has only begun is not called down yet."""
    now = 100.0
    monkeypatch.setattr("tulle.agent.bgp.report.time", SimpleNamespace(monotonic=lambda: now))
    peers = Informer(client, BGP_PEER)
    report = BgpReport(client, "n1", peers, Informer(client, NODE))
    peer = BGPPeer(ObjectMeta(name="router"))
    running = asyncio.create_task(report.run())

    async def tell(known: Mapping[Key, BGPPeer]) -> None:
        peers.preload(known)
        report.tell({name: (None, ()) for _, name in known}, {})
        for _ in range(5):
            await asyncio.sleep(0)

    await tell({("", "router"): peer})
    await tell({})
    now += 60
    await tell({("", "router"): peer})
    assert "router" not in caplog.text
    now += 60
    await tell({("", "router"): peer})
    assert "BGPPeer router: BIRD has not begun yet" in caplog.text
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
