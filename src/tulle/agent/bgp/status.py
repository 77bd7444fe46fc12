"""BGP sessions for `tulle status`: asked of BIRD itself, so neither the agent nor the API is needed."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tulle.agent.bgp.control import BirdGone, ask
from tulle.external_to_service.bgp.config import name_of
from tulle.external_to_service.bgp.sessions import explain, parse
from tulle.model.bgp import DOWN, ESTABLISHED


class BgpSession(msgspec.Struct, frozen=True, rename="camel"):
    """``peer``: the BGPPeer's name. ``announced``: how many prefixes, of both families."""

    peer: str
    address: str
    asn: str
    local_asn: str
    state: str
    since: str
    announced: int
    message: str


async def bgp_sessions(folder: Path) -> list[BgpSession]:
    """Those that BIRD has, in the order of its configuration; none where none runs."""
    try:
        lines = await ask(folder)
    except BirdGone:
        return []
    return [
        BgpSession(
            peer=name_of(name),
            address=found.address,
            asn=found.asn,
            local_asn=found.local_asn,
            state=ESTABLISHED if found.state == ESTABLISHED else DOWN,
            since=found.since,
            announced=found.exported,
            message="" if found.state == ESTABLISHED else explain(found),
        )
        for name, found in parse(lines).items()
    ]
