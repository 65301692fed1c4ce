"""The disk health check: which disks it asks for, what it does with each kind of answer, and the real smartctl.

Answers of the stand-in for smartctl are the recordings listed in fixtures/smartctl/SOURCES.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gengfu_checks.local import disk_health
from gengfu_checks.local.disk_devices import is_virtual, real_disks
from gengfu_checks.local.disk_health import CHECK, SCAN_AGAIN_S, System, Target, targets_of
from gengfu_checks.local.disk_health_smart import NoReport, report_of
from gengfu_checks.local.structured import run_json
from gengfu_checks.model import CheckKind, Measurement, Status
from gengfu_checks.threshold import judge

FOLDER = Path(__file__).parent / "fixtures" / "smartctl"
ANSWERS = {"sda": "old_healthy_ata", "sdb": "failing_ata_usb", "nvme0": "nvme_media_errors"}


def block(sys: Path, name: str, model: str = "ST3200820AS", vendor: str = "ATA", removable: str = "0") -> None:
    device = sys / "block" / name / "device"
    device.mkdir(parents=True)
    (device / "model").write_text(f"{model}\n")
    (device / "vendor").write_text(f"{vendor:8}\n")
    (sys / "block" / name / "removable").write_text(f"{removable}\n")


def nodes(folder: Path, *names: str) -> Path:
    dev = folder / "dev"
    dev.mkdir(exist_ok=True)
    for name in names:
        (dev / name).touch()
    return dev


def check_of(folder: Path, smartctl: str | None, *names: str) -> CheckKind:
    """The check on a machine whose /sys is `folder/sys` and whose /dev holds these disks."""
    system = System(folder / "sys", nodes(folder, *names), smartctl)
    return replace(CHECK, measure=lambda context: disk_health.measure_linux(context, system))


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., CheckKind]:
    """`machine(sda="old_healthy_ata")` is the check on a machine whose smartctl gives these recordings."""

    def make(scan: object = None, /, **disks: str) -> CheckKind:
        answers = tmp_path / "answers"
        answers.mkdir(exist_ok=True)
        for name, recording in disks.items():
            block_name = name if name.startswith("sd") else f"{name}n1"
            if not (tmp_path / "sys" / "block" / block_name).exists():
                block(tmp_path / "sys", block_name)
            text = (FOLDER / f"{recording}.json").read_text() if (FOLDER / f"{recording}.json").exists() else recording
            (answers / name).write_text(text)
        rows = [{"name": f"/dev/{name}", "type": "sat"} for name in disks]
        (answers / "scan").write_text(json.dumps({"devices": rows} if scan is None else scan))
        script = tmp_path / "smartctl"
        script.write_text(
            f"""#!/bin/sh
