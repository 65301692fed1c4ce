"""Reading what is mounted (`/proc/self/mountinfo`) and what should be (`/etc/fstab`). Pure; lines may be hostile."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

NETWORK_TYPES = frozenset(
    (
        "9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.cephfs", "fuse.davfs", "fuse.glusterfs",
        "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "fuse.vmhgfs-fuse", "glusterfs", "gpfs", "lustre", "nfs", "nfs4",
        "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "webdav",
    )
)  # fmt: skip
"""Filesystems of another machine (or of the host of a virtual one)."""

_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")
# Filesystems in ordinary use that say "rw" and still refuse every write, since Linux 6.15 for ext4.
_SHUT = frozenset(("emergency_ro", "shutdown"))
# Filesystems that the kernel makes read-only after an error. Whoever mounts one read-only makes the mount so as well,
# the kernel only the filesystem. Drivers that cannot write at all do the same.
_GIVES_UP = frozenset(("bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "vfat"))


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the mount table. Paths may hold surrogates for bytes that are not UTF-8 (as `os.fsdecode` gives)."""

    point: str
    fstype: str
    source: str
    device_number: str
    """Equal for mounts of one filesystem."""
    root: str = "/"
    """The folder of the filesystem that is mounted; not "/" for bind mounts and subvolumes."""
    read_only: bool = False
    """The filesystem itself takes no writes; a read-only view of a writable one does not count."""
    gave_up: bool = False
    """It takes no writes because of an error: it was mounted to be written to, or says so."""


@dataclass(frozen=True, slots=True)
class FstabEntry:
    """One line of fstab that asks for a filesystem to be mounted somewhere."""

    point: str
    fstype: str
    source: str
    options: tuple[str, ...]

    @property
    def read_only(self) -> bool:
        """Whether the last of `ro` and `rw` is `ro`."""
        asked = [option for option in self.options if option in ("ro", "rw")]
        return asked[-1:] == ["ro"]

    @property
    def at_boot(self) -> bool:
        """Whether it should always be mounted."""
        return "noauto" not in self.options


def parse_mountinfo(data: bytes) -> list[Mount]:
    """Return the mounts of a mountinfo file in their order; a later one hides an earlier one at the same point.

    Lines that do not have the form of proc(5) are left out.
    """
    mounts = (_mount(line) for line in data.split(b"\n"))
    return [mount for mount in mounts if mount is not None]


def parse_fstab(data: bytes) -> list[FstabEntry]:
    """Return the entries of fstab(5) that name a mount point, without swap; what has another form is left out."""
    entries = []
    for line in data.split(b"\n"):
        fields = line.split()
        if len(fields) < 3 or fields[0].startswith(b"#"):
            continue
        source, point, fstype = map(unescape, fields[:3])
        if not point.startswith("/") or fstype == "swap":
            continue
        options = unescape(fields[3]).split(",") if len(fields) > 3 else []
        entries.append(FstabEntry(os.path.normpath(point), fstype, source, tuple(options)))
    return entries


def unescape(field: bytes) -> str:
    r"""Undo the octal escapes (`\040` for a space) of mountinfo and fstab."""
    return os.fsdecode(_OCTAL.sub(lambda match: bytes((int(match[1], 8),)), field))


def _mount(line: bytes) -> Mount | None:
    # Single spaces part the fields, so that an empty source still is one.
    fields = line.split(b" ")
    try:
        dash = fields.index(b"-", 6)
        fstype, source, options = fields[dash + 1 : dash + 4]
    except ValueError:
        return None
    filesystem = frozenset(unescape(options).split(","))
    is_shut = not _SHUT.isdisjoint(filesystem)
    is_ro_alone = "ro" in filesystem and "rw" in unescape(fields[5]).split(",")
    return Mount(
        point=unescape(fields[4]),
        fstype=unescape(fstype),
        source=unescape(source),
        device_number=unescape(fields[2]),
        root=unescape(fields[3]),
        read_only=is_shut or "ro" in filesystem,
        gave_up=is_shut or (is_ro_alone and unescape(fstype) in _GIVES_UP),
    )
