"""The kernel's Service table for clients outside: two sets of each port, who is let in, and rings."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import NamedTuple

import pytest
from programs import Programs
from service_scene import clear_services

from tulle.errors import KernelError
from tulle.kernel import libc
from tulle.model.address import Network, to_bytes
from tulle.pod_to_service.entries import Entries
from tulle.pod_to_service.plan import (
    ANY_ADDRESS,
    Backend,
    Choice,
    Frontend,
    Kind,
    Lead,
    PortPlan,
    Scope,
    Traffic,
)
from tulle.pod_to_service.ring import make_ring, ring_size
from tulle.pod_to_service.table import PortName, Table

WEB, SHOP = ("default", "web"), ("default", "shop")
CLUSTER, LOCAL = Traffic.CLUSTER, Traffic.LOCAL
NO_PORT, OF_NODE = 0, 1
VIP, OUTSIDE = "198.51.100.1", "203.0.113.250"
TEN, LAB = ip_network("10.0.0.0/8"), ip_network("192.168.7.0/24")


def raw(text: str) -> bytes:
    return to_bytes(ip_address(text))


def some(*lasts: int) -> tuple[Backend, ...]:
    return tuple(Backend(raw(f"10.244.0.{last}"), 8080) for last in lasts)


def cluster_ip(text: str = "10.96.0.1", traffic: Traffic = CLUSTER) -> Lead:
    return Lead(Frontend(raw(text), 80, 6), Kind.CLUSTER_IP, traffic, traffic)


def node_port(outside: Traffic = CLUSTER, port: int = 30080) -> Lead:
    frontend = Frontend(ANY_ADDRESS[4], port, 6, Scope.NODE_PORT)
    return Lead(frontend, Kind.NODE_PORT, CLUSTER, outside)


def vip(outside: Traffic = CLUSTER, port: int = 80, sources: tuple[Network, ...] | None = None) -> Lead:
    return Lead(Frontend(raw(VIP), port, 6), Kind.LOAD_BALANCER, CLUSTER, outside, sources)


def external_ip(outside: Traffic = CLUSTER, text: str = OUTSIDE) -> Lead:
    return Lead(Frontend(raw(text), 80, 6), Kind.EXTERNAL_IP, CLUSTER, outside)


def plan(
    *leads: Lead,
    cluster: tuple[Backend, ...] = some(1, 2, 3),
    local: tuple[Backend, ...] = some(1),
    service: tuple[str, str] = WEB,
    affinity: int = 0,
) -> PortPlan:
    whole = PortPlan(service, "http", 6, 4, affinity, leads, Choice(cluster), Choice(local))
    return whole.with_leads(leads)


class Told(NamedTuple):
    """What the kernel says of a frontend."""

    inside: int
    outside: int
    guard: int


class Kernel:
    """What is in the maps, as a program finds it."""

    def __init__(self, programs: Programs) -> None:
        self.maps = programs.maps
        self.contract = programs.contract
        self.entries = Entries(programs.contract)

    def leads(self) -> dict[str, Told]:
        found = {}
        for key, value in self.maps["frontends"].items(20).items():
            f = self.entries.read_frontend(key)
            name = f"{ip_address(f.address[12:])}:{f.port}" + (f" {f.scope}" if f.scope != "address" else "")
            found[name] = Told(*struct.unpack("=III", value))
        return found

    def header(self, index: int) -> tuple[int, ...]:
        number = self.maps["services"].get(struct.pack("=I", index)) or b""
        return struct.unpack("=7I", self.maps["sets"].get(number) or b"")

    def backends(self, index: int) -> list[int]:
        """Their last bytes, by their place in the set."""
        number = self.maps["services"].get(struct.pack("=I", index)) or b""
        count = self.header(index)[1]
        found = [self.maps["backends"].get(number + struct.pack("=I", i)) or b"" for i in range(count)]
        return [each[15] for each in found]

    def ring(self, index: int) -> list[int]:
        """The last byte of the backend in each slot, read entry by entry."""
        *_, start, size = self.header(index)
        found = [self.maps["rings"].get(struct.pack("=I", start + i)) or b"" for i in range(-(-size // 4))]
        backends = self.backends(index)
        return [backends[slot] for slot in struct.unpack(f"={size}H", b"".join(found)[: 2 * size])]

    def ranges(self) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for key in self.maps["source_ranges"].keys(24):
            guard, network = self.entries.read_range(key)
            found.setdefault(guard, set()).add(str(network))
        return found

    def sets(self) -> int:
        return len(self.maps["sets"].items(4))


@pytest.fixture
def kernel(programs: Programs) -> Kernel:
    return Kernel(programs)


def collect(table: Table) -> None:
    garbage = table.take_garbage()
    libc.await_readers()
    table.free(garbage)


def test_two_policies_are_two_indices(table: Table, kernel: Kernel) -> None:
    """S-44 to S-48: the cluster's for whoever is inside, the local one for others."""
    changed = table.apply({WEB: (plan(cluster_ip(), node_port(LOCAL), vip(LOCAL), external_ip(LOCAL)),)})
    assert changed == [PortName(WEB, "http", 6, 4, CLUSTER), PortName(WEB, "http", 6, 4, LOCAL)]
    assert kernel.leads() == {
        "10.96.0.1:80": (2, 2, 0),
        "10.96.0.1:0": (NO_PORT, NO_PORT, 0),
        "0.0.0.0:30080 node port": (2, 3, 0),
        f"{VIP}:80": (2, 3, 0),
        f"{VIP}:0": (OF_NODE, NO_PORT, 0),
        f"{OUTSIDE}:80": (2, 3, 0),
    }
    assert (kernel.backends(2), kernel.backends(3)) == ([1, 2, 3], [1])


