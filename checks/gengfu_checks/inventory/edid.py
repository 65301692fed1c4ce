"""What a monitor says of itself (EDID). Pure.

Offsets: VESA Enhanced EDID Standard, release A revision 2 (E-EDID 1.4), "Base EDID structure".
"""

from __future__ import annotations

from gengfu_checks.inventory.collected import entry, said
from gengfu_checks.model import InventoryEntry

BLOCK_BYTES = 128
_MAGIC = bytes([0, 255, 255, 255, 255, 255, 255, 0])
_DESCRIPTORS = (54, 72, 90, 108)
_DESCRIPTOR_BYTES = 18
_SERIAL, _NAME = 0xFF, 0xFC
_YEAR_0 = 1990
_YEARS = range(1990, 2100)


def monitor(data: bytes, connector: str) -> InventoryEntry | None:
    """Return the monitor of a base block; None for what is none: too short, another magic or a wrong checksum.

    One without serial number is known by the connector that it hangs on.
    """
    block = data[:BLOCK_BYTES]
    if len(block) < BLOCK_BYTES or not block.startswith(_MAGIC) or sum(block) % 256:
        return None
    letters = int.from_bytes(block[8:10], "big")
    maker = "".join(chr(64 + (letters >> shift & 31)) for shift in (10, 5, 0))
    if not (maker.isascii() and maker.isalpha()):
        return None
    product = int.from_bytes(block[10:12], "little")
    texts = _texts(block)
    number = int.from_bytes(block[12:16], "little")
    serial = texts.get(_SERIAL, "") or (str(number) if number not in (0, 0x01010101, 0xFFFFFFFF) else "")
    year = _YEAR_0 + block[17]
    return entry(
        ("monitor", f"{maker}{product:04X}", serial or connector),
        "monitor",
        {
            "maker": maker,
            "model": texts.get(_NAME, "") or f"{maker}{product:04X}",
            "serial": serial,
            "connector": connector,
            "made_in": year if block[17] and year in _YEARS else None,
            "width_cm": block[21] if block[21] and block[22] else None,
            "height_cm": block[22] if block[21] and block[22] else None,
        },
    )


def _texts(block: bytes) -> dict[int, str]:
    """Texts of the descriptors by their tag: 13 bytes each, ended by a line feed, filled up with blanks."""
    found: dict[int, str] = {}
    for at in _DESCRIPTORS:
        part = block[at : at + _DESCRIPTOR_BYTES]
        if part[:3] == b"\0\0\0" and part[3] in (_SERIAL, _NAME):
            found[part[3]] = said(part[5:].split(b"\n", 1)[0].decode("cp437"))
    return found
