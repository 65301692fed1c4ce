"""Plain text tables. Pure, but for asking whether a terminal is there."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence

from gengfu_checks.model import Status

PIPE_COLUMNS = 120
LEAST_COLUMNS = 60
MOST_COLUMNS = 160

_GAP = "  "
_COLOURS = {Status.OK: "32", Status.WARNING: "33", Status.CRITICAL: "1;31", Status.UNKNOWN: "35"}


def width(line: str) -> int:
    """Columns that a text takes on a terminal: Chinese characters take two, marks none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def pad(line: str, columns: int) -> str:
    """Fill up to so many columns."""
    return line + " " * (columns - width(line))


def wrap(parts: Sequence[str], columns: int, separator: str) -> Iterator[str]:
    """Join texts into lines of at most so many columns, broken between them; a longer one is broken within."""
    line = ""
    for part in parts:
        joined = f"{line}{separator}{part}" if line else part
        if width(joined) > columns and line:
            yield line
            joined = part
        while width(joined) > columns:
            head = _head(joined, columns)
            yield head.rstrip()
            joined = joined[len(head) :].lstrip()
        line = joined
    if line:
        yield line


def table(headings: Sequence[str], rows: Sequence[tuple[Sequence[str], Sequence[str]]]) -> Iterator[str]:
    """Lines of a table. A row is its cells without the last, and the lines of the last cell."""
    widths = [
        max(width(heading), *(width(cells[i]) for cells, _ in rows), 0) for i, heading in enumerate(headings[:-1])
    ]
    yield _GAP.join([*(pad(heading, w) for heading, w in zip(headings, widths, strict=False)), headings[-1]]).rstrip()
    for cells, last in rows:
        for number, line in enumerate(last or [""]):
            shown = [pad(cell if number == 0 else "", w) for cell, w in zip(cells, widths, strict=True)]
            yield _GAP.join([*shown, line]).rstrip()


def room_for_last(cells: Sequence[Sequence[str]], columns: int) -> int:
    """Columns left for the last cell beside these."""
    widest = [max(map(width, column)) for column in zip(*cells, strict=True)]
    return max(columns - sum(widest) - len(_GAP) * len(widest), LEAST_COLUMNS // 2)


def terminal_columns() -> int:
    """Columns to write in: those of the terminal within reason, a fixed number in a pipe."""
    if not sys.stdout.isatty():
        return PIPE_COLUMNS
    return min(max(shutil.get_terminal_size().columns, LEAST_COLUMNS), MOST_COLUMNS)


def coloured(line: str, status: Status) -> str:
    """The text in the colour of a status, on a terminal that shows colours."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return line
    return f"\x1b[{_COLOURS[status]}m{line}\x1b[0m"


def _head(line: str, columns: int) -> str:
    """The longest beginning that fits, up to a blank if there is one; at least one character."""
    used, fits = 0, 0
    for character in line:
        used += width(character)
        if used > columns:
            break
        fits += 1
    blank = line.rfind(" ", 0, fits + 1)
    return line[: blank if blank > 0 else max(fits, 1)]
