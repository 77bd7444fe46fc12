"""The kernel's Service table as it is written: what is touched, when it is freed, and who takes it over."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

import pytest
from programs import Programs
from service_scene import clear_services
from tests.plans import choosing, led_by, plan_at

from tulle.errors import KernelError
from tulle.kernel import libc
from tulle.kernel.bpf_maps import Map
from tulle.model.address import to_bytes
from tulle.pod_to_service.plan import Backend, Frontend, PortPlan, Traffic
from tulle.pod_to_service.table import PortName, Table

WEB, SHOP = ("default", "web"), ("default", "shop")
TCP, UDP = 6, 17
SIZES = {"frontends": 20, "sets": 4, "backends": 8, "members": 24}
Entries = dict[bytes, bytes]


def number(value: int) -> bytes:
    return value.to_bytes(4, "little")


def address(last: int) -> bytes:
    return to_bytes(ip_address(f"10.96.0.{last}"))


def some(*lasts: int) -> tuple[Backend, ...]:
    return tuple(Backend(to_bytes(ip_address(f"10.244.0.{last}")), 8080) for last in lasts)


def plan(
    service: tuple[str, str] = WEB,
    vip: int = 1,
    backends: tuple[Backend, ...] = (),
    protocol: int = TCP,
    serving: tuple[Backend, ...] = (),
    port: int = 80,
    name: str = "http",
    affinity: int = 0,
) -> PortPlan:
    frontend = Frontend(address(vip), port, protocol)
    return plan_at(
        frontend, service=service, port=name, backends=backends, serving=serving, affinity=affinity
    )


class Kernel:
    """What is in the maps."""

    def __init__(self, programs: Programs) -> None:
        self.maps = programs.maps
        self.contract = programs.contract

    def all(self) -> dict[str, Entries]:
        return {name: self.maps[name].items(size) for name, size in SIZES.items()}

    def set_of(self, index: int) -> int:
        return int.from_bytes(self.maps["services"].get(number(index)) or b"", "little")

    def leads(self) -> dict[tuple[str, int], int]:
        """(address, port) to index; port 0 for any other."""
        found = {}
        for key, value in self.maps["frontends"].items(20).items():
            port = int.from_bytes(key[16:18], "big")
            assert value[:4] == value[4:8] and not any(value[8:])
            found[".".join(map(str, key[12:16])), port] = int.from_bytes(value[:4], "little")
        return found

    def backends(self, vip: int, port: int = 80) -> list[str]:
        """As a program would find them."""
        place = self.set_of(self.leads()[f"10.96.0.{vip}", port])
        header = self.contract.unpack("backend_set", self.maps["sets"].get(number(place)) or b"")
        slots = [self.maps["backends"].get(number(place) + number(i)) or b"" for i in range(header.count)]
        return [".".join(map(str, raw[12:16])) for raw in slots]


@pytest.fixture
def kernel(programs: Programs) -> Kernel:
    return Kernel(programs)


def collect(table: Table) -> None:
    garbage = table.take_garbage()
    libc.await_readers()
    table.free(garbage)


def test_a_service_as_programs_find_it(table: Table, kernel: Kernel) -> None:
    assert table.apply({WEB: (plan(backends=some(1, 2)),)}) == [
        PortName(WEB, "http", TCP, 4, Traffic.CLUSTER)
    ]
    assert kernel.leads() == {("10.96.0.1", 0): 0, ("10.96.0.1", 80): 2}
    assert kernel.backends(1) == ["10.244.0.1", "10.244.0.2"]
    assert not kernel.all()["members"], "nobody asks for them"


@pytest.mark.parametrize(
    ("changes", "members"),
    [
        pytest.param({}, 0, id="TCP"),
        pytest.param({"affinity": 100}, 2, id="TCP with affinity"),
        pytest.param({"protocol": UDP, "serving": some(1, 2)}, 2, id="UDP"),
        pytest.param({"protocol": UDP, "serving": some(1, 2, 3)}, 3, id="UDP, one serves but is not chosen"),
        pytest.param({"protocol": UDP, "serving": some(1, 3), "affinity": 9}, 4, id="both questions"),
    ],
)
def test_members_are_there_for_those_who_ask(
    table: Table, kernel: Kernel, changes: Mapping[str, Any], members: int
) -> None:
    table.apply({WEB: (plan(backends=some(1, 2), **changes),)})
    assert len(kernel.all()["members"]) == members
    table.apply({WEB: ()})
    collect(table)
    assert kernel.all() == {name: {} for name in SIZES}


def test_a_change_is_one_word(table: Table, kernel: Kernel) -> None:
    """The old set stays whole until no program can be reading it."""
    table.apply({WEB: (plan(backends=some(1, 2)),), SHOP: (plan(SHOP, 2, some(9)),)})
    before, words = kernel.all(), [kernel.set_of(i) for i in (2, 3)]
    assert table.apply({WEB: (plan(backends=some(3)),)}) == [PortName(WEB, "http", TCP, 4, Traffic.CLUSTER)]
    after = kernel.all()
    assert after["frontends"] == before["frontends"]
    for name in ("sets", "backends"):
        assert before[name].items() <= after[name].items()
    assert [kernel.set_of(i) == word for i, word in zip((2, 3), words, strict=True)] == [False, True]
    assert kernel.backends(1) == ["10.244.0.3"]
    collect(table)
    assert len(kernel.all()["sets"]) == 2
    assert len(kernel.all()["backends"]) == 2


def test_the_same_plan_writes_nothing(table: Table, kernel: Kernel) -> None:
    table.apply({WEB: (plan(backends=some(1, 2)),)})
    before = kernel.all(), kernel.set_of(2)
    assert table.apply({WEB: (plan(backends=some(1, 2)),)}) == []
    assert (kernel.all(), kernel.set_of(2)) == before
    assert not table.take_garbage()


def test_what_is_gone_is_freed_only_when_told(table: Table, kernel: Kernel) -> None:
    table.apply({WEB: (plan(backends=some(1)),)})
    word = kernel.set_of(2)
    table.apply({WEB: ()})
    assert kernel.leads() == {}
    assert (kernel.set_of(2), len(kernel.all()["sets"])) == (word, 1)
    garbage = table.take_garbage()
    assert garbage
    table.apply({SHOP: (plan(SHOP, 2, some(2)),)})
    assert kernel.leads()["10.96.0.2", 80] == 3, "the index may still be in a program's hands"
    table.free(garbage)
    assert kernel.set_of(2) == 0
    table.apply({WEB: (plan(backends=some(1)),)})
    assert kernel.leads()["10.96.0.1", 80] == 2


def test_hits_start_anew_with_an_index(table: Table, kernel: Kernel) -> None:
    table.apply({WEB: (plan(),)})
    size = kernel.maps["service_hits"].value_size
    kernel.maps["service_hits"][number(2)] = b"\1" * size
    table.apply({WEB: ()})
    collect(table)
    table.apply({SHOP: (plan(SHOP, 2),)})
    assert kernel.leads()["10.96.0.2", 80] == 2
    assert kernel.maps["service_hits"].get(number(2)) == bytes(size)


def test_a_port_renamed_and_one_renumbered(table: Table, kernel: Kernel) -> None:
    """S-08: a port is known by its name. Its old number is refused from then on."""
    table.apply({WEB: (plan(backends=some(1)),)})
    table.apply({WEB: (plan(backends=some(1), name="www"),)})
    assert kernel.backends(1) == ["10.244.0.1"]
    table.apply({WEB: (plan(backends=some(1), name="www", port=81),)})
    assert set(kernel.leads()) == {("10.96.0.1", 0), ("10.96.0.1", 81)}
    collect(table)
    assert len(kernel.all()["sets"]) == 1


def test_ports_and_addresses_of_one_service(table: Table, kernel: Kernel) -> None:
    ports = plan(backends=some(1)), plan(backends=some(2), name="https", port=443)
    both = led_by(ports[0], *ports[0].frontends, Frontend(address(9), 80, TCP))
    table.apply({WEB: (both, ports[1])})
    assert kernel.leads() == {
        ("10.96.0.1", 0): 0,
        ("10.96.0.1", 80): 2,
        ("10.96.0.1", 443): 3,
        ("10.96.0.9", 0): 0,
        ("10.96.0.9", 80): 2,
    }
    table.apply({WEB: ports[1:]})
    assert set(kernel.leads()) == {("10.96.0.1", 0), ("10.96.0.1", 443)}


def test_an_address_of_the_node_itself(table: Table, kernel: Kernel) -> None:
    """All its ports are the node's; and it can become so, and cease to be."""
    table.apply({WEB: (plan(backends=some(1)),)})
    for own, expected in (
        ({address(1)}, {("10.96.0.1", 0): 1}),
        (set(), {("10.96.0.1", 0): 0, ("10.96.0.1", 80): 2}),
    ):
        table.own = frozenset(own)
        table.apply({WEB: (plan(backends=some(1)),)})
        assert kernel.leads() == expected


