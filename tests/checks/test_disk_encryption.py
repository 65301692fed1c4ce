"""The check of disk encryption: trees of /sys as the kernel shows them, this machine for real, vendors' answers.

The kernel here has no device mapper, so no LUKS volume can be opened: the trees are built after the kernel's
Documentation/ABI/testing/sysfs-block-dm and cryptsetup's form of UUIDs. Windows: rows built after Get-BitLockerVolume
at Microsoft Learn (BitLockerVolumeStatus, BitLockerVolumeProtectionStatus). macOS: the answers of `fdesetup status`
that scripts of administrators in public repositories list, not recorded here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local import disk_encryption
from gengfu_checks.local.block_layers import is_encrypted, swap_devices
from gengfu_checks.local.disk_encryption import (
    CHECK,
    Volume,
    bitlocker_volumes,
    filevault,
    is_portable,
    judge,
    linux_volumes,
)
from gengfu_checks.local.mount_table import Mount
from gengfu_checks.model import Status

LUKS = "CRYPT-LUKS2-3c1b5d7e0f3a4e1b9c0d2e4f6a8b0c1d-cryptroot"
LVM = "LVM-Zl8fjJ5fWg1vUN0T2Xg1p3bZQX2m4r5s6t7u8v9w0x1y2z"


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., Path]:
    """`machine({"sda1": ("8:1", "", ["sda"])})` makes devices: number, UUID of the mapper, what lies below."""

    def make(devices: Mapping[str, tuple[str, str, list[str]]]) -> Path:
        for name, (number, uuid, below) in devices.items():
            disk = name.rstrip("0123456789") if name[:2] == "sd" else name
            folder = tmp_path / "block" / disk / name if disk != name else tmp_path / "block" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "slaves").mkdir(exist_ok=True)
            if disk != name:
                (folder / "partition").write_text("1\n")
                (tmp_path / "block" / name).symlink_to(folder)
            if uuid:
                (folder / "dm").mkdir()
                (folder / "dm" / "uuid").write_text(f"{uuid}\n")
            for lower in below:
                (folder / "slaves" / lower).symlink_to(tmp_path / "block" / lower)
            (tmp_path / "dev" / "block").mkdir(parents=True, exist_ok=True)
            (tmp_path / "dev" / "block" / number).symlink_to(folder)
        return tmp_path

    return make


def mount(point: str, number: str, fstype: str = "ext4", source: str = "/dev/x") -> Mount:
    return Mount(point, fstype, source, number)


def found(volumes: list[Volume]) -> dict[str, bool]:
    return {volume.name: volume.encrypted_ratio == 1.0 for volume in volumes}


def test_lvm_on_luks_and_a_plain_disk(machine: Callable[..., Path]) -> None:
    sys_folder = machine(
        {
            "sda": ("8:0", "", []),
            "sda1": ("8:1", "", []),
            "sda2": ("8:2", "", []),
            "dm-0": ("253:0", LUKS, ["sda2"]),
            "dm-1": ("253:1", LVM, ["dm-0"]),
            "dm-2": ("253:2", LVM, ["dm-0"]),
            "sdb": ("8:16", "", []),
            "sdb1": ("8:17", "", []),
        }
    )
    mounts = [
        mount("/", "253:1"),
        mount("/home", "253:2"),
        mount("/data", "8:17"),
        mount("/boot", "8:1"),
        mount("/proc", "0:21", "proc", "proc"),
        mount("/mnt/nas", "0:50", "nfs4", "nas:/x"),
        mount("/snap/core/1", "7:0", "squashfs"),
        mount("/run/media/ann/STICK", "8:33"),
    ]
    assert found(linux_volumes(mounts, b"", sys_folder)) == {"/": True, "/home": True, "/data": False}


def test_every_disk_of_an_array_has_to_be_encrypted(machine: Callable[..., Path]) -> None:
    plain: dict[str, tuple[str, str, list[str]]] = {name: (f"8:{i}", "", []) for i, name in enumerate(("sda", "sdb"))}
    sys_folder = machine(
        plain
        | {
            "dm-0": ("253:0", LUKS, ["sda"]),
            "dm-1": ("253:1", "CRYPT-PLAIN-b", ["sdb"]),
            "md0": ("9:0", "", ["dm-0", "dm-1"]),
            "md1": ("9:1", "", ["dm-0", "sdb"]),
            "dm-2": ("253:2", "mpath-36001", ["sda", "sdb"]),
        }
    )
    block = sys_folder / "block"
    assert is_encrypted(block / "md0")
    assert not is_encrypted(block / "md1")
    assert not is_encrypted(block / "dm-2")
    assert not is_encrypted(block / "sda")
    assert not is_encrypted(block / "absent")


def test_a_partition_of_an_encrypted_device_and_a_circle(machine: Callable[..., Path]) -> None:
    sys_folder = machine({"dm-0": ("253:0", LUKS, [])})
    part = sys_folder / "block" / "dm-0" / "dm-0p1"
    part.mkdir()
    (part / "partition").write_text("1\n")
    assert is_encrypted(part)
    circle = machine({"dm-8": ("253:8", LVM, ["dm-9"]), "dm-9": ("253:9", LVM, ["dm-8"])})
    assert not is_encrypted(circle / "block" / "dm-8")


def test_swap_on_disks_counts_and_in_memory_or_files_does_not(machine: Callable[..., Path], tmp_path: Path) -> None:
    header = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    sys_folder = machine({"loop7": ("7:7", "", []), "zram0": ("253:0", "", [])})
    text = (
        b"/swapfile file\t1 0 -2\n/dev/loop7 partition\t1 0 -2\n/dev/zram0 partition 1 0 100\n/dev/gone partition 1\n"
    )
    if not Path("/dev/loop7").exists():
        pytest.skip("no /dev/loop7: devices are found by their node")
    assert [device.name for device in swap_devices(header + text, sys_folder)] == ["loop7"]
    assert found(linux_volumes([], header + text, sys_folder)) == {"swap": False}
    assert linux_volumes([], header, sys_folder) == []


@given(st.binary(max_size=120))
def test_any_list_of_swaps_is_survived(text: bytes) -> None:
    assert swap_devices(b"Filename Type\n" + text, Path("/nonexistent")) == []


def test_this_machine(bench: Any) -> None:
    items = bench(CHECK, required="never").run()
    root = items["/"]
    uuids = Path("/sys/block").glob("dm-*/dm/uuid")
    if not any(path.read_text().startswith("CRYPT-") for path in uuids):
        assert root.metrics == {"encrypted": 0.0, "encrypted_ratio": 0.0}
    assert root.problem is None


def test_only_what_can_be_carried_away_has_to_be_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "LINUX", True)
    folder = tmp_path / "class/dmi/id"
    folder.mkdir(parents=True)
    for chassis, portable in (("10", True), ("9", True), ("31", True), ("3", False), ("23", False), ("1", False)):
        (folder / "chassis_type").write_text(f"{chassis}\n")
        assert is_portable(tmp_path) is portable
    assert not is_portable(tmp_path / "absent")


@pytest.mark.parametrize(
    ("required", "portable", "problem"),
    [("portable", True, True), ("portable", False, False), ("always", False, True), ("never", True, False)],
)
def test_the_setting_decides(
    bench: Any, monkeypatch: pytest.MonkeyPatch, required: str, portable: bool, problem: bool
) -> None:
    monkeypatch.setattr(disk_encryption, "is_portable", lambda: portable)
    monkeypatch.setattr(disk_encryption, "linux_volumes", lambda mounts, swaps: [Volume("/", 0.0, disk_encryption.OFF)])
    (measured,) = bench(CHECK, required=required).run().values()
    expected = (Status.WARNING, "disk_encryption.off") if problem else None
    assert (measured.problem and (measured.problem.status, measured.problem.code)) == expected


def row(point: str, status: str, protection: str, percentage: Any = 0, kind: str = "Data") -> dict[str, Any]:
    return {
        "MountPoint": point,
        "VolumeType": kind,
        "VolumeStatus": status,
        "ProtectionStatus": protection,
        "EncryptionPercentage": percentage,
    }


@pytest.mark.parametrize(
    ("status", "protection", "percentage", "ratio", "code"),
    [
        ("FullyEncrypted", "On", 100, 1.0, ""),
        ("FullyEncrypted", "Off", 100, 1.0, "disk_encryption.key_in_clear"),
        ("FullyEncryptedWipeInProgress", "On", 100, 1.0, ""),
        ("FullyDecrypted", "Off", 0, 0.0, "disk_encryption.off"),
        ("EncryptionInProgress", "Off", 42, 0.42, ""),
        ("EncryptionInProgress", "Off", 100, 0.99, ""),
        ("EncryptionPaused", "Off", 42, 0.42, "disk_encryption.paused"),
        ("DecryptionInProgress", "Off", 10, 0.10, "disk_encryption.off"),
        ("FullyDecrypted", "Off", "rubbish", 0.0, "disk_encryption.off"),
        ("FullyDecrypted", "Off", -5, 0.0, "disk_encryption.off"),
    ],
)
def test_bitlocker(status: str, protection: str, percentage: Any, ratio: float, code: str) -> None:
    answer = [row("C:", status, protection, percentage, "OperatingSystem")]
    assert bitlocker_volumes(answer, []) == [Volume("C:", ratio, code)]


def test_sticks_and_locked_drives_of_windows() -> None:
    answer = [
        row("C:", "FullyEncrypted", "On", 100, "OperatingSystem"),
        row("D:", "FullyDecrypted", "Off"),
        row("E:", "FullyDecrypted", "Off"),
        row("F:", "", "Unknown", None),
        row("G:", "Unknown", "Unknown", None),
        {},
    ]
    volumes = bitlocker_volumes(answer, ["C:\\", "D:\\", "G:\\"])
    assert volumes == [Volume("C:", 1.0), Volume("D:", 0.0, "disk_encryption.off"), Volume("G:", 1.0)]


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("FileVault is On.\n", Volume("FileVault", 1.0)),
        ("FileVault is On, but needs to be restarted to finish.\n", Volume("FileVault", 1.0)),
        ("FileVault is Off.\n", Volume("FileVault", 0.0, "disk_encryption.off")),
        (
            "FileVault is Off, but will be enabled after the next restart.",
            Volume("FileVault", 0.0, "disk_encryption.off"),
        ),
        (
            "FileVault is Off.\nDeferred enablement appears to be active for user 'ann'.",
            Volume("FileVault", 0.0, "disk_encryption.off"),
        ),
        ("FileVault is On.\nEncryption in progress: Percent completed = 42\n", Volume("FileVault", 0.42)),
        ("Encryption in progress: Percent completed = 31.5\n", Volume("FileVault", 0.315)),
        ("FileVault is On.\nEncryption in progress: Pending\n", Volume("FileVault", 0.0)),
        (
            "Decryption in progress: Percent completed = 80\n",
            Volume("FileVault", 0.8, "disk_encryption.off"),
        ),
        ("Error: something", None),
        ("", None),
    ],
)
def test_filevault(printed: str, expected: Volume | None) -> None:
    assert filevault(printed) == expected


def test_metrics() -> None:
    (measured,) = judge([Volume("C:", 0.42)], required=True)
    assert measured.metrics == {"encrypted": 0.0, "encrypted_ratio": 0.42}
    assert measured.problem is None
