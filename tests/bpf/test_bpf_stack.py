"""How deep the programs' stack is: the kernel that runs the tests may be more generous than the oldest one.

The verifier of Linux 6.6 rounds each function's share up to 32 bytes, and refuses more than 512 along a chain
of calls (``check_max_stack_depth``); newer ones round up to 16.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

OBJECTS = Path("src/tulle/_native")
MOST, UNIT = 512, 32

_SECTION = re.compile(r"Disassembly of section (\S+):")
_FUNCTION = re.compile(r"([0-9a-f]+) <(?!LBB)(\S+)>:")
_ON_STACK = re.compile(r"\(r10 (?:- |\+ -)(?:0x([0-9a-f]+)|(\d+))\)")
_POINTER = re.compile(r"\t(r\d+) = r10$")
_OFFSET = re.compile(r"\t(r\d+) \+= -(?:0x([0-9a-f]+)|(\d+))$")
_CALL = re.compile(r"\s+(\d+):\t85 10 00 00 ([0-9a-f ]{11})\t")
_RELOCATION = re.compile(r"\s+[0-9a-f]+:\s+R_BPF_64_32\t(\S+)")


@dataclass
class Function:
    """``deepest``: the farthest byte of its own stack; ``calls``: (section, instruction) or a name."""

    deepest: int = 0
    calls: list[tuple[str, int] | str] = field(default_factory=list)


def number(hexadecimal: str | None, decimal: str | None) -> int:
    return int(hexadecimal, 16) if hexadecimal else int(decimal or 0)


class Disassembly:
    """The functions of an object, by name."""

    def __init__(self, path: Path) -> None:
        tools = (f"llvm-objdump{version}" for version in ("-19", "-18", ""))
        tool = next(tool for tool in tools if shutil.which(tool))
        done = subprocess.run([tool, "-d", "-r", path], capture_output=True, text=True, check=True)
        self.functions: dict[str, Function] = defaultdict(Function)
        self._starts: dict[tuple[str, int], str] = {}
        self._read(done.stdout.splitlines())

    def _read(self, lines: list[str]) -> None:
        section, current, pointers = "", Function(), set[str]()
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if found := _SECTION.match(line):
                section = found[1]
            elif found := _FUNCTION.match(line):
                self._starts[section, int(found[1], 16) // 8] = found[2]
                current, pointers = self.functions[found[2]], set()
            elif found := _CALL.match(line):
                current.calls.append(_target(section, int(found[1]), found[2], following))
            elif found := _POINTER.search(line):
                pointers.add(found[1])
            elif (found := _OFFSET.search(line)) and found[1] in pointers:
                pointers.discard(found[1])
                current.deepest = max(current.deepest, number(found[2], found[3]))
            for each in _ON_STACK.finditer(line):
                current.deepest = max(current.deepest, number(each[1], each[2]))

    def chains(self, name: str) -> Iterator[tuple[int, str]]:
        """The stack of each chain of calls from a function, in bytes, and who is in it."""
        function = self.functions[name]
        own, words = -(-max(function.deepest, 1) // UNIT) * UNIT, f"{name} ({function.deepest})"
        yield own, words
        for call in set(function.calls):
            called = call if isinstance(call, str) else self._starts[call]
            if called in self.functions:  # else it is the kernel's
                yield from ((own + depth, f"{words} > {rest}") for depth, rest in self.chains(called))


def _target(section: str, at: int, raw: str, relocation: str) -> tuple[str, int] | str:
    """Of a call to another section a relocation names the function, or its section and where in it."""
    offset = int.from_bytes(bytes.fromhex(raw), "little", signed=True) + 1
    found = _RELOCATION.match(relocation)
    if not found:
        return section, at + offset
    return (found[1], offset) if found[1].startswith(".text") else found[1]


@pytest.mark.parametrize(
    ("name", "programs"),
    [
        ("pod", ("from_pod", "to_pod")),
        ("uplink", ("from_uplink", "to_uplink", "from_overlay", "to_overlay")),
        ("socket", ("connect4", "connect6", "sendmsg4", "sendmsg6", "recvmsg4", "recvmsg6")),
    ],
)
def test_the_oldest_kernel_would_load_it(name: str, programs: tuple[str, ...]) -> None:
    found = Disassembly(OBJECTS / f"{name}.bpf.o")
    for program in programs:
        assert program in found.functions
        assert max(found.chains(program)) <= (MOST, "~"), program
