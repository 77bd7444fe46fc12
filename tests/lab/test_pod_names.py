"""What a real Pod finds in ``/etc`` and in its environment (N-26, D-22, D-23)."""

from __future__ import annotations

from livelab import Cluster, Pods

from tulle.kube.client import Client
from tulle.kube.resources import Resource, Untyped

SERVICES: Resource[Untyped] = Resource("", "v1", "services", "Service", Untyped)
FOREVER = ("sleep", "infinity")
NODE_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


async def test_d23_a_pod_asks_the_cluster_by_its_search_path(lab: Cluster, pods: Pods) -> None:
    await pods.create("p", *FOREVER)
    await pods.ready("p")
    servers = "".join(f"nameserver {address}\n" for address in lab.lab.topology.dns)
    search = f"search {pods.namespace}.svc.cluster.local svc.cluster.local cluster.local\n"
    assert await pods.run("p", "cat", "/etc/resolv.conf") == f"{search}{servers}options ndots:5\n"


async def test_d23_policies_default_none_and_host_network(lab: Cluster, pods: Pods) -> None:
    own = {"nameservers": ["192.0.2.1"], "searches": ["a_b.example", "."], "options": [{"name": "edns0"}]}
    await pods.create("default", *FOREVER, dnsPolicy="Default")
    await pods.create("none", *FOREVER, dnsPolicy="None", dnsConfig=own)
    await pods.create("host", *FOREVER, hostNetwork=True)
    await pods.create("both", *FOREVER, hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")
    found = {}
    for name in ("default", "none", "host", "both"):
        await pods.ready(name)
        found[name] = await pods.run(name, "cat", "/etc/resolv.conf")
    of_node = "".join(f"nameserver {address.ip}\n" for address in lab.lab.topology.world.far)
    assert found["default"] == found["host"] == of_node
    assert found["none"] == "search a_b.example .\nnameserver 192.0.2.1\noptions edns0\n"
    assert f"nameserver {lab.lab.topology.dns[0]}\n" in found["both"]


async def test_d22_what_is_too_much_is_cut_and_said(pods: Pods) -> None:
    await pods.create("p", *FOREVER, dnsConfig={"nameservers": ["192.0.2.1", "192.0.2.2"]})
    await pods.ready("p")
    assert (await pods.run("p", "grep", "-c", "^nameserver", "/etc/resolv.conf")) == "3\n"
    assert (await pods.event("p", "DNSConfigForming")).startswith("Nameserver limits were exceeded")


async def test_n26_hostname_subdomain_and_aliases(pods: Pods) -> None:
    aliases = [{"ip": "192.0.2.9", "hostnames": ["one", "two.example"]}]
    await pods.create("p", *FOREVER, hostname="h", subdomain="s", hostAliases=aliases)
    ips = [each["ip"] for each in (await pods.ready("p"))["status"]["podIPs"]]
    full = f"h.s.{pods.namespace}.svc.cluster.local"
    assert await pods.run("p", "sh", "-c", "hostname; hostname -f; cat /etc/hostname") == f"h\n{full}\nh\n"
    hosts = await pods.run("p", "cat", "/etc/hosts")
    assert hosts.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert "".join(f"{ip}\t{full}\th\n" for ip in ips) in hosts
    assert hosts.endswith("\n\n# Entries added by HostAliases.\n192.0.2.9\tone\ttwo.example\n")
    assert (await pods.run("p", "getent", "hosts", "two.example")).split()[0] == "192.0.2.9"


async def test_n26_the_full_name_or_another_as_hostname(pods: Pods) -> None:
    named = {"hostname": "h", "subdomain": "s"}
    await pods.create("full", *FOREVER, setHostnameAsFQDN=True, **named)
    await pods.create("other", *FOREVER, hostnameOverride="any.example", **named)
    for name, expected in (("full", f"h.s.{pods.namespace}.svc.cluster.local"), ("other", "any.example")):
        await pods.ready(name)
        script = "hostname; hostname -f; echo $HOSTNAME"
        assert await pods.run(name, "sh", "-c", script) == f"{expected}\n" * 3


async def test_n26_a_full_name_that_is_too_long_is_said(pods: Pods) -> None:
    await pods.create("p", *FOREVER, hostname="h" * 60, subdomain="s", setHostnameAsFQDN=True)
    assert "setHostnameAsFQDN" in await pods.event("p", "FailedCreatePodSandBox")


async def test_n26_the_host_network_has_the_nodes_hosts_file(lab: Cluster, pods: Pods) -> None:
    aliases = [{"ip": "192.0.2.9", "hostnames": ["one"]}]
    await pods.create("p", *FOREVER, hostNetwork=True, nodeName="node-1", hostAliases=aliases)
    await pods.ready("p")
    node = lab.lab.topology.nodes[0]
    lines = "".join(f"{address.ip}\tnode-1\n" for address in node.addresses)
    expected = f"# Kubernetes-managed hosts file (host network).\n{NODE_HOSTS}{lines}"
    added = "\n# Entries added by HostAliases.\n192.0.2.9\tone\n"
    assert await pods.run("p", "cat", "/etc/hosts") == expected + added


async def test_n26_all_containers_of_a_pod_share_the_files(pods: Pods) -> None:
    image = {"image": "host", "command": list(FOREVER)}
    await pods.create("p", containers=[{"name": "a", **image}, {"name": "b", **image}])
    await pods.ready("p")
    await pods.run("p", "sh", "-c", "echo 192.0.2.9 shared >> /etc/hosts", container="a")
    assert "192.0.2.9" in await pods.run("p", "getent", "hosts", "shared", container="b")


async def test_service_variables_of_the_own_namespace_and_of_the_api(pods: Pods, client: Client) -> None:
    spec = {"ports": [{"name": "http", "port": 80}], "selector": {"app": "none"}}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "my-web"}, "spec": spec}
    address = (await client.create(SERVICES, body, pods.namespace))["spec"]["clusterIP"]
    await pods.create("with", *FOREVER)
    await pods.create("without", *FOREVER, enableServiceLinks=False)
    found = {}
    for name in ("with", "without"):
        await pods.ready(name)
        found[name] = (await pods.run(name, "env")).splitlines()
    assert f"MY_WEB_PORT_80_TCP=tcp://{address}:80" in found["with"]
    assert not [line for line in found["without"] if line.startswith("MY_WEB")]
    for variables in found.values():
        assert "KUBERNETES_SERVICE_HOST=10.96.0.1" in variables
        assert "KUBERNETES_SERVICE_PORT=443" in variables


async def test_d23_a_pod_that_asks_as_its_node_does_knows_the_world(lab: Cluster, pods: Pods) -> None:
    await pods.create("p", *FOREVER, dnsPolicy="Default")
    await pods.ready("p")
    for address in lab.lab.topology.world.addresses:
        family = "ahostsv6" if address.version == 6 else "ahostsv4"
        found = await pods.run("p", "getent", family, "www.world.example")
        assert {line.split()[0] for line in found.splitlines()} == {str(address.ip)}
    many = await pods.run("p", "getent", "ahostsv4", "many.world.example")
    assert len({line.split()[0] for line in many.splitlines()}) == 40


async def test_d25_the_service_of_cluster_dns(lab: Cluster, client: Client) -> None:
    service = await client.get(SERVICES, "kube-dns", "kube-system")
    assert service["metadata"]["labels"]["k8s-app"] == "kube-dns"
    assert service["spec"]["clusterIPs"] == [str(address) for address in lab.lab.topology.dns]
    ports = {(p["name"], p["protocol"], p["port"]) for p in service["spec"]["ports"]}
    assert ports == {("dns", "UDP", 53), ("dns-tcp", "TCP", 53), ("metrics", "TCP", 9153)}
