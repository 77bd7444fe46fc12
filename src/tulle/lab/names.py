"""How names resolve in a lab: the files of its nodes, which are not the machine's own."""

from __future__ import annotations

from tulle.lab.paths import NodePaths
from tulle.lab.spec import Host

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
