"""Cluster DNS on the nodes of a lab, as Pods use it (D-02, D-22, D-23, D-24)."""

from __future__ import annotations

import asyncio
import json
import os
import signal

from livelab import NODES, Cluster, Pods, tulle_lab

from tulle.lab import processes

FOREVER = ("sleep", "infinity")


async def addresses(pods: Pods, name: str, asked: str, family: int) -> set[str]:
    """What the machine's own resolver library makes of it within the Pod."""
    found = await pods.run(name, "getent", f"ahostsv{family}", asked)
    return {line.split()[0] for line in found.splitlines()}


async def test_d22_d23_names_of_the_cluster_and_of_the_world(lab: Cluster, pods: Pods) -> None:
    await pods.create("own", *FOREVER)
    await pods.create("host", *FOREVER, hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")
    topology = lab.lab.topology
    for name in ("own", "host"):  # D-24: the node's network reaches the cluster DNS too
        await pods.ready(name)
        for dns, world in zip(topology.dns, topology.world.addresses, strict=True):
            for asked in ("kube-dns.kube-system", "kube-dns.kube-system.svc.cluster.local."):
                assert await addresses(pods, name, asked, dns.version) == {str(dns)}
            assert await addresses(pods, name, "www.world.example", dns.version) == {str(world.ip)}


async def test_d02_the_api_is_found_by_its_name(pods: Pods) -> None:
    await pods.create("p", *FOREVER)
    await pods.ready("p")
    found = await addresses(pods, "p", "kubernetes.default", 4)
    assert found == {(await pods.run("p", "printenv", "KUBERNETES_SERVICE_HOST")).strip()}


async def test_a_killed_dns_is_started_again(lab: Cluster, pods: Pods) -> None:
    await pods.create("p", *FOREVER, nodeName="node-1")
    await pods.ready("p")
    dns = lab.process("node-1", "dns")
    os.kill(dns.pid, signal.SIGKILL)
    await processes.watch(dns.pid)
    overview = json.loads(lab.tulle("status", "-o", "json", check=False).stdout)
    shown = {process["what"]: process["alive"] for process in overview["nodes"][0]["processes"]}
    assert (overview["healthy"], shown["dns"], shown["kubelet"]) == (False, False, True)
    await asyncio.to_thread(tulle_lab, "up", f"--name={lab.name}", f"--nodes={NODES}")
    wanted = {str(lab.lab.topology.dns[0])}
    assert await addresses(pods, "p", "kube-dns.kube-system", lab.lab.topology.dns[0].version) == wanted
