"""Which backend a flow has, and for how long: chance, affinity, and changes amid it (S-36, S-60, S-65)."""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from cluster import ROUTER_MAC, UPLINK, Family, flow
from packets import ACK, SCTP, SYN, TCP, UDP, ethernet, sctp, tcp
from service_scene import BACKEND_PORT, KEY, NODE_MAC, OTHER_VIPS, PORT, Ends, Scene, backends, reasons
from tests.plans import led_by

from tulle.model.address import Address, to_bytes
from tulle.pod_to_service.plan import Backend
from tulle.pod_to_service.table import Table

DATAGRAM = struct.pack("!HH", 12, 0) + b"abcd"
OPENING = {TCP: tcp(0, 0, SYN)[4:], UDP: DATAGRAM, SCTP: sctp(0, 0, 1)[4:]}
GOING_ON = {TCP: tcp(0, 0, ACK, b"x")[4:], UDP: DATAGRAM, SCTP: sctp(0, 0, 0)[4:]}
FLOW_REFRESH, FLOW_IDLE, CONNECTION_IDLE = 30, 180, 7440  # seconds, bpf/lib/flow.h
EPHEMERAL = 32768, 61000
"""The ports that Linux gives out by itself, and the one behind them."""


def seconds() -> int:
    """The clock of the programs, to a tick: seconds since boot."""
    return int(time.clock_gettime(time.CLOCK_MONOTONIC))


def sent_to(
    scene: Scene, protocol: int, rest: bytes, port: int = 40000, client: Address | None = None
) -> Address | str:
    """Whom the client's packet leaves to; the reason if that is nobody."""
    ends = Ends(client or scene.family.a, port, scene.vip, PORT)
    outcome = (
        scene.send(ends.packet(protocol, rest))
        if client is None
        else scene.answer(client, ends.packet(protocol, rest))
    )
    [(_, reason)] = reasons(outcome)
    if reason.startswith("DROP_"):
        return reason
    packet = outcome.packet[14:]
    return ip_address(packet[16:20] if packet[0] >> 4 == 4 else packet[24:40])


def opened(scene: Scene, protocol: int = TCP, port: int = 40000) -> Address | str:
    return sent_to(scene, protocol, OPENING[protocol], port)


def two(scene: Scene) -> tuple[Address, Address]:
    return scene.family.native, scene.family.b


@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP])
def test_the_first_packet_again_goes_where_it_went(scene: Scene, protocol: int) -> None:
    scene.serve(protocol, *two(scene))
    assert len({opened(scene, protocol) for _ in range(20)}) == 1


@pytest.mark.parametrize("protocol", [TCP, SCTP])
def test_the_first_packet_again_after_a_change_is_a_new_one(scene: Scene, protocol: int) -> None:
    """Nobody is led to a backend that is gone, whatever had the same ends before."""
    first, second = two(scene)
    scene.serve(protocol, first)
    assert opened(scene, protocol) == first
    scene.serve(protocol, second)
    assert opened(scene, protocol) == second


@pytest.mark.parametrize("protocol", [TCP, SCTP])
def test_a_connection_keeps_its_backend(scene: Scene, protocol: int) -> None:
    """S-65: to the end, over changes, and when the Service is gone."""
    first, second = two(scene)
    scene.serve(protocol, first)
    opened(scene, protocol)
    for change in ([second], [], None):
        scene.apply(*([] if change is None else [scene.plan(protocol, backends(*change))]))
        assert sent_to(scene, protocol, GOING_ON[protocol]) == first
    assert opened(scene, protocol) == "DROP_SERVICE_UNALLOCATED"


def test_a_new_connection_with_the_ends_of_an_old_one(scene: Scene) -> None:
    """The Service has no such port any more; that it has the same backends does not matter."""
    scene.serve(TCP, scene.family.b)
    assert opened(scene) == scene.family.b
    renumbered = scene.plan(TCP, backends(scene.family.b))
    moved = renumbered.frontends[0]._replace(port=81)
    scene.table.apply({KEY: (led_by(renumbered, moved),)})
    assert opened(scene) == "DROP_SERVICE_PORT"
    assert sent_to(scene, TCP, GOING_ON[TCP]) == scene.family.b


