"""What probes and Prometheus are told of nodes in a whole cluster (S-63, S-71)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from balancer import FAMILIES, HERE, READY, THERE, Balancer, until
from livelab import Cluster
from tests.asking import ask
from tests.exposition import read, value

from tulle.kube.resources import NODES, SERVICES

TAINT = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "PreferNoSchedule"}
TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


async def test_s63_a_node_that_is_about_to_go(balancer: Balancer) -> None:
    """Load balancers send it nothing new; nobody restarts its agent."""
    address = balancer.addresses[HERE, "IPv6"]

    def eligible() -> bool:
        answer = ask(balancer.world, address, 10256, "/healthz")
        found: bool = answer.json["nodeEligible"]
        assert answer.status == (200 if found else 503)
        assert ask(balancer.world, address, 10256, "/livez").status == 200
        assert ask(balancer.world, balancer.addresses[THERE, "IPv6"], 10256, "/healthz").status == 200
        return found

    await until(eligible)
    before = (await balancer.client.get(NODES, HERE))["spec"].get("taints")
    await balancer.client.patch(NODES, HERE, {"spec": {"taints": [*(before or []), TAINT]}})
    try:
        await until(lambda: not eligible())
    finally:
        await balancer.client.patch(NODES, HERE, {"spec": {"taints": before}})
    await until(eligible)
    counted = metrics(balancer)
    for page, code in (("healthz", "200"), ("healthz", "503"), ("livez", "200")):
        assert value(counted, f"kubeproxy_proxy_{page}_total", code=code) > 0
    assert value(counted, "kubeproxy_proxy_livez_total", code="503") == 0


def metrics(balancer: Balancer) -> str:
    return ask(balancer.nodes[HERE], "127.0.0.1", 10249, "/metrics").body


def stamp(seconds: float = 0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


async def test_s71_how_long_a_change_takes(balancer: Balancer) -> None:
    """From the time that a slice says of itself; not if that is from before the agent, or told again."""
    name, prefix = "kubeproxy_network_programming_duration_seconds_count", "kubeproxy_sync_proxy_rules"
    await balancer.create()
    await balancer.endpoints(("10.9.0.1", HERE, READY))
    await balancer.until_ready(HERE, 1)
    before = metrics(balancer)
    changed = stamp()
    for count, then in ((2, changed), (3, changed), (4, stamp(86400)), (5, "yesterday")):
        told = [(f"10.9.0.{i}", HERE, READY) for i in range(count)]
        await balancer.endpoints(*told, **{TRIGGER: then})
        await balancer.until_ready(HERE, count)
    after = metrics(balancer)

    def grown(sample: str, **labels: str) -> float:
        return value(after, sample, **labels) - value(before, sample, **labels)

    assert grown(name, ip_family="IPv4") == 1
    assert grown(name, ip_family="IPv6") == 0
    assert grown(name.replace("count", "bucket"), ip_family="IPv4", le="59") == 1
    assert grown(f"{prefix}_endpoint_changes_total") >= 4
    assert value(after, f"{prefix}_endpoint_changes_pending") == 0
    assert value(after, f"{prefix}_service_changes_total") >= 1
    for family in FAMILIES:
        assert grown(f"{prefix}_duration_seconds_count", ip_family=family) >= 4
        assert grown("kubeproxy_sync_partial_proxy_rules_duration_seconds_count", ip_family=family) >= 4
        assert value(after, "kubeproxy_sync_full_proxy_rules_duration_seconds_count", ip_family=family) == 1
        queued, synced = (
            value(after, f"{prefix}_{w}_timestamp_seconds", ip_family=family) for w in ("last_queued", "last")
        )
        assert datetime.now(UTC).timestamp() - 60 < queued <= synced


async def test_s71_requests_to_the_api(lab: Cluster, balancer: Balancer) -> None:
    """Lists and watches, as dashboards show them."""
    text = metrics(balancer)
    hosts = {dict(labels)["host"] for _, labels in read(text)["rest_client_requests_total"].samples}
    [host] = hosts
    assert host.endswith(":6443")
    listed = value(text, "rest_client_requests_total", code="200", method="GET", host=host)
    assert listed >= 10, "lists and watches of Nodes, Pods, Namespaces, Services, EndpointSlices, …"
    timed = value(text, "rest_client_request_duration_seconds_count", verb="GET", host=host)
    assert timed >= listed


async def test_s71_services_that_a_local_policy_leaves_without_endpoints(balancer: Balancer) -> None:
    """Told by family and policy."""

    def lacking() -> dict[tuple[str, str], float]:
        text, sample = metrics(balancer), "kubeproxy_sync_proxy_rules_no_local_endpoints_total"
        return {
            (family, policy): value(text, sample, ip_family=family, traffic_policy=policy)
            for family in FAMILIES
            for policy in ("internal", "external")
        }

    before = lacking()
    await balancer.create()
    await balancer.endpoints(("10.9.0.1", THERE, READY))
    wanted = before | {("IPv4", "external"): before["IPv4", "external"] + 1}
    await until(lambda: lacking() == wanted)
    await balancer.change(internalTrafficPolicy="Local")
    wanted |= {("IPv4", "internal"): before["IPv4", "internal"] + 1}
    await until(lambda: lacking() == wanted)
    await balancer.client.delete(SERVICES, "lb", balancer.namespace)
    await until(lambda: lacking() == before)
