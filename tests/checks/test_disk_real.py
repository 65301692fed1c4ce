"""The disk check on real filesystems: an ext4 image on a loop device made full, emptied of inodes, broken, and more."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gengfu_checks.local.disk import CHECK
from gengfu_checks.model import Finding, Status
from gengfu_checks.threshold import judge

MIB = 1024**2


def run(*argv: str, accepted: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run(argv, capture_output=True)
    if done.returncode not in accepted:
        raise subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)


@pytest.fixture
def mount_point(tmp_path: Path) -> Iterator[Path]:
    point = tmp_path / "mounted here"
    point.mkdir()
    yield point
    with contextlib.suppress(subprocess.CalledProcessError):
        run("umount", str(point))


@pytest.fixture
def ext4(tmp_path: Path, mount_point: Path, unshare: str, requires_program: Callable[[str, str], str]) -> Path:
    """A mounted ext4 of 8 MiB with 64 inodes; a tmpfs alike where the kernel has no loop devices."""
    assert unshare  # whoever may make namespaces may mount
    mkfs = requires_program("mkfs.ext4", "apt-get install e2fsprogs")
    image = tmp_path / "image"
    with image.open("wb") as stream:
        stream.truncate(8 * MIB)
    run(mkfs, "-q", "-N", "64", "-m", "0", str(image))
    try:
        run("mount", "-o", "loop,errors=remount-ro", str(image), str(mount_point))
    except subprocess.CalledProcessError:
        run("mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=64", "tmpfs", str(mount_point))
    return mount_point


def is_ext4(point: Path) -> bool:
    return f" {str(point).replace(' ', chr(92) + '040')} " in "".join(
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - ext4 " in line
    )


class Look:
    """An instance of the check that looks at one mount point."""

    def __init__(self, bench: Any, point: Path) -> None:
        self.point = str(point)
        self.instance = bench(CHECK, include=[self.point])
        self.previous: Finding | None = None

    def __call__(self) -> Finding:
        measurement = self.instance.run()[self.point]
        self.previous = judge("disk", measurement, CHECK.thresholds, self.previous, 0.0)
        return self.previous


@pytest.fixture
def look(bench: Any, ext4: Path) -> Look:
    return Look(bench, ext4)


def fill(point: Path, ratio: float) -> None:
    room = os.statvfs(point)
    (point / "big").write_bytes(b"x" * int(room.f_bavail * room.f_frsize * ratio))


def test_a_filesystem_fills_up_and_is_cleared_again(ext4: Path, look: Look) -> None:
    assert look().status is Status.OK
    fill(ext4, 0.92)
    assert (look().status, look().code) == (Status.WARNING, "disk.nearly_full")
    (ext4 / "more").write_bytes(b"x" * 256 * 1024)
    finding = look()
    assert (finding.status, finding.code) == (Status.CRITICAL, "disk.nearly_full")
    df = subprocess.run(
        ["df", "--output=avail,size", "-B1", str(ext4)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert [finding.metrics["free_bytes"], finding.metrics["size_bytes"]] == [float(df[-2]), float(df[-1])]
    for path in (ext4 / "big", ext4 / "more"):
        path.unlink()
    assert look().status is Status.OK


def test_a_filesystem_runs_out_of_inodes(ext4: Path, look: Look) -> None:
    assert look().status is Status.OK
    free = os.statvfs(ext4).f_favail
    for i in range(free - 1):
        (ext4 / f"{i}").touch()
    finding = look()
    assert (finding.status, finding.code) == (Status.CRITICAL, "disk.inodes_nearly_full")
    assert finding.metrics["inodes_free"] == 1.0


def test_a_filesystem_is_remounted_read_only(ext4: Path, look: Look) -> None:
    assert look().metrics["read_only"] == 0.0
    run("mount", "-o", "remount,ro", str(ext4))
    finding = look()
    assert (finding.status, finding.code) == (Status.CRITICAL, "disk.read_only")
    run("mount", "-o", "remount,rw", str(ext4))
    assert look().status is Status.OK


def test_the_kernel_finds_an_error_and_stops_writing(
    ext4: Path, look: Look, tmp_path: Path, requires_program: Callable[[str, str], str]
) -> None:
    """The kernel's own switch for a made-up error; newer kernels then say `emergency_ro`, older ones `ro`. The
    check has not seen it writable before."""
    if not is_ext4(ext4):
        pytest.skip("no loop devices: tmpfs has no error to trigger")
    device = os.path.realpath(f"/sys/dev/block/{os.major(ext4.stat().st_dev)}:{os.minor(ext4.stat().st_dev)}")
    Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("1")
    with pytest.raises(OSError, match="Read-only file system"):
        (ext4 / "x").touch()
    finding = look()
    assert (finding.status, finding.code) == (Status.CRITICAL, "disk.read_only")
    run("umount", str(ext4))
    run("mount", "-o", "loop", str(tmp_path / "image"), str(ext4))
    finding = look()
    assert (finding.status, finding.code) == (Status.WARNING, "disk.damaged")
    assert finding.metrics["recorded_errors"] >= 1
    run("umount", str(ext4))
    run(requires_program("e2fsck", "apt-get install e2fsprogs"), "-p", "-f", str(tmp_path / "image"), accepted=(0, 1))
    run("mount", "-o", "loop", str(tmp_path / "image"), str(ext4))
    assert look().status is Status.OK


def test_a_filesystem_that_was_mounted_read_only_is_no_fault(ext4: Path, tmp_path: Path, bench: Any) -> None:
    if not is_ext4(ext4):
        pytest.skip("no loop devices: a tmpfs forgets what it was")
    run("umount", str(ext4))
    run("mount", "-o", "loop,ro", str(tmp_path / "image"), str(ext4))
    finding = Look(bench, ext4)()
    assert (finding.status, finding.metrics["read_only"]) == (Status.OK, 1.0)


def test_an_xfs_that_was_shut_down_is_told(
    tmp_path: Path, mount_point: Path, unshare: str, bench: Any, requires_program: Callable[[str, str], str]
) -> None:
    """As after an error in its log: on Linux 6.18 statvfs and the mount table do not show it."""
    assert unshare
    image = tmp_path / "xfs"
    with image.open("wb") as stream:
        stream.truncate(320 * MIB)
    run(requires_program("mkfs.xfs", "apt-get install xfsprogs"), "-q", str(image))
    try:
        run("mount", "-o", "loop", str(image), str(mount_point))
    except subprocess.CalledProcessError:
        pytest.skip("no loop devices, or no XFS in this kernel")
    look = Look(bench, mount_point)
    assert look().status is Status.OK
    run(requires_program("xfs_io", "apt-get install xfsprogs"), "-x", "-c", "shutdown", str(mount_point))
    finding = look()
    assert (finding.status, finding.code) == (Status.CRITICAL, "disk.unreadable")


def test_a_read_only_view_of_a_working_filesystem_is_no_fault(ext4: Path, look: Look) -> None:
    """As a systemd unit with ProtectSystem=strict sees it."""
    assert look().status is Status.OK
    run("mount", "-o", "remount,bind,ro", str(ext4))
    assert look().status is Status.OK


def test_a_filesystem_is_found_by_itself_and_its_second_mount_is_not(ext4: Path, tmp_path: Path, bench: Any) -> None:
    if not is_ext4(ext4):
        pytest.skip("no loop devices: a tmpfs is not looked at by itself")
    other = tmp_path / "a longer name than the first"
    other.mkdir()
    run("mount", "--bind", str(ext4), str(other))
    try:
        items = bench(CHECK).run()
    finally:
        run("umount", str(other))
    assert str(ext4) in items
    assert str(other) not in items


def test_the_root_of_this_machine_is_measured(bench: Any) -> None:
    items = bench(CHECK).run()
    assert items["/"].metrics["size_bytes"] > 0
    assert 0.0 < items["/"].metrics["used_ratio"] <= 1.0


def test_an_ordinary_user_is_told_which_mounts_are_closed_to_it(ext4: Path, bench: Any) -> None:
    instance = bench(CHECK, include=[str(ext4)])
    ext4.parent.chmod(0o700)
    os.seteuid(65534)
    try:
        items = instance.run()
    finally:
        os.seteuid(0)
    assert items["/"].problem is None
    assert items[str(ext4)].problem.code == "check.needs_rights"
