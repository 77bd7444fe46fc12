"""How names resolve in a lab: the files of its nodes, not the machine's own, and the cluster DNS."""

from __future__ import annotations

from typing import Any, Final

from tulle.kube.client import Client
from tulle.kube.resources import Resource, Untyped
from tulle.lab.paths import NodePaths
from tulle.lab.spec import Host, Topology

METRICS_PORT: Final = 9153
_NAMESPACE: Final = "kube-system"
_NAME: Final = "kube-dns"
_SERVICES: Final[Resource[Untyped]] = Resource("", "v1", "services", "Service", Untyped)

_LOCAL = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def write_node_files(paths: NodePaths, node: Host, world: Host) -> None:
    """What a node's ``/etc`` would hold. Other nodes and the machine are not in it."""
    paths.hosts.parent.mkdir(parents=True)
    paths.hosts.write_text(hosts(node))
    paths.resolv_conf.write_text(resolv_conf(world))


def hosts(node: Host) -> str:
    return _LOCAL + "".join(f"{address.ip}\t{node.name}\n" for address in node.addresses)


def resolv_conf(world: Host) -> str:
    """Nodes ask *world*, at the addresses behind the lab's router."""
    return "".join(f"nameserver {address.ip}\n" for address in world.far)


async def offer_dns(client: Client, topology: Topology) -> None:
    """Makes the Service of the cluster DNS, or puts it right. Raises ``ApiError`` and ``ApiUnreachable``."""
    await client.patch(_SERVICES, _NAME, kube_dns(topology), _NAMESPACE, kind="apply")


def kube_dns(topology: Topology) -> dict[str, Any]:
    """D-25. It has no selector and needs no endpoint: each node answers at these addresses itself."""
    addresses = [str(address) for address in topology.dns]
    ports = (("dns", "UDP", 53), ("dns-tcp", "TCP", 53), ("metrics", "TCP", METRICS_PORT))
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": _NAME,
            "namespace": _NAMESPACE,
            "labels": {
                "k8s-app": _NAME,
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "tulle-dns",
            },
        },
        "spec": {
            "clusterIP": addresses[0],
            "clusterIPs": addresses,
            "ipFamilies": [f"IPv{address.version}" for address in topology.dns],
            "ipFamilyPolicy": "SingleStack" if len(addresses) == 1 else "RequireDualStack",
            "ports": [
                {"name": name, "protocol": protocol, "port": port, "targetPort": port}
                for name, protocol, port in ports
            ],
        },
    }
