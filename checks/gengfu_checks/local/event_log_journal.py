"""Entries of systemd's journal through `journalctl -o json` (journalctl(1), systemd.journal-fields(7)).

The cursor is that of the newest entry of the journal when it was read, whether wanted or not, so that one which is
missing later tells of entries that were removed unread. journalctl gets it as `--cursor`, which includes it: with
`--after-cursor` a vanished or unwanted entry would take the next one with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.event_log_page import MAX_PAGE_BYTES, Gap, Page, Wanted
from gengfu_checks.local.event_log_rules import MAX_MESSAGE_CHARS, Entry
from gengfu_checks.local.programs import Output, failed, run_program

FOLDERS = (Path("/var/log/journal"), Path("/run/log/journal"))
SOCKET = Path("/run/systemd/journal/socket")
PERSISTENT = Path("/var/log/journal")

_FIELDS = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_COMM,_TRANSPORT"
_LINE_BYTES = 65536
_NEWLINE = b"\n"


@dataclass(frozen=True, slots=True)
class Journal:
    """Where to ask: journalctl and what it needs to find the journal, the folder that holds one over a restart, and the
    folders whose files have to be readable."""

    argv: tuple[str, ...]
    persistent: Path = PERSISTENT
    folders: tuple[Path, ...] = FOLDERS


@dataclass(frozen=True, slots=True)
class Place:
    """What a cursor says: sequence (its id and number), boot, time since boot and of day in microseconds, hash."""

    sequence: str
    number: int
    boot: str
    monotonic_us: int
    realtime_us: int
    checksum: str

    @property
    def identity(self) -> tuple[str, int, int, str]:
        """The same for an entry and its copy in another file, as when the journal moves from /run to /var."""
        return self.boot, self.monotonic_us, self.realtime_us, self.checksum


def place_of(cursor: str) -> Place | None:
    """Take a cursor apart; None for what is none. It is documented as opaque: a new form costs the news of gaps."""
    parts = dict(part.partition("=")[::2] for part in cursor.split(";"))
    try:
        numbers = [int(parts[name], 16) for name in ("i", "m", "t")]
        return Place(parts["s"], numbers[0], parts["b"], numbers[1], numbers[2], parts["x"])
    except (KeyError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Rows:
    """Entries as journalctl gives them, in order; the rest as in `event_log_page.Page`."""

    rows: tuple[dict[str, Any], ...]
    cursor: Mapping[str, Any]
    more: bool = False
    gap: Gap | None = None


def read(journal: Journal, cursor: Mapping[str, Any], wanted: Wanted, timeout_s: float) -> Page:
    """The page after a cursor, or from `{"since_s": seconds}` on. Raises CannotMeasure."""
    found = read_rows(journal, cursor, matches(wanted), _FIELDS, timeout_s)
    return Page(tuple(map(entry_of, found.rows)), found.cursor, found.more, found.gap)


def read_rows(
    journal: Journal, cursor: Mapping[str, Any], wanted: Sequence[str], fields: str, timeout_s: float
) -> Rows:
    """Entries after a cursor that fit journalctl's words `wanted`, with these fields. Raises CannotMeasure."""
    require_rights(journal.folders)
    timeout_s /= 3
    newest = _edge(journal, ("--lines=1",), timeout_s)
    if newest is None:
        return Rows((), cursor)
    last = str(cursor.get("at", ""))
    gap = _gap(journal, last, timeout_s) if last else None
    start = f"--cursor={last}" if last else f"--since=@{float(cursor.get('since_s', 0.0)):.6f}"
    argv = (*_asked(journal), f"--output-fields={fields}", start, *wanted)
    output = run_program(argv, timeout_s, MAX_PAGE_BYTES, cut=True)
    if output.exit_code != 0 and not output.is_cut:
        raise failed(journal.argv[0], f"ended with exit code {output.exit_code}")
    rows = list(_rows(journal, output))
    if rows and last and _is_same(str(rows[0].get("__CURSOR", "")), last):
        del rows[0]
    at = str(rows[-1]["__CURSOR"]) if rows else ""
    if not output.is_cut:
        at = _later(at, newest)
    elif not at:
        raise failed(journal.argv[0], f"an entry is longer than {MAX_PAGE_BYTES} bytes")
    return Rows(tuple(rows), {"at": at}, output.is_cut, gap)


def matches(wanted: Wanted) -> list[str]:
    """What journalctl is to show: everything of the kernel, or severe enough and of the units."""
    severe = [f"PRIORITY={number}" for number in range(wanted.priority + 1)]
    groups = [["_TRANSPORT=kernel"]]
    if wanted.units:
        fields = ("_SYSTEMD_UNIT", "UNIT")  # said by the unit, said of it by systemd
        groups += [[*severe, *(f"{name}={unit}" for unit in wanted.units)] for name in fields]
    else:
        groups.append(severe)
    return [word for i, group in enumerate(groups) for word in (["+"] if i else []) + group]


