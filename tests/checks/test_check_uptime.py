"""The check `uptime`: time since boot, and every sign that a restart is pending."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local import uptime
from gengfu_checks.local.uptime import Reboot
from gengfu_checks.model import Status

pytestmark = pytest.mark.skipif(not psutil.LINUX, reason="signs of a pending restart are read on Linux only")

RUNNING = "6.1.0-18-amd64"

# What needs-restarting -r of dnf-plugins-core prints.
CLEAN = "No core libraries or services have been updated since boot-up.\nReboot should not be necessary.\n"
NEEDED = (
    "Core libraries or services have been updated since boot-up:\n  * glibc\n  * systemd\n\n"
    "Reboot is required to fully utilize these updates.\n"
    "More information: https://access.redhat.com/solutions/27943\n"
)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any sign, running RUNNING; its folders are under the path returned."""
    boot = tmp_path / "boot"
    boot.mkdir()
    (boot / f"vmlinuz-{RUNNING}").touch()
    monkeypatch.setattr(uptime, "_BOOT", boot)
    monkeypatch.setattr(uptime, "_MARKS", (tmp_path / "reboot-required", tmp_path / "old-reboot-required"))
    monkeypatch.setattr(uptime, "find_program", lambda _: None)
    monkeypatch.setattr(uptime, "running_kernel", lambda: RUNNING)
    return tmp_path


@pytest.fixture
def needs_restarting(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], Path]:
    """`needs_restarting(text, exit_code)` installs a program that prints this; returns the log of its calls."""

    def install(text: str, exit_code: int) -> Path:
        program, log = machine / "needs-restarting", machine / "calls"
        (machine / "text").write_text(text, "utf-8")
        program.write_text(f'#!/bin/sh\necho "$@" >> {log}\ncat {machine}/text\nexit {exit_code}\n', "utf-8")
        program.chmod(0o755)
        monkeypatch.setattr(uptime, "find_program", lambda _: str(program))
        return log

    return install


def test_seconds_since_boot() -> None:
    assert uptime.uptime_s("1478.21 2855.17\n") == 1478.21  # /proc/uptime of the build machine


def test_this_machine(bench: Callable[..., Any]) -> None:
    found = bench(uptime.CHECK).run()[""]
    boot_age_s = float(Path("/proc/uptime").read_text("ascii").split()[0])
    assert 0 < found.metrics["uptime_seconds"] <= boot_age_s
    assert uptime.running_kernel() == platform.release()


def test_no_sign_is_no_problem(bench: Callable[..., Any], machine: Path) -> None:
    found = bench(uptime.CHECK).run()[""]
    assert found.problem is None
    assert found.metrics["reboot_pending"] == 0.0


def test_where_nothing_can_be_asked_nothing_is_claimed(bench: Callable[..., Any], machine: Path) -> None:
    (machine / "boot" / f"vmlinuz-{RUNNING}").unlink()
    (machine / "boot" / "vmlinuz-6.9.9-1-amd64").touch()
    found = bench(uptime.CHECK).run()[""]
    assert found.problem is None
    assert "reboot_pending" not in found.metrics


def test_debians_mark_names_its_packages(bench: Callable[..., Any], machine: Path) -> None:
    (machine / "reboot-required").write_text("*** System restart required ***\n", "utf-8")
    (machine / "reboot-required.pkgs").write_text("linux-base\nlibc6\nlinux-base\n\ndbus\n", "utf-8")
    found = bench(uptime.CHECK).run()[""]
    assert (found.problem.status, found.problem.code) == (Status.WARNING, "uptime.reboot_pending")
    assert found.problem.facts == {"packages": "dbus, libc6, linux-base"}
    assert found.metrics["reboot_pending"] == 1.0


def test_a_mark_without_a_list_is_enough(bench: Callable[..., Any], machine: Path) -> None:
    (machine / "old-reboot-required").touch()
    found = bench(uptime.CHECK).run()[""]
    assert found.problem.code == "uptime.reboot_pending"
    assert found.problem.facts == {}


