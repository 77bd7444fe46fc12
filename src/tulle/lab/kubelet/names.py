"""What a Pod is called, and its ``/etc/hosts``, as kubelet has them (N-26). No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tulle.errors import ConfigError
from tulle.lab.kubelet.objects import HostAlias, Pod

LOCAL: Final = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)
_MANAGED: Final = "# Kubernetes-managed hosts file.\n"
_MANAGED_OF_NODE: Final = "# Kubernetes-managed hosts file (host network).\n"
_ALIASES: Final = "\n# Entries added by HostAliases.\n"
_LONGEST_LABEL: Final = 63
_LONGEST_HOSTNAME: Final = 64
"""What Linux keeps as a hostname."""


class NoName(ConfigError):
    """The Pod asks for a hostname that cannot be."""


@dataclass(frozen=True, slots=True)
class Names:
    """``domain`` is empty without a subdomain; ``kernel`` is what ``hostname`` prints."""

    hostname: str
    domain: str
    kernel: str

    @property
    def line(self) -> str:
        """As it stands behind an address in ``/etc/hosts``; ``hostname -f`` finds the first name there."""
        return f"{self.hostname}.{self.domain}\t{self.hostname}" if self.domain else self.hostname


def names(pod: Pod, node: str, zone: str) -> Names:
    """``zone`` is the cluster's. Raises ``NoName`` when the full name is too long for Linux."""
    spec, meta = pod.spec, pod.metadata
    if spec.host_network:
        return Names(node, "", node)
    if spec.hostname_override:
        return Names(spec.hostname_override, "", spec.hostname_override)
    hostname = (spec.hostname or meta.name)[:_LONGEST_LABEL].rstrip("-.")
    domain = f"{spec.subdomain}.{meta.namespace}.svc.{zone}" if spec.subdomain else ""
    if not (spec.set_hostname_as_fqdn and domain):
        return Names(hostname, domain, hostname)
    full = f"{hostname}.{domain}"
    if len(full) > _LONGEST_HOSTNAME:
        raise NoName(
            f"setHostnameAsFQDN: {full} has {len(full)} characters, and a hostname has at most "
            f"{_LONGEST_HOSTNAME}; give a shorter hostname or subdomain"
        )
    return Names(hostname, domain, full)


def hosts(own: Names, ips: Sequence[str], aliases: Sequence[HostAlias]) -> str:
    """For a Pod with a network of its own: a line for each of its addresses."""
    lines = (f"{ip}\t{own.line}\n" for ip in ips)
    return _MANAGED + LOCAL + "".join(lines) + _aliased(aliases)


def hosts_on_node(of_node: str, aliases: Sequence[HostAlias]) -> str:
    """For a Pod on the node's network: the node's file, and the aliases after it."""
    return _MANAGED_OF_NODE + of_node + _aliased(aliases)


def _aliased(aliases: Iterable[HostAlias]) -> str:
    lines = "".join("\t".join((alias.ip, *alias.hostnames)) + "\n" for alias in aliases)
    return _ALIASES + lines if lines else ""
