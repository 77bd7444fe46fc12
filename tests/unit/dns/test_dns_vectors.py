"""Objects in, question, answer out: every row of the DNS specification (D-01 to D-12, D-20, D-22, D-27)."""

from __future__ import annotations

import pytest
from dns_cluster import answer, ask, catalog, endpoints, namespace, packet, service

from tulle.dns import wire
from tulle.dns.cluster.service_records import Options
from tulle.dns.cluster.zone import Alias

WEB = "web.default.svc.cluster.local"
DB = "db.default.svc.cluster.local"
V6 = "IPv6"

OBJECTS = [
    service("default/web", "10.96.0.5", "fd00:10:96::5", ports=("http:TCP:80", ":TCP:81", "dns:UDP:53")),
    service("default/v4", "10.96.0.6"),
    service("default/pending"),
    service("default/db", "None", ports=("pg:TCP:5432",)),
    endpoints(
        "default/db",
        {"addresses": ["10.244.1.5", "10.244.1.99"], "hostname": "db-0", "conditions": {"ready": True}},
        {"addresses": ["10.244.1.6"], "conditions": {}},
        {"addresses": ["10.244.1.7"], "conditions": {"ready": False}},
        {"addresses": [], "conditions": {"ready": True}},
        {"addresses": ["fd00::bad"], "conditions": {"ready": True}},
        {"addresses": ["no address"], "conditions": {"ready": True}},
        "10.244.1.6",
        ports=("pg:TCP:5432", "metrics:TCP:9187"),
    ),
    endpoints(
        "default/db",
        {"addresses": ["fd00:244::5"], "hostname": "db-0", "conditions": {"ready": True}},
        {"addresses": ["fd00:244::6"], "conditions": {"ready": True}},
        ports=("pg:TCP:5432",),
        family=V6,
        part="2",
    ),
    service("default/none-ready", "None"),
    endpoints("default/none-ready", {"addresses": ["10.244.1.8"], "conditions": {"ready": False}}),
    service("default/alias", external="www.example.com"),
    service("default/near", external=f"{WEB}."),
    service("default/round", external="round.default.svc.cluster.local"),
    service("default/lost", external="nothing.default.svc.cluster.local"),
    service("default/odd", external="a..b"),
    service("default/9lives", "10.96.0.9"),
    service("default/shared", "None"),
    endpoints("default/shared", {"addresses": ["10.244.1.6"], "conditions": {"ready": True}}),
    namespace("empty"),
]