GONE, HEIR = (WEB, ()), (SHOP, (plan(SHOP, 1, some(9)),))
RENUMBERED = (WEB, (plan(vip=3, backends=some(1)),))


@pytest.mark.parametrize("leaves", [GONE, RENUMBERED], ids=["gone", "elsewhere"])
@pytest.mark.parametrize("heir_first", [True, False])
@pytest.mark.parametrize("at_once", [True, False])
def test_an_address_changes_hands(
    table: Table,
    kernel: Kernel,
    leaves: tuple[tuple[str, str], tuple[PortPlan, ...]],
    heir_first: bool,
    at_once: bool,
) -> None:
    """In one go or in two, in whatever order: who has it in the end is led to, all ports of it."""
    table.apply({WEB: (plan(backends=some(1)), plan(backends=some(1), name="https", port=443))})
    steps = [HEIR, leaves] if heir_first else [leaves, HEIR]
    for changes in [dict(steps)] if at_once else [{key: plans} for key, plans in steps]:
        table.apply(changes)
        collect(table)
    assert kernel.backends(1) == ["10.244.0.9"]
    leads = kernel.leads()
    assert leads["10.96.0.1", 0] == 0
    assert ("10.96.0.1", 443) not in leads
    table.apply({SHOP: ()})
    assert [vip for vip, _ in kernel.leads() if vip == "10.96.0.1"] == []