def test_datagrams_leave_a_backend_that_does_not_serve(scene: Scene) -> None:
    """S-65."""
    first, second = two(scene)
    scene.serve(UDP, first)
    assert opened(scene, UDP) == first
    scene.serve(UDP, second)
    assert opened(scene, UDP) == second
    scene.apply(scene.plan(UDP, ()))
    assert opened(scene, UDP) == second, "S-65: with no endpoint at all, nothing is ended"


def test_datagrams_stay_with_whom_is_not_chosen_any_more(scene: Scene) -> None:
    """S-65: policies and topology are for new flows; new ones go to whom is chosen."""
    first, second = two(scene)
    scene.serve(UDP, first)
    assert opened(scene, UDP) == first
    scene.apply(scene.plan(UDP, backends(second), serving=backends(first, second)))
    assert opened(scene, UDP) == first
    assert opened(scene, UDP, 40001) == second
    scene.apply(scene.plan(UDP, backends(second), serving=backends(second)))
    assert opened(scene, UDP) == second


def test_datagrams_to_a_service_that_is_gone(scene: Scene) -> None:
    scene.serve(UDP, scene.family.b)
    assert opened(scene, UDP) == scene.family.b
    scene.apply()
    assert opened(scene, UDP) == "DROP_SERVICE_UNALLOCATED"


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_datagrams_do_not_follow_an_index_to_another_service(scene: Scene, protocol: int) -> None:
    """The kernel's index of a Service that is gone is given to the next one."""
    scene.serve(UDP, scene.family.b)
    assert opened(scene, UDP) == scene.family.b
    [index] = scene.indices()
    scene.apply()
    other = scene.plan(protocol, backends(scene.family.native), vip=OTHER_VIPS[scene.family.name])
    scene.apply(other, key=("default", "other"))
    assert scene.indices() == [index]
    assert opened(scene, UDP) == "DROP_SERVICE_UNALLOCATED"


def age(scene: Scene, by: int) -> None:
    """All flows were used last so many seconds ago."""
    flows, contract = scene.programs.maps["flows"], scene.programs.contract
    for key, value in flows.items(40).items():
        state = contract.unpack("flow_state", value)
        state.used = seconds() - by
        flows[key] = bytes(state)


def age_of(scene: Scene, key: bytes) -> int:
    raw = scene.programs.maps["flows"].get(key)
    assert raw
    return seconds() - int(scene.programs.contract.unpack("flow_state", raw).used)


def answered(scene: Scene, protocol: int = UDP) -> bool:
    """Whether the backend's answer comes from the Service."""
    rest = tcp(0, 0, ACK)[4:] if protocol == TCP else DATAGRAM
    given = scene.given(scene.family.b).back
    outcome = scene.answer(scene.family.b, given.packet(protocol, rest))
    return scene.asked.back.packet(protocol, rest, 63) == outcome.packet[14:]


def test_answers_of_a_flow_that_is_idle_are_its_own(scene: Scene) -> None:
    """So long after, a datagram of the backend may be of another exchange between the same two."""
    scene.serve(UDP, scene.family.b)
    opened(scene, UDP)
    age(scene, FLOW_IDLE - 2)
    assert answered(scene)
    age(scene, FLOW_IDLE + 2)
    assert not answered(scene)
    opened(scene, UDP)
    assert answered(scene), "the client goes on, and so does the flow"


def test_a_backend_may_talk_longer_than_its_client(scene: Scene) -> None:
    """Its answers count as use, too: else, after a while, they came from an address unknown (S-54)."""
    scene.serve(UDP, scene.family.b)
    opened(scene, UDP)
    age(scene, FLOW_IDLE - 2)
    assert answered(scene)
    key = flow(scene.programs, scene.family.b, scene.family.a, UDP, (BACKEND_PORT, 40000))
    assert age_of(scene, key) <= 1


def test_answers_of_tcp_are_never_too_late(scene: Scene) -> None:
    scene.serve(TCP, scene.family.b)
    opened(scene)
    age(scene, 1_000_000 % seconds())
    assert answered(scene, TCP)


