"""Printers that a machine prints to by CUPS: its own file where that may be read, else what lpstat says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.inventory.collected import entry, said
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.programs import failed, find_program, run_program
from gengfu_checks.local.small_file import read_small
from gengfu_checks.model import InventoryEntry

MAX_FILE_BYTES = 1024 * 1024
LPSTAT_TIMEOUT_S = 5.0

_BEGIN = re.compile(r"<(?:Default)?Printer ([^>\s]{1,127})>")
_DEVICE = re.compile(r"device for ([^:\s]{1,127}): (\S.{0,1000})")
_SECRET = re.compile(r"(?<=://)[^/@]*@")


def printers(root: Path = Path("/")) -> Iterator[InventoryEntry]:
    """Yield the queues of this machine. Raises CannotMeasure when there is CUPS and neither way answers."""
    try:
        data = read_small(root / "etc/cups/printers.conf", MAX_FILE_BYTES)
    except CannotMeasure:
        program = find_program("lpstat")
        if program is None:
            raise
        yield from _asked(program)
        return
    yield from of_printers_conf((data or b"").decode("utf-8", "replace").splitlines())


def _asked(lpstat: str) -> list[InventoryEntry]:
    output = run_program([lpstat, "-v"], LPSTAT_TIMEOUT_S, MAX_FILE_BYTES)
    found = list(of_lpstat(output.stdout.decode("utf-8", "replace").splitlines()))
    if not found and (output.stdout or output.exit_code not in (0, 1)):  # 1: it knows of no queue
        raise failed(lpstat, "its answer is no list of queues")
    return found


def of_printers_conf(lines: Iterable[str]) -> Iterator[InventoryEntry]:
    """Yield the printers of printers.conf(5): sections `<Printer NAME>` with a directive and its value a line."""
    name, values = "", dict[str, str]()
    for raw in lines:
        line = raw.strip()
        if begin := _BEGIN.fullmatch(line):
            name, values = begin[1], {}
        elif line in ("</Printer>", "</DefaultPrinter>"):
            if name:
                yield _printer(name, *(values.get(key, "") for key in ("MakeModel", "DeviceURI", "Location")))
            name = ""
        else:
            key, _, value = line.partition(" ")
            values.setdefault(key, value.strip())


def of_lpstat(lines: Iterable[str]) -> Iterator[InventoryEntry]:
    """Yield the printers in the output of `lpstat -v`, which names the queue and where it leads."""
    for line in lines:
        match = _DEVICE.fullmatch(line.strip())
        if match is not None:
            yield _printer(match[1], "", match[2], "")


def _printer(name: str, model: str, uri: str, location: str) -> InventoryEntry:
    facts = {
        "name": plain(name, 128),
        "model": said(model),
        # A share's address may hold a name and a password.
        "uri": plain(_SECRET.sub("", uri), 200),
        "location": said(location),
    }
    return entry(("printer", plain(name, 128)), "printer", facts)