class Waits:
    """Counts the waits for readers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        wait = libc.await_readers

        def counted() -> None:
            self.count += 1
            wait()

        monkeypatch.setattr(libc, "await_readers", counted)


def test_memory_of_frontends_is_given_away_only_unseen(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that found one may read it still, and would be led to another Service."""
    waits = Waits(monkeypatch)
    table.apply({WEB: (plan(backends=some(1)),), SHOP: (plan(SHOP, 2, some(2)),)})
    table.apply({SHOP: (plan(SHOP, 2, some(3)),)})
    assert waits.count == 0, "a change of backends takes out no frontend"
    table.apply({WEB: ()})
    table.apply({WEB: (plan(backends=some(1)),)})
    assert waits.count == 1
    table.apply({WEB: (plan(backends=some(1), name="renamed"),)})
    table.apply({("default", "new"): (plan(("default", "new"), 3),)})
    assert waits.count == 2, "a value that is replaced is memory that is free, too"
    table.apply({WEB: ()})
    garbage = table.take_garbage()
    libc.await_readers()
    table.free(garbage)
    table.apply({WEB: (plan(backends=some(1)),)})
    assert waits.count == 3, "who collected has waited already"


def test_another_agent_takes_over(programs: Programs, table: Table, kernel: Kernel) -> None:
    """S-73: what is as planned is not touched, what is not is changed in place, the rest goes."""
    web, shop = plan(backends=some(1, 2)), plan(SHOP, 2, some(3), UDP, serving=some(3, 4))
    old = ("default", "old")
    table.apply({WEB: (web,), SHOP: (shop,), old: (plan(old, 3, some(5)),)})
    before, words = kernel.all(), {i: kernel.set_of(i) for i in (2, 3, 4)}
    heir = Table(programs.maps, programs.contract)
    assert kernel.all() == before
    heir.apply({WEB: (web,)})
    assert heir.apply({SHOP: (choosing(shop, serving=some(3)),)})
    assert kernel.set_of(2) == words[2]
    assert kernel.set_of(3) > max(words.values())
    assert kernel.leads()["10.96.0.3", 80] == 4, "until all that is wanted is known"
    heir.forget_unclaimed()
    collect(heir)
    assert {vip for vip, _ in kernel.leads()} == {"10.96.0.1", "10.96.0.2"}
    assert len(kernel.all()["sets"]) == 2
    heir.apply({("default", "new"): (plan(("default", "new"), 4),)})
    assert kernel.leads()["10.96.0.4", 80] == 4


