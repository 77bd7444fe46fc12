"""The agent and its CNI calls: restarts, lost calls, exhausted addresses, damaged links (N-13, N-19)."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

from nodes import Node, Pod, write_snapshot

from tulle.kernel import netns
from tulle.lab.spec import Spec

Cluster = Callable[..., list[Node]]


def eventually(condition: Callable[[], bool], what: str, patience: float = 90.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        select.select([], [], [], 0.02)


def pinging(pod: Pod, address: str) -> subprocess.Popen[str]:
    """Ten packets a second until interrupted."""
    process = pod.popen("ping", "-i", "0.1", address)
    pod.children.append(process)
    assert process.stdout
    process.stdout.readline()
    process.stdout.readline()  # the first answer
    return process


def lost(process: subprocess.Popen[str]) -> int:
    """How many were not answered; one may be under way when it stops."""
    process.send_signal(signal.SIGINT)
    summary = next(line for line in process.communicate()[0].splitlines() if "transmitted" in line)
    sent, received = (int(part.split()[0]) for part in summary.split(",")[:2])
    return sent - received


def test_a_killed_agent_loses_no_packet_and_the_next_one_none_either(cluster: Cluster) -> None:
    [node] = cluster()
    a, b = node.add("a"), node.add("b")
    traffic = pinging(a, b.ips[0])
    node.kill_agent()
    assert a.run("ping", "-c", "1", "-W", "1", b.ips[1]), "a new connection while no agent is there"
    node.start_agent()
    c = node.add("c")
    assert c.ips[0] not in a.ips + b.ips
    assert lost(traffic) <= 1
    assert node.call("CHECK", a, prevResult=a.result)["exit"] == 0


def test_add_answers_try_again_without_an_agent_and_del_is_made_up_for(cluster: Cluster) -> None:
    [node] = cluster()
    a = node.add("a")
    link = a.result["interfaces"][0]["name"]
    node.kill_agent()
    assert node.call("ADD", Pod(a.path, "other"))["code"] == 11
    assert node.call("STATUS")["code"] == 50
    assert node.call("DEL", a) == {"exit": 0}
    node.start_agent()
    eventually(lambda: link not in node.run("ip", "link").stdout, "the queued DEL is done")
    records = node.folder / "state" / "boots"
    eventually(lambda: not list(records.glob("*/*.json")), "the record goes after the link")


def test_del_succeeds_whatever_is_left(cluster: Cluster) -> None:
    [node] = cluster()
    a = node.add("a")
    netns.delete(a.path)
    for _ in range(2):
        assert node.call("DEL", a) == {"exit": 0}
    assert node.call("DEL", Pod(Path("/nowhere"), "unknown")) == {"exit": 0}


def test_the_interface_is_gone_when_del_returns(cluster: Cluster) -> None:
    [node] = cluster()
    a = node.add("a")
    assert node.call("DEL", a) == {"exit": 0}
    assert "eth0" not in a.run("ip", "link").stdout


def test_a_sandbox_that_went_without_del_gives_its_address_back(cluster: Cluster) -> None:
    [node] = cluster()
    a = node.add("a")
    records = node.folder / "state" / "boots"
    netns.delete(a.path)
    eventually(lambda: not list(records.glob("*/*.json")), "the record goes with the sandbox")


def test_gc_removes_what_the_runtime_does_not_name(cluster: Cluster) -> None:
    [node] = cluster()
    a, b = node.add("a"), node.add("b")
    valid = [{"containerID": a.container_id, "ifname": "eth0"}]
    assert node.call("GC", **{"cni.dev/valid-attachments": valid}) == {"exit": 0}
    assert "eth0" in a.run("ip", "link").stdout
    assert "eth0" not in b.run("ip", "link").stdout
    assert node.call("GC", **{"cni.dev/valid-attachments": None}) == {"exit": 0}
    assert "eth0" not in a.run("ip", "link").stdout


def test_check_names_what_is_missing(cluster: Cluster) -> None:
    [node] = cluster()
    a = node.add("a")
    link = a.result["interfaces"][0]["name"]
    damages = {
        "program from_pod": (node, f"tc filter del dev {link} ingress"),
        "node's route": (node, f"ip route del {a.ips[0]}"),
        "default route": (a, "ip route del default"),
        "address": (a, f"ip address del {a.ips[1]}/128 dev eth0"),
    }
    for missing, (place, command) in reversed(damages.items()):
        place.run(*command.split())
        answer = node.call("CHECK", a, prevResult=a.result)
        assert answer["exit"] == 1 and missing in answer["msg"], answer


def test_add_with_bad_input_is_refused_and_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    [node] = cluster()
    a = node.add("a")
    before = node.run("ip", "link").stdout
    plain = tmp_path / "plain"
    plain.touch()
    for pod, named in [
        (Pod(tmp_path / "none", "x1"), "CNI_NETNS"),
        (Pod(plain, "x2"), "CNI_NETNS"),
        (Pod(node.path, "x3"), "CNI_NETNS"),
        (Pod(a.path, "x4"), "CNI_IFNAME"),
        (a, "CNI_IFNAME"),
    ]:
        answer = node.call("ADD", pod)
        assert answer["code"] == 4 and named in answer["msg"], answer
    assert node.run("ip", "link").stdout == before
    assert len(list((node.folder / "state").glob("boots/*/*.json"))) == 1


def test_an_exhausted_cidr_says_so_and_addresses_come_back(cluster: Cluster) -> None:
    [node] = cluster(Spec(nodes=1, families=("ipv4",)), start=False)
    small = replace(node.host, pod_cidrs=(ip_network("10.244.1.0/30"),))
    write_snapshot(node, [small])
    node.start_agent()
    pods = [node.add("a"), node.add("b")]
    path = node.folder / "pods" / "c"
    netns.create(path)
    late = Pod(path, "late")
    node.pods.append(late)
    answer = node.call("ADD", late)
    assert answer["code"] == 11 and "10.244.1.0/30 is exhausted" in answer["msg"]
    assert node.call("STATUS")["code"] == 50
    node.call("DEL", pods[0])
    late.result = node.call("ADD", late)
    assert late.ips == pods[0].ips


def test_a_way_to_other_nodes_that_cannot_be_made_shows_in_status(cluster: Cluster) -> None:
    """Code 51: what is connected may be cut off."""
    one, _ = cluster(Spec(nodes=2), "--routing=native", "--external-traffic=snat")
    one.kill_agent()
    one.run("ip", "link", "add", "tulle-overlay", "type", "bridge")  # where the overlay's device must be
    one.start_agent("--routing=overlay", wait=False)
    eventually(lambda: one.call("STATUS").get("code") == 51, "STATUS tells of it")
    one.run("ip", "link", "del", "tulle-overlay")


def test_what_others_take_away_comes_back(cluster: Cluster) -> None:
    """A reload of the machine's own rules flushes ours; with an address go the routes that name it."""
    [node] = cluster()
    a = node.add("a")
    address = str(node.host.addresses[0])
    device = next(
        x for x in json.loads(node.run("ip", "-j", "address").stdout) if address.split("/")[0] in str(x)
    )
    node.run("nft", "flush", "ruleset")
    node.run("ip", "address", "del", address, "dev", device["ifname"])
    assert a.ips[0] not in node.run("ip", "route").stdout
    node.run("ip", "address", "add", address, "dev", device["ifname"])
    eventually(lambda: a.ips[0] in node.run("ip", "route").stdout, "the route to the Pod")
    eventually(lambda: "masquerade" in node.run("nft", "list", "ruleset").stdout, "masquerading")


