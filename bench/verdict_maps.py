"""What Services cost with nftables: verdict maps as kube-proxy's nftables mode writes them. Pure.

The base chains, and what a packet passes in them, are those of Kubernetes 1.36; chains for what the measured
Services do not have (load balancers, firewalls, and node ports unless asked for) are here as they are there:
empty maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench import objects
from tulle.lab.spec import Family

_WORDS: dict[Family, tuple[str, str, str]] = {
    "ipv4": ("ip", "ipv4_addr", "10.244.0.0/16"),
    "ipv6": ("ip6", "ipv6_addr", "fd00:10:244::/48"),
}

_BASE = """
table {ip} kube-proxy {{
  map service-ips {{ type {addr} . inet_proto . inet_service : verdict; }}
  map service-nodeports {{ type inet_proto . inet_service : verdict; }}
  map firewall-ips {{ type {addr} . inet_proto . inet_service : verdict; }}
  map no-endpoint-services {{ type {addr} . inet_proto . inet_service : verdict; }}
  map no-endpoint-nodeports {{ type inet_proto . inet_service : verdict; }}
  set cluster-ips {{ type {addr}; }}
  set nodeport-ips {{ type {addr}; }}
  chain mark-for-masquerade {{ mark set mark or 0x4000; }}
  chain masquerading {{
    mark and 0x4000 == 0 return
    mark set mark xor 0x4000
    masquerade fully-random
  }}
  chain services {{
    {ip} daddr . meta l4proto . th dport vmap @service-ips
    {ip} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }}
  chain firewall-check {{ {ip} daddr . meta l4proto . th dport vmap @firewall-ips; }}
  chain service-endpoints-check {{ {ip} daddr . meta l4proto . th dport vmap @no-endpoint-services; }}
  chain nodeport-endpoints-check {{
    {ip} daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
  }}
  chain cluster-ips-check {{
    {ip} daddr @cluster-ips reject
    {ip} daddr {cidr} drop
  }}
  chain filter-prerouting-pre-dnat {{
    type filter hook prerouting priority dstnat - 10; policy accept;
    ct state new jump firewall-check
  }}
  chain filter-input {{
    type filter hook input priority filter; policy accept;
    ct state new jump nodeport-endpoints-check
    ct state new jump service-endpoints-check
  }}
  chain filter-forward {{
    type filter hook forward priority filter; policy accept;
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }}
  chain filter-output {{
    type filter hook output priority filter; policy accept;
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }}
  chain nat-prerouting {{ type nat hook prerouting priority dstnat; policy accept; jump services; }}
  chain nat-output {{ type nat hook output priority -100; policy accept; jump services; }}
  chain nat-postrouting {{ type nat hook postrouting priority srcnat; policy accept; jump masquerading; }}
}}
"""


def ruleset(
    family: Family, endpoints: Sequence[Sequence[tuple[str, int]]], node_address: str | None = None
) -> str:
    """For ``nft -f``: the Service with number N has the ``endpoints`` at N, addresses and ports.

    With a ``node_address``, the Services have node ports there (``objects.node_port``), with
    ``externalTrafficPolicy: Cluster``: what comes in by them is masqueraded.
    """
    ip, addr, _ = _WORDS[family]
    base = _BASE.format(ip=ip, addr=addr, cidr=objects.CIDRS[family])
    chains = [line for number, each in enumerate(endpoints) for line in _chains(family, number, each)]
    elements = list(_elements(family, len(endpoints)))
    if node_address:
        chains += [line for number in range(len(endpoints)) for line in _external_chain(number)]
        elements += _node_ports(family, len(endpoints), node_address)
    return "\n".join([base, f"table {ip} kube-proxy {{", *chains, "}", *elements])


def _chains(family: Family, number: int, endpoints: Sequence[tuple[str, int]]) -> Iterator[str]:
    ip, _, pods = _WORDS[family]
    for index, (address, port) in enumerate(endpoints):
        to = f"{address}:{port}" if family == "ipv4" else f"[{address}]:{port}"
        yield f"chain endpoint-{number}-{index} {{"
        yield f"{ip} saddr {address} jump mark-for-masquerade"
        yield f"meta l4proto tcp dnat to {to}; }}"
    own = f"{ip} daddr {objects.cluster_ip(number, family)} tcp dport {objects.PORT} {ip} saddr != {pods}"
    choice = ", ".join(f"{i} : goto endpoint-{number}-{i}" for i in range(len(endpoints)))
    yield f"chain service-{number} {{"
    yield f"{own} jump mark-for-masquerade"
    yield f"numgen random mod {len(endpoints)} vmap {{ {choice} }}; }}"


def _elements(family: Family, count: int) -> Iterator[str]:
    ip = _WORDS[family][0]
    addresses = [objects.cluster_ip(number, family) for number in range(count)]
    leads = [f"{a} . tcp . {objects.PORT} : goto service-{n}" for n, a in enumerate(addresses)]
    yield f"add element {ip} kube-proxy service-ips {{ {', '.join(leads)} }}"
    yield f"add element {ip} kube-proxy cluster-ips {{ {', '.join(addresses)} }}"


def _external_chain(number: int) -> Iterator[str]:
    yield f"chain external-{number} {{"
    yield "jump mark-for-masquerade"
    yield f"goto service-{number}; }}"


def _node_ports(family: Family, count: int, address: str) -> Iterator[str]:
    ip = _WORDS[family][0]
    leads = [f"tcp . {objects.node_port(number)} : goto external-{number}" for number in range(count)]
    yield f"add element {ip} kube-proxy nodeport-ips {{ {address} }}"
    yield f"add element {ip} kube-proxy service-nodeports {{ {', '.join(leads)} }}"
