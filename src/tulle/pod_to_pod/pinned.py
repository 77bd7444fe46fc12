"""A node's maps as they are pinned, for whoever only looks: `tulle status`, tests, benchmarks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tulle.kernel import bpf_maps
from tulle.kernel.btf import Contract
from tulle.model.address import from_bytes, from_mapped
from tulle.pod_to_pod.flow_count import flow_count
from tulle.pod_to_pod.programs import OBJECTS, SOCKET_PROGRAMS, SOCKETS, folder_of, open_object


@dataclass(frozen=True, slots=True)
class Count:
    """How many packets went by a hook for a reason, as ``bpf/contract.h`` names both."""

    hook: str
    reason: str
    packets: int
    bytes: int


class Pinned:
    """A node's maps, to be read only; also while no agent runs.

    Raises ``KernelError`` (ENOENT) when nothing is pinned at ``root``.
    """

    def __init__(self, root: Path) -> None:
        self.contract = _read_contract()
        self._maps = folder_of(root, self.contract) / "maps"
        self._links = root / "links"

    def socket_programs(self) -> set[str]:
        """Those of ``SOCKET_PROGRAMS`` that are attached."""
        return {program for program in SOCKET_PROGRAMS if (self._links / f"{SOCKETS}:{program}").exists()}

    def open(self, name: str, value_size: int) -> bpf_maps.Map:
        """One of the maps, with values of ``value_size`` bytes."""
        return bpf_maps.open_map(self._maps / name, value_size)

    def count_flows(self) -> int | None:
        """How many flows are remembered; None where the kernel cannot tell."""
        found = flow_count(self._maps)
        if found is None:
            return None
        try:
            return found.read()
        finally:
            found.close()

    def counters(self) -> Iterator[Count]:
        """Whatever is not zero, summed over the CPUs."""
        size = len(self.contract.pack("counter"))
        return counts(bpf_maps.open_per_cpu(self._maps / "counters", size), self.contract)

    def remotes(self) -> Iterator[tuple[str, str, str]]:
        """Each prefix elsewhere in the cluster with its transport and the node it leads to."""
        transports = self.contract.enums["transport"]
        size = len(self.contract.pack("remote"))
        table = self.open("remotes", size)
        for key in table.keys(len(self.contract.pack("prefix"))):
            raw = table.get(key)
            if raw is None:
                continue  # it went meanwhile
            prefix, remote = self.contract.unpack("prefix", key), self.contract.unpack("remote", raw)
            way = transports(remote.transport).name.removeprefix("TRANSPORT_").lower()
            network = from_mapped(bytes(prefix.address), prefix.length)
            yield str(network), way, str(from_bytes(bytes(remote.way.node)))


def _read_contract() -> Contract:
    opened = open_object(OBJECTS[0])
    try:
        return opened.contract
    finally:
        opened.close()


def counts(table: bpf_maps.Map, contract: Contract) -> Iterator[Count]:
    size = len(contract.pack("counter"))
    reasons, hooks = contract.enums["reason"], contract.enums["hook"]
    for hook in list(hooks)[:-1]:
        for reason in list(reasons)[:-1]:
            index = hook * reasons["REASON_COUNT"] + reason
            raw = table.get(index.to_bytes(4, sys.byteorder)) or b""
            each = [contract.unpack("counter", raw[i : i + size]) for i in range(0, len(raw), size)]
            if packets := sum(c.packets for c in each):
                at, why = hook.name.removeprefix("HOOK_"), reason.name.removeprefix("REASON_")
                yield Count(at.lower(), why.lower(), packets, sum(c.bytes for c in each))
