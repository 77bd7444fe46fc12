"""A Pod's names, resolvers and Service variables, as kubelet gives them (N-26, D-22, D-23, D-27)."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from tulle.kube.resources import Key
from tulle.lab.kubelet import files
from tulle.lab.kubelet.environment import environment, fields
from tulle.lab.kubelet.launch import in_order
from tulle.lab.kubelet.links import Service, links
from tulle.lab.kubelet.names import LOCAL, Names, NoName, hosts, hosts_on_node, names
from tulle.lab.kubelet.objects import Container, HostAlias, Pod
from tulle.lab.kubelet.resolvers import Cluster, Resolvers, limited, of_pod, parse
from tulle.lab.names import hosts as hosts_of_node
from tulle.lab.names import kube_dns, resolv_conf
from tulle.lab.spec import Spec, topology

CLUSTER = Cluster(("10.96.0.10", "fd00:10:96::a"), "cluster.local")
NODE = Resolvers(("8.8.8.8",), ("lab.example",), ("edns0",))
OF_CLUSTER = Resolvers(
    CLUSTER.servers,
    ("n.svc.cluster.local", "svc.cluster.local", "cluster.local", "lab.example"),
    ("ndots:5",),
)


def pod(**spec: object) -> Pod:
    metadata = {"name": "p", "namespace": "n", "uid": "u"}
    return msgspec.convert({"metadata": metadata, "spec": {"containers": [], **spec}}, Pod)


def dns(servers: list[str], searches: list[str], options: dict[str, str]) -> dict[str, object]:
    named = [{"name": name, "value": value} for name, value in options.items()]
    return {"nameservers": servers, "searches": searches, "options": named}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, OF_CLUSTER),
        ({"dnsPolicy": "ClusterFirst"}, OF_CLUSTER),
        ({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, NODE),
        ({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True}, OF_CLUSTER),
        ({"dnsPolicy": "ClusterFirstWithHostNet"}, OF_CLUSTER),
        ({"dnsPolicy": "Default"}, NODE),
        (
            {"dnsPolicy": "None", "dnsConfig": dns(["1.1.1.1"], ["a_b.example", "."], {"ndots": "2"})},
            Resolvers(("1.1.1.1",), ("a_b.example", "."), ("ndots:2",)),
        ),
    ],
)
def test_d23_resolvers_by_policy(spec: dict[str, object], expected: Resolvers) -> None:
    assert of_pod(pod(**spec), CLUSTER, NODE) == expected


def test_d22_dns_config_is_merged_and_its_options_win() -> None:
    more = dns(["10.96.0.10", "1.1.1.1"], ["cluster.local", "x"], {"ndots": "2", "edns0": ""})
    found = of_pod(pod(dnsConfig=more), CLUSTER, NODE)
    assert found.servers == (*CLUSTER.servers, "1.1.1.1")
    assert found.searches == (*OF_CLUSTER.searches, "x")
    assert found.options == ("ndots:2", "edns0")


def test_the_text_has_a_line_for_each_server_and_none_for_what_is_empty() -> None:
    assert OF_CLUSTER.text() == (
        "search n.svc.cluster.local svc.cluster.local cluster.local lab.example\n"
        "nameserver 10.96.0.10\nnameserver fd00:10:96::a\noptions ndots:5\n"
    )
    assert Resolvers(("1.1.1.1",)).text() == "nameserver 1.1.1.1\n"
    assert Resolvers().text() == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Resolvers()),
        ("# of nobody\n; neither\nnameserver\ndomain x\n", Resolvers()),
        ("nameserver 1.1.1.1 more\nnameserver ::1\n", Resolvers(("1.1.1.1", "::1"))),
        ("search a\nsearch b. c .\n", Resolvers((), ("b", "c"))),
        ("options ndots:1 rotate\noptions ndots:2", Resolvers((), (), ("ndots:2", "rotate"))),
        (OF_CLUSTER.text(), OF_CLUSTER),
    ],
)
def test_a_nodes_own_file_is_understood(text: str, expected: Resolvers) -> None:
    assert parse(text) == expected


LONG = "a" * 249


@pytest.mark.parametrize(
    ("wanted", "servers", "searches", "said"),
    [
        (OF_CLUSTER, 2, 4, []),
        (Resolvers(tuple("abc"), tuple(map(str, range(32)))), 3, 32, []),
        (Resolvers(tuple("abcd")), 3, 0, ["Nameserver limits"]),
        (Resolvers((), tuple(map(str, range(33)))), 0, 32, ["Search Line limits"]),
        (Resolvers(("a",), ("b", "c" * 254, "d")), 1, 2, ["Search Line limits"]),
        (Resolvers((), tuple(f"{LONG}.{n}" for n in range(8))), 0, 8, []),
        (Resolvers((), tuple(f"{LONG}.{n}" for n in range(9))), 0, 8, ["Search Line limits"]),
        (Resolvers(tuple("abcd"), tuple(map(str, range(40)))), 3, 32, ["Nameserver", "Search Line"]),
    ],
)
def test_d22_limits(wanted: Resolvers, servers: int, searches: int, said: list[str]) -> None:
    found, sentences = limited(wanted)
    assert (len(found.servers), len(found.searches)) == (servers, searches)
    assert len(" ".join(found.searches)) <= 2048
    assert len(sentences) == len(said)
    assert all(s.startswith(start) for s, start in zip(sentences, said, strict=True))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, Names("p", "", "p")),
        ({"hostname": "h"}, Names("h", "", "h")),
        ({"hostname": "h", "subdomain": "s"}, Names("h", "s.n.svc.cluster.local", "h")),
        ({"subdomain": "s"}, Names("p", "s.n.svc.cluster.local", "p")),
        (
            {"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": True},
            Names("h", "s.n.svc.cluster.local", "h.s.n.svc.cluster.local"),
        ),
        ({"hostname": "h", "setHostnameAsFQDN": True}, Names("h", "", "h")),
        ({"hostname": "h", "subdomain": "s", "hostnameOverride": "o.x"}, Names("o.x", "", "o.x")),
        ({"hostNetwork": True, "hostname": "h", "subdomain": "s"}, Names("node-1", "", "node-1")),
    ],
)
def test_n26_names(spec: dict[str, object], expected: Names) -> None:
    assert names(pod(**spec), "node-1", "cluster.local") == expected


def test_n26_a_long_pod_name_is_cut_to_a_label() -> None:
    cut = msgspec.structs.replace(pod().metadata, name="a" * 62 + "-b")
    found = names(msgspec.structs.replace(pod(), metadata=cut), "node-1", "cluster.local")
    assert found.hostname == "a" * 62


@pytest.mark.parametrize(("length", "fits"), [(42, True), (43, False)])
def test_n26_a_full_name_must_fit_into_a_hostname(length: int, fits: bool) -> None:
    spec = pod(hostname="h" * length, subdomain="s", setHostnameAsFQDN=True)
    if fits:
        assert len(names(spec, "node-1", "cluster.local").kernel) == 64
    else:
        with pytest.raises(NoName, match=r"setHostnameAsFQDN: .* has 65 characters"):
            names(spec, "node-1", "cluster.local")


ALIASES = (HostAlias("1.2.3.4", ("a", "b")), HostAlias("::9", ("c",)))
ALIASED = "\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n::9\tc\n"
MANAGED = "# Kubernetes-managed hosts file.\n" + LOCAL


@pytest.mark.parametrize(
    ("own", "aliases", "expected"),
    [
        (Names("p", "", "p"), (), MANAGED + "10.0.0.1\tp\nfd00::1\tp\n"),
        (Names("h", "s.n", "h.s.n"), (), MANAGED + "10.0.0.1\th.s.n\th\nfd00::1\th.s.n\th\n"),
        (Names("p", "", "p"), ALIASES, MANAGED + "10.0.0.1\tp\nfd00::1\tp\n" + ALIASED),
    ],
)
def test_n26_hosts(own: Names, aliases: tuple[HostAlias, ...], expected: str) -> None:
    assert hosts(own, ("10.0.0.1", "fd00::1"), aliases) == expected


def test_n26_hosts_on_the_nodes_network_are_the_nodes() -> None:
    header = "# Kubernetes-managed hosts file (host network).\n"
    assert hosts_on_node("127.0.0.1\tlocalhost\n", ()) == header + "127.0.0.1\tlocalhost\n"
    assert hosts_on_node("x\n", ALIASES) == header + "x\n" + ALIASED


def container(**body: object) -> Container:
    return msgspec.convert({"name": "c", **body}, Container)


def test_n26_the_files_of_a_pod_are_the_same_for_all_its_containers(tmp_path: Path) -> None:
    content = files.texts(pod(), Names("p", "", "p"), ["10.0.0.1"], "", OF_CLUSTER)
    written = files.write(tmp_path / "etc", content)
    assert {name: path.read_text() for name, path in written.items()} == content
    before = {path.stat().st_ino for path in written.values()}
    assert {path.stat().st_ino for path in files.write(tmp_path / "etc", content).values()} == before
    sources = [[bind["source"] for bind in files.binds(container(), written)] for _ in range(2)]
    assert sources[0] == sources[1] == [str(path) for path in written.values()]


def test_n26_a_file_that_a_container_mounts_itself_is_its_own() -> None:
    mounts = [{"name": "v", "mountPath": "/etc/hosts"}]
    written = {"/etc/hosts": Path("/a"), "/etc/resolv.conf": Path("/b")}
    found = files.binds(container(volumeMounts=mounts), written)
    assert [bind["destination"] for bind in found] == ["/etc/resolv.conf"]


def test_a_volume_at_etc_does_not_hide_its_files() -> None:
    volumes: list[dict[str, object]] = [{"destination": "/etc"}, {"destination": "/a/b"}]
    found = in_order([{"destination": "/etc/hosts"}], volumes)
    assert [bind["destination"] for bind in found] == ["/etc", "/etc/hosts", "/a/b"]


def service(
    name: str, address: str, *ports: tuple[str, int, str], namespace: str = "n"
) -> tuple[Key, Service]:
    spec = {"clusterIP": address, "ports": [{"name": n, "port": p, "protocol": q} for n, p, q in ports]}
    return (namespace, name), msgspec.convert({"metadata": {"name": name}, "spec": spec}, Service)


API = service("kubernetes", "10.96.0.1", ("https", 443, "TCP"), namespace="default")
WEB = service("my-web", "10.96.7.7", ("http", 80, "TCP"), ("dns-udp", 53, "UDP"))
API_VARIABLES = {
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
    "KUBERNETES_SERVICE_PORT_HTTPS": "443",
    "KUBERNETES_PORT": "tcp://10.96.0.1:443",
    "KUBERNETES_PORT_443_TCP": "tcp://10.96.0.1:443",
    "KUBERNETES_PORT_443_TCP_PROTO": "tcp",
    "KUBERNETES_PORT_443_TCP_PORT": "443",
    "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1",
}
WEB_VARIABLES = {
    "MY_WEB_SERVICE_HOST": "10.96.7.7",
    "MY_WEB_SERVICE_PORT": "80",
    "MY_WEB_SERVICE_PORT_HTTP": "80",
    "MY_WEB_SERVICE_PORT_DNS_UDP": "53",
    "MY_WEB_PORT": "tcp://10.96.7.7:80",
    "MY_WEB_PORT_80_TCP": "tcp://10.96.7.7:80",
    "MY_WEB_PORT_80_TCP_PROTO": "tcp",
    "MY_WEB_PORT_80_TCP_PORT": "80",
    "MY_WEB_PORT_80_TCP_ADDR": "10.96.7.7",
    "MY_WEB_PORT_53_UDP": "udp://10.96.7.7:53",
    "MY_WEB_PORT_53_UDP_PROTO": "udp",
    "MY_WEB_PORT_53_UDP_PORT": "53",
    "MY_WEB_PORT_53_UDP_ADDR": "10.96.7.7",
}


@pytest.mark.parametrize(
    ("enabled", "services", "expected"),
    [
        (True, [API, WEB], API_VARIABLES | WEB_VARIABLES),
        (False, [API, WEB], API_VARIABLES),
        (True, [], {}),
        (True, [service("headless", "None", ("a", 1, "TCP"))], {}),
        (True, [service("external", "")], {}),
        (True, [service("other", "10.96.0.2", ("a", 1, "TCP"), namespace="m")], {}),
        (True, [service("other", "10.96.0.2", ("a", 1, "TCP"), namespace="default")], {}),
    ],
)
def test_service_variables(enabled: bool, services: list[tuple[Key, Service]], expected: object) -> None:
    assert links(pod(enableServiceLinks=enabled), dict(services)) == expected


def test_service_variables_of_ipv6_have_urls_with_brackets() -> None:
    found = links(pod(), dict([service("s", "fd00::5", ("", 80, "SCTP"))]))
    assert (found["S_PORT"], found["S_SERVICE_HOST"]) == ("sctp://[fd00::5]:80", "fd00::5")
    assert "S_SERVICE_PORT_" not in found


def test_a_service_kubernetes_of_the_pods_own_namespace_comes_first() -> None:
    found = links(pod(), dict([API, service("kubernetes", "10.96.0.9", ("x", 1, "TCP"))]))
    assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.9"


def test_a_containers_own_variable_wins_over_a_services_and_may_refer_to_it() -> None:
    env = [{"name": "S_PORT", "value": "9"}, {"name": "URL", "value": "http://$(S_SERVICE_HOST):$(S_PORT)"}]
    known = fields(pod(), "node-1", ["1.1.1.1"], [])
    of_services = {"S_PORT": "tcp://x:1", "S_SERVICE_HOST": "x"}
    found = environment(container(env=env), pod(), known, lambda kind, name: None, of_services)
    assert found == {"S_PORT": "9", "S_SERVICE_HOST": "x", "URL": "http://x:9"}


@pytest.mark.parametrize("families", [("ipv4", "ipv6"), ("ipv6", "ipv4"), ("ipv4",), ("ipv6",)])
def test_cluster_dns_is_the_tenth_address_of_each_service_cidr(families: tuple[str, ...]) -> None:
    found = topology(msgspec.convert({"families": families}, Spec))
    known = {4: ("10.96.0.0/16", "10.96.0.10"), 6: ("fd00:10:96::/112", "fd00:10:96::a")}
    assert [(str(cidr), str(a)) for cidr, a in zip(found.services, found.dns, strict=True)] == [
        known[int(family[-1])] for family in families
    ]


def test_d23_a_nodes_files_name_itself_and_the_worlds_resolvers() -> None:
    lab = topology(Spec())
    assert hosts_of_node(lab.nodes[0]).endswith("172.30.1.11\tnode-1\nfd00:172:30:1::b\tnode-1\n")
    far = [str(ip_address(server)) for server in parse(resolv_conf(lab.world)).servers]
    assert far == ["8.8.8.8", "2001:4860:4860::8888"]


@pytest.mark.parametrize(
    ("families", "policy", "in_order"),
    [
        (("ipv4", "ipv6"), "RequireDualStack", ["IPv4", "IPv6"]),
        (("ipv6", "ipv4"), "RequireDualStack", ["IPv6", "IPv4"]),
        (("ipv6",), "SingleStack", ["IPv6"]),
    ],
)
def test_d25_kube_dns_has_the_labs_families(
    families: tuple[str, ...], policy: str, in_order: list[str]
) -> None:
    spec = kube_dns(topology(msgspec.convert({"families": families}, Spec)))["spec"]
    assert (spec["ipFamilyPolicy"], spec["ipFamilies"]) == (policy, in_order)
    assert spec["clusterIP"] == spec["clusterIPs"][0]
    assert "selector" not in spec
