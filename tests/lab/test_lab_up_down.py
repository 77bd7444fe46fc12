"""A lab comes up, is mended, and goes without a trace, whatever happens to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from secrets import token_hex

import pytest
from livelab import NODES, TULLE, Cluster, Pods, cluster, leftovers, tulle_lab

from tulle.kube.client import Client
from tulle.kube.resources import NODES as NODE_OBJECTS
from tulle.lab import processes
from tulle.lab.paths import Paths


async def test_nodes_are_as_asked(lab: Cluster, client: Client) -> None:
    nodes = (await client.list(NODE_OBJECTS)).items
    assert len(nodes) == NODES
    for node, host in zip(
        sorted(nodes, key=lambda n: n["metadata"]["name"]), lab.lab.topology.nodes, strict=True
    ):
        internal = [a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"]
        assert internal == [str(address.ip) for address in host.addresses]
        assert node["spec"]["podCIDRs"] == [str(cidr) for cidr in host.pod_cidrs]
        assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == host.zone


def test_status_says_that_all_is_well(lab: Cluster) -> None:
    overview = json.loads(lab.tulle("status", "-o", "json").stdout)
    assert overview["healthy"] is True
    assert [node["ready"] for node in overview["nodes"]] == [True] * NODES


def test_the_world_reaches_nodes_but_knows_no_pod_network(lab: Cluster) -> None:
    node = lab.lab.topology.nodes[0]
    for address in node.addresses:
        lab.tulle("world", "--", "ping", "-c", "1", "-W", "5", str(address.ip))
    for cidr in node.pod_cidrs:
        lost = lab.tulle("world", "--", "ping", "-c", "1", "-W", "1", str(cidr[1]), check=False)
        assert lost.returncode != 0


def test_nothing_of_the_lab_is_in_the_network_of_the_machine(lab: Cluster) -> None:
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    assert "subnet-1" not in links
    assert "node-1" not in links


def test_secrets_are_for_root_only(lab: Cluster) -> None:
    paths = lab.paths
    secret = [paths.kubeconfig, paths.inner_kubeconfig, paths.tokens]
    secret += [paths.node(node.name).kubeconfig for node in lab.lab.topology.nodes]
    assert {oct(path.stat().st_mode & 0o777) for path in secret} == {"0o600"}
    assert oct(paths.run.stat().st_mode & 0o777) == "0o700"
    socket = paths.node("node-1").kubelet_socket
    assert oct(socket.stat().st_mode & 0o777) == "0o600"


async def test_a_killed_kubelet_is_started_again_and_its_pods_went_on(lab: Cluster, pods: Pods) -> None:
    await pods.create("steady", "sleep", "infinity", nodeName="node-1")
    before = await pods.ready("steady")
    kubelet = lab.process("node-1", "kubelet")
    os.kill(kubelet.pid, signal.SIGKILL)
    await processes.watch(kubelet.pid)
    assert lab.tulle("status", check=False).returncode == 1
    await asyncio.to_thread(tulle_lab, "up", f"--name={lab.name}", f"--nodes={NODES}")
    assert lab.process("node-1", "kubelet").alive()
    await pods.create("later", "sleep", "infinity", nodeName="node-1")
    await pods.ready("later")
    after = await pods.ready("steady")
    assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]
    await pods.delete("steady")
    await pods.gone("steady")


def test_down_after_everything_was_killed() -> None:
    with cluster(nodes=1) as doomed:
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "host", "command": ["sleep", "infinity"]}]},
        }
        doomed.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        doomed.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=90s")
        for process in processes.recorded(doomed.paths):
            os.kill(process.pid, signal.SIGKILL)
    # the end of the block takes it down and looks for what is left


def test_down_when_up_was_killed_half_way() -> None:
    name = f"t-{token_hex(4)}"
    paths = Paths(name)
    line = [*TULLE, "lab", "up", f"--name={name}", "--nodes=1"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        assert "Lay the wires" in started.stderr.readline()  # done: the API server comes next
        started.kill()
    assert paths.run.exists()
    tulle_lab("down", f"--name={name}")
    assert leftovers(name) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_up_undoes_itself(number: signal.Signals) -> None:
    name = f"t-{token_hex(4)}"
    line = [*TULLE, "lab", "up", f"--name={name}", "--nodes=1"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        assert "Lay the wires" in started.stderr.readline()
        started.send_signal(number)
        _, said = started.communicate(timeout=90)
    assert (started.returncode, said.splitlines()[-1]) == (1, "tulle: stopped before the lab was up")
    assert "Traceback" not in said
    assert leftovers(name) == []


def test_down_of_no_lab_is_well() -> None:
    done = tulle_lab("down", "--name=no-such-lab")
    assert "There was no lab no-such-lab." in done.stderr


def test_commands_on_no_lab_say_what_to_do() -> None:
    done = tulle_lab("status", "--name=no-such-lab", check=False)
    assert done.returncode == 1
    assert (
        done.stderr == "tulle: there is no lab no-such-lab; start one with: tulle lab up --name no-such-lab\n"
    )


def test_up_with_other_settings_is_refused(lab: Cluster) -> None:
    done = tulle_lab("up", f"--name={lab.name}", f"--nodes={NODES + 1}", check=False)
    assert done.returncode == 1
    assert "tulle lab down" in done.stderr


def test_a_flag_that_cannot_be_right_is_named() -> None:
    done = tulle_lab("up", "--nodes=0", check=False)
    assert (done.returncode, done.stderr) == (2, "tulle: --nodes 0 cannot be right; give 1 to 100\n")


def test_down_from_within_the_lab_is_refused(lab: Cluster) -> None:
    done = lab.tulle("node", "node-1", "--", *TULLE, "lab", "down", f"--name={lab.name}", check=False)
    assert done.returncode == 1
    assert "leave it first" in done.stderr
    assert lab.paths.complete.exists()