def test_addresses_of_an_earlier_boot_are_free(cluster: Cluster) -> None:
    [node] = cluster(start=False)
    old = node.folder / "state" / "boots" / "an-earlier-boot"
    old.mkdir(parents=True)
    record = {
        "container_id": "x",
        "ifname": "eth0",
        "netns": "/x",
        "link": "tulx",
        "mac": "",
        "ips": ["10.244.1.1"],
    }
    (old / "tulx.json").write_text(json.dumps(record))
    node.start_agent()
    assert node.add("a").ips[0] == "10.244.1.1"
    assert not old.exists()


def test_status_shows_the_kernel_and_uninstall_leaves_nothing(cluster: Cluster) -> None:
    one, _ = cluster(Spec(nodes=2), "--routing=overlay")
    a = one.add("a")
    places = [f"--state-dir={one.folder}/state", f"--bpffs={one.bpffs}"]
    tulle = (sys.executable, "-m", "tulle")
    shown = json.loads(one.run(*tulle, "status", *places, "-o", "json").stdout)
    assert shown["pods"] == [
        {"pod": "default/node-1-a", "ips": a.ips, "link": a.result["interfaces"][0]["name"]}
    ]
    assert {"prefix": "10.244.2.0/24", "transport": "overlay", "node": "172.30.1.12"} in shown["prefixes"]
    assert a.ips[1] in one.run(*tulle, "status", *places).stdout
    places += [
        f"--run-dir={one.folder}/run",
        f"--cni-conf-dir={one.folder}/net.d",
        f"--cni-bin-dir={one.folder}/bin",
    ]
    refused = one.run(*tulle, "uninstall", *places, check=False)
    assert refused.returncode == 1 and "1 Pods are connected (default/node-1-a)" in refused.stderr
    one.call("DEL", a)
    one.kill_agent(signal.SIGTERM)
    one.run(*tulle, "uninstall", *places)
    assert not one.bpffs.exists() and not list((one.folder / "net.d").iterdir())
    assert "proto 84" not in one.run("ip", "route").stdout
    assert "tulle-overlay" not in one.run("ip", "link").stdout
    assert one.run("nft", "list", "tables").stdout == ""


def test_sigterm_ends_the_agent_and_nothing_else(cluster: Cluster) -> None:
    [node] = cluster()
    a, b = node.add("a"), node.add("b")
    agent = node.agent
    node.kill_agent(signal.SIGTERM)
    assert agent and agent.returncode == 0, node.log()
    a.run("ping", "-c", "1", "-W", "1", b.ips[0])
