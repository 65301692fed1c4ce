"""Memory modules from the tables that the firmware gives (SMBIOS), as Linux shows them under /sys/firmware/dmi. Pure.

Offsets and values: DMTF DSP0134, System Management BIOS Reference Specification, "Memory Device (Type 17)".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gengfu_checks.inventory.collected import entry, said, size
from gengfu_checks.model import InventoryEntry

MAX_TABLE_BYTES = 1024 * 1024
MAX_STRUCTURES = 10_000
MAX_MHZ = 100_000

_MEMORY_DEVICE = 17
_END_OF_TABLE = 127
_HEADER_BYTES = 4
_KIB_FLAG = 0x8000
_EXTENDED = 0x7FFF
_UNKNOWN = 0xFFFF
_MIB = 1024 * 1024
_KINDS = {
    0x12: "DDR", 0x13: "DDR2", 0x14: "DDR2 FB-DIMM", 0x18: "DDR3", 0x19: "FBD2", 0x1A: "DDR4", 0x1B: "LPDDR",
    0x1C: "LPDDR2", 0x1D: "LPDDR3", 0x1E: "LPDDR4", 0x1F: "non-volatile", 0x20: "HBM", 0x21: "HBM2", 0x22: "DDR5",
    0x23: "LPDDR5", 0x24: "HBM3",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Structure:
    """One structure: its type, its formatted part (header included) and its texts, numbered from 1."""

    type: int
    data: bytes
    texts: tuple[str, ...]

    def byte(self, offset: int) -> int:
        """The byte at an offset, 0 past the end of an older, shorter structure."""
        return self.data[offset] if offset < len(self.data) else 0

    def word(self, offset: int, length: int = 2) -> int:
        """A number of several bytes, 0 past the end."""
        part = self.data[offset : offset + length]
        return int.from_bytes(part, "little") if len(part) == length else 0

    def text(self, offset: int) -> str:
        """The text that the byte at an offset numbers; "" for none and for a filler."""
        number = self.byte(offset)
        return said(self.texts[number - 1]) if 0 < number <= len(self.texts) else ""


def structures(table: bytes) -> Iterator[Structure]:
    """Yield the structures of a table up to its end or to the first that cannot be one."""
    at = 0
    for _ in range(MAX_STRUCTURES):
        header = table[at : at + _HEADER_BYTES]
        if len(header) < _HEADER_BYTES or header[1] < _HEADER_BYTES or at + header[1] > len(table):
            return
        texts_at = at + header[1]
        end = table.find(b"\0\0", texts_at)
        if end < 0:
            return
        texts = table[texts_at:end].split(b"\0") if end > texts_at else []
        yield Structure(header[0], table[at:texts_at], tuple(text.decode("utf-8", "replace") for text in texts))
        if header[0] == _END_OF_TABLE:
            return
        at = end + 2


def memory_modules(table: bytes) -> Iterator[InventoryEntry]:
    """Yield every module of memory; empty slots are left out. Two slots of one name are told apart by their order."""
    seen: dict[tuple[str, str], int] = {}
    for device in structures(table):
        size_bytes = _size_bytes(device) if device.type == _MEMORY_DEVICE else None
        if size_bytes is None:
            continue
        place = device.text(0x11), device.text(0x10)
        seen[place] = seen.get(place, 0) + 1
        again = () if seen[place] == 1 else (str(seen[place]),)
        yield entry(
            ("memory", "slot", *filter(None, place), *again),
            "memory",
            {
                "slot": place[1],
                "bank": place[0],
                "size_bytes": size_bytes,
                "kind": _KINDS.get(device.byte(0x12), ""),
                "speed_mts": _speed(device.word(0x15)),
                "maker": device.text(0x17),
                "part": device.text(0x1A),
                "serial": device.text(0x18),
            },
        )


def _size_bytes(device: Structure) -> int | None:
    word = device.word(0x0C)
    if word == _UNKNOWN:
        return None
    if word == _EXTENDED:
        return size((device.word(0x1C, 4) & 0x7FFFFFFF) * _MIB)
    return size((word & ~_KIB_FLAG) * 1024 if word & _KIB_FLAG else word * _MIB)


def _speed(mts: int) -> int | None:
    return mts if 0 < mts < min(MAX_MHZ, _UNKNOWN) else None
