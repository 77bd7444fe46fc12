"""``tulle apiserver``: the embedded Kubernetes API."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated

import typer

from tulle.errors import ConfigError

FEWEST_SERVICE_ADDRESSES = 8


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command("apiserver")(apiserver)


def apiserver(
    state_dir: Annotated[Path, typer.Option(help="Database and certificates; made when missing.")],
    listen: Annotated[
        list[str] | None, typer.Option(help="HOST:PORT; [::1]:PORT for IPv6. Repeatable.")
    ] = None,
    listen_fd: Annotated[
        list[int] | None, typer.Option(help="An inherited TCP socket that listens already. Repeatable.")
    ] = None,
    kubeconfig_out: Annotated[
        Path | None, typer.Option(help="Where to write the administrator's kubeconfig (mode 0600).")
    ] = None,
    san: Annotated[
        list[str] | None, typer.Option(help="A further name or address to certify. Repeatable.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Bearer tokens: lines of token,user,group1|group2.", exists=True)
    ] = None,
    service_cidr: Annotated[
        str, typer.Option(help="One CIDR for Services, or one of each family with the cluster's own first.")
    ] = "10.96.0.0/16",
    service_node_port_range: Annotated[str, typer.Option(help="FIRST-LAST for node ports.")] = "30000-32767",
    advertise_address: Annotated[
        str | None,
        typer.Option(
            help="ADDRESS[,ADDRESS] by which Pods reach this server, behind Service default/kubernetes.",
            show_default="the first of each family that it listens on, except loopback",
        ),
    ] = None,
    advertise_port: Annotated[
        int | None,
        typer.Option(help="The port there.", show_default="that of the listener", min=1, max=65535),
    ] = None,
) -> None:
    """Serves the Kubernetes API, gives Services their addresses and ports, and runs the controllers.

    Listens on 127.0.0.1:6443 unless --listen or --listen-fd is given. Ready when GET /readyz answers 200.
    """
    import uvloop

    from tulle import logs
    from tulle.apiserver.server import Settings, serve

    logs.to_stderr()
    addresses = [_address(each) for each in listen or ([] if listen_fd else ["127.0.0.1:6443"])]
    settings = Settings(
        state_dir,
        addresses,
        listen_fd or (),
        san or (),
        kubeconfig_out,
        token_file,
        service_cidrs=_service_cidrs(service_cidr),
        node_ports=_port_range(service_node_port_range),
        advertise=_advertised(advertise_address) if advertise_address else (),
        advertise_port=advertise_port,
    )
    uvloop.run(serve(settings))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"--listen {text}: must be HOST:PORT such as 127.0.0.1:6443 or [::1]:6443")
    return host.strip("[]"), int(port)


def _service_cidrs(text: str) -> list[str]:
    """One CIDR, or one of each family."""
    right = "must be a CIDR such as 10.96.0.0/16, or two of different families, divided by a comma"
    try:
        networks = [ip_network(each.strip()) for each in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--service-cidr {text}: {error}; {right}") from error
    if len(networks) > 2 or len({each.version for each in networks}) < len(networks):
        raise ConfigError(f"--service-cidr {text}: {right}")
    for each in networks:
        if each.num_addresses < FEWEST_SERVICE_ADDRESSES:
            few = f"{each} holds fewer than {FEWEST_SERVICE_ADDRESSES} addresses"
            raise ConfigError(f"--service-cidr {text}: {few}; {right}")
    return [str(each) for each in networks]


def _port_range(text: str) -> range:
    first, dash, last = text.partition("-")
    numbers = [int(each) if each.strip().isdecimal() else 0 for each in (first, last)]
    if not dash or not 1 <= numbers[0] <= numbers[1] <= 65535:
        raise ConfigError(f"--service-node-port-range {text}: must be FIRST-LAST such as 30000-32767")
    return range(numbers[0], numbers[1] + 1)


def _advertised(text: str) -> list[str]:
    """Addresses that can be endpoints of a Service, at most one of each family."""
    right = "must be an address that Pods reach, not loopback, such as 192.0.2.1; at most one of each family"
    try:
        found = [ip_address(each.strip()) for each in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--advertise-address {text}: {error}; {right}") from error
    unfit = any(each.is_loopback or each.is_unspecified or each.is_link_local for each in found)
    if unfit or len({each.version for each in found}) < len(found):
        raise ConfigError(f"--advertise-address {text}: {right}")
    return [str(each) for each in found]