def test_one_policy_is_one_index(table: Table, kernel: Kernel) -> None:
    table.apply({WEB: (plan(cluster_ip(), node_port(), vip()),)})
    assert {each for told in kernel.leads().values() for each in told[:2]} == {NO_PORT, OF_NODE, 2}
    assert kernel.sets() == 1


def test_internal_policy_local_with_a_node_port(table: Table, kernel: Kernel) -> None:
    """S-48: each frontend has its own policy."""
    table.apply({WEB: (plan(cluster_ip(traffic=LOCAL), node_port()),)})
    leads = kernel.leads()
    cluster, local = leads["0.0.0.0:30080 node port"], leads["10.96.0.1:80"]
    assert cluster.inside == cluster.outside and local.inside == local.outside
    assert (kernel.backends(cluster.inside), kernel.backends(local.inside)) == ([1, 2, 3], [1])


def test_clients_with_affinity_are_known_to_both_sets(table: Table, kernel: Kernel) -> None:
    """S-60: by one number, also when one of the two comes later, and the one that it names goes."""
    both = plan(cluster_ip(), node_port(LOCAL), affinity=9)
    table.apply({WEB: (both,)})
    assert kernel.header(2)[0] == kernel.header(3)[0]
    inside = plan(cluster_ip(), affinity=9)
    table.apply({WEB: (inside,)})
    collect(table)
    table.apply({SHOP: (plan(cluster_ip("10.96.0.2"), service=SHOP, affinity=9),)})
    table.apply({WEB: (plan(cluster_ip(traffic=LOCAL), affinity=9),)})
    collect(table)
    table.apply({WEB: (plan(cluster_ip(traffic=LOCAL), node_port(), affinity=9),)})
    leads = kernel.leads()
    indices = {leads["10.96.0.1:80"].inside, leads["0.0.0.0:30080 node port"].inside}
    numbers = {kernel.header(index)[0] for index in indices}
    assert len(indices) == 2 and len(numbers) == 1 and numbers <= indices
    assert kernel.header(leads["10.96.0.2:80"].inside)[0] not in numbers


