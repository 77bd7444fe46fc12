"""The Service table as it stands in the kernel: for an agent that takes it over, and for whoever shows it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from tulle.kernel.bpf_maps import Map
from tulle.pod_to_service.entries import LAST_SET, Content, Entries, Header
from tulle.pod_to_service.regions import Region


@dataclass(frozen=True, slots=True)
class Port:
    """What the kernel has of a port for one traffic policy: its index in ``services``, the number of its set,
    and what is in it.

    ``serving`` is the number of the set that says who may keep old flows, ``service`` the one by which
    clients with affinity are known, ``ring`` where the set's ring is, if it has one.
    """

    index: int
    set: int
    serving: int
    service: int
    content: Content
    ring: Region | None = None


@dataclass(slots=True)
class Found:
    """``frontends`` as they stand in the map; ``ports`` by index. Strays are what no port leads to.

    ``ranges`` are the keys of ``source_ranges`` by guard. ``sizes``: how many entries each map has.
    """

    frontends: dict[bytes, bytes]
    ports: dict[int, Port] = field(default_factory=dict)
    stray_sets: list[bytes] = field(default_factory=list)
    stray_slots: list[bytes] = field(default_factory=list)
    stray_members: list[bytes] = field(default_factory=list)
    stray_rings: list[Region] = field(default_factory=list)
    ranges: dict[int, list[bytes]] = field(default_factory=dict)
    last_index: int = 0
    last_set: int = 0
    sizes: dict[str, int] = field(default_factory=dict)


def read_table(maps: Mapping[str, Map], entries: Entries) -> Found:
    """Everything. Raises ``KernelError``."""
    frontends = maps["frontends"].items(entries.frontend_size)
    headers = {entries.read_number(k): entries.read_header(v) for k, v in maps["sets"].items(4).items()}
    slots: defaultdict[int, dict[int, bytes]] = defaultdict(dict)
    for key, value in maps["backends"].items(entries.slot_size).items():
        number, index = entries.read_slot(key)
        slots[number][index] = value
    members: defaultdict[int, list[bytes]] = defaultdict(list)
    for key in maps["members"].items(entries.member_size):
        number, backend = entries.read_member(key)
        members[number].append(backend)
    sizes = {
        "frontends": len(frontends),
        "sets": len(headers),
        "backends": sum(map(len, slots.values())),
        "members": sum(map(len, members.values())),
    }
    found = Found(frontends, sizes=sizes)
    _find_ports(found, maps["services"], entries, headers, slots, members)
    _find_strays(found, entries, headers, slots, members)
    for key in maps["source_ranges"].keys(entries.range_size):
        found.ranges.setdefault(entries.read_range(key)[0], []).append(key)
    found.sizes["source_ranges"] = sum(map(len, found.ranges.values()))
    rings = (entries.ring_region(header) for header in headers.values())
    found.sizes["rings"] = sum(region.length for region in rings if region)
    given = entries.read_number(maps["services"].get(entries.number(LAST_SET)) or bytes(4))
    found.last_set = max((given, *headers, *slots, *members))
    return found


def indices_in(found: Found, entries: Entries) -> set[int]:
    """The indices that frontends lead to."""
    leads = [entries.read_lead(value) for value in set(found.frontends.values())]
    return {index for lead in leads for index in (lead.inside, lead.outside) if index >= entries.first}


def _find_ports(
    found: Found,
    services: Map,
    entries: Entries,
    headers: Mapping[int, Header],
    slots: Mapping[int, Mapping[int, bytes]],
    members: Mapping[int, list[bytes]],
) -> None:
    for index in indices_in(found, entries):
        found.last_index = max(found.last_index, index)
        number = entries.read_number(services.get(entries.number(index)) or bytes(4))
        if header := headers.get(number):
            content = _content(header, number, slots.get(number, {}), members)
            ring = entries.ring_region(header)
            found.ports[index] = Port(index, number, header.serving, header.service, content, ring)


def _content(
    header: Header, number: int, slots: Mapping[int, bytes], members: Mapping[int, list[bytes]]
) -> Content:
    """Backends in the order of their indices; those that may keep old flows in the order of planning."""
    backends = b"".join(slots[index] for index in sorted(slots) if index < header.backends)
    serving = b""
    if header.serving:
        same = header.serving == number
        serving = backends if same else b"".join(sorted(members.get(header.serving, [])))
    return Content(backends, serving, header.affinity, header.on_empty, header.ring_size > 0)


def _find_strays(
    found: Found,
    entries: Entries,
    headers: Mapping[int, Header],
    slots: Mapping[int, Mapping[int, bytes]],
    members: Mapping[int, list[bytes]],
) -> None:
    """What an agent left that was ended between two writes."""
    used = {port.set for port in found.ports.values()}
    asked = used | {port.serving for port in found.ports.values()}
    found.stray_sets = [entries.number(n) for n in headers if n not in used]
    regions = [entries.ring_region(header) for n, header in headers.items() if n not in used]
    found.stray_rings = [region for region in regions if region]
    found.stray_slots = [key for n in slots if n not in used for key in entries.slots(n, slots[n])]
    found.stray_members = [
        key for n in members if n not in asked for key in entries.members(n, b"".join(members[n]))
    ]
