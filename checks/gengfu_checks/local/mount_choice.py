"""Which mounts are worth looking at. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gengfu_checks.local.mount_table import NETWORK_TYPES, Mount

# Images are full by nature and nobody can write to them.
IMAGE_TYPES = frozenset(("cramfs", "erofs", "iso9660", "romfs", "squashfs", "udf"))
# Filesystems on real storage whose source is not the path of a device.
POOL_TYPES = frozenset(("bcachefs", "ubifs", "zfs"))
SUBVOLUME_TYPES = frozenset(("bcachefs", "btrfs"))
# Mounts that belong to a container engine, a package, a user's session or an inserted medium rather than the machine.
TRANSIENT_POINTS = (
    "/media/*/*",
    "/run/containerd/*",
    "/run/media/*",
    "/run/user/*",
    "/snap/*",
    "/System/Volumes/[!D]*",
    "/var/lib/containerd/*",
    "/var/lib/containers/*",
    "/var/lib/docker/*",
    "/var/lib/kubelet/*",
    "/var/snap/*",
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What the settings say: globs of mount points to add and to leave out, and whether network mounts count."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    network: bool = True

    def leaves_out(self, point: str, fstype: str) -> bool:
        """Whether the settings rule this mount out, whatever it is."""
        return _fits(point, self.exclude) or (not self.network and fstype in NETWORK_TYPES)


def chosen(mounts: Iterable[Mount], choice: Choice, permanent: Collection[str]) -> list[Mount]:
    """Return the mounts to look at, one for each filesystem, sorted by mount point.

    `permanent` are the mount points of fstab. Of several mounts of one filesystem the shortest path stands for all; a
    mount that `include` names is always kept, one that `exclude` names never.
    """
    visible = {mount.point: mount for mount in mounts}
    candidates = [mount for mount in visible.values() if not choice.leaves_out(mount.point, mount.fstype)]
    wanted = {mount.point: mount for mount in candidates if _fits(mount.point, choice.include)}
    known = {mount.device_number for mount in wanted.values()}
    for mount in sorted(candidates, key=lambda mount: (len(mount.point), mount.point)):
        if mount.device_number not in known and _is_worth(mount, permanent):
            known.add(mount.device_number)
            wanted[mount.point] = mount
    return [wanted[point] for point in sorted(wanted)]


def _is_worth(mount: Mount, permanent: Collection[str]) -> bool:
    """Whether a mount is real storage of this machine; the root filesystem always is, even on an overlay."""
    if mount.point == "/":
        return True
    if mount.fstype in IMAGE_TYPES or (mount.point not in permanent and _fits(mount.point, TRANSIENT_POINTS)):
        return False
    if mount.fstype in NETWORK_TYPES:
        return True
    is_part = mount.root != "/" and mount.fstype not in SUBVOLUME_TYPES
    return not is_part and (mount.source.startswith("/dev/") or mount.fstype in POOL_TYPES)


def _fits(point: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(point, pattern) for pattern in patterns)
