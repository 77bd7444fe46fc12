"""``tulle agent``, ``tulle uninstall``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def _path(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel="Paths")


def _network(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel="Network")


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(agent)
    app.command()(uninstall)


Config = Annotated[
    Path | None, typer.Option(envvar="TULLE_CONFIG", help="Settings file; docs/agent.yaml explains it.")
]


def agent(
    config: Config = None,
    kubeconfig: Annotated[str, typer.Option(help="In a Pod: its service account.")] = "",
    node_name: Annotated[str, typer.Option(help="In the API. (default: the host name)")] = "",
    routing: Annotated[
        str,
        _network("native, overlay, or auto: native where nodes share a subnet."),
    ] = "",
    mtu: Annotated[
        int | None,
        _network("Of Pods, in bytes. (default: from the uplinks)"),
    ] = None,
    uplink: Annotated[
        list[str] | None,
        _network("A device to other nodes. (default: by the Node's addresses)"),
    ] = None,
    overlay_vni: Annotated[int | None, _network("VXLAN network. (default: 84)")] = None,
    overlay_port: Annotated[int | None, _network("VXLAN's UDP port. (default: 4789)")] = None,
    masquerade: Annotated[
        bool | None,
        _network("Pods reach the outside with the node's address."),
    ] = None,
    masquerade_except: Annotated[
        list[str] | None,
        _network("A CIDR outside that sees Pods' own addresses."),
    ] = None,
    services: Annotated[
        bool | None,
        typer.Option(help="Balance Services; without, run kube-proxy.", rich_help_panel="Services"),
    ] = None,
    socket_services: Annotated[
        bool | None,
        typer.Option(help="Pods have Services at the socket.", rich_help_panel="Services"),
    ] = None,
    healthz_bind_address: Annotated[
        str,
        typer.Option(help="For /healthz; or none. (default: 0.0.0.0:10256)", rich_help_panel="Health"),
    ] = "",
    metrics_bind_address: Annotated[
        str,
        typer.Option(help="For /metrics; or none. (default: 127.0.0.1:10249)", rich_help_panel="Health"),
    ] = "",
    node_port_address: Annotated[
        list[str] | None,
        typer.Option(
            help="Node ports are reached here: primary, or a CIDR. (default: primary)",
            rich_help_panel="Services",
        ),
    ] = None,
    external_traffic: Annotated[
        str,
        typer.Option(
            help="Of Pods on other nodes: handover, dsr or snat. (default: handover)",
            rich_help_panel="Services",
        ),
    ] = "",
    flow_table_size: Annotated[
        int | None,
        typer.Option(help="Flows remembered. (default: 1048576)", rich_help_panel="Services"),
    ] = None,
    l2_announcements: Annotated[
        bool | None,
        typer.Option(help="Answer ARP and NDP for LoadBalancer IPs.", rich_help_panel="Services"),
    ] = None,
    cgroup: Annotated[str, _path("All processes of the node are in it. (default: cgroup v2's root)")] = "",
    state_dir: Annotated[str, _path("(default: /var/lib/tulle)")] = "",
    run_dir: Annotated[str, _path("Holds the CNI socket, and BIRD. (default: /run/tulle)")] = "",
    bpffs: Annotated[str, _path("(default: /sys/fs/bpf/tulle)")] = "",
    cni_conf_dir: Annotated[str, _path("(default: /etc/cni/net.d)")] = "",
    cni_bin_dir: Annotated[str, _path("(default: /opt/cni/bin)")] = "",
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error. (default: info)")] = "",
) -> None:
    """Run the agent of one node: connects its Pods, and keeps the way to the other nodes.

    It serves the container runtime's CNI calls and follows the cluster's Nodes. Packets never pass it:
    stop it, and all that is connected stays connected.
    """
    import uvloop

    from tulle import logs
    from tulle.agent import run, settings

    flags = {
        "kubeconfig": kubeconfig,
        "nodeName": node_name,
        "routing": routing,
        "mtu": mtu,
        "uplinks": uplink,
        "overlayVni": overlay_vni,
        "overlayPort": overlay_port,
        "masquerade": masquerade,
        "masqueradeExcept": masquerade_except,
        "services": services,
        "socketServices": socket_services,
        "healthzBindAddress": healthz_bind_address,
        "metricsBindAddress": metrics_bind_address,
        "nodePortAddresses": node_port_address,
        "externalTraffic": external_traffic,
        "flowTableSize": flow_table_size,
        "l2Announcements": l2_announcements,
        "cgroup": cgroup,
        "stateDir": state_dir,
        "runDir": run_dir,
        "bpffs": bpffs,
        "cniConfDir": cni_conf_dir,
        "cniBinDir": cni_bin_dir,
        "logLevel": log_level,
    }
    chosen = settings.load(config, flags)
    logs.to_stderr(chosen.log_level)
    uvloop.run(run.run(chosen))


def uninstall(
    config: Config = None,
    state_dir: Annotated[str, _path("(default: /var/lib/tulle)")] = "",
    run_dir: Annotated[str, _path("(default: /run/tulle)")] = "",
    bpffs: Annotated[str, _path("(default: /sys/fs/bpf/tulle)")] = "",
    cni_conf_dir: Annotated[str, _path("(default: /etc/cni/net.d)")] = "",
    cni_bin_dir: Annotated[str, _path("(default: /opt/cni/bin)")] = "",
) -> None:
    """Take away what an agent left on this node, once no Pod is connected and the agent has ended."""
    import asyncio

    from tulle.agent import settings
    from tulle.agent.uninstall import uninstall
    from tulle.kernel.prerequisites import require_root

    require_root("taking away eBPF programs and routes")
    flags = {
        "stateDir": state_dir,
        "runDir": run_dir,
        "bpffs": bpffs,
        "cniConfDir": cni_conf_dir,
        "cniBinDir": cni_bin_dir,
    }
    asyncio.run(uninstall(settings.load(config, flags)))
