"""What load balancers are told of a Service's endpoints on each node (S-62)."""

from __future__ import annotations

from balancer import FAMILIES, HERE, LEAVING, READY, THERE, Balancer, taken, until
from livelab import Pods

from tulle.kube.resources import SERVICES


async def test_s62_ready_endpoints_of_the_node(balancer: Balancer) -> None:
    """In both families, as they come and go; one that is leaving does not count (trap 10)."""
    await balancer.create()
    for node in (HERE, THERE):
        for family in FAMILIES:
            await balancer.until_ready(node, 0, family)
    await balancer.endpoints(("10.9.0.1", HERE, READY), ("10.9.0.2", HERE, READY), ("10.9.0.3", THERE, READY))
    await balancer.endpoints(("fd00::9", THERE, READY), family="IPv6")
    for node, family, count in ((HERE, "IPv4", 2), (THERE, "IPv4", 1), (HERE, "IPv6", 0), (THERE, "IPv6", 1)):
        answer = await balancer.until_ready(node, count, family)
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for method, path in (("GET", "/any/path?x"), ("OPTIONS", "/"), ("POST", "/"), ("HEAD", "/healthz")):
        answer = balancer.ask(HERE, "IPv4", path, method)
        assert (answer.status, bool(answer.body)) == (200, method != "HEAD")
    await balancer.endpoints(("10.9.0.1", HERE, LEAVING), ("10.9.0.2", HERE, READY))
    await balancer.until_ready(HERE, 1)
    await balancer.endpoints(("10.9.0.1", HERE, LEAVING))
    await balancer.until_ready(HERE, 0)


async def test_s62_a_pod_that_is_about_to_end(balancer: Balancer, pods: Pods) -> None:
    """With the controllers' own slices: ready, then leaving, and still there."""
    await balancer.create(selector={"app": "behind"})
    await pods.create("behind", "sleep", "infinity", nodeName=HERE, terminationGracePeriodSeconds=60)
    await pods.ready("behind")
    for family in FAMILIES:
        await balancer.until_ready(HERE, 1, family)
        await balancer.until_ready(THERE, 0, family)
    await pods.delete("behind", grace=60)
    for family in FAMILIES:
        await balancer.until_ready(HERE, 0, family)
    assert (await pods.until("behind", bool)) is not None, "it has not ended"
    await pods.delete("behind", grace=0)


async def test_s62_the_listener_goes_with_what_asked_for_it(balancer: Balancer) -> None:
    """S-74: policy and port change live; at last the Service goes."""
    await balancer.create()
    first = balancer.port
    await balancer.until_ready(HERE, 0)
    await balancer.change(externalTrafficPolicy="Cluster")
    await until(lambda: balancer.is_closed(first))
    other = first - 1 if first > 30000 else first + 1  # which nobody else in this lab has
    await balancer.change(externalTrafficPolicy="Local", healthCheckNodePort=other)
    assert balancer.port == other
    await balancer.until_ready(HERE, 0)
    assert balancer.is_closed(first)
    await balancer.change(type="ClusterIP", externalTrafficPolicy=None, healthCheckNodePort=None)
    await until(lambda: balancer.is_closed(other))
    await balancer.change(type="LoadBalancer", externalTrafficPolicy="Local")
    await balancer.until_ready(THERE, 0)
    port = balancer.port
    await balancer.client.delete(SERVICES, "lb", balancer.namespace)
    await until(lambda: balancer.is_closed(port))


async def test_s62_a_port_that_is_taken(balancer: Balancer, pods: Pods) -> None:
    """It is told once, and the check works as soon as the port is free."""
    await balancer.create()
    port = balancer.port
    await balancer.until_ready(HERE, 0)
    await balancer.client.delete(SERVICES, "lb", balancer.namespace)
    await until(lambda: balancer.is_closed(port))
    with taken(balancer.nodes[HERE], port):
        await balancer.create(healthCheckNodePort=port)
        message = await pods.event("lb", "FailedToStartServiceHealthcheck")
        assert message.startswith(f"spec.healthCheckNodePort: node {HERE}: cannot listen at ")
        await balancer.until_ready(THERE, 0)
    await balancer.until_ready(HERE, 0)
    events = await pods.events("lb")
    assert sum(e.startswith("FailedToStartServiceHealthcheck") for e in events) == 1
