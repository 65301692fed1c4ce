"""The layers of block devices below a filesystem, by what the Linux kernel shows under /sys.

Sources: sysfs(5), Documentation/ABI/testing/sysfs-block-dm of Linux (`dm/uuid`), cryptsetup (UUIDs begin with CRYPT-).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from gengfu_checks.local.mount_table import Mount, unescape
from gengfu_checks.local.sysfs import entries, read_text

MAX_LAYERS = 16
MAX_SWAPS = 64

_NUMBER = re.compile(r"[0-9]{1,5}:[0-9]{1,8}")


def device_path(mount: Mount, sys_folder: Path) -> Path | None:
    """The folder of the device that a filesystem lies on; None where that is not a disk of this machine."""
    device = _of_number(mount.device_number, sys_folder)
    # Some filesystems (btrfs) have a number of their own and are known by the device they name.
    if device is None and mount.source.startswith("/dev/"):
        device = _of_node(mount.source, sys_folder)
    return None if device is None or device.name.startswith(("loop", "ram", "zram")) else device


def is_encrypted(device: Path, layers: int = MAX_LAYERS) -> bool:
    """Whether everything below a device passes through dm-crypt."""
    if (read_text(device / "dm/uuid") or "").startswith("CRYPT-"):
        return True
    if layers == 0:
        return False
    below = [lower.resolve() for lower in entries(device / "slaves")]
    if not below and (device / "partition").exists():
        below = [device.parent]  # a partition of a device that is itself made of others
    return bool(below) and all(is_encrypted(lower, layers - 1) for lower in below)


def swap_devices(swaps: bytes, sys_folder: Path) -> list[Path]:
    """The devices in the text of /proc/swaps. Swap files lie on a filesystem, and compressed memory on no disk."""
    devices = []
    for line in swaps.split(b"\n")[1 : MAX_SWAPS + 1]:
        fields = line.split()
        if len(fields) < 2 or fields[1] != b"partition":
            continue
        device = _of_node(unescape(fields[0]), sys_folder)
        if device is not None and not device.name.startswith(("zram", "ram")):
            devices.append(device)
    return devices


def _of_node(path: str, sys_folder: Path) -> Path | None:
    try:
        number = os.stat(path).st_rdev  # noqa: PTH116 - paths may hold any bytes
    except (OSError, ValueError):
        return None
    return _of_number(f"{os.major(number)}:{os.minor(number)}", sys_folder)


def _of_number(number: str, sys_folder: Path) -> Path | None:
    if _NUMBER.fullmatch(number) is None:
        return None
    link = sys_folder / "dev/block" / number
    return link.resolve() if link.exists() else None
