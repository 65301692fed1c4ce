"""The disk check on tables and answers made by hand; real filesystems are in test_disk_real.py."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local import disk
from gengfu_checks.local.disk import CHECK, System, Usage, metrics_of, usage_of
from gengfu_checks.local.mount_table import FstabEntry, Mount
from gengfu_checks.model import CheckKind, Finding, Measurement, Status
from gengfu_checks.threshold import judge

GIB = 1024**3
ROOT = Mount("/", "ext4", "/dev/sda1", "8:1")
DATA = Mount("/data", "xfs", "/dev/sdb1", "8:17")
SHARE = Mount("/mnt/share", "nfs4", "nas:/share", "0:50")
HALF = Usage(100 * GIB, 50 * GIB, 50 * GIB, 1000, 100, 900)


@dataclass(slots=True)
class Machine:
    """A machine made of tables; `usages` holds answers, errors or functions that hang."""

    mounts: list[Mount] = field(default_factory=lambda: [ROOT])
    fstab: list[FstabEntry] | OSError = field(default_factory=list)
    usages: dict[str, Usage | OSError | Callable[[], Usage]] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)

    def usage(self, point: str) -> Usage:
        answer = self.usages.get(point, HALF)
        if isinstance(answer, OSError):
            raise answer
        return answer() if callable(answer) else answer

    def read_fstab(self) -> list[FstabEntry]:
        if isinstance(self.fstab, OSError):
            raise self.fstab
        return self.fstab

    def kind(self) -> CheckKind:
        system = System(lambda: self.mounts, self.read_fstab, self.usage, lambda path: self.links.get(path, path))
        return replace(CHECK, measure=lambda context: disk.measure_mounts(context, system))


@pytest.fixture
def machine() -> Machine:
    return Machine()


def found(measurement: Measurement) -> Finding:
    return judge("disk", measurement, CHECK.thresholds, None, 0.0)


def problems(items: Mapping[str, Measurement]) -> dict[str, tuple[Status, str]]:
    return {item: (m.problem.status, m.problem.code) for item, m in items.items() if m.problem is not None}


def test_a_healthy_machine_has_one_quiet_item_for_each_filesystem(bench: Any, machine: Machine) -> None:
    machine.mounts = [ROOT, DATA, SHARE]
    items = bench(machine.kind()).run()
    assert list(items) == ["/", "/data", "/mnt/share"]
    assert problems(items) == {}
    assert items["/data"].facts == {"device": "/dev/sdb1", "fstype": "xfs"}
    assert items["/data"].metrics == {
        "size_bytes": 100 * GIB,
        "free_bytes": 50 * GIB,
        "used_ratio": 0.5,
        "inodes_free": 900,
        "inodes_used_ratio": 0.1,
        "read_only": 0.0,
    }


def test_used_ratio_is_that_of_df_and_counts_what_root_alone_may_take_as_gone() -> None:
    answer = os.statvfs_result((4096, 4096, 1000, 150, 100, 500, 50, 40, 0, 255))
    metrics = metrics_of(usage_of(answer))
    assert metrics["used_ratio"] == pytest.approx(850 / 950)
    assert metrics["free_bytes"] == 100 * 4096
    assert metrics["inodes_used_ratio"] == pytest.approx(450 / 490)


counts = st.integers(0, 2**64 - 1)


@given(st.tuples(*[counts] * 10))
def test_absurd_answers_still_give_sound_metrics(fields: tuple[int, ...]) -> None:
    metrics = metrics_of(usage_of(os.statvfs_result(fields)))
    assert 0.0 <= metrics["used_ratio"] <= 1.0
    assert 0.0 <= metrics.get("inodes_used_ratio", 0.0) <= 1.0
    assert 0 <= metrics["free_bytes"] <= metrics["size_bytes"]


def test_a_filesystem_without_inodes_has_no_inode_metrics(bench: Any, machine: Machine) -> None:
    machine.usages["/"] = replace(HALF, inodes=0, inodes_used=0, inodes_free=0)
    assert not [name for name in bench(machine.kind()).run()["/"].metrics if name.startswith("inodes")]


@pytest.mark.parametrize(
    ("size_gib", "free_gib", "status"),
    [
        (20, 3, Status.OK),
        (20, 2, Status.WARNING),
        (20, 1, Status.CRITICAL),
        (4000, 40, Status.OK),
        (4000, 19, Status.CRITICAL),
    ],
)
def test_a_big_disk_with_room_left_does_not_cry(
    bench: Any, machine: Machine, size_gib: int, free_gib: int, status: Status
) -> None:
    machine.usages["/"] = Usage(size_gib * GIB, (size_gib - free_gib) * GIB, free_gib * GIB)
    finding = found(bench(machine.kind()).run()["/"])
    assert finding.status is status
    assert finding.code == ("ok" if status is Status.OK else "disk.nearly_full")


def test_with_enough_free_bytes_0_the_ratio_alone_counts(bench: Any, machine: Machine) -> None:
    machine.usages["/"] = Usage(4000 * GIB, 3960 * GIB, 40 * GIB)
    assert found(bench(machine.kind(), enough_free_bytes=0).run()["/"]).status is Status.CRITICAL


def test_free_space_around_the_limit_does_not_flap(bench: Any, machine: Machine) -> None:
    instance = bench(machine.kind(), enough_free_bytes=20 * GIB)
    seen = []
    for free in (21.0, 19.9, 20.1, 19.9, 20.9, 21.1, 20.1):
        machine.usages["/"] = Usage(4000 * GIB, int((4000 - free) * GIB), int(free * GIB))
        seen.append(found(instance.run()["/"]).status is Status.OK)
    assert seen == [True, False, False, False, False, True, True]


def test_inodes_are_judged_whatever_the_space(bench: Any, machine: Machine) -> None:
    machine.usages["/"] = replace(HALF, inodes=1000, inodes_used=960, inodes_free=40)
    finding = found(bench(machine.kind()).run()["/"])
    assert (finding.status, finding.code) == (Status.CRITICAL, "disk.inodes_nearly_full")


def test_a_filesystem_that_takes_no_writes_any_more_is_critical(bench: Any, machine: Machine) -> None:
    instance = bench(machine.kind())
    assert problems(instance.run()) == {}
    machine.mounts = [replace(ROOT, read_only=True)]
    items = instance.run()
    assert problems(items) == {"/": (Status.CRITICAL, "disk.read_only")}
    assert items["/"].metrics["read_only"] == 1.0
    machine.mounts = [ROOT]
    assert problems(instance.run()) == {}


def test_after_a_restart_fstab_tells_what_should_be_writable(bench: Any, machine: Machine) -> None:
    machine.mounts = [replace(ROOT, read_only=True), replace(DATA, read_only=True)]
    machine.fstab = [FstabEntry("/", "ext4", "/dev/sda1", ("defaults",)), FstabEntry("/data", "xfs", "x", ("ro",))]
    assert problems(bench(machine.kind()).run()) == {"/": (Status.CRITICAL, "disk.read_only")}


def test_fstab_that_says_ro_excuses_a_remount(bench: Any, machine: Machine) -> None:
    machine.mounts = [DATA]
    machine.fstab = [FstabEntry("/data", "xfs", "/dev/sdb1", ("ro",))]
    instance = bench(machine.kind())
    instance.run()
    machine.mounts = [replace(DATA, read_only=True)]
    assert problems(instance.run()) == {}


def test_another_disk_at_the_same_place_is_not_the_one_that_was_writable(bench: Any, machine: Machine) -> None:
    instance = bench(machine.kind())
    machine.mounts = [DATA]
    instance.run()
    machine.mounts = [replace(DATA, source="/dev/sdc1", read_only=True)]
    assert problems(instance.run()) == {}


def test_nobody_can_fill_a_read_only_filesystem(bench: Any, machine: Machine) -> None:
    machine.mounts = [replace(DATA, read_only=True)]
    machine.usages["/data"] = Usage(GIB, GIB, 0, 100, 100, 0)
    assert found(bench(machine.kind()).run()["/data"]).status is Status.OK


def test_folders_of_shares_are_not_listed(bench: Any, machine: Machine) -> None:
    """One listing may make a server read a bucket of a million names."""
    machine.mounts = [ROOT, SHARE, DATA]
    listed: list[str] = []
    system = System(lambda: machine.mounts, list, machine.usage, str, listed.append)
    list(disk.measure_mounts(bench(CHECK).context(), system))
    assert sorted(listed) == ["/", "/data"]


def test_a_hung_share_is_told_and_does_not_hold_up_the_rest(bench: Any, machine: Machine) -> None:
    gate = threading.Event()
    asked: list[int] = []

    def hang() -> Usage:
        asked.append(1)
        gate.wait()
        return HALF

    machine.mounts = [ROOT, SHARE, DATA]
    machine.usages["/mnt/share"] = hang
    instance = bench(machine.kind(), answer_within=0.05)
    for _ in range(3):
        items = instance.run()
        assert problems(items) == {"/mnt/share": (Status.CRITICAL, "disk.mount_hung")}
        assert items["/mnt/share"].metrics == {}
        assert items["/data"].metrics["used_ratio"] == 0.5
    assert len(asked) == 1

    gate.set()
    instance.memory["pending"]["/mnt/share"].thread.join(10)
    assert problems(instance.run()) == {}
    assert len(asked) == 2


def test_a_long_answer_within_cannot_outlast_the_run(bench: Any, machine: Machine) -> None:
    gate = threading.Event()

    def hang() -> Usage:
        gate.wait()
        return HALF

    machine.usages["/"] = hang
    kind = replace(machine.kind(), timeout_s=0.1)
    assert problems(bench(kind, answer_within="1h").run()) == {"/": (Status.CRITICAL, "disk.mount_hung")}
    gate.set()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (PermissionError(13, "Permission denied"), Status.UNKNOWN, "check.needs_rights"),
        (OSError(5, "Input/output error"), Status.CRITICAL, "disk.unreadable"),
        (OSError(116, "Stale file handle"), Status.CRITICAL, "disk.unreadable"),
    ],
)
def test_errors_of_one_mount_stay_with_it(
    bench: Any, machine: Machine, error: OSError, status: Status, code: str
) -> None:
    machine.mounts = [ROOT, SHARE]
    machine.usages["/mnt/share"] = error
    assert problems(bench(machine.kind()).run()) == {"/mnt/share": (status, code)}


def test_a_mount_that_goes_away_meanwhile_is_no_fault(bench: Any, machine: Machine) -> None:
    machine.mounts = [ROOT, SHARE]
    machine.usages["/mnt/share"] = FileNotFoundError(2, "No such file or directory")
    assert list(bench(machine.kind()).run()) == ["/"]


def test_what_fstab_asks_for_and_is_not_there_is_told(bench: Any, machine: Machine) -> None:
    machine.mounts = [ROOT, Mount("/home", "autofs", "systemd-1", "0:44")]
    machine.fstab = [
        FstabEntry("/", "ext4", "UUID=1", ("defaults",)),
        FstabEntry("/data", "xfs", "UUID=2", ("nofail",)),
        FstabEntry("/media/cdrom0", "iso9660", "/dev/sr0", ("user", "noauto")),
        FstabEntry("/home", "nfs4", "nas:/home", ("x-systemd.automount",)),
        FstabEntry("/mnt/old", "nfs4", "nas:/old", ()),
    ]
    items = bench(machine.kind()).run()
    missing = (Status.WARNING, "disk.mount_missing")
    assert problems(items) == {"/data": missing, "/mnt/old": missing}
    assert items["/data"].facts == {"device": "UUID=2", "fstype": "xfs"}
    assert problems(bench(machine.kind(), exclude=["/data"], network=False).run()) == {}


def test_a_mount_point_behind_a_symbolic_link_is_not_missing(bench: Any, machine: Machine) -> None:
    machine.mounts = [ROOT, DATA]
    machine.fstab = [FstabEntry("/srv/data", "xfs", "UUID=2", ())]
    machine.links = {"/srv/data": "/data"}
    assert problems(bench(machine.kind()).run()) == {}


def test_an_fstab_that_may_not_be_read_is_told_and_the_rest_goes_on(bench: Any, machine: Machine) -> None:
    machine.fstab = PermissionError(13, "Permission denied")
    items = bench(machine.kind()).run()
    assert problems(items) == {"/etc/fstab": (Status.UNKNOWN, "check.needs_rights")}
    assert items["/"].metrics["used_ratio"] == 0.5


def test_a_flood_of_mounts_is_cut_and_told(bench: Any, machine: Machine) -> None:
    machine.mounts = [Mount(f"/m{i:04}", "ext4", f"/dev/m{i}", f"9:{i}") for i in range(300)]
    items = bench(machine.kind()).run()
    assert len(items) == disk.MAX_MOUNTS + 1
    assert problems(items) == {"": (Status.UNKNOWN, "disk.too_many_mounts")}


def test_names_made_to_confuse_come_out_plain(bench: Any, machine: Machine) -> None:
    machine.mounts = [replace(DATA, point="/da\nta\x1b[2J\udcff", source="/dev/\u202etxt")]
    (item,) = bench(machine.kind()).run().values()
    assert item.item == "/da\\x0ata\\x1b[2J\\xff"
    assert item.facts["device"] == "/dev/\\u202etxt"
