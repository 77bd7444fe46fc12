"""CNI calls as ``tulle-cni`` hands them over."""

from __future__ import annotations

import json
from typing import Any

POD = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0"}


def call(command: str, environment: dict[str, str] = POD, **conf: Any) -> bytes:
    return raw_call(
        command, json.dumps({"cniVersion": "1.1.0", "name": "tulle"} | conf).encode(), environment
    )


def raw_call(command: str, stdin: bytes, environment: dict[str, str] = POD) -> bytes:
    entries = {"CNI_COMMAND": command, **environment}.items()
    return b"".join(f"{name}={value}\0".encode() for name, value in entries) + b"\0" + stdin
