"""Which mounts are looked at."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local.mount_choice import Choice, chosen
from gengfu_checks.local.mount_table import Mount, parse_mountinfo


def points(mounts: list[Mount], choice: Choice | None = None, permanent: tuple[str, ...] = ()) -> list[str]:
    return [mount.point for mount in chosen(mounts, choice or Choice(), permanent)]


def disk(point: str, number: str = "", *, fstype: str = "ext4", source: str = "", root: str = "/") -> Mount:
    return Mount(point, fstype, source or f"/dev/{number or point}", number or point, root)


ROOT = disk("/", "8:1")


def test_only_the_root_counts_on_a_virtual_machine(samples: Path) -> None:
    """Recorded from /proc/self/mountinfo on a virtual machine with Linux 6.18."""
    assert points(parse_mountinfo((samples / "proc" / "mountinfo-linux-6.18").read_bytes())) == ["/"]


@pytest.mark.parametrize(
    "mount",
    [
        Mount("/proc", "proc", "proc", "0:21"),
        Mount("/run", "tmpfs", "tmpfs", "0:22"),
        disk("/snap/core/1", fstype="squashfs"),
        disk("/mnt/installer", fstype="iso9660"),
        Mount("/var/lib/docker/overlay2/abc/merged", "overlay", "overlay", "0:50"),
        disk("/var/lib/kubelet/pods/x/volumes/y"),
        disk("/media/eva/STICK", fstype="vfat"),
        disk("/etc/hosts", root="/var/lib/docker/containers/abc/hosts"),
        Mount("/home/eva/secret", "fuse.gocryptfs", "/home/eva/.secret", "0:60"),
        Mount("/run/user/1000/gvfs", "fuse.gvfsd-fuse", "gvfsd-fuse", "0:61"),
        Mount("/home", "autofs", "/etc/auto.home", "0:62"),
    ],
    ids=lambda mount: mount.point,
)
def test_what_is_no_storage_of_this_machine_is_left_out_unless_asked_for(mount: Mount) -> None:
    assert points([ROOT, mount]) == ["/"]
    assert points([ROOT, mount], Choice(include=(mount.point,))) == ["/", mount.point]


@pytest.mark.parametrize(
    "mount",
    [
        disk("/boot/efi", fstype="vfat"),
        disk("/data", fstype="fuseblk"),
        disk("/tank", fstype="zfs", source="tank/data"),
        Mount("/var/lib/docker", "xfs", "/dev/vg/docker", "253:4"),
        Mount("/home", "nfs4", "nas:/home", "0:70"),
        Mount("/mnt/team", "cifs", "//nas/team", "0:71"),
        Mount("/srv/part", "nfs4", "nas:/srv", "0:72", root="/part"),
    ],
    ids=lambda mount: mount.point,
)
def test_real_storage_is_looked_at(mount: Mount) -> None:
    assert points([ROOT, mount]) == ["/", mount.point]
    assert points([ROOT, mount], Choice(exclude=("/*",), include=(mount.point,))) == []


def test_network_mounts_can_be_left_out_together() -> None:
    mounts = [ROOT, Mount("/home", "nfs4", "nas:/home", "0:70"), Mount("/mnt/x", "fuse.sshfs", "nas:", "0:71")]
    assert points(mounts, Choice(network=False)) == ["/"]


def test_the_root_counts_even_where_it_is_an_overlay() -> None:
    assert points([Mount("/", "overlay", "overlay", "0:50")]) == ["/"]


def test_a_stick_that_fstab_names_is_no_visitor() -> None:
    stick = disk("/media/backup/disk1")
    assert points([ROOT, stick]) == ["/"]
    assert points([ROOT, stick], permanent=("/media/backup/disk1",)) == ["/", "/media/backup/disk1"]


def test_one_filesystem_counts_once_by_its_shortest_path() -> None:
    home = disk("/home", "0:30", fstype="btrfs", source="/dev/sda2", root="/@home")
    top = disk("/", "0:30", fstype="btrfs", source="/dev/sda2", root="/@")
    twice = disk("/mnt/again", "8:1")
    assert points([home, top]) == ["/"]
    assert points([twice, ROOT]) == ["/"]
    assert points([disk("/srv/a", "8:3"), disk("/srv", "8:3"), disk("/b/c/d", "8:3")]) == ["/srv"]
    assert points([home, top], Choice(include=("/home",))) == ["/home"]


def test_the_mount_on_top_hides_the_one_below() -> None:
    below, above = disk("/data", "8:2"), Mount("/data", "tmpfs", "tmpfs", "0:9")
    assert points([ROOT, below, above]) == ["/"]
    assert points([ROOT, above, below]) == ["/", "/data"]


names = st.sampled_from(["/", "/a", "/a/b", "/home", "/snap/x"])
mounts = st.builds(
    Mount,
    point=names,
    fstype=st.sampled_from(["ext4", "btrfs", "tmpfs", "nfs4", "squashfs"]),
    source=st.sampled_from(["/dev/sda1", "tmpfs", "nas:/x"]),
    device_number=st.sampled_from(["8:1", "8:2", "0:9"]),
    root=st.sampled_from(["/", "/@"]),
)
globs = st.lists(st.sampled_from(["/", "/a*", "/home", "*"]), max_size=2).map(tuple)


@given(st.lists(mounts), globs, globs, st.booleans())
def test_items_are_unique_sorted_and_within_what_was_asked(
    table: list[Mount], include: tuple[str, ...], exclude: tuple[str, ...], network: bool
) -> None:
    choice = Choice(include, exclude, network)
    found = chosen(table, choice, ())
    listed = [mount.point for mount in found]
    assert listed == sorted(set(listed))
    assert not any(choice.leaves_out(mount.point, mount.fstype) for mount in found)
    by_chance = [mount.device_number for mount in found if not include]
    assert len(by_chance) == len(set(by_chance))
