"""The file by which a Linux says what it is: os-release(5)."""

from __future__ import annotations

import re
from pathlib import Path

from gengfu_checks.local.small_file import read_small

PLACES = ("etc/os-release", "usr/lib/os-release")
MAX_BYTES = 65_536

_FIELD = re.compile(r"""([A-Z][A-Z0-9_]{0,63})=(["']?)(.*)\2""")
_ESCAPED = re.compile(r"""\\(["'$`\\])""")


def os_release_fields(root: Path = Path("/")) -> dict[str, str]:
    """The fields by name; what the administrator's file does not say, the system's own does.

    Bytes that are no UTF-8 are replaced: some makers write in an encoding of their country. Raises CannotMeasure when a
    file may not be read.
    """
    fields: dict[str, str] = {}
    for place in PLACES:
        for line in (read_small(root / place, MAX_BYTES) or b"").decode("utf-8", "replace").splitlines():
            found = _FIELD.fullmatch(line.strip())
            if found is not None:
                fields.setdefault(found[1], _ESCAPED.sub(r"\1", found[3]))
    return fields
