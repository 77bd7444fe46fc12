"""The node itself: its Pods, the ways to other nodes, what it announces, and packets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tulle.cli.status.tables import print_table

if TYPE_CHECKING:
    from tulle.agent.bgp.status import BgpSession
    from tulle.agent.status import NodeStatus


def show(found: NodeStatus) -> None:
    """A table for each; none for what there is nothing of."""
    print_table(("POD", "ADDRESSES", "LINK"), ((p.pod, ", ".join(p.ips), p.link) for p in found.pods))
    print_table(("PREFIX", "WAY", "NODE"), ((p.prefix, p.transport, p.node) for p in found.prefixes))
    if found.announcements:
        rows = ((a.address, a.uplink, f"{a.seconds:.1f} s") for a in found.announcements)
        print_table(("ANNOUNCED ADDRESS", "UPLINK", "FOR AT LEAST"), rows)
    print_table(
        ("HOOK", "REASON", "PACKETS", "BYTES"),
        ((c.hook, c.reason, str(c.packets), str(c.bytes)) for c in found.packets),
    )
    if found.bgp:
        print_table(
            ("BGP PEER", "ADDRESS", "ASN", "STATE", "SINCE", "PREFIXES", "WHY"), map(_bgp_row, found.bgp)
        )


def _bgp_row(session: BgpSession) -> tuple[str, ...]:
    numbers = f"{session.local_asn} to {session.asn}"
    where = (session.peer, session.address, numbers)
    return *where, session.state, session.since, str(session.announced), session.message
