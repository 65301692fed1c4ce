"""Which machine this is, and which boot of it: ids that tell a cloned disk image from the machine it came from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

_INSTALLATION_FILES = ("etc/machine-id", "var/lib/dbus/machine-id")
_DMI_NAMES = ("sys_vendor", "product_name", "board_vendor", "board_name")
_DMI_FOLDER = "sys/class/dmi/id"
_NIC_FOLDER = "sys/class/net"
_BURNT_IN = "0"
_NO_ADDRESS = "00:00:00:00:00:00"


def machine_id(facts: Mapping[str, str]) -> str:
    """Return a hash of the facts, "" when there are none. The same machine gives the same id, a copy of its disk in
    another machine a different one. Pure."""
    if not facts:
        return ""
    lines = "\n".join(f"{name}={facts[name]}" for name in sorted(facts))
    return hashlib.sha256(lines.encode()).hexdigest()[:32]


def machine_facts(root: Path = Path("/")) -> dict[str, str]:
    """Return what identifies the machine below `root`: the installation, the board, network cards that are part of it.

    Only what every user may read counts, so that an agent keeps its id when its rights change; what is absent is left
    out. Cards that can be unplugged, virtual ones and changed addresses do not count.
    """
    facts = {"installation": next(filter(None, (_read(root / name) for name in _INSTALLATION_FILES)), "")}
    facts |= {f"dmi/{name}": _read(root / _DMI_FOLDER / name) for name in _DMI_NAMES}
    facts["nics"] = ",".join(sorted(_burnt_in_addresses(root / _NIC_FOLDER)))
    return {name: value for name, value in facts.items() if value}


def platform_name() -> str:
    """Return operating system and processor, like "linux-x86_64"."""
    here = os.uname()
    return f"{here.sysname}-{here.machine}".lower()


def _burnt_in_addresses(folder: Path) -> set[str]:
    try:
        nics = list(folder.iterdir())
    except OSError:
        return set()
    return {_read(nic / "address") for nic in nics if _is_part_of_the_machine(nic)} - {"", _NO_ADDRESS}


def _is_part_of_the_machine(nic: Path) -> bool:
    device = nic / "device"
    if not device.exists() or _read(nic / "addr_assign_type") != _BURNT_IN:
        return False
    return (device / "subsystem").resolve().name != "usb"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
