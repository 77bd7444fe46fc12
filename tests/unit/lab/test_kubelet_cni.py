"""What the lab's kubelet tells plugins beside their configuration, as container runtimes do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.lab.kubelet.cni import Attachment, Plugins, port_mappings
from tulle.lab.kubelet.objects import PodSpec

PLUGIN = """#!/bin/sh
cat > "{folder}/$CNI_COMMAND-{name}.json"
echo '{{"ips": []}}'
"""


def spec(**fields: Any) -> PodSpec:
    return msgspec.convert(fields, PodSpec)


def test_ports_of_the_node_and_no_others() -> None:
    found = port_mappings(
        spec(
            containers=[
                {
                    "name": "c",
                    "ports": [
                        {"containerPort": 80},
                        {"containerPort": 81, "hostPort": 8081, "hostIP": "127.0.0.1", "protocol": "UDP"},
                    ],
                }
            ],
            initContainers=[
                {"name": "i", "ports": [{"containerPort": 1, "hostPort": 1}]},
                {"name": "s", "restartPolicy": "Always", "ports": [{"containerPort": 2, "hostPort": 2}]},
            ],
        )
    )
    assert found == (
        {"hostPort": 8081, "containerPort": 81, "protocol": "udp", "hostIP": "127.0.0.1"},
        {"hostPort": 2, "containerPort": 2, "protocol": "tcp", "hostIP": ""},
    )


@pytest.mark.parametrize("command", ["ADD", "DEL"])
async def test_only_a_plugin_that_is_capable_is_told(tmp_path: Path, command: str) -> None:
    for name in ("able", "other"):
        path = tmp_path / name
        path.write_text(PLUGIN.format(folder=tmp_path, name=name))
        path.chmod(0o755)
    network = {
        "name": "n",
        "cniVersion": "1.0.0",
        "plugins": [{"type": "able", "capabilities": {"portMappings": True}}, {"type": "other"}],
    }
    mappings = ({"hostPort": 1, "containerPort": 2, "protocol": "tcp", "hostIP": ""},)
    attachment = Attachment("c1", Path("/netns"), "default", "web", "u", mappings)
    if command == "ADD":
        await Plugins(tmp_path).add(network, attachment)
    else:
        await Plugins(tmp_path).delete(network, attachment, None)
    able, other = (json.loads((tmp_path / f"{command}-{n}.json").read_text()) for n in ("able", "other"))
    assert able["runtimeConfig"] == {"portMappings": list(mappings)}
    assert "capabilities" not in able
    assert "runtimeConfig" not in other
