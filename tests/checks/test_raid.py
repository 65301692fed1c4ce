"""RAID: arrays as the kernel shows them and virtual disks of Storage Spaces.

fixtures/md/linux-6.1.json holds the attributes of real arrays on loop devices in each state that mdadm 4.2 brought them
into. It was recorded in a virtual machine (QEMU 7.2) with Debian's Linux 6.1.0-56, because the kernel of the machine
where this was written has no md. Other folders are built after the kernel's admin guide, "RAID arrays"; the rows of
Windows after "Storage Spaces and Storage Spaces Direct health and operational states" on Microsoft Learn. Where the
kernel has md, the last test makes a real array and breaks it.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local.raid import CHECK, Array, measure_arrays, problem_of, windows_measurements
from gengfu_checks.model import Measurement, Status
from gengfu_checks.threshold import judge

WHOLE = Array("raid1", "clean", 2, 0, (), "idle", None, 0)


def md(sys: Path, name: str, devices: dict[str, str], **attributes: object) -> None:
    folder = sys / "block" / name / "md"
    usual = {
        "level": "raid1", "array_state": "clean", "raid_disks": 2, "degraded": 0, "sync_action": "idle",
        "sync_completed": "none", "mismatch_cnt": 0, "metadata_version": "1.2",
    }  # fmt: skip
    folder.mkdir(parents=True)
    for key, value in (usual | attributes).items():
        (folder / key).write_text(f"{value}\n")
    for device, state in devices.items():
        (folder / f"dev-{device}").mkdir()
        (folder / f"dev-{device}" / "state").write_text(f"{state}\n")


def look(sys: Path) -> dict[str, Measurement]:
    return {measurement.item: measurement for measurement in measure_arrays(sys)}


def verdict(measurement: Measurement) -> tuple[Status, str]:
    finding = judge("raid", measurement, CHECK.thresholds, None, 0.0)
    return finding.status, finding.code


def test_real_arrays_in_the_states_that_mdadm_brought_them_into(tmp_path: Path) -> None:
    recorded = json.loads((Path(__file__).parent / "fixtures" / "md" / "linux-6.1.json").read_text())
    found = {}
    for label, attributes in recorded.items():
        for name, value in attributes.items():
            file = tmp_path / label / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{value}\n")
        found[label] = look(tmp_path / label)
    assert {label: {item: verdict(m)[1] for item, m in items.items()} for label, items in found.items()} == {
        "whole": {"md0": "ok", "md5": "ok"},
        "failed-member": {"md0": "raid.degraded"},
        "removed-member": {"md0": "raid.degraded"},
        "rebuilding": {"md0": "raid.rebuilding"},
        "rebuilt": {"md0": "ok"},
        "checking": {"md5": "raid.mismatches"},
        "checked": {"md5": "raid.mismatches"},
        "lost": {"md5": "raid.failed"},
        "inactive": {"md5": "raid.failed"},
        "raid6-one-lost": {"md6": "raid.degraded"},
        "spare-took-over": {"md6": "raid.device_failed"},
        "container": {"md126": "ok"},
    }
    assert verdict(found["raid6-one-lost"]["md6"])[0] is Status.WARNING
    assert verdict(found["removed-member"]["md0"])[0] is Status.CRITICAL
    assert found["rebuilding"]["md0"].metrics["sync_done_ratio"] == pytest.approx(3072 / 47104)
    assert found["lost"]["md5"].problem is not None
    assert found["lost"]["md5"].problem.facts == {"level": "raid5", "failed": "loop2, loop3"}
    assert found["inactive"]["md5"].metrics == {"members_failed": 0}


def test_arrays_in_every_state(tmp_path: Path) -> None:
    good = {"sda1": "in_sync", "sdb1": "in_sync"}
    md(tmp_path, "md0", good)
    md(tmp_path, "md1", {"sda1": "in_sync", "sdb1": "faulty"}, degraded=1)
    md(tmp_path, "md2", {"sda1": "in_sync", "sdb1": "spare"}, degraded=1, sync_action="recover",
       sync_completed="1048576 / 4194304")  # fmt: skip
    md(tmp_path, "md3", good, level="raid6", raid_disks=4, degraded=1)
    md(tmp_path, "md4", good, level="raid5", raid_disks=3, degraded=2)
    md(tmp_path, "md5", {"sda1": "in_sync"}, array_state="inactive")
    md(tmp_path, "md6", {**good, "sdc1": "faulty"}, raid_disks=2)
    md(tmp_path, "md7", good, level="raid5", mismatch_cnt=8)
    md(tmp_path, "md8", good, mismatch_cnt=8)
    md(tmp_path, "md9", good, sync_action="check", sync_completed="1 / 2")
    md(tmp_path, "md10", good, level="raid0", array_state="broken")
    found = look(tmp_path)
    assert list(found) == [f"md{number}" for number in range(11)]
    assert {item: verdict(measurement) for item, measurement in found.items()} == {
        "md0": (Status.OK, "ok"),
        "md1": (Status.CRITICAL, "raid.degraded"),
        "md2": (Status.WARNING, "raid.rebuilding"),
        "md3": (Status.WARNING, "raid.degraded"),
        "md4": (Status.CRITICAL, "raid.failed"),
        "md5": (Status.CRITICAL, "raid.failed"),
        "md6": (Status.WARNING, "raid.device_failed"),
        "md7": (Status.WARNING, "raid.mismatches"),
        "md8": (Status.OK, "ok"),
        "md9": (Status.OK, "ok"),
        "md10": (Status.CRITICAL, "raid.failed"),
    }
    assert found["md1"].problem is not None
    assert found["md1"].problem.facts == {"level": "raid1", "failed": "sdb1"}
    assert found["md2"].metrics["sync_done_ratio"] == 0.25
    assert found["md9"].metrics["sync_done_ratio"] == 0.5


def test_what_is_no_array_is_not_told(tmp_path: Path) -> None:
    md(tmp_path, "md127", {}, level="container", array_state="inactive", metadata_version="external:imsm")
    md(tmp_path, "md1", {}, array_state="clear")
    (tmp_path / "block" / "md2").mkdir()
    (tmp_path / "block" / "sda").mkdir()
    assert look(tmp_path) == {}
    md(tmp_path, "md126", {"sda": "in_sync"}, metadata_version="external:/md127/0")
    assert list(look(tmp_path)) == ["md126"]


def test_a_machine_without_arrays_is_silent(tmp_path: Path) -> None:
    assert look(tmp_path) == {}


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=30))
def test_no_attribute_breaks_it(tmp_path_factory: Any, level: str, count: str, completed: str) -> None:
    folder = tmp_path_factory.mktemp("sys")
    md(folder, "md0", {"x": count}, level=level, degraded=count, raid_disks=count, sync_action="check",
       sync_completed=completed, mismatch_cnt=count)  # fmt: skip
    for measurement in look(folder).values():
        assert measurement.metrics.get("sync_done_ratio", 0) <= 1


def test_each_loss_is_at_least_as_bad_as_the_one_before() -> None:
    for level, members in (("raid1", 2), ("raid1", 4), ("raid5", 5), ("raid6", 6), ("raid10", 4)):
        badness = []
        for missing in range(members + 1):
            problem = problem_of(Array(level, "clean", members, missing, (), "idle", None, None))
            badness.append(0 if problem is None else problem.status.badness)
        assert badness == sorted(badness)
        assert badness[0] == 0
        assert badness[-1] == Status.CRITICAL.badness


@pytest.mark.parametrize(
    ("health", "operation", "expected"),
    [
        ("Healthy", "OK", (Status.OK, "ok")),
        ("Warning", "InService", (Status.WARNING, "raid.rebuilding")),
        ("Warning", "Degraded", (Status.CRITICAL, "raid.degraded")),
        ("Warning", "Incomplete", (Status.CRITICAL, "raid.degraded")),
        ("Unhealthy", "No Redundancy", (Status.CRITICAL, "raid.failed")),
        ("Unknown", "Detached", (Status.OK, "ok")),
    ],
)
def test_storage_spaces(health: str, operation: str, expected: tuple[Status, str]) -> None:
    row = {"FriendlyName": "Data", "Resiliency": "Mirror", "HealthStatus": health, "OperationalStatus": operation}
    (found,) = windows_measurements([row, row, {"FriendlyName": None}])
    assert found.item == "Data"
    assert verdict(found) == expected


@pytest.fixture
def loops(tmp_path: Path, requires_program: Callable[[str, str], str]) -> Iterator[list[str]]:
    """Two loop devices with 16 MiB each, on a kernel that has md."""
    if os.geteuid() != 0 or not Path("/proc/mdstat").exists():
        pytest.skip("a real array needs root and a kernel with md")
    losetup = requires_program("losetup", "apt-get install mount")
    found = []
    for number in range(2):
        image = tmp_path / f"{number}.img"
        with image.open("wb") as stream:
            stream.truncate(16 * 1024 * 1024)
        done = subprocess.run([losetup, "-f", "--show", image], capture_output=True, text=True, check=True)
        found.append(done.stdout.strip())
    yield found
    for loop in found:
        subprocess.run([losetup, "-d", loop], check=False)


def test_a_real_array_is_broken(loops: list[str], requires_program: Callable[[str, str], str]) -> None:
    mdadm = requires_program("mdadm", "apt-get install mdadm")
    name = "md117"

    def run(*argv: str) -> None:
        subprocess.run([mdadm, *argv], check=True, capture_output=True)

    run("--create", f"/dev/{name}", "--run", "--assume-clean", "--level=1", "--raid-devices=2", *loops)
    try:
        assert verdict(look(Path("/sys"))[name]) == (Status.OK, "ok")
        run(f"/dev/{name}", "--fail", loops[1])
        time.sleep(0.5)
        assert verdict(look(Path("/sys"))[name]) == (Status.CRITICAL, "raid.degraded")
    finally:
        run("--stop", f"/dev/{name}")
