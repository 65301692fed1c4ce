"""Disk encryption: could somebody who takes the machine or its disk read what is on it?

Items are mount points (drive letters on Windows), `swap` for all swap on disks, and `FileVault` on macOS. Linux: the
layers below each filesystem under /sys, where a device mapper UUID that begins with CRYPT- is dm-crypt (LUKS, plain);
what a disk, a file system (ZFS, fscrypt, eCryptfs) or a hypervisor encrypts by itself is not seen. Windows:
Get-BitLockerVolume, which needs an administrator. macOS: `fdesetup status`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_NOT_USABLE, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.block_layers import device_path, is_encrypted, swap_devices
from gengfu_checks.local.mount_choice import Choice, chosen
from gengfu_checks.local.mount_table import Mount, parse_mountinfo
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.programs import failed, find_program, run_program
from gengfu_checks.local.small_file import needs_rights, read_small, unknown
from gengfu_checks.local.structured import powershell, powershell_rows
from gengfu_checks.local.sysfs import SYS, read_integer, require_sys
from gengfu_checks.local.windows_security import is_administrator
from gengfu_checks.model import (
    CheckKind,
    Context,
    Measurement,
    Metric,
    Problem,
    Setting,
    SettingType,
    Status,
)

OFF = "disk_encryption.off"
PAUSED = "disk_encryption.paused"
KEY_IN_CLEAR = "disk_encryption.key_in_clear"

MAX_VOLUMES = 64
FILEVAULT = "FileVault"
SWAP = "swap"
MOUNTINFO = Path("/proc/self/mountinfo")
SWAPS = Path("/proc/swaps")

# The boot loader has to read these; they hold no data of people.
_BOOT_POINTS = frozenset(("/boot", "/boot/efi", "/boot/firmware", "/efi"))
# SMBIOS, "System Enclosure or Chassis Types": what can be carried away.
_PORTABLE_CHASSIS = frozenset((8, 9, 10, 11, 12, 14, 30, 31, 32))

# https://learn.microsoft.com/powershell/module/bitlocker/get-bitlockervolume
VOLUMES_PIPELINE = (
    "Get-BitLockerVolume | Select-Object MountPoint,@{n='VolumeType';e={[string]$_.VolumeType}},"
    "@{n='VolumeStatus';e={[string]$_.VolumeStatus}},@{n='ProtectionStatus';e={[string]$_.ProtectionStatus}},"
    "EncryptionPercentage"
)
_PERCENT = re.compile(r"percent completed = ([0-9]{1,3}(?:\.[0-9]{1,6})?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume. `encrypted_ratio` is 1 when all of it is; `code` is what is wrong where encryption is required."""

    name: str
    encrypted_ratio: float
    code: str = ""


def judge(volumes: Iterable[Volume], *, required: bool) -> list[Measurement]:
    """An item for each volume."""
    measurements = []
    for volume in volumes:
        metrics = {"encrypted": float(volume.encrypted_ratio >= 1.0), "encrypted_ratio": volume.encrypted_ratio}
        problem = Problem(Status.WARNING, volume.code) if volume.code and required else None
        measurements.append(Measurement(plain(volume.name), metrics, problem=problem))
    return measurements


def bitlocker_volumes(rows: Sequence[Mapping[str, Any]], fixed: Iterable[str]) -> list[Volume]:
    """Volumes by Get-BitLockerVolume: the one of the operating system and those on fixed drives (`C:`)."""
    drives = {drive[:2].upper() for drive in fixed}
    volumes = []
    for row in rows[:MAX_VOLUMES]:
        point, kind, status, protection = (
            str(row.get(key) or "") for key in ("MountPoint", "VolumeType", "VolumeStatus", "ProtectionStatus")
        )
        if point and status and (kind == "OperatingSystem" or point[:2].upper() in drives):
            is_whole = status.startswith("FullyEncrypted") or protection == "Unknown"
            ratio = 1.0 if is_whole else _ratio(row.get("EncryptionPercentage"))
            volumes.append(Volume(point, ratio, _bitlocker_code(status, protection)))
    return volumes


def _bitlocker_code(status: str, protection: str) -> str:
    if protection == "Unknown":  # locked: encrypted, and its key is not here
        return ""
    if status in ("EncryptionPaused", "EncryptionSuspended"):
        return PAUSED
    if status.startswith("FullyEncrypted"):
        return "" if protection == "On" else KEY_IN_CLEAR
    return "" if status == "EncryptionInProgress" else OFF