def test_a_flow_in_use_keeps_its_answers(scene: Scene) -> None:
    """Both directions are in an LRU map; one alone would be of no use."""
    scene.serve(TCP, scene.family.b)
    opened(scene)
    key = flow(scene.programs, scene.family.b, scene.family.a, TCP, (BACKEND_PORT, 40000))
    scene.programs.maps["flows"].discard(key)
    assert not answered(scene, TCP)
    age(scene, FLOW_REFRESH + 1)
    sent_to(scene, TCP, GOING_ON[TCP])
    assert answered(scene, TCP)


def test_a_backend_that_connects_by_itself_is_not_an_answer(scene: Scene) -> None:
    scene.serve(TCP, scene.family.b)
    opened(scene)
    own = scene.given(scene.family.b).back.packet(TCP, tcp(0, 0, SYN)[4:])
    outcome = scene.answer(scene.family.b, own)
    assert outcome.packet[14:] == scene.given(scene.family.b).back.packet(TCP, tcp(0, 0, SYN)[4:], 63)
    assert not answered(scene, TCP)


def serve_twice(scene: Scene, protocol: int) -> tuple[Address, Address]:
    """By two addresses, with Pod ``b`` behind both."""
    other = OTHER_VIPS[scene.family.name]
    plan = scene.plan(protocol, backends(scene.family.b))
    scene.apply(led_by(plan, *plan.frontends, plan.frontends[0]._replace(address=to_bytes(other))))
    return scene.vip, other


def given_port(scene: Scene, protocol: int, asked: Ends) -> int:
    """Opens a flow: the port from which Pod ``b`` sees it come."""
    packet = scene.send(asked.packet(protocol, OPENING[protocol])).packet[14:]
    port = int.from_bytes(packet[20 if asked.source.version == 4 else 40 :][:2], "big")
    given = Ends(asked.source, port, scene.family.b, BACKEND_PORT)
    assert packet == given.packet(protocol, OPENING[protocol], 63), "the checksum follows the port"
    return port


@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP])
def test_two_flows_of_one_port_to_one_backend_are_told_apart(scene: Scene, protocol: int) -> None:
    """S-53: by two Services; the later flow gets another port, and each has its own answers."""
    backend, seen = scene.family.b, []
    for vip in serve_twice(scene, protocol):
        asked = Ends(scene.family.a, 40000, vip, PORT)
        given = Ends(scene.family.a, given_port(scene, protocol, asked), backend, BACKEND_PORT)
        seen.append((asked, given))
    assert seen[0][1].source_port == 40000 != seen[1][1].source_port
    for asked, given in seen:
        answer = scene.answer(backend, given.back.packet(protocol, GOING_ON[protocol]))
        assert answer.packet[14:] == asked.back.packet(protocol, GOING_ON[protocol], 63)


def test_other_ports_are_not_only_those_that_clients_use_themselves(scene: Scene) -> None:
    """A client with connections from all of its ephemeral ports finds others; none needs a privilege."""
    given: set[int] = set()
    for own in range(40000, 40030):
        asked = [Ends(scene.family.a, own, vip, PORT) for vip in serve_twice(scene, TCP)]
        assert given_port(scene, TCP, asked[0]) == own
        given.add(given_port(scene, TCP, asked[1]))
    assert min(given) >= 1024
    assert given - set(range(*EPHEMERAL))


@pytest.mark.parametrize(("protocol", "seconds_idle"), [(TCP, CONNECTION_IDLE), (UDP, FLOW_IDLE)])
def test_a_flow_that_was_idle_for_long_gives_its_port_away(
    scene: Scene, protocol: int, seconds_idle: int
) -> None:
    """RFC 5382, REQ-5: not before 2 hours and 4 minutes for TCP."""
    first, other = (Ends(scene.family.a, 40000, vip, PORT) for vip in serve_twice(scene, protocol))
    given_port(scene, protocol, first)
    age(scene, seconds_idle - 10)
    assert given_port(scene, protocol, other) != 40000
    key = flow(scene.programs, other.source, other.destination, protocol, (40000, PORT))
    scene.programs.maps["flows"].discard(key)
    age(scene, seconds_idle + 10)
    assert given_port(scene, protocol, other) == 40000


CHI_SQUARED = {2: 45.0, 5: 52.0, 17: 85.0}
"""By the number of backends: what is exceeded by chance less than once in 10**9 times."""


