"""Names of files, mounts and services as plain text: valid, visible, bounded and still different from each other."""

from __future__ import annotations

import unicodedata
import zlib

MAX_ITEM_CHARS = 200
_TAIL_CHARS = 9  # an ellipsis and eight digits

_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def plain(raw: str, max_chars: int = MAX_ITEM_CHARS) -> str:
    r"""Return a text in which everything that does not print is escaped (`\x0a`, `\u202e`).

    Bytes that are not UTF-8, which arrive as surrogates, come out as the byte: `\xff`. A text that is too long is cut
    and ends in a checksum of the whole, so that two long names do not become one.
    """
    if raw.isascii() and raw.isprintable():
        shown = raw
    else:
        shown = "".join(_escape(c) if unicodedata.category(c) in _HIDDEN else c for c in raw)
    if len(shown) <= max_chars:
        return shown
    checksum = zlib.crc32(raw.encode("utf-8", "surrogatepass"))
    return f"{shown[: max_chars - _TAIL_CHARS]}…{checksum:08x}"


def _escape(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:
        number -= 0xDC00
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
