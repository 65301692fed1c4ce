"""The hardware of a Linux machine, from what the kernel shows. Every function looks below `root`."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from gengfu_checks.inventory import edid, smbios
from gengfu_checks.inventory.collected import Collected, entry, said, size
from gengfu_checks.local.os_release_file import os_release_fields
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.small_file import needs_rights, read_small
from gengfu_checks.local.sysfs import entries, read_integer, read_text, require_sys
from gengfu_checks.model import InventoryEntry

MAX_CPUINFO_BYTES = 4 * 1024 * 1024
MAX_EDID_BYTES = 32 * 1024

_CHASSIS = {
    3: "desktop", 4: "desktop", 5: "desktop", 6: "desktop", 7: "desktop", 8: "laptop", 9: "laptop", 10: "laptop",
    11: "hand-held", 13: "all-in-one", 14: "laptop", 17: "server", 23: "server", 24: "desktop", 28: "server",
    29: "server", 30: "tablet", 31: "laptop", 32: "laptop", 35: "desktop", 36: "desktop",
}  # fmt: skip
_NO_DISK = ("sr", "fd", "loop", "ram", "zram", "dm-", "md", "nbd", "drbd")
_SECTOR_BYTES = 512
_NO_ADDRESS = ("", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff")
_BURNT_IN = 0


def hardware(found: Collected, root: Path = Path("/")) -> None:
    """Take in everything that is built into the machine or attached to it."""
    sys = root / "sys"
    found.take("machine", _machine(found, sys))
    found.take("cpu", _processors(root))
    found.take("memory", _memory_total(root))
    found.take("memory", _memory_modules(sys))
    found.take("disk", _disks(sys))
    found.take("nic", _nics(sys))
    found.take("monitor", _monitors(sys))


def _machine(found: Collected, sys: Path) -> Iterator[InventoryEntry]:
    require_sys()
    folder = sys / "class/dmi/id"
    facts: dict[str, object] = {
        "maker": said(read_text(folder / "sys_vendor")),
        "model": said(read_text(folder / "product_name")) or _tree_text(sys, "model"),
        "version": said(read_text(folder / "product_version")),
        "serial": _serial(found, folder / "product_serial") or _tree_text(sys, "serial-number"),
        "board": said(read_text(folder / "board_name")),
        "firmware": said(read_text(folder / "bios_version")),
        "chassis": _CHASSIS.get(read_integer(folder / "chassis_type") or 0, ""),
    }
    if any(facts.values()):
        yield entry(("machine",), "machine", facts)


def _serial(found: Collected, path: Path) -> str:
    try:
        return said(path.read_text("utf-8", "replace"))
    except PermissionError:
        found.note("machine", needs_rights("root", str(path)))
    except OSError:
        pass  # there is none
    return ""


def _tree_text(sys: Path, name: str) -> str:
    """What boards without tables of the firmware say; their texts end in a zero byte."""
    try:
        data = (sys / "firmware/devicetree/base" / name).read_bytes()[:256]
    except OSError:
        return ""
    return said(data.rstrip(b"\0").decode("utf-8", "replace"))


def _processors(root: Path) -> Iterator[InventoryEntry]:
    text = (read_small(root / "proc/cpuinfo", MAX_CPUINFO_BYTES) or b"").decode("utf-8", "replace")
    sockets: dict[str, tuple[dict[str, str], set[str], list[None]]] = {}
    for block in text.split("\n\n"):
        fields = dict(_field(line) for line in block.splitlines() if ":" in line)
        if "processor" not in fields:
            continue
        socket = fields.get("physical id", "0")
        first, cores, threads = sockets.setdefault(socket, (fields, set(), []))
        cores.add(fields.get("core id", fields["processor"]))
        threads.append(None)
    for socket, (first, cores, threads) in sockets.items():
        facts = {"model": said(first.get("model name", "")), "cores": len(cores), "threads": len(threads)}
        yield entry(("cpu", plain(socket, 16)), "cpu", facts)


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _memory_total(root: Path) -> Iterator[InventoryEntry]:
    """Of all blocks that are there, in use or not. Unlike MemTotal it does not change with the kernel."""
    folder = root / "sys/devices/system/memory"
    block = read_text(folder / "block_size_bytes") or ""
    blocks = sum(path.name[len("memory") :].isdecimal() for path in _folder(folder))
    try:
        size_bytes = size(int(block, 16) * blocks)
    except ValueError:
        size_bytes = None
    if size_bytes is not None:
        yield entry(("memory", "total"), "memory", {"size_bytes": size_bytes})


def _folder(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError:
        return


def _memory_modules(sys: Path) -> Iterator[InventoryEntry]:
    require_sys()
    table = read_small(sys / "firmware/dmi/tables/DMI", smbios.MAX_TABLE_BYTES)
    yield from smbios.memory_modules(table or b"")


def _disks(sys: Path) -> Iterator[InventoryEntry]:
    for block in entries(sys / "block"):
        device = block / "device"
        sectors = read_integer(block / "size") or 0
        hidden = block.name.startswith(_NO_DISK) or "boot" in block.name or "rpmb" in block.name
        if hidden or not device.exists() or sectors <= 0 or read_integer(block / "hidden"):
            continue
        serial, wwid = _disk_serial(block), said(read_text(block / "wwid") or read_text(device / "wwid"))
        name = ("serial", serial) if serial else ("wwid", wwid) if wwid else ("name", block.name)
        vendor = said(read_text(device / "vendor"))
        model = said(read_text(device / "model")) or said(read_text(device / "name"))
        yield entry(
            ("disk", *name),
            "disk",
            {
                "name": block.name,
                "model": model if vendor in ("", "ATA") or vendor.startswith("0x") else f"{vendor} {model}".strip(),
                "serial": serial,
                "size_bytes": size(sectors * _SECTOR_BYTES),
                "firmware": said(read_text(device / "firmware_rev") or read_text(device / "rev")),
                "kind": _disk_kind(block),
                "removable": _is_removable(block) or read_text(device / "type") == "SD" or None,
            },
        )


def _disk_kind(block: Path) -> str:
    """A virtual disk says that it turns, for want of anything better to say."""
    turns = read_integer(block / "queue/rotational")
    return {0: "ssd", 1: "hdd"}.get(turns if turns is not None else -1, "") if block.name[:1] in "shn" else ""


def _disk_serial(block: Path) -> str:
    for path in (block / "serial", block / "device/serial"):
        if serial := said(read_text(path)):
            return serial
    try:  # SCSI and SATA: the page "unit serial number" as the disk gave it, after a header of four bytes
        return said((block / "device/vpd_pg80").read_bytes()[4:256].decode("ascii", "replace"))
    except OSError:
        return ""


def _is_removable(block: Path) -> bool:
    return read_integer(block / "removable") == 1 or _comes_and_goes(block / "device")


def _comes_and_goes(device: Path) -> bool:
    """Whether a device hangs on something that people plug in: USB, Thunderbolt, a slot that the firmware names so."""
    path = device.resolve()
    for folder in (path, *path.parents):
        on_usb = (folder / "subsystem").resolve().name == "usb"
        said_so = read_text(folder / "removable")
        if said_so == "removable" or (on_usb and said_so != "fixed"):
            return True
        if said_so == "fixed":
            return False
    return False


def _nics(sys: Path) -> Iterator[InventoryEntry]:
    for nic in entries(sys / "class/net"):
        device = nic / "device"
        # Virtual ones have no device; those that a card makes for virtual machines come and go with them.
        if not device.exists() or (device / "physfn").exists():
            continue
        address = _permanent_address(nic)
        if address in _NO_ADDRESS:
            continue
        maker, model = read_text(device / "vendor") or "", read_text(device / "device") or ""
        ids = f"{maker.removeprefix('0x')}:{model.removeprefix('0x')}" if maker and model else ""
        yield entry(
            ("nic", address),
            "nic",
            {
                "name": plain(nic.name, 64),
                "address": address,
                "driver": plain((device / "driver").resolve().name, 64) if (device / "driver").exists() else "",
                "device_id": ids,
                "wireless": (nic / "wireless").exists() or (nic / "phy80211").exists() or None,
                "removable": _comes_and_goes(device) or None,
            },
        )


def _permanent_address(nic: Path) -> str:
    """The address that the card was made with; people and systems may have given it another."""
    shown = plain(read_text(nic / "address") or "", 64)
    if read_integer(nic / "addr_assign_type") == _BURNT_IN:
        return shown
    return _ask_permanent_address(nic.name) or shown


class _PermanentAddress(ctypes.Structure):
    """struct ethtool_perm_addr of linux/ethtool.h."""

    _fields_ = (("cmd", ctypes.c_uint32), ("size", ctypes.c_uint32), ("data", ctypes.c_uint8 * 32))


def _ask_permanent_address(name: str) -> str:
    """By the request ETHTOOL_GPERMADDR, which needs no rights; "" when the driver does not know."""
    import fcntl
    import socket
    import struct

    command = _PermanentAddress(0x20, 32)
    request = struct.pack("16sP16x", name.encode()[:15], ctypes.addressof(command))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            fcntl.ioctl(asking, 0x8946, request)  # SIOCETHTOOL
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return ""
    address = bytes(command.data[: min(command.size, 32)])
    return ":".join(f"{byte:02x}" for byte in address) if any(address) else ""


def _monitors(sys: Path) -> Iterator[InventoryEntry]:
    for connector in entries(sys / "class/drm", "card"):
        try:
            data = (connector / "edid").read_bytes()[:MAX_EDID_BYTES]
        except OSError:
            continue
        found = edid.monitor(data, plain(connector.name.partition("-")[2] or connector.name, 64)) if data else None
        if found is not None:
            yield found


def operating_system(root: Path = Path("/")) -> Iterator[InventoryEntry]:
    """Yield the system: os-release(5), and what the kernel calls itself."""
    values = os_release_fields(root)
    here = os.uname()
    yield entry(
        ("os",),
        "os",
        {
            "name": said(values.get("PRETTY_NAME") or values.get("NAME") or here.sysname),
            "version": said(values.get("VERSION_ID", "")),
            "build": said(values.get("BUILD_ID", "")) or _debian_version(root, values.get("ID", "")),
            "kernel": plain(here.release, 100),
            "architecture": plain(here.machine, 32),
        },
    )


def _debian_version(root: Path, name: str) -> str:
    """Debian's point release stands in a file of its own."""
    data = read_small(root / "etc/debian_version", 256) if name == "debian" else None
    return said((data or b"").decode("utf-8", "replace"))