@pytest.mark.parametrize("count", CHI_SQUARED)
def test_every_backend_has_the_same_chance(scene: Scene, count: int) -> None:
    """S-36."""
    protocol, times = UDP, 200 * count
    ends = [(scene.family.native, 1000 + i) for i in range(count)]
    scene.serve(protocol, *ends)
    chosen: Counter[int] = Counter()
    for port in range(10000, 10000 + times):
        packet = scene.send(Ends(scene.family.a, port, scene.vip, PORT).packet(UDP, DATAGRAM)).packet
        at = 14 + (20 if scene.family.a.version == 4 else 40) + 2
        chosen[int.from_bytes(packet[at : at + 2], "big")] += 1
    assert set(chosen) == {port for _, port in ends}
    assert sum((n - 200) ** 2 / 200 for n in chosen.values()) < CHI_SQUARED[count]
    assert scene.hits() == [times]


def sticky(scene: Scene, *ends: Address, timeout: int = 100, protocol: int = TCP) -> None:
    scene.apply(scene.plan(protocol, backends(*ends), affinity=timeout))


def affinities(scene: Scene) -> Iterator[tuple[bytes, Address, int]]:
    """(client, backend, seconds since it was used)."""
    contract = scene.programs.contract
    for key, value in scene.programs.maps["affinities"].items(20).items():
        known = contract.unpack("affinity", value)
        client = bytes(contract.unpack("affinity_key", key).client)
        raw = bytes(known.backend.address)
        address = ip_address(raw[12:] if scene.family.a.version == 4 else raw)
        yield client, address, seconds() - known.used


def age_affinities(scene: Scene, by: int) -> None:
    table, contract = scene.programs.maps["affinities"], scene.programs.contract
    for key, value in table.items(20).items():
        known = contract.unpack("affinity", value)
        known.used = seconds() - by
        table[key] = bytes(known)


@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP])
def test_a_client_with_affinity_stays(scene: Scene, protocol: int) -> None:
    """S-60: by its address, whatever port it comes from."""
    sticky(scene, *two(scene), protocol=protocol)
    first = opened(scene, protocol)
    assert {opened(scene, protocol, port) for port in range(50000, 50020)} == {first}
    [(client, backend, _)] = affinities(scene)
    assert (client, backend) == (to_bytes(scene.family.a), first)
    assert scene.hits() == [21]


def test_each_client_has_an_affinity_of_its_own(scene: Scene) -> None:
    sticky(scene, *two(scene))
    for client in (scene.family.a, scene.family.b):
        sent_to(scene, TCP, OPENING[TCP], client=client)
    assert {client for client, *_ in affinities(scene)} == {
        to_bytes(scene.family.a),
        to_bytes(scene.family.b),
    }


def test_affinity_is_the_services_whatever_its_address(scene: Scene) -> None:
    """S-60: the key is the Service's port, not one of its frontends."""
    plan = scene.plan(TCP, backends(*two(scene)), affinity=100)
    other = plan.frontends[0]._replace(address=to_bytes(OTHER_VIPS[scene.family.name]))
    both = led_by(plan, *plan.frontends, other)
    scene.apply(both)
    first = opened(scene)
    for port in range(50000, 50010):
        ends = Ends(scene.family.a, port, OTHER_VIPS[scene.family.name], PORT)
        scene.send(ends.packet(TCP, OPENING[TCP]))
    assert [backend for _, backend, _ in affinities(scene)] == [first]


def test_a_use_renews_the_affinity(scene: Scene) -> None:
    sticky(scene, *two(scene))
    first = opened(scene)
    age_affinities(scene, 50)
    assert opened(scene, port=50000) == first
    [(_, _, age)] = affinities(scene)
    assert age < 50


def test_affinity_ends_with_its_timeout(scene: Scene) -> None:
    """S-60: the client is free to choose again; each of 60 times the same would be chance of 2**-59."""
    sticky(scene, *two(scene))
    chosen = set()
    for port in range(50000, 50060):
        chosen.add(opened(scene, port=port))
        age_affinities(scene, 101)
    assert chosen == set(two(scene))


