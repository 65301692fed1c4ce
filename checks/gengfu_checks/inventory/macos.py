"""The hardware of a Mac, as `system_profiler -xml` tells it: a list of data types, each with its `_items`.

Source: system_profiler(8). The names of keys are those that the program prints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.inventory.collected import Collected, entry, said, size
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.structured import run_plist
from gengfu_checks.model import InventoryEntry

TIMEOUT_S = 60.0
PROFILER = "/usr/sbin/system_profiler"
TYPES = (
    "SPHardwareDataType", "SPMemoryDataType", "SPNVMeDataType", "SPSerialATADataType", "SPNetworkDataType",
    "SPDisplaysDataType", "SPPrintersDataType", "SPSoftwareDataType",
)  # fmt: skip
CATEGORIES = ("machine", "cpu", "memory", "disk", "nic", "monitor", "printer", "os")
MAX_DEPTH = 4

Row = Mapping[str, Any]
Rows = Mapping[str, list[Row]]

_AMOUNT = re.compile(r"(\d{1,6})\s?(MB|GB|TB)")
_UNIT_BYTES = {"MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_SYSTEM = re.compile(r"(macOS|Mac OS X|OS X) ([\d.]{1,16}) \(([0-9A-Za-z]{1,16})\)")


def hardware(found: Collected) -> None:
    """Take in everything but software; all of it is unread when the profiler does not answer."""
    try:
        rows = rows_of(run_plist([PROFILER, "-xml", "-timeout", "30", *TYPES], TIMEOUT_S))
    except CannotMeasure as error:
        for category in CATEGORIES:
            found.note(category, error)
        return
    for category, of_rows in _READERS.items():
        found.take(category, of_rows(rows))


def rows_of(answer: Any) -> dict[str, list[Row]]:
    """The items of each data type, those inside items (disks under their controller) after those around them."""
    found: dict[str, list[Row]] = {}
    for part in answer if isinstance(answer, list) else []:
        if isinstance(part, dict):
            found.setdefault(str(part.get("_dataType")), []).extend(_items(part, MAX_DEPTH))
    return found


def _items(part: Row, depth: int) -> Iterator[Row]:
    items = part.get("_items")
    for item in items if isinstance(items, list) and depth else []:
        if isinstance(item, dict):
            yield item
            yield from _items(item, depth - 1)


def machine(rows: Rows) -> Iterator[InventoryEntry]:
    """Yield the machine."""
    for row in rows.get("SPHardwareDataType", [])[:1]:
        yield entry(
            ("machine",),
            "machine",
            {
                "maker": "Apple",
                "model": said(row.get("machine_model")),
                "version": said(row.get("machine_name")),
                "serial": said(row.get("serial_number")),
                "firmware": said(row.get("boot_rom_version")),
            },
        )


def processors(rows: Rows) -> Iterator[InventoryEntry]:
    """Yield the processor; `number_processors` is a number, or `proc 8:4:4` (all, fast, economic cores)."""
    for row in rows.get("SPHardwareDataType", [])[:1]:
        cores = str(row.get("number_processors") or "").removeprefix("proc ").partition(":")[0]
        facts = {"model": said(row.get("chip_type") or row.get("cpu_type")), "cores": size(cores)}
        yield entry(("cpu", "0"), "cpu", facts)


def memory(rows: Rows) -> Iterator[InventoryEntry]:
    """Yield what is soldered in or plugged in, and all of it together."""
    for row in rows.get("SPHardwareDataType", [])[:1]:
        if total := _amount(row.get("physical_memory")):
            yield entry(("memory", "total"), "memory", {"size_bytes": total})
    for row in rows.get("SPMemoryDataType", []):
        slot = said(row.get("_name"))
        size_bytes = _amount(row.get("dimm_size"))
        if slot and size_bytes:
            yield entry(
                ("memory", "slot", slot),
                "memory",
                {
                    "slot": slot,
                    "size_bytes": size_bytes,
                    "kind": said(row.get("dimm_type")),
                    "maker": said(row.get("dimm_manufacturer")),
                    "part": said(row.get("dimm_part_number")),
                    "serial": said(row.get("dimm_serial_number")),
                },
            )


def disks(rows: Rows) -> Iterator[InventoryEntry]:
    """Yield disks: items with a size and a model under their controllers."""
    for row in (*rows.get("SPNVMeDataType", []), *rows.get("SPSerialATADataType", [])):
        size_bytes, model = size(row.get("size_in_bytes")), said(row.get("device_model"))
        if not size_bytes or not model:
            continue
        serial = said(row.get("device_serial"))
        name = ("serial", serial) if serial else ("name", plain(str(row.get("bsd_name")), 32))
        facts = {
            "model": model,
            "serial": serial,
            "size_bytes": size_bytes,
            "firmware": said(row.get("device_revision")),
            "removable": row.get("removable_media") == "yes" or row.get("detachable_drive") == "yes" or None,
        }
        yield entry(("disk", *name), "disk", facts)


def nics(rows: Rows) -> Iterator[InventoryEntry]:
    """Yield network services that are hardware; those of adapters that are plugged in name it."""
    for row in rows.get("SPNetworkDataType", []):
        ethernet = row.get("Ethernet")
        address = plain(str(ethernet.get("MAC Address") or "").lower(), 64) if isinstance(ethernet, dict) else ""
        if address:
            name = said(row.get("_name"))
            plugged_in = any(word in name for word in ("USB", "Thunderbolt", "iPhone"))
            facts = {
                "name": said(row.get("interface")),
                "model": name,
                "address": address,
                "wireless": row.get("hardware") == "AirPort" or None,
                "removable": plugged_in or None,
            }
            yield entry(("nic", address), "nic", facts)


def monitors(rows: Rows) -> Iterator[InventoryEntry]:
    """Yield the displays under each graphics processor."""
    for card in rows.get("SPDisplaysDataType", []):
        shown = card.get("spdisplays_ndrvs")
        for row in shown if isinstance(shown, list) else []:
            if isinstance(row, dict):
                name = said(row.get("_name"))
                serial = said(row.get("spdisplays_display-serial-number"))
                serial = serial or said(row.get("_spdisplays_display-serial-number"))
                facts = {"model": name, "serial": serial, "made_in": size(row.get("_spdisplays_display-year"))}
                yield entry(("monitor", name or "display", serial or "0"), "monitor", facts)


def printers(rows: Rows) -> Iterator[InventoryEntry]:
    """Yield the printers; without any there is one item that has no address."""
    for row in rows.get("SPPrintersDataType", []):
        name, uri = said(row.get("_name")), said(row.get("uri"))
        if name and uri:
            yield entry(("printer", name), "printer", {"name": name, "model": said(row.get("ppd")), "uri": uri})


def operating_system(rows: Rows) -> Iterator[InventoryEntry]:
    """Yield the system: `macOS 14.5 (23F79)`."""
    for row in rows.get("SPSoftwareDataType", [])[:1]:
        match = _SYSTEM.fullmatch(said(row.get("os_version")))
        name, version, build = match.groups() if match else (said(row.get("os_version")), "", "")
        facts = {"name": name, "version": version, "build": build, "kernel": said(row.get("kernel_version"))}
        yield entry(("os",), "os", facts)


def _amount(text: object) -> int | None:
    match = _AMOUNT.fullmatch(said(text))
    return size(int(match[1]) * _UNIT_BYTES[match[2]]) if match else None


_READERS: Mapping[str, Callable[[Rows], Iterator[InventoryEntry]]] = {
    "machine": machine,
    "cpu": processors,
    "memory": memory,
    "disk": disks,
    "nic": nics,
    "monitor": monitors,
    "printer": printers,
    "os": operating_system,
}
