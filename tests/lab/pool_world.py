"""Pools, Services and `tulle controller` processes on a real API server, seen with the real kubectl."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from apiserver_process import CONTROLLER_TOKEN, TULLE, ApiServer, Kubectl

Object = dict[str, Any]
OPTIONS = ("--service-cidr=10.96.0.0/16,fd00:10:96::/112", "--advertise-address=192.0.2.1")
PATIENCE = 60.0
ASSIGNED = "tulle.dev/AddressAssigned"
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
numbers = count(1)


class Controllers:
    """`tulle controller` processes with the rights of their own user, and the log of each."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self.kubeconfig = server.folder / "kubeconfig.controller"
        config = msgspec.yaml.decode(server.kubeconfig.read_bytes())
        config["users"][0]["user"] = {"token": CONTROLLER_TOKEN}
        self.kubeconfig.write_bytes(msgspec.yaml.encode(config))
        self._running: list[tuple[subprocess.Popen[bytes], Path]] = []

    def start(self, *flags: str) -> tuple[subprocess.Popen[bytes], Path]:
        log = self._server.folder / f"controller-{next(numbers)}.log"
        with log.open("wb") as file:
            command = [TULLE, "controller", f"--kubeconfig={self.kubeconfig}", *flags]
            process = subprocess.Popen(command, stderr=file)
        self._running.append((process, log))
        return process, log

    def last(self) -> subprocess.Popen[bytes]:
        """The one that was started last."""
        return self._running[-1][0]

    def close(self) -> None:
        for process, _ in self._running:
            process.kill()
            process.wait(10)


class World:
    """What the tests look at. ``prefix`` keeps one test's objects apart from another's."""

    def __init__(self, server: ApiServer, home: Path) -> None:
        self.kubectl = Kubectl(server, home)
        self.server = server

    def apply(self, obj: Object) -> None:
        self.kubectl("apply", "-f", "-", given=obj)

    def pool(self, name: str, *addresses: str, **spec: Any) -> None:
        """Only for the Services with the label ``pool`` of that name, unless said otherwise.

        Returns once the controller knows it as it is now.
        """
        spec = spec or {"serviceSelector": {"matchLabels": {"pool": name}}}
        self.apply(
            {
                "apiVersion": "tulle.dev/v1",
                "kind": "LoadBalancerPool",
                "metadata": {"name": name},
                "spec": {"addresses": addresses, **spec},
            }
        )

        def known() -> bool:
            pool = self.get("loadbalancerpool", name)
            ready = condition(pool, "Ready") or {}
            return bool(ready.get("observedGeneration") == pool["metadata"]["generation"])

        eventually(known, f"the pool {name} is known")

    def service(
        self,
        name: str,
        pool: str = "",
        annotations: dict[str, str] | None = None,
        port: int = 80,
        **spec: Any,
    ) -> None:
        self.apply(body(name, pool, annotations, port, **spec))

    def services(self, names: Iterable[str], pool: str) -> None:
        """All at once."""
        items = [body(name, pool) for name in names]
        self.apply({"apiVersion": "v1", "kind": "List", "items": items})

    def get(self, kind: str, name: str) -> Object:
        found: Object = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def ips(self, name: str) -> list[str]:
        """After the controller has said something about the Service."""
        ingress = self.said(name)[1]["status"]["loadBalancer"].get("ingress", [])
        assert all(point["ipMode"] == "VIP" for point in ingress)
        return [point["ip"] for point in ingress]

    def all_ips(self) -> list[str]:
        """In the status of any Service."""
        services = json.loads(self.kubectl("get", "services", "-o", "json"))["items"]
        balancers = [service["status"].get("loadBalancer", {}) for service in services]
        return [point["ip"] for each in balancers for point in each.get("ingress", [])]

    def exist(self, *names: str) -> bool:
        """Whether any of these Services is there."""
        return bool(self.kubectl("get", "service", *names, "--ignore-not-found").strip())

    def said(self, name: str, reason: str = "") -> tuple[Object, Object]:
        """The condition, once there is one (for that reason), and the Service."""

        def look() -> tuple[Object, Object] | None:
            service = self.get("service", name)
            found = condition(service, ASSIGNED)
            return (found, service) if found and reason in ("", found["reason"]) else None

        return eventually(look, f"{name} has a condition {reason}")

    def ready(self, pool: str, reason: str) -> str:
        """The message with which the pool gives that reason."""

        def look() -> Object | None:
            found = condition(self.get("loadbalancerpool", pool), "Ready")
            return found if found and found["reason"] == reason else None

        return str(eventually(look, f"pool {pool} says {reason}")["message"])

    def later_than(self, made: str) -> None:
        """Until what is made from now on is younger: ages are in whole seconds."""
        since = datetime.fromisoformat(made)
        eventually(lambda: datetime.now(UTC) - since >= timedelta(seconds=1), "the next second")

    def event(self, kind: str, name: str, reason: str) -> str:
        selector = f"involvedObject.kind={kind},involvedObject.name={name},reason={reason}"

        def look() -> list[Object]:
            found = self.kubectl("get", "events", "--field-selector", selector, "-o", "json")
            items: list[Object] = json.loads(found)["items"]
            return items

        return str(eventually(look, f"{kind} {name} has an Event {reason}")[0]["message"])


def body(
    name: str, pool: str, annotations: dict[str, str] | None = None, port: int = 80, **spec: Any
) -> Object:
    """A Service of type LoadBalancer, unless said otherwise."""
    labels = {"pool": pool} if pool else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": labels, "annotations": annotations or {}},
        "spec": {"type": "LoadBalancer", "ports": [{"port": port}], **spec},
    }


def condition(obj: Object, kind: str) -> Object | None:
    found = obj.get("status", {}).get("conditions", [])
    return next((each for each in found if each["type"] == kind), None)


def eventually(look: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < end, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.05)
    return found


def leads(log: Path) -> bool:
    return "this is the leader now" in log.read_text()