def test_affinity_from_outside_ends_with_its_timeout(scene: Scene) -> None:
    """S-60: although a client outside is led alike by each node, for the first time."""
    sticky(scene, *two(scene))
    chosen = set()
    for port in range(50000, 50060):
        packet = Ends(scene.family.outside, port, scene.vip, PORT).packet(TCP, OPENING[TCP])
        scene.programs.run("from_uplink", ethernet(NODE_MAC, ROUTER_MAC, packet), UPLINK)
        [(_, backend, _)] = affinities(scene)
        chosen.add(backend)
        age_affinities(scene, 101)
    assert chosen == set(two(scene))


def test_affinity_leaves_a_backend_that_is_gone(scene: Scene) -> None:
    sticky(scene, *two(scene))
    first = opened(scene)
    [other] = set(two(scene)) - {first}
    sticky(scene, other)
    assert opened(scene, port=50000) == other
    sticky(scene, *two(scene))
    assert {opened(scene, port=port) for port in range(50001, 50020)} == {other}


def test_affinity_outlives_a_change_of_other_backends(scene: Scene) -> None:
    sticky(scene, *two(scene))
    first = opened(scene)
    sticky(scene, *two(scene), scene.family.routed)
    assert {opened(scene, port=port) for port in range(50001, 50020)} == {first}


def test_affinity_can_be_switched_live(scene: Scene) -> None:
    """S-74."""
    scene.serve(TCP, *two(scene))
    assert len({opened(scene, port=port) for port in range(50000, 50060)}) == 2
    assert not list(affinities(scene))
    sticky(scene, *two(scene))
    assert len({opened(scene, port=port) for port in range(51000, 51020)}) == 1
    scene.serve(TCP, *two(scene))
    assert len({opened(scene, port=port) for port in range(52000, 52060)}) == 2


def test_an_affinity_that_the_socket_path_wrote_counts(scene: Scene) -> None:
    """S-60: one table for both readers, who write the same key and value."""
    sticky(scene, *two(scene))
    contract, [index] = scene.programs.contract, scene.indices()
    for wanted in two(scene):
        key = contract.pack("affinity_key", client=to_bytes(scene.family.a), service=index)
        [backend] = backends(wanted)
        scene.programs.maps["affinities"][key] = contract.pack(
            "affinity", backend=packed(scene, backend), used=seconds()
        )
        assert {opened(scene, port=50000 + i) for i in range(3)} == {wanted}
        scene.programs.maps["flows"].discard_all(list(scene.programs.maps["flows"].items(40)))


def packed(scene: Scene, backend: Backend) -> bytes:
    port = int.from_bytes(backend.port.to_bytes(2, "big"), "little")
    return scene.programs.contract.pack("backend", address=backend.address, port=port)


def test_an_affinity_of_this_very_moment_counts(scene: Scene) -> None:
    """Whoever wrote it may have been a tick of the clock ahead."""
    sticky(scene, *two(scene))
    contract, [index] = scene.programs.contract, scene.indices()
    [backend] = backends(scene.family.b)
    key = contract.pack("affinity_key", client=to_bytes(scene.family.a), service=index)
    ahead = contract.pack("affinity", backend=packed(scene, backend), used=seconds() + 1)
    scene.programs.maps["affinities"][key] = ahead
    assert {opened(scene, port=50000 + i) for i in range(10)} == {scene.family.b}


def test_families_do_not_share_what_is_known(scene: Scene, family: Family) -> None:
    """IPv4 addresses are ::ffff:a.b.c.d in the maps; a flow of one family is none of the other."""
    scene.serve(UDP, family.b)
    opened(scene, UDP)
    assert {key[:12] == bytes(10) + b"\xff\xff" for key in scene.programs.maps["flows"].items(40)} == {
        family.a.version == 4
    }


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_new_agent_is_not_taken_for_its_predecessor(scene: Scene, protocol: int) -> None:
    """A flow from before names a set that is gone: a new connection with its ends is a new one."""
    scene.serve(protocol, scene.family.b)
    asked = scene.asked.packet(protocol, OPENING[protocol])
    scene.send(asked)
    scene.apply()
    scene.table = Table(scene.programs.maps, scene.programs.contract)
    scene.serve(protocol, scene.family.overlay)
    scene.send(asked)
    answer = scene.given(scene.family.overlay).back.packet(protocol, GOING_ON[protocol])
    assert scene.answer(scene.family.overlay, answer).packet[14:] == scene.asked.back.packet(
        protocol, GOING_ON[protocol], 63
    )
