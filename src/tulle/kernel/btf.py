"""The contract with the eBPF programs, read from the BTF of their objects.

Structs become ``ctypes`` structures and enums ``enum.IntEnum`` classes, so nothing that stands in
``bpf/contract.h`` is typed again. BTF: https://docs.kernel.org/bpf/btf.html
"""

from __future__ import annotations

import ctypes
import enum
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
_MAGIC: Final = struct.pack("=H", 0xEB9F)

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF, _VOLATILE, _CONST = range(1, 11)
_RESTRICT, _FUNC, _FUNC_PROTO, _VAR, _DATASEC, _FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = range(11, 20)
_ALIASES: Final = frozenset({_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG})

# How many bytes follow a type's three words: once, and for each of its members.
_TAIL: Final = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_TAIL_EACH: Final = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}
_UNSIGNED: Final = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32, 8: ctypes.c_uint64}
_FORMS: Final[Mapping[Any, str]] = {
    ctypes.c_uint8: "B",
    ctypes.c_uint16: "H",
    ctypes.c_uint32: "I",
    ctypes.c_uint64: "Q",
}


@dataclass(frozen=True, slots=True)
class _Type:
    kind: int
    name: str
    size_or_type: int
    tail: bytes
    signed: bool = False  # of an enumeration's values


@dataclass(frozen=True, slots=True)
class Variable:
    """Where a global variable lies in its data section, in bytes."""

    offset: int
    size: int


class Contract:
    """The named types of one object.

    ``structs`` and ``enums`` by their C name; ``variables`` by section (``.rodata``) and name.
    Raises ``ValueError`` when ``raw`` is not BTF.
    """

    def __init__(self, raw: bytes) -> None:
        self._text, self._types = _parse(raw)
        self._ctypes: dict[int, Any] = {}
        self.structs: dict[str, type[ctypes.Structure]] = {}
        self.enums: dict[str, type[enum.IntEnum]] = {}
        self.variables: dict[str, dict[str, Variable]] = {}
        for number, found in enumerate(self._types):
            if found.kind == _STRUCT and found.name:
                self.structs[found.name] = self._ctype(number)
            elif found.kind == _ENUM and found.name:
                self.enums[found.name] = self._enum(found)
            elif found.kind == _DATASEC:
                self.variables[found.name] = self._section(found)

    def pack(self, name: str, /, **fields: int | bytes) -> bytes:
        """The bytes of a struct. Fields not given are zero; arrays and structs are given as bytes.

        Raises ``KeyError`` for an unknown struct, ``AttributeError`` for an unknown field, ``ValueError``
        for bytes of the wrong length.
        """
        value = self.structs[name]()
        for field, given in fields.items():
            place = getattr(type(value), field)
            if isinstance(given, int):
                setattr(value, field, given)
            elif len(given) == place.size:
                ctypes.memmove(ctypes.addressof(value) + place.offset, given, place.size)
            else:
                raise ValueError(f"{name}.{field} has {place.size} bytes, not {len(given)}")
        return bytes(value)

    def layout(self, name: str) -> struct.Struct:
        """How to pack many values of a struct fast: its fields in order, arrays and structs as bytes."""
        form = "="
        for field, kind, *_ in self.structs[name]._fields_:
            place, at = getattr(self.structs[name], field), struct.calcsize(form)
            form += f"{place.offset - at}x" if place.offset > at else ""
            form += _FORMS.get(kind, f"{place.size}s")
        return struct.Struct(form + f"{ctypes.sizeof(self.structs[name]) - struct.calcsize(form)}x")

    def unpack(self, name: str, data: bytes) -> Any:
        """The struct with its fields as attributes. Raises ``ValueError`` when ``data`` is too short."""
        return self.structs[name].from_buffer_copy(data)

    def settings(self, values: Mapping[str, bytes], initial: bytes) -> bytes:
        """The ``.rodata`` section with some of its variables replaced; unknown ones are left out."""
        section = bytearray(initial)
        for name, variable in self.variables.get(".rodata", {}).items():
            if name in values:
                section[variable.offset : variable.offset + variable.size] = values[name]
        if len(section) != len(initial):
            raise ValueError("a setting has the wrong size")
        return bytes(section)

    def _enum(self, found: _Type) -> type[enum.IntEnum]:
        members = {
            self._string(name): value
            for name, value in struct.iter_unpack("=Ii" if found.signed else "=II", found.tail)
        }
        build: Any = enum.IntEnum  # called with a name that is not a literal
        made: type[enum.IntEnum] = build(found.name, members)
        return made

    def _section(self, found: _Type) -> dict[str, Variable]:
        return {
            self._types[number].name: Variable(offset, size)
            for number, offset, size in struct.iter_unpack("=III", found.tail)
        }

    def _string(self, offset: int) -> str:
        return self._text[offset : self._text.index(b"\0", offset)].decode()

    def _ctype(self, number: int) -> Any:
        if number not in self._ctypes:
            self._ctypes[number] = self._build(self._types[number])
        return self._ctypes[number]

    def _build(self, found: _Type) -> Any:
        if found.kind in _ALIASES:
            return self._ctype(found.size_or_type)
        if found.kind in (_INT, _ENUM):
            return _UNSIGNED[found.size_or_type]
        if found.kind == _PTR:
            return ctypes.c_uint64
        if found.kind == _ARRAY:
            element, _, count = struct.unpack("=III", found.tail)
            return self._ctype(element) * count
        if found.kind == _STRUCT:
            fields = [(self._string(n), self._ctype(t)) for n, t, _ in struct.iter_unpack("=III", found.tail)]
            return type(found.name, (ctypes.Structure,), {"_fields_": fields})
        return ctypes.c_uint8 * 0  # functions and unions: the contract shares none


def _parse(raw: bytes) -> tuple[bytes, list[_Type]]:
    if len(raw) < _HEADER.size or not raw.startswith(_MAGIC):
        raise ValueError("not BTF")
    _, _, _, length, type_offset, type_length, text_offset, text_length = _HEADER.unpack_from(raw)
    text = raw[length + text_offset :][:text_length]
    return text, list(_types(raw[length + type_offset :][:type_length], text))


def _types(data: bytes, text: bytes) -> Iterator[_Type]:
    yield _Type(_FWD, "", 0, b"")  # type 0 is void
    offset = 0
    while offset < len(data):
        name, info, size_or_type = _TYPE.unpack_from(data, offset)
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        start = offset + _TYPE.size
        offset = start + _TAIL.get(kind, 0) + count * _TAIL_EACH.get(kind, 0)
        text_of_name = text[name : text.index(b"\0", name)].decode()
        yield _Type(kind, text_of_name, size_or_type, data[start:offset], bool(info >> 31))