def test_a_newer_kernel_waits(bench: Callable[..., Any], machine: Path) -> None:
    (machine / "boot" / "vmlinuz-6.1.0-25-amd64").touch()
    (machine / "boot" / "vmlinuz-6.1.0-9-amd64").touch()
    found = bench(uptime.CHECK).run()[""]
    assert found.problem.facts == {"kernel": RUNNING, "newer_kernel": "6.1.0-25-amd64"}


def test_many_packages_are_counted() -> None:
    listed = uptime.packages_of("\n".join(f"package-{n:02}" for n in range(30)))
    assert listed == ", ".join(f"package-{n:02}" for n in range(8)) + " (+22)"


@pytest.mark.parametrize(
    ("running", "installed", "newest"),
    [
        (RUNNING, [RUNNING, "6.1.0-9-amd64"], RUNNING),
        (RUNNING, ["6.1.0-21-cloud-amd64", "6.10.1-amd64-dbg"], RUNNING),
        (RUNNING, ["6.1.0-21-amd64", "6.10.0-1-amd64", "6.9.0-1-amd64"], "6.10.0-1-amd64"),
        ("6.8.0-41-generic", ["6.8.0-45-generic", "6.8.0-45-lowlatency"], "6.8.0-45-generic"),
        ("5.14.0-427.13.1.el9_4.x86_64", ["5.14.0-427.42.1.el9_4.x86_64"], "5.14.0-427.42.1.el9_4.x86_64"),
        ("5.14.0-427.13.1.el9_4.x86_64", ["0-rescue-2f8c01", "5.14.0-503.11.1.el9_5.x86_64"], None),
        ("my-own-kernel", ["my-own-kernel", "my-other-kernel"], None),
    ],
)
def test_newest_kernel_of_the_same_flavour(running: str, installed: list[str], newest: str | None) -> None:
    assert uptime.newest_kernel(running, installed) == (newest or running)


VERSIONS = st.lists(st.integers(0, 30), min_size=3, max_size=3)


@given(VERSIONS, st.lists(VERSIONS, max_size=6))
def test_the_newest_kernel_is_the_greatest_by_number(running: list[int], others: list[list[int]]) -> None:
    def name(version: list[int]) -> str:
        return ".".join(map(str, version)) + "-amd64"

    found = uptime.newest_kernel(name(running), [name(version) for version in others])
    assert found == name(max([running, *others]))


@given(st.text(max_size=30), st.lists(st.text(max_size=30), max_size=5))
def test_odd_names_of_kernels_harm_nothing(running: str, installed: list[str]) -> None:
    assert uptime.newest_kernel(running, installed) in [running, *installed]


@pytest.mark.parametrize(
    ("exit_code", "output", "reboot"),
    [
        (0, CLEAN, Reboot(False, {})),
        (1, NEEDED, Reboot(True, {"packages": "glibc, systemd"})),
        (1, "Error: Failed to load plugin\n", Reboot(None, {"not_known": "needs-restarting ended with 1"})),
        (-9, "", Reboot(None, {"not_known": "needs-restarting ended with -9"})),
    ],
)
def test_what_needs_restarting_says(exit_code: int, output: str, reboot: Reboot) -> None:
    assert uptime.judge_needs_restarting(exit_code, output) == reboot


def test_needs_restarting_is_asked_seldom(
    bench: Callable[..., Any], needs_restarting: Callable[[str, int], Path]
) -> None:
    log = needs_restarting(NEEDED, 1)
    instance = bench(uptime.CHECK)
    for _ in range(3):
        assert instance.run()[""].problem.facts == {"packages": "glibc, systemd"}
        instance.later(3600)
    assert log.read_text("utf-8") == "-r\n"
    needs_restarting(CLEAN, 0)
    instance.later(uptime.ASK_AGAIN_S)
    assert instance.run()[""].metrics["reboot_pending"] == 0.0


def test_a_failing_program_costs_only_the_answer(
    bench: Callable[..., Any], needs_restarting: Callable[[str, int], Path]
) -> None:
    needs_restarting("", 7)
    found = bench(uptime.CHECK).run()[""]
    assert found.facts == {"not_known": "needs-restarting ended with 7"}
    assert set(found.metrics) == {"uptime_seconds"}
    assert found.problem is None
