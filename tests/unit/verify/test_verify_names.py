"""Which questions for names are asked, and what their answers mean."""

from __future__ import annotations

from dataclasses import replace

import pytest
from networks import PLACES
from service_world import DNS, ENDPOINTS, FACTS, NAMESPACE, RESOLVER, ZONE, all_well, checks

from tulle.verify.findings import Trouble
from tulle.verify.judge import Answer, Resolver
from tulle.verify.name_judge import finding, without_zone
from tulle.verify.name_plan import NameCheck, Record, external_target, plan, records
from tulle.verify.services import ALL, HEADLESS, Facts
from tulle.verify.statements import FAMILIES

DOMAIN = f"{NAMESPACE}.svc.{ZONE}."
RECORDS = records(FACTS, FAMILIES, NAMESPACE, ZONE)
POD = PLACES[0]


def wanted(type_: str, name: str, made: list[Record] = RECORDS) -> set[str]:
    (found,) = [r.wanted for r in made if (r.type, r.name) == (type_, name)]
    return set(found)


MEMBERS = {family: [each for each in ENDPOINTS if each.family == family] for family in FAMILIES}


@pytest.mark.parametrize(
    ("row", "type_", "name", "data"),
    [
        ("D-02", "A", f"all.{DOMAIN}", {"A 10.96.0.1"}),
        ("D-02", "AAAA", f"all.{DOMAIN}", {"AAAA fd00:96::1"}),
        ("D-03", "SRV", f"_main._tcp.all.{DOMAIN}", {f"SRV 80 all.{DOMAIN}"}),
        ("D-04", "PTR", "1.0.96.10.in-addr.arpa.", {f"PTR all.{DOMAIN}"}),
        ("D-05", "A", f"headless.{DOMAIN}", {f"A {each.address}" for each in MEMBERS["IPv4"]}),
        ("D-05", "AAAA", f"headless.{DOMAIN}", {f"AAAA {each.address}" for each in MEMBERS["IPv6"]}),
        ("D-06", "A", f"a-1.headless.{DOMAIN}", {"A 10.244.1.2"}),
        (
            "D-07",
            "SRV",
            f"_main._tcp.headless.{DOMAIN}",
            {f"SRV 8099 {each.hostname}.headless.{DOMAIN}" for each in ENDPOINTS},
        ),
        ("D-08", "PTR", "2.1.244.10.in-addr.arpa.", {f"PTR a-1.headless.{DOMAIN}"}),
        ("D-09", "CNAME", f"external.{DOMAIN}", {f"CNAME all.{DOMAIN}"}),
        ("D-09", "AAAA", f"external.{DOMAIN}", {f"CNAME all.{DOMAIN}", "AAAA fd00:96::1"}),
        ("D-22", "A", f"missing.{DOMAIN}", set()),
        ("D-22", "", "all", {"10.96.0.1", "fd00:96::1"}),
        ("D-22", "", f"all.{NAMESPACE}", {"10.96.0.1", "fd00:96::1"}),
        ("D-22", "", f"all.{DOMAIN}", {"10.96.0.1", "fd00:96::1"}),
        ("D-22", "", "headless", {each.address for each in ENDPOINTS}),
    ],
)
def test_the_records_that_the_specification_derives(row: str, type_: str, name: str, data: set[str]) -> None:
    assert wanted(type_, name) == data


def test_a_cluster_with_one_family_has_no_records_of_the_other() -> None:
    facts = Facts({ALL: {"IPv4": "10.96.0.1"}, HEADLESS: {}}, {HEADLESS: tuple(MEMBERS["IPv4"])})
    made = records(facts, FAMILIES, NAMESPACE, ZONE)
    assert {r.type for r in made} == {"A", "SRV", "PTR", ""}
    assert wanted("", "all", made) == {"10.96.0.1"}
    assert "external" not in {r.short for r in made}


def test_endpoints_without_hostnames_are_only_asked_for_by_the_services_name() -> None:
    """D-06: what their own names are is the DNS server's choice."""
    nameless = tuple(replace(each, hostname="") for each in ENDPOINTS)
    made = records(Facts(FACTS.addresses, {HEADLESS: nameless}), FAMILIES, NAMESPACE, ZONE)
    headless = {(r.type, r.short) for r in made if r.statement == "name-headless"}
    assert headless == {("A", "headless"), ("AAAA", "headless")}
    assert {r.short for r in made if r.statement == "name-srv"} == {"_main._tcp.all"}


