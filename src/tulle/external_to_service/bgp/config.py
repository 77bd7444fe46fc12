"""BIRD's configuration for one node, as a text. Pure.

BIRD announces and nothing else: it has no protocol that would touch the kernel's routes, and takes none from
its peers. It listens at the source address of each session only, as a router that starts anew opens the
session from its side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from ipaddress import IPv4Address

from tulle.external_to_service.bgp.peers import Peer
from tulle.external_to_service.bgp.routes import Routes
from tulle.model.address import Network
from tulle.model.bgp import LOAD_BALANCERS, POD_CIDRS

PORT = 179
RECOVERY = 10
"""Seconds after which a restarted BIRD announces also if a peer from before does not come back."""
_PLAIN = re.compile(r"[a-z0-9.-]{1,50}")  # a symbol has at most 64 bytes
_LOG_BYTES = 1 << 20
_PREFIX = "peer."
_HASHED = "hash."
_TABLES = {POD_CIDRS: "pods", LOAD_BALANCERS: "vips"}


def render(
    router_id: IPv4Address, peers: Iterable[Peer], passwords: Mapping[str, str], routes: Routes, log: str
) -> str:
    """The whole file. ``passwords`` by the name of the peer. ``log``: a path that holds no quotation mark."""
    texts = [_head(router_id, log)]
    texts += [_static(kind, v, routes.of(kind, v)) for kind in _TABLES for v in (4, 6)]
    texts += [_peer(peer, passwords.get(peer.name)) for peer in peers]
    return "\n".join(texts)


def symbol(name: str) -> str:
    """What BIRD calls the session of a BGPPeer: its name where that can be a symbol, else a hash of it."""
    if _PLAIN.fullmatch(name):
        return _PREFIX + name
    return _HASHED + sha256(name.encode(errors="surrogatepass")).hexdigest()[:40]


def name_of(symbol: str) -> str:
    """The BGPPeer's name, where the symbol tells it."""
    return symbol.removeprefix(_PREFIX)


def _head(router_id: IPv4Address, log: str) -> str:
    return f"""# Written by tulle agent; changes are lost.
log "{log}" {_LOG_BYTES} "{log}.old" {{ info, warning, error, fatal, bug, remote, auth }};
timeformat protocol "%Y-%m-%dT%H:%M:%SZ";
router id {router_id};
graceful restart wait {RECOVERY};
protocol device {{
}}
"""


def _static(kind: str, version: int, prefixes: Iterable[Network]) -> str:
    """Blackholes in BIRD's own table only: they are what is announced, not a way for packets."""
    lines = [f"  route {prefix} blackhole;" for prefix in prefixes]
    head = f"protocol static {_TABLES[kind]}{version} {{"
    return "\n".join([head, f"  ipv{version};", *lines, "}", ""])


def _peer(peer: Peer, password: str | None) -> str:
    return f"""filter 'to.{symbol(peer.name)}' {{
  if ! ({_wanted(peer)}) then reject;
{_communities(peer)}  accept;
}}
protocol bgp '{symbol(peer.name)}' {{
  local {peer.source} port {PORT} as {peer.local_asn};
  neighbor {peer.address} port {peer.port} as {peer.asn};
  {_distance(peer)};
  strict bind yes;
  hold time {peer.hold_time};
  keepalive time {peer.keepalive_time};
  connect delay time 1;
  connect retry time {peer.connect_retry};
  error wait time {peer.connect_retry}, {4 * peer.connect_retry};
  error forget time {8 * peer.connect_retry};
{_restart(peer)}{_password(password)}{_channels(peer)}}}
"""


def _wanted(peer: Peer) -> str:
    names = [f"{_TABLES[kind]}{version}" for kind in peer.announce for version in (4, 6)]
    return " || ".join(f'proto = "{name}"' for name in names)


def _communities(peer: Peer) -> str:
    kinds = {2: "bgp_community", 3: "bgp_large_community"}
    lines = [f"  {kinds[len(parts)]}.add(({','.join(map(str, parts))}));\n" for parts in peer.communities]
    return "".join(lines)


def _distance(peer: Peer) -> str:
    """IBGP may pass routers; eBGP must be said to."""
    if peer.internal:
        return "multihop"
    return f"multihop {peer.multihop}" if peer.multihop else "direct"


def _restart(peer: Peer) -> str:
    if not peer.restart_time:
        return "  graceful restart off;\n"
    return f"  graceful restart on;\n  graceful restart time {peer.restart_time};\n"


def _password(password: str | None) -> str:
    return "" if password is None else f'  password "{password}";\n'


def _channels(peer: Peer) -> str:
    """Both families on one session (RFC 4760), each with a next hop of its own."""
    export = f"import none; export filter 'to.{symbol(peer.name)}'"
    lines = [
        f"  ipv{version} {{ {export}; next hop address {hop}; }};\n"
        for version, hop in sorted(peer.next_hops.items())
    ]
    return "".join(lines)
