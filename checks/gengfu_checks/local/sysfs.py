"""Reading attributes that the Linux kernel shows as small files under /sys.

What is not there, cannot be read just now (a sensor that answers with an error) or is no number is None: a driver
leaves attributes out as it likes, so each is asked for on its own.
"""

from __future__ import annotations

import os
from pathlib import Path

from gengfu_checks.codes import CHECK_NOT_USABLE
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.plain_text import plain

SYS = Path("/sys")
MAX_ATTRIBUTE_BYTES = 4096
MAX_ENTRIES = 4096
"""More than any class of devices has; what lies beyond is not looked at."""


def read_text(path: Path) -> str | None:
    """The attribute as one stripped, printable text."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_ATTRIBUTE_BYTES)
    except OSError:
        return None
    return plain(raw.decode("utf-8", "surrogateescape").strip())


def read_integer(path: Path) -> int | None:
    """The attribute as a whole number of at most 64 bits."""
    text = read_text(path) or ""
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() and len(digits) <= 20 else None


def require_sys() -> None:
    """Raise CannotMeasure (`check.not_usable`) where /sys is hidden: what is not there then says nothing."""
    if not (SYS / "class").is_dir():
        raise CannotMeasure(CHECK_NOT_USABLE, {"reason": f"{SYS} is missing"})


def entries(folder: Path, prefix: str = "") -> list[Path]:
    """What lies in a folder, by name, numbers in order of their size; nothing when the folder is not there.

    Raises CannotMeasure where /sys is hidden.
    """
    try:
        with os.scandir(folder) as found:
            names = [entry.name for entry, _ in zip(found, range(MAX_ENTRIES), strict=False)]
    except OSError:
        require_sys()
        return []
    return [folder / name for name in sorted(names, key=_in_order) if name.startswith(prefix)]


def _in_order(name: str) -> tuple[str, int, str]:
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :][:18]
    return stem, int(digits) if digits else -1, name