def entry_of(row: Mapping[str, Any]) -> Entry:
    """An entry from its JSON."""
    priority = text_of(row.get("PRIORITY"))
    return Entry(
        at_s=time_of(row),
        message=text_of(row.get("MESSAGE"))[:MAX_MESSAGE_CHARS],
        priority=int(priority) if priority in tuple("01234567") else None,
        program=text_of(row.get("SYSLOG_IDENTIFIER")) or text_of(row.get("_COMM")),
        is_kernel=text_of(row.get("_TRANSPORT")) == "kernel",
    )


def time_of(row: Mapping[str, Any]) -> float:
    """When an entry was written, in seconds since the epoch."""
    microseconds = text_of(row.get("__REALTIME_TIMESTAMP"))
    return int(microseconds) / 1e6 if microseconds.isdecimal() and len(microseconds) < 20 else 0.0


def _asked(journal: Journal) -> tuple[str, ...]:
    return (*journal.argv, "--system", "--quiet", "--no-pager", "--output=json")


def _edge(journal: Journal, options: Sequence[str], timeout_s: float) -> str | None:
    """The cursor of the first entry that journalctl shows with these options; None for an empty journal."""
    argv = (*_asked(journal), "--output-fields=PRIORITY", *options)
    output = run_program(argv, timeout_s, _LINE_BYTES, cut=True)
    if output.exit_code != 0 and not output.is_cut:
        raise failed(journal.argv[0], f"ended with exit code {output.exit_code}")
    row = next(_rows(journal, output), None)
    return None if row is None else str(row["__CURSOR"])


def _gap(journal: Journal, last: str, timeout_s: float) -> Gap | None:
    """What was removed since the last look: nothing if the journal still begins before where that ended."""
    oldest = _edge(journal, (), timeout_s)
    then, first = place_of(last), place_of(oldest or "")
    if then is None or first is None:
        return None
    if first.sequence == then.sequence:
        lost = first.number - then.number - 1
        return Gap("journal", lost) if lost > 0 else None
    if first.realtime_us <= then.realtime_us:
        return None
    if first.boot != then.boot and not journal.persistent.is_dir():
        return None  # kept in memory only: every restart ends it
    return Gap("journal")


def _rows(journal: Journal, output: Output) -> Iterator[dict[str, Any]]:
    """The entries in journalctl's output; a line that was cut is left for the next time."""
    whole, newline, rest = output.stdout.rpartition(_NEWLINE)
    if rest and not output.is_cut:
        raise failed(journal.argv[0], "its answer ends in the middle of an entry")
    for line in (whole + newline).splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise failed(journal.argv[0], f"its answer is not JSON: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get("__CURSOR"), str):
            raise failed(journal.argv[0], "an entry without a cursor")
        yield row


def _is_same(one: str, other: str) -> bool:
    first, second = place_of(one), place_of(other)
    return one == other or (first is not None and second is not None and first.identity == second.identity)


def _later(one: str, other: str) -> str:
    """The later of two cursors; what came in between reading them belongs to the next page."""
    first, second = place_of(one), place_of(other)
    if first is None or second is None:
        return one or other
    if first.sequence == second.sequence:
        return one if first.number > second.number else other
    return one if first.realtime_us > second.realtime_us else other


def text_of(value: object) -> str:
    """A field as text: it may be missing, null (too long), a list (given twice) or bytes (not UTF-8)."""
    if isinstance(value, list):
        if value and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
            return bytes(value[: 4 * MAX_MESSAGE_CHARS]).decode("utf-8", "replace")
        return text_of(value[-1]) if value and not isinstance(value[-1], list) else ""
    return value if isinstance(value, str) else ""


def require_rights(folders: Sequence[Path] = FOLDERS) -> None:
    """Raise `check.needs_rights` where this process may not read the system's journal: journalctl would show less of it
    without a word."""
    for folder in folders:
        for path in _system_files(folder):
            try:
                path.open("rb").close()
            except PermissionError as error:
                facts = {"needs": "group systemd-journal", "target": str(path)}
                raise CannotMeasure(CHECK_NEEDS_RIGHTS, facts) from error
            except FileNotFoundError:
                continue


def _system_files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("*/system.journal"))
    except PermissionError as error:
        raise CannotMeasure(CHECK_NEEDS_RIGHTS, {"needs": "group systemd-journal", "target": str(folder)}) from error


def is_there(socket: Path = SOCKET, folders: Sequence[Path] = FOLDERS) -> bool:
    """Whether journald runs here and keeps what it gets, instead of only handing it on to a syslog daemon."""
    return socket.exists() and any(any(folder.glob("*/*.journal")) for folder in folders)