def test_an_heir_knows_udp_whose_serving_differ(programs: Programs, table: Table, kernel: Kernel) -> None:
    plans = {WEB: (plan(backends=some(1), protocol=UDP, serving=some(1, 2), affinity=7),)}
    table.apply(plans)
    before, word = kernel.all(), kernel.set_of(2)
    heir = Table(programs.maps, programs.contract)
    assert heir.apply(plans) == [PortName(WEB, "http", UDP, 4, Traffic.CLUSTER)], (
        "new to this agent, though not to the kernel"
    )
    heir.forget_unclaimed()
    collect(heir)
    assert (kernel.all(), kernel.set_of(2)) == (before, word)


def test_what_an_agent_left_half_written_goes(programs: Programs, table: Table, kernel: Kernel) -> None:
    """It was ended between two writes."""
    table.apply({WEB: (plan(backends=some(1)),)})
    before = kernel.all()
    pack = kernel.contract.pack
    stray = number(77)
    kernel.maps["backends"][stray + number(0)] = pack("backend")
    kernel.maps["backends"][stray + number(2)] = pack("backend")
    kernel.maps["members"][stray + pack("backend")] = b"\1"
    kernel.maps["sets"][number(78)] = pack("backend_set", count=1)
    heir = Table(programs.maps, programs.contract)
    heir.apply({WEB: (plan(backends=some(1)),)})
    heir.forget_unclaimed()
    collect(heir)
    assert kernel.all() == before


@pytest.fixture
def nearly_full(kernel: Kernel, request: pytest.FixtureRequest) -> Iterator[Map]:
    """All but two places of a map are taken by others."""
    name, limit = request.param
    full, size = kernel.maps[name], SIZES[name]
    keys = [b"\xff" * (size - 4) + number(1 << 30 | i) for i in range(limit - 2)]
    full.update_all(keys, [bytes(full.value_size)] * len(keys))
    try:
        yield full
    finally:
        full.discard_all(keys)


@pytest.mark.parametrize(
    "nearly_full", [("frontends", 131072), ("sets", 131072)], indirect=True, ids=["frontends", "sets"]
)
def test_a_full_table_goes_on_as_it_is(table: Table, kernel: Kernel, nearly_full: Map) -> None:
    """What did not fit is written once there is room, and only then told as changed."""
    table.apply({WEB: (plan(backends=some(1)),)})
    others = {("default", str(i)): (plan(("default", str(i)), 10 + i, some(2)),) for i in range(3)}
    for _ in range(3):
        with pytest.raises(KernelError) as raised:
            table.apply(others)
        assert raised.value.errno == errno.E2BIG
        assert kernel.backends(1) == ["10.244.0.1"]
        collect(table)
    changed = table.apply({WEB: ()})
    collect(table)
    one = ("default", "0")
    changed += table.apply({key: () for key in others if key != one})
    changed += table.apply({one: others[one]})
    assert PortName(one, "http", TCP, 4, Traffic.CLUSTER) in changed
    assert kernel.backends(10) == ["10.244.0.2"]
    two = ("default", "1")
    table.apply({one: ()})
    table.apply({two: others[two]})
    assert kernel.leads()["10.96.0.11", 80] <= 5, "failures use up no index"


def test_clearing_leaves_nothing(programs: Programs, table: Table, kernel: Kernel) -> None:
    """Of what these tests share."""
    table.apply({WEB: (plan(backends=some(1), affinity=5),)})
    clear_services(programs)
    assert kernel.all() == {name: {} for name in SIZES}
