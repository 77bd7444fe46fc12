"""The files in ``/etc`` that tell a Pod its names and resolvers: one set, bound into all its containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tulle.lab.kubelet.names import Names, hosts, hosts_on_node
from tulle.lab.kubelet.objects import Container, Pod
from tulle.lab.kubelet.resolvers import Resolvers


def texts(pod: Pod, own: Names, ips: Sequence[str], node_hosts: str, resolvers: Resolvers) -> dict[str, str]:
    """Text by absolute path within the container."""
    aliases = pod.spec.host_aliases
    on_node = pod.spec.host_network
    return {
        "/etc/hostname": f"{own.kernel}\n",
        "/etc/hosts": hosts_on_node(node_hosts, aliases) if on_node else hosts(own, ips, aliases),
        "/etc/resolv.conf": resolvers.text(),
    }


def write(folder: Path, content: Mapping[str, str]) -> dict[str, Path]:
    """Where each is on the machine. Written in place: a new file would not be seen where one is bound."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    written = {name: folder / Path(name).name for name in content}
    for name, path in written.items():
        path.write_text(content[name])
        path.chmod(0o644)
    return written


def binds(container: Container, written: Mapping[str, Path]) -> list[dict[str, object]]:
    """As OCI mounts; a file that the container mounts itself is the container's."""
    taken = {mount.mount_path for mount in container.volume_mounts}
    options = ["rbind", "rprivate", "ro" if container.security_context.read_only_root_filesystem else "rw"]
    return [
        {"destination": name, "type": "bind", "source": str(path), "options": options}
        for name, path in written.items()
        if name not in taken
    ]
