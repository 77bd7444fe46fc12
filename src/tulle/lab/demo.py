"""``tulle lab demo``: a cluster, a dozen Pods, the proof of the network model, and what to try next."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from tulle.errors import LabError
from tulle.kube.informer import Informer
from tulle.kube.resources import CONFIGMAPS, DAEMONSETS, DEPLOYMENTS, SERVICES, Resource, Untyped
from tulle.kube.resources import PODS as ANY_PODS
from tulle.lab.kubelet.objects import PODS, Pod
from tulle.lab.paths import Paths
from tulle.lab.processes import TULLE
from tulle.lab.spec import Spec
from tulle.lab.steps import console, step
from tulle.lab.up import Lab, existing, up

EXAMPLES: Final = Path(__file__).parents[3] / "examples"
NAMESPACE: Final = "default"
_LABEL: Final = "tulle.dev/example"
_PATIENCE: Final = 60.0
_KINDS: Final[dict[str, Resource[Untyped]]] = {
    resource.kind: resource for resource in (ANY_PODS, DEPLOYMENTS, DAEMONSETS, CONFIGMAPS, SERVICES)
}
_NEXT: Final = """
[bold]Try next[/]
  export KUBECONFIG=$({tulle} lab kubeconfig)
  kubectl get pods -o wide                     # every Pod has its own IP
  kubectl exec deploy/client -- ping -c 3 IP   # any Pod reaches any Pod, on any node
  kubectl exec deploy/client -- curl -s web    # a Service: a name, an address, three Pods behind it
  kubectl exec deploy/client -- curl -s whoami # one that stays on the node
  kubectl exec deploy/client -- getent ahosts whoami-each    # headless: the name leads to every Pod
  {tulle} lab exec two-containers -c client -- ip addr   # two containers, one network
  {tulle} lab node node-1 -- tulle status      # a node as its kernel has it
  {tulle} lab node node-1 -- ip route          # and the kernel's own routes
  {tulle} lab world -- curl -s 172.30.1.11:30080    # a client outside, and the Pod sees who it is
  kubectl get service whoami-outside           # it has an address of its own, too: curl that from world
  {tulle} lab down                             # leaves nothing behind
"""


def _as_typed() -> str:
    """How the user called this command, so that what we propose works where they are."""
    return f"{'sudo ' if 'SUDO_USER' in os.environ else ''}{sys.argv[0]}"


async def demo(name: str, examples: Path) -> int:
    """The exit code of ``tulle verify``. Raises ``LabError``."""
    objects = list(_read(examples))
    lab = existing(Paths(name))
    await up(lab.spec if lab else Spec(name), step)
    lab = Lab(Paths(name), lab.spec if lab else Spec(name))
    with step(f"Apply {examples.name}/"):
        await _apply(lab, objects)
    count = expected_pods(objects, len(lab.topology.nodes))
    with step(f"{count} Pods become Ready"):
        await _ready(lab, count)
    console.print()
    code = await _verify(lab)
    console.print(_NEXT.format(tulle=_as_typed()), soft_wrap=True, highlight=False)
    return code


def _read(folder: Path) -> Iterator[Untyped]:
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise LabError(f"{folder} has no examples; name the folder with --examples")
    for file in files:
        yield from yaml.safe_load_all(file.read_text())


def expected_pods(objects: list[Untyped], nodes: int) -> int:
    """How many Pods the objects ask for."""
    counts: dict[str, Any] = {
        "Pod": lambda _: 1,
        "Deployment": lambda spec: spec.get("replicas", 1),
        "DaemonSet": lambda _: nodes,
    }
    return sum(counts[o["kind"]](o["spec"]) for o in objects if o["kind"] in counts)


async def _apply(lab: Lab, objects: list[Untyped]) -> None:
    async with lab.client() as client:
        for body in objects:
            resource = _KINDS[body["kind"]]
            await client.patch(resource, body["metadata"]["name"], body, NAMESPACE, kind="apply")


async def _ready(lab: Lab, count: int) -> None:
    changed = asyncio.Event()
    async with lab.client() as client:
        pods = Informer(client, PODS, namespace=NAMESPACE, label_selector=_LABEL)
        pods.subscribe(lambda _: changed.set())
        following = asyncio.create_task(pods.run(), name="Pods")
        try:
            async with asyncio.timeout(_PATIENCE):
                while sum(map(is_ready, pods.objects.values())) < count:
                    await changed.wait()
                    changed.clear()
        except TimeoutError as error:
            names = ", ".join(pod.metadata.name for pod in pods.objects.values() if not is_ready(pod))
            advice = "see kubectl describe pod"
            raise LabError(f"not Ready after {_PATIENCE:.0f} s: {names}; {advice}") from error
        finally:
            following.cancel()


def is_ready(pod: Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


async def _verify(lab: Lab) -> int:
    environment = os.environ | {"KUBECONFIG": str(lab.paths.kubeconfig)}
    process = await asyncio.create_subprocess_exec(*TULLE, "verify", env=environment)
    return await process.wait()