V4 = "v4.default.svc.cluster.local"
SOA = ["SOA ns.dns.cluster.local."]
NODATA: tuple[int, list[str]] = (wire.NOERROR, [])
NONE: tuple[int, list[str]] = (wire.NXDOMAIN, [])
TABLE: list[tuple[str, str, str, tuple[int, list[str]]]] = [
    ("D-01", "dns-version.cluster.local", "TXT", (0, ["TXT 1.1.0"])),
    ("D-02", WEB, "A", (0, ["A 10.96.0.5"])),
    ("D-02", WEB, "AAAA", (0, ["AAAA fd00:10:96::5"])),
    ("D-02 missing family", V4, "AAAA", NODATA),
    ("D-02 no address yet", "pending.default.svc.cluster.local", "A", NONE),
    ("D-03", f"_http._tcp.{WEB}", "SRV", (0, [f"SRV 0 100 80 {WEB}."])),
    ("D-03 UDP", f"_dns._udp.{WEB}", "SRV", (0, [f"SRV 0 100 53 {WEB}."])),
    ("D-03 wrong protocol", f"_http._udp.{WEB}", "SRV", NONE),
    ("D-03 another type", f"_http._tcp.{WEB}", "A", NODATA),
    ("D-04", "5.0.96.10.in-addr.arpa", "PTR", (0, [f"PTR {WEB}."])),
    ("D-04 IPv6", f"5.{'0.' * 19}6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa", "PTR", (0, [f"PTR {WEB}."])),
    ("D-05", DB, "A", (0, ["A 10.244.1.5", "A 10.244.1.6"])),
    ("D-05", DB, "AAAA", (0, ["AAAA fd00:244::5", "AAAA fd00:244::6"])),
    ("D-05 none ready", "none-ready.default.svc.cluster.local", "A", NONE),
    ("D-06 hostname", f"db-0.{DB}", "A", (0, ["A 10.244.1.5"])),
    ("D-06 hostname", f"db-0.{DB}", "AAAA", (0, ["AAAA fd00:244::5"])),
    ("D-06 dashed", f"10-244-1-6.{DB}", "A", (0, ["A 10.244.1.6"])),
    ("D-06 dashed IPv6", f"fd00-244--6.{DB}", "AAAA", (0, ["AAAA fd00:244::6"])),
    ("D-06 not ready", f"10-244-1-7.{DB}", "A", NONE),
    ("D-06 a hostname instead", f"10-244-1-5.{DB}", "A", NONE),
    (
        "D-07",
        f"_pg._tcp.{DB}",
        "SRV",
        (0, sorted(f"SRV 0 33 5432 {host}.{DB}." for host in ("db-0", "10-244-1-6", "fd00-244--6"))),
    ),
    (
        "D-07 the other port",
        f"_metrics._tcp.{DB}",
        "SRV",
        (0, sorted(f"SRV 0 50 9187 {host}.{DB}." for host in ("db-0", "10-244-1-6"))),
    ),
    ("D-08", "5.1.244.10.in-addr.arpa", "PTR", (0, [f"PTR db-0.{DB}."])),
    (
        "D-08 of two Services",
        "6.1.244.10.in-addr.arpa",
        "PTR",
        (0, [f"PTR 10-244-1-6.{DB}.", "PTR 10-244-1-6.shared.default.svc.cluster.local."]),
    ),
    ("D-09 CNAME itself", "alias.default.svc.cluster.local", "CNAME", (0, ["CNAME www.example.com."])),
    ("D-09 within the zone", "near.default.svc.cluster.local", "A", (0, ["A 10.96.0.5", f"CNAME {WEB}."])),
    (
        "D-09 nowhere",
        "lost.default.svc.cluster.local",
        "A",
        (wire.NXDOMAIN, ["CNAME nothing.default.svc.cluster.local."]),
    ),
    ("D-09 in a circle", "round.default.svc.cluster.local", "A", (wire.SERVFAIL, [])),
    ("D-09 no name", "odd.default.svc.cluster.local", "A", NONE),
    ("D-10", "wEb.DEFAULT.svc.Cluster.Local", "A", (0, ["A 10.96.0.5"])),
    ("D-20", "10-244-9-9.default.pod.cluster.local", "A", (0, ["A 10.244.9.9"])),
    ("D-20 IPv6", "fd00-244--9.default.pod.cluster.local", "AAAA", (0, ["AAAA fd00:244::9"])),
    ("D-20 other family", "10-244-9-9.default.pod.cluster.local", "AAAA", NODATA),
    ("D-20 no address", "web-0.default.pod.cluster.local", "A", NONE),
    ("D-20 no Namespace", "10-244-9-9.nowhere.pod.cluster.local", "A", NONE),
    ("D-20 deeper", "x.10-244-9-9.default.pod.cluster.local", "A", NONE),
    ("D-22 search path", f"www.example.com.{'default.svc.cluster.local'}", "A", NONE),
    ("D-22 parent", "default.svc.cluster.local", "A", NODATA),
    ("D-22 parent", "svc.cluster.local", "A", NODATA),
    ("D-22 parent", "pod.cluster.local", "AAAA", NODATA),
    ("D-22 parent", "default.pod.cluster.local", "A", NODATA),
    ("D-22 parent", f"_tcp.{WEB}", "A", NODATA),
    ("D-22 empty Namespace", "empty.svc.cluster.local", "A", NODATA),
    ("D-22 no Namespace", "nowhere.svc.cluster.local", "A", NONE),
    ("D-22 no name", "x.cluster.local", "A", NONE),
    ("D-27 digit", "9lives.default.svc.cluster.local", "A", (0, ["A 10.96.0.9"])),
    ("D-27 underscore", "under_score.default.svc.cluster.local", "A", NONE),
    ("apex", "cluster.local", "SOA", (0, SOA)),
    ("apex", "cluster.local", "NS", (0, ["NS ns.dns.cluster.local."])),
    ("apex", "cluster.local", "A", NODATA),
    ("name server", "ns.dns.cluster.local", "A", (0, ["A 10.96.0.10"])),
    ("ANY", WEB, "ANY", (0, ["A 10.96.0.5"])),
    ("ANY of a parent", "svc.cluster.local", "ANY", NODATA),
    ("ANY of a Pod", "10-244-9-9.default.pod.cluster.local", "ANY", (0, ["A 10.244.9.9"])),
]


