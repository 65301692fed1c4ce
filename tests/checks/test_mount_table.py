"""Reading mountinfo and fstab: recorded tables, what the manual pages allow, and lines that nobody should write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local.mount_table import FstabEntry, Mount, parse_fstab, parse_mountinfo, unescape

# What the kernel escapes in the fields of mountinfo.
ESCAPED = b" \t\n\\#"


def escape(raw: bytes) -> bytes:
    """The kernel's way of writing a path, spelled out byte by byte."""
    return b"".join(b"\\%03o" % byte if byte in ESCAPED else bytes((byte,)) for byte in raw)


def test_the_table_of_a_virtual_machine(samples: Path) -> None:
    """Recorded from /proc/self/mountinfo on a virtual machine with Linux 6.18."""
    mounts = parse_mountinfo((samples / "proc" / "mountinfo-linux-6.18").read_bytes())
    assert len(mounts) == 19
    assert mounts[5] == Mount("/", "ext4", "/dev/vda", "254:0")
    assert [mount.point for mount in mounts].count("/dev/shm") == 2


def test_the_example_of_proc_5_with_optional_fields() -> None:
    line = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n"
    assert parse_mountinfo(line) == [Mount("/mnt2", "ext3", "/dev/root", "98:0", root="/mnt1")]


@pytest.mark.parametrize(
    ("view", "filesystem", "read_only", "gave_up"),
    [
        ("rw,relatime", "rw", False, False),
        ("ro,relatime", "ro", True, False),
        # Linux before 6.15 after an error of ext4 with errors=remount-ro.
        ("rw,relatime", "ro,errors=remount-ro", True, True),
        # A sandbox sees a read-only view of a filesystem that works.
        ("ro,relatime", "rw", False, False),
        # Recorded with Linux 6.18 after `echo 1 > /sys/fs/ext4/loop0/trigger_fs_error`.
        ("rw,relatime", "rw,errors=remount-ro,emergency_ro", True, True),
        ("rw,relatime", "rw,shutdown", True, True),
    ],
)
def test_whether_a_filesystem_takes_writes(view: str, filesystem: str, read_only: bool, gave_up: bool) -> None:
    line = f"42 27 7:0 / /data {view} - ext4 /dev/loop0 {filesystem}"
    assert [(m.read_only, m.gave_up) for m in parse_mountinfo(line.encode())] == [(read_only, gave_up)]


def test_a_mount_without_a_source_is_still_read() -> None:
    assert parse_mountinfo(b"42 27 0:39 / /x rw - tmpfs  rw,size=4k")[0].source == ""


@given(st.binary(min_size=1).filter(lambda raw: b"\0" not in raw))
def test_escaped_paths_come_back(raw: bytes) -> None:
    path = b"/" + raw
    line = b"1 2 8:1 / %b rw - ext4 %b rw" % (escape(path), escape(raw))
    (mount,) = parse_mountinfo(line)
    assert os.fsencode(mount.point) == path
    assert os.fsencode(mount.source) == raw
    assert unescape(escape(raw)) == os.fsdecode(raw)


@given(st.binary())
def test_no_table_breaks_the_parser(data: bytes) -> None:
    assert len(parse_mountinfo(data)) <= data.count(b"\n") + 1
    assert all(entry.point.startswith("/") for entry in parse_fstab(data))


@given(st.lists(st.sampled_from([b"1", b"-", b"/", b"", b"ext4", b"\\040", b"\\777", b"a:b"]), max_size=14))
def test_lines_of_a_wrong_form_give_at_most_one_mount(fields: list[bytes]) -> None:
    assert len(parse_mountinfo(b" ".join(fields))) <= 1


def test_fstab_names_what_should_be_mounted() -> None:
    table = b"""# made by hand
UUID=1234  /            ext4  errors=remount-ro 0 1
/dev/sdb1  /srv/my\\040files/  xfs  defaults,ro,nofail
LABEL=old  /old         ext4  ro,rw
nas:/home  /home        nfs4  _netdev,x-systemd.automount 0 0
/dev/sr0   /media/cdrom0 udf,iso9660 user,noauto 0 0
UUID=5678  none         swap  sw 0 0
UUID=9999  /odd         swap  sw 0 0
short line
/dev/sdc1  /plain  ext4
"""
    assert parse_fstab(table) == [
        FstabEntry("/", "ext4", "UUID=1234", ("errors=remount-ro",)),
        FstabEntry("/srv/my files", "xfs", "/dev/sdb1", ("defaults", "ro", "nofail")),
        FstabEntry("/old", "ext4", "LABEL=old", ("ro", "rw")),
        FstabEntry("/home", "nfs4", "nas:/home", ("_netdev", "x-systemd.automount")),
        FstabEntry("/media/cdrom0", "udf,iso9660", "/dev/sr0", ("user", "noauto")),
        FstabEntry("/plain", "ext4", "/dev/sdc1", ()),
    ]
    entries = {entry.point: entry for entry in parse_fstab(table)}
    assert [point for point, entry in entries.items() if entry.read_only] == ["/srv/my files"]
    assert [point for point, entry in entries.items() if not entry.at_boot] == ["/media/cdrom0"]