def _ratio(percentage: Any) -> float:
    is_number = isinstance(percentage, (int, float)) and not isinstance(percentage, bool)
    return min(0.99, max(0.0, percentage / 100)) if is_number else 0.0


def filevault(printed: str) -> Volume | None:
    """The volume of macOS by what `fdesetup status` printed; None for anything else."""
    text = printed.strip()
    percent = _PERCENT.search(text)
    ratio = _ratio(float(percent[1])) if percent else 0.0
    if "Decryption in progress" in text or text.startswith("FileVault is Off"):
        return Volume(FILEVAULT, ratio, OFF)
    if "Encryption in progress" in text:
        return Volume(FILEVAULT, ratio)
    return Volume(FILEVAULT, 1.0) if text.startswith("FileVault is On") else None


def linux_volumes(mounts: Sequence[Mount], swaps: bytes, sys_folder: Path = SYS) -> list[Volume]:
    """The filesystems on disks of this machine, and its swap; raises CannotMeasure where /sys is hidden."""
    require_sys()
    volumes = []
    for mount in chosen(mounts, Choice(network=False), permanent=())[:MAX_VOLUMES]:
        device = None if mount.point in _BOOT_POINTS else device_path(mount, sys_folder)
        if device is not None:
            volumes.append(_volume(mount.point, is_encrypted(device)))
    devices = swap_devices(swaps, sys_folder)
    if devices:
        volumes.append(_volume(SWAP, all(is_encrypted(device) for device in devices)))
    return volumes


def _volume(name: str, encrypted: bool) -> Volume:
    return Volume(name, 1.0) if encrypted else Volume(name, 0.0, OFF)


def is_portable(sys_folder: Path = SYS) -> bool:
    """Whether the machine is one to carry around: by its chassis, and by its battery where that is not told."""
    if psutil.LINUX:
        return (read_integer(sys_folder / "class/dmi/id/chassis_type") or 0) in _PORTABLE_CHASSIS
    return psutil.sensors_battery() is not None


def _windows(within_s: float) -> list[Volume]:
    fixed = [partition.device for partition in psutil.disk_partitions() if "fixed" in partition.opts.split(",")]
    try:
        rows = powershell_rows(VOLUMES_PIPELINE, within_s)
    except CannotMeasure as error:
        if is_administrator():
            raise
        raise needs_rights("administrator", "Get-BitLockerVolume") from error
    return bitlocker_volumes(rows, fixed)


def _mac(within_s: float) -> list[Volume]:
    program = find_program("fdesetup")
    if program is None:
        raise failed("fdesetup", "is not on this machine")
    volume = filevault(run_program([program, "status"], within_s, 65536).stdout.decode("utf-8", "replace"))
    if volume is None:
        raise failed(program, "its answer names no state")
    return [volume]


def measure(context: Context) -> Iterator[Measurement]:
    """Measure the volumes of this machine."""
    within_s = context.deadline_s * 0.9
    wanted = context.settings["required"]
    try:
        if psutil.WINDOWS:
            volumes = _windows(within_s)
        elif psutil.MACOS:
            volumes = _mac(within_s)
        else:
            mounts = parse_mountinfo(MOUNTINFO.read_bytes())
            volumes = linux_volumes(mounts, read_small(SWAPS) or b"")
    except CannotMeasure as error:
        yield Measurement("", problem=unknown(error))
        return
    yield from judge(volumes, required=wanted == "always" or (wanted == "portable" and is_portable()))


def usable() -> str | None:
    """Linux, Windows and macOS."""
    if psutil.WINDOWS:
        return None if powershell() else "PowerShell is not on this machine"
    return None if psutil.LINUX or psutil.MACOS else f"not supported on {sys.platform}"


CHECK = CheckKind(
    name="disk_encryption",
    measure=measure,
    metrics=(
        Metric("encrypted", "1 when all of the volume is encrypted"),
        Metric("encrypted_ratio", "Share of the volume that is encrypted"),
    ),
    codes=(OFF, PAUSED, KEY_IN_CLEAR, CHECK_NEEDS_RIGHTS, CHECK_NOT_USABLE, CHECK_PROGRAM_FAILED),
    settings=(
        Setting(
            "required",
            SettingType.TEXT,
            "which machines must be encrypted: portable ones (laptops, tablets), always, never",
            "portable",
            choices=("portable", "always", "never"),
        ),
    ),
    every_s=21600.0,
    timeout_s=60.0,
    usable=usable,
)
