"""Pods on the small kubelet: containers, restarts, order, addresses, environment, volumes, logs and exec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from livelab import Cluster, Pods, container_status, has_phase, is_ready, waits_for

from tulle.kube.client import Client
from tulle.kube.resources import CONFIGMAPS, NODES, PODS

FOREVER = ("sleep", "infinity")


def host(name: str, *command: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "host", "command": list(command), **more}


async def test_status_has_addresses_of_both_families(pods: Pods, client: Client) -> None:
    await pods.create("p", *FOREVER)
    status = (await pods.ready("p"))["status"]
    pod = await client.get(PODS, "p", pods.namespace)
    node = await client.get(NODES, pod["spec"]["nodeName"])
    assert [":" in each["ip"] for each in status["podIPs"]] == [False, True]
    assert status["podIP"] == status["podIPs"][0]["ip"]
    assert status["hostIP"] == node["status"]["addresses"][0]["address"]
    assert status["startTime"]
    assert container_status(pod)["containerID"].startswith("crun://")


async def test_containers_share_network_and_hostname(pods: Pods) -> None:
    await pods.create("two", *FOREVER, containers=[host("a", *FOREVER), host("b", *FOREVER)])
    await pods.ready("two")
    seen = [await pods.run("two", "sh", "-c", "hostname; ip -o addr", container=name) for name in "ab"]
    assert seen[0] == seen[1]
    assert seen[0].startswith("two\n")


async def test_the_machine_is_read_only_below_a_layer_of_ones_own(pods: Pods) -> None:
    await pods.create("p", *FOREVER)
    await pods.ready("p")
    await pods.run("p", "sh", "-c", "echo x > /etc/tulle-was-here && test ! -e /run/tulle")
    assert not Path("/etc/tulle-was-here").exists()


async def test_host_network(pods: Pods) -> None:
    await pods.create("h", *FOREVER, hostNetwork=True, nodeName="node-1")
    status = (await pods.ready("h"))["status"]
    assert status["podIPs"] == status["hostIPs"]
    assert await pods.run("h", "hostname") == "node-1\n"


async def test_environment_and_files_from_the_api(pods: Pods, client: Client) -> None:
    metadata = {"name": "settings"}
    await client.create(CONFIGMAPS, {"metadata": metadata, "data": {"color": "blue"}}, pods.namespace)
    await pods.create(
        "p",
        *FOREVER,
        env=[
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
        ],
        volumeMounts=[
            {"name": "files", "mountPath": "/settings"},
            {"name": "scratch", "mountPath": "/scratch"},
        ],
        volumes=[{"name": "files", "configMap": {"name": "settings"}}, {"name": "scratch", "emptyDir": {}}],
    )
    status = (await pods.ready("p"))["status"]
    script = "touch /scratch/x; echo $IP $COLOR $(cat /settings/color)"
    assert await pods.run("p", "sh", "-c", script) == f"{status['podIP']} blue blue\n"


async def test_a_missing_config_map_is_said_and_waited_for(pods: Pods, client: Client) -> None:
    source = {"configMapKeyRef": {"name": "late", "key": "k"}}
    await pods.create("p", *FOREVER, env=[{"name": "K", "valueFrom": source}])
    pod = await pods.until("p", waits_for("CreateContainerConfigError"))
    assert "ConfigMap late" in container_status(pod)["state"]["waiting"]["message"]
    await client.create(CONFIGMAPS, {"metadata": {"name": "late"}, "data": {"k": "v"}}, pods.namespace)
    await pods.ready("p")


@pytest.mark.parametrize(
    ("policy", "script", "phase"),
    [("Never", "exit 3", "Failed"), ("OnFailure", "exit 0", "Succeeded"), ("Never", "exit 0", "Succeeded")],
)
async def test_pods_that_end(pods: Pods, policy: str, script: str, phase: str) -> None:
    await pods.create("p", "sh", "-c", script, restartPolicy=policy)
    pod = await pods.until("p", has_phase(phase))
    code = container_status(pod)["state"]["terminated"]["exitCode"]
    assert code == int(script.split()[1])


async def test_a_crashing_container_is_restarted_at_once_and_then_held_back(pods: Pods) -> None:
    await pods.create("p", "sh", "-c", "exit 7")
    pod = await pods.until("p", waits_for("CrashLoopBackOff"))
    status = container_status(pod)
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 7
    assert await pods.event("p", "BackOff")


async def test_init_containers_sidecars_and_main_keep_their_order(pods: Pods) -> None:
    log = {"volumeMounts": [{"name": "log", "mountPath": "/log"}]}
    say = "trap 'echo {0} ends >> /log/all; exit 0' TERM; echo {0} >> /log/all; sleep infinity & wait"
    await pods.create(
        "p",
        *FOREVER,
        initContainers=[
            host("first", "sh", "-c", "echo first >> /log/all", **log),
            host("side", "bash", "-c", say.format("side"), restartPolicy="Always", **log),
            host("second", "sh", "-c", "echo second >> /log/all", **log),
        ],
        containers=[
            host("main", "bash", "-c", say.format("main"), **log),
            host("watcher", "bash", "-c", "trap 'exit 0' TERM; sleep infinity & wait", **log),
        ],
        terminationGracePeriodSeconds=60,
        volumes=[{"name": "log", "emptyDir": {}}],
    )
    await pods.ready("p")
    assert await pods.run("p", "cat", "/log/all", container="watcher") == "first\nside\nsecond\nmain\n"
    await pods.delete("p")
    pod = await pods.until("p", lambda pod: "terminated" in container_status(pod, "side").get("state", {}))
    main, side = (container_status(pod, name)["state"]["terminated"] for name in ("main", "side"))
    assert main["exitCode"] == side["exitCode"] == 0
    assert main["finishedAt"] <= side["finishedAt"]
    await pods.gone("p")


async def test_a_failed_init_container_fails_a_pod_that_never_restarts(pods: Pods) -> None:
    await pods.create(
        "p", *FOREVER, restartPolicy="Never", initContainers=[host("init", "sh", "-c", "exit 1")]
    )
    await pods.until("p", has_phase("Failed"))


async def test_pre_stop_runs_and_a_deaf_container_is_killed_after_its_grace(pods: Pods) -> None:
    deaf = "trap '' TERM; echo up; while true; do sleep 0.1; done"
    hook = {"preStop": {"exec": {"command": ["touch", "/shared/stopping"]}}}
    shared = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    stopping = "until test -e /shared/stopping; do sleep 0.1; done; exit 42"
    wait = f"trap '{stopping}' TERM; while true; do sleep 0.1; done"
    await pods.create(
        "p",
        containers=[
            host("main", "bash", "-c", deaf, lifecycle=hook, **shared),
            host("witness", "bash", "-c", wait, lifecycle={"preStop": {"sleep": {"seconds": 1}}}, **shared),
        ],
        terminationGracePeriodSeconds=4,
        volumes=[{"name": "shared", "emptyDir": {}}],
    )
    await pods.ready("p")
    await pods.delete("p")
    pod = await pods.until(
        "p", lambda pod: pod is None or "terminated" in container_status(pod).get("state", {})
    )
    assert container_status(pod)["state"]["terminated"]["exitCode"] == 137
    assert container_status(pod, "witness")["state"]["terminated"]["exitCode"] == 42
    await pods.gone("p")


async def test_a_terminating_pod_keeps_its_network(pods: Pods) -> None:
    """N-17: both ways, until its sandbox is gone."""
    server = (
        "import http.server as s, signal; signal.signal(15, signal.SIG_IGN);"
        "s.test(HandlerClass=s.SimpleHTTPRequestHandler, port=8080, bind='::')"
    )
    await pods.create(
        "server", "python3", "-c", server, terminationGracePeriodSeconds=300,
        readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    )  # fmt: skip
    await pods.create("client", *FOREVER)
    addresses = [each["ip"] for each in (await pods.ready("server"))["status"]["podIPs"]]
    await pods.ready("client")
    await pods.delete("server")
    await pods.until("server", lambda pod: pod and pod["metadata"].get("deletionTimestamp"))
    for address in addresses:
        target = f"[{address}]" if ":" in address else address
        get = f"import urllib.request as r; print(r.urlopen('http://{target}:8080/etc/', timeout=5).status)"
        assert await pods.run("client", "python3", "-c", get) == "200\n"
    assert "1 received" in await pods.run("server", "ping", "-c", "1", "-W", "5", addresses[0])
    await pods.delete("server", grace=0)


async def test_a_readiness_gate_is_honoured(pods: Pods, client: Client) -> None:
    await pods.create("p", *FOREVER, readinessGates=[{"conditionType": "example.com/gate"}])
    await pods.until("p", lambda pod: container_status(pod).get("ready"))
    assert not is_ready(await client.get(PODS, "p", pods.namespace))
    gate = {"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}}
    await client.patch(PODS, "p", gate, pods.namespace, "status", "strategic")
    await pods.ready("p")


async def test_logs_and_exec_by_kubectl(lab: Cluster, pods: Pods) -> None:
    await pods.create("p", "sh", "-c", "echo one; echo two >&2; exec sleep infinity")
    await pods.ready("p")
    here = ("-n", pods.namespace, "p")
    assert lab.kubectl("logs", *here).stdout == "one\ntwo\n"
    assert lab.kubectl("logs", *here, "--tail=1").stdout == "two\n"
    done = lab.kubectl("exec", *here, "--", "sh", "-c", "echo out; echo err >&2; exit 5", check=False)
    assert (done.stdout, done.returncode) == ("out\n", 5)
    assert done.stderr.startswith("err\n")
    assert lab.kubectl("exec", "-i", *here, "--", "cat", stdin="through\n").stdout == "through\n"
    assert lab.tulle("exec", "p", "-n", pods.namespace, "--", "hostname").stdout == "p\n"


async def test_exec_where_nothing_runs_says_so(lab: Cluster, pods: Pods) -> None:
    await pods.create("p", "false")
    await pods.until("p", waits_for("CrashLoopBackOff"))
    done = lab.kubectl("exec", "-n", pods.namespace, "p", "--", "true", check=False)
    assert done.returncode == 1
    assert "container main does not run" in done.stderr


async def test_security_contexts(pods: Pods) -> None:
    plain = {"runAsUser": 1000, "runAsGroup": 2000, "readOnlyRootFilesystem": True}
    await pods.create(
        "p",
        containers=[
            host("privileged", *FOREVER, securityContext={"privileged": True}),
            host("plain", *FOREVER, securityContext=plain),
        ],
    )
    await pods.ready("p")
    await pods.run("p", "ip", "link", "add", "extra", "type", "veth", container="privileged")
    script = "id -u; id -g; touch /x 2>/dev/null || echo read-only; ip link del extra 2>/dev/null || echo no"
    assert await pods.run("p", "sh", "-c", script, container="plain") == "1000\n2000\nread-only\nno\n"


async def test_previous_logs(lab: Cluster, pods: Pods) -> None:
    script = "test -e /state/x && echo second && exec sleep infinity; touch /state/x; echo first"
    await pods.create(
        "p", "sh", "-c", script,
        volumeMounts=[{"name": "state", "mountPath": "/state"}], volumes=[{"name": "state", "emptyDir": {}}],
    )  # fmt: skip
    await pods.until("p", lambda pod: container_status(pod).get("restartCount") == 1)
    await pods.ready("p")
    assert lab.kubectl("logs", "-n", pods.namespace, "p").stdout == "second\n"
    assert lab.kubectl("logs", "-n", pods.namespace, "p", "--previous").stdout == "first\n"


async def test_follow_ends_with_the_container(lab: Cluster, pods: Pods) -> None:
    await pods.create("p", "sh", "-c", "echo a; sleep 1; echo b", restartPolicy="Never")
    await pods.until("p", lambda pod: has_phase("Running")(pod) or has_phase("Succeeded")(pod))
    assert lab.kubectl("logs", "-f", "-n", pods.namespace, "p").stdout == "a\nb\n"


async def test_a_pod_deleted_by_force_goes_all_the_same(lab: Cluster, pods: Pods) -> None:
    await pods.create("p", *FOREVER, nodeName="node-1")
    await pods.ready("p")
    await pods.delete("p", grace=0)
    await pods.gone("p")
    await pods.create("next", *FOREVER, nodeName="node-1")
    await pods.ready("next")
