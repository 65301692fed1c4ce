"""The hardware of a Windows machine: one pipeline of CIM classes, each row with the name of its class.

Classes and properties: https://learn.microsoft.com/windows/win32/cimwin32prov/computer-system-hardware-classes and
https://learn.microsoft.com/windows/win32/wmicoreprov/wmimonitorid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.inventory.collected import Collected, entry, said, size
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.structured import powershell_rows
from gengfu_checks.model import InventoryEntry

TIMEOUT_S = 60.0
CATEGORIES = ("machine", "cpu", "memory", "disk", "nic", "monitor", "printer", "os")

Row = Mapping[str, Any]

_SELECT = "Get-CimInstance {name}{options} | Select-Object @{{n='Of';e={{'{name}'}}}},{properties}"
_CLASSES = (
    ("Win32_ComputerSystemProduct", "", "Vendor,Name,Version,IdentifyingNumber"),
    ("Win32_BIOS", "", "SMBIOSBIOSVersion"),
    ("Win32_Processor", "", "DeviceID,Name,NumberOfCores,NumberOfLogicalProcessors"),
    (
        "Win32_PhysicalMemory",
        "",
        "BankLabel,DeviceLocator,Capacity,Speed,Manufacturer,PartNumber,SerialNumber,SMBIOSMemoryType",
    ),
    ("Win32_DiskDrive", "", "Index,Model,SerialNumber,Size,InterfaceType,FirmwareRevision,MediaType"),
    ("Win32_NetworkAdapter", ' -Filter "PhysicalAdapter=TRUE"', "Name,MACAddress,PNPDeviceID,ServiceName"),
    ("Win32_Printer", "", "Name,DriverName,PortName,Location"),
    ("Win32_OperatingSystem", "", "Caption,Version,BuildNumber,OSArchitecture"),
    # Without any monitor this class is an error.
    (
        "WmiMonitorID",
        " -Namespace root/wmi -ErrorAction SilentlyContinue",
        "InstanceName,ManufacturerName,ProductCodeID,SerialNumberID,UserFriendlyName,YearOfManufacture",
    ),
)
PIPELINE = ";".join(
    _SELECT.format(name=name, options=options, properties=properties) for name, options, properties in _CLASSES
)
_MEMORY_KINDS = {20: "DDR", 21: "DDR2", 24: "DDR3", 26: "DDR4", 30: "LPDDR4", 34: "DDR5", 35: "LPDDR5"}
_PLUGGED_IN = ("USB", "SD")
# What prints into files and to other programs, on every Windows.
_NO_PRINTER_PORTS = ("PORTPROMPT:", "FILE:", "NUL:", "SHRFAX:", "XPSPORT:")


def hardware(found: Collected) -> None:
    """Take in everything but software; all of it is unread when PowerShell does not answer."""
    try:
        rows = powershell_rows(PIPELINE, TIMEOUT_S)
    except CannotMeasure as error:
        for category in CATEGORIES:
            found.note(category, error)
        return
    for category, of_rows in _READERS.items():
        found.take(category, of_rows(rows))


def _of(rows: Iterable[Row], name: str) -> Iterator[Row]:
    return (row for row in rows if row.get("Of") == name)


def machine(rows: Iterable[Row]) -> Iterator[InventoryEntry]:
    """Yield the machine, with the version of its firmware."""
    everything = list(rows)
    firmware = next((said(row.get("SMBIOSBIOSVersion")) for row in _of(everything, "Win32_BIOS")), "")
    for row in _of(everything, "Win32_ComputerSystemProduct"):
        yield entry(
            ("machine",),
            "machine",
            {
                "maker": said(row.get("Vendor")),
                "model": said(row.get("Name")),
                "version": said(row.get("Version")),
                "serial": said(row.get("IdentifyingNumber")),
                "firmware": firmware,
            },
        )


def processors(rows: Iterable[Row]) -> Iterator[InventoryEntry]:
    """Yield an entry a socket; DeviceID is `CPU0` and so on."""
    for row in _of(rows, "Win32_Processor"):
        yield entry(
            ("cpu", plain(str(row.get("DeviceID")), 16).removeprefix("CPU")),
            "cpu",
            {
                "model": said(row.get("Name")),
                "cores": size(row.get("NumberOfCores")),
                "threads": size(row.get("NumberOfLogicalProcessors")),
            },
        )


def memory(rows: Iterable[Row]) -> Iterator[InventoryEntry]:
    """Yield the modules."""
    for row in _of(rows, "Win32_PhysicalMemory"):
        place = said(row.get("BankLabel")), said(row.get("DeviceLocator"))
        yield entry(
            ("memory", "slot", *filter(None, place)),
            "memory",
            {
                "slot": place[1],
                "bank": place[0],
                "size_bytes": size(row.get("Capacity")),
                "kind": _MEMORY_KINDS.get(size(row.get("SMBIOSMemoryType")) or 0, ""),
                "speed_mts": size(row.get("Speed")),
                "maker": said(row.get("Manufacturer")),
                "part": said(row.get("PartNumber")),
                "serial": said(row.get("SerialNumber")),
            },
        )


def disks(rows: Iterable[Row]) -> Iterator[InventoryEntry]:
    """Yield the disks."""
    for row in _of(rows, "Win32_DiskDrive"):
        serial = said(row.get("SerialNumber"))
        name = ("serial", serial) if serial else ("name", plain(f"PhysicalDrive{row.get('Index')}", 32))
        media = str(row.get("MediaType") or "")
        plugged_in = row.get("InterfaceType") in _PLUGGED_IN or media.startswith(("Removable", "External"))
        yield entry(
            ("disk", *name),
            "disk",
            {
                "model": said(row.get("Model")),
                "serial": serial,
                "size_bytes": size(row.get("Size")),
                "firmware": said(row.get("FirmwareRevision")),
                "removable": plugged_in or None,
            },
        )


def nics(rows: Iterable[Row]) -> Iterator[InventoryEntry]:
    """Yield the network cards that are hardware."""
    for row in _of(rows, "Win32_NetworkAdapter"):
        address = plain(str(row.get("MACAddress") or "").lower(), 64)
        path = str(row.get("PNPDeviceID") or "")
        if address and not path.startswith(("ROOT\\", "SWD\\", "BTH\\")):
            yield entry(
                ("nic", address),
                "nic",
                {
                    "name": said(row.get("Name")),
                    "address": address,
                    "driver": said(row.get("ServiceName")),
                    "removable": path.startswith("USB\\") or None,
                },
            )


def monitors(rows: Iterable[Row]) -> Iterator[InventoryEntry]:
    """Yield the monitors that hang on the machine; their texts come as lists of character numbers."""
    for row in _of(rows, "WmiMonitorID"):
        maker, product = _characters(row.get("ManufacturerName")), _characters(row.get("ProductCodeID"))
        serial = _characters(row.get("SerialNumberID"))
        place = serial or plain(str(row.get("InstanceName")), 128)
        yield entry(
            ("monitor", f"{maker}{product}", place),
            "monitor",
            {
                "maker": maker,
                "model": _characters(row.get("UserFriendlyName")) or f"{maker}{product}",
                "serial": serial,
                "made_in": size(row.get("YearOfManufacture")),
            },
        )


def printers(rows: Iterable[Row]) -> Iterator[InventoryEntry]:
    """Yield the printers that lead to a device."""
    for row in _of(rows, "Win32_Printer"):
        port = str(row.get("PortName") or "")
        if port.upper() not in _NO_PRINTER_PORTS:
            name = plain(str(row.get("Name")), 128)
            facts = {
                "name": name,
                "model": said(row.get("DriverName")),
                "uri": plain(port, 200),
                "location": said(row.get("Location")),
            }
            yield entry(("printer", name), "printer", facts)


def operating_system(rows: Iterable[Row]) -> Iterator[InventoryEntry]:
    """Yield the system."""
    for row in _of(rows, "Win32_OperatingSystem"):
        yield entry(
            ("os",),
            "os",
            {
                "name": said(row.get("Caption")),
                "version": said(row.get("Version")),
                "build": said(row.get("BuildNumber")),
                "architecture": said(row.get("OSArchitecture")),
            },
        )


def _characters(numbers: object) -> str:
    if not isinstance(numbers, list):
        return ""
    codes = [number for number in numbers[:64] if isinstance(number, int) and 0 < number < 0x10000]
    return said("".join(map(chr, codes)))


_READERS: Mapping[str, Callable[[Iterable[Row]], Iterator[InventoryEntry]]] = {
    "machine": machine,
    "cpu": processors,
    "memory": memory,
    "disk": disks,
    "nic": nics,
    "monitor": monitors,
    "printer": printers,
    "os": operating_system,
}
