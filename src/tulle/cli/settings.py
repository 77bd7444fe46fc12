"""The agent's settings as flags: one row each, and a decorator for the commands that take them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer


class Flag(NamedTuple):
    """``key`` as in ``docs/agent.yaml``, which explains it; the flag is spelled alike, one for each value
    where there may be several.
    """

    key: str
    type: Any
    help: str
    panel: str | None = None
    name: str = ""

    def parameter(self) -> inspect.Parameter:
        """Of a command of Typer; what is not given is None."""
        spelled = f"--{self.name}/--no-{self.name}" if self.type is bool else f"--{self.name}"
        option = typer.Option(spelled, help=self.help, rich_help_panel=self.panel)
        return _parameter(self.variable, self.type, option)

    @property
    def variable(self) -> str:
        return self.name.replace("-", "_")


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


_CONFIG = _parameter(
    "config", Path, typer.Option(envvar="TULLE_CONFIG", help="Settings file; docs/agent.yaml explains it.")
)
_SINGULAR = {"uplinks": "uplink", "node-port-addresses": "node-port-address"}


def _flags(panel: str | None, *rows: tuple[str, Any, str]) -> Iterator[Flag]:
    for key, kind, help in rows:
        name = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in key)
        yield Flag(key, kind, help, panel, _SINGULAR.get(name, name))


FLAGS = (
    *_flags(
        None,
        ("kubeconfig", str, "In a Pod: its service account."),
        ("nodeName", str, "In the API. (default: the host name)"),
        ("logLevel", str, "debug, info, warning or error. (default: info)"),
    ),
    *_flags(
        "Network",
        ("routing", str, "native, overlay, or auto: native where nodes share a subnet."),
        ("mtu", int, "Of Pods, in bytes. (default: from the uplinks)"),
        ("uplinks", list[str], "A device to other nodes. (default: by the Node's addresses)"),
        ("overlayVni", int, "VXLAN network. (default: 84)"),
        ("overlayPort", int, "VXLAN's UDP port. (default: 4789)"),
        ("masquerade", bool, "Pods reach the outside with the node's address."),
        ("masqueradeExcept", list[str], "A CIDR outside that sees Pods' own addresses."),
    ),
    *_flags(
        "Services",
        ("services", bool, "Balance Services; without, run kube-proxy."),
        ("socketServices", bool, "Pods have Services at the socket."),
        (
            "nodePortAddresses",
            list[str],
            "Node ports are reached here: primary, or a CIDR. (default: primary)",
        ),
        ("externalTraffic", str, "Of Pods on other nodes: handover, dsr or snat. (default: handover)"),
        ("flowTableSize", int, "Flows remembered. (default: 1048576)"),
        ("l2Announcements", bool, "Answer ARP and NDP for LoadBalancer IPs."),
    ),
    *_flags(
        "Health",
        ("healthzBindAddress", str, "For /healthz; or none. (default: 0.0.0.0:10256)"),
        ("metricsBindAddress", str, "For /metrics; or none. (default: 127.0.0.1:10249)"),
    ),
    *_flags(
        "Paths",
        ("cgroup", str, "All processes of the node are in it. (default: cgroup v2's root)"),
        ("stateDir", str, "(default: /var/lib/tulle)"),
        ("runDir", str, "Holds the CNI socket, and BIRD. (default: /run/tulle)"),
        ("bpffs", str, "(default: /sys/fs/bpf/tulle)"),
        ("cniConfDir", str, "(default: /etc/cni/net.d)"),
        ("cniBinDir", str, "(default: /opt/cni/bin)"),
    ),
)

Command = Callable[..., None]


def with_settings(*keys: str) -> Callable[[Command], Command]:
    """Gives a command ``--config``, and a flag for each of these settings; for all of them without ``keys``.

    It is called with the ``settings`` that come of them, and with its own parameters by name.
    """
    flags = [flag for flag in FLAGS if not keys or flag.key in keys]

    def decorate(command: Command) -> Command:
        def run(config: Path | None, **given: Any) -> None:
            from tulle.agent.settings import load

            chosen = {flag.key: given.pop(flag.variable) for flag in flags}
            command(load(config, chosen), **given)

        del command.__annotations__["settings"]  # whose type is imported only when the command runs
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        shown = [_CONFIG, *own, *(flag.parameter() for flag in flags)]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in shown}
        return run

    return decorate