def test_a_number_whose_index_goes_is_given_up(table: Table, kernel: Kernel) -> None:
    """The index may become another Service's: its clients must not be taken for ours."""
    table.apply({WEB: (plan(cluster_ip(), node_port(LOCAL), affinity=9),)})
    assert kernel.header(3)[0] == 2
    table.apply({WEB: (plan(cluster_ip(traffic=LOCAL), affinity=9),)})
    collect(table)
    assert kernel.leads()["10.96.0.1:80"] == (3, 3, 0) and kernel.header(3)[0] == 3


@pytest.mark.parametrize(
    ("leads", "ringed"),
    [
        ([cluster_ip()], set()),
        ([cluster_ip(), node_port()], {CLUSTER}),
        ([cluster_ip(), vip(LOCAL)], {LOCAL}),
        ([cluster_ip(), vip(LOCAL), external_ip(CLUSTER)], {CLUSTER, LOCAL}),
        ([cluster_ip(traffic=LOCAL), node_port()], {CLUSTER}),
    ],
)
def test_only_those_outside_are_led_by_rings(
    table: Table, kernel: Kernel, leads: list[Lead], ringed: set[Traffic]
) -> None:
    made = plan(*leads, local=some(1, 2))
    table.apply({WEB: (made,)})
    headers = dict(zip(made.choices, (kernel.header(2 + n) for n in range(len(made.choices))), strict=True))
    assert {traffic for traffic, header in headers.items() if header[6]} == ringed


def test_a_ring_as_programs_find_it(table: Table, kernel: Kernel) -> None:
    table.apply({WEB: (plan(cluster_ip(), node_port()),)})
    ring = kernel.ring(2)
    assert sorted(ring.count(last) for last in (1, 2, 3)) == [83, 84, 84]
    table.apply({WEB: (plan(cluster_ip(), node_port(), cluster=some(1, 3)),)})
    after = kernel.ring(2)
    moved = [a for a, b in zip(ring, after, strict=True) if a != b and a != 2]
    assert set(after) == {1, 3} and len(moved) < 25


@pytest.mark.parametrize("backends", [(), (1,)], ids=len)
def test_no_ring_where_there_is_no_choice(table: Table, kernel: Kernel, backends: tuple[int, ...]) -> None:
    table.apply({WEB: (plan(cluster_ip(), node_port(), cluster=some(*backends)),)})
    assert kernel.header(2)[5:] == (0, 0)


def test_a_ring_is_given_away_only_when_told(table: Table, kernel: Kernel) -> None:
    """A program may be looking at it."""
    table.apply({WEB: (plan(node_port()),)})
    first = kernel.header(2)[5]
    table.apply({WEB: (plan(node_port(), cluster=some(4, 5)),)})
    second = kernel.header(2)[5]
    assert kernel.ring(2) and second != first
    collect(table)
    table.apply({WEB: (plan(node_port(), cluster=some(6, 7)),)})
    assert kernel.header(2)[5] == first


