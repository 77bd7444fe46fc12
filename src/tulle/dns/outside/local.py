"""Names that the configuration answers itself (``hosts``), or as others (``rewrite``). No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import NamedTuple

import msgspec

from tulle.dns import wire
from tulle.dns.configuration.config import Hosts, Rewrite
from tulle.dns.names import to_wire, within
from tulle.dns.outside.records import expand


class HostsTable:
    """The entries of ``hosts``, ready to be looked up."""

    def __init__(self, plan: Hosts) -> None:
        self._plan = plan
        self._records: dict[tuple[bytes, int], list[bytes]] = {}
        for name, addresses in plan.addresses.items():
            for packed in addresses:
                self._add(name, wire.A if len(packed) == 4 else wire.AAAA, packed)
                if plan.reverse:
                    self._add(to_wire(ip_address(packed).reverse_pointer), wire.PTR, name)
        self._names = {name for name, _ in self._records}

    def answer(self, query: wire.Query) -> bytes | None:
        """The whole answer; None if the name goes on to the next step.

        A name that is here with another type only has no data; one that is not here is denied, unless it is
        below a zone of ``fallthrough``.
        """
        name = query.name
        if not any(within(name, zone) for zone in self._plan.zones):
            return None
        records = self._records.get((name, query.type))
        if records is not None:
            section = wire.Section(len(records), b"".join(records))
            return wire.message(query, wire.NOERROR, section)
        if name in self._names:
            return wire.message(query, wire.NOERROR)
        if any(within(name, zone) for zone in self._plan.through):
            return None
        return wire.message(query, wire.NXDOMAIN)

    def _add(self, name: bytes, rtype: int, data: bytes) -> None:
        record = wire.record(wire.QUESTION_NAME, rtype, self._plan.ttl, data)
        self._records.setdefault((name, rtype), []).append(record)


class Rewritten(NamedTuple):
    """What is to be answered instead; ``restore`` makes its answer one to what the client asked."""

    query: wire.Query
    raw: bytes
    restore: Callable[[bytes], bytes]


def rewrite(rules: Iterable[Rewrite], query: wire.Query, raw: bytes) -> Rewritten | None:
    """None if no rule is for this name, or if what a rule makes of it is no name."""
    name = wire.text(query.name).removesuffix(".")
    changed = _apply(rules, name)
    if changed == name:
        return None
    try:
        new = to_wire(changed)
    except ValueError:
        return None
    end = wire.QUESTION + len(query.asked)
    question_length = query.question_length - len(query.asked) + len(new)
    other = msgspec.structs.replace(query, name=new, asked=new, question_length=question_length)
    return Rewritten(other, raw[: wire.QUESTION] + new + raw[end:], lambda whole: _restore(whole, query, new))


def _apply(rules: Iterable[Rewrite], name: str) -> str:
    for rule in rules:
        if rule.kind == "exact" and name == rule.old:
            name = rule.new
        elif rule.kind == "suffix" and name.endswith(rule.old):
            name = name[: len(name) - len(rule.old)] + rule.new
        else:
            continue
        if rule.stop:
            break
    return name


def _restore(whole: bytes, query: wire.Query, new: bytes) -> bytes:
    """Records are written anew: with a name of another length in front, no pointer would be right."""
    parts: list[list[bytes]] = [[], [], []]
    for record in expand(whole):
        owner = wire.QUESTION_NAME if record.owner.lower() == new else None
        parts[record.section].append(record.wire(owner))
    sections = [wire.Section(len(part), b"".join(part)) for part in parts]
    flags = int.from_bytes(whole[2:4])
    return wire.message(query, flags & 0xF, *sections, authoritative=bool(flags & wire.AA))
