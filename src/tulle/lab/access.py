"""Who may do what: tokens for nodes and the controller, and kubeconfig files, also the administrator's."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import msgspec

from tulle.lab.paths import Paths
from tulle.lab.spec import Topology

_USER_PREFIX = "system:node:"
_CONTROLLER = "system:serviceaccount:kube-system:tulle-controller"


def write_tokens(paths: Paths, topology: Topology) -> None:
    """For the API server: a token, a user and its group per node, and the same for the controller."""
    lines = [f"{secrets.token_urlsafe(32)},{_USER_PREFIX}{node.name},system:nodes" for node in topology.nodes]
    lines.append(f"{secrets.token_urlsafe(32)},{_CONTROLLER},tulle:controllers")
    _write(paths.tokens, "\n".join(lines))


def write_kubeconfigs(paths: Paths, topology: Topology, port: int) -> None:
    """From the administrator's, which the API server wrote for the machine itself."""
    admin = msgspec.yaml.decode(paths.kubeconfig.read_bytes(), type=dict[str, Any])
    address = topology.api[0]
    server = f"https://[{address}]:{port}" if address.version == 6 else f"https://{address}:{port}"
    cluster = admin["clusters"][0]["cluster"] | {"server": server}
    _write_config(paths.inner_kubeconfig, cluster, admin["users"][0]["user"])
    for line in paths.tokens.read_text().splitlines():
        token, user, _ = line.split(",")
        if user == _CONTROLLER:
            _write_config(paths.controller_kubeconfig, cluster, {"token": token})
            continue
        node = paths.node(user.removeprefix(_USER_PREFIX))
        node.run.mkdir(parents=True, exist_ok=True)
        _write_config(node.kubeconfig, cluster, {"token": token})


def _write_config(path: Path, cluster: dict[str, Any], user: dict[str, Any]) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tulle", "cluster": cluster}],
        "users": [{"name": "tulle", "user": user}],
        "contexts": [{"name": "tulle", "context": {"cluster": "tulle", "user": "tulle"}}],
        "current-context": "tulle",
    }
    _write(path, msgspec.yaml.encode(config).decode())


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
