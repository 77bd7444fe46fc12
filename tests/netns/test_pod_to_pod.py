"""Every Pod reaches every Pod, on real links with the real programs (N-01 to N-08, N-20, N-21, N-23)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Node, Pod

from tulle.lab.spec import Spec

Cluster = Callable[..., list[Node]]


def ping(pod: Pod | Node, address: str, *options: str) -> bool:
    done = pod.run("ping", "-c", "1", "-W", "2", *options, address, check=False)
    return done.returncode == 0


def test_pods_of_one_node_reach_each_other(cluster: Cluster) -> None:
    [node] = cluster()
    a, b = node.add("a"), node.add("b")
    assert all(ping(a, ip) for ip in b.ips)
    assert all(ping(node, ip) for ip in a.ips)
    assert all(ping(a, ip) for ip in node.ips)


@pytest.mark.parametrize("routing", ["native", "overlay"])
def test_pods_of_two_nodes_reach_each_other(cluster: Cluster, routing: str) -> None:
    one, two = cluster(Spec(nodes=2), f"--routing={routing}")
    a, b = one.add("a"), two.add("b")
    assert all(ping(a, ip) for ip in b.ips)
    assert all(ping(one, ip) for ip in b.ips)
    assert all(ping(a, ip) for ip in two.ips)
    assert all(ping(a, ip, "-s", "4000") for ip in b.ips)