echo "$*" >>{tmp_path}/calls
for last; do :; done
[ "$2" = --scan-open ] && exec cat {answers}/scan
[ -e "{tmp_path}/hang" ] && sleep 100
wanted="--json=c -i -H -A -l selftest -l devstat -n standby,3 -d"
[ "$*" = "$wanted sat $last" ] || [ "$*" = "$wanted auto $last" ] || exit 9
cat "{answers}/${{last#/dev/}}"
[ -e "{tmp_path}/asleep" ] && exit 3
exit 64
"""
        )
        script.chmod(0o755)
        return check_of(tmp_path, str(script), *disks)

    return make


def finding(kind: CheckKind, measurement: Measurement) -> tuple[Status, str]:
    judged = judge(kind.name, measurement, kind.thresholds, None, 0.0)
    return judged.status, judged.code


def test_each_disk_is_told_by_itself(bench: Any, machine: Callable[..., CheckKind]) -> None:
    kind = machine(**ANSWERS)
    items = bench(kind).run()
    assert {item: finding(kind, m) for item, m in items.items()} == {
        "sda": (Status.OK, "ok"),
        "sdb": (Status.CRITICAL, "disk_health.failed"),
        "nvme0": (Status.OK, "ok"),
    }


def test_disks_that_do_not_matter(bench: Any, machine: Callable[..., CheckKind]) -> None:
    assert set(bench(machine(**ANSWERS), ignore=["sd*"]).run()) == {"nvme0"}


def test_a_sleeping_disk_stays_asleep_and_what_it_told_last_stands(
    bench: Any, machine: Callable[..., CheckKind], tmp_path: Path
) -> None:
    kind = machine(sdb="failing_ata_usb")
    instance = bench(kind)
    first = instance.run()["sdb"]
    machine(sdb='{"smartctl":{"exit_status":3},"device":{"name":"/dev/sdb"}}')
    (tmp_path / "asleep").touch()
    second = instance.run()["sdb"]
    assert second.problem == first.problem
    assert (first.metrics["asleep"], second.metrics["asleep"]) == (0, 1)
    assert bench(kind).run() == {}


def test_growth_is_counted_within_the_window(bench: Any, machine: Callable[..., CheckKind], tmp_path: Path) -> None:
    kind = machine(nvme0="nvme_media_errors")
    instance = bench(kind, growth_window="7d")
    assert "new_media_errors" not in instance.run()["nvme0"].metrics
    grown = json.loads((FOLDER / "nvme_media_errors.json").read_text())
    grown["nvme_smart_health_information_log"]["media_errors"] = 9
    (tmp_path / "answers" / "nvme0").write_text(json.dumps(grown))
    instance.later(3600)
    for _ in range(2):
        instance.restart()
        measured = instance.run()["nvme0"]
        assert measured.metrics["new_media_errors"] == 2
        assert finding(kind, measured) == (Status.WARNING, "disk_health.defects_growing")
        instance.later(3 * 86400)
    instance.later(86400)
    assert instance.run()["nvme0"].metrics["new_media_errors"] == 0


def test_disks_that_change_their_names_have_not_grown(bench: Any, machine: Callable[..., CheckKind]) -> None:
    def disk(serial: str, errors: int) -> str:
        answer = json.loads((FOLDER / "nvme_media_errors.json").read_text()) | {"serial_number": serial}
        answer["nvme_smart_health_information_log"]["media_errors"] = errors
        return json.dumps(answer)

    instance = bench(machine(nvme0=disk("A", 7), nvme1=disk("B", 0)))
    instance.run()
    instance.restart()
    machine(nvme0=disk("B", 0), nvme1=disk("A", 8))
    found = instance.run()
    assert {item: m.metrics["new_media_errors"] for item, m in found.items()} == {"nvme0": 0, "nvme1": 1}
    machine(nvme0=disk("C", 5), nvme1=disk("A", 8))
    assert "new_media_errors" not in instance.run()["nvme0"].metrics
    assert {key.split()[0] for key in instance.keep["growth"]} == {"A", "C"}


def test_a_machine_with_virtual_disks_is_silent_without_smartctl(bench: Any, tmp_path: Path) -> None:
    sys = tmp_path / "sys"
    block(sys, "sda", "Virtual disk", "VMware")
    block(sys, "sdb", "USB DISK 3.0", "Kingston", removable="1")
    (sys / "block" / "vda").mkdir()
    (sys / "block" / "loop0").mkdir()
    kind = check_of(tmp_path, None, "sda", "sdb", "sdc")
    assert bench(kind).run() == {}
    block(sys, "sdc")
    problem = bench(kind).run()[""].problem
    assert (problem.status, problem.code) == (Status.UNKNOWN, "check.program_failed")
    assert "apt-get install smartmontools" in problem.facts["reason"]


def test_real_disks_are_told_from_virtual_ones(tmp_path: Path) -> None:
    for name in ("sda", "nvme0n1", "nvme0n2", "sr0", "mmcblk0", "dm-0", "md0", "zram0"):
        block(tmp_path, name)
    assert [disk.name for disk in real_disks(tmp_path)] == ["nvme0", "sda"]
    for model in ("QEMU HARDDISK", "Amazon Elastic Block Store", "Msft Virtual Disk", "VBOX HARDDISK"):
        assert is_virtual(model)
    assert not is_virtual("ATA Samsung SSD 870")


def test_the_scan_is_kept_until_disks_change(bench: Any, machine: Callable[..., CheckKind], tmp_path: Path) -> None:
    instance = bench(machine(sda="old_healthy_ata"))

    def scans() -> int:
        return (tmp_path / "calls").read_text().count("--scan-open")

    instance.run()
    instance.run()
    assert scans() == 1
    machine(sda="old_healthy_ata", sdb="failing_ata_usb")
    assert set(instance.run()) == {"sda", "sdb"}
    assert scans() == 2
    instance.later(SCAN_AGAIN_S)
    instance.run()
    assert scans() == 3


def test_disks_behind_a_controller_are_asked_for_one_by_one() -> None:
    answer = json.loads((FOLDER / "scan_megaraid.json").read_text())
    targets = targets_of(answer, ("sda",))
    assert [(t.item, t.path, t.type) for t in targets] == [
        ("bus/0 megaraid,0", "/dev/bus/0", "megaraid,0"),
        ("bus/0 megaraid,1", "/dev/bus/0", "megaraid,1"),
        ("sda", "/dev/sda", "auto"),
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"name": "-x", "type": "sat"}, {"name": "/dev/../etc/passwd", "type": "x"}, {"name": "/dev/sda;", "type": "x"},
        {"name": "/dev/sda", "type": "--set"}, {"name": 3}, "x", {"name": "/dev/sdz", "type": "sat"},
    ],
)  # fmt: skip
def test_what_is_no_disk_is_not_asked_for(row: object) -> None:
    assert targets_of({"devices": [row]}, ("sda",)) == [Target("/dev/sda", "auto")]


def test_name_spaces_of_one_nvme_disk_are_one_disk() -> None:
    rows = [{"name": "/dev/nvme0n1", "type": "nvme"}, {"name": "/dev/nvme0", "type": "nvme"}]
    assert [target.item for target in targets_of({"devices": rows}, ("nvme0",))] == ["nvme0"]


def test_missing_rights_are_told_once(bench: Any, machine: Callable[..., CheckKind]) -> None:
    scan = json.loads((FOLDER / "scan_denied.json").read_text())
    kind = machine(scan, sda="{}", sdb="denied", nvme0="{}", sdc="denied")
    items = bench(kind).run()
    assert set(items) == {""}
    assert items[""].problem.code == "check.needs_rights"
    assert items[""].problem.facts["target"] == "sda, sdb, nvme0, sdc"


def test_one_disk_without_an_answer_does_not_hide_the_others(bench: Any, machine: Callable[..., CheckKind]) -> None:
    items = bench(machine(sda="rubbish", sdb="failing_ata_usb")).run()
    assert items["sda"].problem.code == "check.program_failed"
    assert items["sda"].problem.facts["program"] == "smartctl /dev/sda"
    assert items["sdb"].problem.code == "disk_health.failed"


def test_a_disk_that_never_answers(
    bench: Any, machine: Callable[..., CheckKind], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_health, "DISK_TIMEOUT_S", 0.3)
    kind = machine(sda="old_healthy_ata")
    (tmp_path / "hang").touch()
    assert "did not end within" in bench(kind).run()["sda"].problem.facts["reason"]


@pytest.fixture(scope="session")
def smartctl(requires_program: Callable[[str, str], str]) -> str:
    return requires_program("smartctl", "apt-get install smartmontools")


def test_the_real_smartctl_finds_no_such_disk(bench: Any, smartctl: str, tmp_path: Path) -> None:
    block(tmp_path / "sys", "sdzz")
    assert bench(check_of(tmp_path, smartctl, "sdzz")).run() == {}


def test_disks_that_the_agent_is_shut_out_from(bench: Any, smartctl: str, tmp_path: Path) -> None:
    block(tmp_path / "sys", "sda")
    problem = bench(check_of(tmp_path, smartctl)).run()[""].problem
    assert (problem.code, problem.facts["target"]) == ("check.needs_rights", "sda")


def test_a_container_has_no_disks_of_its_own(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block(tmp_path / "sys", "sda")
    monkeypatch.setattr(disk_health, "SYS", tmp_path / "sys")
    monkeypatch.setattr(disk_health, "CONTAINER_MARKS", (tmp_path / "none",))
    assert set(bench(CHECK).run()) == {""}
    monkeypatch.setattr(disk_health, "CONTAINER_MARKS", (tmp_path,))
    assert bench(CHECK).run() == {}


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/loop0").exists(), reason="needs root and a loop device")
def test_the_real_smartctl_on_what_is_no_disk_and_without_rights(
    smartctl: str, requires_program: Callable[[str, str], str]
) -> None:
    runuser = requires_program("runuser", "apt-get install util-linux")

    def asked(*before: str) -> Any:
        argv = (*before, smartctl, "--json=c", *disk_health._WANTED, "-d", "nvme", "/dev/loop0")
        return report_of(run_json(argv, 20, exit_codes=disk_health.ANY_EXIT_CODE))

    assert "Read NVMe Identify Controller failed" in asked()
    assert asked(runuser, "-u", "nobody", "--") is NoReport.DENIED
