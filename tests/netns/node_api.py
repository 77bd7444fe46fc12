"""A real API server for a node of a test."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from nodes import Node
from services import ip_of
from tests.lab.apiserver_process import ApiServer

from tulle.kernel import netns


class Api:
    """An API server on loopback in a node's own network, which the node's agent and kubectl reach."""

    def __init__(self, node: Node, folder: Path) -> None:
        folder.mkdir()
        with netns.entered(node.path):
            listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._server = ApiServer(folder, listener)
        self._server.start()
        self._node = node
        self._folder = folder
        (node.folder.parent / "kubeconfig").write_bytes(self._server.kubeconfig.read_bytes())

    def kubectl(self, *arguments: str) -> str:
        """What it printed."""
        command = ("env", f"KUBECACHEDIR={self._folder}/cache", "kubectl")
        return self._node.run(*command, f"--kubeconfig={self._server.kubeconfig}", *arguments).stdout

    def apply(self, kind: str, name: str, version: str = "v1", **fields: Any) -> None:
        meta = {"name": name, **fields.pop("metadata", {})}
        body = {"apiVersion": version, "kind": kind, "metadata": meta, **fields}
        manifest = self._folder / "manifest.json"
        manifest.write_text(json.dumps(body))
        self.kubectl("apply", "--server-side", f"--filename={manifest}")

    def apply_node(self, node: Node, family: int = 4, **metadata: Any) -> None:
        """The Node object of a node, with one family, and no older one that its agent would begin with."""
        (node.folder / "state" / "nodes.json").unlink(missing_ok=True)
        cidr = next(str(c) for c in node.host.pod_cidrs if c.version == family)
        self.apply("Node", node.name, metadata=metadata, spec={"podCIDR": cidr, "podCIDRs": [cidr]})
        internal = {"addresses": [{"type": "InternalIP", "address": ip_of(node, family)}]}
        patch = f"--patch={json.dumps({'status': internal})}"
        self.kubectl("patch", "node", node.name, "--subresource=status", patch)

    def apply_slice(self, *endpoints: dict[str, Any]) -> None:
        self.apply(
            "EndpointSlice",
            "web-1",
            "discovery.k8s.io/v1",
            metadata={"labels": {"kubernetes.io/service-name": "web"}},
            addressType="IPv4",
            ports=[{"name": "http", "port": 8080, "protocol": "TCP"}],
            endpoints=list(endpoints),
        )

    def close(self) -> None:
        self._server.close()