def test_without_room_for_rings_services_go_on(
    table: Table, kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    """They are led by hash alone, which is told once; and have rings again once there is room."""
    room = kernel.maps["rings"].most
    many = tuple(Backend(raw(f"10.{n >> 8}.{n & 255}.1"), 8080) for n in range(400))
    each = -(-ring_size(len(many)) // 4)
    plans = {
        ("x", str(n)): (plan(node_port(port=20000 + n), cluster=many, service=("x", str(n))),)
        for n in range(room // each + 2)
    }
    table.apply(plans)
    sizes = [kernel.header(2 + n)[6] for n in range(len(plans))]
    assert sizes == [ring_size(len(many))] * (room // each) + [0, 0]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert len(kernel.backends(1 + len(plans))) == len(many)
    table.apply({("x", "0"): ()})
    collect(table)
    table.apply({WEB: (plan(node_port(), cluster=many),)})
    assert kernel.header(kernel.leads()["0.0.0.0:30080 node port"].inside)[6]
    table.apply(dict.fromkeys((*plans, WEB), ()))
    collect(table)
    assert kernel.sets() == 0


def test_who_is_let_in(table: Table, kernel: Kernel) -> None:
    """S-61: written under a fresh number; the old one goes once nobody can be reading it."""
    table.apply({WEB: (plan(cluster_ip(), node_port(), vip(sources=(TEN, LAB))),)})
    guard = kernel.leads()[f"{VIP}:80"].guard
    assert guard and {f: told.guard for f, told in kernel.leads().items() if told.guard} == {
        f"{VIP}:80": guard
    }
    assert kernel.ranges() == {guard: {"10.0.0.0/8", "192.168.7.0/24"}}
    table.apply({WEB: (plan(cluster_ip(), node_port(), vip(sources=(TEN,))),)})
    new = kernel.leads()[f"{VIP}:80"].guard
    assert new != guard and set(kernel.ranges()) == {guard, new}
    collect(table)
    assert kernel.ranges() == {new: {"10.0.0.0/8"}}
    table.apply({WEB: (plan(cluster_ip(), vip(sources=())),)})
    collect(table)
    assert kernel.leads()[f"{VIP}:80"].guard and kernel.ranges() == {}, "nobody is"
    table.apply({WEB: (plan(cluster_ip(), vip()),)})
    assert kernel.leads()[f"{VIP}:80"].guard == 0


def test_services_share_who_is_let_in(table: Table, kernel: Kernel) -> None:
    table.apply(
        {WEB: (plan(vip(sources=(TEN,))),), SHOP: (plan(vip(port=81, sources=(TEN,)), service=SHOP),)}
    )
    [guard] = kernel.ranges()
    table.apply({WEB: ()})
    collect(table)
    assert kernel.leads()[f"{VIP}:81"].guard == guard and set(kernel.ranges()) == {guard}
    table.apply({SHOP: ()})
    collect(table)
    assert kernel.ranges() == {}


def test_services_that_share_an_address(table: Table, kernel: Kernel) -> None:
    """Its other ports are refused to clients outside as long as one of them has it."""
    shop = plan(vip(port=81), service=SHOP)
    table.apply({WEB: (plan(vip()),), SHOP: (shop,)})
    assert set(kernel.leads()) == {f"{VIP}:80", f"{VIP}:81", f"{VIP}:0"}
    table.apply({WEB: ()})
    assert set(kernel.leads()) == {f"{VIP}:81", f"{VIP}:0"}
    table.apply({SHOP: ()})
    assert kernel.leads() == {}


def test_addresses_outside_that_the_node_has_itself(table: Table, kernel: Kernel) -> None:
    """Its Services are reached there all the same; other ports are the node's."""
    table.own = frozenset([raw(VIP), raw(OUTSIDE)])
    made = plan(cluster_ip(), vip(), external_ip())
    table.apply({WEB: (made,)})
    assert set(kernel.leads()) == {"10.96.0.1:80", "10.96.0.1:0", f"{VIP}:80", f"{OUTSIDE}:80"}
    table.own = frozenset()
    table.apply({WEB: (made,)})
    assert f"{VIP}:0" in kernel.leads()


def test_another_agent_takes_over_all_of_it(programs: Programs, table: Table, kernel: Kernel) -> None:
    """S-73: neither sets nor rings nor guards are written anew; what nobody asks for goes."""
    old = ("default", "old")
    plans = {
        WEB: (plan(cluster_ip(), node_port(LOCAL), vip(LOCAL, sources=(TEN,)), affinity=9),),
        SHOP: (plan(vip(port=81, sources=(LAB,)), service=SHOP),),
    }
    table.apply({**plans, old: (plan(node_port(port=30081), vip(port=82, sources=()), service=old),)})
    before = {name: programs.maps[name].items(size) for name, size in (("frontends", 20), ("sets", 4))}
    ranges, rings = kernel.ranges(), {i: kernel.ring(i) for i in (2, 4)}
    heir = Table(programs.maps, programs.contract)
    heir.apply(plans)
    heir.forget_unclaimed()
    collect(heir)
    after = {name: programs.maps[name].items(size) for name, size in (("frontends", 20), ("sets", 4))}
    assert after["frontends"].items() <= before["frontends"].items()
    assert len(before["frontends"]) - len(after["frontends"]) == 2
    assert len(after["sets"]) == 3 and after["sets"].items() <= before["sets"].items()
    assert (kernel.ranges(), {i: kernel.ring(i) for i in (2, 4)}) == (ranges, rings)
    heir.apply({old: (plan(node_port(port=30081), service=old),)})
    assert kernel.ring(2) == rings[2] and kernel.ring(4) == rings[4], "the free part was used"


def test_a_ring_of_another_making_is_made_anew(programs: Programs, table: Table, kernel: Kernel) -> None:
    """By an agent of another release; with it, this node would choose otherwise than the others."""
    made = plan(node_port())
    table.apply({WEB: (made,)})
    right, start = kernel.ring(2), kernel.header(2)[5]
    kernel.maps["rings"][struct.pack("=I", start)] = bytes(8)
    heir = Table(programs.maps, programs.contract)
    heir.apply({WEB: (made,)})
    assert kernel.ring(2) == right and kernel.header(2)[5] != start


def test_a_policy_that_changed_while_no_agent_ran(programs: Programs, table: Table, kernel: Kernel) -> None:
    table.apply({WEB: (plan(cluster_ip(), node_port()),)})
    heir = Table(programs.maps, programs.contract)
    heir.apply({WEB: (plan(cluster_ip(), node_port(LOCAL)),)})
    heir.forget_unclaimed()
    collect(heir)
    told = kernel.leads()["0.0.0.0:30080 node port"]
    assert told.inside == 2 != told.outside
    assert (kernel.backends(told.inside), kernel.backends(told.outside)) == ([1, 2, 3], [1])


@pytest.fixture
def full_ranges(kernel: Kernel) -> Iterator[None]:
    """All but one place are taken by others."""
    table = kernel.maps["source_ranges"]
    keys = [
        struct.pack("=I", 160) + struct.pack("!I", 1 << 30 | n) + bytes(16) for n in range(table.most - 1)
    ]
    table.update_all(keys, [b"\1"] * len(keys))
    try:
        yield
    finally:
        table.discard_all(keys)


@pytest.mark.usefixtures("full_ranges")
def test_a_service_whose_ranges_do_not_fit_is_as_it_was(table: Table, kernel: Kernel) -> None:
    """Nobody is let in who was not before, nor kept out."""
    made = plan(vip(sources=(TEN,)))
    table.apply({WEB: (made,)})
    before = kernel.leads()
    for _ in range(2):
        with pytest.raises(KernelError) as raised:
            table.apply({WEB: (replace(made, leads=(vip(sources=(LAB,)),)),)})
        assert raised.value.errno == errno.ENOSPC
        collect(table)
        assert kernel.leads() == before
        assert before[f"{VIP}:80"].guard in kernel.ranges()
    table.apply({WEB: ()})
    collect(table)
    table.apply({WEB: (replace(made, leads=(vip(sources=(LAB,)),)),)})
    assert "192.168.7.0/24" in kernel.ranges()[kernel.leads()[f"{VIP}:80"].guard]


def test_clearing_leaves_no_guard(programs: Programs, table: Table, kernel: Kernel) -> None:
    table.apply({WEB: (plan(vip(sources=(TEN,))),)})
    clear_services(programs)
    assert (kernel.leads(), kernel.ranges(), kernel.sets()) == ({}, {}, 0)


def test_the_ring_is_of_what_the_kernel_has(table: Table, kernel: Kernel) -> None:
    """Of addresses and ports as packets carry them, which are the same on every node."""
    table.apply({WEB: (plan(node_port()),)})
    packed = tuple(b.address + struct.pack("!H", b.port) + bytes(2) for b in some(1, 2, 3))
    made = struct.unpack("=251H", make_ring(packed))
    assert kernel.ring(2) == [some(1, 2, 3)[index].address[15] for index in made]