@pytest.mark.parametrize(("row", "name", "qtype", "expected"), TABLE, ids=lambda value: str(value)[:40])
def test_a_question_gets_the_answer_of_the_specification(
    row: str, name: str, qtype: str, expected: tuple[int, list[str]]
) -> None:
    message = ask(catalog(*OBJECTS).zone, name, qtype)
    assert isinstance(message, bytes), row
    rcode, answers, authority, _ = answer(message)
    assert (rcode, answers) == expected
    negative = rcode == wire.NXDOMAIN or (rcode == wire.NOERROR and not answers)
    assert authority == (SOA if negative else []), "what is not there may be kept, by the SOA (D-22)"
    assert int.from_bytes(message[2:4]) & wire.AA


def test_d03_d07_addresses_of_targets_come_along() -> None:
    zone = catalog(*OBJECTS).zone
    message = ask(zone, f"_http._tcp.{WEB}", "SRV")
    assert isinstance(message, bytes) and answer(message)[3] == ["A 10.96.0.5", "AAAA fd00:10:96::5"]
    message = ask(zone, f"_metrics._tcp.{DB}", "SRV")
    assert isinstance(message, bytes)
    assert answer(message)[3] == ["A 10.244.1.5", "A 10.244.1.6", "AAAA fd00:244::5"]


@pytest.mark.parametrize("name", ["www.example.com", "local", "xcluster.local", "7.0.96.10.in-addr.arpa"])
def test_names_that_are_not_ours_go_on_to_the_forwarder(name: str) -> None:
    assert ask(catalog(*OBJECTS).zone, name, "PTR" if "arpa" in name else "A") is None


def test_d09_an_alias_out_of_the_zone_is_to_be_resolved() -> None:
    found = ask(catalog(*OBJECTS).zone, "alias.default.svc.cluster.local", "AAAA")
    assert isinstance(found, Alias) and found.known.count == 1
    assert wire.text(found.target) == "www.example.com."


def test_d10_the_question_comes_back_as_it_was_written() -> None:
    asked = packet("WeB.default.SVC.cluster.local", "A")
    message = catalog(*OBJECTS).zone.answer(wire.parse_query(asked, wire.UDP_LIMIT))
    assert isinstance(message, bytes) and message[12 : len(asked)] == asked[12:]


def test_d29_each_of_many_addresses_comes_first_at_times() -> None:
    addresses = [f"10.244.1.{n}" for n in range(1, 6)]
    zone = catalog(service("default/many", "None"), endpoints("default/many", *addresses)).zone
    first = set()
    for _ in range(500):
        message = ask(zone, "many.default.svc.cluster.local", "A")
        assert isinstance(message, bytes)
        first.add(message[-16 * 5 :][12:16])
    assert len(first) == 5


def test_d06_pods_names_where_they_are_wanted() -> None:
    ref = {"kind": "Pod", "name": "db-abc", "namespace": "default"}
    part = endpoints("default/db", {"addresses": ["10.244.1.5"], "targetRef": ref})
    zone = catalog(service("default/db", "None"), part, options=Options(pod_names=True)).zone
    message = ask(zone, f"db-abc.{DB}", "A")
    assert isinstance(message, bytes) and answer(message)[1] == ["A 10.244.1.5"]


def test_d20_without_pods_records() -> None:
    message = ask(catalog(options=Options(pods=False)).zone, "10-1-2-3.default.pod.cluster.local", "A")
    assert isinstance(message, bytes) and answer(message)[0] == wire.NXDOMAIN
