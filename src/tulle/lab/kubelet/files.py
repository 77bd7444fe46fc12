"""The files in ``/etc`` that tell a container its name and its resolvers. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from tulle.lab.kubelet.objects import Pod

_LOCAL = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)


def etc(pod: Pod, hostname: str, ips: Sequence[str], machine_resolvers: str) -> dict[str, str]:
    """Text by absolute path."""
    return {
        "/etc/hostname": f"{hostname}\n",
        "/etc/hosts": _hosts(hostname, ips),
        "/etc/resolv.conf": _resolvers(pod, machine_resolvers),
    }


def _hosts(hostname: str, ips: Sequence[str]) -> str:
    return _LOCAL + "".join(f"{ip}\t{hostname}\n" for ip in ips)


def _resolvers(pod: Pod, machine_resolvers: str) -> str:
    """``dnsConfig`` alone for the policy None, else added to the machine's own settings."""
    config = pod.spec.dns_config
    lines = [f"nameserver {server}" for server in config.nameservers]
    if config.searches:
        lines.append("search " + " ".join(config.searches))
    if config.options:
        options = (f"{o.name}:{o.value}" if o.value else o.name for o in config.options)
        lines.append("options " + " ".join(options))
    own = "" if pod.spec.dns_policy == "None" else machine_resolvers
    return own + "".join(f"{line}\n" for line in lines)
