"""What the answers mean: rows that say what was expected and what was seen. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from tulle.verify.plan import MAIN, SECOND, Check, Place, family_of
from tulle.verify.statements import STATEMENTS, Family


class Row(msgspec.Struct, frozen=True, rename={"source": "from", "target": "to"}):
    """One line of the result. ``hop`` names what is broken where ``ok`` is false."""

    id: str
    statement: str
    source: str
    target: str
    family: str
    protocol: str
    ok: bool
    expected: str
    seen: str
    hop: str = ""


class Interface(msgspec.Struct, frozen=True):
    """As ``probe check`` reports it."""

    name: str
    mac: str
    addresses: tuple[str, ...]


class Answer(msgspec.Struct, frozen=True):
    """As ``probe check`` reports it: ``name`` answered, and saw the source as ``peer`` if that is known.

    Of many tries: ``met`` are those who answered and as whom they saw the source, ``shown`` as which
    ``address port`` the client was shown them, ``failed`` how many tries had no answer. Of a question for a
    name: ``rcode`` and ``records``; of one over HTTP: ``status``. ``seconds`` is the time that it took.
    """

    id: int
    name: str | None = None
    peer: str | None = None
    error: str | None = None
    met: dict[str, tuple[str, ...]] = {}
    shown: tuple[str, ...] = ()
    failed: int = 0
    rcode: str = ""
    records: tuple[str, ...] = ()
    status: int = 0
    seconds: float = 0.0


class Resolver(msgspec.Struct, frozen=True):
    """What a Pod's ``/etc/resolv.conf`` says, as ``probe check`` reports it."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()

    def zone(self, namespace: str) -> str | None:
        """The cluster's domain: what follows ``NAMESPACE.svc.`` in the search path of a Pod."""
        prefix = f"{namespace}.svc."
        found = (name.removeprefix(prefix) for name in self.search if name.startswith(prefix))
        return next((name.rstrip(".") for name in found), None)


class Report(msgspec.Struct, frozen=True):
    """Everything that one container found out; ``failure`` says why it could not even be asked."""

    interfaces: tuple[Interface, ...] = ()
    resolver: Resolver = Resolver()
    results: tuple[Answer, ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class Outcome:
    """A check and its answer. ``reached``: something answered, whoever it was and whatever it saw.

    ``sources`` are the addresses as which the target may see the source; empty if that is not judged.
    """

    check: Check
    sources: frozenset[str]
    ok: bool
    reached: bool
    ran: bool
    seen: str
    peer: str | None = None


Reports = Mapping[tuple[str, str], Report]
"""By Pod and container."""
NodeAddresses = Mapping[str, frozenset[str]]
"""By node: every address on any of its interfaces."""


def sources(check: Check, nodes: NodeAddresses) -> frozenset[str]:
    """No NAT: a Pod is seen with its own address, a host-network Pod with one of its node's (N-02, N-04)."""
    if check.source.host_network:
        return nodes[check.source.node]
    own = check.source.address(check.family)
    judged = check.source is not check.target and not check.target.host_network
    return frozenset({own} if judged and own else ())


def outcome(check: Check, answer: Answer | None, failure: str, nodes: NodeAddresses) -> Outcome:
    """``failure`` is why there is no answer at all."""
    allowed = sources(check, nodes)
    if answer is None:
        seen = failure or "no report"
        return Outcome(check, allowed, ok=False, reached=False, ran=False, seen=seen)
    if answer.error is not None:
        return Outcome(check, allowed, ok=False, reached=False, ran=True, seen=answer.error)
    right_pod = answer.name in (None, check.target.pod)
    right_source = not allowed or answer.peer is None or answer.peer in allowed
    who = str(check.target) if right_pod else answer.name
    seen = f"{who} sees {answer.peer}" if allowed and answer.peer else f"{who} answers"
    return Outcome(check, allowed, right_pod and right_source, True, True, seen, answer.peer)


def expected(result: Outcome) -> str:
    """What must be seen for a check to hold."""
    check = result.check
    if not result.sources:
        return f"{check.target} answers"
    if check.source.host_network:
        return f"{check.target} sees an address of {check.source.node}"
    return f"{check.target} sees {next(iter(result.sources))}"


def row(result: Outcome, hop: str) -> Row:
    check = result.check
    return Row(
        id=check.statement,
        statement=STATEMENTS[check.statement],
        source=str(check.source),
        target=str(check.target),
        family=check.family,
        protocol=check.protocol,
        ok=result.ok,
        expected=expected(result),
        seen=result.seen,
        hop=hop,
    )


def _own(place: Place, statement: str, ok: bool, wanted: str, seen: str, family: str = "") -> Row:
    """A row about one Pod alone; what breaks there breaks in the Pod."""
    text = STATEMENTS[statement]
    hop = "" if ok else f"inside {place}"
    return Row(statement, text, str(place), str(place), family, "", ok, wanted, seen, hop)


def readiness(place: Place, problem: str) -> Row:
    """``problem`` is what keeps the Pod from being Ready, empty if it is."""
    return _own(place, "ready", not problem, "Ready", problem or "Ready")


def own_ips(
    places: Sequence[Place],
    cluster_addresses: Counter[str],
    node_addresses: Iterable[str],
    reports: Reports,
    families: Sequence[Family],
) -> Iterator[Row]:
    """N-01, N-05. ``cluster_addresses`` counts the Pods, of the whole cluster, that claim an address."""
    of_nodes = frozenset(node_addresses)
    for place in places:
        if place.host_network:
            continue
        report = reports.get((place.pod, MAIN), Report())
        on_interfaces = _addresses(report)
        for family in families:
            address = place.address(family)
            problems = [
                (address is None, "no address"),
                (bool(report.failure), report.failure),
                (address in of_nodes, f"{address}, which is a node's"),
                (cluster_addresses[address or ""] > 1, f"{address}, which another Pod has too"),
                (address not in on_interfaces, f"{address}, but on the interfaces {_listed(on_interfaces)}"),
            ]
            seen = next((text for wrong, text in problems if wrong), str(address))
            ok = not any(wrong for wrong, _ in problems)
            yield _own(place, "own-ip", ok, f"one {family} address, on its interface", seen, family)


def shared(place: Place, reports: Reports) -> Row:
    """N-01: both containers have the very same interfaces."""
    first, second = (reports.get((place.pod, name), Report()) for name in (MAIN, SECOND))
    ok = bool(first.interfaces) and first.interfaces == second.interfaces
    texts = [
        ", ".join(f"{link.mac} {' '.join(link.addresses)}" for link in report.interfaces) or report.failure
        for report in (first, second)
    ]
    return _own(place, "one-pod", ok, texts[0], texts[1])


def collision(place: Place, family: Family, answer: Answer | None, failure: str) -> Row:
    """A port that one container listens on is taken in the other."""
    seen = failure if answer is None else answer.error or "the port was free"
    return _own(place, "ports", seen == "EADDRINUSE", "EADDRINUSE", seen, family)


def _addresses(report: Report) -> frozenset[str]:
    return frozenset(address for link in report.interfaces for address in link.addresses)


def _listed(addresses: Iterable[str]) -> str:
    return ", ".join(sorted(addresses, key=lambda a: (family_of(a), a))) or "(none)"
