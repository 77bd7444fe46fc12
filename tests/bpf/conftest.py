"""The programs, loaded once, in a namespace with the devices that the maps speak of."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from cluster import A_LINK, B_LINK, MTU, OVERLAY, UPLINK, V4, V6, Family, fill
from programs import Programs
from service_scene import CIDRS, Scene, clear_services

from tulle.kernel import libc, netns
from tulle.pod_to_service.table import Table

DEVICES = f"""
link add pod-a index {A_LINK} mtu {MTU} type veth peer name pod-b index {B_LINK} mtu {MTU}
link add uplink index {UPLINK} mtu {MTU} type veth peer name overlay index {OVERLAY} mtu {MTU}
"""


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    assert os.geteuid() == 0, "these tests load eBPF programs: run them as root"
    folder = tmp_path_factory.mktemp("bpf")
    home, pins = folder / "netns", folder / "bpffs"
    pins.mkdir()
    with ExitStack() as stack:
        libc.mount("bpf", pins, "bpf")
        stack.callback(libc.umount, pins)
        netns.create(home)
        stack.callback(netns.delete, home)
        ip = ["nsenter", f"--net={home}", "ip", "-batch", "-"]
        subprocess.run(ip, input=DEVICES, text=True, check=True)
        (pins / "maps").mkdir()
        programs = Programs(pins / "maps", home)
        stack.callback(programs.close)
        fill(programs)
        yield programs


@pytest.fixture
def programs(loaded: Programs) -> Programs:
    """With no flow remembered."""
    for name, struct in (("flows", "flow"), ("fragments", "fragment"), ("affinities", "affinity_key")):
        table = loaded.maps[name]
        for key in list(table.keys(len(loaded.contract.pack(struct)))):
            table.discard(key)
    return loaded


@pytest.fixture
def table(programs: Programs) -> Iterator[Table]:
    """An empty Service table."""
    made = Table(programs.maps, programs.contract)
    made.set_cidrs(CIDRS)
    try:
        yield made
    finally:
        clear_services(programs)


@pytest.fixture(params=[V4, V6], ids=str)
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


@pytest.fixture
def scene(programs: Programs, table: Table, family: Family) -> Scene:
    return Scene(programs, family, table)
