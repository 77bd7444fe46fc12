"""A whole cluster for the tests of this folder: made once, and gone without a trace at the end."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from secrets import token_hex

import pytest
import pytest_asyncio
from balancer import Balancer, until
from livelab import NODES, Cluster, Pods, cluster

from tulle.errors import NotFound
from tulle.kube.client import Client
from tulle.kube.resources import NAMESPACES, PODS, SERVICES


@pytest.fixture(scope="session", autouse=True)
def needs_kubectl() -> None:
    """A test that is left out would be a test that nobody misses."""
    if not shutil.which("kubectl"):
        pytest.exit("kubectl is missing: these tests need 1.28 or newer (kubernetes.io/docs/tasks/tools)", 2)


@pytest.fixture(scope="session")
def lab() -> Iterator[Cluster]:
    """Two nodes, shared by all tests: they must leave it as they found it."""
    with cluster(nodes=NODES) as shared:
        yield shared


@pytest_asyncio.fixture
async def client(lab: Cluster) -> AsyncIterator[Client]:
    async with lab.lab.client() as administrator:
        yield administrator


@pytest_asyncio.fixture
async def pods(client: Client) -> AsyncIterator[Pods]:
    namespace = f"t-{token_hex(4)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    await client.create(NAMESPACES, body)
    yield Pods(client, namespace)
    await client.delete(NAMESPACES, namespace)
    for pod in (await client.list(PODS, namespace)).items:
        with suppress(NotFound):  # the namespace's end takes its Pods with it
            await client.delete(PODS, pod["metadata"]["name"], namespace, grace_period_seconds=0)


@pytest_asyncio.fixture
async def balancer(lab: Cluster, client: Client, pods: Pods) -> AsyncIterator[Balancer]:
    made = Balancer(lab, client, pods.namespace)
    await made.find_nodes()
    yield made
    if any(s["metadata"]["name"] == "lb" for s in (await client.list(SERVICES, pods.namespace)).items):
        await client.delete(SERVICES, "lb", pods.namespace)
    if made.port:
        await until(lambda: made.is_closed(made.port))
