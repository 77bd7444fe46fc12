"""The contract as Python reads it from the objects (``tests/bpf`` compares it with a C compiler's)."""

from __future__ import annotations

import ctypes
from importlib.resources import files
from pathlib import Path

import pytest

from tulle.kernel.bpf_objects import BpfObject
from tulle.kernel.btf import Contract


@pytest.fixture(params=["pod", "uplink", "socket"])
def contract(request: pytest.FixtureRequest) -> Contract:
    opened = BpfObject(Path(str(files("tulle"))) / "_native" / f"{request.param}.bpf.o")
    opened.close()
    return opened.contract


def test_structs(contract: Contract) -> None:
    sizes = {"address": 16, "endpoint": 12, "prefix": 20, "remote": 48, "flow": 40, "drop_event": 56}
    assert {name: ctypes.sizeof(contract.structs[name]) for name in sizes} == sizes


def test_enums(contract: Contract) -> None:
    transports = {"TRANSPORT_NATIVE": 1, "TRANSPORT_OVERLAY": 2}
    assert {t.name: t.value for t in contract.enums["transport"]} == transports
    assert contract.enums["contract"]["CONTRACT_VERSION"] >= 1


def test_pack_and_unpack(contract: Contract) -> None:
    mac = bytes.fromhex("0a0000000001")
    raw = contract.pack("endpoint", ifindex=7, mac=mac)
    assert raw == (7).to_bytes(4, "little") + mac + bytes(2)
    endpoint = contract.unpack("endpoint", raw)
    assert (endpoint.ifindex, bytes(endpoint.mac), endpoint.reserved) == (7, mac, 0)
    nested = contract.unpack("prefix", contract.pack("prefix", length=120, address=bytes(range(16))))
    assert (nested.length, bytes(nested.address)) == (120, bytes(range(16)))


def test_what_does_not_fit_is_refused(contract: Contract) -> None:
    with pytest.raises(KeyError):
        contract.pack("nothing")
    with pytest.raises(AttributeError):
        contract.pack("endpoint", port=1)
    with pytest.raises(ValueError, match=r"endpoint\.mac has 6 bytes, not 5"):
        contract.pack("endpoint", mac=bytes(5))
    with pytest.raises(ValueError):
        contract.unpack("endpoint", bytes(11))


def test_settings_replace_only_what_is_known(contract: Contract) -> None:
    place = contract.variables[".rodata"]["gateway_mac"]
    initial = bytes(max(v.offset + v.size for v in contract.variables[".rodata"].values()))
    mac = bytes.fromhex("020000000001")
    section = contract.settings({"gateway_mac": mac, "no_such_setting": b"x"}, initial)
    assert section[place.offset : place.offset + place.size] == mac
    assert section.replace(mac, bytes(6)) == initial
    with pytest.raises(ValueError, match="wrong size"):
        contract.settings({"gateway_mac": mac + b"\0"}, initial)


@pytest.mark.parametrize("raw", [b"", b"\x9f\xeb", bytes(64), b"\x7fELF" + bytes(64)])
def test_what_is_no_btf_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not BTF"):
        Contract(raw)