def test_everyone_asks_every_server_over_udp_and_tcp() -> None:
    asked = [check for check in checks() if isinstance(check, NameCheck)]
    by_hand = {(c.source, c.server, c.transport, c.record) for c in asked if c.server}
    of_library = [r for r in RECORDS if r.statement == "name-library"]
    rest = [r for r in RECORDS if r not in of_library]
    assert by_hand == {
        (p, s, t, r) for p in PLACES for s in DNS.values() for t in ("udp", "tcp") for r in rest
    }
    assert {(c.source, c.record) for c in asked if not c.server} == {
        (p, r) for p in PLACES for r in of_library
    }


def test_only_servers_of_the_families_that_are_judged() -> None:
    made = plan([POD], ("IPv6",), {POD.pod: RESOLVER}, RECORDS)
    assert {c.server for c in made} == {"", DNS["IPv6"]}


@pytest.mark.parametrize(
    ("search", "zone"),
    [
        (RESOLVER.search, ZONE),
        (("other.svc.x", f"{NAMESPACE}.svc.corp.example."), "corp.example"),
        (("example.com",), None),
        ((), None),
    ],
)
def test_the_zone_is_that_of_the_search_path(search: tuple[str, ...], zone: str | None) -> None:
    assert Resolver((), search).zone(NAMESPACE) == zone
    assert external_target("x", "y.test") == "all.x.svc.y.test"


def check(type_: str, name: str, library: bool = False) -> NameCheck:
    made = (c for c in checks() if isinstance(c, NameCheck) and bool(c.server) is not library)
    return next(c for c in made if (c.record.type, c.record.short) == (type_, name))


@pytest.mark.parametrize(
    ("asked", "answer", "trouble", "seen"),
    [
        (("A", "all"), Answer(0, rcode="NXDOMAIN"), Trouble.WRONG, "NXDOMAIN"),
        (("A", "all"), Answer(0, rcode="NOERROR"), Trouble.WRONG, "no records"),
        (("A", "all"), Answer(0, rcode="NOERROR", records=("A 10.96.0.2",)), Trouble.WRONG, "A 10.96.0.2"),
        (("A", "all"), Answer(0, error="no answer within 3 s"), Trouble.SILENT, "no answer within 3 s"),
        (("A", "missing"), Answer(0, rcode="NOERROR"), Trouble.WRONG, "no records"),
        (("A", "missing"), Answer(0, rcode="SERVFAIL"), Trouble.WRONG, "SERVFAIL"),
        (("A", "missing"), Answer(0, rcode="NXDOMAIN", seconds=0.5), Trouble.NONE, "NXDOMAIN"),
        (("A", "missing"), Answer(0, rcode="NXDOMAIN", seconds=1), Trouble.SILENT, "NXDOMAIN after 1.000 s"),
        (("A", "all"), None, Trouble.NOT_ASKED, "exec failed"),
    ],
)
def test_answers(asked: tuple[str, str], answer: Answer | None, trouble: Trouble, seen: str) -> None:
    found = finding(check(*asked), answer, "exec failed")
    assert (found.trouble, found.seen) == (trouble, seen)


def test_answers_of_the_library() -> None:
    asked = check("", "all", library=True)
    assert finding(asked, Answer(0, records=("10.96.0.1", "fd00:96::1")), "").ok
    assert finding(asked, Answer(0, records=("10.96.0.1",)), "").trouble is Trouble.LIBRARY
    assert finding(asked, Answer(0, error="getaddrinfo: no"), "").seen == "getaddrinfo: no"


def test_a_row_names_record_server_family_and_transport() -> None:
    asked = check("SRV", "_main._tcp.all")
    row = finding(asked, all_well(asked), "").row("")
    assert (row.id, row.target, row.family, row.protocol) == ("name-srv", "SRV _main._tcp.all", "IPv4", "tcp")
    assert (row.ok, row.expected, row.seen) == (True, f"SRV 80 all.{DOMAIN}", f"SRV 80 all.{DOMAIN}")


def test_no_zone_is_a_failure_of_its_own() -> None:
    row = without_zone(POD, "search , nameserver 8.8.8.8").row("x")
    assert (row.id, row.ok, row.source, row.seen) == (
        *("name-library", False, "n1/a", "search , nameserver 8.8.8.8"),
    )
