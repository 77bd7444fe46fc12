"""The runtime's side of CNI (specification 1.1.0, sections 3 and 4)."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from tulle.errors import CniError
from tulle.lab.kubelet.objects import PodSpec

SUPPORTED: Final = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
INTERFACE: Final = "eth0"
IO_FAILURE: Final = 5
UNDECODABLE: Final = 6
INVALID_CONFIG: Final = 7
_PATIENCE: Final = 60.0

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A Pod sandbox as plugins are told of it; ``port_mappings`` only where they say that they can do it."""

    container_id: str
    netns: Path
    namespace: str
    name: str
    uid: str
    port_mappings: tuple[Json, ...] = ()

    def environment(self) -> dict[str, str]:
        args = {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": self.namespace,
            "K8S_POD_NAME": self.name,
            "K8S_POD_INFRA_CONTAINER_ID": self.container_id,
            "K8S_POD_UID": self.uid,
        }
        return {
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": str(self.netns),
            "CNI_IFNAME": INTERFACE,
            "CNI_ARGS": ";".join(f"{name}={value}" for name, value in args.items()),
        }


def load(folder: Path) -> Json | None:
    """The first configuration of the folder in the order of names, as a list; None when there is none.

    Raises ``CniError`` for a file that is no configuration.
    """
    files = sorted(f for f in folder.glob("*") if f.suffix in (".conflist", ".conf", ".json"))
    if not files:
        return None
    try:
        config = msgspec.json.decode(files[0].read_bytes(), type=Json)
        return config if "plugins" in config else {**config, "plugins": [config]}
    except (OSError, msgspec.MsgspecError) as error:
        raise CniError(INVALID_CONFIG, f"{files[0]} is no CNI configuration: {error}") from error


def version(network: Json) -> str:
    """The highest version that both sides speak. Raises ``CniError`` code 1 when there is none."""
    offered = set(network.get("cniVersions", ())) | {network.get("cniVersion", "")}
    common = [v for v in SUPPORTED if v in offered]
    if not common:
        raise CniError(1, f"{network.get('name')} speaks none of {', '.join(SUPPORTED)}")
    return common[-1]


class Plugins:
    """Calls the plugins of a network configuration list, found as ``<folder>/<type>``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def add(self, network: Json, attachment: Attachment) -> Json:
        """The last plugin's result. Raises ``CniError``; DEL is the caller's to call then."""
        result: Json = {}
        for plugin in network["plugins"]:
            config = self._config(network, plugin, _told(plugin, attachment, result))
            result = await self._call("ADD", plugin["type"], config, attachment.environment())
        return result

    async def delete(self, network: Json, attachment: Attachment, result: Json | None) -> None:
        """In the opposite order. Raises ``CniError``."""
        for plugin in reversed(network["plugins"]):
            config = self._config(network, plugin, _told(plugin, attachment, result))
            await self._call("DEL", plugin["type"], config, attachment.environment())

    async def status(self, network: Json) -> None:
        """Raises ``CniError`` when a plugin says that it cannot serve ADD; before 1.1.0 nobody is asked."""
        await self._each("STATUS", network, {})

    async def collect_garbage(self, network: Json, valid: list[str]) -> None:
        """Lets plugins free what belongs to no container ID of ``valid``."""
        attachments = [{"containerID": container_id, "ifname": INTERFACE} for container_id in valid]
        await self._each("GC", network, {"cni.dev/valid-attachments": attachments})

    async def _each(self, command: str, network: Json, extra: Json) -> None:
        if version(network) != SUPPORTED[-1]:
            return
        for plugin in network["plugins"]:
            await self._call(command, plugin["type"], self._config(network, plugin, extra), {})

    def _config(self, network: Json, plugin: Json, extra: Json) -> Json:
        own = {key: value for key, value in plugin.items() if key != "capabilities"}
        return {**own, "name": network["name"], "cniVersion": version(network), **extra}

    async def _call(self, command: str, kind: str, config: Json, environment: dict[str, str]) -> Json:
        variables = {"CNI_COMMAND": command, "CNI_PATH": str(self._folder), "PATH": os.environ["PATH"]}
        try:
            process = await asyncio.create_subprocess_exec(
                self._folder / kind,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=variables | environment,
            )
        except OSError as error:
            raise CniError(IO_FAILURE, f"CNI plugin {kind} cannot be started: {error}") from error
        try:
            async with asyncio.timeout(_PATIENCE):
                out, err = await process.communicate(msgspec.json.encode(config))
        except TimeoutError as error:
            process.kill()
            raise CniError(IO_FAILURE, f"{kind} {command} took over {_PATIENCE:.0f} s") from error
        return _answer(f"{kind} {command}", process.returncode or 0, out, err)


def _told(plugin: Json, attachment: Attachment, result: Json | None) -> Json:
    """Beside its configuration: the result before, and what it is capable of (CNI conventions)."""
    told: Json = {"prevResult": result} if result else {}
    if attachment.port_mappings and plugin.get("capabilities", {}).get("portMappings"):
        told["runtimeConfig"] = {"portMappings": attachment.port_mappings}
    return told


def port_mappings(spec: PodSpec) -> tuple[Json, ...]:
    """As a container runtime gives them: those with a port of the node; protocols in small letters."""
    sidecars = [container for container in spec.init_containers if container.sidecar]
    return tuple(
        {
            "hostPort": port.host_port,
            "containerPort": port.container_port,
            "protocol": port.protocol.lower(),
            "hostIP": port.host_ip,
        }
        for container in (*spec.containers, *sidecars)
        for port in container.ports
        if port.host_port
    )


def _answer(what: str, code: int, out: bytes, err: bytes) -> Json:
    """A plugin's result; its error object as ``CniError``."""
    try:
        answer = msgspec.json.decode(out, type=Json) if out.strip() else {}
    except msgspec.MsgspecError as error:
        text = (out + err).decode(errors="replace").strip()
        raise CniError(UNDECODABLE, f"{what} answered {text[:200]!r}") from error
    if code:
        reason = answer.get("msg") or err.decode(errors="replace").strip() or f"exit code {code}"
        raise CniError(int(answer.get("code", IO_FAILURE)), f"{what}: {reason}", answer.get("details", ""))
    return answer
