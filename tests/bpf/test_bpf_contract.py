"""C and Python mean the same: the types that Python reads from BTF are those that a C compiler makes."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import pytest
from cluster import GATEWAY_MAC, SHORT_CUT
from programs import object_path

from tulle.kernel.bpf_objects import BpfObject
from tulle.kernel.btf import Contract
from tulle.pod_to_pod import programs

BPF = Path(__file__).parents[2] / "bpf"
HEADER = (BPF / "contract.h").read_text()
STRUCTS = re.findall(r"^struct (\w+) \{", HEADER, re.MULTILINE)
ENUMS = re.findall(r"^enum (\w+) \{", HEADER, re.MULTILINE)


def contract_of(name: str) -> Contract:
    opened = BpfObject(object_path(name))
    opened.close()
    return opened.contract


def layout(contract: Contract) -> dict[str, int]:
    """Sizes, offsets and values by the C expression that gives them."""
    found: dict[str, int] = {}
    for name in STRUCTS:
        struct = contract.structs[name]
        found[f"sizeof(struct {name})"] = ctypes.sizeof(struct)
        for field, *_ in struct._fields_:
            place = getattr(struct, field)
            found[f"offsetof(struct {name}, {field})"] = place.offset
            found[f"sizeof(((struct {name} *)0)->{field})"] = place.size
    for name in ENUMS:
        found |= {member.name: member.value for member in contract.enums[name]}
    return found


@pytest.mark.parametrize("name", ["pod", "uplink", "socket"])
def test_layout_is_the_compilers(name: str, tmp_path: Path) -> None:
    expected = layout(contract_of(name))
    lines = [f'printf("%ld\\n", (long)({expression}));' for expression in expected]
    source = tmp_path / "layout.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <contract.h>\n"
        f"int main(void) {{ {' '.join(lines)} }}\n"
    )
    subprocess.run(["cc", f"-I{BPF}", "-o", tmp_path / "layout", source], check=True)
    said = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, text=True).stdout
    assert dict(zip(expected, map(int, said.split()), strict=True)) == expected


def test_every_field_and_value_is_read() -> None:
    """What stands in the header stands in the BTF: ``clang`` leaves out types that nothing uses."""
    names = {expression for expression in layout(contract_of("pod")) if expression.isupper()}
    kinds = "HOOK|REASON|DROP|TRANSPORT|FLOW|SERVICE|ON_EMPTY|CLIENT|SOCKET|SCOPE|OWN|EXTERNAL|MARK"
    written = re.findall(rf"^\s+((?:{kinds})_\w+)", HEADER, re.MULTILINE)
    assert names == {*written, "CONTRACT_VERSION"}


def test_every_reason_is_explained() -> None:
    [body] = re.findall(r"^enum reason \{(.*?)^\};", HEADER, re.MULTILINE | re.DOTALL)
    explained = re.findall(r"^\t(\w+), +/\* .+ \*/$", body, re.MULTILINE)
    reasons = [r.name for r in contract_of("pod").enums["reason"]]
    assert [*explained, "REASON_COUNT"] == reasons
    assert "#define DROP_FIRST DROP_MALFORMED" in HEADER
    first = reasons.index("DROP_MALFORMED")
    assert [r for r in reasons if r.startswith("DROP_")] == reasons[first:-1]


def test_what_stands_twice_is_the_same() -> None:
    assert GATEWAY_MAC == programs.GATEWAY_MAC
    assert contract_of("pod").enums["mark"]["MARK_SHORT_CUT"] == SHORT_CUT
